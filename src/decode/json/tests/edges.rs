//! The borders of the fast path, one by one: where groups, payloads, tables and vectors end.

#![expect(
    clippy::single_range_in_vec_init,
    reason = "one batch is a list of one range"
)]

use super::fast::{agree, agree_on};
use super::*;
use crate::source::Span;
use arrow::buffer::Buffer;

fn clicks() -> Vec<Field> {
    vec![
        nullable(
            "event_time",
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
        nullable("user", DataType::Utf8View),
        nullable("n", DataType::Int64),
    ]
}

const CLICK: &str = r#"{"event_time":"2022-01-01T12:22:25","user":"user_1","n":17,"page":"/a"}"#;

fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// Each byte replaced, one put in before it, and it left out, while every guess is right.
#[test]
fn every_change_of_one_byte() {
    let records = [
        CLICK,
        r#"{ "user": "\u00fc\n", "x": [1.5e3, {"y": null}], "event_time": null }"#,
        r#"{"user":"ü","n":-0,"user2":{"a":[]}}"#,
    ];
    for record in records {
        let mut changed = vec![record.as_bytes().to_vec()];
        for at in 0..record.len() {
            for byte in b"\"\\,:{}[] \n0-.eEu+tn/x\x00\x1f\x7f\xc3\xbc" {
                let mut text = record.as_bytes().to_vec();
                text.insert(at, *byte);
                changed.push(text.clone());
                text.remove(at + 1);
                changed.push(text);
            }
            let mut text = record.as_bytes().to_vec();
            text.remove(at);
            changed.push(text);
        }
        let between: Vec<_> = changed
            .iter()
            .flat_map(|text| [record.as_bytes(), text])
            .collect();
        let good = agree_on(clicks(), &between);
        assert!(good > changed.len(), "{good} of {}", between.len());
    }
}

/// What stands behind a record's end is none of its business, though it be what is guessed.
#[test]
fn a_record_ends_where_its_span_ends() {
    let record = r#"{"event_time":"2022-01-01T12:22:25","user":"ü","n":17,"x":[true,"a"]}"#;
    let schema = Arc::new(Schema::new(clicks()));
    for behind in [
        "",
        "}",
        "}}",
        " ",
        record,
        "\"",
        ",\"n\":18}",
        "   ".repeat(40).as_str(),
    ] {
        let data = format!("{record}{record}{behind}");
        let mut spans = vec![span(0, record.len())];
        for at in 0..=record.len() {
            spans.push(span(record.len(), record.len() + at));
            spans.push(span(record.len() + at, 2 * record.len()));
            spans.push(span(0, record.len()));
            // From one record into the next.
            spans.push(span(at, record.len() + at));
        }
        let (count, data) = (spans.len(), Buffer::from_vec(data.into_bytes()));
        let blobs = Blobs { data, spans };
        let good = agree(&schema, false, &blobs, &[0..count, 0..count]);
        assert!(good >= 2 * (record.len() + 4), "{good}");
    }
}

/// A payload that ends with a record has nothing behind it to compare in one go.
#[test]
fn records_at_the_end_of_the_payload() {
    for length in 0..80 {
        let record = format!(
            r#"{{"event_time":null,"user":"{}","n":1}}"#,
            "x".repeat(length)
        );
        assert_eq!(agree_on(clicks(), &[&record]), 1);
        assert_eq!(agree_on(clicks(), &[CLICK, &record, "{}"]), 3);
        let data = Buffer::from_vec(format!("{CLICK}{record}").into_bytes());
        let end = data.len();
        let spans = vec![span(0, CLICK.len()), span(CLICK.len(), end), span(end, end)];
        let schema = Arc::new(Schema::new(clicks()));
        assert_eq!(
            agree(&schema, false, &Blobs { data, spans }, &[0..3, 1..2]),
            3
        );
    }
}

#[test]
fn payloads_without_a_byte() {
    for spans in [vec![], vec![Span::ABSENT], vec![span(0, 0), Span::ABSENT]] {
        let (count, data) = (spans.len(), Buffer::from_vec(Vec::<u8>::new()));
        let schema = Arc::new(Schema::new(clicks()));
        assert_eq!(
            agree(&schema, false, &Blobs { data, spans }, &[0..count]),
            0
        );
    }
}

#[test]
fn bad_records_at_the_borders_of_groups() {
    let odd = [
        r#"{"user":"x","user":"y"}"#,
        r#"{"user":"x","n":"no number"}"#,
        r#"{"user":"x""#,
        r#"{"event_time":"yesterday"}"#,
        "",
    ];
    for count in [1, 2, 255, 256, 257, 511, 512, 513] {
        for odd in odd {
            let borders = [0, 1, 127, 254, 255, 256, 257, 511, 512];
            for at in borders.into_iter().filter(|at| *at < count) {
                let mut records = vec![CLICK; count];
                records[at] = odd;
                assert!(agree_on(clicks(), &records) >= count - 1);
                records[count - 1] = odd;
                agree_on(clicks(), &records);
            }
        }
    }
}

#[test]
fn more_texts_between_values_than_are_remembered() {
    let records = |width: usize| {
        move |i: usize| {
            let keys = (0..width).map(|k| format!(r#""key {}":"{k}","#, (i * width + k) % 700));
            format!(
                r#"{{{}"user":"user_{i}","n":{i}}}"#,
                keys.collect::<String>()
            )
        }
    };
    for width in [1, 5, 300] {
        let records: Vec<_> = (0..800).map(records(width)).collect();
        let twice = [records.clone(), records].concat();
        assert_eq!(agree_on(clicks(), &twice), 1600);
    }
}

#[test]
fn keys_of_all_lengths() {
    let key = |length: usize| "0123456789".repeat(11)[..length].to_string();
    for length in 0..110 {
        let fields = vec![
            nullable(&key(length), DataType::Utf8View),
            nullable("b", DataType::Utf8View),
        ];
        let record = |length| {
            format!(
                r#"{{"{0}":"{length}","x{0}":"y","b":"{length}"}}"#,
                key(length)
            )
        };
        let lengths = [
            length,
            length,
            length + 1,
            length,
            length.saturating_sub(1),
            length,
        ];
        let records: Vec<_> = lengths
            .into_iter()
            .filter(|l| *l < 110)
            .map(record)
            .collect();
        assert_eq!(agree_on(fields, &records), records.len());
    }
}

#[test]
fn as_many_columns_as_there_are_bits_and_more() {
    for width in [0, 1, 63, 64, 65, 130] {
        let fields: Vec<_> = (0..width)
            .map(|i| nullable(&format!("c{i}"), DataType::Utf8View))
            .collect();
        let record = |i: usize| {
            let members = (0..width + 1)
                .filter(|k| !i.is_multiple_of(5) || *k != i)
                .map(|k| format!(r#""c{}":"{i}""#, (k + i / 3) % (width + 1)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        let records: Vec<_> = (0..300).map(record).collect();
        assert_eq!(agree_on(fields, &records), 300);
    }
}

#[test]
fn records_that_are_longer_than_what_is_looked_at_ahead() {
    for length in [16 << 10, (16 << 10) - 40, 100_000, 2 << 20, (2 << 20) + 7] {
        let text = "0123456789".repeat(length / 10 + 1);
        let text = &text[..length];
        let records = [
            CLICK.to_string(),
            format!(r#"{{"user":"{text}","n":1}}"#),
            format!(r#"{{"user":"ü{text}\n","n":2}}"#),
            format!(r#"{{"x":"{text}","user":"{text}","n":3}}"#),
            format!(r#"{{"{text}":1,"user":"a"}}"#),
            format!(r#"{{"user":[{}1]}}"#, "1,".repeat(length / 2)),
            format!("{}{CLICK}{}", " ".repeat(length), " ".repeat(length)),
            format!(r#"{{"user":"{text}"#),
            format!(r#"{{"user":"{text}\"#),
            CLICK.to_string(),
        ];
        assert_eq!(agree_on(clicks(), &records), 8);
    }
}

#[test]
fn levels_of_nesting_up_to_the_bound_and_over_it() {
    let mut records = Vec::new();
    for depth in 120..=132 {
        for key in ["user", "x", "list", "map"] {
            let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
            let both = format!(
                "{}{{}}{}",
                r#"[{"a":"#.repeat(depth / 2),
                "}]".repeat(depth / 2)
            );
            for value in [arrays, objects, both] {
                records.push(format!(r#"{{"n":{depth},"{key}":{value}}}"#));
                records.push(format!(r#"{{"{key}":{value},"n":{depth}}}"#));
            }
        }
    }
    let mut fields = clicks();
    fields.push(nullable("list", list(DataType::Utf8View)));
    fields.push(nullable("map", map(DataType::Utf8View)));
    let good = agree_on(fields, &records);
    assert!(good > records.len() / 3 && good < records.len(), "{good}");
}

#[test]
fn numbers_of_up_to_four_hundred_digits() {
    let mut records = Vec::new();
    for digits in [
        1, 17, 18, 19, 20, 37, 38, 39, 299, 300, 301, 308, 309, 310, 400,
    ] {
        for first in ["1", "9", "-1", "-9", "0.0", "-0.", "1.", "0"] {
            for exponent in ["", "e0", "e-300", "E+9", "e-400", "e308"] {
                for key in ["n", "user", "double", "x"] {
                    let zeros = "0".repeat(digits - 1);
                    let nines = "9".repeat(digits - 1);
                    records.push(format!(r#"{{"{key}":{first}{zeros}{exponent}}}"#));
                    records.push(format!(r#"{{"{key}":{first}{nines}{exponent}}}"#));
                }
            }
        }
    }
    let mut fields = clicks();
    fields.push(nullable("double", DataType::Float64));
    let good = agree_on(fields, &records);
    assert!(good > records.len() / 3 && good < records.len(), "{good}");
}
