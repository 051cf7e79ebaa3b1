//! Producing records: a client that several sinks may share, and a plain producer over it.

use super::config::{ClientConfig, client_config};
use super::faults;
use crate::error::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Deliveries are looked at after so many records.
const POLL_EVERY: u64 = 256;
/// A wait that lasts so long is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers the first delivery that failed, or that the broker refuses the client.
pub(super) struct Deliveries {
    failed: Mutex<Option<Failure>>,
    /// Whose rights count, for messages.
    who: String,
}

#[derive(Clone)]
struct Failure {
    error: Error,
    /// librdkafka threw the record away because of something else, which it does not name here.
    purged: bool,
}

impl Deliveries {
    fn remember(&self, error: Error, purged: bool) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.as_ref().is_none_or(|f| f.purged && !purged) {
            *failed = Some(Failure { error, purged });
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "librdkafka", "{facility}: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka would try a wrong password until the delivery time-out, minutes later.
        if matches!(
            error.rdkafka_error_code(),
            Some(Code::Authentication | Code::SaslAuthenticationFailed)
        ) {
            let refused = Error::env(format!("Kafka refuses: {reason}"))
                .with_hint("check properties.security.protocol and properties.sasl.*");
            self.remember(refused, false);
        }
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code();
            let topic = message.topic();
            let mut failed = Error::env(format!(
                "Kafka did not take a record of {topic}/{}: {error}",
                message.partition()
            ));
            if code == Some(Code::TopicAuthorizationFailed) {
                let who = &self.who;
                failed = failed.with_hint(format!(
                    "{who} needs the right (ACL) Write on topic '{topic}'"
                ));
            }
            let purged = matches!(code, Some(Code::PurgeQueue | Code::PurgeInflight));
            self.remember(failed, purged);
        }
    }
}

/// A connection that records go through, for one topic or many. A delivery that has failed is an
/// error of every later call: what came behind it must not look complete.
pub(super) struct Client {
    pub producer: BaseProducer<Deliveries>,
    pub bootstrap: String,
    /// Empty without transactions.
    pub transactional_id: String,
    /// What is written to, for messages.
    topics: Mutex<BTreeSet<String>>,
}

impl Client {
    pub fn new(mut config: ClientConfig) -> Result<Self> {
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("batch.num.messages", "100000"),
            ("batch.size", "1000000"),
            ("queue.buffering.max.messages", "500000"),
            ("queue.buffering.max.kbytes", "65536"),
            ("compression.type", "lz4"),
            // A broker that comes back is written to at once, not up to 10 s later.
            ("reconnect.backoff.max.ms", "2000"),
            // The Java client's choice, so that a key goes where its other producers put it.
            ("partitioner", "murmur2_random"),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        // What is too large the broker says; but what the queue does not hold would wait for ever.
        let queue = config
            .get("queue.buffering.max.kbytes")
            .and_then(|k| k.parse::<u64>().ok());
        if config.get("message.max.bytes").is_none()
            && let Some(queue) = queue
        {
            let most = queue.saturating_mul(1024).clamp(1000, 64 << 20);
            config.set("message.max.bytes", most.to_string());
        }
        let text = |key: &str| config.get(key).unwrap_or("").to_string();
        let (bootstrap, transactional_id) = (text("bootstrap.servers"), text("transactional.id"));
        let context = Deliveries {
            failed: Mutex::default(),
            who: faults::who(&config),
        };
        let producer = config
            .create_with_context(context)
            .map_err(|e| Error::env(format!("cannot make a Kafka producer: {e}")))?;
        Ok(Self {
            producer,
            bootstrap,
            transactional_id,
            topics: Mutex::default(),
        })
    }

    /// Number of partitions of `topic`; `None` when the broker is away. No topic is an error.
    fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        let Ok(metadata) = self
            .producer
            .client()
            .fetch_metadata(Some(topic), Duration::from_secs(5))
        else {
            // Away, or refused: a request reports either as a time-out.
            return self.serve(Duration::ZERO).map(|()| None);
        };
        match metadata.topics().iter().find(|t| t.name() == topic) {
            Some(t) if t.error().map(Code::from) == Some(Code::TopicAuthorizationFailed) => {
                let who = &self.producer.context().who;
                Err(faults::hidden(
                    who,
                    topic,
                    &self.bootstrap,
                    "Describe and Write",
                ))
            }
            Some(t) if t.partitions().is_empty() => Err(Error::env(format!(
                "topic '{topic}' does not exist at {}",
                self.bootstrap
            ))
            .with_hint(format!(
                "create it: windrow topics create {topic} --bootstrap-server {}",
                self.bootstrap
            ))),
            found => Ok(found.map(|t| t.partitions().len() as i32)),
        }
    }

    /// Hands a record over. Waits while the queue is full.
    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let started = Instant::now();
        let mut told = false;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    self.serve(Duration::from_millis(50))?;
                    self.tell_wait(record.topic, started, &mut told);
                }
                Err((e, back)) => {
                    // Why it refuses may lie among the events.
                    self.serve(Duration::from_millis(50))?;
                    if let Some((_, text)) = self.producer.client().fatal_error() {
                        return Err(self.gave_up(&text));
                    }
                    return Err(Error::env(format!(
                        "cannot produce to topic '{}' at {}: {e}",
                        back.topic, self.bootstrap
                    )));
                }
            }
        }
    }

    /// Waits until every record is delivered, also those of other topics.
    pub fn flush(&self, topic: &str) -> Result<()> {
        let started = Instant::now();
        let mut told = false;
        // Not until `in_flight_count` is 0: it counts events too, which a flush does not serve.
        loop {
            match self.producer.flush(Duration::from_millis(500)) {
                Ok(()) => break,
                // A time-out is no failure: the loop looks again.
                Err(KafkaError::Flush(Code::OperationTimedOut)) => {}
                Err(e) => {
                    return Err(Error::env(format!("cannot flush to topic '{topic}': {e}")));
                }
            }
            self.failure()?;
            self.tell_wait(topic, started, &mut told);
        }
        // What is left are events such as a lost connection.
        for _ in 0..self.producer.in_flight_count() {
            self.producer.poll(Duration::ZERO);
        }
        self.failure()
    }

    fn tell_wait(&self, topic: &str, since: Instant, told: &mut bool) {
        if !*told && since.elapsed() > PATIENCE {
            *told = true;
            tracing::warn!(
                "waiting for Kafka at {} to take {} records of topic '{topic}'",
                self.bootstrap,
                self.producer.in_flight_count(),
            );
        }
    }

    /// Serves deliveries for so long.
    pub fn serve(&self, time: Duration) -> Result<()> {
        self.producer.poll(time);
        self.failure()
    }

    fn failure(&self) -> Result<()> {
        let failed = self.producer.context().failed.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Failure { error, purged }) = failed else {
            return Ok(());
        };
        if self.transactional_id.is_empty() {
            return Err(match self.producer.client().fatal_error() {
                Some((_, text)) if purged => self.gave_up(&text),
                _ => error,
            });
        }
        // Asking for another transaction is how librdkafka tells what is wrong with this one.
        match self.producer.begin_transaction() {
            Err(KafkaError::Transaction(e))
                if e.is_fatal() || (purged && e.txn_requires_abort()) =>
            {
                Err(self.refused(&e))
            }
            _ => Err(error),
        }
    }

    /// librdkafka does nothing any more, for this reason.
    fn gave_up(&self, text: &str) -> Error {
        let error = Error::env(format!(
            "cannot produce to {} at {}: {text}",
            self.topics(),
            self.bootstrap
        ));
        match text.contains("authorization failed") {
            true => error.with_hint(format!(
                "{} needs the right (ACL) Write on {}",
                self.producer.context().who,
                self.topics()
            )),
            false => error,
        }
    }

    /// E.g. `topics 'a', 'b'`.
    fn topics(&self) -> String {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<String> = topics.iter().map(|t| format!("'{t}'")).collect();
        let word = if named.len() == 1 { "topic" } else { "topics" };
        format!("{word} {}", named.join(", "))
    }

    /// What an error of a transaction means.
    pub fn refused(&self, e: &RDKafkaError) -> Error {
        let id = &self.transactional_id;
        match e.code() {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Error::env(
                format!("another windrow with transactional id '{id}' has taken over"),
            )
            .with_hint(
                "stop one of the two; if there is no other, Kafka gave the transaction up, which \
                 was open for longer than transaction.timeout.ms",
            ),
            Code::TransactionalIdAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed => Error::env(format!(
                "Kafka at {} refuses the transaction of '{id}': {}",
                self.bootstrap,
                e.string()
            ))
            .with_hint(format!(
                "{} needs the rights (ACLs) Write and Describe on transactional id '{id}', Read on \
                 group '{}', Read and Write on {}",
                self.producer.context().who,
                super::transaction::group(id),
                self.topics()
            )),
            _ => Error::env(format!(
                "Kafka at {} gave up the transaction of '{id}': {}",
                self.bootstrap,
                e.string()
            ))
            .with_hint("start again: the run goes on from the last checkpoint"),
        }
    }
}

/// Produces records of one topic; every failed delivery is an error of the calls that follow.
pub struct RawProducer {
    client: Arc<Client>,
    topic: String,
    sent: u64,
    /// Partitions of the topic, when the broker told.
    partitions: Option<i32>,
}

impl RawProducer {
    /// A producer for one topic. Checks that the topic exists when the broker answers; a broker
    /// that is away is waited for while records are sent.
    pub fn new<'a>(
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        topic: &str,
    ) -> Result<Self> {
        Self::through(Arc::new(Client::new(client_config(properties)?)?), topic)
    }

    /// The same over a client that others use, too.
    pub(super) fn through(client: Arc<Client>, topic: &str) -> Result<Self> {
        (client.topics.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .insert(topic.to_string());
        Ok(Self {
            partitions: client.partitions(topic)?,
            client,
            topic: topic.to_string(),
            sent: 0,
        })
    }

    /// Hands a record over. Waits while the producer's queue is full.
    pub fn send(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
    ) -> Result<()> {
        let mut record: BaseRecord<[u8], [u8]> = BaseRecord::to(&self.topic);
        record.key = key;
        record.payload = payload;
        record.partition = partition;
        record.timestamp = timestamp_ms;
        if !headers.is_empty() {
            let mut owned = OwnedHeaders::new_with_capacity(headers.len());
            for (key, value) in headers {
                owned = owned.insert(Header {
                    key,
                    value: Some(*value),
                });
            }
            record.headers = Some(owned);
        }
        self.client.send(record)?;
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.client.serve(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Waits until every record is delivered.
    pub fn flush(&mut self) -> Result<()> {
        self.client.flush(&self.topic)
    }

    /// Serves deliveries for so long.
    pub fn serve(&mut self, time: Duration) -> Result<()> {
        self.client.serve(time)
    }

    /// Records handed over so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The brokers, as the properties name them.
    pub fn bootstrap(&self) -> &str {
        &self.client.bootstrap
    }

    /// Number of the topic's partitions, when the broker told.
    pub(super) fn partitions(&self) -> Option<i32> {
        self.partitions
    }
}
