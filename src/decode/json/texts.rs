//! What stands between two values (`,"page":`): the texts that were met, and what each leads to.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::masks::Masks;
use super::value::{skip_blanks, string};
use super::walk::{GROUP, GiveUp, Walked};
use hashbrown::HashMap;

/// Bytes of the longest text between two values that is learned.
const TEXT_BYTES: usize = 64;
/// What is compared at once.
const HEAD_BYTES: usize = 32;
/// Such texts that are remembered; later ones are read each time.
const STEPS: usize = 256;

/// What stands between two values, and what it leads to.
#[derive(Debug, Clone, Copy)]
#[repr(align(128))]
pub(super) struct Step {
    /// The text's first bytes, zeros behind them, and ones where the text has bytes.
    head: [u64; HEAD_BYTES / 8],
    mask: [u64; HEAD_BYTES / 8],
    /// The bytes behind the head.
    tail: [u8; TEXT_BYTES - HEAD_BYTES],
    pub(super) length: u8,
    pub(super) target: Target,
    /// Whether it begins the record. What does stands nowhere else, and the other way round.
    first: bool,
    /// The step that followed last time.
    pub(super) next: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Where the column's values begin.
    pub(super) values: u32,
    /// The column's bit; none for values that nobody wants.
    pub(super) bit: u64,
}

impl Target {
    /// The closing brace.
    pub(super) const END: Self = Self {
        values: u32::MAX,
        bit: 0,
    };

    pub(super) fn column(column: usize) -> Self {
        Self {
            values: (column * GROUP) as u32,
            bit: 1 << column,
        }
    }

    fn unwanted(columns: usize) -> Self {
        Self {
            values: (columns * GROUP) as u32,
            bit: 0,
        }
    }
}

/// Before the record's opening brace.
pub(super) const START: u8 = 0;
/// After a text that was not learned.
const UNKNOWN: u8 = 1;

/// The texts of one stream of records.
#[derive(Debug)]
pub(super) struct Texts {
    columns: HashMap<Box<[u8]>, Target>,
    unwanted: Target,
    pub(super) steps: Box<[Step; STEPS]>,
    known: usize,
    /// From a hash of a text's first eight bytes to the step met last with it.
    by_head: Box<[u8; 256]>,
    by_text: HashMap<Box<[u8]>, u8>,
    /// The last string that was written with escapes.
    pub(super) unescaped: String,
}

impl Texts {
    pub(super) fn new(keys: &[&str]) -> Self {
        let columns = keys.iter().enumerate();
        let columns = columns.map(|(i, key)| (key.as_bytes().into(), Target::column(i)));
        Self {
            columns: columns.collect(),
            unwanted: Target::unwanted(keys.len()),
            // The first two, and those that are not known yet, stand nowhere.
            steps: Box::new([Step::NOWHERE; STEPS]),
            known: 2,
            by_head: Box::new([START; 256]),
            by_text: HashMap::new(),
            unescaped: String::new(),
        }
    }

    /// What comes after step `step`, which ended at `at`, when it is not what came last time:
    /// its target, the step, and where its text ends.
    #[inline(never)]
    pub(super) fn look_up(
        &mut self,
        masks: &Masks,
        data: &[u8],
        record: &[u8],
        step: u8,
        at: usize,
    ) -> Walked<(Target, u8, usize)> {
        let head = head(data, at);
        let guess = self.by_head[head];
        let found = &self.steps[usize::from(guess)];
        let first = step == START;
        if found.first == first && found.stands_at(data, at) {
            let known = (found.target, guess, at + usize::from(found.length));
            self.steps[usize::from(step)].next = guess;
            return Ok(known);
        }
        let (target, after) = self.key(masks, record, first, at)?;
        let learned = self.learn(&record[at..after], target, first);
        if learned != UNKNOWN {
            self.by_head[head] = learned;
        }
        if step != UNKNOWN {
            self.steps[usize::from(step)].next = learned;
        }
        Ok((target, learned, after))
    }

    /// The step of a text; [`UNKNOWN`] when there is no room for it.
    fn learn(&mut self, text: &[u8], target: Target, first: bool) -> u8 {
        if let Some(known) = self.by_text.get(text) {
            return *known;
        }
        if self.known == STEPS {
            return UNKNOWN;
        }
        let Some(new) = Step::new(text, target, first) else {
            return UNKNOWN;
        };
        let index = self.known as u8;
        self.steps[self.known] = new;
        self.known += 1;
        self.by_text.insert(text.into(), index);
        index
    }

    /// Reads `{"key":` or `,"key":`, or the closing brace, whatever blanks there are.
    fn key(
        &mut self,
        masks: &Masks,
        record: &[u8],
        first: bool,
        at: usize,
    ) -> Walked<(Target, usize)> {
        let mut at = skip_blanks(record, at);
        let opened = if first { b'{' } else { b',' };
        match record.get(at) {
            Some(b'}') if !first => return Ok((Target::END, at + 1)),
            Some(byte) if *byte == opened => at = skip_blanks(record, at + 1),
            _ => return Err(GiveUp),
        }
        match record.get(at) {
            Some(b'"') => {}
            Some(b'}') if first => return Ok((Target::END, at + 1)),
            _ => return Err(GiveUp),
        }
        let key = string(masks, &mut self.unescaped, record, at + 1)?;
        let target = *self.columns.get(key.text).unwrap_or(&self.unwanted);
        let at = skip_blanks(record, key.after);
        if record.get(at) != Some(&b':') {
            return Err(GiveUp);
        }
        Ok((target, skip_blanks(record, at + 1)))
    }
}

impl Step {
    /// A text that stands nowhere: no byte is zero and one.
    const NOWHERE: Self = Self {
        head: [1; HEAD_BYTES / 8],
        mask: [0; HEAD_BYTES / 8],
        tail: [0; TEXT_BYTES - HEAD_BYTES],
        length: 0,
        target: Target::END,
        first: false,
        next: START,
    };

    /// `None` for a text that is too long.
    fn new(text: &[u8], target: Target, first: bool) -> Option<Self> {
        let (head, tail) = text.split_at(text.len().min(HEAD_BYTES));
        let (mut bytes, mut ones) = ([0; HEAD_BYTES], [0; HEAD_BYTES]);
        bytes[..head.len()].copy_from_slice(head);
        ones[..head.len()].fill(0xff);
        let mut step = Self {
            head: words(&bytes),
            mask: words(&ones),
            length: u8::try_from(text.len()).ok()?,
            target,
            first,
            ..Self::NOWHERE
        };
        step.tail.get_mut(..tail.len())?.copy_from_slice(tail);
        Some(step)
    }

    /// Whether the text stands at `at`. Says no where the payload ends soon: then the key is
    /// read byte by byte.
    #[inline(always)]
    pub(super) fn stands_at(&self, data: &[u8], at: usize) -> bool {
        if at >= data.len().saturating_sub(HEAD_BYTES) {
            return false;
        }
        // SAFETY: there are more than so many bytes behind `at`.
        let bytes = unsafe { &*data.as_ptr().add(at).cast::<[u8; HEAD_BYTES]>() };
        self.is_head_of(bytes)
            && (usize::from(self.length) <= HEAD_BYTES || self.tail_stands_at(data, at))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn is_head_of(&self, bytes: &[u8; HEAD_BYTES]) -> bool {
        use std::arch::x86_64::*;
        const HALF: usize = HEAD_BYTES / 2;
        // SAFETY: SSE2 is part of every x86-64; each pointer is to an array of two vectors, and
        // the loads need no alignment.
        unsafe {
            let load = |from: *const u8, half: usize| _mm_loadu_si128(from.add(half * HALF).cast());
            let differs = |half| {
                let bytes = load(bytes.as_ptr(), half);
                let masked = _mm_and_si128(bytes, load(self.mask.as_ptr().cast(), half));
                _mm_xor_si128(masked, load(self.head.as_ptr().cast(), half))
            };
            let differs = _mm_or_si128(differs(0), differs(1));
            let is_equal = _mm_cmpeq_epi8(differs, _mm_setzero_si128());
            _mm_movemask_epi8(is_equal) == 0xffff
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn is_head_of(&self, bytes: &[u8; HEAD_BYTES]) -> bool {
        let bytes: [u64; HEAD_BYTES / 8] = words(bytes);
        (0..bytes.len()).all(|i| bytes[i] & self.mask[i] == self.head[i])
    }

    #[inline(never)]
    fn tail_stands_at(&self, data: &[u8], at: usize) -> bool {
        let tail = usize::from(self.length) - HEAD_BYTES;
        data.get(at + HEAD_BYTES..)
            .is_some_and(|rest| rest.starts_with(&self.tail[..tail]))
    }
}

#[inline(always)]
fn words<const N: usize, const W: usize>(bytes: &[u8; N]) -> [u64; W] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(chunks[i]))
}

/// A number from 0 to 255 of the eight bytes at `at`.
#[inline(always)]
fn head(data: &[u8], at: usize) -> usize {
    match data.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(bytes) => {
            (u64::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
        }
        None => 0,
    }
}
