//! Texts to dense group ids: the group key that queries mostly have.
//!
//! A view of up to twelve bytes holds its whole text, so two of them are equal when they are one
//! number, and that number is what is hashed: no text is looked at. Longer texts are copied and
//! compared. The hash is seeded for each process: who writes the keys cannot choose collisions.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use arrow::array::{Array, ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

/// The longest text that a view holds itself.
const SHORT: u32 = 12;
/// A buffer of long texts is full at this size: well within Arrow's signed 32-bit offsets.
const BUFFER_BYTES: usize = 1 << 30;

/// Numbers the texts that it is shown, in the order in which they come. NULL is one of them.
#[derive(Debug, Default)]
pub struct TextKeys {
    short: HashTable<(u128, u32)>,
    /// Their numbers, with their hashes.
    long: HashTable<(u64, u32)>,
    null: Option<u32>,
    /// By number. Those of long texts point into the buffers.
    views: Vec<u128>,
    buffers: Vec<Vec<u8>>,
}

impl TextKeys {
    /// The numbers of all `texts`, into `ids`.
    pub fn intern(&mut self, texts: &StringViewArray, ids: &mut Vec<usize>) {
        ids.clear();
        match texts.nulls() {
            None => {
                let views = texts.views().iter().enumerate();
                ids.extend(views.map(|(row, view)| self.id(texts, row, *view)));
            }
            Some(nulls) => {
                let rows = texts.views().iter().zip(nulls).enumerate();
                ids.extend(rows.map(|(row, (view, is_valid))| match is_valid {
                    true => self.id(texts, row, *view),
                    false => self.null_id(),
                }));
            }
        }
    }

    #[inline(always)]
    fn id(&mut self, texts: &StringViewArray, row: usize, view: u128) -> usize {
        if view as u32 > SHORT {
            return self.long_id(texts.value(row).as_bytes());
        }
        let hash = hash_of(view);
        match self.short.find(hash, |(known, _)| *known == view) {
            Some((_, id)) => *id as usize,
            None => self.new_short(hash, view),
        }
    }

    #[inline(never)]
    fn new_short(&mut self, hash: u64, view: u128) -> usize {
        let id = self.views.len();
        self.views.push(view);
        let rehash = |(view, _): &(u128, u32)| hash_of(*view);
        self.short.insert_unique(hash, (view, id as u32), rehash);
        id
    }

    #[inline(never)]
    fn long_id(&mut self, text: &[u8]) -> usize {
        let hash = SEEDS.2.hash_one(text);
        let Self {
            long,
            views,
            buffers,
            ..
        } = self;
        let is_same = |(_, id): &(u64, u32)| stored(views, buffers, *id) == text;
        if let Some((_, id)) = long.find(hash, |known| known.0 == hash && is_same(known)) {
            return *id as usize;
        }
        if buffers
            .last()
            .is_none_or(|b| b.len() + text.len() > BUFFER_BYTES)
        {
            buffers.push(Vec::new());
        }
        let (id, number) = (views.len(), buffers.len() - 1);
        let buffer = &mut buffers[number];
        views.push(make_view(text, number as u32, buffer.len() as u32));
        buffer.extend_from_slice(text);
        long.insert_unique(hash, (hash, id as u32), |(hash, _)| *hash);
        id
    }

    fn null_id(&mut self) -> usize {
        let id = *self.null.get_or_insert_with(|| {
            self.views.push(0);
            (self.views.len() - 1) as u32
        });
        id as usize
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
        let nulls = null.map(|null| (0..views.len() as u32).map(move |id| id != null));
        let nulls = nulls.map(NullBuffer::from_iter);
        let buffers: Vec<Buffer> = buffers.into_iter().map(Buffer::from_vec).collect();
        // SAFETY: each view is one that a valid array had (then it holds its text), or zero for NULL,
        // or was made of the text that was appended to the buffer it names, where it says; those are
        // texts of a valid array. There are as many bits as views.
        Arc::new(unsafe { StringViewArray::new_unchecked(views.into(), buffers, nulls) })
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.short.allocation_size()
            + self.long.allocation_size()
            + self.views.capacity() * size_of::<u128>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }
}

/// The long text with this number.
fn stored<'a>(views: &[u128], buffers: &'a [Vec<u8>], id: u32) -> &'a [u8] {
    let view = views[id as usize];
    let [length, buffer, start] = [view, view >> 64, view >> 96].map(|word| word as u32 as usize);
    &buffers[buffer][start..start + length]
}

static SEEDS: LazyLock<(u64, u64, RandomState)> = LazyLock::new(|| {
    let random = RandomState::new();
    (random.hash_one(1), random.hash_one(2), random)
});

/// One wide product of both halves, each mixed with a seed, folded: both ends of it depend on all bits.
#[inline(always)]
fn hash_of(view: u128) -> u64 {
    let (first, second, _) = &*SEEDS;
    let (low, high) = (view as u64 ^ first, (view >> 64) as u64 ^ second);
    let product = u128::from(low) * u128::from(high);
    product as u64 ^ (product >> 64) as u64
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
                    prop::option::weighted(0.9, "[ab]{0,2}|[ab]{11,14}|[aü]{12,30}"),
                    0..30,
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

    /// A table probes by the hash's ends: keys that differ in a digit must differ there.
    #[test]
    fn numbered_keys_are_spread() {
        let texts: Vec<String> = (0..100_000).map(|i| format!("device{i}")).collect();
        let texts = StringViewArray::from_iter_values(texts);
        let mut buckets = vec![0; 1 << 10];
        for view in texts.views() {
            let hash = hash_of(*view);
            buckets[(hash % 1024) as usize] += 1;
        }
        // A hundred each, with chance.
        assert!(buckets.iter().all(|n| (30..250).contains(n)), "{buckets:?}");
    }
}
