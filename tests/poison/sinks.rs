//! Sinks that are slow, dead for a while, or that nobody reads.

use super::*;

const MB: u64 = 1 << 20;
const ROWS: usize = 100_000;
const COLUMNS: &str = "a BIGINT, text STRING";

/// Some 30 MB of rows: more than a run holds when it may not hand them on.
fn fill(bootstrap: &str, topic: &str, numbers: std::ops::Range<usize>) {
    let pad = "x".repeat(280);
    let row = |a: usize| format!(r#"{{"a":{a},"text":"{pad}"}}"#);
    let rows: Vec<String> = numbers.map(row).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    client::produce(bootstrap, topic, 0, &rows);
}

fn source(bootstrap: &str, topic: &str, client: &str) -> String {
    client::create_topic(bootstrap, topic, 1);
    let client = format!(", 'source.client' = '{client}'");
    source_sql(bootstrap, topic, COLUMNS, &client)
}

/// Waits until the run waits, and looks at its memory for as long as it does.
#[track_caller]
fn holds(run: &Run, said: &[&str]) -> u64 {
    run.says(said);
    // (Its CPU time does not tell: librdkafka's thread spins while a broker takes nothing.)
    until("its memory is flat", || {
        let before = run.memory();
        std::thread::park_timeout(Duration::from_secs(1));
        run.memory() < before + MB / 2
    });
    run.memory()
}

#[test]
fn output_that_nobody_reads_stops_reading_and_goes_on() {
    let bootstrap = Broker::shared().bootstrap();
    for client in CLIENTS {
        let folder = tempfile::tempdir().unwrap();
        let topic = format!("sinks-unread-{client}");
        let sql = source(&bootstrap, &topic, client) + "SELECT a, text FROM i;";
        fill(&bootstrap, &topic, 0..ROWS);
        let args = ["--format", "json", "--until-end"];
        let run = Run::held(windrow(folder.path(), &sql, &args));
        holds(&run, &["waiting for whoever reads standard output"]);
        let ended = run.let_go().end();
        ended.assert(
            0,
            &["standard output is read again", "read 100,000 records"],
        );
        let rows = ended.stdout.lines().map(String::from);
        assert!(numbers(rows).into_iter().eq(0..ROWS));
        assert!(ended.peak < 250 * MB, "{} MB", ended.peak / MB);
    }
}

#[test]
fn a_sink_that_is_frozen_stops_reading_and_gets_each_row() {
    dead_for_a_while("at-least-once", |other| other.thaw());
}

/// Nobody reads its output, so it cannot stop in order: it says so, and how to end it all the same.
#[test]
fn a_stop_that_waits_for_the_output_is_told_and_can_be_forced() {
    let bootstrap = Broker::shared().bootstrap();
    let folder = tempfile::tempdir().unwrap();
    let sql = source(&bootstrap, "sinks-stop", "direct") + "SELECT a, text FROM i;";
    fill(&bootstrap, "sinks-stop", 0..ROWS);
    let run = Run::held(windrow(folder.path(), &sql, &["--format", "json"]));
    until("it stands still", || run.stands_still());
    run.signal("-TERM");
    run.says(&[
        "stopping waits until what was read is written",
        "second signal",
    ]);
    run.signal("-TERM");
    assert_eq!(run.let_go().end().code, Some(130));
}

#[test]
fn a_sink_that_dies_and_comes_back_gets_each_row_once() {
    dead_for_a_while("exactly-once", |other| {
        other.kill();
        other.restart();
    });
}

/// A sink on a broker of its own, which is frozen at the start, and again when it has some rows.
fn dead_for_a_while(guarantee: &str, comes_back: fn(&mut Broker)) {
    let bootstrap = Broker::shared().bootstrap();
    let mut other = Broker::start();
    client::create_topic(&other.bootstrap(), "out", 1);
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().join("states").display().to_string();
    let options = format!(
        ", 'sink.delivery-guarantee' = '{guarantee}', 'properties.queue.buffering.max.kbytes' = '2048'"
    );
    let topic = format!("sinks-dead-{guarantee}");
    let sql = "SET 'execution.checkpointing.interval' = '500 ms'; SET 'trigger' = '100 ms';\n"
        .to_string()
        + &source(&bootstrap, &topic, "direct")
        + &kafka_sink_sql(&other.bootstrap(), "out", COLUMNS, &options)
        + "INSERT INTO o SELECT a, text FROM i;";
    fill(&bootstrap, &topic, 0..10);
    other.freeze();
    let run = Run::start(windrow(folder.path(), &sql, &["--checkpoint", &states]));
    until("it waits", || run.stands_still());
    other.thaw();
    until("the first rows", || written(&other.bootstrap()) >= 10);
    other.freeze();
    fill(&bootstrap, &topic, 10..ROWS);
    let memory = holds(&run, &["waiting for Kafka at", &other.bootstrap()]);
    assert!(memory < 150 * MB, "{} MB", memory / MB);
    comes_back(&mut other);
    until("all rows", || written(&other.bootstrap()) >= ROWS as i64);
    run.signal("-TERM");
    run.end().assert(0, &["read 100,000 records"]);
    let rows = topic_numbers(&other.bootstrap(), "out");
    assert!(rows.iter().copied().eq(0..ROWS), "{}", rows.len());
}

/// Last offset + 1 of partition 0, as far as transactions are committed; 0 while the broker, which
/// was frozen or has just started, does not say.
fn written(bootstrap: &str) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let mut config = client::config(bootstrap);
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let watermarks = consumer.fetch_watermarks("out", 0, PATIENCE);
    watermarks.map_or(0, |(_, high)| high)
}
