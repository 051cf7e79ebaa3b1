//! What stands between two values (`,"page":`): the texts that were met, and what each leads to.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::compare::{Compare, TEXT_BYTES, Text, Words};
use super::masks::Masks;
use super::value::{skip_blanks, string};
use super::walk::{GROUP, GiveUp, Walked};
use hashbrown::HashMap;

/// Bytes of the longest text between two values that is learned.
const BYTES_MAX: usize = 64;
/// Such texts that are remembered.
const STEPS: usize = 256;
/// Texts of which it is known that they were met. A power of two.
const MET: usize = 1024;
/// After so many texts without room what was learned is forgotten, and learned anew.
const LEFT_OUT_MAX: usize = 4096;

/// What stands between two values, and what it leads to. The quotes of strings belong to it: so
/// they are compared with the rest, and one that leads to a string says that one follows.
#[derive(Debug, Clone, Copy)]
#[repr(align(128))]
pub(super) struct Step {
    /// The text's first bytes.
    head: Text,
    /// The last bytes of a text that is longer than the head.
    tail: [u8; TEXT_BYTES],
    pub(super) length: u8,
    pub(super) target: Target,
    place: Place,
    pub(super) leads_to: Leads,
    /// Whether the head is all of it, and leads to a string.
    pub(super) is_plain: bool,
    /// The step that followed last time: its place is behind what this one leads to.
    pub(super) next: u8,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the record's start.
    First,
    /// From a string's closing quote on.
    AtQuote,
    /// Behind a value.
    Behind,
}

/// What a text is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// A string: its opening quote is the text's last byte.
    Text,
    /// Any other value.
    Other,
    End,
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

/// The wanted keys.
#[derive(Debug)]
pub(super) struct Columns {
    by_key: HashMap<Box<[u8]>, Target>,
    /// The marks of them all.
    marks: u64,
}

impl Columns {
    pub(super) fn new(keys: &[&str]) -> Self {
        let columns = keys.iter().map(|key| key.as_bytes()).enumerate();
        Self {
            marks: columns.clone().fold(0, |all, (_, key)| all | mark(key)),
            by_key: columns
                .map(|(i, key)| (key.into(), Target::column(i)))
                .collect(),
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, key: &[u8]) -> Option<Target> {
        match self.marks & mark(key) {
            0 => None,
            _ => self.by_key.get(key).copied(),
        }
    }
}

/// One of 64 bits, by which most keys are told from the wanted ones without a hash.
#[inline(always)]
fn mark(key: &[u8]) -> u64 {
    let last = key.last().copied().unwrap_or_default();
    1 << ((key.len() + 5 * usize::from(last)) % 64)
}

/// Before the record's opening brace.
pub(super) const START: u8 = 0;
/// After a text that was not learned. The value behind it is read as any other, quotes included.
const UNKNOWN: u8 = 1;

/// The texts of one stream of records.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) columns: Columns,
    pub(super) unwanted: Target,
    pub(super) steps: Box<[Step; STEPS]>,
    known: usize,
    /// From a hash of a text's first eight bytes to the two steps met last with it.
    by_head: Box<[[u8; 2]; 256]>,
    /// From a hash of the text ([`hash_of`]). What is met once is only noted: keys may be data.
    by_text: Box<[Met; MET]>,
    /// Texts met more than once for which there was no room.
    left_out: usize,
    /// The last string that was written with escapes.
    pub(super) unescaped: String,
}

/// A text that was met.
#[derive(Debug, Clone, Copy)]
struct Met {
    hash: u32,
    /// [`UNKNOWN`] until it is met again.
    step: u8,
}

impl Met {
    const NOTHING: Self = Self {
        hash: 0,
        step: UNKNOWN,
    };
}

impl Texts {
    pub(super) fn new(keys: &[&str]) -> Self {
        Self {
            columns: Columns::new(keys),
            unwanted: Target::unwanted(keys.len()),
            // The first two, and those that are not known yet, stand nowhere.
            steps: Box::new([Step::NOWHERE; STEPS]),
            known: 2,
            by_head: Box::new([[START; 2]; 256]),
            by_text: Box::new([Met::NOTHING; MET]),
            left_out: 0,
            unescaped: String::new(),
        }
    }

    /// To be called between two records, now and then: what was learned may be out of use.
    pub(super) fn make_room(&mut self) {
        if self.left_out < LEFT_OUT_MAX {
            return;
        }
        self.steps.fill(Step::NOWHERE);
        self.by_head.fill([START; 2]);
        self.by_text.fill(Met::NOTHING);
        (self.known, self.left_out) = (2, 0);
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
        let place = match self.steps[usize::from(step)].leads_to {
            _ if step == START => Place::First,
            Leads::Text => Place::AtQuote,
            _ => Place::Behind,
        };
        let head = head(data, at);
        for i in 0..2 {
            let guess = self.by_head[head][i];
            let found = &self.steps[usize::from(guess)];
            if found.place == place && found.stands_at(data, at) {
                let known = (found.target, guess, at + usize::from(found.length));
                self.remember(head, guess);
                self.steps[usize::from(step)].next = guess;
                return Ok(known);
            }
        }
        let (target, value) = self.key(masks, record, place, at)?;
        let leads_to = match record.get(value) {
            _ if target == Target::END => Leads::End,
            Some(b'"') => Leads::Text,
            _ => Leads::Other,
        };
        let end = value + usize::from(leads_to == Leads::Text);
        let Some(learned) = self.learn(&record[at..end], target, place, leads_to) else {
            return Ok((target, UNKNOWN, value));
        };
        self.remember(head, learned);
        self.steps[usize::from(step)].next = learned;
        Ok((target, learned, end))
    }

    fn remember(&mut self, head: usize, step: u8) {
        let [first, second] = &mut self.by_head[head];
        if *first != step {
            (*first, *second) = (step, *first);
        }
    }

    /// The step of a text, unless it is met for the first time or there is no room for it.
    fn learn(&mut self, text: &[u8], target: Target, place: Place, leads_to: Leads) -> Option<u8> {
        let hash = hash_of(text);
        let met = &mut self.by_text[hash as usize % MET];
        if met.hash != hash {
            *met = Met {
                hash,
                step: UNKNOWN,
            };
            return None;
        }
        if met.step != UNKNOWN {
            return self.steps[usize::from(met.step)]
                .is(text)
                .then_some(met.step);
        }
        if self.known == STEPS {
            self.left_out += 1;
            return None;
        }
        let new = Step::new(text, target, place, leads_to)?;
        met.step = self.known as u8;
        self.steps[self.known] = new;
        self.known += 1;
        Some(met.step)
    }

    /// Reads `{"key":` or `,"key":`, or the closing brace, whatever blanks there are. Returns
    /// where the value starts.
    fn key(
        &mut self,
        masks: &Masks,
        record: &[u8],
        place: Place,
        at: usize,
    ) -> Walked<(Target, usize)> {
        let first = place == Place::First;
        let mut at = skip_blanks(record, at + usize::from(place == Place::AtQuote));
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
        let target = self.columns.get(key.text).unwrap_or(self.unwanted);
        let at = skip_blanks(record, key.after);
        if record.get(at) != Some(&b':') {
            return Err(GiveUp);
        }
        Ok((target, skip_blanks(record, at + 1)))
    }
}

impl Step {
    const NOWHERE: Self = Self {
        head: Text::NOWHERE,
        tail: [0; TEXT_BYTES],
        length: 0,
        target: Target::END,
        place: Place::First,
        leads_to: Leads::Other,
        is_plain: false,
        next: START,
    };

    /// `None` for a text that is too long.
    fn new(text: &[u8], target: Target, place: Place, leads_to: Leads) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        Some(Self {
            head: Text::new(&text[..text.len().min(TEXT_BYTES)]),
            tail: *text.last_chunk().unwrap_or(&[0; TEXT_BYTES]),
            length: text.len() as u8,
            target,
            place,
            leads_to,
            is_plain: leads_to == Leads::Text && text.len() <= TEXT_BYTES,
            ..Self::NOWHERE
        })
    }

    fn is(&self, text: &[u8]) -> bool {
        Self::new(text, self.target, self.place, self.leads_to)
            .is_some_and(|of| (self.length, self.head, self.tail) == (of.length, of.head, of.tail))
    }

    /// Whether the text stands at `at`, and is followed by what it leads to. Says no where the
    /// payload ends soon: then the key is read byte by byte.
    #[inline]
    fn stands_at(&self, data: &[u8], at: usize) -> bool {
        self.head_stands_at::<Words>(data, at) && self.rest_stands_at(data, at)
    }

    #[inline(always)]
    pub(super) fn head_stands_at<C: Compare>(&self, data: &[u8], at: usize) -> bool {
        if at >= data.len().saturating_sub(TEXT_BYTES) {
            return false;
        }
        // SAFETY: there are more than so many bytes behind `at`.
        C::stands_in(&self.head, unsafe { &*data.as_ptr().add(at).cast() })
    }

    /// What is left to compare when the head stands at `at`.
    #[inline]
    pub(super) fn rest_stands_at(&self, data: &[u8], at: usize) -> bool {
        let end = at + usize::from(self.length);
        let has_tail = usize::from(self.length) <= TEXT_BYTES
            || data.get(end - TEXT_BYTES..end) == Some(&self.tail);
        // What is followed by a quote or by blanks is another text: it only begins like this one.
        has_tail
            && (self.leads_to != Leads::Other
                || !matches!(data.get(end), Some(b'"' | b' ' | b'\t' | b'\n' | b'\r')))
    }
}

#[inline(always)]
fn words<const N: usize, const W: usize>(bytes: &[u8; N]) -> [u64; W] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(chunks[i]))
}

/// Of a text's length, its first sixteen bytes and its last: of texts that are alike in these only one
/// is learned, and none is taken for another.
#[inline(always)]
fn hash_of(text: &[u8]) -> u32 {
    let (mut first, mut last) = ([0; 16], [0; 16]);
    match (text.first_chunk::<16>(), text.last_chunk::<16>()) {
        (Some(start), Some(end)) => (first, last) = (*start, *end),
        _ => first[..text.len()].copy_from_slice(text),
    }
    let [a, b] = words(&first);
    let [c, d] = words(&last);
    let mix = |x: u64, y: u64| {
        let product = u128::from(x) * u128::from(y);
        product as u64 ^ (product >> 64) as u64
    };
    let [k, l, m, n] = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xd6e8_feb8_6659_fd93,
    ];
    // Side by side, and not one behind the other: this is most of what a new text costs.
    let hash = mix(a ^ k, b ^ l) ^ mix(c ^ m, d ^ n ^ text.len() as u64);
    // Zero is the hash of none.
    hash as u32 | 1 << 31
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

#[cfg(test)]
mod tests {
    use super::super::masks::Isa;
    use super::*;

    /// The step of the text that begins an object with `key`, which is met `times` times.
    fn met(texts: &mut Texts, key: &str, times: usize) -> u8 {
        let record = format!("{{\"{key}\":\"x\"}}{}", " ".repeat(BYTES_MAX));
        let mut masks = Masks::new(Isa::detect());
        masks.cover(record.as_bytes(), 0, record.len(), record.len());
        let data = record.as_bytes();
        let met = (0..times).map(|_| texts.look_up(&masks, data, data, START, 0).unwrap().1);
        met.last().unwrap()
    }

    /// A stream whose first texts were never seen again once learned nothing later.
    #[test]
    fn texts_that_are_met_once_take_no_room() {
        let mut texts = Texts::new(&["a"]);
        for i in 0..1000 {
            assert_eq!(met(&mut texts, &format!("key {i}"), 1), UNKNOWN);
        }
        assert_eq!(texts.known, 2);
        assert_ne!(met(&mut texts, "a", 2), UNKNOWN);
    }

    #[test]
    fn texts_of_another_stream_are_learned_in_time() {
        let mut texts = Texts::new(&["a"]);
        for i in 0..300 {
            met(&mut texts, &format!("key {i}"), 2);
        }
        assert_eq!(texts.known, STEPS);
        assert_eq!(met(&mut texts, "a", 2), UNKNOWN);
        texts.make_room();
        assert_eq!(met(&mut texts, "a", LEFT_OUT_MAX), UNKNOWN);
        texts.make_room();
        assert_ne!(met(&mut texts, "a", 2), UNKNOWN);
    }
}
