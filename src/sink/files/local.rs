//! A table's files in a folder of this machine: renames, and entries that survive a power failure.

use super::file_error;
use super::folder::hidden_name;
use crate::error::{Error, Result};
use crate::state::random_id;
use crate::table::TableDef;
use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the table's folder, and its entry as safe as its files will be.
pub(super) fn make_root(root: &Path, def: &TableDef) -> Result<()> {
    let new: Vec<&Path> = root.ancestors().take_while(|f| !f.exists()).collect();
    std::fs::create_dir_all(root).map_err(|e| {
        Error::env(format!("cannot make the folder {}: {e}", root.display())).with_hint(format!(
            "table '{}' writes files into it; its option 'path' must name a folder",
            def.name
        ))
    })?;
    new.iter()
        .filter_map(|f| f.parent())
        .map(|f| {
            if f.as_os_str().is_empty() {
                Path::new(".")
            } else {
                f
            }
        })
        .try_for_each(sync_folder)?;
    // The first row may be an hour away: whether files can be made there is found out now.
    let probe = root.join(format!(".windrow-{}", random_id()));
    File::create_new(&probe)
        .and_then(|_| std::fs::remove_file(&probe))
        .map_err(|e| file_error("write to", root, e))
}

/// A new file in a folder that is made if it is missing; but not the table's own folder, `root`: if
/// that is gone, e.g. with its mount, it is not for rows to be hidden in its place.
pub(super) fn begin(root: &Path, hidden: &Path) -> Result<File> {
    if let Some(folder) = hidden.parent()
        && folder != root
        && root.is_dir()
    {
        std::fs::create_dir_all(folder).map_err(|e| file_error("make the folder", folder, e))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).open(hidden);
    file.map_err(|e| file_error("create", hidden, e))
}

/// Renames a file from its hidden to its visible name.
pub(super) fn show(root: &Path, name: &str) -> io::Result<()> {
    std::fs::rename(root.join(hidden_name(name)), root.join(name))
}

/// Makes the entries of the files' folders safe, up to `root`: partition folders may be new.
pub(super) fn sync_up_to(root: &Path, names: &[String]) -> Result<()> {
    let files: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let folders: BTreeSet<&Path> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1))
        .filter(|folder| folder.starts_with(root))
        .collect();
    folders.into_iter().try_for_each(sync_folder)
}

/// Makes the entries of the files' own folders safe.
pub(super) fn sync_parents(root: &Path, names: &[String]) -> Result<()> {
    let files: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let folders: BTreeSet<&Path> = files.iter().filter_map(|f| f.parent()).collect();
    folders.into_iter().try_for_each(sync_folder)
}

pub(super) fn list(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let folder = root.join(&below);
        let unreadable = |e| file_error("read the folder", &folder, e);
        // Links may lead to a folder twice, or in a circle.
        if !seen.insert(folder.canonicalize().map_err(unreadable)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let relative = match below.as_str() {
                "" => name.to_string(),
                below => format!("{below}/{name}"),
            };
            // Follows links.
            if name.contains('=') && entry.path().is_dir() {
                folders.push(relative);
            } else if wanted(name) {
                found.push(relative);
            }
        }
    }
    Ok(found)
}

pub(super) fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).map_err(|e| file_error("remove", file, e))
}

/// Removes files for good: one that comes back after a power failure would double its rows.
pub(super) fn remove_all(root: &Path, names: &[String]) -> Result<()> {
    // All of them, and the first error.
    let removed = names.iter().map(|name| remove(&root.join(name)));
    removed.fold(Ok(()), Result::and)?;
    sync_parents(root, names)
}

fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.map_err(|e| file_error("sync the folder", folder, e))
}
