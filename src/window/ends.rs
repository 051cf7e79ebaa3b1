//! Sets of window ends. A segment touches every window of its pane, and neighbouring panes touch
//! nearly the same windows: runs of ends keep that small, whatever size/slide is.

use super::Assign;
use std::collections::BTreeMap;

/// Ends of windows of one [`Assign`].
pub(super) struct Ends {
    slide: i64,
    /// First end to last end of each run of ends that are one slide apart. Runs do not touch.
    runs: BTreeMap<i64, i64>,
}

impl Ends {
    pub fn new(assign: &Assign) -> Self {
        Self {
            slide: assign.slide(),
            runs: BTreeMap::new(),
        }
    }

    /// Adds the ends from `first` to `last`.
    pub fn insert(&mut self, mut first: i64, mut last: i64) {
        loop {
            let mut before = self.runs.range(..=last.saturating_add(self.slide));
            match before.next_back().map(|(f, l)| (*f, *l)) {
                Some((f, l)) if l >= first.saturating_sub(self.slide) => {
                    self.runs.remove(&f);
                    first = first.min(f);
                    last = last.max(l);
                }
                _ => break,
            }
        }
        self.runs.insert(first, last);
    }

    /// Takes one end out.
    pub fn remove(&mut self, end: i64) {
        let run = self.runs.range(..=end).next_back().map(|(f, l)| (*f, *l));
        let Some((first, last)) = run.filter(|(_, last)| *last >= end) else {
            return;
        };
        self.runs.remove(&first);
        if first < end {
            self.runs.insert(first, end - self.slide);
        }
        if end < last {
            self.runs.insert(end + self.slide, last);
        }
    }

    /// Takes out every end up to and including `end`.
    pub fn remove_through(&mut self, end: i64) {
        while let Some(run) = self.runs.first_entry() {
            let (first, last) = (*run.key(), *run.get());
            if first > end {
                break;
            }
            run.remove();
            if last > end {
                let slide = i128::from(self.slide);
                let steps = (i128::from(end) - i128::from(first)) / slide + 1;
                // At most `last`, hence no overflow.
                self.runs
                    .insert((i128::from(first) + steps * slide) as i64, last);
            }
        }
    }

    /// All ends, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        let slide = self.slide;
        self.runs.iter().flat_map(move |(&first, &last)| {
            std::iter::successors(Some(first), move |end| {
                end.checked_add(slide).filter(|end| *end <= last)
            })
        })
    }

    pub fn len(&self) -> usize {
        self.runs
            .iter()
            .map(|(first, last)| (last.abs_diff(*first) / self.slide.unsigned_abs()) as usize + 1)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn equals_a_plain_set(steps in prop::collection::vec((0u8..3, -30i64..30, 0i64..8), 1..40)) {
            let (slide, offset) = (7, 3);
            let at = |k: i64| k * slide + offset;
            let mut ends = Ends::new(&Assign::fixed(70, slide, offset).unwrap());
            let mut model = BTreeSet::new();
            for (what, k, length) in steps {
                match what {
                    0 => {
                        ends.insert(at(k), at(k + length));
                        model.extend((k..=k + length).map(at));
                    }
                    1 => {
                        ends.remove(at(k));
                        model.remove(&at(k));
                    }
                    _ => {
                        // Watermarks need not be ends.
                        ends.remove_through(at(k) + length);
                        model = model.split_off(&(at(k) + length + 1));
                    }
                }
                prop_assert_eq!(ends.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ends.len(), model.len());
            }
        }
    }
}
