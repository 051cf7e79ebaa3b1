//! Counts that the status line, the log and the closing summary show.

use crate::watermark::NONE;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Of one source.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Records read.
    pub records: AtomicU64,
    /// Payload bytes read.
    pub bytes: AtomicU64,
    /// Records that were no rows, or on which an expression failed.
    pub bad: AtomicU64,
    /// Rows whose event time was too far ahead to move the watermark.
    pub future: AtomicU64,
    partitions: Mutex<Vec<PartitionStats>>,
}

/// Of one partition.
#[derive(Debug, Clone)]
pub struct PartitionStats {
    /// `topic/partition`, for messages.
    pub name: String,
    /// Next offset to read.
    pub position: i64,
    /// Last offset + 1 of the log, when known.
    pub end: Option<i64>,
    pub watermark: i64,
    pub idle: bool,
    pub ended: bool,
}

impl SourceStats {
    pub fn add_partition(&self, id: usize, stats: PartitionStats) {
        let mut list = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if list.len() <= id {
            let empty = PartitionStats {
                name: String::new(),
                position: 0,
                end: None,
                watermark: NONE,
                idle: false,
                ended: true,
            };
            list.resize(id + 1, empty);
        }
        list[id] = stats;
    }

    pub fn update_partition(&self, id: usize, change: impl FnOnce(&mut PartitionStats)) {
        let mut list = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = list.get_mut(id) {
            change(stats);
        }
    }

    pub fn partitions(&self) -> Vec<PartitionStats> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records in the logs that are not read yet, as far as known.
    pub fn lag(&self) -> i64 {
        self.partitions()
            .iter()
            .filter_map(|p| p.end.map(|e| (e - p.position).max(0)))
            .sum()
    }
}

/// Of one query.
#[derive(Debug)]
pub struct QueryStats {
    pub late: AtomicU64,
    /// Rows given to the sink.
    pub written: AtomicU64,
    pub open_windows: AtomicU64,
    /// Those that a worker has not handed over yet; of the one that looked last.
    pub open_in_worker: AtomicU64,
    /// Windows that end at or before it are final; [`NONE`] before the first.
    pub watermark: AtomicI64,
    /// Number of the last trigger that was asked for; workers answer it.
    pub trigger: AtomicU64,
    /// The query wants no more rows.
    pub done: AtomicBool,
    /// Bytes of messages that wait behind the cut of a checkpoint.
    pub behind_bytes: AtomicUsize,
}

impl Default for QueryStats {
    fn default() -> Self {
        Self {
            late: AtomicU64::new(0),
            written: AtomicU64::new(0),
            open_windows: AtomicU64::new(0),
            open_in_worker: AtomicU64::new(0),
            watermark: AtomicI64::new(NONE),
            trigger: AtomicU64::new(0),
            done: AtomicBool::new(false),
            behind_bytes: AtomicUsize::new(0),
        }
    }
}

/// Of the whole run.
#[derive(Debug, Default)]
pub struct Stats {
    pub sources: Vec<SourceStats>,
    pub queries: Vec<QueryStats>,
    /// Number of the last checkpoint that was asked for; workers answer it.
    pub checkpoint: AtomicU64,
    /// Number of the last checkpoint that is durable and published.
    pub checkpointed: AtomicU64,
}

impl Stats {
    pub fn new(sources: usize, queries: usize) -> Self {
        Self {
            sources: (0..sources).map(|_| SourceStats::default()).collect(),
            queries: (0..queries).map(|_| QueryStats::default()).collect(),
            checkpoint: AtomicU64::new(0),
            checkpointed: AtomicU64::new(0),
        }
    }

    fn sum(list: impl Iterator<Item = u64>) -> u64 {
        list.sum()
    }

    pub fn records(&self) -> u64 {
        Self::sum(self.sources.iter().map(|s| s.records.load(Relaxed)))
    }

    pub fn bad(&self) -> u64 {
        Self::sum(self.sources.iter().map(|s| s.bad.load(Relaxed)))
    }

    pub fn future(&self) -> u64 {
        Self::sum(self.sources.iter().map(|s| s.future.load(Relaxed)))
    }

    pub fn late(&self) -> u64 {
        Self::sum(self.queries.iter().map(|q| q.late.load(Relaxed)))
    }

    pub fn written(&self) -> u64 {
        Self::sum(self.queries.iter().map(|q| q.written.load(Relaxed)))
    }

    /// Those that overlap count as their parts as long as only a worker has them.
    pub fn open_windows(&self) -> u64 {
        let open = |q: &QueryStats| {
            let in_worker = q.open_in_worker.load(Relaxed);
            q.open_windows.load(Relaxed).max(in_worker)
        };
        self.queries.iter().map(open).sum()
    }

    pub fn lag(&self) -> i64 {
        self.sources.iter().map(|s| s.lag()).sum()
    }

    /// The smallest watermark over the queries that have one.
    pub fn watermark(&self) -> i64 {
        self.queries
            .iter()
            .map(|q| q.watermark.load(Relaxed))
            .filter(|w| *w != NONE)
            .min()
            .unwrap_or(NONE)
    }
}
