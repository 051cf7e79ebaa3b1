//! The sink of a query: rows as records of a topic.

use super::config::{config_of, producer_properties};
use super::producer::RawProducer;
use super::transaction::Transaction;
use crate::decode::key_columns;
use crate::encode::csv::CsvEncoder;
use crate::encode::json::JsonEncoder;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sink::Sink;
use crate::state::Prepared;
use crate::table::{Column, ColumnKind, MetadataKey, TableDef};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

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

/// Rows as records of a topic: at least once, or, with a transaction, exactly once.
pub struct KafkaSink {
    producer: RawProducer,
    /// Shows the rows when it is committed, with those of the job's other sinks.
    transaction: Option<Arc<Transaction>>,
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
    /// A sink for one table. With a transaction the records go through its client, and the
    /// table's own `properties.*` do not count; the caller sees to it that they name the
    /// cluster of [`Transaction::bootstrap`].
    pub fn new(def: &TableDef, transaction: Option<Arc<Transaction>>) -> Result<Self> {
        let o = &def.options;
        let Shape {
            topic,
            value,
            key,
            envelope,
        } = Shape::of(def)?;
        let producer = match &transaction {
            Some(transaction) => RawProducer::through(transaction.client(), topic)?,
            None => producer(o, topic)?,
        };
        Ok(Self {
            producer,
            transaction,
            value,
            key,
            envelope,
            partitioner: partitioner(o),
            rows: 0,
            value_bytes: Vec::new(),
            key_bytes: Vec::new(),
        })
    }

    /// Refuses what [`Self::new`] would refuse of a table's options, without opening anything.
    pub fn check(def: &TableDef) -> Result<()> {
        Shape::of(def)?;
        config_of(def).map(|_| ())
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
                .partitions()
                .map(|n| (self.rows % n.max(1) as u64) as i32),
        }
    }
}

/// What a table's options make of a row.
struct Shape<'a> {
    topic: &'a str,
    value: Part,
    key: Option<Part>,
    envelope: Vec<(MetadataKey, usize)>,
}

impl<'a> Shape<'a> {
    fn of(def: &'a TableDef) -> Result<Self> {
        let o = &def.options;
        let topic = o
            .get("topic")
            .filter(|t| !t.contains(';'))
            .ok_or_else(|| o.invalid("topic", "a sink writes one topic"))?;
        let columns: Vec<&Column> = def.sink_columns().collect();
        let physical = |c: &&Column| c.kind == ColumnKind::Physical;
        let key_names: Vec<&str> = match o.get("key.fields") {
            Some(list) => (list.split(';').map(str::trim))
                .filter(|name| !name.is_empty())
                .collect(),
            None => def.primary_key.iter().map(String::as_str).collect(),
        };
        // As for who reads the table.
        key_columns(def)?;
        let except_key = o
            .get("value.fields-include")
            .is_some_and(|v| v.eq_ignore_ascii_case("EXCEPT_KEY"));
        let in_key = |c: &Column| key_names.contains(&c.name.as_str());
        let value_format = match o.get("value.format") {
            Some(format) => ("value.format", format),
            None => ("format", o.get("format").unwrap_or("json")),
        };
        let of_value = |(_, c): &(usize, &&Column)| physical(c) && !(except_key && in_key(c));
        let of_value = columns.iter().enumerate().filter(of_value);
        let value = part(
            &columns,
            of_value.map(|(i, _)| i).collect(),
            o,
            value_format,
            "",
        )?;
        // In the order of `key.fields`, whatever that of the table. (A primary key has none of its own.)
        let of_key = |name: &&str| columns.iter().position(|c| physical(c) && c.name == *name);
        let key = match key_names.is_empty() {
            true => None,
            false => {
                let mut indices: Vec<usize> = key_names.iter().filter_map(of_key).collect();
                if o.get("key.fields").is_none() {
                    indices.sort_unstable();
                }
                let format = ("key.format", o.get("key.format").unwrap_or("json"));
                let prefix = o.get("key.fields-prefix").unwrap_or("");
                Some(part(&columns, indices, &o.of_key(), format, prefix)?)
            }
        };
        let envelope = columns
            .iter()
            .enumerate()
            .filter_map(|(i, c)| match c.kind {
                ColumnKind::Metadata { key, .. } => Some((key, i)),
                _ => None,
            })
            .collect();
        Ok(Self {
            topic,
            value,
            key,
            envelope,
        })
    }
}

fn partitioner(o: &Options) -> Partitioner {
    match o.get("sink.partitioner").map(str::to_lowercase).as_deref() {
        Some("fixed") => Partitioner::Fixed,
        Some("round-robin") => Partitioner::RoundRobin,
        _ => Partitioner::Default,
    }
}

/// A producer of the sink's own.
fn producer(o: &Options, topic: &str) -> Result<RawProducer> {
    let none = o
        .get("sink.delivery-guarantee")
        .is_some_and(|g| g.eq_ignore_ascii_case("none"));
    let plain = none.then_some(("enable.idempotence", "false"));
    RawProducer::new(producer_properties(o).chain(plain), topic)
}

/// The part of a row that is in these columns, whose fields lack `prefix`.
fn part(
    columns: &[&Column],
    indices: Vec<usize>,
    options: &Options,
    (option, format): (&str, &str),
    prefix: &str,
) -> Result<Part> {
    let named = |i: &usize| {
        let mut column = columns[*i].clone();
        if let Some(name) = column.name.strip_prefix(prefix) {
            column.name = name.to_string();
        }
        column
    };
    let chosen: Vec<Column> = indices.iter().map(named).collect();
    let chosen: Vec<&Column> = chosen.iter().collect();
    let encoder = match format {
        "csv" => Encoder::Csv(CsvEncoder::new(&chosen, options)?),
        "raw"
            if chosen.len() == 1
                && matches!(chosen[0].data_type, DataType::Utf8View | DataType::Binary) =>
        {
            Encoder::Raw
        }
        "raw" => {
            return Err(options.invalid(option, "raw takes exactly one column of STRING or BYTES"));
        }
        "parquet" => {
            return Err(options.invalid(option, "parquet is for the filesystem connector"));
        }
        _ => Encoder::Json(JsonEncoder::new(&chosen, options)?),
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

impl KafkaSink {
    /// A record for each row; `deletes`: one without a value.
    fn send(&mut self, batch: &RecordBatch, deletes: bool) -> Result<()> {
        if let Some(transaction) = &self.transaction
            && batch.num_rows() > 0
        {
            transaction.begin()?;
        }
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
            let value = !deletes && encode(&mut self.value, &values, row, &mut self.value_bytes)?;
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
}

impl Sink for KafkaSink {
    fn write(&mut self, _: u64, batch: &RecordBatch) -> Result<()> {
        self.send(batch, false)
    }

    fn delete(&mut self, _: u64, batch: &RecordBatch) -> Result<()> {
        self.send(batch, true)
    }

    fn commit(&mut self, _: u64) -> Result<()> {
        match self.transaction {
            // The checkpoint commits.
            Some(_) => Ok(()),
            None => self.producer.flush(),
        }
    }

    /// `recover` needs nothing: what is not committed, Kafka forgets. But the checkpoint must know
    /// that it holds only together with its transaction.
    fn prepare(&mut self, _: u64) -> Result<Prepared> {
        self.producer.flush()?;
        Ok(match &self.transaction {
            Some(transaction) => serde_json::json!({"transaction": transaction.id()}),
            None => Prepared::Null,
        })
    }

    fn close(&mut self) -> Result<()> {
        self.producer.flush()
    }

    fn describe(&self) -> String {
        format!(
            "topic {} at {}",
            self.producer.topic(),
            self.producer.bootstrap()
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
