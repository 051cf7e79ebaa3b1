//! Cuts DataFusion's batch plan of one query at its aggregates.
//!
//! Below an aggregate: row-wise stages that a worker runs on each batch. The aggregate itself:
//! a window table. Above: a plan that runs over the closed windows. What cannot be cut so that
//! the streaming result equals the batch result is refused here, with its reason.

use super::accumulate::{AggregateFactory, AggregateSpec};
use super::errors::internal;
use super::leaf::{Leaf, LeafKind};
use super::lookup::Lookup;
use super::markers::{self, Marker, Part};
use super::stages::{AggregateInput, Stage};
use crate::error::{Error, Result};
use crate::window::Assign;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, aggregate_expressions};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use std::sync::Arc;

pub type Plan = Arc<dyn ExecutionPlan>;

/// The stream that a query reads: one table, and the column that is its event time.
#[derive(Debug, Clone)]
pub struct StreamTable {
    pub name: String,
    pub event_time: Option<String>,
}

/// Row-wise stages over columns of the stream.
#[derive(Debug)]
pub struct Chain {
    /// Columns of the stream's table, in the order in which the first stage sees them.
    pub columns: Vec<String>,
    pub stages: Vec<Stage>,
    pub schema: SchemaRef,
    /// For each output column: what is known of it.
    traits: Vec<ColumnTrait>,
    /// Predicates on window columns alone: a window for which one is false has no result.
    window_filters: Vec<WindowFilter>,
}

/// A predicate, and which column of it is which of the window's.
type WindowFilter = (Arc<dyn PhysicalExpr>, Vec<(usize, Part)>);
/// Which of a window's columns, the windows, and the event time's expression.
type WindowColumn = (Part, Assign, Arc<dyn PhysicalExpr>);

#[derive(Debug, Clone, PartialEq)]
enum ColumnTrait {
    Plain,
    /// The stream's event time itself.
    EventTime,
    /// Stands for a column of the window; at run time it holds the event time.
    Window {
        part: Part,
        assign: Assign,
    },
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

/// Cuts `plan`, in which `stream` is the only table that is not loaded whole.
pub fn cut(plan: &Plan, stream: &StreamTable) -> Result<Cut> {
    let mut cutter = Cutter {
        stream,
        aggregates: Vec::new(),
        leaves: Vec::new(),
    };
    let finish = cutter.replace_aggregates(plan)?;
    if !cutter.aggregates.is_empty() {
        if reads_stream(&finish, stream) {
            return Err(
                Error::sql("a stream cannot be joined with its own aggregate yet")
                    .with_hint("write the aggregate to a Kafka topic and join in a second query"),
            );
        }
        return Ok(Cut::Aggregated {
            aggregates: cutter.aggregates,
            finish,
            leaves: cutter.leaves,
        });
    }
    let (input, limit) = peel_limit(plan);
    let chain = cutter.chain(&input, false)?;
    Ok(Cut::Stateless { chain, limit })
}

fn reads_stream(plan: &Plan, stream: &StreamTable) -> bool {
    let mut found = false;
    let visited = plan.apply(|node| {
        if let Some(Leaf {
            kind: LeafKind::Scan { table, .. },
            ..
        }) = node.downcast_ref::<Leaf>()
        {
            found |= *table == stream.name;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found || visited.is_err()
}

/// `LIMIT n` at the top of a plan without ORDER BY.
fn peel_limit(plan: &Plan) -> (Plan, Option<usize>) {
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

struct Cutter<'a> {
    stream: &'a StreamTable,
    aggregates: Vec<AggregatePlan>,
    leaves: Vec<Leaf>,
}

impl Cutter<'_> {
    /// Replaces the lowest aggregates over the stream by leaves.
    fn replace_aggregates(&mut self, plan: &Plan) -> Result<Plan> {
        let children: Vec<Plan> = plan.children().into_iter().cloned().collect();
        let lowest = |p: &Plan| !children.iter().any(has_aggregate) && reads_stream(p, self.stream);
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
        let mut chain = self.chain(aggregate.input(), true)?;
        let input_schema = aggregate.input_schema();
        let (mut keys, mut key_fields, mut group_columns) = (Vec::new(), Vec::new(), Vec::new());
        let mut window: Option<(Assign, Arc<dyn PhysicalExpr>)> = None;
        for (expr, name) in group.expr() {
            if let Some((part, assign, time)) = self.window_column(expr, &chain)? {
                if window.as_ref().is_some_and(|(a, _)| *a != assign) {
                    return Err(Error::sql("one GROUP BY cannot hold two different windows")
                        .with_hint("aggregate by the smaller window first, then by the larger one over its result"));
                }
                window = Some((assign, time));
                group_columns.push(Some(part));
                continue;
            }
            refuse_window_use(expr, &chain, "GROUP BY")?;
            let (data_type, nullable) = (
                expr.data_type(&input_schema).map_err(internal)?,
                expr.nullable(&input_schema).map_err(internal)?,
            );
            key_fields.push(Field::new(name, data_type, nullable));
            keys.push(expr.clone());
            group_columns.push(None);
        }
        let args = aggregate_expressions(aggregate.aggr_expr(), &AggregateMode::Partial, 0)
            .map_err(internal)?;
        for expr in args
            .iter()
            .flatten()
            .chain(aggregate.filter_expr().iter().flatten())
        {
            refuse_window_use(expr, &chain, "an aggregate function")?;
        }
        let (assign, time) = match window {
            Some((assign, time)) => (assign, Some(time)),
            None => (Assign::Global, None),
        };
        if assign == Assign::Global && !chain.window_filters.is_empty() {
            return Err(
                Error::sql("a filter on window columns needs the window in GROUP BY")
                    .with_hint("add window_start, window_end to the GROUP BY"),
            );
        }
        chain.traits.clear();
        let spec = AggregateSpec::try_new(
            Arc::new(Schema::new(key_fields)),
            aggregate.aggr_expr().to_vec(),
        )?;
        Ok(AggregatePlan {
            input: AggregateInput {
                time,
                keys,
                args,
                filters: aggregate.filter_expr().to_vec(),
            },
            factory: AggregateFactory(Arc::new(spec)),
            assign,
            schema: aggregate.schema(),
            group_columns,
            text: describe(aggregate),
            chain,
        })
    }

    /// When `expr` is a window's column: which, the windows, and the event time expression.
    fn window_column(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        chain: &Chain,
    ) -> Result<Option<WindowColumn>> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return Ok(match &chain.traits[column.index()] {
                ColumnTrait::Window { part, assign } => Some((*part, *assign, expr.clone())),
                _ => None,
            });
        }
        match marker(expr)? {
            Some((part, assign, time)) => {
                self.check_event_time(&time, &chain.traits)?;
                Ok(Some((part, assign, in_micros(time, &chain.schema)?)))
            }
            None => Ok(None),
        }
    }

    /// The stages from the stream's scan up to `plan`. With `windowed`, columns of windows are
    /// taken out (their place is held by the event time).
    fn chain(&self, plan: &Plan, windowed: bool) -> Result<Chain> {
        if let Some(Leaf {
            kind: LeafKind::Scan { table, columns },
            ..
        }) = plan.downcast_ref::<Leaf>()
        {
            debug_assert_eq!(*table, self.stream.name);
            let traits = columns.iter().map(|c| match &self.stream.event_time {
                Some(t) if t == c => ColumnTrait::EventTime,
                _ => ColumnTrait::Plain,
            });
            return Ok(Chain {
                traits: traits.collect(),
                columns: columns.clone(),
                stages: Vec::new(),
                schema: plan.schema(),
                window_filters: Vec::new(),
            });
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            return self.filter(filter, windowed);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            return self.project(projection, windowed);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            return self.join(join, windowed);
        }
        if plan.downcast_ref::<CooperativeExec>().is_some() || plan.name() == "CoalesceBatchesExec"
        {
            return self.chain(plan.children()[0], windowed);
        }
        Err(refused(plan, windowed))
    }

    fn filter(&self, filter: &FilterExec, windowed: bool) -> Result<Chain> {
        let mut chain = self.chain(filter.input(), windowed)?;
        let projection = filter.projection().as_ref().map(|p| p.to_vec());
        let predicate = filter.predicate().clone();
        let used = collect_columns(&predicate);
        let window_parts: Vec<(usize, Part)> = used
            .iter()
            .filter_map(|c| match &chain.traits[c.index()] {
                ColumnTrait::Window { part, .. } => Some((c.index(), *part)),
                _ => None,
            })
            .collect();
        if window_parts.is_empty() {
            refuse_sliding_marker(&predicate)?;
            chain.stages.push(Stage::Filter {
                predicate,
                projection: projection.clone(),
            });
        } else if window_parts.len() == used.len() {
            chain.window_filters.push((predicate, window_parts));
            if let Some(columns) = &projection {
                let exprs = columns.iter().map(|i| column(&chain.schema, *i)).collect();
                chain.stages.push(Stage::Project {
                    exprs,
                    schema: Arc::new(chain.schema.project(columns)?),
                });
            }
        } else {
            return Err(Error::sql("a condition on window columns and on other columns together is not supported below the GROUP BY")
                .with_hint("put the condition on window_start or window_end into HAVING"));
        }
        if let Some(columns) = projection {
            chain.schema = Arc::new(chain.schema.project(&columns)?);
            chain.traits = columns.iter().map(|i| chain.traits[*i].clone()).collect();
        }
        Ok(chain)
    }

    fn project(&self, projection: &ProjectionExec, windowed: bool) -> Result<Chain> {
        let mut chain = self.chain(projection.input(), windowed)?;
        let (mut exprs, mut traits, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        for (i, item) in projection.expr().iter().enumerate() {
            let field = projection.schema().field(i).clone();
            let (expr, kind) = if let Some(column) = item.expr.downcast_ref::<Column>() {
                (item.expr.clone(), chain.traits[column.index()].clone())
            } else if let Some((part, assign, time)) = marker(&item.expr)?.filter(|_| windowed) {
                self.check_event_time(&time, &chain.traits)?;
                (
                    in_micros(time, &chain.schema)?,
                    ColumnTrait::Window { part, assign },
                )
            } else {
                refuse_sliding_marker(&item.expr)?;
                refuse_window_use(&item.expr, &chain, "an expression below the GROUP BY")?;
                let time = is_event_time(&item.expr, &chain.traits);
                (
                    item.expr.clone(),
                    if time {
                        ColumnTrait::EventTime
                    } else {
                        ColumnTrait::Plain
                    },
                )
            };
            exprs.push(expr);
            traits.push(kind);
            fields.push(field);
        }
        chain.schema = Arc::new(Schema::new(fields));
        chain.stages.push(Stage::Project {
            exprs,
            schema: chain.schema.clone(),
        });
        chain.traits = traits;
        Ok(chain)
    }

    fn join(&self, join: &HashJoinExec, windowed: bool) -> Result<Chain> {
        let (left, right) = (
            reads_stream(join.left(), self.stream),
            reads_stream(join.right(), self.stream),
        );
        if left && right {
            return Err(
                Error::sql("joining a stream with itself row by row is not supported")
                    .with_hint("join two aggregates over the same window instead"),
            );
        }
        let mut chain = self.chain(if left { join.left() } else { join.right() }, windowed)?;
        for (l, r) in join.on() {
            refuse_window_use(if left { l } else { r }, &chain, "a join condition")?;
        }
        let lookup = Lookup::try_new(join, left)?;
        let table_traits = vec![ColumnTrait::Plain; lookup.table.schema().fields().len()];
        chain.traits = if left {
            [chain.traits, table_traits].concat()
        } else {
            [table_traits, chain.traits].concat()
        };
        if let Some(projection) = &join.projection {
            chain.traits = projection
                .iter()
                .map(|i| chain.traits[*i].clone())
                .collect();
        }
        chain.stages.push(Stage::Lookup(Box::new(lookup)));
        chain.schema = join.schema();
        Ok(chain)
    }

    fn check_event_time(&self, time: &Arc<dyn PhysicalExpr>, traits: &[ColumnTrait]) -> Result<()> {
        if is_event_time(time, traits) {
            return Ok(());
        }
        let table = &self.stream.name;
        Err(match &self.stream.event_time {
            Some(column) => Error::sql(format!("the window is over {time}, but the event time of {table} is '{column}'"))
                .with_hint("a window's time must be the column that the WATERMARK is declared for"),
            None => Error::sql(format!("table {table} has no watermark, so no window over it can ever be final"))
                .with_hint("declare WATERMARK FOR ts AS ts - INTERVAL '5' SECOND in CREATE TABLE, or FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS"),
        })
    }
}

fn has_aggregate(plan: &Plan) -> bool {
    plan.exists(|p| Ok(p.downcast_ref::<AggregateExec>().is_some()))
        .unwrap_or(true)
}

/// The event time column itself, or a cast of it to a timestamp.
fn is_event_time(expr: &Arc<dyn PhysicalExpr>, traits: &[ColumnTrait]) -> bool {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return traits[column.index()] == ColumnTrait::EventTime;
    }
    expr.downcast_ref::<CastExpr>().is_some_and(|c| {
        matches!(c.cast_type(), DataType::Timestamp(..)) && is_event_time(c.expr(), traits)
    })
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn in_micros(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    if expr.data_type(schema).map_err(internal)? == MICROS {
        return Ok(expr);
    }
    datafusion::physical_expr::expressions::cast(expr, schema, MICROS).map_err(internal)
}

/// When `expr` is a call of a window marker: its part, its windows and its time argument.
fn marker(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<WindowColumn>> {
    let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else {
        return Ok(None);
    };
    let Some(found) = call.fun().inner().downcast_ref::<Marker>() else {
        return Ok(None);
    };
    let constants: Option<Vec<ScalarValue>> = call.args()[1..]
        .iter()
        .map(|a| a.downcast_ref::<Literal>().map(|l| l.value().clone()))
        .collect();
    let Some(constants) = constants else {
        return Err(Error::sql("the size of a window must be a constant"));
    };
    let assign =
        markers::assign(found.kind, &constants).map_err(|e| Error::sql(e.strip_backtrace()))?;
    Ok(Some((found.part, assign, call.args()[0].clone())))
}

/// Refuses a marker of a sliding window inside a larger expression.
fn refuse_sliding_marker(expr: &Arc<dyn PhysicalExpr>) -> Result<()> {
    let mut refused = Ok(());
    let visited = expr.apply(|e| {
        match marker(e) {
            Ok(Some((_, assign, _))) if !assign.is_tumbling() => {
                refused = Err(Error::sql("a column of a sliding window cannot be used before the GROUP BY")
                    .with_hint("group by window_start, window_end and use them in the SELECT list or in HAVING"));
            }
            Ok(_) => {}
            Err(e) => refused = Err(e),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(internal)?;
    refused
}

/// Refuses the use of a window's column in `place`, where only the event time is at hand.
fn refuse_window_use(expr: &Arc<dyn PhysicalExpr>, chain: &Chain, place: &str) -> Result<()> {
    let uses = collect_columns(expr).iter().any(|c| {
        matches!(
            chain.traits.get(c.index()),
            Some(ColumnTrait::Window { .. })
        )
    });
    if uses {
        return Err(Error::sql(format!("a column of the window cannot be used in {place}"))
            .with_hint("group by window_start, window_end themselves and use expressions over them in the SELECT list"));
    }
    Ok(())
}

fn column(schema: &Schema, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

impl Chain {
    /// Evaluates the filters on window columns for one window.
    pub fn window_passes(&self, start: i64, end: i64) -> Result<bool> {
        for (predicate, parts) in &self.window_filters {
            let bound = predicate.clone().transform(|e| {
                let Some(column) = e.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(e));
                };
                let part = parts
                    .iter()
                    .find(|(i, _)| *i == column.index())
                    .map_or(Part::Start, |(_, p)| *p);
                let value =
                    ScalarValue::TimestampMicrosecond(Some(markers::value(part, start, end)), None);
                Ok(Transformed::yes(
                    Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>
                ))
            });
            let one = arrow::record_batch::RecordBatch::try_new_with_options(
                Arc::new(Schema::empty()),
                vec![],
                &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1)),
            )?;
            let value = super::stages::evaluate(&bound.map_err(internal)?.data, &one)?;
            let value = arrow::array::AsArray::as_boolean(&value);
            if !(arrow::array::Array::is_valid(value, 0) && value.value(0)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
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

/// Why a node cannot stand between the stream and its aggregate (or at all, without one).
fn refused(plan: &Plan, windowed: bool) -> Error {
    let place = if windowed {
        "below the GROUP BY of a stream"
    } else {
        "over a stream without a window"
    };
    let name = plan.name();
    let (what, hint) = match name {
        "SortExec" | "SortPreservingMergeExec" => (
            "ORDER BY",
            "a stream has no end to sort at: aggregate by a window, or use --output-mode complete with a GROUP BY",
        ),
        "GlobalLimitExec" | "LocalLimitExec" => ("LIMIT", "LIMIT works at the top of a query"),
        "WindowAggExec" | "BoundedWindowAggExec" | "PartitionedTopKExec" => (
            "OVER (…)",
            "aggregate by a window first, then use ROW_NUMBER() OVER (PARTITION BY window_start, window_end …) over its result",
        ),
        "UnionExec" | "InterleaveExec" => ("UNION", "write one INSERT for each part"),
        "NestedLoopJoinExec" | "CrossJoinExec" => (
            "a join without an equality",
            "join on an equality of columns",
        ),
        "SortMergeJoinExec" | "SymmetricHashJoinExec" => (
            "a join of two streams",
            "join a stream with a table of the filesystem connector",
        ),
        "UnnestExec" => (
            "UNNEST",
            "read the elements by index, or write them as rows of their own",
        ),
        other => (other, "see the README for what works"),
    };
    Error::sql(format!("{what} is not supported {place}")).with_hint(hint)
}
