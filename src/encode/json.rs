//! Rows to JSON objects, as Flink's `json` format writes them.
//!
//! | type | written as |
//! |---|---|
//! | TIMESTAMP | `"2022-01-01 12:22:25.12"`: fraction without trailing zeros; ISO-8601: a `T` for the blank |
//! | TIMESTAMP_LTZ | the same in UTC with a `Z` behind |
//! | DATE, TIME | `"2022-01-01"`, `"12:22:25"` |
//! | DECIMAL | a plain number with the digits of its scale: `1.50` |
//! | FLOAT, DOUBLE | shortest digits, Java's spelling (`1.0E10`); `"NaN"`, `"Infinity"`, `"-Infinity"` as strings, since JSON has no such numbers |
//! | BYTES | base64 string |
//! | ARRAY, MAP, ROW | array, object, object; keys that are no strings are quoted |
//! | INTERVAL, duration | text |
//! | NULL | `null`, or nothing at all with `json.encode.ignore-null-fields` |

mod cells;

use super::text::scalar::Clock;
use super::text::{self, TimeStyle, Zone};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::table::Column;
use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cells::{Cells, LastTime, Snippet};
use std::ops::Range;

/// Writes rows of one schema as JSON objects.
#[derive(Debug, Clone)]
pub struct JsonEncoder {
    columns: Vec<JsonColumn>,
}

#[derive(Debug, Clone)]
struct JsonColumn {
    /// `,"name":`, escaped. The first value's comma becomes the brace.
    key: Snippet,
    style: Style,
    last_time: Option<LastTime>,
}

/// An encoder and the columns of one batch.
pub struct JsonRows<'a>(Vec<(&'a mut JsonColumn, Cells<'a>)>);

/// How values are spelled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    time: TimeStyle,
    /// NULL fields of rows are left out.
    ignore_null_fields: bool,
}

impl Style {
    /// NULL fields are written; timestamps as SQL writes them.
    pub(crate) const SQL: Style = Style {
        time: TimeStyle {
            separator: b' ',
            clock: Clock::Sql,
            zone: Zone::Typed,
        },
        ignore_null_fields: false,
    };

    fn new(options: &Options) -> Result<Style> {
        let mut style = Style::SQL;
        if options
            .get("json.timestamp-format.standard")
            .is_some_and(|v| v.eq_ignore_ascii_case("ISO-8601"))
        {
            style.time.separator = b'T';
        }
        style.ignore_null_fields = options
            .bool("json.encode.ignore-null-fields")?
            .unwrap_or(false);
        Ok(style)
    }

    pub(crate) fn time(self) -> TimeStyle {
        self.time
    }

    /// The style of a column's values: TIMESTAMP_LTZ has a `Z` whatever the array's type says.
    pub(crate) fn with_ltz(mut self, ltz: bool) -> Style {
        if ltz {
            self.time.zone = Zone::Always;
        }
        self
    }
}

impl JsonEncoder {
    /// An encoder for batches whose column `i` has the name and type of `columns[i]`.
    /// Reads the `json.*` options for writing.
    pub fn new(columns: &[&Column], options: &Options) -> Result<JsonEncoder> {
        let style = Style::new(options)?;
        let columns = columns
            .iter()
            .map(|c| JsonColumn::new(&c.name, style.with_ltz(c.ltz)));
        Ok(JsonEncoder {
            columns: columns.collect(),
        })
    }

    /// An encoder for a result that no table declares. Timestamps with a time zone get a `Z`.
    pub fn for_schema(schema: &Schema) -> JsonEncoder {
        let columns = schema
            .fields()
            .iter()
            .map(|f| JsonColumn::new(f.name(), Style::SQL));
        JsonEncoder {
            columns: columns.collect(),
        }
    }

    /// The rows of a batch. A batch of another width is a defect.
    pub fn rows<'a>(&'a mut self, batch: &'a RecordBatch) -> Result<JsonRows<'a>> {
        Ok(JsonRows(self.cells(batch)?.collect()))
    }

    /// Appends row `row` as one object, without a newline. After an error (a batch of another
    /// width) `out` is as it was. For many rows of a batch [`JsonEncoder::rows`] is quicker.
    pub fn encode(&mut self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<()> {
        append_row(self.cells(batch)?, row, out)
    }

    fn cells<'a>(
        &'a mut self,
        batch: &'a RecordBatch,
    ) -> Result<impl Iterator<Item = (&'a mut JsonColumn, Cells<'a>)>> {
        if batch.num_columns() != self.columns.len() {
            let (want, got) = (self.columns.len(), batch.num_columns());
            return Err(Error::bug(format!(
                "a JSON encoder for {want} columns got a batch of {got}"
            )));
        }
        let cells = batch.columns().iter().map(|array| Cells::of(array));
        Ok(self.columns.iter_mut().zip(cells))
    }
}

impl JsonRows<'_> {
    /// Appends row `row` as one object, without a newline.
    pub fn encode(&mut self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let columns = self.0.iter_mut();
        append_row(
            columns.map(|(column, cells)| (&mut **column, *cells)),
            row,
            out,
        )
    }
}

#[inline(always)]
fn append_row<'a>(
    columns: impl Iterator<Item = (&'a mut JsonColumn, Cells<'a>)>,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    for (column, cells) in columns {
        if column.style.ignore_null_fields && cells.is_null(row) {
            continue;
        }
        cells.append(row, &column.key, column.style, &mut column.last_time, out)?;
    }
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
    Ok(())
}

impl JsonColumn {
    fn new(name: &str, style: Style) -> JsonColumn {
        let mut key = vec![b','];
        string(&mut key, name.as_bytes());
        key.push(b':');
        JsonColumn {
            key: Snippet::new(key),
            style,
            last_time: None,
        }
    }
}

/// Appends one value. The array's own type decides, so a batch that holds the declared values
/// in another form (`Utf8View` for `Utf8`) is fine.
pub(crate) fn value(array: &dyn Array, row: usize, style: Style, out: &mut Vec<u8>) -> Result<()> {
    if text::is_null(array, row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    if let Some(text) = text::string(array, row) {
        string(out, text.as_bytes());
        return Ok(());
    }
    if text::plain_number(array, row, out) {
        return Ok(());
    }
    let start = out.len();
    match array.data_type() {
        DataType::Boolean => text::boolean(array, row, out),
        DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_) => {
            out.push(b'"');
            text::temporal(array, row, style.time, out);
            out.push(b'"');
        }
        DataType::Float64 | DataType::Float32 | DataType::Float16 => {
            if text::float(array, row, out) != Some(true) {
                out.insert(start, b'"');
                out.push(b'"');
            }
        }
        DataType::Dictionary(..) => {
            let (values, index) = text::dictionary_value(array, row);
            value(values, index, style, out)?;
        }
        DataType::Struct(_) => object(array.as_struct(), row, style, out)?,
        _ => {
            if let Some((items, range)) = text::items(array, row) {
                return sequence(items, range, text::is_map(array), style, out);
            }
            out.push(b'"');
            if let Some(bytes) = text::bytes(array, row) {
                base64(bytes, out)?;
            } else {
                text::other(array, row, out)?;
                escape_tail(out, start + 1);
            }
            out.push(b'"');
        }
    }
    Ok(())
}

fn object(row_values: &StructArray, row: usize, style: Style, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    let start = out.len();
    for (field, column) in row_values.fields().iter().zip(row_values.columns()) {
        if style.ignore_null_fields && text::is_null(column, row) {
            continue;
        }
        if out.len() > start {
            out.push(b',');
        }
        string(out, field.name().as_bytes());
        out.push(b':');
        value(column, row, style, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The items of an ARRAY, or the entries of a MAP.
fn sequence(
    items: &dyn Array,
    range: Range<usize>,
    is_map: bool,
    style: Style,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(if is_map { b'{' } else { b'[' });
    let first = range.start;
    for i in range {
        if i > first {
            out.push(b',');
        }
        if is_map {
            let entries = items.as_struct();
            key(entries.column(0), i, style, out)?;
            out.push(b':');
            value(entries.column(1), i, style, out)?;
        } else {
            value(items, i, style, out)?;
        }
    }
    out.push(if is_map { b'}' } else { b']' });
    Ok(())
}

/// A map's key: its value as a string.
fn key(array: &dyn Array, row: usize, style: Style, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    value(array, row, style, out)?;
    if out.get(start) != Some(&b'"') {
        out.insert(start, b'"');
        escape_tail(out, start + 1);
        out.push(b'"');
    }
    Ok(())
}

/// Appends `bytes` in base64, with padding.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.truncate(start + written.map_err(|e| Error::bug(format!("base64: {e}")))?);
    Ok(())
}

/// What stands for each byte in a string: 0 for itself, `u` for `\u00XX`, else the letter
/// behind the backslash.
static ESCAPES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0C] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends UTF-8 `text` as a JSON string (RFC 8259).
pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    // Nearly always nothing is escaped: looked through without a branch for each byte.
    if !text
        .iter()
        .fold(false, |any, b| any | (ESCAPES[usize::from(*b)] != 0))
    {
        return out.extend_from_slice(text);
    }
    let mut written = 0;
    for (i, &byte) in text.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&text[written..i]);
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"00");
            out.extend_from_slice(&digits);
        }
        written = i + 1;
    }
    out.extend_from_slice(&text[written..]);
}

/// Escapes what has been appended since `start`.
fn escape_tail(out: &mut Vec<u8>, start: usize) {
    if out[start..].iter().any(|b| ESCAPES[usize::from(*b)] != 0) {
        let text = out.split_off(start);
        escaped(out, &text);
    }
}

#[cfg(test)]
mod tests;
