//! Crashes, thousands of them: a run that is interrupted at any step, by a crash or by a store
//! that fails, and goes on with any number of workers, shows the rows of the run that was not.
//!
//! Each case is one seed: `SIM_SEED=n SIM_COUNT=1 cargo test --release crashes_change_nothing`
//! runs it alone.

use crate::support::Dice;
use crate::support::sim::{Commit, Matrix, Row, Sim};
use std::collections::BTreeMap;
use std::time::Duration;
use windrow::plan::{Settings, Trigger};
use windrow::state::store::Fault;

const PARTITIONS: i32 = 3;

/// What the rows of a query mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    /// Each row once.
    Append,
    /// The last row of each first column.
    Update,
    /// The rows of the last trigger.
    Complete,
}

/// Of streams `t` and `u`.
const KINDS: &[(&str, Shown)] = &[
    (
        "SELECT a.window_start, b.window_start AS bs, a.k, b.k AS bk, n, s FROM (SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k) a FULL JOIN (SELECT window_start, window_end, k, sum(v) AS s FROM TUMBLE(u, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
        Shown::Append,
    ),
    (
        "SELECT window_start, k, count(*) AS n FROM HOP(u, ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND) GROUP BY window_start, window_end, k UNION ALL SELECT window_start, k, sum(v) FROM HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND) GROUP BY window_start, window_end, k",
        Shown::Append,
    ),
    (
        "SELECT a.k, n, s FROM (SELECT k, count(*) AS n FROM t GROUP BY k) a JOIN (SELECT k, sum(v) AS s FROM u GROUP BY k) b ON a.k = b.k",
        Shown::Complete,
    ),
    (
        "SELECT window_start, k, count(*) AS n, sum(v) AS s, avg(v) AS a FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
        Shown::Append,
    ),
    (
        "SELECT window_start, count(*) AS n, count(DISTINCT k) AS d, min(v) AS lo, max(v) AS hi FROM HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end",
        Shown::Append,
    ),
    (
        // Many slides: results come from two stacks.
        "SELECT window_end, k, count(*) AS n FROM HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '30' SECOND) GROUP BY window_start, window_end, k",
        Shown::Append,
    ),
    (
        "SELECT window_start, window_end, k, count(*) AS n, count(DISTINCT v) AS d FROM CUMULATE(t, ts, INTERVAL '4' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end, k",
        Shown::Append,
    ),
    (
        "SELECT window_start, k, n FROM (SELECT window_start, k, n, ROW_NUMBER() OVER (PARTITION BY window_start ORDER BY n DESC, k) AS r FROM (SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k)) WHERE r <= 2",
        Shown::Append,
    ),
    (
        "SELECT window_start, max(n) AS most, count(*) AS ks FROM (SELECT window_start, window_end, k, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k) GROUP BY window_start, window_end",
        Shown::Append,
    ),
    (
        "SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s, count(DISTINCT v) AS d FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '6' SECOND) GROUP BY window_start, window_end, k",
        Shown::Append,
    ),
    (
        "SELECT window_end, k, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n DESC, k) AS r FROM (SELECT window_start, window_end, k, count(*) AS n FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND) GROUP BY window_start, window_end, k)) WHERE r = 1",
        Shown::Append,
    ),
    ("SELECT k, v FROM t WHERE v > 3", Shown::Append),
    (
        "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
        Shown::Update,
    ),
    (
        "SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY n DESC, k",
        Shown::Complete,
    ),
];

const STREAMS: [&str; 2] = ["t", "u"];

/// For each partition of both streams its records: times that mostly grow, some late, some bad.
fn records(dice: &mut Dice) -> Vec<Vec<Vec<u8>>> {
    let partition = |dice: &mut Dice| {
        let mut now = 0i64;
        let mut one = |dice: &mut Dice| {
            if dice.below(40) == 0 {
                return b"no json".to_vec();
            }
            now += dice.below(4) as i64;
            let ts = (now - dice.below(12) as i64) * 1_000_000;
            let k = match dice.below(6) {
                0 => serde_json::Value::Null,
                k => format!("k{k}").into(),
            };
            let row = serde_json::json!({"ts": windrow::time::format_us(ts), "k": k, "v": dice.below(10)});
            row.to_string().into_bytes()
        };
        let count = dice.below(60);
        std::iter::repeat_with(|| one(dice))
            .take(count as usize)
            .collect()
    };
    let partitions = STREAMS.len() as i32 * PARTITIONS;
    (0..partitions).map(|_| partition(dice)).collect()
}

/// (Torn objects are for the store's own tests: a folder's are written whole or not at all.)
fn fault(dice: &mut Dice) -> Fault {
    [Fault::Error, Fault::Full, Fault::Unsure][dice.below(3) as usize]
}

/// The query, and another one over the same read whose cuts must fit.
fn script(sql: &str, other: &str) -> String {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
             WITH ('connector' = 'kafka', 'topic' = '{name}', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json');\n"
        )
    };
    format!("{}{sql};\n{other};", STREAMS.map(table).concat())
}

fn settings(shown: Shown) -> Settings {
    let mode = match shown {
        Shown::Append => None,
        Shown::Update => windrow::plan::parse_output_mode("update"),
        Shown::Complete => windrow::plan::parse_output_mode("complete"),
    };
    Settings {
        trigger: Some(match shown {
            Shown::Append => Trigger::WindowClose,
            _ => Trigger::Every(Duration::from_secs(1)),
        }),
        output_mode: mode,
        ..Settings::default()
    }
}

/// Rows as they are to be compared; `expected` says how many the last trigger shows.
fn meaning(rows: Vec<Row>, shown: Shown, expected: usize) -> Vec<String> {
    let mut rows = match shown {
        Shown::Append => rows,
        Shown::Update => {
            let by_key = rows.into_iter().map(|r| (r[0].to_string(), r));
            by_key.collect::<BTreeMap<_, _>>().into_values().collect()
        }
        Shown::Complete => rows[rows.len().saturating_sub(expected)..].to_vec(),
    };
    rows.sort_by_key(|r| format!("{r:?}"));
    rows.iter()
        .map(|r| serde_json::to_string(r).unwrap())
        .collect()
}

/// Feeds a partition, counted over both streams.
fn feed(sim: &mut Sim, p: usize, records: &[Vec<u8>]) {
    let (stream, partition) = (p / PARTITIONS as usize, p as i32 % PARTITIONS);
    let records = records.iter().map(|r| (Some(r.clone()), -1));
    sim.feed(STREAMS[stream], partition, records);
}

/// A script of two queries, how their rows are meant, and what they read.
struct Case {
    script: String,
    shown: Shown,
    records: Vec<Vec<Vec<u8>>>,
}

const QUERIES: [&str; 2] = ["query 1", "query 2"];

impl Case {
    fn new(dice: &mut Dice) -> Self {
        let (sql, shown) = KINDS[dice.below(KINDS.len() as u64) as usize];
        // The output mode is the file's.
        let alike: Vec<&str> = (KINDS.iter().filter(|k| k.1 == shown))
            .map(|k| k.0)
            .collect();
        let other = alike[dice.below(alike.len() as u64) as usize];
        Self {
            script: script(sql, other),
            shown,
            records: records(dice),
        }
    }

    fn undisturbed(&self) -> [Vec<Row>; 2] {
        let way = Matrix {
            batch_rows: 8192,
            workers: 1,
            seed: 1,
            restarts: false,
        };
        let mut sim = Sim::new(&self.script, way, &settings(self.shown), PARTITIONS).unwrap();
        for (p, list) in self.records.iter().enumerate() {
            feed(&mut sim, p, list);
        }
        sim.end(&STREAMS, PARTITIONS);
        sim.settle().unwrap();
        QUERIES.map(|q| sim.emitted(q))
    }

    /// Feeds a piece of one partition.
    fn feed(&self, sim: &mut Sim, fed: &mut [usize], dice: &mut Dice) {
        let p = dice.below(self.records.len() as u64) as usize;
        let to = (fed[p] + 1 + dice.below(20) as usize).min(self.records[p].len());
        let piece = &self.records[p][fed[p]..to];
        fed[p] = to;
        feed(sim, p, piece);
        if fed.iter().zip(&self.records).all(|(f, r)| *f == r.len()) {
            sim.end(&STREAMS, PARTITIONS);
        }
    }

    fn disturbed(&self, commit: Commit, dice: &mut Dice) -> [Vec<Row>; 2] {
        let way = Matrix {
            batch_rows: [1, 3, 8192][dice.below(3) as usize],
            workers: 1 + dice.below(4) as usize,
            seed: dice.below(u64::MAX),
            restarts: false,
        };
        let settings = settings(self.shown);
        let mut sim = Sim::committing(&self.script, way, &settings, PARTITIONS, commit).unwrap();
        let mut fed = vec![0; self.records.len()];
        for _ in 0..1_000_000 {
            let mut went = match dice.below(60) {
                0..6 => {
                    self.feed(&mut sim, &mut fed, dice);
                    Ok(true)
                }
                6..9 => {
                    sim.ask();
                    Ok(true)
                }
                9 => sim.tick_only().map(|()| true),
                10 => {
                    sim.store.fail(dice.below(8), fault(dice));
                    Ok(true)
                }
                11 => Err(windrow::Error::env("killed")),
                _ => sim.step(),
            };
            while went.is_err() {
                sim.store.heal();
                if dice.below(4) == 0 {
                    // The next start may fail too.
                    sim.store.fail(dice.below(8), fault(dice));
                }
                went = sim.crash(1 + dice.below(4) as usize).map(|()| true);
            }
            if sim.is_over() {
                return QUERIES.map(|q| sim.emitted(q));
            }
        }
        panic!("it never ends");
    }
}

#[test]
fn crashes_change_nothing() {
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |v| v.parse().unwrap());
    let first = number("SIM_SEED", 1);
    for seed in first..first + number("SIM_COUNT", 3000) {
        let mut dice = Dice(seed);
        let case = Case::new(&mut dice);
        let commit = [Commit::TwoPhase, Commit::Transaction][dice.below(2) as usize];
        let undisturbed = case.undisturbed();
        let disturbed = case.disturbed(commit, &mut dice);
        for (expected, got) in undisturbed.into_iter().zip(disturbed) {
            let expected = meaning(expected.clone(), case.shown, expected.len());
            let got = meaning(got, case.shown, expected.len());
            assert_eq!(got, expected, "SIM_SEED={seed} {commit:?}\n{}", case.script);
        }
    }
}
