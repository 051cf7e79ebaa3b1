//! The source contract: where rows come from, in chunks, never one by one.
//!
//! A **source** is one declared table. It has **partitions**, each an ordered log with
//! **offsets** that only grow. A worker owns a [`Reader`] over some of the partitions and is
//! the only one to call it; so a reader needs no locks and no thread of its own. Positions are
//! kept by the engine: a reader starts where its [`Assignment`] says and never commits.

pub mod datagen;
pub mod files;
pub mod values;

use crate::error::Result;
use crate::state::PartitionSnapshot;
use crate::watermark::NONE;
use arrow::buffer::Buffer;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::time::Duration;

/// One partition as the engine hands it to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Dense number of the partition within its source (0, 1, …): how the engine names it.
    pub id: usize,
    /// Kafka topic, or the file's path.
    pub topic: Arc<str>,
    /// The id of the Kafka topic, where it is known; see [`PartitionSnapshot::topic_id`].
    pub topic_id: Option<Arc<str>>,
    /// Kafka partition, or 0.
    pub partition: i32,
    /// The first offset to read.
    pub start: i64,
    /// Exclusive end of a bounded run; `None` reads for ever. Offsets may have gaps, so the end
    /// is reached when the position is at or past it.
    pub end: Option<i64>,
    /// Largest event time before `start` that an earlier run has read, microseconds;
    /// [`crate::watermark::NONE`] without one.
    pub max_us: i64,
}

impl Assignment {
    /// The whole of a partition that is the only one of `topic`.
    pub fn whole(id: usize, topic: Arc<str>, end: Option<i64>) -> Self {
        Self {
            id,
            topic,
            topic_id: None,
            partition: 0,
            start: 0,
            end,
            max_us: NONE,
        }
    }

    /// How messages name an offset: `clicks/3 offset 42`.
    pub fn place(&self, offset: i64) -> String {
        format!("{}/{} offset {offset}", self.topic, self.partition)
    }
}

/// Puts partitions where an earlier run has left them; those it did not know keep their start.
pub fn resume_at(assignments: &mut [Assignment], resume: Option<&[PartitionSnapshot]>) {
    for assignment in assignments {
        let same = |p: &&PartitionSnapshot| {
            *p.topic == *assignment.topic && p.partition == assignment.partition
        };
        if let Some(at) = resume.into_iter().flatten().find(same) {
            assignment.start = at.position;
            assignment.max_us = at.max_us;
            // A source that cannot tell it now goes on with the topic that was read.
            if assignment.topic_id.is_none() {
                assignment.topic_id = at.topic_id.as_deref().map(Arc::from);
            }
        }
    }
}

/// A declared table that can be read.
pub trait Source: Send + Sync {
    /// All partitions with resolved start and end offsets, those that need no reading
    /// (start >= end) included. Blocks until the source can be reached; calls `wait` with a
    /// line of text, once per change of state, that says what it is waiting for, and with an
    /// empty one in between; stops with an error when `wait` returns false.
    ///
    /// A run that goes on from a checkpoint passes where it stood: these partitions start there,
    /// others at their beginning, whatever the table's startup mode says. A position that the log
    /// does not have any more is an error unless the table allows the loss.
    fn partitions(
        &self,
        resume: Option<&[PartitionSnapshot]>,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Assignment>>;

    /// Partitions that appeared since the last call of this function or of `partitions`,
    /// read from their beginning. Empty for sources with a fixed set. Does not block for long.
    fn discover(&self) -> Result<Vec<Assignment>> {
        Ok(Vec::new())
    }

    /// How often `discover` is to be called; `None` is never.
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// Tells whoever watches this reader's progress (a consumer group) that everything before these
    /// positions is done for good.
    fn commit(&self, _positions: &[PartitionSnapshot]) -> Result<()> {
        Ok(())
    }

    /// A reader over `partitions`, owned by one worker. May be called for each worker.
    fn reader(&self, partitions: &[Assignment]) -> Result<Box<dyn Reader>>;

    /// Whether the source ends by itself when it is read without `--until-end`.
    fn is_bounded(&self) -> bool;

    /// E.g. `kafka topic clicks at localhost:9092`, for messages.
    fn describe(&self) -> String;
}

/// Reads the partitions that one worker owns.
pub trait Reader: Send {
    /// The next piece of input. Waits at most `timeout` for one.
    ///
    /// An error is final for the query. A source that is away for the moment (a broker that
    /// restarts) is no error: the reader returns [`Polled::Notice`] once per change of state
    /// and [`Polled::Idle`] until the source is back.
    fn poll(&mut self, timeout: Duration) -> Result<Polled>;

    /// Adds partitions found by [`Source::discover`].
    fn add(&mut self, partitions: &[Assignment]) -> Result<()>;
}

/// What a reader has read.
#[derive(Debug)]
pub enum Polled {
    /// Encoded records of one partition.
    Chunk(Chunk),
    /// Rows that need no decoding (Parquet, datagen), of one partition. Columns are those of
    /// [`ReadRequest::columns`], in that order.
    Rows(Rows),
    /// The partition has reached its end (bounded runs), and nothing more comes from it.
    End { id: usize },
    /// Nothing within the time-out.
    Idle,
    /// The source's state changed (away, back): a line of text for the user's log.
    Notice(String),
}

/// A record's headers: name and value.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Records of one partition, as they came, in the order of their offsets.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub id: usize,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Offset of each record; strictly increasing, with gaps where the log has them.
    pub offsets: Vec<i64>,
    /// The position after this chunk: at least the last offset + 1.
    pub next_offset: i64,
    pub payload: Blobs,
    /// Milliseconds since the epoch; -1 where the record has none. As long as `offsets`.
    pub timestamps_ms: Vec<i64>,
    /// True: broker's append time, false: producer's create time.
    pub log_append_time: bool,
    /// Present when asked for by [`ReadRequest::keys`].
    pub keys: Option<Blobs>,
    /// Present when asked for by [`ReadRequest::headers`]: per record, name and value.
    pub headers: Option<Vec<Headers>>,
    /// Last offset + 1 of the partition's log as far as the client knows, for lag.
    pub high_watermark: Option<i64>,
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

/// Byte strings in one buffer, in any order and with anything between them: a client may hand
/// over what it has unpacked as it lies there.
#[derive(Debug, Clone)]
pub struct Blobs {
    pub data: Buffer,
    pub spans: Vec<Span>,
}

/// Where a byte string lies in the data of its [`Blobs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    /// Exclusive.
    pub end: u32,
}

impl Span {
    /// A string that is not there: a tombstone, a record without a key.
    pub const ABSENT: Self = Self { start: 1, end: 0 };

    #[inline]
    pub fn is_absent(self) -> bool {
        self.start > self.end
    }
}

impl Blobs {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of string `i`; `None` where it is absent.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let span = self.spans[i];
        match span.is_absent() {
            true => None,
            false => Some(&self.data.as_slice()[span.start as usize..span.end as usize]),
        }
    }
}

/// Collects [`Blobs`] one after the other.
#[derive(Debug, Default)]
pub struct BlobsBuilder {
    data: Vec<u8>,
    spans: Vec<Span>,
}

impl BlobsBuilder {
    pub fn with_capacity(strings: usize, bytes: usize) -> Self {
        Self {
            data: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(strings),
        }
    }

    /// Bytes collected; a chunk must stay under 4 GiB.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.spans.push(Span::ABSENT);
            return;
        };
        let start = self.data.len() as u32;
        self.data.extend_from_slice(value);
        let end = self.data.len() as u32;
        self.spans.push(Span { start, end });
    }

    pub fn finish(self) -> Blobs {
        Blobs {
            data: Buffer::from_vec(self.data),
            spans: self.spans,
        }
    }
}

/// Rows of one partition that arrive decoded.
#[derive(Debug, Clone)]
pub struct Rows {
    pub id: usize,
    pub batch: RecordBatch,
    /// Offset (row number) of the first row; the others follow without gaps.
    pub first_offset: i64,
    pub next_offset: i64,
}

/// What the engine wants of a source; fixed before the first reader is made.
#[derive(Debug, Clone, Default)]
pub struct ReadRequest {
    /// Names of the physical columns that some query reads, in the order in which the decoder
    /// (or a source of rows) delivers them.
    pub columns: Vec<String>,
    pub keys: bool,
    pub headers: bool,
    /// `--until-end`: end at the offsets that are the latest when the run starts.
    pub until_end: bool,
}
