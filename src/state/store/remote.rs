//! Checkpoints in an object store, and which kind of store a place asks for.

use super::{LocalStore, Store};
use crate::error::Result;
use crate::remote::{Keys, Remote, is_url, log_waiting};
use std::io;

/// The store of checkpoints at `place`, a folder's path or a URL, to be written by this process.
/// `wait` is told what is waited for, and says whether to go on.
///
/// # Errors
/// The place cannot be used, or another process holds the folder.
pub fn open(
    place: &str,
    keys: &Keys,
    wait: &mut dyn FnMut(&str) -> bool,
) -> Result<Box<dyn Store>> {
    match is_url(place) {
        true => Ok(Box::new(Remote::open(place, keys, wait)?)),
        false => Ok(Box::new(LocalStore::open(folder(place))?)),
    }
}

/// The same, only to be read from.
///
/// # Errors
/// The place cannot be read, or there is no such folder.
pub fn look(place: &str) -> Result<Box<dyn Store>> {
    match is_url(place) {
        true => {
            let remote = Remote::open(place, &Keys::default(), &mut log_waiting)?;
            Ok(Box::new(remote))
        }
        false => Ok(Box::new(LocalStore::look(folder(place))?)),
    }
}

/// The path of a folder that may be spelled `file:///…`.
fn folder(place: &str) -> &str {
    place.strip_prefix("file://").unwrap_or(place)
}

impl Store for Remote {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        Remote::put(self, name, bytes)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        Remote::create(self, name, bytes)
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        Remote::get(self, name)
    }

    fn get_all(&self, names: &[&str]) -> Vec<io::Result<Vec<u8>>> {
        Remote::get_all(self, names)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Remote::list(self, false)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        Remote::delete_all(self, &[name.to_string()])
    }

    fn describe(&self) -> String {
        self.url().to_string()
    }

    /// An object store knows no locks that go away with their process.
    fn is_exclusive(&self) -> bool {
        false
    }
}
