//! What a record is like, but for the texts of its values.

use super::super::compare::{TEXT_BYTES, Text};
use super::super::number::Number;
use super::super::texts::{Columns, Target};
use super::super::value::skip_blanks;
use super::super::walk::{GROUP, Written};
use super::NUMBERS_MAX;
use super::tree::{End, Field, Shape, Until};

/// Bytes of the longest record whose shape is learned.
pub(super) const RECORD_BYTES_MAX: usize = 4096;

/// The shape of a JSON object. `None` for one that has none: it is too long, has escapes, a wanted
/// key twice, an object or array that is wanted, too many numbers, or two without a string between.
pub(super) fn outline(record: &[u8], columns: &Columns, unwanted: Target) -> Option<Shape> {
    if record.len() > RECORD_BYTES_MAX || record.contains(&b'\\') {
        return None;
    }
    let mut outline = Outline::new(record, unwanted);
    // The wanted value that is next.
    let mut next: Option<Target> = None;
    let (mut at, mut depth, mut seen) = (0, 0_usize, 0);
    while let Some(byte) = record.get(at) {
        match byte {
            b'"' => {
                let first = at + 1;
                let close = first + record[first..].iter().position(|b| *b == b'"')?;
                at = close + 1;
                if record.get(skip_blanks(record, at)) != Some(&b':') {
                    let target = next.take().unwrap_or(unwanted);
                    outline.value(first, target, Until::Stop, 0, close);
                } else if depth == 1 {
                    next = columns.get(&record[first..close]);
                    let bit = next.map_or(0, |target| target.bit);
                    if seen & bit != 0 {
                        return None;
                    }
                    seen |= bit;
                }
            }
            b'{' | b'[' => {
                if next.is_some() {
                    return None;
                }
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'0'..=b'9' | b'-' => {
                let end = Number::at(record, at)?.end;
                outline.number(at, end, next.take())?;
                at = end;
            }
            b'n' | b't' | b'f' => {
                let (written, length) = match byte {
                    b'n' => (Written::Null, 4),
                    b't' => (Written::True, 4),
                    _ => (Written::False, 5),
                };
                if let Some(target) = next.take() {
                    outline.shape.end.words.push((target, written));
                    if written != Written::Null {
                        outline.value(at, target, Until::Length, length, at);
                    }
                }
                at += length as usize;
            }
            _ => at += 1,
        }
    }
    let all = (0..unwanted.values as usize / GROUP).map(Target::column);
    outline.shape.end.missing = all.filter(|target| seen & target.bit == 0).collect();
    Some(outline.finish())
}

/// A shape in the making.
struct Outline<'a> {
    record: &'a [u8],
    unwanted: Target,
    shape: Shape,
    /// Where the text begins that stands behind the last value.
    text: usize,
    /// The value before it ends so many bytes before a stop in it, which is there.
    stop: usize,
}

fn is_stop(byte: &u8) -> bool {
    *byte == b'"' || *byte < b' '
}

impl<'a> Outline<'a> {
    fn new(record: &'a [u8], unwanted: Target) -> Self {
        let end = End {
            text: Text::new(&[]),
            length: 0,
            numbers: Vec::new(),
            words: Vec::new(),
            missing: Vec::new(),
        };
        let shape = Shape {
            fields: Vec::new(),
            end,
        };
        Self {
            record,
            unwanted,
            shape,
            text: 0,
            stop: 0,
        }
    }

    /// Ends the text at hand at `end`, where a value begins; the next text begins at `next`.
    fn value(&mut self, end: usize, target: Target, until: Until, bytes: u32, next: usize) {
        let (text, length) = self.last_piece(end);
        let values = target.values;
        self.shape.fields.push(Field {
            text,
            length,
            until,
            bytes,
            values,
        });
        (self.text, self.stop) = (next, next);
    }

    /// The text at hand, which ends at `end`, or what is left of it behind whole pieces.
    fn last_piece(&mut self, end: usize) -> (Text, u32) {
        let mut pieces = self.record[self.text..end].chunks(TEXT_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return (Text::new(piece), piece.len() as u32);
            }
            self.shape.fields.push(Field {
                text: Text::new(piece),
                length: piece.len() as u32,
                until: Until::Length,
                bytes: 0,
                values: self.unwanted.values,
            });
        }
        (Text::new(&[]), 0)
    }

    /// A number. It ends before the first stop of the next text, or before the record's end.
    fn number(&mut self, start: usize, end: usize, target: Option<Target>) -> Option<()> {
        // The number before has no stop between itself and this one.
        if self.stop > start {
            return None;
        }
        let unwanted = self.shape.end.numbers.iter().filter(|n| n.bit == 0).count();
        let target = target.unwrap_or(Target {
            values: self.unwanted.values + ((unwanted + 1) * GROUP) as u32,
            bit: 0,
        });
        if unwanted == NUMBERS_MAX {
            return None;
        }
        self.shape.end.numbers.push(target);
        let stop = (end..self.record.len()).find(|at| is_stop(&self.record[*at]));
        let (until, stop) = match stop {
            Some(stop) => (Until::Stop, stop),
            None => (Until::End, self.record.len()),
        };
        self.value(start, target, until, (stop - end) as u32, end);
        self.stop = stop;
        Some(())
    }

    fn finish(mut self) -> Shape {
        (self.shape.end.text, self.shape.end.length) = self.last_piece(self.record.len());
        self.shape
    }
}
