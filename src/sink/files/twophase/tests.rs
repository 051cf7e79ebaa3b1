use super::super::tests::{batch, files, is_hidden, open_sink, table};
use super::super::{FileSink, file_error};
use super::*;
use crate::sink::Sink;
use crate::table::TableDef;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

const JOB: &str = "0123456789abcdef";

/// Row `n` is (n % 3, n): each row is told from all others.
fn rows(range: Range<i64>) -> RecordBatch {
    let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    batch(vec![
        ("k", column(range.clone().map(|n| n % 3).collect())),
        ("n", column(range.collect())),
    ])
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    format: &'static str,
    partitioned: bool,
}

const fn layout(format: &'static str, partitioned: bool) -> Layout {
    Layout {
        format,
        partitioned,
    }
}

const LAYOUTS: [Layout; 6] = [
    layout("json", false),
    layout("json", true),
    layout("csv", false),
    layout("csv", true),
    layout("parquet", false),
    layout("parquet", true),
];

/// A table's folder, and the runs of a job that write to it.
struct World {
    dir: TempDir,
    layout: Layout,
}

impl World {
    fn new(layout: Layout) -> World {
        let dir = TempDir::new().unwrap();
        World { dir, layout }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn def(&self, options: &[(&str, &str)]) -> TableDef {
        let by: &[&str] = if self.layout.partitioned { &["k"] } else { &[] };
        // Small files, so that each epoch has several in a folder.
        let mut all = vec![
            ("format", self.layout.format),
            ("sink.rolling-policy.file-size", "60"),
        ];
        all.extend(options);
        table(&self.dir, &rows(0..0), &all, by)
    }

    fn sink_of(&self, query: &str) -> FileSink {
        open_sink(&self.def(&[]), query, Some(JOB)).unwrap()
    }

    /// A new run that goes on from a checkpoint.
    fn run_from(&self, (epoch, prepared): &(u64, Prepared)) -> FileSink {
        let mut sink = self.sink_of("q");
        sink.recover(*epoch, prepared).unwrap();
        sink
    }

    /// The process dies: with an error, which drops the sink, or at once.
    fn crash(&self, sink: FileSink, killed: bool) {
        let left = files(&self.dir);
        drop(sink);
        if killed {
            for (name, content) in left {
                std::fs::write(self.root().join(name), content).unwrap();
            }
        }
    }

    fn hidden(&self) -> usize {
        files(&self.dir).keys().filter(|n| is_hidden(n)).count()
    }

    /// The rows that a reader of the folder sees, sorted. Fails on a file that is not whole.
    fn visible(&self) -> Vec<i64> {
        let mut found = Vec::new();
        for (name, content) in files(&self.dir) {
            if is_hidden(&name) {
                continue;
            }
            let in_file = match self.layout.format {
                "json" => json_rows(&content),
                "csv" => csv_rows(&content, self.layout.partitioned),
                _ => parquet_rows(content),
            };
            assert!(!in_file.is_empty(), "{name} is empty");
            for (k, n) in in_file {
                let folder = format!("k={}", n % 3);
                assert_eq!(
                    name.starts_with(&folder),
                    self.layout.partitioned,
                    "{name}: {n}"
                );
                assert_eq!(k.unwrap_or(n % 3), n % 3);
                found.push(n);
            }
        }
        found.sort_unstable();
        found
    }

    #[track_caller]
    fn expect(&self, range: Range<i64>) {
        assert_eq!(self.visible(), range.collect::<Vec<_>>());
    }

    /// Gives every second prepared file its visible name, as a publish that is interrupted.
    fn publish_half(&self, prepared: &Prepared) {
        for file in prepared.as_array().unwrap().iter().step_by(2) {
            let visible = self.root().join(file.as_str().unwrap());
            std::fs::rename(hidden_name(visible.to_str().unwrap()), visible).unwrap();
        }
    }
}

type Row = (Option<i64>, i64);

fn json_rows(content: &[u8]) -> Vec<Row> {
    assert!(content.ends_with(b"\n"));
    let lines = std::str::from_utf8(content).unwrap().lines();
    lines
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            (row["k"].as_i64(), row["n"].as_i64().unwrap())
        })
        .collect()
}

fn csv_rows(content: &[u8], partitioned: bool) -> Vec<Row> {
    assert!(content.ends_with(b"\n"));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(content);
    let row = |record: csv::StringRecord| {
        let number = |i: usize| record[i].parse::<i64>().unwrap();
        if partitioned {
            (None, number(0))
        } else {
            (Some(number(0)), number(1))
        }
    };
    reader.records().map(|r| row(r.unwrap())).collect()
}

fn parquet_rows(content: Vec<u8>) -> Vec<Row> {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, &content).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut found = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let column = |name| Some(batch.column_by_name(name)?.as_primitive::<Int64Type>());
        let (k, n) = (column("k"), column("n").unwrap());
        found.extend((0..batch.num_rows()).map(|i| (k.map(|k| k.value(i)), n.value(i))));
    }
    found
}

fn fresh() -> (u64, Prepared) {
    (0, Prepared::Null)
}

/// Writes and publishes one epoch.
fn epoch(sink: &mut FileSink, epoch: u64, range: Range<i64>) -> (u64, Prepared) {
    sink.write(epoch, &rows(range)).unwrap();
    let prepared = sink.prepare(epoch).unwrap();
    sink.publish(epoch, &prepared).unwrap();
    (epoch, prepared)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    Written,
    Prepared,
    Durable,
    HalfPublished,
    Published,
    /// Published, but the checkpoint is damaged: the run goes on from the one before.
    GivenUp,
    /// The same, in the middle of the publish.
    HalfGivenUp,
}

/// Rows 0..20 are epoch 1, then the process dies on the way through epoch 2 (20..50).
fn crash_at(layout: Layout, point: Point, killed: bool) {
    use Point::*;
    let world = World::new(layout);
    let mut sink = world.run_from(&fresh());
    let first = epoch(&mut sink, 1, 0..20);
    sink.write(2, &rows(20..40)).unwrap();
    sink.commit(2).unwrap();
    sink.write(2, &rows(40..50)).unwrap();
    world.expect(0..20);
    let mut second = first.clone();
    if point != Written {
        second = (2, sink.prepare(2).unwrap());
        assert!(second.1.as_array().unwrap().len() > 1);
        world.expect(0..20);
    }
    match point {
        Written | Prepared | Durable => {}
        HalfPublished | HalfGivenUp => world.publish_half(&second.1),
        Published | GivenUp => sink.publish(2, &second.1).unwrap(),
    }
    world.crash(sink, killed);
    match point {
        Written | Prepared | Durable => world.expect(0..20),
        Published | GivenUp => world.expect(0..50),
        HalfPublished | HalfGivenUp => {}
    }
    let goes_on_from_second = matches!(point, Durable | HalfPublished | Published);
    let from = if goes_on_from_second { second } else { first };
    let end = if goes_on_from_second { 50 } else { 20 };
    // It dies again, before it has written a row.
    for _ in 0..2 {
        let sink = world.run_from(&from);
        world.expect(0..end);
        assert_eq!(world.hidden(), 0);
        world.crash(sink, killed);
    }
    let mut sink = world.run_from(&from);
    epoch(&mut sink, from.0 + 1, end..60);
    world.expect(0..60);
    sink.close().unwrap();
    drop(sink);
    world.expect(0..60);
    assert_eq!(world.hidden(), 0);
}

#[test]
fn rows_are_visible_exactly_once_wherever_it_dies() {
    use Point::*;
    for layout in LAYOUTS {
        for point in [
            Written,
            Prepared,
            Durable,
            HalfPublished,
            Published,
            GivenUp,
            HalfGivenUp,
        ] {
            for killed in [false, true] {
                println!("{layout:?} {point:?} killed: {killed}");
                crash_at(layout, point, killed);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(i64),
    Commit,
    /// A whole checkpoint.
    Checkpoint,
    /// The process dies after `point` of a checkpoint (0: nothing, 1: prepared, 2: durable,
    /// 3: half published); then so many checkpoints are damaged.
    Crash {
        point: u8,
        killed: bool,
        damaged: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0i64..16).prop_map(Op::Write),
        1 => Just(Op::Commit),
        3 => Just(Op::Checkpoint),
        2 => (0u8..4, any::<bool>(), prop_oneof![3 => Just(0), 1 => 1usize..3]).prop_map(
            |(point, killed, damaged)| Op::Crash { point, killed, damaged }
        ),
    ]
}

/// Checkpoints that can be gone back to: number, what the sink has prepared, rows read.
type Kept = Vec<(u64, Prepared, i64)>;

/// Runs `ops` against a model: the visible rows are always those before the last publish.
fn agrees_with_the_model(layout: Layout, ops: Vec<Op>) {
    let world = World::new(layout);
    let mut sink = world.run_from(&fresh());
    let mut kept: Kept = vec![(0, Prepared::Null, 0)];
    let mut read = 0;
    for op in ops {
        let number = kept.last().unwrap().0 + 1;
        match op {
            Op::Write(count) => {
                sink.write(number, &rows(read..read + count)).unwrap();
                read += count;
            }
            Op::Commit => sink.commit(number).unwrap(),
            Op::Checkpoint => {
                let prepared = sink.prepare(number).unwrap();
                sink.publish(number, &prepared).unwrap();
                kept.push((number, prepared, read));
                assert_eq!(world.hidden(), 0);
            }
            Op::Crash {
                point,
                killed,
                damaged,
            } => {
                if point > 0 {
                    let prepared = sink.prepare(number).unwrap();
                    if point == 3 {
                        world.publish_half(&prepared);
                    }
                    if point > 1 {
                        kept.push((number, prepared, read));
                    }
                }
                world.crash(sink, killed);
                // Without any left it starts anew.
                kept.truncate((kept.len() - damaged.min(kept.len())).max(1));
                let (number, prepared, position) = kept.last().unwrap().clone();
                sink = world.run_from(&(number, prepared));
                read = position;
                assert_eq!(world.hidden(), 0);
            }
        }
        world.expect(0..kept.last().unwrap().2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_agrees_with_the_model(
        layout in prop::sample::select(LAYOUTS.to_vec()),
        ops in prop::collection::vec(op(), 1..25),
    ) {
        agrees_with_the_model(layout, ops);
    }
}

#[test]
fn names_tell_query_job_and_epoch() {
    let world = World::new(LAYOUTS[1]);
    let mut sink = world.sink_of("q");
    sink.write(7, &rows(0..1)).unwrap();
    let prepared = sink.prepare(7).unwrap();
    assert_eq!(
        prepared,
        serde_json::json!([format!("k=0/part-q-{JOB}-7-0.json")])
    );
    let name = format!("k=0/.part-q-{JOB}-7-0.json.inprogress");
    assert!(files(&world.dir).contains_key(&name));
    sink.publish(7, &prepared).unwrap();
    assert!(sink.describe().starts_with("1 file, 1 row in "));
}

#[test]
fn an_epoch_without_rows_makes_no_file() {
    let world = World::new(LAYOUTS[0]);
    let mut sink = world.run_from(&fresh());
    sink.write(1, &rows(0..0)).unwrap();
    let prepared = sink.prepare(1).unwrap();
    sink.publish(1, &prepared).unwrap();
    let again = sink.prepare(2).unwrap();
    assert_eq!((prepared, again.clone()), (again, serde_json::json!([])));
    assert!(files(&world.dir).is_empty());
}

#[test]
fn the_rollover_interval_shows_nothing() {
    let world = World::new(LAYOUTS[0]);
    let def = world.def(&[("sink.rolling-policy.rollover-interval", "0 s")]);
    let mut sink = open_sink(&def, "q", Some(JOB)).unwrap();
    for n in 0..3 {
        sink.write(1, &rows(n..n + 1)).unwrap();
        sink.commit(1).unwrap();
        world.expect(0..0);
    }
    let prepared = sink.prepare(1).unwrap();
    assert_eq!(prepared.as_array().unwrap().len(), 1, "nor does it divide");
}

#[test]
fn close_removes_what_no_checkpoint_knows() {
    let world = World::new(LAYOUTS[0]);
    let mut sink = world.run_from(&fresh());
    epoch(&mut sink, 1, 0..20);
    sink.write(2, &rows(20..40)).unwrap();
    sink.close().unwrap();
    world.expect(0..20);
    assert_eq!(world.hidden(), 0);
}

#[test]
fn the_folder_may_be_mounted_elsewhere() {
    let world = World::new(LAYOUTS[3]);
    let mut sink = world.run_from(&fresh());
    sink.write(1, &rows(0..20)).unwrap();
    let prepared = sink.prepare(1).unwrap();
    drop(sink);
    let elsewhere = World::new(LAYOUTS[3]);
    std::fs::rename(world.root(), elsewhere.root()).unwrap();
    elsewhere.run_from(&(1, prepared));
    elsewhere.expect(0..20);
}

#[test]
fn files_of_others_are_left_alone() {
    let world = World::new(LAYOUTS[1]);
    let mut sink = world.run_from(&fresh());
    epoch(&mut sink, 9, 0..3);
    drop(sink);
    let own = files(&world.dir);
    assert_eq!(own.len(), 3);
    let others = [
        // Other jobs and queries, visible and hidden.
        "part-q-0123456789abcdee-9-0.json".to_string(),
        ".part-q-0123456789abcdee-9-0.json.inprogress".into(),
        format!("part-q-late-{JOB}-9-0.json"),
        format!(".part-qq-{JOB}-9-0.json.inprogress"),
        format!("part-q-{JOB}-{JOB}-9-0.json"),
        format!("part-q-{JOB}-1-{JOB}-9-0.json"),
        // Without checkpoints.
        format!("part-q-{JOB}-9.json"),
        // Other programs.
        format!(".part-q-{JOB}-9-0.json.crc"),
        format!("part-q-{JOB}-9-0.json.gz"),
        format!("part-q-{JOB}-9-0.json.inprogress"),
        format!(".part-q-{JOB}-9-0.json.inprogress.bak"),
        format!("part-q-{JOB}-9-x.json"),
        format!("part-q-{JOB}-+9-0.json"),
        format!("part-q-{JOB}9-0.json"),
        format!("part-q-{JOB}--9-0.json"),
        format!("archive/part-q-{JOB}-9-0.json"),
        format!("k=0/_log/.part-q-{JOB}-9-0.json.inprogress"),
        "k=0/data.json".into(),
        "_SUCCESS".into(),
    ];
    for name in &others {
        let path = world.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    world.run_from(&(8, Prepared::Null));
    let left: BTreeSet<String> = files(&world.dir).into_keys().collect();
    assert_eq!(left, BTreeSet::from(others));
}

#[test]
fn queries_that_are_called_alike_do_not_meet() {
    let world = World::new(LAYOUTS[0]);
    let queries = [
        "q",
        "q-late",
        "q-1",
        "a b",
        "a_b",
        "a-b",
        // As a file of "q" goes on.
        "q-0123456789abcdef-1",
    ];
    let long = ["x".repeat(64), "x".repeat(65), "x".repeat(66)];
    let queries: Vec<&str> = queries
        .into_iter()
        .chain(long.iter().map(String::as_str))
        .collect();
    for (i, query) in (0i64..).zip(&queries) {
        epoch(&mut world.sink_of(query), 1, i..i + 1);
    }
    let all = queries.len() as i64;
    world.expect(0..all);
    for (i, query) in (0i64..).zip(&queries) {
        world.sink_of(query).recover(0, &Prepared::Null).unwrap();
        world.expect(i + 1..all);
    }
}

#[test]
fn results_that_are_missing_are_an_error() {
    let world = World::new(LAYOUTS[1]);
    let mut sink = world.run_from(&fresh());
    let first = epoch(&mut sink, 1, 0..3);
    let gone = first.1[1].as_str().unwrap();
    std::fs::remove_file(world.root().join(gone)).unwrap();
    let error = world.sink_of("q").recover(1, &first.1).unwrap_err();
    assert!(
        error.to_string().contains(gone) && error.hint().is_some(),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_failed_rename_can_be_repeated() {
    let world = World::new(LAYOUTS[0]);
    let mut sink = world.run_from(&fresh());
    sink.write(1, &rows(0..20)).unwrap();
    let prepared = sink.prepare(1).unwrap();
    // A folder stands in the way.
    let last = prepared.as_array().unwrap().last().unwrap();
    let obstacle = world.root().join(last.as_str().unwrap());
    std::fs::create_dir(&obstacle).unwrap();
    let error = sink.publish(1, &prepared).unwrap_err();
    assert!(
        error.to_string().contains(last.as_str().unwrap()),
        "{error}"
    );
    assert_eq!(error.hint(), Some(AGAIN));
    drop(sink);
    std::fs::remove_dir(obstacle).unwrap();
    world.run_from(&(1, prepared));
    world.expect(0..20);
}

#[test]
fn errors_of_the_disk_say_what_to_do() {
    for (kind, word) in [
        (ErrorKind::StorageFull, "room"),
        (ErrorKind::QuotaExceeded, "room"),
        (ErrorKind::PermissionDenied, "write"),
        (ErrorKind::ReadOnlyFilesystem, "write"),
    ] {
        let plain = file_error("write", Path::new("/d/f"), std::io::Error::from(kind));
        let parquet = parquet::errors::ParquetError::from(std::io::Error::from(kind));
        let wrapped = file_error("write", Path::new("/d/f"), parquet);
        for error in [plain, wrapped] {
            assert!(error.to_string().contains("/d/f"), "{error}");
            assert!(error.hint().unwrap().contains(word), "{error}");
        }
    }
}

#[test]
fn a_file_that_could_not_be_written_is_not_prepared() {
    let world = World::new(LAYOUTS[1]);
    let mut sink = world.run_from(&fresh());
    // A file stands where the partition's folder should be.
    std::fs::write(world.root().join("k=1"), "x").unwrap();
    let error = sink.write(1, &rows(0..3)).unwrap_err();
    assert!(error.to_string().contains("k=1"), "{error}");
    drop(sink);
    assert_eq!(files(&world.dir).into_keys().collect::<Vec<_>>(), ["k=1"]);
}

#[test]
fn rows_that_could_not_be_written_are_not_forgotten() {
    let world = World::new(LAYOUTS[4]);
    let mut sink = world.run_from(&fresh());
    sink.write(1, &rows(0..1)).unwrap();
    let wrong = rows(0..3).project(&[0]).unwrap();
    sink.write(1, &wrong).unwrap_err();
    assert!(sink.prepare(1).is_err());
    assert!(files(&world.dir).is_empty());
}

#[test]
fn prepared_lists_are_checked() {
    let world = World::new(LAYOUTS[0]);
    for wrong in [
        serde_json::json!(["../x"]),
        serde_json::json!(["/etc/x"]),
        serde_json::json!([""]),
        serde_json::json!([5]),
        serde_json::json!({"topic": "x"}),
    ] {
        let error = world.sink_of("q").recover(1, &wrong).unwrap_err();
        assert!(error.hint().is_some(), "{wrong}: {error}");
    }
}

#[test]
fn epochs_do_not_mix() {
    let world = World::new(LAYOUTS[0]);
    let mut sink = world.run_from(&fresh());
    sink.write(1, &rows(0..20)).unwrap();
    assert!(sink.write(2, &rows(20..30)).is_err());
    assert!(sink.prepare(2).is_err());
    sink.prepare(1).unwrap();
    sink.write(2, &rows(20..30)).unwrap();
}

#[test]
fn exactly_once_comes_with_checkpoints() {
    let world = World::new(LAYOUTS[0]);
    for guarantee in ["none", "at-least-once", "exactly-once"] {
        let def = world.def(&[("sink.delivery-guarantee", guarantee)]);
        open_sink(&def, "q", Some(JOB)).unwrap();
        let without = open_sink(&def, "q", None);
        assert_eq!(without.is_err(), guarantee == "exactly-once");
        if let Err(error) = without {
            let hint = error.hint().unwrap();
            assert!(hint.contains("--checkpoint") && hint.contains("state.checkpoints.dir"));
        }
    }
    assert!(open_sink(&world.def(&[]), "q", Some("job")).is_err());
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    let world = World::new(LAYOUTS[1]);
    let mut sink = world.run_from(&fresh());
    epoch(&mut sink, 1, 0..9);
    // A partition on another disk, a circle, and a link to nowhere.
    let (folder, other) = (world.root().join("k=1"), world.dir.path().join("other"));
    std::fs::rename(&folder, &other).unwrap();
    std::os::unix::fs::symlink(&other, &folder).unwrap();
    std::os::unix::fs::symlink(world.root(), world.root().join("k=0/x=1")).unwrap();
    std::os::unix::fs::symlink("/nowhere", world.root().join("k=5")).unwrap();
    sink.write(2, &rows(9..20)).unwrap();
    drop(sink);
    world.run_from(&fresh());
    assert_eq!(std::fs::read_dir(other).unwrap().count(), 0);
}
