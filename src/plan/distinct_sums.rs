//! `SUM(DISTINCT x)` and `AVG(DISTINCT x)` of doubles that do not depend on the order of rows: DataFusion's
//! add up a set of values in the order of their hashes. The state is DataFusion's: for each group a list of its
//! values.

use super::accumulate::{all_groups, one_phase};
use super::sums::{DoubleSums, one_of_equals};
use crate::batches::only_true;
use crate::window::distinct::flatten;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListBuilder,
};
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::Result;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use hashbrown::HashSet;
use std::sync::Arc;

pub(super) struct DistinctSums {
    /// Groups, each with the bits of one of its values.
    values: HashSet<(usize, u64)>,
    groups: usize,
    is_avg: bool,
}

impl DistinctSums {
    /// For `SUM` and `AVG` of distinct doubles; `None` for other functions. `types`: of the arguments.
    pub fn of(function: &AggregateFunctionExpr, types: &[DataType]) -> Option<Self> {
        let is_avg = match function.fun().name() {
            "sum" => false,
            "avg" => true,
            _ => return None,
        };
        let fits = types == [DataType::Float64] && function.is_distinct();
        fits.then(|| Self::new(is_avg))
    }

    fn new(is_avg: bool) -> Self {
        Self {
            values: HashSet::new(),
            groups: 0,
            is_avg,
        }
    }

    fn add(&mut self, group: usize, value: f64) {
        self.values.insert((group, one_of_equals(value).to_bits()));
    }

    /// The values, each behind its group, in order.
    fn take(&mut self) -> Vec<(usize, f64)> {
        let mut values: Vec<(usize, u64)> = self.values.drain().collect();
        values.sort_unstable();
        let double = |(group, bits)| (group, f64::from_bits(bits));
        values.into_iter().map(double).collect()
    }
}

impl GroupsAccumulator for DistinctSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        let values = values[0].as_primitive::<Float64Type>();
        let filter = opt_filter.map(only_true);
        for (row, group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && filter.as_ref().is_none_or(|f| f.value(row)) {
                self.add(*group, values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        let (items, lists) = flatten(&values[0]);
        let items = items.as_primitive::<Float64Type>();
        for (value, list) in items.iter().zip(lists) {
            if let Some(value) = value {
                self.add(group_indices[list], value);
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        all_groups(emit_to)?;
        let mut lists = ListBuilder::new(Float64Builder::new());
        let mut values = self.take().into_iter().peekable();
        for group in 0..std::mem::take(&mut self.groups) {
            while let Some((_, value)) = values.next_if(|(of, _)| *of == group) {
                lists.values().append_value(value);
            }
            lists.append(true);
        }
        Ok(vec![Arc::new(lists.finish())])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (groups, values): (Vec<usize>, Vec<f64>) = self.take().into_iter().unzip();
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        let mut sums = DoubleSums::new(self.is_avg.then(Vec::new));
        sums.update_batch(&[values], &groups, None, std::mem::take(&mut self.groups))?;
        sums.evaluate(emit_to)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        self.values.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of one group, of parts that are merged.
    fn sum(parts: &[&[f64]], is_avg: bool) -> Option<f64> {
        let mut merged = DistinctSums::new(is_avg);
        for part in parts {
            let mut of_part = DistinctSums::new(is_avg);
            let values: ArrayRef = Arc::new(Float64Array::from(part.to_vec()));
            of_part
                .update_batch(&[values], &vec![1; part.len()], None, 2)
                .unwrap();
            let state = of_part.state(EmitTo::All).unwrap();
            merged.merge_batch(&state, &[0, 1], 2).unwrap();
        }
        let sums = merged.evaluate(EmitTo::All).unwrap();
        let sums = sums.as_primitive::<Float64Type>();
        assert!(sums.is_null(0));
        sums.is_valid(1).then(|| sums.value(1))
    }

    /// In the order of hashes, the last digits were others with other workers.
    #[test]
    fn distinct_values_are_summed_exactly() {
        let parts: [&[f64]; 2] = [&[1e16, 1.0, 1.0, -0.0], &[1.0, 0.0, 3.0, -1e16]];
        assert_eq!(sum(&parts, false), Some(4.0));
        assert_eq!(sum(&parts, true), Some(0.8));
        assert_eq!(sum(&[&[0.1, 0.2], &[0.3, 0.1]], false), Some(0.6));
        assert_eq!(sum(&[&[], &[]], false), None);
        assert!(
            sum(&[&[f64::NAN], &[-f64::NAN, 1.0]], false)
                .unwrap()
                .is_nan()
        );
    }
}
