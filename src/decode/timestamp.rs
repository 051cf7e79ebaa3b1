//! Timestamps, dates and times of day from text, in the SQL and the ISO-8601 spelling.
//!
//! Shared by every text format. All functions take the bytes of one value without surrounding
//! blanks and return `None` for anything that is not exactly one of the spellings.

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Microseconds since the epoch (UTC, negative before 1970) of
/// `YYYY-MM-DD{T| }HH:MM:SS[.f{1,9}][Z|±hh:mm|±hhmm|±hh]`.
///
/// A fraction is cut after the microseconds; without a zone the time is UTC. Years are 0000 to
/// 9999 and days those of the calendar; 24:00, a second 60 and an offset beyond ±18:00 are none.
pub fn parse_us(text: &[u8]) -> Option<i64> {
    let (minute, rest) = text.split_first_chunk::<16>()?;
    Some(minute_us(minute)? + rest_us(rest)?)
}

/// Parses like [`parse_us`], and remembers the last minute: times of one stream lie close
/// together, and the calendar is the costly part.
#[derive(Debug)]
pub struct Minutes {
    text: [u8; 16],
    us: i64,
}

impl Default for Minutes {
    fn default() -> Self {
        Self {
            text: *b"1970-01-01 00:00",
            us: 0,
        }
    }
}

impl Minutes {
    #[inline(always)]
    pub fn parse_us(&mut self, text: &[u8]) -> Option<i64> {
        let (minute, rest) = text.split_first_chunk::<16>()?;
        if u128::from_ne_bytes(*minute) != u128::from_ne_bytes(self.text) {
            self.us = minute_us(minute)?;
            self.text = *minute;
        }
        // Whole seconds or milliseconds in UTC, as most are.
        if let &[b':', s1, s2] = rest {
            let second = two(s1, s2);
            return (second < 60).then_some(self.us + i64::from(second) * SECOND_US);
        }
        if let &[b':', s1, s2, b'.', f1, f2, f3] = rest {
            let (second, hundredths, ms) = (two(s1, s2), two(f1, f2), digit(f3));
            let is_time = (second < 60) & (hundredths < 100) & (ms < 10);
            // Otherwise it may still be a zone: `:00.25Z` is as long.
            if is_time {
                let ms = second * 1000 + hundredths * 10 + ms;
                return Some(self.us + i64::from(ms) * 1000);
            }
        }
        Some(self.us + rest_us(rest)?)
    }
}

/// Microseconds since the epoch of `YYYY-MM-DD{T| }HH:MM`.
#[inline(never)]
fn minute_us(text: &[u8; 16]) -> Option<i64> {
    let (date, time) = text.split_first_chunk::<10>()?;
    let &[separator, h1, h2, colon, m1, m2] = time.first_chunk()?;
    if !matches!(separator, b'T' | b' ') {
        return None;
    }
    let days = days_of(date)?;
    let minutes = minutes_of([h1, h2, colon, m1, m2])?;
    Some(i64::from(days) * DAY_US + i64::from(minutes) * 60 * SECOND_US)
}

/// Microseconds of `:SS[.f{1,9}][zone]`, less what local time is ahead of UTC.
#[inline(never)]
fn rest_us(text: &[u8]) -> Option<i64> {
    let (us, zone) = seconds_of(text)?;
    match zone {
        [] => Some(us),
        zone => Some(us - offset_us(zone)?),
    }
}

/// Days since the epoch of `YYYY-MM-DD`.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    days_of(text.try_into().ok()?)
}

/// Microseconds since midnight of `HH:MM:SS[.f{1,9}]`; a fraction is cut after the microseconds.
pub fn parse_time_us(text: &[u8]) -> Option<i64> {
    let (minutes, rest) = text.split_first_chunk::<5>()?;
    match seconds_of(rest)? {
        (us, []) => Some(i64::from(minutes_of(*minutes)?) * 60 * SECOND_US + us),
        _ => None,
    }
}

/// The value of one ASCII digit; more than 9 for any other byte.
#[inline]
fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

/// The value of two ASCII digits; at least [`NOT_DIGITS`] when one of them is none.
#[inline]
fn two(high: u8, low: u8) -> u32 {
    let (high, low) = (digit(high), digit(low));
    (high * 10 + low) | (u32::from((high > 9) | (low > 9)) * NOT_DIGITS)
}

/// More than any pair of digits, so that a check of a range is a check of the digits too.
const NOT_DIGITS: u32 = 1 << 12;

#[inline]
fn days_of(&[y1, y2, y3, y4, dash1, m1, m2, dash2, d1, d2]: &[u8; 10]) -> Option<i32> {
    let (century, year) = (two(y1, y2), two(y3, y4));
    let (month, day) = (two(m1, m2), two(d1, d2));
    let dashes = (dash1 == b'-') & (dash2 == b'-');
    if !(dashes & (century < 100) & (year < 100) & (1..=12).contains(&month)) {
        return None;
    }
    let year = century * 100 + year;
    if day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

#[inline]
fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March here, so
/// that the leap day is the last of its year and months have a closed formula.
#[inline]
fn days_from_civil(year: u32, month: u32, day: u32) -> i32 {
    // One cycle of the calendar (400 years, 146,097 days) later nothing is negative.
    let (year, month) = if month <= 2 {
        (year + 399, month + 9)
    } else {
        (year + 400, month - 3)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    days as i32 - 719_468 - 146_097
}

/// Minutes since midnight of `HH:MM`.
#[inline]
fn minutes_of([h1, h2, colon, m1, m2]: [u8; 5]) -> Option<u32> {
    let (hour, minute) = (two(h1, h2), two(m1, m2));
    ((colon == b':') & (hour < 24) & (minute < 60)).then_some(hour * 60 + minute)
}

/// Microseconds of `:SS[.f{1,9}]` at the start of `text`, and what follows.
#[inline]
fn seconds_of(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[colon, s1, s2], rest) = text.split_first_chunk::<3>()?;
    let second = two(s1, s2);
    if (colon != b':') | (second >= 60) {
        return None;
    }
    let us = i64::from(second) * SECOND_US;
    match rest.split_first() {
        Some((b'.', rest)) => {
            let (fraction_us, rest) = fraction_us(rest)?;
            Some((us + fraction_us, rest))
        }
        _ => Some((us, rest)),
    }
}

/// One to nine digits after the point, cut to six, and what follows.
fn fraction_us(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let (fraction, rest) = text.split_at(digits);
    let us = (0..6).fold(0, |us, i| {
        us * 10 + fraction.get(i).map_or(0, |b| digit(*b))
    });
    Some((i64::from(us), rest))
}

/// How far local time is ahead of UTC.
#[inline]
fn offset_us(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [] | [b'Z'] => return Some(0),
        [sign, h1, h2] => (sign, two(h1, h2), 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2), two(m1, m2)),
        _ => return None,
    };
    if hours > 18 || minutes > 59 || (hours == 18 && minutes > 0) {
        return None;
    }
    let us = i64::from(hours * 60 + minutes) * 60 * SECOND_US;
    match sign {
        b'+' => Some(us),
        b'-' => Some(-us),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    fn us(text: &str) -> Option<i64> {
        parse_us(text.as_bytes())
    }

    #[test]
    fn both_spellings_fractions_and_zones() {
        let noon = 1_641_039_745_000_000;
        for (text, expected) in [
            ("2022-01-01T12:22:25", noon),
            ("2022-01-01 12:22:25", noon),
            ("2022-01-01T12:22:25Z", noon),
            ("2022-01-01 12:22:25.5", noon + 500_000),
            ("2022-01-01 12:22:25.123456", noon + 123_456),
            ("2022-01-01 12:22:25.123456999Z", noon + 123_456),
            ("2022-01-01 12:22:25.000000999", noon),
            ("2022-01-01T12:22:25+02:00", noon - 7_200_000_000),
            ("2022-01-01T12:22:25-0230", noon + 9_000_000_000),
            ("2022-01-01T12:22:25+02", noon - 7_200_000_000),
            (
                "2022-01-01T12:22:25.25-18:00",
                noon + 250_000 + 64_800_000_000,
            ),
            ("1970-01-01 00:00:00", 0),
            ("1969-12-31 23:59:59.999999", -1),
            ("1969-12-31 23:59:59.9999999", -1),
            ("0000-01-01 00:00:00", -62_167_219_200_000_000),
            ("9999-12-31 23:59:59.999999", 253_402_300_799_999_999),
            ("2000-02-29 00:00:00", 951_782_400_000_000),
        ] {
            assert_eq!(us(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "2022-01-01",
            "2022-01-01T12:22",
            "2022-01-01T12:22Z",
            "2022-01-01T12:22:25.",
            "2022-01-01T12:22:25.Z",
            "2022-01-01T12:22:25.0123456789",
            "2022-01-01T12:22:25z",
            "2022-01-01t12:22:25",
            "2022-01-01  12:22:25",
            " 2022-01-01 12:22:25",
            "2022-01-01 12:22:25 ",
            "2022-01-01 12:22:25 UTC",
            "2022-01-01 12:22:25,5",
            "2022-01-01T24:00:00",
            "2022-01-01T23:59:60",
            "2022-01-01T23:60:00",
            "2022-02-30T00:00:00",
            "2022-02-29T00:00:00",
            "1900-02-29T00:00:00",
            "2022-04-31T00:00:00",
            "2022-00-01T00:00:00",
            "2022-13-01T00:00:00",
            "2022-01-00T00:00:00",
            "2022-1-1T00:00:00",
            "22-01-01T00:00:00",
            "+2022-01-01T00:00:00",
            "-001-01-01T00:00:00",
            "12022-01-01T00:00:00",
            "2022/01/01 00:00:00",
            "2022-01-01T00-00-00",
            "2022-01-01T00:00:00+",
            "2022-01-01T00:00:00+1",
            "2022-01-01T00:00:00+1:00",
            "2022-01-01T00:00:00+01:0",
            "2022-01-01T00:00:00+01:",
            "2022-01-01T00:00:00+18:01",
            "2022-01-01T00:00:00+19",
            "2022-01-01T00:00:00+01:60",
            "2022-01-01T00:00:00*01:00",
            "2022-01-01T00:00:00Z+01:00",
            "2022-01-01T00:00:0\u{0}",
            "٢٠٢٢-01-01T00:00:00",
        ] {
            assert_eq!(us(text), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(parse_date(b"1970-01-02"), Some(1));
        assert_eq!(parse_date(b"1969-12-31"), Some(-1));
        for bad in [
            "1970-02-30",
            "1970-01-02Z",
            "1970-01-02 00:00:00",
            "1970-1-2",
            "",
        ] {
            assert_eq!(parse_date(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_time_us(b"00:00:00"), Some(0));
        assert_eq!(parse_time_us(b"23:59:59.9999999"), Some(86_399_999_999));
        for bad in ["24:00:00", "12:00", "12:00:00Z", "12:00:00.", "1:00:00", ""] {
            assert_eq!(parse_time_us(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_is_counted() {
        let mut day = NaiveDate::from_ymd_opt(0, 1, 1).unwrap();
        let mut expected = parse_date(b"0000-01-01").unwrap();
        while day.year() <= 9999 {
            let text = format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day());
            assert_eq!(parse_date(text.as_bytes()), Some(expected), "{text}");
            day = day.succ_opt().unwrap();
            expected += 1;
        }
    }

    proptest! {
        #[test]
        fn times_of_a_stream_are_read_like_single_ones(
            texts in prop::collection::vec("2022-01-01[T ]12:0[01]:[0-7:][0-9:](\\.[0-9:]{0,4})?Z?", 1..20),
        ) {
            let mut minutes = Minutes::default();
            for text in texts {
                prop_assert_eq!(minutes.parse_us(text.as_bytes()), us(&text), "{}", text);
            }
        }

        #[test]
        fn written_times_are_read_back(us in -62_167_219_200_000_000_i64..253_402_300_800_000_000, t: bool, offset_minutes in -1080_i32..=1080) {
            let blank = if t { "T" } else { " " };
            let utc = DateTime::from_timestamp_micros(us).unwrap().naive_utc();
            prop_assert_eq!(parse_us(utc.format(&format!("%Y-%m-%d{blank}%H:%M:%S%.6f")).to_string().as_bytes()), Some(us));
            let local = utc + chrono::TimeDelta::minutes(i64::from(offset_minutes));
            prop_assume!((0..=9999).contains(&local.year()));
            let (sign, ahead) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.abs());
            let text = format!("{}{sign}{:02}:{:02}", local.format("%Y-%m-%dT%H:%M:%S%.9f"), ahead / 60, ahead % 60);
            prop_assert_eq!(parse_us(text.as_bytes()), Some(us), "{}", text);
        }

        #[test]
        fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_us(&bytes), parse_date(&bytes), parse_time_us(&bytes));
        }

        /// One wrong byte is never read as a time that it does not say.
        #[test]
        fn a_changed_byte_changes_or_spoils_the_value(at in 0_usize..19, byte: u8) {
            let good = *b"2022-03-15 12:22:25";
            let mut changed = good;
            changed[at] = byte;
            let same = changed == good || (at == 10 && byte == b'T');
            prop_assert_eq!(parse_us(&changed) == parse_us(&good), same);
        }
    }
}
