//! The merge against its definition: every window is the merge of what its panes hold.

use super::distinct::{Distinct, Interner};
use super::merge::{Scope, WindowMerge, WindowResult};
use super::sessions::Numbered;
use super::{Aggregate, Assign, Input, Segment, Store, spill};
use crate::error::Result;
use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Joins texts in the order in which they are merged, and counts merged rows, and how often some are;
/// and, of each group's text, the distinct [`values`].
#[derive(Clone, Default)]
struct Join {
    merged: Arc<AtomicUsize>,
    merges: Arc<AtomicUsize>,
    without_distinct: bool,
}

/// Keys in the order in which they came.
struct Joined(Vec<(i64, String)>, Join);

/// Few, so that the same ones come in many panes and leave with some of them.
fn values(text: &str) -> BTreeSet<i64> {
    text.chars().map(|c| i64::from(u32::from(c) % 5)).collect()
}

fn batch_of(rows: &[(i64, String)], third: ArrayRef) -> RecordBatch {
    let keys: Int64Array = rows.iter().map(|(k, _)| Some(*k)).collect();
    let texts: StringArray = rows.iter().map(|(_, t)| Some(t.as_str())).collect();
    RecordBatch::try_from_iter(vec![
        ("k", Arc::new(keys) as _),
        ("t", Arc::new(texts) as _),
        ("d", third),
    ])
    .unwrap()
}

/// Rows as a store seals them.
fn sealed(rows: &[(i64, String)], without_distinct: bool) -> RecordBatch {
    let lists = rows.iter().map(|(_, text)| match without_distinct {
        true => Some(Vec::new()),
        false => Some(values(text).into_iter().map(Some).collect()),
    });
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    batch_of(rows, Arc::new(lists))
}

fn rows_of(batch: &RecordBatch) -> Vec<(i64, String)> {
    let keys = batch.column(0).as_primitive::<Int64Type>().values();
    let texts = batch.column(1).as_string::<i32>();
    let texts = texts.iter().map(|t| t.unwrap().to_string());
    keys.iter().copied().zip(texts).collect()
}

impl Aggregate for Join {
    fn store(&self) -> Result<Box<dyn Store>> {
        Ok(Box::new(Joined(Vec::new(), self.clone())))
    }

    fn keys(&self) -> usize {
        1
    }

    fn placed(&self) -> Arc<dyn Aggregate> {
        unreachable!("the merge takes segments")
    }

    fn numbered(&self) -> Result<Box<dyn Numbered>> {
        unreachable!("no windows here are sessions")
    }

    fn distinct(&self) -> Option<Distinct> {
        Some(Distinct {
            columns: vec![(2, 2)],
            rest: Arc::new(Join {
                without_distinct: true,
                ..self.clone()
            }),
            interner: |_| Ok(Box::new(Numbers::default())),
        })
    }
}

#[derive(Default)]
struct Numbers(HashMap<i64, usize>);

impl Interner for Numbers {
    fn intern(&mut self, columns: &[ArrayRef], ids: &mut Vec<usize>) -> Result<()> {
        ids.clear();
        for value in columns[0].as_primitive::<Int64Type>().values() {
            let next = self.0.len();
            ids.push(*self.0.entry(*value).or_insert(next));
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        16 * self.0.len()
    }
}

impl Store for Joined {
    fn update(&mut self, _: &Input) -> Result<()> {
        unreachable!("the merge takes segments")
    }

    fn merge(&mut self, segment: &RecordBatch) -> Result<()> {
        self.1.merged.fetch_add(segment.num_rows(), Relaxed);
        self.1.merges.fetch_add(1, Relaxed);
        for (key, text) in rows_of(segment) {
            match self.0.iter_mut().find(|(k, _)| *k == key) {
                Some((_, joined)) => joined.push_str(&text),
                None => self.0.push((key, text)),
            }
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<RecordBatch> {
        Ok(sealed(
            &std::mem::take(&mut self.0),
            self.1.without_distinct,
        ))
    }

    fn evaluate(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.0);
        let count = |(_, text): &(i64, String)| match self.1.without_distinct {
            true => -1,
            false => values(text).len() as i64,
        };
        let counts = Int64Array::from_iter_values(rows.iter().map(count));
        Ok(batch_of(&rows, Arc::new(counts)))
    }

    /// As the store of a query does it, which takes it that each group is there once.
    fn evaluate_one(&mut self, segment: &RecordBatch) -> Result<RecordBatch> {
        let rows = rows_of(segment);
        let keys: BTreeSet<i64> = rows.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), rows.len(), "{rows:?}");
        self.merge(segment)?;
        self.evaluate()
    }

    fn groups(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// A segment as the model keeps it: `text` is one character, for each key.
struct Known {
    pane: i64,
    from_end: i64,
    keys: BTreeSet<i64>,
    text: String,
    fresh: bool,
}

/// The merge under test and what it should know.
struct Pair {
    assign: Assign,
    merge: WindowMerge,
    known: Vec<Known>,
    /// All segments were new, and taken by all windows of their panes: then order is checked, too.
    in_order: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A segment of the pane at `back` before the watermark (`ahead` of it if negative) that
    /// skips the first `skip` windows of the pane.
    Segment {
        back: i64,
        skip: usize,
        keys: BTreeSet<i64>,
    },
    Advance {
        by: i64,
    },
    /// All windows, as output mode complete does.
    ShowAll,
    /// One of them, which stays open.
    ShowOne {
        number: usize,
    },
    /// The changed ones, as output mode update does.
    ShowChanged,
    /// Segments leave the memory.
    Spill,
}

/// Spilled segments of the model.
struct Shelf(Vec<RecordBatch>);

impl spill::SpilledRows for Shelf {
    fn rows(&self) -> usize {
        self.0.iter().map(RecordBatch::num_rows).sum()
    }

    fn part(&self, part: usize) -> Result<RecordBatch> {
        Ok(self.0[part].clone())
    }
}

struct Shelves;

impl spill::SpillTo for Shelves {
    fn spill(&mut self, parts: &[RecordBatch]) -> Result<spill::Spilled> {
        Ok(spill::Spilled(Arc::new(Shelf(parts.to_vec()))))
    }
}

fn step(stragglers: bool, early: bool) -> impl Strategy<Value = Step> {
    let skip = if stragglers { 0usize..4 } else { 0..1 };
    let weight = u32::from(early);
    let keys = prop::collection::btree_set(0i64..6, 1..4);
    prop_oneof![
        6 => (-12i64..90, skip, keys).prop_map(|(back, skip, keys)| Step::Segment { back, skip, keys }),
        4 => (0i64..9).prop_map(|by| Step::Advance { by }),
        weight => Just(Step::ShowAll),
        weight => Just(Step::ShowChanged),
        2 * weight => (0usize..60).prop_map(|number| Step::ShowOne { number }),
        weight => Just(Step::Spill),
    ]
}

impl Pair {
    fn new(assign: Assign) -> Self {
        Self {
            assign,
            merge: WindowMerge::new(assign, Arc::new(Join::default())),
            known: Vec::new(),
            in_order: true,
        }
    }

    fn absorb(&mut self, pane: i64, from_end: i64, keys: BTreeSet<i64>) {
        // One character each, so that joined texts can be sorted.
        let text = char::from_u32(0x4e00 + self.known.len() as u32).unwrap();
        let rows: Vec<_> = keys.iter().map(|k| (*k, text.to_string())).collect();
        let segment = Segment {
            pane,
            from_end,
            rows: 1,
            batch: sealed(&rows, false),
        };
        let late = self.merge.absorb(segment).unwrap();
        let after = self.merge.watermark().max(from_end - 1);
        let Some(from_end) = self.assign.next_end(pane, after) else {
            assert_eq!(late, 1);
            return;
        };
        assert_eq!(late, 0);
        self.in_order &= from_end == self.assign.first_end(pane);
        self.known.push(Known {
            pane,
            from_end,
            keys,
            text: text.to_string(),
            fresh: true,
        });
    }

    /// Ends of the windows with data that are not final.
    fn ends(&self, fresh_only: bool) -> BTreeSet<i64> {
        let mut ends = BTreeSet::new();
        for known in self.known.iter().filter(|k| k.fresh || !fresh_only) {
            let mut after = self.merge.watermark().max(known.from_end - 1);
            while let Some(end) = self.assign.next_end(known.pane, after) {
                ends.insert(end);
                after = end;
            }
        }
        ends
    }

    fn expected(&self, end: i64, scope: Scope) -> Vec<(i64, String)> {
        let start = self.assign.start_of(end);
        let mut held: Vec<&Known> = self
            .known
            .iter()
            .filter(|k| start <= k.pane && k.pane < end && k.from_end <= end)
            .collect();
        held.sort_by_key(|k| k.pane);
        let mut out: Vec<(i64, String)> = Vec::new();
        for known in &held {
            for key in &known.keys {
                match out.iter_mut().find(|(k, _)| k == key) {
                    Some((_, joined)) => joined.push_str(&known.text),
                    None => out.push((*key, known.text.clone())),
                }
            }
        }
        let fresh: BTreeSet<i64> = (held.iter().filter(|k| k.fresh))
            .flat_map(|k| k.keys.iter().copied())
            .collect();
        out.retain(|(key, _)| scope == Scope::All || fresh.contains(key));
        out
    }

    fn check(&mut self, end: i64, scope: Scope) {
        let (mut got, start) = (Vec::new(), self.assign.start_of(end));
        let mut take = |piece: WindowResult| {
            assert_eq!((piece.start, piece.end), (start, end));
            let rows = rows_of(&piece.batch);
            let counts = piece.batch.column(2).as_primitive::<Int64Type>();
            let expected = rows.iter().map(|(_, text)| values(text).len() as i64);
            assert!(
                counts.values().iter().copied().eq(expected),
                "{counts:?}, {rows:?}"
            );
            got.extend(rows);
            Ok(())
        };
        self.merge.evaluate_each(end, scope, &mut take).unwrap();
        let mut expected = self.expected(end, scope);
        if !self.in_order {
            for rows in [&mut got, &mut expected] {
                for (_, text) in rows.iter_mut() {
                    let mut parts: Vec<char> = text.chars().collect();
                    parts.sort_unstable();
                    *text = parts.into_iter().collect();
                }
                rows.sort();
            }
        }
        assert_eq!(got, expected, "window that ends at {end}");
    }

    fn settle(&mut self) {
        self.merge.settle().unwrap();
        self.known.iter_mut().for_each(|k| k.fresh = false);
        self.in_order = false;
        assert!(self.merge.changed().is_empty());
    }

    fn advance(&mut self, watermark: i64) {
        let due: Vec<i64> = self.ends(false).range(..=watermark).copied().collect();
        assert_eq!(self.merge.due(watermark), due);
        for end in due {
            self.check(end, Scope::All);
        }
        self.merge.finalise(watermark);
    }

    fn run(&mut self, steps: Vec<Step>) {
        let mut watermark = 0;
        for step in steps {
            match step {
                Step::Segment { back, skip, keys } => {
                    let pane = self.assign.pane_of(watermark - back);
                    let mut from_end = self.assign.first_end(pane);
                    for _ in 0..skip {
                        from_end = self.assign.next_end(pane, from_end).unwrap_or(from_end);
                    }
                    self.absorb(pane, from_end, keys);
                }
                Step::Advance { by } => {
                    watermark += by;
                    self.advance(watermark);
                }
                Step::Spill => {
                    self.merge.spill(0, &mut Shelves).unwrap();
                    self.in_order = false;
                }
                Step::ShowAll => {
                    let pending = self.merge.pending();
                    assert!(pending.iter().eq(self.ends(false).iter()));
                    pending.into_iter().for_each(|e| self.check(e, Scope::All));
                    self.settle();
                }
                Step::ShowOne { number } => {
                    let pending = self.merge.pending();
                    if let Some(end) = pending.get(number.min(pending.len().saturating_sub(1))) {
                        self.check(*end, Scope::All);
                    }
                }
                Step::ShowChanged => {
                    assert!(
                        self.merge
                            .changed()
                            .iter()
                            .all(|e| self.ends(true).contains(e))
                    );
                    for end in self.merge.changed() {
                        self.check(end, Scope::Changed);
                    }
                    self.settle();
                }
            }
            assert_eq!(self.merge.open_windows(), self.ends(false).len());
        }
        self.advance(watermark + 1000);
        assert_eq!(self.merge.open_windows(), 0);
    }
}

fn assigns() -> impl Strategy<Value = Assign> {
    let sliding =
        (1i64..60, 1i64..6, -20i64..20, 0i64..5).prop_map(|(slides, slide, offset, more)| {
            Assign::fixed(slides * slide + more, slide, offset).unwrap()
        });
    let cumulating = (1i64..30, 1i64..6, -20i64..20)
        .prop_map(|(steps, step, offset)| Assign::cumulating(steps * step, step, offset).unwrap());
    prop_oneof![2 => sliding, 1 => cumulating]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn final_windows_are_the_merge_of_their_panes(
        assign in assigns(),
        steps in any::<bool>().prop_flat_map(|s| prop::collection::vec(step(s, false), 1..80)),
    ) {
        Pair::new(assign).run(steps);
    }

    #[test]
    fn windows_shown_early_are_the_merge_of_their_panes(
        assign in assigns(),
        steps in any::<bool>().prop_flat_map(|s| prop::collection::vec(step(s, true), 1..60)),
    ) {
        Pair::new(assign).run(steps);
    }
}

proptest! {
    /// Panes with more segments than are kept, from many ends on: those that all open windows take
    /// are merged, whichever that was.
    #[test]
    fn segments_of_many_ends_in_few_panes_are_merged(
        slides in 1i64..40,
        cumulate in any::<bool>(),
        early in any::<bool>(),
        steps in prop::collection::vec((0i64..12, 0usize..9, 0i64..3, 0u8..12), 100..300),
    ) {
        let assign = match cumulate {
            true => Assign::cumulating(2 * slides, 2, 1),
            false => Assign::fixed(2 * slides, 2, 1),
        };
        let steps = steps.into_iter().map(|(back, skip, key, kind)| match kind {
            0 | 1 => Step::Advance { by: 1 + key },
            2 if early => Step::ShowOne { number: skip },
            3 if early => Step::ShowChanged,
            _ => Step::Segment { back, skip, keys: BTreeSet::from([key]) },
        });
        Pair::new(assign.unwrap()).run(steps.collect());
    }
}

/// Of rows that come out of order by many slides each window takes a small segment of each of many
/// panes. Each was merged by itself into each window, and looked at whenever its pane had another.
#[test]
fn small_segments_are_not_merged_one_by_one() {
    let slides = 200;
    let join = Join::default();
    let assign = Assign::fixed(slides, 1, 0).unwrap();
    let mut merge = WindowMerge::new(assign, Arc::new(join.clone()));
    let mut segments = 0;
    for end in slides..3 * slides {
        for pane in end - slides / 2..end {
            let rows = [(pane % 3, String::new())];
            let segment = Segment {
                pane,
                from_end: end,
                rows: 1,
                batch: sealed(&rows, false),
            };
            merge.absorb(segment).unwrap();
            segments += 1;
        }
        merge.evaluate(end, Scope::All).unwrap();
        merge.finalise(end);
    }
    let merges = join.merges.load(Relaxed) as f64 / f64::from(segments);
    assert!(merges < 1.0, "{merges} merges per segment");
}

/// A window with spilled segments is not merged by the stacks. Those never learned of the segments
/// that it took first, and left them out of the next windows.
#[test]
fn what_a_window_with_spilled_segments_took_is_not_forgotten() {
    let segment = |back, skip, keys: &[i64]| Step::Segment {
        back,
        skip,
        keys: keys.iter().copied().collect(),
    };
    Pair::new(Assign::fixed(40, 2, 0).unwrap()).run(vec![
        segment(-10, 3, &[0]),
        Step::Spill,
        segment(0, 0, &[0]),
        segment(-12, 2, &[0]),
        Step::Advance { by: 8 },
        segment(7, 0, &[0, 1]),
        Step::Advance { by: 6 },
        Step::Advance { by: 4 },
        segment(0, 0, &[0]),
    ]);
}

/// Rows merged for each result row, with `keys` in every pane; every third pane has a straggler.
fn merges_per_row(slides: i64, keys: i64, straggle: bool) -> f64 {
    let assign = Assign::fixed(slides, 1, 0).unwrap();
    let join = Join::default();
    let mut merge = WindowMerge::new(assign, Arc::new(join.clone()));
    let mut result_rows = 0;
    let rows: Vec<_> = (0..keys).map(|k| (k, String::new())).collect();
    for pane in 0..3 * slides {
        let mut absorb = |pane: i64, from_end, rows: &[(i64, String)]| {
            merge
                .absorb(Segment {
                    pane,
                    from_end,
                    rows: 1,
                    batch: sealed(rows, false),
                })
                .unwrap();
        };
        absorb(pane, pane + 1, &rows);
        if straggle && pane % 3 == 0 {
            absorb(pane - slides / 2, pane + 1, &rows[..1]);
        }
        let result = merge.evaluate(pane + 1, Scope::All).unwrap().unwrap();
        result_rows += result.batch.num_rows();
        merge.finalise(pane + 1);
    }
    join.merged.load(Relaxed) as f64 / result_rows as f64
}

#[test]
fn a_result_row_costs_the_same_however_small_the_slide() {
    for slides in [60, 600, 3600] {
        let merges = merges_per_row(slides, 3, false);
        assert!(merges < 7.0, "{slides} slides: {merges} merges per row");
    }
    // Stragglers in every third pane: the queue flips before they cost more than all else.
    let merges = merges_per_row(600, 3, true);
    assert!(merges < 20.0, "{merges} merges per row");
}

/// Keys that never come again were known by number for ever.
#[test]
fn distinct_counts_forget_groups_that_have_left() {
    let mut merge = WindowMerge::new(Assign::fixed(4, 1, 0).unwrap(), Arc::new(Join::default()));
    let mut most = [0, 0];
    for pane in 0..200 {
        let rows: Vec<_> = (0..100)
            .map(|k| (100 * pane + k, "ab".to_string()))
            .collect();
        let segment = Segment {
            pane,
            from_end: pane + 1,
            rows: 1,
            batch: sealed(&rows, false),
        };
        merge.absorb(segment).unwrap();
        let result = merge.evaluate(pane + 1, Scope::All).unwrap().unwrap();
        assert_eq!(result.batch.num_rows(), 100 * 4.min(pane as usize + 1));
        let counts = result.batch.column(2).as_primitive::<Int64Type>();
        assert!(counts.values().iter().all(|n| *n == 2));
        let half = &mut most[usize::from(pane >= 100)];
        *half = merge.bytes().max(*half);
        merge.finalise(pane + 1);
    }
    assert!(most[1] <= most[0], "{most:?}");
}
