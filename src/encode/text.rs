//! Cells as people read them: the text of Spark's `show` and of Flink's `print`.
//!
//! Here too are the parts of a value that all formats share: its plain number, its text, its
//! bytes, its time, its items. Each is one match over the array's type and allocates nothing.

pub(crate) mod scalar;

use crate::error::Result;
use arrow::array::{Array, AsArray};
use arrow::datatypes::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use scalar::Clock;
use std::ops::Range;

/// Whose spelling a cell has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `NULL`, `2022-01-01 12:00:00`, `{a, b}`, `{k -> v}`, `[61 62]`.
    Spark,
    /// Java's `toString`: `null`, `2022-01-01T12:00`, `+I[a, b]`, `{k=v}`, `[97, 98]`.
    Flink,
}

/// Appends row `row` of `array` as text. `ltz` marks a TIMESTAMP_LTZ, which the array's type
/// need not show; only Flink spells it differently, with a `Z`.
pub fn cell(
    array: &dyn Array,
    row: usize,
    dialect: Dialect,
    ltz: bool,
    out: &mut Vec<u8>,
) -> Result<()> {
    let spark = dialect == Dialect::Spark;
    if is_null(array, row) {
        out.extend_from_slice(if spark { b"NULL" } else { b"null" });
        return Ok(());
    }
    if let Some(text) = string(array, row) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    if plain_number(array, row, out) || float(array, row, out).is_some() {
        return Ok(());
    }
    if let Some(bytes) = bytes(array, row) {
        binary(bytes, dialect, out);
        return Ok(());
    }
    if let Some((values, range)) = items(array, row) {
        return sequence(values, range, is_map(array), dialect, ltz, out);
    }
    match array.data_type() {
        DataType::Boolean => boolean(array, row, out),
        DataType::Dictionary(..) => {
            let (values, index) = dictionary_value(array, row);
            cell(values, index, dialect, ltz, out)?;
        }
        DataType::Struct(_) => {
            out.extend_from_slice(if spark { b"{" } else { b"+I[" });
            for (i, column) in array.as_struct().columns().iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                cell(column, row, dialect, ltz, out)?;
            }
            out.push(if spark { b'}' } else { b']' });
        }
        _ => {
            let style = if spark {
                TimeStyle::SPARK
            } else {
                TimeStyle::flink_print(ltz)
            };
            if !temporal(array, row, style, out) {
                other(array, row, out)?;
            }
        }
    }
    Ok(())
}

/// The items of an ARRAY, or the entries of a MAP.
fn sequence(
    values: &dyn Array,
    range: Range<usize>,
    is_map: bool,
    dialect: Dialect,
    ltz: bool,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(if is_map { b'{' } else { b'[' });
    let first = range.start;
    for i in range {
        if i > first {
            out.extend_from_slice(b", ");
        }
        if is_map {
            let entries = values.as_struct();
            cell(entries.column(0), i, dialect, ltz, out)?;
            out.extend_from_slice(if dialect == Dialect::Spark {
                b" -> "
            } else {
                b"="
            });
            cell(entries.column(1), i, dialect, ltz, out)?;
        } else {
            cell(values, i, dialect, ltz, out)?;
        }
    }
    out.push(if is_map { b'}' } else { b']' });
    Ok(())
}

fn binary(bytes: &[u8], dialect: Dialect, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, &byte) in bytes.iter().enumerate() {
        match dialect {
            Dialect::Spark => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                if i > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            Dialect::Flink => {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                // Java's bytes are signed.
                scalar::integer(out, byte as i8);
            }
        }
    }
    out.push(b']');
}

/// Whether the value is NULL, also where the array's own bitmap does not say so.
pub(crate) fn is_null(array: &dyn Array, row: usize) -> bool {
    match array.data_type() {
        DataType::Null => true,
        DataType::Dictionary(..) => {
            array.is_null(row) || {
                let (values, index) = dictionary_value(array, row);
                is_null(values, index)
            }
        }
        _ => array.is_null(row),
    }
}

/// Where the value of a dictionary array's row stands. The row must not be NULL.
pub(crate) fn dictionary_value(array: &dyn Array, row: usize) -> (&dyn Array, usize) {
    let dictionary = array.as_any_dictionary();
    let keys = dictionary.keys();
    let index = match keys.data_type() {
        DataType::Int8 => keys.as_primitive::<Int8Type>().value(row) as usize,
        DataType::Int16 => keys.as_primitive::<Int16Type>().value(row) as usize,
        DataType::Int32 => keys.as_primitive::<Int32Type>().value(row) as usize,
        DataType::Int64 => keys.as_primitive::<Int64Type>().value(row) as usize,
        DataType::UInt8 => keys.as_primitive::<UInt8Type>().value(row) as usize,
        DataType::UInt16 => keys.as_primitive::<UInt16Type>().value(row) as usize,
        DataType::UInt32 => keys.as_primitive::<UInt32Type>().value(row) as usize,
        _ => keys.as_primitive::<UInt64Type>().value(row) as usize,
    };
    (dictionary.values().as_ref(), index)
}

pub(crate) fn boolean(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(if array.as_boolean().value(row) {
        b"true"
    } else {
        b"false"
    });
}

/// Appends an integer or a decimal; false when the array holds neither.
pub(crate) fn plain_number(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> bool {
    macro_rules! integer {
        ($type:ty) => {
            scalar::integer(out, array.as_primitive::<$type>().value(row))
        };
    }
    macro_rules! decimal {
        ($type:ty, $scale:expr) => {
            scalar::decimal(
                out,
                i128::from(array.as_primitive::<$type>().value(row)),
                *$scale,
            )
        };
    }
    match array.data_type() {
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        DataType::Decimal32(_, scale) => decimal!(Decimal32Type, scale),
        DataType::Decimal64(_, scale) => decimal!(Decimal64Type, scale),
        DataType::Decimal128(_, scale) => decimal!(Decimal128Type, scale),
        DataType::Decimal256(_, scale) => {
            let value = array.as_primitive::<Decimal256Type>().value(row);
            scalar::decimal_text(out, &value.to_string(), *scale);
        }
        _ => return false,
    }
    true
}

/// Appends a floating-point number; whether it is finite, `None` when the array holds none.
pub(crate) fn float(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Option<bool> {
    match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            scalar::float64(out, value);
            Some(value.is_finite())
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            scalar::float32(out, value);
            Some(value.is_finite())
        }
        DataType::Float16 => {
            let value = array.as_primitive::<Float16Type>().value(row).to_f32();
            scalar::float32(out, value);
            Some(value.is_finite())
        }
        _ => None,
    }
}

/// The text of a string array; `None` when the array is none.
#[inline]
pub(crate) fn string(array: &dyn Array, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        _ => None,
    }
}

/// The bytes of a binary array; `None` when the array is none.
pub(crate) fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Some(array.as_fixed_size_binary().value(row)),
        _ => None,
    }
}

pub(crate) fn is_map(array: &dyn Array) -> bool {
    matches!(array.data_type(), DataType::Map(..))
}

/// The items of a list, or the entries of a map: the array that holds them and where.
pub(crate) fn items(array: &dyn Array, row: usize) -> Option<(&dyn Array, Range<usize>)> {
    fn range<O: arrow::array::OffsetSizeTrait>(offsets: &[O], row: usize) -> Range<usize> {
        offsets[row].as_usize()..offsets[row + 1].as_usize()
    }
    Some(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.values().as_ref(), range(list.value_offsets(), row))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (list.values().as_ref(), range(list.value_offsets(), row))
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let start = list.value_offset(row) as usize;
            (
                list.values().as_ref(),
                start..start + list.value_size(row) as usize,
            )
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let start = list.value_offset(row) as usize;
            (
                list.values().as_ref(),
                start..start + list.value_size(row) as usize,
            )
        }
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            let start = list.value_offset(row) as usize;
            (list.values().as_ref(), start..start + *length as usize)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            (map.entries() as &dyn Array, range(map.value_offsets(), row))
        }
        _ => return None,
    })
}

/// When a `Z` stands behind a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Never,
    /// When the array's type has a time zone.
    Typed,
    Always,
}

/// How timestamps and times of day are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeStyle {
    /// Between date and time.
    pub(crate) separator: u8,
    pub(crate) clock: Clock,
    pub(crate) zone: Zone,
}

impl TimeStyle {
    /// Spark shows timestamps in the session's time zone, which here is UTC.
    pub(crate) const SPARK: TimeStyle = TimeStyle {
        separator: b' ',
        clock: Clock::Sql,
        zone: Zone::Never,
    };

    fn flink_print(ltz: bool) -> TimeStyle {
        let zone = if ltz { Zone::Always } else { Zone::Typed };
        TimeStyle {
            separator: b'T',
            clock: Clock::Java,
            zone,
        }
    }
}

/// A timestamp as an array holds it: value, unit, and whether it has a zone. `None` when the array
/// holds none; anything for NULL.
fn timestamp(array: &dyn Array, row: usize) -> Option<(i64, TimeUnit, bool)> {
    let DataType::Timestamp(unit, zone) = array.data_type() else {
        return None;
    };
    let value = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    };
    Some((value, *unit, zone.is_some()))
}

/// Appends a date, a time of day or a timestamp; false when the array holds none.
pub(crate) fn temporal(array: &dyn Array, row: usize, style: TimeStyle, out: &mut Vec<u8>) -> bool {
    macro_rules! primitive {
        ($type:ty) => {
            i64::from(array.as_primitive::<$type>().value(row))
        };
    }
    if let Some((value, unit, has_zone)) = timestamp(array, row) {
        let zoned = match style.zone {
            Zone::Never => false,
            Zone::Typed => has_zone,
            Zone::Always => true,
        };
        let clock = match style.clock {
            Clock::Java if zoned => Clock::JavaInstant,
            clock => clock,
        };
        scalar::timestamp(out, value, &unit, style.separator, clock);
        if zoned {
            out.push(b'Z');
        }
        return true;
    }
    match array.data_type() {
        DataType::Date32 => scalar::date(out, primitive!(Date32Type)),
        DataType::Date64 => scalar::date(out, primitive!(Date64Type).div_euclid(86_400_000)),
        DataType::Time32(unit @ TimeUnit::Second) => {
            scalar::time(out, primitive!(Time32SecondType), unit, style.clock);
        }
        DataType::Time32(_) => {
            scalar::time(
                out,
                primitive!(Time32MillisecondType),
                &TimeUnit::Millisecond,
                style.clock,
            );
        }
        DataType::Time64(unit @ TimeUnit::Nanosecond) => {
            scalar::time(out, primitive!(Time64NanosecondType), unit, style.clock);
        }
        DataType::Time64(_) => {
            scalar::time(
                out,
                primitive!(Time64MicrosecondType),
                &TimeUnit::Microsecond,
                style.clock,
            );
        }
        _ => return false,
    }
    true
}

/// Appends what no other function here knows (intervals, durations, unions, run-end encoded
/// values) as Arrow displays it. The only way that allocates.
pub(crate) fn other(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(array, &options)?
        .value(row)
        .try_to_string()?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// A count for people: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2,000 files`: a count with its noun, whose plural ends in `s`.
pub fn counted(count: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        grouped(count),
        if count == 1 { "" } else { "s" }
    )
}

/// Bytes for people, in the units of `--memory`: `512.0 MB`, `1.5 GB`.
pub fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{:.1} kB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests;
