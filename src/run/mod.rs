//! Runs a planned job: one group of workers for each source, one merge for each query.
//!
//! ```text
//! reader ─▶ worker (decode, filter, windows) ─▶ queue ─▶ merge (finish, sink)
//! ```
//! Plain threads. The caller's thread coordinates: it looks for new partitions, shows progress,
//! and passes a stop on.

pub mod bad;
pub mod merge;
pub mod queue;
pub mod rows;
pub mod sinks;
pub mod stats;
pub mod worker;

use crate::error::{Error, Result};
use crate::plan::{Body, Job, QueryPlan, SourcePlan, Trigger};
use crate::sink::OutputMode;
use crate::source::{Assignment, Source};
use crate::time::Clock;
use crate::window::Assign;
use merge::{Handled, Merge};
use queue::{Closed, Received, Receiver, Sender};
use sinks::{Format, Output};
use stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use worker::{Message, Outbox, Step, Worker, WorkerParts};

/// Bytes that wait between the workers and the merge of one query.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Rows of one batch: large enough to amortise, small enough for the cache.
const BATCH_ROWS: usize = 8192;
/// How long a worker waits for input before it looks at triggers and stops.
const POLL: Duration = Duration::from_millis(50);
/// How often the coordinating thread looks around.
const TICK: Duration = Duration::from_millis(20);
/// Default interval of the modes that show changes, and of queries without windows.
const DEFAULT_TRIGGER: Duration = Duration::from_secs(1);

/// How to run, beside what the file says.
pub struct RunOptions {
    pub format: Format,
    pub output: Output,
    pub clock: Arc<dyn Clock>,
    /// Set by a signal: stop in order.
    pub stop: Arc<AtomicBool>,
}

/// Sees the run from outside, on the coordinating thread.
pub trait Observer {
    /// Called a few times a second, and a last time at the end.
    fn observe(&mut self, stats: &Stats, job: &RunningJob);
    /// The run waits for something (a broker that is away); said once for each change.
    fn waiting(&mut self, text: &str);
}

/// What is known of a job that runs.
pub struct RunningJob {
    pub sources: Vec<Arc<SourcePlan>>,
    pub queries: Vec<Arc<QueryPlan>>,
    /// All sources end by themselves.
    pub bounded: bool,
    pub stats: Arc<Stats>,
}

/// What was written where; for the closing summary.
#[derive(Debug, Clone)]
pub struct QuerySummary {
    pub name: String,
    pub sink: String,
    pub rows: u64,
    pub late: u64,
    /// Windows that were open when the run was stopped, and have no result.
    pub open_windows: usize,
}

#[derive(Debug)]
pub struct Summary {
    pub queries: Vec<QuerySummary>,
    pub stats: Arc<Stats>,
}

/// Runs until the sources end, a LIMIT is reached, something fails, or `stop` is set.
pub fn run(job: Job, options: &RunOptions, observer: &mut dyn Observer) -> Result<Summary> {
    job.load_tables()?;
    let settings = job.settings.clone();
    let workers_max = settings
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let sources: Vec<Arc<SourcePlan>> = job.sources.into_iter().map(Arc::new).collect();
    let queries: Vec<Arc<QueryPlan>> = job.queries.into_iter().map(Arc::new).collect();
    let stats = Arc::new(Stats::new(sources.len(), queries.len()));

    let mut opened = Vec::new();
    for plan in &sources {
        let source = sinks::open_source(plan, settings.until_end, &options.clock)?;
        let partitions = source.partitions(None, &mut |text| {
            // An empty text only asks whether to go on.
            if !text.is_empty() {
                observer.waiting(text);
            }
            !options.stop.load(Relaxed)
        })?;
        opened.push((source, partitions));
    }
    let bounded = opened
        .iter()
        .all(|(source, _)| settings.until_end || source.is_bounded());
    let running = RunningJob {
        sources,
        queries,
        bounded,
        stats,
    };

    let mut engine = Engine {
        running: &running,
        options,
        workers: Vec::new(),
        merges: Vec::new(),
        senders: Vec::new(),
        halt: Arc::default(),
    };
    for (q, query) in running.queries.iter().enumerate() {
        let partitions = opened[query.source].1.len();
        let workers = workers_of(workers_max, partitions);
        let trigger = trigger_of(query, settings.trigger, bounded);
        engine.start_merge(q, query.clone(), trigger, workers)?;
    }
    for (s, (source, partitions)) in opened.iter().enumerate() {
        engine.start_workers(
            s,
            source.as_ref(),
            partitions,
            workers_max,
            settings.batch_rows.unwrap_or(BATCH_ROWS),
        )?;
    }
    engine.senders.clear();
    engine.coordinate(&opened, observer)
}

/// At most one worker for each partition, at least one.
fn workers_of(workers_max: usize, partitions: usize) -> usize {
    workers_max.min(partitions).max(1)
}

fn trigger_of(query: &QueryPlan, asked: Option<Trigger>, bounded: bool) -> Trigger {
    let shows_changes = query.mode != OutputMode::Append;
    let windowed = matches!(&query.body, Body::Windowed(w) if w.assign() != Assign::Global);
    match asked {
        // Nothing ever closes in the modes that show changes.
        Some(Trigger::WindowClose) if shows_changes => Trigger::Every(DEFAULT_TRIGGER),
        Some(trigger) => trigger,
        None if bounded => Trigger::AvailableNow,
        None if windowed && !shows_changes => Trigger::WindowClose,
        None => Trigger::Every(DEFAULT_TRIGGER),
    }
}

/// New partitions on their way to a worker.
type Additions = Arc<std::sync::Mutex<Vec<Assignment>>>;

struct RunningWorker {
    source: usize,
    additions: Additions,
    thread: JoinHandle<Result<()>>,
}

struct Engine<'a> {
    running: &'a RunningJob,
    options: &'a RunOptions,
    workers: Vec<RunningWorker>,
    merges: Vec<JoinHandle<Result<QuerySummary>>>,
    /// One for each query, until the workers have their own.
    senders: Vec<Sender<Envelope>>,
    /// Tells the workers to stop in order.
    halt: Arc<AtomicBool>,
}

/// A message and the number of the worker that sent it.
type Envelope = (usize, Message);

struct Senders {
    worker: usize,
    queries: Vec<(usize, Sender<Envelope>)>,
}

impl Outbox for Senders {
    fn send(&mut self, query: usize, message: Message) -> Result<(), Closed> {
        let bytes = message.bytes();
        match self.queries.iter().find(|(q, _)| *q == query) {
            Some((_, sender)) => sender.send((self.worker, message), bytes),
            None => Err(Closed),
        }
    }
}

fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|e| Error::env(format!("cannot start a thread: {e}")))
}

impl Engine<'_> {
    fn start_merge(
        &mut self,
        q: usize,
        query: Arc<QueryPlan>,
        trigger: Trigger,
        workers: usize,
    ) -> Result<()> {
        let sink = sinks::open_query_sink(&query, self.options.format, &self.options.output)?;
        let late = match &query.late {
            Some(table) => Some(sinks::open_sink(
                &table.def,
                &format!("{}-late", query.name),
                OutputMode::Append,
                &self.options.output,
            )?),
            None => None,
        };
        let (sender, receiver) = queue::queue(QUEUE_BYTES_MAX);
        self.senders.push(sender);
        let (stats, halt) = (self.running.stats.clone(), self.halt.clone());
        let clock = self.options.clock.clone();
        let thread = spawn(format!("merge-{q}"), move || {
            let result = Merge::new(query, q, stats, trigger, workers, sink, late)
                .and_then(|merge| run_merge(merge, &receiver, trigger, clock.as_ref()));
            if result.is_err() {
                halt.store(true, Relaxed);
            }
            result
        })?;
        self.merges.push(thread);
        Ok(())
    }

    fn start_workers(
        &mut self,
        s: usize,
        source: &dyn Source,
        partitions: &[Assignment],
        workers_max: usize,
        batch_rows: usize,
    ) -> Result<()> {
        let workers = workers_of(workers_max, partitions.len());
        let queries: Vec<(usize, Arc<QueryPlan>)> = self
            .running
            .queries
            .iter()
            .enumerate()
            .filter(|(_, q)| q.source == s)
            .map(|(i, q)| (i, q.clone()))
            .collect();
        for number in 0..workers {
            let own: Vec<Assignment> = partitions
                .iter()
                .filter(|p| p.id % workers == number)
                .cloned()
                .collect();
            let worker = Worker::new(WorkerParts {
                number,
                source: s,
                plan: self.running.sources[s].clone(),
                reader: source.reader(&own)?,
                partitions: own,
                queries: queries.clone(),
                stats: self.running.stats.clone(),
                clock: self.options.clock.clone(),
                batch_rows,
            })?;
            let outbox = Senders {
                worker: number,
                queries: queries
                    .iter()
                    .map(|(q, _)| (*q, self.senders[*q].clone()))
                    .collect(),
            };
            let additions = Additions::default();
            // A source that may grow is never at its end.
            let endless = source.discovery_interval().is_some()
                && !source.is_bounded()
                && !self.running.bounded;
            let (halt, incoming) = (self.halt.clone(), additions.clone());
            let thread = spawn(format!("worker-{s}-{number}"), move || {
                let result = run_worker(worker, outbox, &halt, &incoming, endless);
                if result.is_err() {
                    halt.store(true, Relaxed);
                }
                result
            })?;
            self.workers.push(RunningWorker {
                source: s,
                additions,
                thread,
            });
        }
        Ok(())
    }

    /// Waits for the end; meanwhile finds new partitions and shows progress.
    fn coordinate(
        self,
        opened: &[(Box<dyn Source>, Vec<Assignment>)],
        observer: &mut dyn Observer,
    ) -> Result<Summary> {
        let stats = self.running.stats.clone();
        let mut discovered_at = vec![self.options.clock.now(); opened.len()];
        while self.merges.iter().any(|m| !m.is_finished())
            || self.workers.iter().any(|w| !w.thread.is_finished())
        {
            let all_done =
                !stats.queries.is_empty() && stats.queries.iter().all(|q| q.done.load(Relaxed));
            if self.options.stop.load(Relaxed) || all_done {
                self.halt.store(true, Relaxed);
            }
            for (s, (source, _)) in opened.iter().enumerate() {
                let now = self.options.clock.now();
                let due = source
                    .discovery_interval()
                    .is_some_and(|i| now.saturating_sub(discovered_at[s]) >= i);
                if due && !self.running.bounded && !self.halt.load(Relaxed) {
                    discovered_at[s] = now;
                    self.discover(s, source.as_ref());
                }
            }
            observer.observe(&stats, self.running);
            std::thread::park_timeout(TICK);
        }
        let mut errors = Vec::new();
        for worker in self.workers {
            collect(worker.thread.join(), &mut errors);
        }
        let queries: Vec<QuerySummary> = self
            .merges
            .into_iter()
            .filter_map(|m| collect(m.join(), &mut errors))
            .collect();
        observer.observe(&stats, self.running);
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(Summary { queries, stats }),
        }
    }

    /// Hands new partitions to the source's workers. A failed look is tried again next time.
    fn discover(&self, s: usize, source: &dyn Source) {
        let found = match source.discover() {
            Ok(found) => found,
            Err(e) => {
                return tracing::warn!(
                    "looking for new partitions of {} failed: {e}",
                    source.describe()
                );
            }
        };
        let workers: Vec<&RunningWorker> = self.workers.iter().filter(|w| w.source == s).collect();
        for assignment in found {
            tracing::info!(
                "new partition {}/{}",
                assignment.topic,
                assignment.partition
            );
            let worker = workers[assignment.id % workers.len()];
            worker
                .additions
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(assignment);
        }
    }
}

fn collect<T>(joined: std::thread::Result<Result<T>>, errors: &mut Vec<Error>) -> Option<T> {
    match joined {
        Ok(Ok(value)) => Some(value),
        Ok(Err(e)) => {
            errors.push(e);
            None
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
            errors.push(Error::bug(format!(
                "a thread panicked: {}",
                text.unwrap_or_default()
            )));
            None
        }
    }
}

fn run_worker(
    mut worker: Worker,
    mut outbox: Senders,
    halt: &AtomicBool,
    additions: &Additions,
    endless: bool,
) -> Result<()> {
    loop {
        if halt.load(Relaxed) {
            return worker.finish(false, &mut outbox);
        }
        let added = std::mem::take(
            &mut *additions
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        if !added.is_empty() {
            worker.add(&added)?;
        }
        match worker.step(POLL, &mut outbox)? {
            Step::Ended if !endless => return worker.finish(true, &mut outbox),
            // New partitions may still be found: wait for them.
            Step::Ended => std::thread::park_timeout(POLL),
            Step::Abandoned => return Ok(()),
            Step::Worked | Step::Idle => {}
        }
    }
}

fn run_merge(
    mut merge: Merge,
    receiver: &Receiver<Envelope>,
    trigger: Trigger,
    clock: &dyn Clock,
) -> Result<QuerySummary> {
    let interval = match trigger {
        Trigger::Every(interval) => Some(interval),
        Trigger::WindowClose | Trigger::AvailableNow => None,
    };
    let mut next_tick = interval.map(|i| clock.now() + i);
    loop {
        let wait = next_tick.map_or(POLL, |t| t.saturating_sub(clock.now()).min(POLL));
        match receiver.receive(wait) {
            Received::Item((worker, message)) => match merge.handle(worker, message)? {
                Handled::GoOn | Handled::Cut(_) => {}
                Handled::Ended => break,
            },
            Received::TimedOut => {}
            // A worker failed before it could say goodbye; its error is reported by itself.
            Received::Ended => break,
        }
        if let (Some(at), Some(interval)) = (next_tick, interval)
            && clock.now() >= at
        {
            merge.tick()?;
            next_tick = Some(clock.now() + interval);
        }
    }
    Ok(merge.summary())
}
