use super::*;
use crate::error::At;
use crate::table::ColumnKind;
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;

const NOON_US: i64 = 1_641_039_745_120_000; // 2022-01-01 12:22:25.12

fn column(name: &str, data_type: &DataType, ltz: bool) -> Column {
    Column {
        name: name.into(),
        data_type: data_type.clone(),
        nullable: true,
        kind: ColumnKind::Physical,
        ltz,
        at: At { line: 1, column: 1 },
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn lines(batch: &RecordBatch, mut encoder: JsonEncoder) -> Vec<String> {
    (0..batch.num_rows())
        .map(|row| {
            let mut out = Vec::new();
            encoder.encode(batch, row, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            serde_json::from_str::<serde_json::Value>(&text)
                .unwrap_or_else(|e| panic!("{e}: {text}"));
            text
        })
        .collect()
}

fn plain(batch: &RecordBatch) -> Vec<String> {
    lines(batch, JsonEncoder::for_schema(&batch.schema()))
}

/// One value per array, each written as the field `c`.
fn value_of(array: ArrayRef) -> String {
    let text = plain(&batch(vec![("c", array)])).remove(0);
    text.strip_prefix(r#"{"c":"#)
        .unwrap()
        .strip_suffix('}')
        .unwrap()
        .to_string()
}

fn options(entries: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for (key, value) in entries {
        options
            .insert("kafka", key, value, At { line: 1, column: 1 })
            .unwrap();
    }
    options
}

#[test]
fn rows_in_the_order_of_the_columns() {
    let batch = batch(vec![
        (
            "user",
            Arc::new(StringViewArray::from(vec![Some("ann"), None])) as ArrayRef,
        ),
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(-3), Some(i64::MAX)])),
        ),
        (
            "ok",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false)])),
        ),
    ]);
    assert_eq!(
        plain(&batch),
        [
            r#"{"user":"ann","n":-3,"ok":true}"#,
            r#"{"user":null,"n":9223372036854775807,"ok":false}"#,
        ]
    );
}

#[test]
fn null_fields_can_be_left_out_of_nested_rows_too() {
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![None, Some(1)])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("b", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![Some(2), None])) as ArrayRef,
        ),
    ]);
    let batch = batch(vec![
        (
            "x",
            Arc::new(StringArray::from(vec![None, Some("s")])) as ArrayRef,
        ),
        ("n", Arc::new(NullArray::new(2))),
        ("r", Arc::new(inner)),
    ]);
    let columns: Vec<Column> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| column(f.name(), f.data_type(), false))
        .collect();
    let columns: Vec<&Column> = columns.iter().collect();
    let ignoring = options(&[("json.encode.ignore-null-fields", "true")]);
    let encoder = JsonEncoder::new(&columns, &ignoring).unwrap();
    assert_eq!(
        lines(&batch, encoder),
        [r#"{"r":{"b":2}}"#, r#"{"x":"s","r":{"a":1}}"#]
    );
    let encoder = JsonEncoder::new(&columns, &Options::default()).unwrap();
    assert_eq!(
        lines(&batch, encoder)[0],
        r#"{"x":null,"n":null,"r":{"a":null,"b":2}}"#
    );
}

#[test]
fn timestamps_in_both_standards() {
    let array = |v| Arc::new(TimestampMicrosecondArray::from(vec![v])) as ArrayRef;
    let batch = batch(vec![("t", array(NOON_US)), ("l", array(NOON_US - 120_000))]);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let (t, l) = (column("t", &micros, false), column("l", &micros, true));
    let with = |o: &Options| lines(&batch, JsonEncoder::new(&[&t, &l], o).unwrap()).remove(0);
    assert_eq!(
        with(&Options::default()),
        r#"{"t":"2022-01-01 12:22:25.12","l":"2022-01-01 12:22:25Z"}"#
    );
    let iso = options(&[("json.timestamp-format.standard", "iso-8601")]);
    assert_eq!(
        with(&iso),
        r#"{"t":"2022-01-01T12:22:25.12","l":"2022-01-01T12:22:25Z"}"#
    );
}

#[test]
fn every_time_type() {
    assert_eq!(
        value_of(Arc::new(TimestampNanosecondArray::from(vec![
            NOON_US * 1000 + 7
        ]))),
        r#""2022-01-01 12:22:25.120000007""#
    );
    assert_eq!(
        value_of(Arc::new(TimestampMillisecondArray::from(vec![-1]))),
        r#""1969-12-31 23:59:59.999""#
    );
    let zoned = TimestampSecondArray::from(vec![0]).with_timezone("+02:00");
    assert_eq!(value_of(Arc::new(zoned)), r#""1970-01-01 00:00:00Z""#);
    assert_eq!(
        value_of(Arc::new(Date32Array::from(vec![18993]))),
        r#""2022-01-01""#
    );
    assert_eq!(
        value_of(Arc::new(Date64Array::from(vec![-1]))),
        r#""1969-12-31""#
    );
    assert_eq!(
        value_of(Arc::new(Time32SecondArray::from(vec![3661]))),
        r#""01:01:01""#
    );
    assert_eq!(
        value_of(Arc::new(Time32MillisecondArray::from(vec![500]))),
        r#""00:00:00.5""#
    );
    assert_eq!(
        value_of(Arc::new(Time64MicrosecondArray::from(vec![1]))),
        r#""00:00:00.000001""#
    );
    assert_eq!(
        value_of(Arc::new(Time64NanosecondArray::from(vec![
            86_399_000_000_000
        ]))),
        r#""23:59:59""#
    );
    assert_eq!(
        value_of(Arc::new(DurationSecondArray::from(vec![61]))),
        r#""PT61S""#
    );
    let interval = IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 2000)]);
    assert_eq!(value_of(Arc::new(interval)), r#""1 days 2.000 secs""#);
}

#[test]
fn every_number_type() {
    assert_eq!(value_of(Arc::new(Int8Array::from(vec![-128]))), "-128");
    assert_eq!(value_of(Arc::new(Int16Array::from(vec![-1]))), "-1");
    assert_eq!(
        value_of(Arc::new(Int32Array::from(vec![i32::MIN]))),
        "-2147483648"
    );
    assert_eq!(value_of(Arc::new(UInt8Array::from(vec![255]))), "255");
    assert_eq!(value_of(Arc::new(UInt16Array::from(vec![65535]))), "65535");
    assert_eq!(
        value_of(Arc::new(UInt32Array::from(vec![u32::MAX]))),
        "4294967295"
    );
    assert_eq!(
        value_of(Arc::new(UInt64Array::from(vec![u64::MAX]))),
        "18446744073709551615"
    );
    assert_eq!(value_of(Arc::new(Float64Array::from(vec![1e10]))), "1.0E10");
    assert_eq!(value_of(Arc::new(Float32Array::from(vec![0.1]))), "0.1");
    assert_eq!(
        value_of(Arc::new(Float64Array::from(vec![f64::NAN]))),
        r#""NaN""#
    );
    assert_eq!(
        value_of(Arc::new(Float32Array::from(vec![f32::NEG_INFINITY]))),
        r#""-Infinity""#
    );
    let decimal = Decimal128Array::from(vec![-150])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(value_of(Arc::new(decimal)), "-1.50");
    let decimal = Decimal256Array::from(vec![i256::from_i128(5)])
        .with_precision_and_scale(50, 3)
        .unwrap();
    assert_eq!(value_of(Arc::new(decimal)), "0.005");
}

#[test]
fn strings_are_escaped() {
    let text = "a\"b\\c/d\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}é€😀";
    let expected = "\"a\\\"b\\\\c/d\\n\\r\\t\\b\\f\\u0001\\u001F\u{7f}é€😀\"";
    assert_eq!(value_of(Arc::new(StringArray::from(vec![text]))), expected);
    assert_eq!(
        value_of(Arc::new(LargeStringArray::from(vec![text]))),
        expected
    );
    assert_eq!(
        value_of(Arc::new(StringViewArray::from(vec![text]))),
        expected
    );
    let named = batch(vec![(
        "a \"q\"",
        Arc::new(Int32Array::from(vec![1])) as ArrayRef,
    )]);
    assert_eq!(plain(&named), [r#"{"a \"q\"":1}"#]);
}

#[test]
fn bytes_are_base64() {
    for (bytes, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        let expected = format!("\"{expected}\"");
        assert_eq!(
            value_of(Arc::new(BinaryArray::from(vec![bytes.as_bytes()]))),
            expected
        );
        assert_eq!(
            value_of(Arc::new(BinaryViewArray::from(vec![bytes.as_bytes()]))),
            expected
        );
        assert_eq!(
            value_of(Arc::new(LargeBinaryArray::from(vec![bytes.as_bytes()]))),
            expected
        );
    }
    assert_eq!(
        value_of(Arc::new(BinaryArray::from(vec![&[0xFB_u8, 0xFF][..]]))),
        r#""+/8=""#
    );
}

#[test]
fn dictionaries_show_their_values_and_nulls() {
    let values = StringArray::from(vec![Some("x"), None]);
    let keys = Int8Array::from(vec![Some(0), Some(1), None]);
    let array = DictionaryArray::new(keys, Arc::new(values));
    let rows = plain(&batch(vec![("d", Arc::new(array) as ArrayRef)]));
    assert_eq!(rows, [r#"{"d":"x"}"#, r#"{"d":null}"#, r#"{"d":null}"#]);
}

#[test]
fn nested_values_of_sliced_arrays() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(9)]),
        Some(vec![Some(1), None, Some(3)]),
        Some(vec![]),
        None,
    ]);
    let sliced = batch(vec![("l", list.slice(1, 3).into_array_ref())]);
    assert_eq!(
        plain(&sliced),
        [r#"{"l":[1,null,3]}"#, r#"{"l":[]}"#, r#"{"l":null}"#]
    );

    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])],
        2,
    );
    assert_eq!(
        plain(&batch(vec![("f", fixed.slice(1, 1).into_array_ref())])),
        [r#"{"f":[3,4]}"#]
    );

    let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    map.keys().append_value(7);
    map.values().append_value("seven");
    map.keys().append_value(8);
    map.values().append_null();
    map.append(true).unwrap();
    assert_eq!(
        plain(&batch(vec![("m", map.finish().into_array_ref())])),
        [r#"{"m":{"7":"seven","8":null}}"#]
    );
}

#[test]
fn map_keys_of_any_type_are_strings() {
    let mut map = MapBuilder::new(
        None,
        ListBuilder::new(StringBuilder::new()),
        Int32Builder::new(),
    );
    map.keys().values().append_value("k");
    map.keys().append(true);
    map.values().append_value(1);
    map.append(true).unwrap();
    assert_eq!(
        plain(&batch(vec![("m", map.finish().into_array_ref())])),
        [r#"{"m":{"[\"k\"]":1}}"#]
    );
}

#[test]
fn a_batch_of_another_width_is_refused() {
    let one = batch(vec![("a", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
    let mut out = b"kept".to_vec();
    let error = JsonEncoder::for_schema(&Schema::empty())
        .encode(&one, 0, &mut out)
        .unwrap_err();
    assert!(matches!(error, Error::Bug(_)));
    assert_eq!(out, b"kept");
}

trait IntoArrayRef {
    fn into_array_ref(self) -> ArrayRef;
}

impl<A: Array + 'static> IntoArrayRef for A {
    fn into_array_ref(self) -> ArrayRef {
        Arc::new(self)
    }
}
