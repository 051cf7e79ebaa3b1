//! Whole records: those that are like one before, but for the texts of their values.
//!
//! A **shape** is what stands between the values of a record, text by text, and what follows
//! each: a string that goes to the next stop (a quote, backslash or control character), a number
//! that ends so many bytes before the next stop, or nothing, because `true` is the same in all. A
//! record is of that shape if each text stands where the one before and its value end. Nothing is
//! looked up between two fields, so this takes about half the instructions of a walk that asks at
//! each what comes next, and the processor works on several records at once.
//!
//! Why that is enough to know that the record is JSON with the same keys: its texts are those of
//! a record that was JSON. Strings between them hold no quote, backslash or control character,
//! because they end at the first, and the text behind them begins with a quote. What is left to
//! check is that numbers are numbers, and that all is UTF-8.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

mod outline;

#[cfg(target_arch = "x86_64")]
use super::compare::Vectors;
use super::compare::{Compare, TEXT_BYTES, Text, Words};
use super::masks::{Isa, Masks, Stops};
use super::number::Number;
use super::texts::{Columns, Target};
use super::walk::Written;
use crate::source::Span;
use outline::outline;

/// Bytes of the longest record whose shape is learned.
const RECORD_BYTES_MAX: usize = 4096;
/// Numbers that nobody wants in a record with a shape.
pub(super) const NUMBERS_MAX: usize = 32;

/// Shapes that are known.
const SHAPES_MAX: usize = 64;
/// Slots of the tables that say which shape to expect.
const SLOTS: usize = 256;
/// Other shapes that are tried when no expected one is the record's.
const TRIES: usize = 3;
/// Records that may be unlike all others, less those that were not, before a pause.
const PATIENCE: u64 = 64;
/// What a record costs of it that is unlike: looking at it was for nothing.
const MISS: u64 = 4;
/// Records that are not looked at in the first pause, and in the longest.
const PAUSE: u64 = 2048;
const PAUSE_MAX: u64 = 1 << 16;

/// A text and the value behind it. Behind all pieces of a text but the last is nothing, noted as an
/// empty value that nobody wants.
#[derive(Debug, Clone, PartialEq)]
#[repr(align(32))]
struct Field {
    text: Text,
    /// Of the text.
    length: u32,
    until: Until,
    /// See there.
    bytes: u32,
    /// Where the column's values begin; values that nobody wants have a place too.
    values: u32,
}

/// Where a value ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Until {
    /// So many bytes before the next stop: none for a string.
    Stop,
    /// So many bytes before the record's end.
    End,
    /// After so many bytes, which belong to the next text.
    Length,
}

/// What all records have in common that differ in the texts of strings and numbers only.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    fields: Vec<Field>,
    last: Text,
    last_length: u32,
    stops: usize,
    /// All numbers, also those that nobody wants: whether they are numbers is still to be seen.
    numbers: Vec<Target>,
    /// The wanted `true`, `false` and `null`.
    words: Vec<(Target, Written)>,
    /// The wanted columns that have no value.
    missing: Vec<Target>,
    /// There are none of these three.
    is_plain: bool,
    /// All fields are strings.
    is_strings: bool,
}

/// Where the values of a group's records are noted.
pub(super) struct Group<'a> {
    pub(super) spans: &'a mut [Span],
    pub(super) written: &'a mut [Written],
    /// Bits of the columns that have values that are not plain strings.
    pub(super) odd: &'a mut u64,
    /// Of the next record.
    pub(super) row: usize,
}

/// Why a run of records ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// There are no more, or none that can be looked at.
    Over,
    /// The next one is like none before.
    New,
    /// The next one is not UTF-8.
    Unfit,
}

/// The shapes of one stream of records.
#[derive(Debug)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// By a record's first bytes: the shape of such records that was learned last, or that came twice
    /// in a row since.
    by_start: [u8; SLOTS],
    /// By these and the number of stops: the shape of the last such record.
    by_stops: [u8; SLOTS],
    /// Records that were like others: all, and until the last that was not.
    hits: u64,
    hits_before: u64,
    /// Those until the last pause.
    hits_before_pause: u64,
    patience: u64,
    /// The last pause.
    pause: u64,
    /// Records that are still not looked at.
    paused: u64,
}

/// What became of a record that was compared with a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// It is of that shape, if its numbers are numbers, and if it is UTF-8 where it is not ASCII.
    Like {
        is_ascii: bool,
    },
    Unlike,
}

impl Shape {
    /// Compares the record at `start..end` of `data`, and notes its values in `places`, which begins
    /// with its row. There are masks for it, and at least [`TEXT_BYTES`] behind it. `STRINGS`: as the
    /// shape has it.
    #[inline(always)]
    fn compare<C: Compare, const STRINGS: bool>(
        &self,
        data: &[u8],
        (start, end): (usize, usize),
        masks: &Masks,
        places: &mut [Span],
    ) -> Compared {
        let breaks = masks.breaks();
        let (mut at, mut is_ascii) = (start, true);
        for field in &self.fields {
            // What does not end within the record goes wrong sooner or later.
            if at >= end || !C::stands_in(&field.text, text_at(data, at)) {
                return Compared::Unlike;
            }
            let from = at + field.length as usize;
            let bytes = field.bytes as usize;
            let to;
            (at, to) = match field.until {
                _ if STRINGS => {
                    let stop = stop(data, masks, breaks, from, &mut is_ascii);
                    (stop, stop)
                }
                Until::Stop => {
                    let to = stop(data, masks, breaks, from, &mut is_ascii).wrapping_sub(bytes);
                    (to, to)
                }
                Until::End => (end.wrapping_sub(bytes), end.wrapping_sub(bytes)),
                Until::Length => (from, from + bytes),
            };
            places[field.values as usize] = Span {
                start: from as u32,
                end: to as u32,
            };
        }
        let is_end = at < end && at + self.last_length as usize == end;
        match is_end && C::stands_in(&self.last, text_at(data, at)) {
            true => Compared::Like { is_ascii },
            false => Compared::Unlike,
        }
    }
}

/// The bytes at `at`, a place in a record with so many behind it.
#[inline(always)]
fn text_at(data: &[u8], at: usize) -> &[u8; TEXT_BYTES] {
    debug_assert!(at + TEXT_BYTES <= data.len());
    // SAFETY: the place is before the end of a record, behind which there are at least so many bytes:
    // `Shapes::expected` looks at no other.
    unsafe { &*data.as_ptr().add(at).cast() }
}

/// Where the string ends that begins at `from`.
#[inline(always)]
fn stop(data: &[u8], masks: &Masks, breaks: Stops<'_>, from: usize, is_ascii: &mut bool) -> usize {
    match breaks.near(from) {
        Some(found) if data.get(found).is_some_and(u8::is_ascii) => found,
        _ => {
            // Long, or not ASCII.
            let found = far_stop(masks, from);
            *is_ascii &= found.1;
            found.0
        }
    }
}

/// The same, and whether the string is ASCII.
#[inline(never)]
fn far_stop(masks: &Masks, from: usize) -> (usize, bool) {
    let stop = masks.stop(from);
    (stop, masks.breaks().next(from) == stop)
}

impl Group<'_> {
    /// Notes how the values of the last record are written; false if a number is none.
    #[inline(never)]
    fn note(&mut self, shape: &Shape, data: &[u8]) -> bool {
        let mut is_fraction = 0_u128;
        for (i, target) in shape.numbers.iter().enumerate() {
            let Span { start, end } = self.spans[target.values as usize + self.row];
            let text = data.get(start as usize..end as usize).unwrap_or_default();
            match Number::at(text, 0) {
                Some(number) if number.end == text.len() => {
                    is_fraction |= u128::from(!number.is_whole) << i;
                }
                _ => return false,
            }
        }
        let number = |(i, target): (usize, &Target)| match is_fraction >> i & 1 {
            0 => (*target, Written::Whole),
            _ => (*target, Written::Fraction),
        };
        let numbers = shape.numbers.iter().enumerate().map(number);
        let words = shape.words.iter().copied();
        let missing = (shape.missing.iter()).map(|target| (*target, Written::Missing));
        for (target, written) in numbers.chain(words).chain(missing) {
            if target.bit != 0 {
                self.written[target.values as usize + self.row] = written;
                *self.odd |= target.bit;
            }
        }
        true
    }
}

#[inline(never)]
fn is_utf8(record: &[u8]) -> bool {
    simdutf8::basic::from_utf8(record).is_ok()
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self {
            known: Vec::new(),
            by_start: [0; SLOTS],
            by_stops: [0; SLOTS],
            hits: 0,
            hits_before: 0,
            hits_before_pause: 0,
            patience: PATIENCE,
            pause: PAUSE / 2,
            paused: 0,
        }
    }

    /// Whether records are worth a look; if not, the next one is let pass.
    #[inline(always)]
    pub(super) fn wants(&mut self) -> bool {
        let wants = self.paused == 0;
        self.paused -= u64::from(!wants);
        wants
    }

    /// Looks at `records` of `data` as long as each is of a shape that is known, and notes their
    /// values. There are masks for the first one; the run is over at one for which there are none.
    pub(super) fn run(
        &mut self,
        data: &[u8],
        records: &[Span],
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Run {
        let first_row = group.row;
        let run = match masks.isa() {
            // SAFETY: the processor has the features, or `Isa::all` would not have listed it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe { self.run_avx2(data, records, masks, group) },
            _ => self.run_with::<Words>(data, records, masks, group),
        };
        self.hits += (group.row - first_row) as u64;
        run
    }

    #[inline(always)]
    fn run_with<C: Compare>(
        &mut self,
        data: &[u8],
        records: &[Span],
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Run {
        let first_row = group.row;
        let mut last_other = None;
        loop {
            let run = self.expected::<C>(data, &records[group.row - first_row..], masks, group);
            if run != Run::New {
                return run;
            }
            let (row, record) = (group.row, records[group.row - first_row]);
            let Some(number) = self.other::<C>(data, record, masks, group) else {
                return run;
            };
            if last_other == Some((row.wrapping_sub(1), number)) {
                // Not one among many: two in a row.
                self.by_start[slot(word(data, record.start as usize))] = number as u8;
            }
            last_other = Some((row, number));
        }
    }

    /// The same, compiled for the vectors and bit operations of newer processors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn run_avx2(
        &mut self,
        data: &[u8],
        records: &[Span],
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Run {
        self.run_with::<Vectors>(data, records, masks, group)
    }

    /// The same as long as each is of the shape that its first bytes let expect.
    #[inline(always)]
    fn expected<C: Compare>(
        &self,
        data: &[u8],
        records: &[Span],
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Run {
        let stretch = masks.stretch();
        // What is compared may reach beyond a record.
        let last_end = stretch.end.min(data.len().saturating_sub(TEXT_BYTES));
        for record in records {
            let (start, end) = (record.start as usize, record.end as usize);
            if start >= end || start < stretch.start || end > last_end {
                return Run::Over;
            }
            let expected = usize::from(self.by_start[slot(word(data, start))]);
            let Some(shape) = self.known.get(expected) else {
                return Run::New;
            };
            let places = &mut group.spans[group.row..];
            let compared = match shape.is_strings {
                true => shape.compare::<C, true>(data, (start, end), masks, places),
                false => shape.compare::<C, false>(data, (start, end), masks, places),
            };
            match compared {
                Compared::Unlike => return Run::New,
                Compared::Like { is_ascii: false } if !is_utf8(&data[start..end]) => {
                    return Run::Unfit;
                }
                _ => {}
            }
            if !shape.is_plain && !group.note(shape, data) {
                return Run::New;
            }
            group.row += 1;
        }
        Run::Over
    }

    /// Notes the values of a record that is not of the shape that its first bytes let expect, if it
    /// is of another one: some value may be NULL, or the keys in another order. (Closures would not be
    /// compiled for the vectors of the function that they are in.)
    #[inline(always)]
    fn other<C: Compare>(
        &mut self,
        data: &[u8],
        record: Span,
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Option<usize> {
        let (start, end) = (record.start as usize, record.end as usize);
        let stops = masks.count(start, end);
        let first = word(data, start);
        let expected = usize::from(self.by_start[slot(first)]);
        let by_stops = &mut self.by_stops[slot(first ^ stops as u64)];
        let (likely, mut tries) = (usize::from(*by_stops), 0);
        for i in 0..=self.known.len() {
            let number = if i == 0 { likely } else { i - 1 };
            let is_tried = number == expected || (i > 0 && number == likely);
            let Some(shape) = self.known.get(number) else {
                continue;
            };
            if is_tried || shape.stops != stops {
                continue;
            }
            let places = &mut group.spans[group.row..];
            let compared = shape.compare::<C, false>(data, (start, end), masks, places);
            if let Compared::Like { is_ascii } = compared
                && (is_ascii || is_utf8(&data[start..end]))
                && group.note(shape, data)
            {
                group.row += 1;
                *by_stops = number as u8;
                return Some(number);
            }
            tries += 1;
            if tries == TRIES {
                break;
            }
        }
        None
    }

    /// The last record was like none before.
    pub(super) fn miss(&mut self) {
        let hits = self.hits - self.hits_before;
        self.hits_before = self.hits;
        self.patience = (self.patience + hits).min(PATIENCE).saturating_sub(MISS);
        if self.patience == 0 {
            // A stream that was regular for long may soon be so again.
            self.pause = match self.hits - self.hits_before_pause > self.pause {
                true => PAUSE,
                false => (self.pause * 2).min(PAUSE_MAX),
            };
            (self.paused, self.patience) = (self.pause, PATIENCE);
            self.hits_before_pause = self.hits;
            self.known.clear();
        }
    }

    /// Learns the shape of a record that was found to be new and that is JSON: an object. `columns`
    /// are the wanted keys, `unwanted` the first place for values that nobody wants.
    pub(super) fn learn(&mut self, record: &[u8], columns: &Columns, unwanted: Target) {
        let Some(shape) = outline(record, columns, unwanted) else {
            return;
        };
        let (first, stops) = (word(record, 0), shape.stops as u64);
        let known = self.known.iter().position(|known| *known == shape);
        let number = known.unwrap_or_else(|| {
            if self.known.len() == SHAPES_MAX {
                self.known.clear();
            }
            self.known.push(shape);
            self.known.len() - 1
        });
        self.by_start[slot(first)] = number as u8;
        self.by_stops[slot(first ^ stops)] = number as u8;
    }
}

/// The eight bytes at `at`.
#[inline(always)]
fn word(data: &[u8], at: usize) -> u64 {
    let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A number below [`SLOTS`] of a word.
#[inline(always)]
fn slot(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests;
