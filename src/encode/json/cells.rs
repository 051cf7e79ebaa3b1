//! The columns of one batch, each looked at once: which row has what is then known without asking
//! the array's type again.

use super::{Style, string, value};
use crate::encode::text::scalar;
use crate::error::Result;
use arrow::array::{
    Array, AsArray, Float64Array, Int32Array, Int64Array, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

/// A column by its type, if it is one of those that results mostly have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cells<'a> {
    Text(&'a StringViewArray),
    Int(&'a Int32Array),
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Micros(&'a TimestampMicrosecondArray),
    Other(&'a dyn Array),
}

/// The last timestamp of a column and how it is written, behind its key: all rows of a window have
/// the same.
#[derive(Debug, Clone, Default)]
pub(super) struct LastTime {
    micros: Option<(i64, bool)>,
    written: Vec<u8>,
}

impl<'a> Cells<'a> {
    #[inline]
    pub(super) fn of(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Utf8View => Cells::Text(array.as_string_view()),
            DataType::Int32 => Cells::Int(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Cells::Long(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Cells::Double(array.as_primitive::<Float64Type>()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Cells::Micros(array.as_primitive::<TimestampMicrosecondType>())
            }
            _ => Cells::Other(array),
        }
    }

    fn array(self) -> &'a dyn Array {
        match self {
            Cells::Text(array) => array,
            Cells::Int(array) => array,
            Cells::Long(array) => array,
            Cells::Double(array) => array,
            Cells::Micros(array) => array,
            Cells::Other(array) => array,
        }
    }

    pub(super) fn is_null(self, row: usize) -> bool {
        match self {
            Cells::Other(array) => crate::encode::text::is_null(array, row),
            typed => typed.array().is_null(row),
        }
    }

    /// Appends `key` and the value of a row, as [`value`] does. (A column's key may have a comma in
    /// front for one row and none for another: then so has what `last` remembers.)
    #[inline]
    pub(super) fn append(
        self,
        row: usize,
        key: &[u8],
        style: Style,
        last: &mut LastTime,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let Cells::Micros(array) = self
            && array.is_valid(row)
        {
            let time = (array.value(row), array.timezone().is_some());
            if last.micros != Some(time) || !last.written.starts_with(key) {
                last.written.clear();
                last.written.extend_from_slice(key);
                value(array, row, style, &mut last.written)?;
                last.micros = Some(time);
            }
            out.extend_from_slice(&last.written);
            return Ok(());
        }
        out.extend_from_slice(key);
        match self {
            Cells::Text(array) if array.is_valid(row) => {
                string(out, array.value(row).as_bytes());
            }
            Cells::Int(array) if array.is_valid(row) => scalar::integer(out, array.value(row)),
            Cells::Long(array) if array.is_valid(row) => scalar::integer(out, array.value(row)),
            Cells::Double(array) if array.is_valid(row) && array.value(row).is_finite() => {
                scalar::float64(out, array.value(row));
            }
            other => return value(other.array(), row, style, out),
        }
        Ok(())
    }
}
