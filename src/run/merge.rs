//! The merge of one query: takes what its workers send, finishes closed windows, writes.

mod cut;
mod emit;
mod shown;

use super::QuerySummary;
use super::stats::{QueryStats, Stats};
use super::worker::Message;
use crate::batches;
use crate::error::{Error, Result};
use crate::plan::{Body, QueryPlan, RunFinish, Trigger};
use crate::sink::{OutputMode, Sink};
use crate::state::{PartitionSnapshot, QuerySnapshot};
use crate::watermark::NONE;
use crate::window::assign::NEVER;
use crate::window::merge::WindowMerge;
use crate::window::spill::SpillTo;
use crate::window::{Aggregate, Assign};
use arrow::record_batch::RecordBatch;
use cut::Cut;
use shown::Shown;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How far one worker is.
#[derive(Debug, Clone, Copy)]
struct WorkerState {
    /// The place of its source among those of the query.
    place: usize,
    /// `None`: idle.
    watermark: Option<i64>,
    /// The last one that it had.
    told: i64,
    trigger: u64,
    /// The last checkpoint whose cut it has reached.
    checkpoint: u64,
    /// `Some(true)`: all its partitions were read to their end.
    ended: Option<bool>,
}

/// What a message led to.
#[derive(Debug)]
pub enum Handled {
    GoOn,
    /// All workers are at the cut of a checkpoint, or have ended: the query's part of it. Nothing
    /// more may be handled before [`Merge::publish`].
    Cut(Box<Part>),
    /// Every worker has ended and all is written.
    Ended,
}

/// One query's part of a checkpoint.
#[derive(Debug)]
pub struct Part {
    pub query: usize,
    pub number: u64,
    /// Every worker of the query has ended: the part is good for all later checkpoints too.
    pub last: bool,
    /// By place of the query's sources: where their partitions stand.
    pub positions: Vec<Vec<PartitionSnapshot>>,
    pub state: QuerySnapshot,
}

struct Windows {
    assign: Assign,
    factories: Vec<Arc<dyn Aggregate>>,
    merges: Vec<WindowMerge>,
    finish: RunFinish,
    /// Bytes that came since the memory was looked at.
    came: usize,
}

pub struct Merge {
    query: Arc<QueryPlan>,
    /// Number in the job.
    index: usize,
    job_stats: Arc<Stats>,
    trigger: Trigger,
    sink: Box<dyn Sink>,
    late: Option<Box<dyn Sink>>,
    windows: Option<Windows>,
    workers: Vec<WorkerState>,
    epoch: u64,
    /// Rows were written since the last commit.
    dirty: bool,
    late_dirty: bool,
    /// Rows that a LIMIT still lets through.
    left: Option<usize>,
    /// The largest end of a window that is final.
    final_end: i64,
    /// An earlier run had read everything and shown it.
    was_complete: bool,
    /// When groups that nobody adds to were last looked for, milliseconds since 1970.
    looked_ms: Option<i64>,
    /// With checkpoints.
    cut: Option<Cut>,
    memory: Option<Memory>,
    /// Where groups may be taken back.
    shown: Option<Shown>,
}

/// Of the budget, in bytes.
struct Memory {
    state: usize,
    /// What finishing a window may take.
    at_once: usize,
    /// Where state goes beyond.
    spill: Box<dyn SpillTo>,
}

impl Merge {
    /// `index` is the query's number in the job; `workers` the numbers of its sources' workers. They
    /// are counted on from source to source.
    pub fn new(
        query: Arc<QueryPlan>,
        index: usize,
        job_stats: Arc<Stats>,
        trigger: Trigger,
        workers: &[usize],
        sink: Box<dyn Sink>,
        late: Option<Box<dyn Sink>>,
    ) -> Result<Self> {
        let left = match &query.body {
            Body::Stateless(plan) => plan.limit,
            Body::Windowed(_) => None,
        };
        let windows = match RunFinish::new(&query)? {
            None => None,
            Some(finish) => {
                let plan = finish.plan()?;
                let factories: Vec<_> = (0..plan.aggregates()).map(|a| plan.factory(a)).collect();
                let assign = plan.assign();
                let merges = factories
                    .iter()
                    .map(|f| WindowMerge::new(assign, f.clone()))
                    .collect();
                Some(Windows {
                    assign,
                    factories,
                    merges,
                    finish,
                    came: 0,
                })
            }
        };
        let shown = match windows
            .as_ref()
            .is_some_and(|w: &Windows| w.finish.refuses())
        {
            true => Some(Shown::of(&query)?),
            false => None,
        };
        let state = |place| WorkerState {
            place,
            watermark: Some(NONE),
            told: NONE,
            trigger: 0,
            checkpoint: 0,
            ended: None,
        };
        let workers = workers.iter().enumerate();
        let workers = workers.flat_map(|(place, count)| vec![state(place); *count]);
        Ok(Self {
            query,
            index,
            job_stats,
            trigger,
            sink,
            late,
            windows,
            workers: workers.collect(),
            epoch: 0,
            dirty: false,
            late_dirty: false,
            left,
            final_end: NONE,
            was_complete: false,
            looked_ms: None,
            cut: None,
            memory: None,
            shown,
        })
    }

    /// State beyond `state` bytes is spilled; a result that needs more than `at_once` is an error.
    pub fn limit(&mut self, state: usize, at_once: usize, spill: Box<dyn SpillTo>) {
        for merge in self.windows.iter_mut().flat_map(|w| &mut w.merges) {
            merge.limit(at_once);
        }
        self.memory = Some(Memory {
            state,
            at_once,
            spill,
        });
    }

    fn stats(&self) -> &QueryStats {
        &self.job_stats.queries[self.index]
    }

    /// Handles one message of a worker.
    pub fn handle(&mut self, worker: usize, message: Message) -> Result<Handled> {
        if let Some(cut) = &mut self.cut
            && self.workers[worker].checkpoint >= cut.number()
        {
            // It came behind a cut that the other workers have not reached.
            let bytes = message.bytes();
            (self.job_stats.queries[self.index].behind_bytes).fetch_add(bytes, Relaxed);
            cut.hold(worker, message);
            return Ok(Handled::GoOn);
        }
        match message {
            Message::Segments {
                aggregate,
                segments,
            } => {
                let Some(windows) = &mut self.windows else {
                    return Err(Error::bug("segments without windows"));
                };
                let bytes = batches::held(segments.iter().map(|s| &s.batch));
                for segment in segments {
                    let late = windows.merges[aggregate].absorb(segment)?;
                    self.job_stats.queries[self.index]
                        .late
                        .fetch_add(late, Relaxed);
                }
                self.limit_memory(bytes)?;
            }
            Message::Rows(batch) => self.rows(batch)?,
            Message::Late(batch) => {
                if let Some(late) = &mut self.late {
                    late.write(self.epoch, &batch)?;
                    self.late_dirty = true;
                }
            }
            Message::Watermark(watermark) => {
                let state = &mut self.workers[worker];
                state.watermark = watermark;
                state.told = state.told.max(watermark.unwrap_or(NONE));
                self.advance()?;
            }
            Message::Trigger(number) => {
                self.workers[worker].trigger = number;
                let asked = self.stats().trigger.load(Relaxed);
                if number == asked
                    && self
                        .workers
                        .iter()
                        .all(|w| w.trigger == asked || w.ended.is_some())
                {
                    self.emit_changes()?;
                    self.commit()?;
                }
            }
            Message::Checkpoint { number, positions } => {
                self.workers[worker].checkpoint = number;
                return self.reached(worker, positions);
            }
            Message::Ended {
                complete,
                positions,
            } => {
                self.workers[worker].ended = Some(complete);
                if complete {
                    self.workers[worker].watermark = Some(NEVER);
                }
                return self.ended(worker, positions);
            }
        }
        Ok(Handled::GoOn)
    }

    /// A tick of the processing-time trigger.
    pub fn tick(&mut self) -> Result<()> {
        if self.query.mode == OutputMode::Append {
            return self.commit();
        }
        // The workers send their changes and answer; then they are written (see `handle`).
        let answered = self
            .workers
            .iter()
            .all(|w| w.ended.is_some() || w.trigger == self.stats().trigger.load(Relaxed));
        if answered {
            self.stats().trigger.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// How long ago that look was, also of an earlier run; the first one counts from `now_ms` on.
    pub fn since_look(&mut self, now_ms: i64) -> Duration {
        let looked_ms = *self.looked_ms.get_or_insert(now_ms);
        Duration::from_millis(now_ms.saturating_sub(looked_ms).max(0) as u64)
    }

    /// Forgets groups that nobody has added to since the look before the last one. The modes that show
    /// changes alone have such groups.
    pub fn expire(&mut self, now_ms: i64) -> Result<()> {
        self.looked_ms = Some(now_ms);
        if let Some(shown) = &mut self.shown {
            shown.expire();
        }
        let mut merges = self.windows.iter_mut().flat_map(|w| &mut w.merges);
        merges.try_for_each(WindowMerge::expire)
    }

    /// What was written, for the closing lines.
    pub fn summary(&self) -> QuerySummary {
        QuerySummary {
            name: self.query.name.clone(),
            sink: self.sink.describe(),
            rows: self.stats().written.load(Relaxed),
            late: self.stats().late.load(Relaxed),
            open_windows: self.without_result(),
        }
    }

    /// Windows that were not final at the end. The other modes have shown theirs.
    fn without_result(&self) -> usize {
        if self.query.mode != OutputMode::Append {
            return 0;
        }
        let merges = self.windows.iter().flat_map(|w| &w.merges);
        merges.map(|m| m.open_windows()).sum()
    }

    fn ended(&mut self, worker: usize, positions: Vec<PartitionSnapshot>) -> Result<Handled> {
        if self.workers.iter().any(|w| w.ended.is_none()) {
            if self.workers.iter().all(|w| w.ended != Some(false)) {
                self.advance()?;
            }
            return self.reached(worker, positions);
        }
        if self.is_complete() {
            self.advance()?;
        }
        if self.query.mode != OutputMode::Append {
            self.emit_changes()?;
        }
        if self.is_complete() && !self.was_complete {
            self.empty_result()?;
        }
        if self.cut.is_some() {
            return self.reached(worker, positions);
        }
        self.commit()?;
        self.close()?;
        Ok(Handled::Ended)
    }

    /// Every worker has read its partitions to their end.
    fn is_complete(&self) -> bool {
        self.workers.iter().all(|w| w.ended == Some(true))
    }

    /// All is written and published: the query is over.
    pub fn close(&mut self) -> Result<()> {
        self.sink.close()?;
        match &mut self.late {
            Some(late) => late.close(),
            None => Ok(()),
        }
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = match &mut self.left {
            None => batch,
            Some(left) => {
                let taken = batch.slice(0, batch.num_rows().min(*left));
                *left -= taken.num_rows();
                if *left == 0 {
                    self.stats().done.store(true, Relaxed);
                }
                taken
            }
        };
        self.write(&batch)?;
        if self.trigger == Trigger::WindowClose {
            self.commit()?;
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.sink.write(self.epoch, batch)?;
            self.stats()
                .written
                .fetch_add(batch.num_rows() as u64, Relaxed);
            self.dirty = true;
        }
        Ok(())
    }

    /// The end of a trigger. (With checkpoints `epoch` is the checkpoint's affair.)
    fn commit(&mut self) -> Result<()> {
        if self.late_dirty
            && let Some(late) = &mut self.late
        {
            late.commit(self.epoch)?;
            self.late_dirty = false;
        }
        if self.dirty {
            self.sink.commit(self.epoch)?;
            self.epoch += u64::from(self.cut.is_none());
            self.dirty = false;
        }
        Ok(())
    }
}
