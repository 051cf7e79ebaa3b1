//! Counts of distinct values in windows that overlap.
//!
//! Merges that windows share (two stacks of them) need a set of values in each, and a set is as large as
//! its rows. So such counts are kept apart from the merges: of each pair of group and value the newest
//! pane that has it. A pane that enters counts the pairs that were not there; one that leaves
//! takes those with it that no newer pane has. A window costs its new pane, its oldest and its
//! groups, and what is held grows with the panes' own values, however many windows share them.

use super::{Aggregate, HeldSegment};
use crate::batches::with_rows;
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers rows of some columns in the order in which they come: equal rows have one number.
pub trait Interner: Send {
    /// The numbers of all rows, into `ids`.
    fn intern(&mut self, columns: &[ArrayRef], ids: &mut Vec<usize>) -> Result<()>;

    /// How many there are.
    fn count(&self) -> usize;

    /// Memory held, in bytes.
    fn bytes(&self) -> usize;
}

/// Makes an interner for columns of the types of these, which knows no row yet.
pub type NewInterner = fn(&[ArrayRef]) -> Result<Box<dyn Interner>>;

/// An aggregate's distinct counts, and what is left of it without them.
pub struct Distinct {
    /// A segment's column with a list of values for each group, and the result's with their number.
    pub columns: Vec<(usize, usize)>,
    /// The same aggregate with these columns, in which there is nothing of use.
    pub rest: Arc<dyn Aggregate>,
    pub interner: NewInterner,
}

/// Garbage that is always allowed.
const GARBAGE: usize = 1024;

/// The distinct counts of one window after another.
pub(super) struct Latest {
    distinct: Distinct,
    /// `None` before the first, and for an aggregate without keys: its one group is number 0.
    groups: Option<Box<dyn Interner>>,
    /// By column; empty before the first window, and after all was forgotten.
    counted: Vec<Counted>,
    /// Numbers of the groups at hand; kept to reuse its memory.
    ids: Vec<usize>,
}

/// One column.
#[derive(Default)]
struct Counted {
    values: Option<Box<dyn Interner>>,
    /// The newest pane of the window with a pair.
    newest: HashMap<u64, i64>,
    /// The pairs that have come with each pane.
    panes: BTreeMap<i64, Vec<u64>>,
    /// How many pairs each group has.
    counts: Vec<i64>,
}

impl Latest {
    pub fn new(distinct: Distinct) -> Self {
        Self {
            distinct,
            groups: None,
            counted: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Forgets everything: the next window starts afresh.
    pub fn clear(&mut self) {
        self.groups = None;
        self.counted.clear();
    }

    /// The result of the window that begins at `start` with its counts, from what the rest of the
    /// aggregate gave for it. `new` are the segments that it takes and the window before did not;
    /// `taken`, asked for after all was forgotten, are all that it takes.
    pub fn fill<'a>(
        &mut self,
        result: &RecordBatch,
        start: i64,
        new: &[&'a HeldSegment],
        taken: impl FnOnce() -> Vec<&'a HeldSegment>,
    ) -> Result<RecordBatch> {
        if self.is_littered(result.num_rows()) {
            self.clear();
        }
        if self.counted.is_empty() {
            let columns = self.distinct.columns.iter();
            self.counted = columns.map(|_| Counted::default()).collect();
            self.enter(&taken())?;
        } else {
            self.leave(start);
            self.enter(new)?;
        }
        self.number_groups(result)?;
        let mut columns = result.columns().to_vec();
        for (counted, (_, column)) in self.counted.iter().zip(&self.distinct.columns) {
            let count = |id: &usize| counted.counts.get(*id).copied().unwrap_or(0);
            let counts = Int64Array::from_iter_values(self.ids.iter().map(count));
            columns[*column] = Arc::new(counts);
        }
        Ok(with_rows(result.schema(), columns, result.num_rows())?)
    }

    /// Whether most of the groups and values that are known by number are in no pane any more.
    fn is_littered(&self, groups: usize) -> bool {
        let count =
            |interner: &Option<Box<dyn Interner>>| interner.as_ref().map_or(0, |i| i.count());
        count(&self.groups) > 2 * groups + GARBAGE
            || (self.counted.iter()).any(|c| count(&c.values) > 2 * c.newest.len() + GARBAGE)
    }

    /// The numbers of a batch's groups, into `ids`.
    fn number_groups(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = &batch.columns()[..self.distinct.rest.keys()];
        if keys.is_empty() {
            self.ids.clear();
            self.ids.resize(batch.num_rows(), 0);
            return Ok(());
        }
        let groups = match &mut self.groups {
            Some(groups) => groups,
            none => none.insert((self.distinct.interner)(keys)?),
        };
        groups.intern(keys, &mut self.ids)
    }

    fn enter(&mut self, segments: &[&HeldSegment]) -> Result<()> {
        for held in segments {
            self.number_groups(&held.batch)?;
            for (counted, (state, _)) in self.counted.iter_mut().zip(&self.distinct.columns) {
                let lists = held.batch.column(*state);
                counted.enter(held.pane, lists, &self.ids, self.distinct.interner)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, start: i64) {
        for counted in &mut self.counted {
            while let Some(first) = counted.panes.first_entry().filter(|e| *e.key() < start) {
                let (pane, pairs) = first.remove_entry();
                for pair in pairs {
                    if let Entry::Occupied(newest) = counted.newest.entry(pair)
                        && *newest.get() == pane
                    {
                        newest.remove();
                        counted.counts[group_of(pair)] -= 1;
                    }
                }
            }
        }
    }

    /// Memory held beside the panes, in bytes.
    pub fn bytes(&self) -> usize {
        let of = |interner: &Option<Box<dyn Interner>>| interner.as_ref().map_or(0, |i| i.bytes());
        let counted = self.counted.iter().map(|c| {
            let pairs: usize = c.panes.values().map(Vec::capacity).sum();
            let counts = c.counts.capacity();
            of(&c.values) + (pairs + counts) * size_of::<u64>() + c.newest.allocation_size()
        });
        of(&self.groups) + counted.sum::<usize>()
    }
}

impl Counted {
    fn enter(
        &mut self,
        pane: i64,
        lists: &ArrayRef,
        groups: &[usize],
        interner: NewInterner,
    ) -> Result<()> {
        let (items, owners) = flatten(lists);
        let (items, mut ids) = ([items], Vec::new());
        let values = match &mut self.values {
            Some(values) => values,
            none => none.insert(interner(&items)?),
        };
        values.intern(&items, &mut ids)?;
        let groups_known = groups.iter().max().map_or(0, |last| last + 1);
        if self.counts.len() < groups_known {
            self.counts.resize(groups_known, 0);
        }
        let pairs = self.panes.entry(pane).or_default();
        pairs.reserve(ids.len());
        for (owner, value) in owners.into_iter().zip(ids) {
            let pair = pair(groups[owner], value);
            pairs.push(pair);
            match self.newest.entry(pair) {
                Entry::Occupied(mut newest) => *newest.get_mut() = pane.max(*newest.get()),
                Entry::Vacant(free) => {
                    free.insert(pane);
                    self.counts[groups[owner]] += 1;
                }
            }
        }
        Ok(())
    }
}

/// The values of some lists one behind the other, and for each of them the number of its list.
pub(crate) fn flatten(lists: &ArrayRef) -> (ArrayRef, Vec<usize>) {
    let lists = lists.as_list::<i32>();
    let lengths = lists.offsets().lengths().enumerate();
    let owners: Vec<usize> = lengths
        .flat_map(|(list, length)| std::iter::repeat_n(list, length))
        .collect();
    let first = lists.offsets()[0] as usize;
    (lists.values().slice(first, owners.len()), owners)
}

/// A group and a value in one word: neither has as many as 2^32, which would take 100 GB.
#[inline]
pub(crate) fn pair(group: usize, value: usize) -> u64 {
    (group as u64) << 32 | value as u64
}

#[inline]
pub(crate) fn group_of(pair: u64) -> usize {
    (pair >> 32) as usize
}
