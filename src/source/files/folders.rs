//! Columns whose values stand in the names of folders: `day=2022-01-01/part-0.json`.

use super::read_error;
use crate::error::Result;
use crate::sink::files::partition_value;
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::DataType;
use std::path::Path;

/// The value of the column `name` for the file at `path`, as an array of one row.
///
/// # Errors
/// When no folder on the way has the name, or its value is not of the type.
pub(super) fn value(path: &Path, name: &str, data_type: &DataType) -> Result<ArrayRef> {
    let Some(value) = partition_value(path, name) else {
        let folder = format!("no folder '{name}=…' on the way");
        return Err(read_error(path, folder)
            .with_hint("PARTITIONED BY columns are read from the folders' names"));
    };
    let text = StringArray::from(vec![value]);
    // A value that does not fit is an error, not NULL.
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&text, data_type, &strict)
        .map_err(|e| read_error(path, format!("folder '{name}=…': {e}")))
}

/// The same value for `rows` rows.
pub(crate) fn column(
    path: &Path,
    name: &str,
    data_type: &DataType,
    rows: usize,
) -> Result<ArrayRef> {
    let value = value(path, name, data_type)?;
    Ok(take(&value, &UInt32Array::from(vec![0; rows]), None)?)
}
