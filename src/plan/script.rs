//! A whole SQL file: statements in order, then the job that they describe.

use super::cut::{Cut, StreamTable, cut};
use super::errors::planning;
use super::finish;
use super::query::{
    Body, Computed, LateTable, Loaded, QueryPlan, QuerySink, SourcePlan, StatelessPlan,
    WindowedPlan,
};
use super::session::Session;
use super::settings::Settings;
use super::tokens::{self, Tokens};
use super::{ddl, markers, spellings, windows};
use crate::error::{At, Error, Result, nearest};
use crate::sink::OutputMode;
use crate::table::{ColumnKind, MetadataKey, TableDef};
use crate::window::Assign;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column as DfColumn, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::tokenizer::Token;
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
    context: Option<Arc<datafusion::execution::TaskContext>>,
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
        views: BTreeSet::new(),
        settings: Settings::default(),
        flags: settings.clone(),
        sources: Vec::new(),
        queries: Vec::new(),
        explained: Vec::new(),
    };
    for statement in tokens::statements(text, variable)? {
        script
            .statement(&statement)
            .map_err(|e| e.or_at(statement.start()))?;
    }
    script.finish()
}

/// A source while the queries that need its columns are still being planned.
struct Pending {
    def: TableDef,
    columns: BTreeSet<String>,
    windowed: bool,
}

struct Script {
    session: Session,
    tables: BTreeMap<String, TableDef>,
    views: BTreeSet<String>,
    settings: Settings,
    flags: Settings,
    sources: Vec<Pending>,
    queries: Vec<QueryPlan>,
    explained: Vec<String>,
}

impl Script {
    fn statement(&mut self, t: &Tokens) -> Result<()> {
        let t = &statement_set(t);
        if t.is_empty() {
            return Ok(());
        }
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
            "SELECT" | "WITH" => self.select(t),
            "EXPLAIN" => self.explain(t),
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

    fn create(&mut self, t: &Tokens) -> Result<()> {
        let mut i = 1;
        if t.are_words(i, &["OR", "REPLACE"]) {
            i += 2;
        }
        if t.is_word(i, "TEMPORARY") || t.is_word(i, "TEMP") {
            i += 1;
        }
        let view = t.is_word(i, "VIEW");
        if !view && !t.is_word(i, "TABLE") {
            return Err(Error::sql("expected TABLE or VIEW").or_at(t.at(i)));
        }
        i += 1;
        let mut tolerant = false;
        if t.are_words(i, &["IF", "NOT", "EXISTS"]) {
            (tolerant, i) = (true, i + 3);
        }
        let name = t.name(i, "a name")?;
        if self.tables.contains_key(&name) || self.views.contains(&name) {
            return if tolerant {
                Ok(())
            } else {
                Err(Error::sql(format!("'{name}' exists already")).or_at(t.at(i)))
            };
        }
        if view {
            self.create_view(t, i, name)
        } else {
            self.create_table(t, i)
        }
    }

    fn create_table(&mut self, t: &Tokens, i: usize) -> Result<()> {
        let mut def = ddl::create_table(t, i, &|tokens| self.interval_us(tokens))?;
        self.type_computed_columns(&mut def)?;
        if let Some(w) = &def.watermark
            && let Some(c) = def.column(&w.column)
            && !matches!(c.data_type, DataType::Timestamp(..))
        {
            return Err(Error::sql(format!(
                "the watermark's column '{}' must be a TIMESTAMP, but it is {}",
                c.name, c.data_type
            ))
            .or_at(c.at)
            .with_hint("convert it: ts AS TO_TIMESTAMP(…), or TO_TIMESTAMP_LTZ(epoch, 0 or 3)"));
        }
        self.session.register(&def)?;
        self.tables.insert(def.name.clone(), def);
        Ok(())
    }

    fn create_view(&mut self, t: &Tokens, i: usize, name: String) -> Result<()> {
        let mut query = i + 1;
        let mut names = Vec::new();
        if t.is(query, &Token::LParen) {
            let close = t.close(query)?;
            for (a, _) in t.split_commas(query + 1, close, false) {
                names.push(t.name(a, "a column's name")?);
            }
            query = close + 1;
        }
        if !t.is_word(query, "AS") {
            return Err(Error::sql("expected AS").or_at(t.at(query)));
        }
        let (tokens, mut plan) = self.logical(&t.slice(query + 1, t.len()))?;
        if !names.is_empty() {
            if names.len() != plan.schema().fields().len() {
                let text = format!(
                    "the view names {} columns, its query has {}",
                    names.len(),
                    plan.schema().fields().len()
                );
                return Err(Error::sql(text).or_at(t.at(i)));
            }
            let exprs = plan
                .schema()
                .columns()
                .into_iter()
                .zip(&names)
                .map(|(c, n)| Expr::Column(c).alias(n));
            plan = LogicalPlanBuilder::from(plan.clone())
                .project(exprs.collect::<Vec<_>>())
                .and_then(|b| b.build())
                .map_err(|e| planning(e, &tokens))?;
        }
        let view = datafusion::datasource::ViewTable::new(plan, None);
        let reference = datafusion::common::TableReference::bare(name.clone());
        self.session
            .context
            .register_table(reference, Arc::new(view))
            .map_err(|e| planning(e, &tokens))?;
        self.views.insert(name);
        Ok(())
    }

    fn drop(&mut self, t: &Tokens) -> Result<()> {
        let mut i = if t.is_word(1, "TEMPORARY") { 2 } else { 1 };
        if !t.is_word(i, "TABLE") && !t.is_word(i, "VIEW") {
            return Err(Error::sql("expected TABLE or VIEW").or_at(t.at(i)));
        }
        i += 1;
        let tolerant = t.are_words(i, &["IF", "EXISTS"]);
        if tolerant {
            i += 2;
        }
        let name = t.name(i, "a name")?;
        let known = self.tables.remove(&name).is_some() | self.views.remove(&name);
        if !known && !tolerant {
            return Err(Error::sql(format!("there is no table or view '{name}'")).or_at(t.at(i)));
        }
        self.session.deregister(&name)
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

    fn select(&mut self, t: &Tokens) -> Result<()> {
        let (tokens, plan) = self.logical(t)?;
        let name = format!("query {}", self.queries.len() + 1);
        self.query(name, plan, &tokens, QuerySink::Console)
    }

    fn insert(&mut self, t: &Tokens) -> Result<()> {
        if !t.is_word(1, "INTO") {
            return Err(Error::sql("expected INSERT INTO").or_at(t.at(1)));
        }
        let name = t.name(2, "a table's name")?;
        let Some(def) = self.tables.get(&name).cloned() else {
            let hint = nearest(&name, self.tables.keys().map(String::as_str));
            return Err(Error::sql(format!("there is no table '{name}'"))
                .or_at(t.at(2))
                .with_hint(hint.unwrap_or_else(|| "declare it with CREATE TABLE before".into())));
        };
        if def.connector() == "datagen" {
            return Err(Error::sql("a datagen table cannot be written").or_at(t.at(2)));
        }
        let mut i = 3;
        let mut columns = None;
        if t.is(i, &Token::LParen) && !t.is_word(i + 1, "SELECT") && !t.is_word(i + 1, "WITH") {
            let close = t.close(i)?;
            let mut list = Vec::new();
            for (a, _) in t.split_commas(i + 1, close, false) {
                list.push((t.name(a, "a column's name")?, t.at(a)));
            }
            columns = Some(list);
            i = close + 1;
        }
        let (tokens, plan) = self.logical(&t.slice(i, t.len()))?;
        let plan = to_sink(plan, &def, columns.as_deref(), &tokens)?;
        self.query(name, plan, &tokens, QuerySink::Table(Box::new(def)))
    }

    fn explain(&mut self, t: &Tokens) -> Result<()> {
        let from = (1..t.len()).find(|i| {
            ["SELECT", "WITH", "INSERT"]
                .iter()
                .any(|w| t.is_word(*i, w))
        });
        let Some(from) = from else {
            return Err(Error::sql("expected a query behind EXPLAIN").or_at(t.at(1)));
        };
        let kept = self.queries.len();
        self.statement(&t.slice(from, t.len()))?;
        // The query is only explained: it does not run.
        for query in self.queries.drain(kept..) {
            self.explained.push(super::explain::query_text(
                &query,
                &self.sources[query.source].def,
            ));
        }
        Ok(())
    }

    /// Rewrites, parses and resolves a query; applies Spark's watermark clauses.
    fn logical(&mut self, t: &Tokens) -> Result<(Tokens, LogicalPlan)> {
        let (tokens, watermarks) = windows::rewrite(&spellings::rewrite(t)?)?;
        for w in watermarks {
            let delay_us = self.interval_us(&tokens.with(w.interval.clone()))?;
            let at = tokens.find_word(&w.column).unwrap_or(tokens.start());
            let Some(def) = self.tables.get_mut(&w.table) else {
                return Err(Error::sql(format!(
                    "WATERMARK is for a declared table, and '{}' is none",
                    w.table
                ))
                .or_at(at));
            };
            if def.column(&w.column).is_none() {
                return Err(Error::sql(format!(
                    "the watermark's column '{}' is no column of {}",
                    w.column, w.table
                ))
                .or_at(at));
            }
            let wanted = crate::table::WatermarkDef {
                column: w.column,
                delay_us,
                at,
            };
            match &def.watermark {
                Some(old) if (&old.column, old.delay_us) != (&wanted.column, wanted.delay_us) => {
                    return Err(Error::sql(format!(
                        "table {} has another watermark already",
                        w.table
                    ))
                    .or_at(at));
                }
                _ => def.watermark = Some(wanted),
            }
        }
        let plan = self.session.logical(&tokens)?;
        Ok((tokens, plan))
    }

    fn query(
        &mut self,
        name: String,
        plan: LogicalPlan,
        tokens: &Tokens,
        sink: QuerySink,
    ) -> Result<()> {
        let stream = self.stream_of(&plan, tokens)?;
        let def = self.tables[&stream].clone();
        let event_time = def.watermark.as_ref().map(|w| w.column.clone());
        let physical = self.session.physical(&plan, tokens)?;
        let schema = physical.schema();
        let at = tokens.start();
        let cut = cut(
            &physical,
            &StreamTable {
                name: stream.clone(),
                event_time,
            },
        )
        .map_err(|e| e.or_at(at))?;
        let (body, mode) = self.body(cut, tokens)?;
        check_sink(&sink, mode).map_err(|e| e.or_at(at))?;
        let windowed = matches!(&body, Body::Windowed(w) if w.assign() != Assign::Global);
        let source = self.source(&def, windowed);
        let query = QueryPlan {
            name,
            source,
            body,
            mode,
            sink,
            schema,
            late: None,
            at,
        };
        let pending = &mut self.sources[source];
        pending.columns.extend(query.columns().into_iter().cloned());
        self.queries.push(query);
        Ok(())
    }

    fn body(&self, cut: Cut, tokens: &Tokens) -> Result<(Body, OutputMode)> {
        let asked = self.flags.output_mode.or(self.settings.output_mode);
        match cut {
            Cut::Stateless { chain, limit } => {
                if asked == Some(OutputMode::Complete) {
                    return Err(Error::sql("output mode complete needs a GROUP BY: without one the whole result is the whole stream")
                        .or_at(tokens.start())
                        .with_hint("use append"));
                }
                Ok((
                    Body::Stateless(StatelessPlan {
                        chain,
                        scan: Vec::new(),
                        limit,
                    }),
                    OutputMode::Append,
                ))
            }
            Cut::Aggregated {
                aggregates,
                finish,
                leaves,
            } => {
                let global = aggregates.iter().any(|a| a.assign == Assign::Global);
                let mode = asked.unwrap_or(if global {
                    OutputMode::Update
                } else {
                    OutputMode::Append
                });
                finish::check(&finish, &aggregates, mode).map_err(|e| {
                    let words = ["GROUP", "ORDER", "LIMIT"];
                    e.or_at(
                        words
                            .iter()
                            .find_map(|w| tokens.find_word(w))
                            .unwrap_or(tokens.start()),
                    )
                })?;
                let context = self.session.task_context();
                Ok((
                    Body::Windowed(WindowedPlan {
                        aggregates,
                        scans: Vec::new(),
                        finish,
                        leaves,
                        context,
                    }),
                    mode,
                ))
            }
        }
    }

    /// The one table of the query that is read as a stream.
    fn stream_of(&self, plan: &LogicalPlan, tokens: &Tokens) -> Result<String> {
        let mut names: Vec<String> = Vec::new();
        let visited = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let name = scan.table_name.table().to_string();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        visited.map_err(|e| planning(e, tokens))?;
        let known: Vec<&TableDef> = names.iter().filter_map(|n| self.tables.get(n)).collect();
        for def in &known {
            if !matches!(def.connector(), "kafka" | "filesystem" | "datagen") {
                return Err(Error::sql(format!(
                    "table {} of connector '{}' cannot be read",
                    def.name,
                    def.connector()
                ))
                .or_at(tokens.find_word(&def.name).unwrap_or(tokens.start())));
            }
        }
        let streams: Vec<&&TableDef> = known
            .iter()
            .filter(|d| d.connector() != "filesystem")
            .collect();
        match streams.as_slice() {
            [one] => Ok(one.name.clone()),
            [] => {
                // Files only: the one with event time is the stream, else the first.
                let first = known.iter().find(|d| d.watermark.is_some()).or(known.first());
                first.map(|d| d.name.clone()).ok_or_else(|| {
                    Error::sql("the query reads no table").or_at(tokens.start()).with_hint("a query needs a FROM with a declared table")
                })
            }
            [first, second, ..] => Err(Error::sql(format!("a query over two streams ({} and {}) is not supported yet", first.name, second.name))
                .or_at(tokens.find_word(&second.name).unwrap_or(tokens.start()))
                .with_hint("join a stream with a table of the filesystem connector, or aggregate each stream by itself")),
        }
    }

    fn source(&mut self, def: &TableDef, windowed: bool) -> usize {
        let index = self
            .sources
            .iter()
            .position(|s| s.def.name == def.name)
            .unwrap_or_else(|| {
                self.sources.push(Pending {
                    def: def.clone(),
                    columns: BTreeSet::new(),
                    windowed: false,
                });
                self.sources.len() - 1
            });
        self.sources[index].windowed |= windowed;
        index
    }

    /// A constant interval in microseconds.
    fn interval_us(&self, tokens: &Tokens) -> Result<i64> {
        let text = tokens.text();
        let state = self.session.context.state();
        let expr = state
            .create_logical_expr(&text, &DFSchema::empty())
            .map_err(|e| planning(e, tokens))?;
        let physical = self
            .session
            .context
            .create_physical_expr(expr, &DFSchema::empty())
            .map_err(|e| planning(e, tokens))?;
        let literal = physical.downcast_ref::<datafusion::physical_expr::expressions::Literal>();
        let value = literal.map(|l| l.value().clone());
        let bad =
            || Error::sql("expected an interval like INTERVAL '5' SECOND").or_at(tokens.start());
        let value = value.ok_or_else(bad)?;
        match markers::assign(markers::Kind::Tumble, std::slice::from_ref(&value)) {
            Ok(assign) => Ok(assign.slide()),
            Err(_) if is_zero(&value) => Ok(0),
            Err(e) => Err(Error::sql(e.strip_backtrace()).or_at(tokens.start())),
        }
    }

    /// Plans the computed columns once, for their types.
    fn type_computed_columns(&self, def: &mut TableDef) -> Result<()> {
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
            Error::Sql { message, hint, .. } => Error::Sql {
                message: format!("column '{}': {message}", column.name),
                hint,
                at: Some(column.at),
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
        let state = self.session.context.state();
        let logical = state
            .create_logical_expr(&tokens.text(), &df_schema)
            .map_err(|e| positioned(planning(e, &tokens)))?;
        let used = logical
            .column_refs()
            .into_iter()
            .map(|c: &DfColumn| c.name.clone())
            .collect();
        let expr = self
            .session
            .context
            .create_physical_expr(logical, &df_schema)
            .map_err(|e| positioned(planning(e, &tokens)))?;
        let data_type = match expr
            .data_type(&schema)
            .map_err(|e| positioned(planning(e, &tokens)))?
        {
            DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            other => other,
        };
        Ok((
            Computed {
                expr,
                data_type: data_type.clone(),
            },
            data_type,
            used,
        ))
    }

    fn finish(mut self) -> Result<Job> {
        self.late_tables()?;
        let mut sources = Vec::new();
        for pending in &self.sources {
            sources.push(self.source_plan(pending)?);
        }
        for query in &mut self.queries {
            query.bind(&sources[query.source].schema)?;
        }
        for query in &mut self.queries {
            if let Some(late) = &mut query.late {
                let schema = &sources[query.source].schema;
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
        settings.until_end |= flags.until_end;
        Ok(Job {
            sources,
            queries: self.queries,
            settings,
            explained: self.explained,
            tables: self.tables,
            context: Some(self.session.task_context()),
        })
    }

    /// Gives the windowed queries their late tables.
    fn late_tables(&mut self) -> Result<()> {
        for query in &mut self.queries {
            let pending = &mut self.sources[query.source];
            let option = pending.def.options.get("late.table").map(str::to_string);
            let Some(name) = option.or_else(|| self.settings.late_table.clone()) else {
                continue;
            };
            if !matches!(&query.body, Body::Windowed(w) if w.assign() != Assign::Global) {
                continue;
            }
            let at = pending.def.options.at("late.table").unwrap_or(query.at);
            let Some(def) = self.tables.get(&name) else {
                let hint = nearest(&name, self.tables.keys().map(String::as_str));
                return Err(
                    Error::sql(format!("the late table '{name}' is not declared"))
                        .or_at(at)
                        .with_hint(hint.unwrap_or_else(|| "declare it with CREATE TABLE".into())),
                );
            };
            let fields: Vec<Field> = def.sink_columns().map(|c| c.field()).collect();
            for field in &fields {
                if pending.def.column(field.name()).is_none() {
                    return Err(Error::sql(format!("late table {name} has a column '{}' that {} has not", field.name(), pending.def.name))
                        .or_at(def.at)
                        .with_hint("a late table takes the source's rows: its columns must be some of the source's"));
                }
                pending.columns.insert(field.name().clone());
            }
            query.late = Some(LateTable {
                def: def.clone(),
                columns: Vec::new(),
                schema: Arc::new(Schema::new(fields)),
            });
        }
        Ok(())
    }

    /// The columns that are read, and how they come to be.
    fn source_plan(&self, pending: &Pending) -> Result<SourcePlan> {
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

/// Takes off `EXECUTE STATEMENT SET BEGIN`, `BEGIN STATEMENT SET` and `END`.
fn statement_set(t: &Tokens) -> Tokens {
    let mut from = 0;
    if t.are_words(0, &["EXECUTE", "STATEMENT", "SET", "BEGIN"]) {
        from = 4;
    } else if t.are_words(0, &["BEGIN", "STATEMENT", "SET"]) {
        from = 3;
    }
    if t.len() == from + 1 && t.is_word(from, "END") {
        from += 1;
    }
    t.slice(from, t.len())
}

fn is_zero(value: &datafusion::common::ScalarValue) -> bool {
    matches!(value, datafusion::common::ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 && i.days == 0 && i.nanoseconds == 0)
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

fn check_sink(sink: &QuerySink, mode: OutputMode) -> Result<()> {
    let QuerySink::Table(def) = sink else {
        return Ok(());
    };
    match (def.connector(), mode) {
        ("kafka", OutputMode::Update) if def.primary_key.is_empty() => Err(Error::sql(format!("the result changes, but table {} can only be appended to", def.name))
            .with_hint("declare PRIMARY KEY (…) NOT ENFORCED, which makes it an upsert sink, or aggregate by a window")),
        ("filesystem", OutputMode::Update | OutputMode::Complete) => Err(Error::sql(format!("files take final rows only, but the result for table {} changes", def.name))
            .with_hint("aggregate by a window in output mode append")),
        _ => Ok(()),
    }
}

/// Projects a query's result to the sink's columns, by position.
fn to_sink(
    plan: LogicalPlan,
    def: &TableDef,
    columns: Option<&[(String, At)]>,
    tokens: &Tokens,
) -> Result<LogicalPlan> {
    let targets: Vec<&crate::table::Column> = def.sink_columns().collect();
    let order: Vec<&str> = match columns {
        None => targets.iter().map(|c| c.name.as_str()).collect(),
        Some(list) => {
            for (name, at) in list {
                if !targets.iter().any(|c| c.name == *name) {
                    let hint = nearest(name, targets.iter().map(|c| c.name.as_str()));
                    return Err(Error::sql(format!("'{name}' is no column of {}", def.name))
                        .or_at(*at)
                        .with_hint(hint.unwrap_or_default()));
                }
            }
            list.iter().map(|(n, _)| n.as_str()).collect()
        }
    };
    let fields = plan.schema().columns();
    if fields.len() != order.len() {
        let names: Vec<&str> = fields.iter().map(|c| c.name.as_str()).collect();
        return Err(Error::sql(format!(
            "the query has {} columns, table {} takes {}",
            fields.len(),
            def.name,
            order.len()
        ))
        .or_at(tokens.start())
        .with_hint(format!(
            "query: {}; table: {}",
            names.join(", "),
            order.join(", ")
        )));
    }
    let mut exprs = Vec::new();
    for target in &targets {
        let Some(i) = order.iter().position(|n| *n == target.name) else {
            let null = datafusion::common::ScalarValue::try_from(&target.data_type)
                .map_err(|e| planning(e, tokens))?;
            exprs.push(Expr::Literal(null, None).alias(&target.name));
            continue;
        };
        let from = plan.schema().field(i).data_type().clone();
        if !assignable(&from, &target.data_type) {
            return Err(Error::sql(format!(
                "column {} of the query ('{}') is {from}, but column '{}' of {} is {}",
                i + 1,
                fields[i].name,
                target.name,
                def.name,
                target.data_type
            ))
            .or_at(tokens.find_word(&fields[i].name).unwrap_or(tokens.start()))
            .with_hint(format!("write CAST({} AS …)", fields[i].name)));
        }
        let column = Expr::Column(fields[i].clone());
        let expr = if from == target.data_type {
            column
        } else {
            datafusion::logical_expr::cast(column, target.data_type.clone())
        };
        exprs.push(expr.alias(&target.name));
    }
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(|b| b.build())
        .map_err(|e| planning(e, tokens))
}

/// Whether a sink's column takes a value without a CAST in the query.
fn assignable(from: &DataType, to: &DataType) -> bool {
    let text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let number = |t: &DataType| t.is_numeric();
    let bytes = |t: &DataType| {
        matches!(
            t,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        )
    };
    let time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32);
    from == to
        || *from == DataType::Null
        || (text(from) && text(to))
        || (number(from) && number(to))
        || (bytes(from) && bytes(to))
        || (time(from) && time(to))
        || matches!(
            (from, to),
            (
                DataType::Time64(_) | DataType::Time32(_),
                DataType::Time64(_)
            )
        )
        || matches!((from, to), (DataType::Dictionary(_, v), t) if assignable(v, t))
        || (from.is_nested()
            && to.is_nested()
            && std::mem::discriminant(from) == std::mem::discriminant(to))
}
