//! Files as a bounded source: lines of JSON, CSV or text, and Parquet.
//!
//! The path names one file or a folder, which is read with all folders below it; names that
//! start with `.` or `_` are skipped, as every reader of such folders does. Files are read in
//! turns, so that event time moves on in all of them alike.
//!
//! | what | here |
//! |---|---|
//! | partition | one file, in the order of the paths |
//! | offset | number of the line on which the record starts, from 0; Parquet: of the row |
//! | topic | the file's path |
//! | timestamp | none |
//!
//! Empty lines are no records, but they count in the offsets. `\r\n` ends a line too. With
//! `format` = csv a quoted line break belongs to the record. A file of lines whose name ends in
//! `.gz` is unpacked while it is read, all its gzip members one after the other. Columns that the table declares in
//! PARTITIONED BY are taken from the folders' names (`key=value`).

pub(crate) mod folders;
mod lines;
mod list;
mod parquet;

use super::{Assignment, Polled, ReadRequest, Reader, Rows, Source, resume_at};
use crate::batches::{self, with_rows};
use crate::decode::Decoded;
use crate::encode::text::counted;
use crate::error::{Error, Result};
use crate::state::PartitionSnapshot;
use crate::table::TableDef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use flate2::bufread::MultiGzDecoder;
use lines::{LINE_BYTES_MAX, Limits, LineReader, Syntax};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use list::local_path;

/// Files that one reader has open at the same time.
const OPEN_FILES_MAX: usize = 32;

/// So much of a packed file is read at a time.
const PACKED_BYTES: usize = 64 << 10;

/// Rows of a table that is read as a whole ([`read_all`]) must fit into so many bytes.
const TABLE_BYTES_MAX: usize = 1 << 30;

/// How the files are read; decided once, by the table's options.
#[derive(Debug, Clone)]
enum FileFormat {
    Lines(Syntax),
    Parquet(Arc<parquet::Columns>),
}

/// A declared table with the connector `filesystem`.
pub struct FilesSource {
    path: std::path::PathBuf,
    format: FileFormat,
    limits: Limits,
}

impl FilesSource {
    /// Checks the options of `def`; opens nothing. Rows of Parquet files have the columns of
    /// `request`, in its order.
    pub fn new(def: &TableDef, request: ReadRequest) -> Result<FilesSource> {
        let format = match def.options.get("format").map(str::to_lowercase).as_deref() {
            Some("parquet") => {
                FileFormat::Parquet(Arc::new(parquet::Columns::new(def, &request.columns)?))
            }
            Some("csv") => FileFormat::Lines(Syntax::csv(&def.options)?),
            Some("json" | "raw") => FileFormat::Lines(Syntax::LINES),
            Some(_) => return Err(def.options.invalid("format", "cannot be read from files")),
            None => {
                return Err(
                    Error::sql(format!("table '{}' has no option 'format'", def.name))
                        .or_at(def.at)
                        .with_hint("add 'format' = 'json', 'csv', 'raw' or 'parquet'"),
                );
            }
        };
        Ok(FilesSource {
            path: local_path(def)?,
            format,
            limits: Limits::default(),
        })
    }

    /// Opens the file of one assignment at its start.
    fn open(format: &FileFormat, assignment: &Assignment) -> Result<OpenFile> {
        let path = Path::new(assignment.topic.as_ref());
        match format {
            FileFormat::Lines(syntax) => Ok(OpenFile::Lines(LineReader::new(
                open_lines(path)?,
                *syntax,
                assignment.clone(),
            ))),
            FileFormat::Parquet(columns) => {
                let (start, end) = (assignment.start, assignment.end);
                Ok(OpenFile::Parquet(parquet::RowReader::open(
                    path,
                    columns.clone(),
                    start,
                    end,
                )?))
            }
        }
    }
}

impl Source for FilesSource {
    /// The ends are open: a file ends where it ends.
    fn partitions(
        &self,
        resume: Option<&[PartitionSnapshot]>,
        _wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Assignment>> {
        let files = list::files(&self.path)?;
        if files.is_empty() {
            tracing::warn!("{} has no files to read", self.path.display());
        }
        let files = files.into_iter().enumerate();
        let assignments = files.map(|(id, file)| Assignment::whole(id, file, None));
        let mut all: Vec<Assignment> = assignments.collect();
        resume_at(&mut all, resume);
        Ok(all)
    }

    fn reader(&self, partitions: &[Assignment]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(FilesReader {
            format: self.format.clone(),
            limits: self.limits,
            waiting: partitions.iter().cloned().collect(),
            open: VecDeque::new(),
        }))
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("files in {}", self.path.display())
    }
}

struct FilesReader {
    format: FileFormat,
    limits: Limits,
    /// Not opened yet.
    waiting: VecDeque<Assignment>,
    /// The next one to read is in front.
    open: VecDeque<(usize, OpenFile)>,
}

enum OpenFile {
    Lines(LineReader<Box<dyn Read + Send>>),
    Parquet(parquet::RowReader),
}

impl OpenFile {
    /// The next piece of the file; `None` at its end.
    fn read(&mut self, id: usize, limits: Limits) -> Result<Option<Polled>> {
        match self {
            OpenFile::Lines(lines) => Ok(lines.chunk(limits)?.map(Polled::Chunk)),
            OpenFile::Parquet(rows) => Ok(rows.next()?.map(|(first_offset, batch)| {
                let next_offset = first_offset + batch.num_rows() as i64;
                Polled::Rows(Rows {
                    id,
                    batch,
                    first_offset,
                    next_offset,
                })
            })),
        }
    }
}

impl Reader for FilesReader {
    /// Never waits: a file is always there. Idle when all partitions have ended.
    fn poll(&mut self, _timeout: Duration) -> Result<Polled> {
        while self.open.len() < OPEN_FILES_MAX {
            let Some(assignment) = self.waiting.pop_front() else {
                break;
            };
            let at_end = assignment.end.is_some_and(|end| assignment.start >= end);
            if at_end {
                return Ok(Polled::End { id: assignment.id });
            }
            let file = FilesSource::open(&self.format, &assignment)?;
            self.open.push_back((assignment.id, file));
        }
        let Some((id, mut file)) = self.open.pop_front() else {
            return Ok(Polled::Idle);
        };
        match file.read(id, self.limits)? {
            Some(polled) => {
                self.open.push_back((id, file));
                Ok(polled)
            }
            None => Ok(Polled::End { id }),
        }
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        self.waiting.extend(partitions.iter().cloned());
        Ok(())
    }
}

/// Reads a small table as a whole, for joins: `columns` of all its records, in the order of the
/// files. A record that is no row is an error that names its file and line, unless the table's options say
/// that such are skipped: whoever joins it would miss rows and not know why.
pub fn read_all(def: &TableDef, columns: &[String]) -> Result<Vec<RecordBatch>> {
    let request = ReadRequest {
        columns: columns.to_vec(),
        ..ReadRequest::default()
    };
    let source = FilesSource::new(def, request)?;
    let partitions = source.partitions(None, &mut |_| true)?;
    let mut reader = source.reader(&partitions)?;
    // Parquet needs no decoder.
    let mut decoder = match source.format {
        FileFormat::Lines(_) => Some(crate::decode::decoder(def, columns)?),
        FileFormat::Parquet(_) => None,
    };
    let skips = def.options.get("bad-records") == Some("skip")
        || def.options.ignore_parse_errors()? == Some(true);
    let mut batches = Vec::new();
    let (mut bytes, mut ended, mut skipped) = (0, 0, 0);
    while ended < partitions.len() {
        let batch = match (reader.poll(Duration::ZERO)?, &mut decoder) {
            (Polled::Rows(rows), _) => rows.batch,
            (Polled::Chunk(chunk), Some(decoder)) => {
                let decoded = decoder.decode(&chunk.payload, 0..chunk.len())?;
                skipped += decoded.bad.len();
                if let Some(bad) = decoded.bad.first().filter(|_| !skips) {
                    let line = chunk
                        .offsets
                        .get(bad.record as usize)
                        .map_or(0, |line| line + 1);
                    let field = bad
                        .field
                        .as_ref()
                        .map(|f| format!("column '{f}': "))
                        .unwrap_or_default();
                    return Err(Error::Data(format!(
                        "{}:{line}: {field}{}",
                        chunk.topic, bad.reason
                    )));
                }
                let path = Path::new(chunk.topic.as_ref());
                with_folders(def, columns, decoded, path)?
            }
            (Polled::End { .. }, _) => {
                ended += 1;
                continue;
            }
            (other, _) => return Err(Error::bug(format!("a file gave {other:?}"))),
        };
        let column = |name: &String| def.column(name).map(|column| column.field());
        let declared: Vec<Field> = columns.iter().filter_map(column).collect();
        if let Some(i) = batches::wanting(&Schema::new(declared), batch.columns()).first() {
            return Err(Error::Data(format!(
                "table '{}': column '{}' has a NULL, but it is NOT NULL",
                def.name, columns[*i]
            )));
        }
        bytes += batches::held([&batch]);
        if bytes > TABLE_BYTES_MAX {
            return Err(Error::env(format!(
                "table '{}' is too large to be kept in memory for a join",
                def.name
            ))
            .with_hint("a table that is joined to a stream may take up to 1 GB"));
        }
        batches.push(batch);
    }
    if skipped > 0 {
        tracing::warn!(
            "table '{}': {} skipped",
            def.name,
            counted(skipped as u64, "bad record")
        );
    }
    Ok(batches)
}

/// The decoded rows of a file with the columns that its folders name, in the order of `columns`.
fn with_folders(
    def: &TableDef,
    columns: &[String],
    decoded: Decoded,
    path: &Path,
) -> Result<RecordBatch> {
    let mut in_file = decoded.columns.into_iter();
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for name in columns {
        let column = (def.column(name))
            .ok_or_else(|| Error::bug(format!("table '{}' has no column '{name}'", def.name)))?;
        let array = match def.is_folder(name) {
            true => folders::column(path, name, &column.data_type, decoded.rows)?,
            false => {
                (in_file.next()).ok_or_else(|| Error::bug("a decoder delivered too few columns"))?
            }
        };
        fields.push(column.field().with_nullable(true));
        arrays.push(array);
    }
    Ok(with_rows(
        Arc::new(Schema::new(fields)),
        arrays,
        decoded.rows,
    )?)
}

/// Opens a file of lines, unpacked.
fn open_lines(path: &Path) -> Result<Box<dyn Read + Send>> {
    let file = File::open(path).map_err(|e| read_error(path, e))?;
    let packed = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    Ok(if packed {
        let packed = BufReader::with_capacity(PACKED_BYTES, file);
        Box::new(MultiGzDecoder::new(packed))
    } else {
        Box::new(file)
    })
}

fn read_error(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::env(format!("cannot read {}: {error}", path.display()))
}

fn line_too_long(path: &str, line: i64) -> Error {
    let megabytes = LINE_BYTES_MAX >> 20;
    Error::env(format!("{path}:{}: the record is longer than {megabytes} MB", line + 1))
        .with_hint("is the file of the declared format? In CSV a quote that is never closed takes all lines behind it")
}

#[cfg(test)]
mod tests;
