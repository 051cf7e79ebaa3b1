//! By which columns what is above some rows takes them together, and which columns are windows.

use super::{BinaryExpr, Column, Expr, LogicalPlan, Operator, markers};
use crate::plan::markers::{Kind, Marker};
use crate::plan::nodes::unaliased;
use crate::plan::over;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DFSchemaRef, Result};
use datafusion_expr::logical_plan::{Distinct, Filter};
use datafusion_expr::utils::split_conjunction;

/// For each input of a node, the columns by which it or what is above it groups rows.
/// `outer`: in a subquery, the rows that it is asked for.
pub(super) fn below(
    plan: &LogicalPlan,
    groups: &[usize],
    outer: Option<&LogicalPlan>,
) -> Result<Vec<Vec<usize>>> {
    let all = |schema: &DFSchema| (0..schema.fields().len()).collect();
    let columns = |exprs: &[&Expr], schema: &DFSchema| -> Vec<usize> {
        let index = |expr: &&Expr| schema.maybe_index_of_column(unaliased(expr).try_as_col()?);
        exprs.iter().filter_map(index).collect()
    };
    Ok(match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let keys = aggregate.group_expr.iter();
            let keys = keys.flat_map(|key| match key {
                Expr::GroupingSet(sets) => sets.distinct_expr(),
                key => vec![key],
            });
            vec![columns(&keys.collect::<Vec<_>>(), aggregate.input.schema())]
        }
        LogicalPlan::Distinct(Distinct::All(input)) => vec![all(input.schema())],
        LogicalPlan::Window(window) => vec![over::partition(window)],
        LogicalPlan::Projection(projection) => {
            let exprs: Vec<&Expr> = groups.iter().map(|i| &projection.expr[*i]).collect();
            vec![columns(&exprs, projection.input.schema())]
        }
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            let equal: Vec<Expr> = join
                .on
                .iter()
                .map(|(l, r)| l.clone().eq(r.clone()))
                .collect();
            let schemas = [join.left.schema(), join.right.schema()];
            let mut groups = groups.to_vec();
            groups.extend(equal_windows(
                equal.iter().chain(&join.filter),
                plan,
                &schemas,
            ));
            let (left, right) = groups.iter().partition::<Vec<_>, _>(|i| **i < width);
            vec![left, right.into_iter().map(|i| i - width).collect()]
        }
        LogicalPlan::Filter(filter) => {
            let schemas = [filter.input.schema()];
            let mut groups = groups.to_vec();
            groups.extend(equal_windows([&filter.predicate], &filter.input, &schemas));
            if let Some(outer) = outer {
                groups.extend(correlated(filter, outer).map(|[inner, _]| inner));
            }
            plan.apply_subqueries(|subquery| {
                subquery.apply(|node| {
                    if let LogicalPlan::Filter(of) = node {
                        groups.extend(correlated(of, &filter.input).map(|[_, outer]| outer));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })?;
            vec![groups]
        }
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => {
            vec![groups.to_vec(); plan.inputs().len()]
        }
        other => {
            let of_input = |input| {
                groups
                    .iter()
                    .filter_map(move |i| below_by_name(other, *i, input))
            };
            let inputs = other.inputs().into_iter();
            inputs.map(|input| of_input(input).collect()).collect()
        }
    })
}

/// Windows of a subquery's rows and of the rows outside that its filter asks to be equal.
fn correlated(filter: &Filter, outer: &LogicalPlan) -> impl Iterator<Item = [usize; 2]> {
    let conditions = split_conjunction(&filter.predicate).into_iter();
    conditions.filter_map(|condition| {
        let (left, right) = sides(condition)?;
        let (column, of_outer) = match (left, right) {
            (Expr::Column(column), Expr::OuterReferenceColumn(_, of_outer))
            | (Expr::OuterReferenceColumn(_, of_outer), Expr::Column(column)) => (column, of_outer),
            _ => return None,
        };
        let inner = filter.input.schema().maybe_index_of_column(column)?;
        let index = outer.schema().maybe_index_of_column(of_outer)?;
        window(&filter.input, inner)?;
        window(outer, index)?;
        Some([inner, index])
    })
}

/// What a condition asks to be equal.
fn sides(condition: &Expr) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => Some((unaliased(left), unaliased(right))),
        _ => None,
    }
}

/// The column of `input` that `plan` gives on, under its name, as its column `index`.
fn below_by_name(plan: &LogicalPlan, index: usize, input: &LogicalPlan) -> Option<usize> {
    let column = Column::from(plan.schema().qualified_field(index));
    input.schema().maybe_index_of_column(&column)
}

/// Columns of windows that are asked to be equal: a join by windows takes their rows together, too.
fn equal_windows<'a>(
    conditions: impl IntoIterator<Item = &'a Expr>,
    plan: &LogicalPlan,
    schemas: &[&DFSchemaRef],
) -> Vec<usize> {
    let place = |expr: &Expr| {
        let (column, mut before) = (unaliased(expr).try_as_col()?, 0);
        schemas.iter().find_map(|schema| {
            let place = schema.maybe_index_of_column(column).map(|i| before + i);
            before += schema.fields().len();
            place
        })
    };
    let pair = |condition: &Expr| {
        let (left, right) = sides(condition)?;
        Some([place(left)?, place(right)?])
    };
    let conditions = conditions.into_iter().flat_map(split_conjunction);
    let pairs = conditions.filter_map(pair);
    let pairs = pairs.filter(|pair| pair.iter().all(|i| window(plan, *i).is_some()));
    pairs.flatten().collect()
}

/// The kind of window that a column of `plan` is of; of a join that gives one side, of both.
pub(in crate::plan) fn window(plan: &LogicalPlan, index: usize) -> Option<Kind> {
    match plan {
        LogicalPlan::Projection(p) => window_of(&p.expr[index], &p.input),
        LogicalPlan::Aggregate(a) => window_of(a.group_expr.get(index)?, &a.input),
        LogicalPlan::Join(join) => match index.checked_sub(join.left.schema().fields().len()) {
            None => window(&join.left, index),
            Some(index) if index < join.right.schema().fields().len() => window(&join.right, index),
            Some(_) => None,
        },
        LogicalPlan::SubqueryAlias(alias) => window(&alias.input, index),
        other => match other.inputs().as_slice() {
            [input] => window(input, below_by_name(other, index, input)?),
            _ => None,
        },
    }
}

/// The kind of window that an expression over `input` is of.
pub(in crate::plan) fn window_of(expr: &Expr, input: &LogicalPlan) -> Option<Kind> {
    let of_column = || {
        let column = unaliased(expr).try_as_col()?;
        window(input, input.schema().maybe_index_of_column(column)?)
    };
    marker(expr).map(|(m, _)| m.kind).or_else(of_column)
}

/// The marker that an expression is.
pub(super) fn marker(expr: &Expr) -> Option<(&Marker, &[Expr])> {
    match unaliased(expr) {
        Expr::ScalarFunction(call) => markers::of(call).map(|m| (m, call.args.as_slice())),
        _ => None,
    }
}
