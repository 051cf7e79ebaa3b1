//! Records that are like one before, but for the texts of their values.
//!
//! A **shape** is what stands between the values of a record, text by text, and what follows
//! each: a string that goes to the next stop (a quote, backslash or control character), a number
//! that ends so many bytes before the next stop, or nothing, because `true` is the same in all. A
//! record is of that shape if each text stands where the one before and its value end. Shapes that begin
//! alike share their first texts ([`tree`]), and records are led along them sixty-four at once ([`lanes`]).
//!
//! Why that is enough to know that the record is JSON with the same keys: its texts are those of
//! a record that was JSON. Strings between them hold no quote, backslash or control character,
//! because they end at the first, and the text behind them begins with a quote. What is left to
//! check is that numbers are numbers, and that strings are UTF-8.

mod lanes;
mod outline;
mod tree;

use super::masks::Masks;
use super::texts::{Columns, Target};
use super::walk::Written;
use crate::source::Span;
use lanes::{Beside, LANES, Lanes, Set};
use outline::outline;
use tree::{Descent, Tree};

/// Numbers that nobody wants in a record with a shape.
pub(super) const NUMBERS_MAX: usize = 32;

/// Records that are looked at together where few are alike.
const FEW: usize = 4;
/// Records that may be unlike all others, less those that were not, before a pause.
const PATIENCE: u64 = 64;
/// What a record costs of it that is unlike: looking at it was for nothing.
const MISS: u64 = 4;
/// Records that are not looked at in the first pause, and in the longest.
const PAUSE: u64 = 2048;
const PAUSE_MAX: u64 = 1 << 16;

/// Where the values of a group's records are noted.
pub(super) struct Group<'a> {
    pub(super) spans: &'a mut [Span],
    pub(super) written: &'a mut [Written],
    /// Bits of the columns that have values that are not plain strings.
    pub(super) odd: &'a mut u64,
    /// Of the next record.
    pub(super) row: usize,
}

/// Why a run of records ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// There are no more, or none that can be looked at.
    Over,
    /// The next one is like none before, or not UTF-8.
    New,
}

/// The shapes of one stream of records.
#[derive(Debug)]
pub(super) struct Shapes {
    tree: Tree,
    /// For each depth of the tree.
    lanes: Vec<Lanes>,
    /// Records that are looked at together: [`LANES`] where most are alike.
    width: usize,
    /// A row, and which records from there on are noted already, if it is the next one.
    ahead: (usize, Set),
    /// Records that were like others: all, and until the last that was not.
    hits: u64,
    hits_before: u64,
    /// Those until the last pause.
    hits_before_pause: u64,
    patience: u64,
    /// The last pause.
    pause: u64,
    /// Records that are still not looked at.
    paused: u64,
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self {
            tree: Tree::new(),
            lanes: vec![Lanes::new()],
            width: FEW,
            ahead: (0, 0),
            hits: 0,
            hits_before: 0,
            hits_before_pause: 0,
            patience: PATIENCE,
            pause: PAUSE / 2,
            paused: 0,
        }
    }

    /// Whether records are worth a look; if not, the next one is let pass.
    #[inline(always)]
    pub(super) fn wants(&mut self) -> bool {
        let wants = self.paused == 0;
        self.paused -= u64::from(!wants);
        wants
    }

    /// To be called when a group begins: what is noted is done with.
    pub(super) fn start_group(&mut self) {
        self.ahead = (0, 0);
    }

    /// Looks at `records` of `data` as long as each is of a shape that is known, and notes their
    /// values. There are masks for the first one; the run is over at one for which there are none.
    /// After one that is new either the next row is its own, or another group begins.
    pub(super) fn run(
        &mut self,
        data: &[u8],
        records: &[Span],
        masks: &Masks,
        group: &mut Group<'_>,
    ) -> Run {
        let first_row = group.row;
        let (row, ahead) = std::mem::take(&mut self.ahead);
        // Which of the next ones are noted.
        let mut noted = if row == group.row { ahead } else { 0 };
        let mut left = records;
        let run = loop {
            let beside = Beside::new(data, &left[..left.len().min(self.width)], masks);
            let all = beside.len();
            if all == 0 {
                break Run::Over;
            }
            beside.begin(!noted, &mut self.lanes[0]);
            if !self.lanes[0].is_empty() {
                let tree = &mut self.tree;
                let mut descent = Descent {
                    tree,
                    beside,
                    group,
                };
                noted |= descent.from(0, &mut self.lanes);
            }
            let alike = all.min(noted.trailing_ones() as usize);
            group.row += alike;
            if alike < all {
                // What is beyond that one was not looked at for nothing.
                self.ahead = (group.row + 1, noted >> alike >> 1);
                let most = noted.count_ones().next_power_of_two() as usize;
                self.width = most.clamp(FEW, LANES);
                break Run::New;
            }
            left = &left[all..];
            noted = noted.checked_shr(all as u32).unwrap_or_default();
            self.width = LANES.min(2 * self.width);
        };
        self.hits += (group.row - first_row) as u64;
        run
    }

    /// The last record was like none before.
    pub(super) fn miss(&mut self) {
        let hits = self.hits - self.hits_before;
        self.hits_before = self.hits;
        self.patience = (self.patience + hits).min(PATIENCE).saturating_sub(MISS);
        if self.patience == 0 {
            // A stream that was regular for long may soon be so again.
            self.pause = match self.hits - self.hits_before_pause > self.pause {
                true => PAUSE,
                false => (self.pause * 2).min(PAUSE_MAX),
            };
            (self.paused, self.patience) = (self.pause, PATIENCE);
            self.hits_before_pause = self.hits;
            self.tree = Tree::new();
        }
    }

    /// Learns the shape of a record that was found to be new and that is JSON: an object. `columns`
    /// are the wanted keys, `unwanted` the first place for values that nobody wants.
    pub(super) fn learn(&mut self, record: &[u8], columns: &Columns, unwanted: Target) {
        if let Some(shape) = outline(record, columns, unwanted) {
            let depth = self.lanes.len().max(shape.fields.len() + 1);
            self.lanes.resize_with(depth, Lanes::new);
            self.tree.add(shape);
        }
    }
}

#[cfg(test)]
mod tests;
