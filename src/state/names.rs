//! What the objects of a store are called.

use super::manifest::{seal, unseal};
use std::hash::{BuildHasher, Hasher, RandomState};

pub(super) const MANIFEST: &str = "manifest";
pub(super) const SEGMENTS: &str = "segments";
pub(super) const COMMITTED: &str = "committed";
pub(super) const SEEN: &str = "seen";
/// All that the checkpoint's sinks prepared has been made visible.
pub(super) const PUBLISHED: &str = "published";
/// The folder's id.
pub(super) const JOB: &str = "job";

// Twelve digits, so that names sort as their numbers do.

pub(super) fn manifest(number: u64) -> String {
    format!("{MANIFEST}-{number:012}.json")
}

pub(super) fn segments(number: u64, file: u64) -> String {
    format!("{SEGMENTS}-{number:012}-{file}.arrow")
}

pub(super) fn committed(number: u64) -> String {
    format!("{COMMITTED}-{number:012}")
}

pub(super) fn seen(number: u64) -> String {
    format!("{SEEN}-{number:012}")
}

pub(super) fn published(number: u64) -> String {
    format!("{PUBLISHED}-{number:012}")
}

/// Kind and number of a name; `None` for what is not ours.
pub(super) fn parse(name: &str) -> Option<(&'static str, u64)> {
    let (kind, rest) = name.split_once('-')?;
    let (kind, digits) = match kind {
        "manifest" => (MANIFEST, rest.strip_suffix(".json")?),
        "segments" => (SEGMENTS, rest.strip_suffix(".arrow")?.split_once('-')?.0),
        "committed" => (COMMITTED, rest),
        "seen" => (SEEN, rest),
        "published" => (PUBLISHED, rest),
        _ => return None,
    };
    let number = digits.parse().ok()?;
    // `+1` and `1` are numbers too, but nothing that was written here.
    (format!("{number:012}") == digits).then_some((kind, number))
}

/// Sixteen hexadecimal digits that differ from call to call: a job's id, or a run's.
pub fn random_id() -> String {
    // The standard library seeds its hash maps from the operating system's randomness.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Whether a text is a job's id: 16 hex digits.
pub fn is_job(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The content of [`JOB`].
pub(super) fn write_job(id: &str) -> Vec<u8> {
    let mut bytes = id.as_bytes().to_vec();
    seal(&mut bytes);
    bytes
}

/// The id in [`JOB`]; `None` when it is damaged.
pub(super) fn read_job(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(unseal(bytes)?).ok()?;
    let id = text.strip_suffix('\n')?;
    is_job(id).then(|| id.to_string())
}
