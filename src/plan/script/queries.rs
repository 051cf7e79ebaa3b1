//! SELECT, INSERT and EXPLAIN: from a query's tokens to its plan over the one stream it reads.

use super::sinks::{check_sink, to_sink};
use super::{Pending, Script};
use crate::error::{At, Error, Result, nearest};
use crate::plan::cut::{self, Cut, Plan, StreamTable};
use crate::plan::errors::{internal, planning};
use crate::plan::leaf::Leaf;
use crate::plan::query::{Body, QueryPlan, QuerySink, StatelessPlan, WindowedPlan};
use crate::plan::tokens::Tokens;
use crate::plan::{markers, per_window, sessions, spellings, windows};
use crate::sink::OutputMode;
use crate::table::{TableDef, WatermarkDef};
use crate::watermark::FOREVER;
use crate::window::Assign;
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::LogicalPlan;
use datafusion_sql::sqlparser::tokenizer::Token;
use std::collections::BTreeSet;

impl Script {
    pub(super) fn select(&mut self, t: &Tokens) -> Result<()> {
        let (tokens, plan) = self.logical(t)?;
        let name = format!("query {}", self.queries.len() + 1);
        self.query(name, plan, &tokens, QuerySink::Console)
    }

    pub(super) fn insert(&mut self, t: &Tokens) -> Result<()> {
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

    /// Rewrites, parses and resolves a query; applies Spark's watermark clauses.
    pub(super) fn logical(&mut self, t: &Tokens) -> Result<(Tokens, LogicalPlan)> {
        if t.is_empty() {
            let error = Error::sql("expected a query, but the statement ends here");
            return Err(error.or_at(t.start()).with_hint("write a SELECT here"));
        }
        let (tokens, watermarks) = windows::rewrite(&spellings::rewrite(t)?)?;
        for w in watermarks {
            let delay_us = self.interval_us(&tokens.with(w.interval.clone()))?;
            let at = w.at;
            let Some(def) = self.tables.get_mut(&w.table) else {
                let hint = nearest(&w.table, self.tables.keys().map(String::as_str));
                return Err(Error::sql(format!(
                    "WATERMARK is for a declared table, and '{}' is none",
                    w.table
                ))
                .or_at(at)
                .with_hint(hint.unwrap_or_else(|| "declare it with CREATE TABLE before".into())));
            };
            if delay_us < 0 {
                let error = Error::sql("the delay of a watermark cannot be negative");
                return Err(error.or_at(at));
            }
            if def.column(&w.column).is_none() {
                let names: Vec<&str> = def.columns.iter().map(|c| c.name.as_str()).collect();
                let hint = nearest(&w.column, names.iter().copied())
                    .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
                return Err(Error::sql(format!(
                    "the watermark's column '{}' is no column of {}",
                    w.column, w.table
                ))
                .or_at(at)
                .with_hint(hint));
            }
            let wanted = WatermarkDef {
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
            // A query above may have read the table already.
            if let Some(read) = self.sources.iter_mut().find(|s| s.def.name == def.name) {
                read.has_time(&w.table, def.watermark.as_ref())
                    .map_err(|e| e.or_at(at))?;
                read.def.watermark = def.watermark.clone();
            }
            self.session.register(&def.name, def.schema());
        }
        let plan = self.session.logical(&tokens)?;
        Ok((tokens, plan))
    }

    /// The name, with a number when an INSERT into the same table has it: files and checkpoints
    /// tell queries by their names.
    fn unused(&self, name: String) -> String {
        let is_used = |name: &String| self.queries.iter().any(|q| q.name == *name);
        if !is_used(&name) {
            return name;
        }
        (2..=self.queries.len() + 1)
            .map(|n| format!("{name} {n}"))
            .find(|n| !is_used(n))
            .unwrap_or(name)
    }

    fn query(
        &mut self,
        name: String,
        plan: LogicalPlan,
        tokens: &Tokens,
        sink: QuerySink,
    ) -> Result<()> {
        let name = self.unused(name);
        let plan = self.session.in_windows(plan, tokens)?;
        sessions::check(&plan)
            .map_err(|e| e.or_at(tokens.find_word("WHERE").unwrap_or(tokens.start())))?;
        let physical = self.session.physical(&plan, tokens)?;
        if !reads_tables(&physical)? {
            let plan = self.constants(&name, &plan, &physical, tokens)?;
            return self.query(name, plan, tokens, sink);
        }
        (self.read).extend(scanned(&plan).map_err(|e| planning(e, tokens))?);
        let schema = physical.schema();
        let at = tokens.start();
        let unwatched = self.watch(&plan, at)?;
        // What two streams cannot do, a stream and a file that is read whole may.
        let (streams, body, mode) = match self.parts(&plan, &physical, tokens, true) {
            Ok(parts) => parts,
            Err(e) => self.parts(&plan, &physical, tokens, false).map_err(|_| e)?,
        };
        check_sink(&sink, mode).map_err(|e| e.or_at(at))?;
        let windowed = matches!(&body, Body::Windowed(w) if w.assign() != Assign::Global);
        let sources = streams.iter().map(|s| self.source(&s.name, windowed));
        let query = QueryPlan {
            name,
            sources: sources.collect(),
            body,
            mode,
            sink,
            schema,
            late: None,
            at,
        };
        for (source, column) in query.columns() {
            self.sources[source].columns.insert(column);
        }
        self.queries.push(query);
        // Another query over the table may need a watermark.
        for name in unwatched {
            if let Some(def) = self.tables.get_mut(&name) {
                def.watermark = None;
            }
        }
        Ok(())
    }

    /// In the output modes that show changes a window need not ever be final, so its table needs no watermark
    /// (as in Spark). Gives such tables one that never comes, and names them.
    fn watch(&mut self, plan: &LogicalPlan, at: At) -> Result<Vec<String>> {
        let asked = self.flags.output_mode.or(self.settings.output_mode);
        if !matches!(asked, Some(OutputMode::Update | OutputMode::Complete)) {
            return Ok(Vec::new());
        }
        let times = markers::times(plan).map_err(internal)?;
        let mut names = Vec::new();
        for name in scanned(plan).map_err(internal)? {
            let Some(def) = self.tables.get_mut(&name).filter(|d| d.watermark.is_none()) else {
                continue;
            };
            let is_time = |time: &&String| {
                let column = def.column(time);
                column.is_some_and(|c| matches!(c.data_type, DataType::Timestamp(..)))
            };
            let Some(column) = times.iter().find(is_time) else {
                continue;
            };
            let wanted = WatermarkDef {
                column: column.clone(),
                delay_us: FOREVER,
                at,
            };
            if let Some(read) = self.sources.iter_mut().find(|s| s.def.name == name) {
                read.has_time(&name, Some(&wanted))
                    .map_err(|e| e.or_at(at))?;
                read.def.watermark.get_or_insert(wanted.clone());
            }
            def.watermark = Some(wanted);
            names.push(name);
        }
        Ok(names)
    }

    /// The streams that a query reads, and what happens to their rows.
    fn parts(
        &self,
        plan: &LogicalPlan,
        physical: &Plan,
        tokens: &Tokens,
        files: bool,
    ) -> Result<(Vec<StreamTable>, Body, OutputMode)> {
        let mut streams = self.streams_of(plan, tokens, files)?;
        let read = cut::streams_of(physical, &streams);
        if !read.is_empty() {
            // The optimiser needs no rows of the others.
            let all = streams.into_iter().enumerate();
            let used = all.filter(|(i, _)| read.contains(i));
            streams = used.map(|(_, stream)| stream).collect();
        }
        let cut = cut::cut(physical, &streams).map_err(|e| e.or_at(tokens.start()))?;
        let (body, mode) = self.body(cut, tokens)?;
        Ok((streams, body, mode))
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
                per_window::check(&finish, &aggregates, mode).map_err(|e| {
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

    /// The tables of the query that are read as streams; `files`: those in files, too, that some window
    /// is over. Others are read once, and looked up in.
    fn streams_of(
        &self,
        plan: &LogicalPlan,
        tokens: &Tokens,
        files: bool,
    ) -> Result<Vec<StreamTable>> {
        let names = scanned(plan).map_err(|e| planning(e, tokens))?;
        let windowed = windowed(plan).map_err(|e| planning(e, tokens))?;
        if let Some(name) = names.iter().find(|name| !self.tables.contains_key(*name)) {
            return Err(Error::sql(format!("table '{name}' was dropped"))
                .or_at(tokens.start())
                .with_hint(
                    "the view that reads it was made before: drop it, too, or make it anew",
                ));
        }
        let known: Vec<&TableDef> = names.iter().filter_map(|n| self.tables.get(n)).collect();
        for def in &known {
            if !matches!(
                def.connector(),
                "kafka" | "filesystem" | "datagen" | "values"
            ) {
                return Err(Error::sql(format!(
                    "table {} of connector '{}' cannot be read",
                    def.name,
                    def.connector()
                ))
                .or_at(tokens.find_word(&def.name).unwrap_or(tokens.start())));
            }
        }
        let is_stream = |def: &TableDef| {
            def.connector() != "filesystem"
                || files && def.watermark.is_some() && windowed.contains(&def.name)
        };
        let mut streams: Vec<&TableDef> = known.iter().filter(|d| is_stream(d)).copied().collect();
        if streams.is_empty() {
            // Files only: the one with event time is the stream, else the first.
            let first = known
                .iter()
                .find(|d| d.watermark.is_some())
                .or(known.first());
            streams.extend(first);
        }
        let stream = |def: &&TableDef| StreamTable {
            name: def.name.clone(),
            event_time: def.watermark.as_ref().map(|w| w.column.clone()),
        };
        Ok(streams.iter().map(stream).collect())
    }

    fn source(&mut self, name: &str, windowed: bool) -> usize {
        let known = self.sources.iter().position(|s| s.def.name == name);
        let index = known.unwrap_or_else(|| {
            self.sources.push(Pending {
                def: self.tables[name].clone(),
                columns: BTreeSet::new(),
                windowed: false,
            });
            self.sources.len() - 1
        });
        self.sources[index].windowed |= windowed;
        index
    }
}

/// Whether a plan reads any table; where a condition is never true it reads none.
fn reads_tables(plan: &Plan) -> Result<bool> {
    plan.exists(|node| Ok(node.downcast_ref::<Leaf>().is_some()))
        .map_err(internal)
}

/// The tables that a plan reads, each once; those of subqueries stand last.
pub(super) fn scanned(plan: &LogicalPlan) -> datafusion_common::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |node: &LogicalPlan| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply(&mut add)?;
    plan.apply_with_subqueries(&mut add)?;
    Ok(names)
}

/// The tables that some window is over.
fn windowed(plan: &LogicalPlan) -> datafusion_common::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        let mut exprs = node.expressions().into_iter();
        if exprs.any(|expr| markers::has_marker(&expr)) {
            names.extend(scanned(node)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}
