//! IN and EXISTS with a subquery, before DataFusion makes joins of them.
//!
//! Its join for NOT IN knows one key and no condition beside it, and it has none for NOT IN between ORs. So
//! `x NOT IN (SELECT y … WHERE … outside.k = k)` becomes
//! `NOT EXISTS (… AND (x = y OR x IS NULL OR y IS NULL))`, which is true for the same rows; NOT is moved inwards
//! before. (It is false where the other is unknown: for a row that is kept or not that is the same.)
//! What its joins would answer wrongly is refused.

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, Result, plan_err};
use datafusion_expr::expr::{BinaryExpr, Exists, InSubquery};
use datafusion_expr::logical_plan::{Filter, SkipType, Subquery};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, not};
use std::sync::Arc;

/// Rewrites the conditions of all WHEREs and HAVINGs.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => {
            let mut outside = Outside {
                rows: filter.input,
                added: Vec::new(),
            };
            let predicate = outside.condition(filter.predicate, false, true)?;
            outside.filter(predicate).map(Transformed::yes)
        }
        node => Ok(Transformed::no(node)),
    });
    Ok(rewritten?.data)
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |e: &Expr| matches!(e, Expr::InSubquery(_) | Expr::Exists(_));
    expr.exists(|e| Ok(is_one(e))).unwrap_or(true)
}

/// Rows of which a condition is asked.
struct Outside {
    rows: Arc<LogicalPlan>,
    /// What its subqueries are asked for, under names that these do not know.
    added: Vec<Expr>,
}

impl Outside {
    /// A condition, or its opposite. `alone`: between ANDs at most.
    fn condition(&mut self, expr: Expr, negated: bool, alone: bool) -> Result<Expr> {
        match expr {
            Expr::Not(of) => self.condition(*of, !negated, alone),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::And | Operator::Or),
                right,
            }) if has_subquery(&left) || has_subquery(&right) => {
                let op = match (op, negated) {
                    (Operator::And, false) | (Operator::Or, true) => Operator::And,
                    _ => Operator::Or,
                };
                let alone = alone && op == Operator::And;
                let left = Box::new(self.condition(*left, negated, alone)?);
                let right = Box::new(self.condition(*right, negated, alone)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::InSubquery(of) => {
                let negated = of.negated != negated;
                check(&of.subquery, Some(negated))?;
                let is_known = alone && of.subquery.outer_ref_columns.is_empty();
                if negated && !is_known {
                    return self.not_exists(of);
                }
                Ok(Expr::InSubquery(InSubquery { negated, ..of }))
            }
            Expr::Exists(of) => {
                check(&of.subquery, None)?;
                let negated = of.negated != negated;
                Ok(Expr::Exists(Exists { negated, ..of }))
            }
            other => {
                other.apply(|e| match e {
                    Expr::InSubquery(_) => {
                        plan_err!("IN with a subquery stands by itself or between AND, OR and NOT")
                    }
                    Expr::Exists(of) => {
                        check(&of.subquery, None)?;
                        Ok(TreeNodeRecursion::Continue)
                    }
                    _ => Ok(TreeNodeRecursion::Continue),
                })?;
                Ok(if negated { not(other) } else { other })
            }
        }
    }

    fn not_exists(&mut self, of: InSubquery) -> Result<Expr> {
        let mut outer_ref_columns = of.subquery.outer_ref_columns;
        let rows = of.subquery.subquery;
        let mut x = *of.expr;
        if is_captured(&x, &rows)? {
            let name = self.added.len().to_string();
            let column = Column::new(Some("__not_in"), &name);
            let (_, field) = x.to_field(self.rows.schema())?;
            let field = field.as_ref().clone().with_name(&name);
            self.added.push(x.alias_qualified(Some("__not_in"), name));
            x = Expr::OuterReferenceColumn(Arc::new(field), column);
            outer_ref_columns.push(x.clone());
        } else {
            let outer = x.transform(|e| {
                let Expr::Column(column) = e else {
                    return Ok(Transformed::no(e));
                };
                let (_, field) = Expr::Column(column.clone()).to_field(self.rows.schema())?;
                let outer = Expr::OuterReferenceColumn(field, column);
                if !outer_ref_columns.contains(&outer) {
                    outer_ref_columns.push(outer.clone());
                }
                Ok(Transformed::yes(outer))
            });
            x = outer?.data;
        }
        let y = Expr::Column(rows.schema().columns().swap_remove(0));
        let is_null = x.clone().is_null().or(y.clone().is_null());
        let rows = Filter::try_new(x.eq(y).or(is_null), rows)?;
        Ok(Expr::Exists(Exists {
            subquery: Subquery {
                subquery: Arc::new(LogicalPlan::Filter(rows)),
                outer_ref_columns,
                spans: of.subquery.spans,
            },
            negated: true,
        }))
    }

    fn filter(self, predicate: Expr) -> Result<LogicalPlan> {
        if self.added.is_empty() {
            return Filter::try_new(predicate, self.rows).map(LogicalPlan::Filter);
        }
        let columns = self.rows.schema().columns().into_iter().map(Expr::Column);
        let columns: Vec<Expr> = columns.collect();
        LogicalPlanBuilder::from(self.rows)
            .project(columns.iter().cloned().chain(self.added))?
            .filter(predicate)?
            .project(columns)?
            .build()
    }
}

/// Whether a column of an expression outside could be taken for one of the subquery's: the joins know
/// columns by their names.
fn is_captured(x: &Expr, subquery: &LogicalPlan) -> Result<bool> {
    let outside = x.column_refs();
    subquery.exists(|node| {
        let columns = node.schema().columns();
        Ok(columns.iter().any(|inside| {
            outside.iter().any(|x| {
                let is_same = x.relation == inside.relation;
                x.name == inside.name && (is_same || x.relation.is_none())
            })
        }))
    })
}

/// Refuses what has other rows for each row outside than a join gives: a LIMIT, and an aggregate that has a row
/// where nothing is found. `negated`: of an IN.
fn check(subquery: &Subquery, negated: Option<bool>) -> Result<()> {
    let checked = subquery.subquery.apply(|node| {
        match node {
            LogicalPlan::Limit(limit) if asks_outside(node) => {
                let skips = !matches!(limit.get_skip_type()?, SkipType::Literal(0));
                if negated.is_some() || skips {
                    return plan_err!(
                        "a subquery that asks for columns of the query around it has no LIMIT or OFFSET"
                    );
                }
            }
            // `x IN (NULL)` lets no row through, as no row does.
            LogicalPlan::Aggregate(of)
                if of.group_expr.is_empty()
                    && asks_outside(node)
                    && !(negated == Some(false) && is_null_of_none(&subquery.subquery)) =>
            {
                return plan_err!(
                    "IN and EXISTS of an aggregate that asks for columns of the query around it need a GROUP BY in the subquery"
                );
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ())
}

/// Whether a subquery is an aggregate that is NULL where there are no rows.
fn is_null_of_none(subquery: &LogicalPlan) -> bool {
    match subquery {
        LogicalPlan::Projection(of) => {
            let is_column = |e: &Expr| matches!(e.clone().unalias(), Expr::Column(_));
            of.expr.iter().all(is_column) && is_null_of_none(&of.input)
        }
        LogicalPlan::Aggregate(of) => of.aggr_expr.iter().all(|e| {
            let Expr::AggregateFunction(call) = e.clone().unalias() else {
                return false;
            };
            ["min", "max", "sum", "avg"].contains(&call.func.name())
        }),
        _ => false,
    }
}

fn asks_outside(node: &LogicalPlan) -> bool {
    !node.all_out_ref_exprs().is_empty()
}
