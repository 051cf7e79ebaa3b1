//! The merge of what the workers shipped, window by window.
//!
//! Holds the segments of the panes that some window still needs. A window is evaluated when the
//! query's watermark reaches its end, or (output modes update and complete) at a trigger when
//! one of its panes has changed.

use super::assign::AHEAD;
use super::ends::Ends;
use super::largest::{too_large, window_text};
use super::sessions::{Pace, in_order};
use super::shared::Shared;
use super::spill::{PARTS, SpillTo, divide};
use super::stacks::{Panes, evaluate_all, merge_all, merge_into};
use super::{Aggregate, Assign, HeldSegment, Segment, segment_id};
use crate::batches;
use crate::error::{Error, Result};
use crate::watermark::NONE;
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The result of one window: keys, then one column per aggregate.
#[derive(Debug, Clone)]
pub struct WindowResult {
    pub start: i64,
    pub end: i64,
    pub batch: RecordBatch,
}

/// Which groups of a window are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those that changed since the last [`WindowMerge::settle`].
    Changed,
}

/// Segments of one aggregate of one query, from all workers.
pub struct WindowMerge {
    pub(super) assign: Assign,
    pub(super) aggregate: Arc<dyn Aggregate>,
    pub(super) panes: Panes,
    /// `None`: windows are merged pane by pane.
    shared: Option<Shared>,
    /// Ends of windows that have data and are not final.
    pending: Ends,
    /// Ends of windows that changed since they were last evaluated.
    pub(super) changed: Ends,
    /// The query's watermark: windows that end at or before it are final.
    pub(super) watermark: i64,
    /// Of sessions.
    pub(super) pace: Pace,
    /// Some segment was spilled: before, no window need be searched for one.
    has_spilled: bool,
    /// Bytes that one part of a window with spilled segments may have.
    part_max: usize,
}

/// When a pane has more segments of one kind than this, they become fewer.
const SEGMENTS_MAX: usize = 8;

impl WindowMerge {
    pub fn new(assign: Assign, aggregate: Arc<dyn Aggregate>) -> Self {
        Self {
            assign,
            shared: Shared::new(&assign, &aggregate),
            aggregate,
            panes: Panes::new(),
            pending: Ends::new(&assign),
            changed: Ends::new(&assign),
            watermark: NONE,
            pace: Pace::default(),
            has_spilled: false,
            part_max: usize::MAX,
        }
    }

    /// A window that needs more memory at once is an error.
    pub fn limit(&mut self, bytes: usize) {
        self.part_max = bytes;
    }

    /// Takes a segment. Returns the number of its rows that came too late: all of them when
    /// every window of the pane is final (a partition that was idle and came back), else 0.
    pub fn absorb(&mut self, segment: Segment) -> Result<u64> {
        let Some(from_end) = self.open_from(segment.pane, segment.from_end) else {
            return Ok(segment.rows);
        };
        self.hold(HeldSegment {
            id: segment_id(),
            pane: segment.pane,
            from_end,
            fresh: true,
            batch: segment.batch,
            spilled: None,
        })?;
        Ok(0)
    }

    /// From which window on a segment counts, now that some are final; `None`: all of its.
    fn open_from(&self, pane: i64, from_end: i64) -> Option<i64> {
        if self.assign.is_session() {
            return self.assign.next_end(pane, self.watermark).map(|_| from_end);
        }
        let after = self.watermark.max(from_end.saturating_sub(1));
        self.assign.next_end(pane, after)
    }

    pub(super) fn hold(&mut self, mut held: HeldSegment) -> Result<()> {
        self.has_spilled |= held.spilled.is_some();
        if self.assign.is_session() {
            self.pace.came(held.rows());
            held.batch = in_order(&held.batch)?;
        } else {
            // (The arithmetic of extreme times saturates.)
            let last_end = self.assign.last_end(held.pane).max(held.from_end);
            self.pending.insert(held.from_end, last_end);
            if held.fresh {
                self.changed.insert(held.from_end, last_end);
            }
        }
        if let Some(shared) = &mut self.shared {
            shared.absorbed(&held);
        }
        let alike_until = self.alike_until();
        let came = kind(&held, alike_until);
        let segments = self.panes.entry(held.pane).or_default();
        segments.push(held);
        let [mut old, mut like_it] = [0, 0];
        for held in segments.iter().filter(|held| held.spilled.is_none()) {
            let kind = kind(held, alike_until);
            old += usize::from(kind == alike_until);
            like_it += usize::from(kind == came);
        }
        if old.max(like_it) > SEGMENTS_MAX {
            compact(segments, alike_until, self.aggregate.as_ref())?;
            if self.assign.is_session() {
                for held in segments {
                    held.batch = in_order(&held.batch)?;
                }
            }
        }
        Ok(())
    }

    /// Segments that some final window takes are taken by all windows that are open: it does not
    /// matter any more from which on.
    fn alike_until(&self) -> i64 {
        if self.assign.is_session() {
            return AHEAD;
        }
        let shared = self.shared.as_ref().map_or(i64::MAX, Shared::alike_until);
        shared.min(self.watermark)
    }

    /// All segments that an open window still needs, for a checkpoint.
    pub fn snapshot(&self) -> Vec<HeldSegment> {
        self.panes.values().flatten().cloned().collect()
    }

    /// Takes over what [`WindowMerge::snapshot`] gave when `watermark` was this one's. Call before
    /// anything else.
    pub fn restore(&mut self, segments: Vec<HeldSegment>, watermark: i64) -> Result<()> {
        self.watermark = watermark;
        for mut held in segments {
            // Windows that have become final since the segment came are not to be shown again.
            if let Some(from_end) = self.open_from(held.pane, held.from_end) {
                held.from_end = from_end;
                self.hold(held)?;
            }
        }
        Ok(())
    }

    /// The ends of the windows that a watermark makes final, oldest first.
    pub fn due(&self, watermark: i64) -> Vec<i64> {
        self.pending
            .iter()
            .take_while(|end| *end <= watermark)
            .collect()
    }

    /// The ends of the windows that changed since they were evaluated, oldest first.
    pub fn changed(&self) -> Vec<i64> {
        self.changed.iter().collect()
    }

    /// The ends of all windows that have data, oldest first.
    pub fn pending(&self) -> Vec<i64> {
        self.pending.iter().collect()
    }

    /// The result of the window that ends at `end` over what has been absorbed; `None` when it
    /// has no data.
    pub fn evaluate(&mut self, end: i64, scope: Scope) -> Result<Option<WindowResult>> {
        self.changed.remove(end);
        let start = self.assign.start_of(end);
        let batch = match (&mut self.shared, scope) {
            (Some(shared), Scope::All) => shared.evaluate(end, &self.panes)?,
            _ => merge_panes(&self.taken(end), scope, self.aggregate.as_ref())?,
        };
        Ok(batch.map(|batch| WindowResult { start, end, batch }))
    }

    fn taken(&self, end: i64) -> Vec<&HeldSegment> {
        taken(&self.assign, &self.panes, end)
    }

    /// The result of a window in pieces that have no group in common: one piece, unless some of
    /// its segments are spilled.
    pub fn evaluate_each(
        &mut self,
        end: i64,
        scope: Scope,
        each: &mut dyn FnMut(WindowResult) -> Result<()>,
    ) -> Result<()> {
        if !self.has_spilled || self.taken(end).iter().all(|h| h.spilled.is_none()) {
            return self.evaluate(end, scope)?.map_or(Ok(()), each);
        }
        self.changed.remove(end);
        let start = self.assign.start_of(end);
        let taken = self.taken(end);
        let in_memory = self.divided(&taken)?;
        for part in 0..PARTS {
            let batches = self.part(&taken, &in_memory, part, || window_text(start, end))?;
            let held: Vec<_> = batches.iter().map(|(i, b)| (taken[*i].fresh, b)).collect();
            if let Some(batch) = merge_batches(&held, scope, self.aggregate.as_ref())? {
                each(WindowResult { start, end, batch })?;
            }
        }
        Ok(())
    }

    /// The rows of each part of segments in memory; none of spilled ones.
    pub(super) fn divided(&self, taken: &[&HeldSegment]) -> Result<Vec<Vec<UInt32Array>>> {
        let keys = self.aggregate.keys();
        taken.iter().map(|h| divide(&h.batch, keys)).collect()
    }

    /// One part of segments, each with its place, some of which are spilled.
    pub(super) fn part(
        &self,
        taken: &[&HeldSegment],
        in_memory: &[Vec<UInt32Array>],
        part: usize,
        what: impl Fn() -> String,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let mut batches = Vec::with_capacity(taken.len());
        for (i, (held, rows)) in taken.iter().zip(in_memory).enumerate() {
            let batch = match &held.spilled {
                Some(spilled) => spilled.0.part(part)?,
                None => batches::compact(&take_record_batch(&held.batch, &rows[part])?)?,
            };
            if batch.num_rows() > 0 {
                batches.push((i, batch));
            }
        }
        let bytes: usize = batches::held(batches.iter().map(|(_, b)| b));
        if bytes > self.part_max {
            let batches: Vec<&RecordBatch> = batches.iter().map(|(_, b)| b).collect();
            let keys = self.aggregate.keys();
            return Err(too_large(&what(), &batches, keys, self.part_max));
        }
        Ok(batches)
    }

    /// Moves segments out of memory, the largest first, until at most `bytes` are left there.
    pub fn spill(&mut self, bytes: usize, to: &mut dyn SpillTo) -> Result<()> {
        let mut left = self.bytes();
        let mut all: Vec<&mut HeldSegment> = (self.panes.values_mut().flatten())
            .filter(|h| h.spilled.is_none())
            .collect();
        all.sort_by_key(|h| std::cmp::Reverse(h.bytes()));
        for held in all {
            if left <= bytes || self.aggregate.is_keyless() {
                break;
            }
            left = left.saturating_sub(held.bytes());
            held.spill(self.aggregate.keys(), to)?;
            self.has_spilled = true;
        }
        if let Some(shared) = &mut self.shared {
            // It holds merges of what is now on disk.
            shared.clear();
        }
        Ok(())
    }

    /// Ends a trigger: nothing counts as changed any more.
    pub fn settle(&mut self) -> Result<()> {
        self.changed = Ends::new(&self.assign);
        let alike_until = self.alike_until();
        for segments in self.panes.values_mut() {
            for held in segments.iter_mut() {
                held.fresh = false;
            }
            if segments.len() > 1 {
                compact(segments, alike_until, self.aggregate.as_ref())?;
            }
        }
        Ok(())
    }

    /// Declares every window that ends at or before `watermark` final and drops the panes that
    /// no other window needs. Call after the windows that are `due` have been evaluated.
    pub fn finalise(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        self.pending.remove_through(watermark);
        self.changed.remove_through(watermark);
        if let Some(shared) = &mut self.shared {
            shared.finalised(watermark);
        }
        while let Some(entry) = self.panes.first_entry() {
            if self.assign.next_end(*entry.key(), watermark).is_some() {
                break;
            }
            entry.remove();
        }
    }

    /// Why this state cannot be held in `limit` bytes.
    pub fn too_large(&self, limit: usize) -> Error {
        let held = self.panes.values().flatten().map(|held| &held.batch);
        let held: Vec<&RecordBatch> = held.collect();
        too_large("the query", &held, self.aggregate.keys(), limit)
    }

    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let panes: usize = self.panes.values().flatten().map(HeldSegment::bytes).sum();
        panes + self.shared.as_ref().map_or(0, Shared::bytes)
    }

    /// Windows with data that are not final. (Of sessions: their parts, where they are not known.)
    pub fn open_windows(&self) -> usize {
        match self.assign.is_session() {
            true => self.panes.values().flatten().map(HeldSegment::rows).sum(),
            false => self.pending.len(),
        }
    }
}

/// The segments that the window which ends at `end` takes, oldest pane first.
pub(super) fn taken<'a>(assign: &Assign, panes: &'a Panes, end: i64) -> Vec<&'a HeldSegment> {
    let range = match assign {
        Assign::Global => i64::MIN..i64::MAX,
        _ => assign.start_of(end)..end,
    };
    let held = panes.range(range).flat_map(|(_, segments)| segments);
    held.filter(|h| h.from_end <= end).collect()
}

/// The result of a window that takes these segments, pane by pane.
pub(super) fn merge_panes(
    taken: &[&HeldSegment],
    scope: Scope,
    aggregate: &dyn Aggregate,
) -> Result<Option<RecordBatch>> {
    let held: Vec<_> = taken.iter().map(|h| (h.fresh, &h.batch)).collect();
    merge_batches(&held, scope, aggregate)
}

/// The result of some batches, with whether each came since results were last shown.
fn merge_batches(
    held: &[(bool, &RecordBatch)],
    scope: Scope,
    aggregate: &dyn Aggregate,
) -> Result<Option<RecordBatch>> {
    // Groups are numbered in the order in which they come: the changed ones come first.
    let mut held = held.to_vec();
    held.sort_by_key(|(fresh, _)| !*fresh);
    let parts: Vec<&RecordBatch> = held.iter().map(|(_, batch)| *batch).collect();
    if scope == Scope::All || parts.is_empty() {
        return evaluate_all(&parts, aggregate);
    }
    let (fresh, others) = parts.split_at(held.partition_point(|(fresh, _)| *fresh));
    let mut store = aggregate.store()?;
    if parts[0].num_columns() == aggregate.keys() {
        // Keys alone (DISTINCT): those that were there before have not changed.
        merge_into(store.as_mut(), others)?;
        // (Without keys there is a group from the start.)
        let known = if others.is_empty() { 0 } else { store.groups() };
        merge_into(store.as_mut(), fresh)?;
        let all = store.evaluate()?;
        return Ok(Some(all.slice(known, all.num_rows() - known)));
    }
    merge_into(store.as_mut(), fresh)?;
    // (Without keys there is a group from the start.)
    let changed = if fresh.is_empty() { 0 } else { store.groups() };
    merge_into(store.as_mut(), others)?;
    Ok(Some(store.evaluate()?.slice(0, changed)))
}

/// Segments of a pane with the same are taken by the same windows, of those that are open.
fn kind(held: &HeldSegment, alike_until: i64) -> i64 {
    held.from_end.max(alike_until)
}

/// Merges segments of one pane that the same windows take and that changed alike: the small ones,
/// so that a large one is written again (also into checkpoints) only when as much has come since.
/// Sizes then double from one segment to the next, so there are few.
fn compact(
    segments: &mut Vec<HeldSegment>,
    alike_until: i64,
    aggregate: &dyn Aggregate,
) -> Result<()> {
    let mut alike: BTreeMap<(i64, bool), Vec<HeldSegment>> = BTreeMap::new();
    // Spilled ones stay where they are: reading them back is what their budget forbids.
    for held in segments.extract_if(.., |held| held.spilled.is_none()) {
        let kind = (kind(&held, alike_until), held.fresh);
        alike.entry(kind).or_default().push(held);
    }
    for mut kind in alike.into_values() {
        // Largest first; among equals in the order in which they came.
        kind.sort_by_key(|held| std::cmp::Reverse(held.batch.num_rows()));
        while let Some(smallest) = kind.pop() {
            let mut rows = smallest.batch.num_rows();
            let mut run = vec![smallest];
            while let Some(next) = kind.pop_if(|next| next.batch.num_rows() < 2 * rows) {
                rows += next.batch.num_rows();
                run.push(next);
            }
            run.reverse();
            segments.push(merged(run, aggregate)?);
        }
    }
    Ok(())
}

/// One or more segments that are alike, as one.
fn merged(mut run: Vec<HeldSegment>, aggregate: &dyn Aggregate) -> Result<HeldSegment> {
    let batches: Vec<&RecordBatch> = run.iter().map(|held| &held.batch).collect();
    let batch = merge_all(&batches, aggregate)?;
    if run.len() > 1
        && let Some(batch) = batch
    {
        run[0].id = segment_id();
        run[0].batch = batch;
    }
    Ok(run.swap_remove(0))
}
