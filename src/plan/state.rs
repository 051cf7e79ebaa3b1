//! SQL over tables in memory: the state of a checkpoint.

use super::finish::{fill_tables, run_once};
use super::session::Session;
use super::{spellings, tokens};
use crate::error::{Error, Result};
use crate::state::look::Table;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// The result of one query over tables.
///
/// # Errors
/// [`Error::Usage`] when the text is not one query over these tables.
pub fn query(tables: &[Table], sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut session = Session::new()?;
    for (name, schema, _) in tables {
        session.register(name, schema.clone());
    }
    let planned = || {
        let statements = tokens::statements(sql, &|_| None)?;
        let [statement] = statements.as_slice() else {
            return Err(Error::Usage("--sql takes one query".into()));
        };
        let statement = spellings::rewrite(statement)?;
        let plan = session.logical(&statement)?;
        session.physical(&plan, &statement)
    };
    let plan = planned().map_err(of_the_command_line)?;
    fill_tables(&plan, &mut |name, columns| {
        let found = tables.iter().find(|(table, _, _)| table == name);
        let (_, schema, rows) = found.ok_or_else(|| Error::bug(format!("no table {name}")))?;
        let indices = columns.iter().map(|c| schema.index_of(c));
        let indices = indices.collect::<Result<Vec<_>, _>>()?;
        let rows = rows.iter().map(|batch| Ok(batch.project(&indices)?));
        rows.collect()
    })?;
    let rows = run_once(&plan, session.task_context())?;
    Ok((plan.schema(), rows))
}

/// The text stands on the command line, where no file has lines.
fn of_the_command_line(error: Error) -> Error {
    match error {
        Error::Sql { message, hint, .. } => Error::Usage(
            [Some(message), hint]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; "),
        ),
        other => other,
    }
}
