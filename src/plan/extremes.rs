//! MIN and MAX of doubles, in the order of Java's `Double.compare`, which is Flink's and Spark's: NaN is
//! larger than everything. DataFusion compares as IEEE 754 does, so that what NaN does depends on the order
//! of rows, and begins with the smallest finite double, so that nothing is below it. The state is DataFusion's:
//! the value, or NULL.

use super::accumulate::one_phase;
use crate::batches::only_true;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, PrimitiveArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::Result;
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature,
};
use datafusion_functions_aggregate::min_max::{max_udaf, min_udaf};
use std::sync::Arc;

/// A number that is ordered as the doubles are: their bits, of negative ones with all but the sign turned
/// round.
#[inline(always)]
fn place(value: f64) -> i64 {
    // There are many NaNs, and those with a sign would be below everything.
    let value = if value.is_nan() { f64::NAN } else { value };
    turned(value.to_bits() as i64)
}

/// It undoes itself.
#[inline(always)]
fn turned(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// No value yet: the place of a NaN that [`place`] never gives, and turned round still one.
const NOTHING: i64 = i64::MIN;

/// DataFusion's MIN or MAX, but of doubles and floats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme(Arc<AggregateUDF>);

/// MIN and MAX.
pub(super) fn all() -> [AggregateUDF; 2] {
    [min_udaf(), max_udaf()].map(|function| AggregateUDF::new_from_impl(Extreme(function)))
}

impl AggregateUDFImpl for Extreme {
    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type();
        if !matches!(data_type, DataType::Float32 | DataType::Float64) {
            return self.0.create_groups_accumulator(args);
        }
        let turn = if self.0.name() == "max" { 0 } else { -1 };
        Ok(Box::new(DoubleExtremes::new(turn, data_type)))
    }

    /// For all rows together, or those of a frame: in the same order.
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_udf()
    }

    fn is_descending(&self) -> Option<bool> {
        self.0.is_descending()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.inner().set_monotonicity(data_type)
    }
}

/// MAX; as MIN it keeps places with all bits turned round, whose order is the other one.
struct DoubleExtremes {
    /// By group.
    places: Vec<i64>,
    turn: i64,
    data_type: DataType,
}

impl DoubleExtremes {
    fn new(turn: i64, data_type: &DataType) -> Self {
        Self {
            places: Vec::new(),
            turn,
            data_type: data_type.clone(),
        }
    }

    #[inline(always)]
    fn add(&mut self, group: usize, value: f64) {
        let place = place(value) ^ self.turn;
        let kept = &mut self.places[group];
        *kept = place.max(*kept);
    }

    fn add_all<T: ArrowPrimitiveType<Native: Into<f64>>>(
        &mut self,
        values: &PrimitiveArray<T>,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
    ) {
        if filter.is_none() && values.null_count() == 0 {
            for (group, value) in group_indices.iter().zip(values.values()) {
                self.add(*group, (*value).into());
            }
            return;
        }
        for (row, group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && filter.is_none_or(|filter| filter.value(row)) {
                self.add(*group, values.value(row).into());
            }
        }
    }
}

impl GroupsAccumulator for DoubleExtremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.places.resize(total_num_groups, NOTHING);
        let filter = opt_filter.map(only_true);
        match self.data_type {
            DataType::Float32 => {
                let values = values[0].as_primitive::<Float32Type>();
                self.add_all(values, group_indices, filter.as_ref());
            }
            _ => {
                let values = values[0].as_primitive::<Float64Type>();
                self.add_all(values, group_indices, filter.as_ref());
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
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let places = emit_to.take_needed(&mut self.places);
        let value = |place| match place {
            NOTHING => None,
            place => Some(f64::from_bits(turned(place ^ self.turn) as u64)),
        };
        let values: Float64Array = places.into_iter().map(value).collect();
        Ok(cast(&(Arc::new(values) as ArrayRef), &self.data_type)?)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        one_phase()
    }

    fn size(&self) -> usize {
        self.places.capacity() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float32Array;
    use proptest::prelude::*;

    fn text(array: &ArrayRef) -> String {
        let one = array.as_primitive::<Float64Type>();
        match one.is_valid(0) {
            true => format!("{:?}", one.value(0)),
            false => "NULL".to_string(),
        }
    }

    /// MIN and MAX of two parts that are merged.
    fn extremes(parts: [&[f64]; 2]) -> [String; 2] {
        [-1, 0].map(|turn| {
            let new = || DoubleExtremes::new(turn, &DataType::Float64);
            let mut merged = new();
            for part in parts {
                let mut of_part = new();
                let values: ArrayRef = Arc::new(Float64Array::from(part.to_vec()));
                of_part
                    .update_batch(&[values], &vec![0; part.len()], None, 1)
                    .unwrap();
                let state = of_part.state(EmitTo::All).unwrap();
                merged.merge_batch(&state, &[0], 1).unwrap();
            }
            text(&merged.evaluate(EmitTo::All).unwrap())
        })
    }

    /// MAX of only -Infinity was -1.79e308, and NaN counted or not by where it stood.
    #[test]
    fn nan_is_the_largest_and_infinity_is_a_value() {
        let (infinity, nan) = (f64::INFINITY, f64::NAN);
        for (values, expected) in [
            (vec![], ["NULL", "NULL"]),
            (vec![-infinity], ["-inf", "-inf"]),
            (vec![infinity], ["inf", "inf"]),
            (vec![nan], ["NaN", "NaN"]),
            (vec![-nan], ["NaN", "NaN"]),
            (vec![1.0, nan, 2.0], ["1.0", "NaN"]),
            (vec![-nan, 1.0, infinity], ["1.0", "NaN"]),
            (vec![0.0, -0.0], ["-0.0", "0.0"]),
            (vec![-0.0, 0.0], ["-0.0", "0.0"]),
            (vec![-1.5, -2.5, 5e-324], ["-2.5", "5e-324"]),
        ] {
            for cut in 0..=values.len() {
                let (one, other) = values.split_at(cut);
                assert_eq!(extremes([one, other]), expected, "{values:?}");
            }
        }
    }

    #[test]
    fn floats_stay_floats_and_nulls_and_filtered_rows_do_not_count() {
        let values: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.1), None, Some(9.0)]));
        let filter = BooleanArray::from(vec![Some(true), Some(true), None]);
        let mut most = DoubleExtremes::new(0, &DataType::Float32);
        most.update_batch(&[values], &[0, 0, 0], Some(&filter), 2)
            .unwrap();
        let most = most.evaluate(EmitTo::All).unwrap();
        let expected: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.1), None]));
        assert_eq!(&most, &expected);
    }

    proptest! {
        #[test]
        fn places_are_ordered_as_doubles_are(a in any::<f64>(), b in any::<f64>()) {
            prop_assert_eq!(place(a).cmp(&place(b)), a.total_cmp(&b));
            prop_assert_eq!(f64::from_bits(turned(place(a)) as u64), a);
            prop_assert!(place(a) != NOTHING && place(a) ^ -1 != NOTHING);
        }
    }
}
