//! The reader: what `poll` does, and the state that it keeps.

use super::connection::Frame;
use super::fault::Reason;
use super::link::{Backoff, Link};
use super::partition::Partition;
use super::sets::{Filled, Maker, Set};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::kafka::config::ClientConfig;
use crate::kafka::topic_ids::TopicId;
use crate::source::{Assignment, Blobs, Chunk, Polled, ReadRequest, Reader};
use mio::{Events, Poll};
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Trouble that is over sooner is not told.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// A broker that owes an answer for so long, beside what it was asked to wait, is in trouble.
const SILENCE: Duration = Duration::from_secs(4);
/// One call of `poll` waits no longer, whatever it is told.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Sockets that are looked at in one go.
const EVENTS: usize = 64;

/// A response to a Fetch request that is not handed out entirely.
pub(super) struct Response {
    pub link: usize,
    pub frame: Frame,
    pub sets: VecDeque<Set>,
}

/// Reads its partitions over connections of its own; see the top of the module.
pub struct DirectReader {
    pub(super) settings: Settings,
    pub(super) poll: Poll,
    events: Events,
    /// Never shrinks: an index is a link's name, and its token.
    pub(super) links: Vec<Link>,
    pub(super) partitions: Vec<Partition>,
    /// Index of each partition.
    pub(super) index: HashMap<(String, i32), usize>,
    /// The topics' names.
    pub(super) names: HashMap<TopicId, Arc<str>>,
    /// The partition that the next request names first.
    pub(super) first: usize,
    /// The link on which metadata are asked for.
    pub(super) asked_metadata: Option<usize>,
    /// The link on which they were asked for last.
    pub(super) told_metadata: usize,
    pub(super) metadata_backoff: Backoff,
    pub(super) responses: VecDeque<Response>,
    pub(super) ready: VecDeque<Polled>,
    maker: Maker,
    /// Since when something is wrong, and what was wrong last.
    trouble: Option<Instant>,
    pub(super) reason: String,
    away: bool,
    /// The error that was returned is about what only librdkafka reads.
    pub(super) too_old: bool,
    /// It is about an offset that the log does not have.
    pub(super) overtaken: bool,
}

impl DirectReader {
    /// Opens no connection yet.
    pub fn new(
        config: &ClientConfig,
        partitions: &[Assignment],
        request: &ReadRequest,
    ) -> Result<Self> {
        let settings = Settings::new(config)?;
        let now = Instant::now();
        let links = settings.servers.iter();
        let links = links.map(|(host, port)| Link::new(host, *port, now));
        let poll = Poll::new().map_err(|e| Error::env(format!("cannot wait for sockets: {e}")))?;
        let mut reader = Self {
            links: links.collect(),
            settings,
            poll,
            events: Events::with_capacity(EVENTS),
            partitions: Vec::new(),
            index: HashMap::new(),
            names: HashMap::new(),
            first: 0,
            asked_metadata: None,
            told_metadata: 0,
            metadata_backoff: Backoff::new(now),
            responses: VecDeque::new(),
            ready: VecDeque::new(),
            maker: Maker::new(request.keys, request.headers),
            trouble: None,
            reason: "no answer yet".into(),
            away: false,
            too_old: false,
            overtaken: false,
        };
        reader.add(partitions)?;
        Ok(reader)
    }

    /// Whether the error that `poll` returned is one that librdkafka does not have.
    pub fn is_too_old(&self) -> bool {
        self.too_old
    }

    /// Whether it is that retention may have removed what was to be read next.
    pub fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// What is still to be read, for another reader to go on with.
    pub fn left(&self) -> Vec<Assignment> {
        let live = self.partitions.iter().filter(|p| !p.ended);
        live.map(|p| Assignment {
            start: p.delivered,
            topic_id: p.topic_id.map(|id| id.to_string().into()),
            ..p.assignment.clone()
        })
        .collect()
    }

    /// The next chunk of the responses that are there.
    fn next_chunk(&mut self) -> Result<Option<Polled>> {
        while let Some(response) = self.responses.front_mut() {
            let Some(set) = response.sets.front_mut() else {
                let done = self.responses.pop_front();
                if let Some(Response { link, frame, .. }) = done
                    && let Some(connection) = &mut self.links[link].connection
                {
                    connection.recycle(frame);
                }
                continue;
            };
            let p = set.partition;
            let partition = &self.partitions[p];
            let wanted = partition.delivered..partition.end();
            let filled = self.maker.fill(response.frame.bytes(), set, wanted);
            let filled = filled.map_err(|fault| {
                self.too_old = matches!(fault.reason, Reason::OldFormat(_));
                partition.fault(&fault)
            })?;
            if set.place.is_empty() {
                response.sets.pop_front();
            }
            let chunk = self.chunk(p, filled);
            self.end_if_reached(p);
            if let Some(chunk) = chunk {
                return Ok(Some(Polled::Chunk(chunk)));
            }
            if let Some(ended) = self.ready.pop_front() {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// `None` where nothing is new.
    fn chunk(&mut self, p: usize, filled: Filled) -> Option<Chunk> {
        let rows = filled.rows;
        let data = self.maker.share(rows.arena);
        let partition = &mut self.partitions[p];
        let next_offset = filled.next_offset.min(partition.end());
        if next_offset <= partition.delivered {
            return None;
        }
        partition.delivered = next_offset;
        let blobs = |spans| Blobs {
            data: data.clone(),
            spans,
        };
        Some(Chunk {
            id: partition.assignment.id,
            topic: partition.assignment.topic.clone(),
            partition: partition.assignment.partition,
            offsets: rows.offsets,
            next_offset,
            payload: blobs(rows.values),
            timestamps_ms: rows.timestamps_ms,
            log_append_time: filled.log_append_time,
            keys: rows.keys.map(blobs),
            headers: rows.headers,
            high_watermark: partition.lag_end(),
        })
    }

    fn end_if_reached(&mut self, p: usize) {
        let partition = &mut self.partitions[p];
        if !partition.ended && partition.delivered >= partition.end() {
            partition.ended = true;
            let id = partition.assignment.id;
            self.ready.push_back(Polled::End { id });
        }
    }

    /// Tells when the brokers have been away for a while, and when they are back.
    fn tell(&mut self, now: Instant) {
        let silent = |p: &Partition| {
            let link = &self.links[p.leader?];
            let allowed = SILENCE + self.settings.longest_wait();
            (now >= link.quiet_until && link.is_silent(allowed, now)).then_some(link)
        };
        let read = || self.partitions.iter().filter(|p| !p.ended);
        if let Some(link) = read().find_map(silent) {
            self.reason = format!("{}:{} does not answer", link.host, link.port);
        } else if read().all(|p| p.proven) {
            self.trouble = None;
            self.metadata_backoff.succeeded();
            if std::mem::take(&mut self.away) {
                let text = format!("Kafka at {} answers again", self.settings.bootstrap);
                self.ready.push_back(Polled::Notice(text));
            }
            return;
        }
        let since = *self.trouble.get_or_insert(now);
        if !self.away && now.saturating_duration_since(since) >= TOLD_AFTER {
            self.away = true;
            let (bootstrap, reason) = (&self.settings.bootstrap, &self.reason);
            let text = format!("waiting for Kafka at {bootstrap}: {reason}");
            self.ready.push_back(Polled::Notice(text));
        }
    }

    /// Waits for the sockets, for `wait` at most.
    fn wait(&mut self, wait: Duration) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => {
                return Err(Error::env(format!("cannot wait for sockets: {e}")));
            }
            _ => {}
        }
        for event in &self.events {
            if let Some(link) = self.links.get_mut(event.token().0)
                && let Some(connection) = &mut link.connection
            {
                connection.active = true;
            }
        }
        Ok(())
    }
}

impl Reader for DirectReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let started = Instant::now();
        let deadline = started + timeout.min(WAIT_MAX);
        let mut now = started;
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(ready);
            }
            if let Some(polled) = self.next_chunk()? {
                return Ok(polled);
            }
            let timer = self.manage(now)?;
            self.tell(now);
            if !self.ready.is_empty() {
                continue;
            }
            let wait = deadline.min(timer).saturating_duration_since(now);
            self.wait(if self.is_active() {
                Duration::ZERO
            } else {
                wait
            })?;
            now = Instant::now();
            self.serve(now)?;
            self.give_up(now)?;
            // What has just proven itself is told before its data are.
            self.tell(now);
            if now >= deadline && self.ready.is_empty() && self.responses.is_empty() {
                return Ok(Polled::Idle);
            }
        }
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        for assignment in partitions {
            let name = (assignment.topic.to_string(), assignment.partition);
            self.index.insert(name, self.partitions.len());
            let partition = Partition::new(assignment, self.settings.partition_bytes);
            if let Some(id) = partition.topic_id {
                self.names.insert(id, assignment.topic.clone());
            }
            self.partitions.push(partition);
            self.end_if_reached(self.partitions.len() - 1);
        }
        Ok(())
    }
}
