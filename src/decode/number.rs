//! Exact numbers from their text: no detour over a double, so no double rounding.

/// The parts of `[+-]digits[.digits][e[+-]digits]`. Either run of digits may be empty, not both.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Larger exponents mean the same: zero, or more than any type holds.
const EXPONENT_LIMIT: i64 = 1 << 40;

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|b| b.is_ascii_digit()).count())
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (negative, rest) = sign(text.as_bytes());
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => digits(rest),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (exponent, rest) = match rest.split_first() {
            Some((b'e' | b'E', rest)) => {
                let (negative, rest) = sign(rest);
                let (digits, rest) = digits(rest);
                if digits.is_empty() {
                    return None;
                }
                let value = digits.iter().fold(0, |value: i64, b| {
                    (value * 10 + i64::from(b - b'0')).min(EXPONENT_LIMIT)
                });
                (if negative { -value } else { value }, rest)
            }
            _ => (0, rest),
        };
        rest.is_empty().then_some(Self {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// The value times 10^`scale`, rounded half away from zero, and whether that was exact.
    /// `None` when it has more than 38 digits.
    fn scaled(&self, scale: i64) -> Option<(i128, bool)> {
        let mut digits = self
            .whole
            .iter()
            .chain(self.fraction)
            .map(|b| i128::from(b - b'0'))
            .peekable();
        let mut point = self.whole.len() as i64 + self.exponent + scale;
        while digits.next_if_eq(&0).is_some() {
            point -= 1;
        }
        if digits.peek().is_none() {
            return Some((0, true));
        }
        if point > 38 {
            return None;
        }
        let mut value = 0;
        for _ in 0..point {
            value = value * 10 + digits.next().unwrap_or(0);
        }
        // A negative point puts zeros between the point and the first digit.
        let next = if point < 0 {
            0
        } else {
            digits.next().unwrap_or(0)
        };
        let exact = point >= 0 && next == 0 && digits.all(|d| d == 0);
        let magnitude = value + i128::from(next >= 5);
        Some((if self.negative { -magnitude } else { magnitude }, exact))
    }
}

/// Whether `text` is a number as SQL and JSON write it (no `NaN`, no `inf`, no hexadecimals).
pub(super) fn is_number(text: &str) -> bool {
    Parts::of(text).is_some()
}

/// The whole number that `text` says: `12`, `-0`, `1.0`, `1e3`. `None` for a fraction, for more
/// than 38 digits, and for what is no number.
pub(super) fn integer(text: &str) -> Option<i128> {
    match Parts::of(text)?.scaled(0)? {
        (value, true) => Some(value),
        _ => None,
    }
}

/// The number in `text` as DECIMAL(`precision`, `scale`), times 10^`scale`, rounded half away
/// from zero to `scale` digits. `None` when it does not fit, or is no number.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (value, _) = Parts::of(text)?.scaled(i64::from(scale))?;
    fits(value, precision)
}

/// A whole number as DECIMAL(`precision`, `scale`).
pub(super) fn decimal_of_integer(value: i128, precision: u8, scale: i8) -> Option<i128> {
    let factor = 10_i128.checked_pow(u32::try_from(scale).ok()?)?;
    fits(value.checked_mul(factor)?, precision)
}

fn fits(value: i128, precision: u8) -> Option<i128> {
    let limit = 10_u128.checked_pow(u32::from(precision))?;
    (value.unsigned_abs() < limit).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_are_exact_or_none() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.000", Some(0)),
            ("+7", Some(7)),
            ("1.0", Some(1)),
            ("1e3", Some(1000)),
            ("1E+3", Some(1000)),
            ("1200e-2", Some(12)),
            ("1.5e1", Some(15)),
            ("0.0000001e7", Some(1)),
            ("0e999999999999999999999", Some(0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("1e37", Some(10_i128.pow(37))),
            ("1.5", None),
            ("1e-1", None),
            ("1e-999999999999999999999", None),
            ("1e38", None),
            ("1e999999999999999999999", None),
            ("", None),
            ("-", None),
            (".", None),
            ("1e", None),
            ("e1", None),
            ("1 ", None),
            ("0x1", None),
            ("NaN", None),
            ("--1", None),
            ("1.2.3", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn decimals_round_half_away_from_zero_once() {
        for (text, precision, scale, expected) in [
            ("1.005", 10, 2, Some(101)),
            ("-1.005", 10, 2, Some(-101)),
            (
                "1.00499999999999999999999999999999999999999",
                10,
                2,
                Some(100),
            ),
            ("0.5", 1, 0, Some(1)),
            ("0.05", 1, 0, Some(0)),
            ("0.05", 2, 1, Some(1)),
            ("0.005", 2, 1, Some(0)),
            ("9.99", 2, 1, None),
            ("9.94", 2, 1, Some(99)),
            ("99.5", 2, 0, None),
            (
                "12345678901234567890.123456789012345678",
                38,
                18,
                Some(12345678901234567890123456789012345678),
            ),
            (
                "99999999999999999999999999999999999999",
                38,
                0,
                Some(10_i128.pow(38) - 1),
            ),
            ("99999999999999999999999999999999999999.5", 38, 0, None),
            ("100000000000000000000000000000000000000", 38, 0, None),
            ("0.1e1", 3, 2, Some(100)),
            ("1e-50", 38, 10, Some(0)),
            ("5e-11", 38, 10, Some(1)),
            ("x", 3, 2, None),
        ] {
            assert_eq!(
                decimal(text, precision, scale),
                expected,
                "{text} ({precision},{scale})"
            );
        }
        assert_eq!(decimal_of_integer(12, 4, 2), Some(1200));
        assert_eq!(decimal_of_integer(100, 4, 2), None);
        assert_eq!(decimal_of_integer(i128::from(u64::MAX), 38, 30), None);
    }

    proptest! {
        #[test]
        fn whole_numbers_mean_themselves_in_every_spelling(value in any::<i64>(), zeros in 0_usize..5, shift in 0_usize..5) {
            let value = i128::from(value);
            let zeros = "0".repeat(zeros);
            prop_assert_eq!(integer(&format!("{value}.{zeros}")), Some(value));
            prop_assert_eq!(integer(&format!("{value}{}e-{shift}", "0".repeat(shift))), Some(value));
            prop_assert_eq!(decimal(&value.to_string(), 38, 10), decimal_of_integer(value, 38, 10));
        }

        #[test]
        fn any_text_is_harmless(text in "\\PC{0,20}", scale in 0_i8..38) {
            prop_assert!(is_number(&text) || (integer(&text).is_none() && decimal(&text, 38, scale).is_none()));
        }
    }
}
