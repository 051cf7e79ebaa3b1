//! What of a checkpoint's state a changed file can take over.
//!
//! Queries are matched by name (the sink's table). An aggregate's state means the same when its
//! windows, input and keys are the same and each of its functions was there before. Everything
//! above the aggregate (HAVING, columns, top-N), the sink and the name of the file are free.

use super::{AggregateSnapshot, QuerySnapshot, Shape, Snapshot};
use crate::error::{Error, Result};
use std::fmt;

/// What becomes of one query, or of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Goes on with its state.
    Kept { query: String },
    /// Not in the checkpoint: begins where the checkpoint stands.
    New { query: String },
    /// Begins with empty windows, for these reasons.
    Rebuilt { query: String, reasons: Vec<String> },
    /// Not in the file any more.
    Lost { query: String },
    /// A source that the checkpoint does not know begins as its table says.
    Source { source: String },
}

impl Change {
    /// Whether state would be thrown away.
    pub fn loses(&self) -> bool {
        matches!(self, Change::Rebuilt { .. } | Change::Lost { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Kept { query } => write!(f, "kept     {query}"),
            Change::New { query } => {
                write!(f, "new      {query}: begins where the checkpoint stands")
            }
            Change::Rebuilt { query, reasons } => {
                write!(f, "rebuilt  {query}: {}", reasons.join("; "))
            }
            Change::Lost { query } => write!(f, "lost     {query}: not in the file any more"),
            Change::Source { source } => {
                write!(f, "new      source {source}: begins as at a first start")
            }
        }
    }
}

/// One change for each query of the job (name and shapes), then those that are gone, and sources
/// that were not read before.
pub fn compare<'a>(
    old: &Snapshot,
    new: &[(String, Vec<Shape>)],
    sources: impl Iterator<Item = &'a str>,
) -> Vec<Change> {
    let (old, known) = (&old.queries, &old.sources);
    let mut changes: Vec<Change> = (new.iter())
        .map(|(name, shapes)| {
            let query = name.clone();
            let Some(state) = old.iter().find(|q| q.name == *name) else {
                return Change::New { query };
            };
            let reasons = differences(&state.aggregates, shapes);
            match reasons.is_empty() {
                true => Change::Kept { query },
                false => Change::Rebuilt { query, reasons },
            }
        })
        .collect();
    let gone = (old.iter()).filter(|q| !new.iter().any(|(name, _)| q.name == *name));
    changes.extend(gone.map(|q| Change::Lost {
        query: q.name.clone(),
    }));
    let unknown = sources.filter(|name| !known.iter().any(|s| s.name == *name));
    changes.extend(unknown.map(|name| Change::Source {
        source: name.to_string(),
    }));
    changes
}

fn differences(old: &[AggregateSnapshot], new: &[Shape]) -> Vec<String> {
    if old.len() != new.len() {
        return vec![format!(
            "it had {} aggregates and has {}",
            old.len(),
            new.len()
        )];
    }
    let mut reasons = Vec::new();
    for (old, new) in old.iter().map(|a| &a.shape).zip(new) {
        if old.window != new.window {
            reasons.push(format!("{} became {}", old.window, new.window));
        }
        for (what, new) in &new.names {
            if let Some(old) = old.names.get(what).filter(|old| *old != new) {
                reasons.push(format!("{what}: {old} became {new}"));
            }
        }
        lists("input", &old.input, &new.input, &mut reasons);
        lists("keys", &old.keys, &new.keys, &mut reasons);
        for function in &new.functions {
            if !old.functions.contains(function) {
                reasons.push(format!("{} is new", function.text));
            }
        }
    }
    reasons
}

fn lists(what: &str, old: &[String], new: &[String], reasons: &mut Vec<String>) {
    let text = |list: &[String]| match list.is_empty() {
        true => "none".to_string(),
        false => list.join(", "),
    };
    if old != new {
        reasons.push(format!("{what} {} became {}", text(old), text(new)));
    }
}

/// For each query of the job its state, where it is kept; the columns of functions that are not
/// wanted any more are left out.
pub fn adapt(
    old: &[QuerySnapshot],
    new: &[(String, Vec<Shape>)],
) -> Result<Vec<Option<QuerySnapshot>>> {
    let adapted = new.iter().map(|(name, shapes)| {
        let Some(state) = old.iter().find(|q| q.name == *name) else {
            return Ok(None);
        };
        let mut state = state.clone();
        if !differences(&state.aggregates, shapes).is_empty() {
            // The sink's part still counts: it names files that are to become visible.
            state.aggregates.clear();
            return Ok(Some(state));
        }
        for (aggregate, shape) in state.aggregates.iter_mut().zip(shapes) {
            project(aggregate, shape)?;
        }
        Ok(Some(state))
    });
    adapted.collect()
}

fn project(aggregate: &mut AggregateSnapshot, shape: &Shape) -> Result<()> {
    if aggregate.shape == *shape {
        return Ok(());
    }
    let mut columns: Vec<usize> = (0..shape.keys.len()).collect();
    for function in &shape.functions {
        let mut at = aggregate.shape.keys.len();
        let known = aggregate.shape.functions.iter().find_map(|old| {
            let found = (old == function).then_some(at);
            at += old.width;
            found
        });
        let first = known.ok_or_else(|| Error::bug("a function without state"))?;
        columns.extend(first..first + function.width);
    }
    for held in &mut aggregate.segments {
        held.project(&columns)?;
    }
    aggregate.shape = shape.clone();
    Ok(())
}
