//! Windows over partitions: late and future rows, and results that do not depend on the workers.

use super::*;
use crate::support::Broker;

const SIZE_MS: i64 = 10_000;
const DELAY_MS: i64 = 5_000;
const AHEAD_MS: i64 = 3_600_000;
const PARTITIONS: i32 = 4;
const ROWS: i64 = 1500;
/// 2024-01-01 00:00:00
const START_MS: i64 = 1_704_067_200_000;

/// Event time, record time and key of each row of a partition: jitter of up to 20 s backwards,
/// and now and then a clock that is hours ahead.
fn rows(partition: i32) -> Vec<(i64, i64, i64)> {
    let mut state = 77 + partition as u64;
    let mut random = |n: i64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as i64) % n
    };
    let row = |i: i64| {
        let record_ms = START_MS + i * 250;
        let event_ms = match random(100) {
            0 => record_ms + AHEAD_MS + 1 + random(1_000_000),
            // Just not in the future.
            1 if i % 500 == 499 => record_ms + AHEAD_MS,
            2..20 => record_ms - random(20_000),
            _ => record_ms,
        };
        (event_ms, record_ms, random(3))
    };
    (0..ROWS).map(row).collect()
}

/// The rules of the dialect, once more: (window start, key) → count, late rows, future rows.
fn model() -> (BTreeMap<(i64, i64), i64>, u64, u64) {
    let (mut counts, mut late, mut future) = (BTreeMap::new(), 0, 0);
    for p in 0..PARTITIONS {
        let mut watermark = i64::MIN;
        for (event_ms, record_ms, key) in rows(p) {
            let start = event_ms.div_euclid(SIZE_MS) * SIZE_MS;
            if start + SIZE_MS <= watermark {
                late += 1;
            } else {
                *counts.entry((start, key)).or_default() += 1;
            }
            if event_ms > record_ms + AHEAD_MS {
                future += 1;
            } else {
                watermark = watermark.max(event_ms - DELAY_MS);
            }
        }
    }
    (counts, late, future)
}

fn time(ms: i64) -> String {
    windrow::time::format_us(ms * 1000)
}

#[test]
fn late_and_future_rows_are_the_same_with_any_workers() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "running-in", PARTITIONS);
    for p in 0..PARTITIONS {
        let values: Vec<(String, i64)> = rows(p)
            .into_iter()
            .map(|(event, record, key)| {
                (format!(r#"{{"k":{key},"ts":"{}"}}"#, time(event)), record)
            })
            .collect();
        let records: Vec<_> = values
            .iter()
            .map(|(v, t)| (None, Some(v.as_str()), Some(*t)))
            .collect();
        client::produce_records(&bootstrap, "running-in", p, &records);
    }
    let (counts, late, future) = model();
    assert!(
        late > 20 && future > 20,
        "the data hold what is tested: {late} late, {future} future"
    );
    let mut wanted: Vec<String> = counts
        .iter()
        .map(|((start, key), n)| {
            format!(r#"{{"window_start":"{}","k":{key},"n":{n}}}"#, time(*start))
        })
        .collect();
    wanted.sort();

    for workers in [1, 2, 4] {
        let letters = format!("running-late-{workers}");
        client::create_topic(&bootstrap, &letters, 1);
        let columns = "k BIGINT, ts TIMESTAMP(3), p INT METADATA FROM 'partition' VIRTUAL, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND";
        let sql = source_sql(
            "i",
            "running-in",
            columns,
            ", 'scan.watermark.max-ahead' = '1 h', 'late.table' = 'late'",
        ) + &sink_sql("late", &letters, "k BIGINT, ts TIMESTAMP(3)", "")
            + "SELECT window_start, k, count(*) AS n FROM TABLE(TUMBLE(TABLE i, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k;";
        let (summary, text) = run_with(&bootstrap, &sql, workers, Arc::default()).unwrap();
        let mut printed: Vec<String> = text.lines().map(str::to_string).collect();
        printed.sort();
        assert!(
            printed == wanted,
            "{workers} workers: {} rows, not {}: {:?} … and not {:?}",
            printed.len(),
            wanted.len(),
            printed.first(),
            wanted.first()
        );
        assert_eq!(
            (
                summary.queries[0].late,
                summary.stats.late(),
                summary.stats.future()
            ),
            (late, late, future),
            "{workers} workers"
        );
        assert_eq!(
            summary.stats.records(),
            (i64::from(PARTITIONS) * ROWS) as u64
        );
        assert_eq!(
            client::read_all(&bootstrap, &letters).len() as u64,
            late,
            "rows of the late table"
        );
    }
}

/// A partition that is added while a query runs is read by one of its workers.
#[test]
fn a_running_query_takes_up_a_new_partition() {
    use rdkafka::admin::NewPartitions;
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "running-grows", 1);
    client::create_topic(&bootstrap, "running-grown", 1);
    client::produce(&bootstrap, "running-grows", 0, &[r#"{"a":0}"#]);
    let sql = source_sql(
        "i",
        "running-grows",
        "a INT",
        ", 'scan.topic-partition-discovery.interval' = '100 ms'",
    )
    .replace("'scan.bounded.mode' = 'latest-offset', ", "")
        + &sink_sql("o", "running-grown", "a INT", "")
        + "SET 'trigger' = '100 ms'; INSERT INTO o SELECT a FROM i;";
    let stop: Arc<AtomicBool> = Arc::default();
    let wait_for = |count: usize| {
        let started = Instant::now();
        while read_records(&bootstrap, "running-grown").len() < count {
            assert!(started.elapsed() < PATIENCE, "{count} records");
        }
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| run_with(&bootstrap, &sql, 2, stop.clone()));
        wait_for(1);
        let (admin, options) = admin(&bootstrap);
        assert!(
            block_on(admin.create_partitions(&[NewPartitions::new("running-grows", 3)], &options))
                .unwrap()[0]
                .is_ok()
        );
        for p in 0..3 {
            client::produce(
                &bootstrap,
                "running-grows",
                p,
                &[&format!(r#"{{"a":{}}}"#, p + 1)],
            );
        }
        wait_for(4);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        run.join().unwrap().unwrap();
    });
    let mut values: Vec<String> = client::read_all(&bootstrap, "running-grown")
        .into_iter()
        .map(|(_, v)| v)
        .collect();
    values.sort();
    assert_eq!(values, [0, 1, 2, 3].map(|a| format!(r#"{{"a":{a}}}"#)));
}
