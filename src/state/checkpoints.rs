//! The checkpoints of a folder: what is there, writing the next, removing old ones.

use super::manifest::{
    AggregateEntry, FileEntry, Manifest, QueryEntry, SegmentEntry, Unreadable, VERSION,
};
use super::segments::SegmentFile;
use super::{AggregateSnapshot, Snapshot, Store, failed, names};
use crate::error::{Error, Result};
use crate::window::HeldSegment;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A file takes no further segment from this size on, so that neither writing nor loading needs
/// memory for all of the state again. Bytes.
const FILE_MAX: usize = 64 << 20;
/// A file is given up when fewer than one in so many of its rows are still of use.
const SPARSE: u64 = 4;

/// The checkpoints in one store, for one job. Call [`Checkpoints::load`] before the first
/// [`Checkpoints::write`].
pub struct Checkpoints {
    pub(super) store: Box<dyn Store>,
    retained: usize,
    job: String,
    /// Those with a manifest, oldest first.
    pub(super) numbers: Vec<u64>,
    /// The largest number that anything in the store has had; 0: none.
    pub(super) highest: u64,
    pub(super) confirmed: Option<u64>,
    /// Where segments are, by [`HeldSegment::id`].
    pub(super) places: HashMap<u64, Place>,
    /// The files that `places` names.
    pub(super) files: BTreeMap<Arc<str>, FileEntry>,
    /// The files that a checkpoint's manifest names, as far as manifests were read or written.
    pub(super) named: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Numbers the files that this process writes.
    next_file: u64,
    /// The last manifest failed, and may be there all the same.
    unsure: bool,
}

/// A segment in the store.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub file: Arc<str>,
    /// Number of the batch in the file.
    pub batch: usize,
}

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
    /// Looks at what is there; writes nothing but the job's id into a new folder.
    ///
    /// `retained`: so many of the newest checkpoints are kept, at least 1. `new_job`: id of the job
    /// if the folder is new, 16 hex digits.
    ///
    /// # Errors
    /// The store fails, or its id is damaged and there is no sound manifest to take it from.
    pub fn open(store: Box<dyn Store>, retained: usize, new_job: &str) -> Result<Self> {
        if !names::is_job(new_job) {
            return Err(Error::bug(format!("'{new_job}' is no job id")));
        }
        let mut checkpoints = Self {
            store,
            retained: retained.max(1),
            job: String::new(),
            numbers: Vec::new(),
            highest: 0,
            confirmed: None,
            places: HashMap::new(),
            files: BTreeMap::new(),
            named: BTreeMap::new(),
            next_file: 0,
            unsure: false,
        };
        for name in checkpoints.list()? {
            let Some((kind, number)) = names::parse(&name) else {
                continue;
            };
            checkpoints.highest = checkpoints.highest.max(number);
            match kind {
                names::MANIFEST => checkpoints.numbers.push(number),
                names::COMMITTED => {
                    checkpoints.confirmed = checkpoints.confirmed.max(Some(number));
                }
                _ => {}
            }
        }
        checkpoints.numbers.sort_unstable();
        checkpoints.job = checkpoints.job_or(new_job)?;
        Ok(checkpoints)
    }

    /// The job's id, which is also in every manifest.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Numbers of the checkpoints whose manifest is there, oldest first.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The number that the next checkpoint must have: above every number ever used here. It stays
    /// the same when [`Checkpoints::write`] fails.
    pub fn next_number(&self) -> u64 {
        self.highest + 1
    }

    /// The newest checkpoint that [`Checkpoints::confirm`] was called for.
    pub fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

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
                *live.entry(&place.file).or_default() += held.batch.num_rows() as u64;
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
            if let Some((file, ids)) =
                open.take_if(|(file, _)| file.bytes() >= FILE_MAX || !file.takes(&held.batch))
            {
                self.write_file(number, file, &ids, written)?;
            }
            let (file, ids) = match &mut open {
                Some(open) => open,
                None => {
                    let file = SegmentFile::new(&aggregate.shape, &held.batch)?;
                    open.insert((file, Vec::new()))
                }
            };
            file.push(&held.batch)?;
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
        if self.unsure {
            self.delete(&name)?;
        }
        let created = self.store.create(&name, bytes);
        self.unsure = matches!(&created, Err(e) if e.kind() != ErrorKind::AlreadyExists);
        created.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::env(format!(
                "checkpoint {number} in {} was written by another process",
                self.store.describe()
            ))
            .with_hint("two windrows use the same folder: give each its own"),
            _ => self.failed("write", &name, &e),
        })
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
                rows: held.batch.num_rows(),
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
                complete: query.complete,
                sink: query.sink.clone(),
                late: query.late.clone(),
                aggregates,
            });
        }
        Ok(Manifest {
            version: VERSION,
            job: self.job.clone(),
            number: snapshot.number,
            written_ms: now_ms,
            sources: snapshot.sources.clone(),
            queries,
            files,
        })
    }

    /// Remembers that the results of checkpoint `number` are committed outside (in Kafka).
    ///
    /// # Errors
    /// The store fails.
    pub fn confirm(&mut self, number: u64) -> Result<()> {
        let name = names::committed(number);
        self.store
            .put(&name, b"\n")
            .map_err(|e| self.failed("write", &name, &e))?;
        self.confirmed = self.confirmed.max(Some(number));
        Ok(())
    }

    /// Deletes the checkpoints before the `retained` newest, and what no kept one names. Call it
    /// when the newest is published: then no other can be asked for. What fails is logged, and tried
    /// again the next time.
    pub fn retire(&mut self) {
        if let Err(e) = self.try_retire() {
            tracing::warn!("old checkpoints stay for now: {e}");
        }
    }

    fn try_retire(&mut self) -> Result<()> {
        while self.numbers.len() > self.retained {
            let oldest = self.numbers[0];
            self.delete(&names::manifest(oldest))?;
            self.numbers.remove(0);
            self.named.remove(&oldest);
        }
        let mut kept: HashSet<Arc<str>> = self.files.keys().cloned().collect();
        for number in self.numbers.clone() {
            kept.extend(self.files_of(number)?);
        }
        let newest = self.numbers.last().copied();
        for name in self.list()? {
            let is_old = match names::parse(&name) {
                Some((names::SEGMENTS, _)) => !kept.contains(name.as_str()),
                Some((names::COMMITTED, number)) => Some(number) < self.confirmed,
                Some((names::SEEN, number)) => Some(number) <= newest,
                _ => false,
            };
            if is_old {
                self.delete(&name)?;
            }
        }
        Ok(())
    }

    /// The files that a manifest names; none if it is damaged, for then it is of no use.
    fn files_of(&mut self, number: u64) -> Result<BTreeSet<Arc<str>>> {
        if let Some(files) = self.named.get(&number) {
            return Ok(files.clone());
        }
        let files: BTreeSet<Arc<str>> = match self.read_manifest(number)? {
            Ok(manifest) => manifest.files.into_iter().map(|f| f.name.into()).collect(),
            Err(Unreadable::Damaged(_)) => BTreeSet::new(),
            Err(Unreadable::Version(why)) => return Err(Error::env(why)),
        };
        self.named.insert(number, files.clone());
        Ok(files)
    }

    /// The id in the store, or else `new_job`, which is then stored.
    fn job_or(&self, new_job: &str) -> Result<String> {
        let damaged = match self.get(names::JOB)? {
            Some(bytes) => {
                if let Some(job) = names::read_job(&bytes) {
                    return Ok(job);
                }
                true
            }
            None => false,
        };
        let mut job = new_job.to_string();
        if let Some(newest) = self.numbers.last() {
            let mut sound = None;
            for number in self.numbers.iter().rev() {
                if let Ok(manifest) = self.read_manifest(*number)? {
                    sound = Some(manifest.job);
                    break;
                }
            }
            job = sound.ok_or_else(|| {
                let folder = self.store.describe();
                Error::env(format!(
                    "no checkpoint in {folder} can be read (up to {newest})"
                ))
                .with_hint(super::RESTORE_HINT)
            })?;
        }
        let bytes = names::write_job(&job);
        let stored = if damaged {
            self.store.put(names::JOB, &bytes)
        } else {
            self.store.create(names::JOB, &bytes)
        };
        stored.map_err(|e| self.failed("write", names::JOB, &e))?;
        Ok(job)
    }

    /// An object; `None` when it is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.store.get(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("read", name, &e)),
        }
    }

    fn list(&self) -> Result<Vec<String>> {
        self.store.list().map_err(|e| self.failed("list", "", &e))
    }

    pub(super) fn delete(&self, name: &str) -> Result<()> {
        self.store
            .delete(name)
            .map_err(|e| self.failed("delete", name, &e))
    }

    pub(super) fn failed(&self, verb: &str, name: &str, e: &io::Error) -> Error {
        failed(verb, &self.store.describe(), name, e)
    }
}

fn segments(snapshot: &Snapshot) -> impl Iterator<Item = &HeldSegment> {
    let aggregates = snapshot.queries.iter().flat_map(|q| &q.aggregates);
    aggregates.flat_map(|a| &a.segments)
}
