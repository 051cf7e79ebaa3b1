//! Sessions against their definition: rows in the order of the watermarks before them.

use super::*;
use proptest::prelude::*;

fn ahead(key: usize, first: i64, last: i64) -> (usize, i64, i64, i64) {
    (key, AHEAD, first, last)
}

/// First and last rows of the sessions of each fragment.
fn stitched(fragments: &[(usize, i64, i64, i64)], gap: i64) -> Vec<(i64, i64)> {
    let fragments = fragments.iter().enumerate();
    let fragments = fragments.map(|(row, (key, from_end, first, last))| Fragment {
        key: *key,
        from_end: *from_end,
        span: Span {
            first: *first,
            last: *last,
        },
        row,
    });
    let (sessions, spans) = stitch(fragments.collect(), gap);
    let span = |s: &usize| (spans[*s].first, spans[*s].last);
    sessions.iter().map(span).collect()
}

#[test]
fn a_row_exactly_a_gap_behind_the_last_is_of_its_session() {
    // As in Flink's documentation and in Spark; one more microsecond, and it is not.
    assert_eq!(
        stitched(&[ahead(0, 0, 0), ahead(0, 10, 10)], 10),
        [(0, 10); 2]
    );
    let apart = stitched(&[ahead(0, 0, 0), ahead(0, 11, 11), ahead(1, 5, 5)], 10);
    assert_eq!(apart, [(0, 0), (11, 11), (5, 5)]);
}

#[test]
fn a_row_behind_the_watermark_leaves_what_that_has_ended() {
    // The session 0..5 ends at 15: a row at 12 joins it while the watermark is 14, not at 15.
    let open = stitched(&[ahead(0, 0, 5), (0, 14, 12, 12)], 10);
    assert_eq!(open, [(0, 12); 2]);
    let over = stitched(&[ahead(0, 0, 5), (0, 15, 12, 12)], 10);
    assert_eq!(over, [(0, 5), (12, 12)]);
    // It joins two that were apart.
    let joined = stitched(&[ahead(0, 0, 5), ahead(0, 20, 20), (0, 14, 12, 12)], 10);
    assert_eq!(joined, [(0, 20); 3]);
}

/// Straight from the definition, rows one by one, ahead or not.
fn model(rows: &[(i64, i64)], gap: i64) -> Vec<(i64, i64)> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| rows[*i].1);
    let (mut open, mut over) = (Vec::<Vec<usize>>::new(), Vec::new());
    let first = |s: &Vec<usize>| s.iter().map(|i| rows[*i].0).min().unwrap();
    let last = |s: &Vec<usize>| s.iter().map(|i| rows[*i].0).max().unwrap();
    for i in order {
        let (ts, watermark) = rows[i];
        over.extend(open.extract_if(.., |s| last(s) + gap <= watermark));
        let mut joined: Vec<usize> = (open)
            .extract_if(.., |s| first(s) - gap <= ts && ts <= last(s) + gap)
            .flatten()
            .collect();
        joined.push(i);
        open.push(joined);
    }
    over.append(&mut open);
    let mut spans = vec![(0, 0); rows.len()];
    for session in &over {
        for i in session {
            spans[*i] = (first(session), last(session));
        }
    }
    spans
}

proptest! {
    /// Rows ahead of their watermarks, of which the merge does not know them, and others.
    #[test]
    fn sessions_equal_their_definition(
        rows in prop::collection::vec((0i64..60, -9i64..12), 0..30),
        gap in 1i64..10,
    ) {
        let rows: Vec<(i64, i64)> = (rows.into_iter())
            .map(|(ts, behind)| (ts, ts + behind))
            .filter(|(ts, watermark)| ts + gap > *watermark)
            .collect();
        let fragments: Vec<_> = (rows.iter())
            .map(|(ts, watermark)| (0, if ts > watermark { AHEAD } else { *watermark }, *ts, *ts))
            .collect();
        prop_assert_eq!(stitched(&fragments, gap), model(&rows, gap));
    }
}
