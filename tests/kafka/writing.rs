//! `KafkaSink` and dead letters, through whole runs from topic to topic.

use super::*;
use crate::support::Broker;
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

const CLICKS: &str = "name STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts";

/// Two windows of ten seconds over two partitions.
fn clicks(bootstrap: &str, topic: &str) {
    client::create_topic(bootstrap, topic, 2);
    let click = |name: &str, n: i64, second: u32| {
        format!(r#"{{"name":"{name}","n":{n},"ts":"2024-01-01 00:00:{second:02}"}}"#)
    };
    let rows = [
        vec![click("ann", 1, 1), click("bob", 2, 2), click("ann", 3, 12)],
        vec![
            click("ann", 10, 3),
            click("bob", 20, 11),
            click("bob", 30, 19),
        ],
    ];
    for (p, rows) in rows.iter().enumerate() {
        client::produce(
            bootstrap,
            topic,
            p as i32,
            &rows.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn windows_from_topic_to_topic() {
    let bootstrap = Broker::shared().bootstrap();
    clicks(&bootstrap, "writing-in");
    client::create_topic(&bootstrap, "writing-out", 3);
    let sink = "name STRING, window_end TIMESTAMP(3), total BIGINT, at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'";
    let sql = source_sql("clicks", "writing-in", CLICKS, "")
        + &sink_sql(
            "totals",
            "writing-out",
            sink,
            ", 'key.format' = 'raw', 'key.fields' = 'name'",
        )
        + "INSERT INTO totals SELECT name, window_end, sum(n), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
           GROUP BY name, window_start, window_end;";
    let summary = run_sql(&bootstrap, &sql).unwrap();
    assert_eq!((summary.queries[0].rows, summary.queries[0].late), (4, 0));
    assert!(
        summary.queries[0].sink.contains("topic writing-out"),
        "{}",
        summary.queries[0].sink
    );

    let records = read_records(&bootstrap, "writing-out");
    let mut rows: Vec<_> = records
        .iter()
        .map(|r| (r.key.clone().unwrap(), r.json(), r.timestamp_ms))
        .collect();
    rows.sort_by_key(|(key, _, at)| (key.clone(), *at));
    // 2024-01-01 00:00:00
    let start = 1_704_067_200_000;
    let row = |name: &str, second: i64, total: i64| {
        let end = format!("2024-01-01 00:00:{:02}", second + 10);
        (
            name.to_string(),
            json!({"name": name, "window_end": end, "total": total}),
            start + 1000 * second,
        )
    };
    assert_eq!(
        rows,
        [
            row("ann", 0, 11),
            row("ann", 10, 3),
            row("bob", 0, 2),
            row("bob", 10, 50)
        ]
    );
    for name in ["ann", "bob"] {
        let places: BTreeSet<i32> = records
            .iter()
            .filter(|r| r.key.as_deref() == Some(name))
            .map(|r| r.partition)
            .collect();
        assert_eq!(places.len(), 1, "{name} is in {places:?}");
    }
}

/// The partitions are those of the Java client's murmur2: its own test vectors, modulo 4.
#[test]
fn keys_go_where_the_java_client_puts_them() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "writing-murmur-in", 1);
    client::create_topic(&bootstrap, "writing-murmur-out", 4);
    let vectors = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
    ];
    let rows: Vec<String> = vectors
        .iter()
        .map(|(k, _)| format!(r#"{{"k":"{k}"}}"#))
        .collect();
    client::produce(
        &bootstrap,
        "writing-murmur-in",
        0,
        &rows.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let sql = source_sql("i", "writing-murmur-in", "k STRING", "")
        + &sink_sql(
            "o",
            "writing-murmur-out",
            "k STRING",
            ", 'key.format' = 'raw', 'key.fields' = 'k'",
        )
        + "INSERT INTO o SELECT k FROM i;";
    run_sql(&bootstrap, &sql).unwrap();
    for record in read_records(&bootstrap, "writing-murmur-out") {
        let (_, hash) = vectors
            .iter()
            .find(|(k, _)| Some(*k) == record.key.as_deref())
            .unwrap();
        assert_eq!(record.partition, (hash & i32::MAX) % 4, "{:?}", record.key);
    }
}

#[test]
fn a_primary_key_makes_an_upsert_sink() {
    let bootstrap = Broker::shared().bootstrap();
    clicks(&bootstrap, "upsert-in");
    client::create_topic(&bootstrap, "upsert-out", 2);
    let source = source_sql("clicks", "upsert-in", CLICKS, "");
    let query = "INSERT INTO totals SELECT name, sum(n) FROM clicks GROUP BY name;";
    let keyed = sink_sql(
        "totals",
        "upsert-out",
        "name STRING, total BIGINT, PRIMARY KEY (name) NOT ENFORCED",
        ", 'value.fields-include' = 'EXCEPT_KEY'",
    );
    run_sql(&bootstrap, &(source.clone() + &keyed + query)).unwrap();
    let mut last = BTreeMap::new();
    for record in read_records(&bootstrap, "upsert-out") {
        let value = record.json();
        last.insert(record.key.unwrap(), value);
    }
    let wanted = [
        (r#"{"name":"ann"}"#, json!({"total": 14})),
        (r#"{"name":"bob"}"#, json!({"total": 52})),
    ];
    assert_eq!(last, wanted.map(|(k, v)| (k.to_string(), v)).into());

    // Without it, changes have nowhere to go.
    let appended = sink_sql("totals", "upsert-out", "name STRING, total BIGINT", "");
    let error = run_sql(&bootstrap, &(source + &appended + query)).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_says(&error, &["can only be appended to", "PRIMARY KEY"]);
}

#[test]
fn two_topics_meet_in_their_windows() {
    let bootstrap = Broker::shared().bootstrap();
    clicks(&bootstrap, "two-clicks");
    client::create_topic(&bootstrap, "two-prices", 3);
    let prices = [
        r#"{"who":"ann","price":5,"at":"2024-01-01 00:00:09"}"#,
        r#"{"who":"bob","price":7,"at":"2024-01-01 00:00:10"}"#,
    ];
    client::produce(&bootstrap, "two-prices", 1, &prices);
    let windows = |table: &str, time: &str, rest: &str| {
        format!(
            "(SELECT window_start, window_end, {rest} FROM TABLE(TUMBLE(TABLE {table}, DESCRIPTOR({time}), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, {})",
            &rest[..4].trim_end_matches(',')
        )
    };
    let prices = "who STRING, price BIGINT, `at` TIMESTAMP(3), WATERMARK FOR `at` AS `at`";
    let sql = source_sql("clicks", "two-clicks", CLICKS, "")
        + &source_sql("prices", "two-prices", prices, "")
        + &format!(
            "SELECT c.window_start, name, n, p FROM {} c LEFT JOIN {} p ON c.window_start = p.window_start AND c.window_end = p.window_end AND name = who;",
            windows("clicks", "ts", "name, SUM(n) AS n"),
            windows("prices", "`at`", "who, SUM(price) AS p"),
        );
    for workers in [1, 4] {
        let (_, printed) = run_with(&bootstrap, &sql, workers, Arc::default()).unwrap();
        let mut rows: Vec<&str> = printed.lines().collect();
        rows.sort_unstable();
        assert_eq!(
            rows,
            [
                r#"{"window_start":"2024-01-01 00:00:00","name":"ann","n":11,"p":5}"#,
                r#"{"window_start":"2024-01-01 00:00:00","name":"bob","n":2,"p":null}"#,
                r#"{"window_start":"2024-01-01 00:00:10","name":"ann","n":3,"p":null}"#,
                r#"{"window_start":"2024-01-01 00:00:10","name":"bob","n":50,"p":7}"#,
            ]
        );
    }
}

/// With 'key.format' and without EXCEPT_KEY each read ended in "a decoder delivered too few columns".
#[test]
fn a_key_that_the_value_holds_too_is_read_from_the_value() {
    let bootstrap = Broker::shared().bootstrap();
    clicks(&bootstrap, "keyed-in");
    client::create_topic(&bootstrap, "keyed", 2);
    client::create_topic(&bootstrap, "keyed-out", 1);
    let keyed = ", 'key.format' = 'json', 'key.fields' = 'name'";
    let sql = source_sql("clicks", "keyed-in", CLICKS, "")
        + &sink_sql("k", "keyed", "name STRING, n BIGINT", keyed)
        + "INSERT INTO k SELECT name, n FROM clicks;";
    run_sql(&bootstrap, &sql).unwrap();
    let sql = source_sql("k", "keyed", "name STRING, n BIGINT", keyed)
        + &sink_sql("o", "keyed-out", "name STRING, n BIGINT", "")
        + "INSERT INTO o SELECT * FROM k;";
    run_sql(&bootstrap, &sql).unwrap();
    let sorted = |topic: &str| {
        let mut rows: Vec<String> = read_records(&bootstrap, topic)
            .iter()
            .map(|r| r.json().to_string())
            .collect();
        rows.sort();
        rows
    };
    assert!(!sorted("keyed").is_empty());
    assert_eq!(sorted("keyed-out"), sorted("keyed"));
}

/// Keys were written in the order of the table's columns, and with the prefix in their names: who read them
/// by the same table found other values, or none.
#[test]
fn keys_are_written_as_they_are_read() {
    let bootstrap = Broker::shared().bootstrap();
    clicks(&bootstrap, "key-parts-in");
    client::create_topic(&bootstrap, "key-parts", 2);
    client::create_topic(&bootstrap, "key-parts-json", 2);
    client::create_topic(&bootstrap, "key-parts-out", 1);
    let columns = "k_id STRING, k_region STRING, n BIGINT";
    let keyed = |format: &str| {
        let delimiter = match format {
            "csv" => ", 'key.csv.field-delimiter' = '|'",
            _ => "",
        };
        format!(
            ", 'key.format' = '{format}', 'key.fields' = 'k_region;k_id', 'key.fields-prefix' = 'k_', 'value.fields-include' = 'EXCEPT_KEY'{delimiter}"
        )
    };
    let sql = source_sql("clicks", "key-parts-in", CLICKS, "")
        + &sink_sql("k", "key-parts", columns, &keyed("csv"))
        + &sink_sql("j", "key-parts-json", columns, &keyed("json"))
        + "INSERT INTO k SELECT name, 'eu', n FROM clicks; INSERT INTO j SELECT name, 'eu', n FROM clicks;";
    run_sql(&bootstrap, &sql).unwrap();
    let keys = |topic: &str| {
        let records = read_records(&bootstrap, topic);
        BTreeSet::from_iter(records.into_iter().map(|r| r.key.unwrap()))
    };
    let of_csv = ["eu|ann", "eu|bob"].map(String::from);
    assert_eq!(keys("key-parts"), BTreeSet::from(of_csv));
    let of_json = [
        r#"{"region":"eu","id":"ann"}"#,
        r#"{"region":"eu","id":"bob"}"#,
    ];
    assert_eq!(
        keys("key-parts-json"),
        BTreeSet::from(of_json.map(String::from))
    );
    for (topic, format) in [("key-parts", "csv"), ("key-parts-json", "json")] {
        let sql = source_sql("k", topic, columns, &keyed(format))
            + &sink_sql("o", "key-parts-out", columns, "")
            + "INSERT INTO o SELECT * FROM k;";
        run_sql(&bootstrap, &sql).unwrap();
    }
    let rows = read_records(&bootstrap, "key-parts-out");
    assert_eq!(rows.len(), 12);
    for row in rows {
        assert_eq!(row.json()["k_region"], "eu");
        assert!(["ann", "bob"].contains(&row.json()["k_id"].as_str().unwrap()));
    }
}

#[test]
fn changes_arrive_while_the_query_runs() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "changes-in", 1);
    client::create_topic(&bootstrap, "changes-out", 1);
    let sql = source_sql("i", "changes-in", "k STRING", "")
        .replace("'scan.bounded.mode' = 'latest-offset', ", "")
        + &sink_sql(
            "o",
            "changes-out",
            "k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED",
            ", 'key.format' = 'raw'",
        )
        + "SET 'trigger' = '100 ms'; INSERT INTO o SELECT k, count(*) + 0 / (count(*) - 3) FROM i GROUP BY k HAVING count(*) <> 3;";
    let stop: Arc<AtomicBool> = Arc::default();
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_with(&bootstrap, &sql, 1, stop.clone()));
        let wait_for = |wanted: &[(&str, i64)]| {
            let started = Instant::now();
            loop {
                let mut last = BTreeMap::new();
                for r in read_records(&bootstrap, "changes-out") {
                    let n = (r.value.as_ref()).map(|_| r.json()["n"].as_i64().unwrap());
                    last.insert(r.key.unwrap(), n);
                }
                last.retain(|_, n| n.is_some());
                if last
                    .iter()
                    .map(|(k, n)| (k.as_str(), n.unwrap()))
                    .eq(wanted.iter().copied())
                {
                    return;
                }
                assert!(
                    started.elapsed() < PATIENCE && !run.is_finished(),
                    "{last:?}"
                );
            }
        };
        client::produce(
            &bootstrap,
            "changes-in",
            0,
            &[r#"{"k":"a"}"#, r#"{"k":"b"}"#],
        );
        wait_for(&[("a", 1), ("b", 1)]);
        client::produce(&bootstrap, "changes-in", 0, &[r#"{"k":"b"}"#]);
        wait_for(&[("a", 1), ("b", 2)]);
        // A group that HAVING lets through no longer had stayed for ever. (c never was there.)
        let more = [
            r#"{"k":"b"}"#,
            r#"{"k":"c"}"#,
            r#"{"k":"c"}"#,
            r#"{"k":"c"}"#,
        ];
        client::produce(&bootstrap, "changes-in", 0, &more[..1]);
        wait_for(&[("a", 1)]);
        client::produce(&bootstrap, "changes-in", 0, &more);
        wait_for(&[("a", 1), ("b", 4)]);
        stop.store(true, Relaxed);
        run.join().unwrap().unwrap().0
    });
    // Only what changed was written after the first time.
    let written = read_records(&bootstrap, "changes-out");
    let of = |key: &str| {
        written
            .iter()
            .filter(|r| r.key.as_deref() == Some(key))
            .count()
    };
    assert_eq!((of("a"), of("b")), (1, 4));
    let deleted = written.iter().filter(|r| r.value.is_none());
    let deleted: Vec<_> = deleted.map(|r| r.key.as_deref().unwrap()).collect();
    assert!(
        deleted.contains(&"b") && summary.queries[0].rows >= 4,
        "{deleted:?}"
    );
}

#[test]
fn an_unknown_sink_topic_is_an_error() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "no-sink-in", 1);
    let source = |options: &str| source_sql("i", "no-sink-in", "a INT", options);
    let query = "INSERT INTO o SELECT a FROM i;";
    let error = run_sql(
        &bootstrap,
        &(source("") + &sink_sql("o", "no-such-topic", "a INT", "") + query),
    )
    .unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert_says(
        &error,
        &[
            "topic 'no-such-topic' does not exist",
            &format!("windrow topics create no-such-topic --bootstrap-server {bootstrap}"),
        ],
    );

    client::create_topic(&bootstrap, "no-sink-out", 1);
    let dead = source(", 'bad-records' = 'dead-letter', 'dead-letter.topic' = 'no-such-letters'");
    let error = run_sql(
        &bootstrap,
        &(dead + &sink_sql("o", "no-sink-out", "a INT", "") + query),
    )
    .unwrap_err();
    assert_says(
        &error,
        &[
            "topic 'no-such-letters' does not exist",
            "windrow topics create no-such-letters",
        ],
    );
}

#[test]
fn a_record_that_is_too_large_fails_the_query() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "large-in", 1);
    topic_with(&bootstrap, "large-out", "max.message.bytes", "1000");
    // Random enough that compression does not make it small.
    let mut state = 1_u64;
    let letters: String = (0..5000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + ((state >> 33) % 90) as u8)
        })
        .filter(|c| !matches!(c, '"' | '\\'))
        .collect();
    let large = format!(r#"{{"a":"{letters}"}}"#);
    client::produce(&bootstrap, "large-in", 0, &[r#"{"a":"small"}"#, &large]);
    let sql = source_sql("i", "large-in", "a STRING", "")
        + &sink_sql("o", "large-out", "a STRING", "")
        + "INSERT INTO o SELECT a FROM i;";
    let error = run_sql(&bootstrap, &sql).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert_says(
        &error,
        &[
            "Kafka did not take a record of large-out/0",
            "size too large",
        ],
    );
}

fn produce_bytes(bootstrap: &str, topic: &str, values: &[(&[u8], i64)]) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = client::config(bootstrap).create().unwrap();
    for &(value, timestamp) in values {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .partition(1)
            .payload(value)
            .timestamp(timestamp);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn bad_records_become_dead_letters_or_an_error() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "bad-in", 2);
    client::create_topic(&bootstrap, "bad-letters", 1);
    client::create_topic(&bootstrap, "bad-out", 1);
    let values: [(&[u8], i64); 5] = [
        (br#"{"n":1}"#, 1_000),
        (br#"{"n":"x"}"#, 2_000),
        (b"{\"n\":2", 3_000),
        (&[b'{', 0xff, 0xfe, 0], 4_000),
        (br#"{"n":5}"#, 5_000),
    ];
    produce_bytes(&bootstrap, "bad-in", &values);
    client::produce_records(&bootstrap, "bad-in", 0, &[(Some("k"), None, None)]);
    let sink = sink_sql("o", "bad-out", "n BIGINT", "");
    let query = "INSERT INTO o SELECT n FROM i;";
    let sql = |options: &str| source_sql("i", "bad-in", "n BIGINT", options) + &sink + query;

    let letters = ", 'bad-records' = 'dead-letter', 'dead-letter.topic' = 'bad-letters'";
    let summary = run_sql(&bootstrap, &sql(letters)).unwrap();
    // The tombstone is neither a row nor bad.
    assert_eq!((summary.stats.bad(), summary.queries[0].rows), (3, 2));
    let mut records = read_records(&bootstrap, "bad-letters");
    records.sort_by_key(|r| r.headers[2].1.clone());
    assert_eq!(records.len(), 3);
    for (record, offset) in records.iter().zip(1..) {
        assert_eq!(record.value.as_deref(), Some(values[offset].0), "raw bytes");
        let names: Vec<&str> = record.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            [
                "topic",
                "partition",
                "offset",
                "timestamp",
                "field",
                "reason"
            ]
        );
        let text = |i: usize| record.headers[i].1.as_str();
        let place = [text(0), text(1), text(2), text(3)].map(str::to_string);
        assert_eq!(
            place,
            [
                "bad-in".into(),
                "1".into(),
                offset.to_string(),
                values[offset].1.to_string()
            ]
        );
        assert_eq!(text(4), if offset == 1 { "n" } else { "" });
        assert!(!text(5).is_empty());
    }
    assert!(
        records[0].headers[5].1.contains("BIGINT"),
        "{:?}",
        records[0].headers
    );
    let mut rows: Vec<String> = read_records(&bootstrap, "bad-out")
        .iter()
        .map(|r| r.text().to_string())
        .collect();
    rows.sort();
    assert_eq!(rows, [r#"{"n":1}"#, r#"{"n":5}"#]);

    let error = run_sql(&bootstrap, &sql(", 'bad-records' = 'fail'")).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert_says(
        &error,
        &["bad record at bad-in/1 offset 1: column 'n'", "BIGINT"],
    );

    for skip in [
        "",
        ", 'bad-records' = 'skip'",
        ", 'json.ignore-parse-errors' = 'true'",
    ] {
        let summary = run_sql(&bootstrap, &sql(skip)).unwrap();
        assert_eq!(
            (summary.stats.bad(), summary.queries[0].rows),
            (3, 2),
            "{skip}"
        );
    }
}
