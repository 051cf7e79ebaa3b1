//! What stands between the stream and its aggregate, as row-wise stages.

use super::window::{
    ColumnTrait, in_micros, is_event_time, is_shown, marker, refuse_sliding_marker,
    refuse_window_use,
};
use super::{Cutter, Plan, streams_of};
use crate::batches::only_true;
use crate::error::{Error, Result};
use crate::plan::elements::Elements;
use crate::plan::errors::internal;
use crate::plan::leaf::{Leaf, LeafKind};
use crate::plan::lookup::Lookup;
use crate::plan::markers::{self, PARTS, Part};
use crate::plan::stages::{self, Stage};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::JoinSide;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::joins::HashJoinExec;
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::unnest::UnnestExec;
use std::sync::Arc;

/// Row-wise stages over columns of the stream.
#[derive(Debug)]
pub struct Chain {
    /// The place of the stream among those of the query.
    pub stream: usize,
    /// Columns of the stream's table, in the order in which the first stage sees them.
    pub columns: Vec<String>,
    pub stages: Vec<Stage>,
    pub schema: SchemaRef,
    /// For each output column: what is known of it.
    pub(super) traits: Vec<ColumnTrait>,
    /// Predicates on window columns alone: a window for which one is false has no result.
    pub(super) window_filters: Vec<WindowFilter>,
}

/// A predicate, and which column of it is which of the window's.
type WindowFilter = (Arc<dyn PhysicalExpr>, Vec<(usize, Part)>);

impl Cutter<'_> {
    /// The stages from the stream's scan up to `plan`. With `windowed`, columns of windows are
    /// taken out (their place is held by the event time).
    pub(super) fn chain(&self, plan: &Plan, windowed: bool) -> Result<Chain> {
        if let Some(Leaf {
            kind: LeafKind::Scan { table, columns },
            ..
        }) = plan.downcast_ref::<Leaf>()
        {
            let known = self.streams.iter().position(|s| s.name == *table);
            let stream = known.ok_or_else(|| Error::bug(format!("{table} is no stream")))?;
            let traits = columns
                .iter()
                .map(|c| match &self.streams[stream].event_time {
                    Some(t) if t == c => ColumnTrait::EventTime,
                    _ => ColumnTrait::Plain,
                });
            return Ok(Chain {
                stream,
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
        if let Some(unnest) = plan.downcast_ref::<UnnestExec>() {
            let mut chain = self.chain(unnest.input(), windowed)?;
            let elements = Elements::try_new(unnest)?;
            chain.schema = unnest.schema();
            chain.traits[elements.column()] = ColumnTrait::Plain;
            chain.stages.push(Stage::Unnest(elements));
            return Ok(chain);
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
        let mut session_keys = Vec::new();
        for item in projection.expr() {
            session_keys.extend(marker(&item.expr)?.and_then(|w| w.keys).unwrap_or_default());
        }
        for (i, item) in projection.expr().iter().enumerate() {
            let field = projection.schema().field(i).clone();
            let (expr, kind) = if let Some(column) = item.expr.downcast_ref::<Column>() {
                let kind = match session_keys.contains(&item.expr.to_string()) {
                    true => ColumnTrait::SessionKey(item.expr.to_string()),
                    false => chain.traits[column.index()].clone(),
                };
                (item.expr.clone(), kind)
            } else if let Some(window) = marker(&item.expr)?.filter(|_| windowed) {
                self.check_event_time(&window.time, &chain)?;
                let kind = ColumnTrait::Window {
                    part: window.part,
                    assign: window.assign,
                    keys: window.keys,
                };
                (in_micros(window.time, &chain.schema)?, kind)
            } else {
                refuse_sliding_marker(&item.expr)?;
                refuse_window_use(&item.expr, &chain, "an expression below the GROUP BY")?;
                let kind = if is_event_time(&item.expr, &chain.traits) {
                    ColumnTrait::EventTime
                } else if is_shown(&item.expr, &chain.traits) {
                    ColumnTrait::Shown
                } else {
                    ColumnTrait::Plain
                };
                (item.expr.clone(), kind)
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
        let left_streams = streams_of(join.left(), self.streams);
        let right_streams = streams_of(join.right(), self.streams);
        let (left, right) = (!left_streams.is_empty(), !right_streams.is_empty());
        if left && right {
            let what = match left_streams == right_streams {
                true => "a stream with itself",
                false => "two streams",
            };
            return Err(
                Error::sql(format!("joining {what} row by row is not supported yet"))
                    .with_hint("join two aggregates over the same window instead"),
            );
        }
        let mut chain = self.chain(if left { join.left() } else { join.right() }, windowed)?;
        for (l, r) in join.on() {
            refuse_window_use(if left { l } else { r }, &chain, "a join condition")?;
        }
        let side = if left {
            JoinSide::Left
        } else {
            JoinSide::Right
        };
        let conditions = join.filter().map(|filter| filter.column_indices());
        for used in conditions.into_iter().flatten().filter(|c| c.side == side) {
            let of_stream = column(&chain.schema, used.index);
            refuse_window_use(&of_stream, &chain, "a join condition")?;
        }
        let lookup = Lookup::try_new(join, left)?;
        let (before, behind) = lookup.added();
        let plain = |columns| vec![ColumnTrait::Plain; columns];
        chain.traits = [plain(before), chain.traits, plain(behind)].concat();
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
}

impl Chain {
    /// Which of some windows the filters on window columns let through; `None`: all, there is none.
    pub fn passing(&self, start: &[i64], end: &[i64]) -> Result<Option<BooleanArray>> {
        if self.window_filters.is_empty() {
            return Ok(None);
        }
        let column = |part| -> (&str, ArrayRef) {
            let windows = start.iter().zip(end);
            let values = windows.map(|(s, e)| markers::value(part, *s, *e));
            (
                markers::name(part),
                Arc::new(TimestampMicrosecondArray::from_iter_values(values)),
            )
        };
        let windows = RecordBatch::try_from_iter(PARTS.map(column))?;
        let mut passing = BooleanArray::from(vec![true; start.len()]);
        for (predicate, parts) in &self.window_filters {
            let bound = predicate.clone().transform(|e| {
                let Some(column) = e.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(e));
                };
                let part = parts.iter().find(|(i, _)| *i == column.index());
                let place = PARTS
                    .iter()
                    .position(|p| part.is_some_and(|(_, part)| part == p));
                let place = place.unwrap_or_default();
                Ok(Transformed::yes(
                    Arc::new(Column::new(markers::name(PARTS[place]), place))
                        as Arc<dyn PhysicalExpr>,
                ))
            });
            let value = stages::evaluate(&bound.map_err(internal)?.data, &windows)?;
            passing = compute::and(&passing, &only_true(value.as_boolean()))?;
        }
        Ok(Some(passing))
    }
}

fn column(schema: &Schema, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// Why a node cannot stand between the stream and its aggregate (or at all, without one).
fn refused(plan: &Plan, windowed: bool) -> Error {
    let place = if windowed {
        "below the GROUP BY of a stream"
    } else {
        "over a stream without a window"
    };
    let name = plan.name();
    let limit = plan.downcast_ref::<GlobalLimitExec>();
    let (what, hint) = match name.split('(').next().unwrap_or(name) {
        "SortExec" => (
            "ORDER BY",
            "a stream has no end to sort at: aggregate by a window, or use --output-mode complete with a GROUP BY",
        ),
        "GlobalLimitExec" if limit.is_some_and(|limit| limit.skip() > 0) => (
            "OFFSET",
            "a stream's rows have no order to skip some of: write LIMIT alone",
        ),
        "GlobalLimitExec" => (
            "LIMIT within a query",
            "it works behind the outermost SELECT, where it ends the query after so many rows",
        ),
        "WindowAggExec" | "BoundedWindowAggExec" => (
            "OVER (…)",
            "aggregate by a window first, then use ROW_NUMBER() OVER (PARTITION BY window_start, window_end …) over its result",
        ),
        "CoalescePartitionsExec" => ("UNION", "write one INSERT for each part"),
        "NestedLoopJoinExec" | "CrossJoinExec" => (
            "a join without an equality",
            "join on an equality of columns",
        ),
        other => (other, "see the README for what works"),
    };
    Error::sql(format!("{what} is not supported {place}")).with_hint(hint)
}
