//! A checkpoint that an earlier build wrote is still read.

use super::types::columns;
use super::*;
use std::path::PathBuf;

/// The checkpoints in `datasets/checkpoints/v1`: the second has one segment of the first.
fn jobs() -> [Snapshot; 2] {
    let held = |pane: i64, rows| HeldSegment {
        batch: batch_of(columns(rows, pane), rows),
        spilled: None,
        ..segment(pane, 0)
    };
    let first = snapshot(1, vec![held(0, 5), held(10, 2)]);
    let mut second = snapshot(2, vec![segments_of(&first)[1].clone(), held(20, 1)]);
    second.queries[0].watermark = 10;
    [first, second]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("datasets/checkpoints/v1")
}

fn kept() -> MemoryStore {
    let store = MemoryStore::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        store.put(name, &std::fs::read(&path).unwrap()).unwrap();
    }
    store
}

/// A manifest without the lengths and checksums of files: the Arrow crate may change those.
fn structure(store: &MemoryStore, number: u64) -> serde_json::Value {
    let bytes = store.get(&names::manifest(number)).unwrap();
    let json = crate::state::manifest::unseal(&bytes).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(json).unwrap();
    for file in value["files"].as_array_mut().unwrap() {
        file["bytes"] = 0.into();
        file["crc32c"] = 0.into();
    }
    value
}

/// `WINDROW_UPDATE=1` writes the folder if it is not there: a new version gets one of its own, and
/// those of old versions stay as they are.
#[test]
fn what_is_written_today_has_the_same_structure() {
    let store = MemoryStore::new();
    let mut checkpoints = open(&store);
    for job in jobs() {
        checkpoints.write(&job, 1_700_000_000_000).unwrap();
        checkpoints.confirm(job.number).unwrap();
    }
    checkpoints.retire();
    if std::env::var_os("WINDROW_UPDATE").is_some() && !folder().exists() {
        std::fs::create_dir_all(folder()).unwrap();
        for name in store.list().unwrap() {
            std::fs::write(folder().join(&name), store.get(&name).unwrap()).unwrap();
        }
        return;
    }
    assert_eq!(store.list().unwrap(), kept().list().unwrap());
    for number in [1, 2] {
        assert_eq!(structure(&store, number), structure(&kept(), number));
    }
}

#[test]
fn version_1_is_read() {
    for (number, job) in (1..).zip(jobs()) {
        let store = kept();
        let mut checkpoints = Checkpoints::open(Box::new(store), 2, "ffffffffffffffff").unwrap();
        assert_eq!(checkpoints.job(), JOB);
        assert_eq!(checkpoints.confirmed(), Some(2));
        let loaded = checkpoints.load(Some(number)).unwrap().unwrap();
        assert_eq!(bare(loaded), bare(job));
    }
}
