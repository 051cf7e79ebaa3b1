//! Files in a folder: Parquet, JSON lines or CSV, each visible only when it is finished.
//!
//! A file is written under a name that starts with a dot, which readers of the folder skip, and
//! gets its real name by an atomic rename after it has been flushed to the disk. With checkpoints
//! that happens when the checkpoint is durable, exactly once: see `files/twophase.rs`. Without,
//! a file is finished
//!
//! - when it has reached `sink.rolling-policy.file-size` (128 MB),
//! - at the first commit after `sink.rolling-policy.rollover-interval` (30 min),
//! - at the first after no row has come for `sink.rolling-policy.inactivity-interval`,
//! - when it is the least recently used of too many open ones,
//! - when the query ends, also when it ends with an error.
//!
//! So a commit does not make each epoch visible by itself: a trigger a second would leave 86,400
//! files a day in each folder, the small files that every reader suffers from. The price: when
//! the process is killed, rows of the last interval stay in a hidden file (readable lines for
//! JSON and CSV, no rows for Parquet, whose index comes last). With `'0 s'` as the interval
//! each commit finishes its files, and what has been committed is always safe and visible.
//!
//! In an object store (`'path' = 's3://…'`, see `files/folder.rs`) the same holds, but a file that is not
//! finished is on this machine, without a name, and goes with a process that is killed.
//!
//! Names are `part-<query>-<run>-<number>.<format>`, where `<run>` differs from run to run: no
//! run ever touches a file of another one.

mod folder;
mod local;
mod partition;
mod twophase;
mod writer;

use super::{Sink, refuse_exactly_once};
use crate::encode::text::counted;
use crate::error::{Error, Result};
use crate::remote::{Keys, is_url};
use crate::source::files::local_path;
use crate::state::{Prepared, random_id};
use crate::table::{Column, TableDef};
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use folder::Folder;
use partition::Partitioner;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twophase::TwoPhase;
use writer::{FileFormat, OpenFile};

pub(crate) use partition::partition_value;

/// Files open at the same time, each in its own partition folder.
const OPEN_FILES_MAX: usize = 100;

/// Bytes of rows that wait in memory for their Parquet row group, over all open files.
const BUFFERED_BYTES_MAX: usize = 128 << 20;

/// Rows between two looks at a file's size.
const ROWS_PER_WRITE: usize = 8192;

const FILE_BYTES: u64 = 128 << 20;
/// Object stores copy no larger ones at once; a file may get a little larger than asked for.
const REMOTE_FILE_MAX: u64 = (5 << 30) - (256 << 20);
const ROLLOVER: Duration = Duration::from_secs(30 * 60);

/// Writes one table's rows to files.
pub struct FileSink {
    folder: Arc<Folder>,
    format: FileFormat,
    /// `part-<query>-<run>`.
    stem: String,
    /// With checkpoints; it knows the files' names then.
    two_phase: Option<TwoPhase>,
    partitioner: Option<Partitioner>,
    file_bytes: u64,
    rollover: Duration,
    inactivity: Option<Duration>,
    open_max: usize,
    clock: fn() -> Instant,
    /// By partition folder, relative to the root.
    open: HashMap<String, OpenFile>,
    /// Files begun so far: the next file's number, and the clock of their use.
    begun: u64,
    used: u64,
    finished: u64,
    rows: u64,
}

/// What a table's options say of its files.
struct Layout {
    partitioner: Option<Partitioner>,
    format: FileFormat,
    file_bytes: u64,
    rollover: Duration,
    inactivity: Option<Duration>,
}

impl Layout {
    fn of(def: &TableDef) -> Result<Self> {
        let options = &def.options;
        let columns: Vec<&Column> = def.sink_columns().collect();
        let partitioner = Partitioner::new(def, &columns)?;
        let in_file = |c: &&Column| !def.partitioned_by.contains(&c.name);
        let file_columns: Vec<&Column> = columns.into_iter().filter(in_file).collect();
        let file_bytes = options.size("sink.rolling-policy.file-size")?;
        let rollover = options.duration("sink.rolling-policy.rollover-interval")?;
        Ok(Self {
            partitioner,
            format: FileFormat::new(def, &file_columns)?,
            file_bytes: file_bytes.unwrap_or(FILE_BYTES),
            rollover: rollover.unwrap_or(ROLLOVER),
            inactivity: options.duration("sink.rolling-policy.inactivity-interval")?,
        })
    }
}

impl FileSink {
    /// A sink for the table `def`, fed by the query named `query`. Checks the options and makes
    /// the folder; the first file is made by the first row.
    ///
    /// `checkpoint` is the id of a job with checkpoints, 16 hexadecimal digits that stay the same
    /// from run to run: the sink is exactly-once then, whatever the table asks for, and shows
    /// nothing before `publish`.
    ///
    /// `keys`: for tables in an object store.
    pub fn new(
        def: &TableDef,
        query: &str,
        checkpoint: Option<&str>,
        keys: &Keys,
    ) -> Result<FileSink> {
        let folder = || Folder::open(def, keys);
        // The clock is made here: the age of files is the only time that this sink knows.
        FileSink::in_folder(folder, def, query, checkpoint, Instant::now)
    }

    /// Refuses what [`Self::new`] would refuse of a table's options, without opening anything.
    pub fn check(def: &TableDef) -> Result<()> {
        Layout::of(def)?;
        match def.options.get("path") {
            Some(url) if is_url(url) => Ok(()),
            _ => local_path(def).map(|_| ()),
        }
    }

    fn in_folder(
        folder: impl FnOnce() -> Result<Folder>,
        def: &TableDef,
        query: &str,
        checkpoint: Option<&str>,
        clock: fn() -> Instant,
    ) -> Result<FileSink> {
        if checkpoint.is_none() {
            refuse_exactly_once(def)?;
        }
        let layout = Layout::of(def)?;
        let folder = Arc::new(folder()?);
        if folder.is_remote() && layout.file_bytes > REMOTE_FILE_MAX {
            return Err(def.options.invalid(
                "sink.rolling-policy.file-size",
                "object stores copy files of at most 5 GB",
            ));
        }
        let two_phase = checkpoint.map(|job| TwoPhase::new(folder.clone(), query, job));
        Ok(FileSink {
            folder,
            format: layout.format,
            stem: format!("part-{}-{}", file_name_part(query), random_id()),
            two_phase: two_phase.transpose()?,
            partitioner: layout.partitioner,
            file_bytes: layout.file_bytes,
            rollover: layout.rollover,
            inactivity: layout.inactivity,
            open_max: OPEN_FILES_MAX,
            clock,
            open: HashMap::new(),
            begun: 0,
            used: 0,
            finished: 0,
            rows: 0,
        })
    }

    /// Writes rows of one partition, rolling its file as often as its size asks for.
    fn write_partition(&mut self, folder: &str, batch: &RecordBatch) -> Result<()> {
        let now = (self.clock)();
        let mut start = 0;
        while start < batch.num_rows() {
            self.ensure_open(folder)?;
            let Some(file) = self.open.get_mut(folder) else {
                return Err(Error::bug(format!("no open file in '{folder}'")));
            };
            self.used += 1;
            file.used = self.used;
            file.written = now;
            let length = ROWS_PER_WRITE.min(batch.num_rows() - start);
            let written = file.write(
                &mut self.format,
                &batch.slice(start, length),
                self.file_bytes,
            )?;
            start += written;
            self.rows += written as u64;
            if file.bytes() >= self.file_bytes {
                self.finish(folder)?;
            }
        }
        self.limit_memory()
    }

    fn ensure_open(&mut self, folder: &str) -> Result<()> {
        if self.open.contains_key(folder) {
            return Ok(());
        }
        if self.open.len() >= self.open_max {
            let oldest = self
                .open
                .iter()
                .min_by_key(|(_, file)| file.used)
                .map(|(folder, _)| folder.clone());
            if let Some(oldest) = oldest {
                self.finish(&oldest)?;
            }
        }
        let stem = match &self.two_phase {
            Some(two_phase) => &two_phase.epoch_stem(),
            None => &self.stem,
        };
        let mut name = format!("{stem}-{}.{}", self.begun, self.format.extension());
        if !folder.is_empty() {
            name = format!("{folder}/{name}");
        }
        self.begun += 1;
        let file = OpenFile::create(&self.folder, name, &self.format, (self.clock)())?;
        self.open.insert(folder.to_string(), file);
        Ok(())
    }

    fn finish(&mut self, folder: &str) -> Result<()> {
        match (self.open.remove(folder), &mut self.two_phase) {
            (None, _) => {}
            (Some(file), Some(two_phase)) => two_phase.seal(file)?,
            (Some(file), None) => {
                file.finish()?;
                self.finished += 1;
            }
        }
        Ok(())
    }

    fn finish_all(&mut self) -> Result<()> {
        let folders: Vec<String> = self.open.keys().cloned().collect();
        folders.iter().try_for_each(|folder| self.finish(folder))
    }

    /// With checkpoints: removes what no checkpoint will know.
    fn discard(&mut self) -> Result<()> {
        let open = self.open.drain().map(|(_, file)| file.discard());
        // All of them, and the first error.
        let removed = open.fold(Ok(()), Result::and);
        match &mut self.two_phase {
            Some(two_phase) => two_phase.discard().and(removed),
            None => removed,
        }
    }

    /// Ends the largest row groups until what waits in memory is within its bound.
    fn limit_memory(&mut self) -> Result<()> {
        let mut total: usize = self.open.values().map(OpenFile::buffered).sum();
        while total > BUFFERED_BYTES_MAX {
            let Some(largest) = self.open.values_mut().max_by_key(|file| file.buffered()) else {
                return Ok(());
            };
            total -= largest.buffered();
            largest.end_row_group()?;
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, epoch: u64, batch: &RecordBatch) -> Result<()> {
        if let Some(two_phase) = &mut self.two_phase {
            two_phase.enter(epoch, !self.open.is_empty())?;
        }
        let Some(partitioner) = &mut self.partitioner else {
            return self.write_partition("", batch);
        };
        let groups = partitioner.split(batch)?;
        let in_file = batch.project(partitioner.file_columns())?;
        for (folder, rows) in groups {
            if rows.len() == batch.num_rows() {
                self.write_partition(&folder, &in_file)?;
            } else {
                let part = take_record_batch(&in_file, &UInt32Array::from(rows))?;
                self.write_partition(&folder, &part)?;
            }
        }
        Ok(())
    }

    /// Hands the epoch's rows to the operating system (JSON, CSV), and finishes the files that
    /// are older than the rollover interval, or silent for too long; see the module's text for what that means. With
    /// checkpoints nothing: they come with `prepare`.
    fn commit(&mut self, _epoch: u64) -> Result<()> {
        if self.two_phase.is_some() {
            return Ok(());
        }
        let now = (self.clock)();
        let since = |then| now.saturating_duration_since(then);
        let old = |file: &OpenFile| {
            let silent = self
                .inactivity
                .is_some_and(|max| since(file.written) >= max);
            silent || since(file.opened) >= self.rollover
        };
        let due: Vec<String> = self
            .open
            .iter()
            .filter(|(_, f)| old(f))
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in due {
            self.finish(&folder)?;
        }
        self.open.values_mut().try_for_each(OpenFile::flush)
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        if let Some(two_phase) = &mut self.two_phase {
            two_phase.enter(epoch, !self.open.is_empty())?;
            self.finish_all()?;
        }
        if let Some(two_phase) = &mut self.two_phase {
            return two_phase.prepare();
        }
        self.commit(epoch)?;
        Ok(Prepared::Null)
    }

    fn publish(&mut self, _epoch: u64, prepared: &Prepared) -> Result<()> {
        if let Some(two_phase) = &self.two_phase {
            self.finished += two_phase.publish(prepared)?;
        }
        Ok(())
    }

    fn recover(&mut self, epoch: u64, prepared: &Prepared) -> Result<()> {
        match &self.two_phase {
            Some(two_phase) => two_phase.recover(epoch, prepared),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.two_phase {
            Some(_) => self.discard(),
            None => self.finish_all(),
        }
    }

    fn describe(&self) -> String {
        let files = counted(self.finished, "file");
        format!(
            "{files}, {} in {}",
            counted(self.rows, "row"),
            self.folder.describe()
        )
    }
}

impl Drop for FileSink {
    /// Without checkpoints, a query that ends with an error has committed epochs in open files:
    /// they must not stay hidden. Rows of the last, uncommitted epoch come with them
    /// (at-least-once). With checkpoints, rows that are not published must not be seen.
    fn drop(&mut self) {
        if self.two_phase.is_some() {
            if let Err(error) = self.discard() {
                tracing::warn!("{error}");
            }
            return;
        }
        for (_, file) in self.open.drain() {
            if let Err(error) = file.finish() {
                tracing::warn!("{error}");
            }
        }
    }
}

/// `query` with only those characters that are safe in every file name.
fn file_name_part(query: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c
        } else {
            '_'
        }
    };
    query.chars().take(64).map(safe).collect()
}

/// The type that a column has in a Parquet file: plain forms that every reader knows, and
/// microseconds for timestamps (in UTC for TIMESTAMP_LTZ).
fn plain_type(data_type: &DataType, ltz: bool) -> DataType {
    use arrow::datatypes::{Field, TimeUnit};
    use std::sync::Arc;
    let plain_field = |field: &Arc<Field>| {
        let inner = plain_type(field.data_type(), ltz);
        Arc::new(field.as_ref().clone().with_data_type(inner))
    };
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(_, zone) => {
            let utc = (ltz || zone.is_some()).then(|| Arc::from("UTC"));
            DataType::Timestamp(TimeUnit::Microsecond, utc)
        }
        DataType::Dictionary(_, value) => plain_type(value, ltz),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(plain_field(item)),
        DataType::FixedSizeList(item, length) => {
            DataType::FixedSizeList(plain_field(item), *length)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

/// An error about a file, with its name, and what to do when the disk or the rights are to blame.
fn file_error(
    action: &str,
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let error = error.into();
    let text = format!("cannot {action} {}: {error}", path.display());
    // Parquet's errors wrap those of the disk.
    let first: &(dyn std::error::Error + 'static) = error.as_ref();
    let io = std::iter::successors(Some(first), |e| e.source())
        .find_map(|e| e.downcast_ref::<std::io::Error>());
    if let Some(hint) = io.and_then(crate::remote::hint) {
        return Error::env(text).with_hint(hint);
    }
    let hint = match io.map(std::io::Error::kind) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            "make room on that disk, or raise the limit, and start again"
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            "let windrow's user write to that folder and start again"
        }
        _ => return Error::env(text),
    };
    Error::env(text).with_hint(hint)
}

#[cfg(test)]
mod tests;
