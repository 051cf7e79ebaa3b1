//! Nanoseconds per record of the decoders: `cargo bench --bench decode`.
//!
//! Records are made by a seeded generator. A batch is as long as the engine's. Quicker, and less
//! exact: `cargo bench --bench decode -- --quick`. sonic-rs has vectors only where the whole build is for
//! this processor: `RUSTFLAGS="-C target-cpu=native" cargo bench --bench decode`.

#[path = "decode/inputs.rs"]
mod inputs;
#[path = "decode/rivals.rs"]
mod rivals;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rivals::{AllTelemetry, Clicks, Rows, Telemetry};
use std::hint::black_box;
use std::sync::Arc;
use windrow::decode::Decode;
use windrow::decode::csv::{CsvDecoder, CsvOptions};
use windrow::decode::json::{JsonDecoder, JsonOptions};
use windrow::decode::raw::RawDecoder;
use windrow::decode::timestamp::parse_us;
use windrow::source::Blobs;

const RECORDS: usize = 8192;
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn click_columns() -> SchemaRef {
    schema(&[
        ("timestamp", TIMESTAMP),
        ("userid", DataType::Utf8View),
        ("page", DataType::Utf8View),
    ])
}

fn json(schema: &SchemaRef) -> Box<dyn Decode> {
    Box::new(JsonDecoder::new(Arc::clone(schema), JsonOptions::default()).expect("JSON types"))
}

/// The group of a case, with our decoder's time in it. Before, it must make so many `rows`.
fn decode<'c>(
    criterion: &'c mut Criterion,
    name: &str,
    payload: &Blobs,
    mut decoder: Box<dyn Decode>,
    rows: usize,
) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::ElementsAndBytes {
        elements: RECORDS as u64,
        bytes: payload.data.len() as u64,
    });
    group.bench_function("decode", |bencher| {
        let decoded = decoder.decode(payload, 0..RECORDS).expect("no defect");
        assert!(decoded.rows >= rows, "{name}: {:?}", decoded.bad.first());
        bencher.iter(|| black_box(decoder.decode(payload, 0..RECORDS)));
    });
    group
}

/// Steady streams, beside everybody else.
fn steady(criterion: &mut Criterion) {
    let utf8 = || DataType::Utf8View;
    let telemetry_columns = schema(&[
        ("model", utf8()),
        ("deviceid", utf8()),
        ("cpuusage", utf8()),
        ("event_time", TIMESTAMP),
    ]);
    let all_telemetry_columns = schema(&[
        ("model", utf8()),
        ("deviceid", utf8()),
        ("interface", utf8()),
        ("interfacestatus", utf8()),
        ("cpuusage", utf8()),
        ("memoryusage", utf8()),
        ("event_time", TIMESTAMP),
    ]);
    let (clicks, telemetry) = (inputs::clicks(), inputs::telemetry());
    let name = "json/clickstream 3 of 4";
    beside_all::<Clicks>(criterion, name, &clicks, &click_columns());
    let name = "json/telemetry 4 of 7";
    beside_all::<Telemetry>(criterion, name, &telemetry, &telemetry_columns);
    let name = "json/telemetry 7 of 7";
    beside_all::<AllTelemetry>(criterion, name, &telemetry, &all_telemetry_columns);
}

fn beside_all<R: Rows>(
    criterion: &mut Criterion,
    name: &str,
    payload: &Blobs,
    columns: &SchemaRef,
) {
    let mut group = decode(criterion, name, payload, json(columns), RECORDS);
    rivals::arrow_json(&mut group, payload, columns);
    rivals::serde_struct::<R>(&mut group, payload);
    rivals::simd::<R>(&mut group, payload);
    rivals::sonic::<R>(&mut group, payload);
    group.finish();
}

/// Streams that change from record to record, beside serde_json.
fn drift(criterion: &mut Criterion) {
    let cases: [(&str, Blobs); 8] = [
        ("json/clickstream shuffled", inputs::shuffled_clicks()),
        ("json/drift, two orders", inputs::two_orders()),
        ("json/drift, 10 % nulls", inputs::nulls()),
        ("json/drift, blanks", inputs::blanks()),
        ("json/drift, non-ASCII", inputs::non_ascii()),
        (
            "json/drift, 5 % escapes",
            inputs::escapes_in_one_of_twenty(),
        ),
        (
            "json/drift, 1 % of a wrong type",
            inputs::mistyped_in_one_of_hundred(),
        ),
        (
            "json/drift, 50 % tombstones",
            inputs::absent_in_one_of_two(),
        ),
    ];
    for (name, payload) in cases {
        let mut group = decode(
            criterion,
            name,
            &payload,
            json(&click_columns()),
            RECORDS / 2,
        );
        rivals::serde_struct::<Clicks>(&mut group, &payload);
        group.finish();
    }
}

/// Records that are meant to be slow. They must not be slower than serde_json.
fn adverse(criterion: &mut Criterion) {
    let cases: [(&str, Blobs); 5] = [
        ("json/long strings", inputs::long_strings()),
        ("json/deep nesting", inputs::deep_nesting()),
        ("json/wide nesting", inputs::wide_nesting()),
        ("json/escapes everywhere", inputs::escapes_everywhere()),
        ("json/rows over 2 KiB, new keys", inputs::wide_rows()),
    ];
    for (name, payload) in cases {
        let mut group = decode(criterion, name, &payload, json(&click_columns()), RECORDS);
        rivals::serde_struct::<Clicks>(&mut group, &payload);
        rivals::serde_value(&mut group, &payload);
        group.finish();
    }
}

fn others(criterion: &mut Criterion) {
    let payment_columns = schema(&[
        ("id", DataType::Int64),
        ("amount", DataType::Decimal128(10, 2)),
        ("rate", DataType::Float64),
    ]);
    let names = ["timestamp", "userid", "page", "action"].map(String::from);
    let csv = || -> Box<dyn Decode> {
        let decoder = CsvDecoder::new(&names, click_columns(), CsvOptions::default());
        Box::new(decoder.expect("CSV types"))
    };
    let line = schema(&[("line", DataType::Utf8View)]);
    let raw =
        || -> Box<dyn Decode> { Box::new(RawDecoder::new(Arc::clone(&line)).expect("one column")) };
    let name = "json/payments 3 of 4";
    let payments = inputs::payments();
    decode(criterion, name, &payments, json(&payment_columns), RECORDS).finish();
    let name = "csv/clickstream 3 of 4";
    decode(criterion, name, &inputs::csv_clicks(), csv(), RECORDS).finish();
    decode(
        criterion,
        "raw/clickstream",
        &inputs::clicks(),
        raw(),
        RECORDS,
    )
    .finish();
}

fn times(criterion: &mut Criterion) {
    let times: Vec<String> = (0..RECORDS).map(|i| inputs::time(i * 977, 'T')).collect();
    let mut group = criterion.benchmark_group("timestamp");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("parse_us", |bencher| {
        bencher.iter(|| {
            times
                .iter()
                .filter_map(|time| parse_us(black_box(time.as_bytes())))
                .sum::<i64>()
        });
    });
    group.finish();
}

criterion_group!(benches, steady, drift, adverse, others, times);
criterion_main!(benches);
