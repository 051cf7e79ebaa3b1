//! What a query shows: windows that have closed, groups that have changed.

use super::{Merge, Windows};
use crate::batches;
use crate::error::Result;
use crate::plan::{RunFinish, Trigger};
use crate::sink::OutputMode;
use crate::watermark::NONE;
use crate::window::assign::NEVER;
use crate::window::largest::{too_large, window_text};
use crate::window::merge::{Scope, WindowMerge, WindowResult};
use crate::window::sessions::by_last_row;
use crate::window::{Aggregate, Assign};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

impl Merge {
    /// The smallest watermark of the workers that are not idle. Where all are (or have ended), the
    /// largest that one of the idle had: whichever went idle last, the others did not hold it.
    fn least(&self) -> i64 {
        let active = self.workers.iter().filter_map(|w| w.watermark).min();
        let idle = self.workers.iter().filter(|w| w.watermark.is_none());
        match (active, idle.map(|w| w.told).max()) {
            (None | Some(NEVER), Some(told)) => told,
            (Some(active), _) => active,
            (None, None) => NONE,
        }
    }

    /// Finishes the windows that the workers' watermarks have closed.
    pub(super) fn advance(&mut self) -> Result<()> {
        let watermark = self.least();
        if watermark <= self.stats().watermark.load(Relaxed) {
            return Ok(());
        }
        if self
            .windows
            .as_ref()
            .is_none_or(|w| w.assign == Assign::Global)
        {
            return Ok(());
        }
        if self.query.mode == OutputMode::Complete {
            // Nothing is ever final: the whole result is shown at each trigger.
            return Ok(());
        }
        // Rows that arrive from now on for these windows are late.
        self.stats().watermark.store(watermark, Relaxed);
        let Some(windows) = &mut self.windows else {
            return Ok(());
        };
        if windows.assign.is_session() {
            return self.close_sessions(watermark);
        }
        let ends: BTreeSet<i64> = match self.query.mode {
            OutputMode::Append => windows
                .merges
                .iter()
                .flat_map(|m| m.due(watermark))
                .collect(),
            _ => windows
                .merges
                .iter()
                .flat_map(|m| m.changed())
                .filter(|e| *e <= watermark)
                .collect(),
        };
        let scope = if self.query.mode == OutputMode::Append {
            Scope::All
        } else {
            Scope::Changed
        };
        // Also those that have not changed since they were shown.
        let last = windows.merges.iter().flat_map(|m| m.due(watermark)).max();
        self.final_end = self.final_end.max(last.unwrap_or(NONE));
        for end in ends {
            self.finish_window(end, scope)?;
        }
        if watermark != NEVER {
            self.final_end = self.final_end.max(watermark);
        }
        let Some(windows) = &mut self.windows else {
            return Ok(());
        };
        for merge in &mut windows.merges {
            merge.finalise(watermark);
        }
        if let Some(shown) = &mut self.shown {
            shown.forget(watermark);
        }
        self.closed()
    }

    /// Windows have closed.
    fn closed(&mut self) -> Result<()> {
        let merges = self.windows.iter().flat_map(|w| &w.merges);
        let open = merges.map(|m| m.open_windows() as u64).sum();
        self.stats().open_windows.store(open, Relaxed);
        if self.trigger == Trigger::WindowClose {
            self.commit()?;
        }
        Ok(())
    }

    /// Finishes the sessions that a watermark ends.
    fn close_sessions(&mut self, watermark: i64) -> Result<()> {
        let Some(mut windows) = self.windows.take() else {
            return Ok(());
        };
        let closing = windows.assign.closing(watermark);
        if !windows.merges.iter().any(|m| m.sessions_due(closing)) {
            self.windows = Some(windows);
            return Ok(());
        }
        let result = self.finish_sessions(&mut windows, closing);
        let held = windows.merges.iter().map(WindowMerge::bytes).sum();
        self.windows = Some(windows);
        result?;
        if closing != NEVER {
            self.final_end = self.final_end.max(closing);
        }
        self.limit_memory(held)?;
        self.closed()
    }

    fn finish_sessions(&mut self, windows: &mut Windows, closing: i64) -> Result<()> {
        if let ([merge], true) = (&mut windows.merges[..], windows.finish.is_row_wise()) {
            return merge.close_sessions(closing, &mut |sessions| {
                for batch in windows.finish.run_sessions(&[vec![sessions]])? {
                    self.write(&batch)?;
                }
                Ok(())
            });
        }
        // Those that end together are finished together, like windows.
        let aggregates = windows.merges.len();
        let mut by_end: BTreeMap<i64, Vec<Vec<RecordBatch>>> = BTreeMap::new();
        for (i, merge) in windows.merges.iter_mut().enumerate() {
            merge.close_sessions(closing, &mut |sessions| {
                for (end, part) in by_last_row(&sessions)? {
                    let of_end = by_end.entry(end);
                    of_end.or_insert_with(|| vec![Vec::new(); aggregates])[i].push(part);
                }
                Ok(())
            })?;
        }
        for sessions in by_end.values() {
            for batch in windows.finish.run_sessions(sessions)? {
                self.write(&batch)?;
            }
        }
        Ok(())
    }

    fn finish_window(&mut self, end: i64, scope: Scope) -> Result<()> {
        let Some(mut windows) = self.windows.take() else {
            return Ok(());
        };
        let result = self.finish_windows(&mut windows, &[end], scope);
        self.windows = Some(windows);
        result
    }

    /// Finishes the windows with these ends together.
    fn finish_windows(&mut self, windows: &mut Windows, ends: &[i64], scope: Scope) -> Result<()> {
        if let ([merge], true) = (&mut windows.merges[..], windows.finish.is_row_wise()) {
            // Each piece by itself: a window of any size in the memory of its largest piece.
            for end in ends {
                merge.evaluate_each(*end, scope, &mut |piece| {
                    let piece = [vec![piece]];
                    for batch in windows.finish.run(&piece)? {
                        self.write(&batch)?;
                        if let Some(shown) = &mut self.shown {
                            shown.add(*end, &batch)?;
                        }
                    }
                    self.take_back(*end, &windows.finish, &piece)
                })?;
            }
            return Ok(());
        }
        let limit = self.memory.as_ref().map_or(usize::MAX, |m| m.at_once);
        let mut bytes = 0usize;
        let mut results = Vec::with_capacity(windows.merges.len());
        for (merge, factory) in windows.merges.iter_mut().zip(&windows.factories) {
            let mut pieces: Vec<WindowResult> = Vec::new();
            for end in ends {
                merge.evaluate_each(*end, scope, &mut |piece| {
                    bytes += batches::held([&piece.batch]);
                    pieces.push(piece);
                    if bytes <= limit {
                        return Ok(());
                    }
                    let rows: Vec<_> = pieces.iter().map(|p| &p.batch).collect();
                    let what =
                        format!("{} (all of it at once)", window_text(pieces[0].start, *end));
                    Err(too_large(&what, &rows, factory.keys(), limit))
                })?;
            }
            if scope == Scope::All && windows.assign == Assign::Global && pieces.is_empty() {
                // Beside one that has rows; where none has, see `empty_result`.
                pieces.extend(of_no_rows(factory.as_ref())?);
            }
            results.push(pieces);
        }
        for batch in windows.finish.run(&results)? {
            self.write(&batch)?;
        }
        Ok(())
    }

    /// Deletes the groups of a window that the sink shows, but HAVING no longer lets through.
    fn take_back(
        &mut self,
        end: i64,
        finish: &RunFinish,
        results: &[Vec<WindowResult>],
    ) -> Result<()> {
        let Some(shown) = &mut self.shown else {
            return Ok(());
        };
        for batch in finish.refused(results)? {
            let taken = shown.take(end, &batch)?;
            if taken.num_rows() > 0 {
                self.sink.delete(self.epoch, &taken)?;
                self.dirty = true;
            }
        }
        Ok(())
    }

    /// Moves state out of memory when it is over its budget; `came` bytes are new.
    pub(super) fn limit_memory(&mut self, came: usize) -> Result<()> {
        let (Some(windows), Some(memory)) = (&mut self.windows, &mut self.memory) else {
            return Ok(());
        };
        windows.came += came;
        if windows.came < memory.state / 8 {
            return Ok(());
        }
        windows.came = 0;
        let held: usize = windows.merges.iter().map(WindowMerge::bytes).sum();
        if held > memory.state {
            let each = memory.state / 2 / windows.merges.len();
            for merge in &mut windows.merges {
                merge.spill(each, memory.spill.as_mut())?;
            }
            let left: usize = windows.merges.iter().map(WindowMerge::bytes).sum();
            if left > memory.at_once
                && let Some(largest) = windows.merges.iter().max_by_key(|m| m.bytes())
            {
                // One group alone, or an aggregate without keys: there is nothing to divide.
                return Err(largest.too_large(memory.at_once));
            }
            let name = &self.query.name;
            tracing::debug!(
                "{name}: {held} bytes of state are over the budget of {}; {left} stay in memory",
                memory.state
            );
        }
        Ok(())
    }

    /// Output modes update (changed groups) and complete (everything, if anything changed).
    pub(super) fn emit_changes(&mut self) -> Result<()> {
        let Some(windows) = &mut self.windows else {
            return Ok(());
        };
        let changed: BTreeSet<i64> = windows.merges.iter().flat_map(|m| m.changed()).collect();
        if changed.is_empty() || self.query.mode == OutputMode::Append {
            return Ok(());
        }
        if self.query.mode == OutputMode::Update {
            for end in changed {
                self.finish_window(end, Scope::Changed)?;
            }
        } else if let Some(mut windows) = self.windows.take() {
            let ends: BTreeSet<i64> = windows.merges.iter().flat_map(|m| m.pending()).collect();
            let ends: Vec<i64> = ends.into_iter().collect();
            let result = self.finish_windows(&mut windows, &ends, Scope::All);
            self.windows = Some(windows);
            result?;
            // The whole result is shown even when HAVING leaves nothing of it.
            self.dirty = true;
        }
        let Some(windows) = &mut self.windows else {
            return Ok(());
        };
        for merge in &mut windows.merges {
            merge.settle()?;
        }
        Ok(())
    }

    /// What aggregates without keys over no rows at all have to show at the end.
    pub(super) fn empty_result(&mut self) -> Result<()> {
        let Some(windows) = &mut self.windows else {
            return Ok(());
        };
        let has_rows = |merge: &WindowMerge| !merge.pending().is_empty();
        // In output mode update each has shown its own rows.
        let has_shown =
            self.query.mode != OutputMode::Update && windows.merges.iter().any(has_rows);
        if windows.assign != Assign::Global || has_shown {
            return Ok(());
        }
        let mut results = Vec::new();
        for (merge, factory) in windows.merges.iter().zip(&windows.factories) {
            let none = match has_rows(merge) {
                true => None,
                false => of_no_rows(factory.as_ref())?,
            };
            results.push(Vec::from_iter(none));
        }
        for batch in windows.finish.run(&results)? {
            self.write(&batch)?;
        }
        Ok(())
    }
}

/// An aggregate without keys over no rows has one row (`count(*)` is 0).
fn of_no_rows(factory: &dyn Aggregate) -> Result<Option<WindowResult>> {
    if !factory.is_keyless() {
        return Ok(None);
    }
    Ok(Some(WindowResult {
        start: 0,
        end: NEVER,
        batch: factory.store()?.evaluate()?,
    }))
}
