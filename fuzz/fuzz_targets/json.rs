//! The input's lines are the records of one stream, three times, so that guesses have been learned. A
//! record is a row when serde_json takes it as an object and the value under `n`, if there is
//! one, is a number or `null`; `s` takes any value, strings as they are.
#![no_main]

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::Arc;
use windrow::decode::Decode;
use windrow::decode::json::{JsonDecoder, JsonOptions};
use windrow::source::BlobsBuilder;

fuzz_target!(|input: &[u8]| {
    let fields = vec![
        Field::new("s", DataType::Utf8View, true),
        Field::new("n", DataType::Float64, true),
    ];
    let records: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let records = records.repeat(3);
    let mut blobs = BlobsBuilder::default();
    records.iter().for_each(|record| blobs.push(Some(record)));
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = JsonDecoder::new(schema, JsonOptions::default()).unwrap();
    let decoded = decoder.decode(&blobs.finish(), 0..records.len()).unwrap();
    let good: Vec<Value> = records.iter().filter_map(|record| row(record)).collect();
    assert_eq!(decoded.rows, good.len());
    assert_eq!(decoded.bad.len(), records.len() - good.len());
    let strings = decoded.columns[0].as_string_view();
    let numbers = decoded.columns[1].as_primitive::<Float64Type>();
    for (i, row) in good.iter().enumerate() {
        let number = numbers.is_valid(i).then(|| numbers.value(i).to_bits());
        assert_eq!(number, row["n"].as_f64().map(f64::to_bits));
        match &row["s"] {
            Value::Null => assert!(strings.is_null(i)),
            Value::String(text) => assert_eq!(strings.value(i), text),
            other => assert_eq!(
                *other,
                serde_json::from_str::<Value>(strings.value(i)).unwrap()
            ),
        }
    }
});

fn row(record: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(record).ok()?;
    let is_number = matches!(value.get("n"), None | Some(Value::Null | Value::Number(_)));
    (value.is_object() && is_number).then_some(value)
}
