//! What happens to a row before it is aggregated (or written), batch by batch, synchronously.

use super::elements::Elements;
use super::equal;
use super::errors::internal;
use super::lookup::Lookup;
use crate::batches::with_rows;
use crate::error::{Error, Result};
use crate::window::Input;
use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// One row-wise step.
#[derive(Debug)]
pub enum Stage {
    /// Keeps the rows for which the predicate is true, and then only some columns.
    Filter {
        predicate: Arc<dyn PhysicalExpr>,
        projection: Option<Vec<usize>>,
    },
    Project {
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    },
    /// A join with a table that was loaded when the query started.
    Lookup(Box<Lookup>),
    /// A row for each element of a list.
    Unnest(Elements),
}

/// Rows on their way, and where each came from.
#[derive(Debug, Clone)]
pub struct Flow {
    pub batch: RecordBatch,
    /// For each row its index in the batch that came in. `None`: not asked for.
    pub origin: Option<UInt32Array>,
}

impl Flow {
    /// All rows, which are known from now on.
    pub fn tracked(batch: &RecordBatch) -> Self {
        let rows = 0..batch.num_rows() as u32;
        Self {
            batch: batch.clone(),
            origin: Some(UInt32Array::from_iter_values(rows)),
        }
    }

    /// The index in the batch that came in.
    pub fn origin_of(&self, row: usize) -> u32 {
        let origin = self.origin.as_ref();
        origin.map_or(row as u32, |origin| origin.value(row))
    }
}

impl Stage {
    /// What is evaluated for each row.
    pub(super) fn exprs(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        match self {
            Stage::Filter { predicate, .. } => vec![predicate],
            Stage::Project { exprs, .. } => exprs.iter().collect(),
            Stage::Lookup(_) | Stage::Unnest(_) => Vec::new(),
        }
    }

    pub(super) fn run(&self, flow: Flow) -> Result<Flow> {
        let Flow { batch, origin } = flow;
        match self {
            Stage::Filter {
                predicate,
                projection,
            } => {
                let mask = evaluate(predicate, &batch)?;
                let mask = mask
                    .as_boolean_opt()
                    .ok_or_else(|| Error::bug("a filter that is not boolean"))?;
                // Project first: columns that only the predicate needs are not copied.
                let batch = match projection {
                    Some(columns) => batch.project(columns)?,
                    None => batch,
                };
                let origin = match origin {
                    Some(o) => Some(compute::filter(&o, mask)?.as_primitive().clone()),
                    None => None,
                };
                Ok(Flow {
                    batch: compute::filter_record_batch(&batch, mask)?,
                    origin,
                })
            }
            Stage::Project { exprs, schema } => {
                let columns = exprs
                    .iter()
                    .map(|e| evaluate(e, &batch))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Flow {
                    batch: with_rows(schema.clone(), columns, batch.num_rows())?,
                    origin,
                })
            }
            Stage::Lookup(lookup) => lookup.run(&batch, origin.as_ref()),
            Stage::Unnest(elements) => elements.run(&batch, origin.as_ref()),
        }
    }
}

/// Where the rows at these places came from.
pub(super) fn origin_of(
    origin: Option<&UInt32Array>,
    rows: &UInt32Array,
) -> Result<Option<UInt32Array>> {
    let taken = origin.map(|origin| compute::take(origin, rows, None));
    Ok(taken.transpose()?.map(|taken| taken.as_primitive().clone()))
}

/// Runs all stages.
pub fn run_stages(stages: &[Stage], batch: &RecordBatch, track_origin: bool) -> Result<Flow> {
    let mut flow = match track_origin {
        true => Flow::tracked(batch),
        false => Flow {
            batch: batch.clone(),
            origin: None,
        },
    };
    for stage in stages {
        if flow.batch.num_rows() == 0 {
            break;
        }
        flow = stage.run(flow)?;
    }
    Ok(flow)
}

/// Gives all expressions their quick casts and comparisons.
pub(super) fn quicken_stages(stages: &mut [Stage]) -> Result<()> {
    for stage in stages {
        match stage {
            Stage::Filter { predicate, .. } => quicken([predicate])?,
            Stage::Project { exprs, .. } => quicken(exprs)?,
            Stage::Lookup(_) | Stage::Unnest(_) => {}
        }
    }
    Ok(())
}

fn quicken<'a>(exprs: impl IntoIterator<Item = &'a mut Arc<dyn PhysicalExpr>>) -> Result<()> {
    for expr in exprs {
        *expr = quick(expr.clone())?;
    }
    Ok(())
}

/// The same expression with quick comparisons. (Its casts are quick since it was planned.)
pub(super) fn quick(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let quick = expr.transform_up(|expr| {
        let quick = equal::quick(&expr);
        Ok(quick.map_or_else(|| Transformed::no(expr), Transformed::yes))
    });
    Ok(quick.map_err(internal)?.data)
}

/// Evaluates an expression to one array of the batch's length.
pub fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(batch)
        .and_then(|v| v.into_array(batch.num_rows()))
        .map_err(internal)
}

/// The expressions of one aggregate over the rows that come out of the stages.
#[derive(Debug)]
pub struct AggregateInput {
    /// The event time; `None` without window.
    pub time: Option<Arc<dyn PhysicalExpr>>,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub args: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

/// Rows ready to be added to windows.
#[derive(Debug)]
pub struct Prepared {
    pub input: Input,
    /// Event times; empty without window.
    pub times: arrow::buffer::ScalarBuffer<i64>,
    pub origin: Option<UInt32Array>,
}

impl AggregateInput {
    /// Gives all expressions their quick casts and comparisons.
    pub(super) fn quicken(&mut self) -> Result<()> {
        let args = self.args.iter_mut().flatten();
        quicken(
            self.keys
                .iter_mut()
                .chain(args)
                .chain(self.filters.iter_mut().flatten()),
        )
    }

    /// Everything that is evaluated, in the order in which [`AggregateInput::prepare`] does.
    pub(super) fn exprs(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        let args = self.args.iter().flatten();
        let keys_and_args = self.keys.iter().chain(args);
        let filters = self.filters.iter().flatten();
        self.time.iter().chain(keys_and_args).chain(filters)
    }

    pub fn prepare(
        &self,
        stages: &[Stage],
        batch: &RecordBatch,
        track_origin: bool,
    ) -> Result<Prepared> {
        let Flow { batch, origin } = run_stages(stages, batch, track_origin)?;
        let rows = batch.num_rows();
        if rows == 0 {
            let input = Input {
                rows,
                keys: vec![],
                args: vec![],
                filters: vec![],
            };
            return Ok(Prepared {
                input,
                times: Vec::new().into(),
                origin,
            });
        }
        let all = |exprs: &[Arc<dyn PhysicalExpr>]| {
            exprs
                .iter()
                .map(|e| evaluate(e, &batch))
                .collect::<Result<Vec<_>>>()
        };
        let times = match &self.time {
            None => Vec::new().into(),
            Some(time) => {
                let array = evaluate(time, &batch)?;
                let times = array.as_primitive_opt::<TimestampMicrosecondType>();
                times
                    .ok_or_else(|| Error::bug("an event time that is not in microseconds"))?
                    .values()
                    .clone()
            }
        };
        let filters = self
            .filters
            .iter()
            .map(|f| f.as_ref().map(|f| boolean(f, &batch)).transpose());
        let input = Input {
            rows,
            keys: all(&self.keys)?,
            args: self.args.iter().map(|a| all(a)).collect::<Result<_>>()?,
            filters: filters.collect::<Result<_>>()?,
        };
        Ok(Prepared {
            input,
            times,
            origin,
        })
    }
}

fn boolean(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let array = evaluate(expr, batch)?;
    array
        .as_boolean_opt()
        .cloned()
        .ok_or_else(|| Error::bug("a FILTER that is not boolean"))
}
