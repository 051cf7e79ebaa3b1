//! Java's date and time patterns, compiled to a list of items that parse and format.
//!
//! | letters | meaning | parses |
//! |---|---|---|
//! | `yyyy` `uuuu` | year | as many digits as letters, or a signed longer year |
//! | `yy` `uu` | year | 2 digits, 2000 to 2099 |
//! | `y` `u` | year | 1 to 9 digits |
//! | `M` `MM` (`L`) | month | 1 or 2 digits, 2 digits |
//! | `MMM` `MMMM` (`LLL` …) | month's English name, short or full | either case |
//! | `d` `dd` | day of month | 1 or 2 digits, 2 digits |
//! | `D` `DDD` | day of year | 1 to 3 digits, 3 digits |
//! | `E` `EE` `EEE` `EEEE` | weekday's English name, short or full | must agree with the date |
//! | `H` `HH` | hour 0-23 | |
//! | `k` `kk` | hour 1-24 | |
//! | `h` `hh` | hour 1-12 (with `a`) | |
//! | `K` `KK` | hour 0-11 (with `a`) | |
//! | `m` `mm`, `s` `ss` | minute, second | |
//! | `S` … `SSSSSSSSS` | fraction of a second | as many digits as letters |
//! | `a` | `AM` or `PM` | either case |
//! | `Q` `QQ` | quarter | formats only |
//! | `X` `XX` `XXX`, `x` `xx` `xxx` | offset: `Z`, `+01`, `+0100`, `+01:00` | any of these spellings |
//! | `Z` `ZZ` `ZZZ` | offset: `+0100` | the same |
//! | `z` `zzz`, `VV` | zone: `UTC` | `UTC`, `GMT`, `Z` or an offset |
//! | `'text'`, `''` | the text, an apostrophe | |
//! | `[` `]` | optional when parsing | |
//!
//! Fields that a pattern lacks are those of 1970-01-01 00:00:00. All other characters that are
//! no letters stand for themselves; every other letter is an error that names it.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

use super::parse;
use crate::time::write_padded;

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Weekday,
    Hour,
    /// 1-24
    HourK,
    /// 1-12
    Hour12,
    /// 0-11
    Hour11,
    Minute,
    Second,
    Fraction,
    AmPm,
    Quarter,
    /// Offset that is written `Z` when it is zero.
    OffsetOrZ,
    Offset,
    /// `+0000`, however many letters.
    OffsetDigits,
    Zone,
}

/// Letter, field, the largest number of letters.
const LETTERS: [(char, Field, usize); 21] = [
    ('y', Field::Year, 9),
    ('u', Field::Year, 9),
    ('M', Field::Month, 4),
    ('L', Field::Month, 4),
    ('d', Field::Day, 2),
    ('D', Field::DayOfYear, 3),
    ('E', Field::Weekday, 4),
    ('H', Field::Hour, 2),
    ('k', Field::HourK, 2),
    ('h', Field::Hour12, 2),
    ('K', Field::Hour11, 2),
    ('m', Field::Minute, 2),
    ('s', Field::Second, 2),
    ('S', Field::Fraction, 9),
    ('a', Field::AmPm, 1),
    ('Q', Field::Quarter, 2),
    ('X', Field::OffsetOrZ, 3),
    ('x', Field::Offset, 3),
    ('Z', Field::OffsetDigits, 3),
    ('z', Field::Zone, 4),
    ('V', Field::Zone, 2),
];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Text(String),
    /// With the number of letters.
    Field(Field, usize),
    Optional(Vec<Item>),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    items: Vec<Item>,
}

impl Pattern {
    /// The error is a sentence that names the letter, to be put after the function's name.
    pub fn compile(text: &str) -> Result<Pattern, String> {
        let mut chars = text.chars().peekable();
        // The innermost list is the last; each '[' opens one.
        let mut open: Vec<Vec<Item>> = vec![Vec::new()];
        while let Some(c) = chars.next() {
            let item = match c {
                '\'' => Item::Text(quoted(&mut chars).ok_or_else(|| {
                    format!("the pattern '{text}' has an apostrophe that is not closed")
                })?),
                '[' => {
                    open.push(Vec::new());
                    continue;
                }
                ']' => match open.pop() {
                    Some(items) if !open.is_empty() => Item::Optional(items),
                    _ => return Err(format!("the pattern '{text}' has a ']' without a '['")),
                },
                _ if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    letters(c, count, text)?
                }
                _ => Item::Text(c.to_string()),
            };
            if let Some(items) = open.last_mut() {
                push(items, item);
            }
        }
        match (open.pop(), open.is_empty()) {
            (Some(items), true) => Ok(Pattern { items }),
            _ => Err(format!("the pattern '{text}' has a '[' without a ']'")),
        }
    }

    /// An error when the pattern holds something that can only be formatted.
    pub fn for_parsing(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::compile(text)?;
        match pattern.has(Field::Quarter) {
            true => Err(format!(
                "the pattern letter 'Q' in '{text}' cannot be parsed"
            )),
            false => Ok(pattern),
        }
    }

    fn has(&self, field: Field) -> bool {
        fn any(items: &[Item], field: Field) -> bool {
            items.iter().any(|item| match item {
                Item::Field(f, _) => *f == field,
                Item::Optional(items) => any(items, field),
                Item::Text(_) => false,
            })
        }
        any(&self.items, field)
    }

    /// Appends the text of a time (microseconds since 1970-01-01 UTC) to `out`; `None` when its
    /// year is beyond ±262,000.
    pub fn format(&self, us: i64, out: &mut String) -> Option<()> {
        let time = DateTime::from_timestamp_micros(us)?.naive_utc();
        format_items(&self.items, &time, out).ok()
    }

    /// The time that the whole text stands for, `None` when it does not follow the pattern or is
    /// no time of the calendar.
    pub fn parse(&self, text: &str) -> Option<i64> {
        parse::parse_items_of(&self.items, text)
    }
}

/// The text up to the closing apostrophe; `''` is one apostrophe, inside and outside of quotes.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars>) -> Option<String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Some("'".to_string());
    }
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_none() => return Some(text),
            c => text.push(c),
        }
    }
}

fn letters(letter: char, count: usize, pattern: &str) -> Result<Item, String> {
    match LETTERS.iter().find(|(l, _, _)| *l == letter) {
        Some((_, field, most)) if count <= *most => Ok(Item::Field(*field, count)),
        Some((_, _, most)) => Err(format!(
            "the pattern '{pattern}' repeats the letter '{letter}' {count} times, at most {most} are supported"
        )),
        None => Err(format!(
            "the pattern letter '{letter}' in '{pattern}' is not supported; literal text stands between apostrophes"
        )),
    }
}

fn push(items: &mut Vec<Item>, item: Item) {
    match (items.last_mut(), item) {
        (Some(Item::Text(last)), Item::Text(more)) => last.push_str(&more),
        (_, item) => items.push(item),
    }
}

fn format_items(items: &[Item], time: &NaiveDateTime, out: &mut String) -> std::fmt::Result {
    for item in items {
        match item {
            Item::Text(text) => out.push_str(text),
            Item::Optional(items) => format_items(items, time, out)?,
            Item::Field(field, count) => format_field(*field, *count, time, out)?,
        }
    }
    Ok(())
}

fn format_field(
    field: Field,
    count: usize,
    time: &NaiveDateTime,
    out: &mut String,
) -> std::fmt::Result {
    let name = |names: &[&'static str], i: usize, full: bool| -> &'static str {
        let name = names.get(i).copied().unwrap_or_default();
        if full { name } else { &name[..3] }
    };
    let number = match field {
        Field::Year if count == 2 => time.year().rem_euclid(100) as u32,
        Field::Year => {
            let sign = match time.year() {
                y if y < 0 => "-",
                y if count >= 4 && y.unsigned_abs() >= 10u32.pow(count as u32) => "+",
                _ => "",
            };
            out.push_str(sign);
            return write_padded(out, u64::from(time.year().unsigned_abs()), count);
        }
        Field::Month if count > 2 => {
            out.push_str(name(&MONTHS, time.month0() as usize, count == 4));
            return Ok(());
        }
        Field::Weekday => {
            let day = time.weekday().num_days_from_monday() as usize;
            out.push_str(name(&WEEKDAYS, day, count == 4));
            return Ok(());
        }
        Field::Fraction => {
            let fraction = time.nanosecond() / 10u32.pow(9 - count as u32);
            return write_padded(out, u64::from(fraction), count);
        }
        Field::AmPm => {
            out.push_str(if time.hour() < 12 { "AM" } else { "PM" });
            return Ok(());
        }
        Field::OffsetOrZ => {
            out.push('Z');
            return Ok(());
        }
        Field::Offset => {
            out.push_str(match count {
                1 => "+00",
                2 => "+0000",
                _ => "+00:00",
            });
            return Ok(());
        }
        Field::OffsetDigits => {
            out.push_str("+0000");
            return Ok(());
        }
        Field::Zone => {
            out.push_str("UTC");
            return Ok(());
        }
        Field::Month => time.month(),
        Field::Day => time.day(),
        Field::DayOfYear => time.ordinal(),
        Field::Hour => time.hour(),
        Field::HourK => (time.hour() + 23) % 24 + 1,
        Field::Hour12 => (time.hour() + 11) % 12 + 1,
        Field::Hour11 => time.hour() % 12,
        Field::Minute => time.minute(),
        Field::Second => time.second(),
        Field::Quarter => time.month0() / 3 + 1,
    };
    write_padded(out, u64::from(number), count)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_timestamp;
    use super::*;
    use crate::time::format_us;

    fn format(pattern: &str, text: &str) -> String {
        let mut out = String::new();
        let us = parse_timestamp(text).unwrap();
        Pattern::compile(pattern)
            .unwrap()
            .format(us, &mut out)
            .unwrap();
        out
    }

    fn parse(pattern: &str, text: &str) -> Option<String> {
        Pattern::for_parsing(pattern)
            .unwrap()
            .parse(text)
            .map(format_us)
    }

    #[test]
    fn formats() {
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss", "2022-03-04 15:06:07"),
            ("yy/M/d H:m:s", "22/3/4 15:6:7"),
            ("uuuu-MM-dd'T'HH:mm:ss.SSSXXX", "2022-03-04T15:06:07.089Z"),
            ("EEE, dd MMM yyyy hh:mm a", "Fri, 04 Mar 2022 03:06 PM"),
            ("EEEE d MMMM", "Friday 4 March"),
            ("'at' HH 'o''clock'", "at 15 o'clock"),
            ("S SS SSSSSS", "0 08 089012"),
            ("D DDD Q", "63 063 1"),
            ("k K h", "15 3 3"),
            ("xxx x z", "+00:00 +00 UTC"),
            // As of `x`, they were +00 and +00:00.
            ("Z ZZ ZZZ", "+0000 +0000 +0000"),
            ("HH[:mm]", "15:06"),
            ("yyyy年", "2022年"),
        ] {
            assert_eq!(
                format(pattern, "2022-03-04 15:06:07.089012"),
                expected,
                "{pattern}"
            );
        }
        assert_eq!(format("kk KK hh a", "2022-03-04 00:10"), "24 00 12 AM");
        assert_eq!(format("kk KK hh a", "2022-03-04 12:10"), "12 00 12 PM");
        assert_eq!(format("yyyy", "+12345-01-01"), "+12345");
    }

    #[test]
    fn parses() {
        for (pattern, text, expected) in [
            (
                "yyyyMMddHHmmss",
                "20220304150607",
                Some("2022-03-04 15:06:07"),
            ),
            ("yyyy-MM-dd", "2022-03-04", Some("2022-03-04 00:00:00")),
            ("yyyy-MM-dd", "2022-3-4", None),
            ("yyyy-M-d", "2022-3-14", Some("2022-03-14 00:00:00")),
            ("yyyy-MM-dd", "2022-03-04 ", None),
            ("yyyy-MM-dd", "2022-02-30", None),
            (
                "dd/MMM/yyyy:HH:mm:ss Z",
                "04/Mar/2022:15:06:07 +0100",
                Some("2022-03-04 14:06:07"),
            ),
            (
                "EEE MMM dd yyyy",
                "Fri Mar 04 2022",
                Some("2022-03-04 00:00:00"),
            ),
            ("EEE MMM dd yyyy", "Mon Mar 04 2022", None),
            (
                "yyyy-MM-dd'T'HH:mm:ss.SSSX",
                "2022-03-04T15:06:07.089Z",
                Some("2022-03-04 15:06:07.089"),
            ),
            (
                "yyyy-MM-dd HH:mm:ss[.SSS]",
                "2022-03-04 15:06:07",
                Some("2022-03-04 15:06:07"),
            ),
            ("yyyy-MM-dd HH:mm:ss[.SSS]", "2022-03-04 15:06:07.5", None),
            ("hh:mm a", "12:30 AM", Some("1970-01-01 00:30:00")),
            ("hh:mm a", "12:30 pm", Some("1970-01-01 12:30:00")),
            ("hh:mm a", "13:30 pm", None),
            ("HH:mm", "24:00", None),
            ("yyyy DDD", "2022 063", Some("2022-03-04 00:00:00")),
            ("yyyy DDD", "2022 366", None),
            ("yyyy", "é", None),
            ("MMM", "Mé", None),
            ("a", "é", None),
        ] {
            assert_eq!(
                parse(pattern, text).as_deref(),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn errors_name_the_letter() {
        let error = |p: &str| Pattern::compile(p).unwrap_err();
        assert!(error("yyyy-ww").contains("letter 'w'"));
        assert!(error("HHH").contains("'H' 3 times"));
        assert!(error("'open").contains("apostrophe"));
        assert!(error("[HH").contains("'['"));
        assert!(error("HH]").contains("']'"));
        assert!(Pattern::for_parsing("yyyy Q").unwrap_err().contains("'Q'"));
    }

    #[test]
    fn timestamps_without_a_pattern() {
        for (text, expected) in [
            ("2022-01-01 12:22:25", Some("2022-01-01 12:22:25")),
            ("2022-01-01T12:22:25.123", Some("2022-01-01 12:22:25.123")),
            (
                "2022-01-01T12:22:25.123456789Z",
                Some("2022-01-01 12:22:25.123456"),
            ),
            ("2022-01-01 12:22:25+02:00", Some("2022-01-01 10:22:25")),
            ("2022-01-01 12:22:25 UTC", Some("2022-01-01 12:22:25")),
            (" 2022-1-1 1:2 ", Some("2022-01-01 01:02:00")),
            ("2022-01-01", Some("2022-01-01 00:00:00")),
            (
                "1969-12-31 23:59:59.999999",
                Some("1969-12-31 23:59:59.999999"),
            ),
            ("2022-01-01 12", None),
            ("2022-01-01X12:00:00", None),
            ("2022-13-01 00:00:00", None),
            ("2022-01-01 24:00:00", None),
            ("2022-01-01 00:00:60", None),
            ("2022-01-01 00:00:00 soon", None),
            ("999999999-01-01", None),
            ("", None),
            ("now", None),
        ] {
            assert_eq!(
                parse_timestamp(text).map(format_us).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn text_of_any_time_reads_back(us in -60_000_000_000_000_000i64..250_000_000_000_000_000) {
            proptest::prop_assert_eq!(parse_timestamp(&format_us(us)), Some(us));
            let pattern = Pattern::for_parsing("yyyy-MM-dd HH:mm:ss.SSSSSS").unwrap();
            let mut out = String::new();
            pattern.format(us, &mut out).unwrap();
            proptest::prop_assert_eq!(pattern.parse(&out), Some(us));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}", pattern in "[yMdHhkKmsSaEXxZz' :.\\[\\]-]{0,12}") {
            parse_timestamp(&text);
            if let Ok(pattern) = Pattern::for_parsing(&pattern) {
                pattern.parse(&text);
            }
        }
    }
}
