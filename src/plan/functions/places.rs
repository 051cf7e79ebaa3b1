//! Aggregates that are something else before the query's aggregates are looked for.

use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawFieldAccessExpr};
use datafusion_expr::{Expr, GetFieldAccess, lit};
use datafusion_functions_aggregate::array_agg::array_agg_udaf;
use datafusion_functions_nested::expr_fn::array_element;

/// `NTH_VALUE(x, n)` is `ARRAY_AGG(x ORDER BY …)[n]`: NULL where there is no such row, from the end for a
/// negative `n`. DataFusion's takes the row that came as the n-th, whatever its ORDER BY, and is what
/// DataFusion makes of `ARRAY_AGG(x)[n]`, too.
#[derive(Debug)]
pub struct Places;

impl ExprPlanner for Places {
    fn plan_aggregate(&self, raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        // The planner's own words for `*`.
        #[expect(deprecated)]
        let is_all = matches!(raw.args.as_slice(), [Expr::Wildcard { .. }]);
        match raw.func.name() {
            "count" if raw.distinct && is_all => plan_err!(
                "COUNT(DISTINCT *) has no columns: name those whose combinations are counted, like COUNT(DISTINCT a, b)"
            ),
            "nth_value" => nth_value(raw).map(PlannerResult::Planned),
            _ => Ok(PlannerResult::Original(raw)),
        }
    }

    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        match raw {
            RawFieldAccessExpr {
                expr: Expr::AggregateFunction(list),
                field_access: GetFieldAccess::ListIndex { key },
            } if list.func.name() == "array_agg" => {
                let element = array_element(Expr::AggregateFunction(list), *key);
                Ok(PlannerResult::Planned(element))
            }
            other => Ok(PlannerResult::Original(other)),
        }
    }
}

fn nth_value(raw: RawAggregateExpr) -> Result<Expr> {
    let original = Expr::AggregateFunction(AggregateFunction::new_udf(
        raw.func,
        raw.args.clone(),
        raw.distinct,
        raw.filter.clone(),
        raw.order_by.clone(),
        raw.null_treatment,
    ));
    let [value, place] = raw.args.as_slice() else {
        return plan_err!("NTH_VALUE takes a value and a place, like NTH_VALUE(x, 2)");
    };
    let order_by = match raw.order_by.is_empty() {
        // The analyzer rule puts the event time and the value behind it.
        true if !raw.distinct => vec![lit(true).sort(true, true)],
        true => vec![value.clone().sort(true, true)],
        false => raw.order_by,
    };
    let list = Expr::AggregateFunction(AggregateFunction::new_udf(
        array_agg_udaf(),
        vec![value.clone()],
        raw.distinct,
        raw.filter,
        order_by,
        raw.null_treatment,
    ));
    let name = NamePreserver::new_for_projection().save(&original);
    Ok(name.restore(array_element(list, place.clone())))
}
