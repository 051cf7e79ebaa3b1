//! Runs a SQL script deterministically in one thread: workers step in a seeded order, the clock
//! stands still unless moved, input comes from the script, results are collected.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::error::Result;
use windrow::plan::{QueryPlan, Settings, SourcePlan, Trigger, plan_script};
use windrow::run::merge::Merge;
use windrow::run::queue::Closed;
use windrow::run::stats::Stats;
use windrow::run::worker::{Message, Outbox, Step, Worker, WorkerParts};
use windrow::sink::Sink;
use windrow::source::{Assignment, BlobsBuilder, Chunk, Polled, Reader};
use windrow::time::ManualClock;

/// One way to run: results must not depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub batch_rows: usize,
    pub workers: usize,
    pub seed: u64,
}

/// Every way that golden files are run.
pub fn matrix() -> Vec<Matrix> {
    let mut all = Vec::new();
    for batch_rows in [1, 3, 8192] {
        for workers in [1, 2, 4] {
            all.push(Matrix {
                batch_rows,
                workers,
                seed: (batch_rows * 31 + workers) as u64,
            });
        }
    }
    all
}

type Record = (Option<Vec<u8>>, i64);

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    ended: bool,
}

type Logs = Arc<Mutex<BTreeMap<(String, i32), Log>>>;

struct ScriptReader {
    table: String,
    logs: Logs,
    partitions: Vec<(Assignment, usize, bool)>,
    chunk_rows: usize,
    turn: usize,
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
        self.partitions
            .extend(partitions.iter().map(|p| (p.clone(), 0, false)));
        Ok(())
    }
}

/// A result row: the values in the order of the columns.
pub type Row = Vec<serde_json::Value>;

/// Result rows in the order in which they were written.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<Row>>>);

impl Collected {
    pub fn rows(&self) -> Vec<Row> {
        self.0.lock().unwrap().clone()
    }
}

impl Sink for Collected {
    fn write(&mut self, _: u64, batch: &arrow::record_batch::RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let mut encoder = windrow::encode::json::JsonEncoder::for_schema(&schema);
        for row in 0..batch.num_rows() {
            let mut out = Vec::new();
            encoder.encode(batch, row, &mut out)?;
            let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let values = schema
                .fields()
                .iter()
                .map(|f| object[f.name()].clone())
                .collect();
            self.0.lock().unwrap().push(values);
        }
        Ok(())
    }

    fn commit(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

#[derive(Default)]
struct Mailbox(VecDeque<(usize, Message)>);

impl Outbox for Mailbox {
    fn send(&mut self, query: usize, message: Message) -> std::result::Result<(), Closed> {
        self.0.push_back((query, message));
        Ok(())
    }
}

/// A script on its way through the engine.
pub struct Sim {
    names: Vec<String>,
    results: Vec<Collected>,
    late: Vec<Collected>,
    workers: Vec<SimWorker>,
    merges: Vec<Merge>,
    pub stats: Arc<Stats>,
    logs: Logs,
    pub clock: Arc<ManualClock>,
    random: u64,
}

struct SimWorker {
    worker: Worker,
    done: bool,
    quiet: bool,
    /// Messages that the merges have not seen; they keep their order.
    mailbox: Mailbox,
}

impl Sim {
    /// Plans the script over sources of so many partitions each.
    pub fn new(script: &str, way: Matrix, settings: &Settings, partitions: i32) -> Result<Sim> {
        let job = plan_script(script, &|_| None, settings)?;
        job.load_tables()?;
        let sources: Vec<Arc<SourcePlan>> = job.sources.into_iter().map(Arc::new).collect();
        let queries: Vec<Arc<QueryPlan>> = job.queries.into_iter().map(Arc::new).collect();
        let stats = Arc::new(Stats::new(sources.len(), queries.len()));
        let clock = Arc::new(ManualClock::default());
        let logs = Logs::default();
        let count = way.workers.min(partitions as usize);
        let mut workers = Vec::new();
        for (s, source) in sources.iter().enumerate() {
            for number in 0..count {
                let own: Vec<Assignment> = (0..partitions)
                    .filter(|p| *p as usize % count == number)
                    .map(|p| Assignment {
                        id: p as usize,
                        topic: source.def.name.as_str().into(),
                        partition: p,
                        start: 0,
                        end: None,
                    })
                    .collect();
                let reader = ScriptReader {
                    table: source.def.name.clone(),
                    logs: logs.clone(),
                    partitions: own.iter().map(|p| (p.clone(), 0, false)).collect(),
                    chunk_rows: way.batch_rows.max(2),
                    turn: 0,
                };
                let mine = queries
                    .iter()
                    .enumerate()
                    .filter(|(_, q)| q.source == s)
                    .map(|(i, q)| (i, q.clone()))
                    .collect();
                let worker = Worker::new(WorkerParts {
                    number,
                    source: s,
                    plan: source.clone(),
                    reader: Box::new(reader),
                    partitions: own,
                    queries: mine,
                    stats: stats.clone(),
                    clock: clock.clone(),
                    batch_rows: way.batch_rows,
                })?;
                workers.push(SimWorker {
                    worker,
                    done: false,
                    quiet: false,
                    mailbox: Mailbox::default(),
                });
            }
        }
        let results: Vec<Collected> = queries.iter().map(|_| Collected::default()).collect();
        let late: Vec<Collected> = queries.iter().map(|_| Collected::default()).collect();
        let mut merges = Vec::new();
        for (q, query) in queries.iter().enumerate() {
            let trigger = settings.trigger.unwrap_or(Trigger::WindowClose);
            let late_sink: Option<Box<dyn Sink>> =
                query.late.as_ref().map(|_| Box::new(late[q].clone()) as _);
            merges.push(Merge::new(
                query.clone(),
                q,
                stats.clone(),
                trigger,
                count,
                Box::new(results[q].clone()),
                late_sink,
            )?);
        }
        let names = queries.iter().map(|q| q.name.clone()).collect();
        let random = way.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Ok(Sim {
            names,
            results,
            late,
            workers,
            merges,
            stats,
            logs,
            clock,
            random,
        })
    }

    /// Appends records to a partition's log; timestamps in milliseconds, -1 for none.
    pub fn feed(
        &mut self,
        table: &str,
        partition: i32,
        records: impl IntoIterator<Item = (Option<Vec<u8>>, i64)>,
    ) {
        self.logs
            .lock()
            .unwrap()
            .entry((table.to_string(), partition))
            .or_default()
            .records
            .extend(records);
        self.wake();
    }

    /// Every partition ends behind what has been fed.
    pub fn end(&mut self, tables: &[&str], partitions: i32) {
        let mut logs = self.logs.lock().unwrap();
        for table in tables {
            for partition in 0..partitions {
                logs.entry((table.to_string(), partition))
                    .or_default()
                    .ended = true;
            }
        }
        drop(logs);
        self.wake();
    }

    /// Lets processing time pass.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        self.clock.advance(time);
        self.wake();
        self.settle()
    }

    fn wake(&mut self) {
        self.workers.iter_mut().for_each(|w| w.quiet = false);
    }

    /// A tick of the processing-time trigger, with all that follows from it.
    pub fn tick(&mut self) -> Result<()> {
        for merge in &mut self.merges {
            merge.tick()?;
        }
        self.wake();
        self.settle()
    }

    /// Workers and merges take turns in a seeded order until nothing is left to do.
    pub fn settle(&mut self) -> Result<()> {
        loop {
            let ready: Vec<usize> = (0..self.workers.len())
                .filter(|i| {
                    (!self.workers[*i].done && !self.workers[*i].quiet)
                        || !self.workers[*i].mailbox.0.is_empty()
                })
                .collect();
            if ready.is_empty() {
                return Ok(());
            }
            let draw = self.draw();
            let picked = &mut self.workers[ready[draw as usize % ready.len()]];
            let can_step = !picked.done && !picked.quiet;
            if can_step && (picked.mailbox.0.is_empty() || draw & 1024 == 0) {
                match picked.worker.step(Duration::ZERO, &mut picked.mailbox)? {
                    Step::Ended => {
                        picked.done = true;
                        picked.worker.finish(true, &mut picked.mailbox)?;
                    }
                    Step::Idle => picked.quiet = true,
                    Step::Worked | Step::Abandoned => {}
                }
            } else if let Some((query, message)) = picked.mailbox.0.pop_front() {
                self.merges[query].handle(message)?;
            }
        }
    }

    fn draw(&mut self) -> u64 {
        // xorshift64 (Marsaglia 2003)
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// What the query of this name (`query 1`, or its sink's) has written.
    pub fn emitted(&self, name: &str) -> Vec<Row> {
        self.results[self.index(name)].rows()
    }

    pub fn late(&self, name: &str) -> Vec<Row> {
        self.late[self.index(name)].rows()
    }

    fn index(&self, name: &str) -> usize {
        self.names
            .iter()
            .position(|n| n == name)
            .unwrap_or_else(|| panic!("no query {name}; there are {:?}", self.names))
    }
}
