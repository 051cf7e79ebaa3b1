use super::super::unpack::{Arena, Unpacker};
use super::writer::{ALL, APPEND_TIME, TRANSACTIONAL};
use super::*;

#[test]
fn every_codec_gives_the_same_rows() {
    let expected = rows(&read(&some(5, 30_000).write(), 0..i64::MAX).unwrap());
    assert_eq!(expected.len(), 30_000);
    assert_eq!(expected[0].0, 5);
    for codec in ALL {
        let mut batch = some(5, 30_000);
        batch.codec = codec;
        // Twice: decoders keep state from batch to batch.
        let mut records = batch.write();
        batch.base = 30_005;
        records.extend(batch.write());
        let got = rows(&read(&records, 0..i64::MAX).unwrap());
        assert!(got[..30_000] == expected, "{codec:?}");
        let second = got[30_000..].iter().map(|(o, v)| (o - 30_000, v.clone()));
        assert!(second.eq(expected.iter().cloned()), "{codec:?}");
    }
}

#[test]
fn noise_is_stored_by_lz4_as_it_is() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(300_000)
    .collect();
    for codec in ALL {
        let batch = Batch {
            codec,
            records: vec![Record::new(0, Some(&noise))],
            ..Batch::default()
        };
        let got = rows(&read(&batch.write(), 0..i64::MAX).unwrap());
        assert!(got == [(0, Some(noise.clone()))], "{codec:?}");
    }
}

#[test]
fn keys_headers_tombstones_and_times() {
    let mut first = Record::new(0, None);
    first.key = Some(b"k".to_vec());
    first.timestamp_delta = -2_000;
    let mut second = Record::new(1, Some(b""));
    second.headers = vec![("h".into(), Some(b"1".to_vec())), ("h".into(), None)];
    let mut batch = Batch {
        records: vec![first, second],
        ..Batch::default()
    };
    let all = read(&batch.write(), 0..10).unwrap();
    assert_eq!(rows(&all), [(0, None), (1, Some(Vec::new()))]);
    let got = &all[0];
    assert_eq!(got.rows.timestamps_ms, [-1_000, 1_010]);
    assert!(!got.log_append_time);
    let keys = got.rows.keys.as_ref().unwrap();
    let key = keys[0].start as usize..keys[0].end as usize;
    assert_eq!(&got.rows.arena.bytes[key], b"k");
    assert!(keys[1].is_absent());
    let headers = got.rows.headers.as_ref().unwrap();
    assert_eq!(headers[0], []);
    let h = |v: Option<&[u8]>| ("h".to_string(), v.map(<[u8]>::to_vec));
    assert_eq!(headers[1], [h(Some(b"1")), h(None)]);

    // Not asked for, they are not made.
    let mut maker = Maker::new(false, false);
    let all = read_with(&mut maker, &batch.write(), &[], 0..10).unwrap();
    assert!(all[0].rows.keys.is_none() && all[0].rows.headers.is_none());

    // Records of the other kind of time go into the next chunk.
    let mut records = batch.write();
    (batch.base, batch.attributes) = (2, APPEND_TIME);
    records.extend(batch.write());
    let all = read(&records, 0..10).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[1].log_append_time);
    assert_eq!(all[1].rows.timestamps_ms, [9_000, 9_000]);
}

#[test]
fn compaction_leaves_gaps() {
    let mut batch = some(100, 5);
    batch.records.retain(|r| r.offset_delta % 2 == 1);
    batch.last_offset_delta = Some(9);
    let mut records = batch.write();
    // What is left of a batch without records.
    let empty = Batch {
        base: 200,
        last_offset_delta: Some(49),
        ..Batch::default()
    };
    records.extend(empty.write());
    let all = read(&records, 100..i64::MAX).unwrap();
    assert_eq!(offsets(&all), [101, 103]);
    assert_eq!(all.last().unwrap().next_offset, 250);
    let looked = scan(&records);
    assert_eq!((looked.next_offset, looked.cut_short), (Some(250), false));
}

#[test]
fn offsets_below_and_behind_are_left_out() {
    let records = [some(0, 10), some(10, 10), some(20, 10)].map(|b| b.write());
    let all = read(&records.concat(), 15..22).unwrap();
    assert_eq!(offsets(&all), (15..22).collect::<Vec<_>>());
    // A batch that is not wanted is not even checked.
    let mut records = records;
    records[0][70] ^= 1;
    assert!(read(&records.concat(), 10..30).is_ok());
    assert!(read(&records.concat(), 9..30).is_err());
}

#[test]
fn aborted_transactions_are_left_out() {
    let of = |base, producer| {
        let mut batch = some(base, 2);
        (batch.producer, batch.attributes) = (producer, TRANSACTIONAL);
        batch.write()
    };
    let marker = |base, producer, abort| Batch::marker(base, producer, abort).write();
    let records = [
        of(0, 7),           // aborted
        of(2, 8),           // committed
        some(4, 1).write(), // outside of any transaction
        marker(5, 7, true),
        of(6, 7), // the same producer, committed
        marker(8, 7, false),
        of(9, 9), // aborted
        marker(11, 8, false),
        of(12, 7), // aborted, too
        marker(14, 9, true),
        marker(15, 7, true),
    ]
    .concat();
    let aborted = [(7, 12), (9, 9), (7, 0)];
    let all = read_with(&mut Maker::new(false, false), &records, &aborted, 0..99).unwrap();
    assert_eq!(offsets(&all), [2, 3, 4, 6, 7]);
    assert_eq!(all.last().unwrap().next_offset, 16);
    // read_uncommitted: no list, but markers are no records.
    let all = read(&records, 0..99).unwrap();
    assert_eq!(offsets(&all), [0, 1, 2, 3, 4, 6, 7, 9, 10, 12, 13]);
}

#[test]
fn small_batches_share_a_chunk_and_large_ones_do_not() {
    let small: Vec<u8> = (0..1000).flat_map(|i| some(i, 1).write()).collect();
    let all = read(&small, 0..i64::MAX).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(offsets(&all), (0..1000).collect::<Vec<_>>());
    let large: Vec<u8> = (0..4)
        .flat_map(|i| some(i * 20_000, 20_000).write())
        .collect();
    let all = read(&large, 0..i64::MAX).unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(offsets(&all), (0..80_000).collect::<Vec<_>>());
}

#[test]
fn a_buffer_comes_back_when_nobody_holds_it() {
    let mut maker = Maker::new(false, false);
    let records = some(0, 100).write();
    let chunk = |maker: &mut Maker| {
        let mut all = read_with(maker, &records, &[], 0..100).unwrap();
        maker.share(std::mem::take(&mut all[0].rows.arena))
    };
    let first = chunk(&mut maker);
    let second = chunk(&mut maker);
    assert_ne!(first.as_ptr(), second.as_ptr());
    let (kept, address) = (first.to_vec(), second.as_ptr());
    drop(second);
    let third = chunk(&mut maker);
    assert_eq!(third.as_ptr(), address);
    assert_eq!((first.as_slice(), third.as_slice()), (&kept[..], &kept[..]));
}

#[test]
fn a_batch_unpacks_to_so_much_and_no_more() {
    let batch = Batch {
        records: vec![Record::new(0, Some(&vec![b'x'; 3_000_000]))],
        ..Batch::default()
    };
    for codec in ALL.into_iter().filter(|c| *c != Codec::None) {
        let packed = Batch {
            codec,
            ..batch.clone()
        }
        .write();
        let number = i16::from_be_bytes([packed[21], packed[22]]);
        let unpack = |limit| {
            let mut arena = Arena::default();
            let unpacked = Unpacker::with_limit(limit).unpack(number, &packed[61..], &mut arena);
            (unpacked, arena.bytes.len())
        };
        assert_eq!(unpack(3_100_000).0.unwrap().len(), 3_000_013, "{codec:?}");
        let (refused, taken) = unpack(1_000_000);
        assert_eq!(refused, Err(Reason::TooLarge(1_000_000)), "{codec:?}");
        // One block more at most, and what growing takes.
        assert!(taken <= 6 << 20, "{codec:?}: {taken}");
    }
}
