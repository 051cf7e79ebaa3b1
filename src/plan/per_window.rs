//! Whether what is above the aggregates gives, run over each closed window alone, the rows of the
//! batch query over all windows. What does not is refused.

use super::cut::{AggregatePlan, Plan};
use super::leaf::{Leaf, LeafKind};
use super::markers::Part;
use crate::error::{Error, Result};
use crate::sink::OutputMode;
use crate::window::Assign;
use datafusion_common::JoinType;
use datafusion_common::tree_node::TreeNode;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_plan::aggregates::AggregateExec;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowExpr};
use datafusion_physical_plan::{coalesce_partitions, union, unnest};
use std::sync::Arc;

/// Refuses a plan whose result over each window alone differs from the batch result, and what
/// an output mode cannot show.
pub fn check(plan: &Plan, aggregates: &[AggregatePlan], mode: OutputMode) -> Result<()> {
    let global = aggregates.iter().any(|a| a.assign == Assign::Global);
    if global && mode == OutputMode::Append {
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
    if mode == OutputMode::Update {
        only_changes(plan, global)?;
    }
    if !global {
        known(plan, aggregates)?;
    }
    Ok(())
}

/// What is known of the rows of a part of the plan.
struct Known {
    /// They come of an aggregate over the stream: there are such rows for each window. Others are
    /// those of a table, the same each time.
    streamed: bool,
    /// For each column: which of the window's it is. Two rows with the same value are of one window.
    window: Vec<Option<Part>>,
}

impl Known {
    /// No column is the window's.
    fn plain(streamed: bool, plan: &Plan) -> Self {
        Self {
            streamed,
            window: vec![None; plan.schema().fields().len()],
        }
    }

    fn of(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        let column = expr.downcast_ref::<Column>()?;
        self.window[column.index()]
    }
}

/// What is known of the rows of `plan`. Errors when a node mixes windows.
fn known(plan: &Plan, aggregates: &[AggregatePlan]) -> Result<Known> {
    if let Some(leaf) = plan.downcast_ref::<Leaf>()
        && let LeafKind::Aggregate(i) = leaf.kind
    {
        let aggregate = &aggregates[i];
        // Windows that begin together are told apart by their ends alone.
        let tells = |part: &Part| *part != Part::Start || !aggregate.assign.share_starts();
        let columns = aggregate.group_columns.iter();
        let mut window: Vec<_> = columns.map(|part| part.filter(tells)).collect();
        window.resize(aggregate.schema.fields().len(), None);
        return Ok(Known {
            streamed: true,
            window,
        });
    }
    let inputs = plan.children().into_iter();
    let mut inputs = (inputs.map(|input| known(input, aggregates))).collect::<Result<Vec<_>>>()?;
    if !inputs.iter().any(|input| input.streamed) {
        return Ok(Known::plain(false, plan));
    }
    if let Some(joined) = joined(plan, &inputs)? {
        return Ok(joined);
    }
    if plan.downcast_ref::<union::UnionExec>().is_some() {
        return united(&inputs);
    }
    let Some(input) = inputs.pop().filter(|_| inputs.is_empty()) else {
        return Err(Error::sql(format!(
            "{} over results of windows is not supported",
            plan.name()
        )));
    };
    if let Some(p) = plan.downcast_ref::<ProjectionExec>() {
        return Ok(Known {
            streamed: true,
            window: p.expr().iter().map(|e| input.of(&e.expr)).collect(),
        });
    }
    if let Some(f) = plan.downcast_ref::<FilterExec>() {
        return Ok(projected(input, f.projection().as_deref()));
    }
    if let Some(a) = plan.downcast_ref::<AggregateExec>() {
        return grouped(a, &input, plan);
    }
    if let Some(functions) = over_functions(plan) {
        return over(functions, input, plan);
    }
    let keeps_columns = plan.downcast_ref::<SortExec>().is_some()
        || plan.downcast_ref::<GlobalLimitExec>().is_some()
        || (plan.downcast_ref::<coalesce_partitions::CoalescePartitionsExec>()).is_some()
        || (plan.downcast_ref::<unnest::UnnestExec>()).is_some();
    match keeps_columns && input.window.len() == plan.schema().fields().len() {
        true => Ok(input),
        false => Ok(Known::plain(true, plan)),
    }
}

fn projected(known: Known, columns: Option<&[usize]>) -> Known {
    let Some(columns) = columns else {
        return known;
    };
    Known {
        window: columns.iter().map(|i| known.window[*i]).collect(),
        ..known
    }
}

/// An aggregate over results: each of its groups must be of one window.
fn grouped(aggregate: &AggregateExec, input: &Known, plan: &Plan) -> Result<Known> {
    let group = aggregate.group_expr();
    let in_all_sets = |i: usize| group.groups().iter().all(|is_null| !is_null[i]);
    let keys = group.expr().iter().enumerate();
    let mut window: Vec<_> = keys
        .map(|(i, (key, _))| input.of(key).filter(|_| in_all_sets(i)))
        .collect();
    if window.iter().all(Option::is_none) {
        return Err(Error::sql("an aggregate over the results of several windows is not supported yet")
            .with_hint("add window_start, window_end (of Spark's window: window.start, window.end) to the outer GROUP BY, or write the inner result to a topic and aggregate that"));
    }
    window.resize(plan.schema().fields().len(), None);
    Ok(Known {
        streamed: true,
        window,
    })
}

/// The functions of a node that is `OVER (…)`; `None` for other nodes.
pub fn over_functions(plan: &Plan) -> Option<&[Arc<dyn WindowExpr>]> {
    let bounded = plan.downcast_ref::<BoundedWindowAggExec>();
    let bounded = bounded.map(BoundedWindowAggExec::window_expr);
    bounded.or_else(|| plan.downcast_ref().map(WindowAggExec::window_expr))
}

/// `OVER (…)`: every function must be partitioned by a column of the window.
fn over(functions: &[Arc<dyn WindowExpr>], mut input: Known, plan: &Plan) -> Result<Known> {
    for function in functions {
        let mut keys = function.partition_by().iter();
        if !keys.any(|key| input.of(key).is_some()) {
            return Err(Error::sql(format!(
                "{} runs over several windows, which is not supported yet",
                function.name()
            ))
            .with_hint("write OVER (PARTITION BY window_start, window_end ORDER BY …)"));
        }
    }
    input.window.resize(plan.schema().fields().len(), None);
    Ok(input)
}

/// UNION: rows of each part for each window.
fn united(inputs: &[Known]) -> Result<Known> {
    if inputs.iter().any(|input| !input.streamed) {
        return Err(
            Error::sql("a UNION of a stream's windows with a table would repeat the table's rows for each window")
                .with_hint("write one INSERT for each part"),
        );
    }
    let width = inputs[0].window.len();
    let same = |i: usize| {
        let part = inputs[0].window[i];
        part.filter(|_| inputs.iter().all(|input| input.window[i] == part))
    };
    Ok(Known {
        streamed: true,
        window: (0..width).map(same).collect(),
    })
}

/// `None` when `plan` is no join.
fn joined(plan: &Plan, inputs: &[Known]) -> Result<Option<Known>> {
    let Some((join_type, projection)) = join(plan) else {
        return Ok(None);
    };
    let [left, right] = inputs else {
        return Err(Error::bug("a join that has not two inputs"));
    };
    if left.streamed && right.streamed {
        let on = plan.downcast_ref::<HashJoinExec>().map(|j| j.on());
        let equal = on.unwrap_or_default().iter().any(|(l, r)| {
            let part = left.of(l);
            part.is_some() && part == right.of(r)
        });
        if !equal {
            return Err(Error::sql("a join (or subquery) of two windowed aggregates must equal their windows")
                .with_hint("add a.window_start = b.window_start AND a.window_end = b.window_end to its condition"));
        }
    } else {
        let (of_left, of_right) = shows_unmatched(join_type);
        if of_left && !left.streamed || of_right && !right.streamed {
            return Err(Error::sql(format!(
                "a {join_type} join that shows rows of a table would repeat them for each window"
            ))
            .with_hint("let the join keep the rows of the windows, and find those of the table"));
        }
    }
    // What a side has no row for is NULL, which tells no window.
    let or_null = |side: &Known, is_null: bool| match is_null {
        true => vec![None; side.window.len()],
        false => side.window.clone(),
    };
    use JoinType::*;
    let left_null = matches!(join_type, Right | Full);
    let right_null = matches!(join_type, Left | Full);
    let mut window = match join_type {
        Inner | Left | Right | Full => {
            [or_null(left, left_null), or_null(right, right_null)].concat()
        }
        LeftSemi | LeftAnti | LeftMark => left.window.clone(),
        RightSemi | RightAnti | RightMark => right.window.clone(),
    };
    if matches!(join_type, LeftMark | RightMark) {
        window.push(None);
    }
    let known = Known {
        streamed: true,
        window,
    };
    Ok(Some(projected(known, projection)))
}

/// The kind of a join, and which of its columns it gives on.
fn join(plan: &Plan) -> Option<(JoinType, Option<&[usize]>)> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return Some((*join.join_type(), join.projection.as_deref()));
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        return Some((*join.join_type(), join.projection().as_deref()));
    }
    let cross = plan.downcast_ref::<CrossJoinExec>();
    cross.map(|_| (JoinType::Inner, None))
}

/// Whether a join gives rows of its left or right side for what it does not find on the other, or
/// for that it finds something at all.
fn shows_unmatched(join_type: JoinType) -> (bool, bool) {
    use JoinType::*;
    let of_left = matches!(join_type, Left | LeftSemi | LeftAnti | LeftMark | Full);
    let of_right = matches!(join_type, Right | RightSemi | RightAnti | RightMark | Full);
    (of_left, of_right)
}

/// In output mode update only the changed groups pass, so nothing may look at several rows.
fn only_changes(plan: &Plan, global: bool) -> Result<()> {
    if !reads_aggregate(plan) {
        return Ok(());
    }
    let inputs = plan.children();
    for input in &inputs {
        only_changes(input, global)?;
    }
    let streamed = inputs.iter().filter(|input| reads_aggregate(input)).count();
    let is_sort = plan.downcast_ref::<SortExec>().is_some();
    let what = match plan.name() {
        // The name of one with a limit is another.
        _ if is_sort && plan.fetch().is_some() => "LIMIT",
        _ if is_sort && !global => return Ok(()),
        _ if is_sort => "ORDER BY",
        "GlobalLimitExec" => "LIMIT",
        "AggregateExec" => "a second GROUP BY",
        "UnionExec" if global => "UNION",
        _ if over_functions(plan).is_some() => "OVER (…)",
        _ if join(plan).is_some() && streamed > 1 => "a join of two aggregates",
        _ => return Ok(()),
    };
    let (over, whole) = match global {
        true => ("a GROUP BY without a window", "the whole result"),
        false => ("the result of a window", "all of it"),
    };
    Err(Error::sql(format!(
        "{what} over {over} needs {whole}, but output mode update shows changes only"
    ))
    .with_hint("use --output-mode complete (or SET 'output.mode' = 'complete')"))
}

fn reads_aggregate(plan: &Plan) -> bool {
    let is_aggregate = |p: &Plan| {
        let leaf = p.downcast_ref::<Leaf>();
        Ok(leaf.is_some_and(|leaf| matches!(leaf.kind, LeafKind::Aggregate(_))))
    };
    plan.exists(is_aggregate).unwrap_or(true)
}
