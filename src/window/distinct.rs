//! Counts of distinct values in windows that overlap.
//!
//! Merges that windows share (two stacks of them) need a set of values in each, and a set is as large as
//! its rows. So such counts are kept apart from the merges: of each pair of group and value the newest
//! pane that has it. A pane that enters counts the pairs that were not there; one that leaves
//! takes those with it that no newer pane has. A window costs its new pane, its oldest and its
//! groups, and what is held grows with the panes' own values, however many windows share them.

use super::stacks::Panes;
use super::{Aggregate, Assign};
use crate::batches::with_rows;
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
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

/// An aggregate's distinct counts, and what is left of it without them.
pub struct Distinct {
    /// A segment's column with a list of values for each group, and the result's with their number.
    pub columns: Vec<(usize, usize)>,
    /// The same aggregate with these columns, in which there is nothing of use.
    pub rest: Arc<dyn Aggregate>,
    pub interner: fn(&[DataType]) -> Result<Box<dyn Interner>>,
}

/// Garbage that is always allowed.
const GARBAGE: usize = 1024;

/// The distinct counts of one window after another.
pub(super) struct Latest {
    assign: Assign,
    distinct: Distinct,
    /// End of the window shown last; `i64::MIN`: none, all begins afresh.
    end: i64,
    /// `None` for an aggregate without keys: its one group is number 0.
    groups: Option<Box<dyn Interner>>,
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
    /// `None` where windows share nothing, or nothing is counted.
    pub fn new(assign: &Assign, aggregate: &dyn Aggregate) -> Option<Self> {
        let overlaps = match *assign {
            Assign::Global => false,
            Assign::Fixed { size, slide, .. } => size > slide,
            Assign::Cumulating { size, step, .. } => size > step,
        };
        let distinct = aggregate.distinct().filter(|_| overlaps)?;
        let mut latest = Self {
            assign: *assign,
            end: i64::MIN,
            groups: None,
            counted: Vec::new(),
            distinct,
            ids: Vec::new(),
        };
        latest.clear();
        Some(latest)
    }

    /// What the merges are to do.
    pub fn rest(&self) -> Arc<dyn Aggregate> {
        self.distinct.rest.clone()
    }

    /// A segment has come that windows from `from_end` on take.
    pub fn absorbed(&mut self, from_end: i64) {
        if from_end <= self.end {
            self.clear();
        }
    }

    /// Windows up to `watermark` are final; `entering` still names what they took.
    pub fn finalised(&mut self, watermark: i64, entering: &BTreeSet<(i64, i64)>) {
        let unseen = (self.end.saturating_add(1), i64::MIN)..=(watermark, i64::MAX);
        if watermark > self.end && entering.range(unseen).next().is_some() {
            // The last of them were shown another way, and nobody will name those segments again.
            self.clear();
        }
    }

    /// Forgets everything: the next window starts afresh.
    pub fn clear(&mut self) {
        self.end = i64::MIN;
        self.groups = None;
        let columns = self.distinct.columns.iter();
        self.counted = columns.map(|_| Counted::default()).collect();
    }

    /// The result of the window that ends at `end` with its counts, from what the rest of the aggregate
    /// gave for it. `entering` names all segments by `(from_end, pane)`, those aside that were
    /// final at the last call.
    pub fn fill(
        &mut self,
        result: &RecordBatch,
        end: i64,
        panes: &Panes,
        entering: &BTreeSet<(i64, i64)>,
    ) -> Result<RecordBatch> {
        let start = self.assign.start_of(end);
        if end <= self.end || self.is_littered(result.num_rows()) {
            self.clear();
        }
        if self.end == i64::MIN {
            for held in panes.range(start..end).flat_map(|(_, held)| held) {
                if held.from_end <= end {
                    self.enter(held.pane, &held.batch)?;
                }
            }
        } else {
            self.leave(start);
            let new = (self.end + 1, i64::MIN)..=(end, i64::MAX);
            for &(from_end, pane) in entering.range(new).filter(|(_, pane)| *pane >= start) {
                for held in panes.get(&pane).into_iter().flatten() {
                    if held.from_end == from_end {
                        self.enter(pane, &held.batch)?;
                    }
                }
            }
        }
        self.end = end;
        self.number_groups(result)?;
        let mut columns = result.columns().to_vec();
        for (counted, (_, column)) in self.counted.iter().zip(&self.distinct.columns) {
            let count = |id: &usize| counted.counts.get(*id).copied().unwrap_or(0);
            let counts: Int64Array = self.ids.iter().map(count).collect::<Vec<_>>().into();
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
        let types = || {
            keys.iter()
                .map(|k| k.data_type().clone())
                .collect::<Vec<_>>()
        };
        let groups = match &mut self.groups {
            Some(groups) => groups,
            none => none.insert((self.distinct.interner)(&types())?),
        };
        groups.intern(keys, &mut self.ids)
    }

    fn enter(&mut self, pane: i64, segment: &RecordBatch) -> Result<()> {
        self.number_groups(segment)?;
        for (counted, (state, _)) in self.counted.iter_mut().zip(&self.distinct.columns) {
            counted.enter(
                pane,
                segment.column(*state),
                &self.ids,
                self.distinct.interner,
            )?;
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
        interner: fn(&[DataType]) -> Result<Box<dyn Interner>>,
    ) -> Result<()> {
        let (mut owners, mut ids) = (Vec::new(), Vec::new());
        let items = flatten(lists, &mut owners);
        let values = match &mut self.values {
            Some(values) => values,
            none => none.insert(interner(&[items.data_type().clone()])?),
        };
        values.intern(&[items], &mut ids)?;
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

/// The values of some lists one behind the other, and to `owners` for each of them the number of its
/// list.
pub(crate) fn flatten(lists: &ArrayRef, owners: &mut Vec<usize>) -> ArrayRef {
    let lists = lists.as_list::<i32>();
    let offsets = lists.offsets();
    owners.clear();
    for (list, ends) in offsets.windows(2).enumerate() {
        owners.resize(owners.len() + (ends[1] - ends[0]) as usize, list);
    }
    lists.values().slice(offsets[0] as usize, owners.len())
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
