use super::*;
use arrow::array::*;
use arrow::datatypes::{DataType, Field};
use std::sync::{Arc, Mutex};

/// An output that a test can look into while a sink owns it.
#[derive(Clone, Default)]
pub(crate) struct SharedOutput(Arc<Mutex<Vec<u8>>>);

impl SharedOutput {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for SharedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The read end is gone.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringViewArray::from(values))
}

fn windows() -> RecordBatch {
    let start: Vec<i64> = vec![1_641_038_540_000_000, 1_641_038_545_500_000];
    batch(vec![
        (
            "window_start",
            Arc::new(TimestampMicrosecondArray::from(start)) as ArrayRef,
        ),
        (
            "page",
            texts(vec![Some("/a/very/long/path/of/a/page"), None]),
        ),
        ("n", Arc::new(Int64Array::from(vec![5, 12345]))),
        ("avg", Arc::new(Float64Array::from(vec![1.0, 1e10]))),
    ])
}

fn show(batches: &[RecordBatch], options: ConsoleOptions) -> String {
    let output = SharedOutput::default();
    let mut sink = ConsoleSink::new(batches[0].schema(), options, Box::new(output.clone()));
    for batch in batches {
        sink.write(0, batch).unwrap();
    }
    assert_eq!(output.text(), "", "an epoch shows up when it is committed");
    sink.commit(0).unwrap();
    output.text()
}

#[test]
fn a_batch_as_spark_shows_it() {
    assert_eq!(
        show(&[windows()], ConsoleOptions::default()),
        "\
-------------------------------------------
Batch: 0
-------------------------------------------
+--------------------+--------------------+-----+------+
|        window_start|                page|    n|   avg|
+--------------------+--------------------+-----+------+
| 2022-01-01 12:02:20|/a/very/long/path...|    5|   1.0|
|2022-01-01 12:02:...|                NULL|12345|1.0E10|
+--------------------+--------------------+-----+------+

"
    );
}

#[test]
fn without_truncation_cells_are_whole_and_on_the_left() {
    let options = ConsoleOptions {
        truncate: 0,
        num_rows: 20,
    };
    assert_eq!(
        show(&[windows()], options),
        "\
-------------------------------------------
Batch: 0
-------------------------------------------
+---------------------+---------------------------+-----+------+
|window_start         |page                       |n    |avg   |
+---------------------+---------------------------+-----+------+
|2022-01-01 12:02:20  |/a/very/long/path/of/a/page|5    |1.0   |
|2022-01-01 12:02:25.5|NULL                       |12345|1.0E10|
+---------------------+---------------------------+-----+------+

"
    );
}

#[test]
fn an_empty_epoch_prints_the_empty_table() {
    let output = SharedOutput::default();
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("long_name", DataType::Utf8, true),
    ]));
    let mut sink = ConsoleSink::new(schema, ConsoleOptions::default(), Box::new(output.clone()));
    sink.commit(7).unwrap();
    assert_eq!(
        output.text(),
        "\
-------------------------------------------
Batch: 7
-------------------------------------------
+---+---------+
|  a|long_name|
+---+---------+
+---+---------+

"
    );
}

#[test]
fn only_the_first_rows_are_shown_and_kept() {
    let many = batch(vec![(
        "n",
        Arc::new(Int32Array::from_iter_values(0..15)) as ArrayRef,
    )]);
    let text = show(&[many.clone(), many.clone()], ConsoleOptions::default());
    assert_eq!(text.lines().count(), 3 + 3 + 20 + 1 + 1 + 1);
    assert!(
        text.contains("|  4|\n+---+\nonly showing top 20 rows\n\n"),
        "{text}"
    );
    let text = show(
        std::slice::from_ref(&many),
        ConsoleOptions {
            truncate: 20,
            num_rows: 1,
        },
    );
    assert!(
        text.ends_with("|  0|\n+---+\nonly showing top 1 row\n\n"),
        "{text}"
    );
    // Exactly as many rows as are shown: no such line.
    let text = show(
        &[many],
        ConsoleOptions {
            truncate: 20,
            num_rows: 15,
        },
    );
    assert!(text.ends_with("| 14|\n+---+\n\n"), "{text}");
}

#[test]
fn an_epoch_forgets_the_one_before() {
    let output = SharedOutput::default();
    let mut sink = ConsoleSink::new(
        windows().schema(),
        ConsoleOptions::default(),
        Box::new(output.clone()),
    );
    sink.write(0, &windows()).unwrap();
    sink.commit(0).unwrap();
    let first = output.text();
    sink.commit(1).unwrap();
    assert!(!output.text()[first.len()..].contains("NULL"));
    assert_eq!(sink.describe(), "2 rows on the console");
}

#[test]
fn full_width_characters_take_two_columns() {
    let text = show(
        &[batch(vec![(
            "曲",
            texts(vec![Some("夜に駆ける"), Some("ab")]),
        )])],
        ConsoleOptions::default(),
    );
    assert!(
        text.contains("+----------+\n|        曲|\n+----------+\n|夜に駆ける|\n|        ab|\n"),
        "{text}"
    );
}

#[test]
fn cells_are_cut_as_java_counts() {
    assert_eq!(
        cut("12345678901234567890".into(), 20),
        "12345678901234567890"
    );
    assert_eq!(
        cut("123456789012345678901".into(), 20),
        "12345678901234567..."
    );
    assert_eq!(cut("abcd".into(), 3), "abc");
    assert_eq!(cut("é".repeat(20), 20), "é".repeat(20));
    // Eleven pairs are 22 units; nine pairs would be 18, one more than there is room for.
    assert_eq!(cut("😀".repeat(11), 20), format!("{}...", "😀".repeat(8)));
}

#[test]
fn meta_characters_stay_on_the_line() {
    let text = show(
        &[batch(vec![("a\tb", texts(vec![Some("x\ny\r\u{7}")]))])],
        ConsoleOptions::default(),
    );
    assert!(text.contains("|    a\\tb|\n"), "{text}");
    assert!(text.contains("|x\\ny\\r\\a|\n"), "{text}");
}

#[test]
fn options() {
    let at = crate::error::At { line: 1, column: 1 };
    let mut options = Options::default();
    assert_eq!(
        ConsoleOptions::from_options(&options).unwrap(),
        ConsoleOptions::default()
    );
    options.insert("console", "truncate", "false", at).unwrap();
    options.insert("console", "numRows", "5", at).unwrap();
    assert_eq!(
        ConsoleOptions::from_options(&options).unwrap(),
        ConsoleOptions {
            truncate: 0,
            num_rows: 5
        }
    );
    let mut options = Options::default();
    options.insert("console", "numRows", "-5", at).unwrap();
    assert!(ConsoleOptions::from_options(&options).is_err());
}

#[test]
fn lines_of_json_and_csv() {
    let batch = batch(vec![
        ("a", texts(vec![Some("x,y"), None])),
        ("n", Arc::new(Int32Array::from(vec![1, 2]))),
    ]);
    let output = SharedOutput::default();
    let mut sink = LinesSink::json(&batch.schema(), Box::new(output.clone()));
    sink.write(0, &batch).unwrap();
    sink.commit(0).unwrap();
    assert_eq!(
        output.text(),
        "{\"a\":\"x,y\",\"n\":1}\n{\"a\":null,\"n\":2}\n"
    );

    let output = SharedOutput::default();
    let mut sink = LinesSink::csv(&batch.schema(), Box::new(output.clone()));
    sink.write(0, &batch).unwrap();
    sink.commit(0).unwrap();
    sink.write(1, &batch).unwrap();
    sink.close().unwrap();
    assert_eq!(output.text(), "a,n\n\"x,y\",1\n,2\n\"x,y\",1\n,2\n");
}

#[test]
fn a_closed_pipe_has_its_own_message() {
    let mut sink = ConsoleSink::new(
        windows().schema(),
        ConsoleOptions::default(),
        Box::new(ClosedPipe),
    );
    assert_eq!(sink.commit(0).unwrap_err().to_string(), OUTPUT_CLOSED);
    let mut sink = LinesSink::json(&windows().schema(), Box::new(ClosedPipe));
    sink.write(0, &windows()).unwrap();
    assert_eq!(sink.commit(0).unwrap_err().to_string(), OUTPUT_CLOSED);
}
