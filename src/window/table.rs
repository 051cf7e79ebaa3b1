//! A worker's open panes.
//!
//! **Invariant.** A row counts in exactly those of its windows that end after the watermark of
//! its own partition, as it was before the row. A window that has closed for a partition never
//! changes by a row of that partition, even while another partition holds its emission back.
//!
//! The delicate case is a sliding row whose pane serves windows that have closed for its
//! partition and others that have not. So a store is named by `(from_end, pane)`: only windows
//! that end at `from_end` or later take it. For a row, `from_end` is the end of the first of its
//! windows that is still open for its partition. Thus the outcome depends on each partition's
//! log alone, not on batches, workers, or the interleaving of partitions. (Where that is not the
//! first of its pane's windows, rows of many such stores share one: see `window/behind.rs`.)
//!
//! A store is shipped when the worker's watermark (the smallest of its partitions) reaches its
//! `from_end`: no later row of any of its partitions can have that name again. (Sessions are told
//! apart by their keys, not by panes: see [`super::sessions`].) Each row is
//! touched once, each store sealed once; there is at most one for each pane of a window and of
//! the span of disorder, and the one of rows behind.

use super::assign::AHEAD;
use super::behind::{Behind, Places};
use super::{Aggregate, Assign, Input, Segment, Store};
use crate::error::Result;
use crate::watermark::Before;
use arrow::array::UInt32Array;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Open {
    store: Box<dyn Store>,
    rows: u64,
}

/// The open panes of one aggregate of one query in one worker.
pub struct WindowTable {
    assign: Assign,
    aggregate: Arc<dyn Aggregate>,
    /// By `(from_end, pane)`, those that all windows of their panes take (and of sessions, rows ahead).
    open: BTreeMap<(i64, i64), Open>,
    behind: Behind,
}

impl WindowTable {
    pub fn new(assign: Assign, aggregate: Arc<dyn Aggregate>) -> Self {
        Self {
            assign,
            behind: Behind::new(aggregate.as_ref()),
            aggregate,
            open: BTreeMap::new(),
        }
    }

    pub fn assign(&self) -> &Assign {
        &self.assign
    }

    /// Adds rows with their event times (empty for [`Assign::Global`]) and the watermarks of
    /// their partition before each of them; `floor` is a watermark below which the query is
    /// final already (rows of a partition that was idle). Returns the indices of late rows.
    pub fn update(
        &mut self,
        input: &Input,
        times: &[i64],
        before: &Before,
        floor: i64,
    ) -> Result<Vec<u32>> {
        if input.rows == 0 {
            return Ok(Vec::new());
        }
        if self.assign == Assign::Global {
            self.add((super::assign::NEVER, 0), input)?;
            return Ok(Vec::new());
        }
        if let Some(name) = self.one_store(times, before, floor) {
            self.add(name, input)?;
            return Ok(Vec::new());
        }
        self.update_by_row(input, times, before, floor)
    }

    /// The store that takes every row of the batch, in the common case that there is one.
    fn one_store(&self, times: &[i64], before: &Before, floor: i64) -> Option<(i64, i64)> {
        let Before::AtMost { highest } = before else {
            return None;
        };
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for &t in times {
            min = min.min(t);
            max = max.max(t);
        }
        let (assign, watermark) = (&self.assign, (*highest).max(floor));
        let pane = assign.pane_of(min);
        let one = pane == assign.pane_of(max) && !assign.may_be_behind(min, watermark);
        Some((assign.from_end(min, pane, watermark)?, pane)).filter(|_| one)
    }

    fn update_by_row(
        &mut self,
        input: &Input,
        times: &[i64],
        before: &Before,
        floor: i64,
    ) -> Result<Vec<u32>> {
        let each = match before {
            // No row of the batch is late or partly late, whatever its own watermark was.
            Before::AtMost { .. } => None,
            Before::Each(each) => Some(each.as_slice()),
        };
        let shares = share(&self.assign, times, each, floor);
        for of_pane in shares.panes.into_iter().filter(|p| !p.rows.is_empty()) {
            let name = (of_pane.from_end, of_pane.pane);
            if of_pane.rows.len() == input.rows {
                self.add(name, input)?;
            } else {
                let rows = UInt32Array::from(of_pane.rows);
                self.add(name, &input.take(&rows)?)?;
            }
        }
        self.behind.add(input, shares.behind)?;
        Ok(shares.late)
    }

    fn add(&mut self, name: (i64, i64), input: &Input) -> Result<()> {
        let open = match self.open.entry(name) {
            std::collections::btree_map::Entry::Occupied(o) => o.into_mut(),
            std::collections::btree_map::Entry::Vacant(v) => v.insert(Open {
                store: self.aggregate.store()?,
                rows: 0,
            }),
        };
        open.rows += input.rows as u64;
        open.store.update(input)
    }

    /// Seals and takes the stores that a watermark closes, of sessions also those that one may be
    /// in which it closes. `NEVER` takes all.
    pub fn ship(&mut self, watermark: i64) -> Result<Vec<Segment>> {
        let closing = self.assign.closing(watermark);
        let due = (..=(closing, i64::MAX), |name: &(i64, i64), _: &mut Open| {
            name.1 <= closing
        });
        let mut segments = self.behind.ship(closing)?;
        for ((from_end, pane), mut open) in self.open.extract_if(due.0, due.1) {
            segments.push(Segment {
                pane,
                from_end,
                rows: open.rows,
                batch: open.store.seal()?,
            });
        }
        Ok(segments)
    }

    /// Number of open stores.
    pub fn stores(&self) -> usize {
        self.open.len() + usize::from(self.behind.groups() > 0)
    }

    /// Groups over all open stores.
    pub fn groups(&self) -> usize {
        let open: usize = self.open.values().map(|o| o.store.groups()).sum();
        open + self.behind.groups()
    }

    /// Memory held by the open stores, in bytes.
    pub fn bytes(&self) -> usize {
        let open: usize = self.open.values().map(|o| o.store.bytes()).sum();
        open + self.behind.bytes()
    }
}

/// Which rows go where, as indices.
struct Shares {
    panes: Vec<PaneRows>,
    behind: Places,
    late: Vec<u32>,
}

/// Rows of one pane that all its windows take, `from_end` on.
struct PaneRows {
    pane: i64,
    from_end: i64,
    rows: Vec<u32>,
}

/// Rows mostly are in the pane of the row before them, or around the border of two: those two are
/// tried first. Without watermarks `before` each row, only `floor` can make rows late.
fn share(assign: &Assign, times: &[i64], before: Option<&[i64]>, floor: i64) -> Shares {
    let width = assign.pane_size().unsigned_abs();
    let (mut behind, mut late) = (Places::default(), Vec::new());
    let mut panes: Vec<PaneRows> = Vec::new();
    let mut by_pane = BTreeMap::new();
    let (mut last, mut other) = (0, 0);
    let holds = |panes: &[PaneRows], i: usize, t: i64| {
        (panes.get(i)).is_some_and(|p| p.pane <= t && t.abs_diff(p.pane) < width)
    };
    for (row, &t) in times.iter().enumerate() {
        if !holds(&panes, last, t) {
            std::mem::swap(&mut last, &mut other);
            if !holds(&panes, last, t) {
                let pane = assign.pane_of(t);
                last = *by_pane.entry(pane).or_insert_with(|| {
                    panes.push(PaneRows {
                        pane,
                        from_end: match assign.is_session() {
                            true => AHEAD,
                            false => assign.first_end(pane),
                        },
                        rows: Vec::new(),
                    });
                    panes.len() - 1
                });
            }
        }
        let PaneRows {
            pane,
            from_end,
            rows,
        } = &mut panes[last];
        let watermark = before.map_or(floor, |b| b[row].max(floor));
        let place = match watermark < *from_end {
            true => Some(*from_end),
            false => assign.from_end(t, *pane, watermark),
        };
        match place {
            Some(end) if end == *from_end => rows.push(row as u32),
            Some(end) => behind.push(row as u32, end, *pane),
            None => late.push(row as u32),
        }
    }
    Shares {
        panes,
        behind,
        late,
    }
}
