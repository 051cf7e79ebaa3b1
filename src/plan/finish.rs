//! What is above the aggregate: a bounded plan over one closed window.

use super::cut::{AggregatePlan, Plan};
use super::errors::internal;
use super::leaf::{Leaf, LeafKind};
use super::markers::Part;
use super::per_window::over_functions;
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::window::Assign;
use crate::window::merge::WindowResult;
use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_execution::TaskContext;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, is_null, not};
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_plan::aggregates::AggregateExec;
use datafusion_physical_plan::execution_plan::reset_plan_states;
use datafusion_physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::{ExecutionPlan, collect};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs the plan above a query's aggregates.
pub struct Finish {
    plan: Plan,
    leaves: Vec<Leaf>,
    context: Arc<TaskContext>,
    /// DataFusion's streams want a runtime; this one has no thread of its own.
    runtime: tokio::runtime::Runtime,
    /// False when the plan is the bare leaf.
    needed: bool,
    /// Something in the plan, a sum of doubles say, may depend on the order of rows.
    pub is_order_sensitive: bool,
    /// The plan is filters and projections only, over one aggregate.
    pub is_row_wise: bool,
    /// The plan of the rows that its one filter refuses, if it is row-wise and has one.
    pub refused: Option<Plan>,
}

impl Finish {
    /// `key`: the columns by which rows that a filter refuses are told, if that is asked.
    pub fn new(
        plan: Plan,
        leaves: Vec<Leaf>,
        context: Arc<TaskContext>,
        key: &[usize],
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|e| Error::env(format!("cannot start the runtime of the finish plan: {e}")))?;
        let needed = plan.downcast_ref::<Leaf>().is_none();
        let is_sensitive = |p: &Plan| {
            let is_aggregate = p.downcast_ref::<AggregateExec>().is_some();
            Ok(is_aggregate || over_functions(p).is_some())
        };
        let is_row_wise = is_row_wise(&plan, &leaves);
        let refused = match is_row_wise && !key.is_empty() {
            true => refused(&plan, &key.iter().copied().collect())?,
            false => None,
        };
        Ok(Self {
            is_row_wise,
            refused,
            is_order_sensitive: plan.exists(is_sensitive).map_err(internal)?,
            plan,
            leaves,
            context,
            runtime,
            needed,
        })
    }

    /// Runs over the given rows: one list of batches for each aggregate, in the aggregates'
    /// schemas (see [`leaf_batch`]). Batches without rows are left out.
    pub fn run(&self, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        if !self.needed {
            return Ok(inputs
                .into_iter()
                .flatten()
                .filter(|b| b.num_rows() > 0)
                .collect());
        }
        self.run_over(&self.plan, inputs)
    }

    /// The rows that the filter refuses.
    pub fn run_refused(&self, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        match &self.refused {
            Some(refused) => self.run_over(refused, inputs),
            None => Ok(Vec::new()),
        }
    }

    fn run_over(&self, plan: &Plan, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        for (leaf, input) in self.leaves.iter().zip(inputs) {
            leaf.put(input);
        }
        let batches = self.run_plan(plan);
        for leaf in &self.leaves {
            leaf.put(Vec::new());
        }
        Ok(batches?.into_iter().filter(|b| b.num_rows() > 0).collect())
    }

    fn run_plan(&self, plan: &Plan) -> Result<Vec<RecordBatch>> {
        let fresh = reset_plan_states(plan.clone()).map_err(internal)?;
        self.runtime
            .block_on(collect(fresh, self.context.clone()))
            .map_err(internal)
    }
}

fn is_row_wise(plan: &Plan, leaves: &[Leaf]) -> bool {
    let other = |p: &Plan| {
        Ok(p.downcast_ref::<Leaf>().is_none()
            && p.downcast_ref::<FilterExec>().is_none()
            && p.downcast_ref::<ProjectionExec>().is_none())
    };
    leaves.len() == 1 && !plan.exists(other).unwrap_or(true)
}

/// A row-wise plan with its one filter turned round. Of what is above it only the `wanted` columns are
/// computed, others are NULL: the filter may be there so that they can be.
fn refused(plan: &Plan, wanted: &BTreeSet<usize>) -> Result<Option<Plan>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let mut exprs = projection.expr().to_vec();
        let mut below = BTreeSet::new();
        for (i, item) in exprs.iter_mut().enumerate() {
            if wanted.contains(&i) {
                below.extend(collect_columns(&item.expr).iter().map(|c| c.index()));
            } else {
                let data_type = projection.schema().field(i).data_type().clone();
                let null = ScalarValue::try_from(data_type).map_err(internal)?;
                item.expr = Arc::new(Literal::new(null));
            }
        }
        let Some(input) = refused(projection.input(), &below)? else {
            return Ok(None);
        };
        let projection = ProjectionExec::try_new(exprs, input).map_err(internal)?;
        return Ok(Some(Arc::new(projection)));
    }
    let Some(filter) = plan.downcast_ref::<FilterExec>() else {
        return Ok(None);
    };
    let is_filter = |p: &Plan| Ok(p.downcast_ref::<FilterExec>().is_some());
    if filter.input().exists(is_filter).map_err(internal)? {
        return Ok(None);
    }
    let predicate = filter.predicate();
    let is_false = not(predicate.clone()).map_err(internal)?;
    let is_null = is_null(predicate.clone()).map_err(internal)?;
    let turned = Arc::new(BinaryExpr::new(is_false, Operator::Or, is_null));
    let builder = FilterExecBuilder::from(filter).with_predicate(turned);
    Ok(Some(Arc::new(builder.build().map_err(internal)?)))
}

/// Runs a plan that reads no stream, once (the table side of a lookup).
pub fn run_once(plan: &Plan, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    Finish::new(plan.clone(), Vec::new(), context, &[])?.run_plan(plan)
}

/// Loads columns of a table that is no stream.
pub type Load<'a> = &'a mut dyn FnMut(&str, &[String]) -> Result<Vec<RecordBatch>>;

/// Gives the leaves of loaded tables their rows.
pub fn fill_tables(plan: &Plan, load: Load) -> Result<()> {
    let mut result = Ok(());
    let visited = plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<Leaf>()
            && let LeafKind::Scan { table, columns } = &leaf.kind
            && result.is_ok()
        {
            match load(table, columns) {
                Ok(batches) => leaf.put(batches),
                Err(e) => result = Err(e),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(internal)?;
    result
}

/// A window's result in the schema of the aggregate's output: keys and window columns in the
/// order of the GROUP BY, then the results.
pub fn leaf_batch(aggregate: &AggregatePlan, result: &WindowResult) -> Result<RecordBatch> {
    let rows = result.batch.num_rows();
    let window = |part| -> ArrayRef {
        let value = super::markers::value(part, result.start, result.end);
        Arc::new(TimestampMicrosecondArray::from_value(value, rows))
    };
    output(aggregate, result.batch.columns(), rows, window)
}

/// The same for sessions, whose last two columns are the event times of their first and last rows.
pub fn session_batch(aggregate: &AggregatePlan, sessions: &RecordBatch) -> Result<RecordBatch> {
    let Assign::Session { gap } = aggregate.assign else {
        return Err(Error::bug("windows that are no sessions"));
    };
    let [columns @ .., first, last] = sessions.columns() else {
        return Err(Error::bug("sessions without event times"));
    };
    let first = first.as_primitive::<TimestampMicrosecondType>();
    let end = (last.as_primitive::<TimestampMicrosecondType>())
        .unary::<_, TimestampMicrosecondType>(|last| last.saturating_add(gap));
    let window = |part| -> ArrayRef {
        let spans = first.values().iter().zip(end.values());
        let values = spans.map(|(start, end)| super::markers::value(part, *start, *end));
        Arc::new(TimestampMicrosecondArray::from_iter_values(values))
    };
    let batch = output(aggregate, columns, sessions.num_rows(), window)?;
    match aggregate.chain.passing(first.values(), end.values())? {
        Some(passing) => Ok(compute::filter_record_batch(&batch, &passing)?),
        None => Ok(batch),
    }
}

/// Groups in the order of their keys: they come out of a window in another with other workers.
pub fn in_order(aggregate: &AggregatePlan, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let batch = compute::concat_batches(&aggregate.schema, batches)?;
    let keys = &batch.columns()[..aggregate.group_columns.len()];
    if keys.is_empty() {
        return Ok(vec![batch]);
    }
    let fields = keys.iter().map(|k| SortField::new(k.data_type().clone()));
    let rows = RowConverter::new(fields.collect())?.convert_columns(keys)?;
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    let order = UInt32Array::from(order);
    Ok(vec![compute::take_record_batch(&batch, &order)?])
}

fn output(
    aggregate: &AggregatePlan,
    columns: &[ArrayRef],
    rows: usize,
    window: impl Fn(Part) -> ArrayRef,
) -> Result<RecordBatch> {
    let key_count = aggregate
        .group_columns
        .iter()
        .filter(|c| c.is_none())
        .count();
    let (keys, values) = columns.split_at(key_count);
    let mut keys = keys.iter();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(aggregate.schema.fields().len());
    for column in &aggregate.group_columns {
        columns.push(match column {
            Some(part) => window(*part),
            None => keys
                .next()
                .ok_or_else(|| Error::bug("a group key is missing"))?
                .clone(),
        });
    }
    columns.extend(values.iter().cloned());
    for (column, field) in columns.iter_mut().zip(aggregate.schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = compute::cast(column, field.data_type())?;
        }
    }
    Ok(with_rows(aggregate.schema.clone(), columns, rows)?)
}
