//! Writing to Kafka: the sink of a query, and a plain producer for everything else.

use super::config::client_config;
use crate::encode::csv::CsvEncoder;
use crate::encode::json::JsonEncoder;
use crate::error::{Error, Result};
use crate::sink::Sink;
use crate::table::{Column, ColumnKind, MetadataKey, TableDef};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Deliveries are looked at after so many records.
const POLL_EVERY: u64 = 256;
/// A wait that lasts so long is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers the first delivery that failed, or that the broker refuses the client.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<Error>>,
}

impl Deliveries {
    fn remember(&self, error: Error) {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "librdkafka", "{facility}: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka would try a wrong password until the delivery time-out, minutes later.
        if matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
        ) {
            self.remember(
                Error::env(format!("Kafka refuses: {reason}"))
                    .with_hint("check properties.security.protocol and properties.sasl.*"),
            );
        }
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, message)) = result {
            self.remember(Error::env(format!(
                "Kafka did not take a record of {}/{}: {error}",
                message.topic(),
                message.partition()
            )));
        }
    }
}

/// Produces records; every failed delivery is an error of the next call.
pub struct RawProducer {
    producer: BaseProducer<Deliveries>,
    topic: String,
    bootstrap: String,
    sent: u64,
    /// Partitions of the topic, when the broker told.
    partitions: Option<i32>,
}

impl RawProducer {
    /// A producer for one topic. Checks that the topic exists when the broker answers; a broker
    /// that is away is waited for while records are sent.
    pub fn new<'a>(
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        topic: &str,
    ) -> Result<Self> {
        let mut config = client_config(properties)?;
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("batch.num.messages", "100000"),
            ("batch.size", "1000000"),
            ("queue.buffering.max.messages", "500000"),
            ("queue.buffering.max.kbytes", "65536"),
            ("compression.type", "lz4"),
            // The Java client's choice, so that a key goes where its other producers put it.
            ("partitioner", "murmur2_random"),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        let bootstrap = config.get("bootstrap.servers").unwrap_or("").to_string();
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|e| Error::env(format!("cannot make a Kafka producer: {e}")))?;
        let mut raw = Self {
            producer,
            topic: topic.to_string(),
            bootstrap,
            sent: 0,
            partitions: None,
        };
        raw.look()?;
        Ok(raw)
    }

    fn look(&mut self) -> Result<()> {
        let Ok(metadata) = self
            .producer
            .client()
            .fetch_metadata(Some(&self.topic), Duration::from_secs(5))
        else {
            // Away, or refused: a request reports either as a time-out.
            return self.serve(Duration::ZERO);
        };
        match metadata.topics().iter().find(|t| t.name() == self.topic) {
            Some(t) if t.partitions().is_empty() => Err(Error::env(format!(
                "topic '{}' does not exist at {}",
                self.topic, self.bootstrap
            ))
            .with_hint(format!(
                "create it: windrow topics create {} --bootstrap-server {}",
                self.topic, self.bootstrap
            ))),
            Some(t) => {
                self.partitions = Some(t.partitions().len() as i32);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Hands a record over. Waits while the producer's queue is full.
    pub fn send(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
    ) -> Result<()> {
        let mut record: BaseRecord<[u8], [u8]> = BaseRecord::to(&self.topic);
        record.key = key;
        record.payload = payload;
        record.partition = partition;
        record.timestamp = timestamp_ms;
        if !headers.is_empty() {
            let mut owned = OwnedHeaders::new_with_capacity(headers.len());
            for (key, value) in headers {
                owned = owned.insert(Header {
                    key,
                    value: Some(*value),
                });
            }
            record.headers = Some(owned);
        }
        let started = Instant::now();
        let mut told = false;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(50));
                    self.failure()?;
                    self.tell_wait(started, &mut told);
                }
                Err((e, _)) => {
                    return Err(Error::env(format!(
                        "cannot produce to topic '{}' at {}: {e}",
                        self.topic, self.bootstrap
                    )));
                }
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.producer.poll(Duration::ZERO);
            self.failure()?;
        }
        Ok(())
    }

    /// Waits until every record is delivered.
    pub fn flush(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut told = false;
        while self.producer.in_flight_count() > 0 {
            // A time-out is no failure: the loop looks again.
            match self.producer.flush(Duration::from_millis(500)) {
                Ok(()) | Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
                Err(e) => {
                    return Err(Error::env(format!(
                        "cannot flush to topic '{}': {e}",
                        self.topic
                    )));
                }
            }
            self.failure()?;
            self.tell_wait(started, &mut told);
        }
        self.producer.poll(Duration::ZERO);
        self.failure()
    }

    fn tell_wait(&self, since: Instant, told: &mut bool) {
        if !*told && since.elapsed() > PATIENCE {
            *told = true;
            tracing::warn!(
                "waiting for Kafka at {} to take {} records of topic '{}'",
                self.bootstrap,
                self.producer.in_flight_count(),
                self.topic
            );
        }
    }

    fn failure(&self) -> Result<()> {
        match self
            .producer
            .context()
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Serves deliveries for so long.
    pub fn serve(&mut self, time: Duration) -> Result<()> {
        self.producer.poll(time);
        self.failure()
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }
}

enum Encoder {
    Json(JsonEncoder),
    Csv(CsvEncoder),
    /// One column as it is.
    Raw,
}

/// Some columns of a batch as bytes.
struct Part {
    columns: Vec<usize>,
    encoder: Encoder,
}

#[derive(Clone, Copy, PartialEq)]
enum Partitioner {
    /// By key, else in turns of batches, as the Java client.
    Default,
    Fixed,
    RoundRobin,
}

/// Rows as records of a topic, at least once.
pub struct KafkaSink {
    producer: RawProducer,
    value: Part,
    key: Option<Part>,
    /// Columns that are the record's envelope.
    envelope: Vec<(MetadataKey, usize)>,
    partitioner: Partitioner,
    rows: u64,
    value_bytes: Vec<u8>,
    key_bytes: Vec<u8>,
}

impl KafkaSink {
    pub fn new(def: &TableDef) -> Result<Self> {
        let o = &def.options;
        let topic = o
            .get("topic")
            .filter(|t| !t.contains(';'))
            .ok_or_else(|| o.invalid("topic", "a sink writes one topic"))?;
        let columns: Vec<&Column> = def.sink_columns().collect();
        let physical = |c: &&Column| c.kind == ColumnKind::Physical;
        let key_names: Vec<&str> = match o.get("key.fields") {
            Some(list) => list.split(';').map(str::trim).collect(),
            None => def.primary_key.iter().map(String::as_str).collect(),
        };
        for name in &key_names {
            if !columns.iter().any(|c| c.name == *name) {
                return Err(o.invalid(
                    "key.fields",
                    format!("'{name}' is no column of {}", def.name),
                ));
            }
        }
        let except_key = o
            .get("value.fields-include")
            .is_some_and(|v| v.eq_ignore_ascii_case("EXCEPT_KEY"));
        let in_key = |c: &Column| key_names.contains(&c.name.as_str());
        let value_format = o.get("value.format").or(o.get("format")).unwrap_or("json");
        let index = |wanted: &dyn Fn(&Column) -> bool| -> Vec<usize> {
            columns
                .iter()
                .enumerate()
                .filter(|(_, c)| physical(c) && wanted(c))
                .map(|(i, _)| i)
                .collect()
        };
        let value = part(
            def,
            &columns,
            index(&|c| !(except_key && in_key(c))),
            value_format,
        )?;
        let key = match key_names.is_empty() {
            true => None,
            false => Some(part(
                def,
                &columns,
                index(&in_key),
                o.get("key.format").unwrap_or("json"),
            )?),
        };
        let envelope = columns
            .iter()
            .enumerate()
            .filter_map(|(i, c)| match c.kind {
                ColumnKind::Metadata { key, .. } => Some((key, i)),
                _ => None,
            });
        let partitioner = match o.get("sink.partitioner").map(str::to_lowercase).as_deref() {
            Some("fixed") => Partitioner::Fixed,
            Some("round-robin") => Partitioner::RoundRobin,
            _ => Partitioner::Default,
        };
        let none = o
            .get("sink.delivery-guarantee")
            .is_some_and(|g| g.eq_ignore_ascii_case("none"));
        let mut properties: Vec<(&str, &str)> = o
            .with_prefix("properties.")
            .filter(|(k, _)| *k != "group.id")
            .collect();
        if none {
            properties.push(("enable.idempotence", "false"));
        }
        let producer = RawProducer::new(properties.into_iter(), topic)?;
        let envelope = envelope.collect();
        Ok(Self {
            producer,
            value,
            key,
            envelope,
            partitioner,
            rows: 0,
            value_bytes: Vec::new(),
            key_bytes: Vec::new(),
        })
    }

    fn partition(&self, batch: &RecordBatch, row: usize) -> Option<i32> {
        if let Some((_, c)) = self
            .envelope
            .iter()
            .find(|(k, _)| *k == MetadataKey::Partition)
        {
            let column = compute::cast(batch.column(*c), &DataType::Int32).ok()?;
            let column = column.as_primitive::<Int32Type>();
            return column.is_valid(row).then(|| column.value(row));
        }
        match self.partitioner {
            Partitioner::Default => None,
            Partitioner::Fixed => Some(0),
            Partitioner::RoundRobin => self
                .producer
                .partitions
                .map(|n| (self.rows % n.max(1) as u64) as i32),
        }
    }
}

fn part(def: &TableDef, columns: &[&Column], indices: Vec<usize>, format: &str) -> Result<Part> {
    let chosen: Vec<&Column> = indices.iter().map(|i| columns[*i]).collect();
    let encoder = match format {
        "csv" => Encoder::Csv(CsvEncoder::new(&chosen, &def.options)?),
        "raw"
            if chosen.len() == 1
                && matches!(chosen[0].data_type, DataType::Utf8View | DataType::Binary) =>
        {
            Encoder::Raw
        }
        "raw" => {
            return Err(def
                .options
                .invalid("format", "raw takes exactly one column of STRING or BYTES"));
        }
        "parquet" => {
            return Err(def
                .options
                .invalid("format", "parquet is for the filesystem connector"));
        }
        _ => Encoder::Json(JsonEncoder::new(&chosen, &def.options)?),
    };
    Ok(Part {
        columns: indices,
        encoder,
    })
}

/// Encodes one row into `out`. Returns false when the row has no bytes (raw NULL).
fn encode(part: &mut Part, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<bool> {
    out.clear();
    match &mut part.encoder {
        Encoder::Json(e) => e.encode(batch, row, out)?,
        Encoder::Csv(e) => e.encode(batch, row, out)?,
        Encoder::Raw => return raw(batch.column(0), row, out),
    }
    Ok(true)
}

fn raw(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<bool> {
    if column.is_null(row) {
        return Ok(false);
    }
    match column.data_type() {
        DataType::Utf8View => out.extend_from_slice(column.as_string_view().value(row).as_bytes()),
        DataType::Binary => out.extend_from_slice(column.as_binary::<i32>().value(row)),
        other => return Err(Error::bug(format!("raw format of {other}"))),
    }
    Ok(true)
}

impl Sink for KafkaSink {
    fn write(&mut self, _: u64, batch: &RecordBatch) -> Result<()> {
        let values = batch.project(&self.value.columns)?;
        let keys = self
            .key
            .as_ref()
            .map(|k| batch.project(&k.columns))
            .transpose()?;
        let find = |key: MetadataKey| {
            self.envelope
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, c)| batch.column(*c).clone())
        };
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let timestamps = find(MetadataKey::Timestamp)
            .map(|c| compute::cast(&c, &micros))
            .transpose()?;
        let key_column = find(MetadataKey::Key);
        let headers = find(MetadataKey::Headers);
        for row in 0..batch.num_rows() {
            let mut key = false;
            if let (Some(part), Some(keys)) = (&mut self.key, &keys) {
                key = encode(part, keys, row, &mut self.key_bytes)?;
            } else if let Some(column) = &key_column {
                self.key_bytes.clear();
                key = raw(column, row, &mut self.key_bytes)?;
            }
            let value = encode(&mut self.value, &values, row, &mut self.value_bytes)?;
            let timestamp_ms = timestamps.as_ref().and_then(|t| {
                let t = t.as_primitive::<TimestampMicrosecondType>();
                t.is_valid(row).then(|| t.value(row).div_euclid(1000))
            });
            let partition = self.partition(batch, row);
            let list = headers
                .as_ref()
                .map(|h| headers_of(h, row))
                .transpose()?
                .unwrap_or_default();
            let list: Vec<(&str, &[u8])> = list
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_slice()))
                .collect();
            self.producer.send(
                key.then_some(&self.key_bytes[..]),
                value.then_some(&self.value_bytes[..]),
                &list,
                partition,
                timestamp_ms,
            )?;
            self.rows += 1;
        }
        Ok(())
    }

    fn commit(&mut self, _: u64) -> Result<()> {
        self.producer.flush()
    }

    fn close(&mut self) -> Result<()> {
        self.producer.flush()
    }

    fn describe(&self) -> String {
        format!(
            "topic {} at {}",
            self.producer.topic, self.producer.bootstrap
        )
    }
}

/// A `MAP<STRING, BYTES>` (or of strings) as headers.
fn headers_of(column: &ArrayRef, row: usize) -> Result<Vec<(String, Vec<u8>)>> {
    let map = column
        .as_map_opt()
        .ok_or_else(|| Error::bug("headers that are no map"))?;
    if map.is_null(row) {
        return Ok(Vec::new());
    }
    let entries = map.value(row);
    let names = compute::cast(entries.column(0), &DataType::Utf8)?;
    let values = compute::cast(entries.column(1), &DataType::Binary)?;
    let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
    Ok((0..entries.len())
        .filter(|i| values.is_valid(*i))
        .map(|i| (names.value(i).to_string(), values.value(i).to_vec()))
        .collect())
}
