//! What a registered function cannot change: expressions that DataFusion plans by itself.
//! An analyzer rule puts windrow's functions in their place, before types are coerced.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, prep_null_mask_filter};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::{Case, ScalarFunction};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::type_coercion::binary::type_union_resolution;
use datafusion_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TryCast, Volatility,
};

use super::udf::{Call, Kind, Param, Spec, TIMESTAMP, param};

const TIME: &[Param] = &[param("timestamp", Kind::Text)];

/// A timestamp as Flink and Spark print it; arrow's cast writes a `T`.
pub(super) static FUNCTIONS: [Spec; 1] = [Spec::new(
    "windrow_timestamp_to_string",
    TIME,
    DataType::Utf8View,
    timestamp_to_string,
)];

fn timestamp_to_string(call: &Call) -> Result<ArrayRef> {
    // Parameters of kind text arrive as the text of their timestamp.
    call.text(0)?;
    Ok(Arc::clone(call.array(0)))
}

/// The functions that rewritten expressions call.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub substr: Arc<ScalarUDF>,
    pub to_unix_timestamp: Arc<ScalarUDF>,
    pub timestamp_to_string: Arc<ScalarUDF>,
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
        let call = |function: &Arc<ScalarUDF>, args| {
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
        };
        match expr {
            Expr::ScalarFunction(f) if f.func.name() == "substr" && f.func != self.substr => {
                Ok(Transformed::yes(call(&self.substr, f.args)))
            }
            Expr::ScalarFunction(f) if f.func.name() == "unix_timestamp" && !f.args.is_empty() => {
                Ok(Transformed::yes(call(&self.to_unix_timestamp, f.args)))
            }
            Expr::ScalarFunction(f) if f.func.name() == If::NAME => {
                let mut args = f.args.into_iter().map(Box::new);
                match (args.next(), args.next(), args.next()) {
                    (Some(condition), Some(then), otherwise) => Ok(Transformed::yes(Expr::Case(
                        Case::new(None, vec![(condition, then)], otherwise),
                    ))),
                    _ => plan_err!("IF takes a condition and two values"),
                }
            }
            Expr::Cast(Cast { expr, field }) if to_text(&expr, field.data_type(), schema) => {
                let text = call(&self.timestamp_to_string, vec![*expr]);
                let cast = Expr::Cast(Cast::new_from_field(Box::new(text), field));
                Ok(Transformed::yes(cast))
            }
            Expr::TryCast(TryCast { expr, field }) if to_text(&expr, field.data_type(), schema) => {
                let text = call(&self.timestamp_to_string, vec![*expr]);
                let cast = Expr::Cast(Cast::new_from_field(Box::new(text), field));
                Ok(Transformed::yes(cast))
            }
            Expr::Cast(cast) if cuts_precision(cast.field.data_type()) => {
                let cut = Box::new(Expr::Cast(cast));
                Ok(Transformed::yes(Expr::Cast(Cast::new(cut, TIMESTAMP))))
            }
            Expr::TryCast(cast) if cuts_precision(cast.field.data_type()) => {
                let cut = Box::new(Expr::TryCast(cast));
                Ok(Transformed::yes(Expr::TryCast(TryCast::new(
                    cut, TIMESTAMP,
                ))))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// `TIMESTAMP(3)` and `TIMESTAMP(0)`: the value is cut to them, and goes on as microseconds.
fn cuts_precision(target: &DataType) -> bool {
    matches!(
        target,
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Second, None)
    )
}

/// Whether `expr` is a timestamp and `target` text. An expression whose type cannot be told here
/// is reported by the planner's own rules.
fn to_text(expr: &Expr, target: &DataType, schema: &DFSchema) -> bool {
    target.is_string() && matches!(expr.get_type(schema), Ok(DataType::Timestamp(..)))
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
            return plan_err!("IF: argument 1 (condition) takes a boolean, not {condition}");
        }
        match type_union_resolution(&[then.clone(), otherwise.clone()]) {
            Some(common) => Ok(vec![DataType::Boolean, common.clone(), common]),
            None => plan_err!("IF: arguments 2 and 3 have no common type: {then}, {otherwise}"),
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
        let mask = match condition.null_count() {
            0 => condition.as_boolean().clone(),
            _ => prep_null_mask_filter(condition.as_boolean()),
        };
        let chosen = zip(&mask, then, otherwise)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &chosen, 0,
            )?));
        }
        Ok(ColumnarValue::Array(chosen))
    }
}
