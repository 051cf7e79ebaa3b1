//! `windrow consume`: records of a topic to standard output or a file.

use super::topics::Connection;
use crate::encode::text::grouped;
use crate::error::{At, Error, Result};
use crate::kafka::source::KafkaSource;
use crate::options::Options;
use crate::sink::console::output_error;
use crate::source::{Assignment, Chunk, Polled, ReadRequest, Source};
use crate::state::PartitionSnapshot;
use crate::table::TableDef;
use crate::watermark::NONE;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  windrow consume --topic clicks --from-beginning --max 10
  windrow consume --topic clicks --from-beginning --timeout-ms 5000 --output rows.ndjson
  windrow consume --topic clicks --print partition,offset,timestamp,key")]
pub struct Args {
    #[arg(long, short)]
    topic: String,
    /// Start at the first record [default: at the next one].
    #[arg(long)]
    from_beginning: bool,
    /// Stop when no record came for so long.
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// Stop after so many records.
    #[arg(long, alias = "max-messages")]
    max: Option<u64>,
    /// Write here instead of to standard output.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Start where this consumer group is, and commit at the end.
    #[arg(long)]
    group: Option<String>,
    /// What is printed before the value: key, partition, offset, timestamp, headers.
    #[arg(long, value_delimiter = ',')]
    print: Vec<Field>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Field {
    Key,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

pub fn run(args: Args, stop: &AtomicBool) -> Result<()> {
    let source = KafkaSource::new(&table(&args)?, request(&args))?;
    let started = Instant::now();
    let is_late = || (args.timeout_ms).is_some_and(|ms| started.elapsed().as_millis() >= ms.into());
    let partitions = source.partitions(None, &mut |text| {
        if !text.is_empty() {
            tracing::warn!("{text}");
        }
        !stop.load(Ordering::Relaxed) && !is_late()
    });
    let partitions = partitions.map_err(|e| match e {
        Error::Stopped(_) if !stop.load(Ordering::Relaxed) => {
            Error::env("Kafka does not answer, and the time-out is over")
                .with_hint("is the broker running there? --bootstrap-server names another")
        }
        e => e,
    })?;
    let out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(
            File::create(path)
                .map_err(|e| Error::env(format!("cannot write {}: {e}", path.display())))?,
        ),
        None => Box::new(std::io::stdout()),
    };
    let mut printer = Printer {
        out: BufWriter::with_capacity(1 << 16, out),
        args: &args,
        left: args.max.unwrap_or(u64::MAX),
        written: 0,
    };
    let mut positions: BTreeMap<usize, i64> = BTreeMap::new();
    let result = copy(&source, &partitions, &mut printer, &mut positions, stop);
    let written = printer.written;
    result?;
    if args.group.is_some() {
        let list: Vec<PartitionSnapshot> = partitions
            .iter()
            .filter_map(|p| {
                positions.get(&p.id).map(|position| PartitionSnapshot {
                    topic: p.topic.to_string(),
                    topic_id: p.topic_id.as_deref().map(str::to_string),
                    partition: p.partition,
                    position: *position,
                    max_us: NONE,
                })
            })
            .collect();
        source.commit(&list)?;
    }
    let to = args
        .output
        .as_ref()
        .map(|p| format!(" to {}", p.display()))
        .unwrap_or_default();
    tracing::info!(
        "consumed {} records of {}{to}",
        grouped(written),
        args.topic
    );
    Ok(())
}

fn request(args: &Args) -> ReadRequest {
    ReadRequest {
        columns: Vec::new(),
        keys: args.print.contains(&Field::Key),
        headers: args.print.contains(&Field::Headers),
        until_end: false,
    }
}

fn table(args: &Args) -> Result<TableDef> {
    let at = At { line: 1, column: 1 };
    let mut options = Options::default();
    let mode = match (&args.group, args.from_beginning) {
        (_, true) => "earliest-offset",
        (Some(_), false) => "group-offsets",
        (None, false) => "latest-offset",
    };
    options.insert("kafka", "topic", &args.topic, at)?;
    options.insert("kafka", "scan.startup.mode", mode, at)?;
    for (key, value) in args.connection.pairs()? {
        options.insert("kafka", &format!("properties.{key}"), &value, at)?;
    }
    if let Some(group) = &args.group {
        options.insert("kafka", "properties.group.id", group, at)?;
    }
    Ok(TableDef {
        name: args.topic.clone(),
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options,
        at,
    })
}

fn copy(
    source: &KafkaSource,
    partitions: &[Assignment],
    printer: &mut Printer,
    positions: &mut BTreeMap<usize, i64>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut reader = source.reader(partitions)?;
    let timeout = printer.args.timeout_ms.map(Duration::from_millis);
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) && printer.left > 0 {
        match reader.poll(Duration::from_millis(50))? {
            Polled::Chunk(chunk) => {
                let next = printer.chunk(&chunk)?;
                // Printing may have had to wait for whoever reads.
                last = Instant::now();
                positions.insert(chunk.id, next);
            }
            Polled::Notice(text) => tracing::warn!("{text}"),
            Polled::Idle => {
                printer.flush()?;
                if timeout.is_some_and(|t| last.elapsed() >= t) {
                    break;
                }
            }
            Polled::Rows(_) | Polled::End { .. } => {}
        }
    }
    printer.flush()
}

struct Printer<'a> {
    out: BufWriter<Box<dyn Write>>,
    args: &'a Args,
    left: u64,
    written: u64,
}

impl Printer<'_> {
    /// Prints a chunk's records and returns the offset behind the last one printed.
    fn chunk(&mut self, chunk: &Chunk) -> Result<i64> {
        for i in 0..chunk.len() {
            if self.left == 0 {
                return Ok(chunk.offsets[i]);
            }
            self.record(chunk, i).map_err(output_error)?;
            self.left -= 1;
            self.written += 1;
        }
        Ok(chunk.next_offset)
    }

    fn record(&mut self, chunk: &Chunk, i: usize) -> std::io::Result<()> {
        for field in &self.args.print {
            match field {
                Field::Key => self.out.write_all(
                    chunk
                        .keys
                        .as_ref()
                        .and_then(|k| k.get(i))
                        .unwrap_or(b"null"),
                )?,
                Field::Partition => write!(self.out, "{}", chunk.partition)?,
                Field::Offset => write!(self.out, "{}", chunk.offsets[i])?,
                Field::Timestamp => write!(self.out, "{}", chunk.timestamps_ms[i])?,
                Field::Headers => {
                    let headers = chunk.headers.iter().flat_map(|h| &h[i]);
                    let list: Vec<String> = headers
                        .map(|(k, v)| {
                            format!(
                                "{k}:{}",
                                String::from_utf8_lossy(v.as_deref().unwrap_or(b"null"))
                            )
                        })
                        .collect();
                    self.out.write_all(list.join(",").as_bytes())?;
                }
            }
            self.out.write_all(b"\t")?;
        }
        self.out
            .write_all(chunk.payload.get(i).unwrap_or(b"null"))?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(output_error)
    }
}
