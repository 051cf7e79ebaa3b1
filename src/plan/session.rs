//! DataFusion's parser, planner and rules, set up so that a batch plan can be cut (see
//! [`super::cut`]).

use super::errors::{parsing, planning};
use super::leaf::Declared;
use super::physical::Planner;
use super::registry::Registry;
use super::tokens::Tokens;
use super::{
    extremes, functions, grouping, lateral, markers, over, row_windows, subqueries, syntax,
};
use crate::error::{Error, Result, nearest};
use crate::time::{Clock, SystemClock};
use arrow::datatypes::{DataType, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion_common::alias::AliasGenerator;
use datafusion_common::config::{ConfigOptions, Dialect};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Column, DFSchema, DataFusionError, TableReference, plan_datafusion_err};
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
    WindowUDF,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerConfig};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_sql::parser::{DFParserBuilder, Statement};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::tokenizer::Token;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub struct Session {
    config: SessionConfig,
    registry: Registry,
    tables: HashMap<String, Arc<dyn TableSource>>,
    analyzer: Analyzer,
    optimizer: Optimizer,
    props: ExecutionProps,
}

/// It turns count(DISTINCT x) into two aggregates, which fights the cut.
const RULE_OFF: &str = "single_distinct_aggregation_to_group_by";

/// Levels of nesting in a query or an expression.
const RECURSION_MAX: usize = 256;

type DfResult<T> = datafusion_common::Result<T>;

impl Session {
    pub fn new() -> Result<Self> {
        let bug = |e: DataFusionError| Error::bug(e.to_string());
        let mut config = SessionConfig::new().with_target_partitions(1);
        let options = config.options_mut();
        options.sql_parser.dialect = Dialect::Generic;
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.collect_spans = true;
        // As Flink and Spark: NULL is smaller than everything.
        options.sql_parser.default_null_ordering = "nulls_min".into();
        options.execution.time_zone = None;
        // The physical planner knows joins, not plans that wait for a scalar.
        options
            .optimizer
            .enable_physical_uncorrelated_scalar_subquery = false;
        let mut registry = Registry::of_datafusion(options).map_err(bug)?;
        // NOW() and its kin; the engine's own times come from the clock of the run.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        functions::register(&mut registry, &clock).map_err(bug)?;
        for marker in markers::all() {
            registry.register_udf(Arc::new(marker)).map_err(bug)?;
        }
        for extreme in extremes::all() {
            registry.register_udaf(Arc::new(extreme)).map_err(bug)?;
        }
        let mut analyzer = Analyzer::new();
        for rewrite in &registry.rewrites {
            analyzer.add_function_rewrite(rewrite.clone());
        }
        let mut optimizer = Optimizer::new();
        optimizer.rules.retain(|rule| rule.name() != RULE_OFF);
        let mut props = ExecutionProps::new();
        props.query_execution_start_time = Some(Utc::now());
        Ok(Self {
            config,
            registry,
            tables: HashMap::new(),
            analyzer,
            optimizer,
            props,
        })
    }

    pub fn task_context(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::default().with_session_config(self.config.clone()))
    }

    /// Makes a table known; its scan becomes a [`super::leaf::Leaf`].
    pub fn register(&mut self, name: &str, schema: SchemaRef) {
        let table = Declared::table(name, schema);
        self.tables.insert(name.to_string(), Arc::new(table));
    }

    /// Makes a view known.
    pub fn register_view(&mut self, name: &str, plan: LogicalPlan) {
        let view = Declared::view(name, plan);
        self.tables.insert(name.to_string(), Arc::new(view));
    }

    /// A table's rows under the column names of `schema`.
    pub fn renamed(&self, table: &str, schema: &DFSchema) -> DfResult<LogicalPlan> {
        let scan = LogicalPlanBuilder::scan(table, self.tables[table].clone(), None)?.build()?;
        let renamed = scan.schema().columns().into_iter().zip(schema.columns());
        let renamed = renamed.map(|(c, to)| Expr::Column(c).alias_qualified(to.relation, to.name));
        LogicalPlanBuilder::from(scan).project(renamed)?.build()
    }

    pub fn deregister(&mut self, name: &str) {
        self.tables.remove(name);
    }

    /// The columns of a query's result; `None` for one that cannot stand alone.
    fn columns(&self, query: ast::Query) -> Option<Vec<Column>> {
        let query = ast::Statement::Query(Box::new(query));
        let plan = self.sql().sql_statement_to_plan(query).ok()?;
        Some(plan.schema().columns())
    }

    fn sql(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::from(&self.config.options().sql_parser);
        SqlToRel::new_with_options(self, options)
    }

    /// Parses and resolves a query of rewritten tokens.
    pub fn logical(&self, tokens: &Tokens) -> Result<LogicalPlan> {
        let dialect = GenericDialect {};
        let mut parsed = DFParserBuilder::new(tokens.list.clone())
            .with_dialect(&dialect)
            .with_recursion_limit(RECURSION_MAX)
            .build()
            .and_then(|mut p| {
                let statement = p.parse_statement()?;
                match p.parser.peek_token().token {
                    Token::EOF => Ok(statement),
                    _ => p
                        .parser
                        .expected("the end of the statement", p.parser.peek_token())
                        .map_err(Into::into),
                }
            })
            .map_err(|e| parsing(e, tokens))?;
        if let Statement::Statement(statement) = &mut parsed {
            let ast::Statement::Query(query) = statement.as_mut() else {
                return Err(Error::sql("expected a query").or_at(tokens.start()));
            };
            if let ast::SetExpr::Insert(_) = &*query.body {
                let at = tokens.find_word("INSERT").unwrap_or(tokens.start());
                return Err(Error::sql("expected a SELECT behind WITH")
                    .or_at(at)
                    .with_hint("write INSERT INTO t WITH … SELECT …"));
            }
            syntax::rewrite(query, &|query| self.columns(query)).map_err(|refused| {
                let at = tokens.find_word(refused.word).unwrap_or(tokens.start());
                Error::sql(refused.message).or_at(at)
            })?;
        }
        let plan = self.sql().statement_to_plan(parsed);
        let plan = plan.map_err(|e| self.with_fields(planning(e, tokens), tokens))?;
        if let LogicalPlan::Ddl(_) = &plan {
            return Err(Error::sql("SELECT … INTO is not supported")
                .or_at(tokens.find_word("INTO").unwrap_or(tokens.start()))
                .with_hint("write INSERT INTO t SELECT …"));
        }
        if let Some(e) = grouping::refused(&plan).map_err(|e| planning(e, tokens))? {
            return Err(e.or_at(tokens.find_word("GROUP").unwrap_or(tokens.start())));
        }
        lateral::rewrite(plan, &self.registry)
            .and_then(subqueries::rewrite)
            .and_then(over::order_times)
            .map_err(|e| planning(e, tokens))
    }

    /// Names the fields of the ROW that an unknown one was asked of.
    fn with_fields(&self, error: Error, tokens: &Tokens) -> Error {
        let text = error.to_string();
        let Some(field) = text.strip_prefix("a ROW has no field '") else {
            return error;
        };
        let field = field.trim_end_matches('\'');
        let of = (2..tokens.len()).find(|i| {
            tokens.is(i - 1, &Token::Period) && tokens.name(*i, "").is_ok_and(|name| name == field)
        });
        let row = of.and_then(|i| tokens.name(i - 2, "").ok());
        let schemas = self.tables.values().map(|table| table.schema());
        let mut names = BTreeSet::new();
        for known in schemas
            .flat_map(|schema| Vec::from_iter(schema.flattened_fields().into_iter().cloned()))
        {
            if let DataType::Struct(fields) = known.data_type()
                && Some(known.name()) == row.as_ref()
            {
                names.extend(fields.iter().map(|f| f.name().clone()));
            }
        }
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        if list.is_empty() {
            return error;
        }
        let hint = nearest(field, list.iter().copied());
        error.with_hint(hint.unwrap_or_else(|| format!("there are: {}", list.join(", "))))
    }

    /// A query's plan with its rows in their windows. That of a view is not asked for: whether anything
    /// groups its rows is said in the queries that read it.
    pub fn in_windows(&self, plan: LogicalPlan, tokens: &Tokens) -> Result<LogicalPlan> {
        row_windows::rewrite(plan, &self.registry).map_err(|e| planning(e, tokens))
    }

    /// An expression over columns of `schema`.
    pub fn expression(&self, tokens: &Tokens, schema: &DFSchema) -> Result<Expr> {
        self.sql()
            .sql_to_expr_with_alias(parse(tokens)?, schema, &mut PlannerContext::new())
            .map_err(|e| planning(e, tokens))
    }

    /// Makes an expression ready to be evaluated over batches of `schema`.
    pub fn physical_expression(
        &self,
        expr: Expr,
        schema: &DFSchema,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(self.config.options().clone())
            .with_query_execution_start_time(self.props.query_execution_start_time)
            .build();
        // As for a query: our functions first, then types, then what must be simplified.
        let mut expr = expr;
        for rewrite in &self.registry.rewrites {
            let rewritten =
                expr.transform_up(|e| rewrite.rewrite(e, schema, self.config.options()));
            expr = rewritten?.data;
        }
        let simplifier = ExprSimplifier::new(context);
        let expr = simplifier.simplify(simplifier.coerce(expr, schema)?)?;
        Planner::new(&self.props).expression(&expr, schema)
    }

    /// Optimises and makes the physical plan.
    pub fn physical(&self, plan: &LogicalPlan, tokens: &Tokens) -> Result<Arc<dyn ExecutionPlan>> {
        self.optimised(plan)
            .and_then(grouping::rewrite)
            .and_then(|plan| over::rewrite(plan, &self.registry))
            .and_then(|plan| Planner::new(&self.props).plan(&plan))
            .map_err(|e| planning(e, tokens))
    }

    fn optimised(&self, plan: &LogicalPlan) -> DfResult<LogicalPlan> {
        let options = self.config.options();
        let analysed = (self.analyzer).execute_and_check(plan.clone(), options, |_, _| {})?;
        let mut options = options.as_ref().clone();
        // The rule that moves fields of a ROW down takes an element of a list for a column of its name below
        // the UNNEST.
        let is_unnest = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Unnest(_)));
        options.optimizer.enable_leaf_expression_pushdown = !analysed.exists(is_unnest)?;
        let rules = Rules {
            session: self,
            options: Arc::new(options),
        };
        self.optimizer.optimize(analysed, &rules, |_, _| {})
    }
}

/// What the optimiser's rules are told for one plan.
struct Rules<'a> {
    session: &'a Session,
    options: Arc<ConfigOptions>,
}

impl OptimizerConfig for Rules<'_> {
    fn query_execution_start_time(&self) -> Option<DateTime<Utc>> {
        self.session.props.query_execution_start_time
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        &self.session.props.alias_generator
    }

    fn options(&self) -> Arc<ConfigOptions> {
        self.options.clone()
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(&self.session.registry)
    }
}

impl ContextProvider for Session {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        let table = match &name {
            TableReference::Bare { table } => self.tables.get(table.as_ref()),
            _ => None,
        };
        table.cloned().ok_or_else(|| {
            let known = sorted(self.tables.keys());
            let hint = nearest(name.table(), known.iter().map(String::as_str));
            let hint = hint.unwrap_or_else(|| "declare it with CREATE TABLE before".into());
            plan_datafusion_err!("table '{name}' not found\n{hint}")
        })
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.registry.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(functions::SqlTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.registry.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.registry.higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.registry.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.registry.window.get(name).cloned()
    }

    /// There are no variables.
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.config.options()
    }

    /// For the nearest name of an unknown one, and of those equally near always the same.
    fn udf_names(&self) -> Vec<String> {
        let windows = ["tumble", "hop", "cumulate", "session", "window"].map(String::from);
        let own = self.registry.scalar.keys().cloned();
        let mut names: Vec<String> = own.chain(windows).collect();
        names.retain(|name| !name.starts_with("__") && !name.starts_with("windrow_"));
        names.sort();
        names
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        sorted(self.registry.higher_order.keys())
    }

    fn udaf_names(&self) -> Vec<String> {
        sorted(self.registry.aggregate.keys())
    }

    fn udwf_names(&self) -> Vec<String> {
        sorted(self.registry.window.keys())
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    names
}

/// Parses an expression that stands alone.
pub(super) fn parse(tokens: &Tokens) -> Result<ast::ExprWithAlias> {
    DFParserBuilder::new(tokens.list.clone())
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(RECURSION_MAX)
        .build()
        .and_then(|mut p| p.parse_into_expr())
        .map_err(|e| parsing(e, tokens))
}
