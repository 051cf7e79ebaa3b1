//! The sink contract: `write` any number of times, then `commit(epoch)`.
//!
//! An epoch is what one trigger produced. Epochs grow by one; `commit` returns only when the
//! epoch's rows are safe (delivered, renamed into place, printed). A sink that fails in
//! either call fails the query: nothing is retried behind the engine's back.
//!
//! With checkpoints an epoch is what lies between two of them, numbered as the checkpoint that
//! ends it: `write…`, `prepare(epoch)`, the checkpoint becomes durable, `publish(epoch)`. A sink
//! that is opened for exactly-once shows nothing before `publish`; any other keeps to `commit`.

pub mod blackhole;
pub mod console;
pub mod files;
pub mod print;

use crate::error::Result;
use crate::state::Prepared;
use crate::table::TableDef;
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

/// Whether the table asks for exactly-once.
pub fn is_exactly_once(def: &TableDef) -> bool {
    let guarantee = def.options.get("sink.delivery-guarantee");
    guarantee.is_some_and(|g| g.eq_ignore_ascii_case("exactly-once"))
}

/// An error when a table of a run without checkpoints asks for exactly-once.
pub fn refuse_exactly_once(def: &TableDef) -> Result<()> {
    if !is_exactly_once(def) {
        return Ok(());
    }
    Err(def
        .options
        .invalid("sink.delivery-guarantee", "exactly-once needs checkpoints")
        .with_hint("run with --checkpoint DIR, or SET 'state.checkpoints.dir' = 'DIR'"))
}

/// Where result rows go. Owned by the thread that merges one query.
pub trait Sink: Send {
    /// Takes rows of the current epoch. Columns match the sink's declared columns by position
    /// and type.
    fn write(&mut self, epoch: u64, batch: &RecordBatch) -> Result<()>;

    /// Rows that the sink shows are no longer in the result (output mode update, a table with a primary
    /// key). Columns as in `write`, NULL but for the key.
    fn delete(&mut self, _epoch: u64, _batch: &RecordBatch) -> Result<()> {
        Ok(())
    }

    /// Makes all rows written for `epoch` visible and safe, then returns. An epoch without
    /// rows may be committed.
    fn commit(&mut self, epoch: u64) -> Result<()>;

    /// Ends the rows of a checkpoint's epoch: when it returns they are safe. What it returns is
    /// kept in the checkpoint, and handed to `publish`, or to `recover` after a crash.
    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        self.commit(epoch)?;
        Ok(Prepared::Null)
    }

    /// The checkpoint `epoch` is durable: makes its rows visible.
    fn publish(&mut self, _epoch: u64, _prepared: &Prepared) -> Result<()> {
        Ok(())
    }

    /// Called once before the first write of a run that goes on from the checkpoint `epoch` (0
    /// and nothing prepared: from none). Repeats what `publish` may not have finished, and
    /// removes what later epochs have left behind.
    fn recover(&mut self, _epoch: u64, _prepared: &Prepared) -> Result<()> {
        Ok(())
    }

    /// Called once, after the last commit.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// E.g. `3 files in /data/out`, for the closing summary.
    fn describe(&self) -> String;
}
