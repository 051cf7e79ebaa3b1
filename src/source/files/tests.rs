use super::*;
use crate::error::At;
use crate::options::Options;
use crate::table::{Column, ColumnKind};
use arrow::array::*;
use arrow::datatypes::{DataType, TimeUnit};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tempfile::TempDir;

const AT: At = At { line: 1, column: 1 };

pub(crate) fn table(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: name.to_string(),
        data_type: data_type.clone(),
        nullable: true,
        kind: ColumnKind::Physical,
        ltz: false,
        at: AT,
    };
    let mut all = Options::default();
    for (key, value) in options {
        all.insert("filesystem", key, value, AT).unwrap();
    }
    TableDef {
        name: "t".into(),
        columns: columns.iter().map(column).collect(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options: all,
        at: AT,
    }
}

fn json_table(path: &Path) -> TableDef {
    table(
        &[("a", DataType::Int64), ("s", DataType::Utf8View)],
        &[("format", "json"), ("path", path.to_str().unwrap())],
    )
}

fn request(columns: &[&str]) -> ReadRequest {
    ReadRequest {
        columns: columns.iter().map(|c| c.to_string()).collect(),
        ..ReadRequest::default()
    }
}

fn write(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Everything that a reader of all partitions gives: `file:offset=record`, and `end file`.
fn drain(source: &FilesSource) -> Vec<String> {
    let partitions = source.partitions(None, &mut |_| true).unwrap();
    let name = |id: usize| {
        Path::new(partitions[id].topic.as_ref())
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_string()
    };
    let mut reader = source.reader(&partitions).unwrap();
    let mut events = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Chunk(chunk) => {
                for (i, offset) in chunk.offsets.iter().enumerate() {
                    let record =
                        String::from_utf8_lossy(chunk.payload.get(i).unwrap()).into_owned();
                    events.push(format!("{}:{offset}={record}", name(chunk.id)));
                }
            }
            Polled::End { id } => events.push(format!("end {}", name(id))),
            Polled::Idle => return events,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn folders_are_read_whole_and_in_turns_but_for_hidden_names() {
    let dir = TempDir::new().unwrap();
    for (name, text) in [
        ("b.json", "{\"a\":1}\n{\"a\":2}\n{\"a\":3}"),
        ("a/z.json", "{\"a\":4}\n"),
        ("empty.json", ""),
        (".part-0.json.inprogress", "no"),
        ("_SUCCESS", "no"),
        ("_temporary/x.json", "no"),
        ("a/.hidden/x.json", "no"),
    ] {
        write(&dir, name, text);
    }
    let mut source = FilesSource::new(&json_table(dir.path()), request(&["a"])).unwrap();
    source.limits = Limits {
        bytes: 8,
        records: 2,
    };
    assert!(source.is_bounded());
    assert_eq!(
        drain(&source),
        [
            "z.json:0={\"a\":4}",
            "b.json:0={\"a\":1}",
            "b.json:1={\"a\":2}",
            "end empty.json",
            "end z.json",
            "b.json:2={\"a\":3}",
            "end b.json",
        ]
    );
}

#[test]
fn more_files_than_may_be_open() {
    let dir = TempDir::new().unwrap();
    for i in 0..OPEN_FILES_MAX + 5 {
        write(&dir, &format!("{i:03}.json"), "{\"a\":1}\n{\"a\":2}\n");
    }
    let mut source = FilesSource::new(&json_table(dir.path()), request(&["a"])).unwrap();
    source.limits = Limits {
        bytes: 1,
        records: 1,
    };
    let events = drain(&source);
    assert_eq!(events.len(), 3 * (OPEN_FILES_MAX + 5));
}

#[test]
fn one_file_and_a_start_in_the_middle() {
    let dir = TempDir::new().unwrap();
    write(&dir, "x.csv", "a,s\n1,\"q\nq\"\n2,b\n");
    let path = format!("file://{}", dir.path().join("x.csv").display());
    let def = table(
        &[("a", DataType::Int64), ("s", DataType::Utf8View)],
        &[("format", "csv"), ("csv.header", "true"), ("path", &path)],
    );
    let source = FilesSource::new(&def, request(&["a"])).unwrap();
    assert_eq!(
        drain(&source),
        ["x.csv:1=1,\"q\nq\"", "x.csv:3=2,b", "end x.csv"]
    );
    let mut partitions = source.partitions(None, &mut |_| true).unwrap();
    partitions[0].start = 3;
    let Polled::Chunk(chunk) = source
        .reader(&partitions)
        .unwrap()
        .poll(Duration::ZERO)
        .unwrap()
    else {
        panic!("no chunk");
    };
    assert_eq!((chunk.offsets, chunk.next_offset), (vec![3], 4));
    partitions[0].end = Some(3);
    let polled = source
        .reader(&partitions)
        .unwrap()
        .poll(Duration::ZERO)
        .unwrap();
    assert!(matches!(polled, Polled::End { id: 0 }));
}

/// The members of a gzip file, one after the other.
fn packed(members: &[&str]) -> Vec<u8> {
    let pack = |text: &&str| {
        let mut member = GzEncoder::new(Vec::new(), Compression::default());
        member.write_all(text.as_bytes()).unwrap();
        member.finish().unwrap()
    };
    members.iter().flat_map(pack).collect()
}

#[test]
fn packed_files_are_read_as_if_they_were_not() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a.json", "{\"a\":0}\n");
    let members = ["{\"a\":1}\n{\"a\"", ":2}\n\n{\"a\":3}"];
    std::fs::write(dir.path().join("b.json.GZ"), packed(&members)).unwrap();
    let mut source = FilesSource::new(&json_table(dir.path()), request(&["a"])).unwrap();
    source.limits = Limits {
        bytes: 4,
        records: 2,
    };
    assert_eq!(
        drain(&source),
        [
            "a.json:0={\"a\":0}",
            "b.json.GZ:0={\"a\":1}",
            "end a.json",
            "b.json.GZ:1={\"a\":2}",
            "b.json.GZ:3={\"a\":3}",
            "end b.json.GZ",
        ]
    );
    let mut partitions = source.partitions(None, &mut |_| true).unwrap();
    partitions.remove(0);
    partitions[0].start = 3;
    let mut reader = source.reader(&partitions).unwrap();
    let Polled::Chunk(chunk) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("no chunk");
    };
    assert_eq!((chunk.offsets, chunk.next_offset), (vec![3], 4));

    let csv = packed(&["a,s\n1,\"q\nq\"\n2,b\n"]);
    let path = dir.path().join("x.csv.gz");
    std::fs::write(&path, csv).unwrap();
    let def = table(
        &[("a", DataType::Int64), ("s", DataType::Utf8View)],
        &[
            ("format", "csv"),
            ("csv.header", "true"),
            ("path", path.to_str().unwrap()),
        ],
    );
    let batches = read_all(&def, &["a".into()]).unwrap();
    let expected: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    assert_eq!(batches[0].column(0), &expected);
}

#[test]
fn a_damaged_packed_file_is_an_error_with_its_name() {
    let dir = TempDir::new().unwrap();
    let whole = packed(&["{\"a\":1}\n"]);
    let mut wrong_sum = whole.clone();
    wrong_sum[whole.len() - 8] ^= 1;
    let damaged: [&[u8]; 4] = [
        &whole[..whole.len() - 4],
        &wrong_sum,
        b"{\"a\":1}\n",
        &[&whole[..], b"rest"].concat(),
    ];
    for bytes in damaged {
        std::fs::write(dir.path().join("x.json.gz"), bytes).unwrap();
        let source = FilesSource::new(&json_table(dir.path()), request(&["a"])).unwrap();
        let partitions = source.partitions(None, &mut |_| true).unwrap();
        let mut reader = source.reader(&partitions).unwrap();
        let error = loop {
            match reader.poll(Duration::ZERO) {
                Ok(Polled::Chunk(_)) => {}
                Ok(other) => panic!("{other:?} of {bytes:?}"),
                Err(e) => break e,
            }
        };
        assert!(error.to_string().contains("x.json.gz: "), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("nowhere");
    let source = FilesSource::new(&json_table(&missing), request(&["a"])).unwrap();
    let error = source.partitions(None, &mut |_| true).unwrap_err();
    assert!(
        error.to_string().contains("nowhere") && error.hint().is_some(),
        "{error}"
    );

    let remote = table(
        &[("a", DataType::Int64)],
        &[("format", "json"), ("path", "s3://bucket/x")],
    );
    assert_eq!(
        FilesSource::new(&remote, request(&["a"]))
            .err()
            .unwrap()
            .exit_code(),
        2
    );

    write(&dir, "x.parquet", "this is text");
    let def = table(
        &[("a", DataType::Int64)],
        &[
            ("format", "parquet"),
            ("path", dir.path().to_str().unwrap()),
        ],
    );
    let source = FilesSource::new(&def, request(&["a"])).unwrap();
    let partitions = source.partitions(None, &mut |_| true).unwrap();
    let error = source
        .reader(&partitions)
        .unwrap()
        .poll(Duration::ZERO)
        .unwrap_err();
    assert!(
        error.to_string().contains("x.parquet is no Parquet file"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
}

fn parquet_file(dir: &TempDir, name: &str, batch: &RecordBatch) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_columns_by_name_in_the_declared_types() {
    let dir = TempDir::new().unwrap();
    let batch = RecordBatch::try_from_iter([
        (
            "extra",
            Arc::new(Int32Array::from(vec![0, 0, 0])) as ArrayRef,
        ),
        (
            "ts",
            Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("UTC")),
        ),
        ("s", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
        ("a", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ])
    .unwrap();
    parquet_file(&dir, "x.parquet", &batch);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = [
        ("a", DataType::Int64),
        ("gone", DataType::Float64),
        ("s", DataType::Utf8View),
        ("ts", micros.clone()),
    ];
    let def = table(
        &columns,
        &[
            ("format", "parquet"),
            ("path", dir.path().to_str().unwrap()),
        ],
    );
    let source = FilesSource::new(&def, request(&["ts", "s", "gone", "a"])).unwrap();
    let mut partitions = source.partitions(None, &mut |_| true).unwrap();
    partitions[0].start = 1;
    let mut reader = source.reader(&partitions).unwrap();
    let Polled::Rows(rows) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("no rows")
    };
    assert_eq!(
        (rows.first_offset, rows.next_offset, rows.batch.num_rows()),
        (1, 3, 2)
    );
    let expected: [ArrayRef; 4] = [
        Arc::new(TimestampMicrosecondArray::from(vec![2000, 3000])),
        Arc::new(StringViewArray::from(vec!["y", "z"])),
        Arc::new(Float64Array::from(vec![None, None])),
        Arc::new(Int64Array::from(vec![2, 3])),
    ];
    assert_eq!(rows.batch.columns(), expected);
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::End { id: 0 }
    ));

    // No column at all: only the number of rows counts.
    let source = FilesSource::new(&def, request(&[])).unwrap();
    partitions[0].end = Some(2);
    let Polled::Rows(rows) = source
        .reader(&partitions)
        .unwrap()
        .poll(Duration::ZERO)
        .unwrap()
    else {
        panic!("no rows");
    };
    assert_eq!(rows.batch.num_rows(), 1);

    let wrong = [("s", DataType::Int64)];
    let def = table(
        &wrong,
        &[
            ("format", "parquet"),
            ("path", dir.path().to_str().unwrap()),
        ],
    );
    let error = read_all(&def, &["s".into()]).unwrap_err();
    assert!(
        error.to_string().contains("x.parquet: column 's'"),
        "{error}"
    );
}

#[test]
fn parquet_values_from_the_folders() {
    let dir = TempDir::new().unwrap();
    let batch =
        RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef)])
            .unwrap();
    parquet_file(&dir, "day=2022-01-01/h=5/x.parquet", &batch);
    parquet_file(
        &dir,
        "day=2022-01-02/h=__HIVE_DEFAULT_PARTITION__/x.parquet",
        &batch,
    );
    let columns = [
        ("a", DataType::Int64),
        ("day", DataType::Date32),
        ("h", DataType::Int32),
    ];
    let mut def = table(
        &columns,
        &[
            ("format", "parquet"),
            ("path", dir.path().to_str().unwrap()),
        ],
    );
    def.partitioned_by = vec!["day".into(), "h".into()];
    let batches = read_all(&def, &["h".into(), "day".into(), "a".into()]).unwrap();
    let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(
        all.column(0).as_ref(),
        &Int32Array::from(vec![Some(5), Some(5), None, None]) as &dyn Array
    );
    assert_eq!(
        all.column(1).as_ref(),
        &Date32Array::from(vec![18993, 18993, 18994, 18994]) as &dyn Array
    );
    parquet_file(&dir, "y.parquet", &batch);
    let error = read_all(&def, &["h".into()]).unwrap_err();
    assert!(error.to_string().contains("no folder 'h=…'"), "{error}");
}

#[test]
fn small_tables_are_read_whole_and_strictly() {
    let dir = TempDir::new().unwrap();
    write(&dir, "1.json", "{\"a\":1,\"s\":\"x\"}\n\n{\"a\":2}\n");
    write(&dir, "2.json", "{\"a\":3}");
    let def = json_table(dir.path());
    let batches = read_all(&def, &["a".into()]).unwrap();
    let numbers: Vec<i64> = batches
        .iter()
        .flat_map(|b| {
            b.column(0)
                .as_any()
                .downcast_ref::<Int64Array>()
                .unwrap()
                .values()
                .to_vec()
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    write(&dir, "3.json", "{\"a\":4}\n\nnot json\n");
    let error = read_all(&def, &["a".into()]).unwrap_err();
    assert!(matches!(error, Error::Data(_)), "{error}");
    assert!(error.to_string().contains("3.json:3: "), "{error}");
}
