//! Texts that are compared with a number. Each would be read as a number, and a row whose text is none be
//! a bad record: mostly all of them.

use super::tokens::Tokens;
use crate::error::{At, Error};
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, ExprSchema, Result};
use datafusion_expr::{Expr, LogicalPlan, Operator};

/// Why a plan is refused, if it compares so.
pub fn refused(plan: &LogicalPlan, tokens: &Tokens) -> Result<Option<Error>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let inputs = node.inputs();
        let schemas: Vec<&DFSchema> = inputs.iter().map(|i| i.schema().as_ref()).collect();
        node.apply_expressions(|expr| {
            if found.is_none() {
                found = refused_in(expr, &schemas, tokens)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Why an expression over columns of these schemas is refused, if it compares so.
pub fn refused_in(expr: &Expr, schemas: &[&DFSchema], tokens: &Tokens) -> Result<Option<Error>> {
    let mut found = None;
    expr.apply(|expr| {
        let mut pairs = pairs(expr).into_iter();
        found = pairs.find(|(column, ..)| is_text(column, schemas));
        Ok(match found {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found.map(|(column, op, number)| error(&column, op, &number, tokens)))
}

fn compares(op: Operator) -> bool {
    use Operator::*;
    matches!(
        op,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

/// The columns that an expression compares with numbers, with the operator.
fn pairs(expr: &Expr) -> Vec<(Column, Operator, String)> {
    let pair = |a: &Expr, op: Operator, b: &Expr| match (a, b) {
        (Expr::Column(column), Expr::Literal(value, _)) if value.data_type().is_numeric() => {
            Some((column.clone(), op, value.to_string()))
        }
        _ => None,
    };
    match expr {
        Expr::BinaryExpr(compare) if compares(compare.op) => {
            let (left, right) = (&*compare.left, &*compare.right);
            let swapped = compare.op.swap().unwrap_or(compare.op);
            (pair(left, compare.op, right).into_iter())
                .chain(pair(right, swapped, left))
                .collect()
        }
        Expr::InList(list) => {
            let values = list.list.iter();
            values
                .filter_map(|value| pair(&list.expr, Operator::Eq, value))
                .collect()
        }
        Expr::Between(between) => [
            (&between.low, Operator::GtEq),
            (&between.high, Operator::LtEq),
        ]
        .into_iter()
        .filter_map(|(value, op)| pair(&between.expr, op, value))
        .collect(),
        _ => Vec::new(),
    }
}

fn is_text(column: &Column, schemas: &[&DFSchema]) -> bool {
    let schemas = schemas.iter();
    let mut fields = schemas.filter_map(|schema| schema.field_from_column(column).ok());
    fields.next().is_some_and(|field| {
        matches!(
            field.data_type(),
            DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8
        )
    })
}

fn error(column: &Column, op: Operator, number: &str, tokens: &Tokens) -> Error {
    let name = &column.name;
    let at = column.spans.first().map(|span| At {
        line: span.start.line,
        column: span.start.column,
    });
    let at = at.map(|at| tokens.original(at));
    let at = at.or_else(|| tokens.find_word(name));
    Error::sql(format!("'{name}' is STRING, and {number} is a number"))
        .or_at(at.unwrap_or(tokens.start()))
        .with_hint(format!(
            "write {name} {op} '{number}'; or CAST({name} AS DOUBLE) {op} {number}, where all its texts are numbers"
        ))
}
