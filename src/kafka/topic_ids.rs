//! Ids of topics. A topic that is deleted and created again has the same name and another id, so
//! the id says whether an offset still means the same record. Brokers before 2.8 give none.
//!
//! This file is one of those that may hold `unsafe`: the client's crate has no call for what
//! librdkafka calls DescribeTopics.

use super::metadata::MetadataClient;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafka, RDKafkaErrorCode as Code};
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

/// An id as the protocol has it. Never zero: that stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId([u8; 16]);

impl TopicId {
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads what `to_string` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Self::new(bytes.try_into().ok()?)
    }
}

/// As Kafka's own tools print it.
impl std::fmt::Display for TopicId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// What the broker says of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    /// There is such a topic; an old broker does not tell its id.
    Topic(Option<TopicId>),
    /// There is none.
    Missing,
    /// It may not, or cannot, be described for the moment.
    Unknown,
}

/// The ids of those topics that have one.
pub fn ids(
    client: &MetadataClient,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, TopicId>, KafkaError> {
    // SAFETY: the client lives as long as it is borrowed.
    let described = match unsafe { describe(client.client().native_ptr(), topics, timeout) } {
        // A broker that is too old to describe topics has no ids.
        Err(KafkaError::MetadataFetch(Code::UnsupportedFeature)) => BTreeMap::new(),
        described => described?,
    };
    let known = |(name, described)| match described {
        Described::Topic(id) => Some((name, id?)),
        _ => None,
    };
    Ok(described.into_iter().filter_map(known).collect())
}

/// Asks the broker, and waits for the answer.
///
/// # Safety
/// `rk` is a valid client until the call returns.
pub unsafe fn describe(
    rk: *mut RDKafka,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, Described>, KafkaError> {
    let names: Vec<CString> = topics
        .iter()
        .map(|t| CString::new(*t))
        .collect::<Result<_, _>>()?;
    let mut names: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    let timeout_ms = timeout.as_millis().min(60_000) as i32;
    // SAFETY: the caller vouches for `rk`. What is made here is destroyed here, once; the names live
    // in `names` until the call returns (librdkafka copies them); the event is checked for null, and
    // read before it is destroyed. Setting options fails only for values out of their range.
    unsafe {
        let broker = some_broker(rk, timeout_ms)?;
        let queue = sys::rd_kafka_queue_new(rk);
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = sys::rd_kafka_AdminOptions_new(rk, operation);
        let (mut reason, room) = ([0 as c_char; 256], 256);
        let text = reason.as_mut_ptr();
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, text, room);
        sys::rd_kafka_AdminOptions_set_broker(options, broker, text, room);
        let asked = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        sys::rd_kafka_DescribeTopics(rk, asked, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let answer = match event.is_null() {
            true => Err(KafkaError::MetadataFetch(Code::OperationTimedOut)),
            false => read(event),
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_TopicCollection_destroy(asked);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// Node of a broker that answers: any may be asked. (Left alone, librdkafka asks the controller,
/// which librdkafka's own mock cluster, the demo's broker, does not have.)
///
/// # Safety
/// `rk` is a valid client until the call returns.
unsafe fn some_broker(rk: *mut RDKafka, timeout_ms: i32) -> Result<i32, KafkaError> {
    let mut metadata = std::ptr::null();
    // SAFETY: the caller vouches for `rk`; the result is there when the call says so, is read while
    // it lives, and destroyed here. Its list has the length that stands beside it.
    unsafe {
        let no_topic = std::ptr::null_mut();
        let failed = sys::rd_kafka_metadata(rk, 0, no_topic, &mut metadata, timeout_ms);
        if failed != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::MetadataFetch(failed.into()));
        }
        let told = &*metadata;
        // A broker that is known by its address alone has no number yet.
        let node = match told.orig_broker_id {
            -1 if told.broker_cnt > 0 => (*told.brokers).id,
            node => node,
        };
        sys::rd_kafka_metadata_destroy(metadata);
        Ok(node)
    }
}

/// # Safety
/// `event` is a valid event until the call returns.
unsafe fn read(
    event: *mut sys::rd_kafka_event_t,
) -> Result<BTreeMap<String, Described>, KafkaError> {
    use sys::rd_kafka_resp_err_t as E;
    let mut found = BTreeMap::new();
    // SAFETY: the caller vouches for `event`, which owns all that is read of it; its list has the
    // length that it tells, and each text is copied.
    unsafe {
        let failed = sys::rd_kafka_event_error(event);
        if failed != E::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::MetadataFetch(failed.into()));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(KafkaError::MetadataFetch(Code::BadMessage));
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for i in 0..count {
            let topic = *list.add(i);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic));
            let code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
            let described = match code {
                E::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let id = sys::rd_kafka_TopicDescription_topic_id(topic);
                    let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
                    let low = sys::rd_kafka_Uuid_least_significant_bits(id) as u64;
                    let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
                    Described::Topic(TopicId::new(bytes))
                }
                E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => Described::Missing,
                _ => Described::Unknown,
            };
            found.insert(name.to_string_lossy().into_owned(), described);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_text_of_kafkas_tools() {
        let id = TopicId::new([0xfb; 16]).unwrap();
        assert_eq!(id.to_string(), "-_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        for text in ["", "AAAAAAAAAAAAAAAAAAAAAA", "-_v7", "?"] {
            assert_eq!(TopicId::parse(text), None, "{text}");
        }
    }
}
