//! What librdkafka says beside messages: ends of partitions, errors, its log.

use super::{KafkaReader, State};
use crate::error::{Error, Result};
use crate::kafka::faults;
use crate::kafka::topic_ids::{Described, TopicId, describe};
use crate::source::Polled;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::PoisonError;
use std::time::Duration;

const DESCRIBE: Duration = Duration::from_secs(1);

/// What librdkafka advises when a response is larger than that; it drops the connection and asks
/// again for ever.
pub(super) const TOO_LARGE: &str = "receive.message.max.bytes";

/// Text of an error code.
fn error_text(code: c_int) -> String {
    // SAFETY: `rd_kafka_err2str` takes any code of the enum and returns a static string; codes
    // come from librdkafka itself.
    unsafe {
        CStr::from_ptr(sys::rd_kafka_err2str(std::mem::transmute::<
            c_int,
            sys::rd_kafka_resp_err_t,
        >(code)))
    }
    .to_string_lossy()
    .into_owned()
}

/// # Safety
/// `text` is null or a string.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

pub(super) unsafe extern "C" fn on_error(
    _: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    use sys::rd_kafka_resp_err_t as E;
    // SAFETY: `opaque` is the address of the reader's `State`, alive as long as the client;
    // `reason` is a string that librdkafka owns during the call, or null.
    let (state, reason) = unsafe { (&*(opaque as *const State), copied(reason)) };
    let mut last = state.error.lock().unwrap_or_else(PoisonError::into_inner);
    // That no broker is left follows from what went wrong before.
    *last = match last.take() {
        Some((before, why)) if why.contains(TOO_LARGE) || is_refusal(before, &why) => {
            Some((before, why))
        }
        Some((_, why)) if code == E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int => {
            Some((code, why))
        }
        _ => Some((code, reason)),
    };
}

/// Whether the broker refuses the client. (A connection that ends while it logs in, and a token that is not to be
/// had for now, have the same code, and pass.)
fn is_refusal(code: c_int, reason: &str) -> bool {
    code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTHENTICATION as c_int
        && !reason.contains("Local:")
        && !reason.contains("Failed to acquire")
}

pub(super) unsafe extern "C" fn on_log(
    _: *const sys::rd_kafka_t,
    _: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: both are strings that librdkafka owns during the call, or null.
    let (facility, text) = unsafe { (copied(facility), copied(text)) };
    tracing::debug!(target: "librdkafka", "{facility}: {text}");
}

impl KafkaReader {
    /// A message that is an event: the end of a partition, or an error.
    pub(super) fn event(
        &mut self,
        code: c_int,
        m: &sys::rd_kafka_message_t,
        partition: Option<usize>,
    ) -> Result<()> {
        use sys::rd_kafka_resp_err_t as E;
        if code == E::RD_KAFKA_RESP_ERR__PARTITION_EOF as c_int {
            if let Some(p) = partition {
                // Behind control records and compacted ones the position is past the last record.
                self.partitions[p].seen_up_to(m.offset);
            }
            return Ok(());
        }
        let place = match partition {
            Some(p) => self.place(p),
            None => self.bootstrap.clone(),
        };
        // SAFETY: the text belongs to the message, which is valid here, and is copied.
        let text = unsafe {
            let text = sys::rd_kafka_message_errstr(m);
            if text.is_null() {
                error_text(code)
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        let is = |codes: &[E]| codes.iter().any(|c| *c as c_int == code);
        if is(&[
            E::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
            E::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        ]) {
            // In a topic that was created again the position may be behind the end.
            self.check_topics()?;
            self.overtaken = true;
            return Err(faults::out_of_range(&place, &text));
        }
        if is(&[
            E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
        ]) {
            return Err(faults::gone(&place, Some(&text)));
        }
        if is(&[E::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]) {
            // librdkafka looks for its group's coordinator, which reading does without.
            tracing::debug!("{text}");
            return Ok(());
        }
        if is(&[E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]) {
            let topic = partition.map_or("", |p| &*self.partitions[p].assignment.topic);
            return Err(faults::forbidden(&self.who, topic, &place, &text));
        }
        if partition.is_none() && is(&[E::RD_KAFKA_RESP_ERR__BAD_MSG]) {
            self.set_unreadable(text);
            return Ok(());
        }
        if is(&[
            E::RD_KAFKA_RESP_ERR__BAD_MSG,
            E::RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
        ]) {
            return Err(faults::corrupt(&place, text));
        }
        // Everything else is passing: librdkafka tries again.
        self.set_away(&text);
        Ok(())
    }

    pub(super) fn set_away(&mut self, why: &str) {
        if !self.away {
            self.away = true;
            self.ready.push_back(Polled::Notice(format!(
                "waiting for Kafka at {}: {why}",
                self.bootstrap
            )));
        }
    }

    /// Says what is waited for, unless all that is there was read.
    pub(super) fn tell_silence(&mut self) {
        let behind = |p: &usize| {
            let partition = &self.partitions[*p];
            let end = self.high_watermark(*p);
            !partition.ended && end.is_none_or(|end| partition.position < end)
        };
        if let Some(p) = (0..self.partitions.len()).find(behind) {
            let place = self.place(p);
            self.set_away(&format!("nothing comes of {place} and what is behind it"));
        }
    }

    fn place(&self, p: usize) -> String {
        let partition = &self.partitions[p];
        partition.assignment.place(partition.position)
    }

    /// Requests that failed with the one that was too large say less than that.
    fn set_unreadable(&mut self, why: String) {
        let says_most = |known: &String| known.contains(TOO_LARGE);
        if !self.unreadable.as_ref().is_some_and(says_most) {
            self.unreadable = Some(why);
        }
    }

    /// What ends the reading, if something does.
    pub(super) fn failure(&mut self) -> Option<Error> {
        let failed = self.failed.take();
        failed.or_else(|| {
            let why = self.unreadable.take()?;
            Some(self.cannot_read(&why))
        })
    }

    /// A response as a whole cannot be read; asking again would give the same.
    fn cannot_read(&self, text: &str) -> Error {
        let read = (0..self.partitions.len()).filter(|p| !self.partitions[*p].ended);
        let places: Vec<String> = read.take(3).map(|p| self.place(p)).collect();
        Error::env(format!(
            "Kafka at {} answers what cannot be read, at {}: {text}",
            self.bootstrap,
            places.join(" or ")
        ))
        .with_hint("a record batch may be larger than 'properties.receive.message.max.bytes'")
    }

    /// What the error callback left.
    pub(super) fn client_error(&mut self) -> Result<()> {
        use sys::rd_kafka_resp_err_t as E;
        let Some((code, reason)) = self
            .state
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return Ok(());
        };
        let is = |c: E| c as c_int == code;
        if is(E::RD_KAFKA_RESP_ERR__FATAL) {
            return Err(Error::env(format!(
                "Kafka client at {}: {reason}",
                self.bootstrap
            )));
        }
        if is(E::RD_KAFKA_RESP_ERR__BAD_MSG) || reason.contains(TOO_LARGE) {
            self.set_unreadable(reason);
            return Ok(());
        }
        if is_refusal(code, &reason) {
            return Err(faults::refused(&self.bootstrap, &reason));
        }
        if is(E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
            let why = self.said.take().unwrap_or(reason);
            self.set_away(&why);
            return Ok(());
        }
        let text = error_text(code);
        tracing::debug!("Kafka at {}: {text}: {reason}", self.bootstrap);
        self.said = Some(reason);
        Ok(())
    }

    /// An error when a partition that is still read is in a topic that does not exist, or that is
    /// not the one that was assigned.
    pub(super) fn check_topics(&self) -> Result<()> {
        let read = || (0..self.partitions.len()).filter(|p| !self.partitions[*p].ended);
        let topic = |p: usize| &*self.partitions[p].assignment.topic;
        let mut topics: Vec<&str> = read().map(topic).collect();
        topics.sort_unstable();
        topics.dedup();
        if topics.is_empty() {
            return Ok(());
        }
        // SAFETY: `rk` is valid.
        let Ok(described) = (unsafe { describe(self.rk, &topics, DESCRIBE) }) else {
            // Away: that is told elsewhere.
            return Ok(());
        };
        for p in read() {
            let assigned = &self.partitions[p].assignment.topic_id;
            let assigned = assigned.as_deref().and_then(TopicId::parse);
            match described.get(topic(p)) {
                Some(Described::Missing) => return Err(faults::gone(&self.place(p), None)),
                Some(Described::Topic(Some(id))) if assigned.is_some_and(|a| a != *id) => {
                    return Err(faults::recreated(topic(p), &self.place(p)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
