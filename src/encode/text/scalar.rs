//! Numbers and times as text, appended to a byte buffer without allocating.
//!
//! The spellings are Java's, because both dialects that windrow speaks come from there:
//! `1.0E10` for a double, the proleptic Gregorian calendar with `+` before years of five digits.

use arrow::datatypes::TimeUnit;

const SECONDS_PER_DAY: i64 = 86_400;

/// An integer of any width.
#[inline]
pub(crate) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `Double.toString`: the shortest digits that read back as the same value.
pub(crate) fn float64(out: &mut Vec<u8>, value: f64) {
    if let Some(text) = special(value) {
        return out.extend_from_slice(text);
    }
    if (1e-3..1e7).contains(&value.abs()) {
        // Here Java writes numbers as everybody does.
        return match hundredths(value) {
            Some(hundredths) => with_point(out, value < 0.0, hundredths),
            None => out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes()),
        };
    }
    java_float(out, ryu::Buffer::new().format_finite(value).as_bytes());
}

/// The value of a number below 10^7 times a hundred, without its sign, if it has at most two digits
/// behind the point: if the double nearest to so many hundredths is the value. No fewer digits
/// would do then, because so short texts of doubles differ.
fn hundredths(value: f64) -> Option<u32> {
    let hundredths = (value.abs() * 100.0).round();
    (hundredths / 100.0 == value.abs()).then_some(hundredths as u32)
}

fn with_point(out: &mut Vec<u8>, is_negative: bool, hundredths: u32) {
    if is_negative {
        out.push(b'-');
    }
    integer(out, hundredths / 100);
    let [tenth, hundredth] = [hundredths / 10 % 10, hundredths % 10].map(|d| b'0' + d as u8);
    match hundredth {
        b'0' => out.extend_from_slice(&[b'.', tenth]),
        _ => out.extend_from_slice(&[b'.', tenth, hundredth]),
    }
}

/// `Float.toString`. Widening first would show digits that the value does not have.
pub(crate) fn float32(out: &mut Vec<u8>, value: f32) {
    match special(f64::from(value)) {
        Some(text) => out.extend_from_slice(text),
        None => java_float(out, ryu::Buffer::new().format_finite(value).as_bytes()),
    }
}

fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_nan() {
        Some(b"NaN")
    } else if value == f64::INFINITY {
        Some(b"Infinity")
    } else if value == f64::NEG_INFINITY {
        Some(b"-Infinity")
    } else {
        None
    }
}

/// Rewrites a decimal number (`-12.5`, `1e16`) as Java does: plain from 10^-3 up to 10^7, else
/// one digit before the point and an exponent; always a digit behind the point.
fn java_float(out: &mut Vec<u8>, text: &[u8]) {
    let mut digits = [0u8; 32];
    let mut count = 0;
    // `point` is the number of digits before the decimal point, counted from the first digit
    // that is not zero; negative for leading zeros behind the point.
    let mut point: i32 = 0;
    let mut behind_point = false;
    let mut exponent: i32 = 0;
    let mut exponent_sign = 0;
    for &byte in text {
        match byte {
            b'-' if exponent_sign != 0 => exponent_sign = -1,
            b'-' => out.push(b'-'),
            b'.' => behind_point = true,
            b'e' => exponent_sign = 1,
            b'0'..=b'9' if exponent_sign != 0 => exponent = exponent * 10 + i32::from(byte - b'0'),
            b'0' if count == 0 => point -= i32::from(behind_point),
            b'0'..=b'9' if count < digits.len() => {
                digits[count] = byte;
                count += 1;
                point += i32::from(!behind_point);
            }
            _ => {}
        }
    }
    point += exponent * exponent_sign;
    while count > 0 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = &digits[..count];
    if digits.is_empty() {
        out.extend_from_slice(b"0.0");
    } else if (-2..=7).contains(&point) {
        plain(out, digits, point);
    } else {
        out.push(digits[0]);
        out.push(b'.');
        out.extend_from_slice(if count > 1 { &digits[1..] } else { b"0" });
        out.push(b'E');
        integer(out, point - 1);
    }
}

/// `digits` with the decimal point behind the first `point` of them.
fn plain(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
        return;
    }
    let point = point as usize;
    if digits.len() <= point {
        out.extend_from_slice(digits);
        out.resize(out.len() + point - digits.len(), b'0');
        out.extend_from_slice(b".0");
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// A decimal with all digits of its scale: `1.50`.
pub(crate) fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    decimal_text(out, itoa::Buffer::new().format(value), scale);
}

/// Puts the point into the digits of an unscaled decimal of any width.
pub(crate) fn decimal_text(out: &mut Vec<u8>, unscaled: &str, scale: i8) {
    let digits = match unscaled.strip_prefix('-') {
        Some(digits) => {
            out.push(b'-');
            digits.as_bytes()
        }
        None => unscaled.as_bytes(),
    };
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + places, b'0');
        }
    } else if digits.len() > places {
        let (whole, fraction) = digits.split_at(digits.len() - places);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + places - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

/// Two decimal digits of a value below 100.
#[inline]
fn two_digits(value: u32) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// `YYYY-MM-DD` of a day counted from 1970-01-01.
pub(crate) fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        out.extend_from_slice(&two_digits(year as u32 / 100));
        out.extend_from_slice(&two_digits(year as u32 % 100));
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(year.unsigned_abs()).as_bytes();
        out.resize(out.len() + 4_usize.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(digits);
    }
    let ([m0, m1], [d0, d1]) = (two_digits(month), two_digits(day));
    out.extend_from_slice(&[b'-', m0, m1, b'-', d0, d1]);
}

/// Year, month and day of the proleptic Gregorian calendar. Counts in eras of 400 years
/// (146,097 days) that begin on the first of March, so that the leap day comes last.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// How the time of day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// `12:00:00.5`: seconds always, the fraction without trailing zeros.
    Sql,
    /// Java's `LocalTime.toString`, `12:00` and `12:00:00.500`: seconds unless they are zero, the
    /// fraction in groups of three digits.
    Java,
    /// Java's `Instant.toString`: like `Java`, but with seconds always.
    JavaInstant,
}

/// Whole seconds, rounded down, and the nanoseconds behind them. Each unit divides by a
/// constant of its own, which is several times faster than dividing by a variable.
#[inline]
fn split(value: i64, unit: &TimeUnit) -> (i64, u32) {
    match unit {
        TimeUnit::Second => (value, 0),
        TimeUnit::Millisecond => (
            value.div_euclid(1_000),
            value.rem_euclid(1_000) as u32 * 1_000_000,
        ),
        TimeUnit::Microsecond => (
            value.div_euclid(1_000_000),
            value.rem_euclid(1_000_000) as u32 * 1_000,
        ),
        TimeUnit::Nanosecond => (
            value.div_euclid(1_000_000_000),
            value.rem_euclid(1_000_000_000) as u32,
        ),
    }
}

/// Date, `separator`, time of day.
pub(crate) fn timestamp(
    out: &mut Vec<u8>,
    value: i64,
    unit: &TimeUnit,
    separator: u8,
    clock: Clock,
) {
    let (seconds, nanos) = split(value, unit);
    date(out, seconds.div_euclid(SECONDS_PER_DAY));
    out.push(separator);
    time_of_day(
        out,
        seconds.rem_euclid(SECONDS_PER_DAY) as u32,
        nanos,
        clock,
    );
}

/// A time of day, counted from midnight; a value outside the day wraps around.
pub(crate) fn time(out: &mut Vec<u8>, value: i64, unit: &TimeUnit, clock: Clock) {
    let (seconds, nanos) = split(value, unit);
    time_of_day(
        out,
        seconds.rem_euclid(SECONDS_PER_DAY) as u32,
        nanos,
        clock,
    );
}

fn time_of_day(out: &mut Vec<u8>, seconds: u32, nanos: u32, clock: Clock) {
    let [h0, h1] = two_digits(seconds / 3600);
    let [m0, m1] = two_digits(seconds / 60 % 60);
    let [s0, s1] = two_digits(seconds % 60);
    let text = [h0, h1, b':', m0, m1, b':', s0, s1];
    if nanos == 0 {
        let no_seconds = clock == Clock::Java && seconds.is_multiple_of(60);
        out.extend_from_slice(if no_seconds { &text[..5] } else { &text });
        return;
    }
    out.extend_from_slice(&text);
    let mut fraction = [b'.'; 10];
    let mut rest = nanos;
    for digit in fraction[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let step = if clock == Clock::Sql { 1 } else { 3 };
    let mut length = fraction.len();
    while fraction[length - step..length].iter().all(|d| *d == b'0') {
        length -= step;
    }
    out.extend_from_slice(&fraction[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_javas() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.0123, "0.0123"),
            (0.00099, "9.9E-4"),
            (1e-10, "1.0E-10"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e21, "1.0E21"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|o| float64(o, value)), expected);
        }
        assert_eq!(text(|o| float32(o, 0.1)), "0.1");
        assert_eq!(text(|o| float32(o, 3.4028235e38)), "3.4028235E38");
    }

    #[test]
    fn every_double_reads_back() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..10_000 {
            bits = bits
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(
                    text(|o| float64(o, value))
                        .parse::<f64>()
                        .unwrap()
                        .to_bits(),
                    bits
                );
            }
        }
    }

    /// Numbers with few digits have a way of their own: it writes what the other one does.
    #[test]
    fn short_doubles_are_written_as_the_shortest_digits_have_it() {
        for thousandths in (0..100_000_i64).chain((0..1000).map(|i| 9_999_999_999 - i)) {
            for value in [thousandths as f64 / 1000.0, -(thousandths as f64) / 1000.0] {
                for value in [value, f64::from_bits(value.to_bits() + 1)] {
                    let general = |o: &mut Vec<u8>| {
                        java_float(o, ryu::Buffer::new().format_finite(value).as_bytes());
                    };
                    assert_eq!(text(|o| float64(o, value)), text(general));
                }
            }
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (value, scale, expected) in [
            (150, 2, "1.50"),
            (-5, 2, "-0.05"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (7, -2, "700"),
            (0, -2, "0"),
            (-123_456, 3, "-123.456"),
            (5, 10, "0.0000000005"),
        ] {
            assert_eq!(text(|o| decimal(o, value, scale)), expected);
        }
    }

    #[test]
    fn dates_agree_with_chrono() {
        for days in (-1_000_000..1_000_000)
            .step_by(367)
            .chain([-1, 0, 59, 60, 11_016, 11_017])
        {
            let expected =
                chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Duration::days(days);
            if (0..=9999).contains(&chrono::Datelike::year(&expected)) {
                assert_eq!(
                    text(|o| date(o, days)),
                    expected.format("%Y-%m-%d").to_string()
                );
            }
        }
        assert_eq!(text(|o| date(o, 2_932_897)), "+10000-01-01");
        assert_eq!(text(|o| date(o, -719_529)), "-0001-12-31");
    }

    #[test]
    fn timestamps() {
        let us = TimeUnit::Microsecond;
        let stamp = |value, clock| text(|o| timestamp(o, value, &us, b' ', clock));
        assert_eq!(
            stamp(1_641_039_745_000_000, Clock::Sql),
            "2022-01-01 12:22:25"
        );
        assert_eq!(
            stamp(1_641_039_745_120_000, Clock::Sql),
            "2022-01-01 12:22:25.12"
        );
        assert_eq!(stamp(-1, Clock::Sql), "1969-12-31 23:59:59.999999");
        assert_eq!(
            stamp(1_641_038_400_000_000, Clock::Java),
            "2022-01-01 12:00"
        );
        assert_eq!(
            stamp(1_641_038_400_000_000, Clock::JavaInstant),
            "2022-01-01 12:00:00"
        );
        assert_eq!(
            stamp(1_641_038_400_120_000, Clock::Java),
            "2022-01-01 12:00:00.120"
        );
        assert_eq!(
            stamp(1_641_038_400_000_100, Clock::Java),
            "2022-01-01 12:00:00.000100"
        );
        assert_eq!(
            text(|o| timestamp(o, 1, &TimeUnit::Nanosecond, b'T', Clock::Sql)),
            "1970-01-01T00:00:00.000000001"
        );
        assert_eq!(
            text(|o| timestamp(o, -1, &TimeUnit::Second, b'T', Clock::Sql)),
            "1969-12-31T23:59:59"
        );
        // The ends of the range must not overflow.
        for value in [i64::MIN, i64::MAX] {
            assert!(
                stamp(value, Clock::Sql).contains("294247")
                    || stamp(value, Clock::Sql).starts_with('-')
            );
        }
    }
}
