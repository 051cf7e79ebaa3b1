//! Numbers of up to eight characters, all of them at once. Digit by digit, how many there are is a branch that
//! nothing foretells.

/// The character `0` in each byte.
const ZEROS: u64 = 0x3030_3030_3030_3030;
/// The character `.` in each byte.
const POINTS: u64 = 0x2e2e_2e2e_2e2e_2e2e;

/// A text of up to eight bytes: the first one is the lowest of `bytes`, those that it has not are 0.
#[derive(Clone, Copy)]
pub struct Short {
    bytes: u64,
    length: usize,
}

impl Short {
    /// The text of a view, if it is that short.
    #[inline(always)]
    pub fn of_view(view: u128) -> Option<Self> {
        let length = view as u32 as usize;
        let bytes = (view >> 32) as u64;
        (length <= 8).then_some(Self { bytes, length })
    }

    /// Whether it begins with a minus, and the rest.
    #[inline(always)]
    fn sign(self) -> (bool, Self) {
        if self.bytes as u8 != b'-' {
            return (false, self);
        }
        let rest = Self {
            bytes: self.bytes >> 8,
            length: self.length - 1,
        };
        (true, rest)
    }

    /// The number that its digits are, if it has nothing else, and any. Numbers of two, of four and of eight
    /// digits are each made of two smaller ones by one multiplication, as in simdjson's
    /// `parse_eight_digits_unrolled`.
    #[inline(always)]
    fn digits(self) -> Option<u64> {
        if self.length == 0 {
            return None;
        }
        // The last digit goes to the top byte, zeros below the first.
        let below = ZEROS.checked_shr(8 * self.length as u32).unwrap_or(0);
        let digits = self.bytes << (8 * (8 - self.length)) | below;
        // A digit is one of 0x30 to 0x39, which stay below 0x40 when 6 is added.
        let sums = digits.wrapping_add(0x0606_0606_0606_0606);
        let high = |bytes| bytes & 0xf0f0_f0f0_f0f0_f0f0;
        if high(digits) != ZEROS || high(sums) != ZEROS {
            return None;
        }
        let twos = (digits & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8;
        let fours = (twos & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 << 16 | 1) >> 16;
        Some((fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 << 32 | 1) >> 32)
    }

    /// Digits behind a minus or none.
    #[inline(always)]
    pub fn integer(self) -> Option<i64> {
        let (is_negative, rest) = self.sign();
        let value = rest.digits()? as i64;
        Some(if is_negative { -value } else { value })
    }

    /// Digits, with a point between two of them or none, behind a minus or none: whether there is a minus, the
    /// digits' number, and how many are behind the point.
    #[inline(always)]
    pub fn decimal(self) -> Option<(bool, u64, usize)> {
        let (is_negative, Self { bytes, length }) = self.sign();
        // The lowest byte of these that has its top bit is the first point.
        let others = bytes ^ POINTS;
        let points = others.wrapping_sub(0x0101_0101_0101_0101) & !others & 0x8080_8080_8080_8080;
        let (before, point) = match points {
            0 => (length, 0),
            points => (points.trailing_zeros() as usize / 8, 1),
        };
        let behind = length - before - point;
        if point == 1 && (before == 0 || behind == 0) {
            return None;
        }
        let kept = 1_u64
            .checked_shl(8 * before as u32)
            .map_or(u64::MAX, |bit| bit - 1);
        let without = Self {
            bytes: bytes & kept | bytes >> 8 & !kept,
            length: length - point,
        };
        Some((is_negative, without.digits()?, behind))
    }
}
