//! Tables of ten thousand columns.

use super::*;

const COLUMNS: usize = 10_000;
const RECORDS: usize = 60;

/// `c0 BIGINT, c1 STRING, …`: every fourth is a text.
fn columns(count: usize) -> String {
    let column = |i: usize| format!("c{i} {}", if i % 4 == 1 { "STRING" } else { "BIGINT" });
    let all: Vec<String> = (0..count).map(column).collect();
    all.join(", ")
}

fn value(record: usize, i: usize) -> serde_json::Value {
    match i % 4 {
        1 => format!("text {}", record + i).into(),
        _ => (record * i).into(),
    }
}

fn record(number: usize, count: usize) -> serde_json::Map<String, serde_json::Value> {
    (0..count)
        .map(|i| (format!("c{i}"), value(number, i)))
        .collect()
}

fn fill(bootstrap: &str, topic: &str, count: usize) {
    client::create_topic(bootstrap, topic, 1);
    let record = |number| serde_json::Value::Object(record(number, count)).to_string();
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    client::produce(bootstrap, topic, 0, &records);
}

fn rows(sql: &str) -> (Vec<serde_json::Value>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--until-end", "--format", "json"];
    let started = Instant::now();
    let ended = Run::start(windrow(folder.path(), sql, &args)).end();
    ended.assert(0, &["bad 0,"]);
    let row = |line: &str| serde_json::from_str(line).unwrap();
    (ended.stdout.lines().map(row).collect(), started.elapsed())
}

#[test]
fn some_of_ten_thousand_columns_are_read_in_reasonable_time() {
    let bootstrap = Broker::shared().bootstrap();
    fill(&bootstrap, "wide-some", COLUMNS);
    let table = source_sql(&bootstrap, "wide-some", &columns(COLUMNS), "");
    let (selected, took) = rows(&(table.clone() + "SELECT c0, c9997, c9998 FROM i WHERE c2 > 10;"));
    let expected = (6..RECORDS).map(|r| {
        serde_json::json!({"c0": value(r, 0), "c9997": value(r, 9997), "c9998": value(r, 9998)})
    });
    assert_eq!(selected, expected.collect::<Vec<_>>());
    assert!(took < Duration::from_secs(10), "{took:?}");

    let grouped = "SELECT c0, sum(c9999) AS s, count(DISTINCT c5001) AS d FROM i GROUP BY c0;";
    let (grouped, took) = rows(&(table + grouped));
    let sum: usize = (0..RECORDS).map(|r| r * 9999).sum();
    assert_eq!(
        grouped,
        [serde_json::json!({"c0": 0, "s": sum, "d": RECORDS})]
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// (`SELECT *` of ten thousand takes DataFusion's planner a quarter of a minute: README says so.)
#[test]
fn all_of_a_thousand_columns_come_out_as_they_went_in() {
    let bootstrap = Broker::shared().bootstrap();
    fill(&bootstrap, "wide-all", 1_000);
    let table = source_sql(&bootstrap, "wide-all", &columns(1_000), "");
    let (all, took) = rows(&(table + "SELECT * FROM i;"));
    let expected = (0..RECORDS).map(|r| serde_json::Value::Object(record(r, 1_000)));
    assert!(all == expected.collect::<Vec<_>>());
    assert!(took < Duration::from_secs(10), "{took:?}");
}
