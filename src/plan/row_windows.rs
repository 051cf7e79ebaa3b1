//! Windows of rows that no GROUP BY (or DISTINCT, OVER, JOIN) by the window takes together:
//!
//! | query | becomes |
//! |---|---|
//! | `SELECT * FROM HOP(…)` or `CUMULATE(…)` | the row once for each of its windows: an UNNEST of their ends |
//! | `SELECT * FROM SESSION(… PARTITION BY k …)` | the rows of closed sessions: a GROUP BY that keeps them in lists |
//!
//! A tumbling window's columns are functions of the row. The plan is one that is not optimised yet: else
//! columns that nobody reads, and with them the number of rows, would be gone.

use super::markers::{self, Kind, Marker, Part};
use super::nodes::{self, unaliased};
use super::over;
use crate::window::Assign;
use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DFSchemaRef, Result, not_impl_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::logical_plan::{Distinct, Projection};
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Rewrites a plan and its subqueries.
pub fn rewrite(plan: LogicalPlan, registry: &dyn FunctionRegistry) -> Result<LogicalPlan> {
    visit(plan, &[], Above::Rows, registry)
}

/// What is done above with the rows of a plan.
#[derive(Clone, Copy, PartialEq)]
enum Above {
    /// They are rows of the result, perhaps joined with others.
    Rows,
    /// The same, but only so many of them.
    Limit,
    /// They are grouped.
    Groups,
}

/// `groups`: the columns of `plan` by which what is above it groups rows.
fn visit(
    plan: LogicalPlan,
    groups: &[usize],
    above: Above,
    registry: &dyn FunctionRegistry,
) -> Result<LogicalPlan> {
    let plan = match &plan {
        LogicalPlan::Projection(projection) => match single(projection, groups, above, registry)? {
            Some(rows) => return visit(rows, groups, above, registry),
            None => plan,
        },
        _ => plan,
    };
    let above = match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Above::Groups,
        LogicalPlan::Limit(_) if above == Above::Rows => Above::Limit,
        _ => above,
    };
    let plan =
        plan.map_subqueries(|subquery| Ok(Transformed::yes(rewrite(subquery, registry)?)))?;
    let mut input = 0;
    let below = below(&plan.data, groups);
    let rewritten = plan.data.map_children(|child| {
        let child = visit(child, &below[input], above, registry)?;
        input += 1;
        Ok(Transformed::yes(child))
    });
    Ok(rewritten?.data)
}

/// For each input of a node, the columns by which it or what is above it groups rows.
fn below(plan: &LogicalPlan, groups: &[usize]) -> Vec<Vec<usize>> {
    let all = |schema: &DFSchema| (0..schema.fields().len()).collect();
    let columns = |exprs: &[&Expr], schema: &DFSchema| -> Vec<usize> {
        let index = |expr: &&Expr| schema.maybe_index_of_column(unaliased(expr).try_as_col()?);
        exprs.iter().filter_map(index).collect()
    };
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let keys = aggregate.group_expr.iter();
            let keys = keys.flat_map(|key| match key {
                Expr::GroupingSet(sets) => sets.distinct_expr(),
                key => vec![key],
            });
            vec![columns(&keys.collect::<Vec<_>>(), aggregate.input.schema())]
        }
        LogicalPlan::Distinct(Distinct::All(input)) => vec![all(input.schema())],
        LogicalPlan::Window(window) => vec![over::partition(window)],
        LogicalPlan::Projection(projection) => {
            let exprs: Vec<&Expr> = groups.iter().map(|i| &projection.expr[*i]).collect();
            vec![columns(&exprs, projection.input.schema())]
        }
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            let equal: Vec<Expr> = join
                .on
                .iter()
                .map(|(l, r)| l.clone().eq(r.clone()))
                .collect();
            let schemas = [join.left.schema(), join.right.schema()];
            let mut groups = groups.to_vec();
            groups.extend(equal_windows(
                equal.iter().chain(&join.filter),
                plan,
                &schemas,
            ));
            let (left, right) = groups.iter().partition::<Vec<_>, _>(|i| **i < width);
            vec![left, right.into_iter().map(|i| i - width).collect()]
        }
        LogicalPlan::Filter(filter) => {
            let schemas = [filter.input.schema()];
            let equal = equal_windows([&filter.predicate], &filter.input, &schemas);
            vec![groups.iter().copied().chain(equal).collect()]
        }
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => {
            vec![groups.to_vec(); plan.inputs().len()]
        }
        other => {
            let of_input = |input| {
                groups
                    .iter()
                    .filter_map(move |i| below_by_name(other, *i, input))
            };
            let inputs = other.inputs().into_iter();
            inputs.map(|input| of_input(input).collect()).collect()
        }
    }
}

/// The column of `input` that `plan` gives on, under its name, as its column `index`.
fn below_by_name(plan: &LogicalPlan, index: usize, input: &LogicalPlan) -> Option<usize> {
    let column = Column::from(plan.schema().qualified_field(index));
    input.schema().maybe_index_of_column(&column)
}

/// Columns of windows that are asked to be equal: a join by windows takes their rows together, too.
fn equal_windows<'a>(
    conditions: impl IntoIterator<Item = &'a Expr>,
    plan: &LogicalPlan,
    schemas: &[&DFSchemaRef],
) -> Vec<usize> {
    let place = |expr: &Expr| {
        let (column, mut before) = (unaliased(expr).try_as_col()?, 0);
        schemas.iter().find_map(|schema| {
            let place = schema.maybe_index_of_column(column).map(|i| before + i);
            before += schema.fields().len();
            place
        })
    };
    let pair = |condition: &Expr| match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => Some([place(left)?, place(right)?]),
        _ => None,
    };
    let conditions = conditions.into_iter().flat_map(split_conjunction);
    let pairs = conditions.filter_map(pair);
    let pairs = pairs.filter(|pair| pair.iter().all(|i| window(plan, *i).is_some()));
    pairs.flatten().collect()
}

/// The kind of window that a column of `plan` is of; of a join that gives one side, of both.
pub(super) fn window(plan: &LogicalPlan, index: usize) -> Option<Kind> {
    match plan {
        LogicalPlan::Projection(p) => window_of(&p.expr[index], &p.input),
        LogicalPlan::Aggregate(a) => window_of(a.group_expr.get(index)?, &a.input),
        LogicalPlan::Join(join) => match index.checked_sub(join.left.schema().fields().len()) {
            None => window(&join.left, index),
            Some(index) if index < join.right.schema().fields().len() => window(&join.right, index),
            Some(_) => None,
        },
        LogicalPlan::SubqueryAlias(alias) => window(&alias.input, index),
        other => match other.inputs().as_slice() {
            [input] => window(input, below_by_name(other, index, input)?),
            _ => None,
        },
    }
}

/// The kind of window that an expression over `input` is of.
pub(super) fn window_of(expr: &Expr, input: &LogicalPlan) -> Option<Kind> {
    let of_column = || {
        let column = unaliased(expr).try_as_col()?;
        window(input, input.schema().maybe_index_of_column(column)?)
    };
    marker(expr).map(|(m, _)| m.kind).or_else(of_column)
}

/// The marker that an expression is.
fn marker(expr: &Expr) -> Option<(&Marker, &[Expr])> {
    match unaliased(expr) {
        Expr::ScalarFunction(call) => markers::of(call).map(|m| (m, call.args.as_slice())),
        _ => None,
    }
}

/// The rows of a projection that gives windows no one groups by.
fn single(
    projection: &Projection,
    groups: &[usize],
    above: Above,
    registry: &dyn FunctionRegistry,
) -> Result<Option<LogicalPlan>> {
    let mut windows = projection.expr.iter().filter_map(marker);
    let Some((first, args)) = windows.find(|(m, _)| m.kind != Kind::Tumble) else {
        return Ok(None);
    };
    let is_taken = groups
        .iter()
        .any(|i| marker(&projection.expr[*i]).is_some());
    match first.kind {
        _ if is_taken => Ok(None),
        Kind::SessionBy if above == Above::Rows => sessions(projection, &args[2..], registry),
        Kind::SessionBy if above == Above::Limit => not_impl_err!(
            "LIMIT over rows of SESSION: they come when their sessions are over, in no order to count in"
        ),
        Kind::Hop | Kind::SparkHop | Kind::Cumulate => exploded(projection, first.kind, args),
        // A row is in one session: an aggregate that does not ask for it needs none.
        Kind::Session | Kind::SessionBy | Kind::Tumble => Ok(None),
    }
}

const END: &str = "__window_end";

fn exploded(projection: &Projection, kind: Kind, args: &[Expr]) -> Result<Option<LogicalPlan>> {
    let ends = ScalarUDF::from(RowWindows::new(kind, None)).call(args.to_vec());
    let rows = nodes::for_each(&projection.input, ends, END)?;
    let end = Expr::Column(Column::from_name(END));
    let of_end = |call: &ScalarFunction, part| {
        let constants = call.args[1..].iter().cloned();
        let args = std::iter::once(end.clone()).chain(constants);
        ScalarUDF::from(RowWindows::new(kind, Some(part))).call(args.collect())
    };
    let exprs = projection.expr.iter().map(|expr| {
        let (relation, name) = expr.qualified_name();
        let other = expr.clone().transform(|e| match &e {
            Expr::ScalarFunction(call) => match markers::of(call) {
                Some(marker) if marker.kind == kind && call.args == args => {
                    Ok(Transformed::yes(of_end(call, marker.part)))
                }
                Some(marker) if marker.kind != Kind::Tumble => {
                    not_impl_err!("rows cannot be shown in two different windows at once")
                }
                _ => Ok(Transformed::no(e)),
            },
            _ => Ok(Transformed::no(e)),
        })?;
        Ok(match other.transformed {
            true => other.data.unalias().alias_qualified(relation, name),
            false => other.data,
        })
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    nodes::project(rows, exprs).map(Some)
}

/// `None` when what the sessions are partitioned by is not among the columns.
fn sessions(
    projection: &Projection,
    keys: &[Expr],
    registry: &dyn FunctionRegistry,
) -> Result<Option<LogicalPlan>> {
    let exprs = &projection.expr;
    let place = |key| exprs.iter().position(|expr| unaliased(expr) == key);
    let Some(mut places) = keys.iter().map(place).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    places.extend((0..exprs.len()).filter(|i| marker(&exprs[*i]).is_some()));
    let input = LogicalPlan::Projection(projection.clone());
    over::rows_of(&input, places, registry).map(Some)
}

/// The ends of all windows of a row (in a list, the earliest first), or a part of the window that ends
/// then, by the arguments of a marker.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowWindows {
    kind: Kind,
    part: Option<Part>,
    name: String,
    signature: Signature,
}

impl RowWindows {
    fn new(kind: Kind, part: Option<Part>) -> Self {
        let name = match part {
            Some(part) => format!("{}_of_end", Marker::name_of(kind, part)),
            None => format!("{}s", Marker::name_of(kind, Part::End)),
        };
        Self {
            kind,
            part,
            name,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for RowWindows {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Some(_) => markers::MICROS,
            None => DataType::List(Arc::new(Field::new_list_field(markers::MICROS, true))),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (assign, times) = markers::evaluated(self.kind, &args)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let result: ArrayRef = match self.part {
            Some(part) => Arc::new(times.unary::<_, TimestampMicrosecondType>(|end| {
                markers::value(part, assign.start_of(end), end)
            })),
            None => {
                let mut lists = ListBuilder::new(TimestampMicrosecondBuilder::new());
                for time in times {
                    let Some(time) = time else {
                        lists.append_null();
                        continue;
                    };
                    for end in ends(&assign, time) {
                        lists.values().append_value(end);
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
        };
        debug_assert_eq!(result.len(), args.number_rows);
        Ok(ColumnarValue::Array(result))
    }
}

/// The ends of the windows that hold a row.
fn ends(assign: &Assign, time: i64) -> impl Iterator<Item = i64> {
    let pane = assign.pane_of(time);
    let next = move |end: &i64| assign.next_end(pane, *end);
    std::iter::successors(Some(assign.first_end(pane)), next)
}
