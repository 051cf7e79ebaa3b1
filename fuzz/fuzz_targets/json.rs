//! The input's lines are the records of one stream, three times, so that guesses have been learned. A
//! record is a row when serde_json takes it as an object and what stands under `n` and `t`, if
//! anything, is a number and a time or `null`; `s` takes any value, strings as they are.
#![no_main]

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Field, Float64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::Arc;
use windrow::decode::Decode;
use windrow::decode::json::{JsonDecoder, JsonOptions};
use windrow::decode::timestamp::parse_us;
use windrow::source::BlobsBuilder;

fuzz_target!(|input: &[u8]| {
    let fields = vec![
        Field::new("s", DataType::Utf8View, true),
        Field::new("n", DataType::Float64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
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
    let times = decoded.columns[2].as_primitive::<TimestampMicrosecondType>();
    for (i, row) in good.iter().enumerate() {
        let time = times.is_valid(i).then(|| times.value(i));
        assert_eq!(time, row["t"].as_str().and_then(|text| parse_us(text.as_bytes())));
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
    let is_time = match value.get("t") {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => parse_us(text.as_bytes()).is_some(),
        Some(_) => false,
    };
    (value.is_object() && is_number && is_time).then_some(value)
}
