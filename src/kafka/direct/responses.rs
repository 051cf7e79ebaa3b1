//! What the brokers answer.

use super::aborted::Aborted;
use super::codes::{self, Kind};
use super::connection::{Asked, Failure, Frame, HEADER};
use super::link::Link;
use super::messages::{self as m, FetchedPartition, Metadata, Topic};
use super::reader::{DirectReader, Response};
use super::sets::{Set, scan};
use crate::error::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A partition that the cluster does not know for so long does not exist: a broker that has just
/// started may not know it yet.
const MISSING_MAX: Duration = Duration::from_secs(6);
/// A topic that has another id for so long was created again: a broker that has just started may
/// still tell the id of the one before.
const OTHER_MAX: Duration = Duration::from_secs(1);
/// A batch that is larger than this is not asked for.
const BATCH_MAX: i32 = 128 << 20;

impl DirectReader {
    /// Goes on with every connection that can; one that has brought records is left alone until
    /// they are handed out.
    pub(super) fn serve(&mut self, now: Instant) -> Result<()> {
        for link in 0..self.links.len() {
            while let Some(connection) = &mut self.links[link].connection
                && connection.active
                && !self.responses.iter().any(|r| r.link == link)
            {
                let served = match connection.serve(&self.settings, now) {
                    Ok(Some((asked, frame))) => self.answered(link, asked, frame, now)?,
                    Ok(None) => Ok(()),
                    Err(failure) => Err(failure),
                };
                match served {
                    Ok(()) => {}
                    Err(failure) => self.failed(link, failure, now)?,
                }
            }
            if self.links[link].is_ready() {
                self.links[link].backoff.succeeded();
            }
        }
        Ok(())
    }

    /// The outer error is the query's, the inner one the connection's.
    fn answered(
        &mut self,
        link: usize,
        asked: Asked,
        frame: Frame,
        now: Instant,
    ) -> Result<Result<(), Failure>> {
        match asked {
            Asked::Login => Ok(Ok(())),
            Asked::Metadata { ids } => {
                self.asked_metadata = None;
                let metadata = m::read_metadata(&mut frame.body(), ids);
                if let Some(connection) = &mut self.links[link].connection {
                    connection.recycle(frame);
                }
                match metadata {
                    Ok(metadata) => self.metadata(&metadata, now).map(Ok),
                    Err(malformed) => Ok(Err(malformed.into())),
                }
            }
            Asked::Fetch { ids } => self.fetched(link, frame, ids, now),
        }
    }

    fn metadata(&mut self, metadata: &Metadata, now: Instant) -> Result<()> {
        let mut nodes = HashMap::new();
        for broker in &metadata.brokers {
            let known = |l: &Link| l.host == broker.host && l.port == broker.port;
            let link = self.links.iter().position(known).unwrap_or_else(|| {
                let link = Link::new(&broker.host, broker.port, now);
                self.links.push(link);
                self.links.len() - 1
            });
            nodes.insert(broker.node, link);
        }
        for p in 0..self.partitions.len() {
            if !self.partitions[p].ended {
                self.partition_metadata(p, metadata, &nodes, now)?;
            }
        }
        Ok(())
    }

    /// `nodes`: the link to each.
    fn partition_metadata(
        &mut self,
        p: usize,
        metadata: &Metadata,
        nodes: &HashMap<i32, usize>,
        now: Instant,
    ) -> Result<()> {
        let p = &mut self.partitions[p];
        let mut topics = metadata.topics.iter();
        let topic = topics.find(|t| *t.name == *p.assignment.topic);
        let (code, list) = topic.map_or((codes::UNKNOWN_TOPIC_OR_PARTITION, &[][..]), |t| {
            (t.code, &t.partitions)
        });
        if let Some(id) = topic.filter(|_| code == 0).and_then(|t| t.id) {
            if *p.topic_id.get_or_insert(id) != id {
                let since = *p.missing_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= OTHER_MAX {
                    return Err(p.recreated());
                }
                self.reason = format!(
                    "{}: the topic has another id",
                    p.assignment.place(p.position)
                );
                p.lost();
                return Ok(());
            }
            self.names.insert(id, p.assignment.topic.clone());
        }
        let found = list.iter().find(|f| f.partition == p.assignment.partition);
        let (code, leader) = match (code, found) {
            (0, Some(f)) => (f.code, nodes.get(&f.leader).copied()),
            (0, None) => (codes::UNKNOWN_TOPIC_OR_PARTITION, None),
            (code, _) => (code, None),
        };
        let text = codes::name(code);
        match codes::kind(code) {
            Kind::Unknown => {
                let since = *p.missing_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= MISSING_MAX {
                    return Err(p.gone(&text));
                }
            }
            Kind::Forbidden => return Err(p.forbidden(&self.settings.who, &text)),
            Kind::Final => return Err(p.refused(&text)),
            _ => p.missing_since = None,
        }
        if p.leader.is_none() {
            p.leader = leader;
            if leader.is_none() {
                let text = if code == 0 { "no leader" } else { &text };
                self.reason = format!("{}: {text}", p.assignment.place(p.position));
            }
        }
        Ok(())
    }

    /// Notes where each partition's records lie and sends the next request; then they are handed
    /// out.
    fn fetched(
        &mut self,
        link: usize,
        frame: Frame,
        ids: bool,
        now: Instant,
    ) -> Result<Result<(), Failure>> {
        let fetched = match m::read_fetch(&mut frame.body(), ids) {
            Ok(fetched) => fetched,
            Err(malformed) => return Ok(Err(malformed.into())),
        };
        if fetched.code != 0 {
            return Ok(Err(Failure::Passing(codes::name(fetched.code))));
        }
        let pause = u64::try_from(fetched.throttle_ms).unwrap_or(0);
        self.links[link].quiet_until = now + Duration::from_millis(pause);
        let mut sets = VecDeque::new();
        for part in fetched.partitions {
            let topic = match &part.topic {
                Topic::Name(name) => Some(name.clone()),
                Topic::Id(id) => id.and_then(|id| Some(self.names.get(&id)?.to_string())),
            };
            let name = topic.map(|topic| (topic, part.partition));
            let Some(p) = name.and_then(|name| self.index.get(&name).copied()) else {
                continue;
            };
            // From a broker that leads no more, it may come twice: what was handed out is left out.
            let ended = self.partitions[p].ended;
            if !ended && let Some(set) = self.fetched_partition(p, part, &frame)? {
                self.first = p + 1;
                sets.push_back(set);
            }
        }
        self.responses.push_back(Response { link, frame, sets });
        self.fetch(link, now)?;
        Ok(Ok(()))
    }

    fn fetched_partition(
        &mut self,
        p: usize,
        part: FetchedPartition,
        frame: &Frame,
    ) -> Result<Option<Set>> {
        let partition = &mut self.partitions[p];
        let text = codes::name(part.code);
        match codes::kind(part.code) {
            _ if part.code == 0 => {}
            Kind::OutOfRange => {
                self.overtaken = true;
                return Err(partition.out_of_range(&text));
            }
            Kind::Forbidden => return Err(partition.forbidden(&self.settings.who, &text)),
            Kind::Corrupt => {
                return Err(partition.corrupt(&text));
            }
            Kind::Final => return Err(partition.refused(&text)),
            Kind::Unknown | Kind::Passing => {
                self.reason = format!("{}: {text}", partition.assignment.place(partition.position));
                partition.lost();
                return Ok(None);
            }
        }
        partition.proven = true;
        partition.high_watermark = u64::try_from(part.high_watermark)
            .is_ok()
            .then_some(part.high_watermark);
        let place = part.records.start + HEADER..part.records.end + HEADER;
        let records = &frame.bytes()[place.clone()];
        if records.is_empty() {
            return Ok(None);
        }
        let scan = scan(records);
        match scan.next_offset {
            Some(next) => partition.position = partition.position.max(next),
            None if scan.cut_short => {
                if partition.fetch_bytes >= BATCH_MAX {
                    let place = partition.assignment.place(partition.position);
                    let text = format!("{place}: the record batch has more than {BATCH_MAX} bytes");
                    return Err(
                        Error::env(text).with_hint("'source.client' = 'librdkafka' reads it")
                    );
                }
                partition.fetch_bytes = partition.fetch_bytes.saturating_mul(2).min(BATCH_MAX);
                return Ok(None);
            }
            None => {}
        }
        Ok(Some(Set {
            partition: p,
            place,
            aborted: Aborted::new(part.aborted),
        }))
    }
}
