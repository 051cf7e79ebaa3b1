use super::cluster::{Answers, Cluster, TOPIC};
use crate::error::Result;
use crate::kafka::config::ClientConfig;
use crate::kafka::direct::DirectReader;
use crate::source::{Assignment, Polled, ReadRequest, Reader};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Reading {
    reader: DirectReader,
    offsets: Vec<i64>,
    notices: Vec<String>,
    ended: bool,
    high_watermark: Option<i64>,
}

fn reading(cluster: &Cluster, end: Option<i64>, settings: &[(&str, &str)]) -> Reading {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap());
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let partition = Assignment {
        id: 3,
        topic: TOPIC.into(),
        topic_id: None,
        partition: 0,
        start: 0,
        end,
        max_us: crate::watermark::NONE,
    };
    Reading {
        reader: DirectReader::new(&config, &[partition], &ReadRequest::default()).unwrap(),
        offsets: Vec::new(),
        notices: Vec::new(),
        ended: false,
        high_watermark: None,
    }
}

impl Reading {
    fn poll(&mut self) -> Result<()> {
        match self.reader.poll(Duration::from_millis(50))? {
            Polled::Chunk(chunk) => {
                assert!(!self.ended);
                self.offsets.extend(chunk.offsets);
                self.high_watermark = chunk.high_watermark;
            }
            Polled::End { id } => {
                assert_eq!(id, 3);
                self.ended = true;
            }
            Polled::Notice(text) => self.notices.push(text),
            Polled::Idle => {}
            Polled::Rows(_) => panic!("no rows are decoded here"),
        }
        Ok(())
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            let (read, told) = (self.offsets.len(), &self.notices);
            assert!(started.elapsed() < PATIENCE, "{read} rows, {told:?}");
            self.poll().unwrap();
        }
    }

    fn error(&mut self) -> String {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "no error; {:?}", self.notices);
            if let Err(error) = self.poll() {
                return format!("{error}; {}", error.hint().unwrap_or_default());
            }
        }
    }

    fn has(&self, count: i64) -> bool {
        self.offsets.len() == count as usize
    }
}

#[test]
fn a_leader_that_moves_is_followed() {
    let cluster = Cluster::start(3);
    cluster.append(100);
    let mut reading = reading(&cluster, Some(400), &[]);
    reading.until(|r| r.has(100));
    assert_eq!(reading.high_watermark, Some(400));
    for leader in [1, 2, 0] {
        cluster.state().leader = leader;
        cluster.append(100);
        let rows = cluster.state().end();
        reading.until(|r| r.has(rows));
        assert_eq!(cluster.state().fetches.last().unwrap().1, leader as usize);
    }
    reading.until(|r| r.ended);
    assert_eq!(reading.offsets, (0..400).collect::<Vec<_>>());
    // That took less than is worth telling.
    assert_eq!(reading.notices, [""; 0]);
}

#[test]
fn a_partition_without_leader_is_told_once() {
    let cluster = Cluster::start(2);
    cluster.append(10);
    let mut reading = reading(&cluster, None, &[]);
    reading.until(|r| r.has(10));
    assert_eq!(reading.high_watermark, Some(10));
    cluster.state().leader = -1;
    reading.until(|r| !r.notices.is_empty());
    for _ in 0..40 {
        reading.poll().unwrap();
    }
    cluster.state().leader = 1;
    cluster.append(10);
    reading.until(|r| r.has(20));
    let bootstrap = cluster.bootstrap();
    assert_eq!(
        reading.notices,
        [
            format!("waiting for Kafka at {bootstrap}: t/0 offset 10: LEADER_NOT_AVAILABLE"),
            format!("Kafka at {bootstrap} answers again"),
        ]
    );
}

#[test]
fn one_request_is_under_way_while_a_chunk_is_handed_out() {
    let cluster = Cluster::start(1);
    cluster.append(5);
    let mut reading = reading(&cluster, None, &[("fetch.wait.max.ms", "10000")]);
    reading.until(|r| r.has(5));
    let started = Instant::now();
    // The broker has the next request already, before the reader is called again.
    while cluster.state().fetches.last().unwrap().2 != 5 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn pieces_and_batches_that_are_cut_are_put_together() {
    let cluster = Cluster::start(1);
    (0..20).for_each(|_| cluster.append(200));
    cluster.state().cuts = true;
    cluster.state().answers = Answers::Pieces;
    // A batch is larger than what is asked for.
    let settings = [("fetch.message.max.bytes", "1000")];
    let mut reading = reading(&cluster, Some(3_900), &settings);
    reading.until(|r| r.ended);
    assert_eq!(reading.offsets, (0..3_900).collect::<Vec<_>>());
    let asked = cluster.state().fetches.iter().map(|f| f.3).max();
    assert!(asked > Some(4_000) && asked < Some(33_000), "{asked:?}");
}

#[test]
fn a_broker_that_wants_a_pause_gets_it() {
    let cluster = Cluster::start(1);
    cluster.append(1);
    cluster.state().throttle_ms = 300;
    let mut reading = reading(&cluster, None, &[]);
    reading.until(|_| cluster.state().fetches.len() == 4);
    let fetches = &cluster.state().fetches;
    let pauses = fetches.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(pauses.min() >= Some(Duration::from_millis(300)));
}

#[test]
fn a_call_does_not_wait_longer_than_it_may() {
    let cluster = Cluster::start(1);
    for answers in [Answers::Never, Answers::Noise] {
        cluster.state().answers = answers;
        let mut reading = reading(&cluster, None, &[]);
        let started = Instant::now();
        while reading.notices.is_empty() {
            assert!(started.elapsed() < PATIENCE);
            let call = Instant::now();
            reading.poll().unwrap();
            let took = call.elapsed();
            assert!(took < Duration::from_millis(500), "{took:?}");
        }
        let told = &reading.notices[0];
        assert!(
            told.starts_with("waiting for Kafka at 127.0.0.1:"),
            "{told}"
        );
        assert_eq!(
            told.contains("does not speak Kafka's protocol"),
            answers == Answers::Noise,
            "{told}"
        );
    }
}

#[test]
fn errors_that_do_not_pass_end_the_query() {
    let cluster = Cluster::start(1);
    cluster.append(10);
    for (code, text) in [
        (
            1,
            "t/0 offset 0 is not in the log any more: OFFSET_OUT_OF_RANGE; retention",
        ),
        (2, "corrupt data at t/0 offset 0: CORRUPT_MESSAGE"),
        (
            29,
            "not allowed to read t/0 offset 0: TOPIC_AUTHORIZATION_FAILED; the user needs the right (ACL) Read on topic",
        ),
    ] {
        cluster.state().fetch_code = code;
        let error = reading(&cluster, None, &[]).error();
        assert!(error.starts_with(text), "{error}");
    }
    cluster.state().fetch_code = 0;
    cluster.state().batches[0].1[100] ^= 1;
    let error = reading(&cluster, None, &[]).error();
    let text = "corrupt data at t/0 offset 0: the record batch's CRC does not match";
    assert!(error.starts_with(text), "{error}");

    cluster.state().fetch_version = 10;
    let error = reading(&cluster, None, &[]).error();
    assert!(
        error.contains("older than 2.3; 'source.client' = 'librdkafka'"),
        "{error}"
    );
}

/// It was taken for somebody who does not speak Kafka's protocol, and asked for ever.
#[test]
fn a_response_that_is_too_large_names_the_place() {
    let cluster = Cluster::start(1);
    cluster.append(10);
    let mut reading = reading(&cluster, None, &[]);
    reading.until(|r| r.has(10));
    cluster.state().answers = Answers::Huge;
    // The request that is under way is answered, too.
    cluster.append(10);
    let error = reading.error();
    let place = error.contains("at t/0 offset 20") || error.contains("at t/0 offset 10");
    assert!(place && error.contains("314572800 bytes"), "{error}");
    assert!(error.contains("'source.client' = 'librdkafka'"), "{error}");
}

#[test]
fn a_topic_that_is_gone_is_an_error_soon() {
    let cluster = Cluster::start(1);
    cluster.append(10);
    let mut reading = reading(&cluster, None, &[]);
    reading.until(|r| r.has(10));
    cluster.state().fetch_code = 3;
    cluster.state().topic_code = 3;
    let started = Instant::now();
    let error = reading.error();
    let text =
        "t/0 offset 10 does not exist any more: UNKNOWN_TOPIC_OR_PARTITION; was the topic deleted?";
    assert_eq!(error, text);
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// What only librdkafka reads is handed over where it begins: nothing is lost, nothing comes twice.
#[test]
fn what_is_too_old_is_left_to_another_reader() {
    let cluster = Cluster::start(1);
    cluster.append(10);
    let mut reading = reading(&cluster, Some(30), &[]);
    reading.until(|r| r.has(10));
    let mut batch = super::some(10, 10).write();
    // The magic byte.
    batch[16] = 1;
    cluster.state().batches.push((19, batch));
    let error = reading.error();
    assert!(
        error.starts_with("t/0 offset 10: the message format 1"),
        "{error}"
    );
    assert!(reading.has(10) && reading.reader.is_too_old());
    let left = reading.reader.left();
    let left: Vec<_> = left.iter().map(|a| (a.id, a.start, a.end)).collect();
    assert_eq!(left, [(3, 10, Some(30))]);
}
