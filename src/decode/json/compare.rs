//! A text that stands between two values, and whether it stands at a place: thirty-two bytes at once.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

/// What is compared at once.
pub(super) const TEXT_BYTES: usize = 32;

/// A text of at most [`TEXT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Text {
    /// Its bytes with zeros behind, and ones where it has bytes.
    bytes: [u8; TEXT_BYTES],
    mask: [u8; TEXT_BYTES],
}

impl Text {
    /// One that stands nowhere: no byte is zero and one.
    pub(super) const NOWHERE: Self = Self {
        bytes: [1; TEXT_BYTES],
        mask: [0; TEXT_BYTES],
    };

    pub(super) fn new(text: &[u8]) -> Self {
        let (mut bytes, mut mask) = ([0; TEXT_BYTES], [0; TEXT_BYTES]);
        bytes[..text.len()].copy_from_slice(text);
        mask[..text.len()].fill(0xff);
        Self { bytes, mask }
    }
}

/// How texts are compared: by words, or by vectors.
pub(super) trait Compare {
    /// A text in registers.
    type Loaded: Copy;

    fn load(text: &Text) -> Self::Loaded;

    /// Whether a text stands in `bytes`, at their start.
    fn stands(text: Self::Loaded, bytes: &[u8; TEXT_BYTES]) -> bool;

    /// The same, for a text that is compared once.
    #[inline(always)]
    fn stands_in(text: &Text, bytes: &[u8; TEXT_BYTES]) -> bool {
        Self::stands(Self::load(text), bytes)
    }
}

pub(super) struct Words;

impl Compare for Words {
    type Loaded = [[u64; 4]; 2];

    #[inline(always)]
    fn load(text: &Text) -> Self::Loaded {
        [&text.mask, &text.bytes].map(words)
    }

    #[inline(always)]
    fn stands([mask, known]: Self::Loaded, bytes: &[u8; TEXT_BYTES]) -> bool {
        let bytes = words(bytes);
        let differs = |i: usize| (bytes[i] & mask[i]) ^ known[i];
        (differs(0) | differs(1) | differs(2) | differs(3)) == 0
    }
}

#[inline(always)]
fn words(bytes: &[u8; TEXT_BYTES]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Vectors;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Compare, TEXT_BYTES, Text};
    use std::arch::x86_64::*;

    /// For functions only that are compiled for AVX2.
    pub(in super::super) struct Vectors;

    impl Compare for Vectors {
        type Loaded = [__m256i; 2];

        #[inline(always)]
        fn load(text: &Text) -> Self::Loaded {
            [&text.mask, &text.bytes].map(load)
        }

        #[inline(always)]
        fn stands([mask, known]: Self::Loaded, bytes: &[u8; TEXT_BYTES]) -> bool {
            // SAFETY: the caller has the feature.
            unsafe {
                let differs = _mm256_xor_si256(_mm256_and_si256(load(bytes), mask), known);
                _mm256_testz_si256(differs, differs) == 1
            }
        }
    }

    #[inline(always)]
    fn load(bytes: &[u8; TEXT_BYTES]) -> __m256i {
        // SAFETY: the caller has the feature, and thirty-two bytes are there.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }
}
