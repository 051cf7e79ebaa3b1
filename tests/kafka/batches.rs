//! What producers and brokers make of records: codecs, sizes, transactions, compaction.

use super::*;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

with_both_clients!(
    every_codec_is_read,
    a_record_of_ten_megabytes_is_read,
    batches_of_one_record_are_read,
    aborted_records_are_left_out_among_others,
    a_compacted_topic_has_gaps,
    a_broker_killed_while_it_is_read_loses_nothing,
);

/// Writes values to partition 0 with settings of the producer's own.
fn produce_with(bootstrap: &str, topic: &str, settings: &[(&str, &str)], values: &[String]) {
    let mut config = client::config(bootstrap);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: BaseProducer = config.create().unwrap();
    for (i, value) in values.iter().enumerate() {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(e, _)| e).unwrap();
        if i % 10_000 == 9_999 {
            producer.flush(PATIENCE).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
}

fn values(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| format!("{{\"number\":{i},\"text\":\"{}\"}}", "ab".repeat(i % 50)))
        .collect()
}

fn check(with: With, bootstrap: &str, topic: &str, expected: &[String]) {
    let received = drain(&with.open(bootstrap, topic, &[FROM_START, TO_END]), 1);
    assert!(
        received.texts() == expected,
        "{topic}: {} records of {}",
        received.count(),
        expected.len()
    );
    assert_eq!(received.notices, [""; 0]);
}

fn every_codec_is_read(with: With) {
    let bootstrap = with.bootstrap();
    let expected = values(15_000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("batches-{codec}");
        client::create_topic(&bootstrap, &topic, 1);
        let settings = [("compression.type", codec), ("linger.ms", "50")];
        produce_with(&bootstrap, &topic, &settings, &expected);
        check(with, &bootstrap, &topic, &expected);
    }
}

fn a_record_of_ten_megabytes_is_read(with: With) {
    let bootstrap = with.bootstrap();
    topic_with(&bootstrap, "batches-large", "max.message.bytes", "20000000");
    let large = "0123456789".repeat(1_000_000);
    let expected = [
        "small".to_string(),
        large.clone(),
        "small".to_string(),
        large,
    ];
    for value in &expected {
        let settings = [("message.max.bytes", "20000000")];
        let one = std::slice::from_ref(value);
        produce_with(&bootstrap, "batches-large", &settings, one);
    }
    check(with, &bootstrap, "batches-large", &expected);
}

fn batches_of_one_record_are_read(with: With) {
    let bootstrap = with.bootstrap();
    client::create_topic(&bootstrap, "batches-single", 1);
    let expected = values(3_000);
    let settings = [("batch.num.messages", "1"), ("compression.type", "lz4")];
    produce_with(&bootstrap, "batches-single", &settings, &expected);
    check(with, &bootstrap, "batches-single", &expected);
}

fn aborted_records_are_left_out_among_others(with: With) {
    let bootstrap = with.bootstrap();
    let topic = "batches-aborted";
    client::create_topic(&bootstrap, topic, 1);
    let mut expected = Vec::new();
    let producers: Vec<BaseProducer> = (0..2)
        .map(|i| {
            let id = format!("{topic}-{i}");
            let config = client::config(&bootstrap)
                .set("transactional.id", id)
                .clone();
            let producer: BaseProducer = config.create().unwrap();
            producer.init_transactions(PATIENCE).unwrap();
            producer
        })
        .collect();
    // Both have a transaction open at the same time; each is committed or aborted.
    for (round, commit) in [[true, false], [false, true], [false, false], [true, true]]
        .into_iter()
        .enumerate()
    {
        for producer in &producers {
            producer.begin_transaction().unwrap();
        }
        for part in 0..3 {
            for (i, producer) in producers.iter().enumerate() {
                let value = format!("{round} {part} {i}");
                let record: BaseRecord<'_, str, str> =
                    BaseRecord::to(topic).partition(0).payload(&value);
                producer.send(record).map_err(|(e, _)| e).unwrap();
                producer.flush(PATIENCE).unwrap();
                if commit[i] {
                    expected.push(value);
                }
            }
        }
        for (i, producer) in producers.iter().enumerate() {
            match commit[i] {
                true => producer.commit_transaction(PATIENCE).unwrap(),
                false => producer.abort_transaction(PATIENCE).unwrap(),
            }
        }
        let outside = format!("{round} outside");
        client::produce(&bootstrap, topic, 0, &[&outside]);
        expected.push(outside);
    }
    check(with, &bootstrap, topic, &expected);
}

fn a_compacted_topic_has_gaps(with: With) {
    let bootstrap = with.bootstrap();
    let topic = "batches-compacted";
    let (admin, options) = admin(&bootstrap);
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("min.cleanable.dirty.ratio", "0.01")
        .set("segment.bytes", "1048576")
        .set("max.compaction.lag.ms", "100")
        .set("segment.ms", "100");
    let results = block_on(admin.create_topics([&new], &options)).unwrap();
    assert!(results[0].is_ok(), "{results:?}");
    let started = Instant::now();
    let mut written = 0;
    let received = loop {
        assert!(started.elapsed() < PATIENCE, "nothing is compacted");
        // Many values of few keys; each round closes a segment, so that there is one to clean.
        let texts: Vec<String> = (0..500).map(|i| format!("{}", written + i)).collect();
        let keys: Vec<String> = (0..500).map(|i| format!("k{}", i % 7)).collect();
        let records: Vec<_> = keys
            .iter()
            .zip(&texts)
            .map(|(k, t)| (Some(k.as_str()), Some(t.as_str()), None))
            .collect();
        client::produce_records(&bootstrap, topic, 0, &records);
        written += 500;
        let received = drain(&with.open(&bootstrap, topic, &[FROM_START, TO_END]), 1);
        if received.count() < written {
            break received;
        }
    };
    // What is left stands at its old place, up to the last.
    let list = &received.records[&(topic.to_string(), 0)];
    assert!(
        list.iter()
            .all(|(offset, text)| text.as_deref() == Some(&offset.to_string()))
    );
    assert_eq!(list.last().unwrap().0, written as i64 - 1);
}

fn a_broker_killed_while_it_is_read_loses_nothing(with: With) {
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    client::create_topic(&bootstrap, "batches-killed", 1);
    let expected = values(200_000);
    let settings = [("linger.ms", "20"), ("compression.type", "none")];
    produce_with(&bootstrap, "batches-killed", &settings, &expected);
    let source = with.open(&bootstrap, "batches-killed", &[FROM_START, TO_END]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() > 0);
    broker.kill();
    poll_until(reader.as_mut(), &mut received, |r| !r.notices.is_empty());
    assert!(received.count() < expected.len());
    broker.restart();
    poll_until(reader.as_mut(), &mut received, |r| r.ended.len() == 1);
    assert!(received.texts() == expected, "{}", received.count());
    // What librdkafka still has in its queues looks to its reader as if the broker were back.
    if with.0 == "direct" {
        assert_eq!(received.notices.len(), 2, "{:?}", received.notices);
    }
}
