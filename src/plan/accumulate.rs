//! Groups and accumulators of one aggregation, on DataFusion's `GroupValues` and
//! `GroupsAccumulator`: the adapter behind [`crate::window::Aggregate`].

use super::distinct::{CountedElsewhere, DistinctCount, counted_items, lengths};
use super::distinct_sums::DistinctSums;
use super::errors::internal;
use super::first::FirstRow;
use super::sums::DoubleSums;
use crate::batches::with_few_buffers;
use crate::error::{Error, Result};
use crate::window::distinct::{Distinct, Interner};
use crate::window::keys::TextKeys;
use crate::window::sessions::Numbered;
use crate::window::{Aggregate, Input, Store, segment_batch};
use arrow::array::{ArrayRef, AsArray, BooleanArray, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::hash_utils::{RandomState, create_hashes};
use datafusion_common::not_impl_err;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::GroupsAccumulatorAdapter;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

/// What one `GROUP BY` keeps: the key types and the aggregate functions.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// Group keys without the window's columns.
    key_schema: SchemaRef,
    functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Types of each function's arguments.
    arguments: Vec<Vec<DataType>>,
    /// State columns of each function.
    state_widths: Vec<usize>,
    /// The values of each function that is a distinct count of ours.
    counted: Vec<Option<FieldRef>>,
    /// Those are kept elsewhere.
    without_distinct: bool,
}

impl AggregateSpec {
    pub fn try_new(
        key_schema: SchemaRef,
        functions: Vec<Arc<AggregateFunctionExpr>>,
        arguments: Vec<Vec<DataType>>,
    ) -> Result<Self> {
        let state_widths = (functions.iter().zip(&arguments))
            .map(|(function, types)| state_width(function, types))
            .collect::<Result<_, _>>()
            .map_err(internal)?;
        let counted = functions.iter().map(|f| counted_items(f)).collect();
        Ok(Self {
            key_schema,
            functions,
            arguments,
            state_widths,
            counted,
            without_distinct: false,
        })
    }

    /// The keys with their types, and the functions with the number of their state columns.
    pub(super) fn texts(&self) -> (Vec<String>, Vec<(String, usize)>) {
        let key = |f: &Arc<Field>| format!("{}: {}", f.name(), f.data_type());
        let keys = self.key_schema.fields().iter().map(key).collect();
        let function =
            |f: &Arc<AggregateFunctionExpr>| f.human_display().unwrap_or(f.name()).to_string();
        let functions = self.functions.iter().map(function);
        (keys, functions.zip(self.state_widths.clone()).collect())
    }

    /// The types of each function's arguments, for messages.
    pub(super) fn argument_types(&self) -> impl Iterator<Item = (String, String)> {
        let (_, functions) = self.texts();
        let named = functions.into_iter().zip(&self.arguments);
        named.map(|((text, _), types)| {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            (format!("arguments of {text}"), types.join(", "))
        })
    }

    /// A segment's keys, and the states of its groups.
    fn split<'a>(
        &self,
        segment: &'a RecordBatch,
    ) -> (&'a [ArrayRef], impl Iterator<Item = &'a [ArrayRef]>) {
        let (keys, mut rest) = segment.columns().split_at(self.key_schema.fields().len());
        let states = self.state_widths.iter().map(move |width| {
            let (state, others) = rest.split_at(*width);
            rest = others;
            state
        });
        (keys, states)
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        let made = self
            .functions
            .iter()
            .zip(&self.counted)
            .zip(&self.arguments);
        let of_function = |((f, counted), types): ((_, &Option<FieldRef>), &Vec<DataType>)| {
            let made: Box<dyn GroupsAccumulator> = match counted {
                Some(items) if self.without_distinct => Box::new(CountedElsewhere::new(items)),
                Some(items) => Box::new(DistinctCount::new(items)?),
                None => accumulator(f, types).map_err(internal)?,
            };
            Ok(made)
        };
        made.map(of_function).collect()
    }
}

/// How many columns the state of [`accumulator`] has.
fn state_width(
    function: &AggregateFunctionExpr,
    types: &[DataType],
) -> datafusion_common::Result<usize> {
    match DoubleSums::of(function, types) {
        Some(sums) => Ok(sums.state_width()),
        None => Ok(function.state_fields()?.len()),
    }
}

/// The accumulator of a function: DataFusion's, but for first rows and sums of doubles.
fn accumulator(
    function: &Arc<AggregateFunctionExpr>,
    types: &[DataType],
) -> datafusion_common::Result<Box<dyn GroupsAccumulator>> {
    if let Some(first) = FirstRow::of(function, types)? {
        return Ok(Box::new(first));
    }
    if let Some(sums) = DoubleSums::of(function, types) {
        return Ok(Box::new(sums));
    }
    if let Some(sums) = DistinctSums::of(function, types) {
        return Ok(Box::new(sums));
    }
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let f = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        f.create_accumulator()
    })))
}

/// For accumulators of ours: they give all of their groups at once, as stores ask for them.
pub(super) fn all_groups(emit_to: EmitTo) -> datafusion_common::Result<()> {
    match emit_to {
        EmitTo::All => Ok(()),
        EmitTo::First(_) => not_impl_err!("some of the groups of an accumulator"),
    }
}

/// The same: rows are no states for plans of several phases, which there are none of here.
pub(super) fn one_phase() -> datafusion_common::Result<Vec<ArrayRef>> {
    not_impl_err!("rows as the states of an accumulator")
}

/// The factory that the window tables are given.
#[derive(Debug, Clone)]
pub struct AggregateFactory(pub Arc<AggregateSpec>);

impl Aggregate for AggregateFactory {
    fn store(&self) -> Result<Box<dyn Store>> {
        let groups = if self.is_keyless() {
            None
        } else {
            Some(Keys::new(&self.0.key_schema)?)
        };
        Ok(Box::new(GroupStore {
            numbered: NumberedAccumulators::new(&self.0)?,
            groups,
            ids: Vec::new(),
        }))
    }

    fn keys(&self) -> usize {
        self.0.key_schema.fields().len()
    }

    fn placed(&self) -> Arc<dyn Aggregate> {
        let keys = self.0.key_schema.fields().iter().cloned();
        let places = ["from_end", "pane"].map(|name| Field::new(name, DataType::Int64, false));
        let keys: Vec<FieldRef> = keys.chain(places.map(Arc::new)).collect();
        Arc::new(AggregateFactory(Arc::new(AggregateSpec {
            key_schema: Arc::new(Schema::new(keys)),
            ..(*self.0).clone()
        })))
    }

    fn numbered(&self) -> Result<Box<dyn Numbered>> {
        Ok(Box::new(NumberedAccumulators::new(&self.0)?))
    }

    fn distinct(&self) -> Option<Distinct> {
        let mut columns = Vec::new();
        let mut state = self.keys();
        for (i, (counted, width)) in self.0.counted.iter().zip(&self.0.state_widths).enumerate() {
            if counted.is_some() {
                columns.push((state, self.keys() + i));
            }
            state += width;
        }
        if columns.is_empty() {
            return None;
        }
        let rest = AggregateSpec {
            without_distinct: true,
            ..(*self.0).clone()
        };
        Some(Distinct {
            columns,
            rest: Arc::new(AggregateFactory(Arc::new(rest))),
            interner: |columns| {
                let field = |c: &ArrayRef| Field::new("", c.data_type().clone(), true);
                let fields: Vec<Field> = columns.iter().map(field).collect();
                Ok(Box::new(Keys::new(&Arc::new(Schema::new(fields)))?))
            },
        })
    }
}

/// Accumulators whose groups are numbered from outside: by a store's keys, or as sessions.
struct NumberedAccumulators {
    spec: Arc<AggregateSpec>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
}

impl NumberedAccumulators {
    fn new(spec: &Arc<AggregateSpec>) -> Result<Self> {
        Ok(Self {
            accumulators: spec.accumulators()?,
            spec: spec.clone(),
        })
    }

    fn bytes(&self) -> usize {
        self.accumulators.iter().map(|a| a.size()).sum()
    }
}

impl Numbered for NumberedAccumulators {
    fn interner(&self) -> Result<Option<Box<dyn Interner>>> {
        let schema = &self.spec.key_schema;
        let keys = (!schema.fields().is_empty()).then(|| Keys::new(schema));
        Ok(keys.transpose()?.map(|keys| Box::new(keys) as _))
    }

    fn hashes(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = vec![0; rows];
        create_hashes(keys, &RandomState::default(), &mut hashes).map_err(internal)?;
        Ok(hashes)
    }

    fn merge(&mut self, segment: &RecordBatch, groups: &[usize], total: usize) -> Result<()> {
        let (_, states) = self.spec.split(segment);
        for (accumulator, state) in self.accumulators.iter_mut().zip(states) {
            accumulator
                .merge_batch(state, groups, total)
                .map_err(internal)?;
        }
        Ok(())
    }

    fn states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for accumulator in &mut self.accumulators {
            for state in accumulator.state(EmitTo::All).map_err(internal)? {
                columns.push(with_few_buffers(&state)?);
            }
        }
        self.accumulators = self.spec.accumulators()?;
        Ok(columns)
    }

    fn values(&mut self) -> Result<Vec<ArrayRef>> {
        let evaluate = |a: &mut Box<dyn GroupsAccumulator>| a.evaluate(EmitTo::All);
        let values = self.accumulators.iter_mut().map(evaluate);
        let columns = values.collect::<Result<_, _>>().map_err(internal)?;
        self.accumulators = self.spec.accumulators()?;
        Ok(columns)
    }
}

/// Keys to dense ids.
pub(super) enum Keys {
    /// One text.
    Text(TextKeys),
    Any(Box<dyn GroupValues>),
}

impl Keys {
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(match &schema.fields()[..] {
            [key] if *key.data_type() == DataType::Utf8View => Keys::Text(TextKeys::default()),
            _ => {
                let groups = new_group_values(schema.clone(), &GroupOrdering::None);
                Keys::Any(groups.map_err(internal)?)
            }
        })
    }

    /// Takes the keys out. (`GroupValuesRows::emit` panics when empty.)
    pub fn take(&mut self, schema: &SchemaRef) -> Result<Vec<ArrayRef>> {
        match self {
            Keys::Text(texts) => Ok(vec![texts.take()]),
            Keys::Any(groups) if !groups.is_empty() => groups.emit(EmitTo::All).map_err(internal),
            Keys::Any(_) => {
                let empty = |f: &Arc<Field>| arrow::array::new_empty_array(f.data_type());
                Ok(schema.fields().iter().map(empty).collect())
            }
        }
    }
}

impl Interner for Keys {
    fn intern(&mut self, keys: &[ArrayRef], ids: &mut Vec<usize>) -> Result<()> {
        match self {
            Keys::Text(texts) => {
                let key = keys.first().and_then(|key| key.as_string_view_opt());
                texts.intern(key.ok_or_else(|| Error::bug("a key that is no text"))?, ids);
            }
            Keys::Any(groups) => groups.intern(keys, ids).map_err(internal)?,
        }
        Ok(())
    }

    fn count(&self) -> usize {
        match self {
            Keys::Text(texts) => texts.len(),
            Keys::Any(groups) => groups.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Keys::Text(texts) => texts.bytes(),
            Keys::Any(groups) => groups.size(),
        }
    }
}

struct GroupStore {
    /// `None` without keys: then there is one group, number 0.
    groups: Option<Keys>,
    numbered: NumberedAccumulators,
    /// The group id of each row of the batch at hand; kept to reuse its memory.
    ids: Vec<usize>,
}

impl GroupStore {
    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.groups {
            Some(groups) => groups.intern(keys, &mut self.ids),
            None => {
                self.ids.clear();
                self.ids.resize(rows, 0);
                Ok(())
            }
        }
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.groups {
            Some(groups) => groups.take(&self.numbered.spec.key_schema),
            None => Ok(Vec::new()),
        }
    }

    /// An accumulator that has never seen a batch holds no group: give the single group of a
    /// keyless aggregation its initial state. With a filter, or SUM takes it that each group has
    /// had a value, and would be 0 where it is NULL.
    fn ensure_keyless_group(&mut self) -> Result<()> {
        if self.groups.is_some() {
            return Ok(());
        }
        let none = BooleanArray::from(Vec::<bool>::new());
        let NumberedAccumulators { spec, accumulators } = &mut self.numbered;
        for (accumulator, types) in accumulators.iter_mut().zip(&spec.arguments) {
            let empty: Vec<ArrayRef> = types.iter().map(new_empty_array).collect();
            accumulator
                .update_batch(&empty, &[], Some(&none), 1)
                .map_err(internal)?;
        }
        Ok(())
    }
}

impl Store for GroupStore {
    fn update(&mut self, input: &Input) -> Result<()> {
        self.intern(&input.keys, input.rows)?;
        let groups = self.groups();
        for ((accumulator, args), filter) in self
            .numbered
            .accumulators
            .iter_mut()
            .zip(&input.args)
            .zip(&input.filters)
        {
            accumulator
                .update_batch(args, &self.ids, filter.as_ref(), groups)
                .map_err(internal)?;
        }
        Ok(())
    }

    fn merge(&mut self, segment: &RecordBatch) -> Result<()> {
        let keys = self.numbered.spec.key_schema.fields().len();
        self.intern(&segment.columns()[..keys], segment.num_rows())?;
        let groups = self.groups();
        self.numbered.merge(segment, &self.ids, groups)
    }

    fn seal(&mut self) -> Result<RecordBatch> {
        self.ensure_keyless_group()?;
        let rows = self.groups();
        let mut columns = self.take_keys()?;
        columns.extend(self.numbered.states()?);
        segment_batch(columns, rows)
    }

    fn evaluate(&mut self) -> Result<RecordBatch> {
        self.ensure_keyless_group()?;
        let rows = self.groups();
        let mut columns = self.take_keys()?;
        columns.extend(self.numbered.values()?);
        segment_batch(columns, rows)
    }

    /// A segment has each group once, and of each list each value: there is nothing to look up.
    fn evaluate_one(&mut self, segment: &RecordBatch) -> Result<RecordBatch> {
        let rows = segment.num_rows();
        self.ids.clear();
        self.ids.extend(0..rows);
        let NumberedAccumulators { spec, accumulators } = &mut self.numbered;
        let (keys, states) = spec.split(segment);
        let mut columns = keys.to_vec();
        let accumulators = accumulators.iter_mut().zip(&spec.counted);
        for ((accumulator, counted), state) in accumulators.zip(states) {
            columns.push(match counted {
                Some(_) => lengths(&state[0]),
                None => {
                    let merged = accumulator.merge_batch(state, &self.ids, rows);
                    merged
                        .and_then(|()| accumulator.evaluate(EmitTo::All))
                        .map_err(internal)?
                }
            });
        }
        self.numbered.accumulators = spec.accumulators()?;
        segment_batch(columns, rows)
    }

    fn groups(&self) -> usize {
        self.groups.as_ref().map_or(1, Keys::count)
    }

    fn bytes(&self) -> usize {
        self.groups.as_ref().map_or(0, Keys::bytes) + self.numbered.bytes()
    }
}
