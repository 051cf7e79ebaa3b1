//! The fast path: where each record's wanted values are, found by guessing what comes next.
//!
//! Records of one stream mostly have the same keys in the same order, written the same way. So
//! what stands between two values (`,"page":`) is guessed from what stood there last time and
//! compared in one go. A guess that fails is looked up by its first bytes, and only then is the
//! key really read. Strings end where [`Masks`] say. What is unusual (a key that comes twice, a
//! mistake) is left to the caller's general path, which then reads the record from its start: so
//! this path never says why it gave up.
//!
//! What it accepts is exactly what serde_json accepts, fields that nobody wants included. Whether
//! the values fit their columns is not its concern: see [`super::fill`].
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::escape;
use super::masks::{Isa, Masks};
use super::number::Number;
use crate::source::Span;
use hashbrown::HashMap;
use std::ops::Range;

/// The record is not for this path.
#[derive(Debug)]
pub(super) struct GiveUp;

type Walked<T> = Result<T, GiveUp>;

/// What a value is, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A string of ASCII without escapes. Its span is what stands between the quotes.
    Plain,
    /// A string with escapes or other characters, valid UTF-8. Its span as above.
    Odd,
    /// Without point and exponent.
    Whole,
    Fraction,
    True,
    False,
    Null,
    /// An object or array.
    Nested,
    /// The record does not have the key.
    Missing,
}

/// The values that a group's records have for one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) spans: &'a [Span],
    /// `None`: all are [`Written::Plain`].
    pub(super) written: Option<&'a [Written]>,
}

/// Records that are walked before their columns are filled: their spans stay in the first-level
/// cache.
pub(super) const GROUP: usize = 256;
/// One bit per column. Wider rows take the general path.
pub(super) const COLUMNS_MAX: usize = 64;
/// Bytes of the longest text between two values that is learned.
const TEXT_BYTES: usize = 64;
/// What is compared at once.
const HEAD_BYTES: usize = 32;
/// Such texts that are remembered; later ones are read each time.
const STEPS: usize = 256;
/// serde_json's bound: so many objects and arrays in each other, the record included.
const DEPTH: usize = 127;

/// What stands between two values, and what it leads to.
#[derive(Debug, Clone, Copy)]
#[repr(align(128))]
struct Step {
    /// The text's first bytes, zeros behind them, and ones where the text has bytes.
    head: [u64; HEAD_BYTES / 8],
    mask: [u64; HEAD_BYTES / 8],
    /// The bytes behind the head.
    tail: [u8; TEXT_BYTES - HEAD_BYTES],
    length: u8,
    target: Target,
    /// Whether it begins the record. What does stands nowhere else, and the other way round.
    first: bool,
    /// The step that followed last time.
    next: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    /// Where the column's values begin.
    values: u32,
    /// The column's bit; none for values that nobody wants.
    bit: u64,
}

impl Target {
    /// The closing brace.
    const END: Self = Self {
        values: u32::MAX,
        bit: 0,
    };

    fn column(column: usize) -> Self {
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
const START: u8 = 0;
/// After a text that was not learned.
const UNKNOWN: u8 = 1;

/// Finds the values of records that are objects.
#[derive(Debug)]
pub(super) struct Walker {
    masks: Masks,
    columns: HashMap<Box<[u8]>, Target>,
    unwanted: Target,
    /// Ones for all columns.
    all: u64,
    steps: Box<[Step; STEPS]>,
    known: usize,
    /// From a hash of a text's first eight bytes to the step met last with it.
    by_head: Box<[u8; 256]>,
    by_text: HashMap<Box<[u8]>, u8>,
    /// The last string that was written with escapes.
    unescaped: String,
    /// Per column the values of a group's records, [`GROUP`] places each; then as many for the
    /// values that nobody wants: to note those too is cheaper than to ask.
    spans: Vec<Span>,
    written: Vec<Written>,
    /// Bits of the columns that have values in this group that are not [`Written::Plain`].
    odd: u64,
}

impl Walker {
    /// For objects whose wanted values stand under `keys`, in the order of the columns: at most
    /// [`COLUMNS_MAX`].
    pub(super) fn new(keys: &[&str], isa: Isa) -> Self {
        let columns = keys.iter().enumerate();
        let columns = columns.map(|(i, key)| (key.as_bytes().into(), Target::column(i)));
        Self {
            masks: Masks::new(isa),
            columns: columns.collect(),
            unwanted: Target::unwanted(keys.len()),
            all: (0..keys.len()).fold(0, |all, column| all | 1 << column),
            // The first two, and those that are not known yet, stand nowhere.
            steps: Box::new([Step::NOWHERE; STEPS]),
            known: 2,
            by_head: Box::new([START; 256]),
            by_text: HashMap::new(),
            unescaped: String::new(),
            spans: vec![Span::ABSENT; GROUP * (keys.len() + 1)],
            written: vec![Written::Plain; GROUP * keys.len()],
            odd: 0,
        }
    }

    /// To be called before the first record of another payload.
    pub(super) fn begin(&mut self) {
        self.masks.clear();
    }

    /// The values that rows `rows` of the group have for a column.
    pub(super) fn values(&self, column: usize, rows: Range<usize>) -> Values<'_> {
        let target = Target::column(column);
        let start = target.values as usize;
        let places = start + rows.start..start + rows.end;
        Values {
            spans: &self.spans[places.clone()],
            written: (self.odd & target.bit != 0).then(|| &self.written[places]),
        }
    }

    /// Forgets the group's values.
    pub(super) fn start_group(&mut self) {
        if self.odd != 0 {
            self.written.fill(Written::Plain);
            self.odd = 0;
        }
    }

    /// Walks the record at `span` of `data` and notes its values as those of row `row` of the
    /// group, less than [`GROUP`]. Records up to `limit` will be walked soon.
    #[inline(always)]
    pub(super) fn walk(&mut self, data: &[u8], span: Span, limit: usize, row: usize) -> Walked<()> {
        let (start, end) = (span.start as usize, span.end as usize);
        // An absent span names no place: masks from there would be for nothing.
        if start >= end {
            return Err(GiveUp);
        }
        let text = data.get(..end).ok_or(GiveUp)?;
        self.masks.cover(data, start, end, limit);
        let is_ascii = self.masks.is_ascii(start, end);
        let (mut at, mut step, mut seen) = (start, START, 0_u64);
        loop {
            let guess = self.steps[usize::from(step)].next;
            let found = &self.steps[usize::from(guess)];
            let target;
            if found.stands_at(data, at) {
                (target, step, at) = (found.target, guess, at + usize::from(found.length));
            } else {
                (target, step, at) = self.look_up(data, text, step, at)?;
            }
            if target.values == Target::END.values {
                break;
            }
            if seen & target.bit != 0 {
                return Err(GiveUp);
            }
            seen |= target.bit;
            let place = target.values as usize + row;
            if is_ascii && text.get(at) == Some(&b'"') {
                let stop = self.masks.stop(at + 1);
                if text.get(stop) == Some(&b'"') {
                    self.spans[place] = span_of(at + 1, stop);
                    at = stop + 1;
                    continue;
                }
            }
            let (value, written, after) = self.other_value(text, at)?;
            self.spans[place] = value;
            self.note(target, row, written);
            at = after;
        }
        if at != end && skip_blanks(text, at) != end {
            return Err(GiveUp);
        }
        if seen != self.all {
            self.note_missing(seen, row);
        }
        Ok(())
    }

    #[inline(never)]
    fn note_missing(&mut self, seen: u64, row: usize) {
        for target in self.columns.values() {
            if seen & target.bit == 0 {
                self.odd |= target.bit;
                self.written[target.values as usize + row] = Written::Missing;
            }
        }
    }

    /// Notes how a value is written.
    #[inline(always)]
    fn note(&mut self, target: Target, row: usize, written: Written) {
        if written != Written::Plain && target.bit != 0 {
            self.odd |= target.bit;
            self.written[target.values as usize + row] = written;
        }
    }

    /// What comes after step `step`, which ended at `at`, when it is not what came last time:
    /// its target, the step, and where its text ends.
    #[inline(never)]
    fn look_up(
        &mut self,
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
        let (target, after) = self.key(record, first, at)?;
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
        match Step::new(text, target, first) {
            Some(new) if self.known < STEPS => {
                let index = self.known as u8;
                self.steps[self.known] = new;
                self.known += 1;
                self.by_text.insert(text.into(), index);
                index
            }
            _ => UNKNOWN,
        }
    }

    /// Reads `{"key":` or `,"key":`, or the closing brace, whatever blanks there are.
    fn key(&mut self, record: &[u8], first: bool, at: usize) -> Walked<(Target, usize)> {
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
        let key = string(&self.masks, &mut self.unescaped, record, at + 1)?;
        let target = *self.columns.get(key.text).unwrap_or(&self.unwanted);
        let at = skip_blanks(record, key.after);
        if record.get(at) != Some(&b':') {
            return Err(GiveUp);
        }
        Ok((target, skip_blanks(record, at + 1)))
    }

    /// What the value at `at` spans, how it is written, and where it ends.
    #[inline(never)]
    fn other_value(&mut self, record: &[u8], at: usize) -> Walked<(Span, Written, usize)> {
        let at = skip_blanks(record, at);
        let first = *record.get(at).ok_or(GiveUp)?;
        let (written, after) = match first {
            b'"' => {
                let string = string(&self.masks, &mut self.unescaped, record, at + 1)?;
                let span = span_of(at + 1, string.after - 1);
                return Ok((span, string.written, string.after));
            }
            b'-' | b'0'..=b'9' => {
                let number = Number::at(record, at).ok_or(GiveUp)?;
                let written = if number.is_whole {
                    Written::Whole
                } else {
                    Written::Fraction
                };
                (written, number.end)
            }
            b't' => (Written::True, word(record, at, b"true")?),
            b'f' => (Written::False, word(record, at, b"false")?),
            b'n' => (Written::Null, word(record, at, b"null")?),
            b'{' | b'[' => (Written::Nested, self.skip_nested(record, at)?),
            _ => return Err(GiveUp),
        };
        Ok((span_of(at, after), written, after))
    }

    /// Checks the object or array that starts at `start`; returns where it ends.
    fn skip_nested(&mut self, record: &[u8], start: usize) -> Walked<usize> {
        // A bit per level that is open: whether it is an object. The record is the first level.
        let (mut objects, mut depth) = (0_u128, 0);
        let mut at = start;
        loop {
            // A value, or the end of an empty object or array.
            let first = *record.get(at).ok_or(GiveUp)?;
            if matches!(first, b'{' | b'[') {
                depth += 1;
                if depth >= DEPTH {
                    return Err(GiveUp);
                }
                objects = objects << 1 | u128::from(first == b'{');
                at = skip_blanks(record, at + 1);
                let closing = if first == b'{' { b'}' } else { b']' };
                if record.get(at) == Some(&closing) {
                    at += 1;
                    depth -= 1;
                    objects >>= 1;
                } else {
                    if first == b'{' {
                        at = self.nested_key(record, at)?;
                    }
                    continue;
                }
            } else {
                at = self.other_value(record, at)?.2;
            }
            // What follows a value: the end of levels, then the next value of one.
            loop {
                if depth == 0 {
                    return Ok(at);
                }
                at = skip_blanks(record, at);
                let in_object = objects & 1 == 1;
                match record.get(at) {
                    Some(b',') => {
                        at = skip_blanks(record, at + 1);
                        if in_object {
                            at = self.nested_key(record, at)?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return Err(GiveUp),
                }
                at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Checks `"key":`; returns where the value starts.
    fn nested_key(&mut self, record: &[u8], at: usize) -> Walked<usize> {
        if record.get(at) != Some(&b'"') {
            return Err(GiveUp);
        }
        let key = string(&self.masks, &mut self.unescaped, record, at + 1)?;
        let at = skip_blanks(record, key.after);
        match record.get(at) {
            Some(b':') => Ok(skip_blanks(record, at + 1)),
            _ => Err(GiveUp),
        }
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
    fn stands_at(&self, data: &[u8], at: usize) -> bool {
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

struct Text<'a> {
    /// What it means: UTF-8.
    text: &'a [u8],
    written: Written,
    /// What follows the closing quote.
    after: usize,
}

/// The string whose text starts at `start`.
fn string<'a>(
    masks: &Masks,
    unescaped: &'a mut String,
    record: &'a [u8],
    start: usize,
) -> Walked<Text<'a>> {
    let (mut at, mut has_escapes) = (start, false);
    let end = loop {
        let stop = masks.stop(at);
        match record.get(stop) {
            Some(b'"') => break stop,
            Some(b'\\') => (at, has_escapes) = (stop + 2, true),
            _ => return Err(GiveUp),
        }
        if at > record.len() {
            return Err(GiveUp);
        }
    };
    let (text, after) = (&record[start..end], end + 1);
    if !has_escapes && (text.is_empty() || masks.is_ascii(start, end)) {
        let written = Written::Plain;
        return Ok(Text {
            text,
            written,
            after,
        });
    }
    let (mut text, written) = (
        simdutf8::basic::from_utf8(text).map_err(|_| GiveUp)?,
        Written::Odd,
    );
    if has_escapes {
        unescaped.clear();
        escape::unescape(text, unescaped).ok_or(GiveUp)?;
        text = unescaped;
    }
    let text = text.as_bytes();
    Ok(Text {
        text,
        written,
        after,
    })
}

#[inline(always)]
fn span_of(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

#[inline(always)]
fn skip_blanks(record: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = record.get(at) {
        at += 1;
    }
    at
}

fn word(record: &[u8], at: usize, word: &[u8]) -> Walked<usize> {
    match record[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => Err(GiveUp),
    }
}
