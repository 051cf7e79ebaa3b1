//! Whole records at once: a record that is like one before, but for its values.
//!
//! What is left of a record when the text of its values is taken out is its **skeleton**: quotes,
//! keys and what stands between them. A short record whose skeleton is known needs no walk from
//! field to field: vectors squeeze the values out, 64 bytes at a time, and compare what is left.
//! The places of the quotes then are the places of the values, by their number in the record.
//!
//! Why that is enough to know that the record is JSON with the same keys: without backslashes
//! every quote opens or closes a string. Skeletons keep all quotes, so equal ones have them in the
//! same places, and only text between the quotes of values was taken out of either. A run of
//! digits, points and minus signs outside strings is kept as one `0`, and what it was is
//! read by the number's grammar. What is left to check of strings is that they hold no control
//! characters and are UTF-8.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::masks::Isa;
use super::number::Number;
use super::squeeze::{
    BLOCK, BLOCKS, Blocks, PLACES, Quotes, RECORD_BYTES_MAX, differences, has_controls, put,
};
use super::texts::Target;
use super::value::skip_blanks;
use hashbrown::HashMap;

/// Quotes of a record: one bit each, and one to spare for shifts.
const QUOTES_MAX: usize = 63;
/// Skeletons that are known.
const SHAPES_MAX: usize = 16;
/// Slots of the table that says which skeleton to expect.
const SLOTS: usize = 64;
/// Other shapes that are tried when the expected one is not the record's.
const TRIES: usize = 3;
/// Records that may be unlike all others, less those that were not, before a pause.
const PATIENCE: u32 = 64;
/// What a record costs of it that is unlike: looking at it was for nothing.
const MISS: u32 = 4;
/// Records that are not looked at in the first pause, and in the longest.
const PAUSE: u32 = 2048;
const PAUSE_MAX: u32 = 1 << 16;

/// Where a wanted value is: the number of its first mark in the record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    mark: u8,
    pub(super) target: Target,
}

/// A skeleton, and where its values are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// With zeros behind.
    skeleton: [u8; PLACES],
    length: usize,
    values: Quotes,
    quotes: usize,
    /// The mark is the opening quote; the next one is the closing.
    pub(super) texts: Vec<Wanted>,
    /// All, in their order; the target of one that nobody wants has no bit.
    pub(super) numbers: Vec<Wanted>,
    pub(super) nulls: Vec<Target>,
    /// Bits of the columns that have a value, NULL too.
    pub(super) seen: u64,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// It is of the shape of this number, but its numbers are still to be read; whether it is
    /// ASCII.
    Like(usize, bool),
    /// Its skeleton is not known.
    New,
    /// It has escapes or mistakes.
    Unfit,
}

/// The skeletons of one stream of records.
#[derive(Debug)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// The shape of the last record with this first key and so many quotes.
    expected: [u8; SLOTS],
    patience: u32,
    /// Since the last pause.
    hits: u32,
    /// The last pause.
    pause: u32,
    /// Records that are still not looked at.
    paused: u32,
    /// Of the last record: where the quotes are, and where the numbers begin.
    quotes: [u8; PLACES],
    numbers: [u8; PLACES],
}

impl Shapes {
    /// `None` where the processor has not the vectors for it.
    pub(super) fn new(isa: Isa) -> Option<Self> {
        (isa == Isa::Vbmi2).then(|| Self {
            known: Vec::new(),
            expected: [0; SLOTS],
            patience: PATIENCE,
            hits: 0,
            pause: PAUSE / 2,
            paused: 0,
            quotes: [0; PLACES],
            numbers: [0; PLACES],
        })
    }

    /// Whether a record of so many bytes is worth a look.
    #[inline(always)]
    pub(super) fn wants(&mut self, bytes: usize) -> bool {
        if self.paused > 0 {
            self.paused -= 1;
            return false;
        }
        (8..=RECORD_BYTES_MAX).contains(&bytes)
    }

    /// The last record was of a known shape.
    #[inline(always)]
    pub(super) fn hit(&mut self) {
        self.patience = (self.patience + 1).min(PATIENCE);
        self.hits = self.hits.saturating_add(1);
    }

    /// The last record was for nothing.
    pub(super) fn miss(&mut self) {
        self.patience = self.patience.saturating_sub(MISS);
        if self.patience == 0 {
            // A stream that was regular for long may soon be so again.
            self.pause = match self.hits > self.pause {
                true => PAUSE,
                false => (self.pause * 2).min(PAUSE_MAX),
            };
            (self.paused, self.patience, self.hits) = (self.pause, PATIENCE, 0);
            self.known.clear();
        }
    }

    #[inline(always)]
    pub(super) fn shape(&self, number: usize) -> &Shape {
        &self.known[number]
    }

    /// Where a wanted string is: its first byte, and its closing quote.
    #[inline(always)]
    pub(super) fn text(&self, wanted: Wanted) -> (usize, usize) {
        let mark = usize::from(wanted.mark);
        let (open, close) = (self.quotes[mark], self.quotes[mark + 1]);
        (usize::from(open) + 1, usize::from(close))
    }

    /// The number that `wanted` says, if the record has one there as JSON writes it.
    #[inline(always)]
    pub(super) fn number(&self, record: &[u8], wanted: Wanted) -> Option<(usize, Number)> {
        let start = usize::from(self.numbers[usize::from(wanted.mark)]);
        let number = Number::at(record, start)?;
        // The run that was taken out may have been longer.
        let goes_on = matches!(record.get(number.end), Some(b'0'..=b'9' | b'.' | b'-'));
        (!goes_on).then_some((start, number))
    }

    /// Compares `record` with the shape that is expected. Its length is one that
    /// [`Shapes::wants`].
    #[inline(always)]
    pub(super) fn find(&mut self, record: &[u8]) -> Tried {
        // SAFETY: there are shapes only where `Isa::all` has found what they need.
        unsafe {
            match record.len().div_ceil(BLOCK) {
                1 => self.find_in::<1>(record),
                2 => self.find_in::<2>(record),
                3 => self.find_in::<3>(record),
                _ => self.find_in::<BLOCKS>(record),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn find_in<const N: usize>(&mut self, record: &[u8]) -> Tried {
        let blocks: Blocks<N> = Blocks::of(record);
        let found = blocks.look(&mut self.quotes);
        let quotes = found.quotes;
        if found.backslashes || quotes > QUOTES_MAX || (found.controls && has_controls(record)) {
            return Tried::Unfit;
        }
        let slot = slot(record, quotes);
        let expected = usize::from(self.expected[slot]);
        if self.is_like(expected, &blocks, quotes) {
            return Tried::Like(expected, found.is_ascii);
        }
        match self.other(record, quotes, expected) {
            Some(number) => {
                self.expected[slot] = number as u8;
                Tried::Like(number, found.is_ascii)
            }
            None => Tried::New,
        }
    }

    /// A shape that is not the `expected` one, with as many quotes: some value may be NULL, or the
    /// keys in another order.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn other(&mut self, record: &[u8], quotes: usize, expected: usize) -> Option<usize> {
        let blocks: Blocks<BLOCKS> = Blocks::of(record);
        let mut tries = 0;
        for number in 0..self.known.len() {
            if number == expected || self.known[number].quotes != quotes || tries == TRIES {
                continue;
            }
            if self.is_like(number, &blocks, quotes) {
                return Some(number);
            }
            tries += 1;
            self.patience = self.patience.saturating_sub(1).max(1);
        }
        None
    }

    /// Whether the record in `blocks` is of the shape of this number.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn is_like<const N: usize>(
        &mut self,
        number: usize,
        blocks: &Blocks<N>,
        quotes: usize,
    ) -> bool {
        let Some(shape) = self.known.get(number).filter(|s| s.quotes == quotes) else {
            return false;
        };
        let mut differ = 0;
        let compare = |at, bytes, block| differ |= differences(&shape.skeleton, at, bytes, block);
        let (values, numbers) = (shape.values, &mut self.numbers);
        let (length, _) = match shape.numbers.len() {
            0 => blocks.squeeze::<false>(values, numbers, compare),
            _ => blocks.squeeze::<true>(values, numbers, compare),
        };
        // (Then there are as many numbers, too: skeletons keep a digit of each.)
        differ == 0 && length == shape.length
    }

    /// Learns the shape of a record that [`Shapes::find`] found to be new and that is JSON: an
    /// object. `columns` are the wanted keys.
    pub(super) fn learn(&mut self, record: &[u8], columns: &HashMap<Box<[u8]>, Target>) {
        // SAFETY: there are shapes only where `Isa::all` has found what they need.
        unsafe { self.learn_with_vectors(record, columns) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn learn_with_vectors(&mut self, record: &[u8], columns: &HashMap<Box<[u8]>, Target>) {
        let Some(mut shape) = outline(record, columns) else {
            return;
        };
        let (mut skeleton, mut places) = ([0; PLACES], [0; PLACES]);
        // (Blocks behind the record are blank and have no mark: what they leave is cut off.)
        let blocks: Blocks<BLOCKS> = Blocks::of(record);
        let keep = |at, _, block| put(&mut skeleton, at, block);
        let (length, numbers) = match shape.numbers.len() {
            0 => blocks.squeeze::<false>(shape.values, &mut places, keep),
            _ => blocks.squeeze::<true>(shape.values, &mut places, keep),
        };
        // Exponents leave more than one run.
        if numbers != shape.numbers.len() {
            return;
        }
        (shape.length, shape.skeleton) = (length, skeleton);
        let known = self.known.iter().position(|known| *known == shape);
        let number = known.unwrap_or_else(|| {
            if self.known.len() == SHAPES_MAX {
                self.known.clear();
            }
            self.known.push(shape);
            self.known.len() - 1
        });
        let quotes = self.known[number].quotes;
        self.expected[slot(record, quotes)] = number as u8;
    }
}

/// Values and marks of a JSON object without escapes, but not its skeleton. `None` for one that has
/// no shape: with too many quotes, equal keys, or wanted values that are not strings, numbers or
/// NULL.
fn outline(record: &[u8], columns: &HashMap<Box<[u8]>, Target>) -> Option<Shape> {
    let mut shape = Shape {
        skeleton: [0; PLACES],
        length: 0,
        values: Quotes::default(),
        quotes: 0,
        texts: Vec::new(),
        numbers: Vec::new(),
        nulls: Vec::new(),
        seen: 0,
    };
    // The wanted value that is next.
    let mut next: Option<Target> = None;
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = record.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let close = at + record[at..].iter().position(|b| *b == b'"')?;
                let mark = shape.quotes;
                shape.quotes += 2;
                if shape.quotes > QUOTES_MAX {
                    return None;
                }
                let text = &record[at..close];
                at = close + 1;
                if record.get(skip_blanks(record, at)) == Some(&b':') {
                    if depth == 1 {
                        next = columns.get(text).copied();
                        let bit = next.map_or(0, |target| target.bit);
                        if shape.seen & bit != 0 {
                            return None;
                        }
                        shape.seen |= bit;
                    }
                    continue;
                }
                shape.values.opens |= 1 << mark;
                shape.values.closes |= 2 << mark;
                if let Some(target) = next.take() {
                    let mark = mark as u8;
                    shape.texts.push(Wanted { mark, target });
                }
            }
            b'{' | b'[' => {
                if next.is_some() {
                    return None;
                }
                depth += 1;
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'0'..=b'9' | b'-' => {
                let target = next.take().unwrap_or(Target::UNWANTED);
                let mark = shape.numbers.len() as u8;
                shape.numbers.push(Wanted { mark, target });
                at = Number::at(record, at - 1)?.end;
            }
            b'n' | b't' | b'f' => {
                if let Some(target) = next.take() {
                    if *byte != b'n' {
                        return None;
                    }
                    shape.nulls.push(target);
                }
                at += if *byte == b'f' { 4 } else { 3 };
            }
            _ => {}
        }
    }
    Some(shape)
}

/// A number below [`SLOTS`] of a record's first bytes and its number of quotes.
#[inline(always)]
fn slot(record: &[u8], quotes: usize) -> usize {
    let first = record.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let mixed = (first ^ quotes as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests;
