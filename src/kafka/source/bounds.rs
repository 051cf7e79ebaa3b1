//! Where reading starts and ends: offsets by time, by group, by a checkpoint.

use super::{KafkaSource, Look, REQUEST, Topics};
use crate::error::{Error, Result};
use crate::kafka::faults;
use crate::kafka::metadata::MetadataClient;
use crate::kafka::topic_ids::{self, TopicId};
use crate::options::Options;
use crate::source::{Assignment, Source, resume_at};
use crate::state::PartitionSnapshot;
use crate::table::TableDef;
use crate::watermark::NONE;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// Where reading starts, or ends.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Earliest,
    Latest,
    /// Where the group stands, and where a group that stands nowhere yet begins.
    Group(Beginning),
    Timestamp(i64),
    /// Offsets of partitions, whatever the topic.
    Specific(BTreeMap<i32, i64>),
    /// Spark's: of the partitions of each topic; -2 is the first, -1 behind the last.
    OfTopics(BTreeMap<String, BTreeMap<i32, i64>>),
}

/// Where a group begins: Kafka's `auto.offset.reset`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginning {
    Earliest,
    /// The same, but nobody has asked for it, so it is said.
    Unsaid,
    Latest,
    /// It is an error.
    Nowhere,
}

impl Beginning {
    pub(super) fn of(options: &Options) -> Result<Self> {
        let key = "properties.auto.offset.reset";
        match options.get(key).map(str::to_lowercase).as_deref() {
            None => Ok(Beginning::Unsaid),
            Some("earliest" | "smallest" | "beginning") => Ok(Beginning::Earliest),
            Some("latest" | "largest" | "end") => Ok(Beginning::Latest),
            Some("none" | "error") => Ok(Beginning::Nowhere),
            Some(_) => Err(options.invalid(key, "expected earliest, latest or none")),
        }
    }

    /// The offset in a partition whose log, from `low` to `high`, has the group's no more. (What lies beyond
    /// `high` may be in a transaction that is still open.)
    fn instead(self, offset: i64, place: &str, low: i64, high: i64) -> i64 {
        let (new, which) = match self {
            Beginning::Earliest => (low, "earliest"),
            Beginning::Latest => (high, "latest"),
            // Reading finds that out.
            Beginning::Unsaid | Beginning::Nowhere => return offset,
        };
        tracing::warn!(
            "the consumer group stands at {place} offset {offset}, but the log begins at {low}: reading from the {which}, as properties.auto.offset.reset says"
        );
        new
    }

    /// The offset in a partition whose log goes from `low` to `high`.
    fn offset(self, place: &str, low: i64, high: i64) -> std::result::Result<i64, Look> {
        match self {
            Beginning::Earliest => Ok(low),
            Beginning::Latest => Ok(high),
            Beginning::Unsaid => {
                tracing::info!(
                    "the consumer group has no offset of {place}: reading from the earliest, as properties.auto.offset.reset is not set"
                );
                Ok(low)
            }
            Beginning::Nowhere => Err(Look::Final(
                Error::env(format!("the consumer group has no offset of {place}, and properties.auto.offset.reset is none"))
                    .with_hint("set it to earliest or latest, or let the group commit first"),
            )),
        }
    }
}

/// By name; see [`topic_ids`].
pub(super) type TopicIds = BTreeMap<String, TopicId>;

impl Bound {
    /// What the option `<prefix>.mode` says with those beside it.
    pub(super) fn of(def: &TableDef, prefix: &str, mode: &str) -> Result<Bound> {
        let o = &def.options;
        match mode.to_lowercase().as_str() {
            "earliest-offset" => Ok(Bound::Earliest),
            "latest-offset" => Ok(Bound::Latest),
            "group-offsets" => Ok(Bound::Group(Beginning::of(o)?)),
            "timestamp" => {
                let key = format!("{prefix}.timestamp-millis");
                let ms = o.integer(&key)?.ok_or_else(|| {
                    o.invalid(&format!("{prefix}.mode"), format!("needs '{key}'"))
                })?;
                Ok(Bound::Timestamp(ms))
            }
            "specific-offsets" => {
                let key = format!("{prefix}.specific-offsets");
                let text = o.get(&key).ok_or_else(|| {
                    o.invalid(&format!("{prefix}.mode"), format!("needs '{key}'"))
                })?;
                let mut map = BTreeMap::new();
                for part in text.split(';').filter(|p| !p.trim().is_empty()) {
                    let pair = part.split_once(',').and_then(|(p, off)| {
                        let p = p.trim().strip_prefix("partition:")?.trim().parse().ok()?;
                        Some((p, off.trim().strip_prefix("offset:")?.trim().parse().ok()?))
                    });
                    let (p, offset): (i32, i64) = pair.ok_or_else(|| {
                        o.invalid(
                            &key,
                            "expected partition:0,offset:42;partition:1,offset:300",
                        )
                    })?;
                    if p < 0 || offset < 0 {
                        return Err(o.invalid(&key, "partitions and offsets begin at 0"));
                    }
                    if map.insert(p, offset).is_some() {
                        let twice = format!("partition {p} is named twice");
                        return Err(o.invalid(&key, twice));
                    }
                }
                Ok(Bound::Specific(map))
            }
            _ if mode.starts_with('{') => {
                let invalid = |why| o.invalid(&format!("{prefix}.mode"), why);
                let topics: BTreeMap<String, BTreeMap<i32, i64>> =
                    serde_json::from_str(mode).map_err(|_| {
                        invalid("expected the offsets of each topic's partitions, like {\"clicks\":{\"0\":23,\"1\":-2}}")
                    })?;
                let mut all = topics.values().flatten();
                if all.any(|(p, offset)| *p < 0 || *offset < -2) {
                    return Err(invalid(
                        "partitions and offsets begin at 0; -2 is the earliest, -1 the latest",
                    ));
                }
                Ok(Bound::OfTopics(topics))
            }
            _ => Err(o.invalid(&format!("{prefix}.mode"), "is not known")),
        }
    }
}

impl Bound {
    /// The partitions that offsets are given for, of any topic or of one.
    fn named(&self) -> Vec<(Option<&str>, i32)> {
        match self {
            Bound::Specific(map) => map.keys().map(|p| (None, *p)).collect(),
            Bound::OfTopics(topics) => topics
                .iter()
                .flat_map(|(topic, map)| map.keys().map(|p| (Some(topic.as_str()), *p)))
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl KafkaSource {
    /// Offsets of one bound for all `partitions`.
    fn resolve(
        &self,
        client: &MetadataClient,
        bound: &Bound,
        partitions: &[(String, i32)],
        is_end: bool,
    ) -> std::result::Result<Vec<i64>, Look> {
        let mut offsets = Vec::with_capacity(partitions.len());
        let watermarks = |topic: &str, p: i32| {
            client
                .fetch_watermarks(topic, p, REQUEST)
                .map_err(Look::Away)
        };
        let mut list = TopicPartitionList::new();
        for (topic, p) in partitions {
            list.add_partition(topic, *p);
        }
        let answered = match bound {
            Bound::Group(_) => Some(
                client
                    .committed_offsets(list, REQUEST)
                    .map_err(Look::Away)?,
            ),
            Bound::Timestamp(ms) => {
                let set = list.set_all_offsets(Offset::Offset(*ms));
                set.map_err(Look::Away)?;
                Some(
                    client
                        .offsets_for_times(list, REQUEST)
                        .map_err(Look::Away)?,
                )
            }
            _ => None,
        };
        for (topic, p) in partitions {
            let (low, high) = watermarks(topic, *p)?;
            let answer = answered
                .as_ref()
                .and_then(|l| l.find_partition(topic, *p))
                .map(|e| e.offset());
            let default = if is_end { high } else { low };
            offsets.push(match (bound, answer) {
                (Bound::Earliest, _) => low,
                (Bound::Latest, _) => high,
                (Bound::Specific(map), _) => {
                    let offset = map.get(p).copied().unwrap_or(default);
                    self.reached(offset, is_end, &format!("{topic}/{p}"), high)?
                }
                (Bound::OfTopics(map), _) => {
                    match map.get(topic).and_then(|partitions| partitions.get(p)) {
                        Some(-2) => low,
                        Some(-1) => high,
                        offset => {
                            let offset = offset.copied().unwrap_or(default);
                            self.reached(offset, is_end, &format!("{topic}/{p}"), high)?
                        }
                    }
                }
                (Bound::Group(new), Some(Offset::Offset(offset))) if !is_end && offset < low => {
                    new.instead(offset, &format!("{topic}/{p}"), low, high)
                }
                (_, Some(Offset::Offset(offset))) => offset,
                // Nothing committed, or no record that late.
                (Bound::Group(_), _) if is_end => high,
                (Bound::Group(new), _) => new.offset(&format!("{topic}/{p}"), low, high)?,
                (Bound::Timestamp(_), _) => high,
            });
        }
        Ok(offsets)
    }

    /// The offset that a user gives, if reading can start there (or end, when the log comes to it).
    fn reached(
        &self,
        offset: i64,
        is_end: bool,
        place: &str,
        high: i64,
    ) -> std::result::Result<i64, Look> {
        if is_end || offset <= high {
            return Ok(offset);
        }
        Err(Look::Final(
            Error::env(format!(
                "reading is to start at {place} offset {offset}, but the log ends at {high}"
            ))
            .with_hint(
                "correct the offset, or start at the end: 'scan.startup.mode' = 'latest-offset'",
            ),
        ))
    }

    /// The ids of the partitions' topics. They are asked for before any offset, so that offsets
    /// are of the topic of that id, or of a later one: which is found out when it is read.
    pub(super) fn ids(
        &self,
        client: &MetadataClient,
        partitions: &[(String, i32)],
    ) -> std::result::Result<TopicIds, Look> {
        let mut topics: Vec<&str> = partitions.iter().map(|(t, _)| t.as_str()).collect();
        topics.dedup();
        if topics.is_empty() {
            return Ok(TopicIds::new());
        }
        topic_ids::ids(client, &topics, REQUEST).map_err(Look::Away)
    }

    /// Puts partitions where a checkpoint left them, if the log still goes on from there.
    pub(super) fn resume(
        &self,
        client: &MetadataClient,
        assignments: &mut [Assignment],
        known: &[PartitionSnapshot],
        ids: &TopicIds,
    ) -> std::result::Result<(), Look> {
        for p in known {
            let before = p.topic_id.as_deref().and_then(TopicId::parse);
            let now = ids.get(&p.topic).copied();
            if before.is_some() && now.is_some() && before != now {
                let place = format!("{}/{} offset {}", p.topic, p.partition, p.position);
                let error = faults::recreated_since(&p.topic, &place);
                return Err(Look::Final(error));
            }
        }
        if let Topics::Pattern(pattern) = &self.topics {
            let wanted = known.iter().filter(|p| pattern.is_match(&p.topic));
            self.miss(assignments, wanted)?;
        }
        resume_at(assignments, Some(known));
        for a in assignments {
            let (low, high) = client
                .fetch_watermarks(&a.topic, a.partition, REQUEST)
                .map_err(Look::Away)?;
            let place = format!("{}/{}", a.topic, a.partition);
            if a.start > high {
                return Err(Look::Final(
                    Error::env(format!(
                        "the checkpoint stands at {place} offset {}, but the log ends at {high}",
                        a.start
                    ))
                    .with_hint("was the topic deleted and created again? Start with a new checkpoint folder"),
                ));
            }
            if a.start < low && self.fail_on_data_loss {
                return Err(Look::Final(
                    Error::env(format!(
                        "the checkpoint stands at {place} offset {}, but retention has removed what is before offset {low}",
                        a.start
                    ))
                    .with_hint("'scan.fail-on-data-loss' = 'false' goes on without the records that are lost"),
                ));
            }
            if a.start < low {
                tracing::warn!(
                    "{} offsets of {place} are lost: the checkpoint stands at {}, the log begins at {low}",
                    low - a.start,
                    a.start
                );
                a.start = low;
            }
        }
        Ok(())
    }

    /// Says which partitions that are wanted are not there. (A topic of a list that is not there is an error
    /// before.)
    fn miss<'a>(
        &self,
        assignments: &[Assignment],
        wanted: impl Iterator<Item = &'a PartitionSnapshot>,
    ) -> std::result::Result<(), Look> {
        for p in wanted {
            let is_it = |a: &Assignment| *a.topic == *p.topic && a.partition == p.partition;
            if assignments.iter().any(is_it) {
                continue;
            }
            let text = format!(
                "the checkpoint stands at {}/{} offset {}, but Kafka at {} shows no such topic",
                p.topic, p.partition, p.position, self.bootstrap
            );
            if self.fail_on_data_loss {
                return Err(Look::Final(Error::env(text).with_hint(
                    "was it deleted, or may the user not see it? Without it, it would be read from its beginning when it comes back; 'scan.fail-on-data-loss' = 'false' goes on so",
                )));
            }
            tracing::warn!("{text}");
        }
        Ok(())
    }

    /// Says which partitions offsets are given for that are not there.
    pub(super) fn warn_of_unknown(&self, assignments: &[Assignment]) {
        let bounds = std::iter::once(&self.start).chain(&self.end);
        for (topic, p) in bounds.flat_map(Bound::named) {
            let is_it =
                |a: &Assignment| a.partition == p && topic.is_none_or(|topic| *topic == *a.topic);
            if !assignments.iter().any(is_it) {
                tracing::warn!(
                    "{} has no partition {p}: the offset that is given for it has no effect",
                    topic.map_or_else(|| self.describe(), |topic| format!("topic {topic}"))
                );
            }
        }
    }

    pub(super) fn assignments(
        &self,
        client: &MetadataClient,
        partitions: &[(String, i32)],
        ids: &TopicIds,
        first_id: usize,
        start: &Bound,
    ) -> std::result::Result<Vec<Assignment>, Look> {
        let starts = self.resolve(client, start, partitions, false)?;
        let ends: Vec<_> = match &self.end {
            Some(end) => {
                let mut ends = self.resolve(client, end, partitions, true)?;
                if self.request.until_end {
                    // A bound may lie ahead of what is there now.
                    let there = self.resolve(client, &Bound::Latest, partitions, true)?;
                    let both = ends.iter_mut().zip(there);
                    both.for_each(|(end, there)| *end = there.min(*end));
                }
                ends.into_iter().map(Some).collect()
            }
            None => vec![None; partitions.len()],
        };
        let all = partitions.iter().zip(starts).zip(ends).enumerate();
        Ok(all
            .map(|(i, (((topic, p), start), end))| Assignment {
                id: first_id + i,
                topic: topic.as_str().into(),
                topic_id: ids.get(topic).map(|id| id.to_string().into()),
                partition: *p,
                start,
                end,
                max_us: NONE,
            })
            .collect())
    }
}
