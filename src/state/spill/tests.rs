use super::*;
use crate::window::spill::{PARTS, split};
use arrow::array::{Array, AsArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use std::collections::BTreeMap;

fn segment(rows: i64) -> RecordBatch {
    let keys: StringViewArray = (0..rows)
        .map(|i| (i % 7 != 0).then(|| format!("a key that is not inlined {i}")))
        .collect();
    let schema = Schema::new(vec![
        Field::new("c0", DataType::Utf8View, true),
        Field::new("c1", DataType::Int64, true),
    ]);
    let values = Int64Array::from_iter_values(0..rows);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keys), Arc::new(values)]).unwrap()
}

fn rows(batch: &RecordBatch) -> Vec<(i64, Option<String>)> {
    let (keys, values) = (batch.column(0).as_string_view(), batch.column(1));
    let values = values.as_primitive::<Int64Type>().values();
    let key = |i: usize| keys.is_valid(i).then(|| keys.value(i).to_string());
    values
        .iter()
        .enumerate()
        .map(|(i, v)| (*v, key(i)))
        .collect()
}

#[test]
fn parts_hold_each_row_once_and_each_key_in_one_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = SpillFile::new(folder.path().to_path_buf(), "0");
    let whole = segment(20_000);
    let spilled = file.spill(&split(&whole, 1).unwrap()).unwrap();
    assert_eq!(spilled.0.rows(), 20_000);
    let (mut all, mut part_of) = (Vec::new(), BTreeMap::new());
    for part in 0..PARTS {
        let part_rows = rows(&spilled.0.part(part).unwrap());
        for (_, key) in &part_rows {
            assert_eq!(*part_of.entry(key.clone()).or_insert(part), part);
        }
        all.extend(part_rows);
    }
    all.sort();
    assert_eq!(all, rows(&whole));
}

#[test]
fn the_file_has_no_name_and_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = SpillFile::new(folder.path().to_path_buf(), "0");
    let parts = split(&segment(1000), 1).unwrap();
    let first = file.spill(&parts).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let end = file.end;
    drop(first);
    file.spill(&parts).unwrap();
    assert_eq!(file.end, end);
}

#[test]
fn a_part_does_not_drag_the_text_of_the_others_along() {
    // Views of one part pointed into the text of the whole segment, which was written 64 times.
    let folder = tempfile::tempdir().unwrap();
    let mut file = SpillFile::new(folder.path().to_path_buf(), "0");
    let whole = segment(20_000);
    file.spill(&split(&whole, 1).unwrap()).unwrap();
    assert!(file.end < 3 * whole.get_array_memory_size() as u64);
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let mut file = SpillFile::new("/nowhere/at/all".into(), "0");
    let error = file.spill(&split(&segment(10), 1).unwrap()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(error.hint().unwrap().contains("--memory"));
}

/// What was always in use kept all of one file, which only grew.
#[test]
fn a_full_file_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = SpillFile::new(folder.path().to_path_buf(), "0");
    file.file_bytes = 1;
    let parts = split(&segment(1000), 1).unwrap();
    let first = file.spill(&parts).unwrap();
    let second = file.spill(&parts).unwrap();
    assert_eq!(file.files, 2);
    let read = |spilled: &Spilled| {
        (0..PARTS)
            .flat_map(|i| rows(&spilled.0.part(i).unwrap()))
            .count()
    };
    assert_eq!((read(&first), read(&second)), (1000, 1000));
    drop((first, second));
    let end = file.end;
    file.spill(&parts).unwrap();
    assert_eq!((file.files, file.end), (2, end));
}
