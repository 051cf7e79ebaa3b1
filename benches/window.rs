//! Window aggregation of one worker: rows per second through filter, windows and groups, with
//! the merge of the closed windows. Input is decoded already; see `decode` for the rest.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use windrow::plan::{Body, Job, QueryPlan, Settings, plan_script};
use windrow::watermark::PartitionWatermark;
use windrow::window::assign::NEVER;
use windrow::window::merge::{Scope, WindowMerge};
use windrow::window::table::WindowTable;

const ROWS: usize = 200_000;
const BATCH: usize = 8192;

/// Rows of 1 ms event time each, `keys` keys, one second of disorder.
fn input(keys: usize) -> Vec<RecordBatch> {
    let mut state = 1u64;
    let mut draw = move |below: u64| {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut batches = Vec::new();
    for from in (0..ROWS).step_by(BATCH) {
        let rows = from..(from + BATCH).min(ROWS);
        let times = rows
            .clone()
            .map(|i| i as i64 * 1000 - draw(1000) as i64 * 1000);
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

/// All batches through the table, and all windows through the merge; returns result rows.
fn run(query: &QueryPlan, batches: &[RecordBatch]) -> usize {
    let Body::Windowed(plan) = &query.body else {
        panic!("a windowed query")
    };
    let assign = plan.assign();
    let mut table = WindowTable::new(assign, plan.factory(0));
    let mut merge = WindowMerge::new(assign, plan.factory(0));
    let mut watermark = PartitionWatermark::new(1_000_000);
    let mut rows = 0;
    for batch in batches {
        let prepared = plan
            .prepare(0, batch, false)
            .expect("expressions that hold");
        let late = |ts, wm| WindowTable::may_be_late(&assign, ts, wm);
        let before = watermark.observe(&prepared.times, None, late);
        table
            .update(&prepared.input, &prepared.times, &before, i64::MIN)
            .expect("an update");
        rows += close(&mut table, &mut merge, watermark.current());
    }
    rows + close(&mut table, &mut merge, NEVER)
}

fn close(table: &mut WindowTable, merge: &mut WindowMerge, watermark: i64) -> usize {
    for segment in table.ship(watermark).expect("segments") {
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

fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    group.throughput(Throughput::Elements(ROWS as u64));
    let queries = [
        (
            "tumble_10s",
            "SELECT window_start, k, count(*), sum(v) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
        ),
        (
            "hop_60s_10s",
            "SELECT window_start, k, count(*), sum(v) FROM HOP(t, ts, INTERVAL '10' SECOND, INTERVAL '60' SECOND) GROUP BY window_start, window_end, k",
        ),
    ];
    for (name, sql) in queries {
        let job = job(sql);
        for keys in [100, 50_000] {
            let batches = input(keys);
            group.bench_with_input(BenchmarkId::new(name, keys), &batches, |b, batches| {
                b.iter(|| black_box(run(&job.queries[0], batches)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, windows);
criterion_main!(benches);
