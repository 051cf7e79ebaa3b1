//! Planned queries, in the form in which workers and merges run them.

use super::cut::{AggregatePlan, Chain, Plan};
use super::finish::{Finish, Load, fill_tables, in_order, leaf_batch, run_once, session_batch};
use super::isolate::{Failed, blame};
use super::leaf::Leaf;
use super::stages::{Flow, Prepared, Stage, quicken_stages, run_stages};
use crate::batches::with_rows;
use crate::error::{At, Error, Result};
use crate::sink::OutputMode;
use crate::table::{MetadataKey, TableDef};
use crate::window::merge::WindowResult;
use crate::window::{Aggregate, Assign};
use arrow::array::ArrayRef;
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_execution::TaskContext;
use datafusion_physical_expr::PhysicalExpr;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A table that is read as a stream, once for all queries over it.
#[derive(Debug)]
pub struct SourcePlan {
    pub def: TableDef,
    /// Physical columns that some query needs: what is decoded, in this order.
    pub decode: Vec<String>,
    pub metadata: Vec<MetadataKey>,
    pub computed: Vec<Computed>,
    /// Decoded, metadata and computed columns, in this order.
    pub schema: SchemaRef,
    /// Index of the event time, when some query has windows.
    pub event_time: Option<usize>,
}

/// A computed column, over the columns of [`SourcePlan::schema`] before it.
pub struct Computed {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) data_type: DataType,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)
    }
}

impl Computed {
    /// Error::Data when the expression fails on some row.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let array = super::stages::evaluate(&self.expr, batch)?;
        if array.data_type() == &self.data_type {
            return Ok(array);
        }
        compute::cast(&array, &self.data_type).map_err(|e| Error::Data(e.to_string()))
    }

    /// Rows on which it is known to fail.
    pub fn blame(&self, batch: &RecordBatch) -> Result<Failed> {
        blame(&[], [&self.expr], batch)
    }
}

/// One SELECT or INSERT.
#[derive(Debug)]
pub struct QueryPlan {
    /// For messages: the sink's name, or `query 1`.
    pub name: String,
    /// Indices of its sources. Where there is no aggregate there is but one.
    pub sources: Vec<usize>,
    pub body: Body,
    pub mode: OutputMode,
    pub sink: QuerySink,
    pub schema: SchemaRef,
    pub late: Option<LateTable>,
    pub at: At,
}

#[derive(Debug)]
pub enum QuerySink {
    /// A bare SELECT: standard output.
    Console,
    Table(Box<TableDef>),
}

/// Where late rows go: a table, and for each of its columns the source's column.
#[derive(Debug)]
pub struct LateTable {
    pub def: TableDef,
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

impl LateTable {
    /// The rows at `indices` of a source batch, as the late table's rows.
    pub fn rows(&self, batch: &RecordBatch, indices: &[u32]) -> Result<RecordBatch> {
        let indices = arrow::array::UInt32Array::from(indices.to_vec());
        let columns = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .map(|(c, f)| {
                compute::cast(
                    &compute::take(batch.column(*c), &indices, None)?,
                    f.data_type(),
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

#[derive(Debug)]
pub enum Body {
    Stateless(StatelessPlan),
    Windowed(WindowedPlan),
}

/// Filter, project, look up.
#[derive(Debug)]
pub struct StatelessPlan {
    pub(super) chain: Chain,
    pub(super) scan: Vec<usize>,
    /// The query ends after so many rows.
    pub limit: Option<usize>,
}

impl StatelessPlan {
    /// Result rows of a source batch. Error::Data when an expression fails on some row.
    pub fn run(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let flow: Flow = run_stages(&self.chain.stages, &scanned(batch, &self.scan)?, false)?;
        Ok(if flow.batch.num_rows() == 0 {
            RecordBatch::new_empty(self.chain.schema.clone())
        } else {
            flow.batch
        })
    }

    /// Rows on which it is known to fail.
    pub fn blame(&self, batch: &RecordBatch) -> Result<Failed> {
        blame(&self.chain.stages, [], &scanned(batch, &self.scan)?)
    }
}

/// One or more aggregates over the same windows, and a plan over their closed windows.
pub struct WindowedPlan {
    pub(super) aggregates: Vec<AggregatePlan>,
    pub(super) scans: Vec<Vec<usize>>,
    pub(super) finish: Plan,
    pub(super) leaves: Vec<Leaf>,
    pub(super) context: Arc<TaskContext>,
}

impl fmt::Debug for WindowedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowedPlan")
            .field("aggregates", &self.aggregates)
            .finish_non_exhaustive()
    }
}

impl WindowedPlan {
    pub fn aggregates(&self) -> usize {
        self.aggregates.len()
    }

    /// The windows, the same for all aggregates.
    pub fn assign(&self) -> Assign {
        self.aggregates[0].assign
    }

    /// The place of an aggregate's source among those of the query.
    pub fn source_of(&self, aggregate: usize) -> usize {
        self.aggregates[aggregate].chain.stream
    }

    pub fn factory(&self, aggregate: usize) -> Arc<dyn Aggregate> {
        Arc::new(self.aggregates[aggregate].factory.clone())
    }

    /// Rows of a source batch, ready to be added. Error::Data when an expression fails on some
    /// row.
    pub fn prepare(
        &self,
        aggregate: usize,
        batch: &RecordBatch,
        track_origin: bool,
    ) -> Result<Prepared> {
        let plan = &self.aggregates[aggregate];
        plan.input.prepare(
            &plan.chain.stages,
            &scanned(batch, &self.scans[aggregate])?,
            track_origin,
        )
    }

    /// Whether several rows of an aggregate may come of one row of its source.
    pub fn multiplies(&self) -> bool {
        let mut stages = self.aggregates.iter().flat_map(|a| &a.chain.stages);
        stages.any(|stage| matches!(stage, Stage::Unnest(_) | Stage::Lookup(_)))
    }

    /// Rows on which [`WindowedPlan::prepare`] is known to fail.
    pub fn blame(&self, aggregate: usize, batch: &RecordBatch) -> Result<Failed> {
        let plan = &self.aggregates[aggregate];
        let batch = scanned(batch, &self.scans[aggregate])?;
        blame(&plan.chain.stages, plan.input.exprs(), &batch)
    }
}

fn scanned(batch: &RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
    let schema = Arc::new(batch.schema().project(columns)?);
    let columns = columns.iter().map(|i| batch.column(*i).clone()).collect();
    Ok(with_rows(schema, columns, batch.num_rows())?)
}

/// Runs what is above the aggregates. One for each merge; not shared between threads.
pub struct RunFinish {
    query: Arc<QueryPlan>,
    finish: Finish,
}

impl RunFinish {
    /// `None` for a query without aggregate.
    pub fn new(query: &Arc<QueryPlan>) -> Result<Option<Self>> {
        let Body::Windowed(plan) = &query.body else {
            return Ok(None);
        };
        let finish = Finish::new(
            plan.finish.clone(),
            plan.leaves.clone(),
            plan.context.clone(),
            &query.upsert_key(),
        )?;
        Ok(Some(Self {
            query: query.clone(),
            finish,
        }))
    }

    pub fn plan(&self) -> Result<&WindowedPlan> {
        match &self.query.body {
            Body::Windowed(plan) => Ok(plan),
            Body::Stateless(_) => Err(Error::bug("a finish without aggregate")),
        }
    }

    /// Whether each row of the result comes of one group: then a window may be given in pieces.
    pub fn is_row_wise(&self) -> bool {
        self.finish.is_row_wise
    }

    /// Result rows of the given windows (one list for each aggregate). The windows are finished
    /// together: pass one window at a time unless the whole result is wanted.
    pub fn run(&self, results: &[Vec<WindowResult>]) -> Result<Vec<RecordBatch>> {
        self.finish(self.inputs(results)?)
    }

    /// Whether HAVING may refuse groups of a result that is row-wise.
    pub fn refuses(&self) -> bool {
        self.finish.refused.is_some()
    }

    /// The rows that HAVING refuses, as they would be if it did not; of them only the key is there.
    pub fn refused(&self, results: &[Vec<WindowResult>]) -> Result<Vec<RecordBatch>> {
        self.finish.run_refused(self.inputs(results)?)
    }

    fn inputs(&self, results: &[Vec<WindowResult>]) -> Result<Vec<Vec<RecordBatch>>> {
        let mut inputs = Vec::with_capacity(results.len());
        for (aggregate, windows) in self.plan()?.aggregates.iter().zip(results) {
            let mut batches = Vec::with_capacity(windows.len());
            for window in windows {
                let passing = match aggregate.assign {
                    Assign::Global => None,
                    _ => aggregate.chain.passing(&[window.start], &[window.end])?,
                };
                if passing.is_none_or(|passing| passing.value(0)) {
                    batches.push(leaf_batch(aggregate, window)?);
                }
            }
            inputs.push(batches);
        }
        Ok(inputs)
    }

    fn finish(&self, mut inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        if self.finish.is_order_sensitive {
            for (aggregate, batches) in self.plan()?.aggregates.iter().zip(&mut inputs) {
                *batches = in_order(aggregate, batches)?;
            }
        }
        self.finish.run(inputs)
    }

    /// Result rows of the given sessions (one list of batches for each aggregate, as
    /// [`crate::window::merge::WindowMerge::close_sessions`] gives them), finished together.
    pub fn run_sessions(&self, sessions: &[Vec<RecordBatch>]) -> Result<Vec<RecordBatch>> {
        let aggregates = self.plan()?.aggregates.iter().zip(sessions);
        let inputs = aggregates.map(|(aggregate, batches)| {
            let batches = batches.iter();
            batches
                .map(|batch| session_batch(aggregate, batch))
                .collect()
        });
        self.finish(inputs.collect::<Result<_>>()?)
    }
}

impl QueryPlan {
    /// The columns of the primary key of a table that changes are written to.
    pub fn upsert_key(&self) -> Vec<usize> {
        let QuerySink::Table(def) = &self.sink else {
            return Vec::new();
        };
        let columns = def.sink_columns().enumerate();
        let key = columns.filter(|(_, column)| {
            self.mode == OutputMode::Update && def.primary_key.contains(&column.name)
        });
        key.map(|(i, _)| i).collect()
    }

    /// Loads the tables that the query joins. Call once before it runs.
    pub fn load_tables(&self, load: Load, context: Arc<TaskContext>) -> Result<()> {
        let mut lookups = |stages: &[Stage]| -> Result<()> {
            for stage in stages {
                if let Stage::Lookup(lookup) = stage {
                    fill_tables(&lookup.table, load)?;
                    lookup.build(&run_once(&lookup.table, context.clone())?)?;
                }
            }
            Ok(())
        };
        match &self.body {
            Body::Stateless(plan) => lookups(&plan.chain.stages),
            Body::Windowed(plan) => {
                for aggregate in &plan.aggregates {
                    lookups(&aggregate.chain.stages)?;
                }
                fill_tables(&plan.finish, load)
            }
        }
    }

    /// Binds the scans to the columns of the source, and makes the plan ready to run.
    pub(super) fn bind(&mut self, sources: &[SourcePlan]) -> Result<()> {
        let own = &self.sources;
        let bind = |chain: &Chain| {
            let source = &sources[own[chain.stream]].schema;
            let index = |c: &String| source.index_of(c).map_err(|e| Error::bug(e.to_string()));
            chain.columns.iter().map(index).collect::<Result<Vec<_>>>()
        };
        match &mut self.body {
            Body::Stateless(plan) => {
                plan.scan = bind(&plan.chain)?;
                quicken_stages(&mut plan.chain.stages)?;
            }
            Body::Windowed(plan) => {
                plan.scans = plan
                    .aggregates
                    .iter()
                    .map(|a| bind(&a.chain))
                    .collect::<Result<_>>()?;
                for aggregate in &mut plan.aggregates {
                    quicken_stages(&mut aggregate.chain.stages)?;
                    aggregate.input.quicken()?;
                }
            }
        }
        Ok(())
    }

    /// Columns that the query needs, each with the index of its source.
    pub(super) fn columns(&self) -> Vec<(usize, String)> {
        let chains: Vec<&Chain> = match &self.body {
            Body::Stateless(plan) => vec![&plan.chain],
            Body::Windowed(plan) => plan.aggregates.iter().map(|a| &a.chain).collect(),
        };
        let of_source = |chain: &Chain| {
            let source = self.sources[chain.stream];
            let columns = chain.columns.iter();
            columns
                .map(|column| (source, column.clone()))
                .collect::<Vec<_>>()
        };
        chains.into_iter().flat_map(of_source).collect()
    }
}

/// Keeps loaded tables, so that several queries read a file once.
#[derive(Default)]
pub(super) struct Loaded(HashMap<(String, Vec<String>), Vec<RecordBatch>>);

impl Loaded {
    pub fn get(&mut self, def: &TableDef, columns: &[String]) -> Result<Vec<RecordBatch>> {
        let key = (def.name.clone(), columns.to_vec());
        if let Some(batches) = self.0.get(&key) {
            return Ok(batches.clone());
        }
        let batches = crate::source::files::read_all(def, columns)?;
        self.0.insert(key, batches.clone());
        Ok(batches)
    }
}
