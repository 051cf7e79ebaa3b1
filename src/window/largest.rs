//! State that no budget can hold: an error that names the groups which are to blame.

use super::assign::NEVER;
use crate::batches;
use crate::encode::text::{bytes_text, counted};
use crate::error::Error;
use crate::time::format_us;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::HashMap;

/// Groups that the error names.
const NAMED: usize = 3;
/// Groups of each batch that are looked at: the same key may be large in several.
const CANDIDATES: usize = 64;

/// `what` needs more than `limit` bytes for these segments (`keys` key columns, then state).
pub fn too_large(what: &str, batches: &[&RecordBatch], keys: usize, limit: usize) -> Error {
    let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
    let bytes: usize = batches::held(batches.iter().copied());
    let mut message = format!(
        "{what} needs {} for {} of state, more than the {} that --memory leaves it",
        bytes_text(bytes),
        counted(rows as u64, "row"),
        bytes_text(limit),
    );
    if keys > 0 {
        let largest = largest(batches, keys).into_iter();
        let largest: Vec<String> = largest
            .map(|(key, bytes)| format!("{key} ({})", bytes_text(bytes)))
            .collect();
        message.push_str(&format!("; its largest keys: {}", largest.join(", ")));
    }
    Error::env(message).with_hint(
        "raise --memory; approx_distinct(x) takes far less than COUNT(DISTINCT x), and ORDER BY or ROW_NUMBER less over groups that HAVING has left",
    )
}

/// A window in a message.
pub fn window_text(start: i64, end: i64) -> String {
    if end == NEVER {
        return "the query".into();
    }
    format!("the window from {} to {}", format_us(start), format_us(end))
}

/// The keys with the most bytes, as text.
fn largest(batches: &[&RecordBatch], keys: usize) -> Vec<(String, usize)> {
    let mut found: HashMap<String, usize> = HashMap::new();
    for batch in batches {
        let mut sizes: Vec<(usize, usize)> = row_bytes(batch.columns(), batch.num_rows())
            .into_iter()
            .zip(0..)
            .collect();
        let by_size = |a: &(usize, usize), b: &(usize, usize)| b.cmp(a);
        if sizes.len() > CANDIDATES {
            sizes.select_nth_unstable_by(CANDIDATES, by_size);
            sizes.truncate(CANDIDATES);
        }
        for (bytes, row) in sizes {
            *found.entry(key_text(batch, keys, row)).or_default() += bytes;
        }
    }
    let mut found: Vec<(String, usize)> = found.into_iter().collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(NAMED);
    found
}

fn key_text(batch: &RecordBatch, keys: usize, row: usize) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let value = |column: &ArrayRef| match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => "?".to_string(),
    };
    let values: Vec<String> = batch.columns()[..keys].iter().map(value).collect();
    values.join(" | ")
}

/// Bytes of each row over all columns, about: enough to tell the large from the small.
fn row_bytes(columns: &[ArrayRef], rows: usize) -> Vec<usize> {
    let mut bytes = vec![0; rows];
    for column in columns {
        for (sum, more) in bytes.iter_mut().zip(value_bytes(column)) {
            *sum += more;
        }
    }
    bytes
}

fn value_bytes(column: &ArrayRef) -> Vec<usize> {
    let rows = column.len();
    match column.data_type() {
        DataType::Utf8View => lengths(column.as_string_view().iter().map(|v| v.map(str::len))),
        DataType::BinaryView => lengths(column.as_binary_view().iter().map(|v| v.map(<[u8]>::len))),
        DataType::Utf8 => lengths(column.as_string::<i32>().iter().map(|v| v.map(str::len))),
        DataType::LargeUtf8 => lengths(column.as_string::<i64>().iter().map(|v| v.map(str::len))),
        DataType::Binary => lengths(column.as_binary::<i32>().iter().map(|v| v.map(<[u8]>::len))),
        DataType::LargeBinary => {
            lengths(column.as_binary::<i64>().iter().map(|v| v.map(<[u8]>::len)))
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let each = value_bytes(list.values());
            let ends = list.offsets().windows(2);
            ends.map(|w| each[w[0] as usize..w[1] as usize].iter().sum())
                .collect()
        }
        DataType::Struct(_) => row_bytes(column.as_struct().columns(), rows),
        other => vec![other.primitive_width().unwrap_or(1); rows],
    }
}

fn lengths(values: impl Iterator<Item = Option<usize>>) -> Vec<usize> {
    // A view or an offset stands for each value.
    values.map(|v| v.unwrap_or(0) + 16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn the_largest_keys_are_named() {
        let batch = |keys: Vec<Option<&str>>, lengths: Vec<usize>| {
            let lists = lengths.into_iter().map(|n| Some((0..n as i64).map(Some)));
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("k", Arc::new(StringViewArray::from(keys))),
                (
                    "n",
                    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
                ),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let (a, b) = (
            batch(vec![Some("a"), Some("b"), None], vec![300, 1, 10_000]),
            batch(vec![Some("c"), Some("a"), Some("d")], vec![200, 400, 0]),
        );
        let error = too_large("window w", &[&a, &b], 1, 5 << 20);
        let text = error.to_string();
        assert!(text.starts_with("window w needs "), "{text}");
        assert!(
            text.contains("6 rows of state, more than the 5.0 MB"),
            "{text}"
        );
        let named = text.split("largest keys: ").nth(1).unwrap();
        let keys: Vec<&str> = named
            .split(", ")
            .map(|k| k.split(' ').next().unwrap())
            .collect();
        assert_eq!(keys, ["NULL", "a", "c"], "{text}");
        assert!(error.hint().unwrap().contains("--memory"));
    }

    #[test]
    fn without_keys_none_is_named() {
        let column = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let text = too_large("window w", &[&batch], 0, 1).to_string();
        assert!(!text.contains("largest"), "{text}");
    }
}
