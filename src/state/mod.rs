//! Checkpoints: what a run must know to go on as if it had never stopped.
//!
//! A checkpoint has a number and holds, at one cut through the job, the position and watermark of
//! every partition and the segments of every open window. Segments are immutable and never
//! written twice: a checkpoint writes those that are new, and a manifest that names all live ones.
//! The manifest comes last and is one atomic write; without it a checkpoint does not exist.
//!
//! What lies in the folder, or below the URL (all of it text but the segments):
//!
//! - `manifest-<number>.json`: one checkpoint; its last line is the CRC-32C of the lines before.
//! - `segments-<number>-<i>.arrow`: an Arrow IPC file of segments that were new in that checkpoint.
//! - `committed-<number>`: the results up to that checkpoint are committed outside.
//! - `seen-<number>`: a number that is used up although nothing else tells of it.
//! - `job`: the folder's id. `lock`: held while a process uses the folder. An object store knows no
//!   locks: there a process claims the number of the next manifest (`claim.rs`).
//!
//! Knows no SQL, no clock and no Kafka; a store does the I/O.

mod checkpoints;
mod claim;
pub mod evolve;
mod load;
pub mod look;
mod manifest;
mod names;
mod segments;
pub mod spill;
pub mod store;
#[cfg(test)]
mod tests;
mod write;

pub use checkpoints::Checkpoints;
pub use names::{is_job, random_id};
pub use store::{Fault, LocalStore, MemoryStore, Store};
pub use write::Written;

use crate::error::Error;
use crate::window::HeldSegment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

/// What a sink wants to find again after a crash; its own affair (see [`crate::sink::Sink`]).
pub type Prepared = serde_json::Value;

/// A job at one cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Grows by one from checkpoint to checkpoint of a folder; the sinks' epoch.
    pub number: u64,
    pub sources: Vec<SourceSnapshot>,
    pub queries: Vec<QuerySnapshot>,
}

/// How far a source was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// The table's name.
    pub name: String,
    pub partitions: Vec<PartitionSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSnapshot {
    pub topic: String,
    /// The id of the Kafka topic that was read, where it is known: one that is created again under
    /// the name has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    pub partition: i32,
    /// The next offset to read.
    pub position: i64,
    /// Largest event time read, microseconds; [`crate::watermark::NONE`] before the first.
    pub max_us: i64,
}

/// What one query holds.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySnapshot {
    pub name: String,
    /// Windows that end at or before it are final; [`crate::watermark::NONE`] before the first.
    pub watermark: i64,
    /// Rows that a LIMIT still lets through.
    pub left: Option<u64>,
    /// Everything was read to its bounded end, and every window shown.
    pub complete: bool,
    /// When groups that nobody adds to were last looked for, milliseconds since 1970.
    pub looked_ms: Option<i64>,
    pub aggregates: Vec<AggregateSnapshot>,
    pub sink: Prepared,
    pub late: Prepared,
}

/// The open windows of one aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateSnapshot {
    pub shape: Shape,
    pub segments: Vec<HeldSegment>,
}

/// What the columns of an aggregate's segments mean: state is taken over only where it agrees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shape {
    /// The windows, e.g. `tumbling 10 s`.
    pub window: String,
    /// What is done to rows before they are aggregated: filters, joins.
    pub input: Vec<String>,
    /// Group keys, expression and type.
    pub keys: Vec<String>,
    /// Aggregate functions with their arguments, in the order of their state columns.
    pub functions: Vec<FunctionShape>,
    /// What names in these texts stand for: the source, the event time, renamed columns, the types of
    /// functions' arguments. Only what old and new both have is compared: checkpoints of earlier builds have
    /// nothing here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionShape {
    pub text: String,
    /// Number of its state columns.
    pub width: usize,
}

/// What can be done when there is no checkpoint to go on from.
const RESTORE_HINT: &str = "bring the folder back from a copy; or start from nothing with another \
                            folder: then rows are read, and results written, again";

/// The error of an operation on an object (with an empty name: on the store).
fn failed(verb: &str, store: &str, name: &str, e: &io::Error) -> Error {
    let object = if name.is_empty() {
        format!("the checkpoints in {store}")
    } else {
        format!("{store}/{name}")
    };
    let refused = Error::env(format!("cannot {verb} {object}: {e}"));
    if let Some(hint) = crate::remote::hint(e) {
        return refused.with_hint(hint);
    }
    let hint = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "the disk is full, or a limit is reached: make room; the checkpoint before this is \
             still good"
        }
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: use another folder",
        ErrorKind::PermissionDenied => {
            "windrow needs to read, write and delete files there: see who owns the folder"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists if name.is_empty() => {
            "that is not a folder"
        }
        _ => return refused,
    };
    refused.with_hint(hint)
}
