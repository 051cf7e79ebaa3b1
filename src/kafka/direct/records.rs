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
        let zigzag = match self.bytes.get(self.position..) {
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
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
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
        self.offsets.reserve(count);
        self.timestamps_ms.reserve(count);
        self.values.reserve(count);
        self.walk(header, place, count, wanted)
    }

    fn walk(
        &mut self,
        header: &Header,
        place: Range<usize>,
        count: usize,
        wanted: &Range<i64>,
    ) -> Result<()> {
        let bytes = &self.arena.bytes[..place.end];
        let mut cursor = Cursor::new(bytes, place.start);
        let append_time = header.is_log_append_time().then_some(header.max_timestamp);
        let mut previous = -1;
        for _ in 0..count {
            let length = cursor.varint()?;
            let left = bytes.len() - cursor.position.min(bytes.len());
            let end = match usize::try_from(length) {
                Ok(length) if length <= left => cursor.position + length,
                _ => return Err(CUT),
            };
            cursor.skip(1)?; // attributes: none are defined
            let timestamp_delta = cursor.varint()?;
            let offset_delta = cursor.varint()?;
            if offset_delta <= previous || offset_delta > i64::from(header.last_offset_delta) {
                return Err(Reason::Corrupt("its records are not in order"));
            }
            previous = offset_delta;
            let key = cursor.span(end)?;
            let value = cursor.span(end)?;
            let offset = header.base_offset + offset_delta;
            if wanted.contains(&offset) {
                self.offsets.push(offset);
                let created = header.base_timestamp.wrapping_add(timestamp_delta);
                self.timestamps_ms.push(append_time.unwrap_or(created));
                self.values.push(value);
                if let Some(keys) = &mut self.keys {
                    keys.push(key);
                }
                if let Some(headers) = &mut self.headers {
                    headers.push(read_headers(&mut cursor, end)?);
                }
            }
            cursor.position = end;
        }
        match cursor.position == bytes.len() {
            true => Ok(()),
            false => Err(Reason::Corrupt("it holds more than its records")),
        }
    }
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
