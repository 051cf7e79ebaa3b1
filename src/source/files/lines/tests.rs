use super::*;
use std::sync::Arc;

fn assignment(start: i64, end: Option<i64>) -> Assignment {
    Assignment {
        id: 3,
        topic: Arc::from("in.csv"),
        topic_id: None,
        partition: 0,
        start,
        end,
        max_us: crate::watermark::NONE,
    }
}

const CSV: Syntax = Syntax {
    quoting: Some((b',', b'"')),
    header: false,
};

/// All records with their line numbers, read in pieces of `bytes`.
fn records(
    text: &str,
    syntax: Syntax,
    bytes: usize,
    start: i64,
    end: Option<i64>,
) -> Vec<(i64, String)> {
    let mut reader = LineReader::new(text.as_bytes(), syntax, assignment(start, end));
    let mut all = Vec::new();
    let mut next = start;
    while let Some(chunk) = reader.chunk(Limits { bytes, records: 3 }).unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= 3);
        assert_eq!(chunk.payload.len(), chunk.len());
        assert_eq!(chunk.timestamps_ms, vec![-1; chunk.len()]);
        assert!(chunk.offsets[0] >= next && chunk.next_offset > *chunk.offsets.last().unwrap());
        next = chunk.next_offset;
        for (i, offset) in chunk.offsets.iter().enumerate() {
            all.push((
                *offset,
                String::from_utf8(chunk.payload.get(i).unwrap().to_vec()).unwrap(),
            ));
        }
    }
    all
}

/// Whatever the size of the pieces, the records are the same.
fn all_sizes(text: &str, syntax: Syntax, expected: &[(i64, &str)]) {
    for bytes in (1..=text.len() + 1).chain([1 << 20]) {
        let found = records(text, syntax, bytes, 0, None);
        let found: Vec<(i64, &str)> = found.iter().map(|(n, r)| (*n, r.as_str())).collect();
        assert_eq!(found, expected, "in pieces of {bytes}");
    }
}

#[test]
fn lines_over_the_borders_of_pieces() {
    all_sizes(
        "one\ntwo\nthree\n",
        Syntax::LINES,
        &[(0, "one"), (1, "two"), (2, "three")],
    );
    all_sizes("one\ntwo", Syntax::LINES, &[(0, "one"), (1, "two")]);
    all_sizes("", Syntax::LINES, &[]);
    all_sizes("\n\n", Syntax::LINES, &[]);
    all_sizes(
        "one\r\n\r\n\ntwo\r\nthree\r",
        Syntax::LINES,
        &[(0, "one"), (3, "two"), (4, "three")],
    );
    all_sizes(
        "\u{feff}one\n\u{feff}two\n",
        Syntax::LINES,
        &[(0, "one"), (1, "\u{feff}two")],
    );
    // Quotes mean nothing outside CSV.
    all_sizes("{\"a\n\"}\n", Syntax::LINES, &[(0, "{\"a"), (1, "\"}")]);
}

#[test]
fn quoted_line_breaks_belong_to_the_record() {
    all_sizes(
        "a,\"x\ny\"\n\"1\"\"\n\"\"2\",b\r\nc\n",
        CSV,
        &[(0, "a,\"x\ny\""), (2, "\"1\"\"\n\"\"2\",b"), (4, "c")],
    );
    // A quote within a field opens nothing.
    all_sizes(
        "5\" disk,b\nc,\"d\"\n",
        CSV,
        &[(0, "5\" disk,b"), (1, "c,\"d\"")],
    );
    all_sizes("\"\",\"\"\n\n,\"\"", CSV, &[(0, "\"\",\"\""), (2, ",\"\"")]);
    // A quote that is never closed takes the rest of the file.
    all_sizes("a\n\"b\nc\n", CSV, &[(0, "a"), (1, "\"b\nc\n")]);
}

#[test]
fn the_header_is_no_record() {
    let syntax = Syntax {
        header: true,
        ..CSV
    };
    all_sizes("\u{feff}a,b\n1,2\n", syntax, &[(1, "1,2")]);
    all_sizes("\"a\nb\",c\n1,2\n", syntax, &[(2, "1,2")]);
    all_sizes("a,b", syntax, &[]);
}

#[test]
fn reading_begins_and_ends_at_offsets() {
    let text = "0\n1\n\n3\n4\n5\n";
    let numbers = |start, end| -> Vec<i64> {
        records(text, Syntax::LINES, 2, start, end)
            .into_iter()
            .map(|(n, _)| n)
            .collect()
    };
    assert_eq!(numbers(1, None), [1, 3, 4, 5]);
    assert_eq!(numbers(2, Some(5)), [3, 4]);
    assert_eq!(numbers(9, None), Vec::<i64>::new());
    assert_eq!(numbers(0, Some(0)), Vec::<i64>::new());
    // The header stays the header wherever reading begins.
    let syntax = Syntax {
        header: true,
        ..CSV
    };
    assert_eq!(
        records("h\n1\n2\n", syntax, 100, 2, None),
        [(2, "2".to_string())]
    );
}

#[test]
fn a_record_without_end_is_refused() {
    let endless = std::io::repeat(b'x');
    let mut reader = LineReader::new(endless, Syntax::LINES, assignment(0, None));
    let error = reader.chunk(Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "in.csv:1: the record is longer than 64 MB"
    );
}
