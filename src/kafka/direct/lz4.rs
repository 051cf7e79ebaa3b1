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
    /// There are no more.
    ended: bool,
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
        ended: false,
    })
}

/// A block, as it lies in its frame.
struct Block<'a> {
    bytes: &'a [u8],
    /// It is not compressed.
    stored: bool,
}

impl Blocks {
    /// The next block; `None` from the frame's end on.
    fn next<'a>(&mut self, packed: &mut &'a [u8]) -> Result<Option<Block<'a>>, Reason> {
        if self.ended {
            return Ok(None);
        }
        let word = u32_le(packed)?;
        if word == 0 {
            if self.content_checksum {
                take(packed, 4)?;
            }
            self.ended = true;
            return Ok(None);
        }
        let bytes = take(packed, (word & !STORED) as usize)?;
        if self.checksums {
            take(packed, 4)?;
        }
        let stored = word & STORED != 0;
        Ok(Some(Block { bytes, stored }))
    }
}

/// Appends the content of the frames in `packed`, at most `limit` bytes.
pub fn unpack(mut packed: &[u8], arena: &mut Arena, limit: usize) -> Result<(), Reason> {
    let start = arena.used;
    while !packed.is_empty() {
        let mut blocks = header(&mut packed)?;
        let frame = arena.used;
        while let Some(block) = blocks.next(&mut packed)? {
            let next = match blocks.linked {
                true => None,
                false => blocks.next(&mut packed)?,
            };
            match &next {
                Some(next) if !block.stored && !next.stored => {
                    append_two([block.bytes, next.bytes], &blocks, arena)?;
                }
                next => {
                    for block in std::iter::once(&block).chain(next) {
                        append(block, &blocks, frame, arena)?;
                    }
                }
            }
            if arena.used - start > limit {
                return Err(Reason::TooLarge(limit));
            }
        }
    }
    Ok(())
}

/// Appends one block of the frame whose content began at `frame`.
fn append(
    block: &Block<'_>,
    blocks: &Blocks,
    frame: usize,
    arena: &mut Arena,
) -> Result<(), Reason> {
    let bytes = block.bytes;
    if block.stored {
        if bytes.len() > blocks.max {
            return Err(DAMAGED);
        }
        arena.room(bytes.len()).copy_from_slice(bytes);
        arena.used += bytes.len();
        return Ok(());
    }
    arena.room(blocks.max + block::MARGIN);
    let (start, end) = (arena.used, arena.used + blocks.max);
    let base = if blocks.linked { frame } else { start };
    arena.used = block::unpack(bytes, &mut arena.bytes, base, start, end).ok_or(DAMAGED)?;
    Ok(())
}

/// Appends two blocks that refer to nothing before them.
fn append_two(packed: [&[u8]; 2], blocks: &Blocks, arena: &mut Arena) -> Result<(), Reason> {
    arena.room(2 * blocks.max + block::MARGIN);
    let (start, second) = (arena.used, arena.used + blocks.max);
    let ends = block::unpack_two(packed, &mut arena.bytes, start, blocks.max).ok_or(DAMAGED)?;
    // Nearly always the first is full, and the second is where it belongs.
    if ends[0] != second {
        arena.bytes.copy_within(second..ends[1], ends[0]);
    }
    arena.used = ends[0] + (ends[1] - second);
    Ok(())
}
