mod remote;

use super::*;
use crate::error::At;
use crate::options::Options;
use crate::source::files::read_all;
use crate::table::ColumnKind;
use arrow::array::*;
use arrow::datatypes::TimeUnit;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

const AT: At = At { line: 1, column: 1 };

pub(super) fn table(
    dir: &TempDir,
    batch: &RecordBatch,
    options: &[(&str, &str)],
    partitioned_by: &[&str],
) -> TableDef {
    let mut all = Options::default();
    all.insert(
        "filesystem",
        "path",
        dir.path().join("out").to_str().unwrap(),
        AT,
    )
    .unwrap();
    for (key, value) in options {
        all.insert("filesystem", key, value, AT).unwrap();
    }
    let schema = batch.schema();
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: true,
        kind: ColumnKind::Physical,
        ltz: field.name() == "ltz",
        at: AT,
    };
    TableDef {
        name: "t".into(),
        columns: schema.fields().iter().map(column).collect(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: partitioned_by.iter().map(|c| c.to_string()).collect(),
        values: None,
        options: all,
        at: AT,
    }
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

pub(super) fn open_sink(def: &TableDef, query: &str, checkpoint: Option<&str>) -> Result<FileSink> {
    FileSink::new(def, query, checkpoint, &Keys::default())
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    batch(vec![(
        "n",
        Arc::new(Int64Array::from_iter_values(range)) as ArrayRef,
    )])
}

/// Contents of all files under the table's folder, by path relative to it.
pub(super) fn files(dir: &TempDir) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_string();
                all.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let (root, mut all) = (dir.path().join("out"), BTreeMap::new());
    walk(&root, &root, &mut all);
    all
}

pub(super) fn is_hidden(path: &str) -> bool {
    Path::new(path)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with('.')
}

fn texts(dir: &TempDir) -> Vec<String> {
    files(dir)
        .into_values()
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

#[test]
fn a_file_is_hidden_until_it_is_finished() {
    let dir = TempDir::new().unwrap();
    let def = table(&dir, &numbers(0..0), &[("format", "json")], &[]);
    let mut sink = open_sink(&def, "my query/1", None).unwrap();
    assert!(files(&dir).is_empty(), "no rows, no file");
    sink.write(0, &numbers(0..2)).unwrap();
    sink.commit(0).unwrap();
    let found = files(&dir);
    let (name, content) = found.first_key_value().unwrap();
    assert!(
        is_hidden(name) && name.ends_with("-0.json.inprogress"),
        "{name}"
    );
    assert_eq!(
        content, b"{\"n\":0}\n{\"n\":1}\n",
        "committed lines are with the operating system"
    );
    sink.write(1, &numbers(2..3)).unwrap();
    sink.commit(1).unwrap();
    sink.close().unwrap();
    let found = files(&dir);
    let (name, content) = found.first_key_value().unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        name.starts_with("part-my_query_1-") && name.ends_with("-0.json"),
        "{name}"
    );
    assert_eq!(content, b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(
        sink.describe(),
        format!("1 file, 3 rows in {}", dir.path().join("out").display())
    );
}

#[test]
fn a_sink_that_is_dropped_finishes_its_files() {
    let dir = TempDir::new().unwrap();
    let def = table(&dir, &numbers(0..0), &[("format", "parquet")], &[]);
    let mut sink = open_sink(&def, "q", None).unwrap();
    sink.write(0, &numbers(0..2)).unwrap();
    sink.commit(0).unwrap();
    drop(sink);
    assert!(!is_hidden(files(&dir).first_key_value().unwrap().0));
    assert_eq!(read_all(&def, &["n".into()]).unwrap(), [numbers(0..2)]);
}

#[test]
fn files_roll_by_size() {
    for format in ["json", "csv"] {
        let dir = TempDir::new().unwrap();
        let options = [("format", format), ("sink.rolling-policy.file-size", "30")];
        let mut sink = open_sink(&table(&dir, &numbers(0..0), &options, &[]), "q", None).unwrap();
        sink.write(0, &numbers(0..20)).unwrap();
        let found = files(&dir);
        assert!(found.len() > 1 && found.keys().filter(|n| is_hidden(n)).count() <= 1);
        sink.close().unwrap();
        let found = files(&dir);
        assert!(found.values().all(|f| f.len() < 30 + 10), "{found:?}");
        // The number in the name is not padded, so compare the set of lines.
        let mut lines: Vec<String> = texts(&dir).concat().lines().map(str::to_string).collect();
        lines.sort();
        let spell = |n: i64| {
            if format == "json" {
                format!("{{\"n\":{n}}}")
            } else {
                n.to_string()
            }
        };
        let mut expected: Vec<String> = (0..20).map(spell).collect();
        expected.sort();
        assert_eq!(lines, expected);
    }
}

#[test]
fn parquet_files_roll_by_size_too() {
    let dir = TempDir::new().unwrap();
    let options = [
        ("format", "parquet"),
        ("sink.rolling-policy.file-size", "20kb"),
    ];
    let def = table(&dir, &numbers(0..0), &options, &[]);
    let mut sink = open_sink(&def, "q", None).unwrap();
    sink.write(0, &numbers(0..50_000)).unwrap();
    sink.close().unwrap();
    assert!(files(&dir).len() > 1);
    let rows: usize = read_all(&def, &["n".into()])
        .unwrap()
        .iter()
        .map(RecordBatch::num_rows)
        .sum();
    assert_eq!(rows, 50_000);
}

#[test]
fn an_interval_of_zero_finishes_files_at_each_commit() {
    let dir = TempDir::new().unwrap();
    let options = [
        ("format", "csv"),
        ("csv.header", "true"),
        ("sink.rolling-policy.rollover-interval", "0 s"),
    ];
    let mut sink = open_sink(&table(&dir, &numbers(0..0), &options, &[]), "q", None).unwrap();
    for epoch in 0..3 {
        sink.write(epoch, &numbers(epoch as i64..epoch as i64 + 1))
            .unwrap();
        sink.commit(epoch).unwrap();
        assert_eq!(files(&dir).keys().filter(|n| is_hidden(n)).count(), 0);
    }
    sink.commit(3).unwrap();
    assert_eq!(texts(&dir), ["n\n0\n", "n\n1\n", "n\n2\n"]);
    assert!(sink.describe().starts_with("3 files, 3 rows in "));
}

#[test]
fn partition_folders() {
    let dir = TempDir::new().unwrap();
    let rows = batch(vec![
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(0), Some(1), Some(0), None])) as ArrayRef,
        ),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        (
            "p",
            Arc::new(StringViewArray::from(vec!["a/b", "x", "a/b", ""])),
        ),
    ]);
    let def = table(&dir, &rows, &[("format", "json")], &["day", "p"]);
    let mut sink = open_sink(&def, "q", None).unwrap();
    sink.write(0, &rows).unwrap();
    sink.close().unwrap();
    let found: Vec<(String, String)> = files(&dir)
        .into_iter()
        .map(|(path, bytes)| {
            (
                path.rsplit_once('/').unwrap().0.to_string(),
                String::from_utf8(bytes).unwrap(),
            )
        })
        .collect();
    let expected = [
        ("day=1970-01-01/p=a%2Fb", "{\"n\":1}\n{\"n\":3}\n"),
        ("day=1970-01-02/p=x", "{\"n\":2}\n"),
        (
            "day=__HIVE_DEFAULT_PARTITION__/p=__HIVE_DEFAULT_PARTITION__",
            "{\"n\":4}\n",
        ),
    ];
    assert_eq!(
        found,
        expected.map(|(path, text)| (path.to_string(), text.to_string()))
    );
}

#[test]
fn the_number_of_open_files_is_bounded() {
    let dir = TempDir::new().unwrap();
    let rows = batch(vec![
        (
            "k",
            Arc::new(Int64Array::from_iter_values(0..10)) as ArrayRef,
        ),
        ("n", Arc::new(Int64Array::from_iter_values(0..10))),
    ]);
    let mut sink = open_sink(&table(&dir, &rows, &[("format", "csv")], &["k"]), "q", None).unwrap();
    sink.open_max = 3;
    sink.write(0, &rows).unwrap();
    // The last three written are open, the others finished.
    let hidden: Vec<String> = files(&dir).into_keys().filter(|n| is_hidden(n)).collect();
    assert_eq!(
        hidden.iter().map(|n| &n[..4]).collect::<Vec<_>>(),
        ["k=7/", "k=8/", "k=9/"]
    );
    sink.write(1, &rows.slice(0, 1)).unwrap();
    sink.close().unwrap();
    assert_eq!(sink.finished, 11, "the folder of row 0 got a second file");
    assert_eq!(files(&dir).len(), 11);
}

#[test]
fn parquet_reads_back_as_plain_types() {
    let list = texts_in_lists();
    let keys: DictionaryArray<arrow::datatypes::Int32Type> =
        vec![Some("d"), None].into_iter().collect();
    let rows = batch(vec![
        (
            "s",
            Arc::new(StringViewArray::from(vec![Some("x"), None])) as ArrayRef,
        ),
        (
            "b",
            Arc::new(BinaryViewArray::from(vec![Some(&b"\x00\xff"[..]), None])),
        ),
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None])),
        ),
        (
            "ltz",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None])),
        ),
        ("d", Arc::new(keys)),
        ("l", list),
    ]);
    for compression in ["SNAPPY", "ZSTD", "LZ4", "GZIP", "UNCOMPRESSED"] {
        let dir = TempDir::new().unwrap();
        let options = [("format", "parquet"), ("parquet.compression", compression)];
        let def = table(&dir, &rows, &options, &[]);
        let mut sink = open_sink(&def, "q", None).unwrap();
        sink.write(0, &rows).unwrap();
        sink.close().unwrap();
        let name = files(&dir).into_keys().next().unwrap();
        let file = std::fs::File::open(dir.path().join("out").join(name)).unwrap();
        let builder =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let types: Vec<DataType> = builder
            .schema()
            .fields()
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        let micros =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
        assert_eq!(
            types[..5],
            [
                DataType::Utf8,
                DataType::Binary,
                micros(None),
                micros(Some("UTC")),
                DataType::Utf8
            ]
        );
        let DataType::List(item) = &types[5] else {
            panic!("{}", types[5])
        };
        assert_eq!(item.data_type(), &DataType::Utf8);

        // And in the declared types again: nanoseconds were written as microseconds.
        let columns: Vec<String> = ["s", "b", "ts", "ltz", "l"].map(String::from).to_vec();
        let back = read_all(&def, &columns).unwrap().remove(0);
        for name in &columns {
            assert_eq!(
                back.column_by_name(name),
                rows.column_by_name(name),
                "{name}"
            );
        }
    }
}

/// A list of string views: what `array_agg` gives.
fn texts_in_lists() -> ArrayRef {
    let mut list = ListBuilder::new(StringViewBuilder::new());
    list.values()
        .append_value("a long text that is not stored inline");
    list.values().append_null();
    list.append(true);
    list.append(false);
    Arc::new(list.finish())
}

#[test]
fn partitioned_parquet_reads_back() {
    let dir = TempDir::new().unwrap();
    let rows = batch(vec![
        ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_641_039_745_500_000),
                None,
            ])),
        ),
    ]);
    let def = table(&dir, &rows, &[("format", "parquet")], &["ts"]);
    let mut sink = open_sink(&def, "q", None).unwrap();
    sink.write(0, &rows).unwrap();
    sink.close().unwrap();
    let back = read_all(&def, &["n".into(), "ts".into()]).unwrap();
    let back = arrow::compute::concat_batches(&back[0].schema(), &back).unwrap();
    assert_eq!(back.columns(), rows.columns());
}

#[test]
fn wrong_tables_are_refused() {
    let dir = TempDir::new().unwrap();
    let refused = |options: &[(&str, &str)], partitioned_by: &[&str]| {
        open_sink(
            &table(&dir, &numbers(0..0), options, partitioned_by),
            "q",
            None,
        )
        .err()
        .unwrap()
    };
    assert_eq!(refused(&[], &[]).exit_code(), 2);
    assert_eq!(refused(&[("format", "raw")], &[]).exit_code(), 2);
    assert_eq!(refused(&[("format", "json")], &["gone"]).exit_code(), 2);
    assert!(refused(&[("format", "json")], &["n"]).hint().is_some());
    assert!(
        refused(
            &[
                ("format", "json"),
                ("sink.delivery-guarantee", "exactly-once")
            ],
            &[]
        )
        .hint()
        .is_some()
    );
    // A file stands where the folder should be.
    std::fs::remove_dir_all(dir.path().join("out")).ok();
    std::fs::write(dir.path().join("out"), "x").unwrap();
    let error = refused(&[("format", "json")], &[]);
    assert!(
        error.to_string().contains("/out") && error.exit_code() == 1,
        "{error}"
    );
}

#[test]
fn old_files_are_finished_by_a_commit() {
    let options = [("format", "json")];
    for (minutes, hidden) in hidden_after(&options, &[0, 29, 30, 31], |_| true) {
        assert_eq!(
            hidden,
            usize::from(minutes != 30),
            "after {minutes} minutes"
        );
    }
}

/// Flink's option was unknown.
#[test]
fn files_without_new_rows_are_finished_by_a_commit() {
    let inactivity = ("sink.rolling-policy.inactivity-interval", "5 min");
    let options = [("format", "json"), inactivity];
    let all = hidden_after(&options, &[0, 4, 8, 12, 13], |minute| minute <= 8);
    let hidden: Vec<usize> = all.into_iter().map(|(_, hidden)| hidden).collect();
    assert_eq!(hidden, [1, 1, 1, 1, 0]);
}

/// How many files are unfinished behind the commit of each minute; in some of them a row is written.
fn hidden_after(
    options: &[(&str, &str)],
    minutes: &[u64],
    writes: impl Fn(u64) -> bool,
) -> Vec<(u64, usize)> {
    use std::cell::Cell;
    thread_local! {
        static MINUTE: Cell<u64> = const { Cell::new(0) };
        static START: Instant = Instant::now();
    }
    let clock = || START.with(|start| *start + Duration::from_secs(60 * MINUTE.get()));
    let dir = TempDir::new().unwrap();
    let def = table(&dir, &numbers(0..0), options, &[]);
    let mut sink = FileSink::in_folder(
        || Folder::open(&def, &Keys::default()),
        &def,
        "q",
        None,
        clock,
    )
    .unwrap();
    let hidden = |minute: &u64| {
        MINUTE.set(*minute);
        if writes(*minute) {
            sink.write(*minute, &numbers(0..1)).unwrap();
        }
        sink.commit(*minute).unwrap();
        let hidden = files(&dir).keys().filter(|n| is_hidden(n)).count();
        (*minute, hidden)
    };
    minutes.iter().map(hidden).collect()
}
