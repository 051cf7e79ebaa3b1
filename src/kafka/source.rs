//! The source `kafka`: which partitions, from where, to where.

mod bounds;

use super::config::config_of;
use super::direct;
use super::either::{EitherReader, Wanted};
use super::faults;
use super::metadata::{self, MetadataClient};
use crate::error::{Error, Result, nearest};
use crate::source::{Assignment, ReadRequest, Reader, Source};
use crate::state::PartitionSnapshot;
use crate::table::TableDef;
use bounds::{Beginning, Bound};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one request may take before the broker counts as away.
const REQUEST: Duration = Duration::from_secs(3);

/// Looks at a broker that does not answer, each for as long as a request: a minute.
const LOOKS_MAX: u32 = 20;
const DISCOVERY: Duration = Duration::from_secs(30);
/// How long a commit of offsets may take, and hold back the next checkpoint.
const COMMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Topics {
    List(Vec<String>),
    Pattern(regex::Regex),
}

/// Which client reads the records; see [`direct`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientKind {
    /// The direct client; what is too old for it is read by librdkafka.
    Either,
    Direct,
    Librdkafka,
}

pub struct KafkaSource {
    topics: Topics,
    start: Bound,
    end: Option<Bound>,
    config: ClientConfig,
    request: ReadRequest,
    discovery: Option<Duration>,
    client_kind: ClientKind,
    fail_on_data_loss: bool,
    /// Neither a start is set, nor a group.
    is_start_unsaid: bool,
    has_group: bool,
    /// The user may not commit to it.
    group_forbidden: AtomicBool,
    bootstrap: String,
    /// For metadata and offsets; made when first needed.
    client: Mutex<Option<Arc<MetadataClient>>>,
    /// Every partition that has been handed out; its place is its id.
    known: Mutex<Vec<(String, i32)>>,
}

impl KafkaSource {
    /// Reads the table's options; opens nothing.
    pub fn new(def: &TableDef, request: ReadRequest) -> Result<Self> {
        let o = &def.options;
        let topics = match (o.get("topic"), o.get("topic-pattern")) {
            (Some(_), Some(_)) => {
                return Err(o.invalid("topic-pattern", "give either 'topic' or 'topic-pattern'"));
            }
            (Some(list), None) => {
                let mut topics: Vec<String> = Vec::new();
                for topic in list.split([';', ',']).map(str::trim) {
                    if !topic.is_empty() && topics.iter().all(|known| known != topic) {
                        topics.push(topic.to_string());
                    }
                }
                Topics::List(topics)
            }
            (None, Some(p)) => {
                Topics::Pattern(regex::Regex::new(&format!("^(?:{p})$")).map_err(|e| {
                    o.invalid("topic-pattern", format!("is no regular expression: {e}"))
                })?)
            }
            (None, None) => {
                return Err(
                    Error::sql(format!("table {} lacks the option 'topic'", def.name))
                        .or_at(def.at),
                );
            }
        };
        let start = match o.get("scan.startup.mode") {
            Some(mode) => Bound::of(def, "scan.startup", mode)?,
            None if o.get("properties.group.id").is_some() => Bound::Group(Beginning::of(o)?),
            None => Bound::Latest,
        };
        let end = match o.get("scan.bounded.mode") {
            Some(mode) if !mode.eq_ignore_ascii_case("unbounded") => {
                Some(Bound::of(def, "scan.bounded", mode)?)
            }
            _ if request.until_end => Some(Bound::Latest),
            _ => None,
        };
        for (bound, key) in [
            (Some(&start), "scan.startup.mode"),
            (end.as_ref(), "scan.bounded.mode"),
        ] {
            if matches!(bound, Some(Bound::Group(_))) && o.get("properties.group.id").is_none() {
                return Err(o.invalid(key, "needs 'properties.group.id'"));
            }
            if let (Some(Bound::OfTopics(offsets)), Topics::List(read)) = (bound, &topics)
                && let Some(other) = offsets.keys().find(|topic| !read.contains(topic))
            {
                return Err(o.invalid(key, format!("topic '{other}' is not read by the table")));
            }
        }
        let mut config = config_of(def)?;
        if config.get("group.id").is_none() {
            // librdkafka wants one even where it joins no group.
            config.set("group.id", "windrow");
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false");
        let discovery = match o.duration("scan.topic-partition-discovery.interval")? {
            Some(d) if d.is_zero() => None,
            Some(d) => Some(d),
            None => Some(DISCOVERY),
        };
        let client_kind = client_kind(def, &config)?;
        Ok(Self {
            topics,
            start,
            end,
            client_kind,
            is_start_unsaid: o.get("scan.startup.mode").is_none()
                && o.get("properties.group.id").is_none(),
            has_group: o.get("properties.group.id").is_some(),
            group_forbidden: AtomicBool::new(false),
            fail_on_data_loss: o.bool("scan.fail-on-data-loss")?.unwrap_or(true),
            bootstrap: config
                .get("bootstrap.servers")
                .unwrap_or_default()
                .to_string(),
            config,
            request,
            discovery,
            client: Mutex::new(None),
            known: Mutex::new(Vec::new()),
        })
    }

    fn client(&self) -> Result<Arc<MetadataClient>> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let mut config = self.config.clone();
        config.set("topic.metadata.refresh.interval.ms", "-1");
        let created = metadata::client(&config)?;
        // Whoever logs in by a token has it made when this client is polled for the first time.
        let _nothing = created.poll(Duration::ZERO);
        let created = Arc::new(created);
        *client = Some(created.clone());
        Ok(created)
    }

    /// Says why a query may show nothing for long.
    fn tell_what_is_not_read(
        &self,
        assignments: &[Assignment],
        resumes: bool,
        wait: &mut dyn FnMut(&str) -> bool,
    ) {
        if let (Topics::Pattern(pattern), true) = (&self.topics, assignments.is_empty()) {
            wait(&format!(
                "no topic at {} matches the pattern {pattern} yet",
                self.bootstrap
            ));
        }
        let begins_behind = !resumes && assignments.iter().any(|a| a.start > 0);
        if begins_behind && self.end.is_none() && self.is_start_unsaid {
            wait(&format!(
                "{} is read from its end on, as 'scan.startup.mode' is not set: 'earliest-offset' reads what is there, too",
                self.describe()
            ));
        }
    }

    /// The topics' partitions, in order.
    fn look(&self, client: &MetadataClient) -> std::result::Result<Vec<(String, i32)>, Look> {
        let metadata = client.fetch_metadata(None, REQUEST).map_err(Look::Away)?;
        let all: Vec<&str> = metadata.topics().iter().map(|t| t.name()).collect();
        let mut found = Vec::new();
        match &self.topics {
            Topics::List(list) => {
                for topic in list {
                    let Some(topic) = metadata
                        .topics()
                        .iter()
                        .find(|t| t.name() == topic && !t.partitions().is_empty())
                    else {
                        return Err(Look::Final(self.missing(client, topic, &all)));
                    };
                    found.extend(
                        topic
                            .partitions()
                            .iter()
                            .map(|p| (topic.name().to_string(), p.id())),
                    );
                }
            }
            Topics::Pattern(pattern) => found.extend(matching(&metadata, pattern)),
        }
        found.sort();
        Ok(found)
    }

    fn missing(&self, client: &MetadataClient, topic: &str, all: &[&str]) -> Error {
        // Topics that this user may not see are left out of the list; asked by name, Kafka says so.
        let named = client.fetch_metadata(Some(topic), REQUEST);
        let code = named.ok().and_then(|n| n.topics().first()?.error());
        if code.map(Code::from) == Some(Code::TopicAuthorizationFailed) {
            let who = faults::who(&self.config);
            return faults::hidden(&who, topic, &self.bootstrap, "Describe and Read");
        }
        let there: Vec<&str> = all
            .iter()
            .copied()
            .filter(|t| !t.starts_with("__"))
            .collect();
        let near = nearest(topic, there.iter().copied())
            .map(|n| format!("{n} "))
            .unwrap_or_default();
        let list = if there.is_empty() {
            "there are no topics".into()
        } else {
            format!("there are: {}", there.join(", "))
        };
        Error::env(format!(
            "topic '{topic}' does not exist at {}",
            self.bootstrap
        ))
        .with_hint(format!(
            "{near}{list}; or create it: windrow topics create {topic} --bootstrap-server {}",
            self.bootstrap
        ))
    }

    fn refused(&self, e: &KafkaError) -> Error {
        let who = faults::who(&self.config);
        if is_group_forbidden(e) {
            let group = self.config.get("group.id").unwrap_or_default();
            return Error::env(format!(
                "not allowed to read the offsets of group '{group}' at {}: {e}",
                self.bootstrap
            ))
            .with_hint(format!(
                "{who} needs the right (ACL) Read on group '{group}'"
            ));
        }
        let reason = e
            .rdkafka_error_code()
            .map_or(e.to_string(), |code| code.to_string());
        faults::refused(&self.bootstrap, &reason)
    }

    /// Why a commit of offsets failed; one that is not allowed is not tried again.
    fn uncommitted(&self, e: &KafkaError) -> Error {
        let group = self.config.get("group.id").unwrap_or_default();
        let mut text = format!(
            "cannot commit the offsets of group '{group}' at {}: {e}",
            self.bootstrap
        );
        if is_group_forbidden(e) {
            self.group_forbidden.store(true, Relaxed);
            let who = faults::who(&self.config);
            text += &format!(
                "; {who} needs the right (ACL) Read on it; until the next start it is not tried again"
            );
        }
        Error::env(text)
    }
}

/// Why a look at the broker gave nothing.
enum Look {
    /// The broker did not answer; it may come back.
    Away(KafkaError),
    /// Waiting does not mend it.
    Final(Error),
}

fn matching(metadata: &Metadata, pattern: &regex::Regex) -> Vec<(String, i32)> {
    let topics = metadata
        .topics()
        .iter()
        .filter(|t| !t.name().starts_with("__") && pattern.is_match(t.name()));
    topics
        .flat_map(|t| {
            t.partitions()
                .iter()
                .map(|p| (t.name().to_string(), p.id()))
        })
        .collect()
}

/// The client that the table asks for, or the one that can do what its properties ask for.
fn client_kind(def: &TableDef, config: &ClientConfig) -> Result<ClientKind> {
    let o = &def.options;
    let asked = o.get("source.client").map(str::to_lowercase);
    if asked.as_deref() == Some("librdkafka") {
        return Ok(ClientKind::Librdkafka);
    }
    let Some(reason) = direct::unsupported(config) else {
        return Ok(match asked {
            Some(_) => ClientKind::Direct,
            None => ClientKind::Either,
        });
    };
    if asked.is_some() {
        let text = format!("the direct client does not do {reason}");
        return Err(o.invalid("source.client", text));
    }
    tracing::info!(
        "table {} is read by librdkafka: the direct client does not do {reason}",
        def.name
    );
    Ok(ClientKind::Librdkafka)
}

fn is_group_forbidden(e: &KafkaError) -> bool {
    e.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed)
}

/// True for errors that waiting does not mend.
fn is_fatal(e: &KafkaError) -> bool {
    matches!(
        e.rdkafka_error_code(),
        Some(
            Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnsupportedFeature
                | Code::InvalidArgument
        )
    )
}

impl Source for KafkaSource {
    fn partitions(
        &self,
        resume: Option<&[PartitionSnapshot]>,
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Assignment>> {
        let client = self.client()?;
        // What a checkpoint does not know has appeared since: it is read whole.
        let start = match resume {
            Some(_) => &Bound::Earliest,
            None => &self.start,
        };
        let mut told = HashSet::new();
        let mut looks = 0;
        loop {
            looks += 1;
            let looked = self.look(&client).and_then(|found| {
                let ids = self.ids(&client, &found)?;
                let mut assignments = self.assignments(&client, &found, &ids, 0, start)?;
                if let Some(known) = resume {
                    self.resume(&client, &mut assignments, known, &ids)?;
                }
                Ok((assignments, found))
            });
            match looked {
                Ok((assignments, found)) => {
                    if !told.is_empty() {
                        wait(&format!("Kafka at {} answers", self.bootstrap));
                    }
                    let nothing = self.end.is_some()
                        && assignments
                            .iter()
                            .all(|a| a.end.is_some_and(|e| a.start >= e));
                    if nothing
                        && !assignments.is_empty()
                        && resume.is_none()
                        && !matches!(start, Bound::Earliest)
                    {
                        wait(&format!(
                            "nothing to read: {} starts at the end of its topic; 'scan.startup.mode' = 'earliest-offset' reads from the beginning",
                            self.describe()
                        ));
                    }
                    self.tell_what_is_not_read(&assignments, resume.is_some(), wait);
                    if resume.is_none() {
                        self.warn_of_unknown(&assignments);
                    }
                    *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found;
                    return Ok(assignments);
                }
                Err(Look::Final(e)) => return Err(e),
                Err(Look::Away(e)) if is_fatal(&e) => {
                    return Err(self.refused(&e));
                }
                Err(Look::Away(e)) => {
                    // An authentication failure is such an event; a request reports it as a time-out.
                    let events = metadata::events(&client, Duration::from_millis(200));
                    if let Some(event) = events.iter().find(|e| is_fatal(e)) {
                        return Err(self.refused(event));
                    }
                    let why = metadata::why(&client, &e);
                    if self.end.is_some() && looks >= LOOKS_MAX {
                        return Err(Error::env(format!(
                            "Kafka at {} did not answer for a minute: {why}",
                            self.bootstrap
                        ))
                        .with_hint(
                            "a run that ends does not wait longer: see whether the address is right and the broker runs",
                        ));
                    }
                    let text = format!("waiting for Kafka at {}: {why}", self.bootstrap);
                    let news = told.insert(why) || looks.is_multiple_of(LOOKS_MAX);
                    if !wait(if news { &text } else { "" }) {
                        return Err(Error::Stopped(format!(
                            "stopped while waiting for Kafka at {}",
                            self.bootstrap
                        )));
                    }
                }
            }
        }
    }

    fn discover(&self) -> Result<Vec<Assignment>> {
        let client = self.client()?;
        let failed = |look| match look {
            Look::Away(e) => Error::env(e.to_string()),
            Look::Final(e) => e,
        };
        let found = self.look(&client).map_err(failed)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<(String, i32)> = found.into_iter().filter(|p| !known.contains(p)).collect();
        // What appears while the query runs is read whole.
        let ids = self.ids(&client, &new).map_err(failed)?;
        let assignments = self
            .assignments(&client, &new, &ids, known.len(), &Bound::Earliest)
            .map_err(failed)?;
        known.extend(new);
        Ok(assignments)
    }

    /// Commits the group's offsets, if the table names a group: for each partition the next one to
    /// read.
    fn commit(&self, positions: &[PartitionSnapshot]) -> Result<()> {
        if !self.has_group || positions.is_empty() || self.group_forbidden.load(Relaxed) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for p in positions {
            list.add_partition_offset(&p.topic, p.partition, Offset::Offset(p.position))
                .map_err(|e| self.uncommitted(&e))?;
        }
        let client = self.client()?;
        // Where the user may not use the group, a commit waits a minute for its coordinator, and
        // the checkpoints with it: this says so sooner.
        if let Err(e) = client.committed_offsets(list.clone(), REQUEST) {
            let events = metadata::events(&client, Duration::ZERO);
            let why = events.into_iter().find(is_group_forbidden);
            return Err(self.uncommitted(&why.unwrap_or(e)));
        }
        metadata::commit(client, list, COMMIT).map_err(|e| self.uncommitted(&e))
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.discovery
    }

    fn reader(&self, partitions: &[Assignment]) -> Result<Box<dyn Reader>> {
        let lossy = match self.fail_on_data_loss {
            true => None,
            false => Some(self.client()?),
        };
        let wanted = Wanted {
            config: self.config.clone(),
            bootstrap: self.bootstrap.clone(),
            request: self.request.clone(),
            either: self.client_kind == ClientKind::Either,
            lossy,
        };
        let direct = self.client_kind != ClientKind::Librdkafka;
        Ok(Box::new(EitherReader::new(wanted, direct, partitions)?))
    }

    fn is_bounded(&self) -> bool {
        self.end.is_some()
    }

    fn describe(&self) -> String {
        let topics = match &self.topics {
            Topics::List(list) => list.join(", "),
            Topics::Pattern(p) => p.as_str().to_string(),
        };
        format!("Kafka topic {topics} at {}", self.bootstrap)
    }
}
