//! Looking at a folder of checkpoints without taking part: nothing is locked, written or removed,
//! so a running job may go on. (A checkpoint that it removes meanwhile is then told as damaged.)

use super::manifest::Unreadable;
use super::store;
use super::{AggregateSnapshot, Checkpoints, Snapshot};
use crate::error::{Error, Result};
use crate::window::assign::{AHEAD, NEVER};
use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use std::collections::HashSet;
use std::sync::Arc;

/// One checkpoint of a folder.
pub struct Seen {
    pub number: u64,
    /// When it was written, milliseconds since 1970, and the bytes of the files it needs; or what
    /// is wrong with it.
    pub manifest: std::result::Result<(i64, u64), String>,
}

/// A folder of checkpoints, as it is now.
pub struct Look {
    checkpoints: Checkpoints,
    folder: String,
}

impl Look {
    /// # Errors
    /// There is no such folder, or it holds no checkpoints; or an object store refuses.
    pub fn at(place: &str) -> Result<Self> {
        let store = store::look(place)?;
        let folder = store.describe();
        let none = || {
            Error::env(format!("there is no checkpoint in {folder}"))
                .with_hint("a run leaves them there with --checkpoint DIR")
        };
        let listed = store
            .list()
            .map_err(|e| super::failed("list", &folder, "", &e))?;
        // Before anything else: opening a new folder would leave a job's id in it.
        if !listed.iter().any(|name| name.starts_with("manifest-")) {
            return Err(none());
        }
        let checkpoints = Checkpoints::open(store, 1, &"0".repeat(16))?;
        if checkpoints.numbers().is_empty() {
            return Err(none());
        }
        Ok(Self {
            checkpoints,
            folder,
        })
    }

    pub fn job(&self) -> &str {
        self.checkpoints.job()
    }

    /// All checkpoints, oldest first.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        let seen = |number: &u64| {
            let manifest = self.checkpoints.read_manifest(*number)?;
            Ok(Seen {
                number: *number,
                manifest: match manifest {
                    Ok(m) => Ok((m.written_ms, m.files.iter().map(|f| f.bytes).sum())),
                    Err(Unreadable::Damaged(reason) | Unreadable::Version(reason)) => Err(reason),
                    Err(Unreadable::Claim) => Err("it was never written".to_string()),
                },
            })
        };
        self.checkpoints.numbers().iter().map(seen).collect()
    }

    /// The checkpoint of this number; without one the newest that can be read.
    pub fn snapshot(&mut self, number: Option<u64>) -> Result<Snapshot> {
        let numbers = match number {
            Some(number) => vec![number],
            None => self.checkpoints.numbers().iter().rev().copied().collect(),
        };
        let mut reason = String::new();
        for number in numbers {
            match self.checkpoints.peek(number) {
                Ok(snapshot) => return Ok(snapshot),
                Err(e) => reason = e.to_string(),
            }
        }
        Err(Error::env(format!(
            "no checkpoint in {} can be read: {reason}",
            self.folder
        )))
    }
}

/// A table's name, schema and rows.
pub type Table = (String, SchemaRef, Vec<RecordBatch>);

/// The state of each aggregate as a table, named by its query (`views`, `views_2` …): the pane's
/// start, the end of the first window that takes the row (NULL: there is no window, or it is a session's),
/// keys, and the state columns of the functions.
pub fn tables(snapshot: &Snapshot) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for query in &snapshot.queries {
        for (i, aggregate) in query.aggregates.iter().enumerate() {
            let name = match i {
                0 => query.name.clone(),
                i => format!("{}_{}", query.name, i + 1),
            };
            let batches = aggregate.segments.iter();
            let batches: Vec<RecordBatch> = batches
                .map(|held| table_rows(aggregate, held.pane, held.from_end, &held.batch))
                .collect::<Result<_>>()?;
            if let Some(first) = batches.first() {
                tables.push((name, first.schema(), batches));
            }
        }
    }
    Ok(tables)
}

fn table_rows(
    aggregate: &AggregateSnapshot,
    pane: i64,
    from_end: i64,
    state: &RecordBatch,
) -> Result<RecordBatch> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let times = |t: Option<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![t; state.num_rows()]))
    };
    let windowed = (from_end != NEVER).then_some(());
    let mut fields = vec![
        Field::new("pane", time.clone(), true),
        Field::new("from_end", time, true),
    ];
    let mut columns = vec![
        times(windowed.map(|()| pane)),
        times(Some(from_end).filter(|end| ![AHEAD, NEVER].contains(end))),
    ];
    let mut used = HashSet::from(["pane".to_string(), "from_end".to_string()]);
    let functions = aggregate.shape.functions.iter().flat_map(|f| {
        (0..f.width).map(move |i| match f.width {
            1 => f.text.clone(),
            _ => format!("{}[{}]", f.text, i + 1),
        })
    });
    let keys = aggregate.shape.keys.iter();
    let keys = keys.map(|k| {
        k.split_once(": ")
            .map_or(k.as_str(), |(name, _)| name)
            .to_string()
    });
    for (mut name, column) in keys.chain(functions).zip(state.columns()) {
        while !used.insert(name.clone()) {
            name.push('_');
        }
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column.clone());
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}
