//! Calendar fields and calendar arithmetic: YEAR … SECOND, DATEDIFF, DATE_ADD, TIMESTAMPDIFF,
//! TIMESTAMPADD. Times are UTC; a result outside the type's range is NULL.

use arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Timelike};
use datafusion_common::Result;

use super::udf::{Call, Column, Kind, Param, Spec, TIMESTAMP, param};
use crate::time::{US_PER_DAY, US_PER_SECOND};
use arrow::array::StringViewArray;

const TIME: &[Param] = &[param("timestamp", Kind::Time)];
const DATE_AND_DAYS: &[Param] = &[param("date", Kind::Time), param("days", Kind::Int)];
const DATE_AND_MONTHS: &[Param] = &[param("date", Kind::Time), param("months", Kind::Int)];
const TWO_DATES: &[Param] = &[param("end", Kind::Time), param("start", Kind::Time)];
const UNIT_AND_TWO_TIMES: &[Param] = &[
    param("unit", Kind::Text),
    param("start", Kind::Time),
    param("end", Kind::Time),
];
const UNIT_NUMBER_TIME: &[Param] = &[
    param("unit", Kind::Text),
    param("number", Kind::Int),
    param("timestamp", Kind::Time),
];

const fn field(name: &'static str, eval: fn(&Call) -> Result<ArrayRef>) -> Spec {
    Spec::new(name, TIME, DataType::Int64, eval)
}

pub(super) static FUNCTIONS: [Spec; 21] = [
    field("year", |c| fields(c, |t| i64::from(t.year()))),
    field("quarter", |c| fields(c, |t| i64::from(t.month0() / 3 + 1))),
    field("month", |c| fields(c, |t| i64::from(t.month()))),
    field("week", |c| fields(c, |t| i64::from(t.iso_week().week()))).aliases(&["weekofyear"]),
    field("dayofyear", |c| fields(c, |t| i64::from(t.ordinal()))),
    field("dayofmonth", |c| fields(c, |t| i64::from(t.day()))).aliases(&["day"]),
    field("dayofweek", |c| {
        fields(c, |t| i64::from(t.weekday().number_from_sunday()))
    }),
    field("weekday", |c| {
        fields(c, |t| i64::from(t.weekday().num_days_from_monday()))
    }),
    field("hour", |c| fields(c, |t| i64::from(t.hour()))),
    field("minute", |c| fields(c, |t| i64::from(t.minute()))),
    field("second", |c| fields(c, |t| i64::from(t.second()))),
    // `EXTRACT(MILLISECOND FROM …)` and its like, within the second
    field("windrow_millisecond", |c| {
        fields(c, |t| nanosecond(t) / 1_000_000)
    }),
    field("windrow_microsecond", |c| {
        fields(c, |t| nanosecond(t) / 1000)
    }),
    field("windrow_nanosecond", |c| fields(c, nanosecond)),
    Spec::new("datediff", TWO_DATES, DataType::Int64, datediff).aliases(&["date_diff"]),
    Spec::new("date_add", DATE_AND_DAYS, DataType::Date32, |c| {
        add_days(c, 1)
    })
    .aliases(&["dateadd"]),
    Spec::new("date_sub", DATE_AND_DAYS, DataType::Date32, |c| {
        add_days(c, -1)
    }),
    Spec::new(
        "add_months",
        DATE_AND_MONTHS,
        DataType::Date32,
        add_months_to_date,
    ),
    Spec::new("last_day", TIME, DataType::Date32, last_day),
    Spec::new(
        "timestampdiff",
        UNIT_AND_TWO_TIMES,
        DataType::Int64,
        timestampdiff,
    )
    .check(check_unit),
    Spec::new("timestampadd", UNIT_NUMBER_TIME, TIMESTAMP, timestampadd).check(check_unit),
];

fn calendar(us: i64) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(us)?.naive_utc())
}

fn fields(call: &Call, field: fn(NaiveDateTime) -> i64) -> Result<ArrayRef> {
    let time = call.time(0)?;
    call.map::<Int64Array, _>(|row| calendar(time.get(row)?).map(field))
}

fn nanosecond(time: NaiveDateTime) -> i64 {
    i64::from(time.nanosecond() % 1_000_000_000)
}

fn days_of(us: i64) -> i64 {
    us.div_euclid(US_PER_DAY)
}

/// Whole days from the date of `start` to that of `end`, as Spark counts them.
fn datediff(call: &Call) -> Result<ArrayRef> {
    let (end, start) = (call.time(0)?, call.time(1)?);
    call.map::<Int64Array, _>(|row| Some(days_of(end.get(row)?) - days_of(start.get(row)?)))
}

fn add_days(call: &Call, sign: i64) -> Result<ArrayRef> {
    let (date, days) = (call.time(0)?, call.int(1)?);
    call.map::<Date32Array, _>(|row| {
        let days = days.get(row)?.checked_mul(sign)?;
        i32::try_from(days_of(date.get(row)?).checked_add(days)?).ok()
    })
}

fn date32(date: NaiveDate) -> Option<i32> {
    i32::try_from(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp() / 86_400).ok()
}

fn add_months_to_date(call: &Call) -> Result<ArrayRef> {
    let (date, months) = (call.time(0)?, call.int(1)?);
    call.map::<Date32Array, _>(|row| {
        date32(add_months(calendar(date.get(row)?)?, months.get(row)?)?.date())
    })
}

fn last_day(call: &Call) -> Result<ArrayRef> {
    let time = call.time(0)?;
    call.map::<Date32Array, _>(|row| {
        let first = calendar(time.get(row)?)?.date().with_day(1)?;
        let next = first.checked_add_months(Months::new(1))?;
        date32(next.checked_sub_days(Days::new(1))?)
    })
}

/// The same day of another month, or that month's last day when it is shorter.
fn add_months(time: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    match months < 0 {
        true => time.checked_sub_months(count),
        false => time.checked_add_months(count),
    }
}

/// A unit of time: so many microseconds, or so many months.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Us(i64),
    Months(i64),
}

/// `SECOND`, `SECONDS` and `SQL_TSI_SECOND` are one unit, in either case.
fn unit(name: &str) -> Result<Unit, String> {
    let upper = name.trim().to_uppercase();
    let base = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
    match base.strip_suffix('S').unwrap_or(base) {
        "MICROSECOND" => Ok(Unit::Us(1)),
        "MILLISECOND" => Ok(Unit::Us(1000)),
        "SECOND" => Ok(Unit::Us(US_PER_SECOND)),
        "MINUTE" => Ok(Unit::Us(60 * US_PER_SECOND)),
        "HOUR" => Ok(Unit::Us(3600 * US_PER_SECOND)),
        "DAY" => Ok(Unit::Us(US_PER_DAY)),
        "WEEK" => Ok(Unit::Us(7 * US_PER_DAY)),
        "MONTH" => Ok(Unit::Months(1)),
        "QUARTER" => Ok(Unit::Months(3)),
        "YEAR" => Ok(Unit::Months(12)),
        _ => Err(format!(
            "'{name}' is no unit; units are MICROSECOND, MILLISECOND, SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR"
        )),
    }
}

fn check_unit(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.first() {
        Some(Some(name)) => unit(name).map(|_| ()),
        _ => Ok(()),
    }
}

/// The unit of a row; `None` for NULL.
fn unit_of(call: &Call, column: &Column<&StringViewArray>, row: usize) -> Result<Option<Unit>> {
    let name = column.get(row);
    name.map(|name| unit(name).map_err(|e| call.error(0, format!("is wrong: {e}"))))
        .transpose()
}

/// Whole units from `start` to `end`, cut towards zero.
fn timestampdiff(call: &Call) -> Result<ArrayRef> {
    let (units, start, end) = (call.text(0)?, call.time(1)?, call.time(2)?);
    let difference = |unit: Unit, start: i64, end: i64| match unit {
        Unit::Us(us) => Some(end.checked_sub(start)? / us),
        Unit::Months(n) => Some(whole_months(calendar(start)?, calendar(end)?) / n),
    };
    call.try_map::<Int64Array, _>(|row| {
        let (Some(unit), Some(start), Some(end)) =
            (unit_of(call, &units, row)?, start.get(row), end.get(row))
        else {
            return Ok(None);
        };
        Ok(difference(unit, start, end))
    })
}

/// Calendar months that have passed completely, negative when `end` is before `start`.
fn whole_months(start: NaiveDateTime, end: NaiveDateTime) -> i64 {
    let index = |t: NaiveDateTime| i64::from(t.year()) * 12 + i64::from(t.month0());
    let in_month = |t: NaiveDateTime| (t.day(), t.time());
    let months = index(end) - index(start);
    if months > 0 && in_month(end) < in_month(start) {
        months - 1
    } else if months < 0 && in_month(end) > in_month(start) {
        months + 1
    } else {
        months
    }
}

fn timestampadd(call: &Call) -> Result<ArrayRef> {
    let (units, number, time) = (call.text(0)?, call.int(1)?, call.time(2)?);
    let sum = |unit: Unit, number: i64, us: i64| match unit {
        Unit::Us(size) => us.checked_add(number.checked_mul(size)?),
        Unit::Months(n) => {
            let months = number.checked_mul(n)?;
            Some(
                add_months(calendar(us)?, months)?
                    .and_utc()
                    .timestamp_micros(),
            )
        }
    };
    call.try_map::<TimestampMicrosecondArray, _>(|row| {
        let (Some(unit), Some(number), Some(us)) =
            (unit_of(call, &units, row)?, number.get(row), time.get(row))
        else {
            return Ok(None);
        };
        Ok(sum(unit, number, us))
    })
}
