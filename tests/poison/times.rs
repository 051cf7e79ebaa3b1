//! Event times that nobody meant, and clocks that step back.

use super::*;
use crate::support::wire::{batch_at, produce_batch, record_around};

const DAY_MS: i64 = 86_400_000;
/// 2024-01-01 00:00:00
const START_MS: i64 = 1_704_067_200_000;
const WINDOWS: &str = "SELECT window_start AS s, count(*) AS n FROM TUMBLE(i, ts, INTERVAL '10' SECOND) \
                       GROUP BY window_start, window_end;";

fn run(sql: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--until-end", "--format", "json"];
    Run::start(windrow(folder.path(), sql, &args)).end()
}

fn windows(ended: &Ended) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (
            row["s"].as_str().unwrap().to_string(),
            row["n"].as_u64().unwrap(),
        )
    };
    ended.stdout.lines().map(row).collect()
}

/// Records with their timestamps.
fn produce_at(bootstrap: &str, topic: &str, rows: impl Iterator<Item = (String, i64)>) {
    let rows: Vec<(String, i64)> = rows.collect();
    let records: Vec<_> = rows
        .iter()
        .map(|(r, ms)| (None, Some(&**r), Some(*ms)))
        .collect();
    client::produce_records(bootstrap, topic, 0, &records);
}

/// (event time, timestamp of the record) of each row, and what becomes of them.
fn epochs(topic: &str, rows: &[(i64, i64)], said: &str, expected: &[(&str, u64)]) {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, topic, 1);
    let rows = rows.iter().map(|(e, ms)| (format!(r#"{{"e":{e}}}"#), *ms));
    produce_at(&bootstrap, topic, rows);
    let columns =
        "e BIGINT, ts AS TO_TIMESTAMP_LTZ(e, 3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND";
    for client in CLIENTS {
        let options = format!(", 'source.client' = '{client}'");
        let ended = run(&(source_sql(&bootstrap, topic, columns, &options) + WINDOWS));
        ended.assert(0, &[said]);
        let expected: Vec<_> = expected.iter().map(|(s, n)| (s.to_string(), *n)).collect();
        assert_eq!(windows(&ended), expected, "{}", ended.stderr);
    }
}

/// The watermark stays where the other rows put it: no window closes early.
#[test]
fn rows_of_the_far_future_make_nothing_late() {
    let year_9999 = 253_402_300_799_999;
    epochs(
        "times-future",
        &[
            (START_MS, START_MS),
            (year_9999, START_MS),
            (START_MS + 1_000, START_MS),
            // Just beyond the bound, and just within: the last moves the watermark by a day.
            (START_MS + DAY_MS + 1, START_MS),
            (START_MS + 2_000, START_MS),
            (START_MS + DAY_MS, START_MS),
            (START_MS + 3_000, START_MS),
        ],
        "late 1, bad 0, future 2",
        &[
            ("2024-01-01 00:00:00", 3),
            ("2024-01-02 00:00:00", 2),
            ("9999-12-31 23:59:50", 1),
        ],
    );
}

#[test]
fn times_that_no_calendar_has_are_bad_records() {
    let year_0 = -62_167_219_200_000;
    let mut rows = vec![(year_0, 0), (-1, 0), (0, 0), (START_MS, START_MS)];
    // Milliseconds that are no microseconds, and microseconds without room for a window.
    let wild = [
        i64::MIN,
        i64::MAX,
        i64::MIN / 1000,
        i64::MAX / 1000,
        i64::MAX / 1001,
    ];
    rows.extend(wild.map(|e| (e, START_MS)));
    rows.push((START_MS + 1, START_MS));
    epochs(
        "times-wild",
        &rows,
        "late 0, bad 5, future 0",
        &[
            ("0000-01-01 00:00:00", 1),
            ("1969-12-31 23:59:50", 1),
            ("1970-01-01 00:00:00", 1),
            ("2024-01-01 00:00:00", 2),
        ],
    );
}

#[test]
fn texts_of_times_are_read_or_bad() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "times-texts";
    client::create_topic(&bootstrap, topic, 1);
    let good = [
        ("0000-01-01 00:00:00", "0000-01-01 00:00:00", 0),
        ("0001-01-01T00:00:09Z", "0001-01-01 00:00:00", 0),
        // Where nanoseconds since 1970 begin and end in an i64.
        ("1677-09-21 00:12:43", "1677-09-21 00:12:40", 0),
        ("1969-12-31 23:59:59.999", "1969-12-31 23:59:50", 0),
        (
            "2262-04-12 00:00:00",
            "2262-04-12 00:00:00",
            9_223_372_800_000,
        ),
        (
            "9999-12-31 23:59:59.999",
            "9999-12-31 23:59:50",
            253_402_300_799_999,
        ),
    ];
    let bad = [
        "+10000-01-01 00:00:00",
        "10000-01-01 00:00:00",
        "-0001-01-01 00:00:00",
        "+999999999-01-01 00:00:00",
        "2024-02-30 00:00:00",
        "2024-01-01 24:00:01",
        "2024-13-01 00:00:00",
        "",
    ];
    let bad = bad.iter().map(|text| (*text, 0));
    let texts: Vec<(&str, i64)> = bad.chain(good.iter().map(|g| (g.0, g.2))).collect();
    let rows = texts
        .iter()
        .map(|(t, ms)| (format!(r#"{{"ts":"{t}"}}"#), *ms));
    produce_at(&bootstrap, topic, rows);
    let columns = "ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND";
    let ended = run(&(source_sql(&bootstrap, topic, columns, "") + WINDOWS));
    ended.assert(0, &["late 0, bad 8, future 0"]);
    let expected: Vec<_> = good.iter().map(|g| (g.1.to_string(), 1)).collect();
    assert_eq!(windows(&ended), expected, "{}", ended.stderr);
}

/// The record's own timestamp as event time, and one that is beyond microseconds.
#[test]
fn a_record_from_the_end_of_time_is_a_bad_record() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "times-records";
    client::create_topic(&bootstrap, topic, 1);
    let (head, tail) = record_around(2);
    let record = [&head[..], b"{}", &tail].concat();
    for ms in [START_MS, i64::MAX, i64::MAX / 1000, START_MS + 1] {
        let code = produce_batch(&bootstrap, topic, &batch_at(ms, 0, &record));
        assert_eq!(code, 0, "{ms}");
    }
    let columns = "ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR ts AS ts";
    for client in CLIENTS {
        let options = format!(", 'source.client' = '{client}'");
        let ended = run(&(source_sql(&bootstrap, topic, columns, &options) + WINDOWS));
        ended.assert(0, &["late 0, bad 2, future 0"]);
        assert_eq!(windows(&ended), [("2024-01-01 00:00:00".to_string(), 2)]);
    }
}

mod stepping {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
    use windrow::plan::{Settings, plan_script};
    use windrow::run::stats::Stats;
    use windrow::run::{Observer, RunOptions, RunningJob};
    use windrow::time::{Clock, SystemClock};

    /// The machine's clock; but whoever asks for the date finds it a minute before the last time.
    struct Stepping {
        clock: SystemClock,
        wall_us: AtomicI64,
    }

    impl Clock for Stepping {
        fn now(&self) -> Duration {
            self.clock.now()
        }

        fn wall_us(&self) -> i64 {
            self.wall_us.fetch_sub(60_000_000, Relaxed)
        }
    }

    /// Stops the run when so many checkpoints and rows are there.
    struct Until(Arc<AtomicBool>, u64, u64);

    impl Observer for Until {
        fn observe(&mut self, stats: &Stats, _: &RunningJob) {
            if stats.checkpointed.load(Relaxed) >= self.1 && stats.written() >= self.2 {
                self.0.store(true, Relaxed);
            }
        }

        fn waiting(&mut self, _: &str) {}
    }

    /// Triggers, idle time-outs and checkpoints go by the time that never goes back, and the newest
    /// checkpoint is that of the largest number, whatever its date.
    #[test]
    fn a_date_that_goes_backwards_changes_nothing() {
        let bootstrap = Broker::shared().bootstrap();
        let topic = "times-stepping";
        client::create_topic(&bootstrap, topic, 2);
        produce(&bootstrap, topic, 0..50);
        let folder = tempfile::tempdir().unwrap();
        let states = folder.path().join("states");
        let columns = "a BIGINT, ts AS TO_TIMESTAMP_LTZ(a * 1000, 3), WATERMARK FOR ts AS ts";
        let sql = "SET 'execution.checkpointing.interval' = '100 ms';\n".to_string()
            + &source_sql(
                &bootstrap,
                topic,
                columns,
                ", 'scan.watermark.idle-timeout' = '200 ms'",
            )
            + WINDOWS;
        let settings = Settings {
            checkpoint_dir: Some(states.display().to_string()),
            ..Settings::default()
        };
        let run = |checkpoints: u64, rows: u64| {
            let job = plan_script(&sql, &|_| None, &settings).unwrap();
            let stop: Arc<AtomicBool> = Arc::default();
            let clock = Stepping {
                clock: SystemClock::new(),
                wall_us: AtomicI64::new(START_MS * 1000),
            };
            let options = RunOptions {
                format: windrow::run::sinks::Format::Json,
                output: Arc::new(|| Box::new(std::io::sink())),
                clock: Arc::new(clock),
                stop: stop.clone(),
            };
            let started = Instant::now();
            let summary =
                windrow::run::run(job, &options, &mut Until(stop, checkpoints, rows)).unwrap();
            assert!(started.elapsed() < PATIENCE / 3, "{:?}", started.elapsed());
            (summary.stats.records(), summary.stats.written())
        };
        // Partition 1 is idle: four windows of 50 seconds are final without it.
        assert_eq!(run(3, 4), (50, 4));
        produce(&bootstrap, topic, 50..100);
        assert_eq!(run(6, 5), (50, 5));
    }
}
