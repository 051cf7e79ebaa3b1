//! `text = 'view'` and `text <> 'view'`, by which half of all queries filter their rows.
//!
//! A view of up to twelve bytes is one number, its length among them, so texts that are as short as that are
//! equal when their numbers are, and no longer text has that number. Arrow's kernel looks at lengths and
//! prefixes first, as the texts may be long: one text at a time.

use arrow::array::{Array, AsArray, BooleanArray, make_view};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal};
use std::fmt;
use std::sync::Arc;

/// A comparison with a short text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ShortText {
    slow: BinaryExpr,
    view: u128,
}

/// The quick one of an expression that is a comparison with a short text.
pub(super) fn quick(expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let slow = expr.downcast_ref::<BinaryExpr>()?;
    let ScalarValue::Utf8View(Some(text)) = slow.right().downcast_ref::<Literal>()?.value() else {
        return None;
    };
    let is_known = matches!(slow.op(), Operator::Eq | Operator::NotEq) && text.len() <= 12;
    is_known.then(|| {
        Arc::new(ShortText {
            slow: slow.clone(),
            view: make_view(text.as_bytes(), 0, 0),
        }) as _
    })
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.slow, f)
    }
}

impl PhysicalExpr for ShortText {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.slow.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.slow.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.slow.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let ColumnarValue::Array(texts) = self.slow.left().evaluate(batch)? else {
            return self.slow.evaluate(batch);
        };
        let Some(texts) = texts.as_string_view_opt() else {
            return self.slow.evaluate(batch);
        };
        let views = texts.views();
        let is_asked = *self.slow.op() == Operator::Eq;
        let equal =
            BooleanBuffer::collect_bool(views.len(), |i| (views[i] == self.view) == is_asked);
        let equal = BooleanArray::new(equal, texts.nulls().cloned());
        Ok(ColumnarValue::Array(Arc::new(equal)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.slow.left()]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (Some(left), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a comparison has one input");
        };
        let slow = BinaryExpr::new(left, *self.slow.op(), self.slow.right().clone());
        Ok(Arc::new(Self {
            slow,
            view: self.view,
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slow.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;
    use arrow::datatypes::Field;
    use datafusion_physical_expr::expressions::{Column, lit};
    use proptest::prelude::*;

    proptest! {
        /// As Arrow compares them: texts and what they begin with, NULLs, parts of arrays.
        #[test]
        fn comparisons_are_arrows(
            texts in prop::collection::vec(prop::option::of("(view|views|a view of all|\0|\0\0|é|[a-c]{11,14}|)"), 0..200),
            text in "(view|views|\0|\0\0|é|[a-c]{11,12}|)",
            is_equal in any::<bool>(),
            skipped in 0usize..3,
        ) {
            let array = StringViewArray::from(texts);
            let array = array.slice(skipped.min(array.len()), array.len().saturating_sub(skipped));
            let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, true)]));
            let batch = RecordBatch::try_new(schema, vec![Arc::new(array)]).unwrap();
            let op = if is_equal { Operator::Eq } else { Operator::NotEq };
            let slow: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(
                Arc::new(Column::new("t", 0)),
                op,
                lit(ScalarValue::Utf8View(Some(text))),
            ));
            let quick = quick(&slow).unwrap();
            prop_assert!(quick.downcast_ref::<ShortText>().is_some());
            let of = |expr: Arc<dyn PhysicalExpr>| expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            prop_assert_eq!(&of(quick), &of(slow));
        }
    }
}
