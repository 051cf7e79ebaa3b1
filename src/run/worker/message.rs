//! What a worker tells the merges, and how.

use crate::batches;
use crate::run::queue::Closed;
use crate::state::PartitionSnapshot;
use crate::time::Clock;
use crate::window::Segment;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::time::Duration;

/// What a worker tells the merge of one query.
#[derive(Debug)]
pub enum Message {
    /// Sealed stores of the aggregate number so and so.
    Segments {
        aggregate: usize,
        segments: Vec<Segment>,
    },
    /// Result rows of a query without aggregate.
    Rows(RecordBatch),
    /// Rows that came too late, in the late table's columns.
    Late(RecordBatch),
    /// Everything that this worker's watermark closes has been sent. `None`: all its
    /// partitions are idle and it holds nothing back.
    Watermark(Option<i64>),
    /// Everything up to this trigger has been sent.
    Trigger(u64),
    /// The cut of the checkpoint of this number: everything that came of the rows before
    /// `positions` has been sent, open windows included, and nothing of the rows behind.
    Checkpoint {
        number: u64,
        positions: Vec<PartitionSnapshot>,
    },
    /// The worker's partitions have ended (`complete`), or it was told to stop.
    Ended {
        complete: bool,
        positions: Vec<PartitionSnapshot>,
    },
}

impl Message {
    /// Memory held, for the queue's bound.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Segments { segments, .. } => batches::held(segments.iter().map(|s| &s.batch)),
            Message::Rows(batch) | Message::Late(batch) => batches::held([batch]),
            _ => 64,
        }
    }
}

/// Measures how long messages have to wait.
pub(super) struct Timed<'a> {
    pub outbox: &'a mut dyn Outbox,
    pub clock: Arc<dyn Clock>,
    pub waited: Duration,
}

impl Outbox for Timed<'_> {
    fn send(&mut self, query: usize, message: Message) -> Result<(), Closed> {
        let from = self.clock.now();
        let sent = self.outbox.send(query, message);
        self.waited += self.clock.now().saturating_sub(from);
        sent
    }
}

/// Where a worker's messages go.
pub trait Outbox {
    /// An error means that the query's merge is gone; the worker then stops quietly.
    fn send(&mut self, query: usize, message: Message) -> Result<(), Closed>;
}
