//! Typed columns under construction: the one way from values of any format to Arrow arrays.
//!
//! A column grows by exactly one slot per value, is cut back to an earlier length when its
//! record turns out bad, and becomes an array at the end of the batch.

use super::strings::Strings;
use super::{number, timestamp};
use crate::error::Result;
use crate::source::Span;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, NullBufferBuilder, PrimitiveArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// The value was not one of the column's type; the caller knows what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch;

/// A column of a type without children.
#[derive(Debug)]
pub(super) struct Scalar {
    values: Values,
    validity: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    String(Strings),
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp {
        values: Vec<i64>,
        minutes: timestamp::Minutes,
    },
    /// `ends` has no leading zero, so that it has one item per slot as the other vectors do.
    Binary {
        data: Vec<u8>,
        ends: Vec<i32>,
    },
}

/// Runs `$body` with `$values` bound to the vector that has one item per slot.
macro_rules! each_vec {
    ($of:expr, $values:ident => $body:expr, $strings:ident => $on_strings:expr) => {
        match $of {
            Values::String($strings) => $on_strings,
            Values::Boolean($values) => $body,
            Values::Int8($values) => $body,
            Values::Int16($values) => $body,
            Values::Int32($values) => $body,
            Values::Int64($values) | Values::Time($values) => $body,
            Values::Timestamp {
                values: $values, ..
            } => $body,
            Values::Float32($values) => $body,
            Values::Float64($values) => $body,
            Values::Decimal {
                values: $values, ..
            } => $body,
            Values::Date($values) => $body,
            Values::Binary { ends: $values, .. } => $body,
        }
    };
}

impl Scalar {
    /// `None` for a type with children, or one that no record format delivers.
    pub(super) fn new(data_type: &DataType) -> Option<Self> {
        let values = match data_type {
            DataType::Utf8View => Values::String(Strings::default()),
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time64(TimeUnit::Microsecond) => Values::Time(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Values::Timestamp {
                values: Vec::new(),
                minutes: timestamp::Minutes::default(),
            },
            DataType::Binary => Values::Binary {
                data: Vec::new(),
                ends: Vec::new(),
            },
            _ => return None,
        };
        Some(Self {
            values,
            validity: NullBufferBuilder::new(0),
        })
    }

    /// Starts a batch whose text may be borrowed from `source`.
    pub(super) fn begin(&mut self, source: &Buffer) {
        if let Values::String(strings) = &mut self.values {
            strings.begin(source);
        }
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.values, Values::String(_))
    }

    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Forgets all slots from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        each_vec!(&mut self.values, values => values.truncate(len), strings => strings.truncate(len));
        if let Values::Binary { data, ends } = &mut self.values {
            data.truncate(ends.last().map_or(0, |end| *end as usize));
        }
        self.validity.truncate(len);
    }

    pub(super) fn push_null(&mut self) {
        self.push_default(false);
    }

    /// Zero, false or empty, and NULL unless `valid`.
    pub(super) fn push_default(&mut self, valid: bool) {
        match &mut self.values {
            Values::Binary { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            other => {
                each_vec!(other, values => values.push(Default::default()), strings => strings.push(""))
            }
        }
        self.validity.append(valid);
    }

    /// A whole number, for every numeric type.
    #[inline]
    pub(super) fn push_integer(&mut self, value: i128) -> Result<(), Mismatch> {
        match &mut self.values {
            Values::Int64(values) => values.push(value.try_into().map_err(|_| Mismatch)?),
            Values::Int32(values) => values.push(value.try_into().map_err(|_| Mismatch)?),
            Values::Int16(values) => values.push(value.try_into().map_err(|_| Mismatch)?),
            Values::Int8(values) => values.push(value.try_into().map_err(|_| Mismatch)?),
            Values::Float64(values) => values.push(value as f64),
            Values::Float32(values) => values.push(value as f32),
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                let value = number::decimal_of_integer(value, *precision, *scale);
                values.push(value.ok_or(Mismatch)?);
            }
            _ => return Err(Mismatch),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// A double, for a DOUBLE column only: any other type needs the number's text.
    #[inline]
    pub(super) fn push_double(&mut self, value: f64) -> Result<(), Mismatch> {
        match &mut self.values {
            Values::Float64(values) if value.is_finite() => values.push(value),
            _ => return Err(Mismatch),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// A number as it is written, for every numeric type; rounded at most once.
    pub(super) fn push_number_text(&mut self, text: &str) -> Result<(), Mismatch> {
        match &mut self.values {
            Values::Float64(_) => self.push_double(float(text, f64::is_finite)?),
            Values::Float32(values) => {
                values.push(float(text, f32::is_finite)?);
                self.validity.append_non_null();
                Ok(())
            }
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                values.push(number::decimal(text, *precision, *scale).ok_or(Mismatch)?);
                self.validity.append_non_null();
                Ok(())
            }
            _ => self.push_integer(number::integer(text).ok_or(Mismatch)?),
        }
    }

    pub(super) fn push_bool(&mut self, value: bool) -> Result<(), Mismatch> {
        let Values::Boolean(values) = &mut self.values else {
            return Err(Mismatch);
        };
        values.push(value);
        self.validity.append_non_null();
        Ok(())
    }

    /// Text, for the types whose values formats write as a string: STRING, the times, BYTES.
    #[inline(always)]
    pub(super) fn push_str(&mut self, text: &str) -> Result<(), Mismatch> {
        match &mut self.values {
            Values::String(strings) => strings.push(text),
            Values::Timestamp { values, minutes } => {
                values.push(minutes.parse_us(text.as_bytes()).ok_or(Mismatch)?);
            }
            _ => return self.push_other_str(text),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Appends the texts at `spans` of `data`, all UTF-8; `None` for types that have no quick
    /// way. After an error there are more slots than before.
    pub(super) fn extend_texts(
        &mut self,
        data: &[u8],
        spans: &[Span],
    ) -> Option<Result<(), Mismatch>> {
        let count = spans.len();
        match &mut self.values {
            Values::String(strings) => strings.extend_texts(data, spans),
            Values::Timestamp { values, minutes } => {
                values.reserve(count);
                for span in spans {
                    let text = &data[span.start as usize..span.end as usize];
                    let Some(us) = minutes.parse_us(text) else {
                        return Some(Err(Mismatch));
                    };
                    values.push(us);
                }
            }
            _ => return None,
        }
        self.validity.append_n_non_nulls(count);
        Some(Ok(()))
    }

    #[inline(never)]
    fn push_other_str(&mut self, text: &str) -> Result<(), Mismatch> {
        match &mut self.values {
            Values::Date(values) => {
                values.push(timestamp::parse_date(text.as_bytes()).ok_or(Mismatch)?);
            }
            Values::Time(values) => {
                values.push(timestamp::parse_time_us(text.as_bytes()).ok_or(Mismatch)?);
            }
            Values::Binary { data, ends } => {
                let start = data.len();
                let decoded = STANDARD.decode_vec(text, data);
                end_of_bytes(data, ends, start, decoded.is_ok())?;
            }
            _ => return Err(Mismatch),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// A value of any type in text, as formats without types of their own (CSV) write it.
    /// Blanks around all but strings do not count.
    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Mismatch> {
        match &self.values {
            Values::String(_) => self.push_str(text),
            Values::Timestamp { .. }
            | Values::Date(_)
            | Values::Time(_)
            | Values::Binary { .. } => self.push_str(text.trim_ascii()),
            Values::Boolean(_) => match text.trim_ascii() {
                t if t.eq_ignore_ascii_case("true") => self.push_bool(true),
                t if t.eq_ignore_ascii_case("false") => self.push_bool(false),
                _ => Err(Mismatch),
            },
            _ => self.push_number_text(text.trim_ascii()),
        }
    }

    /// Bytes as they are, for a BYTES column only.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let Values::Binary { data, ends } = &mut self.values else {
            return Err(Mismatch);
        };
        let start = data.len();
        data.extend_from_slice(bytes);
        end_of_bytes(data, ends, start, true)?;
        self.validity.append_non_null();
        Ok(())
    }

    /// All slots as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.finish();
        Ok(match &mut self.values {
            Values::String(strings) => strings.finish(nulls),
            Values::Boolean(values) => {
                let values = std::mem::take(values);
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            Values::Int8(values) => primitive::<Int8Type>(values, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Decimal {
                values,
                precision,
                scale,
            } => {
                let array = Decimal128Array::new(std::mem::take(values).into(), nulls);
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls),
            Values::Timestamp { values, .. } => {
                primitive::<TimestampMicrosecondType>(values, nulls)
            }
            Values::Binary { data, ends } => binary(data, ends, nulls)?,
        })
    }
}

/// `text` as a finite float of either width. Rust's own parser rounds correctly, but also reads
/// `inf` and `NaN`, which are no numbers here.
fn float<F: std::str::FromStr + Copy>(text: &str, is_finite: fn(F) -> bool) -> Result<F, Mismatch> {
    if !number::is_number(text) {
        return Err(Mismatch);
    }
    text.parse()
        .ok()
        .filter(|value| is_finite(*value))
        .ok_or(Mismatch)
}

/// Ends the value that starts at `start`, or takes it back when it is not one or when the
/// column's bytes no longer fit Arrow's 32-bit offsets.
fn end_of_bytes(
    data: &mut Vec<u8>,
    ends: &mut Vec<i32>,
    start: usize,
    valid: bool,
) -> Result<(), Mismatch> {
    match i32::try_from(data.len()) {
        Ok(end) if valid => {
            ends.push(end);
            Ok(())
        }
        _ => {
            data.truncate(start);
            Err(Mismatch)
        }
    }
}

fn binary(data: &mut Vec<u8>, ends: &mut Vec<i32>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.drain(..)).collect();
    let data = Buffer::from_vec(std::mem::take(data));
    Ok(Arc::new(BinaryArray::try_new(
        OffsetBuffer::new(offsets.into()),
        data,
        nulls,
    )?))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(
        take_same_capacity(values).into(),
        nulls,
    ))
}

/// Takes the items and leaves as much room as there was: the next batch may be as long as the
/// longest so far.
pub(super) fn take_same_capacity<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.capacity();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

/// A text of the data in a message: quoted, one line, cut after 40 characters.
pub(super) fn shown(text: &str) -> String {
    let (text, dots) = cut(text);
    format!("{text:?}{dots}")
}

/// The first 40 characters, and dots when there are more.
pub(super) fn cut(text: &str) -> (&str, &str) {
    match text.char_indices().nth(40) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}
