//! Window assignment as functions that survive the optimiser.
//!
//! Every spelling of a window becomes calls of these functions. For a tumbling window they are
//! ordinary functions, so the same SQL also runs as a batch query. A sliding window gives one
//! row several windows, which no scalar function can: these markers are volatile, so that no
//! rule moves or merges them, and the cut (see [`super::cut`]) takes them out of the plan.

use super::errors::in_sql;
use crate::table::sql_name;
use crate::window::Assign;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Which of a window's columns a marker stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Start,
    End,
    /// End less a millisecond, as Flink's `window_time`.
    Time,
}

/// All of them.
pub const PARTS: [Part; 3] = [Part::Start, Part::End, Part::Time];

/// The name of a window's column.
pub fn name(part: Part) -> &'static str {
    match part {
        Part::Start => "window_start",
        Part::End => "window_end",
        Part::Time => "window_time",
    }
}

/// Order of the arguments behind the time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// size, offset?
    Tumble,
    /// slide, size, offset?
    Hop,
    /// size, slide, offset? (Spark)
    SparkHop,
    /// step, size, offset?
    Cumulate,
    /// gap: the sessions of each group
    Session,
    /// gap, columns…: the sessions of each combination of these, which must be the groups
    SessionBy,
}

impl Kind {
    /// How many arguments behind the time say which windows; the others are columns.
    pub fn constants(self, args: usize) -> usize {
        match self {
            Kind::Session | Kind::SessionBy => args.min(1),
            _ => args,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    pub kind: Kind,
    pub part: Part,
    name: String,
    signature: Signature,
}

pub const PREFIX: &str = "__window_";

impl Marker {
    pub fn name_of(kind: Kind, part: Part) -> String {
        let kind = match kind {
            Kind::Tumble => "tumble",
            Kind::Hop => "hop",
            Kind::SparkHop => "spark_hop",
            Kind::Cumulate => "cumulate",
            Kind::Session => "session",
            Kind::SessionBy => "session_by",
        };
        let part = match part {
            Part::Start => "start",
            Part::End => "end",
            Part::Time => "time",
        };
        format!("{PREFIX}{kind}_{part}")
    }

    fn new(kind: Kind, part: Part) -> Self {
        let volatility = if kind == Kind::Tumble {
            Volatility::Immutable
        } else {
            Volatility::Volatile
        };
        Self {
            kind,
            part,
            name: Self::name_of(kind, part),
            signature: Signature::variadic_any(volatility),
        }
    }

    /// Whether the window can be, as far as its arguments are known.
    fn check(&self, args: &ReturnFieldArgs) -> Result<()> {
        match args.arg_fields.first().map(|f| f.data_type()) {
            Some(DataType::Timestamp(..)) => {}
            Some(other) if args.scalar_arguments[0].is_some() => {
                return plan_err!(
                    "the time of a window must be a column, but {} is a constant {}\nhint: write the name of the time's column, without single quotes",
                    in_sql(args.arg_fields[0].name()),
                    sql_name(other)
                );
            }
            Some(other) => {
                let name = args.arg_fields[0].name();
                return plan_err!(
                    "the time of a window must be a TIMESTAMP, but '{name}' is {}\nhint: convert it in a computed column, e.g. ts AS TO_TIMESTAMP({name})",
                    sql_name(other)
                );
            }
            None => return plan_err!("a window needs a time column and a size"),
        }
        // Intervals are literals only after constant folding; then `assign` is called again.
        let constants = self.kind.constants(args.scalar_arguments.len() - 1);
        let constants = &args.scalar_arguments[1..=constants];
        if constants.iter().all(|a| a.is_some()) {
            let values: Vec<ScalarValue> =
                constants.iter().flatten().map(|v| (*v).clone()).collect();
            assign(self.kind, &values)?;
        }
        Ok(())
    }
}

/// A window that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BadWindow {
    reason: DataFusionError,
    /// The name of the marker.
    pub marker: String,
}

/// All markers, to be registered.
pub fn all() -> impl Iterator<Item = ScalarUDF> {
    let kinds = [
        Kind::Tumble,
        Kind::Hop,
        Kind::SparkHop,
        Kind::Cumulate,
        Kind::Session,
        Kind::SessionBy,
    ];
    kinds.into_iter().flat_map(move |k| {
        PARTS
            .into_iter()
            .map(move |p| ScalarUDF::from(Marker::new(k, p)))
    })
}

/// The type of a window's columns.
pub const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(MICROS)
    }

    /// Checks the window's sizes while planning, where the message can carry a position.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<arrow::datatypes::FieldRef> {
        self.check(&args).map_err(|reason| {
            let marker = self.name.clone();
            DataFusionError::External(Box::new(BadWindow { reason, marker }))
        })?;
        Ok(Arc::new(arrow::datatypes::Field::new(
            &self.name,
            MICROS,
            args.arg_fields[0].is_nullable(),
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (assign, times) = evaluated(self.kind, &args)?;
        if !assign.is_tumbling() {
            return exec_err!("windows that a row is not alone in cannot be computed row by row");
        }
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let result: ArrayRef = Arc::new(times.unary::<_, TimestampMicrosecondType>(|t| {
            let end = assign.first_end(assign.pane_of(t));
            value(self.part, assign.start_of(end), end)
        }));
        debug_assert_eq!(result.len(), args.number_rows);
        Ok(ColumnarValue::Array(result))
    }
}

/// What a marker is called with: the windows, and the times in microseconds.
pub fn evaluated(kind: Kind, args: &ScalarFunctionArgs) -> Result<(Assign, ArrayRef)> {
    let constants = kind.constants(args.args.len() - 1);
    let constants = args.args[1..=constants].iter().map(|a| match a {
        ColumnarValue::Scalar(s) => Ok(s.clone()),
        ColumnarValue::Array(_) => exec_err!("the size of a window must be a constant"),
    });
    let assign = assign(kind, &constants.collect::<Result<Vec<_>>>()?)?;
    let times = args.args[0].clone().into_array(args.number_rows)?;
    Ok((assign, arrow::compute::cast(&times, &MICROS)?))
}

/// The marker that a call is of.
pub fn of(call: &ScalarFunction) -> Option<&Marker> {
    call.func.inner().downcast_ref()
}

/// The columns that a plan has windows over.
pub fn times(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names = Vec::new();
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && of(call).is_some()
                    && let Some(Expr::Column(time)) = call.args.first()
                {
                    names.push(time.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(names)
}

/// Whether some part of an expression is a window's column.
pub fn has_marker(expr: &Expr) -> bool {
    let is_marker = |e: &Expr| matches!(e, Expr::ScalarFunction(call) if of(call).is_some());
    expr.exists(|e| Ok(is_marker(e))).unwrap_or(true)
}

/// The value of one of a window's columns, in microseconds.
pub fn value(part: Part, start: i64, end: i64) -> i64 {
    match part {
        Part::Start => start,
        Part::End => end,
        Part::Time => end.saturating_sub(1000),
    }
}

/// The windows that a marker's constant arguments (all but the time) describe.
pub fn assign(kind: Kind, args: &[ScalarValue]) -> Result<Assign> {
    let us = args.iter().map(interval_us).collect::<Result<Vec<_>>>()?;
    let (size, slide, offset) = match (kind, us.as_slice()) {
        (Kind::Tumble, [size]) => (*size, *size, 0),
        (Kind::Tumble, [size, offset]) => (*size, *size, *offset),
        (Kind::Cumulate, [step, size]) => return cumulating(*size, *step, 0),
        (Kind::Cumulate, [step, size, offset]) => return cumulating(*size, *step, *offset),
        (Kind::Hop, [slide, size]) => (*size, *slide, 0),
        (Kind::Hop, [slide, size, offset]) => (*size, *slide, *offset),
        (Kind::SparkHop, [size]) => (*size, *size, 0),
        (Kind::SparkHop, [size, slide]) => (*size, *slide, 0),
        (Kind::SparkHop, [size, slide, offset]) => (*size, *slide, *offset),
        (Kind::Session | Kind::SessionBy, [gap]) => return session(*gap),
        (Kind::Session | Kind::SessionBy, _) => {
            return plan_err!(
                "SESSION takes a table (with PARTITION BY), DESCRIPTOR(time) and a gap; session_window() a time and a gap"
            );
        }
        (Kind::Tumble, _) => {
            return plan_err!(
                "TUMBLE takes a table, DESCRIPTOR(time), size and an optional offset"
            );
        }
        (Kind::Hop, _) => {
            return plan_err!(
                "HOP takes a table, DESCRIPTOR(time), slide, size and an optional offset"
            );
        }
        (Kind::Cumulate, _) => {
            return plan_err!(
                "CUMULATE takes a table, DESCRIPTOR(time), step, size and an optional offset"
            );
        }
        (Kind::SparkHop, _) => {
            return plan_err!("window() takes a time, size, slide and an optional start");
        }
    };
    if size <= 0 || slide <= 0 {
        return plan_err!("the size and the slide of a window must be longer than 0");
    }
    match Assign::fixed(size, slide, offset) {
        Some(assign) => few_enough(assign, size / slide),
        None if kind == Kind::SparkHop => {
            plan_err!(
                "the slide of a window must not be longer than its size\nhint: window() takes (time, size, slide), HOP takes (slide, size)"
            )
        }
        None => plan_err!(
            "the slide of a window must not be longer than its size\nhint: HOP takes (slide, size), window() takes (time, size, slide)"
        ),
    }
}

/// Of each row so many windows are shown at most.
const WINDOWS_MAX: i64 = 1_000_000;

fn few_enough(assign: Assign, windows: i64) -> Result<Assign> {
    if windows > WINDOWS_MAX {
        return plan_err!(
            "each row would be in {windows} windows, and {WINDOWS_MAX} are the most\nhint: use a longer slide (or step), or a shorter size"
        );
    }
    Ok(assign)
}

fn session(gap: i64) -> Result<Assign> {
    match Assign::session(gap) {
        Some(assign) => Ok(assign),
        None => plan_err!("the gap of a session must be longer than 0"),
    }
}

fn cumulating(size: i64, step: i64, offset: i64) -> Result<Assign> {
    if size <= 0 || step <= 0 {
        return plan_err!("the step and the size of a window must be longer than 0");
    }
    match Assign::cumulating(size, step, offset) {
        Some(assign) => few_enough(assign, size / step),
        None => plan_err!(
            "the size of CUMULATE must be a multiple of its step\nhint: it takes (step, size), in this order"
        ),
    }
}

/// A constant length of time: an interval, or Spark's text (`'10 seconds'`, `'1 hour 30 minutes'`).
pub fn interval_us(value: &ScalarValue) -> Result<i64> {
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) => (i.months, i.days, i.nanoseconds),
        ScalarValue::IntervalDayTime(Some(i)) => (0, i.days, i64::from(i.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(m)) => (*m, 0, 0),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => {
            return text_us(text);
        }
        other => {
            return plan_err!(
                "expected a constant interval, found {other}\nhint: write for example INTERVAL '10' SECOND"
            );
        }
    };
    if months != 0 {
        return plan_err!(
            "months and years have no fixed length\nhint: use days, or group by a calendar expression such as date_trunc('month', ts)"
        );
    }
    if nanos % 1000 != 0 {
        return plan_err!("a window's size must be a whole number of microseconds");
    }
    Ok(i64::from(days) * 86_400_000_000 + nanos / 1000)
}

fn text_us(text: &str) -> Result<i64> {
    let lower = text.trim().to_lowercase();
    let words: Vec<&str> = lower
        .strip_prefix("interval ")
        .unwrap_or(&lower)
        .split_whitespace()
        .collect();
    let pairs: Vec<String> = match words.as_slice() {
        [one] => vec![one.to_string()],
        many if many.len() % 2 == 0 => many.chunks(2).map(|p| p.join(" ")).collect(),
        _ => vec![],
    };
    let mut total = 0i64;
    for pair in &pairs {
        if pair.contains("month") || pair.contains("year") {
            return plan_err!("months and years have no fixed length\nhint: use days");
        }
        let (negative, pair) = pair
            .strip_prefix('-')
            .map_or((false, pair.as_str()), |p| (true, p));
        let pair = pair.replace("weeks", "week");
        let (pair, factor) = match pair.strip_suffix("week") {
            Some(n) => (format!("{n} days"), 7),
            None => (pair, 1),
        };
        match crate::options::parse_duration(&pair) {
            Some(d) if pair.chars().any(|c| c.is_alphabetic()) => {
                let us = d.as_micros() as i64 * factor;
                total += if negative { -us } else { us };
            }
            _ => {
                return plan_err!(
                    "'{text}' is no length of time\nhint: write for example '10 seconds'"
                );
            }
        }
    }
    if pairs.is_empty() {
        return plan_err!("'{text}' is no length of time\nhint: write for example '10 seconds'");
    }
    Ok(total)
}
