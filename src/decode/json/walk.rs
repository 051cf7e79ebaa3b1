//! The fast path: where each record's wanted values are, found by guessing what comes next.
//!
//! Records of one stream mostly have the same keys in the same order, written the same way. Those
//! that are like one before are known as a whole ([`super::shapes`]). In the others
//! what stands between two values (`,"page":`) is guessed from what stood there last time and
//! compared in one go. A guess that fails is looked up by its first bytes, and only then is the
//! key really read. Strings end where [`Masks`] say. What is unusual (a key that comes twice, a
//! mistake) is left to the caller's general path, which then reads the record from its start: so
//! this path never says why it gave up.
//!
//! What it accepts is exactly what serde_json accepts, fields that nobody wants included. Whether
//! the values fit their columns is not its concern: see [`super::fill`].

use super::compare::Compare;
use super::masks::{Isa, Masks};
use super::shapes::{Group, NUMBERS_MAX, Run, Shapes};
use super::texts::{Leads, START, Target, Texts};
use super::value::{other_value, skip_blanks, span_of, string};
use crate::source::Span;
use std::ops::Range;

/// The record is not for this path.
#[derive(Debug)]
pub(super) struct GiveUp;

pub(super) type Walked<T> = Result<T, GiveUp>;

/// What a value is, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A string without escapes. Its span is what stands between the quotes: UTF-8.
    Plain,
    /// A string with escapes. Its span as above.
    Escaped,
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

/// Finds the values of records that are objects.
#[derive(Debug)]
pub(super) struct Walker {
    masks: Masks,
    texts: Texts,
    shapes: Shapes,
    columns: usize,
    /// Ones for all columns.
    all: u64,
    /// Per column the values of a group's records, [`GROUP`] places each; then as many for the
    /// values that nobody wants: to note those too is cheaper than to ask. Behind them those of
    /// numbers that nobody wants.
    spans: Vec<Span>,
    written: Vec<Written>,
    /// Bits of the columns that have values in this group that are not [`Written::Plain`].
    odd: u64,
}

/// A place in a record, between two values.
#[derive(Debug, Clone, Copy)]
struct Here {
    at: usize,
    /// The text before the last value.
    step: u8,
    /// Bits of the columns that have a value.
    seen: u64,
}

/// Where the quick way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// Behind the record's brace.
    End,
    /// At a value that is no short string, or that should not be there.
    Value,
    /// At a text that is not the one that was guessed, or within a string.
    Text,
}

impl Walker {
    /// For objects whose wanted values stand under `keys`, in the order of the columns: at most
    /// [`COLUMNS_MAX`].
    pub(super) fn new(keys: &[&str], isa: Isa) -> Self {
        Self {
            masks: Masks::new(isa),
            texts: Texts::new(keys),
            shapes: Shapes::new(),
            columns: keys.len(),
            all: (0..keys.len()).fold(0, |all, column| all | 1 << column),
            spans: vec![Span::ABSENT; GROUP * (keys.len() + 1 + NUMBERS_MAX)],
            written: vec![Written::Plain; GROUP * keys.len()],
            odd: 0,
        }
    }

    /// To be called before the first record of another payload.
    pub(super) fn begin(&mut self) {
        self.masks.clear();
        self.texts.make_room();
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
        self.shapes.start_group();
        if self.odd != 0 {
            self.written.fill(Written::Plain);
            self.odd = 0;
        }
    }

    /// Walks `records` of `data`, the first of which is row `row` of the group, as long as each is like
    /// one before, and notes their values; there may be [`GROUP`] rows in all. Records up to `limit`
    /// will be walked soon. Returns how many were walked, and why no more.
    #[inline(always)]
    pub(super) fn walk_alike(
        &mut self,
        data: &[u8],
        records: &[Span],
        limit: usize,
        row: usize,
    ) -> (usize, Run) {
        let mut group = Group {
            spans: &mut self.spans,
            written: &mut self.written,
            odd: &mut self.odd,
            row,
        };
        loop {
            let before = group.row;
            let left = &records[before - row..];
            let Some((start, end)) = left.first().and_then(|record| bounds(data, *record)) else {
                return (before - row, Run::Over);
            };
            self.masks.cover(data, start, end, limit);
            let run = self.shapes.run(data, left, &self.masks, &mut group);
            if run != Run::Over || group.row == before {
                return (group.row - row, run);
            }
        }
    }

    /// Whether looking for records that are alike is worth it.
    #[inline(always)]
    pub(super) fn expects_alike(&mut self) -> bool {
        self.shapes.wants()
    }

    /// Walks the record at `span` of `data` and notes its values as those of row `row` of the
    /// group, less than [`GROUP`]. Records up to `limit` will be walked soon.
    #[inline(always)]
    pub(super) fn walk<C: Compare>(
        &mut self,
        data: &[u8],
        span: Span,
        limit: usize,
        row: usize,
    ) -> Walked<()> {
        // An absent span names no place: masks from there would be for nothing.
        let (start, end) = bounds(data, span).ok_or(GiveUp)?;
        self.masks.cover(data, start, end, limit);
        self.fields::<C>(data, start, end, row)
    }

    /// Learns what a record is like that was like none before, and has been walked.
    #[inline(never)]
    pub(super) fn learn(&mut self, data: &[u8], span: Span) {
        let record = &data[span.start as usize..span.end as usize];
        self.shapes
            .learn(record, &self.texts.columns, self.texts.unwanted);
    }

    /// A record was like none before.
    pub(super) fn miss(&mut self) {
        self.shapes.miss();
    }

    /// Walks a record from field to field.
    #[inline(always)]
    fn fields<C: Compare>(
        &mut self,
        data: &[u8],
        start: usize,
        end: usize,
        row: usize,
    ) -> Walked<()> {
        let text = &data[..end];
        if !self.masks.is_ascii(start, end) && simdutf8::basic::from_utf8(&text[start..]).is_err() {
            return Err(GiveUp);
        }
        let mut here = Here {
            at: start,
            step: START,
            seen: 0,
        };
        loop {
            let met;
            (here, met) = self.plain_fields::<C>(data, row, here);
            if met == Met::End {
                break;
            }
            let is_end;
            (here, is_end) = self.field(data, text, row, here, met == Met::Value)?;
            if is_end {
                break;
            }
        }
        if here.at != end && skip_blanks(text, here.at) != end {
            return Err(GiveUp);
        }
        if here.seen != self.all {
            self.note_missing(here.seen, row);
        }
        Ok(())
    }

    /// Walks on as long as guesses hold and lead to short strings. It calls nothing, so that all
    /// it needs stays in registers.
    ///
    /// What it finds may lie behind the record's end, but then so does the brace. That a string
    /// ends with a quote is seen by the next text, which begins with it.
    #[inline(always)]
    fn plain_fields<C: Compare>(&mut self, data: &[u8], row: usize, mut here: Here) -> (Here, Met) {
        let (steps, stops) = (&*self.texts.steps, self.masks.stops());
        let spans = &mut self.spans[row..];
        let met = loop {
            let step = steps[usize::from(here.step)].next;
            let found = &steps[usize::from(step)];
            if !found.head_stands_at::<C>(data, here.at) {
                break Met::Text;
            }
            let (at, target) = (here.at + usize::from(found.length), found.target);
            if found.is_plain
                && here.seen & target.bit == 0
                && let Some(stop) = stops.near(at)
            {
                spans[target.values as usize] = span_of(at, stop);
                (here.at, here.step, here.seen) = (stop, step, here.seen | target.bit);
                continue;
            }
            if !found.rest_stands_at(data, here.at) {
                break Met::Text;
            }
            (here.at, here.step) = (at, step);
            break match found.leads_to {
                Leads::End => Met::End,
                _ => Met::Value,
            };
        };
        (here, met)
    }

    /// Walks on by one field, whatever it is like, from its value on if its text `is_known`;
    /// and whether that was the record's brace.
    #[inline(always)]
    fn field(
        &mut self,
        data: &[u8],
        text: &[u8],
        row: usize,
        mut here: Here,
        is_known: bool,
    ) -> Walked<(Here, bool)> {
        let Self { masks, texts, .. } = self;
        let last = &texts.steps[usize::from(here.step)];
        let mut target = last.target;
        if !is_known {
            if last.leads_to == Leads::Text && text.get(here.at) != Some(&b'"') {
                here.at = self.escaped(text, row, target)?;
                return Ok((here, false));
            }
            (target, here.step, here.at) = texts.look_up(masks, data, text, here.step, here.at)?;
        }
        if target == Target::END {
            return Ok((here, true));
        }
        if here.seen & target.bit != 0 {
            return Err(GiveUp);
        }
        here.seen |= target.bit;
        let at = here.at;
        if texts.steps[usize::from(here.step)].leads_to == Leads::Text {
            here.at = masks.stops().next(at);
            self.spans[target.values as usize + row] = span_of(at, here.at);
        } else {
            let (value, written, end) = other_value(masks, &mut texts.unescaped, text, at)?;
            self.note(target, row, value, written);
            here.at = end;
        }
        Ok((here, false))
    }

    /// The last string goes on: it has escapes. Returns where its closing quote is.
    #[inline(never)]
    fn escaped(&mut self, text: &[u8], row: usize, target: Target) -> Walked<usize> {
        let start = self.spans[target.values as usize + row].start as usize;
        let string = string(&self.masks, &mut self.texts.unescaped, text, start)?;
        let (end, written) = (string.after - 1, string.written);
        self.note(target, row, span_of(start, end), written);
        Ok(end)
    }

    #[inline(always)]
    fn note(&mut self, target: Target, row: usize, value: Span, written: Written) {
        let place = target.values as usize + row;
        self.spans[place] = value;
        if written != Written::Plain && target.bit != 0 {
            self.odd |= target.bit;
            self.written[place] = written;
        }
    }

    #[inline(never)]
    fn note_missing(&mut self, seen: u64, row: usize) {
        for target in (0..self.columns).map(Target::column) {
            if seen & target.bit == 0 {
                self.odd |= target.bit;
                self.written[target.values as usize + row] = Written::Missing;
            }
        }
    }
}

/// Where a record is; `None` for one that is absent, empty, or not in `data`.
#[inline(always)]
fn bounds(data: &[u8], record: Span) -> Option<(usize, usize)> {
    let (start, end) = (record.start as usize, record.end as usize);
    (start < end && end <= data.len()).then_some((start, end))
}
