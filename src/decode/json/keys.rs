//! Which column a key belongs to: records of one stream mostly repeat their keys in one order.

use hashbrown::HashMap;

/// Unwanted keys that are remembered per object; the rest is looked up each time.
const LEARNED_KEYS: usize = 64;
/// Longer unwanted keys are not remembered.
const LEARNED_KEY_BYTES: usize = 128;
/// No entry: the start of an object, or a key that is not remembered.
const NONE: usize = usize::MAX;

/// The keys of one object type. After each key it remembers the one that followed last time,
/// so that a lookup is one comparison while the order repeats.
#[derive(Debug)]
pub(super) struct Keys {
    /// The wanted keys in the order of their columns, then the unwanted ones met so far.
    entries: Vec<Entry>,
    by_name: HashMap<Box<str>, usize>,
    wanted: usize,
    /// The entry that came first last time.
    first: usize,
}

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    /// The entry that followed last time.
    next: usize,
}

/// Where a reader is within one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

impl Place {
    pub(super) const START: Place = Place(NONE);
}

impl Keys {
    pub(super) fn new<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keys = Keys {
            entries: Vec::new(),
            by_name: HashMap::new(),
            wanted: 0,
            first: NONE,
        };
        wanted.into_iter().for_each(|name| {
            keys.add(name);
        });
        keys.wanted = keys.entries.len();
        keys
    }

    fn add(&mut self, name: &str) -> usize {
        let index = self.entries.len();
        self.entries.push(Entry {
            name: name.into(),
            next: NONE,
        });
        self.by_name.insert(name.into(), index);
        index
    }

    /// The column of `key`, `None` for an unwanted one. Moves `place` on to this key.
    #[inline]
    pub(super) fn column(&mut self, key: &str, place: &mut Place) -> Option<usize> {
        let guess = self
            .entries
            .get(place.0)
            .map_or(self.first, |previous| previous.next);
        let found = match self.entries.get(guess) {
            Some(entry) if *entry.name == *key => guess,
            _ => self.search(key, *place),
        };
        place.0 = found;
        (found < self.wanted).then_some(found)
    }

    #[cold]
    fn search(&mut self, key: &str, place: Place) -> usize {
        let known = self.by_name.get(key).copied();
        let room = self.entries.len() < self.wanted + LEARNED_KEYS;
        let found = match known {
            Some(index) => index,
            None if room && key.len() <= LEARNED_KEY_BYTES => self.add(key),
            None => NONE,
        };
        match self.entries.get_mut(place.0) {
            Some(previous) => previous.next = found,
            None => self.first = found,
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(keys: &mut Keys, object: &[&str]) -> Vec<Option<usize>> {
        let mut place = Place::START;
        object
            .iter()
            .map(|key| keys.column(key, &mut place))
            .collect()
    }

    #[test]
    fn orders_may_change_and_keys_come_and_go() {
        let mut keys = Keys::new(["a", "b", ""]);
        for _ in 0..3 {
            assert_eq!(
                columns(&mut keys, &["x", "a", "b"]),
                [None, Some(0), Some(1)]
            );
            assert_eq!(
                columns(&mut keys, &["b", "", "a"]),
                [Some(1), Some(2), Some(0)]
            );
            assert_eq!(
                columns(&mut keys, &["a", "a", "A"]),
                [Some(0), Some(0), None]
            );
            assert_eq!(columns(&mut keys, &[]), []);
        }
    }

    #[test]
    fn unwanted_keys_take_bounded_memory() {
        let mut keys = Keys::new(["a"]);
        for i in 0..1000 {
            assert_eq!(
                columns(&mut keys, &[&format!("k{i}"), "a"]),
                [None, Some(0)]
            );
        }
        assert_eq!(
            columns(&mut keys, &[&"k".repeat(1000), "a"]),
            [None, Some(0)]
        );
        assert_eq!(keys.entries.len(), 1 + LEARNED_KEYS);
    }

    proptest! {
        #[test]
        fn a_lookup_never_depends_on_the_past(objects in prop::collection::vec(prop::collection::vec("[a-e]{0,2}", 0..6), 0..20)) {
            let wanted = ["a", "bb", "", "c"];
            let mut keys = Keys::new(wanted);
            for object in &objects {
                let object: Vec<&str> = object.iter().map(String::as_str).collect();
                let expected: Vec<_> = object.iter().map(|key| wanted.iter().position(|w| w == key)).collect();
                prop_assert_eq!(columns(&mut keys, &object), expected);
            }
        }
    }
}
