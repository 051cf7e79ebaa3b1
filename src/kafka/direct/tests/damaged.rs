//! Whatever comes over the network: an error, never a panic.

use super::super::messages as m;
use super::super::wire::In;
use super::writer::{ALL, seal};
use super::*;
use proptest::prelude::*;

#[test]
fn a_batch_that_is_not_whole_waits() {
    for codec in ALL {
        let mut batch = some(10, 50);
        batch.codec = codec;
        let whole = batch.write();
        for length in 1..whole.len() {
            let looked = scan(&whole[..length]);
            assert_eq!((looked.next_offset, looked.cut_short), (None, true));
            let all = read(&whole[..length], 10..99).unwrap();
            assert!(offsets(&all).is_empty());
        }
        // Behind a whole one it is left out.
        let records = [&whole[..], &whole[..30]].concat();
        let looked = scan(&records);
        assert_eq!((looked.next_offset, looked.cut_short), (Some(60), false));
        assert_eq!(offsets(&read(&records, 10..99).unwrap()).len(), 50);
    }
}

#[test]
fn damage_is_named_with_its_offset() {
    let mut records = [some(0, 10).write(), some(10, 10).write()].concat();
    let last = records.len() - 1;
    records[last] ^= 0x40;
    let fault = |offset, reason| Err::<Vec<i64>, _>(Fault { offset, reason });
    let offsets = |records: &[u8]| read(records, 0..99).map(|all| super::offsets(&all));
    assert_eq!(offsets(&records), fault(10, Reason::Crc));
    // Message sets of old.
    let mut old = some(5, 3).write();
    old[16] = 1;
    assert_eq!(offsets(&old), fault(0, Reason::OldFormat(1)));
    let wrong = |change: &dyn Fn(&mut Batch)| {
        let mut batch = some(5, 3);
        change(&mut batch);
        read(&batch.write(), 0..99).unwrap_err().reason
    };
    for reason in [
        wrong(&|b| b.count = Some(2)),
        wrong(&|b| b.count = Some(4)),
        wrong(&|b| b.count = Some(i32::MAX)),
        wrong(&|b| b.count = Some(-1)),
        wrong(&|b| b.last_offset_delta = Some(1)),
        wrong(&|b| b.last_offset_delta = Some(-1)),
        wrong(&|b| b.base = i64::MAX - 1),
        wrong(&|b| b.base = -5),
        wrong(&|b| b.records.swap(0, 1)),
    ] {
        assert!(matches!(reason, Reason::Corrupt(_)), "{reason}");
    }
    assert_eq!(wrong(&|b| b.attributes = 5), Reason::Codec(5));
}

/// Changes of some bytes of a batch.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn change(bytes: &mut [u8], changes: &[(prop::sample::Index, u8)]) {
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With the CRC made right, so that the damage is not found by it.
    #[test]
    fn damaged_batches_do_not_panic(codec in 0..ALL.len(), changes in changes(), count in 1..200usize) {
        let mut batch = some(3, count);
        batch.codec = ALL[codec];
        let mut bytes = batch.write();
        change(&mut bytes, &changes);
        seal(&mut bytes);
        let _any = scan(&bytes);
        let _any = read_with(&mut Maker::new(true, true), &bytes, &[(-1, 0)], 0..1000);
    }

    #[test]
    fn a_payload_of_noise_does_not_panic(
        codec in 0..5i16,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        attributes in any::<i16>(),
    ) {
        let batch = Batch { attributes: attributes & !7 | codec, count: Some(1), ..some(0, 1) };
        let bytes = batch.with_payload(&payload);
        let _any = read_with(&mut Maker::new(true, true), &bytes, &[(-1, 0)], 0..1000);
    }

    #[test]
    fn responses_of_noise_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _any = m::read_api_versions(&mut In::new(&bytes));
        let _any = m::read_sasl_handshake(&mut In::new(&bytes));
        let _any = m::read_sasl_authenticate(&mut In::new(&bytes));
        for ids in [false, true] {
            let _any = m::read_metadata(&mut In::new(&bytes), ids);
            let _any = m::read_fetch(&mut In::new(&bytes), ids);
        }
    }
}
