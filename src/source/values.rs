//! Constant rows, of `INSERT INTO t VALUES …` or a SELECT without FROM: one partition that ends.

use super::{Assignment, Polled, ReadRequest, Reader, Rows, Source, resume_at};
use crate::error::Result;
use crate::state::PartitionSnapshot;
use arrow::record_batch::RecordBatch;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Rows that the planner has computed. An offset is a row's number.
pub struct ValuesSource {
    name: Arc<str>,
    rows: RecordBatch,
}

impl ValuesSource {
    pub fn new(name: &str, rows: &RecordBatch, request: &ReadRequest) -> Result<Self> {
        let schema = rows.schema();
        let columns = request.columns.iter().map(|name| schema.index_of(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            name: name.into(),
            rows: rows.project(&columns)?,
        })
    }
}

impl Source for ValuesSource {
    fn partitions(
        &self,
        resume: Option<&[PartitionSnapshot]>,
        _wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Assignment>> {
        let mut all = vec![Assignment::whole(
            0,
            self.name.clone(),
            Some(self.rows.num_rows() as i64),
        )];
        resume_at(&mut all, resume);
        Ok(all)
    }

    fn reader(&self, partitions: &[Assignment]) -> Result<Box<dyn Reader>> {
        let mut reader = ValuesReader {
            rows: self.rows.clone(),
            polls: VecDeque::new(),
        };
        reader.add(partitions)?;
        Ok(Box::new(reader))
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("{} constant rows", self.rows.num_rows())
    }
}

struct ValuesReader {
    rows: RecordBatch,
    /// What is still to be given.
    polls: VecDeque<Polled>,
}

impl Reader for ValuesReader {
    /// Never waits: the rows are there.
    fn poll(&mut self, _timeout: Duration) -> Result<Polled> {
        Ok(self.polls.pop_front().unwrap_or(Polled::Idle))
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        for partition in partitions {
            let (start, all) = (partition.start as usize, self.rows.num_rows());
            if start < all {
                self.polls.push_back(Polled::Rows(Rows {
                    id: partition.id,
                    batch: self.rows.slice(start, all - start),
                    first_offset: partition.start,
                    next_offset: all as i64,
                }));
            }
            self.polls.push_back(Polled::End { id: partition.id });
        }
        Ok(())
    }
}
