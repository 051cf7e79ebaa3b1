//! `COUNT(DISTINCT x)` for all groups together. DataFusion's has a set for each group, of texts one
//! with buffers of its own: here values are numbered once, and one set holds the pairs of
//! group and value. The state is DataFusion's: for each group a list of its values.

use super::accumulate::{Keys, all_groups, one_phase};
use crate::batches::only_true;
use crate::window::distinct::{Interner, flatten, group_of, pair};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use hashbrown::HashSet;
use std::sync::Arc;

/// The items of a function's state, if it is one that is counted here: those are, of which two values
/// are equal when their bytes are, and rows (several columns counted together). Of doubles alone
/// DataFusion decides what is equal. Of rows it would keep each as an array of its own.
pub(super) fn counted_items(function: &AggregateFunctionExpr) -> Option<FieldRef> {
    if function.fun().name() != "count" || !function.is_distinct() {
        return None;
    }
    let state = function.state_fields().ok()?;
    let [state] = &state[..] else { return None };
    let DataType::List(items) = state.data_type() else {
        return None;
    };
    let counted = items.data_type();
    let is_plain = counted.is_integer() || counted.is_temporal() || counted.is_decimal();
    let is_row = matches!(counted, DataType::Struct(_))
        && RowConverter::supports_fields(&[SortField::new(counted.clone())]);
    let is_one = function.expressions().len() == 1;
    (is_one && (is_plain || counted.is_string() || is_row)).then(|| items.clone())
}

/// How many values each list of a state has.
pub(super) fn lengths(state: &ArrayRef) -> ArrayRef {
    let lengths = state.as_list::<i32>().offsets().lengths();
    Arc::new(Int64Array::from_iter_values(lengths.map(|n| n as i64)))
}

pub(super) struct DistinctCount {
    /// Of the lists.
    items: FieldRef,
    /// Of a batch of values alone.
    schema: SchemaRef,
    values: Keys,
    pairs: HashSet<u64>,
    /// By group.
    counts: Vec<i64>,
    /// Numbers of the values at hand; kept to reuse its memory.
    ids: Vec<usize>,
}

impl DistinctCount {
    pub fn new(items: &FieldRef) -> crate::error::Result<Self> {
        let schema = Arc::new(Schema::new(vec![items.clone()]));
        Ok(Self {
            items: items.clone(),
            values: Keys::new(&schema)?,
            schema,
            pairs: HashSet::new(),
            counts: Vec::new(),
            ids: Vec::new(),
        })
    }

    fn count(&mut self, values: ArrayRef, groups: impl Iterator<Item = usize>) -> Result<()> {
        let nulls = values.logical_nulls();
        let intern = self.values.intern(&[values], &mut self.ids);
        intern.map_err(|e| DataFusionError::External(e.into()))?;
        for (row, (group, value)) in groups.zip(&self.ids).enumerate() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
                && self.pairs.insert(pair(group, *value))
            {
                self.counts[group] += 1;
            }
        }
        Ok(())
    }

    /// Where each group's list begins and ends.
    fn offsets(&self) -> Result<Vec<i32>> {
        let mut offsets = vec![0];
        let mut total = 0;
        for count in &self.counts {
            total += count;
            let end = i32::try_from(total)
                .map_err(|_| ArrowError::OffsetOverflowError(total as usize))?;
            offsets.push(end);
        }
        Ok(offsets)
    }
}

impl GroupsAccumulator for DistinctCount {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_num_groups, 0);
        let values = match values[0].data_type() == self.items.data_type() {
            true => values[0].clone(),
            // A dictionary.
            false => compute::cast(&values[0], self.items.data_type())?,
        };
        let groups = group_indices.iter().copied();
        let Some(filter) = opt_filter else {
            return self.count(values, groups);
        };
        let filter = only_true(filter);
        let taken = groups
            .zip(filter.values())
            .filter_map(|(group, is_taken)| is_taken.then_some(group));
        self.count(compute::filter(&values, &filter)?, taken)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.counts.resize(total_num_groups, 0);
        let (items, owners) = flatten(&values[0]);
        self.count(items, owners.into_iter().map(|list| group_indices[list]))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        all_groups(emit_to)?;
        let offsets = self.offsets()?;
        let mut free = offsets.clone();
        let mut ids = vec![0; self.pairs.len()];
        for pair in self.pairs.drain() {
            let at = &mut free[group_of(pair)];
            ids[*at as usize] = pair as u32;
            *at += 1;
        }
        self.counts = Vec::new();
        let values = self.values.take(&self.schema);
        let values = values.map_err(|e| DataFusionError::External(e.into()))?;
        let items = compute::take(&values[0], &UInt32Array::from(ids), None)?;
        let offsets = OffsetBuffer::new(offsets.into());
        let lists = ListArray::try_new(self.items.clone(), offsets, items, None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        all_groups(emit_to)?;
        self.pairs.clear();
        Ok(Arc::new(Int64Array::from(std::mem::take(&mut self.counts))))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        self.values.bytes()
            + self.pairs.allocation_size()
            + self.counts.capacity() * size_of::<i64>()
            + self.ids.capacity() * size_of::<usize>()
    }
}

/// In the place of a distinct count that is kept elsewhere ([`crate::window::distinct`]): empty lists,
/// and zeros.
pub(super) struct CountedElsewhere {
    items: FieldRef,
    groups: usize,
}

impl CountedElsewhere {
    pub fn new(items: &FieldRef) -> Self {
        Self {
            items: items.clone(),
            groups: 0,
        }
    }
}

impl GroupsAccumulator for CountedElsewhere {
    fn update_batch(
        &mut self,
        _: &[ArrayRef],
        _: &[usize],
        _: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        Ok(())
    }

    fn merge_batch(&mut self, _: &[ArrayRef], _: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups = total_num_groups;
        Ok(())
    }

    fn state(&mut self, _: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = std::mem::take(&mut self.groups);
        let offsets = OffsetBuffer::new_zeroed(groups);
        let items = arrow::array::new_empty_array(self.items.data_type());
        let lists = ListArray::try_new(self.items.clone(), offsets, items, None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn evaluate(&mut self, _: EmitTo) -> Result<ArrayRef> {
        let zeros = vec![0; std::mem::take(&mut self.groups)];
        Ok(Arc::new(Int64Array::from(zeros)))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringViewArray, StructArray, TimestampMicrosecondArray};
    use arrow::datatypes::Field;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Group, value, filter.
    type Row = (usize, Option<i64>, Option<bool>);

    const GROUPS: usize = 4;

    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Time,
        Text,
        /// Both, and a half of the values are told apart by one alone.
        Row,
    }

    fn array(rows: &[Row], kind: Kind) -> ArrayRef {
        let values = rows.iter().map(|(_, value, _)| *value);
        // Short ones and long ones.
        let text = |v: i64| "0123456789".repeat(v as usize % 3) + &v.to_string();
        match kind {
            Kind::Time => Arc::new(values.collect::<TimestampMicrosecondArray>()),
            Kind::Text => Arc::new(values.map(|v| v.map(text)).collect::<StringViewArray>()),
            Kind::Row => {
                let nulls = values.clone().map(|v| v.is_some()).collect::<Vec<bool>>();
                let values = values.map(Option::unwrap_or_default);
                let times = values.clone().map(|v| Some(v / 2));
                let columns: [ArrayRef; 2] = [
                    Arc::new(times.collect::<TimestampMicrosecondArray>()),
                    Arc::new(
                        values
                            .map(|v| Some(text(v % 2)))
                            .collect::<StringViewArray>(),
                    ),
                ];
                let field = |a: &ArrayRef| Field::new("", a.data_type().clone(), true);
                let fields = columns.iter().map(field).collect();
                Arc::new(StructArray::new(
                    fields,
                    columns.to_vec(),
                    Some(nulls.into()),
                ))
            }
        }
    }

    fn counts(array: ArrayRef) -> Vec<i64> {
        array
            .as_primitive::<arrow::datatypes::Int64Type>()
            .values()
            .to_vec()
    }

    proptest! {
        /// Rows in batches; then the states of those stores, cut out of a longer list, in one more.
        #[test]
        fn equals_a_set_for_each_group(
            batches in prop::collection::vec(
                prop::collection::vec(
                    (0..GROUPS, prop::option::of(0i64..6), prop::option::of(any::<bool>())),
                    0..20,
                ),
                1..5,
            ),
            kind in prop_oneof![Just(Kind::Time), Just(Kind::Text), Just(Kind::Row)],
            is_filtered in any::<bool>(),
        ) {
            let item = array(&[], kind).data_type().clone();
            let items: FieldRef = Arc::new(Field::new_list_field(item, true));
            let mut merged = DistinctCount::new(&items).unwrap();
            let mut all = BTreeMap::<usize, BTreeSet<i64>>::new();
            for rows in &batches {
                let mut store = DistinctCount::new(&items).unwrap();
                let groups: Vec<usize> = rows.iter().map(|r| r.0).collect();
                let filter: BooleanArray = rows.iter().map(|r| r.2).collect();
                let filter = is_filtered.then_some(&filter);
                store.update_batch(&[array(rows, kind)], &groups, filter, GROUPS).unwrap();
                let mut alone = BTreeMap::<usize, BTreeSet<i64>>::new();
                for (group, value, filter) in rows {
                    if let Some(value) = value && (!is_filtered || *filter == Some(true)) {
                        alone.entry(*group).or_default().insert(*value);
                        all.entry(*group).or_default().insert(*value);
                    }
                }
                let [state] = &store.state(EmitTo::All).unwrap()[..] else { panic!("one column") };
                state.to_data().validate_full().unwrap();
                let of = |g: usize| alone.get(&g).map_or(0, |s| s.len() as i64);
                prop_assert_eq!(counts(lengths(state)), (0..GROUPS).map(of).collect::<Vec<_>>());
                prop_assert!(counts(store.evaluate(EmitTo::All).unwrap()).is_empty());
                merged.merge_batch(&[state.slice(1, 2)], &[1, 2], GROUPS).unwrap();
                merged.merge_batch(&[state.slice(0, 1)], &[0], GROUPS).unwrap();
                merged.merge_batch(&[state.slice(3, 1)], &[3], GROUPS).unwrap();
            }
            let of = |g: usize| all.get(&g).map_or(0, |s| s.len() as i64);
            let expected: Vec<_> = (0..GROUPS).map(of).collect();
            prop_assert_eq!(counts(merged.evaluate(EmitTo::All).unwrap()), expected);
        }
    }
}
