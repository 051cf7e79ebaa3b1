//! Numbers as JSON writes them, into columns.

use crate::decode::column::{Mismatch, Scalar};

/// A number of no more digits and without an exponent fits a double's range.
const SAFE_DIGITS: usize = 300;

/// Where a number ends.
pub(super) struct Number {
    pub(super) end: usize,
    /// No point and no exponent.
    pub(super) is_whole: bool,
}

impl Number {
    /// The number at `start`, as JSON's grammar has it. `None` when there is none, and when it is
    /// out of a double's range: serde_json takes none of those, whoever wants them.
    #[inline]
    pub(super) fn at(record: &[u8], start: usize) -> Option<Self> {
        let mut at = start + usize::from(record.get(start) == Some(&b'-'));
        let whole = digits(record, at);
        if whole == at || (record[at] == b'0' && whole > at + 1) {
            return None;
        }
        at = whole;
        let (mut is_whole, mut has_exponent) = (true, false);
        if record.get(at) == Some(&b'.') {
            is_whole = false;
            let fraction = digits(record, at + 1);
            if fraction == at + 1 {
                return None;
            }
            at = fraction;
        }
        if let Some(b'e' | b'E') = record.get(at) {
            (is_whole, has_exponent) = (false, true);
            let sign = usize::from(matches!(record.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(record, at + 1 + sign);
            if exponent == at + 1 + sign {
                return None;
            }
            at = exponent;
        }
        if has_exponent || at - start > SAFE_DIGITS {
            let text = std::str::from_utf8(&record[start..at]).ok()?;
            text.parse().ok().filter(|value: &f64| value.is_finite())?;
        }
        Some(Self { end: at, is_whole })
    }
}

/// The end of the digits at `at`, eight at a time.
#[inline(always)]
fn digits(record: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = record.get(at..).and_then(<[u8]>::first_chunk) {
        let digits = u64::from_le_bytes(*bytes) ^ 0x3030_3030_3030_3030;
        // The high bit of each byte above 9. A carry spoils bytes behind the first of these only.
        let others = (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while record.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Appends a number that [`Number::at`] has found.
pub(super) fn push(scalar: &mut Scalar, text: &str, is_whole: bool) -> Result<(), Mismatch> {
    if scalar.is_string() {
        return scalar.push_str(text);
    }
    // So many digits fit. `-0` is another double than `0`: it goes by its text.
    if is_whole && text.len() <= 18 && !text.starts_with("-0") {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let value = digits
            .bytes()
            .fold(0_i64, |value, b| value * 10 + i64::from(b - b'0'));
        let is_negative = digits.len() < text.len();
        return scalar.push_integer(if is_negative { -value } else { value }.into());
    }
    scalar.push_number_text(text)
}
