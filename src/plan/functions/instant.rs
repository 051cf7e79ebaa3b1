//! Functions that make timestamps, dates and epoch numbers from text and numbers, and text from
//! timestamps: TO_TIMESTAMP, TO_DATE, UNIX_TIMESTAMP, FROM_UNIXTIME, DATE_FORMAT and their kin.
//! What cannot be read, or lies outside the type's range, is NULL.

use arrow::array::{
    Array, ArrayRef, Date32Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use super::parse::parse_timestamp;
use super::pattern::Pattern;
use super::udf::{Call, Column, Kind, Memo, Param, Spec, TIMESTAMP, optional, param};
use crate::time::{US_PER_DAY, US_PER_SECOND};

const TEXT_AND_PATTERN: &[Param] = &[param("text", Kind::Moment), optional("format", Kind::Text)];
const EPOCH: &[Param] = &[param("epoch", Kind::Number)];

pub(super) static FUNCTIONS: [Spec; 13] = [
    Spec::new("to_timestamp", TEXT_AND_PATTERN, TIMESTAMP, to_timestamp)
        .aliases(&["try_to_timestamp"])
        .check(check_parse),
    Spec::new("to_timestamp_ltz", LTZ, TIMESTAMP, to_timestamp_ltz).check(check_ltz),
    Spec::new("to_date", TEXT_AND_PATTERN, DataType::Date32, to_date).check(check_parse),
    TO_UNIX_TIMESTAMP,
    Spec::new(
        "from_unixtime",
        FROM_UNIXTIME,
        DataType::Utf8View,
        from_unixtime,
    )
    .check(check_format),
    Spec::new("date_format", DATE_FORMAT, DataType::Utf8View, date_format).check(check_format),
    Spec::new("timestamp_seconds", EPOCH, TIMESTAMP, |c| {
        from_epoch(c, US_PER_SECOND)
    }),
    Spec::new("timestamp_millis", EPOCH, TIMESTAMP, |c| {
        from_epoch(c, 1000)
    }),
    Spec::new("timestamp_micros", EPOCH, TIMESTAMP, |c| from_epoch(c, 1)),
    Spec::new("unix_seconds", TIME, DataType::Int64, |c| {
        to_epoch(c, US_PER_SECOND)
    }),
    Spec::new("unix_millis", TIME, DataType::Int64, |c| to_epoch(c, 1000)),
    Spec::new("unix_micros", TIME, DataType::Int64, |c| to_epoch(c, 1)),
    Spec::new(CUT_TIME, TIME_AND_DIGITS, TIMESTAMP, cut_time),
];

/// The name of what cuts a time to the precision of `TIMESTAMP(p)`.
pub(crate) const CUT_TIME: &str = "windrow_cut_time";

/// UNIX_TIMESTAMP with arguments: the part that reads no clock, so the plan may fold and move it.
pub(super) const TO_UNIX_TIMESTAMP: Spec = Spec::new(
    "to_unix_timestamp",
    TEXT_AND_PATTERN,
    DataType::Int64,
    to_unix_timestamp,
)
.check(check_parse);

const LTZ: &[Param] = &[
    param("epoch or text", Kind::Moment),
    optional("precision or format", Kind::TextOrInt),
    optional("time zone", Kind::Text),
];
const FROM_UNIXTIME: &[Param] = &[
    param("seconds", Kind::Number),
    optional("format", Kind::Text),
];
const DATE_FORMAT: &[Param] = &[param("timestamp", Kind::Time), param("format", Kind::Text)];
const TIME: &[Param] = &[param("timestamp", Kind::Time)];
const TIME_AND_DIGITS: &[Param] = &[param("timestamp", Kind::Time), param("digits", Kind::Int)];

fn check_parse(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(pattern)) => Pattern::for_parsing(pattern).map(|_| ()),
        _ => Ok(()),
    }
}

fn check_format(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(pattern)) => Pattern::compile(pattern).map(|_| ()),
        _ => Ok(()),
    }
}

fn check_ltz(literals: &[Option<&str>]) -> Result<(), String> {
    check_parse(literals)?;
    match literals.get(2) {
        Some(Some(zone)) if !["UTC", "GMT", "Z"].contains(zone) => Err(format!(
            "the time zone '{zone}' is not supported, all times are UTC"
        )),
        _ => Ok(()),
    }
}

/// The latest time with so many digits behind its seconds that is not after this one: before 1970, too.
fn cut_time(call: &Call) -> Result<ArrayRef> {
    let (time, digits) = (call.time(0)?, call.int(1)?);
    call.map::<TimestampMicrosecondArray, _>(|row| {
        let digits = u32::try_from(digits.get(row)?).ok()?;
        let unit = 10_i64.checked_pow(6_u32.checked_sub(digits)?)?;
        let us = time.get(row)?;
        us.checked_sub(us.rem_euclid(unit))
    })
}

/// Microseconds of `value` units of `scale` microseconds, `None` beyond the type's range.
fn scale_int(value: i64, scale: i64) -> Option<i64> {
    value.checked_mul(scale)
}

fn scale_double(value: f64, scale: i64) -> Option<i64> {
    let us = (value * scale as f64).round();
    // Both bounds are exact as doubles; NaN is in no range.
    (us >= i64::MIN as f64 && us < i64::MAX as f64).then_some(us as i64)
}

/// The microseconds of each row of argument 0, a number of units of `scale` microseconds.
fn epoch_us(call: &Call, scale: impl Fn(usize) -> Option<i64>) -> Result<ArrayRef> {
    if call.data_type(0) == &DataType::Float64 {
        let value = call.double(0)?;
        return call
            .map::<TimestampMicrosecondArray, _>(|row| scale_double(value.get(row)?, scale(row)?));
    }
    let value = call.int(0)?;
    call.map::<TimestampMicrosecondArray, _>(|row| scale_int(value.get(row)?, scale(row)?))
}

fn from_epoch(call: &Call, scale: i64) -> Result<ArrayRef> {
    epoch_us(call, |_| Some(scale))
}

fn to_epoch(call: &Call, scale: i64) -> Result<ArrayRef> {
    let time = call.time(0)?;
    call.map::<Int64Array, _>(|row| time.get(row).map(|us| us.div_euclid(scale)))
}

/// Reads the times of argument 0 (text, by the pattern of argument 1 if there is one).
struct Texts<'a> {
    text: Column<&'a StringViewArray>,
    pattern: Option<Column<&'a StringViewArray>>,
    memo: Memo<Pattern>,
}

impl<'a> Texts<'a> {
    fn new(call: &'a Call) -> Result<Self> {
        Ok(Texts {
            text: call.text(0)?,
            pattern: call.optional_text(1)?,
            memo: Memo::new(),
        })
    }

    fn get(&mut self, call: &Call, row: usize) -> Result<Option<i64>> {
        let Some(text) = self.text.get(row) else {
            return Ok(None);
        };
        let Some(column) = &self.pattern else {
            return Ok(parse_timestamp(text));
        };
        let Some(pattern) = column.get(row) else {
            return Ok(None);
        };
        let pattern = self.memo.get(pattern, Pattern::for_parsing);
        Ok(pattern
            .map_err(|e| call.error(1, format!("is wrong: {e}")))?
            .parse(text))
    }
}

/// `convert(microseconds)` of each row's moment: text, timestamp, or seconds as a number.
fn moments<A, T>(call: &Call, convert: impl Fn(i64) -> Option<T>) -> Result<ArrayRef>
where
    A: FromIterator<Option<T>> + arrow::array::Array + 'static,
{
    match call.data_type(0) {
        DataType::Utf8View => {
            let mut texts = Texts::new(call)?;
            call.try_map::<A, T>(|row| Ok(texts.get(call, row)?.and_then(&convert)))
        }
        DataType::Int64 => {
            let value = call.int(0)?;
            call.map::<A, T>(|row| convert(scale_int(value.get(row)?, US_PER_SECOND)?))
        }
        DataType::Float64 => {
            let value = call.double(0)?;
            call.map::<A, T>(|row| convert(scale_double(value.get(row)?, US_PER_SECOND)?))
        }
        _ => {
            let time = call.time(0)?;
            call.map::<A, T>(|row| convert(time.get(row)?))
        }
    }
}

fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    moments::<TimestampMicrosecondArray, _>(call, Some)
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    moments::<Date32Array, _>(call, |us| i32::try_from(us.div_euclid(US_PER_DAY)).ok())
}

fn to_unix_timestamp(call: &Call) -> Result<ArrayRef> {
    moments::<Int64Array, _>(call, |us| Some(us.div_euclid(US_PER_SECOND)))
}

fn to_timestamp_ltz(call: &Call) -> Result<ArrayRef> {
    if !matches!(call.data_type(0), DataType::Int64 | DataType::Float64) {
        return to_timestamp(call);
    }
    if call.len() < 2 {
        return from_epoch(call, 1000);
    }
    if call.array(1).null_count() == call.array(1).len() {
        // A bare NULL has the type of a text.
        return Ok(new_null_array(&TIMESTAMP, call.rows()));
    }
    let precision = call.int(1)?;
    // Checked for all rows first, so that the loop over rows has no error.
    for row in 0..call.rows() {
        if let Some(p) = precision.get(row).filter(|p| ![0, 3, 6].contains(p)) {
            return Err(call.error(1, format!("is {p}, but must be 0, 3 or 6")));
        }
    }
    epoch_us(call, |row| match precision.get(row)? {
        0 => Some(US_PER_SECOND),
        3 => Some(1000),
        _ => Some(1),
    })
}

/// Formats `time(row)` by the pattern of argument 1, or as `2022-01-01 12:22:25`.
fn format_rows(call: &Call, time: impl Fn(usize) -> Option<i64>) -> Result<ArrayRef> {
    let pattern = call.optional_text(1)?;
    let mut memo = Memo::new();
    call.try_map::<StringViewArray, String>(|row| {
        let Some(us) = time(row) else {
            return Ok(None);
        };
        let text = match &pattern {
            Some(pattern) => pattern.get(row),
            None => Some("yyyy-MM-dd HH:mm:ss"),
        };
        let Some(text) = text else {
            return Ok(None);
        };
        let pattern: &Pattern = memo
            .get(text, Pattern::compile)
            .map_err(|e| call.error(1, format!("is wrong: {e}")))?;
        let mut out = String::with_capacity(32);
        Ok(pattern.format(us, &mut out).map(|()| out))
    })
}

fn from_unixtime(call: &Call) -> Result<ArrayRef> {
    if call.data_type(0) == &DataType::Float64 {
        let seconds = call.double(0)?;
        return format_rows(call, |row| {
            scale_double(seconds.get(row)?.floor(), US_PER_SECOND)
        });
    }
    let seconds = call.int(0)?;
    format_rows(call, |row| scale_int(seconds.get(row)?, US_PER_SECOND))
}

fn date_format(call: &Call) -> Result<ArrayRef> {
    let time = call.time(0)?;
    format_rows(call, |row| time.get(row))
}
