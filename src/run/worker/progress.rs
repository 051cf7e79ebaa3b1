//! What a worker sends without being given rows: closed panes, its watermark, its end.

use super::{Message, Outbox, Worker};
use crate::error::Result;
use crate::sink::OutputMode;
use crate::window::Assign;
use crate::window::assign::NEVER;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    /// Ships what the watermark closes, answers triggers, and says how far this worker is.
    pub(super) fn progress(&mut self, outbox: &mut dyn Outbox) -> Result<bool> {
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

    /// Sends what is left and says goodbye. Without `complete` (told to stop) open windows stay
    /// behind, except in the modes that show changes.
    pub fn finish(&mut self, complete: bool, outbox: &mut dyn Outbox) -> Result<()> {
        self.bad.close()?;
        for q in 0..self.queries.len() {
            let append = self.queries[q].plan.mode == OutputMode::Append;
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
}
