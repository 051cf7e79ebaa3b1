//! The connector `datagen`: Flink's options, rows made here.
//!
//! One partition, whose offset is the row's number. A row depends on the seed and its number
//! only (but for times, which are the clock's), so a reader that starts in the middle goes on
//! with the rows that a reader from the start would give.

mod fields;

use super::{Assignment, Polled, ReadRequest, Reader, Rows, Source, resume_at};
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::state::PartitionSnapshot;
use crate::table::{ColumnKind, TableDef};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use fields::Field;
use std::sync::Arc;
use std::time::Duration;

/// Microseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

const BATCH_ROWS_MAX: i64 = 8192;
/// Rows are handed out so many times a second at most, unless there are fewer than that.
const BATCHES_PER_SECOND: i64 = 100;
const SECOND_US: i64 = 1_000_000;

/// A table `WITH ('connector' = 'datagen')`.
pub struct DatagenSource {
    table: Arc<str>,
    schema: SchemaRef,
    /// In the order of [`ReadRequest::columns`].
    fields: Arc<[Field]>,
    rows_per_second: i64,
    /// `number-of-rows`, or the shortest sequence.
    rows: Option<i64>,
    clock: Clock,
}

impl DatagenSource {
    /// Checks the table's options. `clock` says what time it is, for pace and for timestamps.
    pub fn new(def: &TableDef, request: ReadRequest, clock: Clock) -> Result<Self> {
        fields::check_names(def)?;
        let options = &def.options;
        let rows_per_second = options.integer("rows-per-second")?.unwrap_or(10_000);
        if rows_per_second < 1 {
            return Err(options.invalid("rows-per-second", "expected 1 or more"));
        }
        let number_of_rows = options.integer("number-of-rows")?;
        if number_of_rows.is_some_and(|n| n < 0) {
            return Err(options.invalid("number-of-rows", "expected 0 or more"));
        }
        let seed = options.integer("seed")?.unwrap_or(0) as u64;
        // Every column is parsed, read or not: its options are checked, and a sequence that
        // nobody reads ends the table all the same.
        let mut all = Vec::new();
        for (number, column) in def.columns.iter().enumerate() {
            if column.kind == ColumnKind::Physical {
                all.push((column, Field::new(column, options, seed, number as u64)?));
            }
        }
        let rows = all
            .iter()
            .filter_map(|(_, f)| f.rows())
            .chain(number_of_rows)
            .min();
        if request.until_end && rows.is_none() {
            return Err(Error::sql(format!(
                "table '{}' has no end: datagen makes rows for ever",
                def.name
            ))
            .or_at(def.at)
            .with_hint("add 'number-of-rows' = '1000', or run without --until-end"));
        }
        let (mut arrow_fields, mut fields) = (Vec::new(), Vec::new());
        for name in &request.columns {
            let found = all.iter().find(|(column, _)| column.name == *name);
            let (column, field) = found
                .ok_or_else(|| Error::bug(format!("datagen was asked for column '{name}'")))?;
            arrow_fields.push(column.field());
            fields.push(field.clone());
        }
        Ok(DatagenSource {
            table: def.name.as_str().into(),
            schema: Arc::new(Schema::new(arrow_fields)),
            fields: fields.into(),
            rows_per_second,
            rows,
            clock,
        })
    }
}

impl Source for DatagenSource {
    fn partitions(
        &self,
        resume: Option<&[PartitionSnapshot]>,
        _wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Assignment>> {
        let mut all = vec![Assignment::whole(0, self.table.clone(), self.rows)];
        resume_at(&mut all, resume);
        Ok(all)
    }

    fn reader(&self, partitions: &[Assignment]) -> Result<Box<dyn Reader>> {
        let mut reader = DatagenReader {
            schema: self.schema.clone(),
            fields: self.fields.clone(),
            rows_per_second: self.rows_per_second,
            clock: self.clock.clone(),
            open: None,
        };
        reader.add(partitions)?;
        Ok(Box::new(reader))
    }

    fn is_bounded(&self) -> bool {
        self.rows.is_some()
    }

    fn describe(&self) -> String {
        format!(
            "datagen table {} at {} rows/s",
            self.table, self.rows_per_second
        )
    }
}

struct DatagenReader {
    schema: SchemaRef,
    fields: Arc<[Field]>,
    rows_per_second: i64,
    clock: Clock,
    /// The partition, until it has ended; most workers have none.
    open: Option<Open>,
}

struct Open {
    id: usize,
    next: i64,
    end: Option<i64>,
    /// Row `from_row` is due at `from_us`, and the others in step.
    from_us: i64,
    from_row: i64,
}

impl DatagenReader {
    /// How many rows are to be handed out now, and after how long that changes.
    fn due(open: &mut Open, now_us: i64, rows_per_second: i64) -> (i64, Duration) {
        // A clock that was set back, or a worker that was held up for more than a second:
        // go on from here instead of standing still or flooding.
        let behind_us = now_us - open.from_us;
        let emitted_us = i128::from(open.next - open.from_row) * i128::from(SECOND_US)
            / i128::from(rows_per_second);
        if behind_us < 0 || i128::from(behind_us) > emitted_us + i128::from(SECOND_US) {
            (open.from_us, open.from_row) = (now_us, open.next);
        }
        let elapsed_us = i128::from(now_us - open.from_us);
        let by_now = (elapsed_us * i128::from(rows_per_second) / i128::from(SECOND_US)) as i64 + 1;
        let left = open.end.map_or(i64::MAX, |end| (end - open.next).max(0));
        let wanted = (rows_per_second / BATCHES_PER_SECOND)
            .clamp(1, BATCH_ROWS_MAX)
            .min(left);
        let due = (open.from_row + by_now - open.next).clamp(0, left.min(BATCH_ROWS_MAX));
        if due >= wanted {
            return (due, Duration::ZERO);
        }
        // The last of the wanted rows comes so many steps after the first row.
        let steps = i128::from(open.next - open.from_row + wanted - 1);
        let at_us = steps * i128::from(SECOND_US) / i128::from(rows_per_second) + 1;
        (
            due,
            Duration::from_micros((at_us - elapsed_us).max(1) as u64),
        )
    }

    fn batch(&self, open: &Open, rows: i64, now_us: i64) -> Result<RecordBatch> {
        let range = open.next..open.next + rows;
        let columns = self
            .fields
            .iter()
            .map(|f| f.array(range.clone(), now_us))
            .collect::<Result<Vec<_>>>()?;
        // A query that only counts reads no column: the number of rows is all there is.
        Ok(with_rows(self.schema.clone(), columns, rows as usize)?)
    }
}

impl Reader for DatagenReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let Some(mut open) = self.open.take() else {
            std::thread::sleep(timeout);
            return Ok(Polled::Idle);
        };
        if open.end.is_some_and(|end| open.next >= end) {
            return Ok(Polled::End { id: open.id });
        }
        let (mut rows, wait) = Self::due(&mut open, (self.clock)(), self.rows_per_second);
        if !wait.is_zero() {
            // The event that is waited for is the clock itself.
            std::thread::sleep(wait.min(timeout));
            (rows, _) = Self::due(&mut open, (self.clock)(), self.rows_per_second);
        }
        if rows == 0 {
            self.open = Some(open);
            return Ok(Polled::Idle);
        }
        let batch = self.batch(&open, rows, (self.clock)())?;
        let first_offset = open.next;
        open.next += rows;
        let polled = Rows {
            id: open.id,
            batch,
            first_offset,
            next_offset: open.next,
        };
        self.open = Some(open);
        Ok(Polled::Rows(polled))
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        for partition in partitions {
            if self.open.is_some() {
                return Err(Error::bug("datagen has one partition, two were assigned"));
            }
            self.open = Some(Open {
                id: partition.id,
                next: partition.start,
                end: partition.end,
                from_us: (self.clock)(),
                from_row: partition.start,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
