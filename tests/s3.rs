//! Checkpoints and files in an object store, by a real S3 server and real processes.

use crate::support::{Broker, S3, client};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn windrow(environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("WINDROW_LOG", "windrow=debug")
        // Nobody may be asked for credentials.
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        .stdin(Stdio::null());
    command
}

/// A run whose log is read line by line.
struct Run {
    child: Child,
    lines: Receiver<String>,
    log: String,
}

impl Run {
    fn start(file: &Path, environment: &[(&str, String)], more: &[&str]) -> Run {
        let mut child = windrow(environment)
            .arg("run")
            .arg(file)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let log = String::new();
        Run { child, lines, log }
    }

    /// Waits for a line that has not been waited for.
    fn expect(&mut self, text: &str) {
        let end = Instant::now() + LONG;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("the log does not say '{text}':\n{}", self.log);
            };
            self.log += &format!("{line}\n");
            if line.contains(text) {
                return;
            }
        }
    }

    /// Two checkpoints whose rows come after this call.
    fn expect_checkpoints(&mut self) {
        while self.lines.try_recv().is_ok() {}
        self.expect("bytes in");
        self.expect("bytes in");
    }

    fn terminate(self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
    }

    /// The exit code and the log, once it has ended.
    fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + LONG;
        // The log ends with its process.
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.log += &format!("{line}\n");
        }
        let status = self.child.try_wait().unwrap();
        let status = status.or_else(|| self.child.wait().ok());
        (status.and_then(|s| s.code()), std::mem::take(&mut self.log))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Rows go through to a table of partition folders.
fn sql(folder: &Path, topic: &str, table: &str) -> std::path::PathBuf {
    let bootstrap = Broker::shared().bootstrap();
    let file = folder.join("q.sql");
    let text = format!(
        "SET 'execution.checkpointing.interval' = '200 ms';
         CREATE TABLE t (k STRING, n BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{bootstrap}',
           'topic' = '{topic}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE out (k STRING, n BIGINT) PARTITIONED BY (k)
           WITH ('connector' = 'filesystem', 'path' = '{table}', 'format' = 'csv');
         SET 'trigger' = '100 ms';
         INSERT INTO out SELECT k, n FROM t;"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn produce(topic: &str, numbers: std::ops::Range<i64>) {
    let rows = numbers.map(|n| format!(r#"{{"k":"k{}","n":{n}}}"#, n % 3));
    let rows: Vec<String> = rows.collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    client::produce(&Broker::shared().bootstrap(), topic, 0, &rows);
}

fn topic(name: &str) -> &str {
    client::create_topic(&Broker::shared().bootstrap(), name, 1);
    name
}

/// The numbers in a table's visible files, sorted; each is in the folder of its key.
fn numbers(s3: &S3, table: &str) -> Vec<i64> {
    let mut all = Vec::new();
    for (name, bytes) in s3.client().visible(table) {
        for line in String::from_utf8(bytes).unwrap().lines() {
            let n: i64 = line.parse().unwrap();
            assert!(
                name.starts_with(&format!("{table}/k=k{}/part-", n % 3)),
                "{name}: {n}"
            );
            all.push(n);
        }
    }
    all.sort_unstable();
    all
}

fn in_order(n: i64) -> Vec<i64> {
    (0..n).collect()
}

#[test]
fn a_store_that_comes_back_is_waited_for() {
    let (folder, mut s3) = (tempfile::tempdir().unwrap(), S3::start());
    let topic = topic("s3-away");
    let file = sql(folder.path(), topic, &s3.url("away"));
    let checkpoints = s3.url("away-checkpoints");
    produce(topic, 0..10);
    let environment = s3.environment();
    let mut run = Run::start(&file, &environment, &["--checkpoint", &checkpoints]);
    run.expect_checkpoints();
    s3.kill();
    run.expect("waiting for s3://results/away");
    produce(topic, 10..20);
    s3.restart();
    run.expect("answers");
    run.expect_checkpoints();
    run.terminate();
    assert_eq!(numbers(&s3, "away"), in_order(20));
    // And a killed one goes on.
    produce(topic, 20..30);
    let mut run = Run::start(&file, &environment, &["--checkpoint", &checkpoints]);
    run.expect("going on from checkpoint");
    run.expect_checkpoints();
    run.child.kill().unwrap();
    drop(run);
    let until_end = ["--checkpoint", &checkpoints, "--until-end"];
    let (code, log) = Run::start(&file, &environment, &until_end).end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(numbers(&s3, "away"), in_order(30));

    // Others may look at it.
    let state = windrow(&environment).args(["state", &checkpoints]).output();
    let state = state.unwrap();
    let text = String::from_utf8(state.stdout).unwrap();
    assert!(
        state.status.success() && text.contains("s3-away/0  next offset 30"),
        "{text}"
    );
    assert!(!text.contains("damaged"), "{text}");
    let plan = windrow(&environment)
        .arg("plan")
        .arg(&file)
        .args(["--checkpoint", &checkpoints])
        .output()
        .unwrap();
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(
        text.contains("a run goes on with all of its state"),
        "{text}"
    );
}

#[test]
fn the_last_of_two_processes_goes_on() {
    let (folder, s3) = (tempfile::tempdir().unwrap(), S3::start());
    let topic = topic("s3-two");
    let file = sql(folder.path(), topic, &s3.url("two"));
    let checkpoints = s3.url("two-checkpoints");
    let arguments = ["--checkpoint", &checkpoints];
    produce(topic, 0..10);
    let mut first = Run::start(&file, &s3.environment(), &arguments);
    first.expect_checkpoints();
    let mut second = Run::start(&file, &s3.environment(), &arguments);
    produce(topic, 10..20);
    let (code, log) = first.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("another process has taken over"), "{log}");
    assert!(log.contains("hint: "), "{log}");
    produce(topic, 20..30);
    second.expect_checkpoints();
    second.terminate();
    assert_eq!(numbers(&s3, "two"), in_order(30));
}

/// What a run says that cannot begin, and that it says so soon.
fn refused(environment: &[(&str, String)], file: &Path, more: &[&str]) -> String {
    let begun = Instant::now();
    let Output { status, stderr, .. } = windrow(environment)
        .arg("run")
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    let log = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(log.contains("hint: "), "{log}");
    assert!(!log.contains(S3::SECRET) && !log.contains("WRONG"), "{log}");
    log
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    let (folder, s3) = (tempfile::tempdir().unwrap(), S3::start());
    let file = sql(folder.path(), topic("s3-refused"), &s3.url("refused"));
    let local = folder.path().join("checkpoints");
    let local = ["--checkpoint", local.to_str().unwrap()];
    let remote = s3.url("refused-checkpoints");
    let remote = ["--checkpoint", remote.as_str()];

    let with = |name: &'static str, value: &str| {
        let mut environment = s3.environment();
        environment.retain(|(n, _)| *n != name);
        environment.push((name, value.to_string()));
        environment
    };
    for place in [&local, &remote] {
        let log = refused(&with("AWS_SECRET_ACCESS_KEY", "WRONG"), &file, place);
        assert!(log.contains("SignatureDoesNotMatch"), "{log}");
        assert!(log.contains("AWS_SECRET_ACCESS_KEY"), "{log}");
        let log = refused(&with("AWS_ACCESS_KEY_ID", "nobody"), &file, place);
        assert!(log.contains("InvalidAccessKeyId"), "{log}");
        let mut without = s3.environment();
        without.retain(|(name, _)| !name.contains("KEY"));
        let log = refused(&without, &file, place);
        assert!(log.contains("there are no credentials"), "{log}");
    }
    let log = refused(
        &s3.environment(),
        &file,
        &["--checkpoint", "s3://nothing/x"],
    );
    assert!(
        log.contains("s3://nothing/x") && log.contains("NoSuchBucket"),
        "{log}"
    );
    assert!(log.contains("create it"), "{log}");
    let log = refused(&s3.environment(), &file, &["--checkpoint", "ftp://host/x"]);
    assert!(log.contains("s3://"), "{log}");
    assert_eq!(s3.client().list(""), [""; 0]);
}

#[test]
fn the_file_may_name_address_and_key() {
    let (folder, s3) = (tempfile::tempdir().unwrap(), S3::start());
    let topic = topic("s3-keys");
    let file = sql(folder.path(), topic, &s3.url("keys"));
    produce(topic, 0..10);
    let set = |key: &str, value: &str| format!("SET '{key}' = '{value}';\n");
    let text = std::fs::read_to_string(&file).unwrap();
    let settings = [
        set("s3.endpoint", &s3.endpoint()),
        set("s3.access-key", S3::KEY),
        set("s3.secret-key", S3::SECRET),
        set("s3.region", "us-east-1"),
        set("s3.path.style.access", "true"),
        set("state.checkpoints.dir", &s3.url("keys-checkpoints")),
    ];
    std::fs::write(&file, settings.concat() + &text).unwrap();
    // The environment's are of somebody else.
    let environment = [
        ("AWS_ACCESS_KEY_ID", "nobody".to_string()),
        ("AWS_SECRET_ACCESS_KEY", "WRONG".to_string()),
        ("AWS_SESSION_TOKEN", "WRONG".to_string()),
    ];
    let (code, log) = Run::start(&file, &environment, &["--until-end"]).end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(numbers(&s3, "keys"), in_order(10));

    let wrong = settings.concat().replace("s3.access-key", "s3.acces-key") + &text;
    std::fs::write(&file, wrong).unwrap();
    let (code, log) = Run::start(&file, &environment, &["--until-end"]).end();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("did you mean 's3.access-key'?"), "{log}");
}

#[test]
fn a_stop_while_waiting_for_the_store_is_no_failure() {
    let (folder, mut s3) = (tempfile::tempdir().unwrap(), S3::start());
    let file = sql(folder.path(), topic("s3-stop"), &s3.url("stop"));
    let checkpoints = s3.url("stop-checkpoints");
    s3.kill();
    let mut run = Run::start(&file, &s3.environment(), &["--checkpoint", &checkpoints]);
    run.expect("waiting for s3://results/stop-checkpoints");
    run.terminate();
}

/// What does not fit into one request: files and segments that travel in parts.
#[test]
fn large_files_travel_in_parts() {
    const ROWS: i64 = 300_000;
    let (folder, s3) = (tempfile::tempdir().unwrap(), S3::start());
    let input = folder.path().join("in.ndjson");
    let rows = (0..ROWS).map(|n| format!("{{\"k\":\"{n:0>70}\",\"n\":{n}}}\n"));
    std::fs::write(&input, rows.collect::<String>()).unwrap();
    let file = folder.path().join("q.sql");
    let (input, table) = (input.display(), s3.url("large"));
    let text = format!(
        "SET 'execution.checkpointing.interval' = '10 min';
         SET 'output.mode' = 'update';
         CREATE TABLE t (k STRING, n BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'json');
         CREATE TABLE out (k STRING, n BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{table}', 'format' = 'json');
         CREATE TABLE nothing (k STRING, n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO out SELECT k, n FROM t;
         INSERT INTO nothing SELECT k, count(*) FROM t GROUP BY k;"
    );
    std::fs::write(&file, text).unwrap();
    let checkpoints = s3.url("large-checkpoints");
    let environment = s3.environment();
    for _ in 0..2 {
        // The second time everything has been read, and the state is loaded.
        let arguments = ["--checkpoint", &checkpoints, "--until-end"];
        let (code, log) = Run::start(&file, &environment, &arguments).end();
        assert_eq!(code, Some(0), "{log}");
        let files = s3.client().visible("large");
        assert!(files.values().any(|bytes| bytes.len() > 20 << 20));
        let rows = files
            .values()
            .flat_map(|bytes| bytes.split(|b| *b == b'\n'));
        let rows = rows.filter(|row| !row.is_empty());
        let numbers = rows.map(|row| {
            let row: serde_json::Value = serde_json::from_slice(row).unwrap();
            row["n"].as_i64().unwrap()
        });
        let mut numbers: Vec<i64> = numbers.collect();
        numbers.sort_unstable();
        assert!(numbers == in_order(ROWS), "{} rows", numbers.len());
    }
    let names = s3.client().list("large-checkpoints");
    let sizes = names.iter().map(|name| s3.client().get(name).len());
    assert!(sizes.max().unwrap() > 16 << 20, "{names:?}");
}
