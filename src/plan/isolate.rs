//! Expressions that fail on some rows (a CAST of a text that is no number): those rows, each with its
//! reason, and what becomes of the others.

use super::casts;
use super::stages::{Flow, Stage, evaluate};
use crate::error::{Error, Result};
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Rows on which an expression fails, with the reason.
pub type Failed = Vec<(u32, String)>;

/// Tells rows that surely fail by themselves.
type Blame<'a> = &'a dyn Fn(&RecordBatch) -> Result<Failed>;

/// What came of a batch.
pub struct Isolated<T> {
    /// In the order of the rows; each with the indices of its rows, `None` for all of the batch.
    pub parts: Vec<(T, Option<UInt32Array>)>,
    /// Oldest first.
    pub failed: Failed,
}

/// A part of a batch with fewer rows is halved without asking which of them fail.
const ASK_MIN: usize = 1024;

/// Runs `step` over the batch. When an expression fails, `blame` is asked for rows that surely fail
/// by themselves, and the others go on. When it knows none, the batch is halved until the failing
/// rows stand alone. So one bad row costs only itself.
pub fn run_isolating<T>(
    batch: &RecordBatch,
    step: &dyn Fn(&RecordBatch) -> Result<T>,
    blame: Blame,
) -> Result<Isolated<T>> {
    let mut isolated = Isolated {
        parts: Vec::with_capacity(1),
        failed: Vec::new(),
    };
    match step(batch) {
        Ok(part) => isolated.parts.push((part, None)),
        Err(Error::Data(reason)) => {
            let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
            isolated.divide(batch.clone(), all, reason, step, Some(blame))?;
            isolated.failed.sort_by_key(|(row, _)| *row);
        }
        Err(e) => return Err(e),
    }
    Ok(isolated)
}

impl<T> Isolated<T> {
    /// `rows` of the whole batch, on some of which `step` fails for this `reason`.
    fn divide(
        &mut self,
        mut batch: RecordBatch,
        mut rows: UInt32Array,
        mut reason: String,
        step: &dyn Fn(&RecordBatch) -> Result<T>,
        blame: Option<Blame>,
    ) -> Result<()> {
        loop {
            if rows.len() <= 1 {
                let row = rows.values().first().copied().unwrap_or_default();
                self.failed.push((row, reason));
                return Ok(());
            }
            let failed = blame.map_or(Ok(Vec::new()), |blame| blame(&batch))?;
            if failed.is_empty() {
                break;
            }
            let mut fails = vec![false; rows.len()];
            for (row, reason) in failed {
                if !std::mem::replace(&mut fails[row as usize], true) {
                    self.failed.push((rows.value(row as usize), reason));
                }
            }
            let good = (0..).zip(&fails).filter(|(_, fails)| !**fails);
            let good = UInt32Array::from_iter_values(good.map(|(row, _)| row));
            if good.is_empty() {
                return Ok(());
            }
            batch = take_record_batch(&batch, &good)?;
            rows = take(&rows, &good, None)?.as_primitive().clone();
            match step(&batch) {
                Ok(part) => {
                    self.parts.push((part, Some(rows)));
                    return Ok(());
                }
                Err(Error::Data(other)) => reason = other,
                Err(e) => return Err(e),
            }
        }
        let half = rows.len() / 2;
        for (from, length) in [(0, half), (half, rows.len() - half)] {
            let (batch, rows) = (batch.slice(from, length), rows.slice(from, length));
            match step(&batch) {
                Ok(part) => self.parts.push((part, Some(rows))),
                Err(Error::Data(reason)) => {
                    let blame = blame.filter(|_| length >= ASK_MIN);
                    self.divide(batch, rows, reason, step, blame)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Rows of a batch that fail in these stages, or in the expressions over what comes out of them, for
/// a cast: what [`run_isolating`] asks for.
pub(super) fn blame<'a>(
    stages: &[Stage],
    last: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    batch: &RecordBatch,
) -> Result<Failed> {
    let mut flow = Flow::tracked(batch);
    for stage in stages {
        flow = match stage.run(flow.clone()) {
            Ok(next) => next,
            Err(Error::Data(_)) => return failing(&stage.exprs(), &flow),
            Err(e) => return Err(e),
        };
    }
    failing(&last.into_iter().collect::<Vec<_>>(), &flow)
}

/// The rows that a cast in these expressions cannot take, if that lets them fail: a CASE may not have
/// come to the cast, so each is evaluated by itself, which also tells the reason.
fn failing(exprs: &[&Arc<dyn PhysicalExpr>], flow: &Flow) -> Result<Failed> {
    let mut failed = Failed::new();
    for row in casts::refused(exprs, &flow.batch)? {
        let alone = flow.batch.slice(row, 1);
        match exprs.iter().find_map(|expr| evaluate(expr, &alone).err()) {
            Some(Error::Data(reason)) => failed.push((flow.origin_of(row), reason)),
            Some(e) => return Err(e),
            None => {}
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests;
