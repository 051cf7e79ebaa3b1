//! lz4 frames, whose blocks unpack where they shall lie.
//!
//! Checksums of the frame are not checked: the batch's CRC covers every byte of it.

pub mod block;

use super::fault::Reason;
use super::unpack::Arena;

const MAGIC: u32 = 0x184D_2204;
/// Set in the length of a block that is not compressed.
const STORED: u32 = 1 << 31;

const CUT: Reason = Reason::Corrupt("its lz4 frame is cut short");
const DAMAGED: Reason = Reason::Corrupt("its lz4 frame is damaged");

fn u32_le(packed: &mut &[u8]) -> Result<u32, Reason> {
    let (first, rest) = packed.split_first_chunk::<4>().ok_or(CUT)?;
    *packed = rest;
    Ok(u32::from_le_bytes(*first))
}

fn take<'a>(packed: &mut &'a [u8], count: usize) -> Result<&'a [u8], Reason> {
    let (taken, rest) = packed.split_at_checked(count).ok_or(CUT)?;
    *packed = rest;
    Ok(taken)
}

/// What a frame's header says of its blocks.
struct Blocks {
    /// Bytes that a block unpacks to at most.
    max: usize,
    /// Blocks refer to what came before them.
    linked: bool,
    checksums: bool,
    content_checksum: bool,
}

fn header(packed: &mut &[u8]) -> Result<Blocks, Reason> {
    if u32_le(packed)? != MAGIC {
        return Err(DAMAGED);
    }
    let descriptor = take(packed, 2)?;
    let (flags, size) = (descriptor[0], (descriptor[1] >> 4) & 7);
    // Version 1, no reserved bit, and one of the four block sizes.
    if flags >> 6 != 1 || flags & 2 != 0 || size < 4 {
        return Err(DAMAGED);
    }
    if flags & 1 != 0 {
        return Err(Reason::Corrupt("its lz4 frame wants a dictionary"));
    }
    let content_size = if flags & 8 != 0 { 8 } else { 0 };
    take(packed, content_size + 1)?; // and the header's checksum
    Ok(Blocks {
        max: 1 << (8 + 2 * size),
        linked: flags & 0x20 == 0,
        checksums: flags & 0x10 != 0,
        content_checksum: flags & 4 != 0,
    })
}

/// Appends the content of the frames in `packed`, at most `limit` bytes.
pub fn unpack(mut packed: &[u8], arena: &mut Arena, limit: usize) -> Result<(), Reason> {
    let start = arena.used;
    while !packed.is_empty() {
        let blocks = header(&mut packed)?;
        let frame = arena.used;
        loop {
            let word = u32_le(&mut packed)?;
            if word == 0 {
                break;
            }
            let block = take(&mut packed, (word & !STORED) as usize)?;
            append(block, word & STORED != 0, &blocks, frame, arena)?;
            if arena.used - start > limit {
                return Err(Reason::TooLarge(limit));
            }
            if blocks.checksums {
                take(&mut packed, 4)?;
            }
        }
        if blocks.content_checksum {
            take(&mut packed, 4)?;
        }
    }
    Ok(())
}

/// Appends one block of the frame whose content began at `frame`.
fn append(
    block: &[u8],
    stored: bool,
    blocks: &Blocks,
    frame: usize,
    arena: &mut Arena,
) -> Result<(), Reason> {
    if stored {
        if block.len() > blocks.max {
            return Err(DAMAGED);
        }
        arena.room(block.len()).copy_from_slice(block);
        arena.used += block.len();
        return Ok(());
    }
    arena.room(blocks.max + block::MARGIN);
    let (start, end) = (arena.used, arena.used + blocks.max);
    let base = if blocks.linked { frame } else { start };
    arena.used = block::unpack(block, &mut arena.bytes, base, start, end).ok_or(DAMAGED)?;
    Ok(())
}
