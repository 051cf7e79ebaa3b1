//! SUM and AVG of doubles that do not depend on the order of rows. A sum that rounds at each step
//! does: its last digits were others with other workers, batches or restarts. Here the sum of a
//! group is exact, as a few doubles, and is rounded once, to the nearest double.
//!
//! J. R. Shewchuk, *Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
//! Predicates* (1997), the expansions; Python's `math.fsum` (R. Hettinger), how they are rounded.
//! Sums beyond the range of doubles are infinite, those that only were so on the way are not, and those of
//! infinities are as IEEE 754 has them.

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

/// The sum of a group: what it is to the nearest double, and what that has rounded away. An infinity or NaN
/// is that of values; what the values themselves sum up to does not count then.
type Sum = [f64; 2];

/// No value yet: a sum that has begun is never -0.0.
const NOTHING: Sum = [-0.0, 0.0];

fn is_nothing(sum: f64) -> bool {
    sum.to_bits() == NOTHING[0].to_bits()
}

/// Parts of sums that go beyond the range of doubles are kept divided by 2^64, which is exact for all but
/// the smallest numbers, and keeps the sum of 2^64 of them finite.
const SCALE: f64 = 18446744073709551616.0;

/// What has no place in two doubles.
#[derive(Debug, Default)]
struct Rest {
    exact: Exact,
    /// In units of [`SCALE`].
    large: Exact,
}

impl Rest {
    /// The sum with these other parts, to the nearest double, divided.
    fn rounded(&self, parts: Sum, divisor: f64) -> f64 {
        let (mut exact, mut large) = (self.exact.clone(), self.large.clone());
        // Rounded up, the largest sums are infinite on the way.
        if large.0.is_empty() && parts[0].abs() < f64::MAX / 2.0 {
            parts.iter().rev().for_each(|part| exact.add(*part));
            return exact.rounded() / divisor;
        }
        // All large parts together: they may be as near to nothing as they like.
        let mut small = Exact::default();
        for part in exact.0.iter().chain(&parts) {
            match part / SCALE * SCALE == *part {
                true => large.add(part / SCALE),
                false => small.add(*part),
            }
        }
        if large.rounded().abs() > 1.0 {
            // Of what is small, only the sign can count: where the rest is half way between two doubles.
            let small = small.rounded();
            if small != 0.0 {
                large.add(f64::from_bits(1).copysign(small));
            }
            return large.rounded() / divisor * SCALE;
        }
        large.0.iter().for_each(|part| small.add(part * SCALE));
        small.rounded() / divisor
    }

    /// As one list: what is large behind a NaN.
    fn listed(&self) -> impl Iterator<Item = f64> {
        let large = (!self.large.0.is_empty()).then_some(f64::NAN);
        let large = large.into_iter().chain(self.large.0.iter().copied());
        self.exact.0.iter().copied().chain(large)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + 8 * (self.exact.0.capacity() + self.large.0.capacity())
    }
}

/// The same number for doubles that are equal, and one for NaN.
pub(super) fn one_of_equals(value: f64) -> f64 {
    match value.is_nan() {
        true => f64::NAN,
        false => value + 0.0,
    }
}

/// SUM, or AVG if it counts.
pub(super) struct DoubleSums {
    sums: Vec<Sum>,
    /// By group: what has no place in two doubles.
    rests: HashMap<usize, Rest>,
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

    /// SUM; AVG with counts.
    pub fn new(counts: Option<Vec<u64>>) -> Self {
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
        let [sum, rounded] = self.sums[group];
        let (carried, rest) = two_sum(value + 0.0, rounded);
        let added = two_sum(sum, carried);
        if rest != 0.0 || !added.0.is_finite() {
            return self.add_beyond(group, value, added, rest);
        }
        self.sums[group] = added.into();
    }

    /// A value for which two doubles have no place: it leaves a rest, is no number, or the sum with it is
    /// beyond the range of doubles.
    #[cold]
    fn add_beyond(&mut self, group: usize, value: f64, added: (f64, f64), rest: f64) {
        let [sum, rounded] = self.sums[group];
        if added.0.is_finite() {
            self.sums[group] = added.into();
            self.rest(group).exact.add(rest);
        } else if sum.is_finite() && value.is_finite() {
            self.sums[group] = [0.0, rounded];
            let rest = self.rest(group);
            // Both are large, or there would be room.
            rest.large.add(sum / SCALE);
            rest.large.add(value / SCALE);
        } else {
            let infinities = [sum, value].into_iter().filter(|part| !part.is_finite());
            self.sums[group] = [infinities.sum(), 0.0];
            self.rests.remove(&group);
        }
    }

    fn rest(&mut self, group: usize) -> &mut Rest {
        self.rests.entry(group).or_default()
    }

    /// The sum, divided; `None` where there is no value.
    fn rounded(&self, group: usize, divisor: f64) -> Option<f64> {
        let parts = self.sums[group];
        match self.rests.get(&group) {
            _ if is_nothing(parts[0]) => None,
            None => Some(parts[0] / divisor),
            Some(rest) => Some(rest.rounded(parts, divisor) + 0.0),
        }
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

    /// The state: the sums, what they have rounded away, lists of what has no place there (or NULL; see
    /// [`Rest::listed`]), and AVG's counts.
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
                let mut parts =
                    parts.values()[ends[0] as usize..ends[1] as usize].split(|part| part.is_nan());
                for part in parts.next().unwrap_or_default() {
                    self.add(*group, *part);
                }
                for part in parts.next().unwrap_or_default() {
                    if self.sums[*group][0].is_finite() {
                        self.rest(*group).large.add(*part);
                    }
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
            for part in rest.into_iter().flat_map(Rest::listed) {
                rests.values().append_value(part);
            }
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
        let groups = 0..self.sums.len();
        let values: Float64Array = match &self.counts {
            None => groups.map(|group| self.rounded(group, 1.0)).collect(),
            Some(counts) => (groups.zip(counts))
                .map(|(group, count)| self.rounded(group, *count as f64))
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
        let rests = self.rests.values().map(Rest::bytes);
        self.sums.capacity() * size_of::<Sum>() + 8 * counts + rests.sum::<usize>()
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

    /// The sums and counts of two groups, of which the second has all values, merged of two parts.
    fn merged((one, other): (&[f64], &[f64])) -> DoubleSums {
        let sums = || DoubleSums::new(Some(Vec::new()));
        let mut merged = sums();
        for part in [one, other] {
            let mut sums = sums();
            let column: ArrayRef = Arc::new(Float64Array::from(part.to_vec()));
            sums.update_batch(&[column], &vec![1; part.len()], None, 2)
                .unwrap();
            let state = sums.state(EmitTo::All).unwrap();
            merged.merge_batch(&state, &[0, 1], 2).unwrap();
        }
        merged
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
        // Infinite on the way, these stayed so.
        let max = f64::MAX;
        for (values, expected) in [
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![max, max, -max, -max], 0.0),
            (vec![max, max, -max, -max, 5e-324, 1.5], 1.5),
            (vec![max, max, 1.0, -max, -max, 5e-324, -1.0], 5e-324),
            (vec![-max, -max, max, -max, max, 1e-300], -max),
            (vec![max, 2f64.powi(969), -max], 2f64.powi(969)),
            (vec![max, 2f64.powi(970)], f64::INFINITY),
            (vec![max, 2f64.powi(970), -5e-324], max),
            (
                vec![max, 2f64.powi(969), 2f64.powi(969), -1e-300, 1e-320],
                max,
            ),
            (vec![max, 2f64.powi(970), -1e-300, 2e-300], f64::INFINITY),
            (vec![-max, -max], f64::NEG_INFINITY),
            (vec![max, max, f64::NEG_INFINITY], f64::NEG_INFINITY),
        ] {
            for first in 0..values.len() {
                let mut values = values.clone();
                values.rotate_left(first);
                assert_eq!(sum(values.clone()), Some(expected), "{values:?}");
            }
        }
        assert!(
            sum([f64::INFINITY, 1.0, f64::NEG_INFINITY])
                .unwrap()
                .is_nan()
        );
        assert!(sum([f64::NAN, 1.0, f64::INFINITY]).unwrap().is_nan());
    }

    proptest! {
        /// The same beyond the range of doubles, and near its ends.
        #[test]
        fn large_sums_do_not_depend_on_the_order(
            numbers in prop::collection::vec((any::<f64>(), 0..4), 1..12),
            order in any::<u64>(),
            cut in 0..12_usize,
        ) {
            let number = |(value, kind): &(f64, i32)| match (kind, value.is_finite()) {
                (0, _) => f64::MAX.copysign(*value),
                (1, true) => value.rem_euclid(1e308).copysign(*value),
                (2, true) => value % 1.0,
                _ => *value,
            };
            let mut values: Vec<f64> = numbers.iter().map(number).collect();
            let average = |values: &[f64]| {
                let averages = merged(values.split_at(cut.min(values.len()))).evaluate(EmitTo::All);
                let average = averages.unwrap().as_primitive::<Float64Type>().value(1);
                if average.is_nan() { f64::NAN.to_bits() } else { average.to_bits() }
            };
            let expected = average(&values);
            values.sort_by_key(|value| value.to_bits().wrapping_mul(order | 1));
            prop_assert_eq!(average(&values), expected, "{:?}", values);
        }

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
            let mut merged = merged(values.split_at(cut));
            prop_assert_eq!(merged.rounded(1, 1.0), (!values.is_empty()).then_some(expected));
            let averages = merged.evaluate(EmitTo::All).unwrap();
            let averages = averages.as_primitive::<Float64Type>();
            prop_assert!(averages.is_null(0));
            if !values.is_empty() {
                prop_assert_eq!(averages.value(1), expected / values.len() as f64);
            }
        }
    }
}
