//! Every column type that a segment may have.

use super::*;
use crate::state::segments::{SegmentFile, decode};
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::ipc::reader::FileReader;

/// Columns of `rows` rows (at most 100 or so), of all kinds of types, with NULLs.
pub(super) fn columns(rows: usize, seed: i64) -> Vec<ArrayRef> {
    let text = |i: usize| (i % 5 != 3).then(|| "long enough for a buffer ".repeat(i % 3) + "é");
    let number = |i: usize| (i % 7 != 2).then_some(seed.wrapping_mul(31).wrapping_add(i as i64));
    let views: StringViewArray = (0..rows).map(text).collect();
    let ints: Int64Array = (0..rows).map(number).collect();
    let ends: Vec<usize> = (0..rows).map(|i| i % 3).collect();
    let total: usize = ends.iter().sum();
    let items: StringViewArray = (0..total).map(text).collect();
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Utf8View, true)),
        OffsetBuffer::from_lengths(ends),
        Arc::new(items),
        Some((0..rows).map(|i| i % 4 != 1).collect::<Vec<bool>>().into()),
    );
    let fields = vec![
        Field::new("value", DataType::Int64, true),
        Field::new("text", DataType::Utf8View, true),
    ];
    let inner: Vec<ArrayRef> = vec![Arc::new(ints.clone()), Arc::new(views.clone())];
    let nulls = (0..rows).map(|i| i % 6 != 0).collect::<Vec<bool>>();
    let structs = StructArray::new(fields.into(), inner, Some(nulls.into()));
    let decimals: Decimal128Array = (0..rows).map(|i| number(i).map(i128::from)).collect();
    let times: TimestampMicrosecondArray = (0..rows).map(number).collect();
    vec![
        Arc::new(views),
        Arc::new(ints),
        Arc::new(
            (0..rows)
                .map(|i| text(i).map(String::into_bytes))
                .collect::<BinaryViewArray>(),
        ),
        Arc::new((0..rows).map(text).collect::<StringArray>()),
        Arc::new(
            (0..rows)
                .map(|i| number(i).map(|n| n % 2 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new(
            (0..rows)
                .map(|i| number(i).map(|n| n as f64 / 3.0))
                .collect::<Float64Array>(),
        ),
        Arc::new(list),
        Arc::new(structs),
        Arc::new(decimals.with_precision_and_scale(30, 2).unwrap()),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(NullArray::new(rows)),
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                (0..rows).map(|i| number(i).map(i64::to_le_bytes)),
                8,
            )
            .unwrap(),
        ),
    ]
}

fn through_a_file(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let mut file = SegmentFile::new(&shape(), &batches[0]).unwrap();
    for (i, batch) in batches.iter().enumerate() {
        assert!(file.takes(batch));
        assert_eq!(file.push(batch).unwrap(), i);
    }
    let wanted: Vec<usize> = (0..batches.len()).collect();
    decode(file.finish().unwrap(), &wanted).unwrap()
}

#[test]
fn all_types_come_back_as_they_were() {
    let batches: Vec<_> = [40, 0, 1, 100]
        .map(|rows| batch_of(columns(rows, rows as i64), rows))
        .into();
    let read = through_a_file(&batches);
    assert_eq!(read, batches);
    for batch in &read {
        for column in batch.columns() {
            column.to_data().validate_full().unwrap();
        }
    }
    // Slices too, and they bring along nothing of what they were cut from.
    let slice = batches[3].slice(37, 11);
    assert_eq!(through_a_file(std::slice::from_ref(&slice)), [slice]);
}

#[test]
fn a_batch_without_columns_keeps_its_rows() {
    let batches = [batch_of(Vec::new(), 1), batch_of(Vec::new(), 0)];
    assert_eq!(through_a_file(&batches), batches);
}

#[test]
fn dictionaries_have_a_file_each() {
    let dictionary = |texts: [&str; 3]| {
        let array: DictionaryArray<Int32Type> = texts.into_iter().collect();
        batch_of(vec![Arc::new(array)], 3)
    };
    let segments: Vec<_> = [["a", "b", "a"], ["x", "a", "y"]]
        .into_iter()
        .map(|texts| HeldSegment {
            batch: dictionary(texts),
            spilled: None,
            ..segment(0, 1)
        })
        .collect();
    let store = MemoryStore::new();
    let written = snapshot(1, segments);
    assert_eq!(open(&store).write(&written, 0).unwrap().files, 2);
    let loaded = open(&store).load(None).unwrap().unwrap();
    assert_eq!(bare(loaded), bare(written));
}

#[test]
fn views_do_not_bring_their_neighbours_text() {
    let long: StringViewArray = (0..10_000)
        .map(|i| Some(format!("a text that needs a buffer, {i}")))
        .collect();
    let few = long.slice(5000, 3);
    let lists = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Utf8View, true)),
        OffsetBuffer::from_lengths([1, 0, 2]),
        Arc::new(few.clone()),
        None,
    );
    let batch = batch_of(vec![Arc::new(few), Arc::new(lists)], 3);
    let mut file = SegmentFile::new(&shape(), &batch).unwrap();
    file.push(&batch).unwrap();
    let bytes = file.finish().unwrap();
    assert!(bytes.len() < 3000, "{} bytes", bytes.len());
    assert_eq!(decode(bytes, &[0]).unwrap(), [batch]);
}

#[test]
fn a_restored_batch_counts_its_own_memory_only() {
    let batch = batch_of(columns(100, 1), 100);
    let read = &through_a_file(std::slice::from_ref(&batch))[0];
    let (before, after) = (batch.get_array_memory_size(), read.get_array_memory_size());
    assert!(after < before * 3 / 2, "{before} became {after}");
}

#[test]
fn other_tools_find_named_columns() {
    let mut twice = shape();
    twice.functions.push(FunctionShape {
        text: "avg(x)".to_string(),
        width: 2,
    });
    twice.functions.push(FunctionShape {
        text: "count(*)".to_string(),
        width: 1,
    });
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = batch_of(std::iter::repeat_n(column, 6).collect(), 1);
    let mut file = SegmentFile::new(&twice, &batch).unwrap();
    file.push(&batch).unwrap();
    let bytes = std::io::Cursor::new(file.finish().unwrap());
    let schema = FileReader::try_new(bytes, None).unwrap().schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "user: Utf8View",
            "count(*) 1",
            "avg(x) 1",
            "avg(x) 2",
            "count(*) 1 (2)",
            "column 0"
        ]
    );
}
