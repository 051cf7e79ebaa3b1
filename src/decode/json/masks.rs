//! Where strings end: one bit per byte of the payload, found with the widest vectors there are.
//!
//! The idea (structural bit masks) is that of Langdale and Lemire, "Parsing Gigabytes of JSON per
//! Second", 2019. Here a string's end is looked for from its start, which speculation knows, so
//! no mask of what lies inside strings is needed.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use std::ops::Range;

/// Bytes per word of a mask.
const BLOCK: usize = 64;
/// Bytes that are looked at ahead: with their masks they stay in the first-level cache.
const AHEAD: usize = 16 << 10;

/// The vectors in use. From AVX2 on the bit operations BMI1, BMI2, LZCNT and POPCNT are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// The widest that this processor has.
    pub(super) fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Isa::Portable)
    }

    /// Those that this processor has, slowest first.
    pub(super) fn all() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut)
        )]
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.push(Isa::Sse2);
            let has_bits = is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let has_avx2 = has_bits && is_x86_feature_detected!("avx2");
            if has_avx2 {
                all.push(Isa::Avx2);
            }
            if has_avx2 && is_x86_feature_detected!("avx512bw") {
                all.push(Isa::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::Neon);
        all
    }
}

/// Masks of a stretch of the payload.
#[derive(Debug)]
pub(super) struct Masks {
    isa: Isa,
    /// The stretch: `from` is a multiple of [`BLOCK`], `to` is exclusive and within the payload.
    from: usize,
    to: usize,
    /// Quotes, backslashes and control characters: what ends or interrupts the text of a string.
    /// Little-endian, and two words of zeros behind the last: so 57 bits are one load, from any place
    /// on, and from up to [`BEHIND`] bytes behind the stretch.
    stops: Vec<[u8; 8]>,
    /// The stops and the bytes of characters that are not ASCII, laid out alike.
    breaks: Vec<[u8; 8]>,
    /// There are none of the latter.
    is_ascii: bool,
}

/// See [`Stops::near_to`].
pub(super) const BEHIND: usize = BLOCK;

impl Masks {
    pub(super) fn new(isa: Isa) -> Self {
        Self {
            isa,
            from: 0,
            to: 0,
            stops: vec![[0; 8]; 2],
            breaks: vec![[0; 8]; 2],
            is_ascii: true,
        }
    }

    /// Forgets the payload.
    pub(super) fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Makes the masks of `start..end` of `data` available, and of what follows up to `limit`,
    /// as far as that pays.
    #[inline]
    pub(super) fn cover(&mut self, data: &[u8], start: usize, end: usize, limit: usize) {
        if start < self.from || end > self.to {
            self.compute(data, start, end, limit);
        }
    }

    #[inline(never)]
    fn compute(&mut self, data: &[u8], start: usize, end: usize, limit: usize) {
        self.from = start / BLOCK * BLOCK;
        self.to = end.max(limit.min(start + AHEAD)).min(data.len());
        self.stops.clear();
        self.breaks.clear();
        let (blocks, rest) = data[self.from..self.to].as_chunks::<BLOCK>();
        match self.isa {
            Isa::Portable => self.append(blocks, portable),
            // SAFETY: SSE2 is part of every x86-64.
            #[cfg(target_arch = "x86_64")]
            Isa::Sse2 => self.append(blocks, |block| unsafe { x86::sse2(block) }),
            // SAFETY: `Isa::all` found the feature on this processor.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.append_avx2(blocks) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { self.append_avx512(blocks) },
            // SAFETY: NEON is part of every 64-bit ARM that Rust's targets have.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => self.append(blocks, |block| unsafe { arm::neon(block) }),
        }
        if !rest.is_empty() {
            let mut block = [b' '; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.append(&[block], portable);
        }
        self.is_ascii = self.stops == self.breaks;
        self.stops.extend([[0; 8]; 2]);
        self.breaks.extend([[0; 8]; 2]);
    }

    #[inline(always)]
    fn append(&mut self, blocks: &[[u8; BLOCK]], masks: impl Fn(&[u8; BLOCK]) -> (u64, u64)) {
        let (done, all) = (self.stops.len(), self.stops.len() + blocks.len());
        self.stops.resize(all, [0; 8]);
        self.breaks.resize(all, [0; 8]);
        let places = self.stops[done..].iter_mut().zip(&mut self.breaks[done..]);
        for (block, (to_stops, to_breaks)) in blocks.iter().zip(places) {
            let (stops, high) = masks(block);
            *to_stops = stops.to_le_bytes();
            *to_breaks = (stops | high).to_le_bytes();
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn append_avx2(&mut self, blocks: &[[u8; BLOCK]]) {
        self.append(blocks, |block| x86::avx2(block));
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512bw")]
    fn append_avx512(&mut self, blocks: &[[u8; BLOCK]]) {
        self.append(blocks, |block| x86::avx512(block));
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// The stretch for which there are masks.
    #[inline(always)]
    pub(super) fn stretch(&self) -> Range<usize> {
        self.from..self.to
    }

    /// Whether the whole stretch is ASCII.
    pub(super) fn is_all_ascii(&self) -> bool {
        self.is_ascii
    }

    #[inline(always)]
    pub(super) fn stops(&self) -> Stops<'_> {
        Stops {
            words: &self.stops,
            from: self.from,
            to: self.to,
        }
    }

    /// The stops, and the bytes of characters that are not ASCII.
    #[inline(always)]
    pub(super) fn breaks(&self) -> Stops<'_> {
        Stops {
            words: &self.breaks,
            from: self.from,
            to: self.to,
        }
    }

    /// As [`Stops::next`].
    #[inline(always)]
    pub(super) fn stop(&self, start: usize) -> usize {
        self.stops().next(start)
    }

    /// Whether every byte of `start..end`, which lies in the stretch and is not empty, is ASCII.
    #[inline(always)]
    pub(super) fn is_ascii(&self, start: usize, end: usize) -> bool {
        /// Bits that a load of eight bytes has from any bit of its first byte on.
        const BITS: usize = 56;
        let (mut at, end) = (start - self.from, end - self.from);
        // How often this goes round depends on the length alone, not on where blocks end: the
        // records of a stream are much alike.
        loop {
            let bytes = |words: &[[u8; 8]]| {
                let bytes = words.as_flattened().get(at / 8..);
                let bytes = bytes.and_then(<[u8]>::first_chunk);
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            let bits = (bytes(&self.stops) ^ bytes(&self.breaks)) >> (at % 8);
            if end - at <= BITS {
                return bits & (u64::MAX >> (64 - (end - at))) == 0;
            }
            if bits & (u64::MAX >> (64 - BITS)) != 0 {
                return false;
            }
            at += BITS;
        }
    }
}

/// The masks of a stretch, for the innermost loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stops<'a> {
    words: &'a [[u8; 8]],
    from: usize,
    to: usize,
}

impl Stops<'_> {
    /// The first quote, backslash or control character at or after `start`; at least the end of
    /// the stretch when there is none in it, and when `start` is before it.
    #[inline(always)]
    pub(super) fn next(self, start: usize) -> usize {
        self.near(start).unwrap_or_else(|| self.far(start))
    }

    /// The same, if it is among the 57 bytes from `start` on.
    #[inline(always)]
    pub(super) fn near(self, start: usize) -> Option<usize> {
        if start.wrapping_sub(self.from) > self.to - self.from {
            return None;
        }
        // SAFETY: it is in the stretch, or just behind.
        unsafe { self.near_to(start) }
    }

    /// The same.
    ///
    /// # Safety
    /// `start` is in the stretch, or at most [`BEHIND`] bytes behind it.
    #[inline(always)]
    pub(super) unsafe fn near_to(self, start: usize) -> Option<usize> {
        debug_assert!(start >= self.from && start <= self.to + BEHIND);
        // The stretch begins where a word does. What is loaded is a word of the masks or in two of them: there are
        // two more words than the stretch has blocks.
        let words = self.words.as_ptr().cast::<u8>().wrapping_sub(self.from / 8);
        // SAFETY: from the word of the last place that is allowed on, eight bytes are within `words`.
        let bytes = unsafe { &*words.wrapping_add(start / 8).cast::<[u8; 8]>() };
        // A string that crosses words is nothing unusual: no branch for it.
        let bits = u64::from_le_bytes(*bytes) >> (start % 8);
        (bits != 0).then(|| start + bits.trailing_zeros() as usize)
    }

    #[inline(never)]
    fn far(self, start: usize) -> usize {
        let at = start.wrapping_sub(self.from);
        let mut not_before = u64::MAX << (at % BLOCK);
        for (i, word) in self.words.iter().enumerate().skip(at / BLOCK) {
            let word = u64::from_le_bytes(*word) & not_before;
            if word != 0 {
                return self.from + i * BLOCK + word.trailing_zeros() as usize;
            }
            not_before = u64::MAX;
        }
        self.to
    }
}

/// Eight bytes at a time, in a register of any processor.
fn portable(block: &[u8; BLOCK]) -> (u64, u64) {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const SEVEN: u64 = !HIGH;
    // The high bit of each byte that is zero; exact, because nothing carries between bytes.
    let zeros = |x: u64| !(((x & SEVEN) + SEVEN) | x | SEVEN);
    // The high bits of eight bytes as eight bits.
    let gather = |x: u64| (x >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let (mut stops, mut high) = (0, 0);
    for (i, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let quotes = zeros(word ^ (LOW * u64::from(b'"')));
        let backslashes = zeros(word ^ (LOW * u64::from(b'\\')));
        let controls = zeros(word & (LOW * 0xe0));
        stops |= gather(quotes | backslashes | controls) << (8 * i);
        high |= gather(word & HIGH) << (8 * i);
    }
    (stops, high)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::BLOCK;
    use std::arch::asm;
    use std::arch::x86_64::*;

    /// `bits` in a register. Without it LLVM 21 sees through the shifts that join two halves
    /// of a mask, and moves the bits one by one: 300 instructions per block.
    #[inline(always)]
    fn joined(bits: i32) -> u64 {
        let mut bits = u64::from(bits as u32);
        // SAFETY: no instruction.
        unsafe {
            asm!("/* {0} */", inout(reg) bits, options(pure, nomem, nostack, preserves_flags))
        };
        bits
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn sse2(block: &[u8; BLOCK]) -> (u64, u64) {
        let (quote, backslash) = (_mm_set1_epi8(b'"' as i8), _mm_set1_epi8(b'\\' as i8));
        let control = _mm_set1_epi8(0x1f);
        let (mut stops, mut high) = (0, 0);
        for (i, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: `bytes` are sixteen; the load needs no alignment.
            let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
            let is_control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes);
            let is_quote = _mm_cmpeq_epi8(bytes, quote);
            let is_stop = _mm_or_si128(
                _mm_or_si128(is_quote, _mm_cmpeq_epi8(bytes, backslash)),
                is_control,
            );
            stops |= joined(_mm_movemask_epi8(is_stop)) << (16 * i);
            high |= joined(_mm_movemask_epi8(bytes)) << (16 * i);
        }
        (stops, high)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(block: &[u8; BLOCK]) -> (u64, u64) {
        let (quote, backslash) = (_mm256_set1_epi8(b'"' as i8), _mm256_set1_epi8(b'\\' as i8));
        let control = _mm256_set1_epi8(0x1f);
        let (mut stops, mut high) = (0, 0);
        for (i, bytes) in block.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: `bytes` are thirty-two; the load needs no alignment.
            let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let is_control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, control), bytes);
            let is_quote = _mm256_cmpeq_epi8(bytes, quote);
            let is_stop = _mm256_or_si256(
                _mm256_or_si256(is_quote, _mm256_cmpeq_epi8(bytes, backslash)),
                is_control,
            );
            stops |= joined(_mm256_movemask_epi8(is_stop)) << (32 * i);
            high |= joined(_mm256_movemask_epi8(bytes)) << (32 * i);
        }
        (stops, high)
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(super) fn avx512(block: &[u8; BLOCK]) -> (u64, u64) {
        // SAFETY: `block` are sixty-four bytes; the load needs no alignment.
        let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        let stops = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8))
            | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8))
            | _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20));
        (stops, _mm512_movepi8_mask(bytes))
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::BLOCK;
    use std::arch::aarch64::*;

    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn neon(block: &[u8; BLOCK]) -> (u64, u64) {
        let (chunks, _) = block.as_chunks::<16>();
        // SAFETY: each load is of an array of sixteen bytes.
        let (bits, bytes) = unsafe {
            let load = |i: usize| vld1q_u8(chunks[i].as_ptr());
            (
                vld1q_u8(BITS.as_ptr()),
                [load(0), load(1), load(2), load(3)],
            )
        };
        let is_stop = |bytes| {
            let is_quote = vceqq_u8(bytes, vdupq_n_u8(b'"'));
            let is_backslash = vceqq_u8(bytes, vdupq_n_u8(b'\\'));
            let is_control = vcltq_u8(bytes, vdupq_n_u8(0x20));
            vorrq_u8(vorrq_u8(is_quote, is_backslash), is_control)
        };
        let is_high = |bytes| vcgeq_u8(bytes, vdupq_n_u8(0x80));
        // One bit of each byte; then neighbours are added until eight bytes are one.
        let gather = |[a, b, c, d]: [uint8x16_t; 4]| {
            let pair = |a, b| vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
            let sums = vpaddq_u8(pair(a, b), pair(c, d));
            vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)))
        };
        (gather(bytes.map(is_stop)), gather(bytes.map(is_high)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_stop(byte: u8) -> bool {
        byte == b'"' || byte == b'\\' || byte < 0x20
    }

    proptest! {
        /// Each byte value in each place of a block, for every kind of vector.
        #[test]
        fn every_kind_of_vector_finds_what_a_loop_finds(
            data in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), Just(b'"'), Just(0x1f), Just(0x80)], 1..300),
            start in 0..300_usize,
            length in 0..300_usize,
        ) {
            let start = start % data.len();
            let end = (start + length).min(data.len());
            for isa in Isa::all() {
                let mut masks = Masks::new(isa);
                masks.cover(&data, start, end, end);
                for at in start..end {
                    let expected = (at..end).find(|i| is_stop(data[*i])).unwrap_or(end);
                    prop_assert_eq!(masks.stop(at).min(end), expected, "{:?} from {}", isa, at);
                    prop_assert_eq!(masks.is_ascii(at, end), data[at..end].is_ascii(), "{:?} from {}", isa, at);
                    prop_assert_eq!(masks.is_ascii(start, at + 1), data[start..=at].is_ascii(), "{:?} to {}", isa, at);
                }
            }
        }
    }

    #[test]
    fn all_bytes_in_all_places() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                let mut block = [b'x'; BLOCK];
                block[at] = byte;
                let expected = (
                    u64::from(is_stop(byte)) << at,
                    u64::from(byte >= 0x80) << at,
                );
                for isa in Isa::all() {
                    let mut masks = Masks::new(isa);
                    masks.cover(&block, 0, BLOCK, BLOCK);
                    assert_eq!(
                        (
                            u64::from_le_bytes(masks.stops[0]),
                            u64::from_le_bytes(masks.stops[0])
                                ^ u64::from_le_bytes(masks.breaks[0])
                        ),
                        expected,
                        "{isa:?} {byte} {at}"
                    );
                }
            }
        }
    }
}
