//! Our planner beside DataFusion's own: the same rows for the same queries.

use crate::plan::state;
use crate::state::look::Table;
use arrow::array::{ArrayRef, Int64Array, ListArray, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

const QUERIES: [&str; 34] = [
    "SELECT * FROM a",
    "SELECT k, v + 1 AS w FROM a WHERE v > 2 AND name LIKE 'n%'",
    "SELECT name FROM a WHERE v IS NULL",
    "SELECT k, count(*), sum(v), avg(v), min(name) FROM a GROUP BY k",
    "SELECT count(*), sum(v) FILTER (WHERE k = 1), count(DISTINCT k) FROM a",
    "SELECT count(*) FROM a WHERE v > 1000",
    "SELECT k, count(*) AS c FROM a GROUP BY k HAVING count(*) > 1 ORDER BY c DESC, k LIMIT 2",
    "SELECT k, v FROM a ORDER BY v NULLS LAST, k LIMIT 3 OFFSET 1",
    "SELECT DISTINCT k FROM a",
    "SELECT k, array_agg(v ORDER BY v DESC) FROM a GROUP BY k",
    "SELECT k, first_value(name ORDER BY v) FROM a GROUP BY k",
    "SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) FROM a GROUP BY k",
    "SELECT k, name, count(*) FROM a GROUP BY GROUPING SETS ((k, name), (k), ())",
    "SELECT k, name, sum(v) FROM a GROUP BY ROLLUP (k, name)",
    "SELECT k, name, sum(v), grouping(k) FROM a GROUP BY CUBE (k, name)",
    "SELECT * FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v, name) AS r FROM a) t WHERE r <= 2",
    "SELECT k, v, sum(v) OVER (PARTITION BY k ORDER BY v, name ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM a",
    "SELECT k, v, rank() OVER (ORDER BY v DESC, name), lag(v) OVER (PARTITION BY k ORDER BY v, name) FROM a",
    "SELECT k, max(v) OVER (PARTITION BY k) FROM a",
    "SELECT a.k, a.v, b.name FROM a JOIN b ON a.k = b.k",
    "SELECT a.k, b.name FROM a LEFT JOIN b ON a.k = b.k AND a.v > b.v",
    "SELECT a.k, b.k FROM a FULL JOIN b ON a.k + 1 = b.k",
    "SELECT a.k, b.k FROM a JOIN b ON a.v < b.v",
    "SELECT count(*) FROM a CROSS JOIN b",
    "SELECT k FROM a WHERE k IN (SELECT k FROM b)",
    "SELECT k FROM a WHERE k NOT IN (SELECT k FROM b WHERE k IS NOT NULL)",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.v > 15)",
    "SELECT k FROM a WHERE v > (SELECT avg(v) FROM b) - 18",
    "SELECT k, (SELECT max(b.v) FROM b WHERE b.k = a.k) FROM a",
    "SELECT k, name FROM a UNION ALL SELECT k, name FROM b",
    "SELECT k FROM a UNION SELECT k FROM b ORDER BY k",
    "SELECT k FROM a INTERSECT SELECT k FROM b",
    "WITH t AS (SELECT x, y FROM (VALUES (1, 'p'), (2, 'q'), (NULL, 'r')) v(x, y)) SELECT t.y, a.name FROM t JOIN a ON t.x = a.k",
    "SELECT k, unnest(list) AS e FROM b",
];

fn tables() -> [Table; 2] {
    let ints = |values: &[Option<i64>]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let texts =
        |values: &[Option<&str>]| Arc::new(StringViewArray::from(values.to_vec())) as ArrayRef;
    let a = [
        (
            "k",
            ints(&[Some(1), Some(1), Some(2), Some(3), None, Some(1)]),
        ),
        (
            "v",
            ints(&[Some(5), None, Some(3), Some(7), Some(1), Some(4)]),
        ),
        (
            "name",
            texts(&[
                Some("n1"),
                Some("n2"),
                None,
                Some("m"),
                Some("n3"),
                Some("n1"),
            ]),
        ),
    ];
    let lists = [
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
        Some(vec![Some(9)]),
    ];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let b = [
        ("k", ints(&[Some(1), Some(2), None, Some(4)])),
        ("v", ints(&[Some(10), Some(20), Some(2), Some(40)])),
        (
            "name",
            texts(&[Some("one"), Some("two"), Some("none"), None]),
        ),
        ("list", Arc::new(lists) as ArrayRef),
    ];
    let table = |name: &str, columns: Vec<(&str, ArrayRef)>| {
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(n, c)| (n, c, true)),
        )
        .unwrap();
        // In two batches: what an operator keeps between them counts.
        let parts = vec![rows.slice(0, 2), rows.slice(2, rows.num_rows() - 2)];
        (name.to_string(), rows.schema(), parts)
    };
    [table("a", a.to_vec()), table("b", b.to_vec())]
}

fn by_datafusion(tables: &[Table], sql: &str) -> Vec<RecordBatch> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::Generic;
    options.sql_parser.default_null_ordering = "nulls_min".into();
    let context = SessionContext::new_with_config(config);
    for (name, schema, rows) in tables {
        let table = MemTable::try_new(schema.clone(), vec![rows.clone()]).unwrap();
        context
            .register_table(name.as_str(), Arc::new(table))
            .unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime
        .block_on(async { context.sql(sql).await?.collect().await })
        .unwrap()
}

/// The rows as text: in their order, when the query asks for one.
fn lines(batches: &[RecordBatch], sql: &str) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let rows = text.lines().filter(|l| l.starts_with('|')).skip(1);
    let cells = |l: &str| l.split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let mut rows: Vec<String> = rows.map(cells).collect();
    if !sql.contains(" ORDER BY k") && !sql.contains("LIMIT") {
        rows.sort();
    }
    rows
}

#[test]
fn rows_are_those_of_datafusions_own_planner() {
    let tables = tables();
    for sql in QUERIES {
        let (_, ours) = state::query(&tables, sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let expected = lines(&by_datafusion(&tables, sql), sql);
        assert_eq!(lines(&ours, sql), expected, "{sql}");
    }
}

/// Rows in another order, one by one: nothing may hang on how an input was cut.
#[test]
fn rows_do_not_depend_on_the_batches() {
    let whole = tables();
    let split = tables().map(|(name, schema, rows)| {
        let rows = arrow::compute::concat_batches(&schema, &rows).unwrap();
        let one = |i: u32| take_record_batch(&rows, &UInt32Array::from(vec![i])).unwrap();
        let rows = (0..rows.num_rows() as u32).map(one).collect();
        (name, schema, rows)
    });
    for sql in QUERIES {
        let of = |tables: &[Table]| lines(&state::query(tables, sql).unwrap().1, sql);
        assert_eq!(of(&split), of(&whole), "{sql}");
    }
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let tables = tables();
    let cases = [
        (
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT * FROM t",
            "ecursive",
        ),
        ("SELECT k FROM a; SELECT k FROM b", "one query"),
        ("SELECT kk FROM a", "unknown column 'kk'"),
        ("SELECT k FROM c", "table 'c' not found"),
        ("SELECT k FROM other.a", "table 'other.a' not found"),
        ("DROP TABLE a", "expected a query"),
    ];
    for (sql, message) in cases {
        let error = state::query(&tables, sql).unwrap_err().to_string();
        assert!(error.contains(message), "{sql}: {error}");
    }
}
