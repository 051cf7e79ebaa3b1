//! Numbers and times as text, straight into the output: no allocation, no formatting machinery.

const SECOND_US: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
const TWO_DIGITS: [[u8; 2]; 100] = two_digits();

const fn two_digits() -> [[u8; 2]; 100] {
    let mut table = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        table[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    table
}

/// `n` in decimal.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while n >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&TWO_DIGITS[(n % 100) as usize]);
        n /= 100;
    }
    at -= 2;
    digits[at..at + 2].copy_from_slice(&TWO_DIGITS[n as usize]);
    if n < 10 {
        at += 1;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Hundredths as a decimal number with two places: 5207 is `52.07`.
pub(super) fn push_hundredths(out: &mut Vec<u8>, n: u64) {
    push_number(out, n / 100);
    out.push(b'.');
    out.extend_from_slice(&TWO_DIGITS[(n % 100) as usize]);
}

/// Writes times as `2022-01-01T12:22:25`; keeps the last day, which seldom changes.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// Days since the epoch of the date in `text`.
    day: i64,
    text: [u8; 19],
}

impl Clock {
    /// `separator` stands between date and time: `T` or a blank.
    pub(super) fn new(separator: u8) -> Self {
        let mut text = *b"1970-01-01T00:00:00";
        text[10] = separator;
        Clock { day: 0, text }
    }

    /// The time `us` (microseconds since the epoch, UTC), cut to the second. Years 0 to 9999.
    #[inline]
    pub(super) fn push(&mut self, out: &mut Vec<u8>, us: i64) {
        let seconds = us.div_euclid(SECOND_US);
        let day = seconds.div_euclid(DAY_SECONDS);
        if day != self.day {
            self.day = day;
            self.set_date(day);
        }
        let second = seconds.rem_euclid(DAY_SECONDS) as usize;
        self.text[11..13].copy_from_slice(&TWO_DIGITS[second / 3600]);
        self.text[14..16].copy_from_slice(&TWO_DIGITS[second / 60 % 60]);
        self.text[17..19].copy_from_slice(&TWO_DIGITS[second % 60]);
        out.extend_from_slice(&self.text);
    }

    fn set_date(&mut self, day: i64) {
        let (year, month, day) = civil(day);
        let year = year.clamp(0, 9999) as usize;
        self.text[0..2].copy_from_slice(&TWO_DIGITS[year / 100]);
        self.text[2..4].copy_from_slice(&TWO_DIGITS[year % 100]);
        self.text[5..7].copy_from_slice(&TWO_DIGITS[month]);
        self.text[8..10].copy_from_slice(&TWO_DIGITS[day]);
    }
}

/// Year, month, day of a day since the epoch (proleptic Gregorian): the algorithm
/// `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn civil(day: i64) -> (i64, usize, usize) {
    // Eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as usize, day_of_month as usize)
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
    fn numbers_are_as_the_standard_library_writes_them() {
        for n in [0, 7, 10, 99, 100, 101, 999, 1000, 65_535, u64::MAX] {
            assert_eq!(text(|out| push_number(out, n)), n.to_string());
        }
        assert_eq!(text(|out| push_hundredths(out, 5207)), "52.07");
    }

    #[test]
    fn times_are_as_chrono_writes_them() {
        let mut clock = Clock::new(b'T');
        for seconds in [
            0,
            -1,
            951_782_399,
            951_782_400,
            951_868_800,
            1_641_039_745,
            4_107_542_399,
            -2_203_891_201,
        ] {
            let expected = chrono::DateTime::from_timestamp(seconds, 0)
                .unwrap()
                .format("%Y-%m-%dT%H:%M:%S")
                .to_string();
            assert_eq!(
                text(|out| clock.push(out, seconds * SECOND_US + 999_999)),
                expected
            );
        }
    }
}
