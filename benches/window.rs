//! Window aggregation of one worker: rows per second through filter, windows and groups, with
//! the merge of the closed windows. Input is decoded already; see `decode` for the rest.
//! And the merge alone: result rows per second by the number of panes that a window has. And the text
//! keys alone, beside DataFusion's.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use std::hint::black_box;
use std::sync::Arc;
use windrow::plan::{Body, Job, QueryPlan, Settings, plan_script};
use windrow::watermark::PartitionWatermark;
use windrow::window::Segment;
use windrow::window::assign::NEVER;
use windrow::window::keys::TextKeys;
use windrow::window::merge::{Scope, WindowMerge};
use windrow::window::table::WindowTable;

const ROWS: usize = 200_000;
const BATCH: usize = 8192;

/// Rows of `apart` ms of event time each, `keys` keys, one second of disorder.
fn input(count: usize, apart: i64, keys: usize) -> Vec<RecordBatch> {
    let mut state = 1u64;
    let mut draw = move |below: u64| {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut batches = Vec::new();
    for from in (0..count).step_by(BATCH) {
        let rows = from..(from + BATCH).min(count);
        let times = rows
            .clone()
            .map(|i| i as i64 * apart * 1000 - draw(1000) as i64 * 1000);
        let times: TimestampMicrosecondArray = times.map(Some).collect();
        let names: Vec<String> = rows
            .clone()
            .map(|_| format!("key{}", draw(keys as u64)))
            .collect();
        let values: Int64Array = rows.map(|_| Some(draw(100) as i64)).collect();
        let batch = RecordBatch::try_from_iter(vec![
            ("ts", Arc::new(times) as ArrayRef),
            (
                "k",
                Arc::new(StringViewArray::from_iter_values(names)) as ArrayRef,
            ),
            ("v", Arc::new(values) as ArrayRef),
        ]);
        batches.push(batch.expect("columns of one length"));
    }
    batches
}

fn job(query: &str) -> Job {
    let script = format!(
        "CREATE TABLE t (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
         WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json'); {query}"
    );
    plan_script(&script, &|_| None, &Settings::default()).expect("a query that plans")
}

/// All batches through the table; `ship` gets the segments with each watermark.
fn aggregate(query: &QueryPlan, batches: &[RecordBatch], mut ship: impl FnMut(Vec<Segment>, i64)) {
    let Body::Windowed(plan) = &query.body else {
        panic!("a windowed query")
    };
    let assign = plan.assign();
    let mut table = WindowTable::new(assign, plan.factory(0));
    let mut watermark = PartitionWatermark::new(1_000_000, windrow::watermark::NONE);
    for batch in batches {
        let prepared = plan
            .prepare(0, batch, false)
            .expect("expressions that hold");
        let late = |ts, wm| assign.may_be_behind(ts, wm);
        let before = watermark.observe(&prepared.times, None, late);
        table
            .update(&prepared.input, &prepared.times, &before, i64::MIN)
            .expect("an update");
        let watermark = watermark.current();
        ship(table.ship(watermark).expect("segments"), watermark);
    }
    ship(table.ship(NEVER).expect("segments"), NEVER);
}

fn merge_of(query: &QueryPlan) -> WindowMerge {
    let Body::Windowed(plan) = &query.body else {
        panic!("a windowed query")
    };
    WindowMerge::new(plan.assign(), plan.factory(0))
}

/// Takes segments, returns the number of result rows of the windows that close.
fn close(merge: &mut WindowMerge, segments: Vec<Segment>, watermark: i64) -> usize {
    for segment in segments {
        merge.absorb(segment).expect("a merge");
    }
    let mut rows = 0;
    for end in merge.due(watermark) {
        let result = merge.evaluate(end, Scope::All).expect("a result");
        rows += result.map_or(0, |r| r.batch.num_rows());
    }
    merge.finalise(watermark);
    rows
}

/// Table and merge; returns result rows.
fn run(query: &QueryPlan, batches: &[RecordBatch]) -> usize {
    let mut merge = merge_of(query);
    let mut rows = 0;
    aggregate(query, batches, |segments, watermark| {
        rows += close(&mut merge, segments, watermark);
    });
    rows
}

fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    group.throughput(Throughput::Elements(ROWS as u64));
    let queries = [
        (
            "tumble_10s",
            "SELECT window_start, k, count(*), sum(v) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
        ),
        (
            "tumble_60s",
            "SELECT window_start, k, count(*), sum(v) FROM TUMBLE(t, ts, INTERVAL '60' SECOND) GROUP BY window_start, window_end, k",
        ),
        (
            "hop_60s_1s",
            "SELECT window_start, k, count(*), sum(v) FROM HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '60' SECOND) GROUP BY window_start, window_end, k",
        ),
        (
            "hop_60s_10s",
            "SELECT window_start, k, count(*), sum(v) FROM HOP(t, ts, INTERVAL '10' SECOND, INTERVAL '60' SECOND) GROUP BY window_start, window_end, k",
        ),
        (
            "tumble_60s_distinct",
            "SELECT window_start, v, count(DISTINCT k) FROM TUMBLE(t, ts, INTERVAL '60' SECOND) GROUP BY window_start, window_end, v",
        ),
        (
            "hop_60s_1s_distinct",
            "SELECT window_start, v, count(DISTINCT k) FROM HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '60' SECOND) GROUP BY window_start, window_end, v",
        ),
    ];
    for (name, sql) in queries {
        let job = job(sql);
        for keys in [100, 50_000] {
            let batches = input(ROWS, 1, keys);
            group.bench_with_input(BenchmarkId::new(name, keys), &batches, |b, batches| {
                b.iter(|| black_box(run(&job.queries[0], batches)));
            });
        }
    }
    group.finish();
}

/// Two hours of 100 rows a second: what a result row costs by the number of panes it comes from.
fn merges(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    let batches = input(720_000, 10, 100);
    for panes in [1, 6, 60, 3600] {
        let job = job(&format!(
            "SELECT window_start, k, count(*), sum(v) FROM HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '{panes}' SECOND) GROUP BY window_start, window_end, k"
        ));
        let query = &job.queries[0];
        let mut shipped = Vec::new();
        aggregate(query, &batches, |segments, watermark| {
            shipped.push((segments, watermark));
        });
        let run = || {
            let mut merge = merge_of(query);
            let close = |(segments, watermark): &(Vec<Segment>, i64)| {
                close(&mut merge, segments.clone(), *watermark)
            };
            shipped.iter().map(close).sum::<usize>()
        };
        group.throughput(Throughput::Elements(run() as u64));
        group.bench_function(BenchmarkId::new("panes", panes), |b| {
            b.iter(|| black_box(run()));
        });
    }
    group.finish();
}

/// A million texts to ids, short ones and long ones, of few keys and of as many as rows.
fn keys(c: &mut Criterion) {
    const COUNT: u64 = 1_000_000;
    let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8View, true)]));
    let mut group = c.benchmark_group("keys");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(COUNT));
    for (name, prefix) in [("short", "k"), ("long", "a-longer-key-")] {
        for distinct in [300, 20_000, COUNT] {
            let texts: Vec<String> = (0..COUNT)
                .map(|i| format!("{prefix}{}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40))
                .collect();
            let text = |i: u64| &texts[(i * 7919 % distinct) as usize];
            let batches: Vec<ArrayRef> = (0..COUNT)
                .step_by(BATCH)
                .map(|from| (from..(from + BATCH as u64).min(COUNT)).map(text))
                .map(|texts| Arc::new(StringViewArray::from_iter_values(texts)) as ArrayRef)
                .collect();
            let mut ids = Vec::new();
            group.bench_function(format!("{name}/{distinct}/windrow"), |b| {
                b.iter(|| {
                    let mut keys = TextKeys::default();
                    for batch in &batches {
                        let texts = batch.as_any().downcast_ref().expect("a view array");
                        keys.intern(texts, &mut ids);
                    }
                    keys.len()
                });
            });
            group.bench_function(format!("{name}/{distinct}/DataFusion"), |b| {
                b.iter(|| {
                    let keys = new_group_values(schema.clone(), &GroupOrdering::None);
                    let mut keys: Box<dyn GroupValues> = keys.expect("text keys");
                    for batch in &batches {
                        keys.intern(std::slice::from_ref(batch), &mut ids)
                            .expect("ids");
                    }
                    keys.len()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, windows, merges, keys);
criterion_main!(benches);
