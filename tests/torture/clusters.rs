//! The same with the sinks' topics on another cluster than the source's: the transaction there holds the
//! checkpoint's number, and the group's offsets follow on the source's cluster.

use super::*;

#[test]
fn killed_runs_write_each_row_once_into_another_cluster() {
    let seed = number("TORTURE_SEED", 4);
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut source = Broker::start();
    let mut sinks = Broker::start();
    let (from, to) = (source.bootstrap(), sinks.bootstrap());
    for topic in ["across-counts", "across-passed"] {
        client::create_topic(&to, topic, 2);
    }
    let mut input = Input::new(&from, "across-in");
    let text = sql(&from, &input, "across", folder.path().to_str().unwrap());
    let other = |line: &str| match line.contains("exactly-once") {
        true => line.replace(&from, &to),
        false => line.to_string(),
    };
    let text: Vec<String> = text.lines().map(other).collect();
    let place = Place::local(folder.path(), "across");
    torture(
        "across",
        &mut source,
        &mut input,
        &text.join("\n"),
        &place,
        &mut dice,
        &mut |dice| {
            // Now and then the sinks' cluster is away for a moment.
            let away = dice.below(5) == 0;
            if away {
                sinks.kill();
                std::thread::sleep(Duration::from_millis(dice.below(1000)));
                sinks.restart();
            }
            away
        },
    );
    let rows = |name| visible(&folder.path().join(name));
    let (slid, best) = (rows("slid"), rows("best"));
    check(&source, &sinks, &input, "across", slid, best, seed);
}
