//! A broker that stops, comes back, or is not there yet.

use super::*;

/// Story: a free port that had been bound and left again was another test's broker the next moment.
/// At this address there is none.
const NOBODY: &str = "127.0.0.2:9";

with_both_clients!(a_restart_is_told_once_and_loses_nothing);

fn a_restart_is_told_once_and_loses_nothing(with: With) {
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    client::create_topic(&bootstrap, "away", 2);
    let text = |i: usize| format!("record {i}");
    let produce = |numbers: std::ops::Range<usize>| {
        let values: Vec<String> = numbers.map(text).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        client::produce(&bootstrap, "away", 0, &values);
        client::produce(&bootstrap, "away", 1, &values);
    };
    produce(0..1000);
    let source = with.open(&bootstrap, "away", &[FROM_START]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() == 2000);
    assert_eq!(received.notices, [""; 0]);

    for (round, kill) in [(1, false), (2, true)] {
        if kill {
            broker.kill();
        } else {
            broker.stop();
        }
        poll_until(reader.as_mut(), &mut received, |r| {
            r.notices.len() == 2 * round - 1
        });
        // Long enough for several attempts to connect: none of them is told.
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            received.poll(reader.as_mut()).unwrap();
        }
        broker.restart();
        produce(1000 * round..1000 * (round + 1));
        poll_until(reader.as_mut(), &mut received, |r| {
            r.count() == 2000 * (round + 1)
        });
        assert_eq!(received.notices.len(), 2 * round, "{:?}", received.notices);
        assert!(
            received.notices[2 * round - 2]
                .starts_with(&format!("waiting for Kafka at {bootstrap}")),
            "{:?}",
            received.notices
        );
        assert_eq!(
            received.notices[2 * round - 1],
            format!("Kafka at {bootstrap} answers again")
        );
    }
    for p in 0..2 {
        let list = &received.records[&("away".to_string(), p)];
        assert!(
            list.iter()
                .enumerate()
                .all(|(i, (offset, t))| *offset == i as i64 && t.as_deref() == Some(&text(i)))
        );
        assert_eq!(list.len(), 3000);
    }
}

/// librdkafka told it after 5 s, the direct client when it gave the connection up, after 30.
#[test]
fn a_broker_that_stands_still_is_told() {
    let broker = Broker::start();
    client::create_topic(&broker.bootstrap(), "frozen", 1);
    client::produce(&broker.bootstrap(), "frozen", 0, &["a"]);
    let source = With::DIRECT.open(&broker.bootstrap(), "frozen", &[FROM_START]);
    let mut reader = source.reader(&partitions(&source)).unwrap();
    let mut received = Received::default();
    poll_until(reader.as_mut(), &mut received, |r| r.count() == 1);
    broker.freeze();
    let frozen = Instant::now();
    poll_until(reader.as_mut(), &mut received, |r| r.notices.len() == 1);
    assert!(
        frozen.elapsed() < Duration::from_secs(15),
        "{:?}",
        frozen.elapsed()
    );
    assert!(
        received.notices[0].ends_with("does not answer"),
        "{:?}",
        received.notices
    );
    broker.thaw();
    client::produce(&broker.bootstrap(), "frozen", 0, &["b"]);
    poll_until(reader.as_mut(), &mut received, |r| r.count() == 2);
    assert!(
        received.notices[1].ends_with("answers again"),
        "{:?}",
        received.notices
    );
}

#[test]
fn a_source_waits_for_the_broker() {
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    client::create_topic(&bootstrap, "late-start", 1);
    client::produce(&bootstrap, "late-start", 0, &["a"]);
    broker.stop();
    let source = open(&bootstrap, "late-start", &[FROM_START, TO_END]);
    let mut told = Vec::new();
    let all = source.partitions(None, &mut |text| {
        if !text.is_empty() {
            told.push(text.to_string());
        }
        if told.len() == 1 && text == told[0] {
            broker.restart();
        }
        true
    });
    assert_eq!(
        all.unwrap()
            .iter()
            .map(|a| (a.start, a.end))
            .collect::<Vec<_>>(),
        [(0, Some(1))]
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with(&format!("waiting for Kafka at {bootstrap}")),
        "{told:?}"
    );
    assert_eq!(told[1], format!("Kafka at {bootstrap} answers"));
}

#[test]
fn waiting_can_be_stopped() {
    let source = open(NOBODY, "t", &[]);
    let mut calls = 0;
    let started = Instant::now();
    let error = source
        .partitions(None, &mut |_| {
            calls += 1;
            calls < 2
        })
        .unwrap_err();
    assert_eq!(calls, 2);
    assert_says(&error, &["stopped while waiting for Kafka at 127.0.0.2"]);
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}

/// The looks in between, which only ask whether to go on, are not told.
#[test]
fn a_run_tells_the_wait_once() {
    let sql = source_sql("t", "t", "a STRING", "") + "SELECT a FROM t;";
    let job = plan_script(&sql, &|_| Some(NOBODY.into()), &Settings::default()).unwrap();
    let stop: Arc<AtomicBool> = Arc::default();
    let options = RunOptions {
        format: Format::Json,
        output: Arc::new(|| Box::new(std::io::sink())),
        clock: Arc::new(SystemClock::default()),
        stop: stop.clone(),
    };
    let mut told = Told::default();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A few looks, at about a second each.
            std::thread::sleep(Duration::from_secs(5));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        windrow::run::run(job, &options, &mut told).unwrap_err()
    });
    assert_says(&error, &["stopped while waiting"]);
    assert!(
        told.0.len() == 1 && told.0[0].starts_with("waiting for Kafka at"),
        "{:?}",
        told.0
    );
}
