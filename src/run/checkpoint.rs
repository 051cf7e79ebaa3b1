//! Collects the queries' parts of a checkpoint, makes it durable, and says when to publish.
//!
//! One checkpoint at a time: *asked* (the workers cut), *taken* (each merge hands in its part and
//! waits), *durable* (state, then the manifest, then, if there is one, the transaction with the
//! results), *published* (the sinks have made their rows visible). A crash before `durable` leaves
//! the checkpoint before; a crash after it is made good by the sinks' `recover`.
//!
//! A value without threads or clock: the simulator steps it, [`super`] runs it.

use super::merge::Part;
use crate::error::{Error, Result};
use crate::state::{Checkpoints, Written};
use crate::state::{PartitionSnapshot, Prepared, Snapshot, SourceSnapshot};
use std::sync::Arc;

/// Where results and the number of their checkpoint are committed at once, beside the manifest:
/// a Kafka transaction. Then this, not the manifest, decides which checkpoint holds.
pub trait Decision: Send + Sync {
    /// The last checkpoint that was committed; `None` when there is none, or it is forgotten.
    fn committed(&self) -> Result<Option<u64>>;

    /// Commits what the sinks were given for `checkpoint`, which is written but not in force yet.
    /// By source: whether its consumer group was told the positions in the same commit.
    fn commit(&self, checkpoint: &Snapshot) -> Result<Vec<bool>>;

    /// Gives up what the sinks were given since the last commit.
    fn abort(&self);
}

/// The checkpoints of a running job.
pub struct Checkpointer {
    checkpoints: Checkpoints,
    decision: Option<Arc<dyn Decision>>,
    /// Names of the sources, and for each query its sources.
    sources: Vec<String>,
    queries: Vec<Vec<usize>>,
    /// By query: what was taken for the checkpoint that is being made. A last part stays.
    parts: Vec<Option<Part>>,
    /// Parts of the next checkpoint.
    early: Vec<Part>,
    /// By query: whether it has yet to publish what is durable.
    unpublished: Vec<bool>,
    /// By query: its last part is published, it is over.
    over: Vec<bool>,
    /// By source: its consumer group has been told the positions of what is durable.
    told: Vec<bool>,
    number: u64,
}

/// A published checkpoint.
#[derive(Debug)]
pub struct Published {
    pub number: u64,
    /// By source: where its partitions stand; empty where its consumer group has been told.
    pub positions: Vec<Vec<PartitionSnapshot>>,
    /// Every query has ended: there will be no further one.
    pub last: bool,
}

impl Checkpointer {
    /// `queries` names each query's sources by their places in `sources`. Checkpoints go on behind
    /// `checkpoints.next_number()`.
    pub fn new(
        checkpoints: Checkpoints,
        decision: Option<Arc<dyn Decision>>,
        sources: Vec<String>,
        queries: Vec<Vec<usize>>,
    ) -> Self {
        Self {
            number: checkpoints.next_number(),
            parts: queries.iter().map(|_| None).collect(),
            early: Vec::new(),
            unpublished: vec![false; queries.len()],
            over: vec![false; queries.len()],
            told: Vec::new(),
            checkpoints,
            decision,
            sources,
            queries,
        }
    }

    /// The checkpoint that comes next, or is being made.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes a query's part. (A query may be at the next cut while others still publish.)
    pub fn take(&mut self, part: Part) -> Result<()> {
        let publishes = self.to_publish().next().is_some();
        if part.number == self.number + 1 && publishes && !self.unpublished[part.query] {
            self.early.push(part);
            return Ok(());
        }
        if part.number != self.number || publishes {
            return Err(Error::bug(format!(
                "a part of checkpoint {} while {} is made",
                part.number, self.number
            )));
        }
        let query = part.query;
        self.parts[query] = Some(part);
        Ok(())
    }

    /// When no part is missing any more: makes the checkpoint durable. Then every query in
    /// [`Checkpointer::to_publish`] may publish. Call it after each of the other two.
    pub fn complete(&mut self, now_ms: i64) -> Result<Option<Written>> {
        let publishes = self.to_publish().next().is_some();
        let is_over = self.over.iter().all(|over| *over);
        if publishes || is_over || self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let snapshot = self.snapshot();
        let written = self.checkpoints.write(&snapshot, now_ms)?;
        if let Some(decision) = &self.decision {
            self.told = decision.commit(&snapshot)?;
            self.checkpoints.confirm(self.number)?;
        }
        for (unpublished, over) in self.unpublished.iter_mut().zip(&self.over) {
            *unpublished = !over;
        }
        Ok(Some(written))
    }

    fn sources(&self) -> Vec<SourceSnapshot> {
        let position = |source: usize| {
            // Whichever query reads it: a worker cuts at one place for all of its queries.
            let of_source = |part: &Part| {
                let place = self.queries[part.query].iter().position(|s| *s == source)?;
                Some(part.positions[place].clone())
            };
            let mut parts = self.parts.iter().flatten();
            parts.find_map(of_source).unwrap_or_default()
        };
        let sources = self.sources.iter().enumerate();
        sources
            .map(|(s, name)| SourceSnapshot {
                name: name.clone(),
                partitions: position(s),
            })
            .collect()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            number: self.number,
            sources: self.sources(),
            queries: (self.parts.iter().flatten())
                .map(|part| part.state.clone())
                .collect(),
        }
    }

    /// The queries that are to publish and have not said that they have.
    pub fn to_publish(&self) -> impl Iterator<Item = usize> {
        let queries = self.unpublished.iter().enumerate();
        queries
            .filter(|(_, unpublished)| **unpublished)
            .map(|(q, _)| q)
    }

    /// A query has published. With the last one the checkpoint is over and the next may be asked
    /// for.
    pub fn published(&mut self, query: usize) -> Option<Published> {
        self.unpublished[query] = false;
        if self.unpublished.iter().any(|u| *u) {
            return None;
        }
        let prepared = (self.parts.iter().flatten()).flat_map(|p| [&p.state.sink, &p.state.late]);
        let files =
            |prepared: &Prepared| prepared.as_array().is_some_and(|files| !files.is_empty());
        if prepared.into_iter().any(files) {
            self.checkpoints.publish(self.number);
        }
        let mut positions: Vec<_> = self.sources().into_iter().map(|s| s.partitions).collect();
        for (positions, told) in positions.iter_mut().zip(&self.told) {
            if *told {
                positions.clear();
            }
        }
        for (part, over) in self.parts.iter_mut().zip(&mut self.over) {
            match part {
                Some(last) if last.last => {
                    *over = true;
                    last.number += 1;
                    // Published: nothing to repeat after a crash.
                    (last.state.sink, last.state.late) = (Prepared::Null, Prepared::Null);
                }
                _ => *part = None,
            }
        }
        self.checkpoints.retire();
        self.number += 1;
        for part in std::mem::take(&mut self.early) {
            let query = part.query;
            self.parts[query] = Some(part);
        }
        Some(Published {
            number: self.number - 1,
            positions,
            last: self.over.iter().all(|over| *over),
        })
    }

    /// The run ends without a further checkpoint.
    pub fn abandon(&self) {
        if let Some(decision) = &self.decision {
            decision.abort();
        }
    }
}
