//! Runs a SQL script deterministically in one thread: workers, merges and checkpoints step in a
//! seeded order, the clock stands still unless moved, input comes from the script, results are
//! collected. It can crash between any two steps and be built anew from what a crash leaves.

mod source;
mod world;

use source::{Logs, ScriptReader};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use windrow::error::Result;
use windrow::plan::{QueryPlan, Settings, SourcePlan, Trigger, plan_script};
use windrow::remote::Keys;
use windrow::run::checkpoint::{Checkpointer, Decision};
use windrow::run::merge::{Handled, Merge, Part};
use windrow::run::queue::Closed;
use windrow::run::recovery::Recovery;
use windrow::run::stats::Stats;
use windrow::run::worker::{Message, Outbox, Step, Worker, WorkerParts};
use windrow::sink::Sink;
use windrow::source::{Assignment, resume_at};
use windrow::state::Checkpoints;
use windrow::state::spill::SpillFile;
use windrow::state::store::MemoryStore;
use windrow::time::ManualClock;
use windrow::watermark::NONE;
use windrow::window::segment_id;

use world::WorldSink;
pub use world::{Commit, Row, World, rows_of};

/// One way to run: results must not depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub batch_rows: usize,
    pub workers: usize,
    pub seed: u64,
    /// Golden files only: after every FEED a checkpoint, a crash, and a start with other workers.
    pub restarts: bool,
}

/// Every way that golden files are run.
pub fn matrix() -> Vec<Matrix> {
    let mut all = Vec::new();
    for restarts in [false, true] {
        for batch_rows in [1, 3, 8192] {
            for workers in [1, 2, 4] {
                all.push(Matrix {
                    batch_rows,
                    workers,
                    seed: (batch_rows * 31 + workers) as u64,
                    restarts,
                });
            }
        }
    }
    all
}

/// Messages, and how long the next one takes.
#[derive(Default)]
struct Mailbox(
    VecDeque<(usize, Message)>,
    Option<(Arc<ManualClock>, Duration)>,
);

impl Outbox for Mailbox {
    fn send(&mut self, query: usize, message: Message) -> std::result::Result<(), Closed> {
        self.0.push_back((query, message));
        if let Some((clock, time)) = self.1.take() {
            clock.advance(time);
        }
        Ok(())
    }
}

struct SimWorker {
    number: usize,
    source: usize,
    /// Workers that each source has.
    count: usize,
    worker: Worker,
    done: bool,
    quiet: bool,
    /// Messages that the merges have not seen; those of one query keep their order.
    mailbox: Mailbox,
}

struct SimMerge {
    merge: Merge,
    /// Waits for leave to publish; whether that was its last part.
    cut: Option<bool>,
    leave: bool,
    over: bool,
    /// Nothing waits behind the last cut.
    replayed: bool,
}

/// What a crash destroys.
struct Machine {
    workers: Vec<SimWorker>,
    merges: Vec<SimMerge>,
    checkpointer: Option<Checkpointer>,
    parts: VecDeque<Box<Part>>,
    published: VecDeque<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Work(usize),
    /// Delivers the message at this place in the worker's mailbox.
    Deliver(usize, usize),
    Replay(usize),
    Publish(usize),
    Take,
    Published,
}

/// A script on its way through the engine.
pub struct Sim {
    pub way: Matrix,
    sources: Vec<Arc<SourcePlan>>,
    queries: Vec<Arc<QueryPlan>>,
    trigger: Trigger,
    partitions: i32,
    commit: Commit,
    pub store: MemoryStore,
    pub world: World,
    machine: Machine,
    pub stats: Arc<Stats>,
    /// Late, bad and future rows of the lives before.
    counted: [u64; 3],
    logs: Logs,
    pub clock: Arc<ManualClock>,
    random: u64,
}

impl Sim {
    /// Plans the script over sources of so many partitions each. No checkpoints.
    pub fn new(script: &str, way: Matrix, settings: &Settings, partitions: i32) -> Result<Sim> {
        Self::committing(script, way, settings, partitions, Commit::AtOnce)
    }

    /// The same, with checkpoints unless the sinks commit at once.
    pub fn committing(
        script: &str,
        way: Matrix,
        settings: &Settings,
        partitions: i32,
        commit: Commit,
    ) -> Result<Sim> {
        let job = plan_script(script, &|_| None, settings)?;
        job.load_tables()?;
        let mut sim = Sim {
            sources: job.sources.into_iter().map(Arc::new).collect(),
            queries: job.queries.into_iter().map(Arc::new).collect(),
            trigger: settings.trigger.unwrap_or(Trigger::WindowClose),
            way,
            partitions,
            commit,
            store: MemoryStore::default(),
            world: World::default(),
            machine: Machine {
                workers: Vec::new(),
                merges: Vec::new(),
                checkpointer: None,
                parts: VecDeque::new(),
                published: VecDeque::new(),
            },
            stats: Arc::default(),
            counted: [0; 3],
            logs: Logs::default(),
            clock: Arc::default(),
            random: way.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        };
        sim.start()?;
        Ok(sim)
    }

    /// Builds the machine from what there is: nothing, or what a crash has left.
    fn start(&mut self) -> Result<()> {
        let stats = Arc::new(Stats::new(self.sources.len(), self.queries.len()));
        self.stats = stats.clone();
        let mut recovered = None;
        if self.commit != Commit::AtOnce {
            let mut checkpoints =
                Checkpoints::open(Box::new(self.store.clone()), 3, "00000000000000ab")?;
            if self.way.seed.is_multiple_of(15) {
                let name = format!("sim-{}-loaded", segment_id());
                let spill = SpillFile::new(std::env::temp_dir(), &name);
                checkpoints.limit(200, Box::new(spill));
            }
            let decision = (self.commit == Commit::Transaction)
                .then(|| Arc::new(self.world.clone()) as Arc<dyn Decision>);
            let (sources, queries) = (&self.sources, &self.queries);
            let recovery =
                Recovery::load(&mut checkpoints, decision.as_ref(), sources, queries, false)?;
            let names = sources.iter().map(|s| s.def.name.clone()).collect();
            let of = queries.iter().map(|q| q.sources.clone()).collect();
            recovered = Some((
                Checkpointer::new(checkpoints, decision, names, of),
                recovery,
            ));
        }
        let count = self.way.workers.min(self.partitions as usize);
        let mut workers = Vec::new();
        for s in 0..self.sources.len() {
            let resume = recovered
                .as_ref()
                .and_then(|(_, r)| r.positions(&self.sources[s].def.name));
            for number in 0..count {
                workers.push(self.worker(s, number, count, resume, &stats)?);
            }
        }
        let mut merges = Vec::new();
        for q in 0..self.queries.len() {
            merges.push(SimMerge {
                merge: self.merge(
                    q,
                    &vec![count; self.queries[q].sources.len()],
                    recovered.as_mut(),
                    &stats,
                )?,
                cut: None,
                leave: false,
                over: false,
                replayed: true,
            });
        }
        self.machine = Machine {
            workers,
            merges,
            checkpointer: recovered.map(|(c, _)| c),
            parts: VecDeque::new(),
            published: VecDeque::new(),
        };
        Ok(())
    }

    fn worker(
        &self,
        s: usize,
        number: usize,
        count: usize,
        resume: Option<&[windrow::state::PartitionSnapshot]>,
        stats: &Arc<Stats>,
    ) -> Result<SimWorker> {
        let source = &self.sources[s];
        let mut own: Vec<Assignment> = (0..self.partitions)
            .filter(|p| *p as usize % count == number)
            .map(|p| Assignment {
                id: p as usize,
                topic: source.def.name.as_str().into(),
                topic_id: None,
                partition: p,
                start: 0,
                end: None,
                max_us: NONE,
            })
            .collect();
        resume_at(&mut own, resume);
        let chunk_rows = self.way.batch_rows.max(2);
        let queries = self.queries.iter().cloned().enumerate();
        let worker = Worker::new(WorkerParts {
            number,
            source: s,
            plan: source.clone(),
            reader: Box::new(ScriptReader::new(
                &source.def.name,
                &self.logs,
                &own,
                chunk_rows,
            )),
            partitions: own,
            queries: queries.filter(|(_, q)| q.sources.contains(&s)).collect(),
            stats: stats.clone(),
            clock: self.clock.clone(),
            batch_rows: self.way.batch_rows,
            memory: usize::MAX,
            keys: Keys::default(),
            keeps_open: false,
        })?;
        Ok(SimWorker {
            number,
            source: s,
            count,
            worker,
            done: false,
            quiet: false,
            mailbox: Mailbox::default(),
        })
    }

    fn merge(
        &self,
        q: usize,
        workers: &[usize],
        recovered: Option<&mut (Checkpointer, Recovery)>,
        stats: &Arc<Stats>,
    ) -> Result<Merge> {
        let query = &self.queries[q];
        let sink = WorldSink::new(&self.world, &query.name, self.commit);
        let late: Option<Box<dyn Sink>> = query.late.as_ref().map(|_| {
            Box::new(WorldSink::new(
                &self.world,
                &late_name(&query.name),
                self.commit,
            )) as _
        });
        let (trigger, sink) = (self.trigger, Box::new(sink));
        let mut merge = Merge::new(
            query.clone(),
            q,
            stats.clone(),
            trigger,
            workers,
            sink,
            late,
        )?;
        if self.way.seed.is_multiple_of(20) {
            // Every segment is spilled. (64 parts of a few rows each take their time.)
            let name = format!("sim-{}-{q}", segment_id());
            let spill = SpillFile::new(std::env::temp_dir(), &name);
            merge.limit(0, usize::MAX, Box::new(spill));
        }
        if let Some((checkpointer, recovery)) = recovered {
            let shapes = recovery.shapes[q].clone();
            let state = recovery.take_state(q);
            merge.checkpointed(checkpointer.number(), shapes, recovery.number, state)?;
        }
        Ok(merge)
    }

    /// Appends records to a partition's log; timestamps in milliseconds, -1 for none.
    pub fn feed(
        &mut self,
        table: &str,
        partition: i32,
        records: impl IntoIterator<Item = source::Record>,
    ) {
        let mut logs = self.logs.lock().unwrap();
        let log = logs.entry((table.to_string(), partition)).or_default();
        log.records.extend(records);
        drop(logs);
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

    /// The next message of each worker takes so long: its merge is busy.
    pub fn stall(&mut self, time: Duration) {
        for worker in &mut self.machine.workers {
            worker.mailbox.1 = Some((self.clock.clone(), time));
        }
    }

    /// Lets processing time pass.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        self.clock.advance(time);
        self.wake();
        self.settle()
    }

    fn wake(&mut self) {
        self.machine
            .workers
            .iter_mut()
            .for_each(|w| w.quiet = false);
    }

    /// A tick of the processing-time trigger, with all that follows from it.
    pub fn tick(&mut self) -> Result<()> {
        self.tick_only()?;
        self.settle()
    }

    /// The time-to-live of groups has passed.
    pub fn expire(&mut self) -> Result<()> {
        self.settle()?;
        let mut merges = self.machine.merges.iter_mut();
        merges.try_for_each(|m| m.merge.expire(0))
    }

    /// A tick of the processing-time trigger.
    pub fn tick_only(&mut self) -> Result<()> {
        for m in self
            .machine
            .merges
            .iter_mut()
            .filter(|m| m.cut.is_none() && !m.over)
        {
            m.merge.tick()?;
        }
        self.wake();
        Ok(())
    }

    /// Asks for a checkpoint, if none is being made.
    pub fn ask(&mut self) {
        if let Some(checkpointer) = &self.machine.checkpointer {
            self.stats.checkpoint.store(checkpointer.number(), Relaxed);
            self.wake();
        }
    }

    /// Takes a checkpoint and waits until it is published.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.settle()?;
        self.ask();
        self.settle()
    }

    /// The process dies, and a new one with so many workers goes on.
    pub fn crash(&mut self, workers: usize) -> Result<()> {
        let seen = [self.stats.late(), self.stats.bad(), self.stats.future()];
        self.counted.iter_mut().zip(seen).for_each(|(c, s)| *c += s);
        self.world.crash();
        self.way.workers = workers;
        self.start()
    }

    /// Late, bad and future rows over all lives.
    pub fn counts(&self) -> [u64; 3] {
        let now = [self.stats.late(), self.stats.bad(), self.stats.future()];
        std::array::from_fn(|i| self.counted[i] + now[i])
    }

    /// Steps in a seeded order until nothing is left to do.
    pub fn settle(&mut self) -> Result<()> {
        while self.step()? {}
        Ok(())
    }

    /// Every query has written its last row, and published it.
    pub fn is_over(&self) -> bool {
        self.machine.merges.iter().all(|m| m.over)
    }

    /// One step of something that can step. False when nothing can.
    pub fn step(&mut self) -> Result<bool> {
        let ready = self.ready();
        if ready.is_empty() {
            return Ok(false);
        }
        let draw = self.draw();
        self.act(ready[(draw >> 8) as usize % ready.len()])?;
        Ok(true)
    }

    fn ready(&self) -> Vec<Action> {
        let mut ready = Vec::new();
        let m = &self.machine;
        for (i, w) in m.workers.iter().enumerate() {
            if !w.done && !w.quiet {
                ready.push(Action::Work(i));
            }
            let open = |q: usize| m.merges[q].cut.is_none() && m.merges[q].replayed;
            if let Some(at) = w.mailbox.0.iter().position(|(q, _)| open(*q)) {
                ready.push(Action::Deliver(i, at));
            }
        }
        for (q, merge) in m.merges.iter().enumerate() {
            if merge.leave {
                ready.push(Action::Publish(q));
            } else if merge.cut.is_none() && !merge.replayed {
                ready.push(Action::Replay(q));
            }
        }
        if !m.parts.is_empty() {
            ready.push(Action::Take);
        }
        if !m.published.is_empty() {
            ready.push(Action::Published);
        }
        ready
    }

    fn act(&mut self, action: Action) -> Result<()> {
        let m = &mut self.machine;
        match action {
            Action::Work(i) => {
                let w = &mut m.workers[i];
                match w.worker.step(Duration::ZERO, &mut w.mailbox)? {
                    Step::Ended => {
                        w.done = true;
                        w.worker.finish(true, &mut w.mailbox)?;
                    }
                    Step::Idle => w.quiet = true,
                    Step::Worked | Step::Abandoned => {}
                }
            }
            Action::Deliver(i, at) => {
                let w = &mut m.workers[i];
                if let Some((q, message)) = w.mailbox.0.remove(at) {
                    let mut sources = self.queries[q].sources.iter();
                    let place = sources.position(|s| *s == w.source).unwrap();
                    let number = place * w.count + w.number;
                    let handled = m.merges[q].merge.handle(number, message)?;
                    self.handled(q, handled);
                }
            }
            Action::Replay(q) => match m.merges[q].merge.replay()? {
                Some(handled) => self.handled(q, handled),
                None => m.merges[q].replayed = true,
            },
            Action::Publish(q) => {
                let merge = &mut m.merges[q];
                merge.merge.publish()?;
                merge.leave = false;
                merge.over = merge.cut.take() == Some(true);
                merge.replayed = merge.over;
                if merge.over {
                    merge.merge.close()?;
                }
                m.published.push_back(q);
            }
            Action::Take => {
                if let (Some(part), Some(c)) = (m.parts.pop_front(), &mut m.checkpointer) {
                    c.take(*part)?;
                    Self::complete(c, &mut m.merges)?;
                }
            }
            Action::Published => {
                if let (Some(q), Some(c)) = (m.published.pop_front(), &mut m.checkpointer)
                    && let Some(published) = c.published(q)
                {
                    self.stats.checkpointed.store(published.number, Relaxed);
                    Self::complete(c, &mut m.merges)?;
                }
            }
        }
        Ok(())
    }

    fn complete(checkpointer: &mut Checkpointer, merges: &mut [SimMerge]) -> Result<()> {
        if checkpointer.complete(0)?.is_some() {
            checkpointer
                .to_publish()
                .for_each(|q| merges[q].leave = true);
        }
        Ok(())
    }

    fn handled(&mut self, q: usize, handled: Handled) {
        match handled {
            Handled::GoOn => {}
            Handled::Ended => self.machine.merges[q].over = true,
            Handled::Cut(part) => {
                self.machine.merges[q].cut = Some(part.last);
                self.machine.parts.push_back(part);
            }
        }
    }

    /// The next number of the seed.
    pub fn draw(&mut self) -> u64 {
        // xorshift64 (Marsaglia 2003)
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// What the query of this name (`query 1`, or its sink's) has written.
    pub fn emitted(&self, name: &str) -> Vec<Row> {
        self.world.visible(self.known(name))
    }

    pub fn late(&self, name: &str) -> Vec<Row> {
        self.world.visible(&late_name(self.known(name)))
    }

    fn known<'a>(&self, name: &'a str) -> &'a str {
        let names: Vec<&str> = self.queries.iter().map(|q| q.name.as_str()).collect();
        assert!(
            names.contains(&name),
            "no query {name}; there are {names:?}"
        );
        name
    }
}

fn late_name(query: &str) -> String {
    format!("{query}-late")
}
