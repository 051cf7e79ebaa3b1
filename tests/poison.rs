//! What production does to a query: disks that are full, rights that are missing, records that
//! are no records, clocks and sinks that misbehave. Each test runs the real program and asks what
//! its user sees: the message, the exit code, and that no row is lost or doubled.

mod bad;
mod disk;
mod large;
mod memory;
mod retention;
mod rights;
mod sinks;
mod times;
mod wide;

use crate::support::{Broker, client};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No test waits longer for one thing.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: [&str; 2] = ["direct", "librdkafka"];

/// The command `windrow run FILE`, with `sql` in the file.
fn windrow(folder: &Path, sql: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
    command.arg("run").arg(file(folder, sql)).args(args);
    command
}

fn file(folder: &Path, sql: &str) -> PathBuf {
    let file = folder.join("query.sql");
    std::fs::write(&file, sql).unwrap();
    file
}

/// Lines of an output, as they come.
#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lines {
    fn follow(lines: &Arc<Lines>, output: impl BufRead + Send + 'static) -> JoinHandle<()> {
        let lines = lines.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                lines.lines.lock().unwrap().push(line);
                lines.more.notify_all();
            }
        })
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    #[track_caller]
    fn wait(&self, parts: &[&str], run: &Run) {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        while !lines.iter().any(|l| parts.iter().all(|p| l.contains(p))) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!("{parts:?} is not said:\n{}", run.log());
            }
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// A running windrow, whose standard error and memory are watched. Dropping it kills it.
struct Run {
    child: Child,
    lines: Arc<Lines>,
    printed: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    /// Standard output that nobody reads.
    held: Option<BufReader<ChildStdout>>,
    peak: Option<JoinHandle<u64>>,
}

/// What is left of it.
#[derive(Debug)]
struct Ended {
    /// `None`: killed.
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// The most resident memory, in bytes.
    peak: u64,
}

impl Run {
    fn start(command: Command) -> Run {
        let mut run = Run::piped(command);
        run.follow();
        run
    }

    /// Reads the first line of its output, and then no more.
    fn held(command: Command) -> Run {
        let mut run = Run::piped(command);
        let mut first = String::new();
        let held = run.held.as_mut().unwrap();
        held.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "{}", run.log());
        let mut printed = run.printed.lines.lock().unwrap();
        printed.push(first.trim_end().to_string());
        drop(printed);
        run
    }

    /// Reads the rest of it.
    fn let_go(mut self) -> Run {
        self.follow();
        self
    }

    fn piped(mut command: Command) -> Run {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::default();
        let pid = child.id();
        Run {
            readers: vec![Lines::follow(
                &lines,
                BufReader::new(child.stderr.take().unwrap()),
            )],
            held: Some(BufReader::new(child.stdout.take().unwrap())),
            child,
            lines,
            printed: Arc::default(),
            peak: Some(std::thread::spawn(move || watch_memory(pid))),
        }
    }

    fn follow(&mut self) {
        let output = self.held.take().unwrap();
        self.readers.push(Lines::follow(&self.printed, output));
    }

    /// Whether it has done next to nothing for a while: it waits for somebody.
    fn stands_still(&self) -> bool {
        let before = self.cpu_ticks();
        std::thread::park_timeout(Duration::from_millis(300));
        self.cpu_ticks() - before <= 3
    }

    /// CPU time used so far, in hundredths of a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        let mut fields = behind_name.split_whitespace().skip(11);
        let mut next = || fields.next().unwrap().parse::<u64>().unwrap();
        next() + next()
    }

    fn log(&self) -> String {
        self.lines.text()
    }

    /// Waits for a line with all these parts.
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        self.lines.wait(parts, self);
    }

    /// Waits for a line of standard output.
    #[track_caller]
    fn prints(&self, part: &str) {
        self.printed.wait(&[part], self);
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Resident memory now, in bytes.
    fn memory(&self) -> u64 {
        status_bytes(self.child.id(), "VmRSS:").expect("it runs")
    }

    /// Waits until it ends by itself.
    #[track_caller]
    fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "it does not end:\n{}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        };
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        Ended {
            code: status.code(),
            stdout: self.printed.text(),
            stderr: self.log(),
            peak: self.peak.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ended = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Ended {
    #[track_caller]
    fn assert(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "'{part}' is missing in:\n{}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(!self.stderr.contains("bug in windrow"), "{}", self.stderr);
    }
}

/// The peak of a process's resident memory, looked at until it is gone.
fn watch_memory(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(now) = status_bytes(pid, "VmHWM:") {
        peak = now.max(peak);
        std::thread::park_timeout(Duration::from_millis(2));
    }
    peak
}

fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|l| l.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Waits for something that another process does.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// `CREATE TABLE` of an unbounded source over a whole topic.
fn source_sql(bootstrap: &str, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE i ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}', \
         'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset', \
         'format' = 'json'{options});\n"
    )
}

fn kafka_sink_sql(bootstrap: &str, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE o ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}', \
         'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json'{options});\n"
    )
}

/// Rows `{"a":0}`, `{"a":1}`, … of these numbers into partition 0.
fn produce(bootstrap: &str, topic: &str, numbers: std::ops::Range<usize>) {
    let rows: Vec<String> = numbers.map(|a| format!(r#"{{"a":{a}}}"#)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    client::produce(bootstrap, topic, 0, &rows);
}

/// The numbers in rows `{"a":…}`, sorted.
fn numbers(rows: impl IntoIterator<Item = String>) -> Vec<usize> {
    let number = |row: String| {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        row["a"].as_u64().unwrap() as usize
    };
    let mut numbers: Vec<usize> = rows.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn topic_numbers(bootstrap: &str, topic: &str) -> Vec<usize> {
    numbers(client::read_all(bootstrap, topic).into_iter().map(|r| r.1))
}

/// The rows of the visible files in a folder.
fn file_rows(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(path).unwrap();
            rows.extend(text.lines().map(str::to_string));
        }
    }
    rows
}

/// The checkpoints that `windrow state` finds.
fn checkpoints(folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
    let output = command.arg("state").arg(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
