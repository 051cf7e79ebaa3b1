use super::*;
use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion_physical_expr::expressions::{cast, col};
use proptest::prelude::*;
use std::cell::Cell;

/// `CAST(a AS …)` and `CAST(b AS …)`.
fn casts_of(schema: &Schema, types: [DataType; 2]) -> Vec<Arc<dyn PhysicalExpr>> {
    let columns = ["a", "b"].into_iter().zip(types);
    let casts = columns.map(|(name, data_type)| {
        let column = col(name, schema).unwrap();
        casts::quicken(cast(column, schema, data_type).unwrap()).unwrap()
    });
    casts.collect()
}

fn batch(rows: &[(Option<String>, Option<String>)]) -> RecordBatch {
    let a: StringViewArray = rows.iter().map(|(a, _)| a.as_deref()).collect();
    let b: StringViewArray = rows.iter().map(|(_, b)| b.as_deref()).collect();
    let row = Int64Array::from_iter_values(0..rows.len() as i64);
    RecordBatch::try_from_iter(vec![
        ("a", Arc::new(a) as ArrayRef),
        ("b", Arc::new(b)),
        ("row", Arc::new(row)),
    ])
    .unwrap()
}

/// The rows that went on with their numbers, and those that failed. Also how often they were run.
type Outcome = (Vec<(i64, String)>, Failed);

fn run(batch: &RecordBatch, types: [DataType; 2], ask: bool) -> (Outcome, usize) {
    let exprs = casts_of(&batch.schema(), types);
    let runs = Cell::new(0);
    let step = |rows: &RecordBatch| {
        runs.set(runs.get() + 1);
        let values = exprs.iter().map(|expr| evaluate(expr, rows));
        let values = values.collect::<Result<Vec<_>>>()?;
        let numbers = rows.column(2).as_primitive::<Int64Type>().values();
        let texts = (0..rows.num_rows())
            .map(|i| format!("{:?}", [values[0].slice(i, 1), values[1].slice(i, 1)]));
        Ok(numbers.iter().copied().zip(texts).collect::<Vec<_>>())
    };
    let asked = |rows: &RecordBatch| match ask {
        true => blame(&[], &exprs, rows),
        false => Ok(Vec::new()),
    };
    let isolated = run_isolating(batch, &step, &asked).unwrap();
    let mut went_on = Vec::new();
    for (part, rows) in isolated.parts {
        if let Some(rows) = rows {
            let numbers: Vec<i64> = rows.values().iter().map(|r| i64::from(*r)).collect();
            assert!(part.iter().map(|(row, _)| *row).eq(numbers));
        }
        went_on.extend(part);
    }
    ((went_on, isolated.failed), runs.get())
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.9, "[0-9]{1,3}|[0-9]{1,2}\\.[0-9]|[a-c]|2000-01-0[0-9]| ")
}

proptest! {
    #[test]
    fn what_is_asked_for_is_what_halving_finds(
        rows in prop::collection::vec((text(), text()), 1..60),
        types in prop::sample::select(vec![
            [DataType::Int32, DataType::Float64],
            [DataType::Int8, DataType::Date32],
            [DataType::UInt64, DataType::Boolean],
        ]),
    ) {
        let batch = batch(&rows);
        prop_assert_eq!(run(&batch, types.clone(), true).0, run(&batch, types, false).0);
    }
}

/// Each failing row had to stand alone first: the batch was run some thousand times.
#[test]
fn a_batch_with_many_failing_rows_is_run_few_times() {
    let number = |i: usize, every: usize| match i.is_multiple_of(every) {
        true => Some(format!("x{i}")),
        false => Some(i.to_string()),
    };
    let rows: Vec<_> = (1..4000).map(|i| (number(i, 10), number(i, 7))).collect();
    let ((went_on, failed), runs) = run(&batch(&rows), [DataType::Int32, DataType::Int64], true);
    let bad = |i: &usize| i.is_multiple_of(10) || i.is_multiple_of(7);
    assert_eq!(failed.len(), (1..4000).filter(bad).count());
    assert_eq!(went_on.len() + failed.len(), rows.len());
    // The reason is that of the first cast, as it is for the row alone.
    assert!(
        failed
            .iter()
            .any(|(row, reason)| *row == 69 && reason.contains("'x70'"))
    );
    assert!(
        failed
            .iter()
            .all(|(row, reason)| reason.contains(&format!("'x{}'", row + 1)))
    );
    assert!(runs <= 3, "{runs}");
}
