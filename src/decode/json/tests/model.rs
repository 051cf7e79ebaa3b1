//! Random records and schemas against a naive reader: `serde_json::Value`, then conversion.

use super::*;
use crate::decode::timestamp;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::*;
use base64::Engine;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::BTreeMap;

/// A value of any column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Boolean(bool),
    /// Integers, unscaled decimals, times.
    Whole(i128),
    /// The bits, so that -0 is not 0.
    Double(u64),
    Text(String),
    /// JSON text that means this value.
    Json(Value),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    Map(BTreeMap<String, Cell>),
    Row(Vec<Cell>),
}

/// What the record should become; `None` when it is bad.
pub(super) fn expected(fields: &Fields, strict: bool, record: &[u8]) -> Option<Vec<Cell>> {
    match serde_json::from_slice(record).ok()? {
        Value::Object(object) => expected_row(fields, strict, &object),
        _ => None,
    }
}

fn expected_row(
    fields: &Fields,
    strict: bool,
    object: &serde_json::Map<String, Value>,
) -> Option<Vec<Cell>> {
    let field = |field: &FieldRef| match object.get(field.name()) {
        None if strict => None,
        value => expected_cell(field, strict, value.unwrap_or(&Value::Null)),
    };
    fields.iter().map(field).collect()
}

fn expected_cell(field: &Field, strict: bool, value: &Value) -> Option<Cell> {
    Some(match (field.data_type(), value) {
        (_, Value::Null) => return field.is_nullable().then_some(Cell::Null),
        (DataType::Utf8View, Value::String(text)) => Cell::Text(text.clone()),
        (DataType::Utf8View, other) => Cell::Json(other.clone()),
        (DataType::Boolean, Value::Bool(value)) => Cell::Boolean(*value),
        (DataType::Int8, value) => Cell::Whole(i8::try_from(whole(value)?).ok()?.into()),
        (DataType::Int64, value) => Cell::Whole(i64::try_from(whole(value)?).ok()?.into()),
        (DataType::Float64, Value::Number(number)) => Cell::Double(number.as_f64()?.to_bits()),
        (DataType::Decimal128(p, s), Value::Number(n)) => {
            Cell::Whole(decimal(&n.to_string(), *p, *s)?)
        }
        (DataType::Date32, Value::String(text)) => {
            Cell::Whole(timestamp::parse_date(text.as_bytes())?.into())
        }
        (DataType::Timestamp(..), Value::String(text)) => {
            Cell::Whole(timestamp::parse_us(text.as_bytes())?.into())
        }
        (DataType::Binary, Value::String(text)) => Cell::Bytes(
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .ok()?,
        ),
        (DataType::List(element), Value::Array(values)) => Cell::List(
            values
                .iter()
                .map(|value| expected_cell(element, strict, value))
                .collect::<Option<_>>()?,
        ),
        (DataType::Map(entries, _), Value::Object(object)) => {
            let DataType::Struct(pair) = entries.data_type() else {
                unreachable!()
            };
            let cell = |(key, value): (&String, &Value)| {
                Some((key.clone(), expected_cell(&pair[1], strict, value)?))
            };
            Cell::Map(object.iter().map(cell).collect::<Option<_>>()?)
        }
        (DataType::Struct(fields), Value::Object(object)) => {
            Cell::Row(expected_row(fields, strict, object)?)
        }
        _ => return None,
    })
}

/// By way of a double: right for the numbers of few digits that are generated here.
fn whole(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    match (number.as_i64(), number.as_u64(), number.as_f64()?) {
        (Some(value), _, _) => Some(value.into()),
        (_, Some(value), _) => Some(value.into()),
        (_, _, value) => (value.fract() == 0.0 && value.abs() < 1e20).then_some(value as i128),
    }
}

/// Schoolbook rounding of the digits of a double of few digits.
fn decimal(number: &str, precision: u8, scale: i8) -> Option<i128> {
    let plain = match number.parse::<i128>() {
        Ok(value) => value.to_string(),
        Err(_) => format!("{}", number.parse::<f64>().unwrap()),
    };
    let (negative, digits) = (plain.starts_with('-'), plain.trim_start_matches('-'));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = format!("{fraction}{}", "0".repeat(scale as usize + 1));
    let (kept, dropped) = fraction.split_at(scale as usize);
    let up = dropped.as_bytes()[0] >= b'5';
    let value = format!("{whole}{kept}").parse::<i128>().ok()? + i128::from(up);
    (value < 10_i128.pow(precision.into())).then_some(if negative { -value } else { value })
}

/// What the array has in slot `i`.
pub(super) fn actual(array: &ArrayRef, i: usize) -> Cell {
    if array.is_null(i) {
        return Cell::Null;
    }
    let all = |array: ArrayRef| {
        (0..array.len())
            .map(|i| actual(&array, i))
            .collect::<Vec<_>>()
    };
    match array.data_type() {
        DataType::Utf8View => Cell::Text(array.as_string_view().value(i).into()),
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(i)),
        DataType::Int8 => Cell::Whole(array.as_primitive::<Int8Type>().value(i).into()),
        DataType::Int64 => Cell::Whole(array.as_primitive::<Int64Type>().value(i).into()),
        DataType::Float64 => Cell::Double(array.as_primitive::<Float64Type>().value(i).to_bits()),
        DataType::Decimal128(..) => Cell::Whole(array.as_primitive::<Decimal128Type>().value(i)),
        DataType::Date32 => Cell::Whole(array.as_primitive::<Date32Type>().value(i).into()),
        DataType::Timestamp(..) => Cell::Whole(
            array
                .as_primitive::<TimestampMicrosecondType>()
                .value(i)
                .into(),
        ),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(i).into()),
        DataType::List(_) => Cell::List(all(array.as_list::<i32>().value(i))),
        DataType::Map(..) => {
            let entries = array.as_map().value(i);
            let keys = entries
                .column(0)
                .as_string_view()
                .iter()
                .map(|key| key.unwrap().to_string());
            let count = entries.len();
            let map: BTreeMap<_, _> = keys.zip(all(Arc::clone(entries.column(1)))).collect();
            assert_eq!(map.len(), count, "equal keys in a map");
            Cell::Map(map)
        }
        DataType::Struct(_) => Cell::Row(
            array
                .as_struct()
                .columns()
                .iter()
                .map(|c| actual(c, i))
                .collect(),
        ),
        other => unreachable!("{other}"),
    }
}

pub(super) fn same(expected: &Cell, actual: &Cell) -> bool {
    match (expected, actual) {
        (Cell::Json(value), Cell::Text(text)) => {
            serde_json::from_str::<Value>(text).is_ok_and(|v| v == *value)
        }
        (Cell::List(a), Cell::List(b)) | (Cell::Row(a), Cell::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Cell::Map(a), Cell::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
        }
        (a, b) => a == b,
    }
}

/// Random schemas and records for them.
pub(super) struct Random(pub(super) StdRng);

impl Random {
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    pub(super) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn data_type(&mut self, depth: usize) -> DataType {
        match self.below(if depth == 0 { 9 } else { 13 }) {
            0 | 1 => DataType::Utf8View,
            2 => DataType::Boolean,
            3 => DataType::Int8,
            4 => DataType::Int64,
            5 => DataType::Float64,
            6 => DataType::Decimal128(6, 2),
            7 => DataType::Timestamp(TimeUnit::Microsecond, None),
            8 => {
                if self.chance(50) {
                    DataType::Binary
                } else {
                    DataType::Date32
                }
            }
            9 | 10 => DataType::List(Arc::new(Field::new(
                "element",
                self.data_type(depth - 1),
                self.chance(70),
            ))),
            11 => map(self.data_type(depth - 1)),
            _ => DataType::Struct(self.fields(depth - 1)),
        }
    }

    fn fields(&mut self, depth: usize) -> Fields {
        let count = self.below(5);
        let names = ["a", "b", "ü", "event_time", "c d"];
        (0..count)
            .map(|i| Field::new(names[i], self.data_type(depth), self.chance(70)))
            .collect()
    }

    pub(super) fn record(&mut self, fields: &Fields) -> Vec<u8> {
        let mut text = self.object(fields, 3).into_bytes();
        if self.chance(15) {
            let byte = self.0.random_range(0..=255);
            match (self.below(3), text.len()) {
                (0, n) => text[self.0.random_range(0..n)] = byte,
                (1, n) => text.truncate(self.0.random_range(0..n)),
                (_, n) => text.insert(self.0.random_range(0..=n), byte),
            }
        }
        text
    }

    pub(super) fn blank(&mut self) -> &'static str {
        if self.chance(85) {
            ""
        } else {
            self.pick(&[" ", "\n", "\t\r ", "  "])
        }
    }

    fn between(&mut self, open: &str, items: Vec<String>, close: &str) -> String {
        let mut text = format!("{}{open}{}", self.blank(), self.blank());
        for (i, item) in items.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            text += &format!("{comma}{}{item}{}", self.blank(), self.blank());
        }
        text + close + self.blank()
    }

    fn object(&mut self, fields: &Fields, depth: usize) -> String {
        let mut members = Vec::new();
        for field in fields {
            while self.chance(10) {
                members.push(self.member("x", |r| r.any(1)));
            }
            let copies = match self.below(30) {
                0 => 0,
                1 | 2 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                members.push(self.member(field.name(), |r| r.value(field, depth)));
            }
        }
        if self.chance(10) && members.len() > 1 {
            members.reverse();
        }
        self.between("{", members, "}")
    }

    pub(super) fn member(&mut self, key: &str, value: impl FnOnce(&mut Self) -> String) -> String {
        let key = match self.chance(5) {
            true => key
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect(),
            false => key.to_string(),
        };
        format!("\"{key}\"{}:{}{}", self.blank(), self.blank(), value(self))
    }

    pub(super) fn value(&mut self, field: &Field, depth: usize) -> String {
        if self.chance(3) {
            return self.any(2);
        }
        if self.chance(if field.is_nullable() { 10 } else { 1 }) {
            return "null".into();
        }
        let count = self.below(4);
        match field.data_type() {
            DataType::Utf8View if self.chance(20) => self.any(1),
            DataType::Utf8View => self.string(),
            DataType::Boolean => self.pick(&["true", "false"]).into(),
            DataType::Int8 => self.0.random_range(-135..=135).to_string(),
            DataType::Timestamp(..) => self
                .pick(&[
                    "\"2022-01-01T12:22:25\"",
                    "\"2022-01-01 12:22:25.123Z\"",
                    "\"1969-01-01 00:00:00+01:00\"",
                    "\"2022-01-01\\u002012:22:25\"",
                    "\"2022-02-29 00:00:00\"",
                ])
                .into(),
            DataType::Date32 => self
                .pick(&["\"2022-01-01\"", "\"0000-02-29\"", "\"2022-13-01\""])
                .into(),
            DataType::Binary => self.pick(&["\"\"", "\"AAH/\"", "\"QQ==\"", "\"Q\""]).into(),
            DataType::List(element) => {
                let items = (0..count).map(|_| self.value(element, depth)).collect();
                self.between("[", items, "]")
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    unreachable!()
                };
                let member = |_| {
                    let key = self.pick(&["k", "l", "a key of more than twelve bytes", ""]);
                    self.member(key, |r| r.value(&pair[1], depth))
                };
                let members = (0..count).map(member).collect();
                self.between("{", members, "}")
            }
            DataType::Struct(fields) => self.object(fields, depth - 1),
            _ => self.number(),
        }
    }

    pub(super) fn any(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => self.string(),
            1 => self.number(),
            2 => "true".into(),
            3 => "null".into(),
            4 => self
                .pick(&["false", "1e400", "\"\\ud800\"", "\"\u{7f}\""])
                .into(),
            5 => {
                let items = (0..self.below(3)).map(|_| self.any(depth - 1)).collect();
                self.between("[", items, "]")
            }
            _ => {
                let key = self.pick(&["a", "b", "[{\\\""]);
                let members = (0..self.below(3))
                    .map(|_| self.member(key, |r| r.any(depth - 1)))
                    .collect();
                self.between("{", members, "}")
            }
        }
    }

    fn string(&mut self) -> String {
        let parts = (0..self.below(4)).map(|_| {
            self.pick(&[
                "a",
                "user_123",
                "0123456789ab",
                "ü",
                "😀",
                "\\n",
                "\\\"",
                "\\u00e9",
                "{",
                "[1",
                "\\\\",
                "\\ud83d\\ude00",
            ])
        });
        format!("\"{}\"", parts.collect::<Vec<_>>().concat())
    }

    pub(super) fn number(&mut self) -> String {
        let (whole, fraction) = (self.0.random_range(-9999..=9999), self.below(1000));
        match self.below(6) {
            0 => self
                .pick(&[
                    "0",
                    "-0",
                    "-0.0",
                    "1.0",
                    "1e3",
                    "2500e-2",
                    "9223372036854775807",
                    "18446744073709551615",
                ])
                .into(),
            1 => format!("{whole}.{fraction}"),
            2 => format!("{whole}.{fraction:03}e{}", self.0.random_range(-5..8)),
            _ => whole.to_string(),
        }
    }
}

/// The rows of `range`, and the records that are bad.
pub(super) fn rows(
    decoder: &mut JsonDecoder,
    payload: &Blobs,
    range: Range<usize>,
) -> (BTreeMap<u32, Vec<Cell>>, Vec<u32>) {
    let decoded = decoder.decode(payload, range.clone()).unwrap();
    for column in &decoded.columns {
        assert_eq!(column.len(), decoded.rows);
        column.to_data().validate_full().unwrap();
    }
    let records = decoded
        .records
        .unwrap_or_else(|| (range.start as u32..range.end as u32).collect());
    assert_eq!(records.len(), decoded.rows);
    let cells = |row| {
        decoded
            .columns
            .iter()
            .map(|column| actual(column, row))
            .collect()
    };
    let rows = records
        .iter()
        .enumerate()
        .map(|(row, record)| (*record, cells(row)))
        .collect();
    (rows, decoded.bad.iter().map(|bad| bad.record).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn same_rows_and_same_rejections_as_the_model(seed: u64) {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let fields = random.fields(2);
        let strict = random.chance(20);
        let count = random.below(30);
        let records: Vec<Option<Vec<u8>>> =
            (0..count).map(|_| (!random.chance(5)).then(|| random.record(&fields))).collect();
        let payload = blobs(records.iter().map(Option::as_deref));
        let options = JsonOptions { fail_on_missing_field: strict };
        let mut decoder = JsonDecoder::new(Arc::new(Schema::new(fields.clone())), options).unwrap();

        let (found, bad) = rows(&mut decoder, &payload, 0..count);
        for (i, record) in records.iter().enumerate() {
            let shown = record.as_deref().map(String::from_utf8_lossy);
            let row = found.get(&(i as u32));
            match record.as_deref().map(|record| expected(&fields, strict, record)) {
                None => prop_assert!(row.is_none() && !bad.contains(&(i as u32))),
                Some(None) => prop_assert!(row.is_none() && bad.contains(&(i as u32)), "{:?} of {:?}", shown, fields),
                Some(Some(cells)) => {
                    let agree = row.is_some_and(|row| same(&Cell::Row(cells.clone()), &Cell::Row(row.clone())));
                    prop_assert!(agree, "{:?} of {:?}: expected {:?}, found {:?}", shown, fields, cells, row);
                }
            }
        }

        // Any split into batches gives the same rows.
        let (mut split_rows, mut split_bad, mut start) = (BTreeMap::new(), Vec::new(), 0);
        while start < count {
            let end = start + 1 + random.below(count - start);
            let (rows, bad) = rows(&mut decoder, &payload, start..end);
            split_rows.extend(rows);
            split_bad.extend(bad);
            start = end;
        }
        prop_assert_eq!((split_rows, split_bad), (found, bad));
    }
}

/// The generator is worth nothing when nearly every record is bad, or none is.
#[test]
fn generated_records_are_good_and_bad() {
    let (mut good, mut all) = (0, 0);
    for seed in 0..200 {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let fields = random.fields(2);
        for _ in 0..10 {
            all += 1;
            good += usize::from(expected(&fields, false, &random.record(&fields)).is_some());
        }
    }
    assert!(
        good * 10 > all * 4 && good * 10 < all * 9,
        "{good} of {all} are good"
    );
}
