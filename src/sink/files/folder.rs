//! Where a table's files lie: a folder of this machine, or a prefix of an object store.
//!
//! Names are relative to it, with `/` before a partition folder's files, and always those that a
//! file has when it is visible. An object store has no renames: a file is written to the folder
//! for temporary files, without a name there, so that nothing stays behind; it is uploaded as a
//! whole under its hidden name, and copied to the visible one within the store.

use super::file_error;
use super::local;
use crate::error::{Error, Result};
use crate::remote::{Keys, Remote, is_url, log_waiting};
use crate::source::files::local_path;
use crate::state::random_id;
use crate::table::TableDef;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Finished files that wait for their upload, so that several go at once.
const WAITING_MAX: usize = 32;

pub(super) enum Folder {
    Local(PathBuf),
    Remote(Box<Remote>),
}

impl Folder {
    /// The folder of the table's `path`; makes it if need be.
    pub(super) fn open(def: &TableDef, keys: &Keys) -> Result<Folder> {
        match def.options.get("path") {
            Some(url) if is_url(url) => {
                let remote = Remote::open(url, keys, &mut log_waiting)?;
                Ok(Folder::Remote(Box::new(remote)))
            }
            _ => {
                let root = local_path(def)?;
                local::make_root(&root, def)?;
                Ok(Folder::Local(root))
            }
        }
    }

    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Folder::Remote(_))
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Folder::Local(root) => root.display().to_string(),
            Folder::Remote(remote) => remote.url().to_string(),
        }
    }

    /// For messages: the path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Folder::Local(root) => root.join(name),
            Folder::Remote(remote) => PathBuf::from(format!("{}/{name}", remote.url())),
        }
    }

    /// For messages: where the file of that name is while it is written.
    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        match self {
            Folder::Local(root) => root.join(hidden_name(name)),
            Folder::Remote(_) => {
                let scratch = std::env::temp_dir();
                scratch.join(format!("(for {})", self.path(name).display()))
            }
        }
    }

    /// A new, empty file that will have that name.
    pub(super) fn begin(&self, name: &str) -> Result<File> {
        match self {
            Folder::Local(root) => local::begin(root, &root.join(hidden_name(name))),
            Folder::Remote(_) => {
                let scratch = std::env::temp_dir().join(format!("windrow-{}", random_id()));
                nameless(&scratch).map_err(|e| file_error("create", &scratch, e))
            }
        }
    }

    /// The file will get no further rows: brings its bytes to the disk.
    pub(super) fn seal(&self, name: &str, file: &File) -> Result<()> {
        match self {
            Folder::Local(_) => file
                .sync_all()
                .map_err(|e| file_error("sync", &self.unfinished(name), e)),
            // The upload reads what was written; the disk need not have it.
            Folder::Remote(_) => Ok(()),
        }
    }

    /// Brings sealed files to where they lie under their hidden names, and takes them off the list:
    /// all of them, or enough at once to be worth it.
    pub(super) fn hide(&self, files: &mut Vec<(String, File)>, all: bool) -> Result<()> {
        match self {
            Folder::Local(_) => files.clear(),
            Folder::Remote(remote) if all || files.len() >= WAITING_MAX => {
                let hidden: Vec<(String, File)> = (files.drain(..))
                    .map(|(name, file)| (hidden_name(&name), file))
                    .collect();
                (remote.upload_all(&hidden)).map_err(|e| self.failed("upload files to", &e))?;
            }
            Folder::Remote(_) => {}
        }
        Ok(())
    }

    /// Makes the entries of hidden files safe, as their bytes are.
    pub(super) fn keep(&self, names: &[String]) -> Result<()> {
        match self {
            Folder::Local(root) => local::sync_up_to(root, names),
            Folder::Remote(_) => Ok(()),
        }
    }

    /// Makes a sealed file visible that is not hidden yet.
    pub(super) fn finish(&self, name: String, file: File) -> Result<()> {
        match self {
            Folder::Local(root) => {
                let shown = local::show(root, &name);
                shown.map_err(|e| file_error("rename", &self.unfinished(&name), e))?;
                local::sync_up_to(root, &[name])
            }
            Folder::Remote(remote) => {
                let path = self.path(&name);
                let uploaded = remote.upload_all(&[(name, file)]);
                uploaded.map_err(|e| file_error("upload", &path, e))
            }
        }
    }

    /// Makes hidden files visible, as far as they are not.
    pub(super) fn show_all(&self, names: &[String]) -> Result<()> {
        match self {
            Folder::Local(root) => {
                for name in names {
                    match local::show(root, name) {
                        Err(e) if e.kind() != ErrorKind::NotFound => {
                            return Err(file_error("rename", &self.unfinished(name), e));
                        }
                        // An earlier attempt has come that far.
                        Err(_) if root.join(name).is_file() => {}
                        Err(_) => return Err(missing(&root.join(name))),
                        Ok(()) => {}
                    }
                }
                // Also for names of an earlier attempt: it may have died before this.
                local::sync_parents(root, names)
            }
            Folder::Remote(remote) => self.copy_all(remote, names),
        }
    }

    fn copy_all(&self, remote: &Remote, names: &[String]) -> Result<()> {
        let pairs: Vec<(String, String)> = (names.iter())
            .map(|name| (hidden_name(name), name.clone()))
            .collect();
        for (name, copied) in names.iter().zip(remote.copy_all(&pairs)) {
            match copied {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let there = remote.exists(name);
                    if !there.map_err(|e| file_error("look for", &self.path(name), e))? {
                        return Err(missing(&self.path(name)));
                    }
                }
                Err(e) => return Err(file_error("rename", &self.path(&hidden_name(name)), e)),
            }
        }
        // Each has its copy now. What is not removed here, `recover` removes.
        let hidden: Vec<String> = pairs.into_iter().map(|(hidden, _)| hidden).collect();
        (remote.delete_all(&hidden)).map_err(|e| self.failed("remove hidden files from", &e))
    }

    /// All files, hidden ones with their hidden names, in the table's folder and the partition
    /// folders below it (other folders are not the table's), whose own name is `wanted`.
    pub(super) fn list(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        match self {
            Folder::Local(root) => local::list(root, wanted),
            Folder::Remote(remote) => {
                let all = remote.list(true);
                let mut all = all.map_err(|e| self.failed("list the files in", &e))?;
                all.retain(|name| {
                    let (folders, name) = name.rsplit_once('/').unwrap_or(("", name));
                    let of_table =
                        folders.is_empty() || folders.split('/').all(|f| f.contains('='));
                    of_table && wanted(name)
                });
                Ok(all)
            }
        }
    }

    /// Removes files by the names that [`Folder::list`] gives.
    pub(super) fn remove_all(&self, names: &[String]) -> Result<()> {
        match self {
            Folder::Local(root) => local::remove_all(root, names),
            Folder::Remote(remote) => {
                (remote.delete_all(names)).map_err(|e| self.failed("remove files from", &e))
            }
        }
    }

    /// A file that was begun is not wanted any more.
    pub(super) fn discard(&self, name: &str) -> Result<()> {
        match self {
            Folder::Local(root) => local::remove(&root.join(hidden_name(name))),
            // It has no name, and goes away with its handle.
            Folder::Remote(_) => Ok(()),
        }
    }

    fn failed(&self, action: &str, e: &io::Error) -> Error {
        let error = Error::env(format!("cannot {action} {}: {e}", self.describe()));
        match crate::remote::hint(e) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// What a hidden name ends with; it begins with a dot.
pub(super) const HIDDEN: &str = ".inprogress";

/// The name that a file has until it is visible: readers skip it.
pub(super) fn hidden_name(visible: &str) -> String {
    match visible.rsplit_once('/') {
        Some((folders, name)) => format!("{folders}/.{name}{HIDDEN}"),
        None => format!(".{visible}{HIDDEN}"),
    }
}

fn nameless(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn missing(file: &Path) -> Error {
    Error::env(format!(
        "{} is not there: results that the checkpoint counts as written are missing",
        file.display()
    ))
    .with_hint("put the file back, or start anew with another folder of checkpoints")
}
