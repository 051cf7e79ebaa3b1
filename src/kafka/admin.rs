//! Topics: list, describe, create.

use super::metadata::{self, MetadataClient};
use crate::error::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(10);

/// A topic as the broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartition {
    pub id: i32,
    pub leader: i32,
    pub replicas: Vec<i32>,
    /// First offset, and last offset + 1; only from [`describe`].
    pub offsets: Option<(i64, i64)>,
}

fn away(config: &ClientConfig, e: impl std::fmt::Display) -> Error {
    let at = config.get("bootstrap.servers").unwrap_or("");
    Error::env(format!("Kafka at {at} does not answer: {e}"))
        .with_hint("is the broker running there? --bootstrap-server HOST:PORT or WINDROW_BOOTSTRAP names another")
}

fn silent(config: &ClientConfig, client: &MetadataClient, e: &KafkaError) -> Error {
    metadata::events(client, Duration::ZERO);
    away(config, metadata::why(client, e))
}

/// All topics but the broker's own.
pub fn list(config: &ClientConfig) -> Result<Vec<Topic>> {
    let mut topics = all(config)?;
    topics.retain(|t| !t.name.starts_with("__"));
    Ok(topics)
}

fn all(config: &ClientConfig) -> Result<Vec<Topic>> {
    let client = metadata::client(config)?;
    let metadata = client.fetch_metadata(None, REQUEST);
    let metadata = metadata.map_err(|e| silent(config, &client, &e))?;
    let mut topics: Vec<Topic> = metadata
        .topics()
        .iter()
        .map(|t| Topic {
            name: t.name().to_string(),
            partitions: t
                .partitions()
                .iter()
                .map(|p| TopicPartition {
                    id: p.id(),
                    leader: p.leader(),
                    replicas: p.replicas().to_vec(),
                    offsets: None,
                })
                .collect(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// One topic with the offsets of its partitions; `None` when it does not exist.
pub fn describe(config: &ClientConfig, name: &str) -> Result<Option<Topic>> {
    let Some(mut topic) = all(config)?.into_iter().find(|t| t.name == name) else {
        return Ok(None);
    };
    let client = metadata::client(config)?;
    for p in &mut topic.partitions {
        let offsets = client.fetch_watermarks(name, p.id, REQUEST);
        p.offsets = Some(offsets.map_err(|e| silent(config, &client, &e))?);
    }
    topic.partitions.sort_by_key(|p| p.id);
    Ok(Some(topic))
}

/// Creates a topic. Returns false when it exists already.
pub fn create(
    config: &ClientConfig,
    name: &str,
    partitions: i32,
    replication: i32,
    settings: &[(String, String)],
) -> Result<bool> {
    let mut quiet = config.clone();
    quiet.set("log_level", "0");
    let admin: AdminClient<DefaultClientContext> = quiet
        .create()
        .map_err(|e| Error::env(format!("cannot make a Kafka client: {e}")))?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST));
    let results = futures::executor::block_on(admin.create_topics([&topic], &options))
        .map_err(|e| away(config, e))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(Error::env(format!("cannot create topic {name}: {code}"))),
        None => Err(Error::bug("the broker said nothing about the topic")),
    }
}
