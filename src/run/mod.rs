//! Runs a planned job: one group of workers for each source, one merge for each query.
//!
//! ```text
//! reader ─▶ worker (decode, filter, windows) ─▶ queue ─▶ merge (finish, sink) ─▶ checkpoints
//! ```
//! Plain threads. The caller's thread coordinates: it looks for new partitions, shows progress,
//! and passes a stop on.

mod alarm;
pub mod bad;
pub mod checkpoint;
mod durable;
mod engine;
mod memory;
pub mod merge;
pub mod queue;
pub mod recovery;
pub mod rows;
pub mod sinks;
pub mod stats;
mod threads;
pub mod worker;

use crate::error::Result;
use crate::plan::{Body, Job, QueryPlan, SourcePlan, Trigger};
use crate::sink::OutputMode;
use crate::time::Clock;
use crate::window::Assign;
use durable::Durable;
use engine::{Engine, Opened};
use sinks::{Format, Output};
use stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

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
    sinks::check(&job)?;
    job.load_tables()?;
    let settings = job.settings.clone();
    let sources: Vec<Arc<SourcePlan>> = job.sources.into_iter().map(Arc::new).collect();
    let queries: Vec<Arc<QueryPlan>> = job.queries.into_iter().map(Arc::new).collect();
    let stats = Arc::new(Stats::new(sources.len(), queries.len()));
    let mut wait = |text: &str| {
        // An empty text only asks whether to go on.
        if !text.is_empty() {
            observer.waiting(text);
        }
        !options.stop.load(Relaxed)
    };

    let mut durable = Durable::open(&settings, &sources, &queries, &mut wait)?;
    let mut opened = Vec::new();
    for plan in &sources {
        let source = sinks::open_source(plan, settings.until_end, &options.clock)?;
        let resume = durable.as_ref().and_then(|d| d.positions(&plan.def.name));
        let partitions = source.partitions(resume, &mut wait)?;
        opened.push(Opened { source, partitions });
    }
    let bounded = opened
        .iter()
        .all(|o| settings.until_end || o.source.is_bounded());
    let running = RunningJob {
        sources,
        queries,
        bounded,
        stats,
    };
    Engine::new(&running, options, &settings, &opened).run(durable.as_mut(), observer)
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
