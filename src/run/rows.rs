//! Records of a chunk as the columns of a source: decoded, of the envelope, and computed.

use crate::batches::{self, with_rows};
use crate::decode::{self, Bad, Decode, Decoded};
use crate::error::{Error, Result};
use crate::plan::{Computed, Failed, SourcePlan, run_isolating};
use crate::run::sinks;
use crate::source::files::folders;
use crate::source::{Blobs, Chunk};
use crate::table::MetadataKey;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int32Array, Int64Array, MapBuilder,
    StringViewArray, StringViewBuilder, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Rows of one partition, in the source's schema.
#[derive(Debug)]
pub struct Built {
    pub batch: RecordBatch,
    /// For each row the index of its record in the chunk.
    pub records: Vec<u32>,
    pub bad: Vec<Bad>,
}

/// Makes rows of one source. One for each worker.
pub struct RowBuilder {
    plan: Arc<SourcePlan>,
    decoders: Decoders,
}

/// What reads a source's records; nothing where it delivers rows.
#[derive(Default)]
pub(super) struct Decoders {
    value: Option<Box<dyn Decode>>,
    key: Option<Box<dyn Decode>>,
    /// Where column `i` of [`SourcePlan::decode`] comes from.
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    Key,
    /// The name of a folder.
    Folder,
}

impl Decoders {
    pub(super) fn of(plan: &SourcePlan) -> Result<Self> {
        let def = &plan.def;
        if sinks::delivers_rows(def) {
            return Ok(Self::default());
        }
        let keys = decode::key_columns(def)?;
        let place = |name: &String| match keys.iter().any(|key| key.name == *name) {
            true => Place::Key,
            false if def.is_folder(name) => Place::Folder,
            false => Place::Value,
        };
        Ok(Self {
            value: Some(decode::decoder(def, &plan.decode)?),
            key: decode::key_decoder(def, &plan.decode)?,
            places: plan.decode.iter().map(place).collect(),
        })
    }
}

impl RowBuilder {
    pub fn new(plan: Arc<SourcePlan>) -> Result<Self> {
        let decoders = Decoders::of(&plan)?;
        Ok(Self { plan, decoders })
    }

    /// True when the source must deliver record keys.
    pub fn wants_keys(plan: &SourcePlan) -> Result<bool> {
        let keys = decode::key_columns(&plan.def)?;
        let decodes_key = keys.iter().any(|key| plan.decode.contains(&key.name));
        Ok(decodes_key || plan.metadata.contains(&MetadataKey::Key))
    }

    /// Rows of the records `range` of `chunk`.
    pub fn build(&mut self, chunk: &Chunk, range: Range<usize>) -> Result<Built> {
        let Some(value) = &mut self.decoders.value else {
            return Err(Error::bug("a chunk from a source of rows"));
        };
        let mut values = value.decode(&chunk.payload, range.clone())?;
        let mut bad = std::mem::take(&mut values.bad);
        let mut records = records_of(&values, &range);
        let mut value_columns = std::mem::take(&mut values.columns);
        let mut key_columns = Vec::new();
        if let Some(decoder) = &mut self.decoders.key {
            let keys = chunk
                .keys
                .as_ref()
                .ok_or_else(|| Error::bug("no record keys"))?;
            let mut decoded = decode_keys(decoder.as_mut(), keys, range.clone())?;
            // A record is bad once, and one without a value is nothing.
            let has_value = |b: &Bad| records.binary_search(&b.record).is_ok();
            bad.extend(decoded.bad.drain(..).filter(has_value));
            let key_records = records_of(&decoded, &range);
            if key_records == records {
                key_columns = decoded.columns;
            } else {
                let (a, b, both) = intersect(&records, &key_records);
                value_columns = take(&value_columns, &a)?;
                key_columns = take(&decoded.columns, &b)?;
                records = both;
            }
        }
        let (mut value_columns, mut key_columns) =
            (value_columns.into_iter(), key_columns.into_iter());
        let mut columns = Vec::with_capacity(self.plan.schema.fields().len());
        for (i, place) in self.decoders.places.iter().enumerate() {
            let next = match place {
                Place::Key => key_columns.next(),
                Place::Value => value_columns.next(),
                Place::Folder => {
                    let field = self.plan.schema.field(i);
                    let path = Path::new(chunk.topic.as_ref());
                    let (name, data_type) = (field.name(), field.data_type());
                    Some(folders::column(path, name, data_type, records.len())?)
                }
            };
            columns.push(next.ok_or_else(|| Error::bug("a decoder delivered too few columns"))?);
        }
        for (k, key) in self.plan.metadata.iter().enumerate() {
            let field = self.plan.schema.field(self.plan.decode.len() + k);
            columns.push(metadata(*key, field.data_type(), chunk, &records)?);
        }
        self.complete(columns, records, bad)
    }

    /// Rows that arrived decoded, in the order of `plan.decode`.
    pub fn complete_rows(&self, batch: &RecordBatch, first_record: u32) -> Result<Built> {
        let records = (0..batch.num_rows() as u32)
            .map(|i| first_record + i)
            .collect();
        self.complete(batch.columns().to_vec(), records, Vec::new())
    }

    /// Adds the computed columns and takes out rows without event time.
    fn complete(
        &self,
        columns: Vec<ArrayRef>,
        records: Vec<u32>,
        mut bad: Vec<Bad>,
    ) -> Result<Built> {
        let schema = &self.plan.schema;
        let read = Arc::new(Schema::new(schema.fields()[..columns.len()].to_vec()));
        let (columns, mut records) = without_nulls(&read, columns, records, &mut bad)?;
        let mut batch = with_rows(read, columns, records.len())?;
        if !self.plan.computed.is_empty() {
            let isolated =
                run_isolating(&batch, &|rows| self.compute(rows), &|rows| self.blame(rows))?;
            let mut parts: Vec<RecordBatch> = isolated.parts.into_iter().map(|(p, _)| p).collect();
            let computed = Arc::new(Schema::new(schema.fields().to_vec()));
            batch = if parts.len() == 1 {
                parts.remove(0)
            } else {
                compute::concat_batches(&computed, &parts)?
            };
            let mut good = vec![true; records.len()];
            for (row, reason) in isolated.failed.into_iter().rev() {
                good[row as usize] = false;
                bad.push(Bad {
                    record: records[row as usize],
                    field: None,
                    reason,
                });
            }
            let mut good = good.into_iter();
            records.retain(|_| good.next() == Some(true));
        }
        let batch = with_rows(schema.clone(), batch.columns().to_vec(), records.len())?;
        self.without_wrong_times(batch, records, bad)
    }

    fn compute(&self, slice: &RecordBatch) -> Result<RecordBatch> {
        let mut computed = self.plan.computed.iter();
        computed.try_fold(slice.clone(), |batch, next| self.with_column(batch, next))
    }

    /// Rows on which a computed column is known to fail.
    fn blame(&self, batch: &RecordBatch) -> Result<Failed> {
        let mut batch = batch.clone();
        for computed in &self.plan.computed {
            batch = match self.with_column(batch.clone(), computed) {
                Err(Error::Data(_)) => return computed.blame(&batch),
                other => other?,
            };
        }
        Ok(Failed::new())
    }

    fn with_column(&self, batch: RecordBatch, computed: &Computed) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        columns.push(computed.evaluate(&batch)?);
        let fields: Vec<Arc<Field>> = self.plan.schema.fields()[..columns.len()].to_vec();
        let schema = Arc::new(Schema::new(fields));
        Ok(with_rows(schema, columns, batch.num_rows())?)
    }

    /// Rows without an event time, or with one that no window can be around, are bad.
    fn without_wrong_times(
        &self,
        batch: RecordBatch,
        records: Vec<u32>,
        mut bad: Vec<Bad>,
    ) -> Result<Built> {
        let Some((column, times)) = (self.plan.event_time)
            .and_then(|i| {
                Some((
                    i,
                    batch
                        .column(i)
                        .as_primitive_opt::<TimestampMicrosecondType>()?,
                ))
            })
            // Without a branch in between: each batch is looked through.
            .filter(|(_, t)| {
                t.null_count() > 0 || t.values().iter().fold(false, |a, us| a | is_wild(*us))
            })
        else {
            return Ok(Built {
                batch,
                records,
                bad,
            });
        };
        let field = batch.schema().field(column).name().clone();
        let (mut keep, mut kept) = (Vec::new(), Vec::new());
        for (i, record) in records.iter().enumerate() {
            let reason = match times.is_valid(i) {
                false => "the event time is NULL",
                true if is_wild(times.value(i)) => "the event time is out of range",
                true => {
                    keep.push(i as u32);
                    kept.push(*record);
                    continue;
                }
            };
            bad.push(Bad {
                record: *record,
                field: Some(field.clone()),
                reason: reason.into(),
            });
        }
        let batch = compute::take_record_batch(&batch, &UInt32Array::from(keep))?;
        Ok(Built {
            batch,
            records: kept,
            bad,
        })
    }
}

/// The rows that have a value in each column that is NOT NULL. (Formats say it of what they read; a record's
/// key may be missing, and files of columns and folders have values without a format.)
fn without_nulls(
    schema: &Schema,
    columns: Vec<ArrayRef>,
    records: Vec<u32>,
    bad: &mut Vec<Bad>,
) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let wanting = batches::wanting(schema, &columns);
    if wanting.is_empty() {
        return Ok((columns, records));
    }
    let mut good = Vec::with_capacity(records.len());
    let mut kept = Vec::with_capacity(records.len());
    for (row, record) in records.into_iter().enumerate() {
        let null = wanting.iter().find(|i| columns[**i].is_null(row));
        good.push(null.is_none());
        match null {
            None => kept.push(record),
            Some(i) => bad.push(Bad {
                record,
                field: Some(schema.field(*i).name().clone()),
                reason: "it is NULL, but the column is NOT NULL".into(),
            }),
        }
    }
    let good = BooleanArray::from(good);
    let columns = columns.iter().map(|column| compute::filter(column, &good));
    Ok((columns.collect::<std::result::Result<_, _>>()?, kept))
}

/// Some 146,000 years from 1970 on: beyond, a window's ends may have no number.
fn is_wild(us: i64) -> bool {
    !(-i64::MAX / 2..=i64::MAX / 2).contains(&us)
}

/// Keys may be absent where values are not: an absent key is a row of NULLs, not a tombstone.
fn decode_keys(decoder: &mut dyn Decode, keys: &Blobs, range: Range<usize>) -> Result<Decoded> {
    let mut decoded = decoder.decode(keys, range.clone())?;
    if !keys.spans[range.clone()].iter().any(|s| s.is_absent()) {
        return Ok(decoded);
    }
    let present = records_of(&decoded, &range);
    let bad: Vec<u32> = decoded.bad.iter().map(|b| b.record).collect();
    let mut all: Vec<u32> = range
        .map(|r| r as u32)
        .filter(|r| !bad.contains(r))
        .collect();
    let positions: UInt32Array = all
        .iter()
        .map(|r| present.binary_search(r).ok().map(|i| i as u32))
        .collect();
    decoded.columns = decoded
        .columns
        .iter()
        .map(|c| compute::take(c, &positions, None))
        .collect::<Result<_, _>>()?;
    decoded.rows = all.len();
    decoded.records = Some(std::mem::take(&mut all));
    Ok(decoded)
}

fn records_of(decoded: &Decoded, range: &Range<usize>) -> Vec<u32> {
    match &decoded.records {
        Some(records) => records.clone(),
        None => range.clone().map(|r| r as u32).collect(),
    }
}

/// Positions in `a` and in `b` of what both hold (both ascending), and what they hold.
fn intersect(a: &[u32], b: &[u32]) -> (UInt32Array, UInt32Array, Vec<u32>) {
    let (mut in_a, mut in_b, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for (i, record) in a.iter().enumerate() {
        if let Ok(k) = b.binary_search(record) {
            in_a.push(i as u32);
            in_b.push(k as u32);
            both.push(*record);
        }
    }
    (in_a.into(), in_b.into(), both)
}

fn take(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    Ok(columns
        .iter()
        .map(|c| compute::take(c, rows, None))
        .collect::<Result<_, _>>()?)
}

/// A column of the records' envelopes.
fn metadata(
    key: MetadataKey,
    data_type: &DataType,
    chunk: &Chunk,
    records: &[u32],
) -> Result<ArrayRef> {
    let rows = records.len();
    let text = |s: &str| -> ArrayRef { Arc::new(StringViewArray::from(vec![s; rows])) };
    let array: ArrayRef = match key {
        MetadataKey::Topic => text(&chunk.topic),
        MetadataKey::TimestampType => text(if chunk.log_append_time {
            "LogAppendTime"
        } else {
            "CreateTime"
        }),
        MetadataKey::Partition => Arc::new(Int32Array::from(vec![chunk.partition; rows])),
        MetadataKey::Offset => Arc::new(Int64Array::from_iter_values(
            records.iter().map(|r| chunk.offsets[*r as usize]),
        )),
        MetadataKey::Timestamp => {
            let us = records.iter().map(|r| {
                Some(chunk.timestamps_ms[*r as usize])
                    .filter(|t| *t >= 0)
                    .and_then(|t| t.checked_mul(1000))
            });
            Arc::new(us.collect::<TimestampMicrosecondArray>())
        }
        MetadataKey::Key => keys(data_type, chunk, records),
        MetadataKey::Headers => headers(data_type, chunk, records)?,
    };
    if array.data_type() == data_type {
        return Ok(array);
    }
    Ok(compute::cast(&array, data_type)?)
}

fn keys(data_type: &DataType, chunk: &Chunk, records: &[u32]) -> ArrayRef {
    let get = |r: &u32| chunk.keys.as_ref().and_then(|k| k.get(*r as usize));
    if *data_type == DataType::Binary {
        let mut builder = BinaryBuilder::new();
        records.iter().for_each(|r| builder.append_option(get(r)));
        return Arc::new(builder.finish());
    }
    let mut builder = StringViewBuilder::new();
    records
        .iter()
        .for_each(|r| builder.append_option(get(r).map(String::from_utf8_lossy)));
    Arc::new(builder.finish())
}

fn headers(data_type: &DataType, chunk: &Chunk, records: &[u32]) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(
        Some(arrow::array::builder::MapFieldNames {
            entry: "entries".into(),
            key: "key".into(),
            value: "value".into(),
        }),
        StringViewBuilder::new(),
        BinaryBuilder::new(),
    );
    for record in records {
        for (name, value) in chunk.headers.iter().flat_map(|h| &h[*record as usize]) {
            builder.keys().append_value(name);
            builder.values().append_option(value.as_deref());
        }
        builder.append(true)?;
    }
    let array: ArrayRef = Arc::new(builder.finish());
    Ok(compute::cast(&array, data_type)?)
}
