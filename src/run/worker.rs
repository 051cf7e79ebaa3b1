//! A worker: owns some partitions of one source and its own window tables. Plain thread, no
//! I/O of its own but what its reader and its dead letters do, no clock but the one it is given.

mod bad_rows;
mod message;
mod partitions;
mod progress;
mod query;

use super::bad::BadRecords;
use super::rows::{Built, Decoders, RowBuilder};
use super::stats::Stats;
use crate::decode::Bad;
use crate::error::Result;
use crate::options::Options;
use crate::plan::{Body, QueryPlan, SourcePlan};
use crate::remote::Keys;
use crate::source::{Assignment, Chunk, Polled, Reader, Rows};
use crate::time::Clock;
use partitions::Partition;
use query::{Query, rows_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use message::Timed;
pub use message::{Message, Outbox};

/// What [`Worker::step`] says.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There was something to do.
    Worked,
    Idle,
    /// All partitions have ended.
    Ended,
    /// A merge is gone.
    Abandoned,
}

pub struct Worker {
    source: usize,
    plan: Arc<SourcePlan>,
    reader: Box<dyn Reader>,
    rows: RowBuilder,
    bad: BadRecords,
    partitions: BTreeMap<usize, Partition>,
    queries: Vec<Query>,
    stats: Arc<Stats>,
    clock: Arc<dyn Clock>,
    idle_timeout: Option<Duration>,
    max_ahead_us: i64,
    batch_rows: usize,
    /// Bad records told so far; only the first are told one by one.
    told: u64,
    /// When the dead letters were flushed, and whether there are newer ones.
    flushed_at: Duration,
    unflushed: bool,
    /// Number of the last checkpoint that was answered.
    checkpoint: u64,
    /// Bytes that the open windows may have here, and rows since they were looked at.
    memory: usize,
    rows_unweighed: usize,
    keeps_open: bool,
}

/// What a worker is made of.
pub struct WorkerParts {
    pub number: usize,
    pub source: usize,
    pub plan: Arc<SourcePlan>,
    pub reader: Box<dyn Reader>,
    pub partitions: Vec<Assignment>,
    /// The source's queries with their numbers in the job.
    pub queries: Vec<(usize, Arc<QueryPlan>)>,
    pub stats: Arc<Stats>,
    pub clock: Arc<dyn Clock>,
    pub batch_rows: usize,
    /// Bytes that the open windows may have before they are handed over.
    pub memory: usize,
    /// For a folder of bad records in an object store.
    pub keys: Keys,
    /// What has no end of its own goes on in the next run: windows are not over where this one ends.
    pub keeps_open: bool,
}

/// How often a worker weighs its open windows, in rows.
const WEIGH_ROWS: usize = 65_536;

/// Default of `scan.watermark.max-ahead`.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);

/// When a partition is idle, and which rows are from the future.
struct Times {
    idle: Option<Duration>,
    ahead: Duration,
}

impl Times {
    fn of(options: &Options) -> Result<Self> {
        let idle = options.duration("scan.watermark.idle-timeout")?;
        let ahead = options.duration("scan.watermark.max-ahead")?;
        Ok(Self {
            idle: idle.filter(|d| !d.is_zero()),
            ahead: ahead.unwrap_or(MAX_AHEAD),
        })
    }
}

impl Worker {
    /// Refuses what [`Self::new`] would refuse of a source, without opening anything.
    pub fn check(plan: &SourcePlan) -> Result<()> {
        Times::of(&plan.def.options)?;
        Decoders::of(plan)?;
        BadRecords::check(&plan.def)
    }

    pub fn new(parts: WorkerParts) -> Result<Self> {
        let times = Times::of(&parts.plan.def.options)?;
        let def = &parts.plan.def;
        let goes_on = match (def.connector(), def.options.get("scan.bounded.mode")) {
            // It ends where it ends in each run.
            ("kafka", Some("group-offsets" | "timestamp" | "specific-offsets")) => false,
            (connector, _) => ["kafka", "filesystem"].contains(&connector),
        };
        let mut worker = Self {
            rows: RowBuilder::new(parts.plan.clone())?,
            bad: BadRecords::open(&parts.plan.def, parts.number, &parts.keys)?,
            queries: parts
                .queries
                .into_iter()
                .map(|(index, plan)| Query::new(index, plan, parts.source))
                .collect(),
            source: parts.source,
            reader: parts.reader,
            partitions: BTreeMap::new(),
            stats: parts.stats,
            clock: parts.clock,
            idle_timeout: times.idle,
            max_ahead_us: i64::try_from(times.ahead.as_micros()).unwrap_or(i64::MAX),
            batch_rows: parts.batch_rows,
            plan: parts.plan,
            told: 0,
            flushed_at: Duration::ZERO,
            unflushed: false,
            checkpoint: 0,
            memory: parts.memory,
            rows_unweighed: 0,
            keeps_open: parts.keeps_open && goes_on,
        };
        worker.own(&parts.partitions);
        Ok(worker)
    }

    /// Takes over new partitions.
    pub fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        self.own(partitions);
        self.reader.add(partitions)
    }

    /// All partitions have ended: says goodbye.
    pub fn end(&mut self, outbox: &mut dyn Outbox) -> Result<()> {
        self.finish(!self.keeps_open, outbox)
    }

    /// Waits a moment for the other workers, see [`Worker::is_ahead`].
    pub fn wait(&mut self) {
        let from = self.clock.now();
        std::thread::park_timeout(Duration::from_millis(1));
        self.not_looked_for(self.clock.now().saturating_sub(from));
    }

    /// Reads once, waiting at most `timeout`, and sends what follows from it.
    pub fn step(&mut self, timeout: Duration, outbox: &mut dyn Outbox) -> Result<Step> {
        let polled = if self.all_ended() {
            Polled::Idle
        } else {
            self.reader.poll(timeout)?
        };
        let mut outbox = Timed {
            outbox,
            clock: self.clock.clone(),
            waited: Duration::ZERO,
        };
        let worked = !matches!(polled, Polled::Idle);
        let mut closed = false;
        match polled {
            Polled::Chunk(chunk) => closed |= self.chunk(&chunk, &mut outbox)?,
            Polled::Rows(rows) => closed |= self.decoded(&rows, &mut outbox)?,
            Polled::End { id } => self.end_partition(id),
            Polled::Notice(text) => tracing::warn!("{text}"),
            Polled::Idle => {}
        }
        self.not_looked_for(std::mem::take(&mut outbox.waited));
        self.mark_idle();
        let flushed_from = self.clock.now();
        self.flush_dead_letters()?;
        outbox.waited += self.clock.now().saturating_sub(flushed_from);
        closed |= self.progress(!worked, &mut outbox)?;
        self.not_looked_for(outbox.waited);
        if closed {
            return Ok(Step::Abandoned);
        }
        if self.all_ended() {
            return Ok(Step::Ended);
        }
        Ok(if worked { Step::Worked } else { Step::Idle })
    }

    /// Returns true when a merge is gone.
    fn chunk(&mut self, chunk: &Chunk, outbox: &mut dyn Outbox) -> Result<bool> {
        let mut closed = false;
        let mut from = 0;
        while from < chunk.len() {
            let to = (from + self.batch_rows).min(chunk.len());
            let built = self.rows.build(chunk, from..to)?;
            closed |= self.batch(chunk.id, built, Some(chunk), outbox)?;
            from = to;
        }
        let stats = &self.stats.sources[self.source];
        stats.records.fetch_add(chunk.len() as u64, Relaxed);
        stats
            .bytes
            .fetch_add(chunk.payload.data.len() as u64, Relaxed);
        self.advance(chunk.id, chunk.next_offset, chunk.high_watermark);
        Ok(closed)
    }

    fn decoded(&mut self, rows: &Rows, outbox: &mut dyn Outbox) -> Result<bool> {
        let mut closed = false;
        let mut from = 0;
        while from < rows.batch.num_rows() {
            let length = self.batch_rows.min(rows.batch.num_rows() - from);
            let built = self
                .rows
                .complete_rows(&rows.batch.slice(from, length), from as u32)?;
            closed |= self.batch(rows.id, built, None, outbox)?;
            from += length;
        }
        self.stats.sources[self.source]
            .records
            .fetch_add(rows.batch.num_rows() as u64, Relaxed);
        self.advance(rows.id, rows.next_offset, None);
        Ok(closed)
    }

    /// One batch of one partition through all queries.
    fn batch(
        &mut self,
        id: usize,
        built: Built,
        chunk: Option<&Chunk>,
        outbox: &mut dyn Outbox,
    ) -> Result<bool> {
        let Built {
            batch,
            records,
            bad,
        } = built;
        for bad in &bad {
            self.bad_record(chunk, bad)?;
        }
        let before = self.observe(id, &batch, &records, chunk);
        self.rows_unweighed += batch.num_rows();
        let mut closed = false;
        if batch.num_rows() == 0 {
            return Ok(false);
        }
        for q in 0..self.queries.len() {
            let query = &mut self.queries[q];
            if self.stats.queries[query.index].done.load(Relaxed) {
                continue;
            }
            let plan = query.plan.clone();
            let failed = match &plan.body {
                Body::Stateless(stateless) => {
                    let (failed, results) = rows_of(stateless, &batch)?;
                    for result in results {
                        closed |= outbox.send(query.index, Message::Rows(result)).is_err();
                    }
                    failed
                }
                Body::Windowed(windowed) => {
                    let (failed, late) = query.add(windowed, &batch, &before, &self.stats)?;
                    if !late.is_empty() {
                        self.stats.queries[query.index]
                            .late
                            .fetch_add(late.len() as u64, Relaxed);
                        if let Some(table) = &plan.late {
                            closed |= outbox
                                .send(query.index, Message::Late(table.rows(&batch, &late)?))
                                .is_err();
                        }
                    }
                    failed
                }
            };
            for (row, reason) in failed {
                let bad = Bad {
                    record: records[row as usize],
                    field: None,
                    reason,
                };
                self.bad_record(chunk, &bad)?;
            }
        }
        Ok(closed)
    }
}
