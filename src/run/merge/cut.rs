//! A query at a checkpoint's cut.
//!
//! Each worker says in its queue where it cuts. What comes behind waits until all have cut; then
//! the merge holds the query's whole state, hands a copy to the checkpoint (segments are
//! immutable, so it is a list of pointers), and waits until that is durable: what the sink was
//! given before the cut is one epoch, whatever comes behind the next.

use super::{Handled, Merge, Part};
use crate::error::Result;
use crate::run::worker::Message;
use crate::state::{AggregateSnapshot, PartitionSnapshot, Prepared, QuerySnapshot, Shape};
use crate::watermark::NONE;
use crate::window::HeldSegment;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

pub(super) struct Cut {
    /// The next checkpoint.
    number: u64,
    /// Where each worker has cut or ended.
    positions: Vec<Vec<PartitionSnapshot>>,
    /// What came behind the cut, in order.
    behind: VecDeque<(usize, Message)>,
    /// `behind` of the checkpoint before, still to be handled.
    replay: VecDeque<(usize, Message)>,
    shapes: Vec<Shape>,
    prepared: (Prepared, Prepared),
}

impl Cut {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn hold(&mut self, worker: usize, message: Message) {
        self.behind.push_back((worker, message));
    }
}

impl Merge {
    /// Takes part in checkpoints, of which `number` is the next, and goes on from the `state` of
    /// checkpoint `from` (0: none). Call before the first message.
    pub fn checkpointed(
        &mut self,
        number: u64,
        shapes: Vec<Shape>,
        from: u64,
        state: Option<QuerySnapshot>,
    ) -> Result<()> {
        self.cut = Some(Cut {
            number,
            positions: vec![Vec::new(); self.workers.len()],
            behind: VecDeque::new(),
            replay: VecDeque::new(),
            shapes,
            prepared: Default::default(),
        });
        self.epoch = number;
        let state = state.unwrap_or_else(|| QuerySnapshot {
            name: self.query.name.clone(),
            watermark: NONE,
            left: None,
            complete: false,
            looked_ms: None,
            aggregates: Vec::new(),
            sink: Prepared::Null,
            late: Prepared::Null,
        });
        self.sink.recover(from, &state.sink)?;
        if let Some(shown) = &mut self.shown {
            shown.resumed = from > 0;
        }
        if let Some(late) = &mut self.late {
            late.recover(from, &state.late)?;
        }
        if let (Some(left), Some(restored)) = (&mut self.left, state.left) {
            *left = usize::try_from(restored).unwrap_or(usize::MAX);
            let done = &self.job_stats.queries[self.index].done;
            done.store(restored == 0, Relaxed);
        }
        self.was_complete = state.complete;
        self.looked_ms = state.looked_ms;
        self.final_end = state.watermark;
        self.stats().watermark.store(state.watermark, Relaxed);
        if let Some(windows) = &mut self.windows {
            let mut bytes = 0;
            for (merge, aggregate) in windows.merges.iter_mut().zip(state.aggregates) {
                merge.restore(aggregate.segments, state.watermark)?;
                bytes += merge.bytes();
            }
            let open = windows.merges.iter().map(|m| m.open_windows() as u64).sum();
            self.job_stats.queries[self.index]
                .open_windows
                .store(open, Relaxed);
            self.limit_memory(bytes)?;
        }
        Ok(())
    }

    /// A worker has cut or ended.
    pub(super) fn reached(
        &mut self,
        worker: usize,
        positions: Vec<PartitionSnapshot>,
    ) -> Result<Handled> {
        let Some(cut) = &mut self.cut else {
            return Ok(Handled::GoOn);
        };
        cut.positions[worker] = positions;
        let number = cut.number;
        let last = self.workers.iter().all(|w| w.ended.is_some());
        let all = self
            .workers
            .iter()
            .all(|w| w.ended.is_some() || w.checkpoint >= number);
        // That some have ended is no reason for a checkpoint; that all have is.
        let asked = self.job_stats.checkpoint.load(SeqCst) >= number;
        if !(last || all && asked) {
            return Ok(Handled::GoOn);
        }
        let sink = self.sink.prepare(self.epoch)?;
        let late = match &mut self.late {
            Some(late) => late.prepare(self.epoch)?,
            None => Prepared::Null,
        };
        (self.dirty, self.late_dirty) = (false, false);
        let state = self.state(sink.clone(), late.clone());
        let Some(cut) = &mut self.cut else {
            return Ok(Handled::GoOn);
        };
        cut.prepared = (sink, late);
        let mut positions = vec![Vec::new(); self.query.sources.len()];
        for (worker, of_worker) in self.workers.iter().zip(&cut.positions) {
            positions[worker.place].extend_from_slice(of_worker);
        }
        Ok(Handled::Cut(Box::new(Part {
            query: self.index,
            number,
            last,
            positions,
            state,
        })))
    }

    fn state(&self, sink: Prepared, late: Prepared) -> QuerySnapshot {
        let shapes = self.cut.iter().flat_map(|cut| cut.shapes.clone());
        let merges = self.windows.iter().flat_map(|w| &w.merges);
        let aggregates = shapes.zip(merges).map(|(shape, merge)| {
            let segments: Vec<HeldSegment> = merge.snapshot();
            AggregateSnapshot { shape, segments }
        });
        QuerySnapshot {
            name: self.query.name.clone(),
            watermark: self.final_end,
            left: self.left.map(|left| left as u64),
            complete: self.is_complete(),
            looked_ms: self.looked_ms,
            aggregates: aggregates.collect(),
            sink,
            late,
        }
    }

    /// The checkpoint of the last [`Handled::Cut`] is durable. Call [`Merge::replay`] next.
    pub fn publish(&mut self) -> Result<()> {
        let Some(cut) = &mut self.cut else {
            return Ok(());
        };
        let (sink, late) = std::mem::take(&mut cut.prepared);
        cut.number += 1;
        cut.replay.append(&mut cut.behind);
        let behind = &self.job_stats.queries[self.index].behind_bytes;
        behind.store(0, Relaxed);
        self.sink.publish(self.epoch, &sink)?;
        if let Some(sink) = &mut self.late {
            sink.publish(self.epoch, &late)?;
        }
        self.epoch += 1;
        Ok(())
    }

    /// Handles the next message that has waited behind a cut; `None` when there is none.
    pub fn replay(&mut self) -> Result<Option<Handled>> {
        match self.cut.as_mut().and_then(|cut| cut.replay.pop_front()) {
            Some((worker, message)) => self.handle(worker, message).map(Some),
            None => Ok(None),
        }
    }
}
