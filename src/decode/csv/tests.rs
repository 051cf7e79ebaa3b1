use super::*;
use crate::source::BlobsBuilder;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::sync::Arc;

fn blobs(records: &[&[u8]]) -> Blobs {
    let mut builder = BlobsBuilder::default();
    records.iter().for_each(|record| builder.push(Some(record)));
    builder.finish()
}

/// A decoder of the columns a, b, c, … of these types, all wanted.
fn decoder_of(types: &[DataType], options: CsvOptions) -> CsvDecoder {
    let names: Vec<String> = ('a'..='z').take(types.len()).map(String::from).collect();
    let fields: Vec<Field> = names
        .iter()
        .zip(types)
        .map(|(n, t)| Field::new(n, t.clone(), true))
        .collect();
    CsvDecoder::new(&names, Arc::new(Schema::new(fields)), options).unwrap()
}

/// The fields of the only record, or why it is bad.
fn read(types: &[DataType], options: CsvOptions, record: &str) -> Result<Vec<String>, String> {
    let decoded = decoder_of(types, options)
        .decode(&blobs(&[record.as_bytes()]), 0..1)
        .unwrap();
    if let [bad] = decoded.bad.as_slice() {
        assert_eq!(decoded.rows, 0);
        return Err(bad.reason.clone());
    }
    let shown = |column: &arrow::array::ArrayRef| match column.is_null(0) {
        true => "NULL".to_string(),
        false => array_value_to_string(column, 0).unwrap(),
    };
    Ok(decoded.columns.iter().map(shown).collect())
}

fn strings(count: usize) -> Vec<DataType> {
    vec![DataType::Utf8View; count]
}

#[test]
fn a_line_is_split_into_fields() {
    for (record, expected) in [
        ("a,b", Ok(["a", "b"])),
        ("a,b\n", Ok(["a", "b"])),
        ("a,b\r\n", Ok(["a", "b"])),
        (",", Ok(["", ""])),
        ("\"\",\"\"", Ok(["", ""])),
        (" a , b ", Ok([" a ", " b "])),
        ("\"a,b\",c", Ok(["a,b", "c"])),
        (
            "\"a \"\"quoted\"\" word\",c",
            Ok(["a \"quoted\" word", "c"]),
        ),
        ("\"two\nlines\",c", Ok(["two\nlines", "c"])),
        ("a 5\" disk,c", Ok(["a 5\" disk", "c"])),
        (
            "a text of more than twelve bytes,ü😀",
            Ok(["a text of more than twelve bytes", "ü😀"]),
        ),
        ("\u{feff}a,b", Ok(["a", "b"])),
        ("a", Err("expected 2 fields, found 1")),
        ("", Err("expected 2 fields, found 1")),
        ("a,b,", Err("expected 2 fields, found 3")),
        ("a,b\nc,d", Err("more than one line in a record")),
        ("a,b\n\n", Err("more than one line in a record")),
        ("\na,b", Err("more than one line in a record")),
        ("a\rb,c", Err("more than one line in a record")),
        ("a,\"b", Err("a quote is not closed")),
        ("a,\"b\n", Err("a quote is not closed")),
        ("a,\"", Err("a quote is not closed")),
    ] {
        let found = read(&strings(2), CsvOptions::default(), record);
        let expected = expected
            .map(|fields| fields.map(String::from).to_vec())
            .map_err(String::from);
        assert_eq!(found, expected, "{record:?}");
    }
    assert_eq!(
        read(&strings(1), CsvOptions::default(), ""),
        Ok(vec!["".into()])
    );
    assert_eq!(
        read(&strings(1), CsvOptions::default(), "\r\n"),
        Ok(vec!["".into()])
    );
}

#[test]
fn values_are_read_from_text() {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    for (data_type, text, expected) in [
        (DataType::Int64, "12", Ok("12")),
        (DataType::Int64, " -12 ", Ok("-12")),
        (DataType::Int64, "\"12\"", Ok("12")),
        (DataType::Int64, "1e3", Ok("1000")),
        (
            DataType::Int64,
            "1.5",
            Err("expected BIGINT, found \"1.5\""),
        ),
        (
            DataType::Int64,
            "twelve",
            Err("expected BIGINT, found \"twelve\""),
        ),
        (
            DataType::Int8,
            "128",
            Err("expected TINYINT, found \"128\""),
        ),
        (DataType::Float64, "0.1", Ok("0.1")),
        (
            DataType::Float64,
            "NaN",
            Err("expected DOUBLE, found \"NaN\""),
        ),
        (
            DataType::Float64,
            "inf",
            Err("expected DOUBLE, found \"inf\""),
        ),
        (
            DataType::Float64,
            "1e400",
            Err("expected DOUBLE, found \"1e400\""),
        ),
        (DataType::Float32, "0.1", Ok("0.1")),
        (DataType::Decimal128(5, 2), "1.005", Ok("1.01")),
        (
            DataType::Decimal128(5, 2),
            "1000",
            Err("expected DECIMAL(5, 2), found \"1000\""),
        ),
        (DataType::Boolean, "TRUE", Ok("true")),
        (DataType::Boolean, "false", Ok("false")),
        (DataType::Boolean, "1", Err("expected BOOLEAN, found \"1\"")),
        (
            timestamp.clone(),
            "2022-01-01 12:22:25",
            Ok("2022-01-01T12:22:25"),
        ),
        (
            timestamp.clone(),
            "2022-01-01T12:22:25Z",
            Ok("2022-01-01T12:22:25"),
        ),
        (
            timestamp,
            "2022-01-01",
            Err("expected TIMESTAMP, found \"2022-01-01\""),
        ),
        (DataType::Date32, "2022-01-01", Ok("2022-01-01")),
        (
            DataType::Time64(TimeUnit::Microsecond),
            "12:22:25",
            Ok("12:22:25"),
        ),
        (DataType::Binary, "AAH/", Ok("0001ff")),
        (DataType::Utf8View, "12", Ok("12")),
        // Empty is NULL, but a string.
        (DataType::Utf8View, "", Ok("")),
        (DataType::Utf8View, "  ", Ok("  ")),
        (DataType::Int64, "", Ok("NULL")),
        (DataType::Int64, "  ", Ok("NULL")),
        (DataType::Boolean, "", Ok("NULL")),
        (DataType::Binary, "", Ok("NULL")),
    ] {
        let found = read(
            std::slice::from_ref(&data_type),
            CsvOptions::default(),
            text,
        );
        let expected = expected
            .map(|shown| vec![shown.to_string()])
            .map_err(String::from);
        assert_eq!(found, expected, "{text:?} as {data_type}");
    }
}

#[test]
fn options_are_honoured() {
    let options = CsvOptions {
        delimiter: b'\t',
        quote: b'\'',
        null_literal: Some("\\N".into()),
        fail_on_missing_field: false,
    };
    let types = [DataType::Utf8View, DataType::Int64, DataType::Utf8View];
    let read = |record| read(&types, options.clone(), record);
    let row = |fields: [&str; 3]| Ok(fields.map(String::from).to_vec());
    assert_eq!(read("'a\tb'\t1\t\"c\""), row(["a\tb", "1", "\"c\""]));
    assert_eq!(read("\\N\t\\N\t"), row(["NULL", "NULL", ""]));
    assert_eq!(read("a"), row(["a", "NULL", "NULL"]));
    assert_eq!(read("a\t1\tb\tc"), Err("expected 3 fields, found 4".into()));
}

#[test]
fn columns_are_chosen_by_position_and_not_null_holds() {
    let names = ["a", "b", "c", "d"].map(String::from);
    let fields = vec![
        Field::new("d", DataType::Utf8View, true),
        Field::new("b", DataType::Int64, false),
    ];
    let mut decoder =
        CsvDecoder::new(&names, Arc::new(Schema::new(fields)), CsvOptions::default()).unwrap();
    let payload = blobs(&[
        b"x,1,x,one",
        b"x,,x,no",
        b"x,y,x,no",
        b"x,\xff,x,no",
        b"x,2,x,two",
        b"\xff,3,x,no",
    ]);
    let decoded = decoder.decode(&payload, 0..6).unwrap();
    assert_eq!(decoded.records, Some(vec![0, 4]));
    assert_eq!(
        decoded.columns[0]
            .as_string_view()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        ["one", "two"]
    );
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|b| (b.record, b.field.as_deref(), b.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (1, Some("b"), "expected BIGINT NOT NULL, found \"\""),
            (2, Some("b"), "expected BIGINT NOT NULL, found \"y\""),
            (3, None, "invalid UTF-8 at byte 3"),
            (5, None, "invalid UTF-8 at byte 1"),
        ]
    );
}

#[test]
fn types_with_children_are_refused() {
    let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
    let schema = Arc::new(Schema::new(vec![Field::new("a", list, true)]));
    let error = CsvDecoder::new(&["a".into()], schema, CsvOptions::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "column 'a': ARRAY cannot be read from CSV"
    );
}

proptest! {
    /// What the csv crate writes is read back, whatever stands beside it.
    #[test]
    fn written_records_are_read_back(rows in prop::collection::vec(prop::collection::vec("[a\",\n\r ü']{0,20}", 3), 1..20)) {
        let write = |row: &Vec<String>| {
            let mut writer = ::csv::WriterBuilder::new().quote_style(::csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record(row).unwrap();
            writer.into_inner().unwrap()
        };
        let mut records: Vec<Vec<u8>> = rows.iter().map(write).collect();
        records.insert(rows.len() / 2, b"bad,\"".to_vec());
        let payload = blobs(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let decoded = decoder_of(&strings(3), CsvOptions::default()).decode(&payload, 0..records.len()).unwrap();
        prop_assert_eq!(decoded.bad.len(), 1);
        prop_assert_eq!(decoded.rows, rows.len());
        for (column, array) in decoded.columns.iter().enumerate() {
            array.to_data().validate_full().unwrap();
            let found: Vec<&str> = array.as_string_view().iter().flatten().collect();
            let expected: Vec<&str> = rows.iter().map(|row| row[column].as_str()).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn any_bytes_give_a_row_or_a_bad_record(records in prop::collection::vec(prop::collection::vec(prop::sample::select(b"a1\",\n\r\\ \xff\xc3".to_vec()), 0..30), 1..10), split in 0_usize..10) {
        let payload = blobs(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let count = records.len();
        let mut decoder = decoder_of(&[DataType::Utf8View, DataType::Int64], CsvOptions { fail_on_missing_field: false, ..CsvOptions::default() });
        let mut decode = |range: Range<usize>| {
            let decoded = decoder.decode(&payload, range.clone()).unwrap();
            assert_eq!(decoded.rows + decoded.bad.len(), range.len());
            let shown = |row| decoded.columns.iter().map(|c| array_value_to_string(c, row).unwrap()).collect::<Vec<_>>();
            let rows: Vec<_> = (0..decoded.rows).map(shown).collect();
            (rows, decoded.bad)
        };
        let (mut rows, mut bad) = decode(0..split.min(count));
        let rest = decode(split.min(count)..count);
        rows.extend(rest.0);
        bad.extend(rest.1);
        prop_assert_eq!(decode(0..count), (rows, bad));
    }
}
