//! Rows behind their partition's watermark that some of their windows still take.
//!
//! Each is for windows from some end on, and of any pane before that; so where events are out of order
//! by many slides there are few rows, or one, of each pair of the two, and a store for each pair would
//! cost more than its rows. They go into one store, in which the pair is part of the key; when it is
//! sealed, its groups are divided into the segments that stores of their own would have given.

use super::{Aggregate, Input, Segment, Store};
use crate::batches;
use crate::error::{Error, Result};
use arrow::array::{AsArray, Int64Array, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use std::sync::Arc;

/// Rows of a batch by their indices, and for each the `from_end` and the pane of its segment.
#[derive(Default)]
pub(super) struct Places {
    rows: Vec<u32>,
    from_ends: Vec<i64>,
    panes: Vec<i64>,
}

impl Places {
    pub fn push(&mut self, row: u32, from_end: i64, pane: i64) {
        self.rows.push(row);
        self.from_ends.push(from_end);
        self.panes.push(pane);
    }
}

pub(super) struct Behind {
    aggregate: Arc<dyn Aggregate>,
    store: Option<Box<dyn Store>>,
    /// How many rows are in the store for each `(from_end, pane)`.
    rows: HashMap<(i64, i64), u64>,
    first_end: i64,
}

impl Behind {
    pub fn new(aggregate: &dyn Aggregate) -> Self {
        Self {
            aggregate: aggregate.placed(),
            store: None,
            rows: HashMap::new(),
            first_end: i64::MAX,
        }
    }

    pub fn add(&mut self, input: &Input, places: Places) -> Result<()> {
        let Places {
            rows,
            from_ends,
            panes,
        } = places;
        if rows.is_empty() {
            return Ok(());
        }
        for (from_end, pane) in from_ends.iter().zip(&panes) {
            *self.rows.entry((*from_end, *pane)).or_default() += 1;
            self.first_end = self.first_end.min(*from_end);
        }
        let mut input = input.take(&UInt32Array::from(rows))?;
        input.keys.push(Arc::new(Int64Array::from(from_ends)));
        input.keys.push(Arc::new(Int64Array::from(panes)));
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(self.aggregate.store()?),
        };
        store.update(&input)
    }

    /// All segments, if one of them is due: it does no harm that others come early, too, and
    /// the store need not be searched.
    pub fn ship(&mut self, closing: i64) -> Result<Vec<Segment>> {
        let Some(mut store) = self.store.take_if(|_| self.first_end <= closing) else {
            return Ok(Vec::new());
        };
        let sealed = store.seal()?;
        self.first_end = i64::MAX;
        let counts = std::mem::take(&mut self.rows);
        divide(&sealed, self.aggregate.keys(), &counts)
    }

    pub fn groups(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.groups())
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let store = self.store.as_ref().map_or(0, |store| store.bytes());
        store + self.rows.allocation_size()
    }
}

/// The groups of each `(from_end, pane)`, which are the last two of so many keys, as segments.
fn divide(
    sealed: &RecordBatch,
    keys: usize,
    counts: &HashMap<(i64, i64), u64>,
) -> Result<Vec<Segment>> {
    let numbers = |column: usize| {
        let column = sealed.column(column).as_primitive_opt::<Int64Type>();
        column.ok_or_else(|| Error::bug("rows behind the watermark without a place"))
    };
    let (from_ends, panes) = (numbers(keys - 2)?.values(), numbers(keys - 1)?.values());
    let place = |row: &u32| (from_ends[*row as usize], panes[*row as usize]);
    let mut order: Vec<u32> = (0..sealed.num_rows() as u32).collect();
    order.sort_by_key(place);
    let others: Vec<usize> = (0..keys - 2).chain(keys..sealed.num_columns()).collect();
    let groups = sealed.project(&others)?;
    let mut segments = Vec::with_capacity(counts.len());
    for rows in order.chunk_by(|a, b| place(a) == place(b)) {
        let (from_end, pane) = place(&rows[0]);
        // Each by itself in memory: they are given up at different times.
        let taken = take_arrays(groups.columns(), &UInt32Array::from(rows.to_vec()), None)?;
        let batch = batches::with_rows(groups.schema(), taken, rows.len())?;
        segments.push(Segment {
            pane,
            from_end,
            rows: counts.get(&(from_end, pane)).copied().unwrap_or_default(),
            batch: batches::compact(&batch)?,
        });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests;
