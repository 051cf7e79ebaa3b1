use super::*;

fn rewritten(sql: &str) -> String {
    let tokens = super::super::tokens::statements(sql, &|_| None)
        .unwrap()
        .remove(0);
    rewrite(&tokens).unwrap().0.text()
}

#[test]
fn all_spellings_of_a_tumbling_window_are_one() {
    let spellings = [
        "SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start",
        "SELECT window_start, count(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start",
        "SELECT window_start, count(*) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start",
        "SELECT window_start, count(*) FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND)) GROUP BY window_start",
    ];
    let first = rewritten(spellings[0]);
    assert!(first.contains("FROM ( SELECT * , __window_tumble_start ( ts , INTERVAL '10' SECOND ) AS \"window_start\""), "{first}");
    for s in &spellings[1..] {
        assert_eq!(rewritten(s), first);
    }
}

#[test]
fn group_functions() {
    assert_eq!(
        rewritten(
            "SELECT TUMBLE_START(ts, INTERVAL 10 SECONDS) w, page FROM t GROUP BY TUMBLE(ts, INTERVAL 10 SECONDS), page"
        ),
        "SELECT __window_tumble_start ( ts , INTERVAL '10' SECONDS ) w , page FROM t GROUP BY __window_tumble_start ( ts , INTERVAL '10' SECONDS ) , __window_tumble_end ( ts , INTERVAL '10' SECONDS ) , __window_tumble_time ( ts , INTERVAL '10' SECONDS ) , page"
    );
}

#[test]
fn spark_window() {
    let text = rewritten(
        "SELECT window.start, page, count(*) FROM t GROUP BY window(ts, '10 seconds'), page ORDER BY window.end",
    );
    assert!(
        text.starts_with("SELECT __window_tumble_start ( ts , '10 seconds' ) AS \"start\" , page"),
        "{text}"
    );
    assert!(
        text.ends_with("ORDER BY __window_tumble_end ( ts , '10 seconds' )"),
        "{text}"
    );
    let text =
        rewritten("SELECT window, count(*) FROM t GROUP BY window(ts, '1 minute', '10 seconds')");
    assert!(text.contains("AS \"window\" , count"), "{text}");
    assert!(text.contains("__window_spark_hop_start"), "{text}");
}

#[test]
fn spark_watermark_is_taken_out() {
    let tokens = super::super::tokens::statements(
        "SELECT count(*) FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY window(ts, '10 seconds')",
        &|_| None,
    )
    .unwrap()
    .remove(0);
    let (out, watermarks) = rewrite(&tokens).unwrap();
    assert!(!out.text().contains("WATERMARK"));
    assert_eq!(
        (watermarks[0].table.as_str(), watermarks[0].column.as_str()),
        ("t", "ts")
    );
    assert_eq!(watermarks[0].interval.len(), 3);
}

#[test]
fn keywords_as_columns() {
    let text = rewritten(
        "SELECT user, t.end, CASE WHEN a THEN 1 END, timestamp FROM t WHERE timestamp > TIMESTAMP '2022-01-01 00:00:00'",
    );
    assert_eq!(
        text,
        "SELECT \"user\" , t . \"end\" , CASE WHEN a THEN 1 END , \"timestamp\" FROM t WHERE \"timestamp\" > TIMESTAMP '2022-01-01 00:00:00'"
    );
}

#[test]
fn all_spellings_of_a_cumulating_window_are_one() {
    let spellings = [
        "SELECT window_end, count(*) FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY)) GROUP BY window_start, window_end",
        "SELECT window_end, count(*) FROM CUMULATE(t, ts, INTERVAL '1' HOUR, INTERVAL '1' DAY) GROUP BY window_start, window_end",
        "SELECT window_end, count(*) FROM TABLE(CUMULATE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '1' HOUR, SIZE => INTERVAL '1' DAY)) GROUP BY window_start, window_end",
    ];
    let first = rewritten(spellings[0]);
    assert!(
        first.contains(
            "__window_cumulate_end ( ts , INTERVAL '1' HOUR , INTERVAL '1' DAY ) AS \"window_end\""
        ),
        "{first}"
    );
    for s in &spellings[1..] {
        assert_eq!(rewritten(s), first);
    }
}
