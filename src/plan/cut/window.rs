//! The window's columns below the aggregate: which columns they are, and where they may not stand.

use super::{Chain, Cutter};
use crate::error::{Error, Result};
use crate::plan::errors::internal;
use crate::plan::markers::{self, Marker, Part};
use crate::window::Assign;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// Which of a window's columns, the windows, and the event time's expression.
pub(super) type WindowColumn = (Part, Assign, Arc<dyn PhysicalExpr>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnTrait {
    Plain,
    /// The stream's event time itself.
    EventTime,
    /// Stands for a column of the window; at run time it holds the event time.
    Window {
        part: Part,
        assign: Assign,
    },
}

impl Cutter<'_> {
    /// When `expr` is a window's column: which, the windows, and the event time expression.
    pub(super) fn window_column(
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

    pub(super) fn check_event_time(
        &self,
        time: &Arc<dyn PhysicalExpr>,
        traits: &[ColumnTrait],
    ) -> Result<()> {
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

/// The event time column itself, or a cast of it to a timestamp.
pub(super) fn is_event_time(expr: &Arc<dyn PhysicalExpr>, traits: &[ColumnTrait]) -> bool {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return traits[column.index()] == ColumnTrait::EventTime;
    }
    expr.downcast_ref::<CastExpr>().is_some_and(|c| {
        matches!(c.cast_type(), DataType::Timestamp(..)) && is_event_time(c.expr(), traits)
    })
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

pub(super) fn in_micros(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    if expr.data_type(schema).map_err(internal)? == MICROS {
        return Ok(expr);
    }
    datafusion_physical_expr::expressions::cast(expr, schema, MICROS).map_err(internal)
}

/// When `expr` is a call of a window marker: its part, its windows and its time argument.
pub(super) fn marker(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<WindowColumn>> {
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
pub(super) fn refuse_sliding_marker(expr: &Arc<dyn PhysicalExpr>) -> Result<()> {
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
pub(super) fn refuse_window_use(
    expr: &Arc<dyn PhysicalExpr>,
    chain: &Chain,
    place: &str,
) -> Result<()> {
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
