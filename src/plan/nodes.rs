//! Nodes of logical plans that more than one rewrite makes.

use datafusion_common::{Column, Result, UnnestOptions};
use datafusion_expr::logical_plan::Projection;
use datafusion_expr::logical_plan::builder::unnest_with_options;
use datafusion_expr::{Expr, LogicalPlan};
use std::sync::Arc;

pub fn project(input: impl Into<Arc<LogicalPlan>>, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    let projection = Projection::try_new(exprs, input.into())?;
    Ok(LogicalPlan::Projection(projection))
}

/// The columns of a plan.
pub fn columns(plan: &LogicalPlan) -> impl Iterator<Item = Expr> {
    plan.schema().columns().into_iter().map(Expr::Column)
}

/// Each row once for each element of `list`, which stands behind the row's columns as `name`.
pub fn for_each(input: &Arc<LogicalPlan>, list: Expr, name: &str) -> Result<LogicalPlan> {
    let exprs = columns(input).chain([list.alias(name)]).collect();
    let listed = project(input.clone(), exprs)?;
    let elements = vec![Column::from_name(name)];
    unnest_with_options(listed, elements, UnnestOptions::default())
}

/// An expression without its names.
pub fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
