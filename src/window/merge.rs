//! The merge of what the workers shipped, window by window.
//!
//! Holds the segments of the panes that some window still needs. A window is evaluated when the
//! query's watermark reaches its end, or (output modes update and complete) at a trigger when
//! one of its panes has changed.

use super::{Aggregate, Assign, Segment};
use crate::error::Result;
use crate::watermark::NONE;
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};
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

/// A segment of a pane.
struct Held {
    /// Windows that end here or later take it.
    from_end: i64,
    /// Came since the last `settle`.
    fresh: bool,
    batch: RecordBatch,
}

/// Segments of one aggregate of one query, from all workers.
pub struct WindowMerge {
    assign: Assign,
    aggregate: Arc<dyn Aggregate>,
    panes: BTreeMap<i64, Vec<Held>>,
    /// Ends of windows that have data and are not final.
    pending: BTreeSet<i64>,
    /// Ends of windows that changed since they were last evaluated.
    changed: BTreeSet<i64>,
    /// The query's watermark: windows that end at or before it are final.
    watermark: i64,
}

/// A pane with more segments than this is compacted into one.
const SEGMENTS_MAX: usize = 8;

impl WindowMerge {
    pub fn new(assign: Assign, aggregate: Arc<dyn Aggregate>) -> Self {
        Self {
            assign,
            aggregate,
            panes: BTreeMap::new(),
            pending: BTreeSet::new(),
            changed: BTreeSet::new(),
            watermark: NONE,
        }
    }

    /// Takes a segment. Returns the number of its rows that came too late: all of them when
    /// every window of the pane is final (a partition that was idle and came back), else 0.
    pub fn absorb(&mut self, segment: Segment) -> Result<u64> {
        let after = self.watermark.max(segment.from_end.saturating_sub(1));
        let Some(from_end) = self.assign.next_end(segment.pane, after) else {
            return Ok(segment.rows);
        };
        let mut end = Some(from_end);
        while let Some(e) = end {
            self.pending.insert(e);
            self.changed.insert(e);
            end = if self.assign == Assign::Global {
                None
            } else {
                self.assign.next_end(segment.pane, e)
            };
        }
        let segments = self.panes.entry(segment.pane).or_default();
        segments.push(Held {
            from_end,
            fresh: true,
            batch: segment.batch,
        });
        if segments.len() > SEGMENTS_MAX {
            compact(segments, self.aggregate.as_ref())?;
        }
        Ok(0)
    }

    /// The ends of the windows that a watermark makes final, oldest first.
    pub fn due(&self, watermark: i64) -> Vec<i64> {
        self.pending.range(..=watermark).copied().collect()
    }

    /// The ends of the windows that changed since they were evaluated, oldest first.
    pub fn changed(&self) -> Vec<i64> {
        self.changed.iter().copied().collect()
    }

    /// The ends of all windows that have data, oldest first.
    pub fn pending(&self) -> Vec<i64> {
        self.pending.iter().copied().collect()
    }

    /// The result of the window that ends at `end` over what has been absorbed; `None` when it
    /// has no data.
    pub fn evaluate(&mut self, end: i64, scope: Scope) -> Result<Option<WindowResult>> {
        self.changed.remove(&end);
        let start = self.assign.start_of(end);
        let range = if self.assign == Assign::Global {
            i64::MIN..i64::MAX
        } else {
            start..end
        };
        let held: Vec<&Held> = self
            .panes
            .range(range)
            .flat_map(|(_, segments)| segments)
            .filter(|h| h.from_end <= end)
            .collect();
        if held.is_empty() {
            return Ok(None);
        }
        // Groups are numbered in the order in which they come: the changed ones come first.
        let mut store = self.aggregate.store()?;
        for h in held.iter().filter(|h| h.fresh) {
            store.merge(&h.batch)?;
        }
        let changed = if held.iter().any(|h| h.fresh) {
            store.groups()
        } else {
            0
        };
        for h in held.iter().filter(|h| !h.fresh) {
            store.merge(&h.batch)?;
        }
        let mut batch = store.evaluate()?;
        if scope == Scope::Changed {
            batch = batch.slice(0, changed);
        }
        Ok(Some(WindowResult { start, end, batch }))
    }

    /// Ends a trigger: nothing counts as changed any more. Panes of several segments become one,
    /// so that the next trigger costs what the state costs, not what the run has cost.
    pub fn settle(&mut self) -> Result<()> {
        self.changed.clear();
        for segments in self.panes.values_mut() {
            for held in segments.iter_mut() {
                held.fresh = false;
            }
            if segments.len() > 1 {
                compact(segments, self.aggregate.as_ref())?;
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
        self.pending = self.pending.split_off(&watermark.saturating_add(1));
        self.changed = self.changed.split_off(&watermark.saturating_add(1));
        while let Some(entry) = self.panes.first_entry() {
            if self.assign.next_end(*entry.key(), watermark).is_some() {
                break;
            }
            entry.remove();
        }
    }

    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.panes
            .values()
            .flatten()
            .map(|h| h.batch.get_array_memory_size())
            .sum()
    }

    /// Windows with data that are not final.
    pub fn open_windows(&self) -> usize {
        self.pending.len()
    }
}

/// Merges the segments of one pane that the same windows take and that changed alike.
fn compact(segments: &mut Vec<Held>, aggregate: &dyn Aggregate) -> Result<()> {
    let mut alike: BTreeMap<(i64, bool), Vec<RecordBatch>> = BTreeMap::new();
    for held in segments.drain(..) {
        alike
            .entry((held.from_end, held.fresh))
            .or_default()
            .push(held.batch);
    }
    for ((from_end, fresh), batches) in alike {
        let batch = match batches.as_slice() {
            [one] => one.clone(),
            many => {
                let mut store = aggregate.store()?;
                for batch in many {
                    store.merge(batch)?;
                }
                store.seal()?
            }
        };
        segments.push(Held {
            from_end,
            fresh,
            batch,
        });
    }
    Ok(())
}
