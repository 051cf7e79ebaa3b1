//! From a SQL file to queries that can run. The only place that names DataFusion.
//!
//! `tokens` (positions) → `windows` and `ddl` (Flink's and Spark's forms) → DataFusion's planner
//! → `cut` (below, at and above the aggregate) → [`Job`].

mod accumulate;
mod casts;
mod cut;
mod ddl;
mod distinct;
mod distinct_sums;
mod elements;
mod equal;
mod errors;
pub mod explain;
mod extremes;
mod finish;
mod first;
mod functions;
mod grouping;
mod intervals;
mod isolate;
mod lateral;
mod leaf;
mod lookup;
mod markers;
mod nodes;
mod over;
mod per_window;
mod physical;
mod query;
mod registry;
mod row_windows;
mod script;
mod session;
mod sessions;
mod settings;
mod shape;
mod spellings;
mod stages;
pub mod state;
mod subqueries;
mod sums;
mod syntax;
mod tokens;
mod windows;

pub use errors::in_sql;
pub use isolate::{Failed, run_isolating};
pub use query::{
    Body, Computed, QueryPlan, QuerySink, RunFinish, SourcePlan, StatelessPlan, WindowedPlan,
};
pub use script::{Job, plan_script};
pub use settings::{Settings, Trigger, parse_memory, parse_output_mode, parse_trigger};
pub use shape::shapes;
pub use stages::Prepared;
