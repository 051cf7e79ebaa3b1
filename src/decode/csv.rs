//! CSV records: one line each, columns by position.

use super::column::{Mismatch, Scalar, shown};
use super::{Bad, Decode, Decoded, Outcomes, text};
use crate::error::{Error, Result};
use crate::source::Blobs;
use crate::table::sql_name;
use arrow::datatypes::SchemaRef;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::ops::Range;

#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// ASCII.
    pub delimiter: u8,
    /// ASCII.
    pub quote: u8,
    /// A field of this text is NULL, whatever its type.
    pub null_literal: Option<String>,
    /// A record with too few fields is bad; otherwise the last columns are NULL.
    pub fail_on_missing_field: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            null_literal: None,
            fail_on_missing_field: true,
        }
    }
}

/// Reads records that are one line of CSV each (RFC 4180; the line's end may be there or not).
///
/// - Fields are the declared columns by position. Only the wanted ones are converted.
/// - The null literal is NULL, and an empty field is NULL except in a STRING column, where it is
///   the empty string. NULL is bad for a NOT NULL column.
/// - Booleans are `true` and `false` in any case, numbers as in SQL (whole ones also as `1.0`),
///   DECIMAL rounded half away from zero, times as in `super::timestamp`, BYTES as base64.
///   Blanks around all but strings do not count.
pub struct CsvDecoder {
    schema: SchemaRef,
    options: CsvOptions,
    reader: Reader,
    /// Number of declared columns.
    fields: usize,
    columns: Vec<Column>,
    line: Line,
}

struct Column {
    values: Scalar,
    /// Of the field in the record.
    position: usize,
    nullable: bool,
}

/// The fields of one record: field `i` is `text[ends[i - 1]..ends[i]]`.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
}

impl CsvDecoder {
    /// `declared` names the fields of a record in order. `schema` has those of them that are
    /// wanted, in any order.
    pub fn new(declared: &[String], schema: SchemaRef, options: CsvOptions) -> Result<Self> {
        if !options.delimiter.is_ascii() || !options.quote.is_ascii() {
            return Err(Error::sql(
                "the delimiter and the quote of a CSV are ASCII characters",
            ));
        }
        let column = |field: &arrow::datatypes::FieldRef| {
            let position = declared.iter().position(|name| name == field.name());
            let position = position.ok_or_else(|| {
                Error::bug(format!(
                    "column '{}' is not among the declared ones",
                    field.name()
                ))
            })?;
            let values = Scalar::new(field.data_type()).ok_or_else(|| {
                let (name, sql_type) = (field.name(), sql_name(field.data_type()));
                Error::sql(format!(
                    "column '{name}': {sql_type} cannot be read from CSV"
                ))
                .with_hint("declare it as STRING")
            })?;
            Ok(Column {
                values,
                position,
                nullable: field.is_nullable(),
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        let reader = ReaderBuilder::new()
            .delimiter(options.delimiter)
            .quote(options.quote)
            .build();
        let fields = declared.len();
        Ok(Self {
            schema,
            options,
            reader,
            fields,
            columns,
            line: Line::default(),
        })
    }

    /// Reads one record into a new row. The caller takes back what a bad one has left behind.
    fn read(&mut self, record: u32, text: &str) -> Result<(), Bad> {
        let bad = |reason| Bad {
            record,
            field: None,
            reason,
        };
        self.line
            .split(&mut self.reader, text)
            .map_err(|reason| bad(reason.into()))?;
        let found = self.line.fields;
        if found > self.fields || (found < self.fields && self.options.fail_on_missing_field) {
            return Err(bad(format!(
                "expected {} fields, found {found}",
                self.fields
            )));
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            let field = match self.line.field(column.position) {
                None => None,
                Some(Ok(text)) => Some(text),
                Some(Err(_)) => return Err(bad("invalid UTF-8".into())),
            };
            column
                .push(field, self.options.null_literal.as_deref())
                .map_err(|Mismatch| {
                    let declared = self.schema.field(index);
                    let found = field.map_or("no field".into(), shown);
                    let not_null = if column.nullable { "" } else { " NOT NULL" };
                    let expected = sql_name(declared.data_type());
                    let reason = format!("expected {expected}{not_null}, found {found}");
                    Bad {
                        record,
                        field: Some(declared.name().clone()),
                        reason,
                    }
                })?;
        }
        Ok(())
    }
}

impl Column {
    /// `None` is a field that the record does not have.
    fn push(&mut self, field: Option<&str>, null_literal: Option<&str>) -> Result<(), Mismatch> {
        let is_null = |text: &&str| {
            null_literal == Some(*text)
                || (!self.values.is_string() && text.trim_ascii().is_empty())
        };
        match field.filter(|text| !is_null(text)) {
            Some(text) => self.values.push_text(text),
            None if self.nullable => {
                self.values.push_null();
                Ok(())
            }
            None => Err(Mismatch),
        }
    }
}

impl Line {
    /// Splits `text` into fields, without quotes. A byte order mark does not count.
    fn split(&mut self, reader: &mut Reader, text: &str) -> Result<(), &'static str> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.starts_with(['\r', '\n']) {
            return Err("more than one line in a record"); // The reader would pass an empty line over.
        }
        // Unquoting never makes a text longer, and there is at most one field per byte, and one.
        self.text.resize(self.text.len().max(text.len() + 1), 0);
        self.ends.resize(self.ends.len().max(text.len() + 2), 0);
        self.fields = 1;
        self.ends[0] = 0;
        if text.is_empty() {
            return Ok(());
        }
        reader.reset();
        let (first, read, written, ended) =
            reader.read_record(text.as_bytes(), &mut self.text, &mut self.ends);
        if first != ReadRecordResult::InputEmpty || read < text.len() {
            return Err("more than one line in a record");
        }
        // Only a quote that is still open takes the line's end for text.
        let (last, _, _, more) =
            reader.read_record(b"\n", &mut self.text[written..], &mut self.ends[ended..]);
        if last != ReadRecordResult::Record {
            return Err("a quote is not closed");
        }
        self.fields = ended + more;
        Ok(())
    }

    fn field(&self, index: usize) -> Option<Result<&str, std::str::Utf8Error>> {
        let ends = &self.ends[..self.fields];
        let start = if index == 0 { 0 } else { *ends.get(index - 1)? };
        Some(std::str::from_utf8(&self.text[start..*ends.get(index)?]))
    }
}

impl Decode for CsvDecoder {
    fn decode(&mut self, payload: &Blobs, range: Range<usize>) -> Result<Decoded> {
        for column in &mut self.columns {
            column.values.truncate(0);
            column.values.begin(&payload.data);
        }
        let mut outcomes = Outcomes::new(&range);
        for record in range {
            let read = match text(payload, record) {
                None => {
                    outcomes.gap();
                    continue;
                }
                Some(Ok(text)) => self.read(record as u32, text),
                Some(Err(bad)) => Err(bad),
            };
            match read {
                Ok(()) => outcomes.row(record),
                Err(bad) => {
                    let rows = outcomes.rows();
                    self.columns
                        .iter_mut()
                        .for_each(|column| column.values.truncate(rows));
                    outcomes.bad(bad);
                }
            }
        }
        let columns = self.columns.iter_mut().map(|column| column.values.finish());
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(outcomes.finish(columns))
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

#[cfg(test)]
mod tests;
