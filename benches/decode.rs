//! Nanoseconds per record of the decoders: `cargo bench --bench decode`.
//!
//! Records are made by a seeded generator. A batch is as long as the engine's.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use std::sync::Arc;
use windrow::decode::Decode;
use windrow::decode::csv::{CsvDecoder, CsvOptions};
use windrow::decode::json::{JsonDecoder, JsonOptions};
use windrow::decode::raw::RawDecoder;
use windrow::decode::timestamp::parse_us;
use windrow::source::{Blobs, BlobsBuilder};

const RECORDS: usize = 8192;
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn batch(mut record: impl FnMut(&mut StdRng, usize) -> String) -> Blobs {
    let mut random = StdRng::seed_from_u64(7);
    let mut blobs = BlobsBuilder::default();
    (0..RECORDS).for_each(|i| blobs.push(Some(record(&mut random, i).as_bytes())));
    blobs.finish()
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// `i` counts tenths of seconds.
fn time(i: usize, separator: char) -> String {
    let seconds = i / 10;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("2022-01-01{separator}{hour:02}:{minute:02}:{second:02}")
}

struct Click {
    time: String,
    user: u32,
    page: u32,
    action: &'static str,
}

fn click(random: &mut StdRng, i: usize) -> Click {
    Click {
        time: time(i, 'T'),
        user: random.random_range(0..1000),
        page: random.random_range(0..500),
        action: ["view", "add_to_cart", "purchase"][random.random_range(0..3)],
    }
}

fn clicks() -> Blobs {
    batch(|random, i| {
        let Click {
            time,
            user,
            page,
            action,
        } = click(random, i);
        format!(
            r#"{{"timestamp":"{time}","userid":"user_{user}","page":"/product{page}","action":"{action}"}}"#
        )
    })
}

/// The members of each object in an order of its own.
fn shuffled_clicks() -> Blobs {
    batch(|random, i| {
        let Click {
            time,
            user,
            page,
            action,
        } = click(random, i);
        let mut members = [
            format!(r#""timestamp":"{time}""#),
            format!(r#""userid":"user_{user}""#),
            format!(r#""page":"/product{page}""#),
            format!(r#""action":"{action}""#),
        ];
        (1..4).for_each(|last| members.swap(last, random.random_range(0..=last)));
        format!("{{{}}}", members.join(","))
    })
}

fn csv_clicks() -> Blobs {
    batch(|random, i| {
        let Click {
            time,
            user,
            page,
            action,
        } = click(random, i);
        format!("{time},user_{user},/product{page},{action}")
    })
}

fn telemetry() -> Blobs {
    batch(|random, i| {
        let model = ["ncs-5500", "asr-9000", "mx-480"][random.random_range(0..3)];
        let status = if random.random_range(0..10) == 0 {
            "down"
        } else {
            "up"
        };
        let (cpu, memory) = (
            random.random_range(0..10_000),
            random.random_range(0..10_000),
        );
        format!(
            r#"{{"model":"{model}","deviceid":"device-{}","interface":"GigabitEthernet0/0/{}","interfacestatus":"{status}","cpuusage":"{}.{:02}","memoryusage":"{}.{:02}","event_time":"{}.{:03}"}}"#,
            random.random_range(0..200),
            random.random_range(0..48),
            cpu / 100,
            cpu % 100,
            memory / 100,
            memory % 100,
            time(i, ' '),
            random.random_range(0..1000),
        )
    })
}

/// Every record has numbers that need their text again.
fn payments() -> Blobs {
    batch(|random, i| {
        format!(
            r#"{{"id":{i},"amount":{}.{:02},"rate":{}.5,"paid":true}}"#,
            random.random_range(0..100_000),
            random.random_range(0..100),
            random.random_range(0..1000),
        )
    })
}

fn benches(criterion: &mut Criterion) {
    let utf8 = || DataType::Utf8View;
    let click_columns = schema(&[
        ("timestamp", TIMESTAMP),
        ("userid", utf8()),
        ("page", utf8()),
    ]);
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
    let payment_columns = schema(&[
        ("id", DataType::Int64),
        ("amount", DataType::Decimal128(10, 2)),
        ("rate", DataType::Float64),
    ]);
    let json = |schema: &SchemaRef| -> Box<dyn Decode> {
        Box::new(JsonDecoder::new(Arc::clone(schema), JsonOptions::default()).expect("JSON types"))
    };
    let names = ["timestamp", "userid", "page", "action"].map(String::from);
    let csv = CsvDecoder::new(&names, Arc::clone(&click_columns), CsvOptions::default());
    let raw = RawDecoder::new(schema(&[("line", utf8())]));
    let cases: [(&str, Blobs, Box<dyn Decode>); 7] = [
        ("json/clickstream 3 of 4", clicks(), json(&click_columns)),
        (
            "json/clickstream shuffled",
            shuffled_clicks(),
            json(&click_columns),
        ),
        (
            "json/telemetry 4 of 7",
            telemetry(),
            json(&telemetry_columns),
        ),
        (
            "json/telemetry 7 of 7",
            telemetry(),
            json(&all_telemetry_columns),
        ),
        ("json/payments 3 of 4", payments(), json(&payment_columns)),
        (
            "csv/clickstream 3 of 4",
            csv_clicks(),
            Box::new(csv.expect("CSV types")),
        ),
        (
            "raw/clickstream",
            clicks(),
            Box::new(raw.expect("one column")),
        ),
    ];
    for (name, payload, mut decoder) in cases {
        let check = decoder.decode(&payload, 0..RECORDS).expect("no defect");
        assert_eq!((check.rows, check.bad), (RECORDS, vec![]), "{name}");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::ElementsAndBytes {
            elements: RECORDS as u64,
            bytes: payload.data.len() as u64,
        });
        group.bench_function("decode", |bencher| {
            bencher.iter(|| black_box(decoder.decode(&payload, 0..RECORDS)));
        });
        group.finish();
    }

    let times: Vec<String> = (0..RECORDS).map(|i| time(i * 977, 'T')).collect();
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

criterion_group!(decode, benches);
criterion_main!(decode);
