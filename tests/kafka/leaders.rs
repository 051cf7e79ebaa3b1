//! Two brokers: partitions whose leaders move while they are read.

use super::*;

with_both_clients!(leaders_that_move_lose_and_double_nothing);

const TOPIC: &str = "leaders";

struct Brokers {
    first: Broker,
    second: Broker,
    /// Values written to each partition so far.
    written: usize,
}

impl Brokers {
    /// With a topic of two partitions on both brokers; each leads one.
    fn start() -> Self {
        let first = Broker::start();
        let second = first.join();
        let (admin, options) = admin(&first.bootstrap());
        let new = NewTopic::new(TOPIC, 2, TopicReplication::Variable(&[&[1, 2], &[2, 1]]));
        let created = block_on(admin.create_topics([&new], &options)).expect("create topics");
        assert!(created[0].is_ok(), "{created:?}");
        Self {
            first,
            second,
            written: 0,
        }
    }

    fn bootstrap(&self) -> String {
        format!("{},{}", self.first.bootstrap(), self.second.bootstrap())
    }

    /// Node that leads each partition.
    fn leaders(&self) -> Vec<i32> {
        let consumer: BaseConsumer = client::config(&self.first.bootstrap())
            .create()
            .expect("consumer");
        let metadata = consumer
            .fetch_metadata(Some(TOPIC), PATIENCE)
            .expect("metadata");
        let partitions = metadata.topics()[0].partitions().iter();
        let mut leaders: Vec<_> = partitions.map(|p| (p.id(), p.leader())).collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, leader)| leader).collect()
    }

    /// Waits until the leaders are these; the reader goes on meanwhile.
    fn led_by(&self, leaders: [i32; 2], reader: &mut dyn Reader, received: &mut Received) {
        let started = Instant::now();
        while self.leaders() != leaders {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.leaders());
            received.poll(reader).expect("the reader goes on");
        }
    }

    /// Writes to both partitions, at the first time of asking or the next leader's.
    fn write(&mut self, count: usize) {
        let numbers = self.written..self.written + count;
        let values: Vec<String> = numbers.map(|i| format!("value {i}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        for partition in 0..2 {
            client::produce(&self.bootstrap(), TOPIC, partition, &values);
        }
        self.written += count;
    }
}

/// All that was written so far has come.
fn read(brokers: &Brokers, reader: &mut dyn Reader, received: &mut Received) {
    let last = format!("value {}", brokers.written - 1);
    poll_until(reader, received, |r| {
        let ends =
            |list: &Vec<Delivered>| list.last().is_some_and(|(_, t)| *t == Some(last.clone()));
        r.records.len() == 2 && r.records.values().all(ends)
    });
}

fn leaders_that_move_lose_and_double_nothing(with: With) {
    let mut brokers = Brokers::start();
    let source = with.open(&brokers.bootstrap(), TOPIC, &[FROM_START]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let (reader, mut received) = (reader.as_mut(), Received::default());
    brokers.write(2000);
    read(&brokers, reader, &mut received);
    assert_eq!(brokers.leaders(), [1, 2]);

    // Killed, between two reads and with records on their way; then back, and preferred again.
    brokers.write(2000);
    received.poll(reader).unwrap();
    brokers.second.kill();
    brokers.led_by([1, 1], reader, &mut received);
    brokers.write(2000);
    read(&brokers, reader, &mut received);
    brokers.second.restart();
    brokers.led_by([1, 2], reader, &mut received);
    brokers.write(2000);
    read(&brokers, reader, &mut received);

    // Stopped in order: it hands its partition over before it goes.
    brokers.second.stop();
    brokers.led_by([1, 1], reader, &mut received);
    brokers.write(2000);
    brokers.second.restart();
    brokers.led_by([1, 2], reader, &mut received);
    read(&brokers, reader, &mut received);

    // Each partition moves to the other broker alone: who led it has nothing of it any more.
    let to =
        |p: i32, node: i32| format!(r#"{{"topic":"{TOPIC}","partition":{p},"replicas":[{node}]}}"#);
    let plan = format!(
        r#"{{"version":1,"partitions":[{},{}]}}"#,
        to(0, 2),
        to(1, 1)
    );
    brokers.first.tool(
        "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
        &["--reassignment-json-file", "input.json", "--execute"],
        &plan,
    );
    brokers.led_by([2, 1], reader, &mut received);
    brokers.write(2000);
    read(&brokers, reader, &mut received);

    assert_log(&brokers, &received);
}

/// Delivered is what the log holds. (A producer that tries again may write twice.)
fn assert_log(brokers: &Brokers, received: &Received) {
    let log = client::read_all(&brokers.bootstrap(), TOPIC);
    for p in 0..2 {
        let list = &received.records[&(TOPIC.to_string(), p)];
        let offsets = list.iter().map(|(offset, _)| *offset);
        assert!(offsets.eq(0..list.len() as i64), "partition {p}");
        let delivered = list.iter().map(|(_, t)| t.as_deref().unwrap_or_default());
        let written = log.iter().filter(|(of, _)| *of == p);
        let written: Vec<&str> = written.map(|(_, t)| t.as_str()).collect();
        let (read, all) = (list.len(), written.len());
        assert!(delivered.eq(written), "partition {p}: {read} of {all}");
        assert!(all >= brokers.written);
    }
}
