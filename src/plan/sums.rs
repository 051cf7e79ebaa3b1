//! SUM and AVG of doubles that do not depend on the order of rows. A sum that rounds at each step
//! does: its last digits were others with other workers, batches or restarts. Here the sum of a
//! group is exact, as a few doubles that do not overlap, and is rounded once, to the nearest double.
//!
//! J. R. Shewchuk, *Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
//! Predicates* (1997), the expansions; Python's `math.fsum` (R. Hettinger), how they are rounded.
//! Sums beyond the range of doubles are infinite, and those of infinities are as IEEE 754 has them.

use crate::batches::only_true;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::{Result, internal_err, not_impl_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use smallvec::SmallVec;
use std::sync::Arc;

/// An exact sum: doubles of growing magnitude that have no bits in common. No values at all have no
/// parts, and their sum is NULL.
#[derive(Debug, Clone, Default)]
struct Exact(SmallVec<[f64; 2]>);

impl Exact {
    fn add(&mut self, value: f64) {
        let mut carried = value;
        let mut kept = 0;
        for i in 0..self.0.len() {
            let part = self.0[i];
            let sum = carried + part;
            // What the addition has rounded away (Knuth), exactly.
            let of_part = sum - carried;
            let rounded = (carried - (sum - of_part)) + (part - of_part);
            if rounded != 0.0 && sum.is_finite() {
                self.0[kept] = rounded;
                kept += 1;
            }
            carried = sum;
        }
        self.0.truncate(kept);
        self.0.push(carried);
    }

    /// The nearest double. Half way between two it is the even one, for which the part below the
    /// one that was rounded away has to be looked at.
    fn rounded(&self) -> Option<f64> {
        let (last, mut rest) = self.0.split_last()?;
        let mut sum = *last;
        while let Some((part, below)) = rest.split_last() {
            let before = sum;
            sum += part;
            let rounded = part - (sum - before);
            if rounded != 0.0 {
                let further = below.last().is_some_and(|b| (*b < 0.0) == (rounded < 0.0));
                let doubled = rounded * 2.0;
                let next = sum + doubled;
                if further && doubled == next - sum {
                    sum = next;
                }
                break;
            }
            rest = below;
        }
        // The sum of nothing but -0.0 is 0.0, as for a sum that began with 0.0.
        Some(sum + 0.0)
    }
}

/// SUM, or AVG if it counts.
pub(super) struct DoubleSums {
    sums: Vec<Exact>,
    counts: Option<Vec<u64>>,
    /// Parts that have no place in their groups.
    spilled: usize,
}

impl DoubleSums {
    /// For `SUM` and `AVG` of doubles; `None` for other functions. `types`: of the arguments.
    pub fn of(function: &AggregateFunctionExpr, types: &[DataType]) -> Option<Self> {
        let counts = match function.fun().name() {
            "sum" => None,
            "avg" => Some(Vec::new()),
            _ => return None,
        };
        let fits = types == [DataType::Float64] && !function.is_distinct();
        fits.then_some(Self {
            sums: Vec::new(),
            counts,
            spilled: 0,
        })
    }

    fn resize(&mut self, groups: usize) {
        self.sums.resize_with(groups, Exact::default);
        if let Some(counts) = &mut self.counts {
            counts.resize(groups, 0);
        }
    }

    fn add(&mut self, group: usize, value: f64) {
        let sum = &mut self.sums[group];
        let before = sum.0.capacity();
        sum.add(value);
        self.spilled += sum.0.capacity() - before;
    }

    fn take(&mut self, emit_to: EmitTo) -> Result<(Vec<Exact>, Option<Vec<u64>>)> {
        let EmitTo::All = emit_to else {
            return not_impl_err!("some of the groups of a sum");
        };
        self.spilled = 0;
        let counts = self.counts.as_mut().map(std::mem::take);
        Ok((std::mem::take(&mut self.sums), counts))
    }
}

impl GroupsAccumulator for DoubleSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let values: &Float64Array = values[0].as_primitive();
        let filter = opt_filter.map(only_true);
        for (row, group) in group_indices.iter().enumerate() {
            if values.is_null(row) || filter.as_ref().is_some_and(|f| !f.value(row)) {
                continue;
            }
            self.add(*group, values.value(row));
            if let Some(counts) = &mut self.counts {
                counts[*group] += 1;
            }
        }
        Ok(())
    }

    /// The state: AVG's counts, and the parts of each sum as a list.
    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let Some((sums, counted)) = values.split_last() else {
            return internal_err!("a state of sums without columns");
        };
        let lists = sums.as_list::<i32>();
        let parts = lists.values().as_primitive::<Float64Type>();
        for (ends, group) in lists.offsets().windows(2).zip(group_indices) {
            for part in &parts.values()[ends[0] as usize..ends[1] as usize] {
                self.add(*group, *part);
            }
        }
        if let (Some(counts), [counted]) = (&mut self.counts, counted) {
            let counted = counted.as_primitive::<UInt64Type>();
            for (count, group) in counted.values().iter().zip(group_indices) {
                counts[*group] += count;
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit_to)?;
        let parts = Float64Builder::with_capacity(2 * sums.len());
        let mut lists = ListBuilder::with_capacity(parts, sums.len());
        for sum in &sums {
            lists.values().append_slice(&sum.0);
            lists.append(true);
        }
        let counts = counts.map(|counts| Arc::new(UInt64Array::from(counts)) as ArrayRef);
        let sums: ArrayRef = Arc::new(lists.finish());
        Ok(counts.into_iter().chain([sums]).collect())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit_to)?;
        let sums = sums.iter().map(Exact::rounded);
        let values: Float64Array = match counts {
            None => sums.collect(),
            Some(counts) => (sums.zip(counts))
                .map(|(sum, count)| Some(sum? / count as f64))
                .collect(),
        };
        Ok(Arc::new(values))
    }

    /// For plans of several phases, which there are none of here.
    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("values as the state of a sum")
    }

    fn size(&self) -> usize {
        let counts = self.counts.as_ref().map_or(0, Vec::capacity);
        self.sums.capacity() * size_of::<Exact>() + 8 * (counts + self.spilled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: impl IntoIterator<Item = f64>) -> Option<f64> {
        let mut sum = Exact::default();
        values.into_iter().for_each(|v| sum.add(v));
        sum.rounded()
    }

    #[test]
    fn sums_are_rounded_once() {
        // From the tests of Python's `math.fsum`.
        let half = 2f64.powi(-53);
        for (values, expected) in [
            (vec![0.0], 0.0),
            (vec![-0.0, -0.0], 0.0),
            (vec![1e100, 1.0, -1e100, 1e-100, 1e50, -1.0, -1e50], 1e-100),
            (
                vec![2f64.powi(53), -0.5, -2f64.powi(-54)],
                2f64.powi(53) - 1.0,
            ),
            (
                vec![2f64.powi(53), 1.0, 2f64.powi(-100)],
                2f64.powi(53) + 2.0,
            ),
            (vec![1.0, half], 1.0),
            (vec![1.0, half, 2f64.powi(-100)], 1.0 + 2.0 * half),
            (vec![1.0, half, -2f64.powi(-100)], 1.0),
            (vec![1.0 + 2.0 * half, half], 1.0 + 4.0 * half),
            (vec![0.1; 10], 1.0),
            (vec![f64::MAX, f64::INFINITY], f64::INFINITY),
            (vec![f64::NEG_INFINITY, 1.0, 2.0], f64::NEG_INFINITY),
        ] {
            assert_eq!(sum(values.clone()), Some(expected), "{values:?}");
        }
        assert_eq!(sum([]), None);
        assert!(
            sum([f64::INFINITY, 1.0, f64::NEG_INFINITY])
                .unwrap()
                .is_nan()
        );
        assert!(sum([f64::NAN, 1.0, f64::INFINITY]).unwrap().is_nan());
    }

    proptest! {
        /// A sum, updated in any order and merged from any parts, is the exact one, rounded.
        #[test]
        fn sums_do_not_depend_on_the_order(
            numbers in prop::collection::vec((-(1_i64 << 53)..1 << 53, 0..8_u32), 0..30),
            cut in 0..30_usize,
            shuffled in any::<prop::sample::Index>(),
        ) {
            // Multiples of 2^-20, of very different sizes, whose exact sum is a whole number.
            let scale = |n: &(i64, u32)| (i128::from(n.0) << (4 * n.1), n.0 as f64 * f64::from(1 << (4 * n.1)) / 1048576.0);
            let exact: i128 = numbers.iter().map(|n| scale(n).0).sum();
            let expected = exact as f64 / 1048576.0;
            let mut values: Vec<f64> = numbers.iter().map(|n| scale(n).1).collect();
            if !values.is_empty() {
                let at = shuffled.index(values.len());
                values.rotate_left(at);
            }
            let cut = cut.min(values.len());
            let sums = || DoubleSums { sums: Vec::new(), counts: Some(Vec::new()), spilled: 0 };
            let mut merged = sums();
            for part in [&values[..cut], &values[cut..]] {
                let mut sums = sums();
                let column: ArrayRef = Arc::new(Float64Array::from(part.to_vec()));
                sums.update_batch(&[column], &vec![1; part.len()], None, 2).unwrap();
                let state = sums.state(EmitTo::All).unwrap();
                merged.merge_batch(&state, &[0, 1], 2).unwrap();
            }
            prop_assert_eq!(merged.sums[1].rounded(), (!values.is_empty()).then_some(expected));
            let averages = merged.evaluate(EmitTo::All).unwrap();
            let averages = averages.as_primitive::<Float64Type>();
            prop_assert!(averages.is_null(0));
            if !values.is_empty() {
                prop_assert_eq!(averages.value(1), expected / values.len() as f64);
            }
        }
    }
}
