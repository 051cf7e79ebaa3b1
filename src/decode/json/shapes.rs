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

use super::number::Number;
use super::texts::Target;
use super::value::skip_blanks;
use hashbrown::HashMap;
use std::arch::x86_64::*;

/// Bytes of the longest record: the place of each is one byte.
pub(super) const RECORD_BYTES_MAX: usize = 256;
const BLOCK: usize = 64;
const BLOCKS: usize = RECORD_BYTES_MAX / BLOCK;
/// What is written behind the last place that counts.
const PLACES: usize = RECORD_BYTES_MAX + BLOCK;
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
    /// A bit for each quote: those that open values, and those that close them.
    opens: u64,
    closes: u64,
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

const IOTA: [u8; BLOCK] = {
    let mut iota = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        iota[i] = i as u8;
        i += 1;
    }
    iota
};

impl Shapes {
    pub(super) fn new() -> Self {
        Self {
            known: Vec::new(),
            expected: [0; SLOTS],
            patience: PATIENCE,
            hits: 0,
            pause: PAUSE / 2,
            paused: 0,
            quotes: [0; PLACES],
            numbers: [0; PLACES],
        }
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
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn find(&mut self, record: &[u8]) -> Tried {
        match record.len().div_ceil(BLOCK) {
            1 => self.find_in::<1>(record),
            2 => self.find_in::<2>(record),
            3 => self.find_in::<3>(record),
            _ => self.find_in::<4>(record),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn find_in<const N: usize>(&mut self, record: &[u8]) -> Tried {
        let blocks: Blocks<N> = Blocks::of(record);
        let (mut quotes, mut backslashes, mut controls, mut high) = (0, 0, 0, 0);
        for i in 0..N {
            let bytes = blocks.bytes[i];
            backslashes |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
            controls |= _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(b' ' as i8));
            high |= _mm512_movepi8_mask(bytes);
            put(&mut self.quotes, quotes, places(blocks.quotes[i], i));
            quotes += blocks.quotes[i].count_ones() as usize;
        }
        if backslashes != 0 || quotes > QUOTES_MAX || (controls != 0 && has_controls(record)) {
            return Tried::Unfit;
        }
        let slot = slot(record, quotes);
        let expected = usize::from(self.expected[slot]);
        if self.is_like(expected, &blocks, quotes) {
            return Tried::Like(expected, high == 0);
        }
        match self.other(record, quotes, expected) {
            Some(number) => {
                self.expected[slot] = number as u8;
                Tried::Like(number, high == 0)
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
        let compare = |at: usize, bytes: usize, block| {
            let skeleton = from(&shape.skeleton, at);
            differ |= _mm512_mask_cmpneq_epi8_mask(within(bytes), block, skeleton);
        };
        let (length, _) = match shape.numbers.len() {
            0 => blocks.squeeze::<false>(shape, &mut self.numbers, compare),
            _ => blocks.squeeze::<true>(shape, &mut self.numbers, compare),
        };
        // (Then there are as many numbers, too: skeletons keep a digit of each.)
        differ == 0 && length == shape.length
    }

    /// Learns the shape of a record that [`Shapes::find`] found to be new and that is JSON: an
    /// object. `columns` are the wanted keys.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[inline(never)]
    pub(super) fn learn(&mut self, record: &[u8], columns: &HashMap<Box<[u8]>, Target>) {
        let Some(mut shape) = outline(record, columns) else {
            return;
        };
        let (mut skeleton, mut places) = ([0; PLACES], [0; PLACES]);
        // (Blocks behind the record are blank and have no mark: what they leave is cut off.)
        let blocks: Blocks<BLOCKS> = Blocks::of(record);
        let keep = |at, _, block| put(&mut skeleton, at, block);
        let (length, numbers) = match shape.numbers.len() {
            0 => blocks.squeeze::<false>(&shape, &mut places, keep),
            _ => blocks.squeeze::<true>(&shape, &mut places, keep),
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
        opens: 0,
        closes: 0,
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
                shape.opens |= 1 << mark;
                shape.closes |= 2 << mark;
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

/// A record of up to `N` blocks in registers, with blanks behind its end.
struct Blocks<const N: usize> {
    bytes: [__m512i; N],
    quotes: [u64; N],
    length: usize,
}

impl<const N: usize> Blocks<N> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,bmi2")]
    fn of(record: &[u8]) -> Self {
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

    /// Takes the text of values out. If there are `NUMBERS`, each becomes a `0`, and its place
    /// is noted. `each` gets what is left of each block: where it begins in all that is left,
    /// its length, and the bytes with zeros behind. Returns how much is left in all, and how
    /// many numbers there are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn squeeze<const NUMBERS: bool>(
        &self,
        shape: &Shape,
        numbers_at: &mut [u8; PLACES],
        mut each: impl FnMut(usize, usize, __m512i),
    ) -> (usize, usize) {
        let (mut length, mut quotes, mut numbers) = (0, 0, 0);
        let (mut is_value, mut is_inside, mut is_number) = (0, 0, 0);
        for i in 0..N {
            let (mut bytes, marks) = (self.bytes[i], self.quotes[i]);
            let opens = _pdep_u64(shape.opens >> quotes, marks);
            let closes = _pdep_u64(shape.closes >> quotes, marks);
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
fn has_controls(record: &[u8]) -> bool {
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

/// The block that begins at place `at`, which is at most [`RECORD_BYTES_MAX`].
#[inline]
#[target_feature(enable = "avx512f")]
fn from(places: &[u8; PLACES], at: usize) -> __m512i {
    let at = at.min(RECORD_BYTES_MAX);
    // SAFETY: a block from there on lies within the places.
    unsafe { _mm512_loadu_si512(places.as_ptr().add(at).cast()) }
}

/// Writes a block at place `at`, which is at most [`RECORD_BYTES_MAX`].
#[inline]
#[target_feature(enable = "avx512f")]
fn put(places: &mut [u8; PLACES], at: usize, block: __m512i) {
    let at = at.min(RECORD_BYTES_MAX);
    // SAFETY: a block from there on lies within the places.
    unsafe { _mm512_storeu_si512(places.as_mut_ptr().add(at).cast(), block) };
}

#[cfg(test)]
mod tests {
    use super::super::masks::Isa;
    use super::*;

    fn columns() -> HashMap<Box<[u8]>, Target> {
        let keys = [&b"a"[..], b"b", b"c"].into_iter().enumerate();
        keys.map(|(i, key)| (key.into(), Target::column(i)))
            .collect()
    }

    /// What becomes of the records, one after the other.
    fn tried(shapes: &mut Shapes, records: &[&str]) -> Vec<Tried> {
        let columns = columns();
        let mut all = Vec::new();
        for record in records {
            let record = record.as_bytes();
            assert!(shapes.wants(record.len()));
            // SAFETY: the caller has looked for what it needs.
            let tried = unsafe { shapes.find(record) };
            if tried == Tried::New {
                // SAFETY: as above.
                unsafe { shapes.learn(record, &columns) };
            }
            all.push(tried);
        }
        all
    }

    fn has_vectors() -> bool {
        Isa::all().contains(&Isa::Vbmi2)
    }

    #[test]
    fn values_are_where_the_record_has_them() {
        if !has_vectors() {
            return;
        }
        let mut shapes = Shapes::new();
        let long = "x".repeat(120);
        let record =
            |a: &str, b: &str, n: &str| format!(r#"{{"a":"{a}","n":[{n},"y"], "b":"{b}"}}"#);
        let records = [
            ("1", "", "0"),
            (&long, "é", "-1.5"),
            ("", &long, "12345678901234567890"),
        ];
        for (i, (a, b, n)) in records.into_iter().enumerate() {
            let text = record(a, b, n);
            let found = tried(&mut shapes, &[&text])[0];
            if i == 0 {
                assert_eq!(found, Tried::New);
                continue;
            }
            assert_eq!(found, Tried::Like(0, text.is_ascii()));
            let shape = shapes.shape(0);
            let part = |wanted: &Wanted| {
                let (first, close) = shapes.text(*wanted);
                &text[first..close]
            };
            assert_eq!(shape.texts.iter().map(part).collect::<Vec<_>>(), [a, b]);
            let (first, number) = shapes.number(text.as_bytes(), shape.numbers[0]).unwrap();
            assert_eq!(&text[first..number.end], n);
            assert_eq!(shape.seen, 0b11);
        }
    }

    #[test]
    fn shapes_that_take_turns_are_all_known() {
        if !has_vectors() {
            return;
        }
        let records = [
            r#"{"a":"x","b":"y"}"#,
            r#"{"b":"x","a":"y"}"#,
            r#"{"a":null,"b":"y"}"#,
            r#"{"a":7,"b":"y"}"#,
            r#"{"a":"x"}      "#,
        ];
        let mut shapes = Shapes::new();
        assert!(
            tried(&mut shapes, &records)
                .iter()
                .all(|t| *t == Tried::New)
        );
        for _ in 0..3 {
            let found = tried(&mut shapes, &records);
            assert!(
                found.iter().all(|t| matches!(t, Tried::Like(..))),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_has_no_shape_is_not_learned() {
        let columns = columns();
        for record in [
            r#"{"a":"x","a":"y"}"#,
            r#"{"a":true}"#,
            r#"{"a":["x"]}"#,
            r#"{"a":{"x":1}}"#,
        ] {
            assert_eq!(outline(record.as_bytes(), &columns), None, "{record}");
        }
        let record = format!(r#"{{"x":[{}]}}"#, [r#""""#; 40].join(","));
        assert_eq!(outline(record.as_bytes(), &columns), None);
    }

    #[test]
    fn a_stream_without_likeness_is_left_alone_and_tried_again() {
        let mut shapes = Shapes::new();
        let (mut looks, all) = (0, 1_000_000);
        for _ in 0..all {
            if shapes.wants(100) {
                looks += 1;
                shapes.miss();
            }
        }
        assert!((16..all / 100).contains(&looks), "{looks}");
        // A stream of which one record in twenty is unlike is looked at all the time.
        shapes = Shapes::new();
        for i in 0..all {
            assert!(shapes.wants(100));
            match i % 20 {
                0 => shapes.miss(),
                _ => shapes.hit(),
            }
        }
        assert!(!shapes.wants(7) && !shapes.wants(RECORD_BYTES_MAX + 1));
    }
}
