//! Per type: what it takes, and what messages say of the rest.

use super::*;

/// Each case is read as `{"c": value}` into one column of the type, and what the column then
/// shows, or why the record is bad, is compared.
fn check(data_type: DataType, cases: &[(&str, Result<&str, &str>)]) {
    for (value, expected) in cases {
        let record = format!("{{\"c\": {value}}}");
        let decoded = decode(vec![nullable("c", data_type.clone())], &[&record]);
        let found = match decoded.bad.as_slice() {
            [] => Ok(shown_rows(&decoded, 0).remove(0)),
            [bad] => {
                assert_eq!(decoded.rows, 0);
                Err(bad.reason.clone())
            }
            more => panic!("{more:?}"),
        };
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, *expected, "{value} as {data_type}");
    }
}

#[test]
fn strings_take_scalars_and_json_as_text() {
    check(
        DataType::Utf8View,
        &[
            (r#""""#, Ok("")),
            (r#""twelve bytes""#, Ok("twelve bytes")),
            (
                r#""a text of more than twelve bytes""#,
                Ok("a text of more than twelve bytes"),
            ),
            (
                r#""\u00fc \ud83d\ude00 \"\\\/\b\f\n\r\t""#,
                Ok("ü 😀 \"\\/\u{8}\u{c}\n\r\t"),
            ),
            (
                r#""ü 😀 and more than twelve bytes""#,
                Ok("ü 😀 and more than twelve bytes"),
            ),
            (r#""\u0000""#, Ok("\0")),
            ("null", Ok("NULL")),
            ("1.50", Ok("1.50")),
            ("-0", Ok("-0")),
            ("12345678901234567890123", Ok("12345678901234567890123")),
            ("1E+2", Ok("1E+2")),
            ("true", Ok("true")),
            ("false", Ok("false")),
            (r#"{ "a" : [ 1 , "x y" ] }"#, Ok(r#"{"a":[1,"x y"]}"#)),
            (r#"["a",{}]"#, Ok(r#"["a",{}]"#)),
            ("[]", Ok("[]")),
        ],
    );
}

#[test]
fn booleans_are_true_and_false() {
    check(
        DataType::Boolean,
        &[
            ("true", Ok("true")),
            ("false", Ok("false")),
            ("null", Ok("NULL")),
            (r#""true""#, Err("expected BOOLEAN, found string \"true\"")),
            ("1", Err("expected BOOLEAN, found number 1")),
            ("[true]", Err("expected BOOLEAN, found an array")),
        ],
    );
}

#[test]
fn integers_are_whole_numbers_in_range() {
    check(
        DataType::Int64,
        &[
            ("0", Ok("0")),
            ("-0", Ok("0")),
            ("-0.0", Ok("0")),
            ("9223372036854775807", Ok("9223372036854775807")),
            ("-9223372036854775808", Ok("-9223372036854775808")),
            ("9007199254740993.0", Ok("9007199254740993")),
            ("1.0", Ok("1")),
            ("1e3", Ok("1000")),
            ("12300e-2", Ok("123")),
            ("null", Ok("NULL")),
            ("1.5", Err("expected BIGINT, found number 1.5")),
            (
                "9223372036854775808",
                Err("expected BIGINT, found number 9223372036854775808"),
            ),
            (
                "-9223372036854775809",
                Err("expected BIGINT, found number -9223372036854775809"),
            ),
            ("1e19", Err("expected BIGINT, found number 1e19")),
            (r#""12""#, Err("expected BIGINT, found string \"12\"")),
            ("true", Err("expected BIGINT, found true")),
            ("{}", Err("expected BIGINT, found an object")),
        ],
    );
    for (data_type, name, max) in [
        (DataType::Int8, "TINYINT", i64::from(i8::MAX)),
        (DataType::Int16, "SMALLINT", i64::from(i16::MAX)),
        (DataType::Int32, "INT", i64::from(i32::MAX)),
    ] {
        let (min, max) = (-max - 1, max);
        let (over, under) = ((max + 1).to_string(), (min - 1).to_string());
        let reason = |text: &str| format!("expected {name}, found number {text}");
        check(
            data_type,
            &[
                (&max.to_string(), Ok(&max.to_string())),
                (&min.to_string(), Ok(&min.to_string())),
                (&over, Err(&reason(&over))),
                (&under, Err(&reason(&under))),
            ],
        );
    }
}

#[test]
fn floats_are_rounded_once() {
    check(
        DataType::Float64,
        &[
            ("1", Ok("1.0")),
            ("-0", Ok("-0.0")),
            ("0.1", Ok("0.1")),
            ("18446744073709551615", Ok("1.8446744073709552e19")),
            ("2.2250738585072011e-308", Ok("2.225073858507201e-308")),
            ("1e-999", Ok("0.0")),
            ("1e400", Err("number out of range at line 1 column 11")),
            (r#""1""#, Err("expected DOUBLE, found string \"1\"")),
        ],
    );
    check(
        DataType::Float32,
        &[
            ("0.1", Ok("0.1")),
            ("16777217", Ok("16777216.0")),
            // Halfway between two floats as a double, but above half as it is written.
            ("1.00000005960464477540", Ok("1.0000001")),
            ("1e39", Err("expected FLOAT, found number 1e39")),
        ],
    );
}

#[test]
fn decimals_are_exact() {
    check(
        DataType::Decimal128(38, 18),
        &[
            (
                "12345678901234567890.123456789012345678",
                Ok("12345678901234567890.123456789012345678"),
            ),
            ("0.1", Ok("0.100000000000000000")),
            ("1", Ok("1.000000000000000000")),
        ],
    );
    check(
        DataType::Decimal128(5, 2),
        &[
            ("1.005", Ok("1.01")),
            ("-1.005", Ok("-1.01")),
            ("1.0049999999999999999999", Ok("1.00")),
            ("1e2", Ok("100.00")),
            ("999.994", Ok("999.99")),
            (
                "999.995",
                Err("expected DECIMAL(5, 2), found number 999.995"),
            ),
            ("1000", Err("expected DECIMAL(5, 2), found number 1000")),
            (
                r#""1.00""#,
                Err("expected DECIMAL(5, 2), found string \"1.00\""),
            ),
        ],
    );
}

#[test]
fn times_are_strings() {
    check(
        DataType::Timestamp(TimeUnit::Microsecond, None),
        &[
            (r#""2022-01-01T12:22:25""#, Ok("2022-01-01T12:22:25")),
            (r#""2022-01-01 12:22:25.5Z""#, Ok("2022-01-01T12:22:25.500")),
            (r#""2022-01-01\u002012:22:25""#, Ok("2022-01-01T12:22:25")),
            (
                r#""yesterday""#,
                Err("expected TIMESTAMP, found string \"yesterday\""),
            ),
            (
                "1641039745",
                Err("expected TIMESTAMP, found number 1641039745"),
            ),
        ],
    );
    check(
        DataType::Date32,
        &[
            (r#""1969-12-31""#, Ok("1969-12-31")),
            ("-1", Err("expected DATE, found number -1")),
        ],
    );
    check(
        DataType::Time64(TimeUnit::Microsecond),
        &[
            (r#""12:22:25.25""#, Ok("12:22:25.250")),
            (
                r#""25:00:00""#,
                Err("expected TIME, found string \"25:00:00\""),
            ),
        ],
    );
}

#[test]
fn bytes_are_base64() {
    check(
        DataType::Binary,
        &[
            (r#""AAH/""#, Ok("0001ff")),
            (r#""""#, Ok("")),
            (r#""AA=""#, Err("expected BYTES, found string \"AA=\"")),
            (r#""AA==""#, Ok("00")),
            (r#""!!!!""#, Err("expected BYTES, found string \"!!!!\"")),
        ],
    );
}

#[test]
fn nested_types() {
    check(
        list(DataType::Int64),
        &[
            ("[]", Ok("[]")),
            ("[1, null, 3.0]", Ok("[1, , 3]")),
            ("null", Ok("NULL")),
            ("[1, \"2\"]", Err("expected BIGINT, found string \"2\"")),
            ("1", Err("expected ARRAY, found number 1")),
            ("{}", Err("expected ARRAY, found an object")),
        ],
    );
    check(
        map(DataType::Int64),
        &[
            ("{}", Ok("{}")),
            (r#"{"a": 1, "b": null}"#, Ok("{a: 1, b: }")),
            (r#"{"a": 1, "b": 2, "a": 3}"#, Ok("{b: 2, a: 3}")),
            (r#"{"a": "x", "a": 3}"#, Ok("{a: 3}")),
            (
                r#"{"a": 3, "a": "x"}"#,
                Err("expected BIGINT, found string \"x\""),
            ),
            ("[]", Err("expected MAP, found an array")),
        ],
    );
    check(
        row(vec![
            nullable("a", DataType::Int64),
            nullable("b", list(DataType::Utf8View)),
        ]),
        &[
            (
                r#"{"a": 1, "b": ["x"], "c": {"a": 2}}"#,
                Ok("{a: 1, b: [x]}"),
            ),
            ("{}", Ok("{a: , b: }")),
            ("null", Ok("NULL")),
            (r#"{"a": "x", "a": 1}"#, Ok("{a: 1, b: }")),
            ("[]", Err("expected ROW, found an array")),
            ("\"\"", Err("expected ROW, found string \"\"")),
        ],
    );
}
