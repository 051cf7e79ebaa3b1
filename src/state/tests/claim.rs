//! Several processes on one place without a lock.

use super::*;
use crate::remote::tests::{Luck, Wavering};

fn start(store: &Wavering, process: &str) -> Checkpoints {
    let mut checkpoints = Checkpoints::open(Box::new(store.remote()), 2, JOB).unwrap();
    checkpoints.claim(process).unwrap();
    checkpoints
}

fn write(checkpoints: &mut Checkpoints) -> Result<u64, Error> {
    let number = checkpoints.next_number();
    checkpoints.write(&snapshot(number, vec![segment(number as i64, 3)]), 5)?;
    checkpoints.retire();
    Ok(number)
}

fn loaded(checkpoints: &mut Checkpoints) -> Option<u64> {
    checkpoints.load(None).unwrap().map(|s| s.number)
}

#[track_caller]
fn shut_out(checkpoints: &mut Checkpoints) {
    let e = write(checkpoints).unwrap_err();
    assert!(
        e.to_string().contains("another process has taken over"),
        "{e}"
    );
}

#[test]
fn who_comes_last_goes_on() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    assert_eq!(loaded(&mut first), None);
    let one = write(&mut first).unwrap();
    let two = write(&mut first).unwrap();
    assert_eq!(two, one + 1);
    let mut second = start(&store, "second");
    assert_eq!(loaded(&mut second), Some(two));
    shut_out(&mut first);
    let three = write(&mut second).unwrap();
    assert!(three > two);
    shut_out(&mut first);
    // Before its first checkpoint, too.
    let mut third = start(&store, "third");
    assert_eq!(loaded(&mut third), Some(three));
    let mut fourth = start(&store, "fourth");
    shut_out(&mut third);
    shut_out(&mut second);
    assert_eq!(loaded(&mut fourth), Some(three));
    write(&mut fourth).unwrap();
}

#[test]
fn who_is_faster_is_seen() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    loaded(&mut first);
    let one = write(&mut first).unwrap();
    // The second has looked, and the first goes on before it claims.
    let mut second = Checkpoints::open(Box::new(store.remote()), 2, JOB).unwrap();
    let two = write(&mut first).unwrap();
    assert_eq!(two, one + 1);
    second.claim("second").unwrap();
    assert_eq!(loaded(&mut second), Some(two));
    shut_out(&mut first);
    // What both have begun is one job.
    let empty = Wavering::new();
    let one = Checkpoints::open(Box::new(empty.remote()), 2, JOB).unwrap();
    let other = Checkpoints::open(Box::new(empty.remote()), 2, "ffffffffffffffff").unwrap();
    assert_eq!(one.job(), other.job());
}

#[test]
fn who_has_slept_is_too_late() {
    let store = Wavering::new();
    let mut sleeper = start(&store, "sleeper");
    loaded(&mut sleeper);
    write(&mut sleeper).unwrap();
    let next = names::manifest(sleeper.next_number());
    let mut other = start(&store, "other");
    loaded(&mut other);
    let mut newest = 0;
    for _ in 0..5 {
        newest = write(&mut other).unwrap();
    }
    // Its name is free again.
    assert!(!store.remote().exists(&next).unwrap());
    shut_out(&mut sleeper);
    assert_eq!(write(&mut other).unwrap(), newest + 1);
    assert_eq!(loaded(&mut start(&store, "last")), Some(newest + 1));
}

#[test]
fn claims_are_no_checkpoints_and_go_away() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    loaded(&mut first);
    write(&mut first).unwrap();
    for i in 0..5 {
        let mut next = start(&store, &format!("next {i}"));
        assert_eq!(next.numbers().len(), 1);
        assert!(loaded(&mut next).is_some());
    }
    let mut last = start(&store, "last");
    loaded(&mut last);
    for _ in 0..4 {
        write(&mut last).unwrap();
    }
    let names = store.remote().list(false).unwrap();
    let manifests = names.iter().filter(|n| n.starts_with("manifest")).count();
    assert_eq!(manifests, 2, "{names:?}");
    let others = names.iter().filter(|n| n.starts_with("seen")).count();
    assert_eq!(others, 0, "{names:?}");
}

/// A lost answer, or a store that is away for a moment, at any request: nothing of it is seen.
#[test]
fn passing_faults_leave_no_trace() {
    for luck in [Luck::Away, Luck::Lost] {
        for at in 0..40 {
            let store = Wavering::new();
            let mut script = vec![Luck::Good; at];
            script.push(luck);
            store.script(&script);
            let mut first = start(&store, "first");
            assert_eq!(loaded(&mut first), None);
            write(&mut first).unwrap();
            let two = write(&mut first).unwrap();
            let mut second = start(&store, "second");
            assert_eq!(loaded(&mut second), Some(two), "{luck:?} at {at}");
            write(&mut second).unwrap();
        }
    }
}

#[test]
fn a_store_that_is_gone_is_an_error_and_no_damage() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    loaded(&mut first);
    let one = write(&mut first).unwrap();
    store.set_gone(true);
    let e = write(&mut first).unwrap_err();
    assert!(e.to_string().contains("nobody is there"), "{e}");
    let mut second = Checkpoints::open(Box::new(store.remote()), 2, JOB);
    assert!(second.is_err());
    store.set_gone(false);
    second = Ok(start(&store, "second"));
    assert_eq!(loaded(&mut second.unwrap()), Some(one));
}

#[test]
fn many_files_are_read_in_order() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    loaded(&mut first);
    let mut segments = Vec::new();
    let mut last = None;
    for i in 0..40 {
        segments.push(segment(i, 5 + i as usize));
        let taken = snapshot(first.next_number(), segments.clone());
        first.write(&taken, 5).unwrap();
        last = Some(taken);
    }
    let mut second = start(&store, "second");
    assert_eq!(second.load(None).unwrap().map(bare), last.map(bare));
}

#[test]
fn a_damaged_checkpoint_falls_back() {
    let store = Wavering::new();
    let mut first = start(&store, "first");
    loaded(&mut first);
    let one = write(&mut first).unwrap();
    let two = write(&mut first).unwrap();
    store.remote().put(&names::manifest(two), b"{}").unwrap();
    let mut second = start(&store, "second");
    assert_eq!(loaded(&mut second), Some(one));
    // Also after the fall no other process gets in between.
    shut_out(&mut first);
    assert!(write(&mut second).unwrap() > two);
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let store = Wavering::new();
    store.set_old();
    let mut checkpoints = Checkpoints::open(Box::new(store.remote()), 2, JOB).unwrap();
    let e = checkpoints.claim("first").unwrap_err();
    assert!(e.to_string().contains("If-None-Match"), "{e}");
    assert_eq!(e.exit_code(), 1);
}
