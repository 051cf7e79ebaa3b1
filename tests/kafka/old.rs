//! Brokers that are too old for the direct client.

use super::*;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey;

const PLAY: &str = "old";

/// A cluster within this process that speaks Fetch as Kafka 2.2 did.
fn old_cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(PLAY, 1, 1).expect("a topic");
    client::produce(&cluster.bootstrap_servers(), PLAY, 0, &["a", "b", "c"]);
    let fetch = RDKafkaApiKey::Fetch;
    cluster.apiversion(fetch, Some(0), Some(10)).expect("set");
    cluster
}

/// It was an error that named the option; the user had to know what a client is.
#[test]
fn librdkafka_reads_a_broker_that_is_too_old() {
    let cluster = old_cluster();
    let source = open(&cluster.bootstrap_servers(), PLAY, &[FROM_START, TO_END]);
    let received = drain(&source, 1);
    assert_eq!(received.texts(), ["a", "b", "c"]);
    let told = &received.notices;
    assert!(
        told.len() == 1
            && told[0].starts_with("librdkafka reads on: ")
            && told[0].ends_with("is older than 2.3"),
        "{told:?}"
    );
}

#[test]
fn who_asks_for_the_direct_client_is_told_that_it_cannot() {
    let cluster = old_cluster();
    let source = With::DIRECT.open(&cluster.bootstrap_servers(), PLAY, &[FROM_START]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let error = ends_with(reader.as_mut());
    assert_says(
        &error,
        &["is older than 2.3", "'source.client' = 'librdkafka'"],
    );
}
