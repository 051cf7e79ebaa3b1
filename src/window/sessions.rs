//! Sessions: windows that end when their key has been silent for a gap.
//!
//! A session of a key is rows that follow each other by at most the gap, and ends a gap behind the
//! last of them (a row exactly there is still of it, as in Flink and Spark). Its row is late when it
//! is a gap or more behind its partition's watermark: a session of that row alone would be over. A
//! row that is behind by less joins the sessions that were not over for that watermark, and no
//! other: a session that is over never changes.
//!
//! **Fragments.** Rows of one key in one pane, which is as long as a gap, are of one session, so
//! workers aggregate them like any other pane; besides, a segment has the first and the last event
//! time of each group in its last two columns. What a session is, is decided here, from those.
//!
//! **Rows behind the watermark** lie in segments of their own, which know that watermark (their
//! `from_end`, see [`Assign::closing`]). The sessions of a key are made of the rows that were ahead;
//! then come the others by their watermarks, and before each the sessions end that it ends. A row
//! ahead of its watermark cannot touch what that watermark ended. So the outcome depends on the
//! rows and the watermarks before them, not on when they arrive here.
//!
//! When the query's watermark moves, it may have ended sessions all of whose rows are **old**: a gap or
//! more behind it. So groups are held in the order of their last rows. Sessions of old rows alone are
//! results; old rows of sessions that go on are held on, one for each session, as if they lasted as
//! long as it. Of all others only the keys are looked at.

mod stitch;

use super::assign::{AHEAD, NEVER};
use super::distinct::Interner;
use super::merge::WindowMerge;
use super::spill::PARTS;
use super::{Aggregate, Assign, HeldSegment, segment_batch, segment_id};
use crate::batches;
use crate::error::{Error, Result};
use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use stitch::{Fragment, Span, stitch};

/// Accumulators of an aggregate whose groups the caller numbers.
pub trait Numbered {
    /// Numbers keys; `None` for an aggregate without keys.
    fn interner(&self) -> Result<Option<Box<dyn Interner>>>;

    /// A hash for each of so many rows of keys: equal keys have equal ones.
    fn hashes(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u64>>;

    /// Adds the states of a segment's rows to these groups; each of the `total` so far has had rows.
    fn merge(&mut self, segment: &RecordBatch, groups: &[usize], total: usize) -> Result<()>;

    /// Takes the state columns out.
    fn states(&mut self) -> Result<Vec<ArrayRef>>;

    /// Takes the results out, one column for each aggregate.
    fn values(&mut self) -> Result<Vec<ArrayRef>>;
}

/// How often sessions are looked for: each time costs all that are open.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Rows of segments that came since.
    came: usize,
    /// Rows that were left.
    open: usize,
    closed: i64,
}

/// With fewer rows sessions are looked for whenever the watermark moves.
const FEW: usize = 4096;
/// Of many, when so large a part of them is new, or the watermark has moved by so much of the gap.
const PART_NEW: usize = 4;
pub const PARTS_OF_GAP: i64 = 16;

impl Pace {
    pub fn came(&mut self, rows: usize) {
        self.came += rows;
    }

    fn is_due(&self, gap: i64, closing: i64) -> bool {
        self.open <= FEW
            || self.came >= self.open / PART_NEW
            || closing.saturating_sub(self.closed) >= gap / PARTS_OF_GAP
            || closing == NEVER
    }
}

impl WindowMerge {
    /// Whether it is time to close the sessions that a watermark of `closing` ends.
    pub fn sessions_due(&self, closing: i64) -> bool {
        let Assign::Session { gap } = self.assign else {
            return false;
        };
        closing > self.watermark && self.pace.is_due(gap, closing)
    }

    /// Gives the sessions that end at or before a watermark of `closing` to `each`, as keys, one
    /// column for each aggregate, first and last event time; oldest end first, except where state
    /// was spilled.
    pub fn close_sessions(
        &mut self,
        closing: i64,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let Assign::Session { gap } = self.assign else {
            return Err(Error::bug("windows that are no sessions"));
        };
        self.watermark = closing;
        let aggregate = self.aggregate.clone();
        let mut left = Vec::new();
        let mut close_in = |parts: &[Part]| -> Result<()> {
            let closed = close(parts, gap, closing, aggregate.as_ref())?;
            left.extend(closed.open);
            closed.over.map_or(Ok(()), &mut *each)
        };
        let mut touched = self.panes.range(..=closing).flat_map(|(_, held)| held);
        if touched.all(|held| held.spilled.is_none()) {
            close_in(&self.take_old(closing, gap)?)?;
        } else {
            let taken = self.take_through(closing);
            let taken: Vec<&HeldSegment> = taken.iter().collect();
            let in_memory = self.divided(&taken)?;
            for part in 0..PARTS {
                let batches = self.part(&taken, &in_memory, part, || "the sessions".into())?;
                let parts = batches.into_iter().map(|(i, batch)| Part {
                    from_end: taken[i].from_end,
                    old: batch.num_rows(),
                    batch,
                });
                close_in(&parts.collect::<Vec<_>>())?;
            }
        }
        for batch in left {
            self.hold_open(&batch)?;
        }
        self.pace = Pace {
            came: 0,
            open: self.open_windows(),
            closed: closing,
        };
        Ok(())
    }

    /// What a session that ends at or before `closing` may have rows in; the old rows are taken out.
    fn take_old(&mut self, closing: i64, gap: i64) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for segments in self.panes.range_mut(..=closing).map(|(_, held)| held) {
            for held in segments.iter_mut().filter(|h| h.from_end <= closing) {
                let (_, last) = times(&held.batch)?;
                let old = match held.from_end {
                    AHEAD => last.partition_point(|last| last.saturating_add(gap) <= closing),
                    // Many and small: from now on they are like those that were ahead.
                    _ => last.len(),
                };
                parts.push(Part {
                    from_end: held.from_end,
                    batch: held.batch.clone(),
                    old,
                });
                if old > 0 {
                    held.id = segment_id();
                    held.batch = held.batch.slice(old, held.batch.num_rows() - old);
                }
            }
            segments.retain(|held| held.batch.num_rows() > 0);
        }
        self.panes.retain(|_, segments| !segments.is_empty());
        Ok(parts)
    }

    /// All that such a session may have rows in.
    fn take_through(&mut self, closing: i64) -> Vec<HeldSegment> {
        let mut taken = Vec::new();
        for (_, segments) in self.panes.range_mut(..=closing) {
            taken.extend(segments.extract_if(.., |held| held.from_end <= closing));
        }
        self.panes.retain(|_, segments| !segments.is_empty());
        taken
    }

    /// Sessions that go on, into the panes of their last rows.
    fn hold_open(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut panes: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, last) in times(batch)?.1.iter().enumerate() {
            let pane = self.assign.pane_of(*last);
            panes.entry(pane).or_default().push(row as u32);
        }
        for (pane, rows) in panes {
            let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
            self.hold(HeldSegment {
                id: segment_id(),
                pane,
                from_end: AHEAD,
                fresh: false,
                batch: batches::compact(&rows)?,
                spilled: None,
            })?;
        }
        Ok(())
    }
}

/// A segment in the order of its groups' last rows, so that old ones stand first.
pub(super) fn in_order(segment: &RecordBatch) -> Result<RecordBatch> {
    let (_, last) = times(segment)?;
    if last.is_sorted() {
        return Ok(segment.clone());
    }
    let mut order: Vec<u32> = (0..last.len() as u32).collect();
    order.sort_by_key(|row| last[*row as usize]);
    Ok(take_record_batch(segment, &UInt32Array::from(order))?)
}

/// Sessions by the event times of their last rows, of a batch in that order.
pub fn by_last_row(sessions: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
    let (_, last) = times(sessions)?;
    let (mut from, mut parts) = (0, Vec::new());
    for same in last.chunk_by(|a, b| a == b) {
        parts.push((same[0], sessions.slice(from, same.len())));
        from += same.len();
    }
    Ok(parts)
}

/// The event times of each group's first row and of its last.
fn times(segment: &RecordBatch) -> Result<(&[i64], &[i64])> {
    let of = |column: &'_ ArrayRef| {
        column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .is_some()
    };
    match segment.columns() {
        [.., first, last] if of(first) && of(last) => {
            let first = first.as_primitive::<TimestampMicrosecondType>();
            let last = last.as_primitive::<TimestampMicrosecondType>();
            Ok((first.values(), last.values()))
        }
        _ => Err(Error::bug("sessions without event times")),
    }
}

/// A segment, or a part of one.
struct Part {
    from_end: i64,
    batch: RecordBatch,
    /// So many rows from the first on are closed or joined; of the others only the times count.
    old: usize,
}

/// What [`close`] made of the old rows.
struct Closed {
    /// Results, oldest end first.
    over: Option<RecordBatch>,
    /// Of sessions that go on, as one segment. Its rows last until the last row of their session
    /// that is known, also where that is not an old one.
    open: Option<RecordBatch>,
}

/// Closes the sessions that end at or before `closing`.
fn close(parts: &[Part], gap: i64, closing: i64, aggregate: &dyn Aggregate) -> Result<Closed> {
    let keys = aggregate.keys();
    let mut numbered = aggregate.numbered()?;
    let fragments = fragments(parts, keys, numbered.as_ref())?;
    let (sessions, spans) = stitch(fragments, gap);
    let is_over = |session: usize| spans[session].end(gap) <= closing;
    let mut closed = Closed {
        over: None,
        open: None,
    };
    let over = Groups::merge(parts, &sessions, is_over, numbered.as_mut())?;
    if !over.sessions.is_empty() {
        let batch = over.batch(parts, keys, numbered.values()?)?;
        closed.over = Some(in_order(&batch)?);
    }
    let goes_on = |session: usize| !is_over(session);
    let open = Groups::merge(parts, &sessions, goes_on, numbered.as_mut())?;
    if !open.sessions.is_empty() {
        let mut states = numbered.states()?;
        states.truncate(states.len().saturating_sub(2));
        let spans: Vec<Span> = open.sessions.iter().map(|s| spans[*s]).collect();
        let column = |of: fn(&Span) -> i64| -> ArrayRef {
            let times = spans.iter().map(of);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times))
        };
        states.extend([column(|span| span.first), column(|span| span.last)]);
        closed.open = Some(open.batch(parts, keys, states)?);
    }
    Ok(closed)
}

/// The old rows of all parts, one after the other; behind them the other rows of their keys (and a few
/// more, whose keys' hashes are equal).
fn fragments(parts: &[Part], keys: usize, numbered: &dyn Numbered) -> Result<Vec<Fragment>> {
    let mut interner = numbered.interner()?;
    let (mut fragments, mut ids) = (Vec::new(), Vec::new());
    let mut add = |part: &RecordBatch, from_end: i64| {
        ids.clear();
        match &mut interner {
            Some(interner) => interner.intern(&part.columns()[..keys], &mut ids)?,
            None => ids.resize(part.num_rows(), 0),
        }
        let (first, last) = times(part)?;
        for (key, (first, last)) in ids.iter().zip(first.iter().zip(last)) {
            let span = Span {
                first: *first,
                last: *last,
            };
            fragments.push(Fragment {
                key: *key,
                from_end,
                span,
                row: fragments.len(),
            });
        }
        Ok::<_, Error>(())
    };
    let mut hashes = HashSet::new();
    for part in parts.iter().filter(|part| part.old > 0) {
        let old = part.batch.slice(0, part.old);
        hashes.extend(numbered.hashes(&old.columns()[..keys], part.old)?);
        add(&old, part.from_end)?;
    }
    for part in parts {
        let count = part.batch.num_rows() - part.old;
        if hashes.is_empty() || count == 0 {
            continue;
        }
        // Their keys and their times.
        let times = part.batch.num_columns() - 2..part.batch.num_columns();
        let columns: Vec<usize> = (0..keys).chain(times).collect();
        let others = part.batch.slice(part.old, count).project(&columns)?;
        let of_others = numbered.hashes(&others.columns()[..keys], count)?;
        let rows = of_others.iter().zip(0..);
        let rows = rows.filter_map(|(hash, row)| hashes.contains(hash).then_some(row));
        let rows = UInt32Array::from_iter_values(rows);
        add(&take_record_batch(&others, &rows)?, part.from_end)?;
    }
    Ok(fragments)
}

/// Sessions as groups, numbered in the order in which they come: accumulators take it that each
/// group up to the largest number has had rows.
#[derive(Default)]
struct Groups {
    numbers: HashMap<usize, usize>,
    /// By number, and the part and the row where its key stands.
    sessions: Vec<usize>,
    places: Vec<(usize, usize)>,
}

impl Groups {
    /// Merges the old rows whose sessions are wanted; `sessions` begins with those of all old rows.
    fn merge(
        parts: &[Part],
        sessions: &[usize],
        wanted: impl Fn(usize) -> bool,
        numbered: &mut dyn Numbered,
    ) -> Result<Groups> {
        let mut groups = Groups::default();
        let mut sessions = sessions.iter();
        for (p, part) in parts.iter().enumerate() {
            let (mut rows, mut ids) = (Vec::new(), Vec::new());
            for (row, session) in sessions.by_ref().take(part.old).enumerate() {
                if wanted(*session) {
                    rows.push(row as u32);
                    ids.push(groups.number(*session, (p, row)));
                }
            }
            let total = groups.sessions.len();
            if rows.len() == part.batch.num_rows() {
                numbered.merge(&part.batch, &ids, total)?;
            } else if !rows.is_empty() {
                let part = take_record_batch(&part.batch, &UInt32Array::from(rows))?;
                numbered.merge(&part, &ids, total)?;
            }
        }
        Ok(groups)
    }

    fn number(&mut self, session: usize, place: (usize, usize)) -> usize {
        *self.numbers.entry(session).or_insert_with(|| {
            self.sessions.push(session);
            self.places.push(place);
            self.sessions.len() - 1
        })
    }

    /// The groups' keys, and these columns.
    fn batch(&self, parts: &[Part], keys: usize, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(keys + more.len());
        for key in 0..keys {
            let of_parts: Vec<_> = (parts.iter())
                .map(|part| part.batch.column(key).as_ref())
                .collect();
            columns.push(interleave(&of_parts, &self.places)?);
        }
        columns.extend(more);
        segment_batch(columns, self.sessions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_sessions_are_not_looked_through_at_every_move() {
        let mut pace = Pace {
            came: 0,
            open: FEW + 1,
            closed: 0,
        };
        assert!(!pace.is_due(1600, 99));
        assert!(pace.is_due(1600, 100));
        assert!(pace.is_due(1600, NEVER));
        pace.came(FEW / PART_NEW + 1);
        assert!(pace.is_due(1600, 1));
        assert!(Pace::default().is_due(1600, 1));
    }
}
