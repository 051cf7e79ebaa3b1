//! What a run finds in its folder of checkpoints, and how much of it the job can take over.

use super::checkpoint::Decision;
use crate::error::{Error, Result};
use crate::plan::{QueryPlan, SourcePlan, shapes};
use crate::state::Checkpoints;
use crate::state::evolve::{self, Change};
use crate::state::{PartitionSnapshot, Prepared, QuerySnapshot, Shape, Snapshot};
use std::sync::Arc;

/// The key that marks what a sink has prepared in a transaction.
pub const TRANSACTIONAL: &str = "transaction";

/// Where a job goes on.
pub struct Recovery {
    /// The checkpoint that is in force; 0 without one.
    pub number: u64,
    pub shapes: Vec<Vec<Shape>>,
    snapshot: Option<Snapshot>,
    /// By query of the job.
    states: Vec<Option<QuerySnapshot>>,
}

impl Recovery {
    /// Loads the checkpoint in force and fits it to the job. Changes that lose state are an error
    /// that lists them, unless they are `accepted`.
    pub fn load(
        checkpoints: &mut Checkpoints,
        decision: Option<&Arc<dyn Decision>>,
        sources: &[Arc<SourcePlan>],
        queries: &[Arc<QueryPlan>],
        accepted: bool,
    ) -> Result<Self> {
        let snapshot = load(checkpoints, decision)?;
        let shapes = shapes(queries, sources);
        let mut states = vec![None; queries.len()];
        if let Some(snapshot) = &snapshot {
            let names = sources.iter().map(|s| s.def.name.as_str());
            let changes = evolve::compare(snapshot, &shapes, names);
            if changes.iter().any(Change::loses) && !accepted {
                return Err(refusal(snapshot.number, &changes));
            }
            for change in changes.iter().filter(|c| !matches!(c, Change::Kept { .. })) {
                tracing::warn!("{change}");
            }
            states = evolve::adapt(&snapshot.queries, &shapes)?;
            if checkpoints.is_published(snapshot.number) {
                for state in states.iter_mut().flatten() {
                    (state.sink, state.late) = (Prepared::Null, Prepared::Null);
                }
            }
        }
        Ok(Self {
            number: snapshot.as_ref().map_or(0, |s| s.number),
            shapes: shapes.into_iter().map(|(_, shapes)| shapes).collect(),
            snapshot,
            states,
        })
    }

    /// Where the source of this name was left; `None` when the checkpoint does not know it.
    pub fn positions(&self, source: &str) -> Option<&[PartitionSnapshot]> {
        let sources = &self.snapshot.as_ref()?.sources;
        let found = sources.iter().find(|s| s.name == source)?;
        Some(&found.partitions)
    }

    /// The state of a query of the job, once.
    pub fn take_state(&mut self, query: usize) -> Option<QuerySnapshot> {
        self.states[query].take()
    }
}

fn load(
    checkpoints: &mut Checkpoints,
    decision: Option<&Arc<dyn Decision>>,
) -> Result<Option<Snapshot>> {
    // Kafka forgets offsets of groups that were away for a week; the folder does not.
    let committed = decision.map_or(Ok(None), |d| d.committed())?;
    checkpoints.load_in_force(committed, |prepared| prepared.get(TRANSACTIONAL).is_some())
}

fn refusal(number: u64, changes: &[Change]) -> Error {
    let list: Vec<String> = changes.iter().map(|c| format!("  {c}")).collect();
    Error::env(format!(
        "the queries have changed since checkpoint {number} was taken, and state would be lost:\n{}",
        list.join("\n")
    ))
    .with_hint("--accept-changes goes on with what is kept; a new checkpoint folder starts afresh")
}
