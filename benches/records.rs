//! Rows and bytes per second from record batches to a chunk: `cargo bench --bench records`.
//!
//! The batches are as librdkafka's producer fills them from the generator's click stream. The
//! rival is the decoder of the crate `kafka-protocol`, with the C library for lz4.

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::hint::black_box;
use windrow::kafka::direct::aborted::Aborted;
use windrow::kafka::direct::lz4::block;
use windrow::kafka::direct::sets::{Maker, Set};

const BATCHES: usize = 10;
const ROWS: usize = 10_000;

fn click(random: &mut StdRng, i: i64) -> Record {
    let second = i / 1000;
    let value = format!(
        r#"{{"timestamp":"2022-01-01T{:02}:{:02}:{:02}","userid":"user_{}","page":"page_{}","action":"{}"}}"#,
        second / 3600 % 24,
        second / 60 % 60,
        second % 60,
        random.random_range(0..1000),
        random.random_range(0..500),
        ["view", "add_to_cart", "purchase"][random.random_range(0..3)],
    );
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: i,
        // The encoder begins a new batch where these do not follow one another.
        sequence: i as i32,
        timestamp: 1_700_000_000_000 + i / 100,
        key: None,
        value: Some(value.into()),
        headers: Default::default(),
    }
}

fn batches(compression: Compression) -> Bytes {
    let mut random = StdRng::seed_from_u64(7);
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    for batch in 0..BATCHES {
        let offsets = (batch * ROWS) as i64..((batch + 1) * ROWS) as i64;
        let records: Vec<Record> = offsets.map(|i| click(&mut random, i)).collect();
        RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("batches");
    }
    bytes.freeze()
}

/// Reads everything, chunk after chunk; returns the number of rows. (benches/instructions.sh counts
/// in this function.)
#[inline(never)]
fn direct(maker: &mut Maker, batches: &[u8]) -> usize {
    let mut set = Set {
        partition: 0,
        place: 0..batches.len(),
        aborted: Aborted::default(),
    };
    let (mut rows, mut next) = (0, 0);
    while !set.place.is_empty() {
        let filled = maker
            .fill(batches, &mut set, next..i64::MAX)
            .expect("whole batches");
        next = filled.next_offset;
        rows += filled.rows.offsets.len();
        black_box(&filled.rows.values);
        black_box(maker.share(filled.rows.arena));
    }
    rows
}

fn kafka_protocol(batches: &Bytes) -> usize {
    let mut left = batches.clone();
    let mut rows = 0;
    while !left.is_empty() {
        let set = RecordBatchDecoder::decode(&mut left).expect("whole batches");
        rows += black_box(set.records).len();
    }
    rows
}

fn records(c: &mut Criterion) {
    for (name, compression) in [("lz4", Compression::Lz4), ("none", Compression::None)] {
        let batches = batches(compression);
        let first = RecordBatchDecoder::decode(&mut batches.clone()).expect("a batch");
        assert_eq!(first.records.len(), ROWS);
        let plain = match compression {
            Compression::None => batches.len(),
            _ => crate::batches(Compression::None).len(),
        };
        for (unit, throughput) in [
            ("rows", Throughput::Elements((BATCHES * ROWS) as u64)),
            ("bytes", Throughput::Bytes(plain as u64)),
        ] {
            let mut group = c.benchmark_group(format!("{name}, {unit}"));
            group.throughput(throughput);
            group.bench_function("direct", |b| {
                let mut maker = Maker::new(false, false);
                assert_eq!(direct(&mut maker, &batches), BATCHES * ROWS);
                b.iter(|| direct(&mut maker, &batches));
            });
            group.bench_function("kafka_protocol", |b| b.iter(|| kafka_protocol(&batches)));
            group.finish();
        }
    }
}

/// Blocks of 64 kB alone: rows, and lines that are mostly random digits.
fn lz4_blocks(c: &mut Criterion) {
    const BLOCK: usize = 64 << 10;
    let mut random = StdRng::seed_from_u64(7);
    let mut rows = Vec::new();
    for i in 0.. {
        let record = click(&mut random, i);
        // What stands before a value in a record batch: lengths, and differences of time and offset.
        rows.extend([0xc6, 1, 0, (i / 100) as u8, i as u8, 1, 0xb8, 1]);
        rows.extend_from_slice(&record.value.expect("a value"));
        if rows.len() > 16 * BLOCK {
            break;
        }
    }
    let mut noise = String::new();
    while noise.len() < 16 * BLOCK {
        let (digits, number) = (random.random::<u128>(), random.random_range(0..1_000_000));
        noise += &format!("{digits:032x} some text {number}\n");
    }
    for (name, content) in [("rows", rows), ("noise", noise.into_bytes())] {
        let packed: Vec<Vec<u8>> = (content.chunks(BLOCK))
            .map(lz4_flex::block::compress)
            .collect();
        let mut group = c.benchmark_group(format!("lz4 blocks, {name}"));
        group.throughput(Throughput::Bytes(content.len() as u64));
        let mut output = vec![0; 2 * BLOCK + block::MARGIN];
        group.bench_function("direct, alone", |b| {
            b.iter(|| {
                for packed in &packed {
                    black_box(block::unpack(packed, &mut output, 0, 0, BLOCK).expect("a block"));
                }
            });
        });
        group.bench_function("direct, two at a time", |b| {
            let (pairs, single) = packed.as_chunks::<2>();
            b.iter(|| {
                for [first, second] in pairs {
                    let two = block::unpack_two([first, second], &mut output, 0, BLOCK);
                    black_box(two.expect("two blocks"));
                }
                for packed in single {
                    black_box(block::unpack(packed, &mut output, 0, 0, BLOCK).expect("a block"));
                }
            });
        });
        group.bench_function("lz4_flex", |b| {
            b.iter(|| {
                for packed in &packed {
                    let unpacked = lz4_flex::block::decompress_into(packed, &mut output);
                    black_box(unpacked.expect("a block"));
                }
            });
        });
        group.bench_function("lz4 (C)", |b| {
            b.iter(|| {
                for packed in &packed {
                    let size = Some(BLOCK as i32);
                    let unpacked = lz4::block::decompress_to_buffer(packed, size, &mut output);
                    black_box(unpacked.expect("a block"));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(all, records, lz4_blocks);
criterion_main!(all);
