//! UNNEST (Spark's EXPLODE): a row for each element of a list.

use super::stages::{Flow, origin_of};
use crate::batches::with_rows;
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt32Builder};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::unnest::UnnestExec;

/// The list of one column becomes its elements; the other columns stand beside each of them.
#[derive(Debug)]
pub struct Elements {
    column: usize,
    /// A list that is NULL (but not an empty one) is a row with a NULL.
    keeps_null: bool,
    schema: SchemaRef,
}

impl Elements {
    pub fn try_new(unnest: &UnnestExec) -> Result<Self> {
        let ([list], []) = (unnest.list_column_indices(), unnest.struct_column_indices()) else {
            return Err(Error::sql("a SELECT over a stream can UNNEST one list")
                .with_hint("read the fields of a ROW by their names, other lists by index"));
        };
        if list.depth != 1 {
            return Err(Error::sql("UNNEST over a stream takes lists apart once"));
        }
        Ok(Self {
            column: list.index_in_input_schema,
            keeps_null: unnest.options().preserve_nulls(),
            schema: unnest.schema(),
        })
    }

    pub fn column(&self) -> usize {
        self.column
    }

    /// The name of the column.
    pub fn name(&self) -> &str {
        self.schema.field(self.column).name()
    }

    pub fn run(&self, batch: &RecordBatch, origin: Option<&UInt32Array>) -> Result<Flow> {
        let lists = as_lists(batch.column(self.column))?;
        let lists = lists.as_list::<i32>();
        let (mut rows, mut elements) = (UInt32Builder::new(), UInt32Builder::new());
        for (row, ends) in lists.offsets().windows(2).enumerate() {
            if lists.is_null(row) {
                if self.keeps_null {
                    rows.append_value(row as u32);
                    elements.append_null();
                }
                continue;
            }
            for element in ends[0]..ends[1] {
                rows.append_value(row as u32);
                elements.append_value(element as u32);
            }
        }
        let (rows, elements) = (rows.finish(), elements.finish());
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (i, column) in batch.columns().iter().enumerate() {
            columns.push(match i == self.column {
                true => compute::take(lists.values(), &elements, None)?,
                false => compute::take(column, &rows, None)?,
            });
        }
        Ok(Flow {
            batch: with_rows(self.schema.clone(), columns, rows.len())?,
            origin: origin_of(origin, &rows)?,
        })
    }
}

/// Lists of any kind as plain ones.
fn as_lists(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => Ok(array.clone()),
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            let plain = DataType::List(field.clone());
            Ok(compute::cast(array, &plain)?)
        }
        other => Err(Error::bug(format!("UNNEST of {other}"))),
    }
}
