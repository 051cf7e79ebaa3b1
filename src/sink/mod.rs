//! The sink contract: `write` any number of times, then `commit(epoch)`.
//!
//! An epoch is what one trigger produced. Epochs grow by one; `commit` returns only when the
//! epoch's rows are safe (delivered, renamed into place, printed). A sink that fails in
//! either call fails the query: nothing is retried behind the engine's back.

pub mod blackhole;
pub mod console;
pub mod files;
pub mod print;

use crate::error::Result;
use arrow::record_batch::RecordBatch;

/// How a result reaches its sink (Spark's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Each row once, when its window is final.
    Append,
    /// The groups that changed since the last trigger.
    Update,
    /// The whole result at each trigger.
    Complete,
}

/// Where result rows go. Owned by the thread that merges one query.
pub trait Sink: Send {
    /// Takes rows of the current epoch. Columns match the sink's declared columns by position
    /// and type.
    fn write(&mut self, epoch: u64, batch: &RecordBatch) -> Result<()>;

    /// Makes all rows written for `epoch` visible and safe, then returns. An epoch without
    /// rows may be committed.
    fn commit(&mut self, epoch: u64) -> Result<()>;

    /// Called once, after the last commit.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// E.g. `3 files in /data/out`, for the closing summary.
    fn describe(&self) -> String;
}
