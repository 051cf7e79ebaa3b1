use super::*;
use arrow::array::*;
use std::sync::Arc;

fn text(array: impl Array, row: usize, dialect: Dialect) -> String {
    let mut out = Vec::new();
    cell(&array, row, dialect, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The first row in both dialects.
fn both(array: impl Array + Clone) -> [String; 2] {
    [
        text(array.clone(), 0, Dialect::Spark),
        text(array, 0, Dialect::Flink),
    ]
}

#[test]
fn scalars() {
    assert_eq!(both(Int64Array::from(vec![-5])), ["-5", "-5"]);
    assert_eq!(both(Int64Array::from(vec![None])), ["NULL", "null"]);
    assert_eq!(both(NullArray::new(1)), ["NULL", "null"]);
    assert_eq!(both(Float64Array::from(vec![1e10])), ["1.0E10", "1.0E10"]);
    assert_eq!(both(Float64Array::from(vec![f64::NAN])), ["NaN", "NaN"]);
    assert_eq!(both(Float32Array::from(vec![0.5])), ["0.5", "0.5"]);
    assert_eq!(both(BooleanArray::from(vec![true])), ["true", "true"]);
    assert_eq!(
        both(StringArray::from(vec!["it's \"raw\""])),
        ["it's \"raw\"", "it's \"raw\""]
    );
    assert_eq!(
        both(BinaryArray::from(vec![&b"ab\xff"[..]])),
        ["[61 62 FF]", "[97, 98, -1]"]
    );
    let decimal = Decimal128Array::from(vec![150])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(both(decimal), ["1.50", "1.50"]);
}

#[test]
fn times() {
    let noon = TimestampMicrosecondArray::from(vec![1_641_038_400_000_000]);
    assert_eq!(
        both(noon.clone()),
        ["2022-01-01 12:00:00", "2022-01-01T12:00"]
    );
    let half = TimestampMillisecondArray::from(vec![1_641_038_400_500]).with_timezone("UTC");
    assert_eq!(
        both(half),
        ["2022-01-01 12:00:00.5", "2022-01-01T12:00:00.500Z"]
    );
    assert_eq!(
        both(Date32Array::from(vec![18993])),
        ["2022-01-01", "2022-01-01"]
    );
    assert_eq!(
        both(Time64MicrosecondArray::from(vec![3_600_000_000])),
        ["01:00:00", "01:00"]
    );
    let mut out = Vec::new();
    cell(&noon, 0, Dialect::Flink, true, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "2022-01-01T12:00:00Z");
}

#[test]
fn nested() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]);
    assert_eq!(both(list), ["[1, NULL]", "[1, null]"]);
    let row = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("b", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef,
        ),
    ]);
    assert_eq!(both(row), ["{1, NULL}", "+I[1, null]"]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for (key, value) in [("a", 1), ("b", 2)] {
        map.keys().append_value(key);
        map.values().append_value(value);
    }
    map.append(true).unwrap();
    assert_eq!(both(map.finish()), ["{a -> 1, b -> 2}", "{a=1, b=2}"]);
    let keys: DictionaryArray<Int32Type> = vec!["x"].into_iter().collect();
    assert_eq!(both(keys), ["x", "x"]);
}

#[test]
fn list_views_take_their_items_from_anywhere() {
    let values = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let field = Arc::new(Field::new_list_field(DataType::Int32, true));
    let array =
        ListViewArray::try_new(field, vec![1, 0].into(), vec![2, 1].into(), values, None).unwrap();
    assert_eq!(text(array.clone(), 0, Dialect::Spark), "[2, 3]");
    assert_eq!(text(array, 1, Dialect::Spark), "[1]");
}

#[test]
fn counts_are_grouped() {
    for (count, expected) in [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(grouped(count), expected);
    }
    assert_eq!(counted(1, "row"), "1 row");
    assert_eq!(counted(2000, "file"), "2,000 files");
}
