//! Real processes, killed: `windrow run --checkpoint` dies at random moments (SIGKILL, now and
//! then SIGTERM, now and then the broker with it), comes back with other workers and the other
//! Kafka client, and in the end its sinks hold what an undisturbed run would have written.
//!
//! The long form: `TORTURE_KILLS=50 TORTURE_SEED=7 cargo test --release torture`.

use crate::support::{Broker, Dice, client};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod clusters;
mod s3;

const PARTITIONS: i32 = 4;
const DELAY_S: i64 = 5;

/// Event time in seconds, key, value.
type Event = (i64, u64, i64);

/// Where a run keeps what it has, and what its environment says beside ours.
struct Place {
    folder: std::path::PathBuf,
    checkpoints: String,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    fn local(folder: &Path, name: &str) -> Self {
        let checkpoints = folder.join(format!("{name}-checkpoints"));
        Self {
            folder: folder.into(),
            checkpoints: checkpoints.to_str().unwrap().into(),
            environment: Vec::new(),
        }
    }
}

/// Of the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

/// What is produced, and where each partition's clock is.
struct Input {
    topic: String,
    clock: [i64; PARTITIONS as usize],
    /// By partition, in the order of its log.
    events: Vec<Vec<Event>>,
}

impl Input {
    fn new(bootstrap: &str, topic: &str) -> Self {
        client::create_topic(bootstrap, topic, PARTITIONS);
        Self {
            topic: topic.into(),
            clock: [0; PARTITIONS as usize],
            events: vec![Vec::new(); PARTITIONS as usize],
        }
    }

    /// Some more records into every partition; times mostly grow, some are late.
    fn produce(&mut self, bootstrap: &str, dice: &mut Dice) {
        for p in 0..PARTITIONS as usize {
            let mut lines = Vec::new();
            for _ in 0..dice.below(150) {
                self.clock[p] += i64::from(dice.below(8) == 0);
                let event = (
                    self.clock[p] - dice.below(9) as i64,
                    dice.below(20),
                    dice.below(10) as i64,
                );
                self.events[p].push(event);
                let ts = windrow::time::format_us(event.0 * 1_000_000);
                lines.push(format!(
                    r#"{{"ts":"{ts}","k":"k{}","v":{}}}"#,
                    event.1, event.2
                ));
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            client::produce(bootstrap, &self.topic, p as i32, &lines);
        }
    }

    /// For every row the ends of the windows that take it, by the dialect's second rule.
    fn windows(&self, size: i64, slide: i64) -> impl Iterator<Item = (i64, &Event)> {
        self.events.iter().flat_map(move |events| {
            let mut watermark = i64::MIN;
            events.iter().flat_map(move |event| {
                let before = watermark;
                watermark = watermark.max(event.0 - DELAY_S);
                let first = event.0.div_euclid(slide) * slide + slide;
                let ends = (0..size / slide).map(move |i| first + i * slide);
                ends.filter(move |end| *end > before && end - size <= event.0)
                    .map(move |end| (end, event))
            })
        })
    }
}

fn time(s: i64) -> String {
    windrow::time::format_us(s * 1_000_000).replace('T', " ")
}

fn sql(bootstrap: &str, input: &Input, prefix: &str, files: &str) -> String {
    let kafka = format!(
        "'connector' = 'kafka', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json'"
    );
    let once = "'sink.delivery-guarantee' = 'exactly-once'";
    let topic = &input.topic;
    format!(
        "SET 'execution.checkpointing.interval' = '300 ms';
         CREATE TABLE t (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '{DELAY_S}' SECOND)
           WITH ({kafka}, 'topic' = '{topic}', 'scan.startup.mode' = 'earliest-offset', 'source.client' = '${{CLIENT}}',
                 'properties.group.id' = '{prefix}');
         CREATE TABLE counts (s STRING, k STRING, n BIGINT, total BIGINT) WITH ({kafka}, 'topic' = '{prefix}-counts', {once});
         CREATE TABLE passed (k STRING, v BIGINT) WITH ({kafka}, 'topic' = '{prefix}-passed', {once});
         CREATE TABLE slid (e STRING, n BIGINT, ks BIGINT) WITH ('connector' = 'filesystem', 'path' = '{files}/slid', 'format' = 'json');
         CREATE TABLE best (s STRING, k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{files}/best', 'format' = 'parquet');
         INSERT INTO counts SELECT CAST(window_start AS STRING), k, count(*), sum(v) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k;
         INSERT INTO passed SELECT k, v FROM t WHERE v > 6;
         INSERT INTO slid SELECT CAST(window_end AS STRING), count(*), count(DISTINCT k) FROM HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end;
         INSERT INTO best SELECT CAST(window_start AS STRING), k, n FROM (
           SELECT window_start, k, n, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, k) AS r FROM (
             SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k)) WHERE r <= 3;"
    )
}

fn totals_sql(bootstrap: &str, input: &Input, prefix: &str) -> String {
    let kafka = format!(
        "'connector' = 'kafka', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json'"
    );
    let topic = &input.topic;
    format!(
        "SET 'execution.checkpointing.interval' = '300 ms';
         SET 'trigger' = '100 ms';
         CREATE TABLE t (k STRING, v BIGINT)
           WITH ({kafka}, 'topic' = '{topic}', 'scan.startup.mode' = 'earliest-offset', 'source.client' = '${{CLIENT}}');
         CREATE TABLE totals (k STRING, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED)
           WITH ({kafka}, 'topic' = '{prefix}-totals', 'sink.delivery-guarantee' = 'exactly-once');
         INSERT INTO totals SELECT k, count(*), sum(v) FROM t GROUP BY k;"
    )
}

fn start(file: &Path, place: &Place, dice: &mut Dice, more: &[&str]) -> Child {
    let clients = ["direct", "librdkafka"];
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(file.with_extension("log"));
    Command::new(env!("CARGO_BIN_EXE_windrow"))
        .arg("run")
        .arg(file)
        .arg("--checkpoint")
        .arg(&place.checkpoints)
        .envs(place.environment.iter().map(|(k, v)| (k, v)))
        .args(["--workers", &(1 + dice.below(4)).to_string()])
        .args([
            "--set",
            &format!("CLIENT={}", clients[dice.below(2) as usize]),
        ])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

fn log_of(file: &Path) -> String {
    let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Runs, produces and kills, then lets a last run read to the end. `trouble` comes over a run while it
/// is at work, and it must live through it; it says whether it did.
fn torture(
    name: &str,
    broker: &mut Broker,
    input: &mut Input,
    sql: &str,
    place: &Place,
    dice: &mut Dice,
    trouble: &mut dyn FnMut(&mut Dice) -> bool,
) {
    let kills = number("TORTURE_KILLS", 8);
    let file = place.folder.join(format!("{name}.sql"));
    std::fs::write(&file, sql).unwrap();
    for kill in 0..kills {
        let mut child = start(&file, place, dice, &[]);
        let mut patience = Duration::from_secs(5);
        for _ in 0..1 + dice.below(4) {
            input.produce(&broker.bootstrap(), dice);
            std::thread::sleep(Duration::from_millis(dice.below(700)));
            if trouble(dice) {
                // What was away must be ready again before a last checkpoint can be taken.
                patience = Duration::from_secs(30);
            }
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!(
                "{name}: run {kill} ended by itself with {status}:\n{}",
                log_of(&file)
            );
        }
        match dice.below(6) {
            0 => terminate(&mut child, &file, patience),
            1 => {
                broker.kill();
                std::thread::sleep(Duration::from_millis(dice.below(500)));
                child.kill().unwrap();
                child.wait().unwrap();
                broker.restart();
            }
            _ => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
    let status = start(&file, place, dice, &["--until-end"]).wait().unwrap();
    assert!(status.success(), "{name}: {status}\n{}", log_of(&file));
}

/// SIGTERM takes a checkpoint and ends with 0, in time.
fn terminate(child: &mut Child, file: &Path, patience: Duration) {
    let begun = Instant::now();
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}\n{}", log_of(file));
    assert!(
        begun.elapsed() < patience,
        "SIGTERM took {:?}\n{}",
        begun.elapsed(),
        log_of(file)
    );
}

/// The rows of a topic, as a read_committed consumer sees them, sorted.
fn topic_rows(broker: &Broker, topic: &str) -> Vec<serde_json::Value> {
    let values = client::read_all(&broker.bootstrap(), topic);
    let parse = |(_, v): (i32, String)| serde_json::from_str(&v).unwrap();
    sorted(values.into_iter().map(parse).collect())
}

fn sorted(mut rows: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    rows.sort_by_key(|r| r.to_string());
    rows
}

/// The contents of the visible files of a table's folder.
fn visible(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    files
        .filter(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.'))
        .map(|f| std::fs::read(f).unwrap())
        .collect()
}

fn json_rows(files: Vec<Vec<u8>>) -> Vec<serde_json::Value> {
    let texts = files.into_iter().map(|f| String::from_utf8(f).unwrap());
    let rows = texts.flat_map(|t| {
        t.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect::<Vec<_>>()
    });
    sorted(rows.collect())
}

fn parquet_rows(files: Vec<Vec<u8>>) -> Vec<serde_json::Value> {
    let mut rows = Vec::new();
    for file in files {
        let file = bytes::Bytes::from(file);
        let builder =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in builder.build().unwrap() {
            let batch = batch.unwrap();
            let mut encoder = windrow::encode::json::JsonEncoder::for_schema(&batch.schema());
            for row in 0..batch.num_rows() {
                let mut out = Vec::new();
                encoder.encode(&batch, row, &mut out).unwrap();
                rows.push(serde_json::from_slice(&out).unwrap());
            }
        }
    }
    sorted(rows)
}

#[test]
fn killed_runs_write_each_row_once() {
    let seed = number("TORTURE_SEED", 1);
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    for topic in ["once-counts", "once-passed"] {
        client::create_topic(&bootstrap, topic, 2);
    }
    let mut input = Input::new(&bootstrap, "once-in");
    let files = folder.path().to_str().unwrap();
    let text = sql(&bootstrap, &input, "once", files);
    let place = Place::local(folder.path(), "once");
    torture(
        "once",
        &mut broker,
        &mut input,
        &text,
        &place,
        &mut dice,
        &mut |_| false,
    );
    let rows = |name| visible(&folder.path().join(name));
    check(
        &broker,
        &broker,
        &input,
        "once",
        rows("slid"),
        rows("best"),
        seed,
    );
}

/// The rows of all sinks, against those of an undisturbed run. `slid`, `best`: contents of files.
fn check(
    source: &Broker,
    sinks: &Broker,
    input: &Input,
    prefix: &str,
    slid_files: Vec<Vec<u8>>,
    best_files: Vec<Vec<u8>>,
    seed: u64,
) {
    let mut counts: BTreeMap<(i64, u64), (i64, i64)> = BTreeMap::new();
    for (end, (_, k, v)) in input.windows(10, 10) {
        let (n, total) = counts.entry((end - 10, *k)).or_default();
        (*n, *total) = (*n + 1, *total + v);
    }
    let count = |((start, k), (n, total)): (&(i64, u64), &(i64, i64))| serde_json::json!({"s": time(*start), "k": format!("k{k}"), "n": n, "total": total});
    assert_eq!(
        topic_rows(sinks, &format!("{prefix}-counts")),
        sorted(counts.iter().map(count).collect()),
        "seed {seed}"
    );

    // The group is where the last checkpoint is, whether its epoch had rows or not: no lag.
    let read = client::committed(&source.bootstrap(), prefix, &input.topic, PARTITIONS);
    let ends = input.events.iter().map(|e| Some(e.len() as i64));
    assert_eq!(read, ends.collect::<Vec<_>>(), "seed {seed}");

    let passed = input.events.iter().flatten().filter(|e| e.2 > 6);
    let passed = passed.map(|(_, k, v)| serde_json::json!({"k": format!("k{k}"), "v": v}));
    assert_eq!(
        topic_rows(sinks, &format!("{prefix}-passed")),
        sorted(passed.collect()),
        "seed {seed}"
    );

    let mut slid: BTreeMap<i64, (i64, BTreeSet<u64>)> = BTreeMap::new();
    for (end, (_, k, _)) in input.windows(20, 5) {
        let (n, ks) = slid.entry(end).or_default();
        *n += 1;
        ks.insert(*k);
    }
    let slide = slid
        .iter()
        .map(|(end, (n, ks))| serde_json::json!({"e": time(*end), "n": n, "ks": ks.len()}));
    assert_eq!(
        json_rows(slid_files),
        sorted(slide.collect()),
        "seed {seed}"
    );

    let mut best = Vec::new();
    for start in counts.keys().map(|(s, _)| *s).collect::<BTreeSet<_>>() {
        let of = counts.range((start, 0)..=(start, u64::MAX));
        let mut ranked: Vec<(i64, String)> =
            of.map(|((_, k), (n, _))| (-n, format!("k{k}"))).collect();
        ranked.sort();
        best.extend(
            ranked
                .into_iter()
                .take(3)
                .map(|(n, k)| serde_json::json!({"s": time(start), "k": k, "n": -n})),
        );
    }
    assert_eq!(parquet_rows(best_files), sorted(best), "seed {seed}");
}

#[test]
fn killed_runs_keep_their_totals() {
    let seed = number("TORTURE_SEED", 2);
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    client::create_topic(&bootstrap, "kept-totals", 1);
    let mut input = Input::new(&bootstrap, "kept-in");
    let text = totals_sql(&bootstrap, &input, "kept");
    let place = Place::local(folder.path(), "kept");
    torture(
        "kept",
        &mut broker,
        &mut input,
        &text,
        &place,
        &mut dice,
        &mut |_| false,
    );

    let mut totals: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (_, k, v) in input.events.iter().flatten() {
        let (n, total) = totals.entry(format!("k{k}")).or_default();
        (*n, *total) = (*n + 1, *total + v);
    }
    let mut shown: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (_, value) in client::read_all(&bootstrap, "kept-totals") {
        let row: serde_json::Value = serde_json::from_str(&value).unwrap();
        let (n, total) = (row["n"].as_i64().unwrap(), row["total"].as_i64().unwrap());
        let before = shown.insert(row["k"].as_str().unwrap().to_string(), (n, total));
        assert!(
            before.is_none_or(|b| b.0 < n),
            "a total went back or was written twice: {value}"
        );
    }
    assert_eq!(shown, totals, "seed {seed}");
}
