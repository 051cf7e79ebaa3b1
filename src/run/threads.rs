//! The loops of the threads: workers, merges, checkpoints.

use super::POLL;
use super::QuerySummary;
use super::checkpoint::Checkpointer;
use super::merge::{Handled, Merge, Part};
use super::queue::{Closed, Received, Receiver, Sender};
use super::stats::Stats;
use super::worker::{Message, Outbox, Step, Worker};
use crate::error::Result;
use crate::plan::Trigger;
use crate::source::Assignment;
use crate::state::PartitionSnapshot;
use crate::time::Clock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A message and the number of the worker that sent it, as the query counts them.
pub(super) type Envelope = (usize, Message);

/// Where one worker's messages for a query go.
pub(super) struct QuerySender {
    pub query: usize,
    pub worker: usize,
    pub sender: Sender<Envelope>,
}

/// Where one worker's messages go.
pub(super) struct Senders(pub Vec<QuerySender>);

impl Outbox for Senders {
    fn send(&mut self, query: usize, message: Message) -> Result<(), Closed> {
        let bytes = message.bytes();
        match self.0.iter().find(|s| s.query == query) {
            Some(s) => s.sender.send((s.worker, message), bytes),
            None => Err(Closed),
        }
    }
}

/// New partitions on their way to a worker.
pub(super) type Additions = Arc<Mutex<Vec<Assignment>>>;

/// `endless`: partitions may still be found when all have ended.
pub(super) fn run_worker(
    worker: &mut Worker,
    mut outbox: Senders,
    halt: &AtomicBool,
    additions: &Additions,
    endless: bool,
) -> Result<()> {
    loop {
        if halt.load(Relaxed) {
            return worker.finish(false, &mut outbox);
        }
        let added = std::mem::take(&mut *additions.lock().unwrap_or_else(PoisonError::into_inner));
        if !added.is_empty() {
            worker.add(&added)?;
        }
        if worker.is_ahead() {
            worker.wait();
            continue;
        }
        match worker.step(POLL, &mut outbox)? {
            Step::Ended if !endless => return worker.end(&mut outbox),
            // New partitions may still be found: wait for them.
            Step::Ended => std::thread::park_timeout(POLL),
            Step::Abandoned => return Ok(()),
            Step::Worked | Step::Idle => {}
        }
    }
}

/// What merges tell the checkpoints.
pub(super) enum Event {
    Part(Box<Part>),
    Published(usize),
}

/// A merge's line to the checkpoints: its part goes out, leave to publish comes back.
pub(super) struct Line {
    pub query: usize,
    pub events: Sender<Event>,
    pub leave: Receiver<()>,
}

/// Something that is done again and again; without an interval never.
struct Timer {
    interval: Option<Duration>,
    next: Duration,
}

impl Timer {
    fn new(interval: Option<Duration>, clock: &dyn Clock) -> Self {
        let next = interval.map_or(Duration::MAX, |interval| clock.now() + interval);
        Self { interval, next }
    }

    /// How long it is not due.
    fn wait(&self, clock: &dyn Clock) -> Duration {
        self.next.saturating_sub(clock.now())
    }

    fn when_due(&mut self, clock: &dyn Clock, action: impl FnOnce() -> Result<()>) -> Result<()> {
        if clock.now() >= self.next {
            action()?;
            *self = Self::new(self.interval, clock);
        }
        Ok(())
    }
}

pub(super) fn run_merge(
    merge: &mut Merge,
    receiver: &Receiver<Envelope>,
    line: Option<&Line>,
    trigger: Trigger,
    ttl: Option<Duration>,
    clock: &dyn Clock,
) -> Result<QuerySummary> {
    let interval = match trigger {
        Trigger::Every(interval) => Some(interval),
        Trigger::WindowClose | Trigger::AvailableNow => None,
    };
    let now_ms = || clock.wall_us() / 1000;
    let (mut ticks, mut looks) = (Timer::new(interval, clock), Timer::new(ttl, clock));
    if ttl.is_some() {
        looks.next = looks.next.saturating_sub(merge.since_look(now_ms()));
    }
    loop {
        let wait = ticks.wait(clock).min(POLL);
        let handled = match merge.replay()? {
            Some(handled) => handled,
            None => match receiver.receive(wait) {
                Received::Item((worker, message)) => merge.handle(worker, message)?,
                Received::TimedOut => Handled::GoOn,
                // A worker failed before it could say goodbye; its error is reported by itself.
                Received::Ended => break,
            },
        };
        match (handled, line) {
            (Handled::GoOn, _) | (Handled::Cut(_), None) => {}
            (Handled::Ended, _) => break,
            (Handled::Cut(part), Some(line)) => {
                let last = part.last;
                if !publish(merge, part, line)? || last {
                    break;
                }
            }
        }
        looks.when_due(clock, || merge.expire(now_ms()))?;
        ticks.when_due(clock, || merge.tick())?;
    }
    Ok(merge.summary())
}

/// Hands in a part, waits until its checkpoint is durable, publishes. False when the checkpoints
/// have ended before: whoever ended them reports why.
fn publish(merge: &mut Merge, part: Box<Part>, line: &Line) -> Result<bool> {
    let last = part.last;
    if line.events.send(Event::Part(part), 0).is_err() {
        return Ok(false);
    }
    loop {
        match line.leave.receive(POLL) {
            Received::Item(()) => break,
            Received::TimedOut => {}
            Received::Ended => return Ok(false),
        }
    }
    merge.publish()?;
    if last {
        merge.close()?;
    }
    let _over = line.events.send(Event::Published(line.query), 0);
    Ok(true)
}

/// The shortest pause between checkpoints when nobody has asked for another.
const YOUNG: Duration = Duration::from_secs(1);

/// What the thread that makes checkpoints works with.
pub(super) struct Checkpoints<'a> {
    pub events: Receiver<Event>,
    /// By query: leave to publish.
    pub leave: Vec<Sender<()>>,
    pub interval: Duration,
    /// Nobody has asked for that interval: in a young run checkpoints come sooner, so that one
    /// that is killed again and again gets on.
    pub sooner: bool,
    pub clock: Arc<dyn Clock>,
    pub stats: Arc<Stats>,
    /// Something else has failed: there will be no further checkpoint.
    pub failed: Arc<AtomicBool>,
    /// Is given the sources' positions that a checkpoint has made durable.
    pub commit: Box<CommitPositions<'a>>,
}

/// By source: where its partitions stand.
pub(super) type CommitPositions<'a> = dyn FnMut(&[Vec<PartitionSnapshot>]) + Send + 'a;

impl Checkpoints<'_> {
    /// From one checkpoint to the next, in a run of this age.
    fn pause(&self, age: Duration) -> Duration {
        match self.sooner {
            true => self.interval.min(age.max(YOUNG)),
            false => self.interval,
        }
    }

    /// Asks for checkpoints at the interval and makes them, until the last one is published or the
    /// run has failed.
    pub fn run(&mut self, checkpointer: &mut Checkpointer) -> Result<()> {
        // The first one at once: it says where the run began.
        let begun = self.clock.now();
        let mut due = begun;
        loop {
            let now = self.clock.now();
            if now >= due {
                self.stats.checkpoint.store(checkpointer.number(), SeqCst);
            }
            if self.failed.load(Relaxed) {
                checkpointer.abandon();
                return Ok(());
            }
            match self.events.receive(
                due.saturating_sub(now)
                    .clamp(Duration::from_millis(1), POLL),
            ) {
                Received::Item(Event::Part(part)) => checkpointer.take(*part)?,
                Received::Item(Event::Published(query)) => {
                    if let Some(published) = checkpointer.published(query) {
                        self.stats.checkpointed.store(published.number, SeqCst);
                        (self.commit)(&published.positions);
                        if published.last {
                            return Ok(());
                        }
                        due = self.clock.now() + self.pause(self.clock.now().saturating_sub(begun));
                    }
                }
                Received::TimedOut => {}
                Received::Ended => {
                    checkpointer.abandon();
                    return Ok(());
                }
            }
            let started = self.clock.now();
            if let Some(written) = checkpointer.complete(self.clock.wall_us() / 1000)? {
                let took = self.clock.now().saturating_sub(started);
                tracing::debug!(
                    "checkpoint {}: {} bytes in {took:?}",
                    checkpointer.number(),
                    written.bytes
                );
                for query in checkpointer.to_publish() {
                    // A merge that is gone has reported its own error.
                    let _gone = self.leave[query].send((), 0);
                }
            }
        }
    }
}
