//! The requests and responses that reading needs: in versions that every broker since Kafka 2.3
//! speaks, and in those since 3.1 that name topics by their ids.

use super::wire::{In, Malformed, Out, Result};
use crate::kafka::topic_ids::TopicId;
use std::ops::Range;

const FETCH: (i16, i16) = (1, 11);
const METADATA: (i16, i16) = (3, 7);
/// The same with topic ids.
const FETCH_IDS: (i16, i16) = (1, 13);
const METADATA_IDS: (i16, i16) = (3, 10);
const SASL_HANDSHAKE: (i16, i16) = (17, 1);
const API_VERSIONS: (i16, i16) = (18, 0);
const SASL_AUTHENTICATE: (i16, i16) = (36, 1);

/// What a broker speaks of what reading needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    pub reads: bool,
    /// Fetch and Metadata with topic ids.
    pub ids: bool,
}

fn request((api, version): (i16, i16), correlation: i32, client: &str) -> Out {
    Out::request(api, version, correlation, client)
}

pub fn api_versions(correlation: i32, client: &str) -> Vec<u8> {
    request(API_VERSIONS, correlation, client).finish()
}

/// The error code, and what the broker speaks.
pub fn read_api_versions(frame: &mut In) -> Result<(i16, Spoken)> {
    let code = frame.i16()?;
    let mut spoken = [false; 4];
    for _ in 0..frame.count(6)? {
        let (api, from, to) = (frame.i16()?, frame.i16()?, frame.i16()?);
        for (spoken, wanted) in spoken
            .iter_mut()
            .zip([FETCH, METADATA, FETCH_IDS, METADATA_IDS])
        {
            *spoken |= wanted.0 == api && (from..=to).contains(&wanted.1);
        }
    }
    let spoken = Spoken {
        reads: spoken[0] && spoken[1],
        ids: spoken[2] && spoken[3],
    };
    Ok((code, spoken))
}

/// The version with topic ids, or that without.
fn versioned(
    ids: bool,
    without: (i16, i16),
    with: (i16, i16),
    correlation: i32,
    client: &str,
) -> Out {
    match ids {
        true => Out::flexible(with.0, with.1, correlation, client),
        false => request(without, correlation, client),
    }
}

pub fn sasl_handshake(correlation: i32, client: &str, mechanism: &str) -> Vec<u8> {
    let mut out = request(SASL_HANDSHAKE, correlation, client);
    out.string(mechanism);
    out.finish()
}

/// The error code, and the mechanisms that the broker offers.
pub fn read_sasl_handshake(frame: &mut In) -> Result<(i16, Vec<String>)> {
    let code = frame.i16()?;
    let mechanisms = (0..frame.count(2)?).map(|_| frame.string().map(str::to_string));
    Ok((code, mechanisms.collect::<Result<_>>()?))
}

pub fn sasl_authenticate(correlation: i32, client: &str, token: &[u8]) -> Vec<u8> {
    let mut out = request(SASL_AUTHENTICATE, correlation, client);
    out.bytes(token);
    out.finish()
}

/// The error code with the broker's text, or the server's token.
pub fn read_sasl_authenticate<'a>(
    frame: &mut In<'a>,
) -> Result<std::result::Result<&'a [u8], (i16, String)>> {
    let code = frame.i16()?;
    let text = frame.string()?.to_string();
    let token = frame.bytes()?;
    frame.i64()?;
    Ok(if code == 0 {
        Ok(token)
    } else {
        Err((code, text))
    })
}

pub fn metadata<'a>(
    correlation: i32,
    client: &str,
    ids: bool,
    topics: impl ExactSizeIterator<Item = &'a str>,
) -> Vec<u8> {
    let mut out = versioned(ids, METADATA, METADATA_IDS, correlation, client);
    out.count(topics.len());
    for topic in topics {
        if ids {
            out.topic_id(None); // asked for by its name
        }
        out.string(topic);
        out.tags();
    }
    // Reading creates no topic.
    out.bool(false);
    if ids {
        out.bool(false); // who may do what with the cluster
        out.bool(false); // and with the topics
    }
    out.tags();
    out.finish()
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub brokers: Vec<BrokerAddress>,
    pub topics: Vec<TopicMetadata>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    pub node: i32,
    pub host: String,
    pub port: u16,
}

#[derive(Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub code: i16,
    pub name: String,
    /// Only from a broker that has ids.
    pub id: Option<TopicId>,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub code: i16,
    pub partition: i32,
    /// Node of the leader; -1 for none.
    pub leader: i32,
}

/// `ids` is whether the request was made with them.
pub fn read_metadata(frame: &mut In, ids: bool) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    if ids {
        frame.flexible()?;
    }
    frame.i32()?; // throttle time: the broker delays the response itself
    for _ in 0..frame.count(11)? {
        let (node, host, port) = (frame.i32()?, frame.string()?.to_string(), frame.i32()?);
        frame.nullable_string()?; // rack
        frame.tags()?;
        let port = u16::try_from(port).map_err(|_| Malformed("a broker's port is no port"))?;
        metadata.brokers.push(BrokerAddress { node, host, port });
    }
    frame.nullable_string()?; // cluster
    frame.i32()?; // controller
    for _ in 0..frame.count(8)? {
        let (code, name) = (frame.i16()?, frame.string()?.to_string());
        let id = if ids { frame.topic_id()? } else { None };
        frame.bool()?; // internal
        let count = frame.count(18)?;
        let partitions = (0..count).map(|_| read_partition_metadata(frame));
        let partitions = partitions.collect::<Result<_>>()?;
        if ids {
            frame.i32()?; // who may do what
        }
        frame.tags()?;
        metadata.topics.push(TopicMetadata {
            code,
            name,
            id,
            partitions,
        });
    }
    Ok(metadata)
}

fn read_partition_metadata(frame: &mut In) -> Result<PartitionMetadata> {
    let (code, partition, leader) = (frame.i16()?, frame.i32()?, frame.i32()?);
    frame.i32()?; // leader epoch
    // Replicas, those in sync, those off line.
    for _ in 0..3 {
        let nodes = frame.count(4)?;
        frame.take(nodes * 4)?;
    }
    frame.tags()?;
    Ok(PartitionMetadata {
        code,
        partition,
        leader,
    })
}

/// The parts of a Fetch request that are the same for all of its partitions.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub read_committed: bool,
}

/// One partition of a Fetch request.
#[derive(Debug, Clone, Copy)]
pub struct FetchPartition<'a> {
    pub topic: &'a str,
    pub id: Option<TopicId>,
    pub partition: i32,
    pub offset: i64,
    pub max_bytes: i32,
}

/// `partitions` in the order in which the broker shall serve them: a topic may come twice. With
/// `ids` all of them must have one.
pub fn fetch(
    correlation: i32,
    client: &str,
    ids: bool,
    limits: FetchLimits,
    partitions: &[FetchPartition],
) -> Vec<u8> {
    let mut out = versioned(ids, FETCH, FETCH_IDS, correlation, client);
    out.i32(-1); // a consumer, no replica
    out.i32(limits.max_wait_ms);
    out.i32(limits.min_bytes);
    out.i32(limits.max_bytes);
    out.i8(i8::from(limits.read_committed));
    out.i32(0); // no fetch session:
    out.i32(-1); // each request names all of its partitions
    let topics = || partitions.chunk_by(|a, b| a.topic == b.topic);
    out.count(topics().count());
    for of_topic in topics() {
        match ids {
            true => out.topic_id(of_topic[0].id),
            false => out.string(of_topic[0].topic),
        }
        out.count(of_topic.len());
        for p in of_topic {
            out.i32(p.partition);
            out.i32(-1); // leader epoch: any
            out.i64(p.offset);
            if ids {
                out.i32(-1); // epoch of the last record: not compared
            }
            out.i64(-1); // log start: replicas alone have one
            out.i32(p.max_bytes);
            out.tags();
        }
        out.tags();
    }
    out.count(0); // nothing to forget of a session
    out.string(""); // rack
    out.tags();
    out.finish()
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub throttle_ms: i32,
    /// Error of the request as a whole.
    pub code: i16,
    pub partitions: Vec<FetchedPartition>,
}

/// How a response to Fetch names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    Name(String),
    Id(Option<TopicId>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    pub topic: Topic,
    pub partition: i32,
    pub code: i16,
    /// -1 where the broker does not say.
    pub high_watermark: i64,
    /// Producer id and first offset.
    pub aborted: Vec<(i64, i64)>,
    /// Where the record batches lie in the frame.
    pub records: Range<usize>,
}

/// Reads all but the records, which stay in the frame. `ids` is whether the request was made with
/// them.
pub fn read_fetch(frame: &mut In, ids: bool) -> Result<Fetched> {
    if ids {
        frame.flexible()?;
    }
    let mut fetched = Fetched {
        throttle_ms: frame.i32()?,
        code: frame.i16()?,
        partitions: Vec::new(),
    };
    frame.i32()?; // session
    for _ in 0..frame.count(6)? {
        let topic = match ids {
            true => Topic::Id(frame.topic_id()?),
            false => Topic::Name(frame.string()?.to_string()),
        };
        for _ in 0..frame.count(36)? {
            let partition = read_fetched_partition(frame, &topic)?;
            fetched.partitions.push(partition);
        }
        frame.tags()?;
    }
    Ok(fetched)
}

fn read_fetched_partition(frame: &mut In, topic: &Topic) -> Result<FetchedPartition> {
    let (partition, code, high_watermark) = (frame.i32()?, frame.i16()?, frame.i64()?);
    frame.i64()?; // last stable offset
    frame.i64()?; // log start offset
    let count = frame.count(16)?;
    let aborted = (0..count).map(|_| {
        let transaction = (frame.i64()?, frame.i64()?);
        frame.tags()?;
        Ok(transaction)
    });
    let aborted = aborted.collect::<Result<_>>()?;
    frame.i32()?; // preferred read replica: only for a client with a rack
    let records = frame.bytes()?;
    let end = frame.position();
    frame.tags()?;
    Ok(FetchedPartition {
        topic: topic.clone(),
        partition,
        code,
        high_watermark,
        aborted,
        records: end - records.len()..end,
    })
}
