//! What may stand between `SESSION(TABLE t …)` and the GROUP BY over its rows.
//!
//! There it would take rows out of sessions that are made; the planner moves filters below, where
//! they take them out before, and other sessions come of it. So only what takes whole sessions out
//! is let through. (`GROUP BY SESSION(ts, gap)` has its WHERE below, as it stands there.)

use super::errors::internal;
use super::markers::{self, Kind};
use crate::error::{Error, Result};
use datafusion_common::Column;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
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
                let outer = outer_columns(&filter.predicate).map_err(internal)?;
                let mut used = filter.predicate.column_refs().into_iter().chain(&outer);
                if let Some(column) = used.find(|c| !is_whole(c, &filter.input, columns)) {
                    return Err(Error::sql(format!("a condition on '{}' would take rows out of sessions that are made", column.name))
                        .with_hint("filter before: SESSION over a view with the WHERE; or count with FILTER (WHERE …)"));
                }
            }
            Ok(input)
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Unnest(unnest) => {
            let Some(columns) = whole(&unnest.input)? else {
                return Ok(None);
            };
            if !unnest.options.preserve_nulls() {
                return Err(Error::sql("UNNEST would take rows with empty lists out of sessions that are made")
                    .with_hint("unnest before: SESSION over a view with the UNNEST; or write LEFT JOIN UNNEST, which takes no rows out"));
            }
            let is_list = |i: &usize| unnest.list_type_columns.iter().any(|(list, _)| list == i);
            let of_input = |i: &usize| columns[*i] && !is_list(i);
            Ok(Some(
                unnest.dependency_indices.iter().map(of_input).collect(),
            ))
        }
        other => {
            for input in other.inputs() {
                whole(input)?;
            }
            Ok(None)
        }
    }
}

/// The columns that subqueries in an expression ask for.
fn outer_columns(expr: &Expr) -> datafusion_common::Result<Vec<Column>> {
    let mut columns = Vec::new();
    expr.apply(|expr| {
        let outer = match expr {
            Expr::Exists(exists) => &exists.subquery.outer_ref_columns,
            Expr::InSubquery(within) => &within.subquery.outer_ref_columns,
            Expr::ScalarSubquery(subquery) => &subquery.outer_ref_columns,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        columns.extend(outer.iter().filter_map(|outer| match outer {
            Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
            _ => None,
        }));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
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
