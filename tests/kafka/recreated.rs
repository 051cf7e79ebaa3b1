//! A topic that is deleted and created again has the same name and other records.

use super::*;

with_both_clients!(
    a_topic_created_again_ends_the_query,
    a_topic_created_again_and_longer_ends_the_query,
    a_checkpoint_of_the_topic_before_is_refused,
);

/// Deletes the topic and creates it again with `count` records. While the broker still deletes
/// it, the name is taken.
fn recreate(bootstrap: &str, topic: &str, count: usize) {
    let (admin, options) = admin(bootstrap);
    let deleted = block_on(admin.delete_topics(&[topic], &options)).expect("delete");
    assert!(deleted[0].is_ok(), "{deleted:?}");
    let started = Instant::now();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    while block_on(admin.create_topics([&new], &options)).expect("create")[0].is_err() {
        assert!(started.elapsed() < PATIENCE, "{topic} cannot be created");
    }
    produce(bootstrap, topic, "new", count);
}

fn produce(bootstrap: &str, topic: &str, word: &str, count: usize) {
    let values: Vec<String> = (0..count)
        .map(|i| format!(r#"{{"a":"{word}-{i}"}}"#))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    client::produce(bootstrap, topic, 0, &values);
}

/// Reads ten records; then the topic is another, with `count` records. The error that it ends with.
fn read_and_recreate(with: With, topic: &str, count: usize) -> Error {
    let bootstrap = with.bootstrap();
    client::create_topic(&bootstrap, topic, 1);
    produce(&bootstrap, topic, "old", 10);
    let source = with.open(&bootstrap, topic, &[FROM_START]);
    let all = partitions(&source);
    assert!(all[0].topic_id.is_some());
    let mut reader = source.reader(&all).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() == 10);
    recreate(&bootstrap, topic, count);
    ends_with(reader.as_mut())
}

/// A topic of a pattern that was not to be seen at a restart was read from its beginning when it came back:
/// its rows counted twice.
#[test]
fn a_topic_that_a_checkpoint_knows_is_missed() {
    let bootstrap = With::DIRECT.bootstrap();
    client::create_topic(&bootstrap, "missed-a", 1);
    let open = |lossy| {
        let options = [("topic-pattern", "missed-.*"), FROM_START, lossy];
        let table = table(&bootstrap, &options);
        KafkaSource::new(&table, ReadRequest::default()).unwrap()
    };
    let known = [("missed-a", 0), ("missed-b", 7), ("other", 7)].map(|(topic, position)| {
        windrow::state::PartitionSnapshot {
            topic: topic.to_string(),
            topic_id: None,
            partition: 0,
            position,
            max_us: windrow::watermark::NONE,
        }
    });
    let strict = open(("scan.fail-on-data-loss", "true"));
    let missed = strict.partitions(Some(&known), &mut |_| true).unwrap_err();
    assert_says(&missed, &["missed-b/0 offset 7", "shows no such topic"]);
    let lossy = open(("scan.fail-on-data-loss", "false"));
    let all = lossy.partitions(Some(&known), &mut |_| true).unwrap();
    assert_eq!(all.len(), 1);
}

/// It was taken for a topic from which retention had removed what was to be read next.
fn a_topic_created_again_ends_the_query(with: With) {
    let topic = "recreated-short";
    assert_says(
        &read_and_recreate(with, topic, 0),
        &[
            &format!("topic {topic} was deleted and created again while it was read"),
            &format!("{topic}/0 offset 10 is of the topic before"),
            "new checkpoint folder",
        ],
    );
}

/// The position is within the new log: by offsets alone nothing is wrong, and the new topic's
/// first records would be missing.
fn a_topic_created_again_and_longer_ends_the_query(with: With) {
    // librdkafka may have delivered records of the new topic before it is found out.
    let place = match with.0 {
        "direct" => "recreated-long/0 offset 10 ",
        _ => "recreated-long/0 offset",
    };
    let error = read_and_recreate(with, "recreated-long", 1000);
    assert_says(&error, &["created again while it was read", place]);
}

/// The position of the checkpoint exists in the new topic, too.
fn a_checkpoint_of_the_topic_before_is_refused(with: With) {
    let bootstrap = with.bootstrap();
    let topic = format!("recreated-since-{}", with.0);
    client::create_topic(&bootstrap, &topic, 1);
    produce(&bootstrap, &topic, "old", 10);
    let folder = tempfile::tempdir().unwrap();
    let sql = format!(
        "SET 'state.checkpoints.dir' = '{}'; CREATE TABLE b (a STRING) WITH ('connector' = 'blackhole');\n",
        folder.path().display()
    ) + &source_sql(
        "i",
        &topic,
        "a STRING",
        &format!(", 'source.client' = '{}'", with.0),
    ) + "INSERT INTO b SELECT a FROM i;";
    let records = |summary: Summary| summary.stats.records();
    assert_eq!(run_sql(&bootstrap, &sql).map(records).unwrap(), 10);
    produce(&bootstrap, &topic, "old", 10);
    assert_eq!(run_sql(&bootstrap, &sql).map(records).unwrap(), 10);
    recreate(&bootstrap, &topic, 50);
    let error = run_sql(&bootstrap, &sql).unwrap_err();
    assert_says(
        &error,
        &[
            &format!("topic {topic} was deleted and created again since the checkpoint"),
            &format!("{topic}/0 offset 20"),
            "start with a new checkpoint folder",
        ],
    );
}
