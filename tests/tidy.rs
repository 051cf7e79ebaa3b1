//! Rules that a machine can check, read off the source files.

use std::path::{Path, PathBuf};

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Lines of code (no comments, no tests) of `src/` that hold `word`, as `file:line`, outside the
/// places where it may stand.
fn outside(word: &str, allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(all.len() > 50, "src/ was not found");
    let mut found = Vec::new();
    for path in all {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if is_test || allowed.iter().any(|a| name.starts_with(a)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (i, line) in text.lines().enumerate() {
            if line.contains("#[cfg(test)]") {
                break;
            }
            let code = line.split("//").next().unwrap_or("");
            if code.contains(word) {
                found.push(format!("src/{name}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    found
}

fn nowhere_else(word: &str, allowed: &[&str]) {
    let found = outside(word, allowed);
    assert!(
        found.is_empty(),
        "`{word}` belongs into {allowed:?} only:\n{}",
        found.join("\n")
    );
}

#[test]
fn datafusion_is_named_in_plan_only() {
    nowhere_else("datafusion", &["plan/"]);
}

#[test]
fn rdkafka_is_named_in_kafka_only() {
    nowhere_else("rdkafka::", &["kafka/"]);
    nowhere_else(
        "rdkafka_sys",
        &[
            "kafka/client.rs",
            "kafka/client/events.rs",
            "kafka/topic_ids.rs",
        ],
    );
}

#[test]
fn object_stores_are_named_in_remote_only() {
    nowhere_else("object_store::", &["remote/"]);
}

#[test]
fn unsafe_stands_in_named_files_only() {
    nowhere_else(
        "unsafe ",
        &[
            "kafka/client.rs",
            "kafka/client/events.rs",
            "kafka/topic_ids.rs",
            "kafka/direct/lz4/block.rs",
            "decode/strings.rs",
            "decode/json/mod.rs",
            "decode/json/compare.rs",
            "decode/json/masks.rs",
            "decode/json/shapes/lanes.rs",
            "decode/json/texts.rs",
            "decode/json/fill.rs",
            "window/keys.rs",
            "main.rs",
        ],
    );
}

#[test]
fn the_clock_is_read_where_a_clock_is_made() {
    // Beside the clock itself: waits and patience at the edges, which no result depends on.
    let edges = [
        "time.rs",
        "run/queue.rs",
        "kafka/direct/",
        "kafka/producer.rs",
        "kafka/transaction.rs",
        "remote/",
        "sink/files.rs",
        "cli/",
    ];
    nowhere_else("Instant::now", &edges);
    nowhere_else("SystemTime::now", &["time.rs"]);
}

#[test]
fn no_unbounded_queue_and_no_sleep() {
    nowhere_else("mpsc::channel", &[]);
    nowhere_else(
        "unbounded",
        &[
            "plan/",
            "options/table.rs",
            "kafka/source.rs",
            "source/datagen",
        ],
    );
    // Generated rows come at a pace: waiting is what that source does within its time-out.
    nowhere_else("thread::sleep", &["source/datagen"]);
}
