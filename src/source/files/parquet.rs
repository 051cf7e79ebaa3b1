//! Rows of a Parquet file in the types that the table declares.

use super::{folders, read_error};
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::table::TableDef;
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BATCH_ROWS: usize = 8192;

/// The columns that are delivered, and where they come from.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    /// Per column: whether its value stands in the folders' names.
    in_path: Vec<bool>,
}

impl Columns {
    pub(super) fn new(def: &TableDef, wanted: &[String]) -> Result<Columns> {
        let mut fields = Vec::with_capacity(wanted.len());
        let mut in_path = Vec::with_capacity(wanted.len());
        for name in wanted {
            let Some(column) = def.column(name) else {
                return Err(Error::bug(format!(
                    "table '{}' has no column '{name}'",
                    def.name
                )));
            };
            // A column that a file does not have is NULL, whatever is declared.
            fields.push(Field::new(name, column.data_type.clone(), true));
            in_path.push(def.partitioned_by.contains(name));
        }
        Ok(Columns {
            schema: Arc::new(Schema::new(fields)),
            in_path,
        })
    }
}

/// Reads one file from a row on.
pub(super) struct RowReader {
    path: PathBuf,
    columns: Arc<Columns>,
    /// Values from the folders' names, one row each; by column.
    constants: Vec<Option<ArrayRef>>,
    reader: ParquetRecordBatchReader,
    next: i64,
}

impl RowReader {
    /// Rows `start..end` of the file at `path`; to its last row without an `end`.
    pub(super) fn open(
        path: &Path,
        columns: Arc<Columns>,
        start: i64,
        end: Option<i64>,
    ) -> Result<RowReader> {
        let file = File::open(path).map_err(|e| read_error(path, e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| {
            Error::env(format!("{} is no Parquet file: {e}", path.display()))
                .with_hint("the table's 'format' must be that of all files in its 'path'")
        })?;
        let constants = constants(path, &columns)?;
        let in_file = |name: &str| {
            columns
                .schema
                .index_of(name)
                .is_ok_and(|i| !columns.in_path[i])
        };
        let roots: Vec<usize> = builder
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| in_file(f.name()))
            .map(|(i, _)| i)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let mut builder = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_offset(start.max(0) as usize);
        if let Some(end) = end {
            builder = builder.with_limit((end - start).max(0) as usize);
        }
        let reader = builder.build().map_err(|e| read_error(path, e))?;
        Ok(RowReader {
            path: path.to_path_buf(),
            columns,
            constants,
            reader,
            next: start.max(0),
        })
    }

    /// The next rows with the number of the first one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(i64, RecordBatch)>> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let batch = batch.map_err(|e| read_error(&self.path, e))?;
        let first = self.next;
        self.next += batch.num_rows() as i64;
        Ok(Some((first, self.declared(&batch)?)))
    }

    /// `batch` with the declared columns and types.
    fn declared(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let schema = &self.columns.schema;
        let mut arrays = Vec::with_capacity(schema.fields().len());
        for (field, constant) in schema.fields().iter().zip(&self.constants) {
            let array = match (constant, batch.column_by_name(field.name())) {
                (Some(value), _) => take(value, &UInt32Array::from(vec![0; rows]), None)?,
                (None, Some(array)) => self.cast(array, field)?,
                (None, None) => new_null_array(field.data_type(), rows),
            };
            arrays.push(array);
        }
        Ok(with_rows(schema.clone(), arrays, rows)?)
    }

    fn cast(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        if array.data_type() == field.data_type() {
            return Ok(array.clone());
        }
        cast_strictly(array, field.data_type()).map_err(|e| {
            let name = field.name();
            read_error(&self.path, format!("column '{name}': {e}")).with_hint(format!(
                "the file holds {}, the table declares {}",
                array.data_type(),
                field.data_type()
            ))
        })
    }
}

/// A value that does not fit is an error, not NULL.
fn cast_strictly(
    array: &dyn Array,
    to: &DataType,
) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    cast_with_options(
        array,
        to,
        &CastOptions {
            safe: false,
            ..CastOptions::default()
        },
    )
}

/// The values of the columns that stand in the path.
fn constants(path: &Path, columns: &Columns) -> Result<Vec<Option<ArrayRef>>> {
    let mut constants = Vec::with_capacity(columns.in_path.len());
    for (field, in_path) in columns.schema.fields().iter().zip(&columns.in_path) {
        if !in_path {
            constants.push(None);
            continue;
        }
        let array = folders::value(path, field.name(), field.data_type())?;
        constants.push(Some(array));
    }
    Ok(constants)
}
