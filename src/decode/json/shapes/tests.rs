use super::*;

fn columns() -> HashMap<Box<[u8]>, Target> {
    let keys = [&b"a"[..], b"b", b"c"].into_iter().enumerate();
    keys.map(|(i, key)| (key.into(), Target::column(i)))
        .collect()
}

/// What becomes of the records, one after the other.
fn tried(shapes: &mut Shapes, records: &[&str]) -> Vec<Tried> {
    let columns = columns();
    let mut all = Vec::new();
    for record in records {
        let record = record.as_bytes();
        assert!(shapes.wants(record.len()));
        let tried = shapes.find(record);
        if tried == Tried::New {
            shapes.learn(record, &columns);
        }
        all.push(tried);
    }
    all
}

/// `None` where the processor has not the vectors for it: then there is nothing to test.
fn shapes() -> Option<Shapes> {
    Shapes::new(Isa::detect())
}

#[test]
fn values_are_where_the_record_has_them() {
    let Some(mut shapes) = shapes() else { return };
    let long = "x".repeat(120);
    let record = |a: &str, b: &str, n: &str| format!(r#"{{"a":"{a}","n":[{n},"y"], "b":"{b}"}}"#);
    let records = [
        ("1", "", "0"),
        (&long, "é", "-1.5"),
        ("", &long, "12345678901234567890"),
    ];
    for (i, (a, b, n)) in records.into_iter().enumerate() {
        let text = record(a, b, n);
        let found = tried(&mut shapes, &[&text])[0];
        if i == 0 {
            assert_eq!(found, Tried::New);
            continue;
        }
        assert_eq!(found, Tried::Like(0, text.is_ascii()));
        let shape = shapes.shape(0);
        let part = |wanted: &Wanted| {
            let (first, close) = shapes.text(*wanted);
            &text[first..close]
        };
        assert_eq!(shape.texts.iter().map(part).collect::<Vec<_>>(), [a, b]);
        let (first, number) = shapes.number(text.as_bytes(), shape.numbers[0]).unwrap();
        assert_eq!(&text[first..number.end], n);
        assert_eq!(shape.seen, 0b11);
    }
}

#[test]
fn shapes_that_take_turns_are_all_known() {
    let records = [
        r#"{"a":"x","b":"y"}"#,
        r#"{"b":"x","a":"y"}"#,
        r#"{"a":null,"b":"y"}"#,
        r#"{"a":7,"b":"y"}"#,
        r#"{"a":"x"}      "#,
    ];
    let Some(mut shapes) = shapes() else { return };
    assert!(
        tried(&mut shapes, &records)
            .iter()
            .all(|t| *t == Tried::New)
    );
    for _ in 0..3 {
        let found = tried(&mut shapes, &records);
        assert!(
            found.iter().all(|t| matches!(t, Tried::Like(..))),
            "{found:?}"
        );
    }
}

#[test]
fn what_has_no_shape_is_not_learned() {
    let columns = columns();
    for record in [
        r#"{"a":"x","a":"y"}"#,
        r#"{"a":true}"#,
        r#"{"a":["x"]}"#,
        r#"{"a":{"x":1}}"#,
    ] {
        assert_eq!(outline(record.as_bytes(), &columns), None, "{record}");
    }
    let record = format!(r#"{{"x":[{}]}}"#, [r#""""#; 40].join(","));
    assert_eq!(outline(record.as_bytes(), &columns), None);
}

#[test]
fn a_stream_without_likeness_is_left_alone_and_tried_again() {
    let (Some(mut shapes), Some(mut other)) = (shapes(), shapes()) else {
        return;
    };
    let (mut looks, all) = (0, 1_000_000);
    for _ in 0..all {
        if shapes.wants(100) {
            looks += 1;
            shapes.miss();
        }
    }
    assert!((16..all / 100).contains(&looks), "{looks}");
    // A stream of which one record in twenty is unlike is looked at all the time.
    for i in 0..all {
        assert!(other.wants(100));
        match i % 20 {
            0 => other.miss(),
            _ => other.hit(),
        }
    }
    assert!(!other.wants(7) && !other.wants(RECORD_BYTES_MAX + 1));
}
