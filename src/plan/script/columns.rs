//! The columns of a source: which are read, which computed from others, which metadata.

use super::{Pending, Script};
use crate::error::{At, Error, Result};
use crate::plan::errors::{internal, planning};
use crate::plan::query::{Computed, SourcePlan};
use crate::plan::stages::quick;
use crate::plan::{spellings, tokens, windows};
use crate::table::{ColumnKind, MetadataKey, TableDef};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as DfColumn, DFSchema};
use datafusion_expr::Expr;
use std::sync::Arc;

impl Script {
    /// Plans the computed columns once, for their types.
    pub(super) fn type_computed_columns(&self, def: &mut TableDef) -> Result<()> {
        for i in 0..def.columns.len() {
            if let ColumnKind::Computed(_) = def.columns[i].kind {
                let known: Vec<Field> = def
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(k, c)| *k < i || !matches!(c.kind, ColumnKind::Computed(_)))
                    .map(|(_, c)| c.field())
                    .collect();
                let (_, data_type, _) = self.computed(def, i, Arc::new(Schema::new(known)))?;
                def.columns[i].data_type = data_type;
            }
        }
        Ok(())
    }

    /// The expression of computed column `i` over `schema`, its type, and the columns it uses.
    fn computed(
        &self,
        def: &TableDef,
        i: usize,
        schema: SchemaRef,
    ) -> Result<(Computed, DataType, Vec<String>)> {
        let column = &def.columns[i];
        let ColumnKind::Computed(text) = &column.kind else {
            return Err(Error::bug("not a computed column"));
        };
        let positioned = |e: Error| match e {
            Error::Sql { message, hint, at } => Error::Sql {
                message: format!("column '{}': {message}", column.name),
                hint,
                at: at.or(Some(column.at)),
            },
            other => other,
        };
        let parsed = tokens::statements(text, &|_| None)?;
        let tokens = parsed
            .first()
            .ok_or_else(|| Error::bug("an empty computed column"))?;
        let tokens = spellings::rewrite(tokens).map_err(positioned)?;
        let (tokens, _) = windows::rewrite(&tokens).map_err(positioned)?;
        let df_schema =
            DFSchema::try_from(schema.as_ref().clone()).map_err(|e| planning(e, &tokens))?;
        let logical = self
            .session
            .expression(&tokens, &df_schema)
            .map_err(positioned)?;
        if let Some(name) = not_of_a_row(&logical).map_err(internal)? {
            let error = Error::sql(format!("{name} goes over several rows")).with_hint(
                "a computed column is made of the columns of its own row; aggregate in a query",
            );
            let at = tokens.find_word(&name).unwrap_or(column.at);
            return Err(positioned(error.or_at(at)));
        }
        let used = logical
            .column_refs()
            .into_iter()
            .map(|c: &DfColumn| c.name.clone())
            .collect();
        let expr = self
            .session
            .physical_expression(logical, &df_schema)
            .map_err(|e| positioned(planning(e, &tokens)))?;
        // A comparison is as quick as in a SELECT.
        let expr = quick(expr)?;
        let data_type = expr
            .data_type(&schema)
            .map_err(|e| positioned(planning(e, &tokens)))?;
        let data_type = declared(&data_type);
        Ok((
            Computed {
                expr,
                data_type: data_type.clone(),
            },
            data_type,
            used,
        ))
    }

    /// The columns that are read, and how they come to be.
    pub(super) fn source_plan(&self, pending: &Pending) -> Result<SourcePlan> {
        let def = &pending.def;
        let mut needed = pending.columns.clone();
        if pending.windowed {
            needed.extend(def.watermark.iter().map(|w| w.column.clone()));
        }
        // Computed columns need their inputs; a later one may use an earlier one.
        for i in (0..def.columns.len()).rev() {
            if needed.contains(&def.columns[i].name)
                && matches!(def.columns[i].kind, ColumnKind::Computed(_))
            {
                let others = def
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(k, _)| *k != i)
                    .map(|(_, c)| c.field());
                let (_, _, used) =
                    self.computed(def, i, Arc::new(Schema::new(others.collect::<Vec<_>>())))?;
                needed.extend(used);
            }
        }
        let (mut decode, mut metadata, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        for column in def
            .columns
            .iter()
            .filter(|c| needed.contains(&c.name) && c.kind == ColumnKind::Physical)
        {
            decode.push(column.name.clone());
            fields.push(column.field());
        }
        for column in def.columns.iter().filter(|c| needed.contains(&c.name)) {
            if let ColumnKind::Metadata { key, .. } = column.kind {
                check_metadata(column.at, &column.name, key, &column.data_type)?;
                metadata.push(key);
                fields.push(column.field());
            }
        }
        let mut computed = Vec::new();
        for (i, column) in def.columns.iter().enumerate() {
            if needed.contains(&column.name) && matches!(column.kind, ColumnKind::Computed(_)) {
                computed.push(
                    self.computed(def, i, Arc::new(Schema::new(fields.clone())))?
                        .0,
                );
                fields.push(column.field());
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let event_time = match &def.watermark {
            Some(w) if pending.windowed => Some(schema.index_of(&w.column)?),
            _ => None,
        };
        Ok(SourcePlan {
            def: def.clone(),
            decode,
            metadata,
            computed,
            schema,
            event_time,
        })
    }
}

/// The aggregate, the function with OVER, or the subquery in an expression.
fn not_of_a_row(expr: &Expr) -> datafusion_common::Result<Option<String>> {
    let mut name = None;
    expr.apply(|expr| {
        name = match expr {
            Expr::AggregateFunction(call) => Some(call.func.name().to_uppercase()),
            Expr::WindowFunction(call) => Some(call.fun.name().to_uppercase()),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                Some("SELECT".to_string())
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })?;
    Ok(name)
}

fn check_metadata(at: At, name: &str, key: MetadataKey, data_type: &DataType) -> Result<()> {
    let fits = match key {
        MetadataKey::Topic | MetadataKey::TimestampType => *data_type == DataType::Utf8View,
        MetadataKey::Partition => matches!(data_type, DataType::Int32 | DataType::Int64),
        MetadataKey::Offset => *data_type == DataType::Int64,
        MetadataKey::Timestamp => matches!(data_type, DataType::Timestamp(..)),
        MetadataKey::Key => matches!(data_type, DataType::Utf8View | DataType::Binary),
        MetadataKey::Headers => matches!(data_type, DataType::Map(..)),
    };
    if fits {
        return Ok(());
    }
    Err(Error::sql(format!("metadata column '{name}' has the wrong type")).or_at(at).with_hint(
        "topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP_LTZ(3), timestamp-type STRING, key STRING or BYTES, headers MAP<STRING, BYTES>",
    ))
}

/// The type of a column that holds what an expression of this type gives.
pub(super) fn declared(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        other => other.clone(),
    }
}
