//! Files in step with checkpoints: each row is visible exactly once, whenever the process dies.
//!
//! An epoch's files are written and finished under their hidden names. `prepare` leaves them
//! durable and lists them for the checkpoint; `publish` renames them when the checkpoint is
//! durable. After a crash `recover` repeats the renames of the checkpoint that the run goes on
//! from and removes whatever else the query has left: its rows will be written again.
//!
//! A file cannot go on behind a checkpoint, because what was visible once must never change. So
//! each checkpoint finishes a file in each folder that got rows: with an interval of 10 s up to
//! 8,640 files a day in an unpartitioned table. `SET 'execution.checkpointing.interval'` is the
//! lever: rows are seen after one interval, in files that hold one interval each.
//! `sink.rolling-policy.file-size` still divides larger ones; `rollover-interval` has no effect.
//!
//! Names are `part-<query>-<job>-<epoch>-<number>.<format>`. `<job>` stays the same from run to
//! run and has no hyphen, so a name says whose file it is whatever the queries are called.

use super::writer::{OpenFile, folders_up_to, hidden_name, sync_folder};
use super::{file_error, file_name_part};
use crate::encode::text::counted;
use crate::error::{Error, Result};
use crate::state::{Prepared, is_job};
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

const AGAIN: &str = "when that is mended start again: the run goes on from its last checkpoint";

/// What a sink with checkpoints knows beside its open files.
pub(super) struct TwoPhase {
    root: PathBuf,
    /// `part-<query>-<job>`.
    stem: String,
    epoch: u64,
    /// Visible names of the epoch's finished files, which are hidden yet.
    sealed: Vec<PathBuf>,
}

impl TwoPhase {
    /// For a table in the folder `root`, a query, and its job's id.
    pub(super) fn new(root: &Path, query: &str, job: &str) -> Result<TwoPhase> {
        if !is_job(job) {
            return Err(Error::bug(format!("'{job}' is no id of a job")));
        }
        let mut name = file_name_part(query);
        if name != query {
            // Another query of the job may be spelled alike, and must not lose its files.
            name.push_str(&format!("-{:08x}", crc32c::crc32c(query.as_bytes())));
        }
        Ok(TwoPhase {
            root: root.to_path_buf(),
            stem: format!("part-{name}-{job}"),
            epoch: 0,
            sealed: Vec::new(),
        })
    }

    /// What the names of the epoch's files begin with.
    pub(super) fn epoch_stem(&self) -> String {
        format!("{}-{}", self.stem, self.epoch)
    }

    /// The rows that come are those of `epoch`. `open`: there are open files.
    pub(super) fn enter(&mut self, epoch: u64, open: bool) -> Result<()> {
        if epoch != self.epoch && (open || !self.sealed.is_empty()) {
            let before = self.epoch;
            return Err(Error::bug(format!(
                "files of epoch {before} were not prepared before epoch {epoch}"
            )));
        }
        self.epoch = epoch;
        Ok(())
    }

    /// Finishes a file of the epoch.
    pub(super) fn seal(&mut self, file: OpenFile) -> Result<()> {
        let hidden = file.hidden.clone();
        let sealed = file.seal();
        if sealed.is_err() {
            // Its rows will be written again, and the disk may be full. If it cannot be removed
            // now, `recover` will.
            std::fs::remove_file(&hidden).ok();
        }
        self.sealed.push(sealed?);
        Ok(())
    }

    /// The epoch's files are all finished: makes their folders' entries safe and lists them, by
    /// their visible names relative to the table's folder, which may be mounted elsewhere later.
    pub(super) fn prepare(&mut self) -> Result<Prepared> {
        // Up to the table's folder, since partition folders may be new.
        let folders: BTreeSet<&Path> = self
            .sealed
            .iter()
            .flat_map(|file| folders_up_to(&self.root, file))
            .collect();
        folders.into_iter().try_for_each(sync_folder)?;
        self.sealed.sort_unstable();
        let relative = |file: &PathBuf| {
            let path = file.strip_prefix(&self.root).ok()?.to_str()?;
            Some(Prepared::from(path))
        };
        let listed: Option<Vec<Prepared>> = self.sealed.iter().map(relative).collect();
        let listed = listed.ok_or_else(|| Error::bug("a file outside of its table's folder"))?;
        self.sealed.clear();
        Ok(Prepared::Array(listed))
    }

    /// Gives prepared files their visible names, unless they have them already. How many they are.
    pub(super) fn publish(&self, prepared: &Prepared) -> Result<u64> {
        let files = self.files(prepared)?;
        for visible in &files {
            let hidden = hidden_name(visible);
            match std::fs::rename(&hidden, visible) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(or_again(file_error("rename", &hidden, e)));
                }
                // An earlier attempt has come that far.
                Err(_) if visible.is_file() => {}
                Err(_) => return Err(missing(visible)),
                Ok(()) => {}
            }
        }
        // Also for names of an earlier attempt: it may have died before this.
        let folders: BTreeSet<&Path> = files.iter().filter_map(|f| f.parent()).collect();
        folders
            .into_iter()
            .try_for_each(sync_folder)
            .map_err(or_again)?;
        Ok(files.len() as u64)
    }

    fn files(&self, prepared: &Prepared) -> Result<Vec<PathBuf>> {
        let listed = match prepared {
            Prepared::Null => return Ok(Vec::new()),
            Prepared::Array(listed) => listed.as_slice(),
            other => return Err(not_a_file(other)),
        };
        let file = |value: &Prepared| {
            let path = value.as_str().map(Path::new).filter(|p| {
                let inside = p.components().all(|c| matches!(c, Component::Normal(_)));
                inside && p.file_name().is_some()
            });
            path.map(|p| self.root.join(p))
                .ok_or_else(|| not_a_file(value))
        };
        listed.iter().map(file).collect()
    }

    /// Makes the folder hold what the checkpoint `epoch` says, and nothing of the query's own
    /// beyond it.
    pub(super) fn recover(&self, epoch: u64, prepared: &Prepared) -> Result<()> {
        self.publish(prepared)?;
        let mut shown = 0;
        let mut seen = HashSet::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let real = folder.canonicalize();
            // Links may lead to a folder twice, or in a circle.
            if seen.insert(real.map_err(|e| file_error("read the folder", &folder, e))?) {
                shown += self.clean(epoch, &folder, &mut folders)?;
            }
        }
        if shown > 0 {
            tracing::warn!(
                "removed {} of query results from {}: they came after checkpoint {epoch}, from which the run goes on, and will be written again",
                counted(shown, "file"),
                self.root.display()
            );
        }
        Ok(())
    }

    /// Removes the query's leftovers from one folder and adds the partition folders in it to
    /// `below`; other folders are not the table's. How many visible files were removed.
    fn clean(&self, epoch: u64, folder: &Path, below: &mut Vec<PathBuf>) -> Result<u64> {
        let unreadable = |e| file_error("read the folder", folder, e);
        let mut leftovers = Vec::new();
        let mut shown = 0;
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            // Follows links.
            if name.contains('=') && path.is_dir() {
                below.push(path);
                continue;
            }
            match self.own(name) {
                Some(Own::Hidden) => leftovers.push(path),
                Some(Own::Visible(of)) if of > epoch => {
                    shown += 1;
                    leftovers.push(path);
                }
                Some(Own::Visible(_)) | None => {}
            }
        }
        for path in &leftovers {
            std::fs::remove_file(path)
                .map_err(|e| file_error("remove", path, e))
                .map_err(or_again)?;
        }
        if !leftovers.is_empty() {
            // A file that comes back after a power failure would double its rows.
            sync_folder(folder)?;
        }
        Ok(shown)
    }

    /// Whether a file of that name was written by this query of this job.
    fn own(&self, name: &str) -> Option<Own> {
        let hidden = name
            .strip_prefix('.')
            .and_then(|n| n.strip_suffix(".inprogress"));
        let rest = hidden.unwrap_or(name).strip_prefix(&self.stem)?;
        let (numbers, format) = rest.strip_prefix('-')?.split_once('.')?;
        let (epoch, number) = numbers.split_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !matches!(format, "json" | "csv" | "parquet") || !digits(epoch) || !digits(number) {
            return None;
        }
        match hidden {
            Some(_) => Some(Own::Hidden),
            None => Some(Own::Visible(epoch.parse().ok()?)),
        }
    }

    /// Removes the epoch's finished files: no checkpoint will know them.
    pub(super) fn discard(&mut self) -> Result<()> {
        let removed = self.sealed.drain(..).map(|visible| {
            let hidden = hidden_name(&visible);
            std::fs::remove_file(&hidden).map_err(|e| file_error("remove", &hidden, e))
        });
        removed.fold(Ok(()), Result::and)
    }
}

/// A file of the query itself.
enum Own {
    Hidden,
    /// And its epoch.
    Visible(u64),
}

fn or_again(error: Error) -> Error {
    match error.hint() {
        Some(_) => error,
        None => error.with_hint(AGAIN),
    }
}

fn missing(file: &Path) -> Error {
    Error::env(format!(
        "{} is not there: results that the checkpoint counts as written are missing",
        file.display()
    ))
    .with_hint("put the file back, or start anew with another folder of checkpoints")
}

fn not_a_file(value: &Prepared) -> Error {
    Error::env(format!("the checkpoint names {value} where a file of results should be"))
        .with_hint("did the query write to another kind of table then? start anew with another folder of checkpoints")
}

#[cfg(test)]
mod tests;
