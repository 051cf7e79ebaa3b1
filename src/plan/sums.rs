//! SUM and AVG of doubles that do not depend on the order of rows. A sum that rounds at each step
//! does: its last digits were others with other workers, batches or restarts. Here the sum of a
//! group is exact, as a few doubles, and is rounded once, to the nearest double.
//!
//! J. R. Shewchuk, *Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
//! Predicates* (1997), the expansions; Python's `math.fsum` (R. Hettinger), how they are rounded.
//! Sums beyond the range of doubles are infinite, and those of infinities are as IEEE 754 has them.

use super::accumulate::{all_groups, one_phase};
use crate::batches::only_true;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use std::collections::HashMap;
use std::sync::Arc;

/// What the addition of two doubles gives, and what it has rounded away: both are exact (Knuth).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// The exact sum of some doubles: doubles of growing magnitude that have no bits in common.
#[derive(Debug, Clone, Default)]
struct Exact(Vec<f64>);

impl Exact {
    fn add(&mut self, value: f64) {
        let mut carried = value;
        let mut kept = 0;
        for i in 0..self.0.len() {
            let (sum, rounded) = two_sum(carried, self.0[i]);
            if rounded != 0.0 {
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
    fn rounded(&self) -> f64 {
        let mut parts = self.0.iter().rev();
        let mut sum = parts.next().copied().unwrap_or_default();
        while let Some(part) = parts.next() {
            let (next, rounded) = two_sum(sum, *part);
            sum = next;
            if rounded != 0.0 {
                let further = parts.next().is_some_and(|p| (*p < 0.0) == (rounded < 0.0));
                let (up, rest) = two_sum(sum, rounded * 2.0);
                if further && rest == 0.0 {
                    sum = up;
                }
                break;
            }
        }
        sum
    }
}

/// The sum of a group: what it is to the nearest double, and what that has rounded away.
type Sum = [f64; 2];

/// No value yet: a sum that has begun is never -0.0.
const NOTHING: Sum = [-0.0, 0.0];

fn is_nothing(sum: f64) -> bool {
    sum.to_bits() == NOTHING[0].to_bits()
}

/// SUM, or AVG if it counts.
pub(super) struct DoubleSums {
    sums: Vec<Sum>,
    /// By group: what has no place in two doubles.
    rests: HashMap<usize, Exact>,
    counts: Option<Vec<u64>>,
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
        fits.then(|| Self::new(counts))
    }

    fn new(counts: Option<Vec<u64>>) -> Self {
        Self {
            sums: Vec::new(),
            rests: HashMap::new(),
            counts,
        }
    }

    /// The number of columns of its state.
    pub fn state_width(&self) -> usize {
        3 + usize::from(self.counts.is_some())
    }

    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, NOTHING);
        if let Some(counts) = &mut self.counts {
            counts.resize(groups, 0);
        }
    }

    #[inline(always)]
    fn add(&mut self, group: usize, value: f64) {
        let [sum, rounded] = &mut self.sums[group];
        let (carried, rest) = two_sum(value + 0.0, *rounded);
        (*sum, *rounded) = two_sum(*sum, carried);
        if rest != 0.0 || !sum.is_finite() {
            self.rest(group, rest);
        }
    }

    #[cold]
    fn rest(&mut self, group: usize, rest: f64) {
        let [sum, rounded] = &mut self.sums[group];
        if sum.is_finite() {
            self.rests.entry(group).or_default().add(rest);
        } else {
            *rounded = 0.0;
            self.rests.remove(&group);
        }
    }

    fn rounded(&self, group: usize) -> Option<f64> {
        let [sum, rounded] = self.sums[group];
        if is_nothing(sum) {
            return None;
        }
        let Some(rest) = self.rests.get(&group) else {
            return Some(sum);
        };
        let mut exact = rest.clone();
        exact.add(rounded);
        exact.add(sum);
        Some(exact.rounded() + 0.0)
    }

    fn clear(&mut self) {
        *self = Self::new(self.counts.is_some().then(Vec::new));
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
        if filter.is_none() && values.null_count() == 0 {
            for (group, value) in group_indices.iter().zip(values.values()) {
                self.add(*group, *value);
            }
            if let Some(counts) = &mut self.counts {
                group_indices.iter().for_each(|group| counts[*group] += 1);
            }
            return Ok(());
        }
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

    /// The state: the sums, what they have rounded away, lists of what has no place there (or NULL),
    /// and AVG's counts.
    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let [sums, rounded, rests, counted @ ..] = values else {
            return internal_err!("a state of sums without its columns");
        };
        let sums = sums.as_primitive::<Float64Type>().values();
        let rounded = rounded.as_primitive::<Float64Type>().values();
        for ((sum, rounded), group) in sums.iter().zip(rounded).zip(group_indices) {
            if is_nothing(self.sums[*group][0]) {
                self.sums[*group] = [*sum, *rounded];
            } else if !is_nothing(*sum) {
                self.add(*group, *rounded);
                self.add(*group, *sum);
            }
        }
        let rests = rests.as_list::<i32>();
        if rests.null_count() < rests.len() {
            let parts = rests.values().as_primitive::<Float64Type>();
            for (ends, group) in rests.offsets().windows(2).zip(group_indices) {
                for part in &parts.values()[ends[0] as usize..ends[1] as usize] {
                    self.add(*group, *part);
                }
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
        all_groups(emit_to)?;
        let part = |i: usize| -> ArrayRef {
            let parts = self.sums.iter().map(|sum| sum[i]);
            Arc::new(Float64Array::from_iter_values(parts))
        };
        let (sums, rounded) = (part(0), part(1));
        let mut rests = ListBuilder::with_capacity(Float64Builder::new(), self.sums.len());
        for group in 0..self.sums.len() {
            let rest = match self.rests.is_empty() {
                true => None,
                false => self.rests.get(&group),
            };
            rests
                .values()
                .append_slice(rest.map_or(&[], |rest| &rest.0));
            rests.append(rest.is_some());
        }
        let mut columns: Vec<ArrayRef> = vec![sums, rounded, Arc::new(rests.finish())];
        if let Some(counts) = &mut self.counts {
            columns.push(Arc::new(UInt64Array::from(std::mem::take(counts))));
        }
        self.clear();
        Ok(columns)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        all_groups(emit_to)?;
        let sums = (0..self.sums.len()).map(|group| self.rounded(group));
        let values: Float64Array = match &self.counts {
            None => sums.collect(),
            Some(counts) => (sums.zip(counts))
                .map(|(sum, count)| Some(sum? / *count as f64))
                .collect(),
        };
        self.clear();
        Ok(Arc::new(values))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        let counts = self.counts.as_ref().map_or(0, Vec::capacity);
        let rests = self.rests.values().map(|rest| rest.0.capacity() + 8);
        self.sums.capacity() * size_of::<Sum>() + 8 * (counts + rests.sum::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: impl IntoIterator<Item = f64>) -> Option<f64> {
        let mut sums = DoubleSums::new(None);
        let column: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
        sums.update_batch(
            std::slice::from_ref(&column),
            &vec![0; column.len()],
            None,
            1,
        )
        .unwrap();
        let sums = sums.evaluate(EmitTo::All).unwrap();
        let sums = sums.as_primitive::<Float64Type>();
        sums.is_valid(0).then(|| sums.value(0))
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
            let sums = || DoubleSums::new(Some(Vec::new()));
            let mut merged = sums();
            for part in [&values[..cut], &values[cut..]] {
                let mut sums = sums();
                let column: ArrayRef = Arc::new(Float64Array::from(part.to_vec()));
                sums.update_batch(&[column], &vec![1; part.len()], None, 2).unwrap();
                let state = sums.state(EmitTo::All).unwrap();
                merged.merge_batch(&state, &[0, 1], 2).unwrap();
            }
            prop_assert_eq!(merged.rounded(1), (!values.is_empty()).then_some(expected));
            let averages = merged.evaluate(EmitTo::All).unwrap();
            let averages = averages.as_primitive::<Float64Type>();
            prop_assert!(averages.is_null(0));
            if !values.is_empty() {
                prop_assert_eq!(averages.value(1), expected / values.len() as f64);
            }
        }
    }
}
