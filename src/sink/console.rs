//! Standard output: Spark's console tables, and one line per row as JSON or CSV.

use super::Sink;
use crate::encode::csv::CsvEncoder;
use crate::encode::json::JsonEncoder;
use crate::encode::text::{Dialect, cell, counted};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::state::Prepared;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::io::{ErrorKind, Write};

/// The message of the error that says that nobody reads our output any more (`| head`).
pub const OUTPUT_CLOSED: &str = "standard output was closed";

/// Lines are handed on when so many bytes of them are waiting, and at each commit.
const BUFFER_BYTES: usize = 64 << 10;

const DASHES: &str = "-------------------------------------------";

/// Spark's minimum width of a column.
const COLUMN_WIDTH_MIN: usize = 3;

/// The error of a write to standard output.
pub(crate) fn output_error(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Error::env(OUTPUT_CLOSED),
        _ => Error::env(format!("cannot write the result: {error}")),
    }
}

/// Spark's options of the console sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleOptions {
    /// Cells are cut at so many characters and right-aligned; 0 cuts nothing and left-aligns.
    pub truncate: usize,
    /// Rows shown of each batch.
    pub num_rows: usize,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        ConsoleOptions {
            truncate: 20,
            num_rows: 20,
        }
    }
}

impl ConsoleOptions {
    /// Reads `truncate` (`true`, `false` or a number of characters) and `numRows`.
    pub fn from_options(options: &Options) -> Result<ConsoleOptions> {
        let mut all = ConsoleOptions::default();
        match options.get("truncate") {
            None => {}
            Some(v) if v.eq_ignore_ascii_case("true") => {}
            Some(v) if v.eq_ignore_ascii_case("false") => all.truncate = 0,
            Some(v) => {
                let message = "expected true, false or a number of characters";
                all.truncate = v
                    .parse()
                    .map_err(|_| options.invalid("truncate", message))?;
            }
        }
        if let Some(rows) = options.integer("numRows")? {
            all.num_rows = usize::try_from(rows)
                .map_err(|_| options.invalid("numRows", "expected a number of rows"))?;
        }
        Ok(all)
    }
}

/// Spark Structured Streaming's console sink, byte for byte. Keeps only the rows that it will
/// show, and a count of the others.
pub struct ConsoleSink {
    header: Vec<String>,
    options: ConsoleOptions,
    out: Box<dyn Write + Send>,
    /// The rows of this epoch that are shown: cells, already cut.
    shown: Vec<Vec<String>>,
    /// Rows of this epoch, shown or not.
    epoch_rows: u64,
    rows: u64,
    scratch: Vec<u8>,
}

impl ConsoleSink {
    pub fn new(
        schema: SchemaRef,
        options: ConsoleOptions,
        out: Box<dyn Write + Send>,
    ) -> ConsoleSink {
        ConsoleSink {
            // Spark cuts cells, never names.
            header: schema
                .fields()
                .iter()
                .map(|f| escape_meta_characters(f.name()))
                .collect(),
            options,
            out,
            shown: Vec::new(),
            epoch_rows: 0,
            rows: 0,
            scratch: Vec::new(),
        }
    }

    fn cells(&mut self, batch: &RecordBatch, row: usize) -> Result<Vec<String>> {
        let mut cells = Vec::with_capacity(batch.num_columns());
        for array in batch.columns() {
            self.scratch.clear();
            cell(array, row, Dialect::Spark, false, &mut self.scratch)?;
            let text = escape_meta_characters(&String::from_utf8_lossy(&self.scratch));
            cells.push(cut(text, self.options.truncate));
        }
        Ok(cells)
    }

    /// The table of `Dataset.show`.
    fn table(&self) -> String {
        let mut widths: Vec<usize> = self
            .header
            .iter()
            .map(|n| half_width(n).max(COLUMN_WIDTH_MIN))
            .collect();
        for cells in &self.shown {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(half_width(cell));
            }
        }
        let mut border = String::from("+");
        for (i, width) in widths.iter().enumerate() {
            border.push_str(if i > 0 { "+" } else { "" });
            border.extend(std::iter::repeat_n('-', *width));
        }
        border.push_str("+\n");
        let mut table = border.clone();
        self.line(&mut table, &self.header, &widths);
        table.push_str(&border);
        for cells in &self.shown {
            self.line(&mut table, cells, &widths);
        }
        table.push_str(&border);
        if self.epoch_rows > self.shown.len() as u64 {
            let noun = if self.options.num_rows == 1 {
                "row"
            } else {
                "rows"
            };
            table.push_str(&format!(
                "only showing top {} {noun}\n",
                self.options.num_rows
            ));
        }
        table
    }

    fn line(&self, table: &mut String, cells: &[String], widths: &[usize]) {
        table.push('|');
        for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
            table.push_str(if i > 0 { "|" } else { "" });
            let padding = std::iter::repeat_n(' ', width.saturating_sub(half_width(cell)));
            if self.options.truncate > 0 {
                table.extend(padding);
                table.push_str(cell);
            } else {
                table.push_str(cell);
                table.extend(padding);
            }
        }
        table.push_str("|\n");
    }
}

impl Sink for ConsoleSink {
    fn write(&mut self, _epoch: u64, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.header.len() {
            let (want, got) = (self.header.len(), batch.num_columns());
            return Err(Error::bug(format!(
                "a console of {want} columns got a batch of {got}"
            )));
        }
        let free = self.options.num_rows - self.shown.len();
        for row in 0..batch.num_rows().min(free) {
            let cells = self.cells(batch, row)?;
            self.shown.push(cells);
        }
        self.epoch_rows += batch.num_rows() as u64;
        Ok(())
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        // `show` prints the table with `println`: hence the empty line.
        let text = format!("{DASHES}\nBatch: {epoch}\n{DASHES}\n{}\n", self.table());
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(output_error)?;
        self.shown.clear();
        self.rows += self.epoch_rows;
        self.epoch_rows = 0;
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        // The trigger shows its tables; a checkpoint only what none has shown.
        if self.epoch_rows > 0 {
            self.commit(epoch)?;
        }
        Ok(Prepared::Null)
    }

    fn describe(&self) -> String {
        format!("{} on the console", counted(self.rows, "row"))
    }
}

/// Spark's escapes, which keep a cell on one line.
fn escape_meta_characters(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{c}' => escaped.push_str("\\f"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{b}' => escaped.push_str("\\v"),
            '\u{7}' => escaped.push_str("\\a"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Cuts `text` at `limit` characters as Java counts them (UTF-16 units), the last three being
/// dots if there is room for them. A character of two units is never halved.
fn cut(mut text: String, limit: usize) -> String {
    if limit == 0
        || text.len() <= limit
        || text.chars().map(char::len_utf16).sum::<usize>() <= limit
    {
        return text;
    }
    let kept = if limit < 4 { limit } else { limit - 3 };
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > kept
    });
    text.truncate(end.map_or(text.len(), |(i, _)| i));
    if limit >= 4 {
        text.push_str("...");
    }
    text
}

/// The width of `text` on a terminal as Spark counts it: UTF-16 units, East Asian full-width
/// characters twice.
fn half_width(text: &str) -> usize {
    let full = |c: char| {
        matches!(c,
            '\u{1100}'..='\u{115F}'
            | '\u{2E80}'..='\u{A4CF}'
            | '\u{AC00}'..='\u{D7A3}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{FE30}'..='\u{FE6F}'
            | '\u{FF00}'..='\u{FF60}'
            | '\u{FFE0}'..='\u{FFE6}')
    };
    text.chars()
        .map(|c| c.len_utf16() + usize::from(full(c)))
        .sum()
}

/// One line per row.
enum LineEncoder {
    Json(JsonEncoder),
    Csv(CsvEncoder),
}

/// `--format json|csv`: one line per row, handed on at the latest when the epoch is committed.
pub struct LinesSink {
    encoder: LineEncoder,
    out: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    rows: u64,
}

impl LinesSink {
    /// JSON objects.
    pub fn json(schema: &Schema, out: Box<dyn Write + Send>) -> LinesSink {
        let encoder = LineEncoder::Json(JsonEncoder::for_schema(schema));
        LinesSink {
            encoder,
            out,
            buffer: Vec::new(),
            rows: 0,
        }
    }

    /// CSV records behind one line of names.
    pub fn csv(schema: &Schema, out: Box<dyn Write + Send>) -> LinesSink {
        let encoder = CsvEncoder::for_schema(schema);
        let mut buffer = Vec::new();
        encoder.header(&mut buffer);
        buffer.push(b'\n');
        LinesSink {
            encoder: LineEncoder::Csv(encoder),
            out,
            buffer,
            rows: 0,
        }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer).map_err(output_error)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Sink for LinesSink {
    fn write(&mut self, _epoch: u64, batch: &RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            match &mut self.encoder {
                LineEncoder::Json(encoder) => encoder.encode(batch, row, &mut self.buffer)?,
                LineEncoder::Csv(encoder) => encoder.encode(batch, row, &mut self.buffer)?,
            }
            self.buffer.push(b'\n');
            if self.buffer.len() >= BUFFER_BYTES {
                self.hand_on()?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn commit(&mut self, _epoch: u64) -> Result<()> {
        self.hand_on()?;
        self.out.flush().map_err(output_error)
    }

    /// A CSV result without a single epoch still has its line of names.
    fn close(&mut self) -> Result<()> {
        self.hand_on()?;
        self.out.flush().map_err(output_error)
    }

    fn describe(&self) -> String {
        format!("{} on standard output", counted(self.rows, "row"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
