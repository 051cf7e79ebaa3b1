//! Random jobs, checkpoint by checkpoint.

use super::types::columns;
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// A segment: its aggregate, pane, rows, and which kinds of columns it has (none: 0).
    Add(usize, i64, usize),
    /// Drops the segment with this number, modulo.
    Drop(usize, usize),
    /// No segment is fresh any more.
    Settle,
    Write,
    /// A process goes and another comes.
    Restart,
    Retire,
}

/// Aggregates of a job; each has its own columns.
const AGGREGATES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..AGGREGATES, any::<i64>(), 0..100usize).prop_map(|(a, p, r)| Step::Add(a, p, r)),
        3 => (0..AGGREGATES, any::<usize>()).prop_map(|(a, n)| Step::Drop(a, n)),
        1 => Just(Step::Settle),
        3 => Just(Step::Write),
        1 => Just(Step::Restart),
        1 => Just(Step::Retire),
    ]
}

fn held(aggregate: usize, pane: i64, rows: usize) -> HeldSegment {
    let columns = match aggregate {
        0 => Vec::new(),
        1 => columns(rows, pane)[..2].to_vec(),
        2 => columns(rows, pane)[2..].to_vec(),
        _ => columns(rows, pane),
    };
    HeldSegment {
        id: segment_id(),
        pane,
        from_end: pane.saturating_add(10),
        fresh: true,
        batch: batch_of(columns, rows),
        spilled: None,
    }
}

fn empty_job() -> Snapshot {
    let mut job = snapshot(0, Vec::new());
    let template = job.queries.remove(0);
    for q in 0..2 {
        let mut query = template.clone();
        query.name = format!("q{q}");
        query.watermark = i64::from(q) - 5;
        query.complete = q == 1;
        query.aggregates = vec![template.aggregates[0].clone(); AGGREGATES / 2];
        job.queries.push(query);
    }
    job
}

fn aggregate(job: &mut Snapshot, number: usize) -> &mut Vec<HeldSegment> {
    let mut aggregates = job.queries.iter_mut().flat_map(|q| &mut q.aggregates);
    &mut aggregates.nth(number).unwrap().segments
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_checkpoint_is_what_the_job_was(steps in prop::collection::vec(step(), 1..60)) {
        let store = MemoryStore::new();
        let mut checkpoints = open(&store);
        let mut job = empty_job();
        let mut last: Option<Snapshot> = None;
        for step in steps {
            match step {
                Step::Add(a, pane, rows) => aggregate(&mut job, a).push(held(a, pane, rows)),
                Step::Drop(a, n) => {
                    let segments = aggregate(&mut job, a);
                    if !segments.is_empty() {
                        segments.remove(n % segments.len());
                    }
                }
                Step::Settle => {
                    for a in 0..AGGREGATES {
                        aggregate(&mut job, a).iter_mut().for_each(|held| held.fresh = false);
                    }
                }
                Step::Write => {
                    prop_assert!(checkpoints.next_number() > job.number);
                    job.number = checkpoints.next_number();
                    job.sources[0].partitions[0].position += 1;
                    checkpoints.write(&job, 0).unwrap();
                    last = Some(job.clone());
                }
                Step::Restart => {
                    checkpoints = open(&store);
                    let loaded = checkpoints.load(None).unwrap();
                    prop_assert_eq!(loaded.clone().map(bare), last.clone().map(bare));
                    job = loaded.unwrap_or_else(empty_job);
                }
                Step::Retire => checkpoints.retire(),
            }
            let loaded = open(&store).load(None).unwrap();
            prop_assert_eq!(loaded.map(bare), last.clone().map(bare));
        }
    }
}
