//! Windows of rows that no GROUP BY (or DISTINCT, OVER, JOIN) by the window takes together:
//!
//! | query | becomes |
//! |---|---|
//! | `SELECT * FROM HOP(…)` or `CUMULATE(…)` | the row once for each of its windows: an UNNEST of their ends |
//! | `SELECT * FROM SESSION(… PARTITION BY k …)` | the rows of closed sessions: a GROUP BY that keeps them in lists |
//!
//! A tumbling window's columns are functions of the row. The plan is one that is not optimised yet: else
//! columns that nobody reads, and with them the number of rows, would be gone.

mod groups;

use super::markers::{self, Kind, Marker, Part};
use super::nodes::{self, unaliased};
use super::over;
use crate::window::Assign;
use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, not_impl_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::logical_plan::Projection;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use groups::marker;
pub(super) use groups::{window, window_of};

/// Rewrites a plan and its subqueries.
pub fn rewrite(plan: LogicalPlan, registry: &dyn FunctionRegistry) -> Result<LogicalPlan> {
    Visit {
        registry,
        outer: None,
    }
    .visit(plan, &[], Above::Rows)
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

struct Visit<'a> {
    registry: &'a dyn FunctionRegistry,
    /// In a subquery: the rows that it is asked for.
    outer: Option<&'a LogicalPlan>,
}

impl Visit<'_> {
    /// `groups`: the columns of `plan` by which what is above it groups rows.
    fn visit(&self, plan: LogicalPlan, groups: &[usize], above: Above) -> Result<LogicalPlan> {
        let plan = match &plan {
            LogicalPlan::Projection(projection) => {
                match single(projection, groups, above, self.registry)? {
                    Some(rows) => return self.visit(rows, groups, above),
                    None => plan,
                }
            }
            _ => plan,
        };
        let above = match plan {
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Above::Groups,
            LogicalPlan::Limit(_) if above == Above::Rows => Above::Limit,
            _ => above,
        };
        let below = groups::below(&plan, groups, self.outer)?;
        let outer = plan.inputs().first().map(|input| (*input).clone());
        let plan = plan.map_subqueries(|subquery| {
            let visit = Visit {
                registry: self.registry,
                outer: outer.as_ref(),
            };
            Ok(Transformed::yes(visit.visit(subquery, &[], Above::Rows)?))
        })?;
        let mut input = 0;
        let rewritten = plan.data.map_children(|child| {
            let child = self.visit(child, &below[input], above)?;
            input += 1;
            Ok(Transformed::yes(child))
        });
        Ok(rewritten?.data)
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

/// Whether a function gives a column of the window that a row stands in.
pub(super) fn gives_window(function: &ScalarUDF) -> bool {
    let inner = function.inner().downcast_ref::<RowWindows>();
    inner.is_some_and(|of| of.part.is_some())
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
