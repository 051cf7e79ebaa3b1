//! A table in an object store: the same promises as in a folder.

use super::*;
use crate::remote::Remote;
use crate::remote::tests::{Luck, Wavering};

const JOB: &str = "0123456789abcdef";

fn sink(store: &Wavering, def: &TableDef, checkpoint: Option<&str>) -> FileSink {
    let folder = || Ok(Folder::Remote(Box::new(store.hasty())));
    FileSink::in_folder(folder, def, "q", checkpoint, Instant::now).unwrap()
}

/// Row `n` is (n % 3, n).
fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    batch(vec![
        ("k", column(range.clone().map(|n| n % 3).collect())),
        ("n", column(range.collect())),
    ])
}

fn visible(remote: &Remote) -> Vec<String> {
    let mut names = remote.list(true).unwrap();
    names.retain(|n| !is_hidden(n.rsplit('/').next().unwrap()));
    names.sort();
    names
}

fn hidden(remote: &Remote) -> usize {
    remote.list(true).unwrap().len() - visible(remote).len()
}

/// The `n` of all visible rows, sorted.
fn shown(remote: &Remote) -> Vec<i64> {
    let mut all = Vec::new();
    for name in visible(remote) {
        let text = String::from_utf8(remote.get(&name).unwrap()).unwrap();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            all.push(row["n"].as_i64().unwrap());
        }
    }
    all.sort_unstable();
    all
}

fn definition(partitioned: bool) -> TableDef {
    let dir = TempDir::new().unwrap();
    let by: &[&str] = if partitioned { &["k"] } else { &[] };
    table(&dir, &rows(0..1), &[("format", "json")], by)
}

#[test]
fn rows_are_seen_after_publish() {
    let store = Wavering::new();
    let remote = store.hasty();
    let def = definition(true);
    let mut sink = sink(&store, &def, Some(JOB));
    sink.recover(0, &Prepared::Null).unwrap();
    sink.write(1, &rows(0..9)).unwrap();
    let prepared = sink.prepare(1).unwrap();
    assert_eq!((visible(&remote).len(), hidden(&remote)), (0, 3));
    for _ in 0..2 {
        sink.publish(1, &prepared).unwrap();
        assert_eq!(shown(&remote), (0..9).collect::<Vec<_>>());
        assert_eq!(hidden(&remote), 0);
    }
    assert!(visible(&remote)[0].starts_with("k=0/part-q-"));
    // What no checkpoint knows goes away with the sink.
    sink.write(2, &rows(9..12)).unwrap();
    sink.prepare(2).unwrap();
    sink.write(3, &rows(12..15)).unwrap();
    sink.close().unwrap();
    drop(sink);
    assert_eq!(shown(&remote), (0..9).collect::<Vec<_>>());
}

#[test]
fn without_checkpoints_a_file_appears_whole() {
    let store = Wavering::new();
    let remote = store.hasty();
    for format in ["json", "csv", "parquet"] {
        let dir = TempDir::new().unwrap();
        let def = table(&dir, &rows(0..1), &[("format", format)], &["k"]);
        let mut sink = sink(&store, &def, None);
        sink.write(1, &rows(0..9)).unwrap();
        sink.commit(1).unwrap();
        assert_eq!(remote.list(true).unwrap().len(), 0);
        sink.close().unwrap();
        assert_eq!((visible(&remote).len(), hidden(&remote)), (3, 0));
        for name in visible(&remote) {
            assert!(name.ends_with(format) && !remote.get(&name).unwrap().is_empty());
            remote.delete_all(&[name]).unwrap();
        }
    }
}

/// The store goes away for good at some request and the process dies of it; the next one goes on
/// from the last checkpoint. Each row is there once.
#[test]
fn crashes_at_every_request() {
    const EPOCHS: u64 = 3;
    for partitioned in [false, true] {
        let def = definition(partitioned);
        let mut crashed = 0;
        for at in 0..60 {
            for luck in [Luck::Away, Luck::Lost] {
                let store = Wavering::new();
                let mut script = vec![Luck::Good; at];
                script.push(luck);
                script.extend([Luck::Away; 50]);
                store.script(&script);
                let mut durable = (0, Prepared::Null);
                loop {
                    let run = epochs(&store, &def, &mut durable, EPOCHS);
                    store.script(&[]);
                    match run {
                        Ok(()) => break,
                        Err(_) => crashed += 1,
                    }
                    // Nothing twice, and nothing that is in no checkpoint.
                    let now = shown(&store.hasty());
                    let before = durable.0 as i64 * 10;
                    assert!(now.is_sorted_by(|a, b| a < b), "{now:?}");
                    assert!(now.last().is_none_or(|n| *n < before), "{now:?}");
                }
                let remote = store.hasty();
                assert_eq!(shown(&remote), (0..EPOCHS as i64 * 10).collect::<Vec<_>>());
                assert_eq!(hidden(&remote), 0);
            }
        }
        assert!(crashed >= 20, "{crashed}");
    }
}

fn epochs(
    store: &Wavering,
    def: &TableDef,
    durable: &mut (u64, Prepared),
    last: u64,
) -> Result<()> {
    let mut sink = sink(store, def, Some(JOB));
    sink.recover(durable.0, &durable.1)?;
    for epoch in durable.0 + 1..=last {
        let first = (epoch as i64 - 1) * 10;
        sink.write(epoch, &rows(first..first + 10))?;
        let prepared = sink.prepare(epoch)?;
        *durable = (epoch, prepared);
        sink.publish(epoch, &durable.1)?;
    }
    sink.close()
}

#[test]
fn a_file_that_is_lost_is_told() {
    let store = Wavering::new();
    let def = definition(false);
    let mut first = sink(&store, &def, Some(JOB));
    first.write(1, &rows(0..3)).unwrap();
    let prepared = first.prepare(1).unwrap();
    let remote = store.hasty();
    remote.delete_all(&remote.list(true).unwrap()).unwrap();
    let error = first.publish(1, &prepared).unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    assert!(
        error.to_string().contains("memory://a/b/part-q-"),
        "{error}"
    );
}

#[test]
fn nobody_elses_files_are_touched() {
    let store = Wavering::new();
    let remote = store.hasty();
    let others = [
        "part-q-ffffffffffffffff-9-0.json",
        ".part-other-0123456789abcdef-9-0.json.inprogress",
        "plain/.part-q-0123456789abcdef-9-0.json.inprogress",
        "k=1/notes.txt",
    ];
    let own = [
        ".part-q-0123456789abcdef-1-0.json.inprogress",
        "k=1/part-q-0123456789abcdef-2-0.json",
    ];
    for name in others.iter().chain(&own) {
        remote.put(name, b"{\"n\":1}\n").unwrap();
    }
    sink(&store, &definition(false), Some(JOB))
        .recover(1, &Prepared::Null)
        .unwrap();
    let mut left = remote.list(true).unwrap();
    left.sort();
    let mut expected = others.map(str::to_string);
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn a_file_must_be_small_enough_to_be_copied() {
    let store = Wavering::new();
    let dir = TempDir::new().unwrap();
    let options = [
        ("format", "json"),
        ("sink.rolling-policy.file-size", "6 gb"),
    ];
    let def = table(&dir, &rows(0..1), &options, &[]);
    let folder = || Ok(Folder::Remote(Box::new(store.hasty())));
    let refused = FileSink::in_folder(folder, &def, "q", Some(JOB), Instant::now);
    let error = refused.map(drop).unwrap_err();
    assert!(error.to_string().contains("5 GB"), "{error}");
    assert_eq!(error.exit_code(), 2);
}
