//! What survives a crash: the sinks' outside, where rows are seen once they are committed.

use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use windrow::error::Result;
use windrow::run::checkpoint::Decision;
use windrow::sink::Sink;
use windrow::state::{Prepared, Snapshot};

/// A result row: the values in the order of the columns.
pub type Row = Vec<serde_json::Value>;

/// How the sinks of a simulated job commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// As they are written.
    AtOnce,
    /// As files do: hidden until the checkpoint is durable.
    TwoPhase,
    /// As Kafka does: in one transaction with the number of the checkpoint.
    Transaction,
}

#[derive(Default)]
struct Shelf {
    visible: Vec<(u64, Row)>,
    hidden: BTreeMap<u64, Vec<Row>>,
}

#[derive(Default)]
struct Outside {
    shelves: BTreeMap<String, Shelf>,
    /// Rows of the open transaction.
    open: Vec<(String, Row)>,
    committed: Option<u64>,
}

/// Shared by all sinks of a job, before and after a crash.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<Outside>>);

impl World {
    /// What a reader of the sink sees, in the order of writing.
    pub fn visible(&self, sink: &str) -> Vec<Row> {
        let outside = self.0.lock().unwrap();
        let shelf = outside.shelves.get(sink);
        shelf.map_or(Vec::new(), |s| {
            s.visible.iter().map(|(_, r)| r.clone()).collect()
        })
    }

    /// The process dies: its transaction is aborted (by the next one that opens it).
    pub fn crash(&self) {
        self.0.lock().unwrap().open.clear();
    }
}

/// One sink of a job.
pub struct WorldSink {
    pub world: World,
    pub name: String,
    pub commit: Commit,
    /// Two-phase: rows of the epoch so far.
    pending: Vec<Row>,
}

impl WorldSink {
    pub fn new(world: &World, name: &str, commit: Commit) -> Self {
        Self {
            world: world.clone(),
            name: name.to_string(),
            commit,
            pending: Vec::new(),
        }
    }
}

/// The rows of a batch, as JSON has them.
pub fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let mut encoder = windrow::encode::json::JsonEncoder::for_schema(&schema);
    let row = |row| {
        let mut out = Vec::new();
        encoder.encode(batch, row, &mut out).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let value = |f: &arrow::datatypes::FieldRef| object[f.name()].clone();
        schema.fields().iter().map(value).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

impl Sink for WorldSink {
    fn write(&mut self, epoch: u64, batch: &RecordBatch) -> Result<()> {
        let rows = rows_of(batch);
        let mut outside = self.world.0.lock().unwrap();
        match self.commit {
            Commit::AtOnce => {
                let shelf = outside.shelves.entry(self.name.clone()).or_default();
                shelf.visible.extend(rows.into_iter().map(|r| (epoch, r)));
            }
            Commit::TwoPhase => self.pending.extend(rows),
            Commit::Transaction => {
                let name = self.name.clone();
                outside
                    .open
                    .extend(rows.into_iter().map(|r| (name.clone(), r)));
            }
        }
        Ok(())
    }

    fn commit(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        let mut outside = self.world.0.lock().unwrap();
        let shelf = outside.shelves.entry(self.name.clone()).or_default();
        shelf
            .hidden
            .insert(epoch, std::mem::take(&mut self.pending));
        let transactional = self.commit == Commit::Transaction;
        Ok(match transactional {
            true => serde_json::json!({ "epoch": epoch, "transaction": true }),
            false => serde_json::json!({ "epoch": epoch }),
        })
    }

    fn publish(&mut self, epoch: u64, prepared: &Prepared) -> Result<()> {
        assert_eq!(prepared["epoch"], epoch);
        let mut outside = self.world.0.lock().unwrap();
        let shelf = outside.shelves.entry(self.name.clone()).or_default();
        let rows = shelf.hidden.remove(&epoch).unwrap_or_default();
        shelf.visible.extend(rows.into_iter().map(|r| (epoch, r)));
        Ok(())
    }

    fn recover(&mut self, epoch: u64, prepared: &Prepared) -> Result<()> {
        if let Some(prepared_for) = prepared["epoch"].as_u64() {
            assert!(prepared_for <= epoch);
            self.publish(prepared_for, prepared)?;
        }
        let mut outside = self.world.0.lock().unwrap();
        let shelf = outside.shelves.entry(self.name.clone()).or_default();
        shelf.hidden.clear();
        if self.commit == Commit::TwoPhase {
            // Of a checkpoint that was damaged and given up.
            shelf.visible.retain(|(of, _)| *of <= epoch);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

/// The transaction of a job.
impl Decision for World {
    fn committed(&self) -> Result<Option<u64>> {
        Ok(self.0.lock().unwrap().committed)
    }

    fn commit(&self, checkpoint: &Snapshot) -> Result<Vec<bool>> {
        let mut outside = self.0.lock().unwrap();
        let open = std::mem::take(&mut outside.open);
        if open.is_empty() {
            // Kafka refuses an empty transaction, so there is none: nothing is remembered.
            return Ok(Vec::new());
        }
        for (name, row) in open {
            let shelf = outside.shelves.entry(name).or_default();
            shelf.visible.push((checkpoint.number, row));
        }
        outside.committed = Some(checkpoint.number);
        Ok(Vec::new())
    }

    fn abort(&self) {
        self.crash();
    }
}
