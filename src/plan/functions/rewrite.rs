//! What a registered function cannot change: expressions that DataFusion plans by itself.
//! An analyzer rule puts windrow's functions in their place, before types are coerced.

mod casts;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::{AggregateFunction, Case, ScalarFunction};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::type_coercion::binary::type_union_resolution;
use datafusion_expr::{
    AggregateUDF, BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TryCast, Volatility, lit,
};

pub(super) use self::casts::FUNCTIONS;
use self::casts::is_cast_otherwise;
use super::instant::CUT_TIME;
use crate::batches::only_true;
use crate::plan::physical::is_ordered;
use crate::table::{EVENT_TIME, sql_name};

/// The functions that rewritten expressions call.
#[derive(Debug)]
pub(super) struct Rewrite {
    substr: Arc<ScalarUDF>,
    to_unix_timestamp: Arc<ScalarUDF>,
    timestamp_to_string: Arc<ScalarUDF>,
    double_to_string: Arc<ScalarUDF>,
    whole_part: Arc<ScalarUDF>,
    double_bits: Arc<ScalarUDF>,
    to_timestamp: Arc<ScalarUDF>,
    map_extract: Arc<ScalarUDF>,
    array_element: Arc<ScalarUDF>,
    similar: Arc<ScalarUDF>,
    day_of_week: Arc<ScalarUDF>,
    millisecond: Arc<ScalarUDF>,
    microsecond: Arc<ScalarUDF>,
    nanosecond: Arc<ScalarUDF>,
    unix_seconds: Arc<ScalarUDF>,
    left: Arc<ScalarUDF>,
    rpad: Arc<ScalarUDF>,
    cut_time: Arc<ScalarUDF>,
    array_reverse: Arc<ScalarUDF>,
    array_to_string: Arc<ScalarUDF>,
    nullif: Arc<ScalarUDF>,
    named_struct: Arc<ScalarUDF>,
    first_value: Arc<AggregateUDF>,
}

impl Rewrite {
    /// With the functions of `registry`, which has windrow's.
    pub fn new(registry: &dyn FunctionRegistry) -> Result<Self> {
        Ok(Self {
            substr: registry.udf("substr")?,
            to_unix_timestamp: registry.udf("to_unix_timestamp")?,
            timestamp_to_string: registry.udf("windrow_timestamp_to_string")?,
            double_to_string: registry.udf("windrow_double_to_string")?,
            whole_part: registry.udf("windrow_whole_part")?,
            double_bits: registry.udf("windrow_double_bits")?,
            to_timestamp: registry.udf("to_timestamp")?,
            map_extract: registry.udf("map_extract")?,
            array_element: registry.udf("array_element")?,
            similar: registry.udf("windrow_similar")?,
            day_of_week: registry.udf("dayofweek")?,
            millisecond: registry.udf("windrow_millisecond")?,
            microsecond: registry.udf("windrow_microsecond")?,
            nanosecond: registry.udf("windrow_nanosecond")?,
            unix_seconds: registry.udf("unix_seconds")?,
            left: registry.udf("left")?,
            rpad: registry.udf("rpad")?,
            cut_time: registry.udf(CUT_TIME)?,
            array_reverse: registry.udf("array_reverse")?,
            array_to_string: registry.udf("array_to_string")?,
            nullif: registry.udf("nullif")?,
            named_struct: registry.udf("named_struct")?,
            first_value: registry.udaf("first_value")?,
        })
    }

    /// Values as one, which is NULL where one of them is: what `COUNT(DISTINCT a, b)` counts.
    fn together(&self, values: &[Expr], schema: &DFSchema) -> Expr {
        let one = |value: &Expr| one_zero(value, schema).unwrap_or_else(|| value.clone());
        let fields = values.iter().enumerate();
        let fields = fields.flat_map(|(i, value)| [lit(format!("c{i}")), one(value)]);
        let row = call(&self.named_struct, fields.collect());
        let known = values.iter().map(|value| value.clone().is_not_null());
        let all = known.reduce(|all, known| all.and(known));
        let chosen = all.map(|all| (Box::new(all), Box::new(row)));
        Expr::Case(Case::new(None, chosen.into_iter().collect(), None))
    }

    /// A function that takes one of its rows, or lists them in an order, with an order that says which: the
    /// event time behind its own order, then the value. Else it depends on which row came first, from
    /// whichever partition.
    fn ordered(
        &self,
        mut f: AggregateFunction,
        schema: &DFSchema,
    ) -> Result<Transformed<AggregateFunction>> {
        let name = f.func.name();
        let takes_one = ["first_value", "last_value", "any_value"].contains(&name);
        let lists = ["array_agg", "string_agg"].contains(&name)
            && !f.params.order_by.is_empty()
            && !f.params.distinct;
        let (Some(value), true) = (f.params.args.first().cloned(), takes_one || lists) else {
            return Ok(Transformed::no(f));
        };
        let mut columns = schema.iter();
        let time = columns.find(|(_, field)| field.metadata().contains_key(EVENT_TIME));
        let time =
            time.map(|(table, field)| Expr::Column(Column::new(table.cloned(), field.name())));
        if time.is_none() && f.params.order_by.is_empty() {
            // In the order in which rows come: there is no other.
            return Ok(Transformed::no(f));
        }
        if name == "any_value" {
            f.func = Arc::clone(&self.first_value);
        }
        // That of a NTH_VALUE without an order, which says nothing.
        (f.params.order_by).retain(|by| by.expr.as_literal().is_none());
        let is_ordered = is_ordered(&value.get_type(schema)?);
        for expr in time.into_iter().chain(is_ordered.then_some(value)) {
            if f.params.order_by.iter().all(|known| known.expr != expr) {
                f.params.order_by.push(expr.sort(true, true));
            }
        }
        Ok(Transformed::yes(f))
    }

    /// Calls of DataFusion's functions that mean something else there; `None` for all others.
    fn other_call(&self, f: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
        let args = || f.args.clone();
        Ok(match (f.func.name(), f.args.as_slice()) {
            ("substr", _) if f.func != self.substr => Some(call(&self.substr, args())),
            ("unix_timestamp", [_, ..]) => Some(call(&self.to_unix_timestamp, args())),
            (If::NAME, [condition, then, otherwise @ ..]) => {
                let boxed = |expr: &Expr| Box::new(expr.clone());
                let chosen = vec![(boxed(condition), boxed(then))];
                let otherwise = otherwise.first().map(boxed);
                Some(Expr::Case(Case::new(None, chosen, otherwise)))
            }
            (If::NAME, _) => return plan_err!("IF takes a condition and two values"),
            ("date_part", [unit, time]) => {
                let field = match lower_literal(unit).as_deref() {
                    Some("dow" | "dayofweek") => &self.day_of_week,
                    Some("millisecond" | "milliseconds") => &self.millisecond,
                    Some("microsecond" | "microseconds") => &self.microsecond,
                    Some("nanosecond" | "nanoseconds") => &self.nanosecond,
                    Some("epoch") if is_time(time, schema) => &self.unix_seconds,
                    _ => return Ok(None),
                };
                Some(call(field, vec![time.clone()]))
            }
            ("greatest" | "least", [first, others @ ..]) => {
                let null = |expr: &Expr| expr.clone().is_null();
                let any = others
                    .iter()
                    .fold(null(first), |any, arg| any.or(null(arg)));
                let chosen = vec![(Box::new(any), Box::new(lit(ScalarValue::Null)))];
                let otherwise = Some(Box::new(Expr::ScalarFunction(f.clone())));
                Some(Expr::Case(Case::new(None, chosen, otherwise)))
            }
            ("get_field", [map, key]) => {
                if key.as_literal().is_none() && is_map(map, schema) {
                    let found = call(&self.map_extract, args());
                    return Ok(Some(call(&self.array_element, vec![found, lit(1_i64)])));
                }
                let Some(key) = map_key(map, key, schema) else {
                    return Ok(None);
                };
                Some(call(&f.func, vec![map.clone(), key]))
            }
            ("concat_ws", [separator, values @ ..]) => {
                let of_value = |value: &Expr| match is_list(value, schema) {
                    // As in Spark its elements, of which an empty list has none.
                    true => {
                        let args = vec![value.clone(), separator.clone()];
                        call(
                            &self.nullif,
                            vec![call(&self.array_to_string, args), lit("")],
                        )
                    }
                    false => self.text(value.clone(), schema),
                };
                let texts = values.iter().map(of_value);
                let separator = self.text(separator.clone(), schema);
                let args = std::iter::once(separator).chain(texts).collect();
                Some(call(&f.func, args))
            }
            ("reverse", [list]) if is_list(list, schema) => Some(call(&self.array_reverse, args())),
            ("encode" | "decode", [value, charset]) => {
                if !is_utf8(charset)? {
                    return Ok(None);
                }
                let target = match f.func.name() {
                    "encode" => DataType::Binary,
                    _ => DataType::Utf8View,
                };
                Some(Expr::Cast(Cast::new(Box::new(value.clone()), target)))
            }
            _ => None,
        })
    }
}

/// The literal `key` as the type of the keys of `map`, if it is another text type: DataFusion compares
/// them as they are.
fn map_key(map: &Expr, key: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Ok(DataType::Map(entries, _)) = map.get_type(schema) else {
        return None;
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return None;
    };
    let literal = key.as_literal()?;
    let (given, expected) = (literal.data_type(), fields.first()?.data_type());
    let differ = given.is_string() && expected.is_string() && given != *expected;
    if !differ {
        return None;
    }
    literal.cast_to(expected).ok().map(lit)
}

fn is_map(expr: &Expr, schema: &DFSchema) -> bool {
    let data_type = expr.get_type(schema);
    data_type.is_ok_and(|t| matches!(t, DataType::Map(..)))
}

fn is_list(expr: &Expr, schema: &DFSchema) -> bool {
    let data_type = expr.get_type(schema);
    data_type.is_ok_and(|t| {
        matches!(
            t,
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
        )
    })
}

fn is_time(expr: &Expr, schema: &DFSchema) -> bool {
    let data_type = expr.get_type(schema);
    data_type.is_ok_and(|t| matches!(t, DataType::Timestamp(..) | DataType::Date32))
}

/// A double, with 0 for -0: they are equal, but DataFusion tells distinct values by their bits.
fn one_zero(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let zero = match expr.get_type(schema) {
        Ok(DataType::Float64) => lit(0.0_f64),
        Ok(DataType::Float32) => lit(0.0_f32),
        _ => return None,
    };
    Some(expr.clone() + zero)
}

/// The text of a literal, in lower case.
fn lower_literal(expr: &Expr) -> Option<String> {
    let text = expr.as_literal()?.try_as_str()??;
    Some(text.to_ascii_lowercase())
}

/// Whether the second argument of ENCODE or DECODE is UTF-8, a character set (Flink, Spark), and no
/// spelling of bytes as text (DataFusion).
fn is_utf8(charset: &Expr) -> Result<bool> {
    match lower_literal(charset).as_deref() {
        Some("utf-8" | "utf8") => Ok(true),
        Some("base64" | "base64pad" | "hex") => Ok(false),
        Some(other) => plan_err!("ENCODE and DECODE know no {other}, only utf-8, base64 and hex"),
        None => Ok(false),
    }
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
}

impl FunctionRewrite for Rewrite {
    fn name(&self) -> &str {
        "windrow_functions"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(f) => Ok(match self.other_call(&f, schema)? {
                Some(other) => Transformed::yes(other),
                None => Transformed::no(Expr::ScalarFunction(f)),
            }),
            Expr::AggregateFunction(mut f) if f.func.name() == "count" && f.params.distinct => {
                let counted = match f.params.args.as_slice() {
                    [one] => one_zero(one, schema),
                    several => Some(self.together(several, schema)),
                };
                let is_other = counted.is_some();
                if let Some(counted) = counted {
                    f.params.args = vec![counted];
                }
                let f = Expr::AggregateFunction(f);
                Ok(Transformed::new_transformed(f, is_other))
            }
            Expr::AggregateFunction(mut f) if f.func.name() == "approx_distinct" => {
                // It knows no doubles.
                let [value] = f.params.args.as_slice() else {
                    return Ok(Transformed::no(Expr::AggregateFunction(f)));
                };
                let is_float = value.get_type(schema).is_ok_and(|t| t.is_floating());
                if is_float {
                    f.params.args = vec![call(&self.double_bits, vec![value.clone()])];
                }
                let f = Expr::AggregateFunction(f);
                Ok(Transformed::new_transformed(f, is_float))
            }
            Expr::AggregateFunction(f) => {
                let ordered = self.ordered(f, schema)?;
                Ok(ordered.update_data(Expr::AggregateFunction))
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::StringConcat,
                right,
            }) => {
                let [left, right] = [*left, *right].map(|side| Box::new(self.text(side, schema)));
                let op = Operator::StringConcat;
                let both = BinaryExpr { left, op, right };
                Ok(Transformed::yes(Expr::BinaryExpr(both)))
            }
            Expr::SimilarTo(like) => {
                let mut args = vec![*like.expr, *like.pattern];
                args.extend(like.escape_char.map(|c| lit(c.to_string())));
                let similar = call(&self.similar, args);
                Ok(Transformed::yes(match like.negated {
                    true => !similar,
                    false => similar,
                }))
            }
            Expr::Cast(Cast { expr, field }) if is_cast_otherwise(&field) => {
                self.cast(*expr, &field, schema, |expr, target| {
                    Expr::Cast(Cast::new(Box::new(expr), target))
                })
            }
            Expr::TryCast(TryCast { expr, field }) if is_cast_otherwise(&field) => {
                self.cast(*expr, &field, schema, |expr, target| {
                    Expr::TryCast(TryCast::new(Box::new(expr), target))
                })
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// IF(condition, then, otherwise). It becomes a CASE, so that only the chosen value is computed;
/// evaluated as it is, it computes both.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct If {
    signature: Signature,
    aliases: Vec<String>,
}

impl If {
    const NAME: &str = "if";

    pub fn new() -> Self {
        If {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["iff".to_string()],
        }
    }
}

impl ScalarUDFImpl for If {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn short_circuits(&self) -> bool {
        true
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [condition, then, otherwise] = arg_types else {
            return plan_err!("IF takes 3 arguments, not {}", arg_types.len());
        };
        if !matches!(condition, DataType::Boolean | DataType::Null) {
            return plan_err!(
                "IF: argument 1 (condition) takes a boolean, not {}",
                sql_name(condition)
            );
        }
        match type_union_resolution(&[then.clone(), otherwise.clone()]) {
            Some(common) => Ok(vec![DataType::Boolean, common.clone(), common]),
            None => plan_err!(
                "IF: arguments 2 and 3 have no common type: {}, {}",
                sql_name(then),
                sql_name(otherwise)
            ),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match self.coerce_types(arg_types)?.pop() {
            Some(common) => Ok(common),
            None => plan_err!("IF takes 3 arguments"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|a| a.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let [condition, then, otherwise] = arrays.as_slice() else {
            return plan_err!("IF takes 3 arguments, not {}", arrays.len());
        };
        let condition = cast(condition, &DataType::Boolean)?;
        // A NULL condition chooses the second value.
        let mask = only_true(condition.as_boolean());
        let chosen = zip(&mask, then, otherwise)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &chosen, 0,
            )?));
        }
        Ok(ColumnarValue::Array(chosen))
    }
}
