//! Flink's `print` connector: one line per row, `+I[a, b, c]`.

use super::console::output_error;
use super::{OutputMode, Sink};
use crate::encode::text::{Dialect, cell, counted};
use crate::error::{Error, Result};
use crate::table::TableDef;
use arrow::record_batch::RecordBatch;
use std::io::Write;

/// Lines are handed on when so many bytes of them are waiting, and at each commit.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints rows, each behind its kind of change: `+I` (insert), or `+U` (new value of a group)
/// in update mode, whose rows replace earlier ones, and `-D` (a group is gone).
pub struct PrintSink {
    out: Box<dyn Write + Send>,
    prefix: Vec<u8>,
    change: &'static [u8],
    /// Per column: whether it is a TIMESTAMP_LTZ.
    ltz: Vec<bool>,
    buffer: Vec<u8>,
    rows: u64,
}

impl PrintSink {
    /// Prints to standard output, or to standard error with `'standard-error' = 'true'`.
    pub fn new(def: &TableDef, mode: OutputMode) -> Result<PrintSink> {
        let out: Box<dyn Write + Send> = match def.options.bool("standard-error")? {
            Some(true) => Box::new(std::io::stderr()),
            _ => Box::new(std::io::stdout()),
        };
        Ok(PrintSink::with_output(def, mode, out))
    }

    /// Prints to `out`. Only `print-identifier` is read of the options.
    pub fn with_output(def: &TableDef, mode: OutputMode, out: Box<dyn Write + Send>) -> PrintSink {
        let mut prefix = Vec::new();
        if let Some(identifier) = def
            .options
            .get("print-identifier")
            .filter(|i| !i.is_empty())
        {
            prefix.extend_from_slice(identifier.as_bytes());
            prefix.extend_from_slice(b"> ");
        }
        let change = match mode {
            OutputMode::Update => b"+U[",
            OutputMode::Append | OutputMode::Complete => b"+I[",
        };
        let ltz = def.sink_columns().map(|c| c.ltz).collect();
        PrintSink {
            out,
            prefix,
            change,
            ltz,
            buffer: Vec::new(),
            rows: 0,
        }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer).map_err(output_error)?;
        self.buffer.clear();
        Ok(())
    }
}

impl PrintSink {
    fn print(&mut self, change: &[u8], batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.ltz.len() {
            let (want, got) = (self.ltz.len(), batch.num_columns());
            return Err(Error::bug(format!(
                "a print sink of {want} columns got a batch of {got}"
            )));
        }
        for row in 0..batch.num_rows() {
            self.buffer.extend_from_slice(&self.prefix);
            self.buffer.extend_from_slice(change);
            for (i, (array, ltz)) in batch.columns().iter().zip(&self.ltz).enumerate() {
                if i > 0 {
                    self.buffer.extend_from_slice(b", ");
                }
                cell(array, row, Dialect::Flink, *ltz, &mut self.buffer)?;
            }
            self.buffer.extend_from_slice(b"]\n");
            if self.buffer.len() >= BUFFER_BYTES {
                self.hand_on()?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

impl Sink for PrintSink {
    fn write(&mut self, _epoch: u64, batch: &RecordBatch) -> Result<()> {
        self.print(self.change, batch)
    }

    fn delete(&mut self, _epoch: u64, batch: &RecordBatch) -> Result<()> {
        self.print(b"-D[", batch)
    }

    fn commit(&mut self, _epoch: u64) -> Result<()> {
        self.hand_on()?;
        self.out.flush().map_err(output_error)
    }

    fn describe(&self) -> String {
        format!("{} printed", counted(self.rows, "row"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::tests::SharedOutput;
    use super::*;
    use crate::error::At;
    use crate::options::Options;
    use crate::table::{Column, ColumnKind};
    use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    const AT: At = At { line: 1, column: 1 };

    fn printed(mode: OutputMode, options: &[(&str, &str)]) -> String {
        let time = || {
            Arc::new(TimestampMicrosecondArray::from(vec![
                1_641_038_400_000_000;
                2
            ])) as ArrayRef
        };
        let batch = RecordBatch::try_from_iter_with_nullable([
            (
                "page",
                Arc::new(StringViewArray::from(vec![Some("/home"), None])) as ArrayRef,
                true,
            ),
            ("n", Arc::new(Int64Array::from(vec![3, 4])), true),
            ("ts", time(), true),
            ("at", time(), true),
        ])
        .unwrap();
        let mut def = TableDef {
            name: "t".into(),
            columns: Vec::new(),
            watermark: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            values: None,
            options: Options::default(),
            at: AT,
        };
        for field in batch.schema().fields() {
            def.columns.push(Column {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                nullable: true,
                kind: ColumnKind::Physical,
                ltz: field.name() == "at",
                at: AT,
            });
        }
        for (key, value) in options {
            def.options.insert("print", key, value, AT).unwrap();
        }
        let output = SharedOutput::default();
        let mut sink = PrintSink::with_output(&def, mode, Box::new(output.clone()));
        sink.write(0, &batch).unwrap();
        assert_eq!(output.text(), "", "rows are printed by the commit");
        sink.commit(0).unwrap();
        assert_eq!(sink.describe(), "2 rows printed");
        output.text()
    }

    #[test]
    fn rows_as_flink_prints_them() {
        assert_eq!(
            printed(OutputMode::Append, &[]),
            "+I[/home, 3, 2022-01-01T12:00, 2022-01-01T12:00:00Z]\n+I[null, 4, 2022-01-01T12:00, 2022-01-01T12:00:00Z]\n"
        );
    }

    #[test]
    fn identifier_and_update_mode() {
        let text = printed(OutputMode::Update, &[("print-identifier", "out")]);
        assert!(text.starts_with("out> +U[/home, 3, "), "{text}");
    }
}
