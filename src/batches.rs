//! What record batches hold in memory, and how to hold no more than their rows need.

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, make_array};
use arrow::array::{GenericByteViewArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{ByteViewType, DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that these batches keep in memory: each allocation once, though many columns and batches
/// may point into it (all columns of a batch that was read are parts of one; views share text).
pub fn held<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> usize {
    let mut seen = HashMap::new();
    for column in batches.into_iter().flat_map(RecordBatch::columns) {
        note(&column.to_data(), &mut seen);
    }
    seen.values().sum()
}

/// Takes down each allocation with its size.
fn note(data: &ArrayData, seen: &mut HashMap<usize, usize>) {
    let nulls = data.nulls().map(|n| n.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        seen.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
    }
    for child in data.child_data() {
        note(child, seen);
    }
}

/// A mask without NULLs, which are false. (Arrow's own panics for a mask that has none.)
pub fn only_true(mask: &BooleanArray) -> BooleanArray {
    match mask.null_count() {
        0 => mask.clone(),
        _ => prep_null_mask_filter(mask),
    }
}

/// A batch whose row count is explicit, because there may be no column at all.
pub fn with_rows(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// Numbers of the columns that are NOT NULL and have a NULL.
pub fn wanting(schema: &Schema, columns: &[ArrayRef]) -> Vec<usize> {
    let all = schema.fields().iter().zip(columns).enumerate();
    all.filter(|(_, (field, column))| !field.is_nullable() && column.null_count() > 0)
        .map(|(i, _)| i)
        .collect()
}

/// A batch without text that none of its views points to.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(slim).collect::<Result<_, _>>()?;
    with_rows(batch.schema(), columns, batch.num_rows())
}

/// The same values, with fewer buffers if there are more of them than rows: each row of a nested array may
/// bring all buffers of the array that it was a row of, and what is made of such rows all of theirs.
pub fn with_few_buffers(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type().is_nested() && has_many_buffers(&array.to_data()) {
        true => slim(array),
        false => Ok(array.clone()),
    }
}

/// Buffers that no array has too many of.
const FEW_BUFFERS: usize = 4;

fn has_many_buffers(data: &ArrayData) -> bool {
    match data.data_type() {
        // The first one holds the views.
        DataType::Utf8View | DataType::BinaryView => {
            data.buffers().len() > 1 + FEW_BUFFERS + data.len()
        }
        _ => data.child_data().iter().any(has_many_buffers),
    }
}

/// The same values without text that no view points to: a view array keeps the buffers that its
/// text came in, with everybody else's text, and they would be written whole.
fn slim(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Utf8View => Ok(slim_views(array.as_string_view())),
        DataType::BinaryView => Ok(slim_views(array.as_binary_view())),
        nested if nested.is_nested() => {
            let data = array.to_data();
            let children = data.child_data().iter();
            let children = children
                .map(|c| Ok(slim(&make_array(c.clone()))?.to_data()))
                .collect::<Result<_, ArrowError>>()?;
            Ok(make_array(
                data.into_builder().child_data(children).build()?,
            ))
        }
        _ => Ok(array.clone()),
    }
}

fn slim_views<T: ByteViewType>(views: &GenericByteViewArray<T>) -> ArrayRef {
    let held: usize = views.data_buffers().iter().map(Buffer::len).sum();
    let has_many = views.data_buffers().len() > FEW_BUFFERS + views.len();
    match has_many || held > 2 * views.total_buffer_bytes_used() {
        true => Arc::new(views.gc()),
        false => Arc::new(views.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray, StructArray};
    use arrow::compute::take_record_batch;
    use arrow::datatypes::Field;
    use arrow::ipc::{reader::StreamReader, writer::StreamWriter};

    fn batch(rows: usize) -> RecordBatch {
        let text = |i| (i % 9 != 0).then(|| format!("{i:0>100}"));
        let text: StringViewArray = (0..rows).map(text).collect();
        let number = Int64Array::from_iter_values(0..rows as i64);
        let columns: [(&str, ArrayRef); 2] = [("t", Arc::new(text)), ("n", Arc::new(number))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn an_allocation_counts_once() {
        // Columns of a batch that was read from a file are parts of one buffer, which was counted
        // for each of them: spilled state seemed to need four times the memory.
        let batch = batch(10_000);
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let read = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let read: Vec<RecordBatch> = read.map(Result::unwrap).collect();
        let size = held(&read);
        assert!(
            (bytes.len() * 9 / 10..=bytes.len() * 11 / 10).contains(&size),
            "{size}"
        );
        assert_eq!(held([&read[0], &read[0].slice(0, 10)]), size);
        assert_eq!(held([]), 0);
    }

    #[test]
    fn a_compacted_part_holds_its_own_text() {
        let batch = batch(10_000);
        let rows = arrow::array::UInt32Array::from_iter_values((0..10_000).step_by(100));
        let part = take_record_batch(&batch, &rows).unwrap();
        assert!(held([&part]) > 800_000);
        let own = compact(&part).unwrap();
        assert!((10_000..30_000).contains(&held([&own])), "{}", held([&own]));
        assert_eq!(own, part);
    }

    /// `COUNT(DISTINCT a, b)` of windows that overlap took gigabytes for 200 rows: each row kept all buffers
    /// of the lists that it had ever been in.
    #[test]
    fn rows_of_nested_arrays_do_not_multiply_buffers() {
        let text = StringViewArray::from_iter_values((0..4).map(|i| format!("{i:0>20}")));
        let mut array: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("t", DataType::Utf8View, true)),
            Arc::new(text) as ArrayRef,
        )]));
        let original = array.clone();
        for _ in 0..30 {
            let rows: Vec<ArrayRef> = (0..4).map(|i| array.slice(i, 1)).collect();
            let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
            array = with_few_buffers(&arrow::compute::concat(&rows).unwrap()).unwrap();
            let views = array.as_struct().column(0).as_string_view();
            assert!(views.data_buffers().len() <= FEW_BUFFERS + 4);
        }
        assert_eq!(&array, &original);
    }
}
