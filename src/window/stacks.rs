//! Windows that overlap a lot: the result of each from a few batches, however many panes it has.
//!
//! The classic queue of two stacks, over sealed segments. At some window's end, `mid`, the queue
//! *flips*: what that window holds becomes the **front**, a stack of suffixes, each the merge of
//! the panes from its start to `mid`. A later window takes the one suffix that begins where it
//! does; older ones are dropped. Panes from `mid` on go to the **back**, one batch that grows. A
//! window is front, then back. When a window begins at `mid` or later, the queue flips again.
//!
//! Cumulating windows need no front: all that begin together take panes from their start on, so the
//! queue flips there, and the back is what the next of them goes on from.
//!
//! Two things differ from the textbook:
//!
//! - **Memory.** A suffix has up to all groups of a window. So a flip does not make all n of them
//!   (one for each slide), but some far apart, then nearer ones up to the oldest; those between
//!   two of them when a window needs the first. Distances are powers of 16: at most 16 suffixes
//!   for each of them below n are held beside the panes, and the back. (Three powers for 3600.)
//! - **Stragglers.** A segment of a pane before `mid` may be taken only by windows that end after
//!   `mid` (its `from_end`, see [`super::table`]). It is in no suffix; windows merge it by itself.
//!   When that has cost more than a flip, the queue flips.
//!
//! With all groups in each pane a window costs about seven merges of its groups; pane by pane it
//! costs one for each pane. Either way older panes come before newer ones, for aggregates that can
//! tell; only a straggler may come after panes newer than its own.

use super::{Aggregate, Assign, HeldSegment, Store};
use crate::batches;
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;

/// The segments of all workers, by pane.
pub(super) type Panes = BTreeMap<i64, Vec<HeldSegment>>;

/// Windows with fewer slides than this cost no more when their panes are merged one by one.
const SLIDES_MIN: i64 = 20;

/// The same for the steps of cumulating windows: their back costs one more merge of what is new.
const STEPS_MIN: i64 = 4;

/// Segments with fewer rows, and values in lists, cost more by their number than to be copied.
const SMALL: usize = 256;

/// So many small ones are joined at most.
const JOINED_MAX: usize = 1024;

struct Suffix {
    start: i64,
    /// `None`: no data from `start` to `mid`.
    batch: Option<RecordBatch>,
}

/// Segments that entered with one window and are in no suffix, small ones as one batch (which may have
/// a group more than once): of rows that come out of order there is one in each of many panes.
struct Stragglers {
    /// Of each row, oldest first.
    panes: Vec<i64>,
    batch: RecordBatch,
}

impl Stragglers {
    /// Drops the panes before `start`.
    fn leave(&mut self, start: i64) {
        let gone = self.panes.partition_point(|pane| *pane < start);
        self.panes.drain(..gone);
        self.batch = self.batch.slice(gone, self.panes.len());
    }
}

pub(super) struct TwoStacks {
    assign: Assign,
    slide: i64,
    /// The front holds what is before it, the back what is at it or after.
    mid: i64,
    /// Newest start first: the last is the one in use.
    front: Vec<Suffix>,
    stragglers: Vec<Stragglers>,
    back: Option<RecordBatch>,
    /// Segments of the back that are not merged into it yet; at most as many rows as it has.
    recent: Vec<RecordBatch>,
    /// Rows that the last flip merged.
    flip_rows: usize,
    /// Rows of stragglers that windows have merged since.
    straggler_rows: usize,
}

impl TwoStacks {
    /// `None` when windows are better merged pane by pane.
    pub fn new(assign: &Assign) -> Option<Self> {
        let serves = match *assign {
            Assign::Global | Assign::Session { .. } => false,
            Assign::Fixed { size, slide, .. } => size / slide >= SLIDES_MIN,
            Assign::Cumulating { size, step, .. } => size / step >= STEPS_MIN,
        };
        serves.then(|| Self {
            assign: *assign,
            slide: assign.slide(),
            mid: i64::MIN,
            front: Vec::new(),
            stragglers: Vec::new(),
            back: None,
            recent: Vec::new(),
            flip_rows: 0,
            straggler_rows: 0,
        })
    }

    /// Forgets all merges: the next window starts afresh.
    pub fn clear(&mut self) {
        self.flip(i64::MIN);
    }

    /// The result of the window that ends at `end`, later than those before unless all was forgotten;
    /// `None` when it has no data. `new` are the segments that it takes and those before did not.
    pub fn evaluate(
        &mut self,
        end: i64,
        panes: &Panes,
        new: &[&HeldSegment],
        aggregate: &dyn Aggregate,
    ) -> Result<Option<RecordBatch>> {
        let start = self.assign.start_of(end);
        if self.assign.share_starts() {
            self.cumulate(start, end, panes, new, aggregate)?;
        } else if start >= self.mid || self.straggler_rows > self.flip_rows {
            self.flip(end);
            self.flip_rows = self.extend_front(start, panes, aggregate)?;
        } else {
            self.enter(start, new, aggregate)?;
            self.front
                .truncate(self.front.partition_point(|s| s.start >= start));
            self.extend_front(start, panes, aggregate)?;
        }
        self.grow_back(aggregate)?;
        let stragglers = self.stragglers.iter().map(|s| &s.batch);
        self.straggler_rows += rows(stragglers.clone());
        let front = self.front.last().and_then(|s| s.batch.as_ref());
        let parts = front
            .into_iter()
            .chain(stragglers)
            .chain(&self.back)
            .chain(&self.recent);
        let parts: Vec<&RecordBatch> = parts.collect();
        match self.stragglers.is_empty() {
            true => evaluate_all(&parts, aggregate),
            // They may have a group more than once, also where they are all there is.
            false => evaluate_merged(&parts, aggregate).map(Some),
        }
    }

    /// The back from `start` on, where all windows begin that end up to the next start.
    fn cumulate(
        &mut self,
        start: i64,
        end: i64,
        panes: &Panes,
        new: &[&HeldSegment],
        aggregate: &dyn Aggregate,
    ) -> Result<()> {
        if start == self.mid {
            return self.enter(start, new, aggregate);
        }
        self.flip(start);
        let held = panes.range(start..end).flat_map(|(_, held)| held);
        let taken: Vec<_> = held.filter(|h| h.from_end <= end).collect();
        self.enter(start, &taken, aggregate)
    }

    /// Empties both stacks; the front may then be filled with what is before `mid`.
    fn flip(&mut self, mid: i64) {
        self.mid = mid;
        self.front.clear();
        self.stragglers.clear();
        self.back = None;
        self.recent.clear();
        self.straggler_rows = 0;
    }

    /// Takes the segments that this window takes and those before did not.
    fn enter(&mut self, start: i64, new: &[&HeldSegment], aggregate: &dyn Aggregate) -> Result<()> {
        self.stragglers.iter_mut().for_each(|s| s.leave(start));
        self.stragglers.retain(|s| !s.panes.is_empty());
        let (mut stragglers, recent): (Vec<&HeldSegment>, Vec<_>) =
            new.iter().partition(|held| held.pane < self.mid);
        stragglers.sort_by_key(|held| held.pane);
        let panes = stragglers.iter();
        let mut panes =
            panes.flat_map(|held| std::iter::repeat_n(held.pane, held.batch.num_rows()));
        let batches: Vec<&RecordBatch> = stragglers.iter().map(|held| &held.batch).collect();
        for run in runs(&batches) {
            let batch = concat(run)?;
            let panes = panes.by_ref().take(batch.num_rows()).collect();
            self.stragglers.push(Stragglers { panes, batch });
        }
        let recent: Vec<&RecordBatch> = recent.iter().map(|held| &held.batch).collect();
        for run in runs(&recent) {
            self.recent.extend(merge_all(run, aggregate)?);
        }
        Ok(())
    }

    /// Adds suffixes until there is one that begins at `start`. Returns the rows merged.
    fn extend_front(
        &mut self,
        start: i64,
        panes: &Panes,
        aggregate: &dyn Aggregate,
    ) -> Result<usize> {
        let mut merged = 0;
        let mut to = self.front.last().map_or(self.mid, |s| s.start);
        while to > start {
            let distance = to - start;
            let mut step = self.slide;
            while step.saturating_mul(16) < distance {
                step *= 16;
            }
            if distance % self.slide != 0 {
                // The size is no multiple of the slide: starts are not below `mid` by slides.
                step = distance % self.slide;
            }
            let from = to - step;
            let held = panes.range(from..to).flat_map(|(_, held)| held);
            let taken = held.filter(|h| h.from_end <= self.mid).map(|h| &h.batch);
            let newer = self.front.last().and_then(|s| s.batch.as_ref());
            let parts: Vec<&RecordBatch> = taken.chain(newer).collect();
            merged += rows(parts.iter().copied());
            self.front.push(Suffix {
                start: from,
                batch: merge_all(&parts, aggregate)?,
            });
            to = from;
        }
        Ok(merged)
    }

    /// Merges the newest segments into the back once they are as large: so a segment of few
    /// groups does not cost all groups of the back.
    fn grow_back(&mut self, aggregate: &dyn Aggregate) -> Result<()> {
        if rows(&self.recent) > rows(&self.back) {
            let parts: Vec<&RecordBatch> = self.back.iter().chain(&self.recent).collect();
            self.back = merge_all(&parts, aggregate)?;
            self.recent.clear();
        }
        Ok(())
    }

    /// Segments that windows up to this end or an earlier one take are alike for later ones: all of
    /// them are in what is held, or none.
    pub fn alike_until(&self) -> i64 {
        match self.mid {
            // Nothing is held that would tell them apart.
            i64::MIN => i64::MAX,
            _ if self.assign.share_starts() => i64::MAX,
            mid => mid,
        }
    }

    /// Memory held beside the panes, in bytes.
    pub fn bytes(&self) -> usize {
        let front = self.front.iter().filter_map(|s| s.batch.as_ref());
        let stragglers = self.stragglers.iter().map(|s| &s.batch);
        batches::held(
            front
                .chain(stragglers)
                .chain(&self.back)
                .chain(&self.recent),
        )
    }
}

fn rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> usize {
    batches.into_iter().map(RecordBatch::num_rows).sum()
}

/// Segments in their order, small ones together.
fn runs<'a, 'b>(parts: &'a [&'b RecordBatch]) -> impl Iterator<Item = &'a [&'b RecordBatch]> {
    let values = |column: &ArrayRef| match column.as_list_opt::<i32>() {
        Some(lists) => lists.values().len(),
        None => column.len(),
    };
    let is_small = move |part: &RecordBatch| part.columns().iter().all(|c| values(c) < SMALL);
    let runs = parts.chunk_by(move |a, b| is_small(a) && is_small(b));
    runs.flat_map(|run| run.chunks(JOINED_MAX))
}

fn concat(run: &[&RecordBatch]) -> Result<RecordBatch> {
    match run {
        [one] => Ok((*one).clone()),
        _ => Ok(concat_batches(&run[0].schema(), run.iter().copied())?),
    }
}

/// Adds segments to a store.
pub(super) fn merge_into(store: &mut dyn Store, parts: &[&RecordBatch]) -> Result<()> {
    runs(parts).try_for_each(|run| store.merge(&concat(run)?))
}

/// The merge of some segments as one; `None` for none.
pub(super) fn merge_all(
    parts: &[&RecordBatch],
    aggregate: &dyn Aggregate,
) -> Result<Option<RecordBatch>> {
    if let [] | [_] = parts {
        return Ok(parts.first().copied().cloned());
    }
    let mut store = aggregate.store()?;
    merge_into(store.as_mut(), parts)?;
    store.seal().map(Some)
}

/// The results of some segments together, groups in the order in which they come; `None` for no
/// segment.
pub(super) fn evaluate_all(
    parts: &[&RecordBatch],
    aggregate: &dyn Aggregate,
) -> Result<Option<RecordBatch>> {
    if parts.is_empty() {
        return Ok(None);
    }
    if let [part] = parts {
        return aggregate.store()?.evaluate_one(part).map(Some);
    }
    evaluate_merged(parts, aggregate).map(Some)
}

fn evaluate_merged(parts: &[&RecordBatch], aggregate: &dyn Aggregate) -> Result<RecordBatch> {
    let mut store = aggregate.store()?;
    merge_into(store.as_mut(), parts)?;
    store.evaluate()
}
