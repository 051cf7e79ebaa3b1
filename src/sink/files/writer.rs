//! One file from its hidden beginning to its visible end.

use super::{file_error, plain_type};
use crate::encode::csv::CsvEncoder;
use crate::encode::json::JsonEncoder;
use crate::error::{Error, Result};
use crate::table::{Column, TableDef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Lines are handed to the operating system when so many bytes of them are waiting.
const BUFFER_BYTES: usize = 256 << 10;

/// Encoded bytes of one Parquet row group, which waits in memory until it is complete.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// What all files of a sink have in common.
pub(super) enum FileFormat {
    Json(JsonEncoder),
    Csv {
        encoder: CsvEncoder,
        header: bool,
    },
    Parquet {
        schema: SchemaRef,
        properties: Box<WriterProperties>,
    },
}

impl FileFormat {
    /// `columns` are those that stand in the files.
    pub(super) fn new(def: &TableDef, columns: &[&Column]) -> Result<FileFormat> {
        let options = &def.options;
        match options.get("format").map(str::to_lowercase).as_deref() {
            Some("json") => Ok(FileFormat::Json(JsonEncoder::new(columns, options)?)),
            Some("csv") => Ok(FileFormat::Csv {
                encoder: CsvEncoder::new(columns, options)?,
                header: options.bool("csv.header")?.unwrap_or(false),
            }),
            Some("parquet") => {
                let field =
                    |c: &&Column| Field::new(&c.name, plain_type(&c.data_type, c.ltz), true);
                let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
                let compression = match options
                    .get("parquet.compression")
                    .unwrap_or("SNAPPY")
                    .to_uppercase()
                    .as_str()
                {
                    "SNAPPY" => Compression::SNAPPY,
                    "ZSTD" => Compression::ZSTD(ZstdLevel::default()),
                    "LZ4" => Compression::LZ4_RAW,
                    "GZIP" => Compression::GZIP(GzipLevel::default()),
                    "UNCOMPRESSED" => Compression::UNCOMPRESSED,
                    _ => {
                        return Err(
                            options.invalid("parquet.compression", "is no compression of Parquet")
                        );
                    }
                };
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                    .build();
                Ok(FileFormat::Parquet {
                    schema,
                    properties: Box::new(properties),
                })
            }
            Some(_) => Err(options
                .invalid("format", "cannot be written to files")
                .with_hint("use parquet, json or csv")),
            None => Err(
                Error::sql(format!("table '{}' has no option 'format'", def.name))
                    .or_at(def.at)
                    .with_hint("add 'format' = 'parquet', 'json' or 'csv'"),
            ),
        }
    }

    pub(super) fn extension(&self) -> &'static str {
        match self {
            FileFormat::Json(_) => "json",
            FileFormat::Csv { .. } => "csv",
            FileFormat::Parquet { .. } => "parquet",
        }
    }
}

/// A file that is being written.
pub(super) struct OpenFile {
    /// The folder of the table: folders up to it are synced.
    root: PathBuf,
    pub(super) hidden: PathBuf,
    visible: PathBuf,
    body: Body,
    /// A write has failed: the file's content is not to be trusted.
    broken: bool,
    pub(super) opened: Instant,
    /// When it was last written, in the sink's count of writes.
    pub(super) used: u64,
}

enum Body {
    Lines {
        file: File,
        buffer: Vec<u8>,
        written: u64,
    },
    Parquet(Box<ArrowWriter<File>>),
}

impl OpenFile {
    /// Begins the file `name` in `folder`, which is made if it is missing; but not the table's own
    /// folder: if that is gone, e.g. with its mount, it is not for rows to be hidden in its place.
    pub(super) fn create(
        root: &Path,
        folder: &Path,
        name: &str,
        format: &FileFormat,
        now: Instant,
    ) -> Result<OpenFile> {
        if folder != root && root.is_dir() {
            std::fs::create_dir_all(folder)
                .map_err(|e| file_error("make the folder", folder, e))?;
        }
        let visible = folder.join(name);
        let hidden = hidden_name(&visible);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&hidden);
        let file = file.map_err(|e| file_error("create", &hidden, e))?;
        let body = match format {
            FileFormat::Json(_) => Body::Lines {
                file,
                buffer: Vec::new(),
                written: 0,
            },
            FileFormat::Csv { encoder, header } => {
                let mut buffer = Vec::new();
                if *header {
                    encoder.header(&mut buffer);
                    buffer.push(b'\n');
                }
                Body::Lines {
                    file,
                    buffer,
                    written: 0,
                }
            }
            FileFormat::Parquet { schema, properties } => {
                let writer =
                    ArrowWriter::try_new(file, schema.clone(), Some(properties.as_ref().clone()));
                Body::Parquet(Box::new(
                    writer.map_err(|e| file_error("write Parquet to", &hidden, e))?,
                ))
            }
        };
        Ok(OpenFile {
            root: root.to_path_buf(),
            hidden,
            visible,
            body,
            broken: false,
            opened: now,
            used: 0,
        })
    }

    /// Writes rows of `batch` from its first on, and stops when the file has `limit` bytes.
    /// How many rows were written: at least one.
    pub(super) fn write(
        &mut self,
        format: &mut FileFormat,
        batch: &RecordBatch,
        limit: u64,
    ) -> Result<usize> {
        let written = self.try_write(format, batch, limit);
        self.broken |= written.is_err();
        written
    }

    fn try_write(
        &mut self,
        format: &mut FileFormat,
        batch: &RecordBatch,
        limit: u64,
    ) -> Result<usize> {
        match (&mut self.body, format) {
            (
                Body::Lines {
                    file,
                    buffer,
                    written,
                },
                format,
            ) => {
                for row in 0..batch.num_rows() {
                    match format {
                        FileFormat::Json(encoder) => encoder.encode(batch, row, buffer)?,
                        FileFormat::Csv { encoder, .. } => encoder.encode(batch, row, buffer)?,
                        FileFormat::Parquet { .. } => {
                            return Err(Error::bug("Parquet rows for a file of lines"));
                        }
                    }
                    buffer.push(b'\n');
                    if buffer.len() >= BUFFER_BYTES {
                        hand_on(file, buffer, written, &self.hidden)?;
                    }
                    if *written + buffer.len() as u64 >= limit {
                        return Ok(row + 1);
                    }
                }
            }
            (Body::Parquet(writer), FileFormat::Parquet { schema, .. }) => {
                let batch = plain_batch(batch, schema, &self.hidden)?;
                writer
                    .write(&batch)
                    .map_err(|e| file_error("write", &self.hidden, e))?;
            }
            (Body::Parquet(_), _) => return Err(Error::bug("lines for a Parquet file")),
        }
        Ok(batch.num_rows())
    }

    /// Bytes of the file as it would be if it ended now; an estimate for Parquet.
    pub(super) fn bytes(&self) -> u64 {
        match &self.body {
            Body::Lines {
                buffer, written, ..
            } => written + buffer.len() as u64,
            Body::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
        }
    }

    /// Bytes of rows that wait in memory.
    pub(super) fn buffered(&self) -> usize {
        match &self.body {
            Body::Lines { buffer, .. } => buffer.len(),
            Body::Parquet(writer) => writer.memory_size(),
        }
    }

    /// Writes out what waits in memory; for Parquet that ends a row group.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        let ended = match &mut self.body {
            Body::Lines {
                file,
                buffer,
                written,
            } => hand_on(file, buffer, written, &self.hidden),
            Body::Parquet(writer) => writer
                .flush()
                .map_err(|e| file_error("write", &self.hidden, e)),
        };
        self.broken |= ended.is_err();
        ended
    }

    /// Hands lines to the operating system. A Parquet file stays as it is: its rows cannot be
    /// read before its end, and small row groups make it slow to read for ever.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self.body {
            Body::Lines { .. } => self.end_row_group(),
            Body::Parquet(_) => Ok(()),
        }
    }

    /// Ends the file: its bytes on the disk, then its real name, then the folders' entries.
    /// After a failed write the file is removed instead.
    pub(super) fn finish(self) -> Result<()> {
        if self.broken {
            return self.discard();
        }
        let (root, hidden) = (self.root.clone(), self.hidden.clone());
        let visible = self.seal()?;
        std::fs::rename(&hidden, &visible).map_err(|e| file_error("rename", &hidden, e))?;
        // Up to the table's folder, since partition folders may be new.
        folders_up_to(&root, &visible).try_for_each(sync_folder)
    }

    /// Ends the file, its bytes on the disk, and leaves it hidden. Its visible name, under which
    /// the folders do not know it yet.
    pub(super) fn seal(self) -> Result<PathBuf> {
        let OpenFile {
            hidden,
            visible,
            body,
            broken,
            ..
        } = self;
        if broken {
            return Err(file_error("finish", &hidden, "a write to it has failed"));
        }
        let file = match body {
            Body::Lines {
                mut file,
                mut buffer,
                mut written,
            } => {
                hand_on(&mut file, &mut buffer, &mut written, &hidden)?;
                file
            }
            Body::Parquet(writer) => writer
                .into_inner()
                .map_err(|e| file_error("finish", &hidden, e))?,
        };
        file.sync_all()
            .map_err(|e| file_error("sync", &hidden, e))?;
        Ok(visible)
    }

    /// Removes the file.
    pub(super) fn discard(self) -> Result<()> {
        let hidden = &self.hidden;
        std::fs::remove_file(hidden).map_err(|e| file_error("remove", hidden, e))
    }
}

/// The name that `visible` has until it is finished: readers skip it.
pub(super) fn hidden_name(visible: &Path) -> PathBuf {
    let name = visible.file_name().unwrap_or_default().to_string_lossy();
    visible.with_file_name(format!(".{name}.inprogress"))
}

/// The folders of `file` from its own one up to `root`.
pub(super) fn folders_up_to<'a>(root: &'a Path, file: &'a Path) -> impl Iterator<Item = &'a Path> {
    let below = file.ancestors().skip(1);
    below.take_while(move |folder| folder.starts_with(root))
}

/// Makes the entries of `folder` as safe as its files are.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.map_err(|e| file_error("sync the folder", folder, e))
}

fn hand_on(file: &mut File, buffer: &mut Vec<u8>, written: &mut u64, path: &Path) -> Result<()> {
    file.write_all(buffer)
        .map_err(|e| file_error("write", path, e))?;
    *written += buffer.len() as u64;
    buffer.clear();
    Ok(())
}

/// `batch` with the types of `schema`, by position.
fn plain_batch(batch: &RecordBatch, schema: &SchemaRef, path: &Path) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let (want, got) = (schema.fields().len(), batch.num_columns());
        return Err(Error::bug(format!(
            "a file of {want} columns got a batch of {got}"
        )));
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (array, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(if array.data_type() == field.data_type() {
            array.clone()
        } else {
            cast_with_options(array, field.data_type(), &strict)
                .map_err(|e| file_error("write", path, format!("column '{}': {e}", field.name())))?
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &options,
    )?)
}
