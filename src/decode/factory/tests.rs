use super::*;
use crate::error::At;
use crate::source::BlobsBuilder;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

const AT: At = At {
    line: 1,
    column: 14,
};

/// A table with columns `(name, type)`, on lines 2, 3, …, and options on lines 21, 22, ….
fn table(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let mut def = TableDef {
        name: "t".into(),
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options: Options::default(),
        at: AT,
    };
    for (line, (name, data_type)) in (2..).zip(columns) {
        def.columns.push(Column {
            name: name.to_string(),
            data_type: data_type.clone(),
            nullable: true,
            kind: ColumnKind::Physical,
            ltz: false,
            at: At { line, column: 3 },
        });
    }
    for (line, (key, value)) in (21..).zip(options) {
        def.options
            .insert("kafka", key, value, At { line, column: 5 })
            .unwrap();
    }
    def
}

fn wanted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn names(decoder: &dyn Decode) -> Vec<&str> {
    decoder
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect()
}

/// The values of the row that the record is, or `None`.
fn read(decoder: &mut dyn Decode, record: &str) -> Option<Vec<String>> {
    let mut blobs = BlobsBuilder::default();
    blobs.push(Some(record.as_bytes()));
    let decoded = decoder.decode(&blobs.finish(), 0..1).unwrap();
    let shown = |column: &arrow::array::ArrayRef| array_value_to_string(column, 0).unwrap();
    (decoded.rows == 1).then(|| decoded.columns.iter().map(shown).collect())
}

fn error_of<T>(result: Result<T>) -> (String, Option<At>, Option<String>) {
    match result.err().unwrap() {
        Error::Sql { message, hint, at } => (message, at, hint),
        other => panic!("{other:?}"),
    }
}

const ABC: [(&str, DataType); 3] = [
    ("a", DataType::Utf8View),
    ("b", DataType::Int64),
    ("c", DataType::Utf8View),
];

#[test]
fn formats_and_their_options() {
    let json = table(&ABC, &[("format", "json")]);
    let mut decoder_of_json = decoder(&json, &wanted(&["b", "a"])).unwrap();
    assert_eq!(names(&*decoder_of_json), ["b", "a"]);
    assert_eq!(
        read(&mut *decoder_of_json, r#"{"a":"x","b":1}"#),
        Some(wanted(&["1", "x"]))
    );
    assert_eq!(
        read(&mut *decoder_of_json, r#"{"a":"x"}"#),
        Some(wanted(&["", "x"]))
    );

    let strict = table(
        &ABC,
        &[
            ("value.format", "JSON"),
            ("json.fail-on-missing-field", "true"),
        ],
    );
    let mut decoder_of_json = decoder(&strict, &wanted(&["b", "a"])).unwrap();
    assert_eq!(read(&mut *decoder_of_json, r#"{"a":"x"}"#), None);

    let csv = table(&ABC, &[("format", "csv")]);
    let mut decoder_of_csv = decoder(&csv, &wanted(&["b"])).unwrap();
    assert_eq!(read(&mut *decoder_of_csv, "x,1,y"), Some(wanted(&["1"])));
    assert_eq!(read(&mut *decoder_of_csv, "x,1"), None);

    let options = [
        ("format", "csv"),
        ("csv.field-delimiter", "\\t"),
        ("csv.quote-character", "'"),
        ("csv.null-literal", "-"),
        ("csv.ignore-parse-errors", "true"),
    ];
    let mut decoder_of_csv = decoder(&table(&ABC, &options), &wanted(&["b", "a", "c"])).unwrap();
    assert_eq!(
        read(&mut *decoder_of_csv, "'x\ty'\t-"),
        Some(wanted(&["", "x\ty", ""]))
    );

    let raw = table(&ABC[..1], &[("format", "raw")]);
    assert_eq!(
        read(&mut *decoder(&raw, &wanted(&["a"])).unwrap(), "x"),
        Some(wanted(&["x"]))
    );
    assert_eq!(read(&mut *decoder(&raw, &[]).unwrap(), "x"), Some(vec![]));
}

#[test]
fn errors_point_at_their_cause() {
    let (_, at, hint) = error_of(decoder(&table(&ABC, &[("topic", "t")]), &wanted(&["a"])));
    assert_eq!(
        (at, hint.unwrap().as_str()),
        (Some(AT), "it takes json | csv | raw")
    );

    let both = table(&ABC, &[("value.format", "json"), ("format", "csv")]);
    assert_eq!(
        error_of(decoder(&both, &[])).1,
        Some(At {
            line: 22,
            column: 5
        })
    );

    let parquet = table(&ABC, &[("format", "parquet")]);
    let (message, at, _) = error_of(decoder(&parquet, &wanted(&["a"])));
    assert!(
        message.starts_with("option 'format' = 'parquet'"),
        "{message}"
    );
    assert_eq!(
        at,
        Some(At {
            line: 21,
            column: 5
        })
    );

    let raw = table(&ABC, &[("format", "raw")]);
    let (message, at, _) = error_of(decoder(&raw, &wanted(&["a"])));
    assert_eq!(message, "format 'raw' is one column, not 3");
    assert_eq!(at, Some(At { line: 3, column: 3 }));

    let raw = table(&ABC[1..2], &[("format", "raw")]);
    assert_eq!(
        error_of(decoder(&raw, &wanted(&["b"]))).1,
        Some(At { line: 2, column: 3 })
    );

    let odd = [("a", DataType::Int64), ("b", DataType::UInt8)];
    let (message, at, _) = error_of(decoder(
        &table(&odd, &[("format", "json")]),
        &wanted(&["a", "b"]),
    ));
    assert_eq!(message, "column 'b': UInt8 cannot be read from JSON");
    assert_eq!(at, Some(At { line: 3, column: 3 }));

    let json = table(&ABC, &[("format", "json")]);
    assert_eq!(
        error_of(decoder(&json, &wanted(&["x"]))).0,
        "table 't' has no physical column 'x'"
    );

    for value in ["", "ab", "ü", "\n"] {
        let csv = table(&ABC, &[("format", "csv"), ("csv.field-delimiter", value)]);
        assert_eq!(
            error_of(decoder(&csv, &[])).1,
            Some(At {
                line: 22,
                column: 5
            }),
            "{value}"
        );
    }
    let csv = table(&ABC, &[("format", "csv"), ("csv.field-delimiter", "\"")]);
    assert!(error_of(decoder(&csv, &[])).0.contains("same character"));
}

fn keyed(more: &[(&str, &str)]) -> TableDef {
    let columns = [
        ("k_id", DataType::Int64),
        ("a", DataType::Utf8View),
        ("k_x", DataType::Utf8View),
    ];
    table(
        &columns,
        &[&[("value.format", "csv"), ("key.fields", "k_x;k_id")], more].concat(),
    )
}

#[test]
fn keys_are_decoded_apart_when_the_value_lacks_them() {
    let all = wanted(&["a", "k_id", "k_x"]);
    let def = keyed(&[
        ("key.format", "json"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    let mut values = decoder(&def, &all).unwrap();
    assert_eq!(names(&*values), ["a"]);
    assert_eq!(read(&mut *values, "only"), Some(wanted(&["only"])));
    let mut keys = key_decoder(&def, &all).unwrap().unwrap();
    assert_eq!(names(&*keys), ["k_id", "k_x"]);
    assert_eq!(
        read(&mut *keys, r#"{"x":"y","id":7,"k_id":8}"#),
        Some(wanted(&["7", "y"]))
    );
    assert!(key_decoder(&def, &wanted(&["a"])).unwrap().is_none());

    // By position in the order of key.fields.
    let def = keyed(&[
        ("key.format", "csv"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    let mut keys = key_decoder(&def, &all).unwrap().unwrap();
    assert_eq!(read(&mut *keys, "y,7"), Some(wanted(&["7", "y"])));
}

#[test]
fn a_value_with_all_fields_counts() {
    let def = keyed(&[("key.format", "csv")]);
    assert!(key_decoder(&def, &wanted(&["k_id"])).unwrap().is_none());
    let mut values = decoder(&def, &wanted(&["k_x", "k_id"])).unwrap();
    assert_eq!(read(&mut *values, "7,a,y"), Some(wanted(&["y", "7"])));
}

#[test]
fn key_options_are_checked() {
    let def = keyed(&[("key.format", "json"), ("key.fields-prefix", "k_")]);
    let (_, at, hint) = error_of(decoder(&def, &[]));
    assert_eq!(
        at,
        Some(At {
            line: 24,
            column: 5
        })
    );
    assert!(hint.unwrap().contains("EXCEPT_KEY"));

    let def = keyed(&[
        ("key.fields-prefix", "id_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    assert!(
        error_of(decoder(&def, &[]))
            .0
            .contains("does not begin with it")
    );

    let def = keyed(&[("value.fields-include", "EXCEPT_KEY")]);
    let (message, _, _) = error_of(key_decoder(&def, &wanted(&["k_id"])));
    assert_eq!(message, "table 't' needs the option 'key.format'");

    let raw = keyed(&[
        ("key.format", "raw"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    assert_eq!(
        error_of(key_decoder(&raw, &wanted(&["k_x"]))).0,
        "format 'raw' is one column, not 2"
    );

    let def = table(&ABC, &[("format", "json"), ("key.fields", "aa")]);
    let (message, at, hint) = error_of(decoder(&def, &[]));
    assert_eq!(
        message,
        "option 'key.fields' = 'aa': table 't' has no physical column 'aa'"
    );
    assert_eq!(
        (at, hint.as_deref()),
        (
            Some(At {
                line: 22,
                column: 5
            }),
            Some("did you mean 'a'?")
        )
    );
}
