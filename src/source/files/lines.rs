//! Records of a file of lines, in chunks.
//!
//! Invariant: `buffer[start..]` has been read and not delivered; `buffer[start..scanned]` holds
//! no end of a record, and `state` is the scanner's state behind it. So each byte is looked at
//! once, wherever the pieces that the file is read in begin and end.

use super::{line_too_long, read_error};
use crate::encode::csv::character;
use crate::error::Result;
use crate::options::Options;
use crate::source::{Assignment, BlobsBuilder, Chunk};
use std::io::Read;
use std::path::Path;

/// A record must fit into so many bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    /// CSV: delimiter and quote. A line break between quotes does not end the record.
    quoting: Option<(u8, u8)>,
    /// The first line holds names.
    header: bool,
}

impl Syntax {
    pub(super) const LINES: Syntax = Syntax {
        quoting: None,
        header: false,
    };

    pub(super) fn csv(options: &Options) -> Result<Syntax> {
        let delimiter = character(options, "csv.field-delimiter")?.unwrap_or(b',');
        let quote = character(options, "csv.quote-character")?.unwrap_or(b'"');
        Ok(Syntax {
            quoting: Some((delimiter, quote)),
            header: options.bool("csv.header")?.unwrap_or(false),
        })
    }
}

/// How large a chunk gets: it ends with the record that reaches one of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 1 << 20,
            records: 8192,
        }
    }
}

/// Where the scanner stands within a CSV record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    /// In a field without quotes, or behind the closing quote of one.
    Plain,
    Quoted,
    /// Behind a quote within quotes: the closing one, or the first of two.
    QuoteInQuoted,
}

/// Reads the records of one file.
pub(super) struct LineReader<R> {
    input: R,
    syntax: Syntax,
    assignment: Assignment,
    buffer: Vec<u8>,
    start: usize,
    scanned: usize,
    state: State,
    /// Line breaks seen in the record that is being scanned.
    breaks: i64,
    /// The line on which the next record starts.
    line: i64,
    at_end: bool,
}

impl<R: Read> LineReader<R> {
    pub(super) fn new(input: R, syntax: Syntax, assignment: Assignment) -> LineReader<R> {
        LineReader {
            input,
            syntax,
            assignment,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            state: State::FieldStart,
            breaks: 0,
            line: 0,
            at_end: false,
        }
    }

    /// The next records; `None` at the end of the file or of the assignment.
    pub(super) fn chunk(&mut self, limits: Limits) -> Result<Option<Chunk>> {
        if self.start == self.buffer.len() && !self.at_end {
            self.fill(limits.bytes)?;
        }
        let bytes = limits.bytes.min(self.buffer.len() - self.start);
        let mut payload = BlobsBuilder::with_capacity(limits.records.min(bytes), bytes);
        let mut offsets = Vec::new();
        let end = self.assignment.end.unwrap_or(i64::MAX);
        while payload.bytes() < limits.bytes && offsets.len() < limits.records && self.line < end {
            let line = self.line;
            let Some((from, to)) = self.record(limits.bytes)? else {
                break;
            };
            let record = trimmed(&self.buffer[from..to], line == 0);
            if record.is_empty()
                || line < self.assignment.start
                || (self.syntax.header && line == 0)
            {
                continue;
            }
            payload.push(Some(record));
            offsets.push(line);
        }
        if offsets.is_empty() {
            return Ok(None);
        }
        Ok(Some(Chunk {
            id: self.assignment.id,
            topic: self.assignment.topic.clone(),
            partition: self.assignment.partition,
            timestamps_ms: vec![-1; offsets.len()],
            offsets,
            next_offset: self.line,
            payload: payload.finish(),
            log_append_time: false,
            keys: None,
            headers: None,
            high_watermark: None,
        }))
    }

    /// The next record's place in the buffer, without its line break.
    fn record(&mut self, read_bytes: usize) -> Result<Option<(usize, usize)>> {
        loop {
            let from = self.start;
            if let Some(end) = self.scan() {
                self.start = end + 1;
                self.scanned = self.start;
                self.line += self.breaks + 1;
                self.breaks = 0;
                self.state = State::FieldStart;
                return Ok(Some((from, end)));
            }
            if self.at_end {
                let end = self.buffer.len();
                self.start = end;
                self.scanned = end;
                if from == end {
                    return Ok(None);
                }
                self.line += self.breaks + 1;
                self.breaks = 0;
                return Ok(Some((from, end)));
            }
            self.fill(read_bytes)?;
        }
    }

    /// Reads on, behind what has not been delivered yet.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(line_too_long(&self.assignment.topic, self.line));
        }
        // At least as much again as there is: a long record is copied a few times, not often.
        let more = bytes.max(self.buffer.len()) as u64;
        let read = self.input.by_ref().take(more).read_to_end(&mut self.buffer);
        self.at_end =
            read.map_err(|e| read_error(Path::new(self.assignment.topic.as_ref()), e))? == 0;
        Ok(())
    }

    /// The index of the line break that ends the record, if it has been read.
    fn scan(&mut self) -> Option<usize> {
        let Some((delimiter, quote)) = self.syntax.quoting else {
            let found =
                memchr::memchr(b'\n', &self.buffer[self.scanned..]).map(|i| self.scanned + i);
            self.scanned = found.unwrap_or(self.buffer.len());
            return found;
        };
        // Most records have no quote at all.
        if self.scanned == self.start {
            let rest = &self.buffer[self.start..];
            let line = memchr::memchr(b'\n', rest).map(|length| &rest[..length]);
            if let Some(line) = line.filter(|line| memchr::memchr(quote, line).is_none()) {
                return Some(self.start + line.len());
            }
        }
        let mut state = self.state;
        let mut i = self.scanned;
        if self.line == 0 && i == self.start && self.buffer[i..].starts_with(BYTE_ORDER_MARK) {
            // The field begins behind it.
            i += BYTE_ORDER_MARK.len();
        }
        while let Some(&byte) = self.buffer.get(i) {
            match state {
                State::Quoted => match byte {
                    b if b == quote => state = State::QuoteInQuoted,
                    b'\n' => self.breaks += 1,
                    _ => {}
                },
                State::QuoteInQuoted if byte == quote => state = State::Quoted,
                State::FieldStart if byte == quote => state = State::Quoted,
                _ if byte == b'\n' => {
                    self.scanned = i;
                    return Some(i);
                }
                _ => {
                    state = if byte == delimiter {
                        State::FieldStart
                    } else {
                        State::Plain
                    }
                }
            }
            i += 1;
        }
        self.state = state;
        self.scanned = i;
        None
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A record without the `\r` of its line break, and without a byte order mark in front.
fn trimmed(record: &[u8], first: bool) -> &[u8] {
    let record = record.strip_suffix(b"\r").unwrap_or(record);
    if first {
        record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record)
    } else {
        record
    }
}

#[cfg(test)]
mod tests;
