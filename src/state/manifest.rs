//! The manifest of a checkpoint: JSON, then a line with its checksum.

use super::{Prepared, Shape, SourceSnapshot};
use serde::{Deserialize, Serialize};

/// The version that is written; what this build reads ends with it.
pub(super) const VERSION: u32 = 1;
const OLDEST_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub version: u32,
    pub job: String,
    pub number: u64,
    /// When it was written, milliseconds since 1970; for people.
    pub written_ms: i64,
    pub sources: Vec<SourceSnapshot>,
    pub queries: Vec<QueryEntry>,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct QueryEntry {
    pub name: String,
    pub watermark: i64,
    pub left: Option<u64>,
    pub complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_ms: Option<i64>,
    pub sink: Prepared,
    pub late: Prepared,
    pub aggregates: Vec<AggregateEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AggregateEntry {
    pub shape: Shape,
    pub segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SegmentEntry {
    /// Index in [`Manifest::files`].
    pub file: usize,
    /// Number of the batch in the file, from 0.
    pub batch: usize,
    pub rows: usize,
    pub pane: i64,
    pub from_end: i64,
    pub fresh: bool,
}

/// A file of segments, some of which may be of no use any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub name: String,
    pub bytes: u64,
    pub crc32c: u32,
    /// Of all batches.
    pub rows: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unreadable {
    /// It holds the place of a checkpoint, see `claim.rs`.
    Claim,
    Damaged(String),
    /// Written by another build; the reason says which versions this one reads.
    Version(String),
}

impl Manifest {
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        seal(&mut bytes);
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            version: u32,
            claimed_by: Option<serde::de::IgnoredAny>,
        }
        let damaged = |e: serde_json::Error| Unreadable::Damaged(e.to_string());
        let body = unseal(bytes)
            .ok_or_else(|| Unreadable::Damaged("its checksum does not match".to_string()))?;
        let Head {
            version,
            claimed_by,
        } = serde_json::from_slice(body).map_err(damaged)?;
        if claimed_by.is_some() {
            return Err(Unreadable::Claim);
        }
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(Unreadable::Version(format!(
                "it has version {version}; this build reads versions {OLDEST_VERSION} to {VERSION}"
            )));
        }
        serde_json::from_slice(body).map_err(damaged)
    }
}

/// Ends a text with a line that holds the checksum of what is before.
pub(super) fn seal(text: &mut Vec<u8>) {
    text.push(b'\n');
    let line = checksum_line(text);
    text.extend_from_slice(line.as_bytes());
}

/// The text that [`seal`] was given, with its line end; `None` when it was changed since.
pub(super) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let length = checksum_line(b"").len();
    let (text, line) = bytes.split_at(bytes.len().checked_sub(length)?);
    (checksum_line(text).as_bytes() == line).then_some(text)
}

fn checksum_line(text: &[u8]) -> String {
    format!("crc32c {:08x}\n", crc32c::crc32c(text))
}
