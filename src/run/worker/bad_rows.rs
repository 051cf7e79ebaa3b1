//! Records that are no rows: counted, told, and handed to the table's policy.

use super::Worker;
use crate::decode::Bad;
use crate::error::Result;
use crate::run::bad::{Place, describe};
use crate::source::Chunk;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long a dead letter may wait to be seen.
const DEAD_LETTERS: Duration = Duration::from_secs(10);
/// So many bad records are logged one by one, the others are counted.
const BAD_TOLD_MAX: u64 = 3;

impl Worker {
    pub(super) fn bad_record(&mut self, chunk: Option<&Chunk>, bad: &Bad) -> Result<()> {
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
    pub(super) fn flush_dead_letters(&mut self) -> Result<()> {
        let now = self.clock.now();
        if self.unflushed && now.saturating_sub(self.flushed_at) >= DEAD_LETTERS {
            self.bad.flush()?;
            (self.flushed_at, self.unflushed) = (now, false);
        }
        Ok(())
    }
}
