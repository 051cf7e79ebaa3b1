//! The same with checkpoints and files in an S3 bucket, while somebody reads what is visible there.

use super::*;
use crate::support::S3;
use crate::support::s3::Client;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Looks at the tables' folders again and again until told to stop: what was visible once stays, and
/// stays as it is, and each file is whole. How often it has looked.
fn watch(client: &Client, folders: &[&str], stop: &AtomicBool) -> u64 {
    let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
    let mut looks = 0;
    loop {
        let last = stop.load(SeqCst);
        for folder in folders {
            let shown = client.visible(folder);
            for (name, before) in &seen {
                if name.starts_with(folder) {
                    assert_eq!(Some(before), shown.get(name), "{name} has changed");
                }
            }
            for (name, bytes) in shown {
                match name.ends_with(".parquet") {
                    true => drop(parquet_rows(vec![bytes.clone()])),
                    false => drop(json_rows(vec![bytes.clone()])),
                }
                seen.insert(name, bytes);
            }
        }
        looks += 1;
        if last {
            assert!(!seen.is_empty(), "there was nothing to see");
            return looks;
        }
    }
}

/// Also when the test fails: nobody would wait for the watcher in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn killed_runs_on_s3_write_each_row_once() {
    let seed = number("TORTURE_SEED", 3);
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let mut s3 = S3::start();
    let bootstrap = broker.bootstrap();
    for topic in ["far-counts", "far-passed"] {
        client::create_topic(&bootstrap, topic, 2);
    }
    let mut input = Input::new(&bootstrap, "far-in");
    let text = sql(&bootstrap, &input, "far", &s3.url("files"));
    let place = Place {
        folder: folder.path().into(),
        checkpoints: s3.url("checkpoints"),
        environment: s3.environment(),
    };
    let stop = AtomicBool::new(false);
    let reader = s3.client();
    // Now and then the store is away for a moment, too.
    let mut trouble = |dice: &mut Dice| {
        let away = dice.below(5) == 0;
        if away {
            s3.kill();
            std::thread::sleep(Duration::from_millis(dice.below(1000)));
            s3.restart();
        }
        away
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&reader, &["files/slid", "files/best"], &stop));
        let over = Over(&stop);
        torture(
            "far",
            &mut broker,
            &mut input,
            &text,
            &place,
            &mut dice,
            &mut trouble,
        );
        drop(over);
        let looks = watcher.join().unwrap();
        assert!(looks > 5, "{looks} looks");
    });
    let rows = |name: &str| {
        reader
            .visible(&format!("files/{name}"))
            .into_values()
            .collect()
    };
    check(
        &broker,
        &broker,
        &input,
        "far",
        rows("slid"),
        rows("best"),
        seed,
    );
    let left = reader.list("files");
    assert!(
        left.iter().all(|name| !name.ends_with(".inprogress")),
        "{left:?}"
    );
    // Old checkpoints go away, and with them what was in place of one.
    let manifests = reader.list("checkpoints").into_iter();
    let manifests = manifests
        .filter(|n| n.contains("/manifest-") && n.ends_with(".json"))
        .count();
    assert!((1..=5).contains(&manifests), "{manifests} manifests");
}
