//! `x NOT IN (SELECT y … WHERE … outside.k = k)` as `NOT EXISTS (… AND (x = y OR x IS NULL OR y IS NULL))`, which
//! is true for the same rows: DataFusion's join for NOT IN has one key only, and knows no others.

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::{Exists, InSubquery};
use datafusion_expr::logical_plan::{Filter, Subquery};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use std::sync::Arc;

/// Rewrites the conditions of all WHEREs and HAVINGs.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = &node else {
            return Ok(Transformed::no(node));
        };
        let conditions = split_conjunction(&filter.predicate);
        let is_one = |condition: &&Expr| matches!(condition, Expr::InSubquery(of) if is_not_in(of));
        if !conditions.iter().any(is_one) {
            return Ok(Transformed::no(node));
        }
        let other = |condition: &Expr| match condition {
            Expr::InSubquery(of) if is_not_in(of) => not_exists(of, &filter.input),
            other => Ok(other.clone()),
        };
        let conditions = conditions.into_iter().map(other);
        let Some(predicate) = conjunction(conditions.collect::<Result<Vec<_>>>()?) else {
            return Ok(Transformed::no(node));
        };
        let filter = Filter::try_new(predicate, filter.input.clone())?;
        Ok(Transformed::yes(LogicalPlan::Filter(filter)))
    });
    Ok(rewritten?.data)
}

/// Those that ask for no row outside are DataFusion's.
fn is_not_in(of: &InSubquery) -> bool {
    of.negated && !of.subquery.outer_ref_columns.is_empty()
}

fn not_exists(of: &InSubquery, outside: &LogicalPlan) -> Result<Expr> {
    let mut outer_ref_columns = of.subquery.outer_ref_columns.clone();
    let x = of.expr.as_ref().clone().transform(|e| {
        let Expr::Column(column) = e else {
            return Ok(Transformed::no(e));
        };
        let (_, field) = Expr::Column(column.clone()).to_field(outside.schema())?;
        let outer = Expr::OuterReferenceColumn(field, column);
        if !outer_ref_columns.contains(&outer) {
            outer_ref_columns.push(outer.clone());
        }
        Ok(Transformed::yes(outer))
    });
    let x = x?.data;
    let rows = of.subquery.subquery.clone();
    let y = Expr::Column(rows.schema().columns().swap_remove(0));
    let is_null = x.clone().is_null().or(y.clone().is_null());
    let rows = Filter::try_new(x.eq(y).or(is_null), rows)?;
    Ok(Expr::Exists(Exists {
        subquery: Subquery {
            subquery: Arc::new(LogicalPlan::Filter(rows)),
            outer_ref_columns,
            spans: of.subquery.spans.clone(),
        },
        negated: true,
    }))
}
