//! `CREATE TABLE` in Flink's form.

mod given;

use super::tokens::{Tokens, token_at};
use crate::error::{At, Error, Result, nearest};
use crate::options::Options;
use crate::table::{Column, ColumnKind, MetadataKey, TableDef, WatermarkDef};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::sync::Arc;

/// What columns are declared as.
pub const TYPES: [&str; 19] = [
    "STRING",
    "VARCHAR",
    "CHAR",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "BYTES",
    "ARRAY",
    "ROW",
    "MAP",
];

/// Parses `CREATE [TEMPORARY] TABLE [IF NOT EXISTS] t (…) [PARTITIONED BY (…)] WITH (…)`;
/// `i` is the index of the table's name. Intervals of watermarks are read by `delay_us`.
pub fn create_table(
    t: &Tokens,
    mut i: usize,
    delay_us: &dyn Fn(&Tokens) -> Result<i64>,
) -> Result<TableDef> {
    let at = t.at(i);
    let name = t.name(i, "the table's name")?;
    i += 1;
    for (word, instead) in [
        (
            "AS",
            "declare its columns, and fill it with INSERT INTO … SELECT …",
        ),
        (
            "LIKE",
            "declare its columns in brackets, and its options in WITH",
        ),
    ] {
        if t.is_word(i, word) {
            return Err(
                Error::sql(format!("CREATE TABLE … {word} is not supported"))
                    .or_at(t.at(i))
                    .with_hint(instead),
            );
        }
    }
    t.expect(i, &Token::LParen)?;
    let close = t.close(i)?;
    let mut def = TableDef {
        name,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        values: None,
        options: Options::default(),
        at,
    };
    for (from, to) in t.split_commas(i + 1, close, true) {
        element(t, from, to, &mut def, delay_us)?;
    }
    if def.columns.is_empty() {
        return Err(Error::sql(format!("table {} has no columns", def.name)).or_at(t.at(i)));
    }
    i = close + 1;
    if t.is_word(i, "COMMENT") {
        i += 2;
    }
    if t.are_words(i, &["PARTITIONED", "BY"]) {
        let end = t.close(i + 2)?;
        def.partitioned_by = names(t, i + 3, end)?;
        i = end + 1;
    }
    if !t.is_word(i, "WITH") {
        return Err(Error::sql(format!("table {} has no WITH clause", def.name))
            .or_at(t.at(i))
            .with_hint("write WITH ('connector' = 'kafka', 'topic' = '…', 'properties.bootstrap.servers' = '…', 'format' = 'json')"));
    }
    let end = t.close(i + 1)?;
    options(t, i + 2, end, &mut def)?;
    if end + 1 < t.len() {
        return Err(Error::sql(format!(
            "unexpected {} after CREATE TABLE",
            t.list[end + 1].token
        ))
        .or_at(t.at(end + 1)));
    }
    check(&def)?;
    Ok(def)
}

fn options(t: &Tokens, from: usize, to: usize, def: &mut TableDef) -> Result<()> {
    let parts = t.split_commas(from, to, false);
    let mut connector = None;
    for (a, b) in &parts {
        if t.string(*a, "an option's name")? == "connector" {
            t.expect(a + 1, &Token::Eq)?;
            connector = Some((t.string(a + 2, "the connector")?, t.at(a + 2)));
        }
        if *b != a + 3 {
            return Err(Error::sql("expected 'option' = 'value'").or_at(t.at(*a)));
        }
    }
    let Some((connector, at)) = connector else {
        return Err(Error::sql(format!("table {} names no connector", def.name))
            .or_at(t.at(from))
            .with_hint(
                "add 'connector' = 'kafka' (or filesystem, datagen, print, console, blackhole)",
            ));
    };
    const CONNECTORS: [&str; 6] = [
        "kafka",
        "filesystem",
        "datagen",
        "print",
        "console",
        "blackhole",
    ];
    if !CONNECTORS.contains(&connector.as_str()) {
        let hint = match connector.as_str() {
            "upsert-kafka" => "a table of connector 'kafka' with a PRIMARY KEY is one".to_string(),
            _ => nearest(&connector, CONNECTORS)
                .unwrap_or_else(|| format!("there are: {}", CONNECTORS.join(", "))),
        };
        return Err(Error::sql(format!("unknown connector '{connector}'"))
            .or_at(at)
            .with_hint(hint));
    }
    for (a, _) in parts {
        t.expect(a + 1, &Token::Eq)?;
        let (key, value) = (
            t.string(a, "an option's name")?,
            t.string(a + 2, "the option's value")?,
        );
        def.options.insert(&connector, &key, &value, t.at(a))?;
    }
    Ok(())
}

/// One column, WATERMARK or PRIMARY KEY, which may be a named CONSTRAINT.
fn element(
    t: &Tokens,
    from: usize,
    to: usize,
    def: &mut TableDef,
    delay_us: &dyn Fn(&Tokens) -> Result<i64>,
) -> Result<()> {
    if t.are_words(from, &["WATERMARK", "FOR"]) {
        return watermark(t, from, to, def, delay_us);
    }
    let is_named = t.is_word(from, "CONSTRAINT") && t.are_words(from + 2, &["PRIMARY", "KEY"]);
    let from = if is_named { from + 2 } else { from };
    if t.are_words(from, &["PRIMARY", "KEY"]) {
        let close = t.close(from + 2)?;
        return primary_key(def, names(t, from + 3, close)?, t.at(from));
    }
    let name = t.name(from, "a column's name")?;
    if def.column(&name).is_some() {
        return Err(Error::sql(format!("column '{name}' is declared twice")).or_at(t.at(from)));
    }
    let at = t.at(from);
    if t.is_word(from + 1, "AS") {
        let expr = expression(t, from + 2, to)?;
        if expr.is_empty() {
            return Err(Error::sql(format!("column '{name}' has no expression")).or_at(at));
        }
        // The type is known only when the expression is planned.
        let kind = ColumnKind::Computed(expr.text_in_place());
        def.columns.push(Column {
            name,
            data_type: DataType::Null,
            nullable: true,
            kind,
            ltz: false,
            at,
        });
        return Ok(());
    }
    let t = &declaration(t, from, to);
    let (mut i, to) = (1, t.len());
    let parsed = data_type(t, &mut i)?;
    let mut column = Column {
        name,
        data_type: parsed.0,
        nullable: true,
        kind: ColumnKind::Physical,
        ltz: parsed.1,
        at,
    };
    while i < to {
        if t.are_words(i, &["NOT", "NULL"]) {
            column.nullable = false;
            i += 2;
        } else if t.are_words(i, &["PRIMARY", "KEY"]) {
            primary_key(def, vec![column.name.clone()], t.at(i))?;
            i += 2;
        } else if t.are_words(i, &["NOT", "ENFORCED"]) || t.is_word(i, "COMMENT") {
            i += 2;
        } else if t.is_word(i, "NULL") {
            i += 1;
        } else if t.is_word(i, "METADATA") {
            i = metadata(t, i, &mut column)?;
        } else {
            return Err(Error::sql(format!(
                "unexpected {} in the declaration of column '{}'",
                t.list[i].token, column.name
            ))
            .or_at(t.at(i)));
        }
    }
    def.columns.push(column);
    Ok(())
}

/// The expression of a computed column, without its COMMENT.
fn expression(t: &Tokens, from: usize, mut to: usize) -> Result<Tokens> {
    if to > from + 2 && t.is_word(to - 2, "COMMENT") && t.string(to - 1, "a comment").is_ok() {
        to -= 2;
    }
    let is_condition = to > from + 3 && t.is_word(to - 3, "IS");
    if to > from + 2 && t.are_words(to - 2, &["NOT", "NULL"]) && !is_condition {
        return Err(Error::sql("a computed column is declared without NOT NULL")
            .or_at(t.at(to - 2))
            .with_hint("leave NOT NULL away: its expression says whether it can be NULL"));
    }
    Ok(t.slice(from, to))
}

fn primary_key(def: &mut TableDef, columns: Vec<String>, at: At) -> Result<()> {
    if !def.primary_key.is_empty() {
        return Err(Error::sql("a table has one PRIMARY KEY")
            .or_at(at)
            .with_hint("name all its columns in one: PRIMARY KEY (a, b) NOT ENFORCED"));
    }
    def.primary_key = columns;
    Ok(())
}

fn metadata(t: &Tokens, mut i: usize, column: &mut Column) -> Result<usize> {
    let (mut name, mut at) = (column.name.clone(), t.at(i));
    i += 1;
    if t.is_word(i, "FROM") {
        name = t.string(i + 1, "the metadata key")?;
        at = t.at(i + 1);
        i += 2;
    }
    let is_virtual = t.is_word(i, "VIRTUAL");
    if is_virtual {
        i += 1;
    }
    let name = name.strip_prefix("value.").unwrap_or(&name);
    let Some((_, key)) = MetadataKey::ALL.iter().find(|(n, _)| *n == name) else {
        let known: Vec<&str> = MetadataKey::ALL.iter().map(|(n, _)| *n).collect();
        let hint = nearest(name, known.iter().copied())
            .unwrap_or_else(|| format!("there are: {}", known.join(", ")));
        return Err(Error::sql(format!("unknown metadata '{name}'"))
            .or_at(at)
            .with_hint(hint));
    };
    column.kind = ColumnKind::Metadata {
        key: *key,
        is_virtual,
    };
    Ok(i)
}

fn watermark(
    t: &Tokens,
    from: usize,
    to: usize,
    def: &mut TableDef,
    delay_us: &dyn Fn(&Tokens) -> Result<i64>,
) -> Result<()> {
    let at = t.at(from);
    if def.watermark.is_some() {
        return Err(Error::sql("a table has one watermark").or_at(at));
    }
    let column = t.name(from + 2, "the watermark's column")?;
    if !t.is_word(from + 3, "AS") {
        return Err(Error::sql("expected AS")
            .or_at(t.at(from + 3))
            .with_hint("write WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"));
    }
    let (mut from, mut to) = (from + 4, to);
    while t.is(from, &Token::LParen) && t.close(from)? + 1 == to {
        (from, to) = (from + 1, to - 1);
    }
    let expr = t.slice(from, to);
    let same =
        matches!(expr.list.first().map(|t| &t.token), Some(Token::Word(w)) if w.value == column);
    let delay = match expr.len() {
        1 if same => 0,
        n if n > 2 && same && expr.is(1, &Token::Minus) => {
            delay_us(&expr.slice(2, n)).map_err(|e| e.or_at(expr.at(2)))?
        }
        _ => {
            return Err(Error::sql(format!("the watermark of '{column}' must be {column} - INTERVAL …, or {column} alone"))
                .or_at(expr.start())
                .with_hint("an expression belongs into a computed column: ts AS TO_TIMESTAMP(…), WATERMARK FOR ts AS ts"));
        }
    };
    if delay < 0 {
        return Err(Error::sql("the delay of a watermark cannot be negative").or_at(expr.at(2)));
    }
    def.watermark = Some(WatermarkDef {
        column,
        delay_us: delay,
        at,
    });
    Ok(())
}

fn names(t: &Tokens, from: usize, to: usize) -> Result<Vec<String>> {
    t.split_commas(from, to, false)
        .into_iter()
        .map(|(a, _)| t.name(a, "a column's name"))
        .collect()
}

/// A type at `i`, which is moved behind it. The flag says `TIMESTAMP_LTZ`.
pub fn data_type(t: &Tokens, i: &mut usize) -> Result<(DataType, bool)> {
    let at = t.at(*i);
    let name = t.name(*i, "a type")?.to_uppercase();
    *i += 1;
    let mut ltz = false;
    let simple = match name.as_str() {
        "STRING" | "VARCHAR" | "CHAR" | "TEXT" => DataType::Utf8View,
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => {
            if t.is_word(*i, "PRECISION") {
                *i += 1;
            }
            DataType::Float64
        }
        "DATE" => DataType::Date32,
        "TIME" => DataType::Time64(TimeUnit::Microsecond),
        "TIMESTAMP" | "TIMESTAMP_LTZ" | "TIMESTAMP_NTZ" | "DATETIME" => {
            ltz = name == "TIMESTAMP_LTZ";
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        "BYTES" | "BINARY" | "VARBINARY" => DataType::Binary,
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(t, *i)?,
        "ARRAY" => {
            let inner = in_angles(t, i, &mut |t, i| data_type(t, i))?;
            return Ok((
                DataType::List(Arc::new(Field::new("item", inner.0, true))),
                false,
            ));
        }
        "MAP" => return map(t, i).map(|t| (t, false)),
        "ROW" | "STRUCT" => return row(t, i).map(|t| (t, false)),
        other => {
            let hint =
                nearest(other, TYPES).unwrap_or_else(|| format!("there are: {}", TYPES.join(", ")));
            return Err(Error::sql(format!("unknown type {other}"))
                .or_at(at)
                .with_hint(hint));
        }
    };
    if t.is(*i, &Token::LParen) {
        let close = t.close(*i)?;
        if !name.starts_with("DEC") && name != "NUMERIC" {
            size_of(&name, &t.slice(*i + 1, close))?;
        }
        *i = close + 1;
    }
    if name == "TIMESTAMP" && t.are_words(*i, &["WITH", "LOCAL", "TIME", "ZONE"]) {
        *i += 4;
        ltz = true;
    } else if t.are_words(*i, &["WITHOUT", "TIME", "ZONE"]) {
        *i += 3;
    }
    Ok((simple, ltz))
}

/// Refuses a number in brackets that a type does not take.
fn size_of(name: &str, given: &Tokens) -> Result<()> {
    let (what, sizes) = match name {
        "CHAR" | "VARCHAR" | "BINARY" | "VARBINARY" => ("a length", 1..=i32::MAX),
        "TIME" | "TIMESTAMP" | "TIMESTAMP_LTZ" | "TIMESTAMP_NTZ" => ("a precision", 0..=9),
        _ => {
            let hint = match name {
                "STRING" | "TEXT" => "write STRING, or VARCHAR(n)".to_string(),
                _ => format!("write {name}"),
            };
            return Err(Error::sql(format!("{name} takes no number in brackets"))
                .or_at(given.start())
                .with_hint(hint));
        }
    };
    let number = match given.list.as_slice() {
        [one] => match &one.token {
            Token::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    match number {
        Some(number) if sizes.contains(&number) => Ok(()),
        _ => Err(Error::sql(format!(
            "{name} takes {what} of {} to {}",
            sizes.start(),
            sizes.end()
        ))
        .or_at(given.start())),
    }
}

fn decimal(t: &Tokens, i: usize) -> Result<DataType> {
    let number = |k: usize| match t.list.get(k).map(|t| &t.token) {
        Some(Token::Number(n, _)) => n.parse::<u8>().ok(),
        _ => None,
    };
    let (precision, scale) = match (
        t.is(i, &Token::LParen),
        number(i + 1),
        t.is(i + 2, &Token::Comma),
        number(i + 3),
    ) {
        (false, ..) => (10, 0),
        (true, Some(p), false, _) => (p, 0),
        (true, Some(p), true, Some(s)) => (p, s),
        _ => return Err(Error::sql("expected DECIMAL(precision, scale)").or_at(t.at(i))),
    };
    if precision == 0 || precision > 38 || scale > precision {
        return Err(Error::sql(
            "DECIMAL takes a precision of 1 to 38 and a scale of at most the precision",
        )
        .or_at(t.at(i)));
    }
    Ok(DataType::Decimal128(precision, scale as i8))
}

fn in_angles<T>(
    t: &Tokens,
    i: &mut usize,
    inner: &mut dyn FnMut(&Tokens, &mut usize) -> Result<T>,
) -> Result<T> {
    in_brackets(t, i, &[(Token::Lt, Token::Gt)], inner)
}

fn in_brackets<T>(
    t: &Tokens,
    i: &mut usize,
    kinds: &[(Token, Token)],
    inner: &mut dyn FnMut(&Tokens, &mut usize) -> Result<T>,
) -> Result<T> {
    let kind = kinds.iter().find(|(open, _)| t.is(*i, open));
    let (open, close) = kind.unwrap_or(&kinds[0]);
    t.expect(*i, open)?;
    *i += 1;
    let result = inner(t, i)?;
    t.expect(*i, close)?;
    *i += 1;
    Ok(result)
}

/// The tokens of a column's declaration, with `>>` of nested types as two tokens.
fn declaration(t: &Tokens, from: usize, to: usize) -> Tokens {
    let split = |token: &TokenWithSpan| match token.token {
        Token::ShiftRight => vec![token_at(Token::Gt, token), token_at(Token::Gt, token)],
        _ => vec![token.clone()],
    };
    t.with(t.list[from..to].iter().flat_map(split).collect())
}

fn map(t: &Tokens, i: &mut usize) -> Result<DataType> {
    let at = t.at(*i);
    let (key, value) = in_angles(t, i, &mut |t, i| {
        let key = data_type(t, i)?;
        t.expect(*i, &Token::Comma)?;
        *i += 1;
        Ok((key.0, data_type(t, i)?.0))
    })?;
    if key != DataType::Utf8View {
        return Err(Error::sql("the keys of a MAP must be STRING").or_at(at));
    }
    let entries = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ]);
    Ok(DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    ))
}

fn row(t: &Tokens, i: &mut usize) -> Result<DataType> {
    let kinds = [(Token::Lt, Token::Gt), (Token::LParen, Token::RParen)];
    let fields = in_brackets(t, i, &kinds, &mut |t, i| {
        let mut fields = Vec::new();
        loop {
            let name = t.name(*i, "a field's name")?;
            *i += 1;
            if t.is(*i, &Token::Colon) {
                *i += 1;
            }
            let inner = data_type(t, i)?.0;
            // The field of a ROW that is NULL is NULL, whatever is said of it.
            if t.are_words(*i, &["NOT", "NULL"]) {
                *i += 2;
            }
            fields.push(Field::new(name, inner, true));
            if !t.is(*i, &Token::Comma) {
                return Ok(fields);
            }
            *i += 1;
        }
    })?;
    Ok(DataType::Struct(fields.into()))
}

fn check(def: &TableDef) -> Result<()> {
    let known = || def.columns.iter().map(|c| c.name.as_str());
    let missing = |name: &str, what: &str| {
        let hint = nearest(name, known())
            .unwrap_or_else(|| format!("there are: {}", known().collect::<Vec<_>>().join(", ")));
        Error::sql(format!("{what} '{name}' is no column of {}", def.name)).with_hint(hint)
    };
    if let Some(w) = &def.watermark
        && def.column(&w.column).is_none()
    {
        return Err(missing(&w.column, "the watermark's column").or_at(w.at));
    }
    if let Some(w) = &def.watermark
        && let Some(c) = def.column(&w.column)
        && !matches!(c.data_type, DataType::Timestamp(..) | DataType::Null)
    {
        return Err(Error::sql(format!(
            "the watermark's column '{}' must be a TIMESTAMP",
            w.column
        ))
        .or_at(c.at)
        .with_hint("declare it TIMESTAMP(3), or add a computed column: ts AS TO_TIMESTAMP(…)"));
    }
    for name in def.primary_key.iter().chain(&def.partitioned_by) {
        if def.column(name).is_none() {
            return Err(missing(name, "the key column").or_at(def.at));
        }
    }
    let required: &[&str] = match def.connector() {
        "filesystem" => &["path", "format"],
        _ => &[],
    };
    for key in required {
        if def.options.get(key).is_none() {
            return Err(
                Error::sql(format!("table {} lacks the option '{key}'", def.name)).or_at(def.at),
            );
        }
    }
    given::check(&def.options)?;
    if def.connector() == "kafka" {
        let o = &def.options;
        if o.get("topic").is_none() && o.get("topic-pattern").is_none() {
            return Err(
                Error::sql(format!("table {} lacks the option 'topic'", def.name)).or_at(def.at),
            );
        }
        if o.get("properties.bootstrap.servers").is_none() {
            return Err(Error::sql(format!(
                "table {} lacks the option 'properties.bootstrap.servers'",
                def.name
            ))
            .or_at(def.at));
        }
        if o.get("format").is_none() && o.get("value.format").is_none() {
            return Err(
                Error::sql(format!("table {} lacks the option 'format'", def.name))
                    .or_at(def.at)
                    .with_hint("add 'format' = 'json'"),
            );
        }
    }
    Ok(())
}
