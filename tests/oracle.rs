//! The oracle: a streaming result equals DataFusion's batch query over the same rows, for random
//! rows, disorder, partitions, batch sizes, workers and interleavings. Which rows are late is
//! decided by a model that follows the words of the definition.

use crate::support::Dice;
use crate::support::sim::{Matrix, Row, Sim, rows_of};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use windrow::plan::{Settings, Trigger};

const PARTITIONS: i32 = 3;
const DELAY_S: i64 = 4;

/// Event time in seconds, key, value.
type Event = (i64, Option<u8>, Option<i64>);

/// A windowed query for the streams `t` and `u`, and the same over tables `w` and `x` (s, e, ts, k,
/// v), which hold each of their rows once for each of its windows, with the window's start and end.
struct Case {
    windows: Windows,
    stream: &'static str,
    batch: &'static str,
}

/// In seconds.
#[derive(Clone, Copy)]
enum Windows {
    Sliding {
        size: i64,
        slide: i64,
    },
    Cumulating {
        size: i64,
        step: i64,
    },
    /// Of each key, or of all rows.
    Sessions {
        gap: i64,
        by_key: bool,
    },
}

impl Windows {
    /// Start and end of each window that holds `ts`: straight from the definition.
    fn of(self, ts: i64) -> Vec<(i64, i64)> {
        match self {
            Windows::Sliding { size, slide } => {
                let last = ts.div_euclid(slide) * slide;
                let starts = (0..).map(|n| last - n * slide);
                starts
                    .take_while(|s| s + size > ts)
                    .map(|s| (s, s + size))
                    .collect()
            }
            Windows::Cumulating { size, step } => {
                let start = ts.div_euclid(size) * size;
                let ends = (1..=size / step).map(|n| start + n * step);
                ends.filter(|end| *end > ts)
                    .map(|end| (start, end))
                    .collect()
            }
            Windows::Sessions { .. } => unreachable!("a row alone does not say"),
        }
    }
}

const CASES: &[Case] = &[
    // Two streams, whose windows close together.
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT a.window_start, b.window_end, a.k ka, b.k kb, c, s FROM (SELECT window_start, window_end, k, count(*) c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k) a FULL JOIN (SELECT window_start, window_end, k, sum(v) s FROM TUMBLE(u, ts, INTERVAL '10' SECOND) WHERE v > -3 GROUP BY window_start, window_end, k) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
        batch: "SELECT a.s, b.e, a.k ka, b.k kb, c, v FROM (SELECT s, e, k, count(*) c FROM w GROUP BY s, e, k) a FULL JOIN (SELECT s, e, k, sum(v) v FROM x WHERE v > -3 GROUP BY s, e, k) b ON a.s = b.s AND a.e = b.e AND a.k = b.k",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT window_end, k, count(*) n, sum(c) c FROM (SELECT window_start, window_end, k, count(*) c FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) GROUP BY window_start, window_end, k UNION ALL SELECT window_start, window_end, k, count(v) FROM HOP(u, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) GROUP BY window_start, window_end, k) GROUP BY window_start, window_end, k",
        batch: "SELECT e, k, count(*), sum(c) FROM (SELECT s, e, k, count(*) c FROM w GROUP BY s, e, k UNION ALL SELECT s, e, k, count(v) FROM x GROUP BY s, e, k) GROUP BY s, e, k",
    },
    Case {
        windows: Windows::Sessions {
            gap: 6,
            by_key: true,
        },
        stream: "SELECT a.window_start, a.window_end, a.k, c, hi FROM (SELECT window_start, window_end, k, count(*) c FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '6' SECOND) GROUP BY window_start, window_end, k) a JOIN (SELECT window_start, window_end, k, max(v) hi FROM SESSION(TABLE u PARTITION BY k, DESCRIPTOR(ts), INTERVAL '6' SECOND) GROUP BY window_start, window_end, k) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
        batch: "SELECT a.s, a.e, a.k, c, hi FROM (SELECT s, e, k, count(*) c FROM w GROUP BY s, e, k) a JOIN (SELECT s, e, k, max(v) hi FROM x GROUP BY s, e, k) b ON a.s = b.s AND a.e = b.e AND a.k = b.k",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, k, v, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC) rn FROM TUMBLE(t, ts, INTERVAL '10' SECOND)) WHERE rn <= 3",
        batch: "SELECT s, k, v, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY s, e ORDER BY v DESC NULLS LAST, k NULLS FIRST) rn FROM w) WHERE rn <= 3",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT window_start, k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY ts DESC) rn FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND)) WHERE rn = 1",
        batch: "SELECT s, k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY s, e, k ORDER BY ts DESC, v NULLS FIRST) rn FROM w) WHERE rn = 1",
    },
    Case {
        windows: Windows::Cumulating { size: 12, step: 4 },
        stream: "SELECT window_end, k, v, SUM(v) OVER (PARTITION BY window_start, window_end, k) s, COUNT(*) OVER (PARTITION BY window_start, window_end) c FROM CUMULATE(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND)",
        batch: "SELECT e, k, v, SUM(v) OVER (PARTITION BY s, e, k), COUNT(*) OVER (PARTITION BY s, e) FROM w",
    },
    // Rows of two streams in the same window.
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT a.window_start, a.k, a.v, b.v w FROM TUMBLE(t, ts, INTERVAL '10' SECOND) a JOIN TUMBLE(u, ts, INTERVAL '10' SECOND) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k AND (a.v <> b.v OR b.v IS NULL)",
        batch: "SELECT w.s, w.k, w.v, x.v AS w FROM w JOIN x ON w.s = x.s AND w.e = x.e AND w.k = x.k AND (w.v <> x.v OR x.v IS NULL)",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT COALESCE(a.window_end, b.window_end) e, a.k, a.v, b.v w FROM (SELECT * FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) WHERE v > 0) a FULL JOIN (SELECT * FROM HOP(u, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) WHERE v > 1) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
        batch: "SELECT COALESCE(a.e, b.e), a.k, a.v, b.v AS w FROM (SELECT * FROM w WHERE v > 0) a FULL JOIN (SELECT * FROM x WHERE v > 1) b ON a.s = b.s AND a.e = b.e AND a.k = b.k",
    },
    Case {
        windows: Windows::Cumulating { size: 12, step: 4 },
        stream: "SELECT a.window_end, a.k, count(*) c, max(b.n) n FROM CUMULATE(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) a LEFT JOIN (SELECT window_start, window_end, k, count(*) n FROM CUMULATE(u, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) GROUP BY window_start, window_end, k) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k GROUP BY a.window_start, a.window_end, a.k",
        batch: "SELECT w.e, w.k, count(*), max(b.n) FROM w LEFT JOIN (SELECT s, e, k, count(*) n FROM x GROUP BY s, e, k) b ON w.s = b.s AND w.e = b.e AND w.k = b.k GROUP BY w.s, w.e, w.k",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT a.window_start, a.k, a.v FROM TUMBLE(t, ts, INTERVAL '10' SECOND) a WHERE NOT EXISTS (SELECT * FROM TUMBLE(u, ts, INTERVAL '10' SECOND) b WHERE a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k)",
        batch: "SELECT s, k, v FROM w WHERE NOT EXISTS (SELECT * FROM x WHERE w.s = x.s AND w.e = x.e AND w.k = x.k)",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT a.window_start, a.k, a.v FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) a WHERE v > 0 AND v NOT IN (SELECT v FROM HOP(u, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) b WHERE a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k)",
        batch: "SELECT s, k, v FROM w WHERE v > 0 AND NOT EXISTS (SELECT * FROM x WHERE w.s = x.s AND w.e = x.e AND w.k = x.k AND (x.v IS NULL OR x.v = w.v))",
    },
    Case {
        windows: Windows::Cumulating { size: 12, step: 4 },
        stream: "SELECT a.window_end, a.k, count(*) c FROM CUMULATE(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) a WHERE v IN (SELECT v FROM CUMULATE(u, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) b WHERE a.window_start = b.window_start AND a.window_end = b.window_end) GROUP BY a.window_start, a.window_end, a.k",
        batch: "SELECT e, k, count(*) FROM w WHERE EXISTS (SELECT * FROM x WHERE w.s = x.s AND w.e = x.e AND w.v = x.v) GROUP BY s, e, k",
    },
    // The rows of closed sessions.
    Case {
        windows: Windows::Sessions {
            gap: 5,
            by_key: true,
        },
        stream: "SELECT window_start, window_end, v FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND) WHERE v > 1",
        batch: "SELECT s, e, v FROM w WHERE v > 1",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT window_start, k, v, GROUPING(k) g, count(*) c, sum(v) s, count(DISTINCT v) d FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) GROUP BY window_start, window_end, CUBE (k, v)",
        batch: "SELECT s, k, v, GROUPING(k), count(*), sum(v), count(DISTINCT v) FROM w GROUP BY GROUPING SETS ((s, e), (s, e, k), (s, e, v), (s, e, k, v))",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, k, v, GROUPING_ID(k, v) g, count(*) c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, GROUPING SETS ((k), (k), (v), ())",
        batch: "SELECT s, k, NULL AS v, 1 AS g, count(*) AS c FROM w GROUP BY s, e, k UNION ALL SELECT s, k, NULL, 1, count(*) FROM w GROUP BY s, e, k UNION ALL SELECT s, NULL, v, 2, count(*) FROM w GROUP BY s, e, v UNION ALL SELECT s, NULL, NULL, 3, count(*) FROM w GROUP BY s, e",
    },
    // Ties: which of them are taken must not depend on the order of groups.
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c) rn FROM (SELECT window_start, window_end, k, count(*) c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k)) WHERE rn <= 2",
        batch: "SELECT s, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY s, e ORDER BY c, k NULLS FIRST) rn FROM (SELECT s, e, k, count(*) c FROM w GROUP BY s, e, k)) WHERE rn <= 2",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, k, count(*) c, sum(v) s, min(v) lo, max(v) hi, avg(v) a, count(DISTINCT v) d FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
        batch: "SELECT s, k, count(*) c, sum(v), min(v), max(v), avg(v), count(DISTINCT v) FROM w GROUP BY s, e, k",
    },
    Case {
        windows: Windows::Sliding { size: 12, slide: 4 },
        stream: "SELECT window_start, k, count(*) c, sum(v) s, count(v) n, max(v) hi, count(DISTINCT CAST(v AS STRING)) FILTER (WHERE v > 1) d FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '12' SECOND) GROUP BY window_start, window_end, k",
        batch: "SELECT s, k, count(*), sum(v), count(v), max(v), count(DISTINCT CAST(v AS VARCHAR)) FILTER (WHERE v > 1) FROM w GROUP BY s, e, k",
    },
    Case {
        windows: Windows::Sliding { size: 10, slide: 4 },
        stream: "SELECT window_start, window_end, count(*) c, median(v) m, count(*) FILTER (WHERE v > 0) p, count(DISTINCT k) d, count(DISTINCT CAST(v AS DOUBLE)) f FROM HOP(t, ts, INTERVAL '4' SECOND, INTERVAL '10' SECOND) WHERE v IS NULL OR v <> 3 GROUP BY window_start, window_end",
        batch: "SELECT s, e, count(*), median(v), count(*) FILTER (WHERE v > 0), count(DISTINCT k), count(DISTINCT CAST(v AS DOUBLE)) FROM w WHERE v IS NULL OR v <> 3 GROUP BY s, e",
    },
    // Enough slides for `window/stacks.rs`.
    Case {
        windows: Windows::Sliding { size: 43, slide: 2 },
        stream: "SELECT window_start, k, count(*) c, sum(v) s, min(v) lo, max(v) hi, avg(v) a, count(DISTINCT v) d FROM HOP(t, ts, INTERVAL '2' SECOND, INTERVAL '43' SECOND) GROUP BY window_start, window_end, k",
        batch: "SELECT s, k, count(*) c, sum(v), min(v), max(v), avg(v), count(DISTINCT v) FROM w GROUP BY s, e, k",
    },
    Case {
        windows: Windows::Cumulating { size: 15, step: 5 },
        stream: "SELECT window_start, window_end, k, count(*) c, sum(v) s, count(DISTINCT v) d FROM CUMULATE(t, ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND) GROUP BY window_start, window_end, k",
        batch: "SELECT s, e, k, count(*) c, sum(v), count(DISTINCT v) FROM w GROUP BY s, e, k",
    },
    // Enough steps for `window/stacks.rs`; the second aggregate must not mix windows of one start.
    Case {
        windows: Windows::Cumulating { size: 24, step: 2 },
        stream: "SELECT window_end, count(*) keys, sum(c) rows, max(hi) hi FROM (SELECT window_start, window_end, k, count(*) c, max(v) hi FROM CUMULATE(t, ts, INTERVAL '2' SECOND, INTERVAL '24' SECOND) GROUP BY window_start, window_end, k) GROUP BY window_start, window_end",
        batch: "SELECT e, count(*), sum(c), max(hi) FROM (SELECT s, e, k, count(*) c, max(v) hi FROM w GROUP BY s, e, k) GROUP BY s, e",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, k) r FROM (SELECT window_start, window_end, k, count(*) c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) WHERE k IS NOT NULL GROUP BY window_start, window_end, k)) WHERE r <= 2",
        batch: "SELECT s, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY s ORDER BY c DESC, k) r FROM (SELECT s, k, count(*) c FROM w WHERE k IS NOT NULL GROUP BY s, k)) WHERE r <= 2",
    },
    Case {
        windows: Windows::Sliding {
            size: 10,
            slide: 10,
        },
        stream: "SELECT window_start, count(*) keys, sum(c) rows, max(x) x FROM (SELECT window_start, window_end, k, count(*) c, sum(v) x FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k HAVING count(*) > 1) GROUP BY window_start, window_end",
        batch: "SELECT s, count(*), sum(c), max(x) FROM (SELECT s, k, count(*) c, sum(v) x FROM w GROUP BY s, k HAVING count(*) > 1) GROUP BY s",
    },
    // A filter on what only the whole session knows.
    Case {
        windows: Windows::Sessions {
            gap: 5,
            by_key: true,
        },
        stream: "SELECT window_start, window_end, k, count(*) c, sum(v) s, max(v) hi, median(v) m, count(DISTINCT v) d FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND) WHERE window_end - window_start > INTERVAL '6' SECOND GROUP BY window_start, window_end, k",
        batch: "SELECT s, e, k, count(*), sum(v), max(v), median(v), count(DISTINCT v) FROM w WHERE e - s > INTERVAL '6' SECOND GROUP BY s, e, k",
    },
    Case {
        windows: Windows::Sessions {
            gap: 3,
            by_key: false,
        },
        stream: "SELECT window_start, window_end, count(*) c, sum(v) s FROM SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '3' SECOND) GROUP BY window_start, window_end",
        batch: "SELECT s, e, count(*), sum(v) FROM w GROUP BY s, e",
    },
    // Those that end together are finished together, and those that only begin together are not.
    Case {
        windows: Windows::Sessions {
            gap: 2,
            by_key: true,
        },
        stream: "SELECT window_start, window_end, count(*) keys, sum(c) rows, max(hi) hi FROM (SELECT SESSION_START(ts, INTERVAL '2' SECOND) window_start, SESSION_END(ts, INTERVAL '2' SECOND) window_end, k, count(*) c, max(v) hi FROM t GROUP BY SESSION(ts, INTERVAL '2' SECOND), k) GROUP BY window_start, window_end",
        batch: "SELECT s, e, count(*), sum(c), max(hi) FROM (SELECT s, e, k, count(*) c, max(v) hi FROM w GROUP BY s, e, k) GROUP BY s, e",
    },
    Case {
        windows: Windows::Sessions {
            gap: 9,
            by_key: true,
        },
        stream: "SELECT a.window_end, a.k, c, hi FROM (SELECT window_start, window_end, k, count(*) c FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '9' SECOND) GROUP BY window_start, window_end, k) a JOIN (SELECT window_start, window_end, k, max(v) hi FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '9' SECOND) GROUP BY window_start, window_end, k) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
        batch: "SELECT e, k, count(*), max(v) FROM w WHERE k IS NOT NULL GROUP BY s, e, k",
    },
];

/// By stream and partition.
type Streams = [Vec<Vec<Event>>; 2];

/// A session of the model: its first and its last row's time, and its rows.
struct Session {
    first: i64,
    last: i64,
    rows: Vec<Event>,
}

/// Rows that are not late for sessions, each with the watermark before it.
fn in_time(partitions: &[Vec<Event>], gap: i64) -> Vec<(i64, Event)> {
    let mut rows = Vec::new();
    for events in partitions {
        let mut watermark = i64::MIN;
        for event in events {
            if event.0 + gap > watermark {
                rows.push((watermark, *event));
            }
            watermark = watermark.max(event.0 - DELAY_S);
        }
    }
    rows
}

/// Each row with its session: rows in the order of the watermarks before them, before each of
/// which the sessions are over that it ends; a row joins those that are not and touch it.
fn sessions(mut rows: Vec<(i64, Event)>, gap: i64, by_key: bool) -> Vec<(i64, i64, Event)> {
    rows.sort_by_key(|(watermark, _)| *watermark);
    let (mut open, mut over) = (Vec::<Session>::new(), Vec::new());
    for (watermark, event) in rows {
        over.extend(open.extract_if(.., |s| s.last + gap <= watermark));
        let of_key = |s: &Session| !by_key || s.rows[0].1 == event.1;
        let touching = open.extract_if(.., |s| {
            of_key(s) && s.first <= event.0 + gap && event.0 <= s.last + gap
        });
        let one = Session {
            first: event.0,
            last: event.0,
            rows: vec![event],
        };
        let joined = touching.fold(one, |a, b| Session {
            first: a.first.min(b.first),
            last: a.last.max(b.last),
            rows: [a.rows, b.rows].concat(),
        });
        open.push(joined);
    }
    over.append(&mut open);
    let rows = over.into_iter().flat_map(|s| {
        let (start, end) = (s.first, s.last + gap);
        s.rows.into_iter().map(move |event| (start, end, event))
    });
    rows.collect()
}

const SECOND: i64 = 1_000_000;

/// Each row with each window it counts in.
fn windows(partitions: &[Vec<Event>], windows: Windows) -> Vec<(i64, i64, Event)> {
    let mut out = Vec::new();
    for events in partitions {
        let mut watermark = i64::MIN;
        for event in events {
            let open = windows
                .of(event.0)
                .into_iter()
                .filter(|(_, end)| *end > watermark);
            out.extend(open.map(|(start, end)| (start, end, *event)));
            watermark = watermark.max(event.0 - DELAY_S);
        }
    }
    out
}

/// The rows of one stream, as the batch query has them.
fn batch(case: &Case, partitions: &[Vec<Event>]) -> RecordBatch {
    let rows = match case.windows {
        Windows::Sessions { gap, by_key } => sessions(in_time(partitions, gap), gap, by_key),
        fixed => windows(partitions, fixed),
    };
    let time = |f: &dyn Fn(&(i64, i64, Event)) -> i64| -> ArrayRef {
        Arc::new(
            rows.iter()
                .map(|r| Some(f(r) * SECOND))
                .collect::<TimestampMicrosecondArray>(),
        )
    };
    RecordBatch::try_from_iter(vec![
        ("s", time(&|r| r.0)),
        ("e", time(&|r| r.1)),
        ("ts", time(&|r| r.2.0)),
        (
            "k",
            Arc::new(
                rows.iter()
                    .map(|r| r.2.1.map(|k| format!("k{k}")))
                    .collect::<StringArray>(),
            ) as ArrayRef,
        ),
        (
            "v",
            Arc::new(rows.iter().map(|r| r.2.2).collect::<Int64Array>()) as ArrayRef,
        ),
    ])
    .unwrap()
}

fn batch_rows(case: &Case, streams: &Streams) -> Vec<Row> {
    let context = SessionContext::new();
    for (name, partitions) in ["w", "x"].into_iter().zip(streams) {
        context
            .register_batch(name, batch(case, partitions))
            .unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let batches = runtime.block_on(async {
        context
            .sql(case.batch)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap()
    });
    batches.iter().flat_map(rows_of).collect()
}

fn stream_rows(case: &Case, streams: &Streams, way: Matrix) -> Vec<Row> {
    let table = |name: &str| {
        format!(
        "CREATE TABLE {name} (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '{DELAY_S}' SECOND)
         WITH ('connector' = 'kafka', 'topic' = '{name}', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json');\n"
    )
    };
    let script = format!("{}{}{};", table("t"), table("u"), case.stream);
    let settings = Settings {
        trigger: Some(Trigger::WindowClose),
        ..Settings::default()
    };
    let mut sim = Sim::new(&script, way, &settings, PARTITIONS).unwrap();
    for (name, partitions) in ["t", "u"].into_iter().zip(streams) {
        for (p, events) in partitions.iter().enumerate() {
            let records = events.iter().map(|(ts, k, v)| {
                let record = serde_json::json!({"ts": windrow::time::format_us(ts * SECOND), "k": k.map(|k| format!("k{k}")), "v": v});
                (Some(record.to_string().into_bytes()), -1)
            });
            sim.feed(name, p as i32, records);
        }
    }
    sim.end(&["t", "u"], PARTITIONS);
    sim.settle().unwrap();
    sim.emitted("query 1")
}

fn sorted(mut rows: Vec<Row>) -> Vec<String> {
    rows.sort_by_key(|r| format!("{r:?}"));
    rows.iter()
        .map(|r| serde_json::to_string(r).unwrap())
        .collect()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Time drifts forward with disorder, as in a real log; some rows are far too late.
    let step = (
        -9i64..12,
        prop::option::weighted(0.9, 0u8..4),
        prop::option::weighted(0.8, -5i64..6),
    );
    prop::collection::vec(step, 0..40).prop_map(|steps| {
        let mut now = -20;
        steps
            .into_iter()
            .map(|(step, k, v)| {
                now += step.max(0) / 2;
                (now + step.min(0), k, v)
            })
            .collect()
    })
}

/// With more open sessions than are looked through at every move of the watermark, and keys in
/// several partitions.
#[test]
fn thousands_of_open_sessions_equal_batch() {
    const GAP: i64 = 8;
    let case = Case {
        windows: Windows::Sessions {
            gap: GAP,
            by_key: true,
        },
        stream: "SELECT window_start, window_end, v, count(*) c FROM SESSION(TABLE t PARTITION BY v, DESCRIPTOR(ts), INTERVAL '8' SECOND) GROUP BY window_start, window_end, v",
        batch: "",
    };
    let mut dice = Dice(1);
    let mut partition = || {
        let event = |i: i64| {
            let ts = i / 400 - dice.below(12) as i64;
            (ts, None, Some(dice.below(12_000) as i64))
        };
        (0..20_000).map(event).collect()
    };
    let partitions: Vec<Vec<Event>> = (0..PARTITIONS).map(|_| partition()).collect();
    let mut by_key: BTreeMap<i64, Vec<(i64, Event)>> = BTreeMap::new();
    for row in in_time(&partitions, GAP) {
        by_key.entry(row.1.2.unwrap()).or_default().push(row);
    }
    let mut expected: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
    for (v, rows) in by_key {
        for (start, end, _) in sessions(rows, GAP, false) {
            *expected.entry((start, end, v)).or_default() += 1;
        }
    }
    let time = |s: i64| windrow::time::format_us(s * SECOND);
    let expected = expected.into_iter();
    let expected = expected
        .map(|((s, e, v), c)| format!("{:?}", [time(s), time(e), v.to_string(), c.to_string()]));
    let mut expected: Vec<String> = expected.collect();
    expected.sort();
    for (batch_rows, workers) in [(1000, 1), (8192, 3)] {
        let way = Matrix {
            batch_rows,
            workers,
            seed: 7,
            restarts: false,
        };
        let streams = [partitions.clone(), Vec::new()];
        let rows = stream_rows(&case, &streams, way).into_iter();
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
        let rows = rows.map(|r| format!("{:?}", r.iter().map(text).collect::<Vec<_>>()));
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        assert!(
            rows == expected,
            "{} rows, not {}",
            rows.len(),
            expected.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn streaming_equals_batch(
        first in prop::collection::vec(events(), PARTITIONS as usize),
        second in prop::collection::vec(events(), PARTITIONS as usize),
        batch_rows_max in prop::sample::select(vec![1usize, 2, 3, 7, 8192]),
        workers in 1usize..=4,
        seed in any::<u64>(),
    ) {
        let streams = [first, second];
        for case in CASES {
            let way = Matrix { batch_rows: batch_rows_max, workers, seed, restarts: false };
            let got = sorted(stream_rows(case, &streams, way));
            let expected = sorted(batch_rows(case, &streams));
            prop_assert_eq!(got, expected, "{}", case.stream);
        }
    }
}
