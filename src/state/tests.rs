//! Checkpoints as a whole: what was written is read back, whatever happens in between.

mod claim;
mod damage;
mod local;
mod random;
mod regression;
mod types;

use super::*;
use crate::error::Result;
use crate::watermark::NONE;
use crate::window::{segment_batch, segment_id};
use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

impl Checkpoints {
    /// The newest checkpoint that can be read, or `exactly` that one.
    pub(super) fn load(&mut self, exactly: Option<u64>) -> Result<Option<Snapshot>> {
        self.load_within(exactly.or(self.confirmed), exactly)
    }
}

const JOB: &str = "0123456789abcdef";

/// Columns named as the engine names them.
pub(super) fn batch_of(columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    segment_batch(columns, rows).unwrap()
}

/// A segment of `rows` groups: a text key, a count.
pub(super) fn segment(pane: i64, rows: usize) -> HeldSegment {
    let keys: StringViewArray = (0..rows)
        .map(|i| Some(format!("user number {pane} {i}")))
        .collect();
    let counts: Int64Array = (0..rows).map(|i| Some(pane + i as i64)).collect();
    HeldSegment {
        id: segment_id(),
        pane,
        from_end: pane + 10,
        fresh: pane % 2 == 0,
        batch: batch_of(vec![Arc::new(keys), Arc::new(counts)], rows),
        spilled: None,
    }
}

pub(super) fn shape() -> Shape {
    Shape {
        window: "tumbling 10 s".to_string(),
        input: vec!["kind = 'play'".to_string()],
        keys: vec!["user: Utf8View".to_string()],
        functions: vec![FunctionShape {
            text: "count(*)".to_string(),
            width: 1,
        }],
        names: BTreeMap::new(),
    }
}

pub(super) fn snapshot(number: u64, segments: Vec<HeldSegment>) -> Snapshot {
    Snapshot {
        number,
        sources: vec![SourceSnapshot {
            name: "plays".to_string(),
            partitions: vec![
                PartitionSnapshot {
                    topic: "plays".to_string(),
                    topic_id: None,
                    partition: 0,
                    position: 17 + number as i64,
                    max_us: i64::MAX,
                },
                PartitionSnapshot {
                    topic: "plays".to_string(),
                    topic_id: None,
                    partition: 1,
                    position: 0,
                    max_us: NONE,
                },
            ],
        }],
        queries: vec![QuerySnapshot {
            name: "top".to_string(),
            watermark: NONE,
            left: Some(u64::MAX),
            looked_ms: None,
            complete: false,
            aggregates: vec![AggregateSnapshot {
                shape: shape(),
                segments,
            }],
            sink: serde_json::json!({"files": ["a"], "at": 0.1}),
            late: Prepared::Null,
        }],
    }
}

pub(super) fn segments_of(snapshot: &Snapshot) -> &[HeldSegment] {
    &snapshot.queries[0].aggregates[0].segments
}

/// Without the ids, which are the process's own.
pub(super) fn bare(mut snapshot: Snapshot) -> Snapshot {
    let aggregates = snapshot.queries.iter_mut().flat_map(|q| &mut q.aggregates);
    for held in aggregates.flat_map(|a| &mut a.segments) {
        held.id = 0;
    }
    snapshot
}

pub(super) fn open(store: &MemoryStore) -> Checkpoints {
    Checkpoints::open(Box::new(store.clone()), 2, JOB).unwrap()
}

#[test]
fn what_was_written_is_loaded() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    assert_eq!(checkpoints.load(None).unwrap(), None);
    assert_eq!(checkpoints.next_number(), 1);
    let mut first = snapshot(1, vec![segment(0, 3), segment(10, 2)]);
    first.queries[0].looked_ms = Some(7);
    let written = checkpoints.write(&first, 5).unwrap();
    assert_eq!((written.segments_new, written.segments_kept), (2, 0));
    assert_eq!(written.files, 1);

    let mut again = Checkpoints::open(Box::new(store.clone()), 2, "ffffffffffffffff").unwrap();
    assert_eq!(again.job(), JOB);
    assert_eq!(again.numbers(), [1]);
    let loaded = again.load(None).unwrap().unwrap();
    assert_eq!(bare(loaded.clone()), bare(first));

    // Nothing is written twice, not even by the next process.
    let mut second = snapshot(2, segments_of(&loaded).to_vec());
    second.queries[0].aggregates[0]
        .segments
        .push(segment(20, 1));
    let written = again.write(&second, 6).unwrap();
    assert_eq!((written.segments_new, written.segments_kept), (1, 2));
    let loaded = open(&store).load(None).unwrap().unwrap();
    assert_eq!(bare(loaded), bare(second));
}

/// The rows as text, in any order: spilling divides them by their keys' hashes.
fn rows_of(held: &HeldSegment) -> Vec<String> {
    let batch = held.whole().unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap();
    let mut rows: Vec<String> = text.to_string().lines().map(str::to_string).collect();
    rows.sort();
    rows
}

#[test]
fn state_beyond_the_budget_is_spilled_while_it_is_loaded() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    checkpoints.load(None).unwrap();
    let before = snapshot(1, (0..8).map(|p| segment(10 * p, 500)).collect());
    checkpoints.write(&before, 5).unwrap();

    let mut again = open(&store);
    let limit = 3 * segments_of(&before)[0].bytes();
    let name = format!("test-{}", segment_id());
    let spill = spill::SpillFile::new(std::env::temp_dir(), &name);
    again.limit(limit, Box::new(spill));
    let loaded = again.load(None).unwrap().unwrap();
    let held = segments_of(&loaded);
    let in_memory: usize = held.iter().map(HeldSegment::bytes).sum();
    assert!(in_memory <= limit, "{in_memory} bytes are in memory");
    assert!(held.iter().any(|h| h.spilled.is_none()));
    for (loaded, before) in held.iter().zip(segments_of(&before)) {
        assert_eq!((loaded.pane, loaded.rows()), (before.pane, before.rows()));
        assert_eq!(rows_of(loaded), rows_of(before));
    }

    // Spilled or not: what a file holds is not written again.
    let second = snapshot(2, held.to_vec());
    let written = again.write(&second, 6).unwrap();
    assert_eq!((written.segments_new, written.segments_kept), (0, 8));

    // A query that has lost a function keeps the others' columns, of spilled rows too.
    let mut fewer = shape();
    fewer.functions.clear();
    let new = [("top".to_string(), vec![fewer])];
    let adapted = evolve::adapt(&loaded.queries, &new).unwrap();
    let adapted = &adapted[0].as_ref().unwrap().aggregates[0].segments;
    for (adapted, before) in adapted.iter().zip(segments_of(&before)) {
        let whole = adapted.whole().unwrap();
        assert_eq!((whole.num_columns(), whole.num_rows()), (1, before.rows()));
    }
}

#[test]
fn one_percent_of_change_writes_about_one_percent() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    let all: Vec<_> = (0..100).map(|pane| segment(pane, 2000)).collect();
    let mut job = snapshot(1, all);
    let whole = checkpoints.write(&job, 0).unwrap();
    assert_eq!((whole.segments_new, whole.segments_kept), (100, 0));
    for (pane, restart) in [(100, false), (101, true), (102, false)] {
        if restart {
            checkpoints = open(&store);
            job = checkpoints.load(None).unwrap().unwrap();
        }
        job.number += 1;
        let segments = &mut job.queries[0].aggregates[0].segments;
        segments.remove(0);
        segments.push(segment(pane, 2000));
        let written = checkpoints.write(&job, 0).unwrap();
        assert_eq!((written.segments_new, written.segments_kept), (1, 99));
        assert_eq!(written.files, 1);
        let percent = written.bytes as f64 / whole.bytes as f64 * 100.0;
        assert!(percent < 1.5, "{percent} %");
    }
    assert_eq!(bare(open(&store).load(None).unwrap().unwrap()), bare(job));
}

#[test]
fn large_state_is_cut_into_files() {
    let store = MemoryStore::new();
    let key: StringViewArray = std::iter::repeat_n(Some("x".repeat(1000)), 10_000).collect();
    let batch = batch_of(vec![Arc::new(key)], 10_000);
    let large = |pane| HeldSegment {
        batch: batch.clone(),
        spilled: None,
        ..segment(pane, 0)
    };
    let job = snapshot(1, (0..10).map(large).collect());
    let written = open(&store).write(&job, 0).unwrap();
    assert_eq!((written.segments_new, written.files), (10, 2));
    for name in store.list().unwrap() {
        assert!(store.get(&name).unwrap().len() < 80_000_000);
    }
    assert_eq!(bare(open(&store).load(None).unwrap().unwrap()), bare(job));
}

#[test]
fn what_is_left_of_a_file_moves_on() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    let mut job = snapshot(1, (0..10).map(|pane| segment(pane, 100)).collect());
    checkpoints.write(&job, 0).unwrap();
    for (left, expected) in [(3, 0), (2, 2), (2, 0), (1, 0), (0, 0)] {
        job.number += 1;
        job.queries[0].aggregates[0].segments.truncate(left);
        let written = checkpoints.write(&job, 0).unwrap();
        assert_eq!(written.segments_new, expected, "{left} left");
        assert_eq!(written.segments_kept, left - expected);
        checkpoints.retire();
        assert_eq!(
            bare(open(&store).load(None).unwrap().unwrap()),
            bare(job.clone())
        );
    }
}

#[test]
fn retiring_keeps_what_is_needed_and_nothing_else() {
    let store = MemoryStore::new();
    store.put("notes-of-mine.txt", b"hands off").unwrap();
    let mut checkpoints = open(&store);
    let mut job = snapshot(0, Vec::new());
    for number in 1..=4 {
        job.number = number;
        let segments = &mut job.queries[0].aggregates[0].segments;
        // 1: a; 2: a b; 3: b c; 4: c d.
        segments.push(segment(number as i64, 10));
        if segments.len() > 2 {
            segments.remove(0);
        }
        checkpoints.write(&job, 0).unwrap();
        checkpoints.confirm(number).unwrap();
    }
    store
        .put("segments-000000000002-77.arrow", b"half a file")
        .unwrap();
    assert_eq!(checkpoints.numbers(), [1, 2, 3, 4]);
    // A process that has not read the manifests knows it as well.
    for mut checkpoints in [open(&store), checkpoints] {
        checkpoints.load(None).unwrap();
        checkpoints.retire();
        assert_eq!(checkpoints.numbers(), [3, 4]);
        assert_eq!(
            store.list().unwrap(),
            [
                "committed-000000000004",
                "job",
                "manifest-000000000003.json",
                "manifest-000000000004.json",
                "notes-of-mine.txt",
                "segments-000000000002-1.arrow",
                "segments-000000000003-2.arrow",
                "segments-000000000004-3.arrow",
            ]
        );
    }
    assert!(open(&store).load(Some(3)).unwrap().is_some());
    let mut one = Checkpoints::open(Box::new(store.clone()), 0, JOB).unwrap();
    one.retire();
    assert_eq!(one.numbers(), [3], "at least one is kept");
}

#[test]
fn numbers_are_never_used_again() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    for number in 1..=5 {
        checkpoints
            .write(&snapshot(number, vec![segment(0, 1)]), 0)
            .unwrap();
    }
    let wrong = checkpoints.write(&snapshot(5, Vec::new()), 0);
    assert!(wrong.is_err());
    for _ in 0..3 {
        let mut checkpoints = open(&store);
        checkpoints.load(Some(2)).unwrap();
        assert_eq!(checkpoints.numbers(), [1, 2]);
        assert_eq!(checkpoints.next_number(), 6);
        checkpoints.retire();
    }
    let error = open(&store).load(Some(4)).unwrap_err().to_string();
    assert!(error.contains("(there: 1, 2)"), "{error}");
    let mut checkpoints = open(&store);
    checkpoints.load(None).unwrap();
    checkpoints.write(&snapshot(6, Vec::new()), 0).unwrap();
    checkpoints.retire();
    assert_eq!(checkpoints.numbers(), [2, 6]);
    assert_eq!(open(&store).next_number(), 7);
}

#[test]
fn the_newest_confirmation_is_remembered() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    assert_eq!(checkpoints.confirmed(), None);
    for number in 1..=3 {
        checkpoints.write(&snapshot(number, Vec::new()), 0).unwrap();
    }
    store.fail(0, Fault::Error);
    assert!(checkpoints.confirm(2).is_err());
    checkpoints.confirm(2).unwrap();
    checkpoints.confirm(1).unwrap();
    assert_eq!(checkpoints.confirmed(), Some(2));
    assert_eq!(open(&store).confirmed(), Some(2));
}

#[test]
fn names_that_only_look_like_ours_are_left_alone() {
    for name in [
        "manifest-1.json",
        "manifest-+00000000001.json",
        "seen-x",
        "segments-1.arrow",
    ] {
        assert_eq!(names::parse(name), None);
    }
    assert_eq!(names::parse(&names::seen(7)), Some((names::SEEN, 7)));
    assert_eq!(
        names::parse(&names::segments(8, 1)),
        Some((names::SEGMENTS, 8))
    );
}

#[test]
fn a_job_begins_again_when_nothing_was_published() {
    let store = MemoryStore::new();
    assert_eq!(open(&store).load(Some(0)).unwrap(), None);
    let mut checkpoints = open(&store);
    for number in 1..=2 {
        checkpoints
            .write(&snapshot(number, vec![segment(0, 1)]), 0)
            .unwrap();
    }
    let mut again = open(&store);
    // The engine looks first, and finds that it was never in force.
    assert!(again.load(None).unwrap().is_some());
    assert_eq!(again.load(Some(0)).unwrap(), None);
    assert_eq!((again.numbers(), again.next_number()), (&[][..], 3));
    again.retire();
    assert_eq!(store.list().unwrap(), ["job", "seen-000000000002"]);

    again.write(&snapshot(3, Vec::new()), 0).unwrap();
    again.confirm(3).unwrap();
    let error = open(&store).load(Some(0)).unwrap_err().to_string();
    assert!(
        error.contains("up to checkpoint 3 are committed"),
        "{error}"
    );
    assert_eq!(open(&store).numbers(), [3]);
}

fn waits(prepared: &Prepared) -> bool {
    prepared.get("transaction").is_some()
}

fn waiting(number: u64) -> Snapshot {
    let mut waiting = snapshot(number, vec![segment(0, 1)]);
    waiting.queries[0].sink = serde_json::json!({"transaction": "t"});
    waiting
}

/// The first checkpoint with a transaction died before its commit, and all before it were deleted.
#[test]
fn a_checkpoint_that_was_not_committed_leaves_those_before_it() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    for number in 1..=3 {
        let plain = snapshot(number, vec![segment(0, 1)]);
        checkpoints.write(&plain, 0).unwrap();
    }
    checkpoints.write(&waiting(4), 0).unwrap();
    let loaded = |committed| {
        let loaded = open(&store).load_in_force(committed, waits);
        loaded.unwrap().map(|s| s.number)
    };
    assert_eq!(loaded(Some(4)), Some(4));
    assert_eq!(loaded(None), Some(3));
    assert_eq!(open(&store).numbers(), [1, 2, 3]);
}

/// Exactly-once was switched off and on again: the job went back to its last transaction, or found
/// that checkpoint retired.
#[test]
fn checkpoints_without_a_transaction_are_in_force_behind_a_committed_one() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    checkpoints.write(&waiting(1), 0).unwrap();
    checkpoints.confirm(1).unwrap();
    for number in 2..=4 {
        let plain = snapshot(number, vec![segment(0, 1)]);
        checkpoints.write(&plain, 0).unwrap();
        checkpoints.retire();
    }
    checkpoints.write(&waiting(5), 0).unwrap();
    let loaded = open(&store).load_in_force(Some(1), waits).unwrap();
    assert_eq!(loaded.map(|s| s.number), Some(4));
    let error = open(&store).load_in_force(Some(9), waits).unwrap_err();
    assert!(error.to_string().contains("checkpoint 9 is not in"));
}

#[test]
fn a_job_whose_first_transaction_failed_begins_again() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    assert_eq!(checkpoints.load_in_force(None, waits).unwrap(), None);
    for number in 1..=2 {
        checkpoints.write(&waiting(number), 0).unwrap();
    }
    let mut again = open(&store);
    assert_eq!(again.load_in_force(None, waits).unwrap(), None);
    assert_eq!((again.numbers(), again.next_number()), (&[][..], 3));
}

/// Checkpoints from before topics had ids are read as before.
#[test]
fn a_topic_id_is_kept_and_may_be_missing() {
    let old = r#"{"topic":"plays","partition":0,"position":7,"max_us":9}"#;
    let mut partition: PartitionSnapshot = serde_json::from_str(old).unwrap();
    assert_eq!(partition.topic_id, None);
    assert_eq!(serde_json::to_string(&partition).unwrap(), old);
    partition.topic_id = Some("AAAAAAAAAAAAAAAAAAAAAQ".to_string());
    let text = serde_json::to_string(&partition).unwrap();
    let read: PartitionSnapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(read, partition);
}
