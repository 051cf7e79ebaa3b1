//! Texts to dense group ids: the group key that queries mostly have.
//!
//! A view of up to twelve bytes holds its whole text, so two of them are equal when they are one
//! number, and that number is what is hashed: no text is looked at. Longer texts are copied and
//! compared. The hashes are seeded for each process, so who writes the keys does not know which
//! collide (that of long texts, foldhash's, is not proof against who can try them out and take times).
//!
//! The table is an array of words, a hash's upper half beside an id, with linear probing; what
//! an id stands for is in arrays by id. With many keys each of the two is a miss of the cache. So
//! rows are looked up in blocks: first all their words are read, then what those name, and the
//! processor waits for many at once. (The order of steps is that of vectorised hash joins; see
//! "Everything You Always Wanted to Know About Compiled and Vectorized Queries", VLDB 2018.)
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use arrow::array::{Array, ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

/// The longest text that a view holds itself.
const SHORT: u32 = 12;
/// A buffer of long texts is full at this size: well within Arrow's signed 32-bit offsets.
const BUFFER_BYTES: usize = 1 << 30;
/// Rows that are looked up together.
const BLOCK: usize = 16;
/// Words of the smallest table.
const WORDS_MIN: usize = 64;

/// Numbers the texts that it is shown, in the order in which they come. NULL is one of them.
#[derive(Debug, Default)]
pub struct TextKeys {
    /// A power of two of words, or none; at most half of them are used. Zero, or the upper half of a
    /// hash over an id + 1. A text's word is the first free one from its hash's lower bits on.
    words: Vec<u64>,
    /// By id.
    hashes: Vec<u64>,
    /// By id. Those of long texts point into the buffers.
    views: Vec<u128>,
    buffers: Vec<Vec<u8>>,
    null: Option<usize>,
}

impl TextKeys {
    /// The numbers of all `texts`, into `ids`.
    pub fn intern(&mut self, texts: &StringViewArray, ids: &mut Vec<usize>) {
        // All are written below, so those of the batch before may stay.
        ids.resize(texts.len(), 0);
        if self.words.is_empty() {
            self.words.resize(WORDS_MIN, 0);
        }
        let (seeds, nulls) = (&*SEEDS, texts.nulls());
        let blocks = texts.views().chunks(BLOCK).zip(ids.chunks_mut(BLOCK));
        for (number, (block, ids)) in blocks.enumerate() {
            let first = number * BLOCK;
            let mut hashes = [0; BLOCK];
            for ((i, view), hash) in block.iter().enumerate().zip(&mut hashes) {
                *hash = match *view as u32 > SHORT {
                    true => seeds.of_text(texts.value(first + i).as_bytes()),
                    false => seeds.of_view(*view),
                };
            }
            let mask = self.words.len() - 1;
            let words = hashes.map(|hash| self.words[hash as usize & mask]);
            // (Of a word that is free: any.)
            let known = words.map(|word| {
                let id = (word as u32).saturating_sub(1) as usize;
                self.views.get(id).copied().unwrap_or_default()
            });
            for (i, (view, id)) in block.iter().zip(ids).enumerate() {
                let (row, hash) = (first + i, hashes[i]);
                let is_alike = words[i] != 0 && (words[i] ^ hash) >> 32 == 0;
                *id = match *view as u32 > SHORT {
                    _ if nulls.is_some_and(|nulls| nulls.is_null(row)) => self.null_id(),
                    false if is_alike && known[i] == *view => words[i] as u32 as usize - 1,
                    false => self.find_or_add(hash, *view, None),
                    true => {
                        let text = texts.value(row).as_bytes();
                        match is_alike && self.is_long(known[i], *view, text) {
                            true => words[i] as u32 as usize - 1,
                            false => self.find_or_add(hash, *view, Some(text)),
                        }
                    }
                };
            }
        }
    }

    /// The id of a short text, or of a long one, which then is `text`.
    #[inline(never)]
    fn find_or_add(&mut self, hash: u64, view: u128, text: Option<&[u8]>) -> usize {
        if 2 * (self.views.len() + 1) > self.words.len() {
            self.grow();
        }
        let mask = self.words.len() - 1;
        let mut at = hash as usize & mask;
        while self.words[at] != 0 {
            let word = self.words[at];
            let id = word as u32 as usize - 1;
            if (word ^ hash) >> 32 == 0 {
                let known = self.views[id];
                let is_same = match text {
                    Some(text) => self.is_long(known, view, text),
                    None => known == view,
                };
                if is_same {
                    return id;
                }
            }
            at = (at + 1) & mask;
        }
        let view = match text {
            Some(text) => self.store(text),
            None => view,
        };
        self.words[at] = word_of(hash, self.views.len());
        self.add(hash, view)
    }

    fn add(&mut self, hash: u64, view: u128) -> usize {
        self.hashes.push(hash);
        self.views.push(view);
        self.views.len() - 1
    }

    fn null_id(&mut self) -> usize {
        if let Some(id) = self.null {
            return id;
        }
        // It is in no word: its hash is for nothing.
        let id = self.add(0, 0);
        self.null = Some(id);
        id
    }

    /// Twice as many words.
    fn grow(&mut self) {
        let count = 2 * self.words.len();
        self.words.clear();
        self.words.resize(count, 0);
        for (id, hash) in self.hashes.iter().enumerate() {
            if self.null == Some(id) {
                continue;
            }
            let mut at = *hash as usize & (count - 1);
            while self.words[at] != 0 {
                at = (at + 1) & (count - 1);
            }
            self.words[at] = word_of(*hash, id);
        }
    }

    /// Whether the view `known` of a text is that of `text`, whose view in its own array is `view`.
    #[inline(always)]
    fn is_long(&self, known: u128, view: u128, text: &[u8]) -> bool {
        // Length and first four bytes; then it is a long one, too.
        if known as u64 != view as u64 {
            return false;
        }
        let [length, buffer, start] =
            [known, known >> 64, known >> 96].map(|word| word as u32 as usize);
        self.buffers[buffer][start..start + length] == *text
    }

    /// Keeps a long text. Returns its view.
    fn store(&mut self, text: &[u8]) -> u128 {
        let is_full = |buffer: &Vec<u8>| buffer.len() + text.len() > BUFFER_BYTES;
        if self.buffers.last().is_none_or(is_full) {
            self.buffers.push(Vec::new());
        }
        let number = self.buffers.len() - 1;
        let buffer = &mut self.buffers[number];
        let view = make_view(text, number as u32, buffer.len() as u32);
        buffer.extend_from_slice(text);
        view
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Takes all texts out, by their numbers.
    pub fn take(&mut self) -> ArrayRef {
        let Self {
            null,
            views,
            buffers,
            ..
        } = std::mem::take(self);
        let nulls = null.map(|null| (0..views.len()).map(move |id| id != null));
        let nulls = nulls.map(NullBuffer::from_iter);
        let buffers: Vec<Buffer> = buffers.into_iter().map(Buffer::from_vec).collect();
        // SAFETY: each view is one that a valid array had (then it holds its text), or zero for NULL,
        // or was made of the text that was appended to the buffer it names, where it says; those are
        // texts of a valid array. There are as many bits as views.
        Arc::new(unsafe { StringViewArray::new_unchecked(views.into(), buffers, nulls) })
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let words = self.words.capacity() + self.hashes.capacity();
        words * size_of::<u64>()
            + self.views.capacity() * size_of::<u128>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }
}

fn word_of(hash: u64, id: usize) -> u64 {
    hash >> 32 << 32 | (id as u64 + 1)
}

/// What makes hashes of this process's own.
struct Seeds {
    first: u64,
    second: u64,
    texts: DefaultHashBuilder,
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    let random = RandomState::new();
    Seeds {
        first: random.hash_one(1),
        second: random.hash_one(2),
        texts: DefaultHashBuilder::default(),
    }
});

impl Seeds {
    /// One wide product of both halves, each mixed with a seed, folded: both ends of it depend on
    /// all bits.
    #[inline(always)]
    fn of_view(&self, view: u128) -> u64 {
        let (low, high) = (view as u64 ^ self.first, (view >> 64) as u64 ^ self.second);
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }

    #[inline(always)]
    fn of_text(&self, text: &[u8]) -> u64 {
        self.texts.hash_one(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Beside a map of owned strings, over several batches.
        #[test]
        fn each_text_has_one_number_in_the_order_in_which_they_come(
            batches in prop::collection::vec(
                prop::collection::vec(
                    prop::option::weighted(0.9, "[ab]{0,2}|[abc]{5}|[ab]{11,14}|[aü]{12,30}"),
                    0..150,
                ),
                0..5,
            )
        ) {
            let (mut keys, mut ids) = (TextKeys::default(), Vec::new());
            let (mut model, mut order) = (HashMap::new(), Vec::new());
            for batch in batches {
                keys.intern(&batch.iter().collect(), &mut ids);
                for (text, id) in batch.iter().zip(&ids) {
                    let next = model.len();
                    let expected = model.entry(text.clone()).or_insert_with(|| {
                        order.push(text.clone());
                        next
                    });
                    prop_assert_eq!(*expected, *id);
                }
                prop_assert_eq!(ids.len(), batch.len());
                prop_assert_eq!(keys.len(), model.len());
            }
            let taken = keys.take();
            taken.to_data().validate_full().unwrap();
            let taken: Vec<_> = taken.as_string_view().iter().collect();
            prop_assert_eq!(taken, order.iter().map(|t| t.as_deref()).collect::<Vec<_>>());
            prop_assert!(keys.is_empty() && keys.bytes() == 0);
        }
    }

    /// Chance does not bring this about.
    #[test]
    fn texts_of_one_hash_are_told_apart() {
        let texts: Vec<String> = (0..100)
            .map(|i| format!("{}{i}", ["", "one that is long "][i % 2]))
            .collect();
        let texts = StringViewArray::from_iter_values(texts);
        let mut keys = TextKeys::default();
        keys.intern(&StringViewArray::from_iter_values([""; 0]), &mut Vec::new());
        for _ in 0..2 {
            for (row, view) in texts.views().iter().enumerate() {
                let text = (*view as u32 > SHORT).then(|| texts.value(row).as_bytes());
                assert_eq!(keys.find_or_add(7 << 32, *view, text), row);
            }
        }
        assert_eq!(keys.take().as_string_view(), &texts);
    }

    /// A table probes by the hash's ends: keys that differ in a digit must differ there.
    #[test]
    fn numbered_keys_are_spread() {
        let texts: Vec<String> = (0..100_000).map(|i| format!("device{i}")).collect();
        let texts = StringViewArray::from_iter_values(texts);
        for shift in [0, 32, 54] {
            let mut buckets = vec![0; 1 << 10];
            for view in texts.views() {
                buckets[(SEEDS.of_view(*view) >> shift) as usize % 1024] += 1;
            }
            // A hundred each, with chance.
            assert!(buckets.iter().all(|n| (30..250).contains(n)), "{buckets:?}");
        }
    }
}
