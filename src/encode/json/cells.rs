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
#[derive(Debug, Clone)]
pub(super) struct LastTime {
    micros: i64,
    has_zone: bool,
    written: Snippet,
}

/// A text that is written often. A short one is copied with what is behind it, because a copy of so
/// many bytes as are known beforehand is a few instructions and no call.
#[derive(Debug, Clone)]
pub(super) struct Snippet {
    start: [u8; Self::SHORT],
    text: Vec<u8>,
}

impl Snippet {
    const SHORT: usize = 48;

    pub(super) fn new(text: Vec<u8>) -> Self {
        let mut start = [0; Self::SHORT];
        let short = text.len().min(Self::SHORT);
        start[..short].copy_from_slice(&text[..short]);
        Self { start, text }
    }

    #[inline]
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        if self.text.len() > Self::SHORT {
            return out.extend_from_slice(&self.text);
        }
        let end = out.len() + self.text.len();
        out.extend_from_slice(&self.start);
        out.truncate(end);
    }
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

    /// Appends `key` and the value of a row, as [`value`] does.
    #[inline]
    pub(super) fn append(
        self,
        row: usize,
        key: &Snippet,
        style: Style,
        last: &mut Option<LastTime>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let Cells::Micros(array) = self
            && array.is_valid(row)
        {
            let (micros, has_zone) = (array.value(row), array.timezone().is_some());
            let last = match last {
                Some(last) if last.micros == micros && last.has_zone == has_zone => last,
                other => {
                    let mut written = key.text.clone();
                    value(array, row, style, &mut written)?;
                    other.insert(LastTime {
                        micros,
                        has_zone,
                        written: Snippet::new(written),
                    })
                }
            };
            last.written.append(out);
            return Ok(());
        }
        key.append(out);
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
