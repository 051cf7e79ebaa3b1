//! The functions that queries can call, by name.

use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, plan_datafusion_err};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Functions under their names and aliases, and what the planner rewrites into calls of them.
#[derive(Default)]
pub struct Registry {
    pub scalar: HashMap<String, Arc<ScalarUDF>>,
    pub higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    pub aggregate: HashMap<String, Arc<AggregateUDF>>,
    pub window: HashMap<String, Arc<WindowUDF>>,
    pub rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>,
    /// Operators, field accesses and literals that stand for functions.
    pub planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Registry {
    /// All functions that DataFusion has by itself.
    pub fn of_datafusion(options: &ConfigOptions) -> Result<Self> {
        let mut registry = Self {
            planners: vec![
                Arc::new(super::functions::Places),
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
                Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
            ],
            ..Self::default()
        };
        let mut scalar = datafusion_functions::all_default_functions();
        scalar.extend(datafusion_functions_nested::all_default_nested_functions());
        for udf in scalar {
            // Some functions depend on the options, e.g. on the time zone.
            let configured = udf.inner().with_updated_config(options).map(Arc::new);
            registry.register_udf(configured.unwrap_or(udf))?;
        }
        for udf in datafusion_functions_nested::all_default_higher_order_functions() {
            registry.register_higher_order_function(udf)?;
        }
        for udaf in datafusion_functions_aggregate::all_default_aggregate_functions() {
            registry.register_udaf(udaf)?;
        }
        for udwf in datafusion_functions_window::all_default_window_functions() {
            registry.register_udwf(udwf)?;
        }
        Ok(registry)
    }
}

/// Enters a function under its aliases and its name; gives what had the name before.
fn enter<F>(
    map: &mut HashMap<String, Arc<F>>,
    function: Arc<F>,
    name: &str,
    aliases: &[String],
) -> Option<Arc<F>> {
    for alias in aliases {
        map.insert(alias.clone(), function.clone());
    }
    map.insert(name.to_string(), function)
}

fn found<F>(map: &HashMap<String, Arc<F>>, name: &str) -> Result<Arc<F>> {
    let function = map.get(name).cloned();
    function.ok_or_else(|| plan_datafusion_err!("there is no function '{name}'"))
}

fn names<F>(map: &HashMap<String, Arc<F>>) -> HashSet<String> {
    map.keys().cloned().collect()
}

impl FunctionRegistry for Registry {
    fn udfs(&self) -> HashSet<String> {
        names(&self.scalar)
    }

    fn higher_order_function_names(&self) -> HashSet<String> {
        names(&self.higher_order)
    }

    fn udafs(&self) -> HashSet<String> {
        names(&self.aggregate)
    }

    fn udwfs(&self) -> HashSet<String> {
        names(&self.window)
    }

    fn udf(&self, name: &str) -> Result<Arc<ScalarUDF>> {
        found(&self.scalar, name)
    }

    fn higher_order_function(&self, name: &str) -> Result<Arc<HigherOrderUDF>> {
        found(&self.higher_order, name)
    }

    fn udaf(&self, name: &str) -> Result<Arc<AggregateUDF>> {
        found(&self.aggregate, name)
    }

    fn udwf(&self, name: &str) -> Result<Arc<WindowUDF>> {
        found(&self.window, name)
    }

    fn register_udf(&mut self, udf: Arc<ScalarUDF>) -> Result<Option<Arc<ScalarUDF>>> {
        let (name, aliases) = (udf.name().to_string(), udf.aliases().to_vec());
        Ok(enter(&mut self.scalar, udf, &name, &aliases))
    }

    fn register_higher_order_function(
        &mut self,
        function: Arc<HigherOrderUDF>,
    ) -> Result<Option<Arc<HigherOrderUDF>>> {
        let (name, aliases) = (function.name().to_string(), function.aliases().to_vec());
        Ok(enter(&mut self.higher_order, function, &name, &aliases))
    }

    fn register_udaf(&mut self, udaf: Arc<AggregateUDF>) -> Result<Option<Arc<AggregateUDF>>> {
        let (name, aliases) = (udaf.name().to_string(), udaf.aliases().to_vec());
        Ok(enter(&mut self.aggregate, udaf, &name, &aliases))
    }

    fn register_udwf(&mut self, udwf: Arc<WindowUDF>) -> Result<Option<Arc<WindowUDF>>> {
        let (name, aliases) = (udwf.name().to_string(), udwf.aliases().to_vec());
        Ok(enter(&mut self.window, udwf, &name, &aliases))
    }

    fn register_function_rewrite(
        &mut self,
        rewrite: Arc<dyn FunctionRewrite + Send + Sync>,
    ) -> Result<()> {
        self.rewrites.push(rewrite);
        Ok(())
    }

    fn expr_planners(&self) -> Vec<Arc<dyn ExprPlanner>> {
        self.planners.clone()
    }
}
