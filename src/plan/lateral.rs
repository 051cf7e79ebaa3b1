//! `FROM t CROSS JOIN UNNEST(t.list) AS x (e)`: a join with what each row itself holds. DataFusion
//! plans it as a subquery over one empty row that refers to the row outside; here the rows outside
//! take the empty row's place. LEFT JOIN keeps rows without elements: an empty list is NULL to it, and
//! UNNEST makes a row of a NULL.

use super::nodes::{self, unaliased};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, JoinType, Result, ScalarValue};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::logical_plan::builder::unnest_with_options;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{Expr, LogicalPlan, ScalarUDF, Unnest, lit, when};
use std::sync::Arc;

/// Rewrites all such joins of a plan that is not optimised yet; others stay.
pub fn rewrite(plan: LogicalPlan, registry: &dyn FunctionRegistry) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Join(join) = &node else {
            return Ok(Transformed::no(node));
        };
        Ok(match grafted(join, registry)? {
            Some(other) => Transformed::yes(other),
            None => Transformed::no(node),
        })
    });
    Ok(rewritten?.data)
}

fn grafted(join: &Join, registry: &dyn FunctionRegistry) -> Result<Option<LogicalPlan>> {
    let is_true = |filter: &Expr| filter.as_literal().is_some_and(|l| *l == true.into());
    let keeps = match join.join_type {
        JoinType::Inner => None,
        JoinType::Left if gives_elements(&join.right) => Some(registry.udf("empty")?),
        _ => return Ok(None),
    };
    if !join.on.is_empty() || !join.filter.as_ref().is_none_or(is_true) {
        return Ok(None);
    }
    let graft = Graft {
        rows: &join.left,
        keeps,
        get_field: registry.udf("get_field")?,
    };
    let Some((plan, own)) = graft.of(&join.right)? else {
        return Ok(None);
    };
    let columns = join.left.schema().columns().into_iter().chain(own);
    let exprs = columns.map(Expr::Column).collect();
    nodes::project(plan, exprs).map(Some)
}

/// Whether a plan's columns are elements and nothing else, so that all are NULL in a row without any.
fn gives_elements(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            let is_column = |expr: &Expr| unaliased(expr).try_as_col().is_some();
            projection.expr.iter().all(is_column) && gives_elements(&projection.input)
        }
        LogicalPlan::Subquery(subquery) => gives_elements(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => gives_elements(&alias.input),
        LogicalPlan::Unnest(unnest) if unnest.list_type_columns.is_empty() => {
            let rows = unnest.struct_type_columns.len();
            rows == unnest.input.schema().fields().len() && gives_elements(&unnest.input)
        }
        LogicalPlan::Unnest(unnest) => unnest.exec_columns.len() == unnest.schema.fields().len(),
        _ => false,
    }
}

struct Graft<'a> {
    rows: &'a LogicalPlan,
    /// Tells lists that are empty; if it is there rows with one stay.
    keeps: Option<Arc<ScalarUDF>>,
    get_field: Arc<ScalarUDF>,
}

impl Graft<'_> {
    /// `plan` over the rows, whose columns it gives on, and its own columns. `None` when it does
    /// more than take lists and ROWs apart, or does not begin with one empty row.
    fn of(&self, plan: &LogicalPlan) -> Result<Option<(LogicalPlan, Vec<Column>)>> {
        let below = match plan {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
                return Ok(Some((self.rows.clone(), Vec::new())));
            }
            LogicalPlan::Subquery(subquery) => return self.of(&subquery.subquery),
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) => {
                plan.inputs()[0]
            }
            _ => return Ok(None),
        };
        let Some((input, own)) = self.of(below)? else {
            return Ok(None);
        };
        let kept = nodes::columns(self.rows);
        let exprs: Vec<Expr> = match plan {
            LogicalPlan::Projection(projection) => {
                let exprs = projection.expr.iter().cloned().map(of_row);
                exprs.chain(kept.map(Ok)).collect::<Result<_>>()?
            }
            LogicalPlan::Unnest(unnest) if unnest.list_type_columns.is_empty() => {
                self.fields(unnest, own).chain(kept).collect()
            }
            LogicalPlan::Unnest(unnest) => {
                let (columns, mut options) = (unnest.exec_columns.clone(), unnest.options.clone());
                let input = match &self.keeps {
                    Some(is_empty) => {
                        options = options.with_preserve_nulls(true);
                        without_empty(input, &columns, is_empty)?
                    }
                    None => input,
                };
                let plan = unnest_with_options(input, columns, options)?;
                return Ok(Some((plan, unnest.schema.columns())));
            }
            _ => {
                let renamed = own.into_iter().zip(plan.schema().columns());
                let renamed = renamed
                    .map(|(own, to)| Expr::Column(own).alias_qualified(to.relation, to.name));
                renamed.chain(kept).collect()
            }
        };
        let projection = nodes::project(input, exprs)?;
        Ok(Some((projection, plan.schema().columns())))
    }

    /// What UNNEST makes of ROWs: a column for each of their fields. `own` are its input's columns.
    fn fields(&self, unnest: &Unnest, own: Vec<Column>) -> impl Iterator<Item = Expr> {
        let mut names = unnest.schema.columns().into_iter();
        let input = unnest.input.schema();
        let mut exprs = Vec::new();
        for (i, column) in own.into_iter().enumerate() {
            let column = Expr::Column(column);
            let values = match input.field(i).data_type() {
                DataType::Struct(fields) if unnest.struct_type_columns.contains(&i) => {
                    let field =
                        |f: &FieldRef| self.get_field.call(vec![column.clone(), lit(f.name())]);
                    fields.iter().map(field).collect()
                }
                _ => vec![column],
            };
            let named = values.into_iter().zip(&mut names);
            exprs.extend(named.map(|(value, to)| value.alias_qualified(to.relation, to.name)));
        }
        exprs.into_iter()
    }
}

/// `plan` with NULL instead of empty lists in `lists`.
fn without_empty(
    plan: LogicalPlan,
    lists: &[Column],
    is_empty: &Arc<ScalarUDF>,
) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(|column| {
        let list = Expr::Column(column.clone());
        if !lists.contains(&column) {
            return Ok(list);
        }
        let mut other = when(is_empty.call(vec![list.clone()]), lit(ScalarValue::Null));
        let other = other.otherwise(list)?;
        Ok(other.alias_qualified(column.relation, column.name))
    });
    let exprs = columns.collect::<Result<_>>()?;
    nodes::project(plan, exprs)
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
