//! More open windows than `--memory` has room for.

use super::*;

const MB: u64 = 1 << 20;
const KEYS: usize = 600_000;

/// Each key is met twice, far apart. The keys are long: their state is some ten times the budget,
/// and what a run needs beside it (buffers, the program itself) does not blur the difference.
fn fill(bootstrap: &str, topic: &str) {
    client::create_topic(bootstrap, topic, 2);
    for round in 0..2 {
        for from in (0..KEYS).step_by(100_000) {
            let row = |k: usize| format!(r#"{{"k":"{k:0>300}","a":{k}}}"#);
            let rows: Vec<String> = (from..from + 100_000).map(row).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            client::produce(bootstrap, topic, round, &rows);
        }
    }
}

#[test]
fn a_budget_of_memory_is_kept_to_and_the_rows_are_the_same() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "memory-in";
    fill(&bootstrap, topic);
    let columns = "k STRING, a BIGINT, ts AS TO_TIMESTAMP_LTZ(0, 3), WATERMARK FOR ts AS ts";
    let peak = |args: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        let sql = source_sql(&bootstrap, topic, columns, "")
            + &format!(
                "CREATE TABLE o (k STRING, a BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
                results.display()
            )
            + "INSERT INTO o SELECT k, max(a), count(*) FROM TUMBLE(i, ts, INTERVAL '1' HOUR) GROUP BY window_start, window_end, k;";
        let states = folder.path().join("states").display().to_string();
        let checkpoint = ["--checkpoint", &states, "--until-end"];
        let args = [&checkpoint[..], args].concat();
        let ended = Run::start(windrow(folder.path(), &sql, &args)).end();
        ended.assert(0, &["read 1,200,000 records", "600,000 rows"]);
        let rows = file_rows(&results);
        assert!(rows.iter().all(|r| r.ends_with(r#","n":2}"#)));
        assert!(numbers(rows).into_iter().eq(0..KEYS));
        ended.peak
    };
    let (all, some) = (peak(&["--memory", "4g"]), peak(&["--memory", "64m"]));
    assert!(all > 500 * MB, "the state is small: {} MB", all / MB);
    // A quarter on a quiet machine. On a busy one half: freed memory waits for its thread to run.
    assert!(some < all * 2 / 3, "{} MB, not {}", some / MB, all / MB);
}
