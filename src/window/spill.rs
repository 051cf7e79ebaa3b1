//! Segments on disk, for state that does not fit its budget.
//!
//! A segment is split by the hash of its keys into [`PARTS`] before it is written. A window with
//! spilled segments is then merged part by part: each part holds other groups, so memory needs are
//! those of the largest part, and every row is read once.

use super::{HeldSegment, segment_batch, segment_id};
use crate::batches;
use crate::error::Result;
use arrow::array::UInt32Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Parts of a spilled segment.
pub const PARTS: usize = 64;

/// Keys hashed at a time.
const HASH_ROWS: usize = 8192;

/// A segment that lies elsewhere.
pub trait SpilledRows: Send + Sync {
    /// Number of rows of all parts.
    fn rows(&self) -> usize;

    /// The rows of one part.
    fn part(&self, part: usize) -> Result<RecordBatch>;
}

/// A segment that lies elsewhere; equal when it is the same one.
#[derive(Clone)]
pub struct Spilled(pub Arc<dyn SpilledRows>);

struct Projected {
    of: Spilled,
    columns: Vec<usize>,
}

impl SpilledRows for Projected {
    fn rows(&self) -> usize {
        self.of.0.rows()
    }

    fn part(&self, part: usize) -> Result<RecordBatch> {
        some_columns(&self.of.0.part(part)?, &self.columns)
    }
}

fn some_columns(segment: &RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
    let some = columns.iter().map(|i| segment.column(*i).clone());
    segment_batch(some.collect(), segment.num_rows())
}

impl PartialEq for Spilled {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Spilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows on disk", self.0.rows())
    }
}

/// Where segments are spilled to.
pub trait SpillTo: Send {
    /// Takes the [`PARTS`] parts of a segment.
    fn spill(&mut self, parts: &[RecordBatch]) -> Result<Spilled>;
}

impl HeldSegment {
    pub fn rows(&self) -> usize {
        match &self.spilled {
            Some(spilled) => spilled.0.rows(),
            None => self.batch.num_rows(),
        }
    }

    /// All rows, read back if they are spilled.
    pub fn whole(&self) -> Result<RecordBatch> {
        let Some(spilled) = &self.spilled else {
            return Ok(self.batch.clone());
        };
        let parts: Vec<RecordBatch> = (0..PARTS)
            .map(|part| spilled.0.part(part))
            .collect::<Result<_>>()?;
        Ok(concat_batches(&self.batch.schema(), &parts)?)
    }

    /// Leaves some of the columns: another segment from now on.
    pub fn project(&mut self, columns: &[usize]) -> Result<()> {
        self.batch = some_columns(&self.batch, columns)?;
        self.spilled = self.spilled.take().map(|of| {
            let columns = columns.to_vec();
            Spilled(Arc::new(Projected { of, columns }))
        });
        self.id = segment_id();
        Ok(())
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        batches::held([&self.batch])
    }

    /// Moves the rows out of memory. There must be a key to divide them by.
    pub fn spill(&mut self, keys: usize, to: &mut dyn SpillTo) -> Result<()> {
        let parts = split(&self.batch, keys)?;
        self.spilled = Some(to.spill(&parts)?);
        self.batch = RecordBatch::new_empty(self.batch.schema());
        Ok(())
    }
}

/// The rows of a segment by the hash of their first `keys` columns, in [`PARTS`].
pub fn split(segment: &RecordBatch, keys: usize) -> Result<Vec<RecordBatch>> {
    let take = |rows| Ok(take_record_batch(segment, &rows)?);
    divide(segment, keys)?.into_iter().map(take).collect()
}

/// The numbers of the rows of each part.
pub(super) fn divide(segment: &RecordBatch, keys: usize) -> Result<Vec<UInt32Array>> {
    let fields = segment.columns()[..keys].iter();
    let fields = fields.map(|c| SortField::new(c.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut parts: Vec<Vec<u32>> = vec![Vec::new(); PARTS];
    let mut first = 0;
    while first < segment.num_rows() {
        let slice = segment.slice(first, HASH_ROWS.min(segment.num_rows() - first));
        let rows = converter.convert_columns(&slice.columns()[..keys])?;
        for (i, row) in rows.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            hasher.write(row.as_ref());
            parts[hasher.finish() as usize % PARTS].push((first + i) as u32);
        }
        first += slice.num_rows();
    }
    Ok(parts.into_iter().map(UInt32Array::from).collect())
}
