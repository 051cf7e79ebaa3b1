//! The first client behind the batch contract: librdkafka's C call for batches.
//!
//! Each reader has a client of its own with `assign()` over its partitions and reads the
//! client's consumer queue. Offsets are kept by the engine; nothing is committed here.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound. What the
//! blocks rely on: `rk` and `queue` are non-null in what `new` returns, `KafkaReader` is used by
//! one thread at a time (`&mut self`), and `state` (which the callbacks are given by address) is
//! boxed and outlives `rk`.

mod events;

use super::faults;
use crate::error::{Error, Result};
use crate::source::{Assignment, BlobsBuilder, Chunk, Headers, Polled, ReadRequest, Reader};
use crate::time::{Clock, SystemClock};
use events::{on_error, on_log};
use rdkafka::ClientConfig;
use rdkafka_sys as sys;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Mutex;
use std::time::Duration;

/// Messages of one call: the pointers fit a page or two, the payloads the second-level cache.
const BATCH_MESSAGES_MAX: usize = 8192;

/// So often the broker is asked whether the topics are still those that were assigned: about one
/// that was deleted librdkafka says nothing for minutes, and one that was created again under the
/// same name it reads as if nothing had happened.
const CHECK: Duration = Duration::from_secs(5);

/// Who waits so long for records that are there is told so. librdkafka itself says nothing of a
/// broker that holds its connection and does not answer, for a minute or more.
const SILENCE: Duration = Duration::from_secs(5);

/// What the callbacks leave for `poll`.
#[derive(Default)]
struct State {
    /// The last error of the client as a whole.
    error: Mutex<Option<(c_int, String)>>,
}

struct Partition {
    assignment: Assignment,
    topic: CString,
    position: i64,
    ended: bool,
}

impl Partition {
    /// Nothing more comes from before `offset`. The position stays within the bounded end:
    /// whoever goes on from there must find what was written behind it.
    fn seen_up_to(&mut self, offset: i64) {
        let to = self.assignment.end.map_or(offset, |end| offset.min(end));
        self.position = self.position.max(to);
    }
}

pub struct KafkaReader {
    rk: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    state: Box<State>,
    partitions: Vec<Partition>,
    /// From the topic handle and partition of a message to the index in `partitions`.
    index: HashMap<(usize, i32), usize>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    ready: VecDeque<Polled>,
    keys: bool,
    headers: bool,
    bootstrap: String,
    /// Whose rights count, for messages.
    who: String,
    away: bool,
    /// The error that is returned when what was received with it is handed out.
    failed: Option<Error>,
    /// Why a response cannot be read, which is told then, too, with the place that was reached.
    unreadable: Option<String>,
    /// What the client said last of itself.
    said: Option<String>,
    /// The error that was returned is about an offset that the log does not have.
    overtaken: bool,
    clock: SystemClock,
    /// When the topics were asked about.
    checked: Duration,
    /// How long it was waited since something came.
    waited: Duration,
}

// SAFETY: librdkafka's handles may be used from any thread; this type is not `Sync`, so one
// thread at a time does.
unsafe impl Send for KafkaReader {}

/// Sets what matters to how the data path reads; the user's own properties win.
fn tune(config: &mut ClientConfig) {
    for (key, value) in [
        // A fetcher that finds its queue full sleeps so long: the default of 1 s is ruinous.
        ("fetch.queue.backoff.ms", "2"),
        // Bounds of what waits in memory. They count payloads alone; each waiting message costs
        // some 250 bytes more.
        ("queued.min.messages", "10000"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.message.max.bytes", "262144"),
        ("fetch.wait.max.ms", "100"),
        // As the direct client: a batch comes whole, however little of it was asked for.
        ("receive.message.max.bytes", "268435456"),
        ("check.crcs", "true"),
        // A broker that is away is tried again soon.
        ("reconnect.backoff.max.ms", "2000"),
    ] {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    }
    config
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false");
}

impl KafkaReader {
    /// Connects in the background and starts to fetch.
    pub fn new(
        config: &ClientConfig,
        bootstrap: &str,
        partitions: &[Assignment],
        request: &ReadRequest,
    ) -> Result<Self> {
        let mut config = config.clone();
        tune(&mut config);
        let native = config
            .create_native_config()
            .map_err(|e| Error::env(format!("Kafka client: {e}")))?;
        let state = Box::new(State::default());
        let mut reason = [0 as c_char; 512];
        // SAFETY: `native` is a valid configuration; the duplicate is ours until `rd_kafka_new`
        // takes it, which it does not when it fails: then it is destroyed here. `state` outlives
        // the client (see the top of the file). The handles are checked before use.
        let (rk, queue) = unsafe {
            let conf = sys::rd_kafka_conf_dup(native.ptr());
            sys::rd_kafka_conf_set_opaque(conf, &*state as *const State as *mut c_void);
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            let rk = sys::rd_kafka_new(
                sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                conf,
                reason.as_mut_ptr(),
                reason.len(),
            );
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
                let text = CStr::from_ptr(reason.as_ptr()).to_string_lossy();
                return Err(Error::env(format!("cannot make a Kafka client: {text}")));
            }
            // Errors of the client then arrive with the messages, in this thread.
            sys::rd_kafka_poll_set_consumer(rk);
            (rk, sys::rd_kafka_queue_get_consumer(rk))
        };
        let mut reader = Self {
            rk,
            queue,
            state,
            partitions: Vec::new(),
            index: HashMap::new(),
            messages: vec![std::ptr::null_mut(); BATCH_MESSAGES_MAX],
            ready: VecDeque::new(),
            keys: request.keys,
            headers: request.headers,
            bootstrap: bootstrap.to_string(),
            who: faults::who(&config),
            away: false,
            failed: None,
            unreadable: None,
            said: None,
            overtaken: false,
            clock: SystemClock::new(),
            checked: Duration::ZERO,
            waited: Duration::ZERO,
        };
        if reader.queue.is_null() {
            return Err(Error::bug(
                "librdkafka has no consumer queue: there is no group.id",
            ));
        }
        reader.add(partitions)?;
        Ok(reader)
    }

    /// Whether the error that `poll` returned is that retention may have removed what was to be read
    /// next.
    pub fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// What is still to be read, for another reader to go on with.
    pub fn left(&self) -> Vec<Assignment> {
        let live = self.partitions.iter().filter(|p| !p.ended);
        live.map(|p| Assignment {
            start: p.position,
            ..p.assignment.clone()
        })
        .collect()
    }

    /// Gives the client the partitions, with their offsets, in addition to those it has.
    fn assign(&mut self, partitions: &[Partition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        // SAFETY: the list is made, filled and destroyed here; names are valid C strings that
        // librdkafka copies; an error object is destroyed after its text was copied.
        let failed = unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(partitions.len() as c_int);
            for p in partitions {
                let entry = sys::rd_kafka_topic_partition_list_add(
                    list,
                    p.topic.as_ptr(),
                    p.assignment.partition,
                );
                (*entry).offset = p.position;
            }
            let error = sys::rd_kafka_incremental_assign(self.rk, list);
            sys::rd_kafka_topic_partition_list_destroy(list);
            if error.is_null() {
                None
            } else {
                let text = CStr::from_ptr(sys::rd_kafka_error_string(error))
                    .to_string_lossy()
                    .into_owned();
                sys::rd_kafka_error_destroy(error);
                Some(text)
            }
        };
        match failed {
            None => Ok(()),
            Some(text) => Err(Error::env(format!(
                "Kafka does not assign the partitions: {text}"
            ))),
        }
    }

    /// Takes the messages that are there; waits for the first at most `timeout`. A batch call
    /// waits until it is full, so waiting is done for one message alone.
    fn receive(&mut self, timeout: Duration) -> usize {
        let mut call = |from: usize, count: usize, timeout_ms: c_int| -> usize {
            let room = &mut self.messages[from..from + count];
            // SAFETY: `queue` is valid; `room` has `count` places, and librdkafka fills at most
            // so many and returns how many.
            let filled = unsafe {
                sys::rd_kafka_consume_batch_queue(
                    self.queue,
                    timeout_ms,
                    room.as_mut_ptr(),
                    room.len(),
                )
            };
            usize::try_from(filled).unwrap_or(0)
        };
        let ready = call(0, BATCH_MESSAGES_MAX, 0);
        if ready > 0 || timeout.is_zero() {
            return ready;
        }
        let first = call(0, 1, timeout.as_millis().clamp(1, 1000) as c_int);
        if first == 0 {
            return 0;
        }
        first + call(1, BATCH_MESSAGES_MAX - 1, 0)
    }

    /// Sorts a batch of messages into chunks and events.
    fn sort(&mut self, count: usize) -> Result<()> {
        let mut building: Vec<Option<Building>> =
            (0..self.partitions.len()).map(|_| None).collect();
        let mut result = Ok(());
        for i in 0..count {
            let message = self.messages[i];
            if result.is_ok() {
                result = self.message(message, &mut building, count - i);
            }
            // SAFETY: librdkafka gave us this message; it is destroyed once, here, and not used
            // afterwards: everything was copied.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        if result.is_err() {
            self.give_back(&building);
            return result;
        }
        for (p, building) in building.into_iter().enumerate() {
            if let Some(building) = building {
                let chunk = self.chunk(p, building);
                self.partitions[p].position = chunk.next_offset;
                self.ready.push_back(Polled::Chunk(chunk));
            }
            self.end_if_reached(p);
        }
        Ok(())
    }

    /// Rows that are not handed out are still to be read, by whoever goes on from here: the end of their
    /// partition may have been seen behind them.
    fn give_back(&mut self, building: &[Option<Building>]) {
        for (partition, building) in self.partitions.iter_mut().zip(building) {
            if let Some(first) = building.as_ref().and_then(|b| b.offsets.first()) {
                partition.position = *first;
            }
        }
    }

    fn message(
        &mut self,
        message: *mut sys::rd_kafka_message_t,
        building: &mut [Option<Building>],
        left: usize,
    ) -> Result<()> {
        // SAFETY: the message is valid until it is destroyed, after this call.
        let m = unsafe { &*message };
        let code = m.err as c_int;
        let partition = self.partition_of(m);
        if code != 0 {
            return self.event(code, m, partition);
        }
        let Some(p) = partition else { return Ok(()) };
        let known = &self.partitions[p];
        if known.ended
            || m.offset < known.position
            || known.assignment.end.is_some_and(|e| m.offset >= e)
        {
            // Behind the end, or before the start (a batch may begin below the asked offset).
            self.partitions[p].seen_up_to(m.offset);
            return Ok(());
        }
        let (keys, headers) = (self.keys, self.headers);
        let b = building[p].get_or_insert_with(|| Building::new(left, keys, headers));
        // SAFETY: payload and key point to `len` bytes that the message owns, or are null;
        // the timestamp is read of a valid message.
        unsafe {
            b.payload.push(bytes(m.payload, m.len));
            if let Some(list) = &mut b.keys {
                list.push(bytes(m.key, m.key_len));
            }
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp = sys::rd_kafka_message_timestamp(message, &mut kind);
            b.timestamps_ms.push(timestamp);
            b.log_append_time =
                kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
        }
        if let Some(list) = &mut b.headers {
            list.push(read_headers(message));
        }
        b.offsets.push(m.offset);
        Ok(())
    }

    /// The index of a message's partition; `None` for one that is not (or no more) ours.
    fn partition_of(&mut self, m: &sys::rd_kafka_message_t) -> Option<usize> {
        if m.rkt.is_null() {
            return None;
        }
        let key = (m.rkt as usize, m.partition);
        if let Some(p) = self.index.get(&key) {
            return Some(*p);
        }
        // SAFETY: `rkt` is a valid topic handle while the message lives; its name is copied.
        let topic = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(m.rkt)) }.to_owned();
        let found = self
            .partitions
            .iter()
            .position(|p| p.topic == topic && p.assignment.partition == m.partition)?;
        self.index.insert(key, found);
        Some(found)
    }

    fn chunk(&self, p: usize, b: Building) -> Chunk {
        let partition = &self.partitions[p];
        let last = b.offsets.last().copied().unwrap_or(partition.position);
        Chunk {
            id: partition.assignment.id,
            topic: partition.assignment.topic.clone(),
            partition: partition.assignment.partition,
            next_offset: (last + 1).max(partition.position),
            offsets: b.offsets,
            payload: b.payload.finish(),
            timestamps_ms: b.timestamps_ms,
            log_append_time: b.log_append_time,
            keys: b.keys.map(BlobsBuilder::finish),
            headers: b.headers,
            high_watermark: self.high_watermark(p),
        }
    }

    fn high_watermark(&self, p: usize) -> Option<i64> {
        let partition = &self.partitions[p];
        let (mut low, mut high) = (-1, -1);
        // SAFETY: reads the client's cached figures into two integers; asks no broker.
        unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.rk,
                partition.topic.as_ptr(),
                partition.assignment.partition,
                &mut low,
                &mut high,
            )
        };
        let high = partition.assignment.end.or((high >= 0).then_some(high));
        high.map(|h| h.max(partition.position))
    }

    fn end_if_reached(&mut self, p: usize) {
        let partition = &mut self.partitions[p];
        if !partition.ended
            && partition
                .assignment
                .end
                .is_some_and(|e| partition.position >= e)
        {
            partition.ended = true;
            self.ready.push_back(Polled::End {
                id: partition.assignment.id,
            });
        }
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if let Some(ready) = self.ready.pop_front() {
            return Ok(ready);
        }
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let began = self.clock.now();
        let count = self.receive(timeout);
        let now = self.clock.now();
        let was_away = self.away;
        self.failed = self.client_error().err();
        if count > 0 {
            // Before any error is returned: a message that is not destroyed holds its broker, and
            // librdkafka then never ends.
            self.sort(count)?;
            let is_data = |r: &Polled| matches!(r, Polled::Chunk(_));
            if was_away && let Some(data) = self.ready.iter().position(is_data) {
                self.away = false;
                let text = format!("Kafka at {} answers again", self.bootstrap);
                self.ready.insert(data, Polled::Notice(text));
            }
        }
        self.waited = match count {
            0 => self.waited + (now - began),
            _ => Duration::ZERO,
        };
        if self.ready.is_empty()
            && let Some(error) = self.failure()
        {
            return Err(error);
        }
        if self.waited >= SILENCE {
            self.tell_silence();
        }
        // Before what was received is handed out: it may be of another topic.
        if now >= self.checked + CHECK {
            self.checked = now;
            self.check_topics()?;
        }
        Ok(self.ready.pop_front().unwrap_or(Polled::Idle))
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        let mut new = Vec::new();
        for a in partitions {
            let topic = CString::new(a.topic.as_bytes())
                .map_err(|_| Error::env(format!("topic name {:?} holds a zero byte", a.topic)))?;
            let partition = Partition {
                assignment: a.clone(),
                topic,
                position: a.start,
                ended: false,
            };
            if a.end.is_some_and(|e| a.start >= e) {
                self.ready.push_back(Polled::End { id: a.id });
                self.partitions.push(Partition {
                    ended: true,
                    ..partition
                });
            } else {
                new.push(partition);
            }
        }
        self.assign(&new)?;
        self.partitions.extend(new);
        Ok(())
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        // SAFETY: both handles are ours, valid (a queue that is null comes from a `new` that
        // fails), and not used again. No group was joined, so there is nothing to leave: closing
        // would only wait.
        unsafe {
            if !self.queue.is_null() {
                sys::rd_kafka_queue_destroy(self.queue);
            }
            sys::rd_kafka_destroy_flags(
                self.rk,
                sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE as c_int,
            );
        }
    }
}

/// The chunk of one partition while a batch is sorted.
struct Building {
    offsets: Vec<i64>,
    payload: BlobsBuilder,
    timestamps_ms: Vec<i64>,
    log_append_time: bool,
    keys: Option<BlobsBuilder>,
    headers: Option<Vec<Headers>>,
}

impl Building {
    fn new(messages: usize, keys: bool, headers: bool) -> Self {
        Self {
            offsets: Vec::with_capacity(messages),
            payload: BlobsBuilder::with_capacity(messages, messages * 128),
            timestamps_ms: Vec::with_capacity(messages),
            log_append_time: false,
            keys: keys.then(BlobsBuilder::default),
            headers: headers.then(Vec::new),
        }
    }
}

/// # Safety
/// `pointer` is null or points to `length` bytes that live as long as the result is used.
unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!pointer.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(pointer as *const u8, length) })
}

fn read_headers(message: *mut sys::rd_kafka_message_t) -> Headers {
    let mut list = Headers::new();
    // SAFETY: the message is valid during the call and owns its headers; each name and value is
    // copied before the next call.
    unsafe {
        let mut headers = std::ptr::null_mut();
        if sys::rd_kafka_message_headers(message, &mut headers) as c_int != 0 {
            return list;
        }
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        while sys::rd_kafka_header_get_all(headers, list.len(), &mut name, &mut value, &mut size)
            as c_int
            == 0
        {
            let text = CStr::from_ptr(name).to_string_lossy().into_owned();
            list.push((text, bytes(value, size).map(<[u8]>::to_vec)));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::embedded::EmbeddedBroker;
    use events::TOO_LARGE;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use std::net::TcpListener;

    /// It took the whole process with it.
    #[test]
    fn a_client_without_a_group_is_an_error() {
        let config = ClientConfig::new();
        let made = KafkaReader::new(&config, "", &[], &ReadRequest::default());
        assert!(made.err().unwrap().to_string().contains("group.id"));
    }

    fn partition(start: i64, end: Option<i64>) -> Assignment {
        Assignment {
            id: 0,
            topic: "t".into(),
            topic_id: None,
            partition: 0,
            start,
            end,
            max_us: crate::watermark::NONE,
        }
    }

    /// A reader of a topic that has one row, and its broker.
    fn one_row() -> (EmbeddedBroker, KafkaReader) {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("t", 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap());
        let producer: BaseProducer = config.create().unwrap();
        producer
            .send(BaseRecord::<(), _>::to("t").payload("row"))
            .unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
        config.set("group.id", "g");
        let (request, from) = (ReadRequest::default(), [partition(0, None)]);
        let reader = KafkaReader::new(&config, "", &from, &request);
        (broker, reader.unwrap())
    }

    /// The messages that had come together with an error were never destroyed: the client waited
    /// for them, and with it the process, after the error and before it was told.
    #[test]
    fn a_client_ends_when_an_error_comes_with_messages() {
        let (_broker, mut reader) = one_row();
        // SAFETY: the queue is valid.
        while unsafe { sys::rd_kafka_queue_length(reader.queue) } == 0 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let too_large = (-1, TOO_LARGE.to_string());
        *reader.state.error.lock().unwrap() = Some(too_large);
        while reader.poll(Duration::from_secs(1)).is_ok() {}
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(reader);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(30)).expect("it ends");
    }

    /// Rows that stood before an error in one batch were lost where the error is allowed to pass: the end of
    /// their partition had been seen.
    #[test]
    fn rows_before_an_error_are_still_to_be_read() {
        let (_broker, mut reader) = one_row();
        let mut building = [None];
        // Until the end is seen.
        while reader.partitions[0].position == 0 {
            for i in 0..reader.receive(Duration::from_secs(1)) {
                let message = reader.messages[i];
                reader.message(message, &mut building, 1).unwrap();
                // SAFETY: as in `sort`.
                unsafe { sys::rd_kafka_message_destroy(message) };
            }
        }
        assert_eq!(reader.left()[0].start, 1);
        reader.give_back(&building);
        assert_eq!(reader.left()[0].start, 0);
    }

    /// A broker that takes connections and answers nothing was waited for without a word, for a
    /// minute.
    #[test]
    fn a_silent_broker_is_waited_for_aloud() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let bootstrap = silent.local_addr().unwrap().to_string();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap);
        config.set("group.id", "g");
        for end in [Some(3), None] {
            let assignment = partition(2, end);
            let request = ReadRequest::default();
            let mut reader = KafkaReader::new(&config, &bootstrap, &[assignment], &request);
            let reader = reader.as_mut().unwrap();
            let told = loop {
                match reader.poll(Duration::from_millis(100)).unwrap() {
                    Polled::Notice(told) => break told,
                    polled => assert!(matches!(polled, Polled::Idle)),
                }
            };
            let place = "nothing comes of t/0 offset 2";
            assert!(told.contains(place) && told.contains(&bootstrap), "{told}");
        }
    }
}
