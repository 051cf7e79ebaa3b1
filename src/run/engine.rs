//! Starts the threads of a job and waits for them.

use super::alarm::Alarm;
use super::durable::Durable;
use super::merge::Merge;
use super::queue::{self, Receiver, Sender};
use super::threads::{
    Additions, Checkpoints, Envelope, Event, Line, QuerySender, Senders, run_merge, run_worker,
};
use super::worker::{Worker, WorkerParts};
use super::{
    BATCH_ROWS, Observer, QUEUE_BYTES_MAX, QuerySummary, RunOptions, RunningJob, Summary, TICK,
    memory, sinks, trigger_of, workers_of,
};
use crate::error::{Error, Result};
use crate::plan::{QueryPlan, Settings};
use crate::sink::OutputMode;
use crate::source::{Assignment, Source};
use crate::state::spill::SpillFile;
use sinks::Durability;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

/// A stop that is over sooner is not told.
const STOP_TOLD_AFTER: Duration = Duration::from_secs(3);

/// A source and the partitions to read.
pub(super) struct Opened {
    pub source: Box<dyn Source>,
    pub partitions: Vec<Assignment>,
}

struct RunningWorker {
    source: usize,
    additions: Additions,
    thread: JoinHandle<Option<()>>,
}

/// The ends of the checkpoints' lines.
struct Lines {
    events: Receiver<Event>,
    leave: Vec<Sender<()>>,
}

pub(super) struct Engine<'a> {
    running: &'a RunningJob,
    options: &'a RunOptions,
    settings: &'a Settings,
    opened: &'a [Opened],
    workers_max: usize,
    /// Bytes for state and what goes with it.
    memory: usize,
    workers: Vec<RunningWorker>,
    merges: Vec<JoinHandle<Option<QuerySummary>>>,
    /// One for each query, until the workers have their own.
    senders: Vec<Sender<Envelope>>,
    alarm: Alarm,
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

impl<'a> Engine<'a> {
    pub fn new(
        running: &'a RunningJob,
        options: &'a RunOptions,
        settings: &'a Settings,
        opened: &'a [Opened],
    ) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            running,
            options,
            settings,
            opened,
            workers_max: settings.workers.unwrap_or_else(cores),
            memory: memory::budget(settings),
            workers: Vec::new(),
            merges: Vec::new(),
            senders: Vec::new(),
            alarm: Alarm::default(),
        }
    }

    /// Runs to the end.
    pub fn run(
        mut self,
        durable: Option<&mut Durable>,
        observer: &mut dyn Observer,
    ) -> Result<Summary> {
        let Some(durable) = durable else {
            self.start(None)?;
            return self.wait(None, observer);
        };
        if let Some(transaction) = &durable.transaction {
            transaction.heed(self.alarm.failed.clone());
        }
        let lines = self.start(Some(durable))?;
        let checkpointer = durable.checkpointer.take();
        let (Some(lines), Some(mut checkpointer)) = (lines, checkpointer) else {
            return Err(Error::bug("a run with checkpoints has no lines"));
        };
        let (clock, stats) = (self.options.clock.clone(), self.running.stats.clone());
        let (opened, alarm) = (self.opened, self.alarm.clone());
        let (interval, sooner) = (durable.interval, durable.sooner);
        std::thread::scope(|scope| {
            let thread = start_scoped(scope, "checkpoints", move || {
                let mut checkpoints = Checkpoints {
                    events: lines.events,
                    leave: lines.leave,
                    interval,
                    sooner,
                    clock,
                    stats,
                    failed: alarm.failed.clone(),
                    commit: Box::new(|positions| commit_positions(opened, positions)),
                };
                let done = alarm.watch(|| checkpoints.run(&mut checkpointer));
                if done.is_none() {
                    checkpointer.abandon();
                }
                done
            })?;
            self.wait(Some(thread), observer)
        })
    }

    fn start(&mut self, mut durable: Option<&mut Durable>) -> Result<Option<Lines>> {
        let (events, received) = queue::queue(QUEUE_BYTES_MAX);
        let mut leave = Vec::new();
        for (q, query) in self.running.queries.iter().enumerate() {
            let line = durable.is_some().then(|| {
                let (sender, receiver) = queue::queue(QUEUE_BYTES_MAX);
                leave.push(sender);
                Line {
                    query: q,
                    events: events.clone(),
                    leave: receiver,
                }
            });
            self.start_merge(q, query.clone(), durable.as_deref_mut(), line)?;
        }
        for s in 0..self.opened.len() {
            self.start_workers(s)?;
        }
        self.senders.clear();
        Ok(durable.map(|_| Lines {
            events: received,
            leave,
        }))
    }

    fn start_merge(
        &mut self,
        q: usize,
        query: Arc<QueryPlan>,
        durable: Option<&mut Durable>,
        line: Option<Line>,
    ) -> Result<()> {
        let workers: Vec<usize> = query.sources.iter().map(|s| self.workers_of(*s)).collect();
        let trigger = trigger_of(&query, self.settings.trigger, self.running.bounded);
        let durability = durable.as_ref().map(|d| Durability {
            job: d.job.clone(),
            transaction: d.transaction.clone(),
        });
        let output = &self.options.output;
        let keys = &self.settings.keys;
        let durability = durability.as_ref();
        let sink = sinks::open_query_sink(&query, self.options.format, output, durability, keys)?;
        let late = match &query.late {
            Some(table) => Some(sinks::open_sink(
                &table.def,
                &format!("{}-late", query.name),
                OutputMode::Append,
                output,
                durability,
                keys,
            )?),
            None => None,
        };
        let restored = durable.map(|d| {
            let shapes = std::mem::take(&mut d.recovery.shapes[q]);
            let next = d.checkpointer.as_ref().map_or(0, |c| c.number());
            (next, shapes, d.recovery.number, d.recovery.take_state(q))
        });
        let (sender, receiver) = queue::queue(QUEUE_BYTES_MAX);
        self.senders.push(sender);
        let budget = self.memory / self.running.queries.len();
        let stats = self.running.stats.clone();
        let clock = self.options.clock.clone();
        let ttl = self.settings.state_ttl;
        self.merges
            .push(self.guarded(format!("merge-{q}"), None, move |merge| {
                let new = Merge::new(query, q, stats, trigger, &workers, sink, late)?;
                let merge = merge.insert(new);
                let spill = SpillFile::new(std::env::temp_dir(), &format!("{q}"));
                merge.limit(budget / 4, budget / 2, Box::new(spill));
                if let Some((number, shapes, from, state)) = restored {
                    merge.checkpointed(number, shapes, from, state)?;
                }
                run_merge(
                    merge,
                    &receiver,
                    line.as_ref(),
                    trigger,
                    ttl,
                    clock.as_ref(),
                )
            })?);
        Ok(())
    }

    /// A thread whose failure stops the run. What it works with is dropped when the others have heard
    /// of it: a client may be slow to end.
    fn guarded<W: Send + 'static, T: Send + 'static>(
        &self,
        name: String,
        mut with: W,
        body: impl FnOnce(&mut W) -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Option<T>>> {
        let alarm = self.alarm.clone();
        spawn(name, move || alarm.watch(|| body(&mut with)))
    }

    /// How often a source is asked for new partitions; `None`: never, it ends.
    fn looks_for_more(&self, source: &dyn Source) -> Option<Duration> {
        let ends = source.is_bounded() || self.running.bounded;
        source.discovery_interval().filter(|_| !ends)
    }

    fn workers_of(&self, source: usize) -> usize {
        workers_of(self.workers_max, self.opened[source].partitions.len())
    }

    /// The number that a query counts the first worker of one of its sources by.
    fn first_worker(&self, query: &QueryPlan, source: usize) -> usize {
        let before = query.sources.iter().take_while(|s| **s != source);
        before.map(|s| self.workers_of(*s)).sum()
    }

    fn start_workers(&mut self, s: usize) -> Result<()> {
        let Opened { source, partitions } = &self.opened[s];
        let workers = self.workers_of(s);
        let workers_total: usize = (0..self.opened.len()).map(|s| self.workers_of(s)).sum();
        let all = self.running.queries.iter().enumerate();
        let queries: Vec<(usize, Arc<QueryPlan>)> = all
            .filter(|(_, q)| q.sources.contains(&s))
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
                batch_rows: self.settings.batch_rows.unwrap_or(BATCH_ROWS),
                memory: self.memory / 4 / workers_total,
                keys: self.settings.keys.clone(),
                keeps_open: self.settings.keeps_open,
            })?;
            let sender = |(q, query): &(usize, Arc<QueryPlan>)| QuerySender {
                query: *q,
                worker: self.first_worker(query, s) + number,
                sender: self.senders[*q].clone(),
            };
            let outbox = Senders(queries.iter().map(sender).collect());
            let additions = Additions::default();
            // A source that may grow is never at its end.
            let endless = self.looks_for_more(source.as_ref()).is_some();
            let (halt, incoming) = (self.alarm.halt.clone(), additions.clone());
            let thread = self.guarded(format!("worker-{s}-{number}"), worker, move |worker| {
                run_worker(worker, outbox, &halt, &incoming, endless)
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
    fn wait(
        self,
        checkpoints: Option<ScopedJoinHandle<'_, Option<()>>>,
        observer: &mut dyn Observer,
    ) -> Result<Summary> {
        let stats = self.running.stats.clone();
        let mut discovered_at = vec![self.options.clock.now(); self.opened.len()];
        let mut stopping = Stopping::default();
        while self.merges.iter().any(|m| !m.is_finished())
            || self.workers.iter().any(|w| !w.thread.is_finished())
            || checkpoints.as_ref().is_some_and(|c| !c.is_finished())
        {
            let all_done =
                !stats.queries.is_empty() && stats.queries.iter().all(|q| q.done.load(Relaxed));
            if self.options.stop.load(Relaxed) || all_done {
                self.alarm.halt.store(true, Relaxed);
            }
            if self.alarm.halt.load(Relaxed) {
                stopping.tell(self.options.clock.now(), || self.alarm.error());
            }
            for (s, opened) in self.opened.iter().enumerate() {
                let now = self.options.clock.now();
                let due = (self.looks_for_more(opened.source.as_ref()))
                    .is_some_and(|i| now.saturating_sub(discovered_at[s]) >= i);
                if due && !self.alarm.halt.load(Relaxed) {
                    discovered_at[s] = now;
                    self.discover(s, opened.source.as_ref());
                }
            }
            observer.observe(&stats, self.running);
            std::thread::park_timeout(TICK);
        }
        let alarm = &self.alarm;
        for worker in self.workers {
            alarm.joined(worker.thread.join());
        }
        let merges = self.merges.into_iter();
        let queries: Vec<QuerySummary> = merges.filter_map(|m| alarm.joined(m.join())).collect();
        if let Some(checkpoints) = checkpoints {
            alarm.joined(checkpoints.join());
        }
        observer.observe(&stats, self.running);
        match alarm.error() {
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

/// A stop that takes long is told: some sink may be dead.
#[derive(Default)]
struct Stopping {
    since: Option<Duration>,
    told: bool,
}

impl Stopping {
    fn tell(&mut self, now: Duration, error: impl FnOnce() -> Option<Error>) {
        let since = *self.since.get_or_insert(now);
        if !self.told && now.saturating_sub(since) >= STOP_TOLD_AFTER {
            self.told = true;
            match error() {
                Some(error) => tracing::error!(
                    "{error}; waiting for the other threads and the clients to end, two signals end at once"
                ),
                None => tracing::warn!(
                    "stopping waits until what was read is written; a second signal ends at once"
                ),
            }
        }
    }
}

fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new()
        .name(name.to_string())
        .spawn_scoped(scope, body)
        .map_err(|e| Error::env(format!("cannot start a thread: {e}")))
}

/// Tells the consumer groups where the checkpoint stands, so that lag tools tell the truth. No
/// result depends on it.
fn commit_positions(opened: &[Opened], positions: &[Vec<crate::state::PartitionSnapshot>]) {
    for (opened, positions) in opened.iter().zip(positions) {
        if let Err(e) = opened.source.commit(positions) {
            tracing::warn!("{e}");
        }
    }
}
