//! Queries that read no table.

use super::Script;
use super::columns::declared;
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::plan::cut::Plan;
use crate::plan::errors::planning;
use crate::plan::finish::run_once;
use crate::plan::tokens::Tokens;
use crate::table::{Column, ColumnKind, TableDef};
use arrow::compute::{cast, concat_batches};
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_expr::LogicalPlan;
use ring::digest::{SHA256, digest};

impl Script {
    /// A query that reads no table (VALUES, a SELECT without FROM, a condition that is never true) as one
    /// over a table of its rows. `query` is its name.
    pub(super) fn constants(
        &mut self,
        query: &str,
        plan: &LogicalPlan,
        physical: &Plan,
        tokens: &Tokens,
    ) -> Result<LogicalPlan> {
        let rows = run_once(physical, self.session.task_context())
            .map_err(|e| Error::sql(e.to_string()).or_at(tokens.start()))?;
        let rows = concat_batches(&physical.schema(), &rows)?;
        let (mut columns, mut arrays) = (Vec::new(), Vec::new());
        for (i, (field, array)) in rows
            .schema()
            .fields()
            .iter()
            .zip(rows.columns())
            .enumerate()
        {
            let data_type = declared(field.data_type());
            arrays.push(cast(array, &data_type)?);
            columns.push(Column {
                name: format!("c{i}"),
                data_type,
                nullable: true,
                kind: ColumnKind::Physical,
                ltz: false,
                at: tokens.start(),
            });
        }
        // A checkpoint knows these rows again, and no others.
        let meaning = meaning(query, plan).map_err(|e| planning(e, tokens))?;
        let digest = digest(&SHA256, meaning.as_bytes());
        let start = digest.as_ref().iter().take(8);
        let start: String = start.map(|byte| format!("{byte:02x}")).collect();
        let name = format!("values-{start}");
        let mut def = TableDef {
            name: name.clone(),
            columns,
            watermark: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            options: Options::default(),
            values: None,
            at: tokens.start(),
        };
        def.values = Some(with_rows(def.schema(), arrays, rows.num_rows())?);
        self.session.register(&name, def.schema());
        self.tables.insert(name.clone(), def);
        self.session
            .renamed(&name, plan.schema())
            .map_err(|e| planning(e, tokens))
    }
}

/// What a query says, and of which name, views and all; what it computes (NOW() and its like) as it is
/// written.
fn meaning(query: &str, plan: &LogicalPlan) -> datafusion_common::Result<String> {
    let mut text = format!("{query}\n{}", plan.display_indent());
    // The text of a plan has the first rows alone.
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Values(values) = node {
            for row in &values.values {
                let row = row.iter().map(|value| format!("\n{value}"));
                text.extend(row);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(text)
}
