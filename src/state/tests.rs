//! Checkpoints as a whole: what was written is read back, whatever happens in between.

mod damage;
mod random;

use super::store::Fault;
use super::*;
use crate::watermark::NONE;
use crate::window::segment_id;
use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

const JOB: &str = "0123456789abcdef";

/// Columns named as the engine names them (`batch_of` in plan/accumulate.rs).
pub(super) fn batch_of(columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
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
                    partition: 0,
                    position: 17 + number as i64,
                    max_us: i64::MAX,
                },
                PartitionSnapshot {
                    topic: "plays".to_string(),
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
    let first = snapshot(1, vec![segment(0, 3), segment(10, 2)]);
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
