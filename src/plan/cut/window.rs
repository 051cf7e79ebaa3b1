//! The window's columns below the aggregate: which columns they are, and where they may not stand.

use super::{Chain, Cutter};
use crate::error::{Error, Result};
use crate::plan::errors::{internal, refused};
use crate::plan::functions::CUT_TIME;
use crate::plan::markers::{self, Kind, Marker, Part};
use crate::plan::row_windows;
use crate::window::Assign;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// A column of a window.
pub(super) struct WindowColumn {
    pub part: Part,
    pub assign: Assign,
    /// The event time's expression.
    pub time: Arc<dyn PhysicalExpr>,
    /// The columns whose combinations have sessions of their own; `None`: the groups.
    pub keys: Option<SessionKeys>,
}

/// Columns that sessions are partitioned by, by their expressions below the sessions.
pub(super) type SessionKeys = Vec<String>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnTrait {
    Plain,
    /// The stream's event time itself.
    EventTime,
    /// A column of the window that a row stands in, of those that it is once in each of.
    Shown,
    /// One that sessions are partitioned by.
    SessionKey(String),
    /// Stands for a column of the window; at run time it holds the event time.
    Window {
        part: Part,
        assign: Assign,
        keys: Option<SessionKeys>,
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
                ColumnTrait::Window { part, assign, keys } => Some(WindowColumn {
                    part: *part,
                    assign: *assign,
                    time: expr.clone(),
                    keys: keys.clone(),
                }),
                _ => None,
            });
        }
        let Some(mut column) = marker(expr)? else {
            return Ok(None);
        };
        self.check_event_time(&column.time, chain)?;
        column.time = in_micros(column.time, &chain.schema)?;
        Ok(Some(column))
    }

    pub(super) fn check_event_time(
        &self,
        time: &Arc<dyn PhysicalExpr>,
        chain: &Chain,
    ) -> Result<()> {
        if is_event_time(time, &chain.traits) {
            return Ok(());
        }
        let stream = &self.streams[chain.stream];
        let table = &stream.name;
        Err(match &stream.event_time {
            Some(column) => Error::sql(format!("the window is over {time}, but the event time of {table} is '{column}'"))
                .with_hint("a window's time must be the column that the WATERMARK is declared for"),
            None => Error::sql(format!("table {table} has no watermark, so no window over it can ever be final"))
                .with_hint("declare WATERMARK FOR ts AS ts - INTERVAL '5' SECOND in CREATE TABLE, or FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS"),
        })
    }
}

/// Whether an expression is a column of the window that a row stands in.
pub(super) fn is_shown(expr: &Arc<dyn PhysicalExpr>, traits: &[ColumnTrait]) -> bool {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return traits[column.index()] == ColumnTrait::Shown;
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>();
    call.is_some_and(|call| row_windows::gives_window(call.fun()))
}

/// The event time column itself, or a cast of it to a timestamp.
pub(super) fn is_event_time(expr: &Arc<dyn PhysicalExpr>, traits: &[ColumnTrait]) -> bool {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return traits[column.index()] == ColumnTrait::EventTime;
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return call.name() == CUT_TIME && is_event_time(&call.args()[0], traits);
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

/// When `expr` is a call of a window marker: what its column is.
pub(super) fn marker(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<WindowColumn>> {
    let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else {
        return Ok(None);
    };
    let Some(found) = call.fun().inner().downcast_ref::<Marker>() else {
        return Ok(None);
    };
    let (constants, keys) = call.args()[1..].split_at(found.kind.constants(call.args().len() - 1));
    let constants: Option<Vec<ScalarValue>> = constants
        .iter()
        .map(|a| a.downcast_ref::<Literal>().map(|l| l.value().clone()))
        .collect();
    let Some(constants) = constants else {
        let what = match found.kind {
            Kind::Session | Kind::SessionBy => "the gap of a session",
            _ => "the size of a window",
        };
        return Err(Error::sql(format!("{what} must be a constant")));
    };
    let assign = markers::assign(found.kind, &constants).map_err(refused)?;
    let keys = keys.iter().map(|key| key.to_string()).collect();
    Ok(Some(WindowColumn {
        part: found.part,
        assign,
        time: call.args()[0].clone(),
        keys: (found.kind == Kind::SessionBy).then_some(keys),
    }))
}

/// Refuses a marker of a sliding window inside a larger expression.
pub(super) fn refuse_sliding_marker(expr: &Arc<dyn PhysicalExpr>) -> Result<()> {
    let mut refused = Ok(());
    let visited = expr.apply(|e| {
        match marker(e) {
            Ok(Some(column)) if !column.assign.is_tumbling() => {
                let kind = match column.assign.is_session() {
                    true => "session",
                    false => "sliding window",
                };
                refused = Err(Error::sql(format!("a column of a {kind} cannot be used before the GROUP BY"))
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
