//! Which files a path stands for.

use super::read_error;
use crate::error::{Error, Result};
use crate::table::TableDef;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders within folders; more is a loop of links.
const DEPTH_MAX: usize = 64;

/// The table's `path` on this machine. A `file:` in front of it is taken off.
pub(crate) fn local_path(def: &TableDef) -> Result<PathBuf> {
    let Some(path) = def.options.get("path").filter(|p| !p.is_empty()) else {
        return Err(
            Error::sql(format!("table '{}' has no option 'path'", def.name))
                .or_at(def.at)
                .with_hint("add 'path' = 'the file or folder'"),
        );
    };
    let local = path
        .strip_prefix("file://")
        .or(path.strip_prefix("file:"))
        .unwrap_or(path);
    if local.contains("://") {
        return Err(def
            .options
            .invalid("path", "only local files are supported yet"));
    }
    Ok(PathBuf::from(local))
}

/// The files of `path`, sorted by path.
pub(super) fn files(path: &Path) -> Result<Vec<Arc<str>>> {
    let metadata = std::fs::metadata(path).map_err(|e| {
        read_error(path, e).with_hint("the option 'path' names the file or the folder to read")
    })?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        walk(path, 0, &mut files)?;
    } else {
        files.push(name(path)?);
    }
    files.sort_unstable();
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<Arc<str>>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(read_error(
            folder,
            "too many folders within folders (a loop of links?)",
        ));
    }
    for entry in std::fs::read_dir(folder).map_err(|e| read_error(folder, e))? {
        let entry = entry.map_err(|e| read_error(folder, e))?;
        if matches!(
            entry.file_name().as_encoded_bytes().first(),
            Some(b'.' | b'_')
        ) {
            continue;
        }
        let path = entry.path();
        // Follows links.
        match std::fs::metadata(&path).map_err(|e| read_error(&path, e))? {
            m if m.is_dir() => walk(&path, depth + 1, files)?,
            _ => files.push(name(&path)?),
        }
    }
    Ok(())
}

fn name(path: &Path) -> Result<Arc<str>> {
    path.to_str()
        .map(Arc::from)
        .ok_or_else(|| read_error(path, "its name is not UTF-8"))
}
