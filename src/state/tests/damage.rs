//! Crashes, failing stores, damaged files.

use super::*;
use crate::error::Error;
use std::io::ErrorKind;

const FAULTS: [Fault; 4] = [Fault::Error, Fault::Full, Fault::Unsure, Fault::Torn];

/// A store with checkpoints 1 and 2, and what they hold. Each has a file of its own.
fn two() -> (MemoryStore, [Snapshot; 2]) {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    let first = snapshot(1, vec![segment(0, 30), segment(10, 20)]);
    checkpoints.write(&first, 0).unwrap();
    let mut second = snapshot(2, segments_of(&first).to_vec());
    let added = &mut second.queries[0].aggregates[0].segments;
    added.extend([segment(20, 10), segment(30, 10)]);
    checkpoints.write(&second, 0).unwrap();
    (store, [first, second])
}

/// The next checkpoint after `loaded`: one segment gone, one new.
fn next(checkpoints: &Checkpoints, loaded: &Snapshot) -> Snapshot {
    let mut next = loaded.clone();
    next.number = checkpoints.next_number();
    next.sources[0].partitions[0].position += 1;
    let segments = &mut next.queries[0].aggregates[0].segments;
    segments.remove(0);
    segments.push(segment(100, 5));
    next
}

fn names(store: &MemoryStore) -> Vec<String> {
    store.list().unwrap()
}

#[test]
fn a_crash_anywhere_in_a_write_leaves_the_old_or_the_new_checkpoint() {
    for fault in FAULTS {
        for k in 0.. {
            let (store, [_, old]) = two();
            let mut checkpoints = open(&store);
            let loaded = checkpoints.load(None).unwrap().unwrap();
            let new = next(&checkpoints, &loaded);
            store.crash(k, fault);
            let done = checkpoints.write(&new, 0).is_ok();
            store.heal();

            let mut again = open(&store);
            assert!(again.next_number() >= new.number);
            let loaded = again.load(None).unwrap().unwrap();
            if done {
                assert_eq!(bare(loaded), bare(new));
                assert!(k >= 2, "a file and a manifest");
                break;
            }
            let is_old = bare(loaded.clone()) == bare(old.clone());
            assert!(is_old || bare(loaded.clone()) == bare(new), "{fault:?} {k}");
            let later = next(&again, &loaded);
            again.write(&later, 0).unwrap();
            again.retire();
            assert_eq!(bare(open(&store).load(None).unwrap().unwrap()), bare(later));
        }
    }
}

#[test]
fn a_write_that_failed_can_be_tried_again() {
    for fault in FAULTS {
        for k in 0.. {
            let (store, _) = two();
            let mut checkpoints = open(&store);
            let loaded = checkpoints.load(None).unwrap().unwrap();
            let new = next(&checkpoints, &loaded);
            store.fail(k, fault);
            if checkpoints.write(&new, 0).is_ok() {
                break;
            }
            // What is in a file already is not written again, nor taken for rubbish.
            checkpoints.retire();
            let again = checkpoints.write(&new, 0).unwrap();
            assert_eq!(again.segments_new, usize::from(k == 0), "{fault:?} {k}");
            checkpoints.retire();
            let loaded = open(&store).load(None).unwrap().unwrap();
            assert_eq!(bare(loaded), bare(new));
            let files = names(&store).into_iter();
            let files = files.filter(|name| name.starts_with("segments-"));
            assert_eq!(files.count(), 3, "{fault:?} {k}");
        }
    }
}

#[test]
fn a_crash_in_the_first_checkpoint_leaves_nothing_or_all() {
    for fault in [Fault::Error, Fault::Full, Fault::Unsure] {
        for k in 0.. {
            let store = MemoryStore::new();
            store.crash(k, fault);
            let new = snapshot(1, vec![segment(0, 3)]);
            let opened = Checkpoints::open(Box::new(store.clone()), 1, JOB);
            let done = opened.and_then(|mut c| c.write(&new, 0)).is_ok();
            store.heal();
            let loaded = open(&store).load(None).unwrap();
            if done || loaded.is_some() {
                assert_eq!(bare(loaded.unwrap()), bare(new));
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_torn_job_id_is_made_anew_or_found_in_a_manifest() {
    let store = MemoryStore::new();
    store.crash(2, Fault::Torn);
    assert!(Checkpoints::open(Box::new(store.clone()), 1, JOB).is_err());
    store.heal();
    assert!(!store.get("job").unwrap().is_empty());
    assert_eq!(open(&store).job(), JOB);

    let (store, _) = two();
    for (content, sound) in [(Some(&b"0123"[..]), true), (None, true), (None, false)] {
        match content {
            Some(content) => store.put("job", content).unwrap(),
            None => store.delete("job").unwrap(),
        }
        if !sound {
            for name in names(&store).iter().filter(|n| n.starts_with("manifest")) {
                store.put(name, b"{}").unwrap();
            }
        }
        let opened = Checkpoints::open(Box::new(store.clone()), 1, "ffffffffffffffff");
        assert_eq!(
            opened.map(|c| c.job().to_string()).ok(),
            sound.then(|| JOB.to_string())
        );
    }
}

#[test]
fn a_crash_while_loading_or_retiring_loses_nothing() {
    for fault in [Fault::Error, Fault::Unsure] {
        for k in 0.. {
            let (store, [first, _]) = two();
            store.crash(k, fault);
            let loaded = Checkpoints::open(Box::new(store.clone()), 1, JOB)
                .and_then(|mut checkpoints| checkpoints.load(Some(1)));
            store.heal();
            let mut again = open(&store);
            assert_eq!(again.next_number(), 3, "{fault:?} {k}");
            assert_eq!(bare(again.load(Some(1)).unwrap().unwrap()), bare(first));
            assert_eq!(again.next_number(), 3);
            if loaded.is_ok() {
                break;
            }
        }
        for k in 0..20 {
            let (store, [_, second]) = two();
            let mut checkpoints = Checkpoints::open(Box::new(store.clone()), 1, JOB).unwrap();
            checkpoints.load(None).unwrap();
            store.crash(k, fault);
            checkpoints.retire();
            store.heal();
            checkpoints.retire();
            let loaded = open(&store).load(None).unwrap().unwrap();
            assert_eq!(bare(loaded), bare(second.clone()));
            assert_eq!(open(&store).numbers(), [2]);
        }
    }
}

/// Ways to damage an object: bits flipped here and there, cut short, longer, gone.
fn damages(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut all = vec![
        None,
        Some(Vec::new()),
        Some(bytes[..bytes.len() - 1].to_vec()),
    ];
    all.push(Some([bytes, b"\n"].concat()));
    for i in (0..bytes.len())
        .step_by(1 + bytes.len() / 97)
        .chain([bytes.len() - 1])
    {
        let mut flipped = bytes.to_vec();
        flipped[i] ^= 1 << (i % 8);
        all.push(Some(flipped));
    }
    all
}

#[test]
fn damage_is_found_and_the_checkpoint_before_used() {
    for name in [
        "manifest-000000000002.json",
        "segments-000000000002-1.arrow",
    ] {
        let (store, [first, _]) = two();
        let sound: Vec<_> = names(&store)
            .into_iter()
            .map(|name| (name.clone(), store.get(&name).unwrap()))
            .collect();
        for damaged in damages(&store.get(name).unwrap()) {
            let store = MemoryStore::new();
            for (name, bytes) in &sound {
                store.put(name, bytes).unwrap();
            }
            match &damaged {
                Some(bytes) => store.put(name, bytes).unwrap(),
                None => store.delete(name).unwrap(),
            }
            if damaged.is_some() || name.starts_with("segments") {
                let error = open(&store).load(Some(2)).unwrap_err().to_string();
                assert!(error.contains(name), "{error}");
                assert!(
                    error.contains("damaged") && error.contains("committed"),
                    "{error}"
                );
            }
            let mut checkpoints = open(&store);
            let loaded = checkpoints.load(None).unwrap().unwrap();
            assert_eq!(bare(loaded.clone()), bare(first.clone()));
            assert_eq!(checkpoints.numbers(), [1]);
            // Nobody but the segments tells that there was a checkpoint 2, if its manifest is gone.
            assert_eq!(checkpoints.next_number(), 3);
            let later = next(&checkpoints, &loaded);
            checkpoints.write(&later, 0).unwrap();
        }
    }
}

#[test]
fn nothing_is_started_afresh_when_all_is_damaged() {
    let (store, _) = two();
    let name = "segments-000000000001-0.arrow";
    let mut bytes = store.get(name).unwrap();
    bytes[100] ^= 1;
    store.put(name, &bytes).unwrap();
    let error = open(&store).load(None).unwrap_err();
    assert!(error.to_string().contains("all are damaged"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(open(&store).numbers(), [1, 2], "nothing is deleted");

    let (store, _) = two();
    open(&store).confirm(2).unwrap();
    for name in names(&store).iter().filter(|n| n.starts_with("manifest")) {
        store.delete(name).unwrap();
    }
    let error = open(&store).load(None).unwrap_err().to_string();
    assert!(error.contains("checkpoint 2 is not in memory"), "{error}");
}

#[test]
fn a_confirmed_checkpoint_is_not_replaced_by_an_older_one() {
    let (store, _) = two();
    open(&store).confirm(2).unwrap();
    store.put("manifest-000000000002.json", b"").unwrap();
    let error = open(&store).load(None).unwrap_err().to_string();
    assert!(error.contains("would be committed again"), "{error}");
    // But who knows better may ask for it.
    let mut checkpoints = open(&store);
    assert!(checkpoints.load(Some(1)).unwrap().is_some());
    assert_eq!(checkpoints.confirmed(), None);
    assert_eq!(open(&store).confirmed(), None);
}

#[test]
fn a_store_that_cannot_be_read_is_no_damage() {
    let (store, _) = two();
    let mut checkpoints = open(&store);
    store.fail(0, Fault::Error);
    let error = checkpoints.load(None).unwrap_err().to_string();
    assert!(
        error.contains("cannot read memory/manifest-000000000002.json"),
        "{error}"
    );
    assert_eq!(open(&store).numbers(), [1, 2]);
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let (store, _) = two();
    let mut checkpoints = open(&store);
    let loaded = checkpoints.load(None).unwrap().unwrap();
    let new = next(&checkpoints, &loaded);
    store.fail(0, Fault::Full);
    let error = checkpoints.write(&new, 0).unwrap_err();
    assert!(matches!(error, Error::Environment { .. }));
    assert!(
        error
            .to_string()
            .contains("memory/segments-000000000003-0.arrow"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("full"));
    checkpoints.write(&new, 0).unwrap();
}

#[test]
fn two_processes_never_write_the_same_manifest() {
    let (store, _) = two();
    let (mut one, mut other) = (open(&store), open(&store));
    let loaded = one.load(None).unwrap().unwrap();
    one.write(&next(&one, &loaded), 0).unwrap();
    let loaded = other.load(Some(2)).unwrap().unwrap();
    let error = other
        .write(&next(&other, &loaded), 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("written by another process"), "{error}");
    assert!(matches!(
        store.create("manifest-000000000003.json", b""),
        Err(e) if e.kind() == ErrorKind::AlreadyExists
    ));
}

#[test]
fn another_version_is_an_error_that_names_ours() {
    let (store, _) = two();
    let name = "manifest-000000000002.json";
    let text = String::from_utf8(store.get(name).unwrap()).unwrap();
    let (json, _) = text.split_once('\n').unwrap();
    let mut changed = json.replace("\"version\":1", "\"version\":7").into_bytes();
    crate::state::manifest::seal(&mut changed);
    store.put(name, &changed).unwrap();
    let error = open(&store).load(None).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("version 7; this build reads version"),
        "{text}"
    );
    assert_eq!(open(&store).numbers(), [1, 2]);
}
