//! The quick way to read a record beside the slow one.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever the bytes are, the quick way reads what the slow one reads, or leaves it to it.
    #[test]
    fn the_usual_record_is_any_record(
        bytes in prop::collection::vec(prop_oneof![3 => 0u8..24, 1 => any::<u8>()], 0..80),
        at in 0usize..4,
    ) {
        if let Some(usual) = Record::usual(&bytes, at) {
            prop_assert_eq!(usual, Record::any(&mut Cursor::new(&bytes, at)).unwrap());
        }
    }

    #[test]
    fn nearly_all_records_are_usual(
        timestamp in -1_000_000i64..1_000_000,
        offset in 0i64..1_000_000,
        key in prop::option::of(0usize..9000),
        value in prop::option::of(0usize..9000),
    ) {
        let mut body = vec![0];
        put(&mut body, timestamp);
        put(&mut body, offset);
        for part in [key, value] {
            put(&mut body, part.map_or(-1, |n| n as i64));
            body.resize(body.len() + part.unwrap_or(0), b'x');
        }
        body.push(0);
        let mut bytes = Vec::new();
        put(&mut bytes, body.len() as i64);
        let end = bytes.len() + body.len();
        bytes.extend(body);
        // What follows is another record.
        bytes.extend([0xff; 8]);
        let usual = Record::usual(&bytes, 0).unwrap();
        prop_assert_eq!(&usual, &Record::any(&mut Cursor::new(&bytes, 0)).unwrap());
        prop_assert_eq!((usual.end, usual.headers), (end, end - 1));
        prop_assert_eq!((usual.timestamp_delta, usual.offset_delta), (timestamp, offset));
    }
}

fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut folded = (number << 1 ^ number >> 63) as u64;
    while folded >= 0x80 {
        bytes.push(folded as u8 | 0x80);
        folded >>= 7;
    }
    bytes.push(folded as u8);
}
