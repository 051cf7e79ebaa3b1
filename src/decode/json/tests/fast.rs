//! The fast path beside the general one, for each kind of vector: streams whose guesses are
//! stale, wrong and right must give the same columns, row numbers and reasons. What is JSON is
//! said by serde_json, and what good rows hold by the model.

#![expect(
    clippy::single_range_in_vec_init,
    reason = "one batch is a list of one range"
)]

use super::model::{Cell, Random, expected, rows, same};
use super::*;
use crate::source::Span;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt::Write;

fn decoder(schema: &SchemaRef, strict: bool, isa: Isa) -> JsonDecoder {
    let keys: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let options = JsonOptions {
        fail_on_missing_field: strict,
    };
    JsonDecoder::with_isa(Arc::clone(schema), &keys, options, isa).unwrap()
}

fn checked(decoder: &mut JsonDecoder, payload: &Blobs, range: Range<usize>) -> Decoded {
    let decoded = decoder.decode(payload, range).unwrap();
    for column in &decoded.columns {
        assert_eq!(column.len(), decoded.rows);
        column.to_data().validate_full().unwrap();
    }
    decoded
}

/// Decodes `batches` of `payload`, each decoder all of them; returns how many records were rows.
pub(super) fn agree(
    schema: &SchemaRef,
    strict: bool,
    payload: &Blobs,
    batches: &[Range<usize>],
) -> usize {
    let mut general = decoder(schema, strict, Isa::Portable);
    general.walker = None;
    let mut decoders: Vec<_> = Isa::all()
        .into_iter()
        .map(|isa| decoder(schema, strict, isa))
        .collect();
    let mut good = 0;
    for batch in batches {
        let expected = checked(&mut general, payload, batch.clone());
        good += expected.rows;
        for record in batch.clone() {
            let text = payload.get(record).unwrap_or(b"{}");
            let is_json =
                serde_json::from_slice(text).is_ok_and(|v: serde_json::Value| v.is_object());
            let is_bad = |bad: &Bad| bad.record == record as u32 && bad.field.is_none();
            let shown = String::from_utf8_lossy(&text[..text.len().min(300)]);
            assert_eq!(is_json, !expected.bad.iter().any(is_bad), "{shown}");
        }
        for decoder in &mut decoders {
            let found = checked(decoder, payload, batch.clone());
            let isa = decoder.isa;
            assert_eq!(found.bad, expected.bad, "{isa:?} {batch:?}");
            assert_eq!(found.records, expected.records, "{isa:?} {batch:?}");
            assert_eq!(found.columns, expected.columns, "{isa:?} {batch:?}");
        }
    }
    good
}

/// All records in one batch.
pub(super) fn agree_on<R: AsRef<[u8]>>(fields: Vec<Field>, records: &[R]) -> usize {
    let payload = blobs(records.iter().map(|record| Some(record.as_ref())));
    let schema = Arc::new(Schema::new(fields));
    agree(&schema, false, &payload, &[0..records.len()])
}

const LONG_KEY: &str =
    "a key of more than sixty-four bytes, which is too long to be learned as one";
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The first two have no types for which the model goes by way of a double.
fn schema(number: usize) -> (Vec<Field>, bool) {
    let utf8 = |name| nullable(name, DataType::Utf8View);
    let fields = match number {
        0 => vec![
            utf8("a"),
            nullable("event_time", TIMESTAMP),
            nullable("c", DataType::Float64),
            Field::new("ü", DataType::Utf8View, false),
            nullable("d", DataType::Boolean),
            utf8(LONG_KEY),
        ],
        1 => vec![
            nullable("a", list(DataType::Utf8View)),
            nullable("b", map(DataType::Float64)),
            nullable("c", row(vec![utf8("a"), nullable("b", list(TIMESTAMP))])),
            utf8("d"),
        ],
        2 => vec![
            nullable("a", DataType::Int64),
            nullable("b", DataType::Decimal128(6, 2)),
            utf8("c"),
            nullable("d", DataType::Int8),
            nullable("e", DataType::Binary),
            utf8(""),
            Field::new("event_time", TIMESTAMP, false),
        ],
        _ => vec![utf8("a"), utf8("b"), utf8("event_time")],
    };
    (fields, number < 2 || number == 3)
}

/// Members and values that are seldom seen, and such that are none.
const ODD: [&str; 44] = [
    "0",
    "-0",
    "-0.0",
    "01",
    "-01",
    "1e400",
    "1e-400",
    "-1e400",
    "0e999999999999999999999",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "1.",
    ".5",
    "+1",
    "1e",
    "0x1",
    "-",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "tru",
    "truex",
    "nul",
    "NaN",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\udc00\\ud800\"",
    "\"\\u00e9\"",
    "\"\\x\"",
    "\"\\",
    "\"a",
    "\"\u{1}\"",
    "\"\u{7f}\"",
    "\"ü\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "[",
    "{",
    "[1,]",
    "{\"a\":1,}",
    "[{\"a\":[]}]",
    "{\"a\":{\"b\":null}}",
    "",
];

const RECORDS: [&str; 26] = [
    "",
    " ",
    "{}",
    "{ }",
    "null",
    "[]",
    "\"a\"",
    "{",
    "}",
    "{\"a\":1}{\"b\":2}",
    "{\"a\":1,}",
    "{,\"a\":1}",
    ",\"a\":1}",
    ",\"a\":\"x\"",
    "{\"a\":\"x\"",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1}}",
    "{\"a\":1},",
    "{\"a\":\"x\" \"b\":\"y\"}",
    "{\"a\":\"x\",,\"b\":\"y\"}",
    "{{\"a\":1}}",
    "{\"a\":1}\0",
    "\u{feff}{\"a\":1}",
    "{\"a\" \"x\"}",
    "{\"a\":\"x\"}x",
];

/// What mutations put in.
const BYTES: [u8; 28] = *b"\"\\,:{}[] \n\t\r0-1.eEu+tnx\x00\x1f\x7f\xc3\xff";

/// Records of one stream: mostly of the same few shapes.
struct Stream {
    random: Random,
    fields: Fields,
    orders: Vec<Vec<String>>,
    comma: &'static str,
    colon: &'static str,
    /// Percent of the values that are not plain, and of the records that are spoilt.
    odd: u32,
    spoilt: u32,
}

impl Stream {
    fn new(mut random: Random, fields: &[Field]) -> Self {
        let mut keys: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        let unwanted = ["x", "", "aa", "action", LONG_KEY];
        keys.extend((0..random.below(4)).map(|_| random.pick(&unwanted).to_string()));
        let count = 1 + random.below(4);
        let orders = (0..count).map(|_| {
            for last in 1..keys.len() {
                let other = random.below(last + 1);
                keys.swap(last, other);
            }
            keys.clone()
        });
        let orders = orders.collect();
        let of = |random: &mut Random, of: [u32; 4]| of[random.below(4)];
        Self {
            comma: [",", ",", ", ", " ,\n "][random.below(4)],
            colon: [":", ":", ": ", " :\t"][random.below(4)],
            odd: of(&mut random, [0, 0, 2, 30]),
            spoilt: of(&mut random, [0, 1, 10, 40]),
            orders,
            fields: fields.to_vec().into(),
            random,
        }
    }

    fn record(&mut self) -> Vec<u8> {
        if self.random.chance(self.odd / 3) {
            let text = self.random.record(&self.fields.clone());
            return self.spoil(text);
        }
        if self.random.chance(self.spoilt / 10) {
            return self.random.pick(&RECORDS).into();
        }
        let mut keys = self.orders[self.random.below(self.orders.len())].clone();
        if self.random.chance(self.odd) {
            let at = self.random.below(keys.len());
            match self.random.below(3) {
                0 => drop(keys.remove(at)),
                1 => keys.push(keys[at].clone()),
                _ => keys.insert(at, self.random.pick(&["y", "aa", "\u{1f600}"]).into()),
            }
        }
        let mut text = String::from("{");
        for (i, key) in keys.iter().enumerate() {
            let comma = if i == 0 { "" } else { self.comma };
            let value = self.value(key);
            let member = self.random.chance(self.odd / 5);
            match member {
                true => text += &format!("{comma}{}", self.random.member(key, |_| value)),
                false => write!(text, "{comma}\"{key}\"{}{value}", self.colon).unwrap(),
            }
        }
        let mut record = (text + "}").into_bytes();
        while self.random.chance(self.spoilt) {
            record = self.spoil(record);
        }
        record
    }

    fn value(&mut self, key: &str) -> String {
        let field = self.fields.iter().find(|f| f.name() == key).cloned();
        if self.random.chance(self.odd) {
            return match (self.random.below(4), field) {
                (0, _) => self.random.pick(&ODD).into(),
                (1, _) => self.random.any(2),
                (2, _) => self.random.number() + &"7".repeat(self.random.below(330)),
                (_, Some(field)) => self.random.value(&field, 2),
                _ => "null".into(),
            };
        }
        let n = self.random.below(100);
        match field.as_ref().map(|field| field.data_type()) {
            Some(DataType::Boolean) => ["true", "false", "null"][n % 3].into(),
            Some(DataType::Int8 | DataType::Int64) => n.to_string(),
            Some(DataType::Float64 | DataType::Decimal128(..)) => format!("{n}.25"),
            Some(DataType::Timestamp(..)) => format!("\"2022-01-01T12:22:{:02}\"", n % 60),
            Some(DataType::Binary) => "\"AAH/\"".into(),
            Some(DataType::List(_)) => format!("[\"{n}\", null]"),
            Some(DataType::Map(..)) => format!("{{\"k\":{n}}}"),
            Some(DataType::Struct(_)) => format!("{{\"a\":\"{n}\",\"z\":[{{}}]}}"),
            _ => format!("\"{}\"", &"user_123 of more than twelve bytes"[..n % 34]),
        }
    }

    /// Changes a few bytes.
    fn spoil(&mut self, mut record: Vec<u8>) -> Vec<u8> {
        let (at, to) = (
            self.random.below(record.len() + 1),
            self.random.below(record.len() + 1),
        );
        let byte = BYTES[self.random.below(BYTES.len())];
        match self.random.below(8) {
            0 | 1 => record.insert(at, byte),
            2 | 3 if at < record.len() => record[at] = byte,
            4 if at < record.len() => record[at] ^= 1 << self.random.below(8),
            5 if at < record.len() => drop(record.remove(at)),
            6 if at <= to => {
                let part = record[at..to].to_vec();
                let place = self.random.below(record.len() + 1);
                record.splice(place..place, part);
            }
            _ => record.truncate(at),
        }
        record
    }

    /// Records as a client may hand them over: apart, in any order, some absent.
    fn payload(&mut self, count: usize) -> Blobs {
        let (apart, shuffled) = (self.random.chance(40), self.random.chance(30));
        let (mut data, mut spans) = (Vec::new(), Vec::new());
        for _ in 0..count {
            if apart {
                let garbage = [
                    "}",
                    ",\"a\":\"x\"}",
                    "\"",
                    "\\",
                    "{\"a\":",
                    "0",
                    "ü",
                    "\0\0",
                ];
                data.extend_from_slice(self.random.pick(&garbage).as_bytes());
            }
            let start = data.len() as u32;
            data.extend(self.record());
            let end = data.len() as u32;
            let absent = self.random.chance(2);
            spans.push(if absent {
                Span::ABSENT
            } else {
                Span { start, end }
            });
        }
        for last in 1..if shuffled { spans.len() } else { 0 } {
            spans.swap(last, self.random.below(last + 1));
        }
        let data = arrow::buffer::Buffer::from_vec(data);
        Blobs { data, spans }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streams_are_read_the_same_way_on_every_path(seed: u64) {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (fields, is_modelled) = schema(random.below(4));
        let strict = random.chance(20);
        let count = [1, 3, 40, 40, 255, 256, 257, 513][random.below(8)];
        let mut stream = Stream::new(random, &fields);
        let payload = stream.payload(count);
        let schema = Arc::new(Schema::new(fields));
        let middle = stream.random.below(count + 1);
        agree(&schema, strict, &payload, &[0..count, middle..count, 0..middle, 0..0]);

        let mut decoder = decoder(&schema, strict, Isa::detect());
        let (found, _) = rows(&mut decoder, &payload, 0..count);
        for record in (0..count).filter(|_| is_modelled) {
            let text = payload.get(record);
            let row = text.and_then(|text| expected(schema.fields(), strict, text));
            let agree = match (&row, found.get(&(record as u32))) {
                (None, None) => true,
                (Some(row), Some(found)) => same(&Cell::Row(row.clone()), &Cell::Row(found.clone())),
                _ => false,
            };
            prop_assert!(agree, "{:?}: {:?}", text.map(String::from_utf8_lossy), row);
        }
    }
}

/// The generator is worth nothing when nearly every record is bad, or none is.
#[test]
fn generated_streams_are_good_and_bad() {
    let (mut good, mut all) = (0, 0);
    for seed in 0..100 {
        let random = Random(StdRng::seed_from_u64(seed));
        let (fields, _) = schema(seed as usize % 4);
        let payload = Stream::new(random, &fields).payload(40);
        good += agree(&Arc::new(Schema::new(fields)), false, &payload, &[0..40]);
        all += 40;
    }
    assert!(
        good * 10 > all * 4 && good * 10 < all * 9,
        "{good} of {all}"
    );
}

/// Each text after it was learned in another place, and beside those that begin like it.
#[test]
fn texts_that_begin_alike_are_told_apart() {
    let long = "k".repeat(40);
    let good = [
        r#"{"a":"x","b":"y","c":"z"}"#.to_string(),
        r#"{"a":1,"b":2,"c":3}"#.into(),
        r#"{"a":null,"b":"y","c":null}"#.into(),
        r#"{"a": "x", "b": 2, "c": "z"}"#.into(),
        r#"{"a":"","b":"\n","c":"ü"}"#.into(),
        format!(r#"{{"a":"x","{long}":"y","c":"z"}}"#),
        format!(r#"{{"a":"x","{long}l":1,"c":"z"}}"#),
        format!(r#"{{"a":1,"{long}m":"{long}{long}","c":"z"}}"#),
    ];
    let bad = [
        r#"{"a":1","b":"y","c":"z"}"#,
        r#"{"a":1"b":"y","c":"z"}"#,
        r#"{"a":"x,"b":"y","c":"z"}"#,
        r#"{"a":"x"","b":"y","c":"z"}"#,
        r#"{"a":"x","b":"y","c":"z"#,
        r#"{"a":"x","b":"y","a":"z"}"#,
        r#"{"a":"x","b":"y","c":3"}"#,
        r#"{"a":"x\","b":"y","c":"z"}"#,
        "{\"a\":\"x\n\",\"b\":\"y\",\"c\":\"z\"}",
    ];
    let fields = || ["a", "b", "c"].map(|name| nullable(name, DataType::Utf8View));
    for before in &good {
        for after in good.iter().map(String::as_str).chain(bad) {
            let mut records = vec![before.as_str(); 3];
            records.extend([after, before, after]);
            records.extend([before.as_str(); 3]);
            agree_on(fields().into(), &records);
        }
    }
}

/// Records of a known shape, and such that differ from them in one byte at any place.
#[test]
fn a_byte_anywhere_makes_the_same_difference_on_every_path() {
    let bases = [
        r#"{"a":"user_1","b":"y","event_time":"2022-01-01T12:22:33"}"#,
        r#"{"event_time" : "x", "b": "", "n":-12.50, "a":"é","z":{"k":[1,"2",{}]},"t":true}"#,
        r#"{"b":17,"f":0,"a":null,"x":[0.5,10],"g":false,"event_time":3.25}"#,
    ];
    let fields = |number: usize| -> Vec<Field> {
        let utf8 = |name| nullable(name, DataType::Utf8View);
        let double = |name| nullable(name, DataType::Float64);
        match number {
            0 => vec![utf8("a"), utf8("event_time")],
            1 => vec![utf8("a"), utf8("b"), utf8("event_time"), double("n")],
            _ => vec![utf8("a"), double("b"), utf8("event_time")],
        }
    };
    for (number, base) in bases.into_iter().enumerate() {
        let base = base.as_bytes();
        let mut records: Vec<Vec<u8>> = Vec::new();
        for at in 0..base.len() {
            for byte in BYTES.into_iter().chain(*b"5ab") {
                let mut changed = [base.to_vec(), base.to_vec(), base.to_vec()];
                changed[0][at] = byte;
                changed[1].insert(at, byte);
                changed[2].remove(at);
                // Enough of the known ones that the others do not end the search for them.
                for changed in changed {
                    records.extend([base.to_vec(), base.to_vec(), base.to_vec(), base.to_vec()]);
                    records.push(changed);
                }
            }
        }
        let good = agree_on(fields(number), &records);
        assert!(good >= records.len() * 4 / 5, "{good} of {}", records.len());
    }
}
