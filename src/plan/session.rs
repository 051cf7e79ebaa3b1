//! DataFusion's session, set up so that a batch plan can be cut (see [`super::cut`]).

use super::errors::planning;
use super::leaf::DeclaredTable;
use super::tokens::Tokens;
use super::{functions, markers};
use crate::error::{Error, Result};
use crate::table::TableDef;
use crate::time::{Clock, SystemClock};
use datafusion::common::config::Dialect;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use std::sync::Arc;

pub struct Session {
    pub context: SessionContext,
    /// Planning is async in DataFusion, but never waits.
    runtime: tokio::runtime::Runtime,
}

/// Rules that fight the cut: this one turns count(DISTINCT x) into two aggregates …
const LOGICAL_RULES_OFF: [&str; 1] = ["single_distinct_aggregation_to_group_by"];
/// … and these check or use what holds for a whole table only.
const PHYSICAL_RULES_OFF: [&str; 3] = [
    "SanityCheckPlan",
    "aggregate_statistics",
    "LimitedDistinctAggregation",
];

impl Session {
    pub fn new() -> Result<Self> {
        let mut config = SessionConfig::new().with_target_partitions(1);
        let options = config.options_mut();
        options.optimizer.enable_dynamic_filter_pushdown = false;
        // One sort per window, not a heap per group.
        options.optimizer.enable_topk_aggregation = false;
        options.sql_parser.dialect = Dialect::Generic;
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.collect_spans = true;
        // As Flink and Spark: NULL is smaller than everything.
        options.sql_parser.default_null_ordering = "nulls_min".into();
        options.execution.time_zone = None;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_type_planner(Arc::new(functions::TimestampTypes))
            .build();
        let logical = state
            .optimizers()
            .iter()
            .filter(|r| !LOGICAL_RULES_OFF.contains(&r.name()))
            .cloned()
            .collect();
        let physical = state
            .physical_optimizers()
            .iter()
            .filter(|r| !PHYSICAL_RULES_OFF.contains(&r.name()))
            .cloned()
            .collect();
        let state = SessionStateBuilder::new_from_existing(state)
            .with_optimizer_rules(logical)
            .with_physical_optimizer_rules(physical)
            .build();
        let mut state = state;
        // NOW() and its kin; the engine's own times come from the clock of the run.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        functions::register(&mut state, &clock).map_err(|e| Error::bug(e.to_string()))?;
        let context = SessionContext::new_with_state(state);
        for marker in markers::all() {
            context.register_udf(marker);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|e| Error::bug(e.to_string()))?;
        Ok(Self { context, runtime })
    }

    pub fn task_context(&self) -> Arc<TaskContext> {
        self.context.task_ctx()
    }

    pub fn register(&self, def: &TableDef) -> Result<()> {
        let table = DeclaredTable {
            name: def.name.clone(),
            schema: def.schema(),
        };
        let name = datafusion::common::TableReference::bare(def.name.clone());
        self.context
            .register_table(name, Arc::new(table))
            .map_err(|e| Error::bug(e.to_string()))?;
        Ok(())
    }

    pub fn deregister(&self, name: &str) -> Result<()> {
        let name = datafusion::common::TableReference::bare(name);
        self.context
            .deregister_table(name)
            .map_err(|e| Error::bug(e.to_string()))?;
        Ok(())
    }

    /// Parses and resolves a query of rewritten tokens.
    pub fn logical(&self, tokens: &Tokens) -> Result<LogicalPlan> {
        let dialect = GenericDialect {};
        let parsed = DFParserBuilder::new(tokens.list.clone())
            .with_dialect(&dialect)
            .with_recursion_limit(256)
            .build()
            .and_then(|mut p| {
                let statement = p.parse_statement()?;
                match p.parser.peek_token().token {
                    datafusion::sql::sqlparser::tokenizer::Token::EOF => Ok(statement),
                    _ => p
                        .parser
                        .expected("the end of the statement", p.parser.peek_token())
                        .map_err(Into::into),
                }
            })
            .map_err(|e| parse_error(e, tokens))?;
        if let Statement::Statement(s) = &parsed
            && !matches!(
                s.as_ref(),
                datafusion::sql::sqlparser::ast::Statement::Query(_)
            )
        {
            return Err(Error::sql("expected a query").or_at(tokens.start()));
        }
        let state = self.context.state();
        self.runtime
            .block_on(state.statement_to_plan(parsed))
            .map_err(|e| planning(e, tokens))
    }

    /// Optimises and makes the physical plan.
    pub fn physical(&self, plan: &LogicalPlan, tokens: &Tokens) -> Result<Arc<dyn ExecutionPlan>> {
        let state = self.context.state();
        let physical = self.runtime.block_on(async {
            let optimised = state.optimize(plan)?;
            state
                .query_planner()
                .create_physical_plan(&optimised, &state)
                .await
        });
        physical.map_err(|e| planning(e, tokens))
    }
}

/// The parser's message ends in ` at Line: 3, Column: 7`, in the substituted text.
fn parse_error(error: datafusion::common::DataFusionError, tokens: &Tokens) -> Error {
    let text = error.strip_backtrace();
    let text = text.lines().next().unwrap_or_default();
    let text = text
        .split_once("ParserError(\"")
        .map_or(text, |(_, t)| t.trim_end_matches("\")"));
    let (message, position) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
    let numbers: Vec<u64> = position
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    let message = message
        .replace("Expected: ", "expected ")
        .replace("sql parser error: ", "")
        .replace(", found: ", ", found ");
    match numbers.as_slice() {
        [line, column, ..] if *line > 0 => {
            Error::sql(message).or_at(tokens.original(crate::error::At {
                line: *line,
                column: *column,
            }))
        }
        _ => Error::sql(message).or_at(tokens.at(tokens.len())),
    }
}
