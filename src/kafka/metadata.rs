//! The client for metadata, offsets and groups: librdkafka's consumer, which reads nothing here.

use crate::error::{Error, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, ClientContext};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

pub type MetadataClient = BaseConsumer<Said>;

/// A client; connects in the background.
pub fn client(config: &ClientConfig) -> Result<MetadataClient> {
    let mut config = config.clone();
    // The error that a call returns says it all; librdkafka's own log would say it again.
    config.set("log_level", "0");
    config
        .create_with_context(Said::default())
        .map_err(|e| Error::env(format!("cannot make a Kafka client: {e}")))
}

/// What the client says beside the answers of calls.
#[derive(Debug, Default)]
pub struct Said {
    last: Mutex<Option<String>>,
}

impl ClientContext for Said {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "librdkafka", "{facility}: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        // That no broker is left follows from what was said before.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            // What follows changes from one attempt to the next.
            let reason = reason.split(" (after ").next().unwrap_or(reason);
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Said {}

/// Serves what the client has to say, for so long at most, and returns its errors.
pub fn events(client: &MetadataClient, wait: Duration) -> Vec<KafkaError> {
    let mut errors = Vec::new();
    let mut wait = wait;
    while let Some(event) = client.poll(wait) {
        errors.extend(event.err());
        wait = Duration::ZERO;
    }
    errors
}

/// Why nothing answers, where a call says only that; `error` where that is all there is.
pub fn why(client: &MetadataClient, error: &KafkaError) -> String {
    let silent = [
        Code::BrokerTransportFailure,
        Code::OperationTimedOut,
        Code::AllBrokersDown,
        Code::Resolve,
    ];
    let is_silent = error
        .rdkafka_error_code()
        .is_some_and(|c| silent.contains(&c));
    let said = client.context().last.lock();
    let said = said.unwrap_or_else(PoisonError::into_inner).clone();
    said.filter(|_| is_silent)
        .unwrap_or_else(|| error.to_string())
}

/// Commits offsets of the client's group. librdkafka's call waits for a coordinator that has gone
/// without a bound; it is left alone then.
pub fn commit(
    client: Arc<MetadataClient>,
    list: TopicPartitionList,
    wait: Duration,
) -> KafkaResult<()> {
    let failed = KafkaError::ConsumerCommit;
    let (done, answer) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("commit".into())
        .spawn(move || done.send(client.commit(&list, CommitMode::Sync)))
        .map_err(|_| failed(Code::CriticalSystemResource))?;
    let answer = answer.recv_timeout(wait);
    answer.unwrap_or_else(|_| Err(failed(Code::OperationTimedOut)))
}
