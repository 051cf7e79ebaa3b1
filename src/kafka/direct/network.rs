//! What the reader asks of the brokers: connections, who leads what, and records.

use super::connection::{Asked, FRAME_MAX, Failure};
use super::messages::{self as m, FetchPartition};
use super::reader::DirectReader;
use crate::error::{Error, Result};
use mio::Token;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A look at the clock at least so often while something is wrong.
const LOOK: Duration = Duration::from_millis(100);
/// The broker may keep the first request for a partition so long: it shows that it answers.
const FIRST_WAIT_MS: i32 = 100;

impl DirectReader {
    /// Does what is due; returns when to be called again at the latest.
    pub(super) fn manage(&mut self, now: Instant) -> Result<Instant> {
        let live = |p: &&super::partition::Partition| !p.ended;
        let leaderless = self
            .partitions
            .iter()
            .filter(live)
            .any(|p| p.leader.is_none());
        if leaderless && self.asked_metadata.is_none() && now >= self.metadata_backoff.next {
            self.ask_metadata(now)?;
        }
        let leaders: BTreeSet<usize> = self
            .partitions
            .iter()
            .filter(|p| p.wants_more())
            .filter_map(|p| p.leader)
            .collect();
        let mut busy = true;
        for link in leaders {
            if self.links[link].connection.is_none() {
                self.open(link, now)?;
            }
            self.fetch(link, now)?;
            busy &= self.links[link].is_ready() && now >= self.links[link].quiet_until;
        }
        let calm = busy && !leaderless;
        Ok(now + if calm { self.settings.patience } else { LOOK })
    }

    /// Whether some connection can go on without waiting.
    pub(super) fn is_active(&self) -> bool {
        let connections = self.links.iter().filter_map(|l| l.connection.as_ref());
        connections.into_iter().any(|c| c.active)
    }

    /// Gives up connections that have been silent for too long. Called when all that could be
    /// read was read, so that a worker that was busy meanwhile takes nobody for dead.
    pub(super) fn give_up(&mut self, now: Instant) -> Result<()> {
        for link in 0..self.links.len() {
            let waits = self.responses.iter().any(|r| r.link == link);
            if !waits && self.links[link].is_stuck(&self.settings, now) {
                self.failed(link, Failure::Passing("no answer".into()), now)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, link: usize, now: Instant) -> Result<()> {
        if now < self.links[link].backoff.next {
            return Ok(());
        }
        let registry = self.poll.registry();
        match self.links[link].open(&self.settings, registry, Token(link), now) {
            Ok(()) => Ok(()),
            Err(failure) => self.failed(link, failure, now),
        }
    }

    /// The connection is of no more use; nor are the answers that it owed.
    pub(super) fn failed(&mut self, link: usize, failure: Failure, now: Instant) -> Result<()> {
        let reason = match failure {
            Failure::Final(error) => return Err(error),
            Failure::TooOld(error) => {
                self.too_old = true;
                return Err(error);
            }
            Failure::TooLarge(bytes) => return Err(self.too_large(link, bytes)),
            Failure::Passing(reason) => reason,
        };
        let l = &mut self.links[link];
        self.reason = format!("{}:{}: {reason}", l.host, l.port);
        tracing::debug!("{}", self.reason);
        l.fail(self.poll.registry(), now);
        self.asked_metadata.take_if(|asked| *asked == link);
        // Somebody else may lead by now.
        for partition in self
            .partitions
            .iter_mut()
            .filter(|p| p.leader == Some(link))
        {
            partition.lost();
        }
        Ok(())
    }

    /// Asking again would give the same response.
    fn too_large(&self, link: usize, bytes: usize) -> Error {
        let asked = self.partitions.iter().filter(|p| p.leader == Some(link));
        let places: Vec<String> = asked
            .take(3)
            .map(|p| p.assignment.place(p.position))
            .collect();
        Error::env(format!(
            "Kafka answers with {bytes} bytes, more than {} MB: there is a record batch too large, at {}",
            FRAME_MAX >> 20,
            places.join(" or ")
        ))
        .with_hint(
            "'source.client' = 'librdkafka' with 'properties.receive.message.max.bytes' reads up to 1 GB",
        )
    }

    /// Asks a broker that answers, or connects to one.
    fn ask_metadata(&mut self, now: Instant) -> Result<()> {
        // In turn: a broker that has just started may not know everything yet.
        let count = self.links.len();
        let mut turn = (1..=count).map(|i| (self.told_metadata + i) % count);
        let Some(link) = turn.find(|l| self.links[*l].is_ready()) else {
            // One at a time; one that does not answer soon holds nobody back.
            let connecting = self.links.iter().filter_map(|l| l.connection.as_ref());
            if connecting
                .into_iter()
                .any(|c| c.silent_for(now) < 10 * LOOK)
            {
                return Ok(());
            }
            let free = |l: &super::link::Link| l.connection.is_none() && now >= l.backoff.next;
            return match self.links.iter().position(free) {
                Some(link) => self.open(link, now),
                None => Ok(()),
            };
        };
        let Some(connection) = &mut self.links[link].connection else {
            return Ok(());
        };
        let topics: BTreeSet<&str> = self
            .partitions
            .iter()
            .filter(|p| !p.ended)
            .map(|p| &*p.assignment.topic)
            .collect();
        let (client, ids) = (&self.settings.client_id, connection.speaks_ids);
        let asked = connection.ask(Asked::Metadata { ids }, now, |c| {
            m::metadata(c, client, ids, topics.iter().copied())
        });
        self.asked_metadata = Some(link);
        self.told_metadata = link;
        self.metadata_backoff.failed(now);
        match asked {
            Ok(()) => Ok(()),
            Err(failure) => self.failed(link, failure, now),
        }
    }

    /// Asks the broker for what comes next of its partitions, unless it has been asked.
    pub(super) fn fetch(&mut self, link: usize, now: Instant) -> Result<()> {
        let l = &mut self.links[link];
        let Some(connection) = &mut l.connection else {
            return Ok(());
        };
        if !connection.is_ready() || connection.fetches() || now < l.quiet_until {
            return Ok(());
        }
        // In turn: a broker fills its response in the order of the request.
        let count = self.partitions.len();
        let turn = (0..count).map(|i| (self.first + i) % count);
        let mut list = Vec::new();
        let mut limits = self.settings.limits;
        for i in turn {
            let p = &self.partitions[i];
            if p.leader != Some(link) || !p.wants_more() {
                continue;
            }
            if !p.proven {
                limits.max_wait_ms = limits.max_wait_ms.min(FIRST_WAIT_MS);
            }
            list.push(FetchPartition {
                topic: &p.assignment.topic,
                id: p.topic_id,
                partition: p.assignment.partition,
                offset: p.position,
                max_bytes: p.fetch_bytes,
            });
            limits.max_bytes = limits.max_bytes.max(p.fetch_bytes);
        }
        if list.is_empty() {
            return Ok(());
        }
        let client = &self.settings.client_id;
        // With its id, a topic that was created again is not taken for the one that was read.
        let ids = connection.speaks_ids && list.iter().all(|p| p.id.is_some());
        let sent = connection.ask(Asked::Fetch { ids }, now, |c| {
            m::fetch(c, client, ids, limits, &list)
        });
        match sent {
            Ok(()) => Ok(()),
            Err(failure) => self.failed(link, failure, now),
        }
    }
}
