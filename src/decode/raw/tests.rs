use super::*;
use crate::source::BlobsBuilder;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;

fn decoder_of(types: &[DataType]) -> Result<RawDecoder> {
    let fields = types
        .iter()
        .map(|t| Field::new("line", t.clone(), false))
        .collect::<Vec<_>>();
    RawDecoder::new(Arc::new(Schema::new(fields)))
}

fn payload() -> Blobs {
    let mut builder = BlobsBuilder::default();
    let records: [Option<&[u8]>; 5] = [
        Some(b"a text of more than twelve bytes"),
        None,
        Some(b"\xff"),
        Some(b""),
        Some(b"\xc3\xbc"),
    ];
    records.into_iter().for_each(|record| builder.push(record));
    builder.finish()
}

#[test]
fn strings_are_utf8_or_bad() {
    let decoded = decoder_of(&[DataType::Utf8View])
        .unwrap()
        .decode(&payload(), 0..5)
        .unwrap();
    let texts: Vec<&str> = decoded.columns[0]
        .as_string_view()
        .iter()
        .flatten()
        .collect();
    assert_eq!(texts, ["a text of more than twelve bytes", "", "ü"]);
    assert_eq!(decoded.records, Some(vec![0, 3, 4]));
    let bad = Bad {
        record: 2,
        field: Some("line".into()),
        reason: "invalid UTF-8 at byte 1".into(),
    };
    assert_eq!(decoded.bad, [bad]);
    decoded.columns[0].to_data().validate_full().unwrap();
}

#[test]
fn bytes_are_never_bad() {
    let mut decoder = decoder_of(&[DataType::Binary]).unwrap();
    for _ in 0..2 {
        let decoded = decoder.decode(&payload(), 1..5).unwrap();
        let values: Vec<&[u8]> = decoded.columns[0]
            .as_binary::<i32>()
            .iter()
            .flatten()
            .collect();
        assert_eq!(values, [&b"\xff"[..], b"", b"\xc3\xbc"]);
        assert_eq!(
            (decoded.records, decoded.bad),
            (Some(vec![2, 3, 4]), vec![])
        );
    }
}

#[test]
fn without_a_column_rows_are_counted() {
    let decoded = decoder_of(&[]).unwrap().decode(&payload(), 0..5).unwrap();
    assert_eq!(
        (decoded.rows, decoded.columns.len(), decoded.bad.len()),
        (4, 0, 0)
    );
}

#[test]
fn other_types_and_more_columns_are_refused() {
    assert!(
        decoder_of(&[DataType::Int64])
            .unwrap_err()
            .to_string()
            .contains("cannot deliver BIGINT")
    );
    assert!(decoder_of(&[DataType::Utf8View, DataType::Utf8View]).is_err());
}
