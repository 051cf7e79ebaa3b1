//! The partitions that a worker owns: how far each is, its watermark, whether it is idle.

use super::Worker;
use crate::run::stats::PartitionStats;
use crate::source::{Assignment, Chunk};
use crate::state::PartitionSnapshot;
use crate::watermark::{Before, NONE, PartitionWatermark, extremes};
use crate::window::Assign;
use crate::window::assign::NEVER;
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(super) struct Partition {
    name: String,
    topic: Arc<str>,
    topic_id: Option<Arc<str>>,
    number: i32,
    /// The next offset to read.
    position: i64,
    watermark: PartitionWatermark,
    /// Time of the last row, for the idle time-out.
    active_at: Duration,
    idle: bool,
    ended: bool,
}

impl Worker {
    pub(super) fn own(&mut self, partitions: &[Assignment]) {
        let delay_us = self.plan.def.watermark.as_ref().map_or(0, |w| w.delay_us);
        for p in partitions {
            let name = format!("{}/{}", p.topic, p.partition);
            let stats = PartitionStats {
                name: name.clone(),
                position: p.start,
                end: p.end,
                watermark: PartitionWatermark::new(delay_us, p.max_us).current(),
                idle: false,
                ended: false,
            };
            self.stats.sources[self.source].add_partition(p.id, stats);
            let watermark = PartitionWatermark::new(delay_us, p.max_us);
            self.partitions.insert(
                p.id,
                Partition {
                    name,
                    topic: p.topic.clone(),
                    topic_id: p.topic_id.clone(),
                    number: p.partition,
                    position: p.start,
                    watermark,
                    active_at: self.clock.now(),
                    idle: false,
                    ended: false,
                },
            );
        }
    }

    pub(super) fn all_ended(&self) -> bool {
        self.partitions.values().all(|p| p.ended)
    }

    pub(super) fn end_partition(&mut self, id: usize) {
        if let Some(p) = self.partitions.get_mut(&id) {
            p.ended = true;
            self.stats.sources[self.source].update_partition(id, |s| s.ended = true);
        }
    }

    pub(super) fn mark_idle(&mut self) {
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

    /// Nobody has looked for rows for that time (a merge took none, or a checkpoint was waited for): it makes
    /// no partition idle.
    pub(super) fn not_looked_for(&mut self, time: Duration) {
        if self.idle_timeout.is_none() || time.is_zero() {
            return;
        }
        let now = self.clock.now();
        for p in self.partitions.values_mut() {
            p.active_at = (p.active_at + time).min(now);
        }
    }

    pub(super) fn advance(&mut self, id: usize, position: i64, end: Option<i64>) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        partition.position = position;
        let watermark = partition.watermark.current();
        self.stats.sources[self.source].update_partition(id, |s| {
            s.position = position;
            s.end = end.or(s.end);
            s.watermark = watermark;
        });
    }

    /// The watermarks before each row of the batch; moves the partition's watermark.
    pub(super) fn observe(
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
            .filter_map(|w| w.assign().copied())
            .collect();
        partition
            .watermark
            .observe(times, future.as_deref(), |ts, watermark| {
                assigns.iter().any(|a| a.may_be_behind(ts, watermark))
            })
    }

    /// The smallest watermark of the partitions that are neither idle nor at their end; [`NEVER`] when
    /// all have ended, `None` when the others are all idle, [`NONE`] when there are none yet. Where there is a next
    /// run, Kafka's partitions have no end: those that have ended hold the watermark, unless they never had a row, or idle
    /// ones are not waited for. Files that have ended are idle.
    pub(super) fn watermark(&self) -> Option<i64> {
        if self.partitions.is_empty() {
            return Some(NONE);
        }
        if self.all_ended() && !self.keeps_open {
            return Some(NEVER);
        }
        let holds =
            self.keeps_open && self.plan.def.connector() == "kafka" && self.idle_timeout.is_none();
        self.partitions
            .values()
            .filter(|p| !p.idle && (!p.ended || (holds && p.watermark.current() != NONE)))
            .map(|p| p.watermark.current())
            .min()
    }

    /// The largest watermark of the partitions that have not ended: where all are idle, how far time has
    /// come.
    pub(super) fn furthest(&self) -> i64 {
        let live = (self.partitions.values()).filter(|p| !p.ended || self.keeps_open);
        live.map(|p| p.watermark.current()).max().unwrap_or(NONE)
    }

    /// Where the partitions stand.
    pub(super) fn positions(&self) -> Vec<PartitionSnapshot> {
        let snapshot = |p: &Partition| PartitionSnapshot {
            topic: p.topic.to_string(),
            topic_id: p.topic_id.as_deref().map(str::to_string),
            partition: p.number,
            position: p.position,
            max_us: p.watermark.max_us(),
        };
        self.partitions.values().map(snapshot).collect()
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

/// For each row whether its event time is too far after its record's timestamp; `None` when no
/// row's is.
fn future_rows(
    times: &[i64],
    records: &[u32],
    timestamps_ms: &[i64],
    max_ahead_us: i64,
) -> Option<Vec<bool>> {
    // Nearly always the largest time is not too far after the smallest timestamp.
    let ((_, latest), (earliest, newest)) = (extremes(times)?, extremes(timestamps_ms)?);
    let allowed = earliest.saturating_mul(1000).saturating_add(max_ahead_us);
    // A record without a timestamp (-1) is never in the future; those of files have none.
    if newest < 0 || (earliest >= 0 && latest <= allowed) {
        return None;
    }
    let ahead = |i: usize| {
        let record_ms = timestamps_ms[records[i] as usize];
        record_ms >= 0 && times[i] > record_ms.saturating_mul(1000).saturating_add(max_ahead_us)
    };
    let first = (0..times.len()).find(|i| ahead(*i))?;
    Some((0..times.len()).map(|i| i >= first && ahead(i)).collect())
}
