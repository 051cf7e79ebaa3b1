//! The record batches of one partition in one response, turned into chunks.

use super::aborted::Aborted;
use super::fault::{Fault, Reason};
use super::records::{Header, Rows};
use super::unpack::{Arena, Unpacker};
use arrow::buffer::Buffer;
use std::ops::Range;

/// A chunk takes further batches until it holds so many bytes or rows: enough to make the costs
/// of a chunk small, few enough to stay in the second-level cache.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_ROWS: usize = 16 << 10;
/// Buffers that are kept to be used again.
const SPARES: usize = 4;
/// A buffer larger than this is not kept.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// What the headers of a partition's batches say.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// The offset after the last whole batch; `None` where there is none.
    pub next_offset: Option<i64>,
    /// There are bytes, but not even one whole batch: it is larger than what was asked for.
    pub cut_short: bool,
}

/// Looks at the headers alone: so the next request can leave before anything is unpacked. A batch
/// that is damaged ends the look; it is an error when its turn comes.
pub fn scan(records: &[u8]) -> Scan {
    let (mut next_offset, mut rest) = (None, records);
    while let Ok(Some(header)) = Header::read(rest) {
        next_offset = next_offset.max(Some(header.last_offset() + 1));
        rest = &rest[header.size..];
    }
    Scan {
        next_offset,
        cut_short: next_offset.is_none()
            && !records.is_empty()
            && matches!(Header::read(records), Ok(None)),
    }
}

/// Batches of one partition that wait to be delivered.
#[derive(Debug)]
pub struct Set {
    /// Index of the partition in the reader.
    pub partition: usize,
    /// What is left of the batches, as a place in the response's frame.
    pub place: Range<usize>,
    pub aborted: Aborted,
}

/// What a chunk was filled with.
#[derive(Debug)]
pub struct Filled {
    pub rows: Rows,
    pub log_append_time: bool,
    /// The offset after the last batch that was looked at.
    pub next_offset: i64,
}

/// Makes rows of sets, with what is kept from chunk to chunk.
#[derive(Default)]
pub struct Maker {
    unpacker: Unpacker,
    /// Buffers that were handed out: one that nobody else holds any more is used again, without
    /// being cleared and while it is still in the cache.
    spares: Vec<Buffer>,
    /// Most rows of a chunk so far: room for the next.
    guess: usize,
    keys: bool,
    headers: bool,
}

impl Maker {
    /// Which parts of a record are wanted besides its value.
    pub fn new(keys: bool, headers: bool) -> Self {
        Self {
            keys,
            headers,
            ..Self::default()
        }
    }

    /// Takes batches off the front of the set, whose response is `frame`: as many as one chunk
    /// takes, and at least one. `wanted` are the offsets to deliver.
    pub fn fill(
        &mut self,
        frame: &[u8],
        set: &mut Set,
        wanted: Range<i64>,
    ) -> Result<Filled, Fault> {
        let mut filled = Filled {
            rows: self.rows(),
            log_append_time: false,
            next_offset: wanted.start,
        };
        loop {
            let batch = &frame[set.place.clone()];
            let fault = |reason| Fault {
                offset: filled.next_offset,
                reason,
            };
            let Some(header) = Header::read(batch).map_err(fault)? else {
                set.place.start = set.place.end;
                break;
            };
            let append_time = header.is_log_append_time();
            if !filled.rows.offsets.is_empty() && append_time != filled.log_append_time {
                break;
            }
            filled.log_append_time = append_time;
            self.batch(&header, batch, &wanted, set, &mut filled.rows)
                .map_err(|reason| Fault {
                    offset: header.base_offset,
                    reason,
                })?;
            set.place.start += header.size;
            filled.next_offset = filled.next_offset.max(header.last_offset() + 1);
            let rows = &filled.rows;
            if rows.arena.used >= CHUNK_BYTES || rows.offsets.len() >= CHUNK_ROWS {
                break;
            }
        }
        let rows = filled.rows.offsets.len();
        self.guess = self.guess.max(rows).min(2 * CHUNK_ROWS);
        Ok(filled)
    }

    fn batch(
        &mut self,
        header: &Header,
        batch: &[u8],
        wanted: &Range<i64>,
        set: &mut Set,
        rows: &mut Rows,
    ) -> Result<(), Reason> {
        // The list of aborted transactions is followed over all batches, wanted or not.
        let aborted = set.aborted.covers(header, batch)?;
        if header.last_offset() < wanted.start || header.base_offset >= wanted.end {
            return Ok(());
        }
        header.check_crc(batch)?;
        if aborted || header.is_control() {
            return Ok(());
        }
        rows.append(header, batch, wanted, &mut self.unpacker)
    }

    fn rows(&mut self) -> Rows {
        let mut rows = Rows::default();
        for i in 0..self.spares.len() {
            match self.spares.swap_remove(i).into_vec() {
                Ok(bytes) => {
                    rows.arena.bytes = bytes;
                    break;
                }
                Err(in_use) => {
                    self.spares.push(in_use);
                    let last = self.spares.len() - 1;
                    self.spares.swap(i, last);
                }
            }
        }
        rows.offsets.reserve(self.guess);
        rows.timestamps_ms.reserve(self.guess);
        rows.values.reserve(self.guess);
        rows.keys = self.keys.then(Vec::new);
        rows.headers = self.headers.then(Vec::new);
        rows
    }

    /// The buffer of a chunk whose spans are final. It stays here, too, to come back.
    pub fn share(&mut self, arena: Arena) -> Buffer {
        let whole = Buffer::from_vec(arena.bytes);
        let shared = whole.slice_with_length(0, arena.used);
        if whole.len() <= SPARE_BYTES_MAX && !whole.is_empty() {
            if self.spares.len() == SPARES {
                self.spares.remove(0);
            }
            self.spares.push(whole);
        }
        shared
    }
}
