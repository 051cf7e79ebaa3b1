//! The folder on a disk.

use super::*;
use std::io::ErrorKind;

#[test]
fn objects_are_put_got_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a").join("b");
    let local = LocalStore::open(&path).unwrap();
    let stores: [Box<dyn Store>; 2] = [Box::new(local), Box::new(MemoryStore::new())];
    for store in stores {
        store.put("x", b"one").unwrap();
        store.put("x", b"two").unwrap();
        store.create("y", b"").unwrap();
        let again = store.create("x", b"three").unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(store.get("x").unwrap(), b"two");
        assert_eq!(store.get("z").unwrap_err().kind(), ErrorKind::NotFound);
        let mut names = store.list().unwrap();
        names.sort();
        assert_eq!(names, ["x", "y"]);
        store.delete("x").unwrap();
        store.delete("x").unwrap();
        assert_eq!(store.list().unwrap(), ["y"]);
    }
}

#[test]
fn a_folder_is_for_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let one = LocalStore::open(folder.path()).unwrap();
    let error = LocalStore::open(folder.path()).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(
        text.contains(&folder.path().display().to_string()),
        "{text}"
    );
    assert!(hint.contains("another windrow"), "{hint}");
    drop(one);
    LocalStore::open(folder.path()).unwrap();
}

#[test]
fn half_written_objects_are_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join(".windrow-manifest-000000000001.json");
    std::fs::write(&half, "{").unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    assert!(!half.exists());
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn what_is_no_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_path_buf(), file.path().join("below")] {
        let error = LocalStore::open(&path).unwrap_err();
        assert_eq!(error.hint(), Some("that is not a folder"), "{error}");
    }
}

#[test]
fn a_failed_write_leaves_no_rubbish() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    // A folder in the way: the rename fails.
    std::fs::create_dir(folder.path().join("x")).unwrap();
    assert!(store.put("x", b"bytes").is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "the lock and the folder: {left:?}");
}

#[test]
fn a_checkpoint_lies_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let store = LocalStore::open(folder.path()).unwrap();
        Checkpoints::open(Box::new(store), 1, JOB).unwrap()
    };
    let written = snapshot(1, vec![segment(0, 100)]);
    open().write(&written, 0).unwrap();
    let mut checkpoints = open();
    let mut loaded = checkpoints.load(None).unwrap().unwrap();
    assert_eq!(bare(loaded.clone()), bare(written));
    loaded.number = 2;
    checkpoints.write(&loaded, 0).unwrap();
    checkpoints.retire();
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "job",
            "lock",
            "manifest-000000000002.json",
            "segments-000000000001-0.arrow"
        ]
    );
}
