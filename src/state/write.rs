//! Writing a checkpoint: new segments, then the manifest.

use super::checkpoints::{Checkpoints, Place};
use super::manifest::{AggregateEntry, FileEntry, Manifest, QueryEntry, SegmentEntry, VERSION};
use super::segments::SegmentFile;
use super::{AggregateSnapshot, Snapshot, names};
use crate::error::{Error, Result};
use crate::window::HeldSegment;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;

/// A file takes no further segment from this size on, so that neither writing nor loading needs
/// memory for all of the state again. Bytes.
pub(super) const FILE_MAX: usize = 64 << 20;
/// A file is given up when fewer than one in so many of its rows are still of use.
const SPARSE: u64 = 4;

/// What a checkpoint cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Of all objects that were written, the manifest too.
    pub bytes: u64,
    /// Segments that were written.
    pub segments_new: usize,
    /// Segments that lie in files of earlier checkpoints.
    pub segments_kept: usize,
    /// Files of segments that were written.
    pub files: usize,
}

impl Checkpoints {
    /// Writes the segments that no file holds yet, then the manifest: with it the checkpoint is
    /// durable. `now_ms`: milliseconds since 1970.
    ///
    /// # Errors
    /// The store fails. The checkpoint before stays as it is, and this one can be tried again, with
    /// the same number: what had been written by then is not written twice.
    pub fn write(&mut self, snapshot: &Snapshot, now_ms: i64) -> Result<Written> {
        let number = self.next_number();
        if snapshot.number != number {
            let given = snapshot.number;
            return Err(Error::bug(format!(
                "checkpoint {given} instead of {number}"
            )));
        }
        let mut written = Written::default();
        let sparse = self.sparse(snapshot);
        for aggregate in snapshot.queries.iter().flat_map(|q| &q.aggregates) {
            self.write_segments(number, aggregate, &sparse, &mut written)?;
        }
        let manifest = self.manifest(snapshot, now_ms)?;
        let bytes = manifest
            .encode()
            .map_err(|e| Error::bug(format!("cannot encode a manifest: {e}")))?;
        self.write_manifest(number, &bytes)?;
        written.bytes += bytes.len() as u64;

        self.highest = number;
        self.numbers.push(number);
        // What is not in this checkpoint will not come again.
        let live: HashSet<u64> = segments(snapshot).map(|held| held.id).collect();
        self.places.retain(|id, _| live.contains(id));
        let named: BTreeSet<Arc<str>> = self.places.values().map(|p| p.file.clone()).collect();
        self.files.retain(|name, _| named.contains(name));
        self.named.insert(number, named);
        Ok(written)
    }

    /// The files with so few rows of use that what is left of them is better written again.
    fn sparse(&self, snapshot: &Snapshot) -> HashSet<Arc<str>> {
        let mut live: HashMap<&str, u64> = HashMap::new();
        for held in segments(snapshot) {
            if let Some(place) = self.places.get(&held.id) {
                *live.entry(&place.file).or_default() += held.rows() as u64;
            }
        }
        let is_sparse = |(name, file): &(&Arc<str>, &FileEntry)| {
            live.get(&***name)
                .is_some_and(|rows| rows * SPARSE < file.rows)
        };
        let sparse = self.files.iter().filter(is_sparse);
        sparse.map(|(name, _)| name.clone()).collect()
    }

    fn write_segments(
        &mut self,
        number: u64,
        aggregate: &AggregateSnapshot,
        sparse: &HashSet<Arc<str>>,
        written: &mut Written,
    ) -> Result<()> {
        let mut open: Option<(SegmentFile, Vec<u64>)> = None;
        for held in &aggregate.segments {
            if let Some(place) = self.places.get(&held.id)
                && !sparse.contains(&place.file)
            {
                written.segments_kept += 1;
                continue;
            }
            let batch = held.whole()?;
            if let Some((file, ids)) =
                open.take_if(|(file, _)| file.bytes() >= FILE_MAX || !file.takes(&batch))
            {
                self.write_file(number, file, &ids, written)?;
            }
            let (file, ids) = match &mut open {
                Some(open) => open,
                None => {
                    let file = SegmentFile::new(&aggregate.shape, &batch)?;
                    open.insert((file, Vec::new()))
                }
            };
            file.push(&batch)?;
            ids.push(held.id);
        }
        match open {
            Some((file, ids)) => self.write_file(number, file, &ids, written),
            None => Ok(()),
        }
    }

    /// `ids`: of the file's segments, in order.
    fn write_file(
        &mut self,
        number: u64,
        file: SegmentFile,
        ids: &[u64],
        written: &mut Written,
    ) -> Result<()> {
        // A name is never used twice, whatever became of the attempt before.
        let name: Arc<str> = names::segments(number, self.next_file).into();
        self.next_file += 1;
        let rows = file.rows();
        let bytes = file.finish()?;
        self.store
            .put(&name, &bytes)
            .map_err(|e| self.failed("write", &name, &e))?;
        let entry = FileEntry {
            name: name.to_string(),
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
            rows,
        };
        written.bytes += entry.bytes;
        written.files += 1;
        written.segments_new += ids.len();
        self.files.insert(name.clone(), entry);
        for (batch, id) in ids.iter().enumerate() {
            let file = name.clone();
            self.places.insert(*id, Place { file, batch });
        }
        Ok(())
    }

    fn write_manifest(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        let name = names::manifest(number);
        // Where others can write, what is there may be theirs.
        if self.unsure && self.store.is_exclusive() {
            self.delete(&name)?;
        }
        let created = self.store.create(&name, bytes);
        self.unsure = matches!(&created, Err(e) if e.kind() != ErrorKind::AlreadyExists);
        created.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists if !self.store.is_exclusive() => self.taken_over(),
            ErrorKind::AlreadyExists => Error::env(format!(
                "checkpoint {number} in {} was written by another process",
                self.store.describe()
            ))
            .with_hint("two windrows use the same folder: give each its own"),
            _ => self.failed("write", &name, &e),
        })?;
        self.check_newest(number)
    }

    fn manifest(&self, snapshot: &Snapshot, now_ms: i64) -> Result<Manifest> {
        let mut files: Vec<FileEntry> = Vec::new();
        let mut indices: HashMap<Arc<str>, usize> = HashMap::new();
        let mut entry = |held: &HeldSegment| {
            let lost = || Error::bug("a segment of a checkpoint is in no file");
            let place = self.places.get(&held.id).ok_or_else(lost)?;
            let file = match indices.get(&place.file) {
                Some(index) => *index,
                None => {
                    files.push(self.files.get(&place.file).ok_or_else(lost)?.clone());
                    indices.insert(place.file.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            Ok(SegmentEntry {
                file,
                batch: place.batch,
                rows: held.rows(),
                pane: held.pane,
                from_end: held.from_end,
                fresh: held.fresh,
            })
        };
        let mut queries = Vec::with_capacity(snapshot.queries.len());
        for query in &snapshot.queries {
            let mut aggregates = Vec::with_capacity(query.aggregates.len());
            for aggregate in &query.aggregates {
                let segments = aggregate.segments.iter().map(&mut entry);
                aggregates.push(AggregateEntry {
                    shape: aggregate.shape.clone(),
                    segments: segments.collect::<Result<_>>()?,
                });
            }
            queries.push(QueryEntry {
                name: query.name.clone(),
                watermark: query.watermark,
                left: query.left,
                looked_ms: query.looked_ms,
                complete: query.complete,
                sink: query.sink.clone(),
                late: query.late.clone(),
                aggregates,
            });
        }
        Ok(Manifest {
            version: VERSION,
            job: self.job().to_string(),
            number: snapshot.number,
            written_ms: now_ms,
            sources: snapshot.sources.clone(),
            queries,
            files,
        })
    }
}

fn segments(snapshot: &Snapshot) -> impl Iterator<Item = &HeldSegment> {
    let aggregates = snapshot.queries.iter().flat_map(|q| &q.aggregates);
    aggregates.flat_map(|a| &a.segments)
}
