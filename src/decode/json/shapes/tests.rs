use super::super::masks::Isa;
use super::super::walk::GROUP;
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
    assert_eq!(test.shapes.known.len(), 1);
}

#[test]
fn words_and_missing_values_belong_to_the_shape() {
    let mut test = Test::new();
    for (record, b) in [
        (r#"{"x":1.5,"b":true,"a":"é"}"#, (Written::True, "true")),
        (r#"{"x":1.5,"b":false,"a":"é"}"#, (Written::False, "false")),
        (r#"{"x":1.5,"b":null,"a":"é"}"#, (Written::Null, "")),
        (r#"{"x":1.5,"b":2,"a":"é"}"#, (Written::Whole, "2")),
    ] {
        assert_eq!(test.run(record), Run::New, "{record}");
        test.spans[GROUP] = Span::ABSENT;
        assert_eq!(test.run(record), Run::Over, "{record}");
        assert_eq!(test.value(record, 0), (Written::Plain, "é"));
        assert_eq!(test.value(record, 1), b);
        assert_eq!(test.value(record, 2).0, Written::Missing);
        assert_eq!(test.odd, 0b110);
    }
    let mut broken = r#"{"x":1.5,"b":2,"a":"é"}"#.to_string().into_bytes();
    let half = broken.len() - 3;
    broken[half] = b'e';
    assert_eq!(test.run_bytes(&broken), Run::Unfit);
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
    let mut test = Test::new();
    for record in [r#"{"a":"x","b":1,"c":2}"#, r#"{"a":"x","b":"y"}"#] {
        assert_eq!(test.run(record), Run::New);
        assert_eq!(test.run(record), Run::Over);
    }
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
        let mut again = Test::new();
        again.shapes.known = test.shapes.known.clone();
        assert_eq!(again.run(record), Run::New, "{record}");
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
