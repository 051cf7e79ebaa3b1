//! Rows to `key=value` folders, spelled as Hive and Spark spell them (Flink has another name for NULL).

use crate::encode::text::{Dialect, cell, is_null};
use crate::error::{Error, Result};
use crate::table::{Column, TableDef};
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::path::Path;

/// The folder of NULL and of the empty text.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";
/// That of Flink.
const NULL_FOLDER_FLINK: &str = "__DEFAULT_PARTITION__";

/// Splits batches by the table's PARTITIONED BY columns.
pub(super) struct Partitioner {
    /// `key=`, escaped, and the column's index in a batch; in the order of PARTITIONED BY.
    keys: Vec<(String, usize)>,
    /// Indexes of the columns that stand in the files.
    file_columns: Vec<usize>,
}

impl Partitioner {
    /// `None` for a table without PARTITIONED BY. `columns` are those of the batches.
    pub(super) fn new(def: &TableDef, columns: &[&Column]) -> Result<Option<Partitioner>> {
        if def.partitioned_by.is_empty() {
            return Ok(None);
        }
        let mut keys = Vec::with_capacity(def.partitioned_by.len());
        for name in &def.partitioned_by {
            let index = columns
                .iter()
                .position(|c| c.name == *name)
                .ok_or_else(|| {
                    Error::sql(format!(
                        "PARTITIONED BY ({name}): table '{}' has no such column",
                        def.name
                    ))
                    .or_at(def.at)
                })?;
            keys.push((format!("{}=", escape(name)), index));
        }
        let file_columns: Vec<usize> = (0..columns.len())
            .filter(|i| keys.iter().all(|(_, k)| k != i))
            .collect();
        if file_columns.is_empty() {
            return Err(Error::sql(format!(
                "PARTITIONED BY leaves no column for the files of table '{}'",
                def.name
            ))
            .or_at(def.at)
            .with_hint(
                "partition by fewer columns: their values stand in the folders' names only",
            ));
        }
        Ok(Some(Partitioner { keys, file_columns }))
    }

    pub(super) fn file_columns(&self) -> &[usize] {
        &self.file_columns
    }

    /// The rows of each folder, in order; folders are relative (`day=2022-01-01/hour=12`).
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<BTreeMap<String, Vec<u32>>> {
        let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut folder = String::new();
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            folder.clear();
            for (i, (key, column)) in self.keys.iter().enumerate() {
                if i > 0 {
                    folder.push('/');
                }
                folder.push_str(key);
                let array = batch.column(*column);
                text.clear();
                if !is_null(array, row) {
                    cell(array, row, Dialect::Spark, false, &mut text)?;
                }
                if text.is_empty() {
                    folder.push_str(NULL_FOLDER);
                } else {
                    folder.push_str(&escape(&String::from_utf8_lossy(&text)));
                }
            }
            match groups.get_mut(&folder) {
                Some(rows) => rows.push(row as u32),
                None => {
                    groups.insert(folder.clone(), vec![row as u32]);
                }
            }
        }
        Ok(groups)
    }
}

/// Hive's escapes of what a folder's name cannot hold: `%` and two hexadecimal digits.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            escaped.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Undoes [`escape`]. A `%` without two hexadecimal digits behind it stands for itself.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let escaped = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match escaped.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of the folder `name=value` on the way to `path`: `Some(None)` is NULL, `None` when
/// there is no such folder.
pub(crate) fn partition_value(path: &Path, name: &str) -> Option<Option<String>> {
    let folders = path.parent()?.components().rev();
    let prefix = format!("{}=", escape(name));
    let value = folders
        .filter_map(|c| c.as_os_str().to_str()?.strip_prefix(&prefix))
        .next()?;
    let is_null = [NULL_FOLDER, NULL_FOLDER_FLINK].contains(&value);
    Some((!is_null).then(|| unescape(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_the_path() {
        let path =
            Path::new("/data/day=2022-01-01/h=12%3A00/n=__HIVE_DEFAULT_PARTITION__/part-0.parquet");
        assert_eq!(
            partition_value(path, "day"),
            Some(Some("2022-01-01".into()))
        );
        assert_eq!(partition_value(path, "h"), Some(Some("12:00".into())));
        assert_eq!(partition_value(path, "n"), Some(None));
        let of_flink = Path::new("/data/n=__DEFAULT_PARTITION__/part-0");
        assert_eq!(partition_value(of_flink, "n"), Some(None));
        assert_eq!(partition_value(path, "x"), None);
    }

    #[test]
    fn escapes_read_back() {
        assert_eq!(escape("2022-01-01 12:00:00"), "2022-01-01 12%3A00%3A00");
        assert_eq!(escape("a/b=c%"), "a%2Fb%3Dc%25");
        assert_eq!(escape("\u{1}\u{7f}é"), "%01%7Fé");
        for text in ["a/b=c%", "100%", "%zz%4", "夜\t"] {
            assert_eq!(unescape(&escape(text)), text);
        }
        assert_eq!(unescape("%"), "%");
        assert_eq!(unescape("%+1"), "%+1");
    }
}
