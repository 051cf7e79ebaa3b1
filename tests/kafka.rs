//! The Kafka edge on a real broker: what is read, what is written, and what happens when the
//! broker goes away. Each test uses topics of its own; only those that stop the broker have one
//! of their own.

mod away;
mod batches;
mod ending;
mod leaders;
mod old;
mod reading;
mod recreated;
mod running;
mod sasl;
mod tls;
mod transactions;
mod writing;

use crate::support::{Broker, client};
use ending::{ends_with, outcome, unasked};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use windrow::error::{At, Error, Result};
use windrow::kafka::source::KafkaSource;
use windrow::options::Options;
use windrow::plan::{Settings, plan_script};
use windrow::run::sinks::Format;
use windrow::run::stats::Stats;
use windrow::run::{Observer, RunOptions, RunningJob, Summary};
use windrow::source::{Assignment, Chunk, Polled, ReadRequest, Reader, Source};
use windrow::table::TableDef;
use windrow::time::SystemClock;

/// No test waits longer for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which client reads. Tests of one client have a broker of their own, so that both clients can
/// read topics of the same name.
#[derive(Clone, Copy)]
struct With(&'static str);

impl With {
    const DIRECT: With = With("direct");
    const LIBRDKAFKA: With = With("librdkafka");

    /// The address of the broker for those tests that do not stop it.
    fn bootstrap(self) -> String {
        static OTHER: OnceLock<Broker> = OnceLock::new();
        match self.0 {
            "direct" => Broker::shared().bootstrap(),
            _ => OTHER.get_or_init(Broker::start).bootstrap(),
        }
    }

    fn table(self, bootstrap: &str, options: &[(&str, &str)]) -> TableDef {
        let client = ("source.client", self.0);
        table(bootstrap, &[&[client], options].concat())
    }

    /// A source over `topic` with the options of the table.
    fn open(self, bootstrap: &str, topic: &str, options: &[(&str, &str)]) -> KafkaSource {
        let options = [&[("source.client", self.0)], options].concat();
        open(bootstrap, topic, &options)
    }
}

/// Makes a test of each function for each client.
macro_rules! with_both_clients {
    ($($name:ident),* $(,)?) => {
        mod direct {
            $(#[test] fn $name() { super::$name(super::With::DIRECT) })*
        }
        mod librdkafka {
            $(#[test] fn $name() { super::$name(super::With::LIBRDKAFKA) })*
        }
    };
}
use with_both_clients;

fn admin(bootstrap: &str) -> (AdminClient<DefaultClientContext>, AdminOptions) {
    let client = client::config(bootstrap).create().expect("admin client");
    (
        client,
        AdminOptions::new().operation_timeout(Some(PATIENCE)),
    )
}

/// A topic of one partition with one setting of its own.
fn topic_with(bootstrap: &str, topic: &str, key: &str, value: &str) {
    let (admin, options) = admin(bootstrap);
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set(key, value);
    let results = block_on(admin.create_topics([&new], &options)).expect("create topics");
    assert!(results[0].is_ok(), "{topic}: {results:?}");
}

fn table(bootstrap: &str, options: &[(&str, &str)]) -> TableDef {
    let at = At { line: 1, column: 1 };
    let mut all = Options::default();
    for (key, value) in [
        ("connector", "kafka"),
        ("properties.bootstrap.servers", bootstrap),
    ]
    .iter()
    .chain(options)
    {
        all.insert("kafka", key, value, at).expect("a valid option");
    }
    TableDef {
        name: "t".into(),
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options: all,
        at,
    }
}

/// A source over `topic` with the options of the table.
fn open(bootstrap: &str, topic: &str, options: &[(&str, &str)]) -> KafkaSource {
    let all: Vec<_> = [("topic", topic)]
        .into_iter()
        .chain(options.iter().copied())
        .collect();
    KafkaSource::new(&table(bootstrap, &all), ReadRequest::default()).expect("a valid table")
}

const FROM_START: (&str, &str) = ("scan.startup.mode", "earliest-offset");
const TO_END: (&str, &str) = ("scan.bounded.mode", "latest-offset");

/// The source's partitions, and what it told meanwhile.
fn partitions_told(source: &KafkaSource) -> (Vec<Assignment>, Vec<String>) {
    let mut told = Vec::new();
    let partitions = source.partitions(None, &mut |text| {
        told.push(text.to_string());
        true
    });
    (partitions.expect("partitions"), told)
}

fn partitions(source: &KafkaSource) -> Vec<Assignment> {
    partitions_told(source).0
}

/// Offset and value of a record.
type Delivered = (i64, Option<String>);

/// What readers have delivered; each chunk is checked as it comes.
#[derive(Default)]
struct Received {
    /// By topic and partition: offset and text of each record.
    records: BTreeMap<(String, i32), Vec<Delivered>>,
    /// Next offset of each partition, by id.
    positions: BTreeMap<usize, i64>,
    ended: BTreeSet<usize>,
    notices: Vec<String>,
    chunks: Vec<Chunk>,
}

impl Received {
    /// Polls once.
    fn poll(&mut self, reader: &mut dyn Reader) -> Result<()> {
        match reader.poll(Duration::from_millis(100))? {
            Polled::Chunk(chunk) => self.chunk(chunk),
            Polled::End { id } => assert!(self.ended.insert(id), "partition {id} ended twice"),
            Polled::Notice(text) => self.notices.push(text),
            Polled::Idle => {}
            Polled::Rows(_) => panic!("Kafka delivers no rows"),
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) {
        assert!(
            !self.ended.contains(&chunk.id),
            "{}/{}: records after its end",
            chunk.topic,
            chunk.partition
        );
        assert_eq!(
            (chunk.len(), chunk.len()),
            (chunk.payload.len(), chunk.timestamps_ms.len())
        );
        let position = self.positions.entry(chunk.id).or_insert(0);
        let list = self
            .records
            .entry((chunk.topic.to_string(), chunk.partition))
            .or_default();
        for (i, offset) in chunk.offsets.iter().enumerate() {
            assert!(
                *offset >= *position,
                "{}/{}: offset {offset} after {position}",
                chunk.topic,
                chunk.partition
            );
            *position = offset + 1;
            list.push((
                *offset,
                chunk
                    .payload
                    .get(i)
                    .map(|p| String::from_utf8_lossy(p).into_owned()),
            ));
        }
        assert!(chunk.next_offset >= *position);
        *position = chunk.next_offset;
        self.chunks.push(chunk);
    }

    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }

    /// Texts of all records, in the order of topic, partition and offset.
    fn texts(&self) -> Vec<&str> {
        self.records
            .values()
            .flatten()
            .map(|(_, text)| text.as_deref().unwrap_or("NULL"))
            .collect()
    }
}

/// Polls until `done`; fails the test when that takes too long.
fn poll_until(reader: &mut dyn Reader, received: &mut Received, done: impl Fn(&Received) -> bool) {
    let started = Instant::now();
    while !done(received) {
        assert!(
            started.elapsed() < PATIENCE,
            "{} records, {:?} ended, notices {:?}",
            received.count(),
            received.ended,
            received.notices
        );
        received.poll(reader).expect("the reader goes on");
    }
}

/// Reads a bounded source to its end with `readers` readers.
fn drain(source: &KafkaSource, readers: usize) -> Received {
    let all = partitions(source);
    let mut received = Received::default();
    for number in 0..readers {
        let own: Vec<Assignment> = all
            .iter()
            .filter(|p| p.id % readers == number)
            .cloned()
            .collect();
        let mut reader = source.reader(&own).expect("a reader");
        poll_until(reader.as_mut(), &mut received, |r| {
            own.iter().all(|p| r.ended.contains(&p.id))
        });
        // Nothing follows the end.
        let before = received.count();
        received.poll(reader.as_mut()).expect("idle");
        assert_eq!(before, received.count());
    }
    assert_eq!(received.ended.len(), all.len());
    received
}

/// A record as a plain consumer sees it.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    partition: i32,
    key: Option<String>,
    value: Option<Vec<u8>>,
    timestamp_ms: i64,
    headers: Vec<(String, String)>,
}

impl Record {
    fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("UTF-8")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).unwrap_or_else(|e| panic!("{}: {e}", self.text()))
    }
}

/// All records of a topic, by partition and offset.
fn read_records(bootstrap: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = client::config(bootstrap)
        .set("enable.partition.eof", "true")
        .set("group.id", "windrow-tests-records")
        .set("enable.auto.commit", "false")
        .create()
        .expect("consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("metadata");
    let mut list = TopicPartitionList::new();
    for p in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, p.id(), Offset::Beginning)
            .expect("assignment");
    }
    consumer.assign(&list).expect("assign");
    let (mut records, mut ended) = (Vec::new(), 0);
    while ended < list.count() {
        let message = match consumer.poll(PATIENCE).expect("a message in time") {
            Err(KafkaError::PartitionEOF(_)) => {
                ended += 1;
                continue;
            }
            message => message.expect("a message"),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().map(|h| {
            h.iter()
                .map(|h| (h.key.to_string(), text(h.value.unwrap_or_default())))
                .collect()
        });
        let record = Record {
            partition: message.partition(),
            key: message.key().map(text),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            headers: headers.unwrap_or_default(),
        };
        records.push(((message.partition(), message.offset()), record));
    }
    records.sort_by_key(|(place, _)| *place);
    records.into_iter().map(|(_, record)| record).collect()
}

/// Keeps what the run tells.
#[derive(Default)]
struct Told(Vec<String>);

impl Observer for Told {
    fn observe(&mut self, _: &Stats, _: &RunningJob) {}

    fn waiting(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
}

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a file in this process, as `windrow run --format json` does. `${BOOTSTRAP}` is the broker.
/// Returns what was printed, too.
fn run_with(
    bootstrap: &str,
    sql: &str,
    workers: usize,
    stop: Arc<AtomicBool>,
) -> Result<(Summary, String)> {
    let variable = |name: &str| (name == "BOOTSTRAP").then(|| bootstrap.to_string());
    let settings = Settings {
        workers: Some(workers),
        ..Settings::default()
    };
    let job = plan_script(sql, &variable, &settings)?;
    let printed = Printed::default();
    let writer = printed.clone();
    let options = RunOptions {
        format: Format::Json,
        output: Arc::new(move || Box::new(writer.clone())),
        clock: Arc::new(SystemClock::default()),
        stop,
    };
    let summary = windrow::run::run(job, &options, &mut Told::default())?;
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).expect("UTF-8");
    Ok((summary, text))
}

fn run_sql(bootstrap: &str, sql: &str) -> Result<Summary> {
    run_with(bootstrap, sql, 2, Arc::default()).map(|(summary, _)| summary)
}

/// `CREATE TABLE` of a bounded source over a whole topic.
fn source_sql(name: &str, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}', \
         'properties.bootstrap.servers' = '${{BOOTSTRAP}}', 'scan.startup.mode' = 'earliest-offset', \
         'scan.bounded.mode' = 'latest-offset', 'format' = 'json'{options});\n"
    )
}

fn sink_sql(name: &str, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}', \
         'properties.bootstrap.servers' = '${{BOOTSTRAP}}', 'format' = 'json'{options});\n"
    )
}

/// Message and hint, for assertions.
fn both(error: &Error) -> String {
    format!("{error} | {}", error.hint().unwrap_or_default())
}

#[track_caller]
fn assert_says(error: &Error, parts: &[&str]) {
    let text = both(error);
    for part in parts {
        assert!(text.contains(part), "'{part}' is missing in: {text}");
    }
}
