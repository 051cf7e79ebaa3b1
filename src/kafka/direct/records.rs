//! Record batches: from the bytes of a Fetch response to rows of a chunk.
//!
//! The layout is that of message format 2 (Kafka 0.11 and later). Nothing here trusts a length.

use super::fault::Reason;
use super::unpack::{Arena, Unpacker};
use crate::source::{Headers, Span};
use std::ops::Range;

/// Base offset and length: what stands before the bytes that the length counts.
const PREFIX: usize = 12;
/// The whole header.
const HEADER: usize = 61;
/// From here the CRC counts.
const ATTRIBUTES: usize = 21;
/// Length, attributes, two deltas, key length, value length and number of headers.
const SMALLEST_RECORD: usize = 7;

type Result<T> = std::result::Result<T, Reason>;

const CUT: Reason = Reason::Corrupt("a record ends early");

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub size: usize,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// -1 for none.
    pub producer: i64,
    count: i32,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl Header {
    /// The header of the batch at the front of `bytes`; `None` where the batch is not whole.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.len() <= PREFIX + 4 {
            return Ok(None);
        }
        let magic = i8::from_be_bytes(field(bytes, 16));
        if magic < 2 {
            return Err(Reason::OldFormat(magic));
        }
        if magic > 2 {
            return Err(Reason::Corrupt("its format is not known"));
        }
        let length = usize::try_from(i32::from_be_bytes(field(bytes, 8)))
            .ok()
            .filter(|length| PREFIX + length >= HEADER)
            .ok_or(Reason::Corrupt("its length is impossible"))?;
        if bytes.len() < PREFIX + length {
            return Ok(None);
        }
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            size: PREFIX + length,
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer: i64::from_be_bytes(field(bytes, 43)),
            count: i32::from_be_bytes(field(bytes, 57)),
        };
        let last = header
            .base_offset
            .checked_add(i64::from(header.last_offset_delta));
        match last {
            Some(last)
                if header.base_offset >= 0
                    && last >= header.base_offset
                    && last < i64::MAX
                    && header.count >= 0 =>
            {
                Ok(Some(header))
            }
            _ => Err(Reason::Corrupt("its offsets are impossible")),
        }
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    fn codec(&self) -> i16 {
        self.attributes & 0x07
    }

    /// `batch` is the whole batch.
    pub fn check_crc(&self, batch: &[u8]) -> Result<()> {
        match crc32c::crc32c(&batch[ATTRIBUTES..self.size]) == self.crc {
            true => Ok(()),
            false => Err(Reason::Crc),
        }
    }

    /// Whether a control batch ends its transaction by aborting it. `batch` is the whole batch.
    pub fn is_abort(&self, batch: &[u8]) -> Result<bool> {
        let mut cursor = Cursor::new(&batch[..self.size], HEADER);
        cursor.varint()?; // length
        cursor.skip(1)?; // attributes
        cursor.varint()?;
        cursor.varint()?;
        // The key: version and type, two bytes each; type 0 is abort, 1 is commit.
        let length = cursor.varint()?;
        let at = cursor.position;
        let key = batch[..self.size].get(at..at + 4).filter(|_| length >= 4);
        Ok(key.ok_or(CUT)?[2..] == [0, 0])
    }
}

/// A place within bytes; every step is checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        self.position = self.position.checked_add(count).ok_or(CUT)?;
        Ok(())
    }

    /// A zigzag number of up to 64 bits. Nearly all have one or two bytes.
    #[inline(always)]
    fn varint(&mut self) -> Result<i64> {
        let folded = match self.bytes.get(self.position..) {
            Some([a, ..]) if *a < 0x80 => {
                self.position += 1;
                u64::from(*a)
            }
            Some([a, b, ..]) if *b < 0x80 => {
                self.position += 2;
                u64::from(a & 0x7f) | u64::from(*b) << 7
            }
            _ => self.long_varint()?,
        };
        Ok(zigzag(folded))
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.position).ok_or(CUT)?;
            self.position += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Reason::Corrupt("a number is too long"))
    }

    /// A byte string: its length, which is -1 for one that is not there, and its bytes.
    #[inline(always)]
    fn span(&mut self, end: usize) -> Result<Span> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(Span::ABSENT);
        }
        let start = self.position;
        match usize::try_from(length) {
            Ok(length) if length <= end.wrapping_sub(start) && start <= end => {
                self.position = start + length;
                Ok(Span {
                    start: start as u32,
                    end: self.position as u32,
                })
            }
            _ => Err(CUT),
        }
    }
}

/// Rows of one partition while a chunk is made of them.
#[derive(Debug, Default)]
pub struct Rows {
    pub arena: Arena,
    pub offsets: Vec<i64>,
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<Span>,
    /// Those asked for.
    pub keys: Option<Vec<Span>>,
    pub headers: Option<Vec<Headers>>,
}

impl Rows {
    /// Appends the records of a batch whose offsets lie in `wanted`. `batch` is the whole batch.
    pub fn append(
        &mut self,
        header: &Header,
        batch: &[u8],
        wanted: &Range<i64>,
        unpacker: &mut Unpacker,
    ) -> Result<()> {
        let packed = &batch[HEADER..header.size];
        let place = unpacker.unpack(header.codec(), packed, &mut self.arena)?;
        // Spans have 32 bits.
        if place.end > u32::MAX as usize {
            return Err(Reason::TooLarge(u32::MAX as usize));
        }
        let count = header.count as usize;
        if count > place.len() / SMALLEST_RECORD {
            return Err(Reason::Corrupt("it counts more records than it can hold"));
        }
        let first = self.offsets.len();
        self.walk(header, place, count)?;
        self.keep(first, wanted);
        Ok(())
    }

    /// Appends all records of a batch.
    fn walk(&mut self, header: &Header, place: Range<usize>, count: usize) -> Result<()> {
        let bytes = &self.arena.bytes[..place.end];
        let rows = self.offsets.len();
        self.offsets.resize(rows + count, 0);
        self.timestamps_ms.resize(rows + count, 0);
        self.values.resize(rows + count, Span::ABSENT);
        let places = (self.offsets[rows..].iter_mut())
            .zip(&mut self.timestamps_ms[rows..])
            .zip(&mut self.values[rows..]);
        // The broker's time of a whole batch stands in for those of its records.
        let (time, own) = match header.is_log_append_time() {
            true => (header.max_timestamp, 0),
            false => (header.base_timestamp, -1),
        };
        let extras = self.keys.is_some() || self.headers.is_some();
        let mut cursor = Cursor::new(bytes, place.start);
        let mut previous = -1;
        for ((offset, timestamp), value) in places {
            let record = match Record::usual(bytes, cursor.position) {
                Some(record) => record,
                None => Record::any(&mut cursor)?,
            };
            let delta = record.offset_delta;
            if delta <= previous || delta > i64::from(header.last_offset_delta) {
                return Err(Reason::Corrupt("its records are not in order"));
            }
            previous = delta;
            *offset = header.base_offset + delta;
            *timestamp = time.wrapping_add(record.timestamp_delta & own);
            *value = record.value;
            if extras {
                if let Some(keys) = &mut self.keys {
                    keys.push(record.key);
                }
                if let Some(headers) = &mut self.headers {
                    cursor.position = record.headers;
                    headers.push(read_headers(&mut cursor, record.end)?);
                }
            }
            cursor.position = record.end;
        }
        match cursor.position == bytes.len() {
            true => Ok(()),
            false => Err(Reason::Corrupt("it holds more than its records")),
        }
    }

    /// Of the rows from `first` on, whose offsets grow, leaves those in `wanted`.
    fn keep(&mut self, first: usize, wanted: &Range<i64>) {
        let offsets = &self.offsets[first..];
        let from = first + offsets.partition_point(|offset| *offset < wanted.start);
        let to = first + offsets.partition_point(|offset| *offset < wanted.end);
        if from == first && to == self.offsets.len() {
            return;
        }
        fn cut<T>(rows: &mut Vec<T>, first: usize, from: usize, to: usize) {
            rows.truncate(to);
            rows.drain(first..from.min(to));
        }
        cut(&mut self.offsets, first, from, to);
        cut(&mut self.timestamps_ms, first, from, to);
        cut(&mut self.values, first, from, to);
        if let Some(keys) = &mut self.keys {
            cut(keys, first, from, to);
        }
        if let Some(headers) = &mut self.headers {
            cut(headers, first, from, to);
        }
    }
}

/// A record, as places in its batch.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
struct Record {
    timestamp_delta: i64,
    offset_delta: i64,
    key: Span,
    value: Span,
    /// Where the headers begin.
    headers: usize,
    /// Behind the record.
    end: usize,
}

impl Record {
    /// Any record.
    #[inline(never)]
    fn any(cursor: &mut Cursor) -> Result<Self> {
        let length = cursor.varint()?;
        let left = cursor.bytes.len() - cursor.position.min(cursor.bytes.len());
        let end = match usize::try_from(length) {
            Ok(length) if length <= left => cursor.position + length,
            _ => return Err(CUT),
        };
        cursor.skip(1)?; // attributes: none are defined
        Ok(Self {
            timestamp_delta: cursor.varint()?,
            offset_delta: cursor.varint()?,
            key: cursor.span(end)?,
            value: cursor.span(end)?,
            headers: cursor.position,
            end,
        })
    }

    /// Nearly all: numbers of at most three bytes, more bytes behind them. They are cut out of
    /// words of eight, so that a record costs a check of bounds or three. `None`: not one of these,
    /// or a broken one; [`Record::any`] says which.
    #[inline(always)]
    fn usual(bytes: &[u8], at: usize) -> Option<Self> {
        let first = word(bytes, at)?;
        let (length, bits) = short(first)?;
        let end = at + bits / 8 + whole(length)?;
        // A byte of attributes stands between.
        let (timestamp, more) = short(first >> bits >> 8)?;
        let at = at + (bits + more) / 8 + 1;

        let second = word(bytes, at)?;
        let (offset, bits) = short(second)?;
        let (key, more) = short(second >> bits)?;
        let at = at + (bits + more) / 8;
        let (key, at, third) = if key == ABSENT {
            (Span::ABSENT, at, second >> bits >> more)
        } else {
            let (key, at) = span(at, whole(key)?);
            (key, at, word(bytes, at)?)
        };

        let (value, bits) = short(third)?;
        let at = at + bits / 8;
        let (value, at) = if value == ABSENT {
            (Span::ABSENT, at)
        } else {
            span(at, whole(value)?)
        };
        (at <= end && end <= bytes.len()).then_some(Self {
            timestamp_delta: zigzag(timestamp),
            offset_delta: whole(offset)? as i64,
            key,
            value,
            headers: at,
            end,
        })
    }
}

/// The length -1, before it is unfolded.
const ABSENT: u64 = 1;

/// The eight bytes from `at` on.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

/// The number of at most three bytes that a word begins with, folded, and how many bits it takes.
#[inline(always)]
fn short(word: u64) -> Option<(u64, usize)> {
    if word & 0x80 == 0 {
        Some((word & 0x7f, 8))
    } else if word & 0x8000 == 0 {
        Some((word & 0x7f | word >> 1 & 0x3f80, 16))
    } else if word & 0x80_0000 == 0 {
        let low = word & 0x7f | word >> 1 & 0x3f80;
        Some((low | word >> 2 & 0x1f_c000, 24))
    } else {
        None
    }
}

#[inline(always)]
fn zigzag(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// A number that is not negative.
#[inline(always)]
fn whole(folded: u64) -> Option<usize> {
    (folded & 1 == 0).then_some((folded >> 1) as usize)
}

/// A span (of bytes below 4 GB, see [`Rows::append`]) and its end.
#[inline(always)]
fn span(start: usize, length: usize) -> (Span, usize) {
    let end = start + length;
    let span = Span {
        start: start as u32,
        end: end as u32,
    };
    (span, end)
}

#[cold]
fn read_headers(cursor: &mut Cursor, end: usize) -> Result<Headers> {
    let count = usize::try_from(cursor.varint()?).map_err(|_| CUT)?;
    // A header has two lengths at least.
    if count > end.saturating_sub(cursor.position) / 2 {
        return Err(CUT);
    }
    let mut headers = Headers::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (cursor.span(end)?, cursor.span(end)?);
        let text = |span: Span| &cursor.bytes[span.start as usize..span.end as usize];
        if name.is_absent() {
            return Err(Reason::Corrupt("a header has no name"));
        }
        let name = String::from_utf8_lossy(text(name)).into_owned();
        let value = (!value.is_absent()).then(|| text(value).to_vec());
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
