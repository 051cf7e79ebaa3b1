//! Disks without room, folders that may not be written to or go away.

use super::*;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const INTERVAL: &str = "SET 'execution.checkpointing.interval' = '100 ms';\n";

/// The same command, in which no file can be longer than so many kilobytes. To a program that is
/// a disk without room, and it needs no rights.
fn limited(command: &Command, kilobytes: u64) -> Command {
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$@\"",
        kilobytes * 2 // blocks of 512 bytes
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &script, "sh"]).arg(command.get_program());
    sh.args(command.get_args());
    sh
}

/// As whoever is not root: this process's user, or nobody.
fn as_nobody(command: &Command, folder: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut same = Command::new(command.get_program());
    if id.stdout == b"0\n" {
        // Root's folders may be closed to others.
        let copy = folder.join("windrow");
        if !copy.exists() {
            std::fs::copy(command.get_program(), &copy).unwrap();
        }
        same = Command::new(copy);
        same.uid(65534).gid(65534);
    }
    same.args(command.get_args());
    same
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder that everybody may look into.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    folder
}

fn to_files(bootstrap: &str, topic: &str, results: &Path, client: &str) -> String {
    let client = format!(", 'source.client' = '{client}'");
    INTERVAL.to_string()
        + &source_sql(bootstrap, topic, "a BIGINT", &client)
        + &format!(
            "CREATE TABLE o (a BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n\
             INSERT INTO o SELECT a FROM i;",
            results.display()
        )
}

/// Waits until the run shows so many rows; they are in a checkpoint, then.
fn shown(results: &Path, count: usize) {
    until("rows of a checkpoint", || file_rows(results).len() == count);
}

/// Starts again, reads to the end, and finds each row once.
fn goes_on(sql: &str, folder: &Path, checkpoint: &str, results: &Path, count: usize) {
    let again = windrow(folder, sql, &["--checkpoint", checkpoint, "--until-end"]);
    Run::start(again).end().assert(0, &[]);
    assert!(numbers(file_rows(results)) == Vec::from_iter(0..count));
}

#[test]
fn a_full_disk_under_the_results_ends_the_query_and_loses_nothing() {
    let bootstrap = Broker::shared().bootstrap();
    for client in CLIENTS {
        let topic = format!("poison-full-results-{client}");
        client::create_topic(&bootstrap, &topic, 1);
        produce(&bootstrap, &topic, 0..100);
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        let states = folder.path().join("states").display().to_string();
        let sql = to_files(&bootstrap, &topic, &results, client);
        let command = windrow(folder.path(), &sql, &["--checkpoint", &states]);
        let run = Run::start(limited(&command, 64));
        shown(&results, 100);
        // More in one epoch than a file may hold.
        produce(&bootstrap, &topic, 100..100_000);
        let results_text = results.display().to_string();
        run.end().assert(
            1,
            &["error: cannot write", &results_text, "start again", "room"],
        );
        assert!(file_rows(&results).len() < 100_000, "it did fail");
        goes_on(&sql, folder.path(), &states, &results, 100_000);
    }
}

/// One row each for 40,000 keys in an open window: more state than a file may hold.
fn to_topic(bootstrap: &str, topic: &str) -> String {
    let columns = "a BIGINT, ts TIMESTAMP(3) METADATA FROM 'timestamp', WATERMARK FOR ts AS ts";
    INTERVAL.to_string()
        + &source_sql(bootstrap, topic, columns, "")
        + &kafka_sink_sql(
            bootstrap,
            &format!("{topic}-out"),
            "a BIGINT, n BIGINT",
            ", 'sink.delivery-guarantee' = 'exactly-once'",
        )
        + "INSERT INTO o SELECT a, count(*) FROM TUMBLE(i, ts, INTERVAL '1' HOUR) GROUP BY window_start, window_end, a;"
}

#[test]
fn a_full_disk_under_the_checkpoints_keeps_the_last_good_one() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "poison-full-states";
    client::create_topic(&bootstrap, topic, 1);
    client::create_topic(&bootstrap, "poison-full-states-out", 1);
    let record = |a: usize| format!(r#"{{"a":{a}}}"#);
    let at = |hour: i64| Some(1_700_000_000_000 + hour * 3_600_000);
    let produce = |numbers: std::ops::Range<usize>, hour| {
        let rows: Vec<String> = numbers.map(record).collect();
        let rows: Vec<_> = rows.iter().map(|r| (None, Some(&**r), at(hour))).collect();
        client::produce_records(&bootstrap, topic, 0, &rows);
    };
    produce(0..10, 0);
    produce(0..10, 1);
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().join("states");
    let states_text = states.display().to_string();
    let sql = to_topic(&bootstrap, topic);
    let command = windrow(folder.path(), &sql, &["--checkpoint", &states_text]);
    let run = Run::start(limited(&command, 64));
    let written = || client::read_all(&bootstrap, "poison-full-states-out").len();
    until("the first window", || written() == 10);
    let before = checkpoints(&states);
    produce(10..40_000, 1);
    run.end().assert(
        1,
        &[
            &format!("cannot write {states_text}/"),
            "make room",
            "the checkpoint before this is still good",
        ],
    );
    let left = checkpoints(&states);
    assert!(!before.is_empty() && !left.is_empty());
    let again = ["--checkpoint", &states_text, "--until-end"];
    Run::start(windrow(folder.path(), &sql, &again))
        .end()
        .assert(0, &[]);
    let rows = client::read_all(&bootstrap, "poison-full-states-out");
    let expected = Vec::from_iter((0..10).chain(0..40_000).map(|a| (a, 1)));
    let row = |(_, text): (i32, String)| {
        let row: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |key: &str| row[key].as_u64().unwrap() as usize;
        (number("a"), number("n"))
    };
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    rows.sort_unstable();
    let mut expected = expected;
    expected.sort_unstable();
    assert!(rows == expected, "{} rows", rows.len());
}

/// The log goes to a file on the same disk, most of the time.
#[test]
fn a_log_without_room_changes_nothing() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "poison-full-log";
    client::create_topic(&bootstrap, topic, 1);
    client::produce(&bootstrap, topic, 0, &[r#"{"a":1}"#, "bad", r#"{"a":2}"#]);
    let folder = tempfile::tempdir().unwrap();
    let sql = source_sql(&bootstrap, topic, "a INT", "") + "SELECT a FROM i;";
    let mut command = windrow(folder.path(), &sql, &["--until-end", "--format", "json"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stderr(full.try_clone().unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"{\"a\":1}\n{\"a\":2}\n");
    // An error has its exit code, heard or not.
    let fails = sql.replace("'json'", "'json', 'bad-records' = 'fail'");
    let mut command = windrow(folder.path(), &fails, &["--until-end"]);
    let output = command.stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn standard_output_without_room_is_an_error() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "poison-full-output";
    client::create_topic(&bootstrap, topic, 1);
    produce(&bootstrap, topic, 0..10);
    let folder = tempfile::tempdir().unwrap();
    let sql = source_sql(&bootstrap, topic, "a INT", "") + "SELECT a FROM i;";
    let mut command = windrow(folder.path(), &sql, &["--until-end", "--format", "json"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("error: cannot write the result: No space left"),
        "{text}"
    );
}

#[test]
fn folders_that_may_not_be_written_to_are_refused_at_the_start() {
    let bootstrap = Broker::shared().bootstrap();
    let topic = "poison-read-only";
    client::create_topic(&bootstrap, topic, 1);
    let folder = open_folder();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o555);
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    let (closed_text, open_text) = (closed.display().to_string(), open.display().to_string());
    for (results, states, said) in [
        (&open, &closed_text, "the checkpoints in"),
        (&closed, &open_text, "write to that folder"),
    ] {
        let sql = to_files(&bootstrap, topic, results, "direct");
        let command = windrow(folder.path(), &sql, &["--checkpoint", states]);
        let ended = Run::start(as_nobody(&command, folder.path())).end();
        ended.assert(1, &["error: ", &closed_text, "ermission denied", said]);
    }
}

/// Both folders, one after the other: they become read-only under the running query.
#[test]
fn a_folder_that_becomes_read_only_ends_the_query_and_loses_nothing() {
    let bootstrap = Broker::shared().bootstrap();
    for closes in ["results", "states"] {
        let topic = format!("poison-closes-{closes}");
        client::create_topic(&bootstrap, &topic, 1);
        produce(&bootstrap, &topic, 0..100);
        let folder = open_folder();
        let inner = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            set_mode(&path, 0o777);
            path
        };
        let (results, states) = (inner("results"), inner("states"));
        let states = states.display().to_string();
        let sql = to_files(&bootstrap, &topic, &results, "direct");
        let command = windrow(folder.path(), &sql, &["--checkpoint", &states]);
        let run = Run::start(as_nobody(&command, folder.path()));
        shown(&results, 100);
        set_mode(&folder.path().join(closes), 0o555);
        produce(&bootstrap, &topic, 100..200);
        let path = folder.path().join(closes).display().to_string();
        run.end()
            .assert(1, &["error: cannot ", &path, "ermission denied", "hint: "]);
        set_mode(&folder.path().join(closes), 0o777);
        let again = ["--checkpoint", &states, "--until-end"];
        let again = windrow(folder.path(), &sql, &again);
        let ended = Run::start(as_nobody(&again, folder.path())).end();
        ended.assert(0, &[]);
        assert!(numbers(file_rows(&results)) == Vec::from_iter(0..200));
    }
}

#[test]
fn a_folder_that_goes_away_ends_the_query() {
    let bootstrap = Broker::shared().bootstrap();
    for goes in ["results", "states"] {
        let topic = format!("poison-goes-{goes}");
        client::create_topic(&bootstrap, &topic, 1);
        produce(&bootstrap, &topic, 0..100);
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        let states = folder.path().join("states").display().to_string();
        let sql = to_files(&bootstrap, &topic, &results, "direct");
        let command = windrow(folder.path(), &sql, &["--checkpoint", &states]);
        let run = Run::start(command);
        shown(&results, 100);
        // As a mount that is lost; it comes back later.
        let path = folder.path().join(goes);
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        produce(&bootstrap, &topic, 100..200);
        run.end()
            .assert(1, &["error: cannot ", &path.display().to_string()]);
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        std::fs::rename(&away, &path).unwrap();
        goes_on(&sql, folder.path(), &states, &results, 200);
    }
}
