//! What is above the aggregate: a bounded plan over one closed window.

use super::cut::{AggregatePlan, Plan};
use super::errors::internal;
use super::leaf::{Leaf, LeafKind};
use super::markers::Part;
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::sink::OutputMode;
use crate::window::Assign;
use crate::window::merge::WindowResult;
use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_execution::TaskContext;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_plan::aggregates::AggregateExec;
use datafusion_physical_plan::collect;
use datafusion_physical_plan::execution_plan::reset_plan_states;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::joins::HashJoinExec;
use datafusion_physical_plan::projection::ProjectionExec;
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
}

impl Finish {
    pub fn new(plan: Plan, leaves: Vec<Leaf>, context: Arc<TaskContext>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|e| Error::env(format!("cannot start the runtime of the finish plan: {e}")))?;
        let needed = plan.downcast_ref::<Leaf>().is_none();
        Ok(Self {
            plan,
            leaves,
            context,
            runtime,
            needed,
        })
    }

    /// Whether the plan is filters and projections only, over one aggregate.
    pub fn is_row_wise(&self) -> bool {
        let other = |p: &Plan| {
            Ok(p.downcast_ref::<Leaf>().is_none()
                && p.downcast_ref::<FilterExec>().is_none()
                && p.downcast_ref::<ProjectionExec>().is_none())
        };
        self.leaves.len() == 1 && !self.plan.exists(other).unwrap_or(true)
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
        for (leaf, input) in self.leaves.iter().zip(inputs) {
            leaf.put(input);
        }
        let batches = self.run_plan(&self.plan);
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

/// Runs a plan that reads no stream, once (the table side of a lookup).
pub fn run_once(plan: &Plan, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    Finish::new(plan.clone(), Vec::new(), context)?.run_plan(plan)
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

/// Refuses a plan whose result over each window alone differs from the batch result, and what
/// an output mode cannot show.
pub fn check(plan: &Plan, aggregates: &[AggregatePlan], mode: OutputMode) -> Result<()> {
    let global = aggregates
        .iter()
        .filter(|a| a.assign == Assign::Global)
        .count();
    if global > 0 && mode == OutputMode::Append {
        return Err(Error::sql("a GROUP BY without a window never has a final row, so output mode append cannot show it")
            .with_hint("use --output-mode update or complete, or add a window to the GROUP BY"));
    }
    if aggregates.iter().any(|a| a.assign != aggregates[0].assign) {
        return Err(
            Error::sql("aggregates that are combined must be over the same window")
                .with_hint("give both the same size, slide and offset"),
        );
    }
    if aggregates[0].assign.is_session() && mode != OutputMode::Append {
        return Err(Error::sql(
            "sessions can be shown in output mode append only: until one is over it is not known",
        )
        .with_hint("leave --output-mode away, or use append"));
    }
    if mode == OutputMode::Complete {
        return Ok(());
    }
    per_window(plan, aggregates, global > 0).map(|_| ())
}

/// Which output columns of `plan` are columns of the window. Errors when a node mixes windows.
fn per_window(plan: &Plan, aggregates: &[AggregatePlan], global: bool) -> Result<Vec<bool>> {
    if let Some(Leaf {
        kind: LeafKind::Aggregate(i),
        ..
    }) = plan.downcast_ref::<Leaf>()
    {
        let aggregate = &aggregates[*i];
        // Windows that begin together are told apart by their ends alone.
        let tells = |part: &Part| *part != Part::Start || !aggregate.assign.share_starts();
        let columns = aggregate.group_columns.iter();
        let mut columns: Vec<bool> = columns.map(|c| c.as_ref().is_some_and(tells)).collect();
        columns.resize(aggregate.schema.fields().len(), false);
        return Ok(columns);
    }
    let mut inputs = Vec::new();
    for child in plan.children() {
        inputs.push(per_window(child, aggregates, global)?);
    }
    if inputs.is_empty() {
        return Ok(vec![false; plan.schema().fields().len()]);
    }
    if global {
        return only_row_wise(plan).map(|()| vec![false; plan.schema().fields().len()]);
    }
    let of = |expr: &Arc<dyn PhysicalExpr>, input: &[bool]| {
        expr.downcast_ref::<Column>()
            .is_some_and(|c| input[c.index()])
    };
    if let Some(p) = plan.downcast_ref::<ProjectionExec>() {
        return Ok(p.expr().iter().map(|e| of(&e.expr, &inputs[0])).collect());
    }
    if let Some(f) = plan.downcast_ref::<FilterExec>() {
        let input = &inputs[0];
        return Ok(match f.projection() {
            Some(p) => p.iter().map(|i| input[*i]).collect(),
            None => input.clone(),
        });
    }
    if let Some(a) = plan.downcast_ref::<AggregateExec>() {
        let mut columns: Vec<bool> = a
            .group_expr()
            .expr()
            .iter()
            .map(|(e, _)| of(e, &inputs[0]))
            .collect();
        if !columns.contains(&true) {
            return Err(Error::sql("an aggregate over the results of several windows is not supported yet")
                .with_hint("add window_start, window_end to the outer GROUP BY, or write the inner result to a topic and aggregate that"));
        }
        columns.resize(plan.schema().fields().len(), false);
        return Ok(columns);
    }
    if plan.name().contains("WindowAgg") {
        return over(plan, &inputs[0]);
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let both_stream = inputs.len() == 2 && inputs.iter().all(|i| i.contains(&true));
        let equal = join
            .on()
            .iter()
            .any(|(l, r)| of(l, &inputs[0]) && of(r, &inputs[1]));
        if both_stream && !equal {
            return Err(
                Error::sql("a join of two windowed aggregates must equal their windows").with_hint(
                    "add a.window_start = b.window_start AND a.window_end = b.window_end",
                ),
            );
        }
        let all = inputs.concat();
        return Ok(match &join.projection {
            Some(p) => p.iter().map(|i| all[*i]).collect(),
            None => all,
        });
    }
    let width = plan.schema().fields().len();
    Ok(inputs
        .into_iter()
        .find(|i| i.len() == width)
        .unwrap_or_else(|| vec![false; width]))
}

/// `OVER (…)`: every function must be partitioned by a column of the window.
fn over(plan: &Plan, input: &[bool]) -> Result<Vec<bool>> {
    use datafusion_physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
    let functions = if let Some(w) = plan.downcast_ref::<WindowAggExec>() {
        w.window_expr()
    } else if let Some(w) = plan.downcast_ref::<BoundedWindowAggExec>() {
        w.window_expr()
    } else {
        &[]
    };
    for function in functions {
        let partitioned = function
            .partition_by()
            .iter()
            .any(|e| e.downcast_ref::<Column>().is_some_and(|c| input[c.index()]));
        if !partitioned {
            return Err(Error::sql(format!(
                "{} runs over several windows, which is not supported yet",
                function.name()
            ))
            .with_hint("write OVER (PARTITION BY window_start, window_end ORDER BY …)"));
        }
    }
    let mut columns = input.to_vec();
    columns.resize(plan.schema().fields().len(), false);
    Ok(columns)
}

/// In output mode update only the changed groups pass, so nothing may look at several rows.
fn only_row_wise(plan: &Plan) -> Result<()> {
    let row_wise = plan.downcast_ref::<ProjectionExec>().is_some()
        || plan.downcast_ref::<FilterExec>().is_some()
        || plan.downcast_ref::<HashJoinExec>().is_some();
    if row_wise {
        return Ok(());
    }
    let what = match plan.name() {
        "SortExec" => "ORDER BY",
        "GlobalLimitExec" => "LIMIT",
        "AggregateExec" => "a second GROUP BY",
        "CoalescePartitionsExec" => "UNION",
        _ => "OVER (…)",
    };
    Err(Error::sql(format!("{what} over a GROUP BY without a window needs the whole result, but output mode update shows changes only"))
        .with_hint("use --output-mode complete (or SET 'output.mode' = 'complete')"))
}
