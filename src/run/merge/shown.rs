//! What an upsert sink shows in output mode update: a group that HAVING let through once and does not any
//! more is taken back, by a delete of its primary key.

use crate::error::Result;
use crate::plan::QueryPlan;
use crate::window::assign::NEVER;
use arrow::array::BooleanArray;
use arrow::compute;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use std::collections::{BTreeMap, HashMap};

/// Which keys are shown, by the end of their window.
pub(super) struct Shown {
    /// The columns of the primary key.
    columns: Vec<usize>,
    converter: RowConverter,
    /// False: has been taken back.
    keys: BTreeMap<i64, HashMap<OwnedRow, bool>>,
    /// Those without a window that nothing was said of since the groups were looked through.
    older: HashMap<OwnedRow, bool>,
    /// An earlier run may have shown keys that are not known here.
    pub resumed: bool,
}

impl Shown {
    pub fn of(query: &QueryPlan) -> Result<Self> {
        let columns = query.upsert_key();
        let field = |i: &usize| SortField::new(query.schema.field(*i).data_type().clone());
        Ok(Self {
            converter: RowConverter::new(columns.iter().map(field).collect())?,
            columns,
            keys: BTreeMap::new(),
            older: HashMap::new(),
            resumed: false,
        })
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let keys = batch.project(&self.columns)?;
        Ok(self.converter.convert_columns(keys.columns())?)
    }

    /// Rows of a window that are written.
    pub fn add(&mut self, end: i64, batch: &RecordBatch) -> Result<()> {
        let rows = self.rows(batch)?;
        let keys = self.keys.entry(end).or_default();
        for row in rows.iter().map(|row| row.owned()) {
            self.older.remove(&row);
            keys.insert(row, true);
        }
        Ok(())
    }

    /// Of rows of a window that HAVING refuses those that are shown, and now no longer.
    pub fn take(&mut self, end: i64, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.rows(batch)?;
        let keys = self.keys.entry(end).or_default();
        let taken = rows.iter().map(|row| {
            let row = row.owned();
            let older = self.older.remove(&row);
            let known = keys.get(&row).copied().or(older);
            let is_shown = known.unwrap_or(self.resumed);
            match self.resumed {
                true => keys.insert(row, false),
                false => keys.remove(&row),
            };
            Some(is_shown)
        });
        let taken: BooleanArray = taken.collect();
        Ok(compute::filter_record_batch(batch, &taken)?)
    }

    /// Groups without a window that have not changed for two looks are forgotten, and with them what was
    /// shown of them.
    pub fn expire(&mut self) {
        let newer = self.keys.remove(&NEVER).unwrap_or_default();
        let forgotten = std::mem::replace(&mut self.older, newer);
        self.resumed |= !forgotten.is_empty();
    }

    /// Windows that do not change any more.
    pub fn forget(&mut self, through: i64) {
        self.keys = self.keys.split_off(&through.saturating_add(1));
    }
}
