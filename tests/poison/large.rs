//! Records and batches of sizes that nobody planned for.

use super::*;
use crate::support::broker::Options;
use crate::support::wire::{batch, produce_batch, record_around};
use std::io::Write;
use std::sync::OnceLock;

const MB: u64 = 1 << 20;

/// Takes records of 100 MB, as some production brokers do.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        Broker::start_with(Options {
            more: "message.max.bytes=150000000\nsocket.request.max.bytes=150000000",
            // Each of the records is copied in it more than once, and the tests run side by side.
            heap_mb: Some(1536),
            ..Options::default()
        })
    })
}

/// A small row, `batch`, and another small row.
fn between_small_rows(topic: &str, batch: &[u8]) {
    let bootstrap = broker().bootstrap();
    client::create_topic(&bootstrap, topic, 1);
    let small = [r#"{"a":1,"text":"b"}"#];
    client::produce(&bootstrap, topic, 0, &small);
    assert_eq!(produce_batch(&bootstrap, topic, batch), 0, "{topic}");
    client::produce(&bootstrap, topic, 0, &small);
}

/// A batch of one row whose text has so many letters.
fn row_of(letters: usize) -> Vec<u8> {
    let value = format!(r#"{{"a":2,"text":"{}"}}"#, "x".repeat(letters));
    let (head, tail) = record_around(value.len() as i64);
    batch(0, &[&head, value.as_bytes(), &tail].concat())
}

fn select(topic: &str, client: &str) -> String {
    let options = format!(", 'source.client' = '{client}'");
    source_sql(&broker().bootstrap(), topic, "a INT, text STRING", &options)
        + "SELECT a, char_length(text) AS n FROM i;"
}

#[test]
fn a_record_of_100_megabytes_is_read() {
    let topic = "poison-100-mb";
    between_small_rows(topic, &row_of(100 << 20));
    for (client, memory) in [
        ("direct", &[][..]),
        ("direct", &["--memory", "256m"]),
        ("librdkafka", &["--memory", "256m"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let args = [&["--until-end", "--format", "json"], memory].concat();
        let run = Run::start(windrow(folder.path(), &select(topic, client), &args));
        let ended = run.end();
        ended.assert(0, &["read 3 records"]);
        assert_eq!(
            ended.stdout, "{\"a\":1,\"n\":1}\n{\"a\":2,\"n\":104857600}\n{\"a\":1,\"n\":1}",
            "{client}"
        );
        assert!(ended.peak < 400 * MB, "{client}: {} MB", ended.peak / MB);
    }
}

/// An error that names the place, not an endless wait. (For the direct client, whose bound is 256 MB,
/// see its own tests.)
#[test]
fn a_response_that_is_too_large_for_librdkafka_is_an_error() {
    let topic = "poison-too-large";
    between_small_rows(topic, &row_of(80 << 20));
    let bound = ", 'properties.fetch.max.bytes' = '1000000', 'properties.receive.message.max.bytes' = '2000000'";
    let sql = select(topic, "librdkafka")
        .replace(", 'source.client'", &format!("{bound}, 'source.client'"));
    let folder = tempfile::tempdir().unwrap();
    let ended = Run::start(windrow(folder.path(), &sql, &["--until-end"])).end();
    let place = format!("{topic}/0 offset 1");
    ended.assert(1, &["error: ", &place, "receive.message.max.bytes"]);
}

/// librdkafka takes records of a megabyte, unless it is told otherwise: each start ended at the same one.
#[test]
fn a_large_bad_record_is_kept_in_a_topic() {
    let (topic, dead) = ("poison-large-bad", "poison-large-dead");
    let value = "x".repeat(3 << 20);
    let (head, tail) = record_around(value.len() as i64);
    let bad = batch(0, &[&head, value.as_bytes(), &tail].concat());
    between_small_rows(topic, &bad);
    let bootstrap = broker().bootstrap();
    client::create_topic(&bootstrap, dead, 1);
    let policy = format!("'json', 'bad-records' = 'dead-letter', 'dead-letter.topic' = '{dead}'");
    let sql = select(topic, "direct").replace("'json'", &policy);
    let folder = tempfile::tempdir().unwrap();
    let ended = Run::start(windrow(folder.path(), &sql, &["--until-end"])).end();
    ended.assert(0, &["read 3 records", "bad 1"]);
    let kept = client::read_all(&bootstrap, dead);
    assert!(kept.len() == 1 && kept[0].1 == value);
}

/// A billion letters in one record, packed.
fn bomb(codec: i16) -> Vec<u8> {
    const LETTERS: usize = 1_000_000_000;
    let (head, tail) = record_around(LETTERS as i64);
    let block = vec![b'x'; 1_000_000];
    let write = |out: &mut dyn Write| {
        out.write_all(&head).unwrap();
        for _ in 0..LETTERS / block.len() {
            out.write_all(&block).unwrap();
        }
        out.write_all(&tail).unwrap();
    };
    match codec {
        1 => {
            let fast = flate2::Compression::fast();
            let mut out = flate2::write::GzEncoder::new(Vec::new(), fast);
            write(&mut out);
            out.finish().unwrap()
        }
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            write(&mut out);
            out.finish().unwrap()
        }
        _ => {
            let mut out = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            write(&mut out);
            out.finish().unwrap()
        }
    }
}

/// (librdkafka unpacks whatever it is: README says so.)
#[test]
fn a_batch_that_unpacks_to_a_gigabyte_does_not_take_the_memory() {
    for (name, codec) in [("gzip", 1), ("lz4", 3), ("zstd", 4)] {
        let topic = format!("poison-bomb-{name}");
        let packed = bomb(codec);
        assert!(packed.len() < 10 << 20, "{name}: {}", packed.len());
        between_small_rows(&topic, &batch(codec, &packed));
        for policy in ["skip", "fail"] {
            let sql = select(&topic, "direct")
                .replace("'json'", &format!("'json', 'bad-records' = '{policy}'"));
            let folder = tempfile::tempdir().unwrap();
            let args = ["--until-end", "--memory", "256m"];
            let ended = Run::start(windrow(folder.path(), &sql, &args)).end();
            let place = format!("{topic}/0 offset 1: the record batch unpacks to more than 128 MB");
            ended.assert(1, &["error: ", &place, "hint: "]);
            assert!(ended.peak < 400 * MB, "{name}: {} MB", ended.peak / MB);
        }
    }
}
