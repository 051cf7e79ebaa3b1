//! The leaves of our physical plans: places where rows enter a DataFusion plan.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_expr::{LogicalPlan, TableSource};
use datafusion_physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// What a leaf stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum LeafKind {
    /// Columns of a declared table.
    Scan { table: String, columns: Vec<String> },
    /// The closed windows of the query's aggregate number so and so.
    Aggregate(usize),
}

/// A leaf with a slot: executing it gives the batches that were last put there.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub kind: LeafKind,
    properties: Arc<PlanProperties>,
    slot: Arc<Mutex<Vec<RecordBatch>>>,
}

impl Leaf {
    pub fn new(kind: LeafKind, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            kind,
            properties: Arc::new(properties),
            slot: Arc::default(),
        }
    }

    /// Replaces what the leaf gives.
    pub fn put(&self, batches: Vec<RecordBatch>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = batches;
    }
}

impl DisplayAs for Leaf {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match &self.kind {
            LeafKind::Scan { table, columns } => {
                write!(f, "Table {table} ({})", columns.join(", "))
            }
            LeafKind::Aggregate(_) => write!(f, "ClosedWindows"),
        }
    }
}

impl ExecutionPlan for Leaf {
    fn name(&self) -> &str {
        "Leaf"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self
            .slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let stream = futures::stream::iter(batches.into_iter().map(Ok));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            stream,
        )))
    }
}

/// A table or view that the file declares, for DataFusion's planner.
pub struct Declared {
    pub name: String,
    pub schema: SchemaRef,
    /// Of a view: it stands for this.
    plan: Option<LogicalPlan>,
}

impl Declared {
    /// A scan of it becomes a [`Leaf`] with exactly the columns that are needed.
    pub fn table(name: &str, schema: SchemaRef) -> Self {
        Self {
            name: name.to_string(),
            schema,
            plan: None,
        }
    }

    pub fn view(name: &str, plan: LogicalPlan) -> Self {
        Self {
            name: name.to_string(),
            schema: plan.schema().inner().clone(),
            plan: Some(plan),
        }
    }
}

impl TableSource for Declared {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.plan.as_ref().map(Cow::Borrowed)
    }
}
