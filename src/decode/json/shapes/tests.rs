use super::super::compare::TEXT_BYTES;
use super::super::masks::Isa;
use super::super::walk::GROUP;
use super::outline::RECORD_BYTES_MAX;
use super::*;

const COLUMNS: usize = 3;
const UNWANTED: Target = Target {
    values: (COLUMNS * GROUP) as u32,
    bit: 0,
};

fn columns() -> Columns {
    Columns::new(&["a", "b", "c"])
}

/// Shapes, and where they note the values of one row.
struct Test {
    shapes: Shapes,
    spans: Vec<Span>,
    written: Vec<Written>,
    odd: u64,
}

impl Test {
    fn new() -> Self {
        Self {
            shapes: Shapes::new(),
            spans: vec![Span::ABSENT; GROUP * (COLUMNS + 1 + NUMBERS_MAX)],
            written: vec![Written::Plain; GROUP * COLUMNS],
            odd: 0,
        }
    }

    /// What becomes of a record that stands among others, by each kind of vector. It is learned.
    fn run(&mut self, record: &str) -> Run {
        self.run_bytes(record.as_bytes())
    }

    fn run_bytes(&mut self, record: &[u8]) -> Run {
        let span = Span {
            start: 7,
            end: 7 + record.len() as u32,
        };
        let data = [b"\"before", record, &[b'"'; TEXT_BYTES]].concat();
        let mut runs = Vec::new();
        for isa in Isa::all() {
            self.written.fill(Written::Plain);
            self.odd = 0;
            let mut masks = Masks::new(isa);
            masks.cover(&data, 7, span.end as usize, data.len());
            let mut group = Group {
                spans: &mut self.spans,
                written: &mut self.written,
                odd: &mut self.odd,
                row: 0,
            };
            runs.push((self.shapes).run(&data, &[span], &masks, &mut group));
            assert_eq!(
                runs[0],
                runs[runs.len() - 1],
                "{isa:?} {}",
                record.escape_ascii()
            );
            assert_eq!(group.row, usize::from(runs[0] == Run::Over));
        }
        if runs[0] == Run::New {
            self.shapes.learn(record, &columns(), UNWANTED);
        }
        runs[0]
    }

    /// How the last record has a column's value, and its text.
    fn value<'a>(&self, record: &'a str, column: usize) -> (Written, &'a str) {
        let Span { start, end } = self.spans[column * GROUP];
        let text = record.get((start as usize).wrapping_sub(7)..(end as usize).wrapping_sub(7));
        (self.written[column * GROUP], text.unwrap_or_default())
    }
}

#[test]
fn values_are_where_the_record_has_them() {
    let long = "x".repeat(1200);
    let records = [
        ("1", "", "0"),
        (&long, "é", "-1.5e3"),
        ("", &long, "12345678901234567890"),
    ];
    let mut test = Test::new();
    for (i, (a, b, n)) in records.into_iter().enumerate() {
        let record = format!(
            "{{\"a\":\"{a}\",\"x\":[{n},\"y\"], \"a key that is longer than what is compared at once\":0,\
             \"b\":\"{b}\",\n\"y\":[{{\"a\":{n}}}],\"c\":{n}}}\n"
        );
        assert_eq!(test.run(&record), if i == 0 { Run::New } else { Run::Over });
        if i > 0 {
            assert_eq!(test.value(&record, 0), (Written::Plain, a));
            assert_eq!(test.value(&record, 1), (Written::Plain, b));
            let written = if i == 1 {
                Written::Fraction
            } else {
                Written::Whole
            };
            assert_eq!(test.value(&record, 2), (written, n));
            assert_eq!(test.odd, 0b100);
        }
    }
    assert_eq!(test.shapes.tree.shapes(), 1);
}

#[test]
fn words_and_missing_values_belong_to_the_shape() {
    let mut test = Test::new();
    for (record, b) in [
        (r#"{"x":1.5,"b":true,"a":"é"}"#, (Written::True, "true")),
        (r#"{"x":1.5,"b":false,"a":"é"}"#, (Written::False, "false")),
        (r#"{"x":1.5,"b":null,"a":"é"}"#, (Written::Null, "null")),
        (r#"{"x":1.5,"b":2,"a":"é"}"#, (Written::Whole, "2")),
    ] {
        assert_eq!(test.run(record), Run::New, "{record}");
        test.spans[GROUP] = Span::ABSENT;
        assert_eq!(test.run(record), Run::Over, "{record}");
        assert_eq!(test.value(record, 0), (Written::Plain, "é"));
        let (written, text) = test.value(record, 1);
        // What stands in the place of a null nobody reads.
        assert_eq!(
            (
                written,
                if written == Written::Null {
                    "null"
                } else {
                    text
                }
            ),
            b
        );
        assert_eq!(test.value(record, 2).0, Written::Missing);
        assert_eq!(test.odd, 0b110);
    }
    let mut broken = r#"{"x":1.5,"b":2,"a":"é"}"#.to_string().into_bytes();
    let half = broken.len() - 3;
    broken[half] = b'e';
    assert_eq!(test.run_bytes(&broken), Run::New);
}

#[test]
fn shapes_that_take_turns_are_all_known() {
    let records = [
        r#"{"a":"x","b":"y"}"#,
        r#"{"b":"x","a":"y"}"#,
        r#"{"a":null,"b":"y"}"#,
        r#"{"a":true,"b":"y"}"#,
        r#"{"a":7,"b":"y"}"#,
        r#"{"a":"x"}      "#,
        "{}",
        r#"{"x":1}"#,
    ];
    let mut test = Test::new();
    for record in records {
        assert_eq!(test.run(record), Run::New, "{record}");
    }
    for record in records.iter().cycle().take(3 * records.len()) {
        assert_eq!(test.run(record), Run::Over, "{record}");
    }
}

/// What has the texts of a shape but is no such record.
#[test]
fn what_only_looks_like_a_shape_is_not_of_it() {
    for record in [
        r#"{"a":"x","b":,"c":2}"#,
        r#"{"a":"x","b":01,"c":2}"#,
        r#"{"a":"x","b":1 ,"c":2}"#,
        r#"{"a":"x","b":1,"c":}"#,
        r#"{"a":"x","b":1,"c":2"#,
        r#"{"a":"x","b":1,"c":2}}"#,
        r#"{"a":"\"","b":"y"}"#,
        "{\"a\":\"\n\",\"b\":\"y\"}",
        r#"{"a":"x","b":"y}"#,
        r#"{"a":"x","b":"y"} "#,
    ] {
        let mut test = Test::new();
        for known in [r#"{"a":"x","b":1,"c":2}"#, r#"{"a":"x","b":"y"}"#] {
            assert_eq!(test.run(known), Run::New);
            assert_eq!(test.run(known), Run::Over);
        }
        assert_eq!(test.run(record), Run::New, "{record}");
    }
}

/// Records of several shapes side by side, some of which are met for the first time or have none: each has its
/// own values, whatever is noted before its turn.
#[test]
fn records_side_by_side_have_their_own_values() {
    let record = |i: usize| match (i % 7, i % 30) {
        (_, 29) => format!(r#"{{"a":"\u00e9{i}","b":{i}}}"#),
        (0 | 1, _) => format!(r#"{{"a":"a{i}","b":{i},"c":"c{i}"}}"#),
        (2, _) => format!(r#"{{"a":null,"b":{i}.5,"c":"ü{i}"}}"#),
        (3, _) => format!(r#"{{"c":"c{i}","a":"a{i}"}}"#),
        (4, _) => format!(r#"{{"a":"a{i}","b":true,"c":"c{i}"}}"#),
        (5, _) => format!(
            r#"{{"a":"a{i}","b":{i},"x":[{i},"y"],"c":"{}"}}"#,
            "c".repeat(i)
        ),
        _ => format!(r#"{{"x":{i},"a":"a{i}","b":-{i}}}"#),
    };
    let (mut data, mut spans) = (Vec::new(), Vec::new());
    for i in 0..GROUP {
        let start = data.len() as u32;
        data.extend_from_slice(record(i).as_bytes());
        let end = data.len() as u32;
        spans.push(Span { start, end });
    }
    data.extend_from_slice(&[b'"'; TEXT_BYTES]);
    for isa in Isa::all() {
        let (mut test, mut masks) = (Test::new(), Masks::new(isa));
        masks.cover(&data, 0, data.len(), data.len());
        let mut group = Group {
            spans: &mut test.spans,
            written: &mut test.written,
            odd: &mut test.odd,
            row: 0,
        };
        let mut new = Vec::new();
        loop {
            let left = &spans[group.row..];
            if test.shapes.run(&data, left, &masks, &mut group) == Run::Over {
                break;
            }
            let Span { start, end } = spans[group.row];
            let record = &data[start as usize..end as usize];
            test.shapes.learn(record, &columns(), UNWANTED);
            new.push(group.row);
            group.row += 1;
        }
        assert_eq!(group.row, GROUP);
        let of = |i: &usize| i % 30 != 29;
        assert_eq!(
            new.iter().copied().filter(of).collect::<Vec<_>>(),
            [0, 2, 3, 4, 5, 6]
        );
        assert_eq!(new.len(), 6 + GROUP / 30);
        for row in (0..GROUP).filter(|row| !new.contains(row)) {
            let json: serde_json::Value = serde_json::from_str(&record(row)).unwrap();
            for (column, key) in ["a", "b", "c"].into_iter().enumerate() {
                let place = column * GROUP + row;
                let Span { start, end } = test.spans[place];
                let text = || std::str::from_utf8(&data[start as usize..end as usize]).unwrap();
                match (test.written[place], json.get(key)) {
                    (Written::Plain, value) => assert_eq!(value.unwrap(), text(), "{isa:?}"),
                    (Written::Missing, value) => assert_eq!(value, None, "{isa:?}"),
                    (Written::Null, value) => assert!(value.unwrap().is_null(), "{isa:?}"),
                    (_, value) => assert_eq!(value.unwrap().to_string(), text(), "{isa:?}"),
                }
            }
        }
    }
}

#[test]
fn what_has_no_shape_is_not_learned() {
    let columns = columns();
    let many = format!("{{{}}}", [r#""x":1"#; NUMBERS_MAX + 1].join(","));
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(RECORD_BYTES_MAX));
    for record in [
        r#"{"a":"x","a":"y"}"#,
        r#"{"a":"\n"}"#,
        r#"{"a":["x"]}"#,
        r#"{"a":{"x":1}}"#,
        r#"{"x":[1,2]}"#,
        &many,
        &long,
    ] {
        let outline = outline(record.as_bytes(), &columns, UNWANTED);
        assert_eq!(outline, None, "{record}");
    }
    let most = format!("{{{}}}", [r#""x":1"#; NUMBERS_MAX].join(","));
    let mut test = Test::new();
    assert_eq!(test.run(&most), Run::New);
    assert_eq!(test.run(&most), Run::Over);
}

#[test]
fn a_stream_without_likeness_is_left_alone_and_tried_again() {
    let (mut shapes, mut other) = (Shapes::new(), Shapes::new());
    let (mut looks, all) = (0, 1_000_000);
    for _ in 0..all {
        if shapes.wants() {
            looks += 1;
            shapes.miss();
        }
    }
    assert!((16..all / 100).contains(&looks), "{looks}");
    // A stream of which one record in twenty is unlike is looked at all the time.
    for i in 0..all {
        assert!(other.wants());
        match i % 20 {
            0 => other.miss(),
            _ => other.hits += 1,
        }
    }
}
