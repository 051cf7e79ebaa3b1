//! What becomes of records, and what the other files here have in common.

mod edges;
mod fast;
mod model;
mod suite;
mod types;

use super::*;
use crate::decode::Decode;
use crate::source::BlobsBuilder;
use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use std::sync::Arc;

fn blobs<'a>(records: impl IntoIterator<Item = Option<&'a [u8]>>) -> Blobs {
    let mut builder = BlobsBuilder::default();
    records.into_iter().for_each(|record| builder.push(record));
    builder.finish()
}

fn texts(records: &[&str]) -> Blobs {
    blobs(records.iter().map(|record| Some(record.as_bytes())))
}

fn decoder_of(fields: Vec<Field>, fail_on_missing_field: bool) -> JsonDecoder {
    let options = JsonOptions {
        fail_on_missing_field,
    };
    JsonDecoder::new(Arc::new(Schema::new(fields)), options).unwrap()
}

fn decode(fields: Vec<Field>, records: &[&str]) -> Decoded {
    let decoded = decoder_of(fields, false)
        .decode(&texts(records), 0..records.len())
        .unwrap();
    for column in &decoded.columns {
        assert_eq!(column.len(), decoded.rows);
        column.to_data().validate_full().unwrap();
    }
    decoded
}

fn nullable(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn shown_rows(decoded: &Decoded, column: usize) -> Vec<String> {
    let array = &decoded.columns[column];
    let shown = |row| match array.is_null(row) {
        true => "NULL".to_string(),
        false => array_value_to_string(array, row).unwrap(),
    };
    (0..array.len()).map(shown).collect()
}

fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(nullable("element", element)))
}

fn map(value: DataType) -> DataType {
    let pair = vec![
        Field::new("key", DataType::Utf8View, false),
        nullable("value", value),
    ];
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)),
        false,
    )
}

fn row(fields: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(fields))
}

#[test]
fn a_bad_record_names_its_field_by_path() {
    let inner = row(vec![Field::new("d", list(map(DataType::Int8)), false)]);
    let fields = vec![nullable("a", row(vec![nullable("b", list(inner))]))];
    let decoded = decode(
        fields,
        &[
            r#"{"a":{"b":[{"d":[{"k":1}]},{"d":[{"k":1},{"k":300}]}]}}"#,
            r#"{"a":{"b":[{"d":null}]}}"#,
            r#"{"a":{"b":[{}]}}"#,
            r#"{"a":{"b":[{"d":[{"k":1}]}]}}"#,
        ],
    );
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|b| (b.record, b.field.as_deref().unwrap(), b.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (
                0,
                "a.b.element.d.element.value",
                "expected TINYINT, found number 300"
            ),
            (
                1,
                "a.b.element.d",
                "expected ARRAY, found null, but it is NOT NULL"
            ),
            (2, "a.b.element.d", "missing field, but it is NOT NULL"),
        ]
    );
    assert_eq!(shown_rows(&decoded, 0), ["{b: [{d: [{k: 1}]}]}"]);
    assert_eq!(decoded.records, Some(vec![3]));
}

#[test]
fn missing_fields_and_nulls() {
    let fields = || {
        vec![
            nullable("a", DataType::Int64),
            Field::new("b", DataType::Int64, false),
        ]
    };
    let records = [
        r#"{"b":1}"#,
        r#"{"a":null,"b":1}"#,
        r#"{"a":1}"#,
        r#"{"a":1,"b":null}"#,
        "{}",
    ];
    let decoded = decode(fields(), &records);
    assert_eq!(decoded.records, Some(vec![0, 1]));
    assert_eq!(shown_rows(&decoded, 0), ["NULL", "NULL"]);
    let strict = decoder_of(fields(), true)
        .decode(&texts(&records), 0..5)
        .unwrap();
    assert_eq!(strict.records, Some(vec![1]));
    assert_eq!(strict.bad[0].field.as_deref(), Some("a"));
    assert_eq!(strict.bad[0].reason, "missing field");
}

#[test]
fn the_last_of_equal_keys_counts() {
    let fields = vec![
        nullable("a", DataType::Int64),
        nullable("b", row(vec![nullable("c", DataType::Int64)])),
    ];
    let decoded = decode(
        fields,
        &[
            r#"{"a":1,"a":2,"b":{"c":1},"b":{}}"#,
            r#"{"a":"bad","\u0061":3,"b":{"c":"bad"},"b":null}"#,
            r#"{"a":1,"a":"bad"}"#,
            r#"{"b":{"c":1,"c":"bad"},"b":{"c":"bad","c":4}}"#,
        ],
    );
    assert_eq!(shown_rows(&decoded, 0), ["2", "3", "NULL"]);
    assert_eq!(shown_rows(&decoded, 1), ["{c: }", "NULL", "{c: 4}"]);
    assert_eq!(decoded.bad.len(), 1);
    assert_eq!(decoded.bad[0].record, 2);
}

#[test]
fn one_record_is_one_row_or_one_bad_record_or_a_tombstone() {
    let records: Vec<Option<&[u8]>> = vec![
        Some(b"{\"a\":1}"),
        None,
        Some(b""),
        Some(b"{\"a\":2}{\"a\":3}"),
        Some(b"{\"a\":4"),
        Some(b",\"b\":5}"),
        Some(b"[{\"a\":6}]"),
        Some(b"\"a\""),
        Some(b"null"),
        Some(b"{\"a\":7} x"),
        Some(b"{\"b\":\"\xff\"}"),
        // One character in two records.
        Some(b"{\"b\":\"\xc3"),
        Some(b"\xbc\"}"),
        Some(b" {\"a\":8} \n"),
    ];
    let payload = blobs(records.iter().copied());
    let mut decoder = decoder_of(vec![nullable("a", DataType::Int64)], false);
    let decoded = decoder.decode(&payload, 0..records.len()).unwrap();
    assert_eq!(shown_rows(&decoded, 0), ["1", "8"]);
    assert_eq!(decoded.records, Some(vec![0, 13]));
    let bad: Vec<u32> = decoded.bad.iter().map(|b| b.record).collect();
    assert_eq!(bad, (2..13).collect::<Vec<_>>());
    assert_eq!(
        decoded.bad[0].reason,
        "EOF while parsing a value at line 1 column 0"
    );
    assert_eq!(
        decoded.bad[1].reason,
        "trailing characters at line 1 column 8"
    );
    assert_eq!(decoded.bad[8].reason, "invalid UTF-8 at byte 7");
    // Without the neighbours that are no UTF-8, the split character has only itself to blame.
    let split = decoder.decode(&payload, 11..13).unwrap();
    assert_eq!((split.rows, split.bad.len()), (0, 2));
    assert!(
        split
            .bad
            .iter()
            .all(|b| b.reason.starts_with("invalid UTF-8"))
    );
    let all_rows = decoder.decode(&payload, 13..14).unwrap();
    assert_eq!((all_rows.rows, all_rows.records), (1, None));
    let empty = decoder.decode(&payload, 14..14).unwrap();
    assert_eq!((empty.rows, empty.columns[0].len()), (0, 0));
}

#[test]
fn reasons_are_short_however_long_the_data() {
    let (text, digits) = ("ü".repeat(5000), "1".repeat(300));
    let records = [
        format!("\"{text}\""),
        format!("{{\"a\":\"{text}\"}}"),
        format!("{{\"a\":{digits}}}"),
    ];
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let decoded = decode(vec![nullable("a", DataType::Int64)], &records);
    let reasons: Vec<&str> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3);
    assert!(
        reasons.iter().all(|reason| reason.len() < 150),
        "{reasons:?}"
    );
    assert!(reasons[0].starts_with("invalid type: string, expected an object at line 1"));
    assert!(reasons[1].ends_with("üüü\"…"));
    assert!(reasons[2].ends_with("111…"));
}

#[test]
fn rows_without_columns_are_counted_and_validated() {
    let decoded = decode(vec![], &["{}", "{\"a\":1}", "{\"a\":}"]);
    assert_eq!((decoded.rows, decoded.bad.len()), (2, 1));
}

#[test]
fn long_strings_are_not_copied() {
    let payload = texts(&[r#"{"a":"a text of more than twelve bytes"}"#]);
    let mut decoder = decoder_of(vec![nullable("a", DataType::Utf8View)], false);
    let decoded = decoder.decode(&payload, 0..1).unwrap();
    use arrow::array::AsArray;
    let buffers = decoded.columns[0].as_string_view().data_buffers();
    assert_eq!(buffers[0].as_ptr(), payload.data.as_ptr());
}

#[test]
fn types_that_no_record_delivers_are_refused() {
    for data_type in [
        DataType::UInt64,
        DataType::Utf8,
        list(DataType::Duration(TimeUnit::Second)),
    ] {
        let schema = Arc::new(Schema::new(vec![nullable("a", data_type)]));
        let error = JsonDecoder::new(schema, JsonOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("column 'a") && error.contains("cannot be read from JSON"),
            "{error}"
        );
    }
}

/// Found by the model: what a later key replaces may hold a value that its type cannot have.
#[test]
fn replaced_values_of_not_null_types_leave_no_trace() {
    let element = Arc::new(Field::new("element", DataType::Int64, false));
    let inner = row(vec![Field::new("l", DataType::List(element), false)]);
    let decoded = decode(
        vec![nullable("a", map(inner))],
        &[
            r#"{"a":{"k":{"l":[null]},"k":{"l":[1]}}}"#,
            r#"{"a":{"k":{"l":null},"j":null,"k":null}}"#,
            r#"{"a":{"k":{"l":[null]}}}"#,
            r#"{"a":{"k":{},"k":{"l":[]}}}"#,
        ],
    );
    assert_eq!(
        shown_rows(&decoded, 0),
        ["{k: {l: [1]}}", "{j: , k: }", "{k: {l: []}}"]
    );
    assert_eq!(decoded.bad.len(), 1);
}
