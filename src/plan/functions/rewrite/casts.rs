//! Casts that mean something else than arrow's, and the functions that they become.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field};
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::expr::Case;
use datafusion_expr::{Expr, ExprSchemable, lit};

use super::super::types::{LENGTH, PADDED, PRECISION};
use super::super::udf::{Call, Kind, Param, Spec, TIMESTAMP, param};
use super::{Rewrite, call};
use crate::plan::casts::whole_part;
use crate::plan::sums::one_of_equals;

const VALUE: &[Param] = &[param("value", Kind::Text)];
const NUMBER: &[Param] = &[param("number", Kind::Double)];

pub(in super::super) static FUNCTIONS: [Spec; 4] = [
    // Two names of one function, which stand in the checkpoints of queries.
    Spec::new(
        "windrow_timestamp_to_string",
        VALUE,
        DataType::Utf8View,
        as_text,
    ),
    Spec::new(
        "windrow_double_to_string",
        VALUE,
        DataType::Utf8View,
        as_text,
    ),
    Spec::new(
        "windrow_whole_part",
        VALUE,
        DataType::Utf8View,
        whole_part_of_texts,
    ),
    Spec::new("windrow_double_bits", NUMBER, DataType::Int64, double_bits),
];

/// Values as Flink and Spark print them. (Parameters of kind text arrive so.)
fn as_text(call: &Call) -> Result<ArrayRef> {
    call.text(0)?;
    Ok(Arc::clone(call.array(0)))
}

/// Of decimal numbers, what a cast to a whole number takes of them.
fn whole_part_of_texts(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.map::<StringViewArray, &str>(|row| {
        let text = text.get(row)?;
        Some(whole_part(text).unwrap_or(text))
    })
}

/// The bits of a number, equal for doubles that are.
fn double_bits(call: &Call) -> Result<ArrayRef> {
    let number = call.double(0)?;
    call.map::<Int64Array, i64>(|row| Some(one_of_equals(number.get(row)?).to_bits() as i64))
}

/// Whether casts to a type may be other ones than arrow's.
pub fn is_cast_otherwise(field: &Field) -> bool {
    let target = field.data_type();
    target.is_string() || target.is_integer() || *target == TIMESTAMP
}

impl Rewrite {
    /// `expr` as text, where Flink's is not arrow's; else as it is. An expression whose type cannot be
    /// told here is reported by the planner's own rules.
    pub fn text(&self, expr: Expr, schema: &DFSchema) -> Expr {
        match expr.get_type(schema) {
            Ok(DataType::Timestamp(..)) => call(&self.timestamp_to_string, vec![expr]),
            Ok(DataType::Float32 | DataType::Float64) => call(&self.double_to_string, vec![expr]),
            Ok(DataType::Boolean) => Expr::Case(Case::new(
                None,
                vec![
                    (Box::new(expr.clone().is_true()), Box::new(lit("TRUE"))),
                    (Box::new(expr.is_false()), Box::new(lit("FALSE"))),
                ],
                None,
            )),
            _ => expr,
        }
    }

    /// A cast to text; `cast` makes one to the type that it is given.
    fn cast_to_text(
        &self,
        expr: Expr,
        field: &Field,
        schema: &DFSchema,
        cast: impl Fn(Expr, DataType) -> Expr,
    ) -> Expr {
        let data_type = || field.data_type().clone();
        let text = cast(self.text(expr, schema), data_type());
        let length = (field.metadata().get(LENGTH)).and_then(|length| length.parse::<i64>().ok());
        let Some(length) = length else {
            return text;
        };
        let cut = match field.metadata().contains_key(PADDED) {
            true => call(&self.rpad, vec![text, lit(length)]),
            false => call(&self.left, vec![text, lit(length)]),
        };
        cast(cut, data_type())
    }

    /// A cast to a timestamp, with no more digits than its type has. A number is taken for seconds, as
    /// TO_TIMESTAMP does; arrow's cast takes it for microseconds.
    fn cast_to_time(
        &self,
        expr: Expr,
        field: &Field,
        schema: &DFSchema,
        cast: impl Fn(Expr, DataType) -> Expr,
    ) -> Result<Expr> {
        let time = match expr.get_type(schema).is_ok_and(|t| t.is_numeric()) {
            true => call(&self.to_timestamp, vec![expr]),
            false => cast(expr, TIMESTAMP),
        };
        let Some(digits) = field.metadata().get(PRECISION) else {
            return Ok(time);
        };
        Ok(match digits.parse::<i64>().ok() {
            Some(digits @ 0..6) => call(&self.cut_time, vec![time, lit(digits)]),
            Some(6..=9) => time,
            _ => return plan_err!("a TIMESTAMP has 0 to 9 digits behind its seconds"),
        })
    }

    /// A cast of a constant to a whole number, which arrow's cast computes while the query is planned: it
    /// takes 12.7 for none. (For all others see [`crate::plan::casts`].)
    fn cast_to_integer(
        &self,
        expr: Expr,
        field: &Field,
        schema: &DFSchema,
        cast: impl Fn(Expr, DataType) -> Expr,
    ) -> Expr {
        let is_text = expr.get_type(schema).is_ok_and(|t| t.is_string());
        let whole = match is_text && !expr.any_column_refs() && !expr.is_volatile() {
            true => call(&self.whole_part, vec![expr]),
            false => expr,
        };
        cast(whole, field.data_type().clone())
    }

    /// A cast to a type for which [`is_cast_otherwise`]; `cast` makes one.
    pub fn cast(
        &self,
        expr: Expr,
        field: &Field,
        schema: &DFSchema,
        cast: impl Fn(Expr, DataType) -> Expr,
    ) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match field.data_type() {
            text if text.is_string() => self.cast_to_text(expr, field, schema, cast),
            time if *time == TIMESTAMP => self.cast_to_time(expr, field, schema, cast)?,
            _ => self.cast_to_integer(expr, field, schema, cast),
        }))
    }
}
