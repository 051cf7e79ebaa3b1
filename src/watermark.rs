//! The watermark of one partition, row-exact and cheap.
//!
//! The watermark before row `i` is the largest event time of the rows before it (those of
//! earlier batches included, future rows left out), less the declared delay. It depends on the
//! partition's log alone, never on how the log was cut into batches.

/// No row seen yet: nothing can be late.
pub const NONE: i64 = i64::MIN;

/// The delay of an event time without a watermark: nothing is ever final, or late.
pub const FOREVER: i64 = i64::MAX;

/// The running maximum of one partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionWatermark {
    /// Largest event time so far, [`NONE`] at the start.
    max_us: i64,
    delay_us: i64,
}

/// The watermarks before each row of one batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// The same (or anything smaller) for every row: no row can be late against `highest`, or
    /// the caller decides by `highest` alone.
    AtMost { highest: i64 },
    /// One per row.
    Each(Vec<i64>),
}

impl PartitionWatermark {
    /// `max_us`: the largest event time read by an earlier run, else [`NONE`].
    pub fn new(delay_us: i64, max_us: i64) -> Self {
        Self { max_us, delay_us }
    }

    /// Largest event time so far, [`NONE`] at the start.
    pub fn max_us(&self) -> i64 {
        self.max_us
    }

    /// The watermark after all rows observed; [`NONE`] before the first.
    pub fn current(&self) -> i64 {
        if self.max_us == NONE || self.delay_us == FOREVER {
            NONE
        } else {
            self.max_us.saturating_sub(self.delay_us)
        }
    }

    /// Takes the event times of the next rows. `future` rows do not move the watermark.
    ///
    /// `is_late(ts, watermark)` must be monotone: later rows and smaller watermarks are never
    /// later. When even the smallest time against the largest watermark of the batch is not
    /// late, the per-row watermarks are not computed.
    pub fn observe(
        &mut self,
        times: &[i64],
        future: Option<&[bool]>,
        mut is_late: impl FnMut(i64, i64) -> bool,
    ) -> Before {
        let Some((min, max)) = min_max(times, future) else {
            return Before::AtMost {
                highest: self.current(),
            };
        };
        let before = *self;
        self.max_us = self.max_us.max(max);
        let highest = self.current();
        if highest == NONE || !is_late(min, highest) {
            return Before::AtMost { highest };
        }
        let mut running = before;
        let each = times.iter().enumerate().map(|(i, &t)| {
            let watermark = running.current();
            if !future.is_some_and(|f| f[i]) {
                running.max_us = running.max_us.max(t);
            }
            watermark
        });
        Before::Each(each.collect())
    }
}

/// The smallest and the largest of some times. In lanes: none waits for the time before, and all have a register.
pub fn extremes(times: &[i64]) -> Option<(i64, i64)> {
    let first = *times.first()?;
    let (mut least, mut most) = ([first; 4], [first; 4]);
    let (chunks, rest) = times.as_chunks::<4>();
    for chunk in chunks {
        for i in 0..4 {
            least[i] = least[i].min(chunk[i]);
            most[i] = most[i].max(chunk[i]);
        }
    }
    let least = least.iter().chain(rest).min()?;
    Some((*least, *most.iter().chain(rest).max()?))
}

/// Smallest time of all rows, largest of the rows that are not in the future.
fn min_max(times: &[i64], future: Option<&[bool]>) -> Option<(i64, i64)> {
    let (min, max) = extremes(times)?;
    let Some(future) = future else {
        return Some((min, max));
    };
    let known = times
        .iter()
        .zip(future)
        .filter(|(_, is_future)| !**is_future);
    Some((min, known.map(|(time, _)| *time).max().unwrap_or(NONE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes_are_found_wherever_they_stand() {
        assert_eq!(extremes(&[]), None);
        for length in 1..40 {
            for at in 0..length {
                let mut times = vec![5; length];
                times[at] = -7;
                times[(at + 9) % length] = 8;
                let expected = (times.iter().min().copied(), times.iter().max().copied());
                assert_eq!(extremes(&times).unzip(), expected);
            }
        }
    }

    /// Watermark before each row, straight from the definition.
    fn model(times: &[i64], future: &[bool], delay: i64) -> Vec<i64> {
        (0..times.len())
            .map(|i| {
                (0..i)
                    .filter(|j| !future[*j])
                    .map(|j| times[j] - delay)
                    .max()
                    .unwrap_or(NONE)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_late_rows(
            rows in prop::collection::vec((-50i64..50, prop::bool::weighted(0.1)), 1..60),
            delay in 0i64..20,
            cuts in prop::collection::vec(1usize..10, 60),
        ) {
            let (times, future): (Vec<i64>, Vec<bool>) = rows.into_iter().unzip();
            let late = |ts: i64, wm: i64| wm != NONE && ts + 7 <= wm;
            let expected: Vec<bool> = model(&times, &future, delay).iter().zip(&times).map(|(w, t)| late(*t, *w)).collect();
            let mut watermark = PartitionWatermark::new(delay, NONE);
            let mut got = Vec::new();
            let mut from = 0;
            for cut in cuts {
                let to = (from + cut).min(times.len());
                match watermark.observe(&times[from..to], Some(&future[from..to]), late) {
                    Before::AtMost { .. } => got.extend(std::iter::repeat_n(false, to - from)),
                    Before::Each(each) => got.extend(each.iter().zip(&times[from..to]).map(|(w, t)| late(*t, *w))),
                }
                from = to;
            }
            got.truncate(times.len());
            prop_assert_eq!(&got[..from], &expected[..from]);
        }
    }

    #[test]
    fn one_future_row_does_not_make_the_rest_late() {
        // The story of a rival's bug: one time stamp in the future dropped everything after it.
        let mut watermark = PartitionWatermark::new(0, NONE);
        watermark.observe(&[10, 1_000_000, 11], Some(&[false, true, false]), |_, _| {
            true
        });
        assert_eq!(watermark.current(), 11);
    }
}
