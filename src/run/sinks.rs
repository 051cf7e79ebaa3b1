//! Opens the source and the sink that a declared table names.

use crate::error::{Error, Result};
use crate::kafka::sink::KafkaSink;
use crate::kafka::source::KafkaSource;
use crate::kafka::transaction::Transaction;
use crate::plan::{Job, QueryPlan, QuerySink, SourcePlan};
use crate::remote::Keys;
use crate::run::rows::RowBuilder;
use crate::run::worker::Worker;
use crate::sink::blackhole::BlackholeSink;
use crate::sink::console::{ConsoleOptions, ConsoleSink, LinesSink};
use crate::sink::files::FileSink;
use crate::sink::print::PrintSink;
use crate::sink::{OutputMode, Sink, is_exactly_once, refuse_exactly_once};
use crate::source::datagen::DatagenSource;
use crate::source::files::FilesSource;
use crate::source::values::ValuesSource;
use crate::source::{ReadRequest, Source};
use crate::table::{MetadataKey, TableDef};
use crate::time::{Clock, SystemClock};
use arrow::datatypes::SchemaRef;
use std::io::Write;
use std::sync::Arc;

/// How a bare SELECT prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Spark's batch tables.
    #[default]
    Table,
    Json,
    Csv,
}

/// Makes writers for standard output; tests and the demo put another one here.
pub type Output = Arc<dyn Fn() -> Box<dyn Write + Send> + Send + Sync>;

pub fn open_source(
    plan: &SourcePlan,
    until_end: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Box<dyn Source>> {
    let request = ReadRequest {
        columns: plan.decode.clone(),
        keys: RowBuilder::wants_keys(plan)?,
        headers: plan.metadata.contains(&MetadataKey::Headers),
        until_end,
    };
    if let Some(rows) = &plan.def.values {
        let source = ValuesSource::new(&plan.def.name, rows, &request)?;
        return Ok(Box::new(source));
    }
    match plan.def.connector() {
        "kafka" => Ok(Box::new(KafkaSource::new(&plan.def, request)?)),
        "filesystem" => Ok(Box::new(FilesSource::new(&plan.def, request)?)),
        "datagen" => Ok(Box::new(DatagenSource::new(
            &plan.def,
            request,
            wall_clock(clock),
        )?)),
        other => Err(Error::bug(format!("no source for connector {other}"))),
    }
}

/// Whether a table's source delivers rows; others deliver records, which are decoded.
pub fn delivers_rows(def: &TableDef) -> bool {
    match def.connector() {
        "datagen" | "values" => true,
        "filesystem" => def.options.get("format") == Some("parquet"),
        _ => false,
    }
}

/// Refuses what a run of the job would refuse of its tables' options, without opening anything.
pub fn check(job: &Job) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    for plan in &job.sources {
        let source = open_source(plan, false, &clock).map(|_| ());
        source.map_err(|e| e.or_at(plan.def.at))?;
        let worker = Worker::check(plan);
        worker.map_err(|e| e.or_at(plan.def.at))?;
    }
    for query in &job.queries {
        let table = match &query.sink {
            QuerySink::Table(def) => Some((def.as_ref(), query.mode)),
            QuerySink::Console => None,
        };
        let late = (query.late.as_ref()).map(|late| (&late.def, OutputMode::Append));
        for (def, mode) in table.into_iter().chain(late) {
            check_sink(def, mode).map_err(|e| e.or_at(def.at))?;
        }
    }
    Ok(())
}

fn check_sink(def: &TableDef, mode: OutputMode) -> Result<()> {
    match def.connector() {
        "kafka" => KafkaSink::check(def),
        "filesystem" => FileSink::check(def),
        "print" => PrintSink::new(def, mode).map(|_| ()),
        "console" => ConsoleOptions::from_options(&def.options).map(|_| ()),
        _ => Ok(()),
    }
}

/// What sinks of a run with checkpoints need.
#[derive(Clone)]
pub struct Durability {
    /// The job's id, the same after each restart.
    pub job: String,
    /// Takes the rows of exactly-once Kafka sinks.
    pub transaction: Option<Arc<Transaction>>,
}

pub fn open_query_sink(
    query: &QueryPlan,
    format: Format,
    output: &Output,
    durability: Option<&Durability>,
    keys: &Keys,
) -> Result<Box<dyn Sink>> {
    match &query.sink {
        QuerySink::Console => Ok(standard_output(&query.schema, format, output())),
        QuerySink::Table(def) => open_sink(def, &query.name, query.mode, output, durability, keys),
    }
}

/// The sink of a declared table; `name` goes into file names, `keys` are for object stores.
pub fn open_sink(
    def: &TableDef,
    name: &str,
    mode: OutputMode,
    output: &Output,
    durability: Option<&Durability>,
    keys: &Keys,
) -> Result<Box<dyn Sink>> {
    let transaction = durability.and_then(|d| d.transaction.clone());
    match def.connector() {
        "kafka" => {
            if durability.is_none() {
                refuse_exactly_once(def)?;
            }
            let transaction = transaction.filter(|_| is_exactly_once(def));
            Ok(Box::new(KafkaSink::new(def, transaction)?))
        }
        "filesystem" => Ok(Box::new(FileSink::new(
            def,
            name,
            durability.map(|d| d.job.as_str()),
            keys,
        )?)),
        "print" => Ok(Box::new(PrintSink::new(def, mode)?)),
        "console" => Ok(Box::new(ConsoleSink::new(
            Arc::new(sink_schema(def)),
            ConsoleOptions::from_options(&def.options)?,
            output(),
        ))),
        "blackhole" => Ok(Box::new(BlackholeSink::new())),
        other => Err(
            Error::sql(format!("a table of connector '{other}' cannot be written")).or_at(def.at),
        ),
    }
}

fn sink_schema(def: &TableDef) -> arrow::datatypes::Schema {
    arrow::datatypes::Schema::new(def.sink_columns().map(|c| c.field()).collect::<Vec<_>>())
}

/// What a bare SELECT prints with.
pub fn standard_output(
    schema: &SchemaRef,
    format: Format,
    out: Box<dyn Write + Send>,
) -> Box<dyn Sink> {
    match format {
        Format::Table => Box::new(ConsoleSink::new(
            schema.clone(),
            ConsoleOptions::default(),
            out,
        )),
        Format::Json => Box::new(LinesSink::json(schema, out)),
        Format::Csv => Box::new(LinesSink::csv(schema, out)),
    }
}

fn wall_clock(clock: &Arc<dyn Clock>) -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let clock = clock.clone();
    Arc::new(move || clock.wall_us())
}
