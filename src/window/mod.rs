//! Open windows: assignment, the worker's table of panes, and the merge of closed windows.
//!
//! Knows no I/O, no clock and no SQL: the accumulators come from outside as [`Aggregate`].
//!
//! **Pane.** Windows of one query overlap when they slide; the smallest span that every window
//! either holds wholly or not at all is a pane (gcd of size and slide). A row is added once, to
//! one pane; a window is the merge of its panes. (Of cumulating windows a pane is a step.) Windows
//! that overlap a lot share merges of many panes (`stacks`), so that a result costs the same however
//! small the slide is.
//!
//! **Segment.** State can be taken out of an accumulator but not copied. So a pane's store is
//! *sealed*: its keys and state columns become one immutable batch, and a fresh store goes on.

pub mod assign;
mod behind;
pub mod distinct;
mod ends;
mod expire;
pub mod keys;
pub mod largest;
pub mod merge;
pub mod sessions;
mod shared;
pub mod spill;
mod stacks;
pub mod table;
#[cfg(test)]
mod tests;

pub use assign::Assign;

use crate::batches::with_rows;
use crate::error::Result;
use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one batch of rows brings to an aggregate, already evaluated, all of length `rows`.
#[derive(Debug, Clone)]
pub struct Input {
    pub rows: usize,
    /// Group keys without the window itself.
    pub keys: Vec<ArrayRef>,
    /// For each aggregate its arguments.
    pub args: Vec<Vec<ArrayRef>>,
    /// For each aggregate its `FILTER (WHERE …)`; NULL is false.
    pub filters: Vec<Option<BooleanArray>>,
}

impl Input {
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Input> {
        let take = |a: &ArrayRef| compute::take(a.as_ref(), indices, None);
        let take_all = |v: &Vec<ArrayRef>| v.iter().map(take).collect::<Result<Vec<_>, _>>();
        let mut filters = Vec::with_capacity(self.filters.len());
        for filter in &self.filters {
            filters.push(match filter {
                Some(f) => Some(
                    arrow::array::AsArray::as_boolean(&compute::take(f, indices, None)?).clone(),
                ),
                None => None,
            });
        }
        Ok(Input {
            rows: indices.len(),
            keys: take_all(&self.keys)?,
            args: self.args.iter().map(take_all).collect::<Result<_, _>>()?,
            filters,
        })
    }
}

/// Groups and their accumulators: the smallest thing that can still produce the result.
pub trait Store: Send {
    /// Adds rows.
    fn update(&mut self, input: &Input) -> Result<()>;

    /// Adds the groups of a segment that [`Store::seal`] made.
    fn merge(&mut self, segment: &RecordBatch) -> Result<()>;

    /// Takes everything out as one segment (keys, then state columns). Leaves the store empty.
    fn seal(&mut self) -> Result<RecordBatch>;

    /// Takes everything out as results (keys, then one column per aggregate). Leaves the store
    /// empty.
    fn evaluate(&mut self) -> Result<RecordBatch>;

    /// The results of one segment alone, in its order. The store is, and stays, empty.
    fn evaluate_one(&mut self, segment: &RecordBatch) -> Result<RecordBatch> {
        self.merge(segment)?;
        self.evaluate()
    }

    /// Number of groups.
    fn groups(&self) -> usize;

    /// Memory held, in bytes.
    fn bytes(&self) -> usize;
}

/// Makes stores of one aggregation.
pub trait Aggregate: Send + Sync {
    fn store(&self) -> Result<Box<dyn Store>>;

    /// Number of group keys.
    fn keys(&self) -> usize;

    /// The same with two more keys behind its own, whole numbers.
    fn placed(&self) -> Arc<dyn Aggregate>;

    /// Its distinct counts, if windows that overlap are better counted apart from the rest.
    fn distinct(&self) -> Option<distinct::Distinct> {
        None
    }

    /// Accumulators for sessions. (Their segments end with the first and the last event time.)
    fn numbered(&self) -> Result<Box<dyn sessions::Numbered>>;

    /// Without keys even an empty input has one result row (`SELECT count(*)` of nothing is 0).
    fn is_keyless(&self) -> bool {
        self.keys() == 0
    }
}

/// A segment that some open window still needs, as the merge holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldSegment {
    /// Names the batch as long as the process runs: the same number, the same rows.
    pub id: u64,
    /// Start of the pane, microseconds.
    pub pane: i64,
    /// Windows that end here or later take it (of sessions, see [`sessions`]).
    pub from_end: i64,
    /// Came since results were last shown (output modes update and complete).
    pub fresh: bool,
    /// Keys, then state columns. Empty when the rows are spilled.
    pub batch: RecordBatch,
    pub spilled: Option<spill::Spilled>,
}

/// A segment's columns, named by their numbers.
pub fn segment_batch(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> = (columns.iter().enumerate())
        .map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true))
        .collect();
    Ok(with_rows(Arc::new(Schema::new(fields)), columns, rows)?)
}

/// A number for a new [`HeldSegment`].
pub fn segment_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// One sealed store on its way from a worker to the merge.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Start of the pane, microseconds.
    pub pane: i64,
    /// Only windows that end here or later take this segment (see [`table`]; of sessions, see
    /// [`sessions`]).
    pub from_end: i64,
    /// Rows that were added, for counting.
    pub rows: u64,
    pub batch: RecordBatch,
}
