//! What the reader knows of one partition.

use super::fault::{Fault, Reason};
use crate::error::Error;
use crate::kafka::faults;
use crate::kafka::topic_ids::TopicId;
use crate::source::Assignment;
use std::time::Instant;

pub struct Partition {
    pub assignment: Assignment,
    /// Of the topic that is read: what the assignment says, or what the cluster said first.
    pub topic_id: Option<TopicId>,
    /// The next offset to ask for: ahead of `delivered` while a response is unpacked.
    pub position: i64,
    /// The next offset to hand out.
    pub delivered: i64,
    pub ended: bool,
    /// Index of the link to the leader, as far as is known.
    pub leader: Option<usize>,
    /// The leader has answered for this partition, and nothing went wrong since.
    pub proven: bool,
    /// Since when the cluster says that there is no such partition, or that its topic is another.
    pub missing_since: Option<Instant>,
    /// Bytes to ask for.
    pub fetch_bytes: i32,
    pub high_watermark: Option<i64>,
}

impl Partition {
    pub fn new(assignment: &Assignment, fetch_bytes: i32) -> Self {
        Self {
            topic_id: assignment.topic_id.as_deref().and_then(TopicId::parse),
            position: assignment.start,
            delivered: assignment.start,
            ended: false,
            leader: None,
            proven: false,
            missing_since: None,
            fetch_bytes,
            high_watermark: None,
            assignment: assignment.clone(),
        }
    }

    /// Offsets at or behind this are not delivered.
    pub fn end(&self) -> i64 {
        self.assignment.end.unwrap_or(i64::MAX)
    }

    /// Whether there is something to ask the leader for.
    pub fn wants_more(&self) -> bool {
        !self.ended && self.position < self.end()
    }

    /// The leader is not the leader, or does not answer.
    pub fn lost(&mut self) {
        self.leader = None;
        self.proven = false;
    }

    /// Last offset + 1 for lag: of what is to be read, where that is bounded.
    pub fn lag_end(&self) -> Option<i64> {
        let end = self.assignment.end.or(self.high_watermark);
        end.map(|end| end.max(self.delivered))
    }

    pub fn fault(&self, fault: &Fault) -> Error {
        let place = self.assignment.place(fault.offset);
        match &fault.reason {
            Reason::OldFormat(_) => Error::env(format!("{place}: {}", fault.reason))
                .with_hint("'source.client' = 'librdkafka' reads it"),
            Reason::TooLarge(_) => Error::env(format!("{place}: {}", fault.reason))
                .with_hint("if it is no mistake, 'source.client' = 'librdkafka' reads it, in memory that is not bounded"),
            _ => faults::corrupt(&place, &fault.reason),
        }
    }

    pub fn out_of_range(&self, text: &str) -> Error {
        faults::out_of_range(&self.assignment.place(self.position), text)
    }

    pub fn gone(&self, text: &str) -> Error {
        faults::gone(&self.assignment.place(self.delivered), Some(text))
    }

    pub fn recreated(&self) -> Error {
        faults::recreated(
            &self.assignment.topic,
            &self.assignment.place(self.delivered),
        )
    }

    pub fn corrupt(&self, text: &str) -> Error {
        faults::corrupt(&self.assignment.place(self.position), text)
    }

    pub fn refused(&self, text: &str) -> Error {
        let place = self.assignment.place(self.position);
        Error::env(format!("Kafka does not serve {place}: {text}"))
            .with_hint("'source.client' = 'librdkafka' may do better")
    }

    pub fn forbidden(&self, who: &str, text: &str) -> Error {
        let place = self.assignment.place(self.position);
        faults::forbidden(who, &self.assignment.topic, &place, text)
    }
}
