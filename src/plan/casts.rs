//! `CAST(text AS number)`, which half of all sources need because their numbers are strings.
//!
//! Arrow's kernel takes any spelling; nearly all numbers are a few digits, and those are read here. A
//! batch in which some text is anything else, or no number at all, goes to Arrow's
//! kernel as a whole, so values and errors are always Arrow's.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type, Int32Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::CastExpr;
use std::fmt;
use std::sync::Arc;

/// A cast that tries the quick way first.
#[derive(Debug, PartialEq, Eq, Hash)]
struct QuickCast(CastExpr);

/// The same expression with quick casts.
pub(super) fn quicken(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let quick = expr.transform_up(|expr| {
        let cast = expr.downcast_ref::<CastExpr>();
        let quick = cast.filter(|cast| {
            use DataType::{Float64, Int32, Int64};
            matches!(cast.cast_type(), Int32 | Int64 | Float64)
        });
        Ok(match quick {
            Some(cast) => Transformed::yes(Arc::new(QuickCast(cast.clone())) as _),
            None => Transformed::no(expr),
        })
    })?;
    Ok(quick.data)
}

impl fmt::Display for QuickCast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for QuickCast {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.0.expr().evaluate(batch)?;
        if let ColumnarValue::Array(texts) = &value
            && let Some(texts) = texts.as_string_view_opt()
            && let Some(numbers) = numbers(texts, self.0.cast_type())
        {
            return Ok(ColumnarValue::Array(numbers));
        }
        value.cast_to(self.0.cast_type(), Some(self.0.cast_options()))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.0.children()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let cast = Arc::new(self.0.clone()).with_new_children(children)?;
        match cast.downcast_ref::<CastExpr>() {
            Some(cast) => Ok(Arc::new(QuickCast(cast.clone()))),
            None => internal_err!("a cast with other children is no cast"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// The numbers that all texts are, if they are all short and plain; NULL for NULL.
fn numbers(texts: &StringViewArray, data_type: &DataType) -> Option<ArrayRef> {
    match data_type {
        DataType::Int32 => each::<Int32Type>(texts, |text| i32::try_from(integer(text)?).ok()),
        DataType::Int64 => each::<Int64Type>(texts, integer),
        DataType::Float64 => each::<Float64Type>(texts, double),
        _ => None,
    }
}

fn each<T: ArrowPrimitiveType>(
    texts: &StringViewArray,
    number: impl Fn(&[u8]) -> Option<T::Native>,
) -> Option<ArrayRef> {
    let mut values = Vec::with_capacity(texts.len());
    for i in 0..texts.len() {
        values.push(match texts.is_valid(i) {
            true => number(texts.value(i).as_bytes())?,
            false => T::Native::default(),
        });
    }
    let array = PrimitiveArray::<T>::new(values.into(), texts.nulls().cloned());
    Some(Arc::new(array))
}

/// A sign or none, and the rest.
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    }
}

/// Up to 18 digits behind a minus or none.
fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = sign(text);
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if is_negative { -value } else { value })
}

/// Up to 15 digits, with a point between two of them or none, behind a minus or none. So many digits
/// are a double, and so is the power of ten: their quotient is rounded once (Clinger, "How to Read
/// Floating Point Numbers Accurately", 1990).
fn double(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    let (is_negative, rest) = sign(text);
    if rest.len() > 16 {
        return None;
    }
    let (mut digits, mut value, mut point) = (0, 0_u64, None);
    for byte in rest {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => {
                value = value * 10 + u64::from(digit);
                digits += 1;
            }
            _ if *byte == b'.' && point.is_none() && digits > 0 => point = Some(digits),
            _ => return None,
        }
    }
    let behind = digits - point.unwrap_or(digits);
    if digits == 0 || digits > 15 || (point.is_some() && behind == 0) {
        return None;
    }
    let value = value as f64 / POWERS[behind];
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::compute::cast;
    use proptest::prelude::*;

    fn same_as_arrow(texts: &StringViewArray) {
        for data_type in [DataType::Int32, DataType::Int64, DataType::Float64] {
            let Some(quick) = numbers(texts, &data_type) else {
                continue;
            };
            let arrow = cast(texts, &data_type).unwrap();
            if data_type == DataType::Float64 {
                let bits = |array: &ArrayRef| -> Vec<Option<u64>> {
                    let values = array.as_primitive::<Float64Type>().iter();
                    values.map(|v| v.map(f64::to_bits)).collect()
                };
                assert_eq!(bits(&quick), bits(&arrow), "{texts:?}");
            } else {
                assert_eq!(&quick, &arrow, "{texts:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_quickly_is_what_arrow_reads(
            texts in prop::collection::vec(
                prop::option::of("-?[0-9]{0,17}(\\.[0-9]{0,14})?|[-+0-9.eE ]{0,9}"),
                1..4,
            )
        ) {
            same_as_arrow(&texts.into_iter().collect());
        }
    }

    #[test]
    fn plain_numbers_are_read_quickly_and_others_left_to_arrow() {
        for (text, quick) in [
            ("7", true),
            ("-12.50", true),
            ("007", true),
            ("-0.0", true),
            ("123456789012345", true),
            ("1234567890123456", false),
            ("1e3", false),
            ("+1", false),
            ("1.", false),
            (".5", false),
            ("1.2.3", false),
            (" 1", false),
            ("", false),
            ("-", false),
        ] {
            assert_eq!(double(text.as_bytes()).is_some(), quick, "{text}");
            same_as_arrow(&StringViewArray::from(vec![Some(text), None]));
        }
        assert_eq!(
            integer(b"-999999999999999999"),
            Some(-999_999_999_999_999_999)
        );
        assert_eq!(integer(b"1000000000000000000"), None);
        assert!(numbers(&StringViewArray::from(vec!["2147483648"]), &DataType::Int32).is_none());
    }
}
