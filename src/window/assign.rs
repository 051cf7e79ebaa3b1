//! Which windows a time belongs to.

/// Tumbling and sliding windows, or none. All times in microseconds since the epoch.
///
/// Windows are `[k * slide + offset, k * slide + offset + size)` for every whole `k`, negative
/// ones too. A tumbling window slides by its size.
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
}

/// The end of the window that never ends.
pub const NEVER: i64 = i64::MAX;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
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

    /// Length of a pane.
    pub fn pane_size(&self) -> i64 {
        match *self {
            Assign::Global => NEVER,
            Assign::Fixed { pane, .. } => pane,
        }
    }

    /// Start of the pane that holds `ts`.
    #[inline]
    pub fn pane_of(&self, ts: i64) -> i64 {
        match *self {
            Assign::Global => 0,
            Assign::Fixed { offset, pane, .. } => {
                let shifted = ts.saturating_sub(offset);
                shifted
                    .saturating_sub(shifted.rem_euclid(pane))
                    .saturating_add(offset)
            }
        }
    }

    /// End of the first window that holds `pane`.
    pub fn first_end(&self, pane: i64) -> i64 {
        self.next_end(pane, i64::MIN).unwrap_or(NEVER)
    }

    /// End of the first window that holds `pane` and ends after `after`; `None` when there is
    /// none, that is, when a row of this pane is late for a watermark of `after`.
    pub fn next_end(&self, pane: i64, after: i64) -> Option<i64> {
        let Assign::Fixed {
            size,
            slide,
            offset,
            ..
        } = *self
        else {
            return Some(NEVER);
        };
        let earliest = pane
            .saturating_add(self.pane_size())
            .max(after.saturating_add(1));
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
            } => {
                let shifted = pane.saturating_sub(offset);
                shifted
                    .saturating_sub(shifted.rem_euclid(slide))
                    .saturating_add(offset)
                    .saturating_add(size)
            }
        }
    }

    /// Start of the window that ends at `end`.
    pub fn start_of(&self, end: i64) -> i64 {
        match *self {
            Assign::Global => 0,
            Assign::Fixed { size, .. } => end.saturating_sub(size),
        }
    }

    /// Distance between the ends of two windows that follow each other.
    pub fn slide(&self) -> i64 {
        match *self {
            Assign::Global => NEVER,
            Assign::Fixed { slide, .. } => slide,
        }
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
    fn extreme_times_do_not_overflow() {
        let a = Assign::fixed(60_000_000, 10_000_000, 0).unwrap();
        for ts in [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1] {
            let pane = a.pane_of(ts);
            a.next_end(pane, i64::MIN);
            a.next_end(pane, ts);
            a.last_end(pane);
        }
    }

    proptest! {
        /// Against the definition: every window, tried one by one.
        #[test]
        fn equals_the_definition(size in 1i64..40, slide in 1i64..40, offset in -50i64..50, ts in -200i64..200, wm in -250i64..250) {
            prop_assume!(slide <= size);
            let a = Assign::fixed(size, slide, offset).unwrap();
            let ends: Vec<i64> = (-400..400)
                .map(|k| k * slide + offset)
                .filter(|start| *start <= ts && ts < start + size)
                .map(|start| start + size)
                .collect();
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
        }
    }
}
