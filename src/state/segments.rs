//! Segments as Arrow IPC files, which any Arrow tool reads: one batch for each segment.

use super::Shape;
use crate::batches::{compact, with_rows};
use crate::error::Result;
use arrow::array::ArrayData;
use arrow::array::{Array, RecordBatch, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;

/// A file as it grows; all its batches have the same column types.
pub(super) struct SegmentFile {
    writer: FileWriter<Vec<u8>>,
    schema: SchemaRef,
    /// Batches so far.
    batches: usize,
    rows: u64,
}

impl SegmentFile {
    /// `like`: a batch of the aggregate that `shape` describes.
    pub fn new(shape: &Shape, like: &RecordBatch) -> Result<Self> {
        let names = column_names(shape, like.num_columns());
        let columns = names.into_iter().zip(like.columns());
        let fields: Vec<Field> = columns
            .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            writer: FileWriter::try_new(Vec::new(), &schema)?,
            schema,
            batches: 0,
            rows: 0,
        })
    }

    /// Whether `batch` can be in this file too.
    pub fn takes(&self, batch: &RecordBatch) -> bool {
        let ours = self.schema.fields().iter().map(|f| f.data_type());
        let alike = ours.eq(batch.columns().iter().map(|c| c.data_type()));
        // A file has one dictionary for each column, so batches would have to share them.
        alike && (self.batches == 0 || !self.has_dictionary())
    }

    fn has_dictionary(&self) -> bool {
        let mut fields = self.schema.flattened_fields().into_iter();
        fields.any(|f| matches!(f.data_type(), DataType::Dictionary(_, _)))
    }

    /// Adds a batch and returns its number in the file.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<usize> {
        let columns = compact(batch)?.columns().to_vec();
        let batch = with_rows(self.schema.clone(), columns, batch.num_rows())?;
        self.writer.write(&batch)?;
        self.rows += batch.num_rows() as u64;
        self.batches += 1;
        Ok(self.batches - 1)
    }

    pub fn bytes(&self) -> usize {
        self.writer.get_ref().len()
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.writer.into_inner()?)
    }
}

/// The batches with the numbers `wanted` of a file, with the engine's column names.
pub(super) fn decode(file: Vec<u8>, wanted: &[usize]) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut reader = FileReader::try_new(Cursor::new(file), None)?;
    let mut fields = Vec::new();
    for (i, field) in reader.schema().fields().iter().enumerate() {
        fields.push(Field::new(format!("c{i}"), field.data_type().clone(), true));
    }
    let schema = Arc::new(Schema::new(fields));
    let mut batches = Vec::with_capacity(wanted.len());
    for &number in wanted {
        reader.set_index(number)?;
        let Some(batch) = reader.next().transpose()? else {
            return Err(ArrowError::IpcError(format!("no batch {number}")));
        };
        let columns = batch.columns().iter();
        let columns = columns
            .map(|c| Ok(make_array(owned(&c.to_data())?)))
            .collect::<Result<_, ArrowError>>()?;
        batches.push(with_rows(schema.clone(), columns, batch.num_rows())?);
    }
    Ok(batches)
}

/// What people see who open the file: the keys, then each function with the number of its state
/// column. Distinct, because tools look columns up by name.
fn column_names(shape: &Shape, columns: usize) -> Vec<String> {
    let states = shape.functions.iter();
    let states = states.flat_map(|f| (1..=f.width).map(move |i| format!("{} {i}", f.text)));
    let known = shape.keys.iter().cloned().chain(states);
    let numbered = (0..).map(|i| format!("column {i}"));
    let mut taken = HashSet::new();
    let mut names = Vec::with_capacity(columns);
    for name in known.chain(numbered).take(columns) {
        let mut distinct = name.clone();
        let mut i = 1;
        while !taken.insert(distinct.clone()) {
            i += 1;
            distinct = format!("{name} ({i})");
        }
        names.push(distinct);
    }
    names
}

/// A copy in buffers of its own. A batch that was read is one buffer, which each of its columns
/// would keep alive, also when a changed file drops the others.
fn owned(data: &ArrayData) -> Result<ArrayData, ArrowError> {
    let copy = |b: &Buffer| Buffer::from_slice_ref(b.as_slice());
    let nulls = data.nulls().map(|n| {
        let bits = BooleanBuffer::new(copy(n.buffer()), n.offset(), n.len());
        NullBuffer::new(bits)
    });
    let children = data.child_data().iter().map(owned);
    data.clone()
        .into_builder()
        .buffers(data.buffers().iter().map(copy).collect())
        .nulls(nulls)
        .child_data(children.collect::<Result<_, _>>()?)
        .build()
}
