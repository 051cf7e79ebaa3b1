//! What happens to a record that is no row.

use crate::decode::Bad;
use crate::error::{At, BAD_RECORD, Error, Result};
use crate::kafka::config::producer_properties;
use crate::kafka::producer::RawProducer;
use crate::options::Options;
use crate::remote::Keys;
use crate::sink::Sink;
use crate::sink::files::FileSink;
use crate::source::Chunk;
use crate::table::{Column, ColumnKind, TableDef};
use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use std::sync::Arc;

/// The bad-record policy of one table, in one worker.
pub enum BadRecords {
    /// The first one ends the query.
    Fail,
    /// Counted and shown.
    Skip,
    /// Raw bytes and headers to a topic.
    Topic(Box<RawProducer>),
    /// One JSON object each to files in a folder.
    Folder {
        sink: Box<FileSink>,
        def: Box<TableDef>,
    },
}

/// What a table's options say of bad records.
enum Policy<'a> {
    Fail,
    Skip,
    Topic(&'a str),
    Folder(Box<TableDef>),
}

impl<'a> Policy<'a> {
    /// From the options `bad-records`, `dead-letter.*` and `….ignore-parse-errors`.
    fn of(def: &'a TableDef) -> Result<Self> {
        let options = &def.options;
        match (options.get("bad-records"), options.ignore_parse_errors()?) {
            (Some("fail"), Some(true)) => Err(options.invalid(
                "bad-records",
                "is fail, but ….ignore-parse-errors is true, which skips them",
            )),
            (Some("fail"), _) | (None, Some(false)) => Ok(Policy::Fail),
            (Some("dead-letter"), _) => Self::dead_letter(options),
            _ => match ["dead-letter.topic", "dead-letter.path"]
                .into_iter()
                .find(|o| options.get(o).is_some())
            {
                Some(option) => Err(options
                    .invalid(option, "has no effect: bad records are skipped")
                    .with_hint("add 'bad-records' = 'dead-letter'")),
                None => Ok(Policy::Skip),
            },
        }
    }

    fn dead_letter(options: &'a Options) -> Result<Self> {
        let (topic, path) = (
            options.get("dead-letter.topic"),
            options.get("dead-letter.path"),
        );
        match (topic, path) {
            (Some(topic), _) if producer_properties(options).next().is_some() => {
                Ok(Policy::Topic(topic))
            }
            (Some(_), _) => {
                let message = "the table has no properties.bootstrap.servers";
                let error = options.invalid("dead-letter.topic", message);
                Err(error.with_hint("use dead-letter.path"))
            }
            (None, Some(path)) => Ok(Policy::Folder(Box::new(folder_table(path)?))),
            (None, None) => {
                let message = "needs dead-letter.topic or dead-letter.path";
                Err(options.invalid("bad-records", message))
            }
        }
    }
}

/// Where a bad record stood.
pub struct Place<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub payload: Option<&'a [u8]>,
}

impl<'a> Place<'a> {
    pub fn in_chunk(chunk: &'a Chunk, record: u32) -> Self {
        let i = record as usize;
        Place {
            topic: &chunk.topic,
            partition: chunk.partition,
            offset: chunk.offsets[i],
            timestamp_ms: chunk.timestamps_ms[i],
            payload: chunk.payload.get(i),
        }
    }
}

impl BadRecords {
    /// Opens what the table's options ask for.
    pub fn open(def: &TableDef, worker: usize, keys: &Keys) -> Result<Self> {
        Ok(match Policy::of(def)? {
            Policy::Fail => BadRecords::Fail,
            Policy::Skip => BadRecords::Skip,
            Policy::Topic(topic) => {
                let producer = RawProducer::new(producer_properties(&def.options), topic)?;
                BadRecords::Topic(Box::new(producer))
            }
            Policy::Folder(def) => BadRecords::Folder {
                sink: Box::new(FileSink::new(&def, &format!("bad-{worker}"), None, keys)?),
                def,
            },
        })
    }

    /// Refuses what [`Self::open`] would refuse, without opening anything.
    pub fn check(def: &TableDef) -> Result<()> {
        Policy::of(def).map(|_| ())
    }

    /// Applies the policy to one record. An error ends the query.
    pub fn take(&mut self, place: &Place, bad: &Bad) -> Result<()> {
        let field = bad.field.as_deref().unwrap_or("");
        match self {
            BadRecords::Fail => Err(Error::Data(format!(
                "{BAD_RECORD}{}/{} offset {}: {}",
                place.topic,
                place.partition,
                place.offset,
                describe(bad)
            ))),
            BadRecords::Skip => Ok(()),
            BadRecords::Topic(producer) => {
                let (partition, offset, timestamp) = (
                    place.partition.to_string(),
                    place.offset.to_string(),
                    place.timestamp_ms.to_string(),
                );
                let headers: [(&str, &[u8]); 6] = [
                    ("topic", place.topic.as_bytes()),
                    ("partition", partition.as_bytes()),
                    ("offset", offset.as_bytes()),
                    ("timestamp", timestamp.as_bytes()),
                    ("field", field.as_bytes()),
                    ("reason", bad.reason.as_bytes()),
                ];
                producer.send(None, place.payload, &headers, None, None)
            }
            BadRecords::Folder { sink, def } => sink.write(0, &folder_row(def, place, bad)?),
        }
    }

    /// Makes everything taken so far safe.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            BadRecords::Fail | BadRecords::Skip => Ok(()),
            BadRecords::Topic(producer) => producer.flush(),
            BadRecords::Folder { sink, .. } => sink.commit(0),
        }
    }

    pub fn close(&mut self) -> Result<()> {
        self.flush()?;
        match self {
            BadRecords::Folder { sink, .. } => sink.close(),
            _ => Ok(()),
        }
    }
}

/// `column 'n': expected BIGINT, found string "x"`.
pub fn describe(bad: &Bad) -> String {
    match &bad.field {
        Some(field) => format!("column '{field}': {}", bad.reason),
        None => bad.reason.clone(),
    }
}

/// The files of a dead-letter folder: `payload` holds text, `payload_base64` what is not UTF-8.
fn folder_table(path: &str) -> Result<TableDef> {
    let at = At { line: 1, column: 1 };
    let mut options = Options::default();
    for (key, value) in [
        ("connector", "filesystem"),
        ("path", path),
        ("format", "json"),
        ("json.encode.ignore-null-fields", "true"),
        // Each flush makes its records visible.
        ("sink.rolling-policy.rollover-interval", "0 s"),
    ] {
        options.insert("filesystem", key, value, at)?;
    }
    let column = |name: &str, data_type: DataType, ltz: bool| Column {
        name: name.into(),
        data_type,
        nullable: true,
        kind: ColumnKind::Physical,
        ltz,
        at,
    };
    Ok(TableDef {
        name: "dead letters".into(),
        columns: vec![
            column("topic", DataType::Utf8, false),
            column("partition", DataType::Int32, false),
            column("offset", DataType::Int64, false),
            column(
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            ),
            column("field", DataType::Utf8, false),
            column("reason", DataType::Utf8, false),
            column("payload", DataType::Utf8, false),
            column("payload_base64", DataType::Binary, false),
        ],
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options,
        at,
    })
}

fn folder_row(def: &TableDef, place: &Place, bad: &Bad) -> Result<RecordBatch> {
    let text = place.payload.and_then(|p| std::str::from_utf8(p).ok());
    let binary = if text.is_some() { None } else { place.payload };
    let timestamp = Some(place.timestamp_ms)
        .filter(|t| *t >= 0)
        .and_then(|t| t.checked_mul(1000));
    Ok(RecordBatch::try_new(
        def.schema(),
        vec![
            Arc::new(StringArray::from(vec![place.topic])),
            Arc::new(Int32Array::from(vec![place.partition])),
            Arc::new(Int64Array::from(vec![place.offset])),
            Arc::new(TimestampMicrosecondArray::from(vec![timestamp])),
            Arc::new(StringArray::from(vec![bad.field.as_deref()])),
            Arc::new(StringArray::from(vec![bad.reason.as_str()])),
            Arc::new(StringArray::from(vec![text])),
            Arc::new(arrow::array::BinaryArray::from(vec![binary])),
        ],
    )?)
}
