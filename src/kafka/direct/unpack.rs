//! Compressed record batches, unpacked straight into the buffer of a chunk.

use super::fault::Reason;
use flate2::bufread::MultiGzDecoder;
use std::io::Read;
use std::ops::Range;
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// What one batch may unpack to. A producer fills batches of some megabytes at most; what says
/// it is larger is a mistake or an attack.
pub const UNPACKED_MAX: usize = 128 << 20;
/// A buffer of this size is doubled when it grows: there are two of it then, and what was given
/// back before may not have gone yet.
const LARGE: usize = 8 << 20;
/// Room that a stream of unknown length is given at once.
const STEP: usize = 128 << 10;
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

type Result<T> = std::result::Result<T, Reason>;

/// A buffer that grows at its end. All of its bytes are initialised, so that one that comes back
/// from a chunk is used again without being cleared.
#[derive(Debug, Default)]
pub struct Arena {
    pub bytes: Vec<u8>,
    pub used: usize,
}

impl Arena {
    /// The next `count` bytes; not yet used.
    pub fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.used + count;
        if self.bytes.len() < end {
            let more = match self.bytes.len() {
                small @ 0..LARGE => small / 2,
                // No further than one batch may need.
                large => large.min((UNPACKED_MAX + LARGE).saturating_sub(large)),
            };
            let grown = end.max(self.bytes.len() + more);
            // Not left to `resize`, which would take twice the room.
            self.bytes.reserve_exact(grown - self.bytes.len());
            self.bytes.resize(grown, 0);
        }
        &mut self.bytes[self.used..end]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.used += bytes.len();
    }
}

/// Codecs with the state that they keep from batch to batch.
pub struct Unpacker {
    snappy: snap::raw::Decoder,
    zstd: Option<Zstd<'static>>,
    /// See [`UNPACKED_MAX`]; smaller in tests.
    limit: usize,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::with_limit(UNPACKED_MAX)
    }
}

impl Unpacker {
    pub fn with_limit(limit: usize) -> Self {
        Self {
            snappy: snap::raw::Decoder::new(),
            zstd: None,
            limit,
        }
    }

    /// Appends the records of a batch to `arena`; returns where they lie. `codec` is that of the
    /// batch's attributes.
    pub fn unpack(&mut self, codec: i16, packed: &[u8], arena: &mut Arena) -> Result<Range<usize>> {
        let start = arena.used;
        match codec {
            0 => arena.push(packed),
            1 => self.gzip(packed, arena)?,
            2 => self.snappy(packed, arena)?,
            3 => super::lz4::unpack(packed, arena, self.limit)?,
            4 => self.zstd(packed, arena)?,
            _ => return Err(Reason::Codec(codec)),
        }
        Ok(start..arena.used)
    }

    fn gzip(&self, packed: &[u8], arena: &mut Arena) -> Result<()> {
        let start = arena.used;
        let mut stream = MultiGzDecoder::new(packed);
        loop {
            let read = stream
                .read(arena.room(STEP))
                .map_err(|_| Reason::Corrupt("its gzip stream is damaged"))?;
            if read == 0 {
                return Ok(());
            }
            arena.used += read;
            self.check(arena.used - start)?;
        }
    }

    /// Raw, or in the blocks of the Java client's library.
    fn snappy(&mut self, packed: &[u8], arena: &mut Arena) -> Result<()> {
        if !packed.starts_with(XERIAL) {
            return self.snappy_block(packed, self.limit, arena);
        }
        let start = arena.used;
        let cut = Reason::Corrupt("its snappy stream is cut short");
        let mut rest = packed.get(XERIAL_HEADER..).ok_or(cut.clone())?;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(cut.clone())?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, after) = after.split_at_checked(length).ok_or(cut.clone())?;
            self.snappy_block(block, self.limit - (arena.used - start), arena)?;
            rest = after;
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8], limit: usize, arena: &mut Arena) -> Result<()> {
        let damaged = |_| Reason::Corrupt("its snappy stream is damaged");
        let length = snap::raw::decompress_len(block).map_err(damaged)?;
        if length > limit {
            return Err(Reason::TooLarge(self.limit));
        }
        let written = self.snappy.decompress(block, arena.room(length));
        arena.used += written.map_err(damaged)?;
        Ok(())
    }

    fn zstd(&mut self, packed: &[u8], arena: &mut Arena) -> Result<()> {
        let damaged = |_| Reason::Corrupt("its zstd stream is damaged");
        let start = arena.used;
        let limit = self.limit;
        let stream = match &mut self.zstd {
            Some(stream) => stream,
            none => none.insert(Zstd::new().map_err(damaged)?),
        };
        stream.reinit().map_err(damaged)?;
        let mut input = InBuffer::around(packed);
        loop {
            let mut output = OutBuffer::around(arena.room(STEP));
            let hint = stream.run(&mut input, &mut output).map_err(damaged)?;
            let (written, full) = (output.pos(), output.pos() == STEP);
            arena.used += written;
            if arena.used - start > limit {
                return Err(Reason::TooLarge(limit));
            }
            let all_read = input.pos == packed.len();
            if hint == 0 && all_read {
                return Ok(());
            }
            // More is wanted than there is. (What does not fit the output waits in the stream.)
            if all_read && !full {
                return Err(Reason::Corrupt("its zstd stream is cut short"));
            }
        }
    }

    fn check(&self, unpacked: usize) -> Result<()> {
        match unpacked > self.limit {
            true => Err(Reason::TooLarge(self.limit)),
            false => Ok(()),
        }
    }
}
