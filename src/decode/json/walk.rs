//! The fast path: one record read by guessing what comes next.
//!
//! Records of one stream mostly have the same keys in the same order, written the same way. So
//! what stands between two values (`,"page":`) is guessed from what stood there last time and
//! compared in one go. A guess that fails is looked up by its first bytes, and only then is the
//! key really read. Strings end where [`Masks`] say. Whatever is unusual (a value that does not
//! fit its column, a key that comes twice, a mistake) is left to the caller's general path, which
//! then reads the record from its start: so this path never says why it gave up.
//!
//! What it accepts is exactly what serde_json accepts, fields that nobody wants included.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::escape;
use super::masks::{Isa, Masks};
use super::node::{Kind, Label, Node, Row};
use crate::decode::column::{Mismatch, Scalar};
use hashbrown::HashMap;

/// The record at hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The payload up to the record's end, so that positions are the payload's.
    text: &'a [u8],
    is_ascii: bool,
}

/// The record is not for this path.
#[derive(Debug)]
pub(super) struct GiveUp;

type Walked<T> = Result<T, GiveUp>;

/// Bytes of the longest text between two values that is learned.
const TEXT_BYTES: usize = 64;
/// What is compared in one go.
const HEAD_BYTES: usize = 32;
/// Such texts that are remembered; later ones are read each time.
const STEPS: usize = 256;
/// serde_json's bound: so many objects and arrays in each other, the record included.
const DEPTH: usize = 127;
/// A number of no more digits and without an exponent fits a double's range.
const SAFE_DIGITS: usize = 300;

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
enum Target {
    Column(u16),
    Unwanted,
    /// The closing brace.
    End,
}

/// What the table's options and types say of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) fail_on_missing_field: bool,
    pub(super) labels: &'a [Label],
}

/// Before the record's opening brace.
const START: u8 = 0;
/// After a text that was not learned.
const UNKNOWN: u8 = 1;

/// Reads records that are objects into the columns of a [`Row`].
#[derive(Debug)]
pub(super) struct Walker {
    masks: Masks,
    columns: HashMap<Box<[u8]>, u16>,
    steps: Box<[Step; STEPS]>,
    known: usize,
    /// From a hash of a text's first eight bytes to the step met last with it.
    by_head: Box<[u8; 256]>,
    /// The last string that was written with escapes.
    unescaped: String,
}

impl Walker {
    /// For objects whose wanted values stand under `keys`, in the order of the columns.
    pub(super) fn new(keys: &[&str], isa: Isa) -> Self {
        let columns = keys
            .iter()
            .zip(0..)
            .map(|(key, column)| (key.as_bytes().into(), column));
        Self {
            masks: Masks::new(isa),
            columns: columns.collect(),
            // The first two, and those that are not known yet, stand nowhere.
            steps: Box::new([Step::NOWHERE; STEPS]),
            known: 2,
            by_head: Box::new([START; 256]),
            unescaped: String::new(),
        }
    }

    /// To be called before the first record of another payload.
    pub(super) fn begin(&mut self) {
        self.masks.clear();
    }

    /// Reads the record `data[start..end]` into a new slot of `row`. Records up to `limit` will
    /// be read soon. After [`GiveUp`] the slot is unfinished.
    #[inline(always)]
    pub(super) fn read(
        &mut self,
        data: &[u8],
        (start, end, limit): (usize, usize, usize),
        row: &mut Row,
        rules: Rules<'_>,
    ) -> Walked<()> {
        self.masks.cover(data, start, end, limit);
        let text = data.get(..end).ok_or(GiveUp)?;
        if start == end {
            return Err(GiveUp);
        }
        let record = Record {
            text,
            is_ascii: self.masks.is_ascii(start, end),
        };
        let slot = row.len();
        let (mut at, mut step, mut filled, mut seen) = (start, START, 0, 0_u64);
        loop {
            let guess = self.steps[usize::from(step)].next;
            let found = &self.steps[usize::from(guess)];
            let target;
            if found.stands_at(data, at) {
                (target, step, at) = (found.target, guess, at + usize::from(found.length));
            } else {
                (target, step, at) = self.look_up(data, record, step, at)?;
            }
            match target {
                Target::Column(column) => {
                    let node = &mut row.children[usize::from(column)];
                    // With more than 64 columns two of them may share a bit.
                    let bit = 1 << (column % 64);
                    if seen & bit != 0 && node.len() > slot {
                        return Err(GiveUp);
                    }
                    seen |= bit;
                    at = self.value(record, at, node, rules)?;
                    filled += 1;
                }
                Target::Unwanted => at = self.unwanted(record, at)?,
                Target::End => break,
            }
        }
        if at != end && skip_blanks(text, at) != end {
            return Err(GiveUp);
        }
        if filled < row.children.len() {
            fill_missing(row, slot, rules)?;
        }
        row.close(true);
        Ok(())
    }

    /// What comes after step `step`, which ended at `at`, when it is not what came last time:
    /// its target, the step, and where its text ends.
    #[inline(never)]
    fn look_up(
        &mut self,
        data: &[u8],
        record: Record<'_>,
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
        let learned = self.learn(&record.text[at..after], target, first);
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
        let Some(new) = Step::new(text, target, first) else {
            return UNKNOWN;
        };
        let same = |s: &Step| s.length == new.length && s.head == new.head && s.tail == new.tail;
        let index = match self.steps[2..self.known].iter().position(same) {
            Some(known) => known + 2,
            None if self.known < STEPS => {
                self.steps[self.known] = new;
                self.known += 1;
                self.known - 1
            }
            None => return UNKNOWN,
        };
        index as u8
    }

    /// Reads `{"key":` or `,"key":`, or the closing brace, whatever blanks there are.
    fn key(&mut self, record: Record<'_>, first: bool, at: usize) -> Walked<(Target, usize)> {
        let mut at = skip_blanks(record.text, at);
        let opened = if first { b'{' } else { b',' };
        match record.text.get(at) {
            Some(b'}') if !first => return Ok((Target::End, at + 1)),
            Some(byte) if *byte == opened => at = skip_blanks(record.text, at + 1),
            _ => return Err(GiveUp),
        }
        match record.text.get(at) {
            Some(b'"') => {}
            Some(b'}') if first => return Ok((Target::End, at + 1)),
            _ => return Err(GiveUp),
        }
        let (key, after) = string(&self.masks, &mut self.unescaped, record, at + 1)?;
        let target = match self.columns.get(key.as_bytes()) {
            Some(column) => Target::Column(*column),
            None => Target::Unwanted,
        };
        let at = skip_blanks(record.text, after);
        if record.text.get(at) != Some(&b':') {
            return Err(GiveUp);
        }
        Ok((target, skip_blanks(record.text, at + 1)))
    }

    /// Reads the value at `at` into `node`; returns where it ends.
    #[inline(always)]
    fn value(
        &mut self,
        record: Record<'_>,
        at: usize,
        node: &mut Node,
        rules: Rules<'_>,
    ) -> Walked<usize> {
        let first = *record.text.get(at).ok_or(GiveUp)?;
        if first == b'"' {
            let Kind::Scalar(scalar) = &mut node.kind else {
                return Err(GiveUp);
            };
            let (text, after) = string(&self.masks, &mut self.unescaped, record, at + 1)?;
            scalar.push_str(text)?;
            return Ok(after);
        }
        self.other_value(record, at, node, first, rules)
    }

    fn other_value(
        &mut self,
        record: Record<'_>,
        at: usize,
        node: &mut Node,
        first: u8,
        rules: Rules<'_>,
    ) -> Walked<usize> {
        match (&mut node.kind, first) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {
                let at = skip_blanks(record.text, at);
                self.value_after_blanks(record, at, node, rules)
            }
            (_, b'n') if node.nullable => {
                let after = word(record.text, at, b"null")?;
                node.push_null();
                Ok(after)
            }
            (Kind::Scalar(scalar), b'-' | b'0'..=b'9') => {
                let number = Number::at(record.text, at)?;
                push_number(scalar, number.text(record.text, at), number.is_whole)?;
                Ok(number.end)
            }
            (Kind::Scalar(scalar), b't' | b'f') => {
                let (text, value): (&[u8], _) = match first {
                    b't' => (b"true", true),
                    _ => (b"false", false),
                };
                let after = word(record.text, at, text)?;
                match scalar.is_string() {
                    true => scalar.push_str(if value { "true" } else { "false" })?,
                    false => scalar.push_bool(value)?,
                }
                Ok(after)
            }
            (kind, b'{' | b'[') if takes(kind, first) => {
                let after = self.skip_nested(record, at)?;
                let text =
                    simdutf8::basic::from_utf8(&record.text[at..after]).map_err(|_| GiveUp)?;
                super::read_nested(node, text, rules).ok_or(GiveUp)?;
                Ok(after)
            }
            _ => Err(GiveUp),
        }
    }

    #[cold]
    fn value_after_blanks(
        &mut self,
        record: Record<'_>,
        at: usize,
        node: &mut Node,
        rules: Rules<'_>,
    ) -> Walked<usize> {
        self.value(record, at, node, rules)
    }

    /// Checks the value at `at`, which nobody wants; returns where it ends.
    #[inline(always)]
    fn unwanted(&mut self, record: Record<'_>, at: usize) -> Walked<usize> {
        match record.text.get(at) {
            Some(b'"') => Ok(string(&self.masks, &mut self.unescaped, record, at + 1)?.1),
            Some(b'{' | b'[') => self.skip_nested(record, at),
            Some(_) => self.unwanted_scalar(record, at),
            None => Err(GiveUp),
        }
    }

    fn unwanted_scalar(&mut self, record: Record<'_>, at: usize) -> Walked<usize> {
        let at = skip_blanks(record.text, at);
        match record.text.get(at) {
            Some(b'-' | b'0'..=b'9') => Ok(Number::at(record.text, at)?.end),
            Some(b't') => word(record.text, at, b"true"),
            Some(b'f') => word(record.text, at, b"false"),
            Some(b'n') => word(record.text, at, b"null"),
            Some(b'"') => Ok(string(&self.masks, &mut self.unescaped, record, at + 1)?.1),
            Some(b'{' | b'[') => self.skip_nested(record, at),
            _ => Err(GiveUp),
        }
    }

    /// Checks the object or array that starts at `start`; returns where it ends.
    fn skip_nested(&mut self, record: Record<'_>, start: usize) -> Walked<usize> {
        // A bit per level that is open: whether it is an object. The record is the first level.
        let (mut objects, mut depth) = (0_u128, 0);
        let mut at = start;
        loop {
            // A value, or the end of an empty object or array.
            let first = *record.text.get(at).ok_or(GiveUp)?;
            if matches!(first, b'{' | b'[') {
                depth += 1;
                if depth >= DEPTH {
                    return Err(GiveUp);
                }
                objects = objects << 1 | u128::from(first == b'{');
                at = skip_blanks(record.text, at + 1);
                let closing = if first == b'{' { b'}' } else { b']' };
                if record.text.get(at) == Some(&closing) {
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
                at = self.unwanted_scalar(record, at)?;
            }
            // What follows a value: the end of levels, then the next value of one.
            loop {
                if depth == 0 {
                    return Ok(at);
                }
                at = skip_blanks(record.text, at);
                let in_object = objects & 1 == 1;
                match record.text.get(at) {
                    Some(b',') => {
                        at = skip_blanks(record.text, at + 1);
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
    fn nested_key(&mut self, record: Record<'_>, at: usize) -> Walked<usize> {
        if record.text.get(at) != Some(&b'"') {
            return Err(GiveUp);
        }
        let (_, after) = string(&self.masks, &mut self.unescaped, record, at + 1)?;
        let at = skip_blanks(record.text, after);
        match record.text.get(at) {
            Some(b':') => Ok(skip_blanks(record.text, at + 1)),
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
        target: Target::End,
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
        let Some(bytes) = data.get(at..).and_then(<[u8]>::first_chunk::<HEAD_BYTES>) else {
            return false;
        };
        let bytes: [u64; HEAD_BYTES / 8] = words(bytes);
        let differs = (0..bytes.len()).fold(0, |differs, i| {
            differs | ((bytes[i] & self.mask[i]) ^ self.head[i])
        });
        differs == 0 && (usize::from(self.length) <= HEAD_BYTES || self.tail_stands_at(data, at))
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

/// The string whose text starts at `start`, and what follows its closing quote.
#[inline(always)]
fn string<'a>(
    masks: &Masks,
    unescaped: &'a mut String,
    record: Record<'a>,
    start: usize,
) -> Walked<(&'a str, usize)> {
    let stop = masks.stop(start);
    if record.is_ascii && record.text.get(stop) == Some(&b'"') {
        let bytes = record.text.get(start..stop).ok_or(GiveUp)?;
        // SAFETY: the whole record is ASCII, which is UTF-8.
        return Ok((unsafe { std::str::from_utf8_unchecked(bytes) }, stop + 1));
    }
    odd_string(masks, unescaped, record, start)
}

/// As [`string`], with escapes or characters that are not ASCII.
#[inline(never)]
fn odd_string<'a>(
    masks: &Masks,
    unescaped: &'a mut String,
    record: Record<'a>,
    start: usize,
) -> Walked<(&'a str, usize)> {
    let (mut at, mut has_escapes) = (start, false);
    let end = loop {
        let stop = masks.stop(at);
        match record.text.get(stop) {
            Some(b'"') => break stop,
            Some(b'\\') => (at, has_escapes) = (stop + 2, true),
            _ => return Err(GiveUp),
        }
        if at > record.text.len() {
            return Err(GiveUp);
        }
    };
    let text = simdutf8::basic::from_utf8(&record.text[start..end]).map_err(|_| GiveUp)?;
    if !has_escapes {
        return Ok((text, end + 1));
    }
    unescaped.clear();
    escape::unescape(text, unescaped).ok_or(GiveUp)?;
    Ok((unescaped, end + 1))
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

/// Whether a value that opens with `first` can go into a column of this kind: a STRING takes its
/// text.
fn takes(kind: &Kind, first: u8) -> bool {
    match kind {
        Kind::Scalar(scalar) => scalar.is_string(),
        Kind::List(_) => first == b'[',
        Kind::Map(_) | Kind::Row(_) => first == b'{',
    }
}

#[cold]
fn fill_missing(row: &mut Row, slot: usize, rules: Rules<'_>) -> Walked<()> {
    for child in row.children.iter_mut().filter(|child| child.len() == slot) {
        if rules.fail_on_missing_field || !child.nullable {
            return Err(GiveUp);
        }
        child.push_null();
    }
    Ok(())
}

/// A number of the record.
struct Number {
    end: usize,
    /// No point and no exponent.
    is_whole: bool,
}

impl Number {
    /// The number at `start`, as JSON's grammar has it, within a double's range.
    #[inline]
    fn at(record: &[u8], start: usize) -> Walked<Self> {
        let mut at = start + usize::from(record.get(start) == Some(&b'-'));
        let whole = digits(record, at);
        if whole == at || (record[at] == b'0' && whole > at + 1) {
            return Err(GiveUp);
        }
        at = whole;
        let (mut is_whole, mut has_exponent) = (true, false);
        if record.get(at) == Some(&b'.') {
            is_whole = false;
            let fraction = digits(record, at + 1);
            if fraction == at + 1 {
                return Err(GiveUp);
            }
            at = fraction;
        }
        if let Some(b'e' | b'E') = record.get(at) {
            (is_whole, has_exponent) = (false, true);
            let sign = usize::from(matches!(record.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(record, at + 1 + sign);
            if exponent == at + 1 + sign {
                return Err(GiveUp);
            }
            at = exponent;
        }
        let number = Self { end: at, is_whole };
        if has_exponent || at - start > SAFE_DIGITS {
            let value: f64 = number.text(record, start).parse().map_err(|_| GiveUp)?;
            if !value.is_finite() {
                return Err(GiveUp);
            }
        }
        Ok(number)
    }

    fn text<'a>(&self, record: &'a [u8], start: usize) -> &'a str {
        // SAFETY: `at` found digits, signs, a point and an `e` there, all ASCII.
        unsafe { std::str::from_utf8_unchecked(&record[start..self.end]) }
    }
}

/// The end of the digits at `at`.
#[inline(always)]
fn digits(record: &[u8], mut at: usize) -> usize {
    while record.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

fn push_number(scalar: &mut Scalar, text: &str, is_whole: bool) -> Result<(), Mismatch> {
    if scalar.is_string() {
        return scalar.push_str(text);
    }
    // So many digits fit. `-0` is another double than `0`: it goes by its text.
    if is_whole && text.len() <= 18 && !text.starts_with("-0") {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let value = digits
            .bytes()
            .fold(0_i64, |value, b| value * 10 + i64::from(b - b'0'));
        let value = if digits.len() < text.len() {
            -value
        } else {
            value
        };
        return scalar.push_integer(value.into());
    }
    scalar.push_number_text(text)
}

impl From<Mismatch> for GiveUp {
    fn from(_: Mismatch) -> Self {
        GiveUp
    }
}
