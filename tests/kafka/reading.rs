//! `KafkaSource` and its readers.

use super::*;
use rdkafka::admin::NewPartitions;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use windrow::state::PartitionSnapshot;
use windrow::watermark::NONE;

with_both_clients!(
    every_offset_comes_once_and_in_order,
    a_bounded_end_stays_where_it_was,
    modes_resolve_to_offsets,
    empty_partitions_end_at_once,
    tombstones_keys_and_headers,
    append_time_is_told,
    transactions_at_the_end_do_not_hide_it,
    a_new_partition_is_found_and_read_whole,
    lists_and_patterns,
);

/// More than librdkafka hands over in one call, so that a partition comes in several chunks.
const MANY: usize = 20_000;

fn fill(bootstrap: &str, topic: &str, counts: &[usize]) {
    client::create_topic(bootstrap, topic, counts.len() as i32);
    for (p, count) in counts.iter().enumerate() {
        append(bootstrap, topic, p as i32, 0..*count);
    }
}

fn append(bootstrap: &str, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let values: Vec<String> = numbers.map(|i| format!("{partition}-{i}")).collect();
    client::produce(
        bootstrap,
        topic,
        partition,
        &values.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

fn expected(partition: usize, numbers: std::ops::Range<usize>) -> Vec<(i64, Option<String>)> {
    numbers
        .map(|i| (i as i64, Some(format!("{partition}-{i}"))))
        .collect()
}

/// Options of a table, and the offsets of its two partitions that they mean.
type Variant<'a> = (&'a [(&'a str, &'a str)], [i64; 2]);

fn every_offset_comes_once_and_in_order(with: With) {
    let bootstrap = with.bootstrap();
    let counts = [MANY, 1, 0, MANY / 2];
    fill(&bootstrap, "reading-drain", &counts);
    for readers in [1, 2, 4] {
        let received = drain(
            &with.open(&bootstrap, "reading-drain", &[FROM_START, TO_END]),
            readers,
        );
        for (p, count) in counts.iter().enumerate() {
            let list = received
                .records
                .get(&("reading-drain".to_string(), p as i32))
                .cloned()
                .unwrap_or_default();
            assert!(
                list == expected(p, 0..*count),
                "partition {p} with {readers} readers: {} records",
                list.len()
            );
        }
        assert_eq!(received.notices, [""; 0]);
    }
}

/// What is written behind the end that was fixed at the start is not read.
fn a_bounded_end_stays_where_it_was(with: With) {
    let bootstrap = with.bootstrap();
    fill(&bootstrap, "reading-fixed-end", &[100]);
    let source = with.open(&bootstrap, "reading-fixed-end", &[FROM_START, TO_END]);
    let all = partitions(&source);
    append(&bootstrap, "reading-fixed-end", 0, 100..200);
    let mut reader = source.reader(&all).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.ended.len() == 1);
    assert_eq!(
        received.records[&("reading-fixed-end".to_string(), 0)],
        expected(0, 0..100)
    );
    // The reader's position went past the end with what it skipped: a query that goes on from
    // there would have lost those records.
    let last = received.chunks.last().unwrap();
    assert_eq!((last.next_offset, last.high_watermark), (100, Some(100)));
}

fn modes_resolve_to_offsets(with: With) {
    let bootstrap = with.bootstrap();
    let topic = "reading-modes";
    client::create_topic(&bootstrap, topic, 2);
    for p in 0..2 {
        // Partition 0: 10 records at 1000, 2000, …; partition 1: 5 records.
        let records: Vec<_> = (1..=if p == 0 { 10 } else { 5 })
            .map(|i| (None, Some("x"), Some(i * 1000)))
            .collect();
        client::produce_records(&bootstrap, topic, p, &records);
    }
    // The log of partition 0 starts at 3, as after retention.
    let (admin, options) = admin(&bootstrap);
    let mut delete = TopicPartitionList::new();
    delete
        .add_partition_offset(topic, 0, Offset::Offset(3))
        .unwrap();
    block_on(admin.delete_records(&delete, &options)).unwrap();

    let group = ("properties.group.id", "reading-modes-group");
    let fresh = ("properties.group.id", "reading-modes-fresh");
    let mode = |m| ("scan.startup.mode", m);
    let reset = |r| ("properties.auto.offset.reset", r);
    let at = |ms| ("scan.startup.timestamp-millis", ms);
    let specific = |s| ("scan.startup.specific-offsets", s);
    let committed = with.open(&bootstrap, topic, &[FROM_START, group]);
    let all = partitions(&committed);
    let stands = |partition: usize, position| PartitionSnapshot {
        topic: all[partition].topic.to_string(),
        topic_id: None,
        partition: all[partition].partition,
        position,
        max_us: NONE,
    };
    committed.commit(&[stands(0, 7)]).unwrap();
    assert_eq!(
        client::committed(&bootstrap, group.1, topic, 2),
        [Some(7), None]
    );

    let behind = ("properties.group.id", "reading-modes-behind");
    let other = with.open(&bootstrap, topic, &[FROM_START, behind]);
    other.commit(&[stands(0, 1), stands(1, 2)]).unwrap();

    let starts: [Variant; 17] = [
        (&[FROM_START], [3, 0]),
        (&[("startingOffsets", "earliest")], [3, 0]),
        (&[mode("latest-offset")], [10, 5]),
        (&[], [10, 5]),
        (&[mode("group-offsets"), group], [7, 0]),
        (&[group], [7, 0]),
        // A group that has committed nothing begins at the beginning.
        (&[fresh], [3, 0]),
        // Or where it is told to.
        (&[fresh, reset("earliest")], [3, 0]),
        (&[fresh, reset("latest")], [10, 5]),
        (&[group, reset("latest")], [7, 5]),
        // So does one whose offset retention has removed.
        (&[behind, reset("earliest")], [3, 2]),
        (&[behind, reset("latest")], [10, 2]),
        (&[mode("timestamp"), at("4000")], [3, 3]),
        (&[mode("timestamp"), at("4001")], [4, 4]),
        // No record that late: the end.
        (&[mode("timestamp"), at("6000")], [5, 5]),
        (&[mode("timestamp"), at("99999")], [10, 5]),
        (
            &[
                mode("specific-offsets"),
                specific("partition:0,offset:8; partition:1,offset:2"),
            ],
            [8, 2],
        ),
    ];
    let nowhere = with.open(&bootstrap, topic, &[fresh, reset("none")]);
    let refused = nowhere.partitions(None, &mut |_| true).unwrap_err();
    assert!(
        refused.to_string().contains("has no offset of"),
        "{refused}"
    );
    for (options, starts) in starts {
        let all = partitions(&with.open(&bootstrap, topic, options));
        assert_eq!(
            all.iter().map(|a| a.start).collect::<Vec<_>>(),
            starts,
            "{options:?}"
        );
        assert!(all.iter().all(|a| a.end.is_none()), "{options:?}");
    }

    let until = |m| ("scan.bounded.mode", m);
    let ends: [Variant; 5] = [
        (&[TO_END], [10, 5]),
        (
            &[
                until("timestamp"),
                ("scan.bounded.timestamp-millis", "4000"),
            ],
            [3, 3],
        ),
        (
            &[
                until("timestamp"),
                ("scan.bounded.timestamp-millis", "7500"),
            ],
            [7, 5],
        ),
        (
            &[
                until("specific-offsets"),
                ("scan.bounded.specific-offsets", "partition:1,offset:4"),
            ],
            [10, 4],
        ),
        (&[until("group-offsets"), group], [7, 5]),
    ];
    for (options, ends) in ends {
        let options: Vec<_> = [FROM_START]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        let source = with.open(&bootstrap, topic, &options);
        assert!(source.is_bounded());
        let all = partitions(&source);
        assert_eq!(
            all.iter().map(|a| a.end.unwrap()).collect::<Vec<_>>(),
            ends,
            "{options:?}"
        );
        let received = drain(&source, 1);
        let read: Vec<(i32, i64)> = received
            .records
            .iter()
            .flat_map(|((_, p), l)| l.iter().map(|(o, _)| (*p, *o)))
            .collect();
        let wanted: Vec<(i32, i64)> = (3..ends[0])
            .map(|o| (0, o))
            .chain((0..ends[1]).map(|o| (1, o)))
            .collect();
        assert_eq!(read, wanted, "{options:?}");
    }

    // `--until-end` bounds a table that is unbounded by itself, and one whose bound lies ahead: it waited
    // for that for ever.
    let ahead = [
        until("specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:1,offset:1000"),
    ];
    for bound in [&[][..], &ahead] {
        let options = [&[("topic", topic), FROM_START], bound].concat();
        let def = with.table(&bootstrap, &options);
        let source = KafkaSource::new(
            &def,
            ReadRequest {
                until_end: true,
                ..ReadRequest::default()
            },
        )
        .unwrap();
        assert_eq!(drain(&source, 2).count(), 7 + 5);
    }

    // Retention has overtaken an offset: never a silent jump.
    let source = with.open(
        &bootstrap,
        topic,
        &[
            mode("specific-offsets"),
            specific("partition:0,offset:1"),
            TO_END,
        ],
    );
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let mut received = Received::default();
    let started = Instant::now();
    let error = loop {
        assert!(started.elapsed() < PATIENCE, "no error");
        match received.poll(reader.as_mut()) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_says(
        &error,
        &[
            "reading-modes/0 offset 1 is not in the log any more",
            "earliest-offset",
        ],
    );

    // It was said of an offset that the log has never had, too. (A partition that is not there is warned of.)
    for start in [
        "partition:1,offset:6",
        "partition:9,offset:0;partition:1,offset:6",
    ] {
        let options = [mode("specific-offsets"), specific(start)];
        let source = with.open(&bootstrap, topic, &options);
        let error = source.partitions(None, &mut |_| true).unwrap_err();
        assert_says(
            &error,
            &["start at reading-modes/1 offset 6, but the log ends at 5"],
        );
    }
    let unknown = [mode("specific-offsets"), specific("partition:9,offset:7")];
    let all = partitions(&with.open(&bootstrap, topic, &unknown));
    assert_eq!(all.iter().map(|a| a.start).collect::<Vec<_>>(), [3, 0]);
}

#[test]
fn wrong_modes_are_errors_of_the_file() {
    let new = |options: &[(&str, &str)]| {
        let all: Vec<_> = [("topic", "t")]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        KafkaSource::new(&table("h:1", &all), ReadRequest::default())
            .err()
            .unwrap_or_else(|| panic!("no error: {options:?}"))
    };
    for (options, part) in [
        (
            vec![("scan.startup.mode", "timestamp")],
            "scan.startup.timestamp-millis",
        ),
        (
            vec![("scan.startup.mode", "specific-offsets")],
            "scan.startup.specific-offsets",
        ),
        (
            vec![("scan.bounded.mode", "timestamp")],
            "scan.bounded.timestamp-millis",
        ),
        (
            vec![("scan.startup.mode", "group-offsets")],
            "properties.group.id",
        ),
        (
            vec![("scan.bounded.mode", "group-offsets")],
            "properties.group.id",
        ),
        (
            vec![
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "0:42"),
            ],
            "partition:0,offset:42",
        ),
        (
            vec![
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "partition:0,offset:-5"),
            ],
            "begin at 0",
        ),
        (
            vec![("startingOffsets", "{\"t\":{\"0\":-5}}")],
            "-2 is the earliest",
        ),
        (vec![("topic-pattern", "a.*")], "either"),
        (
            vec![("source.client", "direct"), ("properties.client.rack", "r")],
            "client.rack",
        ),
    ] {
        let error = new(&options);
        assert_eq!(error.exit_code(), 2, "{options:?}");
        assert_says(&error, &[part]);
    }
}

fn empty_partitions_end_at_once(with: With) {
    let bootstrap = with.bootstrap();
    client::create_topic(&bootstrap, "reading-empty", 3);
    let source = with.open(&bootstrap, "reading-empty", &[FROM_START, TO_END]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    for id in 0..3 {
        // Without any wait: nothing is asked of the broker.
        assert!(matches!(reader.poll(Duration::ZERO), Ok(Polled::End { id: i }) if i == id));
    }
    // Latest to latest is nothing, too; that is said, for it is rarely what was meant.
    append(&bootstrap, "reading-empty", 0, 0..5);
    let (all, told) = partitions_told(&with.open(&bootstrap, "reading-empty", &[TO_END]));
    assert!(all.iter().all(|a| Some(a.start) == a.end));
    assert!(
        told.len() == 1
            && told[0].contains("nothing to read")
            && told[0].contains("earliest-offset"),
        "{told:?}"
    );
}

fn tombstones_keys_and_headers(with: With) {
    let bootstrap = with.bootstrap();
    let topic = "reading-envelope";
    client::create_topic(&bootstrap, topic, 1);
    client::produce_records(
        &bootstrap,
        topic,
        0,
        &[
            (Some("k"), Some("a"), Some(1_000)),
            (Some("k"), None, Some(2_000)),
            (None, Some(""), Some(3_000)),
            (Some(""), Some("b"), Some(4_000)),
        ],
    );
    let producer: BaseProducer = client::config(&bootstrap).create().unwrap();
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(0)
        .payload(&[0xff_u8, 0][..])
        .timestamp(5_000);
    let value: Option<&[u8]> = Some(&[0xfe, 1]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value })
        .insert(Header {
            key: "a",
            value: None::<&[u8]>,
        });
    record.headers = Some(headers.insert(Header {
        key: "ü",
        value: Some(b""),
    }));
    producer.send(record).map_err(|(e, _)| e).unwrap();
    producer.flush(PATIENCE).unwrap();

    let def = with.table(&bootstrap, &[("topic", topic), FROM_START, TO_END]);
    let all = |keys, headers| {
        let source = KafkaSource::new(
            &def,
            ReadRequest {
                keys,
                headers,
                ..ReadRequest::default()
            },
        )
        .unwrap();
        drain(&source, 1).chunks
    };
    // A small topic comes in one chunk or a few; put them together.
    let (mut values, mut keys, mut headers, mut times) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for chunk in all(true, true) {
        assert!(!chunk.log_append_time);
        let list = chunk.keys.as_ref().expect("keys");
        for i in 0..chunk.len() {
            values.push(chunk.payload.get(i).map(<[u8]>::to_vec));
            keys.push(list.get(i).map(<[u8]>::to_vec));
            times.push(chunk.timestamps_ms[i]);
        }
        headers.extend(chunk.headers.expect("headers"));
    }
    let bytes = |b: &[u8]| Some(b.to_vec());
    assert_eq!(
        values,
        [
            bytes(b"a"),
            None,
            bytes(b""),
            bytes(b"b"),
            bytes(&[0xff, 0])
        ]
    );
    assert_eq!(keys, [bytes(b"k"), bytes(b"k"), None, bytes(b""), None]);
    assert_eq!(times, [1_000, 2_000, 3_000, 4_000, 5_000]);
    assert!(headers[..4].iter().all(Vec::is_empty));
    assert_eq!(
        headers[4],
        [
            ("a".to_string(), bytes(&[0xfe, 1])),
            ("a".to_string(), None),
            ("ü".to_string(), bytes(b""))
        ]
    );
    for chunk in all(false, false) {
        assert!(chunk.keys.is_none() && chunk.headers.is_none());
    }
}

fn append_time_is_told(with: With) {
    let bootstrap = with.bootstrap();
    topic_with(
        &bootstrap,
        "reading-append-time",
        "message.timestamp.type",
        "LogAppendTime",
    );
    client::produce_records(
        &bootstrap,
        "reading-append-time",
        0,
        &[(None, Some("a"), Some(1_000))],
    );
    let received = drain(
        &with.open(&bootstrap, "reading-append-time", &[FROM_START, TO_END]),
        1,
    );
    assert!(received.chunks[0].log_append_time);
    assert!(received.chunks[0].timestamps_ms[0] > 1_000_000_000_000);
}

/// One transaction of `values`; left open when `commit` is `None`.
fn transaction(
    bootstrap: &str,
    topic: &str,
    id: &str,
    values: &[&str],
    commit: Option<bool>,
) -> BaseProducer {
    let producer: BaseProducer = client::config(bootstrap)
        .set("transactional.id", id)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for value in values {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    match commit {
        Some(true) => producer.commit_transaction(PATIENCE).unwrap(),
        Some(false) => producer.abort_transaction(PATIENCE).unwrap(),
        None => {}
    }
    producer
}

/// The last offsets of a partition may be no records: the end is reached by position, not by the
/// last record's offset.
fn transactions_at_the_end_do_not_hide_it(with: With) {
    let bootstrap = with.bootstrap();
    let read = |topic: &str, options: &[(&str, &str)]| {
        let options: Vec<_> = [FROM_START, TO_END]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        let received = drain(&with.open(&bootstrap, topic, &options), 1);
        received
            .texts()
            .into_iter()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let uncommitted = ("properties.isolation.level", "read_uncommitted");

    let topic = "reading-committed";
    client::create_topic(&bootstrap, topic, 2);
    transaction(&bootstrap, topic, topic, &["a", "b"], Some(true));
    assert_eq!(read(topic, &[]), ["a", "b"]);
    transaction(&bootstrap, topic, topic, &["c", "d"], Some(false));
    assert_eq!(read(topic, &[]), ["a", "b"]);
    assert_eq!(read(topic, &[uncommitted]), ["a", "b", "c", "d"]);

    let topic = "reading-aborted";
    client::create_topic(&bootstrap, topic, 1);
    transaction(&bootstrap, topic, topic, &["a"], Some(false));
    assert_eq!(read(topic, &[]), [""; 0]);

    // One that is still open: the end is before it.
    let topic = "reading-open";
    client::create_topic(&bootstrap, topic, 1);
    client::produce(&bootstrap, topic, 0, &["a"]);
    let open = transaction(&bootstrap, topic, topic, &["b"], None);
    assert_eq!(read(topic, &[]), ["a"]);
    assert_eq!(read(topic, &[uncommitted]), ["a", "b"]);
    open.commit_transaction(PATIENCE).unwrap();
    assert_eq!(read(topic, &[]), ["a", "b"]);
}

fn a_new_partition_is_found_and_read_whole(with: With) {
    let bootstrap = with.bootstrap();
    let topic = "reading-grows";
    fill(&bootstrap, topic, &[10]);
    // It starts at the latest offsets, but what appears later is read from its beginning.
    let source = with.open(
        &bootstrap,
        topic,
        &[
            ("scan.startup.mode", "latest-offset"),
            ("scan.topic-partition-discovery.interval", "1 s"),
        ],
    );
    assert_eq!(source.discovery_interval(), Some(Duration::from_secs(1)));
    let all = partitions(&source);
    assert_eq!(
        all.iter()
            .map(|a| (a.id, a.start, a.end))
            .collect::<Vec<_>>(),
        [(0, 10, None)]
    );
    let mut reader = source.reader(&all).unwrap();
    assert_eq!(source.discover().unwrap(), []);

    let (admin, options) = admin(&bootstrap);
    let results =
        block_on(admin.create_partitions(&[NewPartitions::new(topic, 3)], &options)).unwrap();
    assert!(results[0].is_ok());
    append(&bootstrap, topic, 2, 0..7);
    let mut found = Vec::new();
    let started = Instant::now();
    while found.len() < 2 {
        assert!(started.elapsed() < PATIENCE, "found {found:?}");
        found.extend(source.discover().unwrap());
    }
    assert_eq!(
        found
            .iter()
            .map(|a| (a.id, a.partition, a.start, a.end))
            .collect::<Vec<_>>(),
        [(1, 1, 0, None), (2, 2, 0, None)]
    );
    assert_eq!(source.discover().unwrap(), []);
    reader.add(&found).unwrap();
    append(&bootstrap, topic, 0, 10..12);
    append(&bootstrap, topic, 1, 0..1);
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() >= 10);
    let of = |p: i32| received.records[&(topic.to_string(), p)].clone();
    assert_eq!(of(0), expected(0, 0..12)[10..]);
    assert_eq!((of(1), of(2)), (expected(1, 0..1), expected(2, 0..7)));
    assert_eq!(received.notices, [""; 0]);
}

#[test]
fn an_unknown_topic_names_the_nearest() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "reading-wanted", 1);
    let error = open(&bootstrap, "reading-wnated", &[])
        .partitions(None, &mut |_| true)
        .unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert_says(
        &error,
        &[
            "topic 'reading-wnated' does not exist at 127.0.0.1",
            "did you mean 'reading-wanted'?",
            &format!("windrow topics create reading-wnated --bootstrap-server {bootstrap}"),
        ],
    );
    // The broker's own topics are no suggestion.
    assert!(!both(&error).contains("__"));
}

fn lists_and_patterns(with: With) {
    let bootstrap = with.bootstrap();
    for topic in ["pattern-a", "pattern-b", "xpattern-a", "pattern-c-not"] {
        fill(&bootstrap, topic, &[1, 1]);
    }
    let names = |options: &[(&str, &str)]| {
        let source =
            KafkaSource::new(&with.table(&bootstrap, options), ReadRequest::default()).unwrap();
        let received = drain(&source, 2);
        received
            .records
            .keys()
            .map(|(t, p)| format!("{t}/{p}"))
            .collect::<Vec<_>>()
    };
    let a_and_b = ["pattern-a/0", "pattern-a/1", "pattern-b/0", "pattern-b/1"];
    // A pattern matches whole names, as in Flink.
    assert_eq!(
        names(&[("topic-pattern", "pattern-[a-z]"), FROM_START, TO_END]),
        a_and_b
    );
    assert_eq!(
        names(&[
            ("subscribePattern", "pattern-a|pattern-b"),
            FROM_START,
            TO_END
        ]),
        a_and_b
    );
    assert_eq!(
        names(&[("topic", "pattern-b; pattern-a"), FROM_START, TO_END]),
        a_and_b
    );
    // A topic that matches and appears later is found.
    let source = KafkaSource::new(
        &with.table(&bootstrap, &[("topic-pattern", "later-.*"), FROM_START]),
        ReadRequest::default(),
    )
    .unwrap();
    assert_eq!(partitions(&source), []);
    fill(&bootstrap, "later-1", &[1]);
    let found = source.discover().unwrap();
    assert_eq!(
        found
            .iter()
            .map(|a| (a.id, &*a.topic, a.start))
            .collect::<Vec<_>>(),
        [(0, "later-1", 0)]
    );
}

/// (librdkafka's reader neither fails nor says anything within 60 s.)
#[test]
fn a_deleted_topic_is_an_error() {
    let bootstrap = Broker::shared().bootstrap();
    fill(&bootstrap, "reading-deleted", &[5]);
    let source = open(&bootstrap, "reading-deleted", &[FROM_START]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() == 5);
    let (admin, options) = admin(&bootstrap);
    assert!(block_on(admin.delete_topics(&["reading-deleted"], &options)).unwrap()[0].is_ok());
    let error = ends_with(reader.as_mut());
    assert_says(
        &error,
        &[
            "reading-deleted/0",
            "does not exist any more",
            "was the topic deleted?",
        ],
    );
}
