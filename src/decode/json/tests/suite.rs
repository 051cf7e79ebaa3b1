//! The classes of cases of the public JSON parsing suites, written anew, with serde_json as the judge.

use super::fast::agree_on;
use super::*;

/// Those that differ from the ones above in a detail only.
const DETAILS: &[&str] = &[
    "[1,null,true]",
    r#"[   ""]"#,
    "[\"a\"\n,4\n]",
    "[3[4]]",
    r#"["",]"#,
    r#"["x",,]"#,
    "[*]",
    "[-]",
    r#"[   , ""]"#,
    r#"["a"]]"#,
    r#"["a",4,1,"#,
    r#"[\u000A""]"#,
    r#"[1,[2,{"a":[]}],{}]"#,
    "[a",
    "[1]x",
    "[☃]",
    r#"["asd]"#,
    "*",
    "2@",
    "<.>",
    "aå",
    r#"{"x": true,"#,
    r#"{"x"::"b"}"#,
    r#"{"a":"a" 123}"#,
    "{key: 'value'}",
    r#"{"a":"b",,"c":"d"}"#,
    r#"{"a":0,,,,,}"#,
    r#"{"a":/*comment*/"b"}"#,
    r#"{"a":"b"}/**/"#,
    r#"{"a":"b"}//"#,
    r#"{"a":"b"}#{}"#,
    r#"{"a":"b",/"#,
    r#"{"a": true} "x""#,
    "{🇨🇭}",
    r#"{"a":"a"#,
    r#"{ "foo" : "bar", "a" }"#,
    "{9999E9999:1}",
    "{null:null,null:null}",
    r#"{"a":"b"},"#,
    r#"{"a":"b"}{"c":"d"}"#,
    r#"{"asd":"sdf", "dfg":"fgh"}"#,
    r#"{"foo\u0000bar": 42}"#,
    r#"{ "min": -1.0e+28, "max": 1.0e+28 }"#,
    r#"{"title":"\u041f\u043e\u043b"}"#,
    r#"{"a":[{"b":"c"}],"a":"d"}"#,
    r#"{"\ud800":1}"#,
    r#"{"a\"":1}"#,
    r#"{"a\":1}"#,
    "-2.",
    ".-1",
    ".2e-3",
    "0.3e+",
    "0.3e",
    "0.e1",
    "0E+",
    "0E",
    "1.0e+",
    "1.0e-",
    "1.0e",
    "1 000.0",
    "1eE2",
    "2.e+3",
    "2.e-3",
    "2.e3",
    "9.e+",
    "Inf",
    "-NaN",
    "+Inf",
    "++1234",
    "0x42",
    "1+2",
    "-1x",
    "1ea",
    "-foo",
    "-123.123foo",
    "1a",
    "1.8011670033376514H-308",
    "-0.000000000000000000000000000000000000000000000000000000000000000000001",
    "20e1",
    "123e65",
    "123e45678",
    "-123123e100000",
    "0.4e00669999999999999999999999999999999999999999999999999999999999969999999006",
    "1.5e+9999",
    "-1e-2",
    "0e+1",
    "0e1",
    "-012",
    "-1.0.",
    "1.2a-3",
    r#"\u0061"#,
    r#""\u0060\u012a\u12AB""#,
    r#""\uD801\udc37""#,
    r#""\ud83d\ude39\ud83d\udc8d""#,
    r#""\\u0000""#,
    r#""\\a""#,
    r#""\u0012""#,
    r#""\uDBFF\uDFFE""#,
    r#""\u00A0\uA66D\u200B\u2064\uFDD0\uFFFE""#,
    r#""\uDADA""#,
    r#""\uD888\u1234""#,
    r#""\uD800\uD800\n""#,
    r#""\uDd1e\uD834""#,
    r#""\uDFAA""#,
    r#""\uD800\u""#,
    r#""\uD800\u1""#,
    r#""\uD800\u1x""#,
    r#""\uD834\uDd""#,
    r#""\uD800abc""#,
    r#""\uqqqq""#,
    r#""\🌀""#,
    r#""\u00A""#,
    r#""\00""#,
    r#""\u{41}""#,
    r#""\"#,
    r#""\\\""#,
    r#""\\\\""#,
    r#""a/*b*/c""#,
    r#""\u002c""#,
    r#""\"\\\/\b\f\n\r\t""#,
    "\"\u{ffff}\u{1ffff}\"",
];

const CASES: &[&str] = &[
    // Structure.
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "[ ]",
    "{ }",
    "[1]",
    "[1,2]",
    "[1,]",
    "[,1]",
    "[1,,2]",
    "[1 2]",
    "[1",
    "[1,",
    "[1}",
    "{]",
    "[[]",
    "[]]",
    "[[]]",
    "[{}]",
    "[1:2]",
    "(1)",
    "<null>",
    "[\"a\"",
    "[\u{c}]",
    r#"{"a"}"#,
    r#"{"a":}"#,
    r#"{:1}"#,
    r#"{"a" 1}"#,
    r#"{"a":1"#,
    r#"{"a":1,}"#,
    r#"{,"a":1}"#,
    r#"{"a":1,,"b":2}"#,
    r#"{"a":1 "b":2}"#,
    r#"{"a"::1}"#,
    r#"{"a","b"}"#,
    r#"{a:1}"#,
    r#"{'a':1}"#,
    r#"{1:1}"#,
    r#"{null:1}"#,
    r#"{"a":1}}"#,
    r#"{"a":1}]"#,
    r#"{"":1}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":{"b":[{}]}}"#,
    // Literals.
    "null",
    "true",
    "false",
    "nul",
    "nulll",
    "tru",
    "True",
    "FALSE",
    "NULL",
    "undefined",
    "nan",
    "NaN",
    "Infinity",
    "-Infinity",
    "[true false]",
    "truefalse",
    // Numbers.
    "0",
    "-0",
    "1",
    "-1",
    "12",
    "01",
    "-01",
    "00",
    "-",
    "+1",
    "--1",
    "- 1",
    "1.",
    ".5",
    "-.5",
    "1.5",
    "1.50",
    "0.0",
    "1..5",
    "1.5.2",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "1e",
    "1e+",
    "e5",
    "1e5.5",
    "1.e5",
    "0e0",
    "0e",
    "1 e5",
    "0x10",
    "1_000",
    "1,000",
    "１",
    "1f",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e308",
    "1e309",
    "-1e309",
    "1e-400",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "0e99999999999999999999",
    "123456789012345678901234567890",
    "0.1e1",
    "-0e+1",
    // Strings.
    r#""""#,
    r#""a"#,
    r#"a""#,
    r#"'a'"#,
    r#""\""#,
    r#""\\""#,
    r#""\"""#,
    r#""\/""#,
    r#""\b\f\n\r\t""#,
    r#""\a""#,
    r#""\x41""#,
    r#""\'""#,
    r#""\u0041""#,
    r#""\u004""#,
    r#""\u00G1""#,
    r#""\U0041""#,
    r#""\u""#,
    r#""\u0000""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\ude00""#,
    r#""\ud83d\ud83d""#,
    r#""\ude00\ud83d""#,
    r#""\ud83dx""#,
    r#""\ud83d\n""#,
    r#""\uFFFF""#,
    r#""\uDBFF\uDFFF""#,
    "\"\t\"",
    "\"\n\"",
    "\"\u{0}\"",
    "\"\u{1f}\"",
    "\"\u{7f}\"",
    "\"\u{2028}\"",
    "\"ü😀\"",
    "\"\u{feff}\"",
    "\"a\" \"b\"",
    "\"a\"b",
    // Blanks and comments.
    " 1 ",
    "\t1\r\n",
    "\u{a0}1",
    "\u{c}1",
    "\u{b}1",
    "\u{feff}1",
    "1\u{0}",
    "/**/1",
    "1//",
    "#1",
    "1;",
    "\u{2003}1",
];

/// All of them, and those that are no text or too long to be written down.
fn suite() -> Vec<Vec<u8>> {
    let cases = CASES.iter().chain(DETAILS);
    let mut cases: Vec<Vec<u8>> = cases.map(|case| case.as_bytes().to_vec()).collect();
    // Bytes that are no UTF-8: alone, cut short, overlong, surrogates, beyond the last character.
    for bytes in [
        &b"\xff"[..],
        b"\xc3",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
    ] {
        cases.push([b"\"", bytes, b"\""].concat());
        cases.push([b"{\"", bytes, b"\":1}"].concat());
        cases.push(bytes.to_vec());
    }
    for depth in [100, 125, 126, 127, 128, 129, 100_000] {
        cases.push(["[".repeat(depth), "]".repeat(depth)].concat().into_bytes());
        cases.push(
            ["{\"a\":".repeat(depth), "1".into(), "}".repeat(depth)]
                .concat()
                .into_bytes(),
        );
        cases.push("[".repeat(depth).into_bytes());
    }
    cases.push(format!("1{}", "0".repeat(400)).into_bytes());
    cases.push(format!("0.{}1", "0".repeat(400)).into_bytes());
    cases
}

fn types() -> Vec<DataType> {
    vec![
        DataType::Utf8View,
        DataType::Int64,
        DataType::Decimal128(10, 2),
        DataType::Boolean,
        list(list(DataType::Utf8View)),
        map(map(DataType::Utf8View)),
        row(vec![nullable("a", DataType::Utf8View)]),
    ]
}

/// What is JSON does not depend on who wants it: wanted, of another type, or not wanted at all.
#[test]
fn json_is_what_serde_json_takes_for_it() {
    let names = ["wanted", "other"];
    let (mut good, mut bad) = (0, 0);
    for case in suite() {
        for (name, data_type) in names
            .iter()
            .flat_map(|n| types().into_iter().map(move |t| (n, t)))
        {
            let record = [
                b"{\"before\":\"x\", \"wanted\" :".as_slice(),
                &case,
                b",\"after\": [1]}",
            ]
            .concat();
            let is_json = serde_json::from_slice::<serde_json::Value>(&record).is_ok();
            let mut decoder = decoder_of(vec![nullable(name, data_type.clone())], false);
            let payload = blobs([Some(b"{}".as_slice()), Some(record.as_slice()), Some(b"{}")]);
            let decoded = decoder.decode(&payload, 0..3).unwrap();
            // JSON of the wrong type is bad too, but then it has a field.
            let rejected = decoded.bad.iter().any(|b| b.field.is_none());
            let shown = String::from_utf8_lossy(&record[..record.len().min(300)]);
            assert_eq!(
                !rejected, is_json,
                "{shown} as {data_type} in {name}: {:?}",
                decoded.bad
            );
            assert_eq!(decoded.rows + decoded.bad.len(), 3, "{shown}");
            assert!(decoded.rows >= 2);
            if is_json { good += 1 } else { bad += 1 }
        }
    }
    assert!(
        good > 500 && bad > 1000,
        "{good} good, {bad} bad: the table has lost its cases"
    );
}

/// A record as a whole, objects only.
#[test]
fn a_record_is_an_object_that_serde_json_takes() {
    for case in suite() {
        let value = serde_json::from_slice::<serde_json::Value>(&case);
        let expected = value.is_ok_and(|value| value.is_object());
        let mut decoder = decoder_of(vec![nullable("z", DataType::Int64)], false);
        let decoded = decoder
            .decode(&blobs([Some(case.as_slice())]), 0..1)
            .unwrap();
        let shown = String::from_utf8_lossy(&case[..case.len().min(300)]);
        assert_eq!(
            (decoded.rows, decoded.bad.len()),
            if expected { (1, 0) } else { (0, 1) },
            "{shown}"
        );
    }
}

/// Each case as a value in each place of the object and as the whole record, behind a record
/// that makes the guess up to the case right.
#[test]
fn cases_in_a_stream_are_read_the_same_way_on_every_path() {
    let places: [(&[u8], &[u8]); 5] = [
        (b"{\"wanted\":", b"}"),
        (b"{\"wanted\":", b",\"after\":[1]}"),
        (b"{\"before\":\"x\",\"wanted\":", b"}"),
        (b"{\"unwanted\": ", b" , \"wanted\": null }"),
        (b"", b""),
    ];
    for data_type in types() {
        let mut records = Vec::new();
        for case in suite() {
            for (before, after) in places {
                records.push([before, b"\"x\"", after].concat());
                records.push([before, &case, after].concat());
            }
        }
        let good = agree_on(vec![nullable("wanted", data_type)], &records);
        assert!(good > 200 && good < records.len() * 9 / 10, "{good}");
    }
}
