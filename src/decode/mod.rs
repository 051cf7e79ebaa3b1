//! Bytes to columns: one record is exactly one row or one bad record, whatever stands beside it.

pub mod csv;
pub mod json;
pub mod raw;
pub mod timestamp;

use crate::error::Result;
use crate::source::Blobs;
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

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
    /// For each row the index of its record; `None` when every record is a row.
    pub records: Option<Vec<u32>>,
    pub bad: Vec<Bad>,
}

/// Turns payloads into the columns of a schema fixed at construction. Knows no I/O.
pub trait Decode: Send {
    /// Decodes records `range` of `payload`. A NULL payload (a tombstone) is neither a row nor
    /// bad: it is left out. Never fails because of the data.
    fn decode(&mut self, payload: &Blobs, range: std::ops::Range<usize>) -> Result<Decoded>;

    /// The fields that are delivered, in order.
    fn schema(&self) -> &SchemaRef;
}
