//! A plain Kafka client, apart from windrow's own code, to fill topics and to check them.

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Creates a topic and returns when it can be used. A topic that exists already is an error.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> =
        config(bootstrap).create().expect("admin client");
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let results = block_on(admin.create_topics([&new], &options)).expect("create topics");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("topic {topic} was not created: {code}"));
    }
}

/// Number of topics that this client may see, internal ones left out. The error is what the
/// broker says to the client, e.g. that its password is wrong.
pub fn topic_count(config: &ClientConfig) -> Result<usize, String> {
    let consumer: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    let metadata = consumer
        .fetch_metadata(None, Duration::from_secs(5))
        .map_err(|e| e.to_string())?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|t| !t.name().starts_with("__"))
        .count())
}

/// Writes values without key to one partition; returns when all are acknowledged.
pub fn produce(bootstrap: &str, topic: &str, partition: i32, values: &[&str]) {
    let records: Vec<_> = values.iter().map(|v| (None, Some(*v), None)).collect();
    produce_records(bootstrap, topic, partition, &records);
}

/// Writes (key, value, timestamp in ms) to one partition; a `None` value is a tombstone, a
/// `None` timestamp is the current time.
pub fn produce_records(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    records: &[(Option<&str>, Option<&str>, Option<i64>)],
) {
    let producer: BaseProducer<Undelivered> = config(bootstrap)
        .set("linger.ms", "0")
        .create_with_context(Undelivered::default())
        .expect("producer");
    for (key, value, timestamp_ms) in records {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition);
        record.key = *key;
        record.payload = *value;
        record.timestamp = *timestamp_ms;
        let mut unsent = Some(record);
        while let Some(record) = unsent.take() {
            match producer.send(record) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(100));
                    unsent = Some(back);
                }
                Err((error, _)) => panic!("produce to {topic}: {error}"),
            }
        }
    }
    producer
        .flush(TIMEOUT)
        .expect("every record is acknowledged");
    assert_eq!(
        producer.context().0.load(Ordering::Relaxed),
        0,
        "records that the broker refused"
    );
}

/// Counts the records that were not delivered; `flush` does not tell.
#[derive(Default)]
struct Undelivered(AtomicUsize);

impl ClientContext for Undelivered {}

impl ProducerContext for Undelivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All values of a topic as (partition, value), in the order of partition and offset;
/// tombstones are empty. Sees committed transactions only.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<(i32, String)> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("group.id", "windrow-tests-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), TIMEOUT)
        .expect("metadata");
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|p| p.id())
        .collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .expect("assignment");
    }
    consumer.assign(&assignment).expect("assign");
    let (mut values, mut ended) = (Vec::new(), 0);
    while ended < partitions.len() {
        match consumer.poll(TIMEOUT) {
            None => panic!("{topic}: nothing read within {TIMEOUT:?}"),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("read {topic}: {error}"),
            Some(Ok(message)) => {
                let value =
                    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                values.push((message.partition(), message.offset(), value));
            }
        }
    }
    values.sort();
    values
        .into_iter()
        .map(|(partition, _, value)| (partition, value))
        .collect()
}

/// Committed offset of each partition of a group: `None` where it has committed nothing.
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", group)
        .create()
        .expect("consumer");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let offsets = consumer
        .committed_offsets(asked, TIMEOUT)
        .expect("committed offsets");
    let offset = |p| {
        offsets
            .find_partition(topic, p)
            .and_then(|e| e.offset().to_raw())
            .filter(|o| *o >= 0)
    };
    (0..partitions).map(offset).collect()
}
