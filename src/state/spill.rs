//! Spilled segments in a file of this process: it has no name, so nothing is left behind however
//! the process ends.

use crate::batches::compact;
use crate::error::{Error, Result};
use crate::window::spill::{SpillTo, Spilled, SpilledRows};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file is not written to any more from this length on: it goes when nothing in it is of use, and what
/// is always in use would keep all of one file that only grows.
const FILE_BYTES: u64 = 512 << 20;

/// One file after another, the first made by the first segment.
pub struct SpillFile {
    folder: PathBuf,
    name: String,
    /// Files so far.
    files: u64,
    file: Option<Arc<Mutex<File>>>,
    end: u64,
    file_bytes: u64,
}

/// A part: where it begins, and how long it is.
type Extent = (u64, u64);

struct OnDisk {
    file: Arc<Mutex<File>>,
    extents: Vec<Extent>,
    rows: usize,
}

fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(folder: &Path, e: impl std::fmt::Display) -> Error {
    Error::env(format!("cannot spill to {}: {e}", folder.display())).with_hint(
        "state that is over its budget goes to the folder for temporary files (TMPDIR): \
         it needs room there, or more memory with --memory",
    )
}

impl SpillFile {
    /// `name` must not be used by another file of this process.
    pub fn new(folder: PathBuf, name: &str) -> Self {
        Self {
            folder,
            name: format!("windrow-{}-{name}", std::process::id()),
            files: 0,
            file: None,
            end: 0,
            file_bytes: FILE_BYTES,
        }
    }

    fn open(&mut self) -> std::io::Result<Arc<Mutex<File>>> {
        if let Some(file) = &self.file {
            if Arc::strong_count(file) == 1 {
                // Nothing in it is of use any more.
                lock(file).set_len(0)?;
                self.end = 0;
            }
            if self.end < self.file_bytes {
                return Ok(file.clone());
            }
        }
        self.files += 1;
        let path = self.folder.join(format!("{}-{}", self.name, self.files));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        fs::remove_file(&path)?;
        self.end = 0;
        Ok(self.file.insert(Arc::new(Mutex::new(file))).clone())
    }
}

impl SpillTo for SpillFile {
    fn spill(&mut self, parts: &[RecordBatch]) -> Result<Spilled> {
        let folder = self.folder.clone();
        let file = self.open().map_err(|e| failed(&folder, e))?;
        let mut extents = Vec::with_capacity(parts.len());
        for part in parts {
            // Views point into the buffers of the whole segment.
            let part = compact(part)?;
            let mut bytes = Vec::new();
            let mut writer = StreamWriter::try_new(&mut bytes, &part.schema())?;
            writer.write(&part)?;
            writer.finish()?;
            drop(writer);
            let mut file = lock(&file);
            (file.seek(SeekFrom::Start(self.end)))
                .and_then(|_| file.write_all(&bytes))
                .map_err(|e| failed(&folder, e))?;
            extents.push((self.end, bytes.len() as u64));
            self.end += bytes.len() as u64;
        }
        Ok(Spilled(Arc::new(OnDisk {
            file,
            extents,
            rows: parts.iter().map(RecordBatch::num_rows).sum(),
        })))
    }
}

impl SpilledRows for OnDisk {
    fn rows(&self) -> usize {
        self.rows
    }

    fn part(&self, part: usize) -> Result<RecordBatch> {
        let (start, length) = self.extents[part];
        let mut bytes = vec![0; length as usize];
        let mut file = lock(&self.file);
        (file.seek(SeekFrom::Start(start)))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::env(format!("cannot read spilled state back: {e}")))?;
        drop(file);
        let mut reader = StreamReader::try_new(bytes.as_slice(), None)?;
        match reader.next() {
            Some(batch) => Ok(batch?),
            None => Err(Error::bug("a spilled part without a batch")),
        }
    }
}

#[cfg(test)]
mod tests;
