//! The leaves of our physical plans: places where rows enter a DataFusion plan.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
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

/// A declared table for DataFusion's planner: scanning it gives a [`Leaf`] with exactly the
/// columns that are needed.
#[derive(Debug)]
pub struct DeclaredTable {
    pub name: String,
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for DeclaredTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let columns = schema.fields().iter().map(|f| f.name().clone()).collect();
        Ok(Arc::new(Leaf::new(
            LeafKind::Scan {
                table: self.name.clone(),
                columns,
            },
            schema,
        )))
    }
}
