//! `OVER (…)` and joins over the rows of a stream, not over the results of a GROUP BY:
//!
//! | query | becomes |
//! |---|---|
//! | `PARTITION BY window_start, window_end, k …` over TUMBLE's rows | the same over the rows of closed windows: a GROUP BY of the window and `k` keeps them in lists |
//! | a JOIN of such rows by their windows (and more) | a JOIN of the rows of closed windows |
//! | `ROW_NUMBER() OVER (PARTITION BY k ORDER BY x)`, of which a filter takes number 1 | a GROUP BY of `k` that keeps the first row |
//!
//! These are Flink's Window Top-N, Window Deduplication, Window Join and Deduplication. The plan is an optimised
//! one, so that only columns that are wanted are kept.

use super::nodes::{self, unaliased};
use super::physical::is_ordered;
use super::row_windows::window;
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, Result, ScalarValue, UnnestOptions};
use datafusion_expr::expr::{AggregateFunction, ScalarFunction, Sort, WindowFunction};
use datafusion_expr::logical_plan::builder::unnest_with_options;
use datafusion_expr::logical_plan::{Aggregate, Filter, Join, Window};
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};
use std::sync::Arc;

/// Rewrites all such functions of a plan; others stay, and are refused where the plan is cut.
pub fn rewrite(plan: LogicalPlan, registry: &dyn FunctionRegistry) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|node| {
        let other = match &node {
            LogicalPlan::Filter(filter) => first_rows(filter, registry)?,
            LogicalPlan::Window(window) => over_windows(window, registry)?,
            _ => None,
        };
        Ok(other.map_or_else(|| Transformed::no(node), Transformed::yes))
    });
    // From below: a join of joins is over rows of closed windows already.
    let rewritten = rewritten?.data.transform_up(|node| {
        let other = match &node {
            LogicalPlan::Join(join) => window_join(join, registry)?,
            _ => None,
        };
        Ok(other.map_or_else(|| Transformed::no(node), Transformed::yes))
    });
    Ok(rewritten?.data)
}

/// Functions ordered by a TIME, by the number that it is: a range of times DataFusion does not take. The
/// plan is one that is not analysed yet.
pub fn order_times(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Window(window) = &node else {
            return Ok(Transformed::no(node));
        };
        let schema = window.input.schema();
        let of_number = |expr: &Expr| {
            let Expr::WindowFunction(mut function) = expr.clone() else {
                return Ok(expr.clone());
            };
            let mut is_changed = false;
            for order in &mut function.params.order_by {
                if matches!(order.expr.get_type(schema)?, DataType::Time64(_)) {
                    order.expr = cast(order.expr.clone(), DataType::Int64);
                    is_changed = true;
                }
            }
            Ok(match is_changed {
                true => Expr::WindowFunction(function).alias(expr.schema_name().to_string()),
                false => expr.clone(),
            })
        };
        let exprs = window.window_expr.iter().map(of_number);
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let window = Window::try_new(exprs, window.input.clone())?;
        Ok(Transformed::yes(LogicalPlan::Window(window)))
    });
    Ok(rewritten?.data)
}

/// A join of rows by their windows, as one of the rows of windows that are closed.
fn window_join(join: &Join, registry: &dyn FunctionRegistry) -> Result<Option<LogicalPlan>> {
    let sides = [&join.left, &join.right];
    let pairs: Vec<[&Expr; 2]> = join.on.iter().map(|(l, r)| [l, r]).collect();
    let place = |side: usize, expr: &Expr| {
        let column = expr.try_as_col()?;
        sides[side].schema().maybe_index_of_column(column)
    };
    // Of rows as they come: which columns are a window's.
    let windows = sides.map(|side| is_raw(side).then(|| window_columns(side)));
    let by_windows = pairs.iter().any(|pair| {
        (0..2).all(|side| match &windows[side] {
            Some(columns) => place(side, pair[side]).is_some_and(|i| columns[i]),
            None => true,
        })
    });
    if windows.iter().all(Option::is_none) || !by_windows {
        return Ok(None);
    }
    let mut inputs = Vec::with_capacity(sides.len());
    for (side, input) in sides.into_iter().enumerate() {
        inputs.push(match &windows[side] {
            None => input.as_ref().clone(),
            Some(columns) => {
                let keys = pairs.iter().filter_map(|pair| place(side, pair[side]));
                let mut groups = Groups {
                    input,
                    keys: keys.collect(),
                    registry,
                };
                groups.add_windows(columns);
                groups.rows()?
            }
        });
    }
    let plan = LogicalPlan::Join(join.clone());
    plan.with_new_exprs(plan.expressions(), inputs).map(Some)
}

/// Rows in groups: those of `keys`, by their columns in the input.
struct Groups<'a> {
    input: &'a LogicalPlan,
    keys: Vec<usize>,
    registry: &'a dyn FunctionRegistry,
}

/// A filter that lets through the first row of each partition only.
fn first_rows(filter: &Filter, registry: &dyn FunctionRegistry) -> Result<Option<LogicalPlan>> {
    let firsts = split_conjunction(&filter.predicate).into_iter();
    for number in firsts.filter_map(is_first) {
        let index = filter.input.schema().index_of_column(number)?;
        if let Some(input) = first_rows_below(&filter.input, index, registry)? {
            let other = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            return Ok(Some(LogicalPlan::Filter(other)));
        }
    }
    Ok(None)
}

/// The column of `n = 1`, `n <= 1` or `n < 2`.
fn is_first(condition: &Expr) -> Option<&Column> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return None;
    };
    let bound = match op {
        Operator::Eq | Operator::LtEq => 1,
        Operator::Lt => 2,
        _ => return None,
    };
    let number = right
        .as_literal()?
        .cast_to(&arrow::datatypes::DataType::Int64)
        .ok()?;
    (number == ScalarValue::Int64(Some(bound))).then(|| left.try_as_col())?
}

/// `plan` with the first rows only, if its column `index` is their number.
fn first_rows_below(
    plan: &LogicalPlan,
    index: usize,
    registry: &dyn FunctionRegistry,
) -> Result<Option<LogicalPlan>> {
    let below = match plan {
        LogicalPlan::Projection(projection) => {
            match unaliased(&projection.expr[index]).try_as_col() {
                Some(column) => projection.input.schema().maybe_index_of_column(column),
                None => None,
            }
        }
        LogicalPlan::SubqueryAlias(_) => Some(index),
        LogicalPlan::Window(window) => return numbered(window, index, registry),
        _ => None,
    };
    let Some(below) = below else {
        return Ok(None);
    };
    let input = first_rows_below(plan.inputs()[0], below, registry)?;
    let with = |input| plan.with_new_exprs(plan.expressions(), vec![input]);
    input.map(with).transpose()
}

/// The first row of each partition, and its number.
fn numbered(
    window: &Window,
    index: usize,
    registry: &dyn FunctionRegistry,
) -> Result<Option<LogicalPlan>> {
    let input = &window.input;
    let width = input.schema().fields().len();
    let [expr] = window.window_expr.as_slice() else {
        return Ok(None);
    };
    let Some(function) = function(expr) else {
        return Ok(None);
    };
    let order = &function.params.order_by;
    let is_numbered = function.fun.name() == "row_number" && index == width && !order.is_empty();
    let (columns, keys) = (window_columns(input), partition(window));
    if !is_numbered || !is_raw(input) || keys.len() != function.params.partition_by.len() {
        return Ok(None);
    }
    let mut groups = Groups {
        input,
        keys,
        registry,
    };
    if groups.keys.iter().any(|key| columns[*key]) {
        groups.add_windows(&columns);
    }
    let (mut rows, mut exprs) = groups.first(order)?;
    if groups.keys.is_empty() {
        // Without keys there is a group from the start: no row is not a row of NULLs.
        let (table, field) = rows.schema().qualified_field(0);
        let row = Expr::Column(Column::new(table.cloned(), field.name()));
        rows = LogicalPlan::Filter(Filter::try_new(row.is_not_null(), Arc::new(rows))?);
    }
    let (table, number) = window.schema.qualified_field(width);
    exprs.push(lit(1_u64).alias_qualified(table.cloned(), number.name()));
    nodes::project(rows, exprs).map(Some)
}

/// Functions over rows of windows, as functions over the rows of windows that are closed.
fn over_windows(window: &Window, registry: &dyn FunctionRegistry) -> Result<Option<LogicalPlan>> {
    let input = &window.input;
    let (columns, keys) = (window_columns(input), partition(window));
    if !is_raw(input) || !keys.iter().any(|key| columns[*key]) {
        return Ok(None);
    }
    let mut groups = Groups {
        input,
        keys,
        registry,
    };
    groups.add_windows(&columns);
    let rows = Arc::new(groups.rows()?);
    let other = Window::try_new(window.window_expr.clone(), rows)?;
    Ok(Some(LogicalPlan::Window(other)))
}

/// The rows of `input` as those of groups by some of its columns.
pub(super) fn rows_of(
    input: &LogicalPlan,
    keys: Vec<usize>,
    registry: &dyn FunctionRegistry,
) -> Result<LogicalPlan> {
    let groups = Groups {
        input,
        keys,
        registry,
    };
    groups.rows()
}

impl Groups<'_> {
    fn add_windows(&mut self, columns: &[bool]) {
        let windows = (0..columns.len()).filter(|i| columns[*i]);
        self.keys.extend(windows);
        self.keys.sort_unstable();
        self.keys.dedup();
    }

    /// A plan of one row for each group, the first by `order`, and the input's columns over it. Of rows
    /// that are equal it is the one with the smallest columns, or it would depend on which came first.
    fn first(&self, order: &[Sort]) -> Result<(LogicalPlan, Vec<Expr>)> {
        let first = self.registry.udaf("first_value")?;
        let row = vec![self.row()?];
        let mut order = order.to_vec();
        for i in self.kept() {
            let column = Expr::Column(self.column(i));
            let is_new = order.iter().all(|known| known.expr != column);
            if is_new && is_ordered(self.input.schema().field(i).data_type()) {
                order.push(column.sort(true, true));
            }
        }
        let first = AggregateFunction::new_udf(first, row, false, None, order, None);
        let grouped = self.grouped(first)?;
        let exprs = self.columns(&grouped)?;
        Ok((grouped, exprs))
    }

    /// A plan of all rows, group by group.
    fn rows(&self) -> Result<LogicalPlan> {
        let list = self.registry.udaf("array_agg")?;
        let list = AggregateFunction::new_udf(list, vec![self.row()?], false, None, vec![], None);
        let grouped = self.grouped(list)?;
        let (table, field) = grouped.schema().qualified_field(self.keys.len());
        let rows = Column::new(table.cloned(), field.name());
        let rows = unnest_with_options(grouped, vec![rows], UnnestOptions::default())?;
        let exprs = self.columns(&rows)?;
        nodes::project(rows, exprs)
    }

    fn column(&self, index: usize) -> Column {
        let (table, field) = self.input.schema().qualified_field(index);
        Column::new(table.cloned(), field.name())
    }

    /// All columns but the keys.
    fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.input.schema().fields().len()).filter(|i| !self.keys.contains(i))
    }

    /// Those as one value.
    fn row(&self) -> Result<Expr> {
        let mut args: Vec<Expr> = (self.kept())
            .flat_map(|i| [lit(format!("c{i}")), Expr::Column(self.column(i))])
            .collect();
        if args.is_empty() {
            args = vec![lit("none"), lit(true)];
        }
        let row = self.registry.udf("named_struct")?;
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(row, args)))
    }

    fn grouped(&self, function: AggregateFunction) -> Result<LogicalPlan> {
        let keys = self.keys.iter().map(|key| Expr::Column(self.column(*key)));
        let functions = vec![Expr::AggregateFunction(function)];
        let input = Arc::new(self.input.clone());
        let aggregate = Aggregate::try_new(input, keys.collect(), functions)?;
        Ok(LogicalPlan::Aggregate(aggregate))
    }

    /// The columns of the input out of the keys and the row behind them.
    fn columns(&self, grouped: &LogicalPlan) -> Result<Vec<Expr>> {
        let field = self.registry.udf("get_field")?;
        let below = |i: usize| {
            let (table, field) = grouped.schema().qualified_field(i);
            Expr::Column(Column::new(table.cloned(), field.name()))
        };
        let one = |i: usize| {
            let column = self.column(i);
            let value = match self.keys.iter().position(|key| *key == i) {
                Some(key) => below(key),
                None => {
                    let args = vec![below(self.keys.len()), lit(format!("c{i}"))];
                    Expr::ScalarFunction(ScalarFunction::new_udf(field.clone(), args))
                }
            };
            value.alias_qualified(column.relation, column.name)
        };
        Ok((0..self.input.schema().fields().len()).map(one).collect())
    }
}

fn function(expr: &Expr) -> Option<&WindowFunction> {
    match unaliased(expr) {
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

/// The columns of the input by which all functions are partitioned.
pub(super) fn partition(window: &Window) -> Vec<usize> {
    let schema = window.input.schema();
    let index = |expr: &Expr| schema.maybe_index_of_column(expr.try_as_col()?);
    let mut partitions = window.window_expr.iter().map(|expr| {
        let by = function(expr).map(|f| f.params.partition_by.as_slice());
        by.unwrap_or_default().iter().filter_map(index).collect()
    });
    let mut common: Vec<usize> = partitions.next().unwrap_or_default();
    for other in partitions {
        common.retain(|column| other.contains(column));
    }
    common
}

/// Whether the plan gives rows of a stream as they come.
pub(super) fn is_raw(plan: &LogicalPlan) -> bool {
    let mut is_raw = true;
    let visited = plan.apply(|node| {
        is_raw &= !matches!(
            node,
            LogicalPlan::Aggregate(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
        );
        Ok(TreeNodeRecursion::Continue)
    });
    is_raw && visited.is_ok()
}

/// Which columns are a window's.
fn window_columns(plan: &LogicalPlan) -> Vec<bool> {
    let columns = 0..plan.schema().fields().len();
    columns.map(|i| window(plan, i).is_some()).collect()
}
