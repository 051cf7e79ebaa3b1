//! Groups without a window that nobody has added to for a while (`table.exec.state.ttl`).
//!
//! What has come since the last look lies in one pane, what is older in another. At each look, one
//! time-to-live apart, the groups of the older pane that are not in the newer are dropped, and the
//! newer becomes the older. So a group is kept for one time-to-live at least, and for two at most.

use super::assign::NEVER;
use super::merge::WindowMerge;
use super::{Assign, HeldSegment, segment_id};
use crate::batches;
use crate::error::Result;
use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;

/// The pane of [`Assign::Global`] that rows come to, and that of what is older.
const NEWER: i64 = 0;
const OLDER: i64 = -1;

impl WindowMerge {
    /// Drops the groups that had no row between the last two looks, of which this is one. What is on
    /// disk stays, and so does the single group of an aggregate without keys.
    pub fn expire(&mut self) -> Result<()> {
        let mut held = self.panes.values().flatten();
        let is_kept = self.aggregate.is_keyless() || held.any(|h| h.spilled.is_some());
        if self.assign != Assign::Global || is_kept {
            return Ok(());
        }
        let mut newer = self.panes.remove(&NEWER).unwrap_or_default();
        let older = self.panes.remove(&OLDER).unwrap_or_default();
        let groups =
            |segments: &[HeldSegment]| -> usize { segments.iter().map(HeldSegment::rows).sum() };
        let before = groups(&older);
        let kept = self.in_both(&newer, older)?;
        let dropped = groups(&kept) < before;
        newer.extend(kept);
        newer.retain(|held| held.rows() > 0);
        for held in &mut newer {
            held.pane = OLDER;
            held.id = segment_id();
        }
        if !newer.is_empty() {
            self.panes.insert(OLDER, newer);
        }
        if dropped {
            self.changed.insert(NEVER, NEVER);
        }
        Ok(())
    }

    /// The older segments, with the groups alone that newer ones have, too.
    fn in_both(
        &self,
        newer: &[HeldSegment],
        mut older: Vec<HeldSegment>,
    ) -> Result<Vec<HeldSegment>> {
        let keys = self.aggregate.keys();
        let Some(mut known) = self.aggregate.numbered()?.interner()? else {
            return Ok(older);
        };
        let mut ids = Vec::new();
        for held in newer {
            known.intern(&held.batch.columns()[..keys], &mut ids)?;
        }
        let count = known.count();
        for held in &mut older {
            known.intern(&held.batch.columns()[..keys], &mut ids)?;
            let stays: BooleanArray = ids.iter().map(|id| Some(*id < count)).collect();
            if stays.true_count() < stays.len() {
                held.batch = batches::compact(&filter_record_batch(&held.batch, &stays)?)?;
            }
        }
        Ok(older)
    }
}
