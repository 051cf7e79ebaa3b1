//! One query in one worker: its open windows, and what a batch adds to them.

use crate::error::{Error, Result};
use crate::plan::{Body, Failed, QueryPlan, StatelessPlan, WindowedPlan, run_isolating};
use crate::run::stats::Stats;
use crate::watermark::{Before, NONE};
use crate::window::Assign;
use crate::window::sessions::PARTS_OF_GAP;
use crate::window::table::WindowTable;
use arrow::array::UInt32Array;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) struct WindowedQuery {
    /// Those over the worker's source, each with its aggregate.
    pub(super) tables: Vec<(usize, WindowTable)>,
}

impl WindowedQuery {
    /// The windows, the same for all aggregates.
    pub(super) fn assign(&self) -> Option<&Assign> {
        self.tables.first().map(|(_, table)| table.assign())
    }
}

pub(super) struct Query {
    /// Number in the job.
    pub(super) index: usize,
    pub(super) plan: Arc<QueryPlan>,
    pub(super) windowed: Option<WindowedQuery>,
    /// Last watermark and trigger that were sent.
    pub(super) sent: Option<Option<i64>>,
    pub(super) trigger: u64,
    /// Rows since a watermark was sent.
    unsent: usize,
}

/// So many rows are worth handing over the sessions that they are of.
const SESSION_ROWS: usize = 1 << 18;

impl Query {
    /// The part of a query that is over the source of this index.
    pub(super) fn new(index: usize, plan: Arc<QueryPlan>, source: usize) -> Self {
        let windowed = match &plan.body {
            Body::Windowed(w) => Some(WindowedQuery {
                tables: (0..w.aggregates())
                    .filter(|a| plan.sources[w.source_of(*a)] == source)
                    .map(|a| (a, WindowTable::new(w.assign(), w.factory(a))))
                    .collect(),
            }),
            Body::Stateless(_) => None,
        };
        Self {
            index,
            plan,
            windowed,
            sent: None,
            trigger: 0,
            unsent: 0,
        }
    }

    /// Whether to tell a watermark, which goes with what the merge needs for it. Of sessions that
    /// is all that is open so far, so it is not told at each batch while there is more to read.
    pub(super) fn is_due(&self, watermark: Option<i64>, idle: bool) -> bool {
        if self.sent == Some(watermark) {
            return false;
        }
        let assign = self.windowed.as_ref().and_then(WindowedQuery::assign);
        let (Some(assign @ Assign::Session { gap }), Some(now), Some(Some(before))) =
            (assign, watermark, self.sent)
        else {
            return true;
        };
        let moved = now.saturating_sub(before);
        // It falls when a partition is new or no longer idle: then nothing may be closed by the old one.
        now < before
            || assign.closing(now) > assign.closing(before)
                && (idle || moved >= gap / PARTS_OF_GAP || self.unsent >= SESSION_ROWS)
    }

    /// A watermark goes to the merge.
    pub(super) fn tell(&mut self, watermark: Option<i64>) {
        self.sent = Some(watermark);
        self.unsent = 0;
    }

    /// Adds a batch to the query's windows. Returns the rows on which an expression failed, and
    /// the late rows, both as indices of the batch.
    pub(super) fn add(
        &mut self,
        plan: &WindowedPlan,
        batch: &RecordBatch,
        before: &Before,
        stats: &Stats,
    ) -> Result<(Failed, Vec<u32>)> {
        let (mut failed, mut late) = (Vec::new(), Vec::new());
        let Some(windowed) = &mut self.windowed else {
            return Ok((failed, late));
        };
        self.unsent += batch.num_rows();
        let floor = stats.queries[self.index].watermark.load(Relaxed);
        // Several rows may come of one, which is late once.
        let several = windowed.tables.len() > 1 || plan.multiplies();
        let track = matches!(before, Before::Each(_))
            || (floor != NONE && (several || self.plan.late.is_some()));
        for (aggregate, table) in &mut windowed.tables {
            let isolated = run_isolating(
                batch,
                &|rows| plan.prepare(*aggregate, rows, track),
                &|rows| plan.blame(*aggregate, rows),
            )?;
            failed.extend(isolated.failed);
            for (prepared, rows) in isolated.parts {
                let of = |rows: &Option<UInt32Array>, i: u32| {
                    rows.as_ref().map_or(i, |rows| rows.value(i as usize))
                };
                let origin = |i: u32| of(&rows, of(&prepared.origin, i));
                let before = match before {
                    Before::Each(each) => Before::Each(
                        (0..prepared.input.rows as u32)
                            .map(|i| each[origin(i) as usize])
                            .collect(),
                    ),
                    other => other.clone(),
                };
                // A failure here leaves the store half updated: it is final, not one row's.
                let rows = table
                    .update(&prepared.input, &prepared.times, &before, floor)
                    .map_err(|e| match e {
                        Error::Data(reason) => Error::env(format!(
                            "an aggregate of {} failed: {reason}",
                            self.plan.name
                        )),
                        other => other,
                    })?;
                late.extend(rows.into_iter().map(origin));
            }
        }
        late.sort_unstable();
        late.dedup();
        Ok((failed, late))
    }
}

/// The result of a query without aggregate for one batch, and the rows on which it failed.
pub(super) fn rows_of(
    plan: &StatelessPlan,
    batch: &RecordBatch,
) -> Result<(Failed, Vec<RecordBatch>)> {
    let isolated = run_isolating(batch, &|rows| plan.run(rows), &|rows| plan.blame(rows))?;
    let results = isolated.parts.into_iter().map(|(result, _)| result);
    let results = results.filter(|r| r.num_rows() > 0).collect();
    Ok((isolated.failed, results))
}
