//! windrow: exact window results over Kafka, from a SQL file.
//!
//! The path of a row is described in ARCHITECTURE.md; each module opens with its one job.

pub mod batches;
pub mod cli;
pub mod datasets;
pub mod decode;
pub mod encode;
pub mod error;
pub mod kafka;
pub mod options;
pub mod plan;
pub mod remote;
pub mod run;
pub mod sink;
pub mod source;
pub mod state;
pub mod table;
pub mod time;
pub mod watermark;
pub mod window;

pub use error::{Error, Result};
