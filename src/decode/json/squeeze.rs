//! Records in vector registers, and bytes squeezed out of them.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use std::arch::x86_64::*;

/// Bytes of the longest record: the place of each is one byte.
pub(super) const RECORD_BYTES_MAX: usize = 256;
pub(super) const BLOCK: usize = 64;
pub(super) const BLOCKS: usize = RECORD_BYTES_MAX / BLOCK;
/// What is written behind the last place that counts.
pub(super) const PLACES: usize = RECORD_BYTES_MAX + BLOCK;

const IOTA: [u8; BLOCK] = {
    let mut iota = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        iota[i] = i as u8;
        i += 1;
    }
    iota
};

/// A bit for each quote of a record: those that open values, and those that close them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quotes {
    pub(super) opens: u64,
    pub(super) closes: u64,
}

/// What there is in a record.
pub(super) struct Found {
    pub(super) quotes: usize,
    pub(super) backslashes: bool,
    pub(super) controls: bool,
    pub(super) is_ascii: bool,
}

/// A record of up to `N` blocks in registers, with blanks behind its end.
pub(super) struct Blocks<const N: usize> {
    bytes: [__m512i; N],
    quotes: [u64; N],
    length: usize,
}

impl<const N: usize> Blocks<N> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,bmi2")]
    pub(super) fn of(record: &[u8]) -> Self {
        let mut bytes = [_mm512_set1_epi8(b' ' as i8); N];
        let mut quotes = [0; N];
        for i in 0..N {
            let rest = record.get(i * BLOCK..).unwrap_or_default();
            // SAFETY: no byte is loaded behind the record's end.
            bytes[i] = unsafe {
                _mm512_mask_loadu_epi8(bytes[i], within(rest.len()), rest.as_ptr().cast())
            };
            quotes[i] = _mm512_cmpeq_epi8_mask(bytes[i], _mm512_set1_epi8(b'"' as i8));
        }
        let length = record.len();
        Self {
            bytes,
            quotes,
            length,
        }
    }

    /// Notes the places of the quotes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn look(&self, quotes_at: &mut [u8; PLACES]) -> Found {
        let (mut quotes, mut backslashes, mut controls, mut high) = (0, 0, 0, 0);
        for i in 0..N {
            let bytes = self.bytes[i];
            backslashes |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
            controls |= _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(b' ' as i8));
            high |= _mm512_movepi8_mask(bytes);
            put(quotes_at, quotes, places(self.quotes[i], i));
            quotes += self.quotes[i].count_ones() as usize;
        }
        Found {
            quotes,
            backslashes: backslashes != 0,
            controls: controls != 0,
            is_ascii: high == 0,
        }
    }

    /// Takes the text of values out. If there are `NUMBERS`, each becomes a `0`, and its place
    /// is noted. `each` gets what is left of each block: where it begins in all that is left,
    /// its length, and the bytes with zeros behind. Returns how much is left in all, and how
    /// many numbers there are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn squeeze<const NUMBERS: bool>(
        &self,
        values: Quotes,
        numbers_at: &mut [u8; PLACES],
        mut each: impl FnMut(usize, usize, __m512i),
    ) -> (usize, usize) {
        let (mut length, mut quotes, mut numbers) = (0, 0, 0);
        let (mut is_value, mut is_inside, mut is_number) = (0, 0, 0);
        for i in 0..N {
            let (mut bytes, marks) = (self.bytes[i], self.quotes[i]);
            let opens = _pdep_u64(values.opens >> quotes, marks);
            let closes = _pdep_u64(values.closes >> quotes, marks);
            quotes += marks.count_ones();
            // From each opening quote on, until before the closing one: that is what the
            // difference of two powers of two is.
            let value = closes.wrapping_sub(opens).wrapping_sub(is_value);
            is_value = value >> 63;
            let mut left = !(value & !opens) & within(self.length.saturating_sub(i * BLOCK));
            if NUMBERS {
                let inside = strings(marks) ^ is_inside;
                is_inside = sign(inside);
                let zero = _mm512_set1_epi8(b'0' as i8);
                let digits =
                    _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, zero), _mm512_set1_epi8(10));
                let others = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'-' as i8))
                    | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'.' as i8));
                let number = (digits | others) & !inside;
                let first = number & !(number << 1 | is_number);
                is_number = number >> 63;
                put(numbers_at, numbers, places(first, i));
                numbers += first.count_ones() as usize;
                left &= !number | first;
                bytes = _mm512_mask_mov_epi8(bytes, first, zero);
            }
            let count = left.count_ones() as usize;
            each(length, count, _mm512_maskz_compress_epi8(left, bytes));
            length += count;
        }
        (length, numbers)
    }
}

/// Whether there are control characters in strings.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn has_controls(record: &[u8]) -> bool {
    let blocks: Blocks<BLOCKS> = Blocks::of(record);
    let (mut is_inside, mut found) = (0, 0);
    for (bytes, quotes) in blocks.bytes.into_iter().zip(blocks.quotes) {
        let inside = strings(quotes) ^ is_inside;
        is_inside = sign(inside);
        found |= _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(b' ' as i8)) & inside;
    }
    found != 0
}

/// The places of the bits of block `i`, one byte each.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
fn places(bits: u64, i: usize) -> __m512i {
    // SAFETY: IOTA has sixty-four bytes.
    let iota = unsafe { _mm512_loadu_si512(IOTA.as_ptr().cast()) };
    let first = _mm512_set1_epi8((i * BLOCK) as i8);
    _mm512_add_epi8(_mm512_maskz_compress_epi8(bits, iota), first)
}

/// The sign's bit everywhere.
#[inline(always)]
fn sign(word: u64) -> u64 {
    (word as i64 >> 63) as u64
}

/// Ones from each odd bit of `quotes` on, until before the next: from opening quotes to before the
/// closing ones.
#[inline(always)]
fn strings(quotes: u64) -> u64 {
    let mut inside = quotes;
    for shift in [1, 2, 4, 8, 16, 32] {
        inside ^= inside << shift;
    }
    inside
}

/// Ones for the first `bytes` of a block.
#[inline]
#[target_feature(enable = "bmi2")]
fn within(bytes: usize) -> u64 {
    // The instruction looks at eight bits of the number only.
    _bzhi_u64(u64::MAX, bytes.min(BLOCK) as u32)
}

/// Ones where the first `bytes` of `block` are not those of `skeleton` from `at` on, which is at most
/// [`RECORD_BYTES_MAX`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn differences(skeleton: &[u8; PLACES], at: usize, bytes: usize, block: __m512i) -> u64 {
    let at = at.min(RECORD_BYTES_MAX);
    // SAFETY: a block from there on lies within the places.
    let known = unsafe { _mm512_loadu_si512(skeleton.as_ptr().add(at).cast()) };
    _mm512_mask_cmpneq_epi8_mask(within(bytes), block, known)
}

/// Writes a block at place `at`, which is at most [`RECORD_BYTES_MAX`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn put(places: &mut [u8; PLACES], at: usize, block: __m512i) {
    let at = at.min(RECORD_BYTES_MAX);
    // SAFETY: a block from there on lies within the places.
    unsafe { _mm512_storeu_si512(places.as_mut_ptr().add(at).cast(), block) };
}
