//! Reading times: by the items of a [`Pattern`](super::pattern::Pattern), and without one.

use chrono::{Datelike, NaiveDate, NaiveTime, Weekday};

use super::pattern::{Field, Item, MONTHS, WEEKDAYS};

/// The time that the whole text stands for.
pub(super) fn parse_items_of(items: &[Item], text: &str) -> Option<i64> {
    let mut parsed = Parsed::default();
    let rest = parse_items(items, text, &mut parsed)?;
    rest.is_empty().then(|| parsed.resolve()).flatten()
}

/// What the items of a pattern have read so far.
#[derive(Debug, Clone, Default)]
struct Parsed {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    weekday: Option<usize>,
    hour: Option<u32>,
    /// 0-11
    hour_of_half: Option<u32>,
    afternoon: bool,
    minute: u32,
    second: u32,
    nanos: u32,
    offset_seconds: i64,
}

impl Parsed {
    /// Takes a number; `None` when it is out of the field's range. Ranges that the calendar
    /// checks are left to [`Parsed::resolve`].
    fn set(&mut self, field: Field, count: usize, value: u32) -> Option<()> {
        match field {
            Field::Month => self.month = Some(value),
            Field::Day => self.day = Some(value),
            Field::DayOfYear => self.day_of_year = Some(value),
            Field::Hour => self.hour = Some(value),
            Field::HourK if (1..=24).contains(&value) => self.hour = Some(value % 24),
            Field::Hour12 if (1..=12).contains(&value) => self.hour_of_half = Some(value % 12),
            Field::Hour11 if value < 12 => self.hour_of_half = Some(value),
            Field::Minute => self.minute = value,
            Field::Second => self.second = value,
            Field::Fraction => self.nanos = value * 10u32.pow(9 - count as u32),
            _ => return None,
        }
        Some(())
    }

    fn resolve(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day)?,
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        if let Some(day) = self.weekday
            && date.weekday() != Weekday::try_from(day as u8).ok()?
        {
            return None;
        }
        let half = if self.afternoon { 12 } else { 0 };
        let hour = self
            .hour
            .or(self.hour_of_half.map(|h| h + half))
            .unwrap_or(0);
        let time = NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?;
        let us = date.and_time(time).and_utc().timestamp_micros();
        us.checked_sub(self.offset_seconds * 1_000_000)
    }
}

/// Reads the items from the start of `text`; gives what is left.
fn parse_items<'a>(items: &[Item], mut text: &'a str, parsed: &mut Parsed) -> Option<&'a str> {
    for (i, item) in items.iter().enumerate() {
        text = match item {
            Item::Text(literal) => text.strip_prefix(literal.as_str())?,
            Item::Optional(inner) => {
                let mut attempt = parsed.clone();
                match parse_items(inner, text, &mut attempt) {
                    Some(rest) => {
                        *parsed = attempt;
                        rest
                    }
                    None => text,
                }
            }
            Item::Field(field, count) => {
                let adjacent = matches!(items.get(i + 1), Some(Item::Field(..)));
                parse_field(*field, *count, adjacent, text, parsed)?
            }
        };
    }
    Some(text)
}

fn parse_field<'a>(
    field: Field,
    count: usize,
    adjacent: bool,
    text: &'a str,
    parsed: &mut Parsed,
) -> Option<&'a str> {
    match field {
        Field::Year => return parse_year(count, adjacent, text, parsed),
        Field::Month if count > 2 => {
            let (month, rest) = one_of(text, &MONTHS, count == 4)?;
            parsed.month = Some(month as u32 + 1);
            return Some(rest);
        }
        Field::Weekday => {
            let (day, rest) = one_of(text, &WEEKDAYS, count == 4)?;
            parsed.weekday = Some(day);
            return Some(rest);
        }
        Field::AmPm => {
            let half = text.get(..2)?;
            parsed.afternoon = half.eq_ignore_ascii_case("pm");
            return (parsed.afternoon || half.eq_ignore_ascii_case("am")).then(|| &text[2..]);
        }
        Field::OffsetOrZ | Field::Offset | Field::OffsetDigits | Field::Zone => {
            let (seconds, rest) = parse_offset(text)?;
            parsed.offset_seconds = seconds;
            return Some(rest);
        }
        _ => {}
    }
    // A single letter takes what there is, more letters exactly so many digits.
    let most = match (field, count) {
        (Field::DayOfYear, 1) => 3,
        (Field::Fraction, _) | (_, 2..) => count,
        _ => 2,
    };
    let (value, rest) = digits(text, count, most)?;
    parsed.set(field, count, value)?;
    Some(rest)
}

fn parse_year<'a>(
    count: usize,
    adjacent: bool,
    text: &'a str,
    parsed: &mut Parsed,
) -> Option<&'a str> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let signed = unsigned.len() < text.len();
    let most = match count {
        1 => 9,
        _ if signed && !adjacent => 9,
        _ => count,
    };
    let (value, rest) = digits(unsigned, count, most)?;
    let year = sign * i32::try_from(value).ok()?;
    parsed.year = Some(match count {
        2 if signed => return None,
        2 => 2000 + year,
        _ => year,
    });
    Some(rest)
}

/// `least` to `most` (at most 9) digits from the start of `text`, and what is left.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let bytes = text.as_bytes();
    let (mut value, mut n) = (0u32, 0);
    while n < most && bytes.get(n).is_some_and(u8::is_ascii_digit) {
        value = value * 10 + u32::from(bytes[n] - b'0');
        n += 1;
    }
    (n >= least).then(|| (value, &text[n..]))
}

/// Which of `names` (or of their first three letters) the text starts with.
fn one_of<'a>(text: &'a str, names: &[&str], full: bool) -> Option<(usize, &'a str)> {
    names.iter().enumerate().find_map(|(i, name)| {
        let name = if full { name } else { &name[..3] };
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| (i, &text[name.len()..]))
    })
}

/// Seconds east of UTC from `Z`, `UTC`, `GMT`, `+01`, `+0100`, `+01:00`, and what is left.
fn parse_offset(text: &str) -> Option<(i64, &str)> {
    for zero in ["UTC", "GMT", "Z", "z"] {
        if let Some(rest) = text.strip_prefix(zero) {
            return Some((0, rest));
        }
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(&text[1..], 2, 2)?;
    let minutes = digits(rest.strip_prefix(':').unwrap_or(rest), 2, 2);
    let (minutes, rest) = minutes.unwrap_or((0, rest));
    let in_range = hours <= 18 && minutes < 60;
    in_range.then(|| {
        (
            sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60),
            rest,
        )
    })
}

/// A timestamp without a pattern: `2022-01-01`, then a blank or `T`, `12:22[:25[.123456789]]`, then
/// optionally an offset (`Z`, `UTC`, `+01:00`), which is converted to UTC. Months, days and times
/// may have one digit, blanks around are ignored, digits after the sixth are cut.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (year, rest) = digits(unsigned, 4, 9)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 1, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 1, 2)?;
    let year = i32::try_from(year).ok()?;
    let date = NaiveDate::from_ymd_opt(if negative { -year } else { year }, month, day)?;
    let (us_of_day, offset_seconds) = match rest.strip_prefix([' ', 'T']) {
        None if rest.is_empty() => (0, 0),
        None => return None,
        Some(rest) => parse_time_of_day(rest)?,
    };
    let day_us = date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    day_us
        .checked_add(us_of_day)?
        .checked_sub(offset_seconds * 1_000_000)
}

/// Microseconds of the day and seconds east of UTC.
fn parse_time_of_day(text: &str) -> Option<(i64, i64)> {
    let (hour, rest) = digits(text, 1, 2)?;
    let (minute, mut rest) = digits(rest.strip_prefix(':')?, 1, 2)?;
    let (mut second, mut nanos) = (0, 0);
    if let Some(tail) = rest.strip_prefix(':') {
        (second, rest) = digits(tail, 1, 2)?;
        if let Some(tail) = rest.strip_prefix('.') {
            let fraction;
            (fraction, rest) = digits(tail, 0, 9)?;
            nanos = fraction * 10u32.pow(9 - (tail.len() - rest.len()) as u32);
        }
    }
    let offset = match rest.trim_start() {
        "" => 0,
        zone => match parse_offset(zone)? {
            (seconds, "") => seconds,
            _ => return None,
        },
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some((seconds * 1_000_000 + i64::from(nanos / 1000), offset))
}
