//! Where checkpoints lie: named objects, each written as a whole.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod remote;

pub use remote::{look, open};

/// A flat set of named objects. Names are of letters, digits, `-` and `.`; none begins with a dot.
pub trait Store: Send {
    /// Writes a whole object, or replaces one. When it returns, the object is durable; when it fails,
    /// the name holds what it held before. (The checkpoints stand a store that keeps to the latter
    /// only mostly: checksums tell.)
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// As [`Store::put`], but fails with [`ErrorKind::AlreadyExists`] when the name is there: two
    /// processes never both write an object.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// The object's bytes; [`ErrorKind::NotFound`] when there is none.
    fn get(&self, name: &str) -> io::Result<Vec<u8>>;

    /// The bytes of several objects, in order; a store that answers slowly is asked for all at once.
    fn get_all(&self, names: &[&str]) -> Vec<io::Result<Vec<u8>>> {
        names.iter().map(|name| self.get(name)).collect()
    }

    /// All names, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes an object; no error when there is none.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// For messages, e.g. the folder's path.
    fn describe(&self) -> String;

    /// Whether no other process can write here meanwhile. If one can, the checkpoints see to it
    /// themselves, see [`crate::state::Checkpoints::claim`].
    fn is_exclusive(&self) -> bool;
}

/// A folder of a local disk, for one process at a time.
#[derive(Debug)]
pub struct LocalStore {
    folder: PathBuf,
    /// Locked as long as this lives. The system unlocks it when the process ends, however it ends.
    /// `None`: only looked at.
    lock: Option<File>,
}

const LOCK: &str = "lock";
/// What a crash leaves behind has this prefix and is not listed.
const TEMPORARY: &str = ".windrow-";

impl LocalStore {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or another process holds it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let failed = |e: io::Error| super::failed("use", &folder.display().to_string(), "", &e);
        fs::create_dir_all(folder).map_err(failed)?;
        let options = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .clone();
        let lock = options.open(folder.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => Error::env(format!(
                "the checkpoints in {} are in use by another process",
                folder.display()
            ))
            .with_hint(
                "another windrow runs over this folder: stop it, or give this one a folder of its \
                 own; the lock goes away with its process, also after kill -9",
            ),
            TryLockError::Error(e) => failed(e),
        })?;
        let store = Self {
            folder: folder.to_path_buf(),
            lock: Some(lock),
        };
        store.remove_temporary().map_err(failed)?;
        Ok(store)
    }

    /// Only to be read from: nothing is made or locked, and another process may be at work here.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn look(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let failed =
            |e: io::Error| super::failed("look into", &folder.display().to_string(), "", &e);
        fs::read_dir(folder).map_err(failed)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            lock: None,
        })
    }

    fn remove_temporary(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn write(&self, temporary: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, self.folder.join(name))?;
        // The name is durable when the folder is. (Elsewhere a folder cannot be opened as a file.)
        if cfg!(unix) {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.lock.is_none() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let temporary = self.folder.join(format!("{TEMPORARY}{name}"));
        let written = self.write(&temporary, name, bytes);
        if written.is_err() {
            // A full disk needs the space back; what cannot be removed is removed at the next open.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Nobody else writes here while the lock is held.
        if fs::exists(self.folder.join(name))? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.put(name, bytes)
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Names that are not text are not ours.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK
                && !name.starts_with('.')
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn describe(&self) -> String {
        self.folder.display().to_string()
    }

    fn is_exclusive(&self) -> bool {
        // One that is only looked at is written by nobody here.
        true
    }
}

/// Objects in memory, for tests and the simulator: clones share them, so that what a "crashed"
/// process has written is there for the next, and operations can be made to fail.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    objects: BTreeMap<String, Vec<u8>>,
    operations: u64,
    /// Number of the operation that fails, how, and whether all later ones fail too.
    fault: Option<(u64, Fault, bool)>,
}

/// How an operation of a [`MemoryStore`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Error,
    /// Nothing is done: [`ErrorKind::StorageFull`].
    Full,
    /// A write leaves the first half of the object: a store that is not atomic.
    Torn,
    /// All is done, but the caller is told it failed: an answer that was lost.
    Unsure,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// The `k`-th operation from now (0: the next) fails, those after it work again.
    pub fn fail(&self, k: u64, fault: Fault) {
        let mut memory = self.memory();
        memory.fault = Some((memory.operations + k, fault, false));
    }

    /// The `k`-th operation from now (0: the next) fails, and all after it do nothing and fail,
    /// as if the process were gone, until [`MemoryStore::heal`].
    pub fn crash(&self, k: u64, fault: Fault) {
        let mut memory = self.memory();
        memory.fault = Some((memory.operations + k, fault, true));
    }

    /// No operation fails any more.
    pub fn heal(&self) {
        self.memory().fault = None;
    }

    /// Number of operations so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.memory().operations
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation: how it fails, and whether it does so for good.
    fn operation(&self) -> (MutexGuard<'_, Memory>, Option<Fault>) {
        let mut memory = self.memory();
        let at = memory.operations;
        memory.operations += 1;
        let fault = memory.fault.and_then(|(k, fault, for_good)| {
            if at == k {
                Some(fault)
            } else {
                (for_good && at > k).then_some(Fault::Error)
            }
        });
        (memory, fault)
    }
}

fn store(
    mut memory: MutexGuard<'_, Memory>,
    name: &str,
    bytes: &[u8],
    fault: Option<Fault>,
) -> io::Result<()> {
    let stored = match fault {
        Some(Fault::Error | Fault::Full) => None,
        Some(Fault::Torn) => Some(&bytes[..bytes.len() / 2]),
        Some(Fault::Unsure) | None => Some(bytes),
    };
    if let Some(stored) = stored {
        memory.objects.insert(name.to_string(), stored.to_vec());
    }
    outcome(fault)
}

fn outcome(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::Full) => Err(ErrorKind::StorageFull.into()),
        Some(_) => Err(io::Error::other("made to fail")),
    }
}

impl Store for MemoryStore {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (memory, fault) = self.operation();
        store(memory, name, bytes, fault)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (memory, fault) = self.operation();
        if memory.objects.contains_key(name) {
            outcome(fault)?;
            return Err(ErrorKind::AlreadyExists.into());
        }
        store(memory, name, bytes, fault)
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let (memory, fault) = self.operation();
        outcome(fault)?;
        memory
            .objects
            .get(name)
            .cloned()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let (memory, fault) = self.operation();
        outcome(fault)?;
        Ok(memory.objects.keys().cloned().collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let (mut memory, fault) = self.operation();
        // There is no half of a deletion.
        if matches!(fault, None | Some(Fault::Unsure)) {
            memory.objects.remove(name);
        }
        outcome(fault)
    }

    fn describe(&self) -> String {
        "memory".to_string()
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}
