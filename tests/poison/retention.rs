//! Retention that overtakes a query, at its start and under it.

use super::*;
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

/// Removes what is before `offset` of partition 0.
fn retain_from(bootstrap: &str, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = client::config(bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    block_on(admin.delete_records(&list, &options)).unwrap();
}

fn select(bootstrap: &str, topic: &str, client: &str, fails: bool) -> String {
    let options = format!(", 'source.client' = '{client}', 'scan.fail-on-data-loss' = '{fails}'");
    source_sql(bootstrap, topic, "a BIGINT, text STRING", &options) + "SELECT a FROM i;"
}

#[test]
fn a_checkpoint_that_retention_has_overtaken_ends_or_goes_on_as_asked() {
    let bootstrap = Broker::shared().bootstrap();
    for client in CLIENTS {
        let topic = format!("retention-since-{client}");
        client::create_topic(&bootstrap, &topic, 1);
        produce(&bootstrap, &topic, 0..10);
        let folder = tempfile::tempdir().unwrap();
        let states = folder.path().join("states").display().to_string();
        let args = ["--checkpoint", &states, "--until-end", "--format", "json"];
        let run = |fails: bool| {
            let sql = select(&bootstrap, &topic, client, fails);
            Run::start(windrow(folder.path(), &sql, &args)).end()
        };
        run(true).assert(0, &["read 10 records"]);
        produce(&bootstrap, &topic, 10..30);
        retain_from(&bootstrap, &topic, 25);
        let place = format!("{topic}/0 offset 10");
        let hint = "'scan.fail-on-data-loss' = 'false'";
        run(true).assert(1, &[&place, "before offset 25", hint]);
        let lossy = run(false);
        lossy.assert(
            0,
            &[
                &format!("15 offsets of {topic}/0 are lost"),
                "read 5 records",
            ],
        );
        assert_eq!(
            numbers(lossy.stdout.lines().map(String::from)),
            [25, 26, 27, 28, 29]
        );
    }
}

/// Nobody takes its output, so the query stands still while retention goes on.
#[test]
fn a_running_query_that_retention_overtakes_ends_or_goes_on_as_asked() {
    let bootstrap = Broker::shared().bootstrap();
    for client in CLIENTS {
        for fails in [true, false] {
            let topic = format!("retention-under-{client}-{fails}");
            client::create_topic(&bootstrap, &topic, 1);
            let pad = "x".repeat(1000);
            let row = |a: usize| format!(r#"{{"a":{a},"text":"{pad}"}}"#);
            let rows: Vec<String> = (0..40_000).map(row).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            client::produce(&bootstrap, &topic, 0, &rows);
            let folder = tempfile::tempdir().unwrap();
            let sql =
                select(&bootstrap, &topic, client, fails).replace("SELECT a", "SELECT a, text");
            let args = ["--format", "json", "--until-end"];
            let run = Run::held(windrow(folder.path(), &sql, &args));
            until("it stands still", || run.stands_still());
            retain_from(&bootstrap, &topic, 39_990);
            let ended = run.let_go().end();
            let read = numbers(ended.stdout.lines().map(String::from));
            let before = read.iter().take_while(|a| **a < 39_990).count();
            assert!(before < 39_000, "retention has overtaken nothing");
            assert!(read[..before].iter().copied().eq(0..before));
            if fails {
                let place = format!("error: {topic}/0 offset ");
                let said = [
                    &place,
                    " is not in the log any more",
                    "scan.fail-on-data-loss",
                ];
                ended.assert(1, &said);
                // Some rows were read and not written: it ended before they were.
                let (_, rest) = ended.stderr.split_once(&place).unwrap();
                let at: usize = rest.split(' ').next().unwrap().parse().unwrap();
                assert!(at >= before && at < 39_000, "{at}, written {before}");
                assert_eq!(read.len(), before);
            } else {
                let lost = 39_990 - before;
                ended.assert(0, &[&format!("{lost} offsets of {topic}/0 are lost")]);
                assert!(read[before..].iter().copied().eq(39_990..40_000));
            }
        }
    }
}
