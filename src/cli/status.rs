//! The status line, the progress bar and the log; all on standard error.

use crate::encode::text::grouped;
use crate::error::{Error, Result};
use crate::plan::explain::watermark_text;
use crate::run::stats::Stats;
use crate::run::{Observer, RunningJob, Summary};
use crate::time::Clock;
use crate::watermark::NONE;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often the line is drawn anew, and (without terminal) a log line is written.
const DRAW: Duration = Duration::from_millis(200);
const LOG: Duration = Duration::from_secs(10);
/// A write to standard output that takes so long is told.
const BLOCKED: Duration = Duration::from_secs(5);
/// After so long without a watermark the run says what holds it back.
const EXPLAIN: Duration = Duration::from_secs(10);

/// Sends the log to standard error, around the status line.
pub fn log(bar: Option<ProgressBar>) -> Result<()> {
    log_at("warn,windrow=info", bar)
}

/// The same with another filter; `WINDROW_LOG` wins over it.
pub fn log_at(filter: &str, bar: Option<ProgressBar>) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WINDROW_LOG")
        .unwrap_or_else(|_| filter.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell on standard error that it cannot write there, and panic.
        .log_internal_errors(false)
        .with_writer(move || Aside {
            bar: bar.clone(),
            inner: std::io::stderr(),
            pending: Vec::new(),
        })
        .try_init()
        .map_err(|e| Error::bug(format!("the log is set up twice: {e}")))
}

/// A writer that takes the status line away while it writes.
pub struct Aside<W: Write> {
    bar: Option<ProgressBar>,
    inner: W,
    pending: Vec<u8>,
}

impl<W: Write> Aside<W> {
    pub fn new(bar: Option<ProgressBar>, inner: W) -> Self {
        Self {
            bar,
            inner,
            pending: Vec::new(),
        }
    }
}

impl<W: Write> Write for Aside<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bar.is_none() {
            return self.inner.write(bytes);
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() > 1 << 16 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let inner = &mut self.inner;
        let write = || inner.write_all(&pending).and_then(|()| inner.flush());
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => inner.flush(),
        }
    }
}

impl<W: Write> Drop for Aside<W> {
    fn drop(&mut self) {
        // The terminal is gone when this fails: there is nobody to tell.
        let _gone = self.flush();
    }
}

/// Since when a write to standard output has been under way, in ms of the run's clock; 0: none is.
pub type Writing = Arc<AtomicU64>;

/// A writer that says when it is at work: whoever reads it may have stopped.
pub struct Watched<W: Write> {
    inner: W,
    writing: Writing,
    clock: Arc<dyn Clock>,
}

impl<W: Write> Watched<W> {
    pub fn new(inner: W, writing: Writing, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            writing,
            clock,
        }
    }

    fn watch<T>(&mut self, call: impl FnOnce(&mut W) -> T) -> T {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX);
        self.writing.store(now.max(1), Relaxed);
        let result = call(&mut self.inner);
        self.writing.store(0, Relaxed);
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.watch(|inner| inner.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.watch(W::flush)
    }
}

/// Shows how a run goes.
pub struct Status {
    bar: Option<ProgressBar>,
    clock: Arc<dyn Clock>,
    started: Duration,
    drawn: Duration,
    logged: Duration,
    /// Records at the last drawing and logging, for rates.
    drawn_records: u64,
    logged_records: u64,
    explained: bool,
    /// Of standard output, and whether it was told that nobody reads it.
    writing: Writing,
    blocked: bool,
}

/// The bar when standard error is a terminal.
pub fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar
    })
}

impl Status {
    pub fn new(bar: Option<ProgressBar>, clock: Arc<dyn Clock>, writing: Writing) -> Self {
        let now = clock.now();
        Self {
            bar,
            clock,
            started: now,
            drawn: now,
            logged: now,
            drawn_records: 0,
            logged_records: 0,
            explained: false,
            writing,
            blocked: false,
        }
    }

    /// Says that the run waits for whoever reads its output, and that it goes on.
    fn tell_blocked(&mut self, now: Duration) {
        let since = self.writing.load(Relaxed);
        let blocked = since > 0 && now.saturating_sub(Duration::from_millis(since)) >= BLOCKED;
        if blocked != self.blocked {
            self.blocked = blocked;
            match blocked {
                true => tracing::warn!(
                    "waiting for whoever reads standard output; meanwhile nothing more is read"
                ),
                false => tracing::warn!("standard output is read again"),
            }
        }
    }

    /// Removes the line and says what was done.
    pub fn finish(&self, summary: &Summary) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let stats = &summary.stats;
        let seconds = (self.clock.now() - self.started).as_secs_f64();
        tracing::info!(
            "read {} records in {seconds:.2} s; late {}, bad {}, future {}",
            grouped(stats.records()),
            grouped(stats.late()),
            grouped(stats.bad()),
            grouped(stats.future())
        );
        for query in &summary.queries {
            let checkpoint = stats.checkpointed.load(Relaxed);
            let open = match (query.open_windows, checkpoint) {
                (0, _) => String::new(),
                (1, 0) => "; 1 window was still open and has no result".into(),
                (n, 0) => format!("; {n} windows were still open and have no result"),
                (1, c) => format!("; 1 window is still open and goes on from checkpoint {c}"),
                (n, c) => format!("; {n} windows are still open and go on from checkpoint {c}"),
            };
            tracing::info!(
                "{}: {} rows to {}; late {}{open}",
                query.name,
                grouped(query.rows),
                query.sink,
                grouped(query.late)
            );
        }
    }

    fn draw(&mut self, stats: &Stats, job: &RunningJob, now: Duration) {
        let Some(bar) = &self.bar else { return };
        let rate = rate(stats.records() - self.drawn_records, now - self.drawn);
        let mut line = line(stats, rate);
        if job.bounded {
            let done = done(stats);
            let filled = (done * 24.0) as usize;
            line = format!(
                "[{}{}] {:>3.0}%  {line}",
                "=".repeat(filled),
                " ".repeat(24 - filled.min(24)),
                done * 100.0
            );
        }
        bar.set_message(line);
        bar.tick();
        self.drawn = now;
        self.drawn_records = stats.records();
    }

    /// Says once why there is no result although there are rows: the most frequent complaint
    /// about streaming engines is that nobody does.
    fn explain(&mut self, stats: &Stats, job: &RunningJob, now: Duration) {
        if self.explained || job.bounded || now - self.started < EXPLAIN || stats.records() == 0 {
            return;
        }
        for (source, plan) in stats.sources.iter().zip(&job.sources) {
            let Some(_) = plan.event_time else { continue };
            let partitions = source.partitions();
            let silent: Vec<&str> = partitions
                .iter()
                .filter(|p| p.watermark == NONE && !p.idle && !p.ended)
                .map(|p| p.name.as_str())
                .collect();
            if !silent.is_empty() && silent.len() < partitions.len() {
                tracing::warn!(
                    "no window of {} can be final: {} had no row yet and holds the watermark back; 'scan.watermark.idle-timeout' = '10 s' would let the others go on",
                    plan.def.name,
                    silent.join(", ")
                );
                self.explained = true;
            }
        }
    }
}

impl Observer for Status {
    fn observe(&mut self, stats: &Stats, job: &RunningJob) {
        let now = self.clock.now();
        if now - self.drawn >= DRAW {
            self.draw(stats, job, now);
        }
        if self.bar.is_none() && now - self.logged >= LOG {
            let rate = rate(stats.records() - self.logged_records, now - self.logged);
            tracing::info!("{}", line(stats, rate));
            (self.logged, self.logged_records) = (now, stats.records());
        }
        self.explain(stats, job, now);
        self.tell_blocked(now);
    }

    fn waiting(&mut self, text: &str) {
        tracing::warn!("{text}");
    }
}

fn line(stats: &Stats, rate: f64) -> String {
    format!(
        "{} rows/s | read {} | lag {} | watermark {} | open windows {} | out {} | late {} | bad {} | future {}",
        grouped(rate as u64),
        grouped(stats.records()),
        grouped(stats.lag() as u64),
        watermark_text(stats.watermark()),
        stats.open_windows(),
        grouped(stats.written()),
        grouped(stats.late()),
        grouped(stats.bad()),
        grouped(stats.future())
    )
}

fn rate(records: u64, time: Duration) -> f64 {
    records as f64 / time.as_secs_f64().max(1e-6)
}

/// Share of a bounded run that is read.
fn done(stats: &Stats) -> f64 {
    let (read, lag) = (stats.records() as f64, stats.lag() as f64);
    if read + lag == 0.0 {
        0.0
    } else {
        read / (read + lag)
    }
}
