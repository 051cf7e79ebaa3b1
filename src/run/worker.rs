//! A worker: owns some partitions of one source and its own window tables. Plain thread, no
//! I/O of its own but what its reader and its dead letters do, no clock but the one it is given.

use super::bad::{BadRecords, Place, describe};
use super::rows::{Built, RowBuilder};
use super::stats::{PartitionStats, Stats};
use crate::decode::Bad;
use crate::error::{Error, Result};
use crate::plan::{Body, Prepared, QueryPlan, SourcePlan, WindowedPlan, run_isolating};
use crate::source::{Assignment, Chunk, Polled, Reader, Rows};
use crate::time::Clock;
use crate::watermark::{Before, NONE, PartitionWatermark};
use crate::window::assign::NEVER;
use crate::window::table::WindowTable;
use crate::window::{Assign, Segment};
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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
    Watermark {
        worker: usize,
        watermark: Option<i64>,
    },
    /// Everything up to this trigger has been sent.
    Trigger { worker: usize, number: u64 },
    /// The worker's partitions have ended (`complete`), or it was told to stop.
    Ended { worker: usize, complete: bool },
}

impl Message {
    /// Memory held, for the queue's bound.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Segments { segments, .. } => segments
                .iter()
                .map(|s| s.batch.get_array_memory_size())
                .sum(),
            Message::Rows(batch) | Message::Late(batch) => batch.get_array_memory_size(),
            _ => 64,
        }
    }
}

/// Where a worker's messages go.
pub trait Outbox {
    /// An error means that the query's merge is gone; the worker then stops quietly.
    fn send(&mut self, query: usize, message: Message) -> Result<(), super::queue::Closed>;
}

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

struct Partition {
    name: String,
    watermark: PartitionWatermark,
    /// Time of the last row, for the idle time-out.
    active_at: Duration,
    idle: bool,
    ended: bool,
}

struct WindowedQuery {
    tables: Vec<WindowTable>,
}

struct Query {
    /// Number in the job.
    index: usize,
    plan: Arc<QueryPlan>,
    windowed: Option<WindowedQuery>,
    /// Last watermark and trigger that were sent.
    sent: Option<Option<i64>>,
    trigger: u64,
}

pub struct Worker {
    /// Number among the workers of its source.
    number: usize,
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
}

/// Default of `scan.watermark.max-ahead`.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);
/// How long a dead letter may wait to be seen.
const DEAD_LETTERS: Duration = Duration::from_secs(10);
/// So many bad records are logged one by one, the others are counted.
const BAD_TOLD_MAX: u64 = 3;

impl Worker {
    pub fn new(parts: WorkerParts) -> Result<Self> {
        let options = &parts.plan.def.options;
        let max_ahead = options
            .duration("scan.watermark.max-ahead")?
            .unwrap_or(MAX_AHEAD);
        let idle_timeout = options
            .duration("scan.watermark.idle-timeout")?
            .filter(|d| !d.is_zero());
        let queries = parts.queries.into_iter().map(|(index, plan)| {
            let windowed = match &plan.body {
                Body::Windowed(w) => Some(WindowedQuery {
                    tables: (0..w.aggregates())
                        .map(|a| WindowTable::new(w.assign(), w.factory(a)))
                        .collect(),
                }),
                Body::Stateless(_) => None,
            };
            Query {
                index,
                plan,
                windowed,
                sent: None,
                trigger: 0,
            }
        });
        let def = &parts.plan.def;
        let decoded = def.options.get("format") != Some("parquet") && def.connector() != "datagen";
        let mut worker = Self {
            rows: RowBuilder::new(parts.plan.clone(), decoded)?,
            bad: BadRecords::open(&parts.plan.def, parts.number)?,
            queries: queries.collect(),
            number: parts.number,
            source: parts.source,
            reader: parts.reader,
            partitions: BTreeMap::new(),
            stats: parts.stats,
            clock: parts.clock,
            idle_timeout,
            max_ahead_us: i64::try_from(max_ahead.as_micros()).unwrap_or(i64::MAX),
            batch_rows: parts.batch_rows,
            plan: parts.plan,
            told: 0,
            flushed_at: Duration::ZERO,
            unflushed: false,
        };
        worker.own(&parts.partitions);
        Ok(worker)
    }

    /// Takes over new partitions.
    pub fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        self.own(partitions);
        self.reader.add(partitions)
    }

    fn own(&mut self, partitions: &[Assignment]) {
        let delay_us = self.plan.def.watermark.as_ref().map_or(0, |w| w.delay_us);
        for p in partitions {
            let name = format!("{}/{}", p.topic, p.partition);
            let stats = PartitionStats {
                name: name.clone(),
                position: p.start,
                end: p.end,
                watermark: NONE,
                idle: false,
                ended: false,
            };
            self.stats.sources[self.source].add_partition(p.id, stats);
            let watermark = PartitionWatermark::new(delay_us);
            self.partitions.insert(
                p.id,
                Partition {
                    name,
                    watermark,
                    active_at: self.clock.now(),
                    idle: false,
                    ended: false,
                },
            );
        }
    }

    /// Reads once, waiting at most `timeout`, and sends what follows from it.
    pub fn step(&mut self, timeout: Duration, outbox: &mut dyn Outbox) -> Result<Step> {
        let polled = if self.all_ended() {
            Polled::Idle
        } else {
            self.reader.poll(timeout)?
        };
        let worked = !matches!(polled, Polled::Idle);
        let mut closed = false;
        match polled {
            Polled::Chunk(chunk) => closed |= self.chunk(&chunk, outbox)?,
            Polled::Rows(rows) => closed |= self.decoded(&rows, outbox)?,
            Polled::End { id } => self.end(id),
            Polled::Notice(text) => tracing::warn!("{text}"),
            Polled::Idle => {}
        }
        self.mark_idle();
        self.flush_dead_letters()?;
        closed |= self.progress(outbox)?;
        if closed {
            return Ok(Step::Abandoned);
        }
        if self.all_ended() {
            return Ok(Step::Ended);
        }
        Ok(if worked { Step::Worked } else { Step::Idle })
    }

    /// Sends what is left and says goodbye. Without `complete` (told to stop) open windows stay
    /// behind, except in the modes that show changes.
    pub fn finish(&mut self, complete: bool, outbox: &mut dyn Outbox) -> Result<()> {
        self.bad.close()?;
        for q in 0..self.queries.len() {
            let append = self.queries[q].plan.mode == crate::sink::OutputMode::Append;
            if complete || !append {
                self.ship(q, NEVER, outbox)?;
            }
            let message = Message::Ended {
                worker: self.number,
                complete,
            };
            // A merge that is gone has reported its own error.
            let _gone = outbox.send(self.queries[q].index, message);
        }
        Ok(())
    }

    fn all_ended(&self) -> bool {
        self.partitions.values().all(|p| p.ended)
    }

    fn end(&mut self, id: usize) {
        if let Some(p) = self.partitions.get_mut(&id) {
            p.ended = true;
            self.stats.sources[self.source].update_partition(id, |s| s.ended = true);
        }
    }

    fn mark_idle(&mut self) {
        let Some(timeout) = self.idle_timeout else {
            return;
        };
        let now = self.clock.now();
        for (id, p) in &mut self.partitions {
            if !p.idle && !p.ended && now.saturating_sub(p.active_at) >= timeout {
                p.idle = true;
                self.stats.sources[self.source].update_partition(*id, |s| s.idle = true);
            }
        }
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

    fn advance(&mut self, id: usize, position: i64, end: Option<i64>) {
        let watermark = self
            .partitions
            .get(&id)
            .map_or(NONE, |p| p.watermark.current());
        self.stats.sources[self.source].update_partition(id, |s| {
            s.position = position;
            s.end = end.or(s.end);
            s.watermark = watermark;
        });
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
                    let mut failed = Vec::new();
                    let mut results = Vec::new();
                    run_isolating(
                        &batch,
                        0,
                        &mut |slice, _| {
                            results.push(stateless.run(slice)?);
                            Ok(())
                        },
                        &mut |row, reason| {
                            failed.push((row, reason));
                            Ok(())
                        },
                    )?;
                    for result in results.into_iter().filter(|r| r.num_rows() > 0) {
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

    /// The watermarks before each row of the batch; moves the partition's watermark.
    fn observe(
        &mut self,
        id: usize,
        batch: &RecordBatch,
        records: &[u32],
        chunk: Option<&Chunk>,
    ) -> Before {
        let none = Before::AtMost { highest: NONE };
        let Some(partition) = self.partitions.get_mut(&id) else {
            return none;
        };
        partition.active_at = self.clock.now();
        if partition.idle {
            partition.idle = false;
            self.stats.sources[self.source].update_partition(id, |s| s.idle = false);
        }
        let Some(column) = self.plan.event_time else {
            return none;
        };
        let Some(times) = batch
            .column(column)
            .as_primitive_opt::<TimestampMicrosecondType>()
        else {
            return none;
        };
        let times = times.values();
        let future =
            chunk.and_then(|c| future_rows(times, records, &c.timestamps_ms, self.max_ahead_us));
        if let Some(future) = &future {
            let count = future.iter().filter(|f| **f).count() as u64;
            self.stats.sources[self.source]
                .future
                .fetch_add(count, Relaxed);
        }
        let assigns: Vec<Assign> = self
            .queries
            .iter()
            .filter_map(|q| q.windowed.as_ref())
            .map(|w| *w.tables[0].assign())
            .collect();
        partition
            .watermark
            .observe(times, future.as_deref(), |ts, watermark| {
                assigns
                    .iter()
                    .any(|a| WindowTable::may_be_late(a, ts, watermark))
            })
    }

    fn bad_record(&mut self, chunk: Option<&Chunk>, bad: &Bad) -> Result<()> {
        self.stats.sources[self.source].bad.fetch_add(1, Relaxed);
        let nowhere = Place {
            topic: &self.plan.def.name,
            partition: 0,
            offset: i64::from(bad.record),
            timestamp_ms: -1,
            payload: None,
        };
        let place = chunk.map_or(nowhere, |c| Place::in_chunk(c, bad.record));
        if self.told < BAD_TOLD_MAX {
            self.told += 1;
            let last = if self.told == BAD_TOLD_MAX {
                " (further ones are only counted)"
            } else {
                ""
            };
            tracing::warn!(
                "bad record at {}/{} offset {}: {}{last}",
                place.topic,
                place.partition,
                place.offset,
                describe(bad)
            );
        }
        self.unflushed = true;
        self.bad.take(&place, bad)
    }

    /// Dead letters become visible this often, whatever the queries do.
    fn flush_dead_letters(&mut self) -> Result<()> {
        let now = self.clock.now();
        if self.unflushed && now.saturating_sub(self.flushed_at) >= DEAD_LETTERS {
            self.bad.flush()?;
            (self.flushed_at, self.unflushed) = (now, false);
        }
        Ok(())
    }

    /// Ships what the watermark closes, answers triggers, and says how far this worker is.
    fn progress(&mut self, outbox: &mut dyn Outbox) -> Result<bool> {
        let watermark = self.watermark();
        let mut closed = false;
        for q in 0..self.queries.len() {
            let asked = self.stats.queries[self.queries[q].index]
                .trigger
                .load(Relaxed);
            if asked > self.queries[q].trigger {
                self.queries[q].trigger = asked;
                closed |= self.ship(q, NEVER, outbox)?;
                let message = Message::Trigger {
                    worker: self.number,
                    number: asked,
                };
                closed |= outbox.send(self.queries[q].index, message).is_err();
            }
            if self.queries[q].sent != Some(watermark) {
                self.queries[q].sent = Some(watermark);
                // An idle worker holds nothing back, its open panes included: the query's
                // watermark may pass them.
                let to = watermark.unwrap_or(NEVER);
                if self.queries[q]
                    .windowed
                    .as_ref()
                    .is_some_and(|w| *w.tables[0].assign() != Assign::Global)
                {
                    closed |= self.ship(q, to, outbox)?;
                    let message = Message::Watermark {
                        worker: self.number,
                        watermark,
                    };
                    closed |= outbox.send(self.queries[q].index, message).is_err();
                }
            }
        }
        Ok(closed)
    }

    fn ship(&mut self, q: usize, watermark: i64, outbox: &mut dyn Outbox) -> Result<bool> {
        let query = &mut self.queries[q];
        let Some(windowed) = &mut query.windowed else {
            return Ok(false);
        };
        let mut closed = false;
        for (aggregate, table) in windowed.tables.iter_mut().enumerate() {
            let segments = table.ship(watermark)?;
            if !segments.is_empty() {
                closed |= outbox
                    .send(
                        query.index,
                        Message::Segments {
                            aggregate,
                            segments,
                        },
                    )
                    .is_err();
            }
        }
        Ok(closed)
    }

    /// The smallest watermark of the partitions that are neither idle nor at their end;
    /// [`NEVER`] when all have ended, `None` when the others are all idle.
    fn watermark(&self) -> Option<i64> {
        if self.all_ended() {
            return Some(NEVER);
        }
        self.partitions
            .values()
            .filter(|p| !p.idle && !p.ended)
            .map(|p| p.watermark.current())
            .min()
    }

    /// Names of the partitions, for threads and messages.
    pub fn describe(&self) -> String {
        self.partitions
            .values()
            .map(|p| p.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

type Failed = Vec<(u32, String)>;

impl Query {
    /// Adds a batch to the query's windows. Returns the rows on which an expression failed, and
    /// the late rows, both as indices of the batch.
    fn add(
        &mut self,
        plan: &WindowedPlan,
        batch: &RecordBatch,
        before: &Before,
        stats: &Stats,
    ) -> Result<(Failed, Vec<u32>)> {
        let (mut failed, mut late) = (Vec::new(), Vec::new());
        let Some(windowed) = &mut self.windowed else {
            return Ok((failed, late));
        };
        let floor = stats.queries[self.index].watermark.load(Relaxed);
        let track =
            matches!(before, Before::Each(_)) || (self.plan.late.is_some() && floor != NONE);
        for (aggregate, table) in windowed.tables.iter_mut().enumerate() {
            let mut parts: Vec<(Prepared, u32)> = Vec::with_capacity(1);
            run_isolating(
                batch,
                0,
                &mut |slice, first| {
                    parts.push((plan.prepare(aggregate, slice, track)?, first));
                    Ok(())
                },
                &mut |row, reason| {
                    failed.push((row, reason));
                    Ok(())
                },
            )?;
            for (prepared, first) in parts {
                let origin =
                    |i: u32| prepared.origin.as_ref().map_or(i, |o| o.value(i as usize)) + first;
                let before = match before {
                    Before::Each(each) => Before::Each(
                        (0..prepared.input.rows as u32)
                            .map(|i| each[origin(i) as usize])
                            .collect(),
                    ),
                    other => other.clone(),
                };
                // A failure here leaves the store half updated: it is final, not one row's.
                let rows = table
                    .update(&prepared.input, &prepared.times, &before, floor)
                    .map_err(|e| match e {
                        Error::Data(reason) => Error::env(format!(
                            "an aggregate of {} failed: {reason}",
                            self.plan.name
                        )),
                        other => other,
                    })?;
                late.extend(rows.into_iter().map(origin));
            }
        }
        Ok((failed, late))
    }
}

/// For each row whether its event time is too far after its record's timestamp; `None` when no
/// row's is.
fn future_rows(
    times: &[i64],
    records: &[u32],
    timestamps_ms: &[i64],
    max_ahead_us: i64,
) -> Option<Vec<bool>> {
    // Nearly always the largest time is not too far after the smallest timestamp.
    let latest = times.iter().max()?;
    let none_is_late = |ms: &i64| if *ms < 0 { i64::MAX } else { *ms };
    let earliest = timestamps_ms.iter().map(none_is_late).min()?;
    if *latest <= earliest.saturating_mul(1000).saturating_add(max_ahead_us) {
        return None;
    }
    let ahead = |i: usize| {
        let record_ms = timestamps_ms[records[i] as usize];
        record_ms >= 0 && times[i] > record_ms.saturating_mul(1000).saturating_add(max_ahead_us)
    };
    let first = (0..times.len()).find(|i| ahead(*i))?;
    Some((0..times.len()).map(|i| i >= first && ahead(i)).collect())
}
