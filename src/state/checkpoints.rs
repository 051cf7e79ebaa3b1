//! The checkpoints of a folder: what is there, and removing what is old.

use super::manifest::{FileEntry, Unreadable};
use super::{Store, failed, names};
use crate::error::{Error, Result};
use crate::window::spill::SpillTo;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// The checkpoints in one store, for one job. Call [`Checkpoints::load_in_force`] before anything is
/// written or retired.
pub struct Checkpoints {
    pub(super) store: Box<dyn Store>,
    retained: usize,
    job: String,
    /// Those with a manifest, oldest first.
    pub(super) numbers: Vec<u64>,
    /// Manifests that hold a place only, see `claim.rs`; in order.
    pub(super) claims: Vec<u64>,
    /// The largest number that anything in the store has had; 0: none.
    pub(super) highest: u64,
    pub(super) confirmed: Option<u64>,
    /// The newest whose sinks have nothing to repeat.
    published: Option<u64>,
    /// Where segments are, by [`crate::window::HeldSegment::id`].
    pub(super) places: HashMap<u64, Place>,
    /// The files that `places` names.
    pub(super) files: BTreeMap<Arc<str>, FileEntry>,
    /// The files that a checkpoint's manifest names, as far as manifests were read or written.
    pub(super) named: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Numbers the files that this process writes.
    pub(super) next_file: u64,
    /// The last manifest failed, and may be there all the same.
    pub(super) unsure: bool,
    /// Bytes that loaded state may have, and where it goes beyond.
    pub(super) memory: Option<(usize, Box<dyn SpillTo>)>,
}

/// A segment in the store.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub file: Arc<str>,
    /// Number of the batch in the file.
    pub batch: usize,
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
            claims: Vec::new(),
            highest: 0,
            confirmed: None,
            published: None,
            places: HashMap::new(),
            files: BTreeMap::new(),
            named: BTreeMap::new(),
            next_file: 0,
            unsure: false,
            memory: None,
        };
        checkpoints.refresh()?;
        checkpoints.job = checkpoints.job_or(new_job)?;
        Ok(checkpoints)
    }

    /// Looks at what is there now.
    pub(super) fn refresh(&mut self) -> Result<()> {
        self.numbers.clear();
        self.claims.clear();
        for name in self.list()? {
            let Some((kind, number)) = names::parse(&name) else {
                continue;
            };
            self.highest = self.highest.max(number);
            match kind {
                names::MANIFEST => self.numbers.push(number),
                names::COMMITTED => self.confirmed = self.confirmed.max(Some(number)),
                names::PUBLISHED => self.published = self.published.max(Some(number)),
                _ => {}
            }
        }
        self.numbers.sort_unstable();
        self.sort_out_claims()
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
        self.highest.saturating_add(1)
    }

    /// The newest checkpoint that [`Checkpoints::confirm`] was called for.
    pub fn confirmed(&self) -> Option<u64> {
        self.confirmed
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

    /// Whether all that checkpoint `number`'s sinks prepared is known to be visible. Nobody need look for it:
    /// who reads the files may have taken them away.
    pub fn is_published(&self, number: u64) -> bool {
        self.published >= Some(number)
    }

    /// Remembers that. What fails is logged: then the next start repeats what the sinks did.
    pub fn publish(&mut self, number: u64) {
        let name = names::published(number);
        match self.store.put(&name, b"\n") {
            Ok(()) => self.published = self.published.max(Some(number)),
            Err(e) => tracing::warn!("{}", self.failed("write", &name, &e)),
        }
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
        // Behind a newer manifest a claim keeps nobody out that the list would not.
        while let Some(claim) = self
            .claims
            .first()
            .copied()
            .filter(|c| Some(c) < self.numbers.last())
        {
            self.delete(&names::manifest(claim))?;
            self.claims.remove(0);
        }
        let mut kept: HashSet<Arc<str>> = self.files.keys().cloned().collect();
        for number in self.numbers.clone() {
            kept.extend(self.files_of(number)?);
        }
        let newest = self.numbers.last().copied();
        for name in self.list()? {
            let is_old = match names::parse(&name) {
                // Newer ones may be of a process that has taken over.
                Some((names::SEGMENTS, number)) => {
                    number <= self.highest && !kept.contains(name.as_str())
                }
                Some((names::COMMITTED, number)) => Some(number) < self.confirmed,
                Some((names::PUBLISHED, number)) => Some(number) < self.published,
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
            Err(Unreadable::Damaged(_) | Unreadable::Claim) => BTreeSet::new(),
            Err(Unreadable::Version(why)) => return Err(Error::env(why)),
        };
        self.named.insert(number, files.clone());
        Ok(files)
    }

    /// The id in the store, or in the newest sound manifest, or else `new_job`.
    fn job_or(&self, new_job: &str) -> Result<String> {
        let stored = self.get(names::JOB)?;
        if let Some(job) = stored.as_deref().and_then(names::read_job) {
            return Ok(job);
        }
        let mut job = None;
        for number in self.numbers.iter().rev() {
            if let Ok(manifest) = self.read_manifest(*number)? {
                job = Some(manifest.job);
                break;
            }
        }
        if job.is_none() && !self.numbers.is_empty() {
            let folder = self.store.describe();
            let error = Error::env(format!(
                "no checkpoint in {folder} can be read, and its job id is lost"
            ));
            return Err(error.with_hint(super::RESTORE_HINT));
        }
        let job = job.unwrap_or_else(|| new_job.to_string());
        let bytes = names::write_job(&job);
        let written = match stored {
            Some(_) => self.store.put(names::JOB, &bytes),
            None => self.store.create(names::JOB, &bytes),
        };
        match written {
            Ok(()) => Ok(job),
            // Another process began just now.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && !self.store.is_exclusive() => {
                let stored = self.get(names::JOB)?;
                let job = stored.as_deref().and_then(names::read_job);
                job.ok_or_else(|| self.failed("write", names::JOB, &e))
            }
            Err(e) => Err(self.failed("write", names::JOB, &e)),
        }
    }

    /// An object; `None` when it is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.object(name, self.store.get(name))
    }

    pub(super) fn object(&self, name: &str, bytes: io::Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        match bytes {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("read", name, &e)),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<String>> {
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
