//! `windrow produce`: lines of a file, of standard input, or of a generator become records.

use super::topics::Connection;
use crate::datasets::{Dataset, Generator, GeneratorOptions};
use crate::encode::text::grouped;
use crate::error::{Error, Result};
use crate::kafka::admin;
use crate::kafka::producer::RawProducer;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  windrow produce --topic clicks rows.ndjson
  tail -f app.log | windrow produce --topic logs
  windrow produce --topic clicks --partitions 4 --generate clickstream --rows 1000000
  windrow produce --topic clicks --generate clickstream --rate 1000")]
pub struct Args {
    /// Where to; created when it is missing.
    #[arg(long, short)]
    topic: String,
    /// One record a line; - (or nothing) is standard input.
    #[arg(conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Same as the plain argument.
    #[arg(long = "file", value_name = "FILE", conflicts_with_all = ["file", "generate"])]
    file_option: Option<PathBuf>,
    /// Partitions of a topic that is created.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// What stands between key and value in a line [default: lines are values].
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Records per second.
    #[arg(long)]
    rate: Option<f64>,
    /// Make rows: clickstream, plays, telemetry, rides or user_numbers.
    #[arg(long, value_name = "DATASET")]
    generate: Option<Dataset>,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The generator's knobs; each data set has its own defaults.
#[derive(clap::Args)]
#[command(next_help_heading = "Generator")]
pub struct GeneratorArgs {
    /// How many rows [default: without end].
    #[arg(long)]
    rows: Option<u64>,
    /// Same seed, same rows.
    #[arg(long)]
    seed: Option<u64>,
    /// Event time between rows is 1 second divided by this.
    #[arg(long)]
    events_per_second: Option<f64>,
    /// Rows are up to so many milliseconds out of order.
    #[arg(long)]
    disorder_ms: Option<i64>,
    /// Share (0 to 1) of late rows.
    #[arg(long)]
    late_share: Option<f64>,
    /// How late they are.
    #[arg(long)]
    late_by_ms: Option<i64>,
    /// Share (0 to 1) of broken records.
    #[arg(long)]
    bad_share: Option<f64>,
    /// Number of pages, songs, devices, …
    #[arg(long)]
    keys: Option<u64>,
}

impl GeneratorArgs {
    fn options(&self, dataset: Dataset) -> GeneratorOptions {
        let mut o = GeneratorOptions::new(dataset);
        o.rows = self.rows;
        o.seed = self.seed.unwrap_or(o.seed);
        o.events_per_second = self.events_per_second.unwrap_or(o.events_per_second);
        o.disorder_us = self.disorder_ms.map_or(o.disorder_us, |ms| ms * 1000);
        o.late_share = self.late_share.unwrap_or(o.late_share);
        o.late_by_us = self.late_by_ms.map_or(o.late_by_us, |ms| ms * 1000);
        o.bad_share = self.bad_share.unwrap_or(o.bad_share);
        o.keys = self.keys.unwrap_or(o.keys);
        o
    }
}

pub fn run(args: Args, stop: &AtomicBool) -> Result<()> {
    let config = args.connection.config()?;
    if !admin::list(&config)?.iter().any(|t| t.name == args.topic)
        && admin::create(&config, &args.topic, args.partitions, 1, &[])?
    {
        tracing::info!(
            "created topic {} with {} partitions",
            args.topic,
            args.partitions
        );
    }
    let pairs = args.connection.pairs()?;
    let mut producer = RawProducer::new(
        pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())),
        &args.topic,
    )?;
    let started = Instant::now();
    let mut pace = Pace {
        rate: args.rate,
        started,
        stop,
    };
    match args.generate {
        Some(dataset) => generate(dataset, &args.generator, &mut producer, &mut pace)?,
        None => lines(&args, &mut producer, &mut pace)?,
    }
    producer.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(
        "produced {} records to {} in {seconds:.2} s",
        grouped(producer.sent()),
        args.topic
    );
    Ok(())
}

/// Lines of standard input that are read before they are sent.
const LINES_AHEAD: usize = 4096;

/// Holds a rate; without one, does nothing.
struct Pace<'a> {
    rate: Option<f64>,
    started: Instant,
    stop: &'a AtomicBool,
}

impl Pace<'_> {
    /// Waits until record number `n` is due. False when told to stop.
    fn wait(&mut self, n: u64, producer: &mut RawProducer) -> Result<bool> {
        let Some(rate) = self.rate.filter(|r| *r > 0.0) else {
            return Ok(!self.stop.load(Ordering::Relaxed));
        };
        let due = Duration::from_secs_f64(n as f64 / rate);
        while self.started.elapsed() < due {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            // The wait is put to use: records that linger are delivered.
            producer
                .serve((due - self.started.elapsed().min(due)).min(Duration::from_millis(50)))?;
        }
        Ok(!self.stop.load(Ordering::Relaxed))
    }
}

fn generate(
    dataset: Dataset,
    args: &GeneratorArgs,
    producer: &mut RawProducer,
    pace: &mut Pace,
) -> Result<()> {
    let mut generator = Generator::new(dataset, args.options(dataset));
    let mut row = Vec::with_capacity(256);
    let mut n = 0;
    while pace.wait(n, producer)? {
        row.clear();
        let Some(record) = generator.next(&mut row) else {
            break;
        };
        let key = record.key.map(|k| &row[k]);
        producer.send(key, Some(&row), &[], None, Some(record.produced_us / 1000))?;
        n += 1;
    }
    Ok(())
}

fn lines(args: &Args, producer: &mut RawProducer, pace: &mut Pace) -> Result<()> {
    let path = args.file.as_ref().or(args.file_option.as_ref());
    let mut input = match path {
        Some(p) if p.as_os_str() != "-" => {
            let file = std::fs::File::open(p)
                .map_err(|e| Error::Usage(format!("cannot read {}: {e}", p.display())))?;
            Input::File(BufReader::with_capacity(1 << 20, file))
        }
        _ => Input::piped(),
    };
    let mut line = Vec::new();
    let mut n = 0;
    while pace.wait(n, producer)? && input.next(&mut line, producer, pace.stop)? {
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        let (key, value) = split(&line, args.key_separator.as_deref());
        producer.send(key, Some(value), &[], None, None)?;
        n += 1;
    }
    Ok(())
}

enum Input {
    File(BufReader<std::fs::File>),
    /// Standard input, read by a thread: who waits there for a line would hear no signal.
    Piped(Receiver<std::io::Result<Vec<u8>>>),
}

impl Input {
    fn piped() -> Self {
        let (sender, receiver) = sync_channel(LINES_AHEAD);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().split(b'\n') {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self::Piped(receiver)
    }

    /// The next line, which may have its end. False when there is none, or when told to stop.
    fn next(
        &mut self,
        line: &mut Vec<u8>,
        producer: &mut RawProducer,
        stop: &AtomicBool,
    ) -> Result<bool> {
        let read = match self {
            Self::File(file) => {
                line.clear();
                file.read_until(b'\n', line).map(|bytes| bytes > 0)
            }
            Self::Piped(lines) => loop {
                match lines.recv_timeout(Duration::from_millis(50)) {
                    Ok(next) => break next.map(|next| *line = next).map(|()| true),
                    Err(RecvTimeoutError::Disconnected) => break Ok(false),
                    Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => {
                        break Ok(false);
                    }
                    // Records that linger are delivered, and those that cannot be are told.
                    Err(RecvTimeoutError::Timeout) => producer.serve(Duration::ZERO)?,
                }
            },
        };
        read.map_err(|e| Error::env(format!("cannot read the input: {e}")))
    }
}

fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes).filter(|s| !s.is_empty()) else {
        return (None, line);
    };
    match line.windows(separator.len()).position(|w| w == separator) {
        Some(i) => (Some(&line[..i]), &line[i + separator.len()..]),
        None => (None, line),
    }
}
