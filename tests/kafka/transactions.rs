//! The exactly-once sink: what readers of committed rows see, and when.

use super::*;
use arrow::array::{ArrayRef, Int32Array, StringViewArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use windrow::kafka::sink::KafkaSink;
use windrow::kafka::transaction::{GroupOffsets, Transaction};
use windrow::sink::Sink;
use windrow::table::{Column, ColumnKind, MetadataKey};

/// No checkpoint of these tests takes longer.
const LONGEST: Duration = Duration::from_secs(20);

fn properties(bootstrap: &str) -> [(&str, &str); 2] {
    // A table has a group for its source, too.
    [("bootstrap.servers", bootstrap), ("group.id", "none")]
}

/// The id is the marker's topic.
fn begin(bootstrap: &str, id: &str) -> Arc<Transaction> {
    let properties = properties(bootstrap);
    Arc::new(
        Transaction::open(properties.into_iter(), id, id, LONGEST, &mut |_| true)
            .expect("a transaction"),
    )
}

/// A sink of a text and the partition where it goes.
fn sink(bootstrap: &str, topic: &str, transaction: &Arc<Transaction>) -> KafkaSink {
    let mut def = table(bootstrap, &[("topic", topic), ("format", "raw")]);
    let column = |name: &str, data_type, kind| Column {
        name: name.into(),
        data_type,
        nullable: false,
        kind,
        ltz: false,
        at: def.at,
    };
    let partition = ColumnKind::Metadata {
        key: MetadataKey::Partition,
        is_virtual: false,
    };
    def.columns = vec![
        column("v", DataType::Utf8View, ColumnKind::Physical),
        column("p", DataType::Int32, partition),
    ];
    KafkaSink::new(&def, Some(transaction.clone())).expect("a sink")
}

fn rows(rows: &[(i32, &str)]) -> RecordBatch {
    let texts: StringViewArray = rows.iter().map(|(_, text)| Some(*text)).collect();
    let partitions: Int32Array = rows.iter().map(|(p, _)| Some(*p)).collect();
    let columns: [(&str, ArrayRef); 2] = [("v", Arc::new(texts)), ("p", Arc::new(partitions))];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

/// Writes one epoch up to where the checkpoint commits.
fn write(sink: &mut KafkaSink, epoch: u64, list: &[(i32, &str)]) -> Result<()> {
    sink.write(epoch, &rows(list))?;
    sink.commit(epoch)?;
    sink.prepare(epoch).map(drop)
}

/// Reads committed rows until they are these: readers see them a moment after the commit.
#[track_caller]
fn wait_for(bootstrap: &str, topic: &str, wanted: &[(i32, &str)]) {
    let started = Instant::now();
    loop {
        let found = client::read_all(bootstrap, topic);
        if found
            .iter()
            .map(|(p, v)| (*p, v.as_str()))
            .eq(wanted.iter().copied())
        {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{topic}: {found:?}");
    }
}

/// How many records a reader sees that does not care for transactions.
fn uncommitted(bootstrap: &str, topic: &str, partition: i32) -> i64 {
    let consumer: BaseConsumer = client::config(bootstrap)
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    consumer
        .fetch_watermarks(topic, partition, PATIENCE)
        .unwrap()
        .1
}

fn hidden(bootstrap: &str, topic: &str) {
    assert_eq!(client::read_all(bootstrap, topic), [], "{topic}");
}

#[test]
fn rows_are_seen_when_the_checkpoint_commits() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-seen", 1);
    let transaction = begin(&bootstrap, "txn-seen");
    assert_eq!(transaction.bootstrap(), bootstrap);
    assert_eq!(transaction.committed().unwrap(), None);
    let mut sink = sink(&bootstrap, "txn-seen", &transaction);
    write(&mut sink, 1, &[(0, "a"), (0, "b")]).unwrap();
    assert_eq!(uncommitted(&bootstrap, "txn-seen", 0), 2, "they are there");
    hidden(&bootstrap, "txn-seen");
    assert!(transaction.commit(1, &[]).unwrap());
    wait_for(&bootstrap, "txn-seen", &[(0, "a"), (0, "b")]);
    assert_eq!(transaction.committed().unwrap(), Some(1));
    // The next epoch, as hidden as the first.
    write(&mut sink, 2, &[(0, "c")]).unwrap();
    wait_for(&bootstrap, "txn-seen", &[(0, "a"), (0, "b")]);
    assert!(transaction.commit(2, &[]).unwrap());
    sink.close().unwrap();
    wait_for(&bootstrap, "txn-seen", &[(0, "a"), (0, "b"), (0, "c")]);
    assert_eq!(begin(&bootstrap, "txn-seen").committed().unwrap(), Some(2));
}

/// SeaTunnel #11534: the first record was lost, as its partition joined the transaction late.
#[test]
fn two_sinks_share_a_transaction_and_lose_no_first_record() {
    let bootstrap = Broker::shared().bootstrap();
    for topic in ["txn-two-a", "txn-two-b"] {
        client::create_topic(&bootstrap, topic, 3);
    }
    let transaction = begin(&bootstrap, "txn-two-a");
    let mut a = sink(&bootstrap, "txn-two-a", &transaction);
    let mut b = sink(&bootstrap, "txn-two-b", &transaction);
    // Each epoch begins at another partition; the second topic joins late, or not at all.
    write(&mut a, 1, &[(2, "1")]).unwrap();
    write(&mut b, 1, &[(0, "1"), (1, "1")]).unwrap();
    hidden(&bootstrap, "txn-two-a");
    hidden(&bootstrap, "txn-two-b");
    assert!(transaction.commit(1, &[]).unwrap());
    write(&mut b, 2, &[(2, "2")]).unwrap();
    assert!(transaction.commit(2, &[]).unwrap());
    write(&mut a, 3, &[(0, "3"), (1, "3"), (2, "3")]).unwrap();
    write(&mut b, 3, &[(0, "3")]).unwrap();
    assert!(transaction.commit(3, &[]).unwrap());
    wait_for(
        &bootstrap,
        "txn-two-a",
        &[(0, "3"), (1, "3"), (2, "1"), (2, "3")],
    );
    wait_for(
        &bootstrap,
        "txn-two-b",
        &[(0, "1"), (0, "3"), (1, "1"), (2, "2")],
    );
    assert_eq!(transaction.committed().unwrap(), Some(3));
}

/// RisingWave #7499: what a crash left open held up every reader until its time was over.
#[test]
fn a_crash_leaves_nothing_and_holds_up_nobody() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-crash", 1);
    let transaction = begin(&bootstrap, "txn-crash");
    let mut first = sink(&bootstrap, "txn-crash", &transaction);
    write(&mut first, 1, &[(0, "kept")]).unwrap();
    assert!(transaction.commit(1, &[]).unwrap());
    write(&mut first, 2, &[(0, "lost")]).unwrap();
    drop((first, transaction));
    client::produce(&bootstrap, "txn-crash", 0, &["outside"]);
    wait_for(&bootstrap, "txn-crash", &[(0, "kept")]);

    let started = Instant::now();
    let transaction = begin(&bootstrap, "txn-crash");
    assert_eq!(transaction.committed().unwrap(), Some(1));
    wait_for(&bootstrap, "txn-crash", &[(0, "kept"), (0, "outside")]);
    assert!(started.elapsed() < LONGEST, "by the broker's time-out");
    let mut second = sink(&bootstrap, "txn-crash", &transaction);
    write(&mut second, 2, &[(0, "again")]).unwrap();
    assert!(transaction.commit(2, &[]).unwrap());
    wait_for(
        &bootstrap,
        "txn-crash",
        &[(0, "kept"), (0, "outside"), (0, "again")],
    );
}

#[test]
fn what_is_given_up_holds_up_nobody() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-abort", 1);
    let transaction = begin(&bootstrap, "txn-abort");
    let mut sink = sink(&bootstrap, "txn-abort", &transaction);
    write(&mut sink, 1, &[(0, "lost")]).unwrap();
    // Not even sent yet.
    sink.write(1, &rows(&[(0, "lost, too")])).unwrap();
    client::produce(&bootstrap, "txn-abort", 0, &["outside"]);
    hidden(&bootstrap, "txn-abort");
    let started = Instant::now();
    transaction.abort();
    wait_for(&bootstrap, "txn-abort", &[(0, "outside")]);
    assert!(started.elapsed() < LONGEST, "by the broker's time-out");
    // A straggler begins no other one.
    assert_says(
        &write(&mut sink, 1, &[(0, "late")]).unwrap_err(),
        &["given up"],
    );
    assert_says(&transaction.commit(1, &[]).unwrap_err(), &["given up"]);
    transaction.abort();
}

/// FLINK-31363: the commit of a transaction without records failed.
#[test]
fn an_epoch_without_rows_commits_nothing() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-empty", 1);
    let transaction = begin(&bootstrap, "txn-empty");
    let mut sink = sink(&bootstrap, "txn-empty", &transaction);
    let prepared = sink.prepare(1).unwrap();
    assert_eq!(prepared["transaction"], transaction.id());
    assert!(!transaction.commit(1, &[]).unwrap());
    write(&mut sink, 2, &[]).unwrap();
    assert!(!transaction.commit(2, &[]).unwrap());
    assert_eq!(transaction.committed().unwrap(), None);
    write(&mut sink, 3, &[(0, "a")]).unwrap();
    assert!(transaction.commit(3, &[]).unwrap());
    sink.prepare(4).unwrap();
    assert!(!transaction.commit(4, &[]).unwrap());
    assert_eq!(transaction.committed().unwrap(), Some(3));
    wait_for(&bootstrap, "txn-empty", &[(0, "a")]);
}

/// Two runs of one job: the older one must neither write nor commit.
#[test]
fn a_zombie_is_fenced() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-zombie", 1);
    let taken = ["another windrow", "'txn-zombie' has taken over"];

    // While its rows are sent and wait for the commit.
    let old = begin(&bootstrap, "txn-zombie");
    let mut zombie = sink(&bootstrap, "txn-zombie", &old);
    write(&mut zombie, 1, &[(0, "zombie")]).unwrap();
    let new = begin(&bootstrap, "txn-zombie");
    assert_says(&old.commit(1, &[]).unwrap_err(), &taken);

    // Before it begins.
    let mut zombie = sink(&bootstrap, "txn-zombie", &new);
    let newest = begin(&bootstrap, "txn-zombie");
    assert_says(
        &write(&mut zombie, 1, &[(0, "zombie")]).unwrap_err(),
        &taken,
    );
    assert!(new.commit(1, &[]).is_err());

    let mut alive = sink(&bootstrap, "txn-zombie", &newest);
    write(&mut alive, 1, &[(0, "alive")]).unwrap();
    assert!(newest.commit(1, &[]).unwrap());
    wait_for(&bootstrap, "txn-zombie", &[(0, "alive")]);
}

/// Offset and metadata of a group.
fn group_offset(bootstrap: &str, group: &str, topic: &str, p: i32) -> Option<(i64, String)> {
    let consumer: BaseConsumer = client::config(bootstrap)
        .set("group.id", group)
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, p);
    let found = consumer.committed_offsets(asked, PATIENCE).unwrap();
    let found = found.find_partition(topic, p).unwrap();
    match found.offset() {
        Offset::Offset(offset) => Some((offset, found.metadata().to_string())),
        _ => None,
    }
}

#[test]
fn groups_stand_where_the_checkpoint_does() {
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-groups-in", 2);
    client::create_topic(&bootstrap, "txn-groups", 1);
    client::produce(&bootstrap, "txn-groups-in", 0, &["a", "b", "c"]);
    let transaction = begin(&bootstrap, "txn-groups");
    let mut sink = sink(&bootstrap, "txn-groups", &transaction);
    let at = |group: &str, first: i64, second: i64| GroupOffsets {
        group: group.to_string(),
        positions: vec![
            ("txn-groups-in".to_string(), 0, first),
            ("txn-groups-in".to_string(), 1, second),
        ],
    };
    let nowhere = GroupOffsets {
        group: "txn-group-c".into(),
        positions: Vec::new(),
    };
    let place = |group: &str, p: i32| group_offset(&bootstrap, group, "txn-groups-in", p);
    for (checkpoint, first) in [(7, 2), (8, 3)] {
        write(&mut sink, checkpoint, &[(0, "x")]).unwrap();
        let offsets = [
            at("txn-group-a", first, 0),
            at("txn-group-b", 1, 0),
            nowhere.clone(),
        ];
        assert!(transaction.commit(checkpoint, &offsets).unwrap());
        let text = format!("windrow checkpoint={checkpoint}");
        assert_eq!(place("txn-group-a", 0), Some((first, text.clone())));
        assert_eq!(place("txn-group-a", 1), Some((0, text.clone())));
        assert_eq!(place("txn-group-b", 0), Some((1, text.clone())));
        let number = i64::try_from(checkpoint).unwrap();
        assert_eq!(
            group_offset(&bootstrap, "windrow-txn-groups", "txn-groups", 0),
            Some((number, text))
        );
        assert_eq!(transaction.committed().unwrap(), Some(checkpoint));
    }
    assert_eq!(place("txn-group-c", 0), None);

    // What is given up moves no group.
    write(&mut sink, 9, &[(0, "y")]).unwrap();
    transaction.abort();
    assert_eq!(place("txn-group-a", 0).unwrap().0, 3);
}

#[test]
fn an_offset_of_somebody_else_is_no_marker() {
    use rdkafka::consumer::CommitMode;
    let bootstrap = Broker::shared().bootstrap();
    client::create_topic(&bootstrap, "txn-foreign", 1);
    let consumer: BaseConsumer = client::config(&bootstrap)
        .set("group.id", "windrow-txn-foreign")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("txn-foreign", 0, Offset::Offset(5))
        .unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    let error = begin(&bootstrap, "txn-foreign").committed().unwrap_err();
    assert_says(
        &error,
        &["windrow-txn-foreign", "not written by windrow", "--delete"],
    );
}

#[test]
fn a_time_that_brokers_do_not_allow_is_explained() {
    let bootstrap = Broker::shared().bootstrap();
    let open = |property: Option<&'static str>, longest: u64| {
        let timeout = property.map(|p| ("transaction.timeout.ms", p));
        let all = properties(&bootstrap).into_iter().chain(timeout);
        let longest = Duration::from_secs(longest);
        Transaction::open(all, "txn-long", "txn-long", longest, &mut |_| true)
    };
    // The broker allows 15 minutes.
    let error = open(None, 3600).map(drop).unwrap_err();
    let wanted = ["3600000 ms", "take checkpoints more often"];
    assert_says(&error, &wanted);
    assert_says(&error, &["set transaction.max.timeout.ms=3600000"]);
    let error = open(Some("1000000"), 10).map(drop).unwrap_err();
    assert_says(
        &error,
        &["1000000 ms", "lower properties.transaction.timeout.ms"],
    );
    // Too short a one is raised, and a delivery time that does not fit it lowered.
    open(Some("1000"), 10).unwrap();
    let delivery = [("delivery.timeout.ms", "120000")];
    let all = properties(&bootstrap).into_iter().chain(delivery);
    Transaction::open(all, "txn-long", "txn-long", LONGEST, &mut |_| true).unwrap();
}

#[test]
fn a_row_that_is_refused_fails_the_epoch() {
    let bootstrap = Broker::shared().bootstrap();
    topic_with(&bootstrap, "txn-large", "max.message.bytes", "100");
    client::create_topic(&bootstrap, "txn-large-b", 1);
    let transaction = begin(&bootstrap, "txn-large");
    let mut small = sink(&bootstrap, "txn-large-b", &transaction);
    let mut large = sink(&bootstrap, "txn-large", &transaction);
    write(&mut small, 1, &[(0, "a")]).unwrap();
    let text: String = (0..1000_u32)
        .map(|i| char::from(b'!' + (i.wrapping_mul(2_654_435_761) >> 16) as u8 % 90))
        .collect();
    let refused = ["did not take a record of txn-large/0", "too large"];
    let error = write(&mut large, 1, &[(0, &text)]).unwrap_err();
    assert_says(&error, &refused);
    // Whoever asks next hears it, too, and nothing of the epoch is seen.
    assert_says(&small.prepare(1).unwrap_err(), &refused);
    assert_says(&transaction.commit(1, &[]).unwrap_err(), &refused);
    client::produce(&bootstrap, "txn-large-b", 0, &["outside"]);
    wait_for(&bootstrap, "txn-large-b", &[(0, "outside")]);
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    client::create_topic(&bootstrap, "txn-away", 1);
    broker.stop();
    let mut told = Vec::new();
    let open = |wait: &mut dyn FnMut(&str) -> bool| {
        let properties = properties(&bootstrap).into_iter();
        Transaction::open(properties, "txn-away", "txn-away", LONGEST, wait)
    };
    let error = open(&mut |text| text.is_empty()).map(drop).unwrap_err();
    assert_says(&error, &["stopped while waiting for Kafka", &bootstrap]);

    let transaction = open(&mut |text| {
        if !text.is_empty() {
            told.push(text.to_string());
        }
        if told.len() == 1 && !text.is_empty() {
            broker.restart();
        }
        true
    });
    let transaction = Arc::new(transaction.unwrap());
    assert!(told[0].contains("waiting for Kafka at"), "{told:?}");
    assert!(told.last().unwrap().contains("answers"), "{told:?}");
    assert!(told.len() <= 4, "{told:?}");

    // It goes away between the flush and the commit, and takes longer than one attempt.
    let mut sink = sink(&bootstrap, "txn-away", &transaction);
    write(&mut sink, 1, &[(0, "a")]).unwrap();
    broker.kill();
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| transaction.commit(1, &[]));
        broker.restart();
        assert!(commit.join().unwrap().unwrap());
    });
    wait_for(&bootstrap, "txn-away", &[(0, "a")]);
    assert_eq!(transaction.committed().unwrap(), Some(1));
}
