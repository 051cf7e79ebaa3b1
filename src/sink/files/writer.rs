//! One file from its hidden beginning to its visible end.

use super::folder::Folder;
use super::{file_error, plain_type};
use crate::batches::with_rows;
use crate::encode::csv::CsvEncoder;
use crate::encode::json::JsonEncoder;
use crate::error::{Error, Result};
use crate::table::{Column, TableDef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Lines are handed to the operating system when so many bytes of them are waiting.
const BUFFER_BYTES: usize = 256 << 10;

/// Encoded bytes of one Parquet row group, which waits in memory until it is complete.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Appends a row of a batch.
type EncodeRow<'a> = Box<dyn FnMut(usize, &mut Vec<u8>) -> Result<()> + 'a>;

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
    folder: Arc<Folder>,
    pub(super) name: String,
    /// For messages.
    hidden: PathBuf,
    body: Body,
    /// A write has failed: the file's content is not to be trusted.
    broken: bool,
    pub(super) opened: Instant,
    /// When the last row came.
    pub(super) written: Instant,
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
    /// Begins the file that will be visible as `name`.
    pub(super) fn create(
        folder: &Arc<Folder>,
        name: String,
        format: &FileFormat,
        now: Instant,
    ) -> Result<OpenFile> {
        let hidden = folder.unfinished(&name);
        let file = folder.begin(&name)?;
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
            folder: folder.clone(),
            name,
            hidden,
            body,
            broken: false,
            opened: now,
            written: now,
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
                let mut encode: EncodeRow<'_> = match format {
                    FileFormat::Json(encoder) => {
                        let mut rows = encoder.rows(batch)?;
                        Box::new(move |row, out| rows.encode(row, out))
                    }
                    FileFormat::Csv { encoder, .. } => {
                        Box::new(|row, out| encoder.encode(batch, row, out))
                    }
                    FileFormat::Parquet { .. } => {
                        return Err(Error::bug("Parquet rows for a file of lines"));
                    }
                };
                for row in 0..batch.num_rows() {
                    encode(row, buffer)?;
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
        let folder = self.folder.clone();
        let (name, file) = self.seal()?;
        folder.finish(name, file)
    }

    /// Ends the file, its bytes on the disk, and leaves it hidden. Its name, under which nobody
    /// sees it yet.
    pub(super) fn seal(self) -> Result<(String, File)> {
        let OpenFile {
            folder,
            name,
            hidden,
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
        folder.seal(&name, &file)?;
        Ok((name, file))
    }

    /// Removes the file.
    pub(super) fn discard(self) -> Result<()> {
        self.folder.discard(&self.name)
    }
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
    Ok(with_rows(schema.clone(), columns, batch.num_rows())?)
}
