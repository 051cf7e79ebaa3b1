//! What windows that overlap share: merges of their panes, and their distinct counts. Each window
//! goes on from the one shown before, with the segments that it takes and that one did not.

use super::distinct::Latest;
use super::merge::{Scope, merge_panes, taken};
use super::stacks::{Panes, TwoStacks};
use super::{Aggregate, Assign, HeldSegment};
use crate::error::Result;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) struct Shared {
    assign: Assign,
    /// What is merged: without the distinct counts that `latest` has.
    aggregate: Arc<dyn Aggregate>,
    /// `None`: windows overlap too little.
    stacks: Option<TwoStacks>,
    /// `None`: no distinct counts.
    latest: Option<Latest>,
    /// `(from_end, pane)` of the segments that no final window has taken.
    entering: BTreeSet<(i64, i64)>,
    /// End of the window shown last; an earlier one starts afresh.
    end: i64,
}

impl Shared {
    /// `None` when windows are better merged pane by pane.
    pub fn new(assign: &Assign, aggregate: &Arc<dyn Aggregate>) -> Option<Self> {
        let stacks = TwoStacks::new(assign);
        let apart = *assign == Assign::Global || assign.is_tumbling() || assign.is_session();
        let distinct = aggregate.distinct().filter(|_| !apart);
        let rest = distinct.as_ref().map(|distinct| distinct.rest.clone());
        let latest = distinct.map(Latest::new);
        (stacks.is_some() || latest.is_some()).then(|| Self {
            assign: *assign,
            aggregate: rest.unwrap_or_else(|| aggregate.clone()),
            stacks,
            latest,
            entering: BTreeSet::new(),
            end: i64::MIN,
        })
    }

    /// A segment has come that windows from `from_end` on take.
    pub fn absorbed(&mut self, held: &HeldSegment) {
        if held.from_end <= self.end {
            // A window that was shown before it was final will be shown again.
            self.clear();
        }
        self.entering.insert((held.from_end, held.pane));
    }

    /// Windows up to `watermark` are final.
    pub fn finalised(&mut self, watermark: i64) {
        if watermark > self.end && self.unseen(watermark).next().is_some() {
            // Another way than this gave the last of them, and nobody will name those segments again.
            self.clear();
        }
        self.entering = (self.entering).split_off(&(watermark.saturating_add(1), i64::MIN));
    }

    /// Forgets all but the names of what is to come: the next window starts afresh.
    pub fn clear(&mut self) {
        if let Some(stacks) = &mut self.stacks {
            stacks.clear();
        }
        if let Some(latest) = &mut self.latest {
            latest.clear();
        }
        self.end = i64::MIN;
    }

    /// Segments that windows up to this end or an earlier one take are alike for later ones.
    pub fn alike_until(&self) -> i64 {
        let stacks = self.stacks.as_ref();
        stacks.map_or(i64::MAX, TwoStacks::alike_until)
    }

    /// The segments that windows up to `end` take and those shown did not, as `(from_end, pane)`.
    fn unseen(&self, end: i64) -> impl Iterator<Item = &(i64, i64)> {
        let from = (self.end.saturating_add(1), i64::MIN);
        self.entering.range(from..=(end, i64::MAX))
    }

    /// The result of the window that ends at `end`; `None` when it has no data.
    pub fn evaluate(&mut self, end: i64, panes: &Panes) -> Result<Option<RecordBatch>> {
        let start = self.assign.start_of(end);
        if end <= self.end {
            self.clear();
        }
        let mut new: Vec<&HeldSegment> = Vec::new();
        for (from_end, pane) in self.unseen(end).filter(|(_, pane)| *pane >= start) {
            let held = panes.get(pane).into_iter().flatten();
            new.extend(held.filter(|h| h.from_end == *from_end));
        }
        self.end = end;
        let aggregate = self.aggregate.as_ref();
        let result = match &mut self.stacks {
            Some(stacks) => stacks.evaluate(end, panes, &new, aggregate)?,
            None => merge_panes(&taken(&self.assign, panes, end), Scope::All, aggregate)?,
        };
        match (result, &mut self.latest) {
            (Some(result), Some(latest)) => {
                let taken = || taken(&self.assign, panes, end);
                latest.fill(&result, start, &new, taken).map(Some)
            }
            (result, _) => Ok(result),
        }
    }

    /// Memory held beside the panes, in bytes.
    pub fn bytes(&self) -> usize {
        let stacks = self.stacks.as_ref().map_or(0, TwoStacks::bytes);
        stacks + self.latest.as_ref().map_or(0, Latest::bytes)
    }
}
