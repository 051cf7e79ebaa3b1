//! Rows to CSV records (RFC 4180).
//!
//! A field is quoted when it must be: it holds the delimiter, the quote or a line break, or it
//! is a text that would otherwise read as NULL. Quotes inside are doubled. Timestamps, numbers
//! and bytes are spelled as in JSON (see [`super::json`]), nested values are JSON texts.

use super::json::{self, Style};
use super::text;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::table::Column;
use arrow::array::Array;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;

/// Writes rows of one schema as CSV records.
#[derive(Debug, Clone)]
pub struct CsvEncoder {
    columns: Vec<(String, Style)>,
    delimiter: u8,
    quote: u8,
    /// What stands for NULL.
    null: Vec<u8>,
}

impl CsvEncoder {
    /// An encoder for batches whose column `i` has the name and type of `columns[i]`.
    /// Reads the `csv.*` options; NULL is written as the null literal, by default as nothing.
    pub fn new(columns: &[&Column], options: &Options) -> Result<CsvEncoder> {
        let delimiter = character(options, "csv.field-delimiter")?.unwrap_or(b',');
        let quote = character(options, "csv.quote-character")?.unwrap_or(b'"');
        if delimiter == quote {
            return Err(options.invalid("csv.quote-character", "is the field delimiter too"));
        }
        Ok(CsvEncoder {
            columns: columns
                .iter()
                .map(|c| (c.name.clone(), Style::SQL.with_ltz(c.ltz)))
                .collect(),
            delimiter,
            quote,
            null: options
                .get("csv.null-literal")
                .unwrap_or("")
                .as_bytes()
                .to_vec(),
        })
    }

    /// An encoder for a result that no table declares: commas, double quotes, NULL is empty.
    pub fn for_schema(schema: &Schema) -> CsvEncoder {
        let columns = schema
            .fields()
            .iter()
            .map(|f| (f.name().clone(), Style::SQL));
        CsvEncoder {
            columns: columns.collect(),
            delimiter: b',',
            quote: b'"',
            null: Vec::new(),
        }
    }

    /// Appends the column names as one record, without a newline.
    pub fn header(&self, out: &mut Vec<u8>) {
        for (i, (name, _)) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            let start = out.len();
            out.extend_from_slice(name.as_bytes());
            self.quote_tail(out, start);
        }
    }

    /// Appends row `row` as one record, without a newline. The only error is a batch of another
    /// width; then `out` is as it was.
    pub fn encode(&mut self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if batch.num_columns() != self.columns.len() {
            let (want, got) = (self.columns.len(), batch.num_columns());
            return Err(Error::bug(format!(
                "a CSV encoder for {want} columns got a batch of {got}"
            )));
        }
        let record = out.len();
        for (i, ((_, style), array)) in self.columns.iter().zip(batch.columns()).enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            let start = out.len();
            if text::is_null(array, row) {
                out.extend_from_slice(&self.null);
                continue;
            }
            field(array, row, *style, out)?;
            self.quote_tail(out, start);
        }
        // A line without anything on it is no record to any reader.
        if out.len() == record {
            out.extend_from_slice(&[self.quote, self.quote]);
        }
        Ok(())
    }

    /// Quotes the field that has been appended since `start`, if it must be.
    fn quote_tail(&self, out: &mut Vec<u8>, start: usize) {
        let field = &out[start..];
        let special =
            |b: &u8| *b == self.delimiter || *b == self.quote || *b == b'\n' || *b == b'\r';
        if !field.iter().any(special) && field != self.null.as_slice() {
            return;
        }
        let field = out.split_off(start);
        out.push(self.quote);
        for byte in field {
            if byte == self.quote {
                out.push(byte);
            }
            out.push(byte);
        }
        out.push(self.quote);
    }
}

/// Appends a value that is not NULL, unquoted.
fn field(array: &dyn Array, row: usize, style: Style, out: &mut Vec<u8>) -> Result<()> {
    if let Some(text) = text::string(array, row) {
        out.extend_from_slice(text.as_bytes());
    } else if let Some(bytes) = text::bytes(array, row) {
        json::base64(bytes, out)?;
    } else if text::plain_number(array, row, out)
        || text::float(array, row, out).is_some()
        || text::temporal(array, row, style.time(), out)
    {
        // Written.
    } else {
        match array.data_type() {
            DataType::Boolean => text::boolean(array, row, out),
            DataType::Dictionary(..) => {
                let (values, index) = text::dictionary_value(array, row);
                field(values, index, style, out)?;
            }
            DataType::Struct(_) => json::value(array, row, style, out)?,
            _ if text::items(array, row).is_some() => json::value(array, row, style, out)?,
            _ => text::other(array, row, out)?,
        }
    }
    Ok(())
}

/// An option that is one ASCII character; a tab may be written `\t`.
pub(crate) fn character(options: &Options, key: &str) -> Result<Option<u8>> {
    match options.get(key).map(str::as_bytes) {
        None => Ok(None),
        Some(br"\t") => Ok(Some(b'\t')),
        Some(&[byte]) if byte.is_ascii() && byte != b'\n' && byte != b'\r' => Ok(Some(byte)),
        Some(_) => Err(options.invalid(key, "expected one ASCII character")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::At;
    use arrow::array::*;
    use arrow::datatypes::*;
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
            .unwrap()
    }

    fn lines(batch: &RecordBatch, options: &[(&str, &str)]) -> Vec<String> {
        let mut all = Options::default();
        for (key, value) in options {
            all.insert("filesystem", key, value, At { line: 1, column: 1 })
                .unwrap();
        }
        let columns: Vec<Column> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| Column {
                name: f.name().clone(),
                data_type: f.data_type().clone(),
                nullable: true,
                kind: crate::table::ColumnKind::Physical,
                ltz: f.name() == "ltz",
                at: At { line: 1, column: 1 },
            })
            .collect();
        let mut encoder = CsvEncoder::new(&columns.iter().collect::<Vec<_>>(), &all).unwrap();
        let mut header = Vec::new();
        encoder.header(&mut header);
        let mut lines = vec![String::from_utf8(header).unwrap()];
        for row in 0..batch.num_rows() {
            let mut out = Vec::new();
            encoder.encode(batch, row, &mut out).unwrap();
            lines.push(String::from_utf8(out).unwrap());
        }
        lines
    }

    fn texts(values: Vec<Option<&str>>) -> ArrayRef {
        Arc::new(StringViewArray::from(values))
    }

    #[test]
    fn quotes_only_what_needs_it() {
        let values = vec![
            Some("plain text"),
            Some("a,b"),
            Some("say \"hi\""),
            Some("two\nlines"),
            Some("cr\r"),
            Some(""),
            None,
        ];
        let n = Int32Array::from(vec![1; 7]);
        let batch = batch(vec![("a;b", texts(values)), ("n, m", Arc::new(n))]);
        assert_eq!(
            lines(&batch, &[]),
            [
                "a;b,\"n, m\"",
                "plain text,1",
                "\"a,b\",1",
                "\"say \"\"hi\"\"\",1",
                "\"two\nlines\",1",
                "\"cr\r\",1",
                "\"\",1",
                ",1",
            ]
        );
    }

    #[test]
    fn delimiter_quote_and_null_literal_of_the_options() {
        let batch = batch(vec![
            ("a", texts(vec![Some("x;'y"), Some("n/a"), None, Some("")])),
            ("b", texts(vec![None; 4])),
        ]);
        let options = [
            ("csv.field-delimiter", ";"),
            ("csv.quote-character", "'"),
            ("csv.null-literal", "n/a"),
        ];
        assert_eq!(
            lines(&batch, &options),
            ["a;b", "'x;''y';n/a", "'n/a';n/a", "n/a;n/a", ";n/a"]
        );
        assert_eq!(
            lines(&batch, &[("csv.field-delimiter", r"\t")])[1],
            "x;'y\t"
        );
    }

    #[test]
    fn a_lone_null_is_still_a_record() {
        assert_eq!(
            lines(&batch(vec![("a", texts(vec![None, Some("")]))]), &[]),
            ["a", "\"\"", "\"\""]
        );
    }

    #[test]
    fn values_of_every_kind() {
        let time = TimestampMicrosecondArray::from(vec![1_641_039_745_120_000]);
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]);
        let decimal = Decimal128Array::from(vec![150])
            .with_precision_and_scale(5, 2)
            .unwrap();
        let keys: DictionaryArray<Int8Type> = vec!["dict"].into_iter().collect();
        let batch = batch(vec![
            ("ts", Arc::new(time.clone()) as ArrayRef),
            ("ltz", Arc::new(time)),
            ("d", Arc::new(Date32Array::from(vec![0]))),
            ("f", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("n", Arc::new(decimal)),
            ("b", Arc::new(BinaryArray::from(vec![&b"foo"[..]]))),
            ("ok", Arc::new(BooleanArray::from(vec![true]))),
            ("l", Arc::new(list)),
            ("k", Arc::new(keys)),
        ]);
        assert_eq!(
            lines(&batch, &[])[1],
            "2022-01-01 12:22:25.12,2022-01-01 12:22:25.12Z,1970-01-01,NaN,1.50,Zm9v,true,\"[1,null]\",dict"
        );
    }

    #[test]
    fn delimiters_of_more_than_one_character_are_refused() {
        let mut options = Options::default();
        options
            .insert(
                "kafka",
                "csv.field-delimiter",
                "||",
                At { line: 3, column: 4 },
            )
            .unwrap();
        let error = CsvEncoder::new(&[], &options).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option 'csv.field-delimiter' = '||': expected one ASCII character"
        );
    }
}
