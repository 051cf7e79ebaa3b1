//! lz4 blocks, one unpacked behind what it refers to, or two side by side.
//!
//! The [format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md): sequences of
//! literals, which are copied as they are, and a match, which is copied from up to 64 kB before.
//! JSON has a sequence for some 16 bytes, of lengths that nothing foretells, so what counts is
//! branches. The quick loop has none that depends on how long a usual match is: it always copies 64
//! bytes, of which the next sequence overwrites what was too many. What is unusual (long literals,
//! matches that overlap themselves or need a third byte of length, the block's end) goes one sequence at a
//! time by checked indices.
//!
//! What is left is waiting: where a sequence begins is known when the one before it is read. Two blocks
//! that do not refer to each other wait at the same time.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

/// Literals that the quick loop copies when the token alone says how many there are.
const LITERALS: usize = 16;
/// The same when a second byte says so.
const LITERALS_MAX: usize = 48;
/// Bytes of a match that it copies at once.
const MATCH: usize = 64;
/// What it copies in one move: a match nearer than that would read what is not written yet.
const WORD: usize = 16;
/// Least bytes of a match.
const MATCH_MIN: usize = 4;
/// What it reads of a sequence at most: token, a length, literals, distance and a length.
const READ: usize = 2 + LITERALS_MAX + 4;
/// Bytes behind the end of the output that must be there, and may be written to.
pub const MARGIN: usize = LITERALS_MAX + MATCH;

/// Unpacks `block` to `output[start..]`, up to `end` at most. Matches may begin at `base`. Returns
/// where the content ends; `None` when the block is damaged.
///
/// There must be [`MARGIN`] bytes behind `end`.
pub fn unpack(
    block: &[u8],
    output: &mut [u8],
    base: usize,
    start: usize,
    end: usize,
) -> Option<usize> {
    assert!(base <= start && start <= end && end + MARGIN <= output.len());
    let mut unpacked = Unpacked::new(block, base, start, end, end);
    unpacked.finish(output)?;
    Some(unpacked.place.written)
}

/// Unpacks two blocks, which refer to nothing before them, to `output[start..]`, up to `max` bytes of each: the
/// second one `max` behind the first. Returns where each one's content ends; `None` when one is damaged.
///
/// There must be [`MARGIN`] bytes behind both.
pub fn unpack_two(
    blocks: [&[u8]; 2],
    output: &mut [u8],
    start: usize,
    max: usize,
) -> Option<[usize; 2]> {
    let (middle, end) = (start + max, start + 2 * max);
    assert!(max >= MARGIN && end + MARGIN <= output.len());
    // Behind the first is the second: what is written too much of the first must end before it.
    let mut first = Unpacked::new(blocks[0], start, start, middle, middle - MARGIN);
    let mut second = Unpacked::new(blocks[1], middle, middle, end, end);
    loop {
        let (next, other) = match quick_two(&mut first, &mut second, output) {
            Stopped::First => (&mut first, &mut second),
            Stopped::Second => (&mut second, &mut first),
        };
        if next.sequence(output)? {
            other.finish(output)?;
            return Some([first.place.written, second.place.written]);
        }
    }
}

/// A block on its way.
struct Unpacked<'a> {
    block: &'a [u8],
    /// Where matches may begin.
    base: usize,
    /// Where the content must end.
    end: usize,
    /// Up to here there are `MARGIN` bytes more that may be written to.
    limit: usize,
    place: Place,
}

/// Between two sequences.
#[derive(Debug, Clone, Copy)]
struct Place {
    read: usize,
    /// At most `MARGIN` behind the limit, or the end.
    written: usize,
}

enum Stopped {
    First,
    Second,
}

impl<'a> Unpacked<'a> {
    fn new(block: &'a [u8], base: usize, start: usize, end: usize, limit: usize) -> Self {
        let place = Place {
            read: 0,
            written: start,
        };
        Self {
            block,
            base,
            end,
            limit,
            place,
        }
    }

    /// The rest of the block.
    fn finish(&mut self, output: &mut [u8]) -> Option<()> {
        loop {
            self.quick(output);
            if self.sequence(output)? {
                return Some(());
            }
        }
    }

    /// The next sequence, of any kind; and whether it is the last.
    fn sequence(&mut self, output: &mut [u8]) -> Option<bool> {
        let is_last;
        (self.place, is_last) =
            sequence(self.block, &mut output[..self.end], self.base, self.place)?;
        Some(is_last)
    }

    /// Panics unless [`step`] may write where the limit lets it.
    #[inline(always)]
    fn assert_within(&self, output: &[u8]) {
        assert!(self.base <= self.place.written && self.limit + MARGIN <= output.len());
    }

    /// Whether [`step`] may take the next sequence.
    #[inline(always)]
    fn is_far_from_ends(&self, place: Place) -> bool {
        place.read + READ <= self.block.len() && place.written <= self.limit
    }

    /// Sequences as long as they are usual, far from the block's end, and not behind the limit.
    #[inline(always)]
    fn quick(&mut self, output: &mut [u8]) {
        self.assert_within(output);
        let (mut place, to) = (self.place, output.as_mut_ptr());
        while self.is_far_from_ends(place) {
            // SAFETY: what it asks for was asserted, or asked just now.
            match unsafe { step(self, to, place) } {
                Some(next) => place = next,
                None => break,
            }
        }
        self.place = place;
    }
}

/// Sequences of both in turns, until one of them meets what is unusual, or an end.
#[inline(never)]
fn quick_two(first: &mut Unpacked<'_>, second: &mut Unpacked<'_>, output: &mut [u8]) -> Stopped {
    first.assert_within(output);
    second.assert_within(output);
    let (mut a, mut b, to) = (first.place, second.place, output.as_mut_ptr());
    let stopped = loop {
        if !first.is_far_from_ends(a) {
            break Stopped::First;
        }
        // SAFETY: what it asks for was asserted, or asked just now.
        match unsafe { step(first, to, a) } {
            Some(next) => a = next,
            None => break Stopped::First,
        }
        if !second.is_far_from_ends(b) {
            break Stopped::Second;
        }
        // SAFETY: the same of the second.
        match unsafe { step(second, to, b) } {
            Some(next) => b = next,
            None => break Stopped::Second,
        }
    };
    (first.place, second.place) = (a, b);
    stopped
}

/// A usual sequence at `place`, and the place behind it; `None`, and nothing done that counts, if it is
/// another one.
///
/// # Safety
///
/// `of.is_far_from_ends(place)`, `of.base <= place.written`, and up to `MARGIN` bytes behind `of.limit` the
/// output at `to` can be read and written.
#[inline(always)]
unsafe fn step(of: &Unpacked<'_>, to: *mut u8, Place { read, written }: Place) -> Option<Place> {
    let from = of.block.as_ptr();
    // SAFETY, of all that is read from the block: `READ` bytes from `read` on are within it, and no
    // sequence has more before its last literal's end and four bytes.
    let token = usize::from(unsafe { *from.add(read) });
    let mut literals = token >> 4;
    let mut at = read + 1;
    // SAFETY, of the literals' copies: `written <= limit`, so `MARGIN` bytes from there on are within
    // the output; from `at`, at most 2 behind `read`, as many as are copied are within the block.
    if literals < 15 {
        // SAFETY: as above.
        unsafe { copy::<LITERALS>(from.add(at), to.add(written)) };
    } else {
        // SAFETY: as above.
        literals += usize::from(unsafe { *from.add(at) });
        at += 1;
        if literals > LITERALS_MAX {
            return None;
        }
        // SAFETY: as above.
        unsafe { copy::<LITERALS_MAX>(from.add(at), to.add(written)) };
    }
    let (next, target) = (at + literals, written + literals);
    // SAFETY: at most `2 + LITERALS_MAX` behind `read`, so four bytes are within the block.
    let word = unsafe { from.add(next).cast::<u32>().read_unaligned() };
    let word = u32::from_le(word) as usize;
    let distance = word & 0xffff;
    // Without a branch: whether there is a byte more to the length, and what it says.
    let has_more = usize::from(token & 15 == 15);
    let more = (word >> 16) & 0xff & has_more.wrapping_neg();
    let length = (token & 15) + MATCH_MIN + more;
    if distance < WORD || distance > target - of.base {
        return None;
    }
    // SAFETY, of the match's copies: it begins `distance` before `target`, not before `base`, so within
    // the output. `target` is at most `LITERALS_MAX` behind the limit, and `MATCH` bytes more are
    // within the margin. What is read of the match lies `distance` before what is written: at
    // least a word, and words are copied in their order.
    let (source, target_at) = unsafe { (to.add(target - distance), to.add(target)) };
    // SAFETY: as above.
    unsafe { copy::<MATCH>(source, target_at) };
    if length > MATCH {
        if more == 255 || target + length > of.limit + LITERALS_MAX {
            return None;
        }
        for i in (MATCH..length).step_by(MATCH) {
            // SAFETY: as above; `i < length`, and the match ends at most `LITERALS_MAX` behind the limit, so
            // `MATCH` bytes from `i` on end within the margin.
            unsafe { copy::<MATCH>(source.add(i), target_at.add(i)) };
        }
    }
    Some(Place {
        read: next + 2 + has_more,
        written: target + length,
    })
}

/// Copies `N` bytes, [`WORD`] by [`WORD`].
///
/// # Safety
///
/// `N` bytes can be read and written there. They may overlap when `to` is a [`WORD`] or more behind.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const u8, to: *mut u8) {
    const { assert!(N.is_multiple_of(WORD)) };
    for i in (0..N).step_by(WORD) {
        // SAFETY: the caller's promise; neither needs to be aligned.
        unsafe {
            let word = from.add(i).cast::<u128>().read_unaligned();
            to.add(i).cast::<u128>().write_unaligned(word);
        }
    }
}

/// One sequence of any kind; and whether it is the last, which has no match.
#[inline(never)]
fn sequence(
    block: &[u8],
    output: &mut [u8],
    base: usize,
    Place {
        mut read,
        mut written,
    }: Place,
) -> Option<(Place, bool)> {
    let token = usize::from(*block.get(read)?);
    read += 1;
    let literals = length(block, token >> 4, &mut read)?;
    let from = block.get(read..read.checked_add(literals)?)?;
    output
        .get_mut(written..written + literals)?
        .copy_from_slice(from);
    (read, written) = (read + literals, written + literals);
    if read == block.len() {
        return Some((Place { read, written }, true));
    }
    let distance = block.get(read..)?.first_chunk()?;
    let distance = usize::from(u16::from_le_bytes(*distance));
    read += 2;
    let length = MATCH_MIN + length(block, token & 15, &mut read)?;
    if distance == 0 || distance > written - base {
        return None;
    }
    let end = written
        .checked_add(length)
        .filter(|end| *end <= output.len())?;
    // A match may go on into itself: then what is there already is doubled.
    let first = written - distance;
    while written < end {
        let count = (written - first).min(end - written);
        output.copy_within(first..first + count, written);
        written += count;
    }
    Some((Place { read, written }, false))
}

/// A length whose first four bits are given.
fn length(block: &[u8], first: usize, read: &mut usize) -> Option<usize> {
    let mut length = first;
    if first == 15 {
        loop {
            let more = *block.get(*read)?;
            *read += 1;
            length += usize::from(more);
            if more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::block::{compress, compress_with_dict, decompress_into_with_dict};
    use proptest::prelude::*;

    /// Content behind `before`; the last byte of the output is the last that may be written to.
    fn unpacked(block: &[u8], before: &[u8], max: usize) -> Option<Vec<u8>> {
        let (start, end) = (before.len(), before.len() + max);
        let mut output = before.to_vec();
        output.resize(end + MARGIN, 0xee);
        let written = unpack(block, &mut output, 0, start, end)?;
        assert!(written <= end);
        assert_eq!(output[..start], *before);
        Some(output[start..written].to_vec())
    }

    /// Both contents; they lie `max` apart.
    fn unpacked_two(blocks: [&[u8]; 2], max: usize) -> Option<[Vec<u8>; 2]> {
        let start = 3;
        let mut output = vec![0xee; start + 2 * max + MARGIN];
        let ends = unpack_two(blocks, &mut output, start, max)?;
        assert!(ends[0] <= start + max && ends[1] <= start + 2 * max);
        assert_eq!(output[..start], [0xee; 3]);
        Some([start, start + max].map(|at| {
            let end = ends[usize::from(at > start)];
            output[at..end].to_vec()
        }))
    }

    /// Text with repetitions of all lengths and distances.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            prop::collection::vec(Just(b'a'), 0..600),
            Just(br#"{"user":"user_1","page":"Page_2"}"#.to_vec()),
        ];
        let again = (any::<prop::sample::Index>(), 0usize..400);
        prop::collection::vec((part, again), 0..60).prop_map(|parts| {
            let mut content: Vec<u8> = Vec::new();
            for (part, (back, length)) in parts {
                content.extend(part);
                if !content.is_empty() {
                    let first = back.index(content.len());
                    (0..length).for_each(|i| content.push(content[first + i]));
                }
            }
            content
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_was_packed_comes_back(content in content(), before in content()) {
            let block = compress(&content);
            prop_assert!(unpacked(&block, b"", content.len()).is_some_and(|found| found == content));
            prop_assert!(unpacked(&block, &before, content.len() + 9).is_some_and(|found| found == content));
            if !content.is_empty() {
                prop_assert_eq!(unpacked(&block, b"", content.len() - 1), None);
            }
            // (The other decoder takes no more than this of a dictionary.)
            let before = &before[before.len().saturating_sub(64 << 10)..];
            if !before.is_empty() {
                let block = compress_with_dict(&content, before);
                prop_assert!(unpacked(&block, before, content.len()).is_some_and(|found| found == content));
            }
        }

        /// Each as if it were alone, whichever is the longer one, and however near it comes to the other.
        #[test]
        fn two_come_back_as_one(first in content(), second in content(), room in 0usize..300) {
            let blocks = [compress(&first), compress(&second)];
            let max = MARGIN.max(first.len().max(second.len()) + room);
            let two = unpacked_two([&blocks[0], &blocks[1]], max);
            prop_assert_eq!(two, Some([first.clone(), second.clone()]));
            for max in [first.len(), second.len()].into_iter().filter(|max| *max > MARGIN) {
                let fits = first.len() < max && second.len() < max;
                let two = unpacked_two([&blocks[0], &blocks[1]], max - 1);
                prop_assert_eq!(two.is_some(), fits);
            }
        }

        /// Damaged blocks are refused or give something, as another decoder has it; nothing else is
        /// written to.
        #[test]
        fn damage_is_harmless(
            content in content(),
            before in prop::collection::vec(any::<u8>(), 1..100),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut block = compress_with_dict(&content, &before);
            for (at, byte) in changes {
                let at = at.index(block.len());
                block[at] = byte;
            }
            block.truncate(cut.index(2 * block.len() + 1));
            let max = content.len() + 100;
            let found = unpacked(&block, &before, max);
            let alone = unpacked(&block, b"", max.max(MARGIN));
            let good = compress(&content);
            for blocks in [[&block[..], &good], [&good, &block]] {
                let at = usize::from(blocks[0] == good);
                let two = unpacked_two(blocks, max.max(MARGIN));
                prop_assert_eq!(two.as_ref().map(|two| &two[at]), alone.as_ref());
                prop_assert!(two.is_none_or(|two| two[1 - at] == content));
            }
            let mut output = vec![0; max];
            if let (Some(found), Ok(other)) =
                (&found, decompress_into_with_dict(&block, &mut output, &before))
            {
                prop_assert_eq!(&found[..], &output[..other]);
            }
        }
    }

    #[test]
    fn each_length_and_distance() {
        for literals in [0, 1, 14, 15, 16, 47, 48, 49, 254, 269, 270, 271, 1000] {
            for distance in [1, 2, 3, 7, 15, 16, 17, 63, 64, 65] {
                for length in [4, 5, 18, 19, 20, 63, 64, 65, 272, 273, 274, 700] {
                    let before: Vec<u8> = (0..70).collect();
                    let mut block = Vec::new();
                    // Three times, so that the quick loop is not at the end.
                    let mut content = before.clone();
                    for _ in 0..3 {
                        block.push((literals.min(15) << 4 | (length - 4).min(15)) as u8);
                        let more = |block: &mut Vec<u8>, length: usize| {
                            if length >= 15 {
                                block.extend(vec![255; (length - 15) / 255]);
                                block.push(((length - 15) % 255) as u8);
                            }
                        };
                        more(&mut block, literals);
                        let text: Vec<u8> = (0..literals).map(|i| (i * 7) as u8).collect();
                        block.extend(&text);
                        content.extend(&text);
                        block.extend((distance as u16).to_le_bytes());
                        more(&mut block, length - 4);
                        for _ in 0..length {
                            content.push(content[content.len() - distance]);
                        }
                    }
                    block.push(5 << 4);
                    block.extend(b"12345");
                    content.extend(b"12345");
                    let content = &content[before.len()..];
                    let found = unpacked(&block, &before, content.len());
                    assert_eq!(
                        found.as_deref(),
                        Some(content),
                        "{literals} {distance} {length}"
                    );
                    assert_eq!(unpacked(&block, &before, content.len() - 1), None);
                }
            }
        }
    }

    #[test]
    fn mistakes_are_refused() {
        // No token, no literals, no distance, distance 0, one before the base, an endless length.
        let blocks: [&[u8]; 6] = [
            b"",
            b"\x50abc",
            b"\x10a\x01",
            b"\x10a\x00\x00",
            b"\x10a\x02\x00\x10b",
            b"\x1fa\x01\x00\xff\xff",
        ];
        for block in blocks {
            assert_eq!(unpacked(block, b"", 1000), None, "{block:?}");
        }
        assert_eq!(unpacked(b"\x00", b"", 0), Some(vec![]));
    }
}
