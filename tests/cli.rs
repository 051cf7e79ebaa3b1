//! The commands as a stranger types them: output, errors, exit codes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn windrow(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windrow"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a SQL file over `rows.ndjson`.
fn folder(rows: &str, sql: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rows.ndjson"), rows).unwrap();
    let table = format!(
        "CREATE TABLE t (ts TIMESTAMP(3), page STRING, n INT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)\n\
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
        dir.path().join("rows.ndjson").display()
    );
    let file = dir.path().join("q.sql");
    std::fs::write(&file, table + sql).unwrap();
    let file = file.to_string_lossy().into_owned();
    (dir, file)
}

const ROWS: &str = r#"{"ts":"2022-01-01 00:00:01","page":"a","n":1}
{"ts":"2022-01-01 00:00:02","page":"b","n":2}
{"ts":"2022-01-01 00:00:03","page":"a","n":3}
{"ts":"2022-01-01 00:00:04","page":"a"
not json
{"ts":"2022-01-01 00:00:12","page":"a","n":"x"}
{"ts":"2022-01-01T00:00:12Z","page":"a","n":5}
"#;

const WINDOWS: &str = "SELECT window_start, page, SUM(n) AS s FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))\nGROUP BY window_start, window_end, page;";

fn sorted_lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn a_file_of_half_broken_json_gives_the_good_rows_and_counts_the_others() {
    let (_dir, file) = folder(ROWS, WINDOWS);
    let out = windrow(&["run", &file, "--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(
        sorted_lines(&out),
        [
            r#"{"window_start":"2022-01-01 00:00:00","page":"a","s":4}"#,
            r#"{"window_start":"2022-01-01 00:00:00","page":"b","s":2}"#,
            r#"{"window_start":"2022-01-01 00:00:10","page":"a","s":5}"#,
        ]
    );
    let log = text(&out.stderr);
    assert!(log.contains("bad 3"), "{log}");
    assert!(log.contains("rows.ndjson/0 offset 3"), "{log}");
}

/// The whole result had been shown, and then "1 window was still open and has no result".
#[test]
fn a_group_by_without_window_leaves_no_window_open() {
    let (_dir, file) = folder(ROWS, "SELECT page, COUNT(*) AS c FROM t GROUP BY page;");
    let out = windrow(&[
        "run",
        &file,
        "--output-mode",
        "complete",
        "--format",
        "json",
    ]);
    let log = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{log}");
    let last = [r#"{"page":"a","c":4}"#, r#"{"page":"b","c":1}"#];
    assert!(last.iter().all(|row| text(&out.stdout).contains(row)));
    assert!(!log.contains("still open"), "{log}");
}

#[test]
fn results_go_to_files_that_readers_see_whole() {
    let (dir, file) = folder(ROWS, "");
    let out_dir = dir.path().join("out");
    let sql = format!(
        "CREATE TABLE o (w TIMESTAMP(3), page STRING, s BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\nINSERT INTO o {WINDOWS}",
        out_dir.display()
    );
    let mut whole = std::fs::read_to_string(&file).unwrap();
    whole.push_str(&sql);
    std::fs::write(&file, whole).unwrap();
    let out = windrow(&["run", &file, "--workers", "2"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let names: Vec<String> = std::fs::read_dir(&out_dir)
        .unwrap()
        .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().all(|n| !n.starts_with('.')), "{names:?}");
    let rows: usize = names
        .iter()
        .map(|n| {
            std::fs::read_to_string(out_dir.join(n))
                .unwrap()
                .lines()
                .count()
        })
        .sum();
    assert_eq!(rows, 3);
}

#[test]
fn a_bad_record_can_end_the_query_or_go_to_a_folder() {
    let (dir, file) = folder(ROWS, WINDOWS);
    let sql = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        sql.replace(
            "'format' = 'json'",
            "'format' = 'json', 'bad-records' = 'fail'",
        ),
    )
    .unwrap();
    let out = windrow(&["run", &file]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("error: bad record at"),
        "{}",
        text(&out.stderr)
    );

    let bad = dir.path().join("bad");
    let option = format!(
        "'format' = 'json', 'bad-records' = 'dead-letter', 'dead-letter.path' = '{}'",
        bad.display()
    );
    std::fs::write(&file, sql.replace("'format' = 'json'", &option)).unwrap();
    let out = windrow(&["run", &file]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let mut lines = Vec::new();
    for f in std::fs::read_dir(&bad).unwrap() {
        lines.extend(
            std::fs::read_to_string(f.unwrap().path())
                .unwrap()
                .lines()
                .map(str::to_string),
        );
    }
    assert_eq!(lines.len(), 3);
    assert!(
        lines.iter().any(|l| l.contains(r#""payload":"not json""#)),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|l| l.contains(r#""field":"n""#)),
        "{lines:?}"
    );
}

#[test]
fn a_typo_in_a_column_is_shown_with_its_line_and_the_nearest_name() {
    let (_dir, file) = folder(
        "",
        "SELECT window_start,\n  count(*) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) WHERE pag = 'a' GROUP BY window_start, window_end;",
    );
    let out = windrow(&["check", &file]);
    assert_eq!(out.status.code(), Some(2));
    let shown = text(&out.stderr);
    assert!(shown.contains("error: unknown column 'pag'"), "{shown}");
    assert!(shown.contains("q.sql:4:"), "{shown}");
    assert!(shown.contains("hint: did you mean 'page'?"), "{shown}");
    let caret = shown.lines().find(|l| l.trim_end().ends_with('^')).unwrap();
    let line = shown.lines().find(|l| l.contains("WHERE pag")).unwrap();
    assert_eq!(caret.find('^'), line.find("pag ="), "{shown}");
}

#[test]
fn wrong_options_statements_and_arguments_name_what_works() {
    for (sql, says) in [
        (
            "CREATE TABLE x (a INT) WITH ('connector' = 'kafka', 'topc' = 'x');",
            "did you mean 'topic'?",
        ),
        (
            "CREATE TABLE x (a INT) WITH ('connector' = 'kafkaa');",
            "did you mean 'kafka'?",
        ),
        ("SELCT 1;", "did you mean 'SELECT'?"),
        ("SELECT page FROM tt;", "tt"),
        ("SELECT page FROM t WHERE;", "q.sql:3:"),
        ("SELECT coun(page) FROM t;", "did you mean 'count'?"),
        ("SELECT page FROM T;", "did you mean 't'?"),
        ("SELECT page FROM visits;", "declare it with CREATE TABLE"),
        ("SELECT SUM(page) FROM t;", "SUM does not take STRING"),
        // Types were named as Arrow names them, and functions in the words of three layers.
        ("SELECT page + n FROM t;", "expression STRING + INT"),
        ("SELECT UPPER(n) FROM t;", "UPPER takes STRING, not INT"),
        (
            "SELECT SUBSTRING(n, 1, 2) FROM t;",
            "SUBSTR(CAST(x AS STRING))",
        ),
        (
            "SELECT ROUND(n, 2, 3) FROM t;",
            "takes 1 or 2 arguments, not 3",
        ),
        ("SELECT COALESCE(n, ts) FROM t;", "take (INT, TIMESTAMP)"),
        // A window that cannot be was pointed to at the statement's start.
        (
            "SELECT n FROM HOP(t, ts, INTERVAL '20' SECOND, INTERVAL '10' SECOND);",
            "q.sql:3:15",
        ),
        (
            "SELECT COUNT(*) FROM t GROUP BY page, window(ts, '10 parsecs');",
            "q.sql:3:39",
        ),
        (
            "SELECT COUNT(*) FROM t GROUP BY TUMBLE(n, INTERVAL '1' DAY);",
            "'n' is INT",
        ),
        ("SELECT 1 / 0;", "q.sql:3:1"),
        // Types had Arrow's names.
        (
            "CREATE TABLE g (m MAP<STRING, INT>) WITH ('connector' = 'datagen'); SELECT * FROM g;",
            "datagen makes no values of type MAP (column 'm')",
        ),
        (
            "CREATE VIEW v AS SELECT n FROM t; DROP TABLE t; SELECT * FROM v;",
            "'t' was dropped",
        ),
        (
            "SELECT n FROM t /*+ OPTIONS('path' = 'x') */;",
            "q.sql:3:17",
        ),
        (
            "CREATE TABLE k (a INT) WITH ('connector' = 'kafka', 'topic' = 'k', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json', 'startingOffsets' = '{\"j\":{\"0\":1}}'); SELECT * FROM k;",
            "topic 'j' is not read",
        ),
        (
            "SELECT 'a--${UNSET}' FROM t; -- ${UNSET_TOO}",
            "variable UNSET is not set",
        ),
        (
            "INSERT INTO nowhere SELECT page FROM t;",
            "there is no table 'nowhere'",
        ),
        (
            "SELECT '${UNSET_VARIABLE}' FROM t;",
            "pass --set UNSET_VARIABLE=VALUE",
        ),
        (
            "SET 'output.mod' = 'append';",
            "did you mean 'output.mode'?",
        ),
    ] {
        let (_dir, file) = folder("", sql);
        let out = windrow(&["check", &file]);
        assert_eq!(out.status.code(), Some(2), "{sql}");
        assert!(
            text(&out.stderr).contains(says),
            "{sql}\n{}",
            text(&out.stderr)
        );
    }
    assert_eq!(windrow(&["fly"]).status.code(), Some(2));
    assert_eq!(windrow(&["run", "no-such-file.sql"]).status.code(), Some(2));
    assert_eq!(
        windrow(&["run", "x.sql", "--output-mode", "sometimes"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(windrow(&["--help"]).status.code(), Some(0));
}

/// LIMIT over a join with a table of a file was "not supported", with the advice to write it where it stood.
#[test]
fn a_limit_ends_a_query_that_joins_a_table() {
    let rows: String = (0..50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let (dir, file) = folder(&rows, "");
    let names = dir.path().join("names.ndjson");
    std::fs::write(&names, "{\"n\":1,\"name\":\"one\"}\n").unwrap();
    let sql = format!(
        "{}CREATE TABLE l (n INT, name STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n\
         SELECT t.n, l.name FROM t LEFT JOIN l ON t.n = l.n LIMIT 3;",
        std::fs::read_to_string(&file).unwrap(),
        names.display()
    );
    std::fs::write(&file, sql).unwrap();
    let out = windrow(&["run", &file, "--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let rows = [
        "{\"n\":0,\"name\":null}",
        "{\"n\":1,\"name\":\"one\"}",
        "{\"n\":2,\"name\":null}",
    ];
    assert_eq!(sorted_lines(&out), rows);
}

/// The second INSERT of an explained set ran, and wrote.
#[test]
fn an_explained_statement_set_writes_nothing() {
    let set = "CREATE TABLE o (n INT) WITH ('connector' = 'print');\n\
        EXPLAIN STATEMENT SET BEGIN\nINSERT INTO o SELECT n FROM t;\nINSERT INTO o SELECT n + 1 FROM t;\nEND;";
    let (_dir, file) = folder(ROWS, set);
    let out = windrow(&["run", &file, "--until-end"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    assert_eq!(shown.matches("write    o (print)").count(), 2, "{shown}");
    assert!(!shown.contains("+I"), "{shown}");
    // Columns have no places, and types are SQL's.
    assert!(
        shown.contains("CAST(CAST(n AS BIGINT) + 1 AS INT)"),
        "{shown}"
    );
}

/// `check` said ok where `run` ended with 2, some of it only after it had waited for a broker.
#[test]
fn check_finds_what_run_would_refuse() {
    let kafka = |options: &str| {
        format!(
            "CREATE TABLE k (page STRING)\nWITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x:1',\n{options});\n"
        )
    };
    let json = |options: &str| kafka(&format!("'format' = 'json', {options}"));
    for (table, says) in [
        (
            json("'scan.startup.mode' = 'timestamp'"),
            "needs 'scan.startup.timestamp-millis'",
        ),
        (
            json("'scan.startup.mode' = 'group-offsets'"),
            "needs 'properties.group.id'",
        ),
        (
            json("'scan.watermark.idle-timeout' = 'soon'"),
            "it takes a duration",
        ),
        (
            json("'sink.parallelism' = 'many'"),
            "'many' is no value of option 'sink.parallelism'",
        ),
        (
            json("'bad-records' = 'dead-letter'"),
            "needs dead-letter.topic or dead-letter.path",
        ),
        (
            json("'bad-records' = 'fail', 'json.ignore-parse-errors' = 'true'"),
            "which skips them",
        ),
        (
            json("'properties.group.id' = 'g', 'properties.auto.offset.reset' = 'soon'"),
            "expected earliest, latest or none",
        ),
        (
            json("'properties.bootstrap.server' = 'x:1'"),
            "did you mean 'bootstrap.servers'?",
        ),
        (
            json("'key.format' = 'json', 'key.fields' = 'pag'"),
            "did you mean 'page'?",
        ),
        (
            kafka("'format' = 'Parquet'"),
            "records cannot be decoded from it",
        ),
    ] {
        let (_dir, file) = folder("", &(table + "SELECT page FROM k;"));
        let out = windrow(&["check", &file]);
        assert_eq!(out.status.code(), Some(2), "{says}");
        let log = text(&out.stderr);
        assert!(log.contains(says) && log.contains("q.sql:5:"), "{log}");
    }
    for (sink, says) in [
        (
            "'connector' = 'kafka', 'topic' = 'a;b', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json'",
            "a sink writes one topic",
        ),
        (
            "'connector' = 'filesystem', 'path' = '/nowhere', 'format' = 'raw'",
            "cannot be written to files",
        ),
        (
            "'connector' = 'filesystem', 'format' = 'csv'",
            "lacks the option 'path'",
        ),
    ] {
        let sql = format!(
            "CREATE TABLE s (page STRING) WITH ({sink});\nINSERT INTO s SELECT page FROM t;"
        );
        let (_dir, file) = folder("", &sql);
        let out = windrow(&["check", &file]);
        assert_eq!(out.status.code(), Some(2), "{says}");
        let log = text(&out.stderr);
        assert!(log.contains(says) && log.contains("q.sql:3:"), "{log}");
    }
}

/// Spark's trigger went on for ever.
#[test]
fn the_trigger_available_now_reads_to_the_end_of_what_is_there() {
    for trigger in ["available-now", "once"] {
        let job = windrow::plan::plan_script(
            "CREATE TABLE t (a INT) WITH ('connector' = 'datagen'); SELECT a FROM t;",
            &|_| None,
            &windrow::plan::Settings {
                trigger: windrow::plan::parse_trigger(trigger),
                ..Default::default()
            },
        );
        assert!(job.unwrap().settings.until_end, "{trigger}");
    }
}

/// Only Parquet files had the columns that stand in the names of their folders.
#[test]
fn folders_name_columns_of_json_and_csv_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "in/day=2022-01-01/a.json",
        "{\"page\":\"p\"}\n{\"page\":\"q\"}\n",
    );
    write("in/day=2022-01-02/b.json", "{\"page\":\"q\"}\n");
    write("names/k=7/c.csv", "p,first\nq,second\n");
    let table = |name: &str, columns: &str, by: &str, format: &str| {
        let path = dir.path().join(name);
        let path = path.display();
        format!(
            "CREATE TABLE {name}_table ({columns}) PARTITIONED BY ({by}) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = '{format}');\n"
        )
    };
    let sql = table("in", "day DATE, page STRING", "day", "json")
        + &table("names", "page STRING, k INT, name STRING", "k", "csv")
        + "SELECT day, t.page, k, name FROM in_table t JOIN names_table n ON t.page = n.page;";
    let file = dir.path().join("q.sql");
    std::fs::write(&file, sql).unwrap();
    let out = windrow(&["run", &file.to_string_lossy(), "--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(
        sorted_lines(&out),
        [
            r#"{"day":"2022-01-01","page":"p","k":7,"name":"first"}"#,
            r#"{"day":"2022-01-01","page":"q","k":7,"name":"second"}"#,
            r#"{"day":"2022-01-02","page":"q","k":7,"name":"second"}"#,
        ]
    );
}

/// What has no format to say it (a folder's name, a record's key) ended the run as "a bug in windrow".
#[test]
fn a_null_in_a_column_that_is_not_null_is_a_bad_record() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, row) in [
        ("b=x", "{\"a\":1}\n"),
        ("b=__HIVE_DEFAULT_PARTITION__", "{\"a\":2}\n"),
    ] {
        std::fs::create_dir_all(dir.path().join("in").join(folder)).unwrap();
        std::fs::write(dir.path().join("in").join(folder).join("r.json"), row).unwrap();
    }
    let run = |query: &str, bad: &str| {
        let sql = format!(
            "CREATE TABLE t (a INT, b STRING NOT NULL) PARTITIONED BY (b) WITH ('connector' = 'filesystem', 'bad-records' = '{bad}', 'path' = '{}', 'format' = 'json');\n{query}",
            dir.path().join("in").display()
        );
        let file = dir.path().join("q.sql");
        std::fs::write(&file, sql).unwrap();
        windrow(&["run", &file.to_string_lossy(), "--format", "json"])
    };
    let out = run("SELECT a, b FROM t;", "skip");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(sorted_lines(&out), [r#"{"a":1,"b":"x"}"#]);
    assert!(text(&out.stderr).contains("bad 1"), "{}", text(&out.stderr));
    let out = run("SELECT a, b FROM t;", "fail");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("it is NULL, but the column is NOT NULL"),
        "{}",
        text(&out.stderr)
    );
    // A table that is joined is whole, or none.
    let join = "CREATE TABLE s (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '2'); SELECT s.a, b FROM s JOIN t ON s.a = t.a;";
    let out = run(join, "skip");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("column 'b' has a NULL, but it is NOT NULL"),
        "{}",
        text(&out.stderr)
    );
}

/// A file for Flink that says how Flink is to run ended with an error.
#[test]
fn settings_of_how_others_run_are_told_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q.sql");
    let run = |key: &str| {
        let sql = format!(
            "SET '{key}' = '5 s';\n\
             CREATE TABLE t (n INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');\n\
             SELECT COUNT(*) AS c FROM t;"
        );
        std::fs::write(&file, sql).unwrap();
        let out = windrow(&["run", &file.to_string_lossy(), "--until-end"]);
        (out.status.code(), text(&out.stderr))
    };
    for key in [
        "table.exec.mini-batch.allow-latency",
        "spark.sql.shuffle.partitions",
    ] {
        let (code, said) = run(key);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("has no effect here"), "{said}");
    }
    // This one is about results.
    let (code, said) = run("table.exec.source.idle-timeout");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("'scan.watermark.idle-timeout' = '5 s'"),
        "{said}"
    );
    assert_eq!(run("table.exec.state.tll").0, Some(2));
}

/// A late table's column of another type held NULLs.
#[test]
fn a_late_table_has_the_types_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q.sql");
    for (columns, code) in [("ts TIMESTAMP(3), n BIGINT", 0), ("ts INT, n INT", 2)] {
        let sql = format!(
            "CREATE TABLE t (ts TIMESTAMP(3), n INT NOT NULL, WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '1', 'late.table' = 'late');\n\
             CREATE TABLE late ({columns}) WITH ('connector' = 'print');\n\
             SELECT window_start, COUNT(*) FROM TUMBLE(t, ts, INTERVAL '1' HOUR) GROUP BY window_start, window_end;"
        );
        std::fs::write(&file, sql).unwrap();
        let out = windrow(&["check", &file.to_string_lossy()]);
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        let said = text(&out.stderr);
        assert_eq!(
            said.contains("column 'ts' of late table late is INT, but that of t is TIMESTAMP"),
            code == 2,
            "{said}"
        );
    }
}

/// IN and EXISTS over a table in a file were refused.
#[test]
fn rows_are_let_through_by_a_table() {
    let rows = r#"{"ts":"2022-01-01 00:00:01","page":"a","n":1}
{"ts":"2022-01-01 00:00:02","page":"b","n":2}
{"ts":"2022-01-01 00:00:03","page":null,"n":3}
{"ts":"2022-01-01 00:00:04","page":"a","n":4}
"#;
    for (list, condition, expected) in [
        ("a\na\n", "page IN (SELECT p FROM l)", vec![1, 4]),
        ("a\n", "page NOT IN (SELECT p FROM l)", vec![2]),
        ("a\n\"\"\n", "page NOT IN (SELECT p FROM l)", vec![]),
        ("", "page NOT IN (SELECT p FROM l)", vec![1, 2, 3, 4]),
        (
            "a\n",
            "NOT EXISTS (SELECT 1 FROM l WHERE p = page)",
            vec![2, 3],
        ),
        (
            "a\nb\n",
            "EXISTS (SELECT 1 FROM l WHERE p = page AND CHAR_LENGTH(p) + n > 2)",
            vec![2, 4],
        ),
        (
            "a\nb\n",
            "page IN (SELECT MAX(p) FROM l WHERE p = page)",
            vec![1, 2, 4],
        ),
        // Between ORs, and behind a NOT, unknown was taken for false and let rows through.
        (
            "a\n\"\"\n",
            "n = 3 OR page NOT IN (SELECT p FROM l WHERE p = page)",
            vec![2, 3],
        ),
        ("b\n", "n > 3 OR page IN (SELECT p FROM l)", vec![2, 4]),
        ("b\n", "NOT (n > 3 OR page IN (SELECT p FROM l))", vec![1]),
        (
            "\"\"\n",
            "NOT page IN (SELECT p FROM l WHERE p = page)",
            vec![1, 2, 3, 4],
        ),
        // NULL equals NULL there: it was looked up as if it did not.
        (
            "\"\"\nb\n",
            "FROM t JOIN l ON page IS NOT DISTINCT FROM p",
            vec![2, 3],
        ),
        // The names outside and inside were taken for the same column.
        (
            "a\nb\n",
            "FROM (SELECT page, UPPER(page) AS p, n FROM t) WHERE p NOT IN (SELECT p FROM l WHERE l.p = page)",
            vec![1, 2, 3, 4],
        ),
    ] {
        let query = match condition.starts_with("FROM") {
            true => condition.to_string(),
            false => format!("FROM t WHERE {condition}"),
        };
        let (dir, file) = folder(rows, "");
        let path = dir.path().join("list.csv");
        std::fs::write(&path, list).unwrap();
        let sql = format!(
            "CREATE TABLE l (p STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.null-literal' = '');\nSELECT n {query};",
            path.display()
        );
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &sql).unwrap();
        let out = windrow(&["run", &file, "--format", "json"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let expected: Vec<String> = expected.iter().map(|n| format!("{{\"n\":{n}}}")).collect();
        assert_eq!(sorted_lines(&out), expected, "{condition} {list:?}");
    }
}

#[test]
fn explain_shows_the_stages() {
    let (_dir, file) = folder("", WINDOWS);
    let out = windrow(&["explain", &file]);
    let shown = text(&out.stdout);
    for says in [
        "decode   ts, page, n",
        "watermark ts - 5 s",
        "tumbling windows of 10 s",
        "standard output, mode append",
    ] {
        assert!(shown.contains(says), "{says} is missing in:\n{shown}");
    }
}

#[test]
fn the_demo_ends_by_itself_with_results() {
    let out = windrow(&["demo", "--for", "3s"]);
    let shown = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for says in [
        "Views per page",
        "/product1",
        "Top songs",
        "CPU alerts",
        "Down interfaces",
    ] {
        assert!(shown.contains(says), "{says} is missing in:\n{shown}");
    }
}

#[test]
fn a_broker_that_is_down_is_said_and_ctrl_c_ends_the_wait() {
    let sql = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/views_per_page.sql"),
    )
    .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_windrow"))
        .args(["run", "-", "--set", "BOOTSTRAP=127.0.0.1:1"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(sql.as_bytes())
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("waiting for Kafka at 127.0.0.1:1")));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn completions_are_printed() {
    let out = windrow(&["completions", "bash"]);
    assert!(text(&out.stdout).contains("_windrow"));
}

/// `println!` panicked: `windrow explain --options | head` ended with 101 and a stack trace.
#[test]
fn output_that_is_closed_or_full_is_no_panic() {
    let (_dir, file) = folder("", "SELECT page FROM t;");
    let full = std::fs::File::options().write(true).open("/dev/full");
    for args in [
        vec!["explain", "--options"],
        vec!["explain", &file],
        vec!["check", &file],
    ] {
        let run = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
            let child = command.args(&args).stdout(stdout).stderr(Stdio::piped());
            child.spawn().unwrap()
        };
        let full = run(full.as_ref().unwrap().try_clone().unwrap().into());
        let output = full.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("error: cannot write the result"), "{said}");
        // A pipe whose reader is gone before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(writer.into()).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}

/// With a checkpoint, as in Spark, windows that are open at the end are the next run's: its rows for them were late.
#[test]
fn the_trigger_available_now_goes_on_from_its_checkpoint() {
    let (dir, file) = folder("", "");
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    let sql = format!(
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
           WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         SELECT window_start, COUNT(*) AS n FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end;",
        input.display()
    );
    std::fs::write(&file, &sql).unwrap();
    let checkpoints = dir.path().join("checkpoints").display().to_string();
    let runs: [(&[u32], &str); 3] = [
        (&[1], ""),
        (&[3, 31], r#"{"window_start":"2022-01-01 00:00:00","n":2}"#),
        (&[2, 46], r#"{"window_start":"2022-01-01 00:00:30","n":1}"#),
    ];
    for (i, (seconds, expected)) in runs.into_iter().enumerate() {
        let row = |second: &u32| format!("{{\"ts\":\"2022-01-01 00:00:{second:02}\"}}\n");
        let rows: String = seconds.iter().map(row).collect();
        std::fs::write(input.join(format!("{i}.json")), rows).unwrap();
        let run = windrow(&[
            "run",
            &file,
            "--trigger",
            "available-now",
            "--checkpoint",
            &checkpoints,
            "--format",
            "json",
        ]);
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
        assert_eq!(text(&run.stdout).trim(), expected, "{}", text(&run.stderr));
    }
}

/// Runs a file with a folder for its checkpoints, to its end.
fn run_checkpointed(file: &str, checkpoints: &str) {
    let run = windrow(&["run", file, "--checkpoint", checkpoints]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
}

/// Who loads the files takes them away: the next start missed them, and ended.
#[test]
fn files_that_were_taken_away_are_not_missed() {
    let (dir, file) = folder("", "");
    let out = dir.path().join("out");
    let sql = format!(
        "CREATE TABLE o (a STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         INSERT INTO o VALUES ('x'), ('y');",
        out.display()
    );
    std::fs::write(&file, &sql).unwrap();
    let checkpoints = dir.path().join("checkpoints").display().to_string();
    for _ in 0..2 {
        run_checkpointed(&file, &checkpoints);
        std::fs::remove_dir_all(&out).ok();
    }
    assert!(!out.exists() || std::fs::read_dir(&out).unwrap().next().is_none());
}

/// A job that only writes a few rows needs no source.
#[test]
fn constants_are_rows() {
    let (dir, file) = folder("", "");
    let out = dir.path().join("out");
    let sql = format!(
        "CREATE TABLE o (a STRING, b INT, at TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         INSERT INTO o VALUES ('x', 1, TIMESTAMP '2022-01-01 00:00:01'), ('y', NULL, NULL);
         INSERT INTO o (b) SELECT 1 + n FROM (VALUES (1), (2)) AS v (n) WHERE n > 1;",
        out.display()
    );
    std::fs::write(&file, &sql).unwrap();
    let checkpoints = dir.path().join("checkpoints").display().to_string();
    // Again from its checkpoint: nothing is written twice.
    for _ in 0..2 {
        run_checkpointed(&file, &checkpoints);
        let files = std::fs::read_dir(&out).unwrap().map(|f| f.unwrap().path());
        let visible = files.filter(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.'));
        let mut rows: Vec<String> = visible
            .filter(|f| f.is_file())
            .flat_map(|f| {
                let text = std::fs::read_to_string(f).unwrap();
                text.lines().map(str::to_string).collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        assert_eq!(rows, [",3,", "x,1,2022-01-01 00:00:01", "y,,"]);
    }
    // Other constants are other rows: they were skipped, as many as had been written before.
    std::fs::write(&file, sql.replace("('x', 1,", "('z', 1,")).unwrap();
    let plan = text(&windrow(&["plan", &file, "--checkpoint", &checkpoints]).stdout);
    assert_eq!(plan.matches("new      source values-").count(), 1, "{plan}");
    let run = windrow(&["run", &file, "--checkpoint", &checkpoints]);
    assert!(
        text(&run.stderr).contains("2 rows"),
        "{}",
        text(&run.stderr)
    );
    // So are those of a view, and of an INSERT above.
    let view = sql.replace("(VALUES (1), (2))", "(SELECT n + 1 AS n FROM w)");
    let view = |n| format!("CREATE VIEW w AS SELECT {n} AS n;\n{view}");
    for (sql, new) in [
        (view(6), "1 rows"),
        (view(7), "1 rows"),
        (view(7), "0 rows"),
    ] {
        std::fs::write(&file, sql).unwrap();
        let run = windrow(&[
            "run",
            &file,
            "--checkpoint",
            &checkpoints,
            "--accept-changes",
        ]);
        let said = text(&run.stderr);
        assert!(
            said.contains(new) && run.status.code() == Some(0),
            "{new}: {said}"
        );
    }
    std::fs::write(&file, "SELECT 1 + 1 AS two, UPPER('a') AS a;").unwrap();
    let shown = windrow(&["run", &file, "--format", "csv"]);
    assert_eq!(text(&shown.stdout), "two,a\n2,A\n");
}

/// UNNEST between had hidden the window from the GROUP BY: groups were kept for ever. And an aggregate of
/// rows of sessions that does not ask for the session had been refused.
#[test]
fn a_group_by_finds_its_window_below_unnest_and_needs_no_session() {
    let windows = "HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND)";
    let sessions = "SESSION(TABLE t PARTITION BY page, DESCRIPTOR(ts), INTERVAL '5' SECOND)";
    let (_dir, file) = folder(
        ROWS,
        &format!(
            "SELECT window_end, e, COUNT(*) FROM {windows} LATERAL VIEW explode(SPLIT(page, ',')) x AS e GROUP BY window_start, window_end, e;
             SELECT page, COUNT(*) AS c FROM {sessions} GROUP BY page;
             SELECT COUNT(DISTINCT page) AS d FROM (SELECT page FROM {sessions} WHERE page = 'a');"
        ),
    );
    let explained = text(&windrow(&["explain", &file]).stdout);
    assert_eq!(explained.matches("windows of 10 s every 5 s").count(), 1);
    let out = windrow(&["run", &file, "--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let rows = sorted_lines(&out);
    for row in [
        r#"{"page":"a","c":4}"#,
        r#"{"page":"b","c":1}"#,
        r#"{"d":1}"#,
    ] {
        assert!(rows.iter().any(|r| r == row), "{rows:?}");
    }
}

/// A view's rows stood in their windows before the GROUP BY of the query that reads it: groups for ever. And the
/// table of a NOT IN was taken for the stream, because it stands in a subquery.
#[test]
fn a_view_of_sliding_windows_is_grouped_by_them() {
    let rows: Vec<&str> = ROWS.lines().take(3).collect();
    let (_dir, file) = folder(&rows.join("\n"), "");
    let table = std::fs::read_to_string(&file).unwrap();
    let sql = table.clone()
        + &table.replace("CREATE TABLE t ", "CREATE TABLE other ")
        + "CREATE VIEW w AS SELECT * FROM HOP(t, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND);
           SELECT window_end, COUNT(*) AS c FROM w GROUP BY window_start, window_end;
           SELECT page FROM t WHERE n NOT IN (SELECT n FROM other WHERE n > 2);";
    std::fs::write(&file, sql).unwrap();
    let explained = text(&windrow(&["explain", &file]).stdout);
    assert_eq!(
        explained.matches("windows of 10 s every 5 s").count(),
        1,
        "{explained}"
    );
    let out = windrow(&["run", &file, "--format", "csv"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("2022-01-01 00:00:10,3"));
    assert_eq!(sorted_lines(&out).iter().filter(|l| *l == "b").count(), 1);
}

/// Columns that stand in a list again were refused behind a wildcard, and written under one name twice in
/// joins. WITH ROLLUP was read over.
#[test]
fn each_column_has_a_name_of_its_own() {
    let header = |query: &str| {
        let u = "CREATE VIEW u AS SELECT page, n, named_struct('n', n) AS r FROM t;\n";
        let (_dir, file) = folder("{\"page\":\"a\",\"n\":1}\n", &format!("{u}{query};"));
        let out = windrow(&["run", &file, "--format", "csv"]);
        assert_eq!(out.status.code(), Some(0), "{query}: {}", text(&out.stderr));
        text(&out.stdout).lines().next().unwrap().to_string()
    };
    for (query, names) in [
        ("SELECT n, * FROM t", "n,ts,page,n0"),
        ("SELECT t.*, n, page FROM t", "ts,page,n,n0,page0"),
        ("SELECT n, n, page AS n0 FROM t", "n,n0,n00"),
        ("SELECT n, * EXCEPT (ts) FROM t", "n,page,n0"),
        (
            "SELECT COUNT(*), count(*), (n), t.n FROM t GROUP BY n",
            "count(*),count(*)0,n,n0",
        ),
        ("SELECT *, * FROM (SELECT n FROM t)", "n,n0"),
        ("SELECT r.n, page, n FROM u", "n,page,n0"),
        (
            "WITH c AS (WITH d AS (SELECT *, n FROM t) SELECT *, n0 FROM d) SELECT n, n00 FROM c",
            "n,n00",
        ),
        (
            "SELECT page, COUNT(*) AS c, COUNT(*) AS c FROM t GROUP BY page WITH ROLLUP",
            "page,c,c0",
        ),
    ] {
        assert_eq!(header(query), names, "{query}");
    }
    let (dir, file) = folder(ROWS, "");
    let names = dir.path().join("names.csv");
    std::fs::write(&names, "a,7\n").unwrap();
    let table = format!(
        "CREATE TABLE names (page STRING, n INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');",
        names.display()
    );
    let tables = std::fs::read_to_string(&file).unwrap() + &table;
    for (query, first) in [
        (
            "SELECT t.n, names.n FROM t JOIN names ON t.page = names.page",
            r#"{"n":1,"n0":7}"#,
        ),
        (
            "SELECT names.*, t.* FROM t JOIN names USING (page)",
            r#"{"page":"a","n":7,"ts":"2022-01-01 00:00:01","page0":"a","n0":1}"#,
        ),
        (
            "SELECT page, COUNT(*) AS c FROM t GROUP BY page WITH ROLLUP",
            r#"{"page":null,"c":5}"#,
        ),
    ] {
        std::fs::write(&file, format!("{tables}{query};")).unwrap();
        let out = windrow(&["run", &file, "--format", "json"]);
        let rows = text(&out.stdout);
        assert_eq!(
            rows.lines().next(),
            Some(first),
            "{query}: {}",
            text(&out.stderr)
        );
    }
}
