//! A sink that only counts.

use super::Sink;
use crate::encode::text::counted;
use crate::error::Result;
use arrow::record_batch::RecordBatch;

/// Throws rows away.
#[derive(Debug, Default)]
pub struct BlackholeSink {
    rows: u64,
}

impl BlackholeSink {
    pub fn new() -> BlackholeSink {
        BlackholeSink::default()
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Sink for BlackholeSink {
    fn write(&mut self, _epoch: u64, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn commit(&mut self, _epoch: u64) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        format!("{} into the blackhole", counted(self.rows, "row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array};
    use std::sync::Arc;

    #[test]
    fn counts_rows() {
        let column = Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let mut sink = BlackholeSink::new();
        sink.write(0, &batch).unwrap();
        sink.write(0, &batch).unwrap();
        sink.commit(0).unwrap();
        assert_eq!(sink.rows(), 6);
        assert_eq!(sink.describe(), "6 rows into the blackhole");
    }
}
