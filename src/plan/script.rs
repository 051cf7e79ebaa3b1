//! A whole SQL file: statements in order, then the job that they describe.

mod columns;
mod constants;
mod explained;
mod queries;
mod sinks;
mod tables;

use super::errors::planning;
use super::intervals;
use super::markers;
use super::query::{Loaded, QueryPlan, SourcePlan};
use super::session::Session;
use super::settings::{Settings, Trigger};
use super::tokens::{self, Tokens};
use crate::error::{Error, Result, nearest};
use crate::table::{TableDef, WatermarkDef};
use datafusion_common::DFSchema;
use datafusion_sql::sqlparser::tokenizer::Token;
use explained::StatementSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything a file asks for, planned.
#[derive(Debug)]
pub struct Job {
    pub sources: Vec<SourcePlan>,
    pub queries: Vec<QueryPlan>,
    pub settings: Settings,
    /// Texts of the file's EXPLAIN statements.
    pub explained: Vec<String>,
    tables: BTreeMap<String, TableDef>,
    context: Option<Arc<datafusion_execution::TaskContext>>,
}

/// Plans the text of a file. `settings` are those of the command line: they win over SET.
pub fn plan_script(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    settings: &Settings,
) -> Result<Job> {
    let mut script = Script {
        session: Session::new()?,
        tables: BTreeMap::new(),
        views: BTreeMap::new(),
        read: BTreeSet::new(),
        settings: Settings::default(),
        flags: settings.clone(),
        sources: Vec::new(),
        queries: Vec::new(),
        explained: Vec::new(),
        set: None,
    };
    for statement in tokens::statements(text, variable)? {
        script
            .statement(&statement)
            .map_err(|e| e.or_at(statement.start()))?;
    }
    script.finish()
}

/// A source while the queries that need its columns are still being planned.
#[derive(Clone)]
struct Pending {
    def: TableDef,
    columns: BTreeSet<String>,
    windowed: bool,
}

impl Pending {
    /// Refuses another event time than that by which a query above reads the table.
    fn has_time(&self, name: &str, wanted: Option<&WatermarkDef>) -> Result<()> {
        match (&self.def.watermark, wanted) {
            (Some(old), Some(wanted)) if old.column != wanted.column => Err(Error::sql(format!(
                "table {name} has another watermark already: a query above reads it by '{}'",
                old.column
            ))
            .with_hint("declare a second table over the same topic")),
            _ => Ok(()),
        }
    }
}

struct Script {
    session: Session,
    tables: BTreeMap<String, TableDef>,
    /// And the tables that each reads.
    views: BTreeMap<String, Vec<String>>,
    /// The tables that some query reads.
    read: BTreeSet<String>,
    settings: Settings,
    flags: Settings,
    sources: Vec<Pending>,
    queries: Vec<QueryPlan>,
    explained: Vec<String>,
    /// The statement set that is not closed yet.
    set: Option<StatementSet>,
}

impl Script {
    /// A statement that is none of those around others, as EXPLAIN is.
    fn plain(&mut self, t: &Tokens) -> Result<()> {
        let first = t.name(0, "a statement").or_else(|e| {
            if t.is(0, &Token::LParen) {
                Ok("SELECT".into())
            } else {
                Err(e)
            }
        })?;
        match first.to_uppercase().as_str() {
            "CREATE" => self.create(t),
            "DROP" => self.drop(t),
            "SET" => self.set(t),
            "INSERT" => self.insert(t),
            "SELECT" | "WITH" | "VALUES" => self.select(t),
            other => {
                const KNOWN: [&str; 8] = [
                    "CREATE TABLE",
                    "CREATE VIEW",
                    "DROP",
                    "SET",
                    "INSERT INTO",
                    "SELECT",
                    "EXPLAIN",
                    "WITH",
                ];
                let hint = nearest(
                    other,
                    [
                        "CREATE", "DROP", "SET", "INSERT", "SELECT", "EXPLAIN", "WITH",
                    ],
                );
                Err(Error::sql(format!("unknown statement {other}"))
                    .or_at(t.start())
                    .with_hint(hint.unwrap_or_else(|| format!("there are: {}", KNOWN.join(", ")))))
            }
        }
    }

    fn set(&mut self, t: &Tokens) -> Result<()> {
        // `SET 'a.b' = 'c'` and the unquoted form `SET a.b = c`.
        let Some(eq) = (1..t.len()).find(|i| t.is(*i, &Token::Eq)) else {
            return Err(Error::sql("expected SET 'key' = 'value'").or_at(t.start()));
        };
        let text = |from: usize, to: usize| match &t.list[from..to] {
            [one] => match &one.token {
                Token::SingleQuotedString(s) => s.clone(),
                other => other.to_string(),
            },
            many => many.iter().map(|t| t.token.to_string()).collect::<String>(),
        };
        self.settings
            .set(&text(1, eq), &text(eq + 1, t.len()), t.at(1))
    }

    /// A constant interval in microseconds.
    fn interval_us(&self, tokens: &Tokens) -> Result<i64> {
        intervals::check(tokens, 0, tokens.len())?;
        let schema = DFSchema::empty();
        let expr = self.session.expression(tokens, &schema)?;
        let physical = self
            .session
            .physical_expression(expr, &schema)
            .map_err(|e| planning(e, tokens))?;
        let literal = physical.downcast_ref::<datafusion_physical_expr::expressions::Literal>();
        let bad =
            || Error::sql("expected an interval like INTERVAL '5' SECOND").or_at(tokens.start());
        let value = literal.ok_or_else(bad)?.value();
        markers::interval_us(value).map_err(|e| planning(e, tokens))
    }

    fn finish(mut self) -> Result<Job> {
        if let Some(set) = &self.set {
            return Err(set.not_closed());
        }
        self.late_tables()?;
        let mut sources = Vec::new();
        for pending in &self.sources {
            sources.push(self.source_plan(pending)?);
        }
        for query in &mut self.queries {
            query.bind(&sources)?;
        }
        for query in &mut self.queries {
            if let Some(late) = &mut query.late {
                let schema = &sources[query.sources[0]].schema;
                late.columns = late
                    .schema
                    .fields()
                    .iter()
                    .map(|f| schema.index_of(f.name()))
                    .collect::<Result<_, _>>()?;
            }
        }
        let flags = self.flags;
        let mut settings = self.settings;
        settings.output_mode = flags.output_mode.or(settings.output_mode);
        settings.trigger = flags.trigger.or(settings.trigger);
        settings.workers = flags.workers.or(settings.workers);
        settings.batch_rows = flags.batch_rows.or(settings.batch_rows);
        // Spark's word for it.
        let is_available_now = settings.trigger == Some(Trigger::AvailableNow);
        settings.until_end |= flags.until_end || is_available_now;
        settings.checkpoint_dir = flags.checkpoint_dir.or(settings.checkpoint_dir);
        // And as in Spark there is a next run, if it has what this one leaves.
        settings.keeps_open = is_available_now && settings.checkpoint_dir.is_some();
        if settings.checkpoint_dir.is_none() {
            let groups = sources
                .iter()
                .map(|s| s.def.options.get("properties.group.id"));
            settings.notices.extend(groups.flatten().map(|group| {
                format!("no offsets are committed for group '{group}': they follow checkpoints (--checkpoint DIR)")
            }));
        }
        settings.memory = flags.memory.or(settings.memory);
        settings.accept_changes |= flags.accept_changes;
        Ok(Job {
            sources,
            queries: self.queries,
            settings,
            explained: self.explained,
            tables: self.tables,
            context: Some(self.session.task_context()),
        })
    }
}

impl Job {
    /// Loads the tables that queries join (files that are small enough for memory).
    pub fn load_tables(&self) -> Result<()> {
        let Some(context) = &self.context else {
            return Ok(());
        };
        let mut loaded = Loaded::default();
        for query in &self.queries {
            let mut load = |name: &str, columns: &[String]| match self.tables.get(name) {
                Some(def) => loaded.get(def, columns),
                None => Err(Error::bug(format!("no table {name}"))),
            };
            query.load_tables(&mut load, context.clone())?;
        }
        Ok(())
    }
}
