//! SQL over tables in memory: the state of a checkpoint.

use super::errors::internal;
use crate::error::{Error, Result};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// The result of one query over tables (name, schema, rows).
pub fn query(
    tables: Vec<(String, SchemaRef, Vec<RecordBatch>)>,
    sql: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let context = SessionContext::new();
    for (name, schema, rows) in tables {
        let table = MemTable::try_new(schema, vec![rows]).map_err(internal)?;
        context
            .register_table(
                datafusion::common::TableReference::bare(name),
                Arc::new(table),
            )
            .map_err(internal)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| Error::env(format!("cannot make a runtime: {e}")))?;
    runtime
        .block_on(async {
            let frame = context.sql(sql).await?;
            let schema = SchemaRef::new(frame.schema().as_arrow().clone());
            Ok((schema, frame.collect().await?))
        })
        .map_err(|e: datafusion::error::DataFusionError| Error::Usage(e.strip_backtrace()))
}
