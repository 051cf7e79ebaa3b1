//! `CAST(text AS number)`, which half of all sources need because their numbers are strings.
//!
//! Arrow's kernel takes any spelling; nearly all numbers are a few digits, and those are read here. A
//! batch in which some text is anything else, or no number at all, goes to Arrow's
//! kernel as a whole, so values and errors are always Arrow's. But for one thing: as a whole number
//! `12.7` is 12, as in Flink and Spark; Arrow takes it for none. (Casts of constants, which are computed
//! while a query is planned, learn that in [`super::functions`].)

mod digits;

use super::errors::internal;
use crate::error::Result as CrateResult;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringViewArray};
use arrow::compute::{self, CastOptions};
use arrow::datatypes::{DataType, FieldRef, Float64Type, Int32Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::format::DEFAULT_FORMAT_OPTIONS;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, TryCastExpr};
use digits::Short;
use std::fmt;
use std::sync::Arc;

/// A cast that tries the quick way first.
#[derive(Debug, PartialEq, Eq, Hash)]
enum QuickCast {
    Cast(CastExpr),
    Try(TryCastExpr),
}

/// The same expression with quick casts.
pub(super) fn quicken(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let quick = expr.transform_up(|expr| {
        let quick = quick(&expr);
        Ok(quick.map_or_else(|| Transformed::no(expr), Transformed::yes))
    });
    Ok(quick?.data)
}

/// The quick one of an expression that is a cast to a number.
fn quick(expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let cast = QuickCast::of(expr)?;
    let target = cast.target();
    let is_number = target.is_signed_integer() || *target == DataType::Float64;
    is_number.then(|| Arc::new(cast) as _)
}

impl QuickCast {
    /// The one of an expression that is a cast.
    fn of(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return Some(Self::Cast(cast.clone()));
        }
        let cast = expr.downcast_ref::<TryCastExpr>()?;
        Some(Self::Try(cast.clone()))
    }

    fn slow(&self) -> &dyn PhysicalExpr {
        match self {
            Self::Cast(cast) => cast,
            Self::Try(cast) => cast,
        }
    }

    fn target(&self) -> &DataType {
        match self {
            Self::Cast(cast) => cast.cast_type(),
            Self::Try(cast) => cast.cast_type(),
        }
    }

    fn options(&self) -> CastOptions<'static> {
        match self {
            Self::Cast(cast) => cast.cast_options().clone(),
            Self::Try(_) => CastOptions {
                safe: true,
                format_options: DEFAULT_FORMAT_OPTIONS,
            },
        }
    }

    fn cast(
        &self,
        mut value: ColumnarValue,
        options: &CastOptions<'static>,
    ) -> Result<ColumnarValue> {
        if let ColumnarValue::Array(array) = &value
            && array.data_type().is_string()
        {
            let texts = compute::cast(array, &DataType::Utf8View)?;
            let texts = texts.as_string_view();
            if let Some(numbers) = numbers(texts, self.target()) {
                return Ok(ColumnarValue::Array(numbers));
            }
            if self.target().is_integer() {
                value = ColumnarValue::Array(without_fractions(texts));
            }
        }
        value.cast_to(self.target(), Some(options))
    }
}

/// The rows that some cast in these expressions cannot take, in ascending order. (Not those of a
/// cast whose own input fails.)
pub(super) fn refused(
    exprs: &[&Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> CrateResult<Vec<usize>> {
    let mut is_refused = vec![false; batch.num_rows()];
    for expr in exprs {
        let looked_at = expr.apply(|expr| {
            if let Some((value, Ok(tried))) = tried(expr, batch) {
                let tried = tried.into_array(batch.num_rows())?;
                for (row, is_refused) in is_refused.iter_mut().enumerate() {
                    *is_refused |= tried.is_null(row) && value.is_valid(row);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        looked_at.map_err(internal)?;
    }
    let rows = is_refused.into_iter().enumerate();
    Ok(rows
        .filter_map(|(row, is_refused)| is_refused.then_some(row))
        .collect())
}

/// The input of an expression that is a cast, and what TRY_CAST makes of it.
fn tried(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Option<(ArrayRef, Result<ColumnarValue>)> {
    let quick = expr.downcast_ref::<QuickCast>();
    let cast = match quick {
        Some(QuickCast::Cast(cast)) => cast,
        Some(QuickCast::Try(_)) => return None,
        None => expr.downcast_ref::<CastExpr>()?,
    };
    let ColumnarValue::Array(value) = cast.expr().evaluate(batch).ok()? else {
        return None;
    };
    let options = CastOptions {
        safe: true,
        ..cast.cast_options().clone()
    };
    let input = ColumnarValue::Array(value.clone());
    let tried = match quick {
        Some(quick) => quick.cast(input, &options),
        None => input.cast_to(cast.cast_type(), Some(&options)),
    };
    Some((value, tried))
}

impl fmt::Display for QuickCast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.slow(), f)
    }
}

impl PhysicalExpr for QuickCast {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.slow().data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.slow().nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.slow().return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.cast(self.slow().children()[0].evaluate(batch)?, &self.options())
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.slow().children()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let cast = match &*self {
            Self::Cast(cast) => Arc::new(cast.clone()).with_new_children(children)?,
            Self::Try(cast) => Arc::new(cast.clone()).with_new_children(children)?,
        };
        match Self::of(&cast) {
            Some(cast) => Ok(Arc::new(cast)),
            None => internal_err!("a cast with other children is no cast"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slow().fmt_sql(f)
    }
}

/// The texts, those that are decimal numbers without what is behind the point.
fn without_fractions(texts: &StringViewArray) -> ArrayRef {
    let whole = |text| whole_part(text).unwrap_or(text);
    let cut = texts.iter().map(|text| text.map(whole));
    Arc::new(cut.collect::<StringViewArray>())
}

/// What is before the point, 0 if that is nothing; `None` for what is no number with a point.
pub(super) fn whole_part(text: &str) -> Option<&str> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.')?;
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let mut all = digits.bytes().chain(fraction.bytes());
    let has_digits = digits.len() + fraction.len() > 0;
    (has_digits && all.all(|b| b.is_ascii_digit())).then_some(match digits {
        "" => "0",
        _ => whole,
    })
}

/// The numbers that all texts are, if they are all short and plain; NULL for NULL.
fn numbers(texts: &StringViewArray, data_type: &DataType) -> Option<ArrayRef> {
    let i32 = |value| i32::try_from(value).ok();
    match data_type {
        DataType::Int32 => each::<Int32Type>(
            texts,
            |short| i32(short.integer()?),
            |text| i32(integer(text)?),
        ),
        DataType::Int64 => each::<Int64Type>(texts, Short::integer, integer),
        DataType::Float64 => each::<Float64Type>(
            texts,
            |short| short.decimal().map(quotient),
            |text| double(text).map(quotient),
        ),
        _ => None,
    }
}

/// `short` and `number` read the same; the one all bytes at once, the other byte by byte.
fn each<T: ArrowPrimitiveType>(
    texts: &StringViewArray,
    short: impl Fn(Short) -> Option<T::Native>,
    number: impl Fn(&[u8]) -> Option<T::Native>,
) -> Option<ArrayRef> {
    let mut values = Vec::with_capacity(texts.len());
    for (i, view) in texts.views().iter().enumerate() {
        values.push(match Short::of_view(*view) {
            _ if texts.is_null(i) => T::Native::default(),
            Some(text) => short(text)?,
            None => number(texts.value(i).as_bytes())?,
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

/// Up to 15 digits, with a point between two of them or none, behind a minus or none: whether there is a
/// minus, the digits' number, and how many are behind the point.
fn double(text: &[u8]) -> Option<(bool, u64, usize)> {
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
    Some((is_negative, value, behind))
}

/// So few digits are a double, and so is the power of ten: their quotient is rounded once (Clinger, "How to Read
/// Floating Point Numbers Accurately", 1990).
fn quotient((is_negative, digits, behind): (bool, u64, usize)) -> f64 {
    const POWERS: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    // There is an instruction for signed ones.
    let value = digits as i64 as f64 / POWERS[behind];
    if is_negative { -value } else { value }
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

    proptest! {
        /// What is read at once is what is read byte by byte.
        #[test]
        fn short_texts_are_read_alike(text in "-?[0-9]{0,8}|-?[0-9]{0,6}[.][0-9]{0,6}|[-+.,/:;0-9e \0é]{0,5}") {
            let view = arrow::array::make_view(text.as_bytes(), 0, 0);
            let Some(short) = Short::of_view(view) else {
                prop_assert!(text.len() > 8);
                return Ok(());
            };
            prop_assert_eq!(short.integer(), integer(text.as_bytes()));
            prop_assert_eq!(short.decimal(), double(text.as_bytes()));
        }
    }

    #[test]
    fn whole_numbers_of_texts_with_a_point() {
        for (text, expected) in [
            ("12.7", Some("12")),
            ("-3.", Some("-3")),
            (".5", Some("0")),
            ("-.5", Some("0")),
            (" 7.0 ", Some("7")),
            ("12", None),
            (".", None),
            ("-.", None),
            ("1.2.3", None),
            ("1.5e3", None),
            ("a.5", None),
        ] {
            assert_eq!(whole_part(text), expected, "{text}");
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
