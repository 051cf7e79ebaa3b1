//! The clocks that the engine is given, and the text of a timestamp.
//!
//! Event time is data: it never comes from here. A clock decides only when something is *done*
//! (a trigger, an idle timeout, a checkpoint), so a test that holds a [`ManualClock`] decides
//! every such moment itself. [`SystemClock`] is the one place that reads the machine's clocks.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const US_PER_SECOND: i64 = 1_000_000;
pub const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// What time it is, for whoever waits or stamps. Share it as `Arc<dyn Clock>`.
pub trait Clock: Send + Sync {
    /// Time since the clock was made; never goes back. For timeouts, triggers and rates.
    fn now(&self) -> Duration;

    /// Microseconds since 1970-01-01 UTC; may jump either way. For stamps that people read.
    fn wall_us(&self) -> i64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::now`] counts from this call.
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_us(&self) -> i64 {
        // A machine may be set to a time before 1970.
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => saturating_us(after),
            Err(before) => saturating_us(before.duration()).saturating_neg(),
        }
    }
}

/// A clock that moves only when told to. Starts at zero on both scales.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_us: AtomicU64,
    wall_us: AtomicI64,
}

impl ManualClock {
    /// A clock that has run for no time and shows `wall_us`.
    pub fn at(wall_us: i64) -> Self {
        ManualClock {
            now_us: AtomicU64::new(0),
            wall_us: AtomicI64::new(wall_us),
        }
    }

    /// Lets `by` pass, on both scales, in whole microseconds.
    pub fn advance(&self, by: Duration) {
        let us = saturating_us(by);
        self.now_us.fetch_add(us.unsigned_abs(), Ordering::SeqCst);
        self.wall_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an administrator would: [`Clock::now`] does not move.
    pub fn set_wall_us(&self, wall_us: i64) {
        self.wall_us.store(wall_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Ordering::SeqCst))
    }

    fn wall_us(&self) -> i64 {
        self.wall_us.load(Ordering::SeqCst)
    }
}

/// Whole microseconds of `duration`; `i64::MAX` (292,000 years) when there are more.
pub fn saturating_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// `2022-01-01 12:22:25`, with up to six fraction digits and no trailing zero:
/// the text that Flink and Spark print for a timestamp (microseconds since 1970-01-01 UTC).
///
/// Every `i64` has a text. As in ISO 8601, years after 9999 have a `+` and years before year 0
/// a `-`, so the text reads back as the same time.
pub fn format_us(us: i64) -> String {
    let mut text = String::with_capacity(26);
    // Writing to a String cannot fail.
    write_us(&mut text, us).unwrap_or_default();
    text
}

/// Appends the text of [`format_us`] to `out`, without an allocation of its own.
pub fn write_us(out: &mut impl Write, us: i64) -> std::fmt::Result {
    let of_day = us.rem_euclid(US_PER_DAY);
    write_date(out, us.div_euclid(US_PER_DAY))?;
    let seconds = of_day / US_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    for (separator, part) in [(' ', hour), (':', minute), (':', second)] {
        out.write_char(separator)?;
        write_padded(out, part.unsigned_abs(), 2)?;
    }
    let (mut fraction, mut digits) = (of_day % US_PER_SECOND, 6);
    if fraction == 0 {
        return Ok(());
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    out.write_char('.')?;
    write_padded(out, fraction.unsigned_abs(), digits)
}

/// Appends `value` with zeros before it up to `width` (at most 20) digits. A formatter's `{:02}`
/// takes more than twice as long, which shows where every row has a timestamp.
pub fn write_padded(out: &mut impl Write, mut value: u64, width: usize) -> std::fmt::Result {
    if width == 2 && value < 100 {
        out.write_char(char::from(b'0' + (value / 10) as u8))?;
        return out.write_char(char::from(b'0' + (value % 10) as u8));
    }
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while start > 0 && (value > 0 || digits.len() - start < width) {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    // ASCII, so always valid.
    out.write_str(std::str::from_utf8(&digits[start..]).unwrap_or_default())
}

/// Appends `2022-01-01` for a number of days since 1970-01-01.
pub fn write_date(out: &mut impl Write, days: i64) -> std::fmt::Result {
    let (year, month, day) = civil_from_days(days);
    match year {
        0..=9999 => {}
        10_000.. => out.write_char('+')?,
        _ => out.write_char('-')?,
    }
    write_padded(out, year.unsigned_abs(), 4)?;
    for part in [month, day] {
        out.write_char('-')?;
        write_padded(out, u64::from(part), 2)?;
    }
    Ok(())
}

/// Year, month and day of the proleptic Gregorian calendar for a number of days since 1970-01-01.
///
/// Own arithmetic because chrono ends at ±262,000 years and `i64` microseconds do not. The year
/// is taken to begin in March, which puts the leap day last, inside eras of 400 years.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    const DAYS_PER_ERA: i64 = 146_097;
    /// From 0000-03-01, where an era begins, to 1970-01-01.
    const EPOCH: i64 = 719_468;
    let shifted = days.saturating_add(EPOCH);
    let (era, of_era) = (
        shifted.div_euclid(DAYS_PER_ERA),
        shifted.rem_euclid(DAYS_PER_ERA),
    );
    let year_of_era =
        (of_era - of_era / 1460 + of_era / 36_524 - of_era / (DAYS_PER_ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn text_of_a_timestamp() {
        for (us, text) in [
            (0, "1970-01-01 00:00:00"),
            (1_641_039_745_000_000, "2022-01-01 12:22:25"),
            (1_641_039_745_120_000, "2022-01-01 12:22:25.12"),
            (1_641_039_745_000_001, "2022-01-01 12:22:25.000001"),
            (-1, "1969-12-31 23:59:59.999999"),
            (-US_PER_DAY, "1969-12-31 00:00:00"),
            (951_782_400_000_000, "2000-02-29 00:00:00"),
            (253_402_300_800_000_000, "+10000-01-01 00:00:00"),
            (-62_167_219_200_000_000, "0000-01-01 00:00:00"),
            (-62_167_219_200_000_001, "-0001-12-31 23:59:59.999999"),
            (i64::MAX, "+294247-01-10 04:00:54.775807"),
            (i64::MIN, "-290308-12-21 19:59:05.224192"),
        ] {
            assert_eq!(format_us(us), text, "{us}");
        }
    }

    #[test]
    fn calendar_agrees_with_chrono() {
        use chrono::{DateTime, Datelike};
        // A prime step walks through all days of the year and all years of the era.
        for days in (-800_000..3_000_000i64).step_by(97) {
            let date = DateTime::from_timestamp(days * 86_400, 0).unwrap();
            let expected = (i64::from(date.year()), date.month(), date.day());
            assert_eq!(civil_from_days(days), expected, "{days}");
        }
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let manual = Arc::new(ManualClock::at(5));
        let clock: Arc<dyn Clock> = manual.clone();
        assert_eq!((clock.now(), clock.wall_us()), (Duration::ZERO, 5));
        manual.advance(Duration::from_millis(2));
        assert_eq!(
            (clock.now(), clock.wall_us()),
            (Duration::from_millis(2), 2005)
        );
        manual.set_wall_us(-1);
        assert_eq!(
            (clock.now(), clock.wall_us()),
            (Duration::from_millis(2), -1)
        );
    }

    #[test]
    fn system_clock_is_monotonic_and_after_2020() {
        let clock = SystemClock::new();
        let before = clock.now();
        assert!(clock.now() >= before);
        assert!(clock.wall_us() > 1_577_836_800_000_000);
    }

    #[test]
    fn a_duration_beyond_the_scale_saturates() {
        assert_eq!(saturating_us(Duration::MAX), i64::MAX);
    }

    #[test]
    fn padded_numbers() {
        for (value, width, text) in [
            (0, 1, "0"),
            (7, 2, "07"),
            (99, 2, "99"),
            (123, 2, "123"),
            (12, 6, "000012"),
            (u64::MAX, 20, "18446744073709551615"),
            (1, 99, "00000000000000000001"),
        ] {
            let mut out = String::new();
            write_padded(&mut out, value, width).unwrap();
            assert_eq!(out, text);
        }
    }
}
