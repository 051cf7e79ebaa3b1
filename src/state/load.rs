//! Reading a checkpoint back.

use super::checkpoints::{Checkpoints, Place};
use super::manifest::{FileEntry, Manifest, QueryEntry, SegmentEntry, Unreadable};
use super::write::FILE_MAX;
use super::{AggregateSnapshot, Prepared, QuerySnapshot, Snapshot, names, segments};
use crate::batches;
use crate::error::{Error, Result};
use crate::window::spill::{SpillTo, Spilled, split};
use crate::window::{HeldSegment, segment_id};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Why a checkpoint cannot be used.
enum Fault {
    Damaged {
        object: String,
        reason: String,
    },
    /// Nothing that an older checkpoint would help against.
    Error(Error),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Fault::Error(e)
    }
}

/// Why none may be taken instead of a damaged checkpoint.
const DOUBLED: &str = "an older one cannot be used: results up to this one are committed, and \
                       would be committed again";

impl Checkpoints {
    /// State beyond so many bytes is spilled while it is loaded.
    pub fn limit(&mut self, bytes: usize, spill: Box<dyn SpillTo>) {
        self.memory = Some((bytes, spill));
    }

    /// The newest checkpoint in force; `None` in a new folder, and where nothing was ever published.
    ///
    /// `committed` is the one whose results are known to be committed outside, besides
    /// [`Checkpoints::confirmed`]. A newer one is in force by its manifest alone, unless what one of its sinks has
    /// prepared `waits` for such a commit: the process ended before it, so those are passed over.
    ///
    /// A damaged checkpoint is logged as a warning, and the one before it used, unless its
    /// results are known to be committed. Newer ones than the chosen are deleted: they were never published. The
    /// segments have new ids.
    ///
    /// # Errors
    /// The store fails, the checkpoint was written by another version of windrow, or no checkpoint
    /// that may be used is sound: never a silent start from nothing.
    pub fn load_in_force(
        &mut self,
        committed: Option<u64>,
        waits: impl Fn(&Prepared) -> bool,
    ) -> Result<Option<Snapshot>> {
        let known = committed.max(self.confirmed);
        let mut waiting = false;
        for number in self.numbers.iter().rev().copied() {
            let is_known = known.is_some_and(|known| number <= known);
            let in_force = is_known || !self.is_waiting(number, &waits)?;
            if in_force {
                return self.load_within(known, Some(number.max(known.unwrap_or(0))));
            }
            waiting = true;
        }
        match (known, waiting) {
            (None, true) => self.load_within(None, Some(0)),
            _ => self.load_within(known, known),
        }
    }

    /// Whether some sink's part of a checkpoint waits for a commit outside. A manifest that cannot be read
    /// is for [`Checkpoints::load_within`] to speak of.
    fn is_waiting(&self, number: u64, waits: impl Fn(&Prepared) -> bool) -> Result<bool> {
        Ok(self.read_manifest(number)?.is_ok_and(|manifest| {
            let mut sinks = manifest.queries.iter().flat_map(|q| [&q.sink, &q.late]);
            sinks.any(waits)
        }))
    }

    /// The newest that can be read from `oldest` (of which the results are committed) to `newest`. Number 0 is the
    /// start of the job: `None`, and every checkpoint counts as never published.
    pub(super) fn load_within(
        &mut self,
        oldest: Option<u64>,
        newest: Option<u64>,
    ) -> Result<Option<Snapshot>> {
        // Of an earlier call, whose choice was not taken.
        self.places.clear();
        self.files.clear();
        let folder = self.store.describe();
        if let (Some(0), Some(committed)) = (newest, self.confirmed) {
            return Err(Error::env(format!(
                "the job in {folder} cannot begin again: results up to checkpoint {committed} are \
                 committed, and would be committed again"
            ))
            .with_hint(super::RESTORE_HINT));
        }
        if newest == Some(0) || (self.numbers.is_empty() && oldest.is_none()) {
            self.forget_after(0)?;
            return Ok(None);
        }
        let (oldest, newest) = (oldest.unwrap_or(0), newest.unwrap_or(u64::MAX));
        let usable = self.numbers.iter().rev().copied();
        let usable: Vec<u64> = usable.filter(|n| (oldest..=newest).contains(n)).collect();
        if usable.is_empty() {
            return Err(Error::env(format!(
                "checkpoint {oldest} is not in {folder} (there: {}); {DOUBLED}",
                list(&self.numbers)
            ))
            .with_hint(super::RESTORE_HINT));
        }
        for &number in &usable {
            match self.read(number) {
                Ok(snapshot) => {
                    self.forget_after(number)?;
                    return Ok(Some(snapshot));
                }
                Err(Fault::Error(e)) => return Err(e),
                Err(Fault::Damaged { object, reason }) if number == oldest => {
                    return Err(Error::env(format!(
                        "checkpoint {number} in {folder} is damaged: {object}: {reason}; {DOUBLED}"
                    ))
                    .with_hint(super::RESTORE_HINT));
                }
                Err(Fault::Damaged { object, reason }) => {
                    tracing::warn!("checkpoint {number} in {folder} is damaged: {object}: {reason}")
                }
            }
        }
        Err(Error::env(format!(
            "no checkpoint in {folder} can be read: all are damaged ({})",
            list(&usable)
        ))
        .with_hint(super::RESTORE_HINT))
    }

    /// Deletes what is newer than checkpoint `number`, but not the memory of its numbers.
    fn forget_after(&mut self, number: u64) -> Result<()> {
        if self.highest > number {
            let name = names::seen(self.highest);
            self.store
                .put(&name, b"\n")
                .map_err(|e| self.failed("write", &name, &e))?;
        }
        if let Some(confirmed) = self.confirmed.filter(|n| *n > number) {
            self.delete(&names::committed(confirmed))?;
            self.confirmed = None;
        }
        // Newest first: what is left after a crash is a choice that there was before.
        while let Some(newer) = self.numbers.last().copied().filter(|n| *n > number) {
            self.delete(&names::manifest(newer))?;
            self.numbers.pop();
            self.named.remove(&newer);
        }
        Ok(())
    }

    /// The manifest of a checkpoint, or what is wrong with it.
    pub(super) fn read_manifest(&self, number: u64) -> Result<Result<Manifest, Unreadable>> {
        let Some(bytes) = self.get(&names::manifest(number))? else {
            return Ok(Err(Unreadable::Damaged("it is missing".to_string())));
        };
        Ok(Manifest::decode(&bytes).and_then(|manifest| {
            if manifest.number == number {
                Ok(manifest)
            } else {
                let other = format!("it is the manifest of checkpoint {}", manifest.number);
                Err(Unreadable::Damaged(other))
            }
        }))
    }

    /// The manifest of a checkpoint of this job.
    fn sound_manifest(&self, number: u64) -> Result<Manifest, Fault> {
        let object = names::manifest(number);
        match self.read_manifest(number)? {
            Ok(manifest) if manifest.job == self.job() => Ok(manifest),
            Ok(manifest) => Err(Fault::Damaged {
                object,
                reason: format!("it is of another job, {}", manifest.job),
            }),
            Err(Unreadable::Damaged(reason)) => Err(Fault::Damaged { object, reason }),
            Err(Unreadable::Claim) => Err(Fault::Damaged {
                object,
                reason: "a process has taken its place and written none".to_string(),
            }),
            Err(Unreadable::Version(reason)) => {
                let folder = self.store.describe();
                let error = Error::env(format!("cannot use {folder}/{object}: {reason}"));
                let hint = "run the version of windrow that wrote it";
                Err(Fault::Error(error.with_hint(hint)))
            }
        }
    }

    /// The checkpoint of this number, whatever is in force; nothing is deleted.
    pub(super) fn peek(&mut self, number: u64) -> Result<Snapshot> {
        self.read(number).map_err(|fault| match fault {
            Fault::Error(e) => e,
            Fault::Damaged { object, reason } => Error::env(format!(
                "checkpoint {number} is damaged: {object}: {reason}"
            )),
        })
    }

    /// The batches of a file, those beyond the limit spilled; `held` counts the bytes in memory.
    fn within_memory(
        &mut self,
        batches: BTreeMap<usize, RecordBatch>,
        wanted: &[Wanted],
        held: &mut usize,
    ) -> Result<BTreeMap<usize, Rows>> {
        let mut rows = BTreeMap::new();
        for wanted in wanted {
            let Some(batch) = batches.get(&wanted.batch).cloned() else {
                continue;
            };
            let bytes = batches::held([&batch]);
            let spilled = match &mut self.memory {
                Some((limit, to)) if *held + bytes > *limit && wanted.keys > 0 => {
                    Some(to.spill(&split(&batch, wanted.keys)?)?)
                }
                _ => None,
            };
            let batch = match spilled {
                Some(_) => RecordBatch::new_empty(batch.schema()),
                None => {
                    *held += bytes;
                    batch
                }
            };
            rows.insert(wanted.batch, Rows { batch, spilled });
        }
        Ok(rows)
    }

    fn read(&mut self, number: u64) -> Result<Snapshot, Fault> {
        let manifest = self.sound_manifest(number)?;
        let wanted = wanted(&manifest).ok_or_else(|| Fault::Damaged {
            object: names::manifest(number),
            reason: "it has a segment in a file that it does not name".to_string(),
        })?;
        let mut rows: Vec<BTreeMap<usize, Rows>> = Vec::with_capacity(manifest.files.len());
        let mut bytes_held = 0;
        for files in at_once(&manifest.files) {
            let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
            for (file, bytes) in files.iter().zip(self.store.get_all(&names)) {
                let bytes = self.object(&file.name, bytes)?;
                let wanted = &wanted[rows.len()];
                let read = read_file(file, bytes, wanted).map_err(|reason| Fault::Damaged {
                    object: file.name.clone(),
                    reason,
                })?;
                rows.push(self.within_memory(read, wanted, &mut bytes_held)?);
            }
        }

        let names = manifest.files.iter().map(|f| f.name.as_str().into());
        let names: Vec<Arc<str>> = names.collect();
        let mut places = HashMap::new();
        let mut held = |entry: SegmentEntry| {
            let rows = rows[entry.file].get(&entry.batch);
            let rows = rows.filter(|rows| rows.count() == entry.rows);
            let rows = rows.ok_or_else(|| Fault::Damaged {
                object: names[entry.file].to_string(),
                reason: format!("batch {} has other rows", entry.batch),
            })?;
            let id = segment_id();
            let place = Place {
                file: names[entry.file].clone(),
                batch: entry.batch,
            };
            places.insert(id, place);
            Ok(HeldSegment {
                id,
                pane: entry.pane,
                from_end: entry.from_end,
                fresh: entry.fresh,
                batch: rows.batch.clone(),
                spilled: rows.spilled.clone(),
            })
        };
        let queries = manifest.queries.into_iter();
        let queries: Vec<QuerySnapshot> = queries
            .map(|query| query_snapshot(query, &mut held))
            .collect::<Result<_, Fault>>()?;
        self.places = places;
        self.files = names.iter().cloned().zip(manifest.files).collect();
        self.named.insert(number, names.into_iter().collect());
        Ok(Snapshot {
            number,
            sources: manifest.sources,
            queries,
        })
    }
}

/// A segment's rows.
struct Rows {
    batch: RecordBatch,
    /// They are here, and `batch` is empty.
    spilled: Option<Spilled>,
}

impl Rows {
    fn count(&self) -> usize {
        let spilled = self.spilled.as_ref().map(|s| s.0.rows());
        spilled.unwrap_or_else(|| self.batch.num_rows())
    }
}

/// The wanted batches of a file by their number, or what is wrong with it.
fn read_file(
    file: &FileEntry,
    bytes: Option<Vec<u8>>,
    wanted: &[Wanted],
) -> Result<BTreeMap<usize, RecordBatch>, String> {
    let bytes = bytes.ok_or("it is missing")?;
    let length = bytes.len() as u64;
    if length != file.bytes {
        let expected = file.bytes;
        return Err(format!("it has {length} bytes instead of {expected}"));
    }
    if crc32c::crc32c(&bytes) != file.crc32c {
        return Err("its checksum does not match".to_string());
    }
    let numbers: Vec<usize> = wanted.iter().map(|w| w.batch).collect();
    let batches = segments::decode(bytes, &numbers).map_err(|e| e.to_string())?;
    Ok(numbers.into_iter().zip(batches).collect())
}

/// Runs of files that are read together: no larger than the largest file may be, so that reading
/// needs no more memory than writing.
fn at_once(files: &[FileEntry]) -> Vec<&[FileEntry]> {
    let mut runs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, file) in files.iter().enumerate() {
        if i > start && bytes + file.bytes > FILE_MAX as u64 {
            runs.push(&files[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += file.bytes;
    }
    runs.push(&files[start..]);
    runs
}

fn query_snapshot(
    query: QueryEntry,
    mut held: impl FnMut(SegmentEntry) -> Result<HeldSegment, Fault>,
) -> Result<QuerySnapshot, Fault> {
    let mut aggregates = Vec::with_capacity(query.aggregates.len());
    for aggregate in query.aggregates {
        let segments = aggregate.segments.into_iter().map(&mut held);
        aggregates.push(AggregateSnapshot {
            shape: aggregate.shape,
            segments: segments.collect::<Result<_, _>>()?,
        });
    }
    Ok(QuerySnapshot {
        name: query.name,
        watermark: query.watermark,
        left: query.left,
        complete: query.complete,
        looked_ms: query.looked_ms,
        aggregates,
        sink: query.sink,
        late: query.late,
    })
}

/// A batch that the checkpoint needs.
#[derive(Clone)]
struct Wanted {
    batch: usize,
    /// Its key columns.
    keys: usize,
}

/// What is needed of each file; `None` when a segment is in a file that there is not.
fn wanted(manifest: &Manifest) -> Option<Vec<Vec<Wanted>>> {
    let mut wanted = vec![Vec::new(); manifest.files.len()];
    for aggregate in manifest.queries.iter().flat_map(|q| &q.aggregates) {
        for entry in &aggregate.segments {
            wanted.get_mut(entry.file)?.push(Wanted {
                batch: entry.batch,
                keys: aggregate.shape.keys.len(),
            });
        }
    }
    Some(wanted)
}

fn list(numbers: &[u64]) -> String {
    match numbers {
        [] => "none".to_string(),
        _ => {
            let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
            texts.join(", ")
        }
    }
}
