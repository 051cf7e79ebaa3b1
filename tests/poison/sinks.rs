//! Sinks that are slow, dead for a while, or that nobody reads.

use super::*;

const MB: u64 = 1 << 20;
const ROWS: usize = 300_000;
const COLUMNS: &str = "a BIGINT, text STRING";

/// Some 90 MB of rows: more than a run holds when it may not hand them on.
fn fill(bootstrap: &str, topic: &str) {
    client::create_topic(bootstrap, topic, 1);
    let pad = "x".repeat(280);
    for from in (0..ROWS).step_by(50_000) {
        let row = |a: usize| format!(r#"{{"a":{a},"text":"{pad}"}}"#);
        let rows: Vec<String> = (from..from + 50_000).map(row).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        client::produce(bootstrap, topic, 0, &rows);
    }
}

/// The topic that is read, filled once for all of these tests.
fn source(bootstrap: &str, client: &str) -> String {
    static FILLED: std::sync::Once = std::sync::Once::new();
    FILLED.call_once(|| fill(bootstrap, "sinks-in"));
    let client = format!(", 'source.client' = '{client}'");
    source_sql(bootstrap, "sinks-in", COLUMNS, &client)
}

/// Waits until the run waits, and looks at its memory for as long as it does.
#[track_caller]
fn holds(run: &Run, said: &[&str]) -> u64 {
    run.says(said);
    until("it stands still", || run.stands_still());
    let memory = run.memory();
    for _ in 0..3 {
        assert!(run.stands_still(), "{}", run.log());
    }
    let later = run.memory();
    assert!(later < memory + 2 * MB, "{memory}, then {later}");
    later
}

#[test]
fn output_that_nobody_reads_stops_reading_and_goes_on() {
    let bootstrap = Broker::shared().bootstrap();
    for client in CLIENTS {
        let folder = tempfile::tempdir().unwrap();
        let sql = source(&bootstrap, client) + "SELECT a, text FROM i;";
        let args = ["--format", "json", "--until-end"];
        let run = Run::held(windrow(folder.path(), &sql, &args));
        holds(&run, &["waiting for whoever reads standard output"]);
        let ended = run.let_go().end();
        ended.assert(
            0,
            &["standard output is read again", "read 300,000 records"],
        );
        let rows = ended.stdout.lines().map(String::from);
        assert!(numbers(rows).into_iter().eq(0..ROWS));
        assert!(ended.peak < 250 * MB, "{} MB", ended.peak / MB);
    }
}

/// A sink on a broker of its own: frozen, killed, and back each time.
#[test]
fn a_sink_that_is_dead_for_a_while_stops_reading_and_gets_each_row_once() {
    let bootstrap = Broker::shared().bootstrap();
    let mut other = Broker::start();
    for guarantee in ["at-least-once", "exactly-once"] {
        client::create_topic(&other.bootstrap(), guarantee, 1);
        let folder = tempfile::tempdir().unwrap();
        let states = folder.path().join("states").display().to_string();
        let options = format!(", 'sink.delivery-guarantee' = '{guarantee}'");
        let sql = "SET 'execution.checkpointing.interval' = '500 ms';\n".to_string()
            + &source(&bootstrap, "direct")
            + &kafka_sink_sql(&other.bootstrap(), guarantee, COLUMNS, &options)
            + "INSERT INTO o SELECT a, text FROM i;";
        other.freeze();
        // It is asked about its topic, or for the transaction, before anything is read.
        let args = ["--checkpoint", &states, "--until-end"];
        let run = Run::start(windrow(folder.path(), &sql, &args));
        std::thread::park_timeout(Duration::from_secs(1));
        other.thaw();
        until("the first rows", || {
            run.memory() > 0 && written(&other.bootstrap(), guarantee) > 0
        });
        other.freeze();
        let waits = ["waiting for Kafka at", &other.bootstrap()];
        let peak = holds(&run, &waits);
        assert!(peak < 400 * MB, "{} MB", peak / MB);
        other.thaw();
        // And it may die altogether.
        other.kill();
        other.restart();
        let ended = run.end();
        ended.assert(0, &["read 300,000 records"]);
        assert!(
            topic_numbers(&other.bootstrap(), guarantee)
                .into_iter()
                .eq(0..ROWS),
            "{guarantee}: {} rows",
            topic_numbers(&other.bootstrap(), guarantee).len()
        );
    }
}

/// Last offset + 1 of partition 0.
fn written(bootstrap: &str, topic: &str) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = client::config(bootstrap).create().unwrap();
    let (_, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    high
}
