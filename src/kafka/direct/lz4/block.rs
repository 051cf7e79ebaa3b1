//! One lz4 block, unpacked behind what it refers to.
//!
//! The [format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md): sequences of
//! literals, which are copied as they are, and a match, which is copied from up to 64 kB before.
//! JSON has a sequence for some 16 bytes, of lengths that nothing foretells, so what counts is
//! branches. The quick loop has none that depends on how long a usual match is: it always copies 64
//! bytes, of which the next sequence overwrites what was too many. What is unusual (long literals or
//! matches, matches that overlap themselves, the block's end) goes one sequence at a time by checked
//! indices.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

/// Literals that the quick loop copies when the token alone says how many there are.
const LITERALS: usize = 16;
/// The same when a second byte says so.
const LITERALS_MAX: usize = 48;
/// Bytes of a match that it copies.
const MATCH: usize = 64;
/// What it copies at once: a match nearer than that would read what is not written yet.
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
    let mut place = Place {
        read: 0,
        written: start,
    };
    loop {
        place = quick(block, output, base, end, place);
        let is_last;
        (place, is_last) = sequence(block, &mut output[..end], base, place)?;
        if is_last {
            return Some(place.written);
        }
    }
}

/// Between two sequences.
#[derive(Debug, Clone, Copy)]
struct Place {
    read: usize,
    /// At most `MARGIN` behind the end of the output.
    written: usize,
}

/// Sequences as long as they are usual, far from the block's end, and not behind the output's.
///
/// `base <= place.written` and `end + MARGIN <= output.len()`.
#[inline(always)]
fn quick(block: &[u8], output: &mut [u8], base: usize, end: usize, place: Place) -> Place {
    let (from, to) = (block.as_ptr(), output.as_mut_ptr());
    let Place {
        mut read,
        mut written,
    } = place;
    // SAFETY, of all that is read from `block`: while this holds, `READ` bytes from `read` on are
    // within it, and no sequence has more before its last literal's end and four bytes.
    while read + READ <= block.len() && written <= end {
        // SAFETY: as above.
        let token = usize::from(unsafe { *from.add(read) });
        let mut literals = token >> 4;
        let mut at = read + 1;
        // SAFETY, of the literals' copies: `written <= end`, so `MARGIN` bytes from there on are within
        // `output`; from `at`, at most 2 behind `read`, as many as are copied are within `block`.
        if literals < 15 {
            // SAFETY: as above.
            unsafe { copy::<LITERALS>(from.add(at), to.add(written)) };
        } else {
            // SAFETY: as above.
            literals += usize::from(unsafe { *from.add(at) });
            at += 1;
            if literals > LITERALS_MAX {
                break;
            }
            // SAFETY: as above.
            unsafe { copy::<LITERALS_MAX>(from.add(at), to.add(written)) };
        }
        let (next, target) = (at + literals, written + literals);
        // SAFETY: at most `2 + LITERALS_MAX` behind `read`, so four bytes are within `block`.
        let word = unsafe { from.add(next).cast::<u32>().read_unaligned() };
        let word = u32::from_le(word) as usize;
        let distance = word & 0xffff;
        // Without a branch: whether there is a byte more to the length, and what it says.
        let has_more = usize::from(token & 15 == 15);
        let more = (word >> 16) & 0xff & has_more.wrapping_neg();
        let length = (token & 15) + MATCH_MIN + more;
        if distance < WORD || distance > target - base || length > MATCH {
            break;
        }
        // SAFETY: the match begins `distance` before `target`, not before `base`, so within
        // `output`. `target` is at most `LITERALS_MAX` behind `end`, and `MATCH` bytes more are
        // within the margin. What is read of the match lies `distance` before what is written: at
        // least a word, and words are copied in their order.
        unsafe { copy::<MATCH>(to.add(target - distance), to.add(target)) };
        read = next + 2 + has_more;
        written = target + length;
    }
    Place { read, written }
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
