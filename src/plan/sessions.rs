//! What may stand between `SESSION(TABLE t …)` and the GROUP BY over its rows.
//!
//! There it would take rows out of sessions that are made; the planner moves filters below, where
//! they take them out before, and other sessions come of it. So only what takes whole sessions out
//! is let through. (`GROUP BY SESSION(ts, gap)` has its WHERE below, as it stands there.)

use super::markers::{self, Kind};
use crate::error::{Error, Result};
use datafusion_common::Column;
use datafusion_expr::{Expr, Join, JoinType, LogicalPlan, Projection};

/// Refuses what would take single rows out of sessions.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    whole(plan).map(|_| ())
}

/// For each column of rows with sessions whether all rows of a session have the same; `None`: there
/// are no sessions.
fn whole(plan: &LogicalPlan) -> Result<Option<Vec<bool>>> {
    match plan {
        LogicalPlan::Projection(projection) => project(projection),
        LogicalPlan::SubqueryAlias(alias) => whole(&alias.input),
        LogicalPlan::Filter(filter) => {
            let input = whole(&filter.input)?;
            if let Some(columns) = &input {
                let mut used = filter.predicate.column_refs().into_iter();
                if let Some(column) = used.find(|c| !is_whole(c, &filter.input, columns)) {
                    return Err(Error::sql(format!("a condition on '{}' would take rows out of sessions that are made", column.name))
                        .with_hint("filter before: SESSION over a view with the WHERE; or count with FILTER (WHERE …)"));
                }
            }
            Ok(input)
        }
        LogicalPlan::Join(join) => joined(join),
        other => {
            for input in other.inputs() {
                whole(input)?;
            }
            Ok(None)
        }
    }
}

fn is_whole(column: &Column, plan: &LogicalPlan, columns: &[bool]) -> bool {
    let index = plan.schema().index_of_column(column);
    index.is_ok_and(|index| columns[index])
}

fn project(projection: &Projection) -> Result<Option<Vec<bool>>> {
    let input = whole(&projection.input)?;
    let keys = projection.expr.iter().find_map(session_keys);
    if input.is_none() && keys.is_none() {
        return Ok(None);
    }
    let of = |expr: &Expr| {
        let is_key = keys.is_some_and(|keys| keys.contains(expr));
        let mut used = expr.column_refs().into_iter();
        let of_input = |columns: &Vec<bool>| used.all(|c| is_whole(c, &projection.input, columns));
        is_key || session_keys(expr).is_some() || input.as_ref().is_some_and(of_input)
    };
    Ok(Some(projection.expr.iter().map(of).collect()))
}

/// Of a column of `SESSION(TABLE t PARTITION BY …)` what it is partitioned by.
fn session_keys(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => session_keys(&alias.expr),
        Expr::ScalarFunction(call) => {
            let marker = markers::of(call)?;
            (marker.kind == Kind::SessionBy).then(|| &call.args[2..])
        }
        _ => None,
    }
}

fn joined(join: &Join) -> Result<Option<Vec<bool>>> {
    let (left, right) = (whole(&join.left)?, whole(&join.right)?);
    let width = join.right.schema().fields().len();
    match (left, right) {
        (None, None) => Ok(None),
        (Some(left), None) if join.join_type == JoinType::Left => {
            Ok(Some([left, vec![false; width]].concat()))
        }
        _ => Err(
            Error::sql("a join would take rows out of sessions that are made").with_hint(
                "join before: SESSION over a view with the JOIN; or write LEFT JOIN, which takes no rows out",
            ),
        ),
    }
}
