//! `--memory`: what can be divided goes to disk and stays exact; what cannot ends with an error that
//! names the keys which need the memory.

use std::fmt::Write;
use std::process::{Command, Output};

const ROWS: u64 = 300_000;

/// Runs a query over rows of two keys, `big` with nearly all of the values.
fn run(memory: &str, query: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for i in 0..ROWS {
        let key = if i % 1000 == 0 { "small" } else { "big" };
        writeln!(
            rows,
            r#"{{"ts":"2022-01-01 00:00:01","k":"{key}","v":{i}}}"#
        )
        .unwrap();
    }
    let path = dir.path().join("rows.ndjson");
    std::fs::write(&path, rows).unwrap();
    let table = format!(
        "CREATE TABLE t (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
        path.display()
    );
    let file = dir.path().join("q.sql");
    std::fs::write(&file, table + query).unwrap();
    Command::new(env!("CARGO_BIN_EXE_windrow"))
        .args(["run", file.to_str().unwrap(), "--format", "json"])
        .args(["--memory", memory])
        .output()
        .unwrap()
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the error says that a run ends with which has too little memory.
fn refused(query: &str) -> String {
    let out = run("4mb", query);
    assert_eq!(out.status.code(), Some(1), "{}", message(&out));
    assert!(out.stdout.is_empty());
    message(&out)
}

#[test]
fn many_groups_go_to_disk() {
    let out = run(
        "2mb",
        "SELECT window_start, v, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, v;",
    );
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    let rows = String::from_utf8(out.stdout).unwrap();
    let mut seen = vec![false; ROWS as usize];
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(row["c"], 1);
        let v = row["v"].as_u64().unwrap() as usize;
        assert!(!std::mem::replace(&mut seen[v], true), "{v} came twice");
    }
    assert!(seen.into_iter().all(|seen| seen));
}

#[test]
fn one_group_that_is_too_large_is_named() {
    let query = "SELECT window_start, k, count(DISTINCT v) AS c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k;";
    let text = refused(query);
    let expected = "the window from 2022-01-01 00:00:00 to 2022-01-01 00:00:10 needs ";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("largest keys: big ("), "{text}");
    assert!(text.contains("hint: raise --memory"), "{text}");

    let out = run("1g", query);
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    let rows = String::from_utf8(out.stdout).unwrap();
    assert!(rows.contains(r#""k":"big","c":299700"#), "{rows}");
}

#[test]
fn an_aggregate_without_keys_that_is_too_large_is_an_error() {
    let text = refused(
        "SELECT window_start, count(DISTINCT v) AS c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end;",
    );
    assert!(text.contains("of state, more than the "), "{text}");
}

#[test]
fn a_plan_that_needs_a_whole_window_says_so() {
    let text = refused(
        "SELECT * FROM (SELECT window_start, v, count(*) AS c, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY count(*) DESC, v) AS r FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, v) WHERE r <= 3;",
    );
    assert!(text.contains("(all of it at once) needs "), "{text}");
    assert!(text.contains("hint: raise --memory"), "{text}");
}
