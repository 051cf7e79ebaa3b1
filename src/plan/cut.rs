//! Cuts DataFusion's batch plan of one query at its aggregates.
//!
//! Below an aggregate: row-wise stages that a worker runs on each batch. The aggregate itself:
//! a window table. Above: a plan that runs over the closed windows. What cannot be cut so that
//! the streaming result equals the batch result is refused here, with its reason.

mod chain;
mod window;

use super::accumulate::{AggregateFactory, AggregateSpec};
use super::errors::internal;
use super::leaf::{Leaf, LeafKind};
use super::markers::Part;
use super::shape::without_places;
use super::stages::AggregateInput;
use crate::error::{Error, Result};
use crate::window::Assign;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::JoinType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, aggregate_expressions};
use datafusion_physical_plan::joins::HashJoinExec;
use datafusion_physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use window::{ColumnTrait, WindowColumn, is_shown, refuse_window_use};

pub use chain::Chain;

pub type Plan = Arc<dyn ExecutionPlan>;

/// A stream that a query reads: one table, and the column that is its event time.
#[derive(Debug, Clone)]
pub struct StreamTable {
    pub name: String,
    pub event_time: Option<String>,
}

/// One aggregate over the stream.
#[derive(Debug)]
pub struct AggregatePlan {
    pub chain: Chain,
    pub input: AggregateInput,
    pub factory: AggregateFactory,
    pub assign: Assign,
    /// Output columns of the aggregate: keys and window columns as in GROUP BY, then results.
    pub schema: SchemaRef,
    /// For each GROUP BY column: the window's column it is, or `None` for a key.
    pub group_columns: Vec<Option<Part>>,
    /// Text for `explain`.
    pub text: String,
}

/// A query cut in its parts.
#[derive(Debug)]
pub enum Cut {
    Stateless {
        chain: Chain,
        /// `LIMIT n` without ORDER BY: the query ends after so many rows.
        limit: Option<usize>,
    },
    Aggregated {
        aggregates: Vec<AggregatePlan>,
        /// The plan above, with a [`Leaf`] for each aggregate.
        finish: Plan,
        leaves: Vec<Leaf>,
    },
}

/// Cuts `plan`, in which the `streams` are the only tables that are not loaded whole.
pub fn cut(plan: &Plan, streams: &[StreamTable]) -> Result<Cut> {
    let mut cutter = Cutter {
        streams,
        aggregates: Vec::new(),
        leaves: Vec::new(),
    };
    let finish = cutter.replace_aggregates(plan)?;
    if !cutter.aggregates.is_empty() {
        if !streams_of(&finish, streams).is_empty() {
            return Err(
                Error::sql("the rows of a stream cannot be joined with an aggregate yet")
                    .with_hint("write the aggregate to a Kafka topic and join in a second query"),
            );
        }
        return Ok(Cut::Aggregated {
            aggregates: cutter.aggregates,
            finish,
            leaves: cutter.leaves,
        });
    }
    let (mut input, limit) = peel_limit(plan);
    if let Some(limit) = limit {
        input = without_limits(&input, limit)?;
    }
    let chain = cutter.chain(&input, false)?;
    Ok(Cut::Stateless { chain, limit })
}

/// The streams that a plan reads, by their places.
pub fn streams_of(plan: &Plan, streams: &[StreamTable]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    // The visitor has no errors.
    let _visited = plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<Leaf>()
            && let LeafKind::Scan { table, .. } = &leaf.kind
        {
            found.extend(streams.iter().position(|stream| stream.name == *table));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// `LIMIT n` at the top of a plan without ORDER BY, or below expressions over its rows.
fn peel_limit(plan: &Plan) -> (Plan, Option<usize>) {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>()
        && let (input, Some(limit)) = peel_limit(projection.input())
        && let Ok(projection) = ProjectionExec::try_new(projection.expr().to_vec(), input)
    {
        return (Arc::new(projection), Some(limit));
    }
    if let Some(limit) = plan
        .downcast_ref::<GlobalLimitExec>()
        .filter(|l| l.skip() == 0)
    {
        return (limit.input().clone(), limit.fetch());
    }
    if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
        return (limit.input().clone(), Some(limit.fetch()));
    }
    match plan.fetch() {
        Some(n) if plan.downcast_ref::<SortExec>().is_none() => (
            plan.with_fetch(None).unwrap_or_else(|| plan.clone()),
            Some(n),
        ),
        _ => (plan.clone(), None),
    }
}

/// A plan without the limits that the optimiser has put below joins which keep all rows of the stream: the
/// one above is enough.
fn without_limits(plan: &Plan, above: usize) -> Result<Plan> {
    if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>()
        && limit.skip() == 0
        && limit.fetch().is_some_and(|fetch| fetch >= above)
    {
        return without_limits(limit.input(), above);
    }
    let keeps = |join: &HashJoinExec| match join.join_type() {
        JoinType::Left => Some(0),
        JoinType::Right => Some(1),
        _ => None,
    };
    let kept = match plan.downcast_ref::<HashJoinExec>().and_then(keeps) {
        Some(side) => side,
        None if plan.downcast_ref::<ProjectionExec>().is_some() => 0,
        None => return Ok(plan.clone()),
    };
    let mut children: Vec<Plan> = plan.children().into_iter().cloned().collect();
    children[kept] = without_limits(&children[kept], above)?;
    plan.clone()
        .replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
        .map_err(internal)
}

struct Cutter<'a> {
    streams: &'a [StreamTable],
    aggregates: Vec<AggregatePlan>,
    leaves: Vec<Leaf>,
}

impl Cutter<'_> {
    /// Replaces the lowest aggregates over streams by leaves.
    fn replace_aggregates(&mut self, plan: &Plan) -> Result<Plan> {
        let children: Vec<Plan> = plan.children().into_iter().cloned().collect();
        let lowest = |p: &Plan| {
            !children.iter().any(has_aggregate) && !streams_of(p, self.streams).is_empty()
        };
        if let Some(aggregate) = plan
            .downcast_ref::<AggregateExec>()
            .filter(|_| lowest(plan))
        {
            let planned = self.aggregate(aggregate)?;
            let leaf = Leaf::new(
                LeafKind::Aggregate(self.aggregates.len()),
                planned.schema.clone(),
            );
            self.aggregates.push(planned);
            self.leaves.push(leaf.clone());
            return Ok(Arc::new(leaf));
        }
        if children.is_empty() {
            return Ok(plan.clone());
        }
        let replaced = children
            .iter()
            .map(|c| self.replace_aggregates(c))
            .collect::<Result<Vec<_>>>()?;
        if replaced
            .iter()
            .zip(&children)
            .all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Ok(plan.clone());
        }
        plan.clone()
            .replace_children(
                replaced,
                ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
            )
            .map_err(internal)
    }

    fn aggregate(&self, aggregate: &AggregateExec) -> Result<AggregatePlan> {
        refuse_aggregate(aggregate)?;
        let group = aggregate.group_expr();
        let mut chain = self.chain(aggregate.input(), true)?;
        let input_schema = aggregate.input_schema();
        let (mut keys, mut key_fields, mut group_columns) = (Vec::new(), Vec::new(), Vec::new());
        let mut window: Option<WindowColumn> = None;
        for (expr, name) in group.expr() {
            if let Some(column) = self.window_column(expr, &chain)? {
                if (window.as_ref())
                    .is_some_and(|w| (w.assign, &w.keys) != (column.assign, &column.keys))
                {
                    return Err(Error::sql("one GROUP BY cannot hold two different windows")
                        .with_hint("aggregate by the smaller window first, then by the larger one over its result"));
                }
                group_columns.push(Some(column.part));
                window = Some(column);
                continue;
            }
            refuse_window_use(expr, &chain, "GROUP BY")?;
            if is_shown(expr, &chain.traits) {
                // Without this check it would be a GROUP BY that has no window and never ends.
                return Err(Error::sql("rows that stand in each of their windows already cannot be grouped by the window")
                    .with_hint("write the GROUP BY directly over the window function"));
            }
            let (data_type, nullable) = (
                expr.data_type(&input_schema).map_err(internal)?,
                expr.nullable(&input_schema).map_err(internal)?,
            );
            key_fields.push(Field::new(name, data_type, nullable));
            keys.push(expr.clone());
            group_columns.push(None);
        }
        let is_cumulating =
            (window.as_ref()).is_some_and(|w| matches!(w.assign, Assign::Cumulating { .. }));
        if is_cumulating
            && !group_columns
                .iter()
                .flatten()
                .any(|part| *part != Part::Start)
        {
            return Err(Error::sql("cumulating windows begin together: grouped by window_start alone they are one group")
                .with_hint("add window_end to the GROUP BY"));
        }
        if let Some(session_keys) = window.as_ref().and_then(|w| w.keys.as_ref()) {
            check_session_keys(session_keys, &keys, &chain)?;
        }
        let mut args = aggregate_expressions(aggregate.aggr_expr(), &AggregateMode::Partial, 0)
            .map_err(internal)?;
        for expr in args
            .iter()
            .flatten()
            .chain(aggregate.filter_expr().iter().flatten())
        {
            refuse_window_use(expr, &chain, "an aggregate function")?;
        }
        let (assign, time) = match window {
            Some(window) => (window.assign, Some(window.time)),
            None => (Assign::Global, None),
        };
        if assign == Assign::Global && !chain.window_filters.is_empty() {
            return Err(
                Error::sql("a filter on window columns needs the window in GROUP BY")
                    .with_hint("add window_start, window_end to the GROUP BY"),
            );
        }
        chain.traits.clear();
        let mut functions = aggregate.aggr_expr().to_vec();
        let mut filters = aggregate.filter_expr().to_vec();
        if let (true, Some(time)) = (assign.is_session(), &time) {
            // What tells sessions apart (see [`crate::window::sessions`]).
            for (function, name) in [(min_udaf(), "first row"), (max_udaf(), "last row")] {
                let built = AggregateExprBuilder::new(function, vec![time.clone()])
                    .schema(input_schema.clone())
                    .alias(name)
                    .build();
                functions.push(Arc::new(built.map_err(internal)?));
                args.push(vec![time.clone()]);
                filters.push(None);
            }
        }
        let types = |args: &Vec<Arc<dyn PhysicalExpr>>| {
            let types = args.iter().map(|arg| arg.data_type(&input_schema));
            types.collect::<datafusion_common::Result<Vec<_>>>()
        };
        let types = args
            .iter()
            .map(types)
            .collect::<datafusion_common::Result<_>>();
        let key_schema = Arc::new(Schema::new(key_fields));
        let spec = AggregateSpec::try_new(key_schema, functions, types.map_err(internal)?)?;
        Ok(AggregatePlan {
            input: AggregateInput {
                time,
                keys,
                args,
                filters,
            },
            factory: AggregateFactory(Arc::new(spec)),
            assign,
            schema: aggregate.schema(),
            group_columns,
            text: describe(aggregate),
            chain,
        })
    }
}

/// Sessions are of the groups: what they are partitioned by must be the keys.
fn check_session_keys(
    session_keys: &[String],
    keys: &[Arc<dyn PhysicalExpr>],
    chain: &Chain,
) -> Result<()> {
    let mut named = Vec::new();
    for key in keys {
        let column = key
            .downcast_ref::<Column>()
            .map(|c| &chain.traits[c.index()]);
        let session_key = match column {
            Some(ColumnTrait::SessionKey(name)) => name.clone(),
            _ => key.to_string(),
        };
        if !session_keys.contains(&session_key) {
            return Err(Error::sql(format!(
                "GROUP BY has {}, by which the sessions are not partitioned",
                without_places(&session_key)
            ))
            .with_hint(format!(
                "write SESSION(TABLE t PARTITION BY {}, …)",
                without_places(&session_key)
            )));
        }
        named.push(session_key);
    }
    match session_keys.iter().find(|key| !named.contains(key)) {
        None => Ok(()),
        Some(key) => Err(Error::sql(format!(
            "the sessions are partitioned by {0}, but GROUP BY has no {0}",
            without_places(key)
        ))
        .with_hint(format!("add {} to the GROUP BY", without_places(key)))),
    }
}

fn has_aggregate(plan: &Plan) -> bool {
    plan.exists(|p| Ok(p.downcast_ref::<AggregateExec>().is_some()))
        .unwrap_or(true)
}

/// Refuses an aggregate that has no single list of keys.
fn refuse_aggregate(aggregate: &AggregateExec) -> Result<()> {
    let group = aggregate.group_expr();
    if group.has_grouping_set() || !group.is_single() {
        return Err(Error::sql(
            "GROUPING SETS, ROLLUP and CUBE are not supported over a stream yet",
        )
        .with_hint("write one INSERT for each set of columns"));
    }
    if !matches!(
        aggregate.mode(),
        AggregateMode::Single | AggregateMode::SinglePartitioned
    ) {
        return Err(Error::bug(format!(
            "an aggregate in mode {:?}",
            aggregate.mode()
        )));
    }
    Ok(())
}

fn describe(aggregate: &AggregateExec) -> String {
    let groups: Vec<&str> = aggregate
        .group_expr()
        .expr()
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    let functions: Vec<&str> = aggregate
        .aggr_expr()
        .iter()
        .map(|f| f.human_display().unwrap_or(f.name()))
        .collect();
    format!("{} by {}", functions.join(", "), groups.join(", "))
}
