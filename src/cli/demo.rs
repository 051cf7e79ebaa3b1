//! `windrow demo`: generated streams, an embedded broker, and the real pipeline over them.

use super::status;
use crate::datasets::{Dataset, Generator, GeneratorOptions};
use crate::encode::text::grouped;
use crate::error::{Error, Result};
use crate::kafka::embedded::EmbeddedBroker;
use crate::kafka::producer::RawProducer;
use crate::options::parse_duration;
use crate::plan::{Settings, Trigger, plan_script};
use crate::run::sinks::{Format, Output};
use crate::run::stats::Stats;
use crate::run::{Observer, RunOptions, RunningJob, run as run_job};
use crate::time::{Clock, SystemClock};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(clap::Args)]
pub struct DemoArgs {
    /// End after so long, e.g. 10s [default: run until Ctrl-C].
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    /// Rows per second of each of the three streams.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=15000))]
    rate: u32,
}

/// Event time runs so much faster than the clock: a window of a minute closes every half second.
const SPEED: f64 = 120.0;
const FRAME: Duration = Duration::from_millis(250);
/// Without a terminal a frame is printed this often, the first one earlier.
const PLAIN_FRAME: Duration = Duration::from_secs(2);
const FIRST_PLAIN_FRAME: Duration = Duration::from_millis(900);
const PANEL_ROWS: usize = 6;
const PANEL_WIDTH: usize = 46;

struct Stream {
    topic: &'static str,
    dataset: Dataset,
}

const STREAMS: [Stream; 3] = [
    Stream {
        topic: "clicks",
        dataset: Dataset::Clickstream,
    },
    Stream {
        topic: "plays",
        dataset: Dataset::Plays,
    },
    Stream {
        topic: "telemetry",
        dataset: Dataset::Telemetry,
    },
];

/// One query of `queries/` and how its rows are shown.
struct View {
    title: &'static str,
    file: &'static str,
    sql: &'static str,
    columns: &'static [&'static str],
    /// Rows are shown in descending order of this column.
    order: &'static str,
}

const VIEWS: [View; 4] = [
    View {
        title: "Views per page, 10 s windows",
        file: "queries/views_per_page.sql",
        sql: include_str!("../../queries/views_per_page.sql"),
        columns: &["page", "views"],
        order: "views",
    },
    View {
        title: "Top songs, 1 min windows",
        file: "queries/top_songs.sql",
        sql: include_str!("../../queries/top_songs.sql"),
        columns: &["song_name", "plays"],
        order: "plays",
    },
    View {
        title: "CPU alerts per model, 1 min every 10 s",
        file: "queries/model_cpu_alerts.sql",
        sql: include_str!("../../queries/model_cpu_alerts.sql"),
        columns: &["model", "avg_cpu", "max_cpu"],
        order: "avg_cpu",
    },
    View {
        title: "Down interfaces, 10 s windows",
        file: "queries/down_interfaces.sql",
        sql: include_str!("../../queries/down_interfaces.sql"),
        columns: &["model", "down"],
        order: "down",
    },
];

/// What a panel shows: the rows of the newest window.
#[derive(Default)]
struct Panel {
    window: String,
    rows: Vec<Map<String, Value>>,
    windows: u64,
}

impl Panel {
    fn take(&mut self, line: &[u8]) {
        let Ok(Value::Object(row)) = serde_json::from_slice(line) else {
            return;
        };
        let window = row
            .get("window_start")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_string();
        if window > self.window {
            self.window = window;
            self.windows += 1;
            self.rows.clear();
        } else if window < self.window {
            return;
        }
        self.rows.push(row);
    }
}

type Panels = Arc<Vec<Mutex<Panel>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer of JSON lines into a panel.
struct PanelWriter {
    panels: Panels,
    index: usize,
    pending: Vec<u8>,
}

impl Write for PanelWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut panel = lock(&self.panels[self.index]);
        for line in self
            .pending
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
        {
            panel.take(line);
        }
        self.pending.clear();
        Ok(())
    }
}

/// Hands the run's counters to the screen.
struct Collect(Arc<Mutex<Vec<Option<Arc<Stats>>>>>, usize);

impl Observer for Collect {
    fn observe(&mut self, _: &Stats, job: &RunningJob) {
        let mut all = lock(&self.0);
        if all[self.1].is_none() {
            all[self.1] = Some(job.stats.clone());
        }
    }

    fn waiting(&mut self, text: &str) {
        tracing::debug!("{text}");
    }
}

pub fn run(args: &DemoArgs, stop: Arc<AtomicBool>) -> Result<()> {
    let time =
        match &args.time {
            None => None,
            Some(t) => Some(parse_duration(t).ok_or_else(|| {
                Error::Usage(format!("--for {t}: expected a time like 10s or 1min"))
            })?),
        };
    // The panels count bad records; telling each would tear the picture.
    status::log_at("error", None)?;
    let broker = EmbeddedBroker::start()?;
    for stream in &STREAMS {
        broker.create_topic(stream.topic, 2)?;
    }
    let bootstrap = broker.bootstrap();
    let panels: Panels = Arc::new(VIEWS.iter().map(|_| Mutex::default()).collect());
    let stats = Arc::new(Mutex::new(vec![None; VIEWS.len()]));
    let mut threads = Vec::new();
    for stream in &STREAMS {
        threads.push(produce(stream, bootstrap.clone(), args.rate, stop.clone())?);
    }
    for index in 0..VIEWS.len() {
        threads.push(query(
            index,
            bootstrap.clone(),
            panels.clone(),
            stats.clone(),
            stop.clone(),
        )?);
    }
    let clock = SystemClock::new();
    let result = show(&panels, &stats, &clock, time, &threads, &stop);
    stop.store(true, Relaxed);
    let mut first = result;
    for thread in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err(Error::bug("a thread of the demo panicked")));
        first = first.and(ended);
    }
    first?;
    super::say(format_args!(
        "\nThese were {} through an embedded broker. Yours: windrow run FILE.sql (see queries/ for examples).",
        files()
    ))
}

fn files() -> String {
    VIEWS.map(|v| v.file).join(", ")
}

type Running = JoinHandle<Result<()>>;

fn spawn(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Running> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|e| Error::env(format!("cannot start a thread: {e}")))
}

fn produce(
    stream: &'static Stream,
    bootstrap: String,
    rate: u32,
    stop: Arc<AtomicBool>,
) -> Result<Running> {
    spawn("produce", move || {
        let mut options = GeneratorOptions::new(stream.dataset);
        options.events_per_second = f64::from(rate) / SPEED;
        (options.late_share, options.bad_share) = (0.001, 0.0005);
        options.keys = 200;
        let mut generator = Generator::new(stream.dataset, options);
        let properties = [
            ("bootstrap.servers", bootstrap.as_str()),
            ("linger.ms", "20"),
        ];
        let mut producer = RawProducer::new(properties.into_iter(), stream.topic)?;
        let clock = SystemClock::new();
        let mut row = Vec::new();
        let mut sent = 0u64;
        while !stop.load(Relaxed) {
            let due = (clock.now().as_secs_f64() * f64::from(rate)) as u64 + 1;
            while sent < due {
                row.clear();
                let Some(record) = generator.next(&mut row) else {
                    return Ok(());
                };
                producer.send(
                    record.key.map(|k| &row[k]),
                    Some(&row),
                    &[],
                    None,
                    Some(record.produced_us / 1000),
                )?;
                sent += 1;
            }
            producer.serve(Duration::from_millis(10))?;
        }
        Ok(())
    })
}

fn query(
    index: usize,
    bootstrap: String,
    panels: Panels,
    stats: Arc<Mutex<Vec<Option<Arc<Stats>>>>>,
    stop: Arc<AtomicBool>,
) -> Result<Running> {
    spawn("query", move || {
        let settings = Settings {
            workers: Some(1),
            trigger: Some(Trigger::WindowClose),
            ..Settings::default()
        };
        let variable = |name: &str| (name == "BOOTSTRAP").then(|| bootstrap.clone());
        let job = plan_script(VIEWS[index].sql, &variable, &settings)?;
        let output: Output = Arc::new(move || {
            Box::new(PanelWriter {
                panels: panels.clone(),
                index,
                pending: Vec::new(),
            })
        });
        let options = RunOptions {
            format: Format::Json,
            output,
            clock: Arc::new(SystemClock::new()),
            stop,
        };
        run_job(job, &options, &mut Collect(stats, index)).map(|_| ())
    })
}

/// Draws until the time is over, a signal comes, or a thread fails.
fn show(
    panels: &Panels,
    stats: &Mutex<Vec<Option<Arc<Stats>>>>,
    clock: &dyn Clock,
    time: Option<Duration>,
    threads: &[Running],
    stop: &AtomicBool,
) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let (first, every) = match terminal {
        true => (Duration::ZERO, FRAME),
        false => (FIRST_PLAIN_FRAME, PLAIN_FRAME),
    };
    let mut out = std::io::stdout();
    let write = |out: &mut std::io::Stdout, text: &str| {
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(crate::sink::console::output_error)
    };
    if terminal {
        write(&mut out, "\x1b[2J")?;
    }
    let mut due = first;
    loop {
        let now = clock.now();
        let over = time.is_some_and(|t| now >= t)
            || stop.load(Relaxed)
            || threads.iter().any(|t| t.is_finished());
        if over || now >= due {
            due = now + every;
            let frame = frame(panels, stats, now);
            let text = if terminal {
                format!("\x1b[H{}\x1b[J", frame.replace('\n', "\x1b[K\n"))
            } else {
                frame
            };
            write(&mut out, &text)?;
        }
        if over {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn frame(panels: &Panels, stats: &Mutex<Vec<Option<Arc<Stats>>>>, now: Duration) -> String {
    let boxes: Vec<Vec<String>> = VIEWS
        .iter()
        .zip(panels.iter())
        .map(|(v, p)| panel(v, &lock(p)))
        .collect();
    let mut out = String::new();
    for pair in boxes.chunks(2) {
        for (left, right) in pair[0].iter().zip(&pair[1]) {
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "{left}  {right}");
        }
        out.push('\n');
    }
    let all: Vec<Arc<Stats>> = lock(stats).iter().flatten().cloned().collect();
    let sum = |f: &dyn Fn(&Stats) -> u64| grouped(all.iter().map(|s| f(s)).sum());
    let rate = all.iter().map(|s| s.records()).sum::<u64>() as f64 / now.as_secs_f64().max(0.001);
    let _infallible = writeln!(
        out,
        "{:.0} s | {} rows/s | read {} | late {} | bad {}",
        now.as_secs_f64(),
        grouped(rate as u64),
        sum(&|s| s.records()),
        sum(&|s| s.late()),
        sum(&|s| s.bad())
    );
    out
}

/// A panel as lines of one width.
fn panel(view: &View, panel: &Panel) -> Vec<String> {
    let mut rows: Vec<&Map<String, Value>> = panel.rows.iter().collect();
    let rank = |r: &Map<String, Value>| r.get(view.order).and_then(Value::as_f64).unwrap_or(0.0);
    rows.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let window = if panel.window.is_empty() {
        "waiting for the first window".into()
    } else {
        format!("from {}", panel.window)
    };
    let width = PANEL_WIDTH;
    let mut lines = vec![
        format!("{:<width$}", view.title),
        format!("{:<width$}", format!("{window}, {} closed", panel.windows)),
        "-".repeat(width),
    ];
    for i in 0..PANEL_ROWS {
        let mut line = String::new();
        if let Some(row) = rows.get(i) {
            for (k, column) in view.columns.iter().enumerate() {
                let text = match row.get(*column) {
                    Some(Value::String(s)) => s.clone(),
                    Some(Value::Number(n)) if n.is_f64() => {
                        format!("{:.1}", n.as_f64().unwrap_or(0.0))
                    }
                    Some(Value::Null) | None => "NULL".into(),
                    Some(other) => other.to_string(),
                };
                let _infallible = if k == 0 {
                    write!(line, "{text:<28.28}")
                } else {
                    write!(line, "{text:>9.9}")
                };
            }
        }
        lines.push(format!("{line:<width$.width$}"));
    }
    lines
}
