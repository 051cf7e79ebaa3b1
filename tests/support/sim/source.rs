//! Logs in memory, and a reader over them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::error::Result;
use windrow::source::{Assignment, BlobsBuilder, Chunk, Polled, Reader};

/// Payload and timestamp in milliseconds (-1 for none).
pub type Record = (Option<Vec<u8>>, i64);

#[derive(Default)]
pub struct Log {
    pub records: Vec<Record>,
    pub ended: bool,
}

/// By table and partition.
pub type Logs = Arc<Mutex<BTreeMap<(String, i32), Log>>>;

pub struct ScriptReader {
    pub table: String,
    pub logs: Logs,
    /// With the next offset, and whether the end was told.
    partitions: Vec<(Assignment, usize, bool)>,
    chunk_rows: usize,
    turn: usize,
}

impl ScriptReader {
    pub fn new(table: &str, logs: &Logs, partitions: &[Assignment], chunk_rows: usize) -> Self {
        let partition = |p: &Assignment| (p.clone(), p.start as usize, false);
        Self {
            table: table.to_string(),
            logs: logs.clone(),
            partitions: partitions.iter().map(partition).collect(),
            chunk_rows,
            turn: 0,
        }
    }
}

impl Reader for ScriptReader {
    fn poll(&mut self, _: Duration) -> Result<Polled> {
        let logs = self.logs.lock().unwrap();
        for _ in 0..self.partitions.len() {
            self.turn = (self.turn + 1) % self.partitions.len();
            let (assignment, position, ended) = &mut self.partitions[self.turn];
            let Some(log) = logs.get(&(self.table.clone(), assignment.partition)) else {
                continue;
            };
            if *position < log.records.len() {
                let to = (*position + self.chunk_rows).min(log.records.len());
                let mut payload = BlobsBuilder::default();
                log.records[*position..to]
                    .iter()
                    .for_each(|(p, _)| payload.push(p.as_deref()));
                let chunk = Chunk {
                    id: assignment.id,
                    topic: assignment.topic.clone(),
                    partition: assignment.partition,
                    offsets: (*position as i64..to as i64).collect(),
                    next_offset: to as i64,
                    payload: payload.finish(),
                    timestamps_ms: log.records[*position..to].iter().map(|(_, t)| *t).collect(),
                    log_append_time: false,
                    keys: None,
                    headers: None,
                    high_watermark: None,
                };
                *position = to;
                return Ok(Polled::Chunk(chunk));
            }
            if log.ended && !*ended {
                *ended = true;
                return Ok(Polled::End { id: assignment.id });
            }
        }
        Ok(Polled::Idle)
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        let partition = |p: &Assignment| (p.clone(), p.start as usize, false);
        self.partitions.extend(partitions.iter().map(partition));
        Ok(())
    }
}
