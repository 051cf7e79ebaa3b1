//! Bytes to columns: one record is exactly one row or one bad record, whatever stands beside it.

mod column;
pub mod csv;
mod factory;
pub mod json;
mod number;
pub mod raw;
mod strings;
pub mod timestamp;

pub use factory::{decoder, key_columns, key_decoder};

use crate::error::Result;
use crate::source::Blobs;
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use std::ops::Range;

/// A record that is no row: kept, counted and shown, never fatal for its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Index of the record in its chunk.
    pub record: u32,
    /// The column that could not be read, where one is to blame.
    pub field: Option<String>,
    pub reason: String,
}

/// Columns of the records that are rows, and the others.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One array per field of the decoder's schema, all of length `rows`.
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
    /// For each row the index of its record in the chunk, like [`Bad::record`]; `None` when
    /// every record of the range is a row.
    pub records: Option<Vec<u32>>,
    pub bad: Vec<Bad>,
}

/// Turns payloads into the columns of a schema fixed at construction. Knows no I/O.
pub trait Decode: Send {
    /// Decodes records `range` of `payload`. A NULL payload (a tombstone) is neither a row nor
    /// bad: it is left out. Never fails because of the data.
    fn decode(&mut self, payload: &Blobs, range: Range<usize>) -> Result<Decoded>;

    /// The fields that are delivered, in order.
    fn schema(&self) -> &SchemaRef;
}

/// Collects what became of the records of one batch, in order.
struct Outcomes {
    start: usize,
    rows: usize,
    records: Option<Vec<u32>>,
    bad: Vec<Bad>,
}

impl Outcomes {
    fn new(range: &Range<usize>) -> Self {
        Self {
            start: range.start,
            rows: 0,
            records: None,
            bad: Vec::new(),
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    #[inline]
    fn row(&mut self, record: usize) {
        self.rows += 1;
        if let Some(records) = &mut self.records {
            records.push(record as u32);
        }
    }

    /// All `records` are rows.
    fn rows_of(&mut self, records: &[u32]) {
        self.rows += records.len();
        if let Some(list) = &mut self.records {
            list.extend_from_slice(records);
        }
    }

    /// Some record is no row. Rows before it may still follow.
    fn gap(&mut self) {
        // The rows so far are the first records, or `records` would be there already.
        let first = self.start as u32..(self.start + self.rows) as u32;
        self.records.get_or_insert_with(|| first.collect());
    }

    fn bad(&mut self, bad: Bad) {
        self.gap();
        self.bad.push(bad);
    }

    fn finish(self, columns: Vec<ArrayRef>) -> Decoded {
        Decoded {
            columns,
            rows: self.rows,
            records: self.records,
            bad: self.bad,
        }
    }
}

/// The text of a record, `None` for a tombstone.
#[inline]
fn text(payload: &Blobs, record: usize) -> Option<Result<&str, Bad>> {
    let bytes = payload.get(record)?;
    Some(simdutf8::compat::from_utf8(bytes).map_err(|e| Bad {
        record: record as u32,
        field: None,
        reason: format!("invalid UTF-8 at byte {}", e.valid_up_to() + 1),
    }))
}
