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
    /// Whether a text stands in `bytes`, at their start.
    fn stands_in(text: &Text, bytes: &[u8; TEXT_BYTES]) -> bool;
}

pub(super) struct Words;

impl Compare for Words {
    #[inline(always)]
    fn stands_in(text: &Text, bytes: &[u8; TEXT_BYTES]) -> bool {
        let [bytes, mask, known] = [bytes, &text.mask, &text.bytes].map(|b| b.as_chunks::<8>().0);
        let differs = |i: usize| {
            let word = |words: &[[u8; 8]]| u64::from_le_bytes(words[i]);
            (word(bytes) & word(mask)) ^ word(known)
        };
        (differs(0) | differs(1) | differs(2) | differs(3)) == 0
    }
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
        #[inline(always)]
        fn stands_in(text: &Text, bytes: &[u8; TEXT_BYTES]) -> bool {
            // SAFETY: the caller has the feature, and each load is of thirty-two bytes.
            unsafe {
                let [bytes, mask, known] = [bytes, &text.mask, &text.bytes]
                    .map(|bytes| _mm256_loadu_si256(bytes.as_ptr().cast()));
                let differs = _mm256_xor_si256(_mm256_and_si256(bytes, mask), known);
                _mm256_testz_si256(differs, differs) == 1
            }
        }
    }
}
