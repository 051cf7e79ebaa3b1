//! What a worker sends without being given rows: closed panes, its watermark, its end.

use super::query::WindowedQuery;
use super::{Message, Outbox, WEIGH_ROWS, Worker};
use crate::error::Result;
use crate::window::Assign;
use crate::window::assign::NEVER;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that may wait behind the cut of a checkpoint that other workers have not reached.
const BEHIND_BYTES_MAX: usize = 64 << 20;

impl Worker {
    /// Ships what the watermark closes, answers triggers, and says how far this worker is. `idle`:
    /// there was nothing to read.
    pub(super) fn progress(&mut self, idle: bool, outbox: &mut dyn Outbox) -> Result<bool> {
        let watermark = self.watermark();
        let mut closed = false;
        for q in 0..self.queries.len() {
            let asked = self.stats.queries[self.queries[q].index]
                .trigger
                .load(Relaxed);
            if asked > self.queries[q].trigger {
                self.queries[q].trigger = asked;
                closed |= self.ship(q, NEVER, outbox)?;
                closed |= outbox
                    .send(self.queries[q].index, Message::Trigger(asked))
                    .is_err();
            }
            if self.queries[q].is_due(watermark, idle) {
                self.queries[q].tell(watermark);
                // An idle worker holds nothing back, its open panes included: the query's
                // watermark may pass them.
                let to = watermark.unwrap_or(NEVER);
                let windowed = self.queries[q].windowed.as_ref();
                let assign = windowed.and_then(WindowedQuery::assign);
                if assign.is_some_and(|assign| *assign != Assign::Global) {
                    closed |= self.ship(q, to, outbox)?;
                    let furthest = watermark.is_none().then(|| Some(self.furthest()));
                    for told in furthest.into_iter().chain([watermark]) {
                        closed |= outbox
                            .send(self.queries[q].index, Message::Watermark(told))
                            .is_err();
                    }
                }
            }
            self.count_open(q);
        }
        closed |= self.limit_memory(outbox)?;
        Ok(closed | self.checkpoint(outbox)?)
    }

    fn count_open(&self, q: usize) {
        let tables = self.queries[q].windowed.iter().flat_map(|w| &w.tables);
        let windows = tables.filter(|(_, table)| *table.assign() != Assign::Global);
        let open: usize = windows.map(|(_, table)| table.stores()).sum();
        let stats = &self.stats.queries[self.queries[q].index];
        stats.open_in_worker.store(open as u64, Relaxed);
    }

    /// Hands over all open windows when they are too large: the merge can spill, a worker cannot.
    fn limit_memory(&mut self, outbox: &mut dyn Outbox) -> Result<bool> {
        if self.rows_unweighed < WEIGH_ROWS {
            return Ok(false);
        }
        self.rows_unweighed = 0;
        let tables = self.queries.iter().filter_map(|q| q.windowed.as_ref());
        let held: usize = (tables.flat_map(|w| &w.tables))
            .map(|(_, table)| table.bytes())
            .sum();
        let mut closed = false;
        if held > self.memory {
            for q in 0..self.queries.len() {
                closed |= self.ship(q, NEVER, outbox)?;
            }
        }
        Ok(closed)
    }

    /// Whether so much waits behind this worker's cut that it had better wait for the others.
    pub fn is_ahead(&self) -> bool {
        self.checkpoint > self.stats.checkpointed.load(Relaxed)
            && (self.queries.iter())
                .any(|q| self.stats.queries[q.index].behind_bytes.load(Relaxed) > BEHIND_BYTES_MAX)
    }

    /// Answers the checkpoint that is asked for: hands over all open windows, then says where the
    /// partitions stand. Handing them over early is always right (see [`crate::window::merge`]);
    /// so a worker holds nothing at a cut, and restoring does not depend on who held what.
    fn checkpoint(&mut self, outbox: &mut dyn Outbox) -> Result<bool> {
        let number = self.stats.checkpoint.load(Relaxed);
        if number <= self.checkpoint {
            return Ok(false);
        }
        self.checkpoint = number;
        self.bad.flush()?;
        let begun = self.clock.now();
        let mut closed = false;
        for q in 0..self.queries.len() {
            closed |= self.ship(q, NEVER, outbox)?;
            let positions = self.positions();
            closed |= outbox
                .send(
                    self.queries[q].index,
                    Message::Checkpoint { number, positions },
                )
                .is_err();
        }
        let pause = self.clock.now().saturating_sub(begun);
        tracing::debug!("checkpoint {number}: a worker paused for {pause:?}");
        Ok(closed)
    }

    pub(super) fn ship(
        &mut self,
        q: usize,
        watermark: i64,
        outbox: &mut dyn Outbox,
    ) -> Result<bool> {
        let query = &mut self.queries[q];
        let Some(windowed) = &mut query.windowed else {
            return Ok(false);
        };
        let mut closed = false;
        for (aggregate, table) in &mut windowed.tables {
            let segments = table.ship(watermark)?;
            if !segments.is_empty() {
                closed |= outbox
                    .send(
                        query.index,
                        Message::Segments {
                            aggregate: *aggregate,
                            segments,
                        },
                    )
                    .is_err();
            }
        }
        Ok(closed)
    }

    /// Sends what is left and says goodbye. Without `complete` (told to stop) the merges keep open
    /// windows for a last checkpoint, except in the modes that show changes.
    pub fn finish(&mut self, complete: bool, outbox: &mut dyn Outbox) -> Result<()> {
        self.bad.close()?;
        for q in 0..self.queries.len() {
            self.ship(q, NEVER, outbox)?;
            let message = Message::Ended {
                complete,
                positions: self.positions(),
            };
            // A merge that is gone has reported its own error.
            let _gone = outbox.send(self.queries[q].index, message);
        }
        Ok(())
    }
}
