use crate::error::Result;
use crate::watermark::{NONE, PartitionWatermark};
use crate::window::assign::NEVER;
use crate::window::sessions::Numbered;
use crate::window::table::WindowTable;
use crate::window::{Aggregate, Assign, Input, Store, segment_batch};
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `COUNT(*)` by so many whole numbers.
struct Count(usize);

struct Counts {
    keys: usize,
    counts: BTreeMap<Vec<i64>, i64>,
}

impl Aggregate for Count {
    fn store(&self) -> Result<Box<dyn Store>> {
        Ok(Box::new(Counts {
            keys: self.0,
            counts: BTreeMap::new(),
        }))
    }

    fn keys(&self) -> usize {
        self.0
    }

    fn placed(&self) -> Arc<dyn Aggregate> {
        Arc::new(Count(self.0 + 2))
    }

    fn numbered(&self) -> Result<Box<dyn Numbered>> {
        unreachable!("nothing is merged")
    }
}

impl Store for Counts {
    fn update(&mut self, input: &Input) -> Result<()> {
        let keys = input.keys.iter().map(|k| k.as_primitive::<Int64Type>());
        let keys: Vec<_> = keys.collect();
        for row in 0..input.rows {
            let key = keys.iter().map(|k| k.value(row)).collect();
            *self.counts.entry(key).or_default() += 1;
        }
        Ok(())
    }

    fn merge(&mut self, _: &RecordBatch) -> Result<()> {
        unreachable!("nothing is merged")
    }

    fn seal(&mut self) -> Result<RecordBatch> {
        let counts = std::mem::take(&mut self.counts);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for key in 0..self.keys {
            let values = counts.keys().map(|k| k[key]);
            columns.push(Arc::new(Int64Array::from_iter_values(values)));
        }
        columns.push(Arc::new(Int64Array::from_iter_values(
            counts.values().copied(),
        )));
        segment_batch(columns, counts.len())
    }

    fn evaluate(&mut self) -> Result<RecordBatch> {
        unreachable!("nothing is shown")
    }

    fn groups(&self) -> usize {
        self.counts.len()
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Rows by `(from_end, pane)` and key, and the late ones.
type Counted = (BTreeMap<(i64, i64, i64), i64>, usize);

/// Rows through a table in batches of these lengths, shipped after each.
fn through_a_table(assign: Assign, rows: &[(i64, i64)], cuts: &[usize]) -> Counted {
    let mut table = WindowTable::new(assign, Arc::new(Count(1)));
    let mut watermark = PartitionWatermark::new(3, NONE);
    let (mut counted, mut late) = (BTreeMap::new(), 0);
    let mut ship = |table: &mut WindowTable, closing| {
        for segment in table.ship(closing).unwrap() {
            let columns = segment.batch.columns().iter();
            let columns: Vec<_> = columns.map(|c| c.as_primitive::<Int64Type>()).collect();
            let counts = columns[1].values();
            assert_eq!(segment.rows as i64, counts.iter().sum::<i64>());
            for (key, count) in columns[0].values().iter().zip(counts) {
                let place = (segment.from_end, segment.pane, *key);
                *counted.entry(place).or_default() += count;
            }
        }
    };
    let (mut rest, mut cuts) = (rows, cuts.iter().cycle());
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        rest = others;
        let times: Vec<i64> = batch.iter().map(|(time, _)| *time).collect();
        let keys = Int64Array::from_iter_values(batch.iter().map(|(_, key)| *key));
        let input = Input {
            rows: batch.len(),
            keys: vec![Arc::new(keys)],
            args: vec![],
            filters: vec![],
        };
        let before = watermark.observe(&times, None, |t, w| assign.may_be_behind(t, w));
        late += table.update(&input, &times, &before, NONE).unwrap().len();
        ship(&mut table, watermark.current());
    }
    ship(&mut table, NEVER);
    assert_eq!((table.stores(), table.groups()), (0, 0));
    (counted, late)
}

/// The same, from the definition.
fn model(assign: Assign, rows: &[(i64, i64)]) -> Counted {
    let (mut counted, mut late, mut watermark) = (BTreeMap::new(), 0, NONE);
    for (time, key) in rows {
        let pane = assign.pane_of(*time);
        match assign.from_end(*time, pane, watermark) {
            Some(from_end) => *counted.entry((from_end, pane, *key)).or_default() += 1,
            None => late += 1,
        }
        watermark = watermark.max(time - 3);
    }
    (counted, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Rows behind the watermark had a store for each pair of pane and first window, mostly for
    /// one row. What is shipped is still that.
    #[test]
    fn rows_behind_are_shipped_as_if_each_place_had_its_store(
        assign in prop_oneof![
            (1i64..20, 1i64..5, 0i64..5)
                .prop_map(|(n, slide, more)| Assign::fixed(n * slide + more, slide, 1).unwrap()),
            (1i64..20, 1i64..5).prop_map(|(n, step)| Assign::cumulating(n * step, step, 1).unwrap()),
            (1i64..5_000).prop_map(|gap| Assign::session(gap).unwrap()),
        ],
        rows in prop::collection::vec((0i64..60, 0i64..3), 1..120),
        cuts in prop::collection::vec(1usize..50, 1..6),
    ) {
        // They go forward, by less than they are out of order.
        let rows: Vec<_> = (0..).zip(rows).map(|(i, (time, key))| (i + time, key)).collect();
        prop_assert_eq!(through_a_table(assign, &rows, &cuts), model(assign, &rows));
    }
}
