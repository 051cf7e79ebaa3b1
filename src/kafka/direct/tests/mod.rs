//! Record batches and responses, from a small writer of our own.

mod batches;
mod cluster;
mod damaged;
mod network;
mod writer;

use super::aborted::Aborted;
use super::fault::{Fault, Reason};
use super::sets::{Filled, Maker, Set, scan};
use std::ops::Range;
use writer::{Batch, Codec, Record};

/// Everything that a set of batches delivers, in as many chunks as it takes.
fn read_with(
    maker: &mut Maker,
    records: &[u8],
    aborted: &[(i64, i64)],
    wanted: Range<i64>,
) -> Result<Vec<Filled>, Fault> {
    let mut set = Set {
        partition: 0,
        place: 0..records.len(),
        aborted: Aborted::new(aborted.to_vec()),
    };
    let mut all = Vec::new();
    let mut from = wanted.start;
    while !set.place.is_empty() {
        let filled = maker.fill(records, &mut set, from..wanted.end)?;
        assert!(filled.next_offset >= from);
        from = filled.next_offset;
        all.push(filled);
    }
    Ok(all)
}

fn read(records: &[u8], wanted: Range<i64>) -> Result<Vec<Filled>, Fault> {
    read_with(&mut Maker::new(true, true), records, &[], wanted)
}

/// Offset and value of each record.
fn rows(all: &[Filled]) -> Vec<(i64, Option<Vec<u8>>)> {
    all.iter()
        .flat_map(|f| {
            let values = f.rows.values.iter().map(|span| {
                (!span.is_absent())
                    .then(|| f.rows.arena.bytes[span.start as usize..span.end as usize].to_vec())
            });
            f.rows.offsets.iter().copied().zip(values)
        })
        .collect()
}

fn offsets(all: &[Filled]) -> Vec<i64> {
    all.iter().flat_map(|f| f.rows.offsets.clone()).collect()
}

/// `count` records with values that compress, from `base` on.
fn some(base: i64, count: usize) -> Batch {
    let value = |i| format!("{{\"user\":\"u{}\",\"page\":\"/p/{}\"}}", i % 97, i % 13);
    Batch {
        base,
        records: (0..count)
            .map(|i| Record::new(i as i64, Some(value(i).as_bytes())))
            .collect(),
        ..Batch::default()
    }
}
