//! A third of the records is none.

use super::*;

const GOOD: usize = 7_000;
const BAD: usize = 3_000;

/// Of ten records three are bad, each in another way.
fn fill(bootstrap: &str, topic: &str) -> Vec<String> {
    client::create_topic(bootstrap, topic, 2);
    let mut bad = Vec::new();
    for partition in 0..2 {
        let numbers = (0..GOOD + BAD).filter(|i| i % 2 == partition);
        let records: Vec<String> = numbers
            .map(|i| match i % 10 {
                1 => format!(r#"{{"a":"{i} is no number"}}"#),
                4 => format!(r#"{{"a":{i}"#),
                8 => format!("\u{fffd} {i}"),
                _ => format!(r#"{{"a":{i}}}"#),
            })
            .collect();
        let rows: Vec<&str> = records.iter().map(String::as_str).collect();
        client::produce(bootstrap, topic, partition as i32, &rows);
        bad.extend(records.into_iter().filter(|r| !is_good(r)));
    }
    bad.sort();
    assert_eq!(bad.len(), BAD);
    bad
}

fn is_good(record: &str) -> bool {
    let row = serde_json::from_str::<serde_json::Value>(record);
    row.is_ok_and(|row| row["a"].is_u64())
}

fn good() -> Vec<usize> {
    (0..GOOD + BAD)
        .filter(|i| ![1, 4, 8].contains(&(i % 10)))
        .collect()
}

#[test]
fn thirty_percent_bad_records_are_counted_kept_or_the_end_as_asked() {
    let bootstrap = Broker::shared().bootstrap();
    let bad = fill(&bootstrap, "poison-bad-in");
    for client in CLIENTS {
        let dead = format!("bad-dead-{client}");
        client::create_topic(&bootstrap, &dead, 3);
        let folder = tempfile::tempdir().unwrap();
        let letters = folder.path().join("letters");
        let run = |policy: &str| {
            let options = format!(", 'source.client' = '{client}', 'bad-records' = '{policy}");
            let sql =
                source_sql(&bootstrap, "poison-bad-in", "a BIGINT", &options) + "SELECT a FROM i;";
            let args = ["--until-end", "--format", "json"];
            Run::start(windrow(folder.path(), &sql, &args)).end()
        };
        let to_folder = format!("dead-letter', 'dead-letter.path' = '{}'", letters.display());
        let to_topic = format!("dead-letter', 'dead-letter.topic' = '{dead}'");
        for policy in ["skip'", &to_folder, &to_topic] {
            let ended = run(policy);
            ended.assert(0, &["read 10,000 records", "bad 3,000,"]);
            assert!(
                numbers(ended.stdout.lines().map(String::from)) == good(),
                "{policy}"
            );
        }
        let letter = |row: String| {
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            let place = |key: &str| row[key].as_i64().unwrap();
            assert!(row["topic"] == "poison-bad-in" && place("partition") + place("offset") >= 0);
            assert!(!row["reason"].as_str().unwrap().is_empty());
            row["payload"].as_str().unwrap().to_string()
        };
        let mut kept: Vec<String> = file_rows(&letters).into_iter().map(letter).collect();
        kept.sort();
        assert!(kept == bad, "{} dead letters", kept.len());
        let mut kept: Vec<String> = client::read_all(&bootstrap, &dead)
            .into_iter()
            .map(|(_, payload)| payload)
            .collect();
        kept.sort();
        assert!(kept == bad, "{} dead letters", kept.len());
        let failed = run("fail'");
        failed.assert(
            1,
            &[
                "error: bad record at poison-bad-in/",
                " offset ",
                "hint: 'bad-records' = 'skip'",
            ],
        );
    }
}
