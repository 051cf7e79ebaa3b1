//! The first row of each group by an order, for [`super::over`]. DataFusion's FIRST_VALUE takes each
//! value out of its column, which for a row of several columns costs microseconds: here rows and
//! their orders are kept in arrow's row format, in which order is that of bytes. The state is
//! DataFusion's: the value, what it was ordered by, and whether there is one.

use super::accumulate::{all_groups, one_phase};
use crate::batches::only_true;
use arrow::array::{ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

/// In the row format; a row that there is none of has no bytes.
#[derive(Default)]
struct Kept {
    order: Vec<u8>,
    value: Vec<u8>,
}

pub(super) struct FirstRow {
    order: RowConverter,
    value: RowConverter,
    /// Of the order's columns.
    order_types: Vec<DataType>,
    value_type: DataType,
    /// By group.
    groups: Vec<Kept>,
    /// Of the rows.
    bytes: usize,
}

impl FirstRow {
    /// For `FIRST_VALUE(row ORDER BY …)` whose arguments are of these types: the row and its order.
    /// `None` for other functions, and for types that the row format does not know.
    pub fn of(function: &AggregateFunctionExpr, types: &[DataType]) -> Result<Option<Self>> {
        let order = function.order_bys();
        let [value @ DataType::Struct(_), by @ ..] = types else {
            return Ok(None);
        };
        let is_first = function.fun().name() == "first_value" && !function.ignore_nulls();
        if !is_first || function.is_distinct() || order.is_empty() || order.len() != by.len() {
            return Ok(None);
        }
        let field = |(by, sort): (&DataType, _)| SortField::new_with_options(by.clone(), sort);
        let options = order.iter().map(|by| by.options);
        let fields: Vec<SortField> = by.iter().zip(options).map(field).collect();
        let values = vec![SortField::new(value.clone())];
        if !RowConverter::supports_fields(&fields) || !RowConverter::supports_fields(&values) {
            return Ok(None);
        }
        Ok(Some(Self {
            order: RowConverter::new(fields)?,
            value: RowConverter::new(values)?,
            order_types: by.to_vec(),
            value_type: value.clone(),
            groups: Vec::new(),
            bytes: 0,
        }))
    }

    fn add(
        &mut self,
        columns: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(groups, Kept::default);
        let values = self.value.convert_columns(&columns[..1])?;
        let orders = self.order.convert_columns(&columns[1..])?;
        let filter = filter.map(only_true);
        for (row, group) in group_indices.iter().enumerate() {
            if filter.as_ref().is_some_and(|filter| !filter.value(row)) {
                continue;
            }
            let (kept, order) = (&mut self.groups[*group], orders.row(row));
            if kept.order.is_empty() || order.data() < kept.order.as_slice() {
                self.bytes -= kept.order.len() + kept.value.len();
                kept.order.clear();
                kept.order.extend_from_slice(order.data());
                kept.value.clear();
                kept.value.extend_from_slice(values.row(row).data());
                self.bytes += kept.order.len() + kept.value.len();
            }
        }
        Ok(())
    }

    fn values(&self) -> Result<Vec<ArrayRef>> {
        let types = std::slice::from_ref(&self.value_type);
        columns(&self.value, types, &self.groups, |kept| &kept.value)
    }

    fn clear(&mut self) {
        self.groups.clear();
        self.bytes = 0;
    }
}

/// What is kept of all groups, as columns; nulls for a group without a row.
fn columns(
    converter: &RowConverter,
    types: &[DataType],
    groups: &[Kept],
    bytes: fn(&Kept) -> &[u8],
) -> Result<Vec<ArrayRef>> {
    let nulls = types.iter().map(|data_type| new_null_array(data_type, 1));
    let nulls: Vec<ArrayRef> = nulls.collect();
    let mut none = converter.empty_rows(1, 0);
    converter.append(&mut none, &nulls)?;
    let parser = converter.parser();
    let rows = groups.iter().map(|kept| match kept.order.is_empty() {
        true => none.row(0),
        false => parser.parse(bytes(kept)),
    });
    Ok(converter.convert_rows(rows)?)
}

impl GroupsAccumulator for FirstRow {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(values, group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let Some((is_set, columns)) = values.split_last() else {
            return internal_err!("a state of first rows without columns");
        };
        let is_set = is_set.as_boolean().clone();
        self.add(columns, group_indices, Some(&is_set), total_num_groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        all_groups(emit_to)?;
        let mut state = self.values()?;
        let orders = columns(&self.order, &self.order_types, &self.groups, |kept| {
            &kept.order
        });
        state.extend(orders?);
        let is_set = self.groups.iter().map(|kept| Some(!kept.order.is_empty()));
        state.push(Arc::new(is_set.collect::<BooleanArray>()));
        self.clear();
        Ok(state)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        all_groups(emit_to)?;
        let value = self.values()?.swap_remove(0);
        self.clear();
        Ok(value)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Kept>() + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray, StructArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion_common::Result;
    use datafusion_functions_aggregate::first_last::first_value_udaf;
    use datafusion_physical_expr::aggregate::AggregateExprBuilder;
    use datafusion_physical_expr::expressions::col;
    use datafusion_physical_expr::{GroupsAccumulatorAdapter, PhysicalSortExpr};
    use proptest::prelude::*;

    /// Group, order, value, filter.
    type Row = (usize, Option<i64>, Option<u8>, Option<bool>);

    const GROUPS: usize = 3;

    fn function() -> Result<Arc<AggregateFunctionExpr>> {
        let row = DataType::Struct(fields().into());
        let schema = Arc::new(Schema::new(vec![
            Field::new("row", row, true),
            Field::new("by", DataType::Int64, true),
            Field::new("text", DataType::Utf8View, true),
        ]));
        let descending = PhysicalSortExpr::new(
            col("by", &schema)?,
            arrow::compute::SortOptions {
                descending: true,
                nulls_first: false,
            },
        );
        let text = PhysicalSortExpr::new_default(col("text", &schema)?);
        AggregateExprBuilder::new(first_value_udaf(), vec![col("row", &schema)?])
            .order_by(vec![descending, text])
            .schema(schema.clone())
            .alias("first")
            .build()
            .map(Arc::new)
    }

    fn fields() -> Vec<Field> {
        vec![Field::new("text", DataType::Utf8View, true)]
    }

    fn columns(rows: &[Row]) -> (Vec<ArrayRef>, Vec<usize>, BooleanArray) {
        let by: Int64Array = rows.iter().map(|row| row.1).collect();
        let texts = rows.iter().map(|row| row.2);
        let texts: StringViewArray = texts
            .map(|text| {
                text.map(|t| "longer than twelve bytes ".repeat(t as usize % 2) + &t.to_string())
            })
            .collect();
        let texts: ArrayRef = Arc::new(texts);
        let row = StructArray::new(fields().into(), vec![texts.clone()], None);
        let groups = rows.iter().map(|row| row.0).collect();
        let filter = rows.iter().map(|row| row.3).collect();
        (vec![Arc::new(row), Arc::new(by), texts], groups, filter)
    }

    proptest! {
        /// Updated, or merged from two, it is DataFusion's over all rows.
        #[test]
        fn first_rows_are_datafusions(
            rows in prop::collection::vec(
                (0..GROUPS, prop::option::of(0..3_i64), prop::option::of(0..4_u8), prop::option::of(any::<bool>())),
                0..12,
            ),
            cut in 0..12_usize,
        ) {
            let function = function().unwrap();
            let types = [
                DataType::Struct(fields().into()),
                DataType::Int64,
                DataType::Utf8View,
            ];
            let new = || FirstRow::of(&function, &types).unwrap().unwrap();
            let f = function.clone();
            let mut expected = GroupsAccumulatorAdapter::new(move || f.create_accumulator());
            let (values, groups, filter) = columns(&rows);
            expected.update_batch(&values, &groups, Some(&filter), GROUPS).unwrap();
            let (mut first, mut second, mut merged) = (new(), new(), new());
            let cut = cut.min(rows.len());
            for (part, rows) in [(&mut first, &rows[..cut]), (&mut second, &rows[cut..])] {
                let (values, groups, filter) = columns(rows);
                part.update_batch(&values, &groups, Some(&filter), GROUPS).unwrap();
                let state = part.state(EmitTo::All).unwrap();
                prop_assert_eq!(part.bytes, 0);
                merged.merge_batch(&state, &[0, 1, 2], GROUPS).unwrap();
            }
            prop_assert_eq!(
                &merged.evaluate(EmitTo::All).unwrap(),
                &expected.evaluate(EmitTo::All).unwrap()
            );
        }
    }
}
