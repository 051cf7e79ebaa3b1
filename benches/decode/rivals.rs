//! What everybody else reads JSON with, on the same records and the same columns.
//!
//! arrow-json makes the same columns. The others read into a struct of borrowed text and stop
//! there: no columns, and times stay text.

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use serde::Deserialize;
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use windrow::source::Blobs;

/// Rows that a struct per record can hold.
pub trait Rows {
    type Row<'a>: Deserialize<'a>;
}

#[derive(Deserialize)]
#[serde(transparent)]
#[expect(dead_code)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

macro_rules! rows {
    ($rows:ident, $row:ident, $($field:ident),*) => {
        #[derive(Deserialize)]
        #[expect(dead_code)]
        pub struct $row<'a> {
            $(#[serde(borrow)] $field: Option<Text<'a>>,)*
        }

        pub struct $rows;

        impl Rows for $rows {
            type Row<'a> = $row<'a>;
        }
    };
}

rows!(Clicks, Click, timestamp, userid, page);
rows!(Telemetry, Device, model, deviceid, cpuusage, event_time);
rows!(
    AllTelemetry,
    AllDevice,
    model,
    deviceid,
    interface,
    interfacestatus,
    cpuusage,
    memoryusage,
    event_time
);

fn records(payload: &Blobs) -> impl Iterator<Item = &[u8]> {
    (0..payload.len()).filter_map(|i| payload.get(i))
}

pub fn serde_struct<R: Rows>(group: &mut BenchmarkGroup<'_, WallTime>, payload: &Blobs) {
    group.bench_function("serde_json struct", |bencher| {
        bencher.iter(|| {
            for record in records(payload) {
                let _ = black_box(serde_json::from_slice::<R::Row<'_>>(record));
            }
        });
    });
}

pub fn serde_value(group: &mut BenchmarkGroup<'_, WallTime>, payload: &Blobs) {
    group.bench_function("serde_json Value", |bencher| {
        bencher.iter(|| {
            for record in records(payload) {
                let _ = black_box(serde_json::from_slice::<serde_json::Value>(record));
            }
        });
    });
}

pub fn sonic<R: Rows>(group: &mut BenchmarkGroup<'_, WallTime>, payload: &Blobs) {
    group.bench_function("sonic-rs struct", |bencher| {
        bencher.iter(|| {
            for record in records(payload) {
                let _ = black_box(sonic_rs::from_slice::<R::Row<'_>>(record));
            }
        });
    });
}

/// It writes into its input: so there is a copy of each record.
pub fn simd<R: Rows>(group: &mut BenchmarkGroup<'_, WallTime>, payload: &Blobs) {
    group.bench_function("simd-json struct", |bencher| {
        let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
        bencher.iter(|| {
            for record in records(payload) {
                copy.clear();
                copy.extend_from_slice(record);
                let row: Result<R::Row<'_>, _> =
                    simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers);
                let _ = black_box(row);
            }
        });
    });
}

pub fn arrow_json(group: &mut BenchmarkGroup<'_, WallTime>, payload: &Blobs, schema: &SchemaRef) {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(payload.len())
        .build_decoder()
        .expect("JSON types");
    group.bench_function("arrow-json", |bencher| {
        bencher.iter(|| {
            for record in records(payload) {
                decoder.decode(record).expect("good records");
            }
            black_box(decoder.flush()).expect("good records")
        });
    });
}
