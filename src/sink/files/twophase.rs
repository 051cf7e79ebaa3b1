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

use super::file_name_part;
use super::folder::{Folder, HIDDEN, hidden_name};
use super::writer::OpenFile;
use crate::encode::text::counted;
use crate::error::{Error, Result};
use crate::state::{Prepared, is_job};
use std::fs::File;
use std::path::{Component, Path};
use std::sync::Arc;

const AGAIN: &str = "when that is mended start again: the run goes on from its last checkpoint";

/// What a sink with checkpoints knows beside its open files.
pub(super) struct TwoPhase {
    folder: Arc<Folder>,
    /// `part-<query>-<job>`.
    stem: String,
    epoch: u64,
    /// Visible names of the epoch's finished files, which are hidden yet.
    sealed: Vec<String>,
    /// Those of them that are not where they belong yet.
    waiting: Vec<(String, File)>,
}

impl TwoPhase {
    /// For a table's folder, a query, and its job's id.
    pub(super) fn new(folder: Arc<Folder>, query: &str, job: &str) -> Result<TwoPhase> {
        if !is_job(job) {
            return Err(Error::bug(format!("'{job}' is no id of a job")));
        }
        let mut name = file_name_part(query);
        if name != query {
            // Another query of the job may be spelled alike, and must not lose its files.
            name.push_str(&format!("-{:08x}", crc32c::crc32c(query.as_bytes())));
        }
        Ok(TwoPhase {
            folder,
            stem: format!("part-{name}-{job}"),
            epoch: 0,
            sealed: Vec::new(),
            waiting: Vec::new(),
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
        let name = file.name.clone();
        let sealed = file.seal();
        if sealed.is_err() {
            // Its rows will be written again, and the disk may be full. If it cannot be removed
            // now, `recover` will.
            self.folder.discard(&name).ok();
        }
        self.waiting.push(sealed?);
        self.sealed.push(name);
        self.folder.hide(&mut self.waiting, false)
    }

    /// The epoch's files are all finished: makes them safe and lists them, by their visible names
    /// relative to the table's folder, which may be mounted elsewhere later.
    pub(super) fn prepare(&mut self) -> Result<Prepared> {
        self.folder.hide(&mut self.waiting, true)?;
        self.folder.keep(&self.sealed)?;
        self.sealed.sort_unstable();
        let listed = self.sealed.drain(..).map(Prepared::from);
        Ok(Prepared::Array(listed.collect()))
    }

    /// Gives prepared files their visible names, unless they have them already. How many they are.
    pub(super) fn publish(&self, prepared: &Prepared) -> Result<u64> {
        let files = files(prepared)?;
        self.folder.show_all(&files).map_err(or_again)?;
        Ok(files.len() as u64)
    }

    /// Makes the folder hold what the checkpoint `epoch` says, and nothing of the query's own
    /// beyond it.
    pub(super) fn recover(&self, epoch: u64, prepared: &Prepared) -> Result<()> {
        self.publish(prepared)?;
        let is_leftover = |name: &str| match self.own(name) {
            Some(Own::Hidden) => true,
            Some(Own::Visible(of)) => of > epoch,
            None => false,
        };
        let leftovers = self.folder.list(&is_leftover)?;
        self.folder.remove_all(&leftovers).map_err(or_again)?;
        let is_shown = |name: &&String| !name.ends_with(HIDDEN);
        let shown = leftovers.iter().filter(is_shown).count() as u64;
        if shown > 0 {
            tracing::warn!(
                "removed {} of query results from {}: they came after checkpoint {epoch}, from which the run goes on, and will be written again",
                counted(shown, "file"),
                self.folder.describe()
            );
        }
        Ok(())
    }

    /// Whether a file of that name was written by this query of this job.
    fn own(&self, name: &str) -> Option<Own> {
        let hidden = name.strip_prefix('.').and_then(|n| n.strip_suffix(HIDDEN));
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
        for (name, _) in self.waiting.drain(..) {
            // Not uploaded, so there is nothing to remove.
            self.sealed.retain(|sealed| *sealed != name);
        }
        let hidden: Vec<String> = self.sealed.drain(..).map(|n| hidden_name(&n)).collect();
        self.folder.remove_all(&hidden)
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

/// The names that [`TwoPhase::prepare`] has listed.
fn files(prepared: &Prepared) -> Result<Vec<String>> {
    let listed = match prepared {
        Prepared::Null => return Ok(Vec::new()),
        Prepared::Array(listed) => listed.as_slice(),
        other => return Err(not_a_file(other)),
    };
    let file = |value: &Prepared| {
        let name = value.as_str().filter(|name| {
            let path = Path::new(name);
            let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
            inside && path.file_name().is_some()
        });
        name.map(str::to_string).ok_or_else(|| not_a_file(value))
    };
    listed.iter().map(file).collect()
}

fn not_a_file(value: &Prepared) -> Error {
    Error::env(format!("the checkpoint names {value} where a file of results should be"))
        .with_hint("did the query write to another kind of table then? start anew with another folder of checkpoints")
}

#[cfg(test)]
mod tests;
