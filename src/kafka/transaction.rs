//! The transaction that makes results exactly once.
//!
//! All rows that a job's exactly-once Kafka sinks wrote since the last checkpoint become visible
//! together, with a marker that names the checkpoint they belong to: an offset of a group of our
//! own, committed by the same transaction. Either both are there after a crash or neither is, so
//! the marker says which checkpoint to go on from. The marker is about a topic of the sinks, so
//! it does not matter where the sources are.

use super::config::{ClientConfig, client_config};
use super::faults;
use super::metadata::{self, MetadataClient};
use super::producer::Client;
use crate::error::{Error, Result};
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A transaction may be open for so long, unless more is asked for.
const TIMEOUT_MS: u64 = 60_000;
/// One attempt while the run starts: so often it is asked whether to go on.
const ATTEMPT: Duration = Duration::from_millis(500);
/// A request to a broker that has just answered another.
const REQUEST: Duration = Duration::from_secs(5);
/// A wait that lasts so long is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// The end of a run that has failed waits no longer than this for its transaction's.
const ABORT: Duration = Duration::from_secs(5);
/// What the metadata of a committed offset begins with.
const MARKER: &str = "windrow checkpoint=";

/// Where a consumer group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsets {
    /// The group's id.
    pub group: String,
    /// Topic, partition and the next offset to read. The topics are on the transaction's cluster.
    pub positions: Vec<(String, i32, i64)>,
}

/// What the sinks of a job write between two checkpoints, and its commit. Shared by the sinks
/// and by the thread that takes checkpoints. Dropping it is what a crash does: the open
/// transaction lingers at the broker until the same id is opened again or its time is over.
pub struct Transaction {
    client: Arc<Client>,
    /// Of the consumers that groups need.
    config: ClientConfig,
    /// The group of the marker.
    group: String,
    topic: String,
    state: Mutex<State>,
    /// Something else of the run has failed.
    failed: OnceLock<Arc<AtomicBool>>,
}

#[derive(Default)]
struct State {
    /// Records were sent since the last commit.
    open: bool,
    /// Given up: nothing can be sent any more.
    over: bool,
    groups: HashMap<String, ConsumerGroupMetadata>,
}

/// What a group's coordinator says while it changes or starts.
const PASSING: [Code; 7] = [
    Code::NotCoordinator,
    Code::CoordinatorNotAvailable,
    Code::CoordinatorLoadInProgress,
    Code::UnstableOffsetCommit,
    Code::OperationTimedOut,
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
];
/// How long it may take.
const COORDINATOR: Duration = Duration::from_secs(60);

/// The group that holds the marker of a transactional id.
pub(super) fn group(id: &str) -> String {
    format!("windrow-{id}")
}

impl Transaction {
    /// Makes the transactional id ours: whoever had it before can write nothing any more, and
    /// what they left uncommitted is gone.
    ///
    /// `properties` are a sink table's [`super::config::producer_properties`], `topic` is the topic of the marker: for the
    /// same id always the same one. A transaction may stay open for `longest`. A broker that is
    /// away is waited for; `wait` is told so once per change, and asked with an empty text in
    /// between; it stops that by returning false.
    pub fn open<'a>(
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        id: &str,
        topic: &str,
        longest: Duration,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Self> {
        let config = client_config(properties)?;
        let mut producer = config.clone();
        producer
            .set("transactional.id", id)
            .set("enable.idempotence", "true");
        let timeout = set_timeout(&mut producer, longest);
        let transaction = Self {
            client: Arc::new(Client::new(producer)?),
            config,
            group: group(id),
            topic: topic.to_string(),
            state: Mutex::default(),
            failed: OnceLock::new(),
        };
        let init = || transaction.client.producer.init_transactions(ATTEMPT);
        transaction
            .finish(init, wait)
            .map_err(|failed| match failed {
                Failed::Kafka(e) if e.code() == Code::InvalidTransactionTimeout => {
                    transaction.too_long(timeout, longest)
                }
                failed => transaction.error(failed),
            })?;
        Ok(transaction)
    }

    /// A commit that waits for a broker gives up when this becomes true: the run has failed.
    pub fn heed(&self, failed: Arc<AtomicBool>) {
        let _first = self.failed.set(failed);
    }

    /// The checkpoint that the last committed transaction names; `None` when there is none, or
    /// when it is so long ago that the brokers have forgotten it (their offsets.retention).
    pub fn committed(&self) -> Result<Option<u64>> {
        let offsets = self.committed_offsets()?;
        let Some(marker) = offsets
            .find_partition(&self.topic, 0)
            .filter(|p| matches!(p.offset(), Offset::Offset(_)))
        else {
            return Ok(None);
        };
        let number = marker.metadata().strip_prefix(MARKER);
        match number.and_then(|n| n.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::env(format!(
                "the offset of group '{}' for topic '{}' at {} was not written by windrow",
                self.group, self.topic, self.client.bootstrap
            ))
            .with_hint(
                "if the results may be written again, delete the group: kafka-consumer-groups.sh --delete",
            )),
        }
    }

    /// The offsets of our group. A broker that has just come back may not know yet that it
    /// coordinates the group: it is asked again.
    fn committed_offsets(&self) -> Result<TopicPartitionList> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let started = Instant::now();
        let mut told = false;
        loop {
            let consumer = self.consumer(&self.group)?;
            let mut e = match consumer.committed_offsets(asked.clone(), REQUEST) {
                Ok(offsets) => return Ok(offsets),
                Err(e) => e,
            };
            // Serves the client's own events; one may say what the call takes for a broker away.
            if let Some(Err(event)) = consumer.poll(Duration::from_millis(100)) {
                e = event;
            }
            let passes = e.rdkafka_error_code().is_some_and(|c| PASSING.contains(&c));
            if !passes || started.elapsed() > COORDINATOR {
                return Err(Error::env(format!(
                    "cannot read the offsets of group '{}' at {}: {e}",
                    self.group, self.client.bootstrap
                ))
                .with_hint(format!(
                    "{} needs the rights (ACLs) Read on group '{}' and Read on topic '{}'",
                    faults::who(&self.config),
                    self.group,
                    self.topic
                )));
            }
            if !told && started.elapsed() >= PATIENCE {
                told = true;
                tracing::warn!("waiting for the coordinator of group '{}': {e}", self.group);
            }
        }
    }

    /// Something is about to be sent: begins the transaction unless it has begun.
    pub(super) fn begin(&self) -> Result<()> {
        let mut state = self.state();
        if state.over {
            return Err(Error::env("the transaction was given up"));
        }
        if !state.open {
            match self.client.producer.begin_transaction() {
                Ok(()) => state.open = true,
                Err(e) => return Err(self.error(e.into())),
            }
        }
        Ok(())
    }

    /// Commits what was sent since the last commit, with the marker of `checkpoint` and the
    /// offsets of these groups. False: nothing was sent, so nothing was committed, and the marker
    /// is still that of an earlier checkpoint. A broker that is away is waited for. The sinks
    /// must not write meanwhile. An error gives the transaction up, if it is not committed yet.
    pub fn commit(&self, checkpoint: u64, offsets: &[GroupOffsets]) -> Result<bool> {
        let mut state = self.state();
        if state.over {
            return Err(Error::env("the transaction was given up"));
        }
        if !state.open {
            return Ok(false);
        }
        match self.try_commit(&mut state, checkpoint, offsets) {
            Ok(()) => {
                state.open = false;
                Ok(true)
            }
            Err(e) => {
                self.give_up(&mut state);
                Err(e)
            }
        }
    }

    fn try_commit(
        &self,
        state: &mut State,
        checkpoint: u64,
        offsets: &[GroupOffsets],
    ) -> Result<()> {
        self.client.flush(&self.topic)?;
        let number = i64::try_from(checkpoint)
            .map_err(|_| Error::bug(format!("checkpoint {checkpoint}")))?;
        let marker = GroupOffsets {
            group: self.group.clone(),
            positions: vec![(self.topic.clone(), 0, number)],
        };
        let metadata = format!("{MARKER}{checkpoint}");
        let mut tell = |text: &str| {
            if !text.is_empty() {
                tracing::warn!("checkpoint {checkpoint}: {text}");
            }
            !self.failed.get().is_some_and(|failed| failed.load(Relaxed))
        };
        let producer = &self.client.producer;
        for at in std::iter::once(&marker).chain(offsets) {
            let list = partition_list(at, &metadata)?;
            if list.count() == 0 {
                continue;
            }
            let group = match state.groups.entry(at.group.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.group_metadata(&at.group)?),
            };
            let send = || producer.send_offsets_to_transaction(&list, group, PATIENCE);
            self.finish(send, &mut tell).map_err(|e| self.error(e))?;
        }
        let commit = || producer.commit_transaction(PATIENCE);
        self.finish(commit, &mut tell).map_err(|e| self.error(e))
    }

    /// Gives up what was sent since the last commit, so that readers of committed rows need not
    /// wait until its time is over. Best effort: for a run that ends with an error, when its
    /// sinks have ended; nothing can be sent afterwards.
    pub fn abort(&self) {
        self.give_up(&mut self.state());
    }

    fn give_up(&self, state: &mut State) {
        state.over = true;
        if !std::mem::take(&mut state.open) {
            return;
        }
        let started = Instant::now();
        loop {
            match self.client.producer.abort_transaction(ATTEMPT) {
                // It waits for deliveries of what it throws away, which only a poll serves.
                Err(KafkaError::Transaction(e))
                    if e.is_retriable() && started.elapsed() < ABORT =>
                {
                    self.client.producer.poll(Duration::from_millis(50));
                }
                Err(e) => {
                    tracing::debug!("the transaction of {} lingers: {e}", self.group);
                    return;
                }
                Ok(()) => return,
            }
        }
    }

    /// The brokers, as the properties name them: all sinks of the transaction are on them.
    pub fn bootstrap(&self) -> &str {
        &self.client.bootstrap
    }

    /// The transactional id.
    pub fn id(&self) -> &str {
        &self.client.transactional_id
    }

    pub(super) fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats `call`, which waits for a while itself, until it is done.
    fn finish(
        &self,
        call: impl Fn() -> KafkaResult<()>,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Failed> {
        let bootstrap = &self.client.bootstrap;
        let started = Instant::now();
        let mut told = String::new();
        loop {
            let reason = match call() {
                Ok(()) if told.is_empty() => return Ok(()),
                Ok(()) => {
                    wait(&format!("Kafka at {bootstrap} answers"));
                    return Ok(());
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() => e.string(),
                Err(KafkaError::Flush(Code::OperationTimedOut)) => {
                    "records are on their way".into()
                }
                Err(e) => return Err(e.into()),
            };
            // Here a wrong password comes to light, which the call takes for a broker away.
            self.client
                .serve(Duration::from_millis(50))
                .map_err(Failed::Other)?;
            let text = format!("waiting for Kafka at {bootstrap}: {reason}");
            let news = text != told && started.elapsed() >= PATIENCE;
            let go_on = wait(if news { &text } else { "" });
            if news {
                told = text;
            }
            if !go_on {
                return Err(Failed::Other(Error::Stopped(format!(
                    "stopped while waiting for Kafka at {bootstrap}"
                ))));
            }
        }
    }

    fn error(&self, failed: Failed) -> Error {
        match failed {
            Failed::Kafka(e) => self.client.refused(&e),
            Failed::Other(e) => e,
        }
    }

    fn too_long(&self, timeout: u64, longest: Duration) -> Error {
        let lower = match u128::from(timeout) > longest.as_millis() {
            true => "lower properties.transaction.timeout.ms",
            false => "take checkpoints more often",
        };
        Error::env(format!(
            "a transaction may stay open for {timeout} ms, which is more than \
             transaction.max.timeout.ms of Kafka at {} allows",
            self.client.bootstrap
        ))
        .with_hint(format!(
            "{lower}, or set transaction.max.timeout.ms={timeout} for the brokers"
        ))
    }

    fn consumer(&self, group: &str) -> Result<MetadataClient> {
        let mut config = self.config.clone();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            // Offsets of a transaction that is just being completed are waited for.
            .set("isolation.level", "read_committed");
        metadata::client(&config)
    }

    /// A group as one who is no member of it commits to it.
    fn group_metadata(&self, group: &str) -> Result<ConsumerGroupMetadata> {
        self.consumer(group)?
            .group_metadata()
            .ok_or_else(|| Error::bug(format!("group '{group}' has no metadata")))
    }
}

/// Why a call of a transaction did not come to its end.
enum Failed {
    Kafka(rdkafka::error::RDKafkaError),
    Other(Error),
}

impl From<KafkaError> for Failed {
    fn from(e: KafkaError) -> Self {
        match e {
            KafkaError::Transaction(e) => Failed::Kafka(e),
            e => Failed::Other(Error::env(format!("Kafka: {e}"))),
        }
    }
}

/// Sets how long a transaction may stay open, in ms, and returns it.
fn set_timeout(config: &mut ClientConfig, longest: Duration) -> u64 {
    let ms = |config: &ClientConfig, key| config.get(key).and_then(|v| v.parse::<u64>().ok());
    let asked = ms(config, "transaction.timeout.ms");
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    let timeout = asked
        .unwrap_or(TIMEOUT_MS)
        .max(longest)
        .min(i32::MAX as u64);
    if asked.is_some_and(|asked| asked < timeout) {
        tracing::warn!(
            "transaction.timeout.ms is too short for the checkpoints: {timeout} is used"
        );
    }
    config.set("transaction.timeout.ms", timeout.to_string());
    // librdkafka refuses a delivery that may take longer than the transaction (0: for ever).
    if ms(config, "message.timeout.ms").is_some_and(|m| m == 0 || m > timeout) {
        config.set("message.timeout.ms", timeout.to_string());
    }
    timeout
}

fn partition_list(at: &GroupOffsets, metadata: &str) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, next) in &at.positions {
        let mut entry = list.add_partition(topic, *partition);
        entry
            .set_offset(Offset::Offset(*next))
            .map_err(|e| Error::bug(format!("offset {next} of {topic}/{partition}: {e}")))?;
        entry.set_metadata(metadata);
    }
    Ok(list)
}
