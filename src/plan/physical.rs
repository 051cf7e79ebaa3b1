//! Logical plans to operators, for plans of one partition that run over rows in memory: the cut
//! takes out what reads the stream, and the rest runs once for each closed window.
//!
//! DataFusion's own planner lives in its umbrella crate, which needs all of its catalogs and file
//! formats. This one spares them; beside that it plans for one partition only, so that nothing is
//! shuffled, and puts sorts where an operator asks for them at once.

use super::casts;
use super::grouping::sets_of;
use super::leaf::{Declared, Leaf, LeafKind};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{
    DFSchema, JoinType, Result, ScalarValue, internal_err, not_impl_err, plan_datafusion_err,
};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::{NullTreatment, WindowFunction, physical_name};
use datafusion_expr::logical_plan::{
    Aggregate, FetchType, Join, Limit, Projection, SkipType, Sort, TableScan, Union, Unnest,
    Values, Window,
};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::utils::grouping_set_to_exprlist;
use datafusion_expr::{Expr, LogicalPlan, SortExpr};
use datafusion_physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{
    LexOrdering, PhysicalExpr, PhysicalSortExpr, create_physical_expr, create_physical_sort_exprs,
};
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::empty::EmptyExec;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::joins::utils::JoinFilter;
use datafusion_physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion_physical_plan::projection::{
    ProjectionExec, ProjectionExpr, remove_unnecessary_projections,
};
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::union::UnionExec;
use datafusion_physical_plan::unnest::{ListUnnest, UnnestExec};
use datafusion_physical_plan::windows::{
    BoundedWindowAggExec, WindowAggExec, WindowExpr, create_window_expr,
};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties, InputOrderMode};
use std::sync::Arc;

/// Functions over ordered rows whose value is that of a place: rows that are equal in the order must not
/// change places. (Others take such rows for one, or go by frames of them.)
const TAKE_A_PLACE: [&str; 4] = ["row_number", "lag", "lead", "ntile"];

type Plan = Arc<dyn ExecutionPlan>;

/// Makes operators of optimised logical plans.
pub struct Planner<'a> {
    props: &'a ExecutionProps,
    /// Of subqueries that are plans of their own: there are none, the optimiser makes joins of them.
    context: PhysicalPlanningContext,
}

impl<'a> Planner<'a> {
    pub fn new(props: &'a ExecutionProps) -> Self {
        Self {
            props,
            context: PhysicalPlanningContext::default(),
        }
    }

    /// # Errors
    /// A node that a query over closed windows cannot have, or that nobody has needed yet.
    pub fn plan(&self, plan: &LogicalPlan) -> Result<Plan> {
        let plan = self.node(plan)?;
        // Columns that only a filter looks at end there.
        Ok(plan.transform_down(remove_unnecessary_projections)?.data)
    }

    /// An expression over rows of `schema`.
    pub fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        casts::quicken(create_physical_expr(
            expr,
            schema,
            self.props,
            &self.context,
        )?)
    }

    fn expressions(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs.iter().map(|e| self.expression(e, schema)).collect()
    }

    fn node(&self, plan: &LogicalPlan) -> Result<Plan> {
        match plan {
            LogicalPlan::TableScan(scan) => scanned(scan),
            LogicalPlan::Projection(p) => self.project(p),
            LogicalPlan::Filter(f) => {
                let predicate = self.expression(&f.predicate, f.input.schema())?;
                Ok(Arc::new(FilterExec::try_new(
                    predicate,
                    self.node(&f.input)?,
                )?))
            }
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            LogicalPlan::Window(w) => self.window(w),
            LogicalPlan::Sort(s) => self.sort(s),
            LogicalPlan::Limit(l) => self.limit(l),
            LogicalPlan::Join(j) => self.join(j),
            LogicalPlan::Union(u) => self.union(u),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Unnest(u) => self.unnest(u),
            LogicalPlan::Values(v) => self.values(v),
            LogicalPlan::EmptyRelation(e) => {
                let schema = e.schema.inner().clone();
                Ok(if e.produce_one_row {
                    Arc::new(PlaceholderRowExec::new(schema))
                } else {
                    Arc::new(EmptyExec::new(schema))
                })
            }
            LogicalPlan::Subquery(_) => {
                not_impl_err!("this correlated subquery is not supported: write it as a join")
            }
            LogicalPlan::RecursiveQuery(_) => not_impl_err!("WITH RECURSIVE is not supported"),
            other => not_impl_err!("{} is not supported in a query", other.display()),
        }
    }

    fn project(&self, projection: &Projection) -> Result<Plan> {
        let input = self.node(&projection.input)?;
        let schema = projection.input.schema();
        let one = |e: &Expr| {
            // A column keeps the name that it has below: the logical one has a table before it.
            let below = match e {
                Expr::Column(c) => schema.maybe_index_of_column(c),
                _ => None,
            };
            Ok(ProjectionExpr {
                expr: self.expression(e, schema)?,
                alias: match below {
                    Some(i) => input.schema().field(i).name().clone(),
                    None => physical_name(e)?,
                },
            })
        };
        let exprs = projection.expr.iter().map(one);
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, input)?))
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Plan> {
        let input = self.node(&aggregate.input)?;
        let (logical, schema) = (aggregate.input.schema(), input.schema());
        let group_by = self.group_by(&aggregate.group_expr, logical, &schema)?;
        let (mut functions, mut filters) = (Vec::new(), Vec::new());
        for e in &aggregate.aggr_expr {
            let lowered =
                LoweredAggregateBuilder::new(e, logical, &schema, self.props, &self.context)
                    .build()?;
            functions.push(with_quick_casts(lowered.aggregate)?);
            filters.push(lowered.filter.map(casts::quicken).transpose()?);
        }
        sorted(input, |input| {
            Ok(Arc::new(AggregateExec::try_new(
                AggregateMode::Single,
                group_by.clone(),
                functions.clone(),
                filters.clone(),
                input,
                schema.clone(),
            )?))
        })
    }

    fn group_by(
        &self,
        exprs: &[Expr],
        logical: &DFSchema,
        schema: &Schema,
    ) -> Result<PhysicalGroupBy> {
        let named = |e: &Expr| Ok((self.expression(e, logical)?, physical_name(e)?));
        let [Expr::GroupingSet(sets)] = exprs else {
            let exprs = exprs.iter().map(named).collect::<Result<Vec<_>>>()?;
            return Ok(PhysicalGroupBy::new_single(exprs));
        };
        let columns = grouping_set_to_exprlist(exprs)?;
        let sets = sets_of(sets);
        let mut keys = Vec::with_capacity(columns.len());
        let mut nulls: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::with_capacity(columns.len());
        for column in &columns {
            let (key, name) = named(column)?;
            let null = ScalarValue::try_from(key.data_type(schema)?)?;
            nulls.push((Arc::new(Literal::new(null)), name.clone()));
            keys.push((key, name));
        }
        let is_null = |set: &Vec<Expr>| columns.iter().map(|c| !set.contains(c)).collect();
        let groups = sets.iter().map(is_null).collect();
        Ok(PhysicalGroupBy::new(keys, nulls, groups, true))
    }

    fn window(&self, window: &Window) -> Result<Plan> {
        let input = self.node(&window.input)?;
        let schema = window.input.schema();
        let one = |e: &Expr| self.window_function(e, schema);
        let functions = window.window_expr.iter().map(one);
        let functions = functions.collect::<Result<Vec<_>>>()?;
        // Each one's order begins like the others'; the longest is that of all.
        let longest = functions.iter().max_by_key(|f| f.order_by().len());
        let keys = longest.iter().flat_map(|f| f.partition_by()).cloned();
        let keys = keys.map(PhysicalSortExpr::new_default);
        let order = longest.iter().flat_map(|f| f.order_by()).cloned();
        let input = match LexOrdering::new(keys.chain(order)) {
            Some(order) if functions.len() > 1 => Arc::new(SortExec::new(order, input)) as Plan,
            _ => input,
        };
        sorted(input, |input| {
            let functions = functions.clone();
            let bounded = functions.iter().all(|f| f.uses_bounded_memory());
            Ok(if bounded {
                let mode = InputOrderMode::Sorted;
                Arc::new(BoundedWindowAggExec::try_new(
                    functions, input, mode, false,
                )?)
            } else {
                Arc::new(WindowAggExec::try_new(functions, input, false)?)
            })
        })
    }

    fn window_function(&self, e: &Expr, schema: &DFSchema) -> Result<Arc<dyn WindowExpr>> {
        let (name, e) = match e {
            Expr::Alias(a) => (a.name.clone(), a.expr.as_ref()),
            _ => (e.schema_name().to_string(), e),
        };
        let Expr::WindowFunction(function) = e else {
            return internal_err!("{e} is no function over a window");
        };
        let WindowFunction { fun, params } = function.as_ref();
        let filter = params.filter.as_ref().map(|f| self.expression(f, schema));
        create_window_expr(
            fun,
            name,
            &self.expressions(&params.args, schema)?,
            &self.expressions(&params.partition_by, schema)?,
            &self.order(&params.order_by, schema, TAKE_A_PLACE.contains(&fun.name()))?,
            Arc::new(params.window_frame.clone()),
            schema.inner().clone(),
            params.null_treatment == Some(NullTreatment::IgnoreNulls),
            params.distinct,
            filter.transpose()?,
        )
    }

    fn sort(&self, sort: &Sort) -> Result<Plan> {
        let exprs = self.order(&sort.expr, sort.input.schema(), true)?;
        let input = self.node(&sort.input)?;
        let order = LexOrdering::new(exprs)
            .ok_or_else(|| plan_datafusion_err!("ORDER BY needs an expression"))?;
        Ok(Arc::new(SortExec::new(order, input).with_fetch(sort.fetch)))
    }

    /// An order; `total`: rows that are equal in it are ordered by all columns. Which of them a LIMIT or
    /// a ROW_NUMBER takes must not depend on the order in which groups come out of a window.
    fn order(
        &self,
        exprs: &[SortExpr],
        schema: &DFSchema,
        total: bool,
    ) -> Result<Vec<PhysicalSortExpr>> {
        let mut order = create_physical_sort_exprs(exprs, schema, self.props, &self.context)?;
        for by in &mut order {
            by.expr = casts::quicken(by.expr.clone())?;
        }
        if total && !exprs.is_empty() {
            for i in 0..schema.fields().len() {
                let column: Arc<dyn PhysicalExpr> =
                    Arc::new(Column::new(schema.field(i).name(), i));
                let is_new = order.iter().all(|known| !known.expr.eq(&column));
                if is_new && is_ordered(schema.field(i).data_type()) {
                    order.push(PhysicalSortExpr::new_default(column));
                }
            }
        }
        Ok(order)
    }

    fn limit(&self, limit: &Limit) -> Result<Plan> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return not_impl_err!("LIMIT and OFFSET must be numbers");
        };
        let input = self.node(&limit.input)?;
        Ok(Arc::new(GlobalLimitExec::new(input, skip, fetch)))
    }

    fn join(&self, join: &Join) -> Result<Plan> {
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let filter = join.filter.as_ref();
        let filter = filter.map(|f| self.join_filter(f, join)).transpose()?;
        if join.on.is_empty() {
            return Ok(if filter.is_none() && join.join_type == JoinType::Inner {
                Arc::new(CrossJoinExec::new(left, right))
            } else {
                Arc::new(NestedLoopJoinExec::try_new(
                    left,
                    right,
                    filter,
                    &join.join_type,
                    None,
                )?)
            });
        }
        let key = |(l, r): &(Expr, Expr)| {
            let l = self.expression(l, join.left.schema())?;
            Ok((l, self.expression(r, join.right.schema())?))
        };
        Ok(Arc::new(HashJoinExec::try_new(
            left,
            right,
            join.on.iter().map(key).collect::<Result<Vec<_>>>()?,
            filter,
            &join.join_type,
            None,
            PartitionMode::CollectLeft,
            join.null_equality,
            join.null_aware,
        )?))
    }

    /// A condition over columns of both sides: it sees those that it uses, the left ones first.
    fn join_filter(&self, filter: &Expr, join: &Join) -> Result<JoinFilter> {
        let used = filter.column_refs();
        let indices = |schema: &DFSchema| {
            let mut indices: Vec<usize> = used
                .iter()
                .filter_map(|c| schema.maybe_index_of_column(c))
                .collect();
            indices.sort_unstable();
            indices
        };
        let (left, right) = (join.left.schema(), join.right.schema());
        let (of_left, of_right) = (indices(left), indices(right));
        let field = |schema: &Arc<DFSchema>, i: usize| {
            let (table, field) = schema.qualified_field(i);
            (table.cloned(), field.clone())
        };
        let fields = (of_left.iter().map(|i| field(left, *i)))
            .chain(of_right.iter().map(|i| field(right, *i)))
            .collect();
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        Ok(JoinFilter::new(
            self.expression(filter, &schema)?,
            JoinFilter::build_column_indices(of_left, of_right),
            schema.inner().clone(),
        ))
    }

    fn union(&self, union: &Union) -> Result<Plan> {
        let inputs = union.inputs.iter().map(|i| self.node(i));
        let union = UnionExec::try_new(inputs.collect::<Result<Vec<_>>>()?)?;
        Ok(Arc::new(CoalescePartitionsExec::new(union)))
    }

    fn unnest(&self, unnest: &Unnest) -> Result<Plan> {
        let lists = unnest.list_type_columns.iter();
        let lists = lists.map(|(index, unnesting)| ListUnnest {
            index_in_input_schema: *index,
            depth: unnesting.depth,
        });
        Ok(Arc::new(UnnestExec::new(
            self.node(&unnest.input)?,
            lists.collect(),
            unnest.struct_type_columns.clone(),
            unnest.schema.inner().clone(),
            unnest.options.clone(),
        )?))
    }

    /// `VALUES`: a projection of constants for each row.
    fn values(&self, values: &Values) -> Result<Plan> {
        let schema = values.schema.inner();
        let nothing = DFSchema::empty();
        let row = |row: &Vec<Expr>| -> Result<Plan> {
            let named = row.iter().zip(schema.fields());
            let exprs = named.map(|(e, field)| {
                Ok(ProjectionExpr {
                    expr: self.expression(e, &nothing)?,
                    alias: field.name().clone(),
                })
            });
            let one = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(ProjectionExec::try_new(exprs, one)?))
        };
        let mut rows = values.values.iter().map(row).collect::<Result<Vec<_>>>()?;
        if rows.len() == 1 {
            return Ok(rows.swap_remove(0));
        }
        Ok(Arc::new(CoalescePartitionsExec::new(UnionExec::try_new(
            rows,
        )?)))
    }
}

/// An aggregate function whose arguments have casts that mean the same as everywhere.
fn with_quick_casts(function: Arc<AggregateFunctionExpr>) -> Result<Arc<AggregateFunctionExpr>> {
    let exprs = function.all_expressions();
    let quick = |exprs: Vec<_>| exprs.into_iter().map(casts::quicken).collect::<Result<_>>();
    let other = function.with_new_expressions(quick(exprs.args)?, quick(exprs.order_by_exprs)?);
    Ok(other.map_or(function, Arc::new))
}

fn scanned(scan: &TableScan) -> Result<Plan> {
    let source: &dyn std::any::Any = scan.source.as_ref();
    let Some(table) = source.downcast_ref::<Declared>() else {
        return internal_err!("{} is none of windrow's tables", scan.table_name);
    };
    let schema = match &scan.projection {
        Some(columns) => Arc::new(table.schema.project(columns)?),
        None => table.schema.clone(),
    };
    let kind = LeafKind::Scan {
        table: table.name.clone(),
        columns: schema.fields().iter().map(|f| f.name().clone()).collect(),
    };
    Ok(Arc::new(Leaf::new(kind, schema)))
}

/// Builds an operator over `input` and, when it asks for an order that the input has not, builds it
/// again over the sorted input. Orders that an operator would only like to have are not made.
fn sorted(input: Plan, build: impl Fn(Plan) -> Result<Plan>) -> Result<Plan> {
    let plan = build(input.clone())?;
    let required = plan.required_input_ordering().swap_remove(0);
    let Some((orders, false)) = required.map(|r| r.into_alternatives()) else {
        return Ok(plan);
    };
    let held = input.equivalence_properties();
    for order in &orders {
        if held.ordering_satisfy_requirement(order.clone())? {
            return Ok(plan);
        }
    }
    let Some(order) = orders.into_iter().next() else {
        return Ok(plan);
    };
    build(Arc::new(SortExec::new(order.into(), input)))
}

/// Whether values of a type can be sorted: all but nested ones.
pub(super) fn is_ordered(data_type: &DataType) -> bool {
    !data_type.is_nested() && !data_type.is_null()
}

#[cfg(test)]
mod tests;
