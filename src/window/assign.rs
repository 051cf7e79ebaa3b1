//! Which windows a time belongs to.

/// Tumbling, sliding and cumulating windows, sessions, or none. All times in microseconds since the epoch.
///
/// Windows are `[k * slide + offset, k * slide + offset + size)` for every whole `k`, negative
/// ones too. A tumbling window slides by its size. Cumulating windows are
/// `[k * size + offset, k * size + offset + n * step)` for `n` from 1 to `size / step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assign {
    /// No window: one group of rows that lasts for ever.
    Global,
    Fixed {
        size: i64,
        slide: i64,
        offset: i64,
        /// Length of a pane: the greatest common divisor of size and slide.
        pane: i64,
    },
    /// Windows that begin together and end one step after the other. A pane is a step.
    Cumulating { size: i64, step: i64, offset: i64 },
    /// Of each key, rows that follow each other by at most `gap`: from the first of them to the
    /// last and a gap (see [`super::sessions`]). A pane is as long as a gap: the rows of one key in
    /// it are of one session.
    Session { gap: i64 },
}

/// The end of the window that never ends.
pub const NEVER: i64 = i64::MAX;

/// For [`super::Segment::from_end`]: the rows were ahead of their partitions' watermarks.
pub const AHEAD: i64 = i64::MIN;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The greatest `k * step + offset` that is at most `ts`.
#[inline]
fn floor(ts: i64, step: i64, offset: i64) -> i64 {
    let shifted = ts.saturating_sub(offset);
    shifted
        .saturating_sub(shifted.rem_euclid(step))
        .saturating_add(offset)
}

impl Assign {
    /// `None` unless `0 < slide <= size`. The offset may be any number.
    pub fn fixed(size: i64, slide: i64, offset: i64) -> Option<Assign> {
        if slide <= 0 || size < slide {
            return None;
        }
        Some(Assign::Fixed {
            size,
            slide,
            offset: offset.rem_euclid(slide),
            pane: gcd(size, slide),
        })
    }

    /// `None` unless `0 < step` and the size is a multiple of it. The offset may be any number.
    pub fn cumulating(size: i64, step: i64, offset: i64) -> Option<Assign> {
        (step > 0 && size > 0 && size % step == 0).then(|| Assign::Cumulating {
            size,
            step,
            offset: offset.rem_euclid(size),
        })
    }

    /// `None` unless the gap is longer than 0.
    pub fn session(gap: i64) -> Option<Assign> {
        (gap > 0).then_some(Assign::Session { gap })
    }

    /// What windows know of a watermark. Sessions end when it has passed a thousandth of their gap
    /// more (at most a second, a round number): so those of their rows that come behind it are of
    /// few kinds, however often it moves.
    pub fn closing(&self, watermark: i64) -> i64 {
        let Assign::Session { gap } = *self else {
            return watermark;
        };
        let steps = [1_000_000, 100_000, 10_000, 1_000];
        let coarsest = steps.into_iter().find(|step| *step <= gap / 1000);
        let step = coarsest.unwrap_or(gap.min(1_000));
        match watermark {
            NEVER => NEVER,
            _ => floor(watermark, step, 0),
        }
    }

    /// The name beside its pane of the store that takes a row: the end of the first of its windows
    /// that is open for its partition, whose watermark before it was `watermark`; `None` when the
    /// row is late. Of sessions: [`AHEAD`], or what sessions knew of that watermark.
    #[inline]
    pub fn from_end(&self, ts: i64, pane: i64, watermark: i64) -> Option<i64> {
        let Assign::Session { gap } = *self else {
            return self.next_end(pane, watermark);
        };
        let closing = self.closing(watermark);
        if ts > closing {
            return Some(AHEAD);
        }
        (ts.saturating_add(gap) > closing).then_some(closing)
    }

    /// Whether a row at `ts` needs its own watermark, of which `watermark` is the largest that it
    /// may be: some of its windows may have closed. Monotone as
    /// [`crate::watermark::PartitionWatermark::observe`] asks.
    pub fn may_be_behind(&self, ts: i64, watermark: i64) -> bool {
        match self {
            Assign::Global => false,
            Assign::Session { .. } => ts <= self.closing(watermark),
            _ => self.first_end(self.pane_of(ts)) <= watermark,
        }
    }

    /// Length of a pane.
    pub fn pane_size(&self) -> i64 {
        match *self {
            Assign::Global => NEVER,
            Assign::Fixed { pane, .. } => pane,
            Assign::Cumulating { step, .. } => step,
            Assign::Session { gap } => gap,
        }
    }

    /// Start of the pane that holds `ts`.
    #[inline]
    pub fn pane_of(&self, ts: i64) -> i64 {
        match *self {
            Assign::Global => 0,
            Assign::Fixed { offset, pane, .. } => floor(ts, pane, offset),
            Assign::Cumulating { step, offset, .. } => floor(ts, step, offset),
            Assign::Session { gap } => floor(ts, gap, 0),
        }
    }

    /// End of the first window that holds `pane`.
    pub fn first_end(&self, pane: i64) -> i64 {
        self.next_end(pane, i64::MIN).unwrap_or(NEVER)
    }

    /// End of the first window that holds `pane` and ends after `after`; `None` when there is
    /// none, that is, when a row of this pane is late for a watermark of `after`. Of sessions,
    /// which end where their rows do: the last that one could have whose last row is in `pane`.
    pub fn next_end(&self, pane: i64, after: i64) -> Option<i64> {
        let earliest = pane
            .saturating_add(self.pane_size())
            .max(after.saturating_add(1));
        let (size, slide, offset) = match *self {
            Assign::Global => return Some(NEVER),
            Assign::Session { .. } => {
                let last = self.last_end(pane);
                return (last > after).then_some(last);
            }
            Assign::Fixed {
                size,
                slide,
                offset,
                ..
            } => (size, slide, offset),
            Assign::Cumulating { step, offset, .. } => {
                let end = floor(earliest.saturating_add(step - 1), step, offset);
                return (end <= self.last_end(pane)).then_some(end);
            }
        };
        // Ends are `offset + size` plus multiples of the slide; round up to the next.
        let above = earliest.saturating_sub(offset).saturating_sub(size);
        let end = (above.div_euclid(slide) + i64::from(above.rem_euclid(slide) != 0))
            .saturating_mul(slide)
            .saturating_add(offset)
            .saturating_add(size);
        (end.saturating_sub(size) <= pane).then_some(end)
    }

    /// End of the last window that holds `pane`.
    pub fn last_end(&self, pane: i64) -> i64 {
        match *self {
            Assign::Global => NEVER,
            Assign::Fixed {
                size,
                slide,
                offset,
                ..
            } => floor(pane, slide, offset).saturating_add(size),
            Assign::Cumulating { size, offset, .. } => {
                floor(pane, size, offset).saturating_add(size)
            }
            Assign::Session { gap } => pane.saturating_add(gap).saturating_add(gap),
        }
    }

    /// Start of the window that ends at `end`. (Of a session: of the shortest.)
    pub fn start_of(&self, end: i64) -> i64 {
        match *self {
            Assign::Global => 0,
            Assign::Session { gap } => end.saturating_sub(gap),
            Assign::Fixed { size, .. } => end.saturating_sub(size),
            Assign::Cumulating { size, offset, .. } => floor(end.saturating_sub(1), size, offset),
        }
    }

    /// Distance between the ends of two windows that follow each other.
    pub fn slide(&self) -> i64 {
        match *self {
            Assign::Global => NEVER,
            Assign::Fixed { slide, .. } => slide,
            Assign::Cumulating { step, .. } => step,
            Assign::Session { gap } => gap,
        }
    }

    /// True when windows that differ begin together: only their ends tell them apart.
    pub fn share_starts(&self) -> bool {
        matches!(self, Assign::Cumulating { .. } | Assign::Session { .. })
    }

    pub fn is_session(&self) -> bool {
        matches!(self, Assign::Session { .. })
    }

    /// True when each row is in exactly one window.
    pub fn is_tumbling(&self) -> bool {
        matches!(self, Assign::Fixed { size, slide, .. } if size == slide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tumbling_before_1970_and_with_offset() {
        let a = Assign::fixed(10, 10, 3).unwrap();
        assert_eq!(a.pane_of(3), 3);
        assert_eq!(a.pane_of(2), -7);
        assert_eq!(a.pane_of(-8), -17);
        assert_eq!(a.next_end(-7, i64::MIN), Some(3));
        assert_eq!(a.next_end(-7, 2), Some(3));
        assert_eq!(a.next_end(-7, 3), None);
    }

    #[test]
    fn slide_greater_than_size_is_refused() {
        assert_eq!(Assign::fixed(5, 10, 0), None);
        assert_eq!(Assign::fixed(10, 0, 0), None);
    }

    #[test]
    fn a_step_must_divide_the_size_of_cumulating_windows() {
        assert_eq!(Assign::cumulating(10, 3, 0), None);
        assert_eq!(Assign::cumulating(10, 20, 0), None);
        assert_eq!(Assign::cumulating(10, 0, 0), None);
        assert_eq!(Assign::cumulating(0, 1, 0), None);
        assert!(Assign::cumulating(10, 10, 0).is_some());
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let sliding = Assign::fixed(60_000_000, 10_000_000, 0).unwrap();
        let cumulating = Assign::cumulating(60_000_000, 10_000_000, 7).unwrap();
        for ts in [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1] {
            for a in [sliding, cumulating] {
                let pane = a.pane_of(ts);
                a.next_end(pane, i64::MIN);
                a.next_end(pane, ts);
                a.start_of(a.last_end(pane));
            }
        }
    }

    proptest! {
        /// Against the definition: every window, tried one by one.
        #[test]
        fn equals_the_definition(size in 1i64..40, slide in 1i64..40, offset in -50i64..50, ts in -200i64..200, wm in -250i64..250) {
            prop_assume!(slide <= size);
            let a = Assign::fixed(size, slide, offset).unwrap();
            let windows = (-400..400).map(|k| (k * slide + offset, k * slide + offset + size));
            check(a, windows, ts, wm)?;
        }

        #[test]
        fn cumulating_windows_equal_the_definition(step in 1i64..12, steps in 1i64..9, offset in -50i64..50, ts in -200i64..200, wm in -250i64..250) {
            let size = step * steps;
            let a = Assign::cumulating(size, step, offset).unwrap();
            let windows = (-400..400).flat_map(|k| {
                let start = k * size + offset;
                (1..=steps).map(move |n| (start, start + n * step))
            });
            check(a, windows, ts, wm)?;
        }
    }

    fn check(
        a: Assign,
        windows: impl Iterator<Item = (i64, i64)>,
        ts: i64,
        wm: i64,
    ) -> Result<(), TestCaseError> {
        let holding: Vec<(i64, i64)> = windows.filter(|(s, e)| *s <= ts && ts < *e).collect();
        let ends: Vec<i64> = holding.iter().map(|(_, end)| *end).collect();
        for (start, end) in holding {
            prop_assert_eq!(a.start_of(end), start);
        }
        let pane = a.pane_of(ts);
        prop_assert!(pane <= ts && ts < pane + a.pane_size());
        let mut got = Vec::new();
        let mut after = i64::MIN;
        while let Some(end) = a.next_end(pane, after) {
            got.push(end);
            after = end;
        }
        prop_assert_eq!(&got, &ends);
        prop_assert_eq!(Some(a.last_end(pane)), ends.last().copied());
        prop_assert_eq!(a.next_end(pane, wm), ends.iter().copied().find(|e| *e > wm));
        Ok(())
    }
}
