//! `FROM t CROSS JOIN UNNEST(t.list) AS x (e)`: a join with what each row itself holds. DataFusion
//! plans it as a subquery over one empty row that refers to the row outside; here the rows outside
//! take the empty row's place.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, JoinType, Result};
use datafusion_expr::logical_plan::builder::unnest_with_options;
use datafusion_expr::logical_plan::{Join, Projection};
use datafusion_expr::{Expr, LogicalPlan};
use std::sync::Arc;

/// Rewrites all such joins of a plan that is not optimised yet; others stay.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Join(join) = &node else {
            return Ok(Transformed::no(node));
        };
        Ok(match grafted(join)? {
            Some(other) => Transformed::yes(other),
            None => Transformed::no(node),
        })
    });
    Ok(rewritten?.data)
}

fn grafted(join: &Join) -> Result<Option<LogicalPlan>> {
    let is_true = |filter: &Expr| filter.as_literal().is_some_and(|l| *l == true.into());
    let crosses = join.join_type == JoinType::Inner
        && join.on.is_empty()
        && join.filter.as_ref().is_none_or(is_true);
    if !crosses {
        return Ok(None);
    }
    let Some((plan, own)) = graft(&join.right, &join.left)? else {
        return Ok(None);
    };
    let columns = join.left.schema().columns().into_iter().chain(own);
    let exprs = columns.map(Expr::Column).collect();
    let projection = Projection::try_new(exprs, Arc::new(plan))?;
    Ok(Some(LogicalPlan::Projection(projection)))
}

/// `plan` over the rows of `rows`, whose columns it gives on, and its own columns. `None` when it does
/// more than take lists apart, or does not begin with one empty row.
fn graft(plan: &LogicalPlan, rows: &LogicalPlan) -> Result<Option<(LogicalPlan, Vec<Column>)>> {
    let below = match plan {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
            return Ok(Some((rows.clone(), Vec::new())));
        }
        LogicalPlan::Subquery(subquery) => return graft(&subquery.subquery, rows),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) => {
            plan.inputs()[0]
        }
        _ => return Ok(None),
    };
    let Some((input, own)) = graft(below, rows)? else {
        return Ok(None);
    };
    let kept = rows.schema().columns().into_iter().map(Expr::Column);
    let exprs: Vec<Expr> = match plan {
        LogicalPlan::Projection(projection) => {
            let exprs = projection.expr.iter().cloned().map(of_row);
            exprs.chain(kept.map(Ok)).collect::<Result<_>>()?
        }
        LogicalPlan::Unnest(unnest) => {
            let (columns, options) = (unnest.exec_columns.clone(), unnest.options.clone());
            let plan = unnest_with_options(input, columns, options)?;
            return Ok(Some((plan, unnest.schema.columns())));
        }
        _ => {
            let renamed = own.into_iter().zip(plan.schema().columns());
            let renamed =
                renamed.map(|(own, to)| Expr::Column(own).alias_qualified(to.relation, to.name));
            renamed.chain(kept).collect()
        }
    };
    let projection = Projection::try_new(exprs, Arc::new(input))?;
    let projection = LogicalPlan::Projection(projection);
    Ok(Some((projection, plan.schema().columns())))
}

/// An expression that refers to the row outside, over that row.
fn of_row(expr: Expr) -> Result<Expr> {
    let name = expr.schema_name().to_string();
    let inside = expr.transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })?;
    Ok(match inside.transformed {
        true => inside.data.alias_if_changed(name)?,
        false => inside.data,
    })
}
