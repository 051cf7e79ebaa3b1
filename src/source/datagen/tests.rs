use super::*;
use crate::error::At;
use crate::options::Options;
use crate::table::Column;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use std::sync::atomic::{AtomicI64, Ordering};

const AT: At = At { line: 1, column: 1 };
const NOW_US: i64 = 1_700_000_000_000_000;

fn column(name: &str, data_type: DataType) -> Column {
    Column {
        name: name.into(),
        data_type,
        nullable: true,
        kind: ColumnKind::Physical,
        ltz: false,
        at: AT,
    }
}

fn table(columns: Vec<Column>, options: &[(&str, &str)]) -> TableDef {
    let mut parsed = Options::default();
    for (key, value) in options {
        parsed.insert("datagen", key, value, AT).unwrap();
    }
    TableDef {
        name: "t".into(),
        columns,
        watermark: None,
        primary_key: vec![],
        partitioned_by: vec![],
        values: None,
        options: parsed,
        at: AT,
    }
}

fn request(columns: &[&str]) -> ReadRequest {
    ReadRequest {
        columns: columns.iter().map(|c| c.to_string()).collect(),
        ..Default::default()
    }
}

/// A clock that moves on by `step_us` each time it is asked.
fn clock(step_us: i64) -> Clock {
    let now = AtomicI64::new(NOW_US);
    Arc::new(move || now.fetch_add(step_us, Ordering::Relaxed))
}

/// All rows from `start` on, as one batch per poll, and the offsets they claim.
fn read(source: &DatagenSource, start: i64) -> Vec<Rows> {
    let mut partitions = source.partitions(None, &mut |_| true).unwrap();
    partitions[0].start = start;
    let mut reader = source.reader(&partitions).unwrap();
    let mut all: Vec<Rows> = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Rows(rows) => {
                assert_eq!(
                    rows.first_offset,
                    all.last().map_or(start, |r| r.next_offset)
                );
                assert_eq!(
                    rows.next_offset - rows.first_offset,
                    rows.batch.num_rows() as i64
                );
                all.push(rows);
            }
            Polled::End { id } => {
                assert_eq!(id, 0);
                assert!(matches!(reader.poll(Duration::ZERO).unwrap(), Polled::Idle));
                return all;
            }
            Polled::Idle => {}
            other => panic!("{other:?}"),
        }
    }
}

fn whole(source: &DatagenSource, start: i64) -> RecordBatch {
    let batches: Vec<_> = read(source, start).into_iter().map(|r| r.batch).collect();
    arrow::compute::concat_batches(&source.schema, &batches).unwrap()
}

#[test]
fn rows_depend_on_seed_and_number_only() {
    let columns = || {
        vec![
            column("a", DataType::Int32),
            column("b", DataType::Utf8View),
            column("c", DataType::Float64),
        ]
    };
    let options = [
        ("number-of-rows", "1000"),
        ("seed", "5"),
        ("fields.a.min", "-3"),
        ("fields.a.max", "3"),
        ("fields.b.length", "7"),
        ("fields.b.null-rate", "0.25"),
        ("fields.c.min", "0"),
        ("fields.c.max", "1"),
    ];
    let def = table(columns(), &options);
    let all = whole(
        &DatagenSource::new(&def, request(&["a", "b", "c"]), clock(1_000_000)).unwrap(),
        0,
    );
    assert_eq!(all.num_rows(), 1000);
    let a = all.column(0).as_primitive::<Int32Type>();
    assert!(
        (-3..=3).all(|v| a.values().contains(&v))
            && a.values().iter().all(|v| (-3..=3).contains(v))
    );
    let b = all.column(1).as_string_view();
    assert!((200..300).contains(&b.null_count()) && b.iter().flatten().all(|s| s.len() == 7));
    let c = all.column(2).as_primitive::<Float64Type>();
    assert!(
        c.values().iter().all(|v| (0.0..1.0).contains(v)) && c.values().iter().any(|v| *v > 0.9)
    );

    // Another pace, another start, fewer columns: the same values.
    let slow = whole(
        &DatagenSource::new(&def, request(&["c", "a"]), clock(3_000)).unwrap(),
        400,
    );
    assert_eq!(
        slow.column(0).as_ref(),
        all.column(2).slice(400, 600).as_ref()
    );
    assert_eq!(
        slow.column(1).as_ref(),
        all.column(0).slice(400, 600).as_ref()
    );
    let other = table(
        columns(),
        &[&options[..1], &[("seed", "6")], &options[2..]].concat(),
    );
    let other = whole(
        &DatagenSource::new(&other, request(&["a"]), clock(1_000_000)).unwrap(),
        0,
    );
    assert_ne!(other.column(0).as_ref(), all.column(0).as_ref());
}

#[test]
fn a_sequence_ends_the_table() {
    let options = [
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "10"),
        ("fields.n.end", "14"),
        ("number-of-rows", "100"),
    ];
    let def = table(
        vec![column("n", DataType::Int64), column("s", DataType::Utf8)],
        &options,
    );
    let source = DatagenSource::new(&def, request(&["n"]), clock(1_000)).unwrap();
    assert!(source.is_bounded());
    assert_eq!(
        whole(&source, 0)
            .column(0)
            .as_primitive::<Int64Type>()
            .values(),
        &[10, 11, 12, 13, 14]
    );
    // Also when the query does not read it; and a query may read no column at all.
    let nothing = DatagenSource::new(&def, request(&[]), clock(1_000)).unwrap();
    assert_eq!(
        read(&nothing, 0)
            .iter()
            .map(|r| r.batch.num_rows())
            .sum::<usize>(),
        5
    );
}

#[test]
fn rows_come_at_their_pace() {
    let def = table(
        vec![column("n", DataType::Int64)],
        &[("rows-per-second", "1000")],
    );
    let now = Arc::new(AtomicI64::new(NOW_US));
    let asked = now.clone();
    let source = DatagenSource::new(
        &def,
        request(&["n"]),
        Arc::new(move || asked.load(Ordering::Relaxed)),
    )
    .unwrap();
    assert!(!source.is_bounded());
    let mut reader = source
        .reader(&source.partitions(None, &mut |_| true).unwrap())
        .unwrap();
    let mut poll = |advance_us: i64| {
        now.fetch_add(advance_us, Ordering::Relaxed);
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Rows(rows) => rows.batch.num_rows(),
            Polled::Idle => 0,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(poll(0), 1, "the first row is due at once");
    assert_eq!(poll(0), 0);
    assert_eq!(poll(100_000), 100);
    assert_eq!(poll(0), 0);
    assert_eq!(
        poll(60_000_000),
        1,
        "a worker that was held up is not flooded"
    );
    assert_eq!(
        poll(-30_000_000),
        1,
        "a clock that was set back does not stop the rows"
    );
    assert_eq!(poll(50_000), 50);
}

#[test]
fn times_are_the_clocks() {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = vec![
        column("now", timestamp.clone()),
        column("past", timestamp),
        column("day", DataType::Date32),
    ];
    let def = table(
        columns,
        &[("number-of-rows", "200"), ("fields.past.max-past", "10 s")],
    );
    let source =
        DatagenSource::new(&def, request(&["now", "past", "day"]), Arc::new(|| NOW_US)).unwrap();
    // A clock that stands still makes one row; so move it by the start of each reader.
    let mut partitions = source.partitions(None, &mut |_| true).unwrap();
    let mut past = Vec::new();
    for start in 0..200 {
        partitions[0].start = start;
        let Polled::Rows(rows) = source
            .reader(&partitions)
            .unwrap()
            .poll(Duration::ZERO)
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(
            rows.batch
                .column(0)
                .as_primitive::<TimestampMicrosecondType>()
                .value(0),
            NOW_US
        );
        assert_eq!(
            rows.batch
                .column(2)
                .as_primitive::<arrow::datatypes::Date32Type>()
                .value(0),
            19_675
        );
        past.push(
            NOW_US
                - rows
                    .batch
                    .column(1)
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(0),
        );
    }
    assert!(
        past.iter().all(|p| (0..=10_000_000).contains(p)) && past.iter().any(|p| *p > 9_000_000)
    );
}

#[test]
fn every_type_has_values() {
    let types = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Utf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::Date32,
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    ];
    let columns: Vec<_> = types
        .iter()
        .enumerate()
        .map(|(i, t)| column(&format!("c{i}"), t.clone()))
        .collect();
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let def = table(
        columns,
        &[
            ("number-of-rows", "64"),
            ("fields.c7.min", "-1.5"),
            ("fields.c7.max", "1.5"),
        ],
    );
    let request = ReadRequest {
        columns: names,
        ..Default::default()
    };
    let batch = whole(
        &DatagenSource::new(&def, request, clock(1_000_000)).unwrap(),
        0,
    );
    for (array, data_type) in batch.columns().iter().zip(&types) {
        assert_eq!(array.data_type(), data_type);
        assert_eq!(array.null_count(), 0, "{data_type}");
    }
    let decimals = batch.column(7).as_primitive::<Decimal128Type>();
    assert!(decimals.values().iter().all(|v| (-150..=150).contains(v)));
}

#[test]
fn mistakes_are_named() {
    let error = |columns: Vec<Column>, options: &[(&str, &str)]| {
        let result = DatagenSource::new(&table(columns, options), request(&[]), clock(1));
        result
            .err()
            .map(|e| format!("{e} / {}", e.hint().unwrap_or("")))
            .unwrap()
    };
    let int = || vec![column("user", DataType::Int32)];
    assert!(error(int(), &[("fields.usr.min", "1")]).contains("did you mean 'user'?"));
    assert!(error(int(), &[("fields.user.mni", "1")]).contains("did you mean 'min'?"));
    assert!(
        error(int(), &[("fields.user.min", "5"), ("fields.user.max", "4")]).contains("min first")
    );
    assert!(error(int(), &[("fields.user.kind", "sequence")]).contains("start and end"));
    assert!(error(int(), &[("rows-per-second", "0")]).contains("1 or more"));
    assert!(error(int(), &[("fields.user.null-rate", "2")]).contains("0 to 1"));
    assert!(
        error(
            vec![column("l", DataType::new_list(DataType::Int32, true))],
            &[]
        )
        .contains("computed column")
    );
    let until_end = ReadRequest {
        until_end: true,
        ..Default::default()
    };
    let endless = DatagenSource::new(&table(int(), &[]), until_end, clock(1))
        .err()
        .unwrap();
    assert!(endless.hint().unwrap().contains("number-of-rows"));
}
