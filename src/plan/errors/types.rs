//! Arrow's names of types, which DataFusion's messages are full of, as SQL's.

use crate::table::sql_name;
use arrow::datatypes::DataType;

/// `Utf8View + Int32` as `STRING + INT`, and literals (`Int64(5)`) as they are written.
pub fn in_sql(text: &str) -> String {
    let text = with_intervals(text);
    let text = text.as_str();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // What the user wrote stays.
        if c == '\''
            && let Some(end) = rest[1..].find('\'')
        {
            out.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
            continue;
        }
        if !c.is_alphanumeric() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let (word, behind) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let inside = behind.strip_prefix('(').and_then(inside);
        let (name, taken) = match (sql(word), inside) {
            (None, _) => (word.to_string(), 0),
            // What is in brackets is a length to the reader, too.
            (Some(name), Some(_)) if name == "DECIMAL" => (name, 0),
            (Some(name), Some(of)) if is_nested(&name) => (name, of.len() + 2),
            (Some(_), Some(literal)) => (literal.replace('"', "'"), literal.len() + 2),
            (Some(name), None) => (name, 0),
        };
        out.push_str(&name);
        rest = &behind[taken..];
    }
    out
}

/// Intervals, of which the whole insides are shown, as they are written.
fn with_intervals(text: &str) -> String {
    const NAME: &str = "IntervalMonthDayNano";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(NAME) {
        out.push_str(before);
        // `IntervalMonthDayNano("IntervalMonthDayNano { … }")`, or what is in the quotes alone.
        let quoted = behind
            .strip_prefix("(\"")
            .and_then(|b| b.strip_prefix(NAME));
        let shown = quoted.unwrap_or(behind).strip_prefix(" { ");
        let shown = shown.and_then(|shown| shown.split_once(" }"));
        let interval = shown.and_then(|(parts, rest)| Some((interval(parts)?, rest)));
        rest = match interval {
            Some((interval, rest)) => {
                out.push_str(&interval);
                match quoted {
                    Some(_) => rest.strip_prefix("\")").unwrap_or(rest),
                    None => rest,
                }
            }
            None => {
                out.push_str(NAME);
                behind
            }
        };
    }
    out + rest
}

/// `months: 0, days: 1, nanoseconds: 0` as `INTERVAL '1 DAY'`.
fn interval(parts: &str) -> Option<String> {
    let mut texts = Vec::new();
    for part in parts.split(", ") {
        let (unit, number) = part.split_once(": ")?;
        let number: i64 = number.parse().ok()?;
        if number == 0 {
            continue;
        }
        texts.push(match unit {
            "months" => format!("{number} MONTH"),
            "days" => format!("{number} DAY"),
            _ => format!("{} SECOND", number as f64 / 1e9),
        });
    }
    match texts.is_empty() {
        true => Some("INTERVAL '0 SECOND'".into()),
        false => Some(format!("INTERVAL '{}'", texts.join(" "))),
    }
}

/// The SQL name of a type that a word is; `None` for other words, and types that SQL calls so, too.
fn sql(word: &str) -> Option<String> {
    // Those that Arrow names only together with their parts.
    let with_parts = match word {
        "String" => "STRING",
        "Decimal128" => "DECIMAL",
        "Time64" => "TIME",
        "Timestamp" => "TIMESTAMP",
        "Interval" => "INTERVAL",
        "List" => "ARRAY",
        "Struct" => "ROW",
        _ => {
            let name = sql_name(&word.parse::<DataType>().ok()?);
            return (name != word).then_some(name);
        }
    };
    Some(with_parts.into())
}

/// Whether what stands in brackets behind a type belongs to it, and says nothing to the reader.
fn is_nested(name: &str) -> bool {
    ["TIME", "TIMESTAMP", "INTERVAL", "ARRAY", "ROW"].contains(&name)
}

/// What stands before the bracket that closes.
fn inside(behind: &str) -> Option<&str> {
    let (mut open, mut quoted) = (1, false);
    let end = behind.find(|c| {
        quoted ^= c == '"';
        open += match c {
            '(' if !quoted => 1,
            ')' if !quoted => -1,
            _ => 0,
        };
        open == 0
    })?;
    Some(&behind[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_literals_are_as_in_sql() {
        for (arrow, shown) in [
            ("Utf8View + Int32", "STRING + INT"),
            ("Timestamp(µs) = Int64(5)", "TIMESTAMP = 5"),
            ("[Utf8, Timestamp(ns, \"UTC\")]", "[STRING, TIMESTAMP]"),
            ("x = Utf8(\"a\")", "x = 'a'"),
            (
                "Boolean, BinaryView, Date32, Float32",
                "BOOLEAN, BYTES, DATE, FLOAT",
            ),
            ("UInt64(5) of Null", "UInt64(5) of Null"),
            ("Decimal128(10, 2)", "DECIMAL(10, 2)"),
            ("List(Int64) of Interval(MonthDayNano)", "ARRAY of INTERVAL"),
            ("column my_Int32 of Int32s", "column my_Int32 of Int32s"),
            ("Int32(", "INT("),
            ("table 'Struct' of Utf8(\"a)b\")", "table 'Struct' of 'a)b'"),
            (
                "ts + IntervalMonthDayNano(\"IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 1500000000 }\") > x",
                "ts + INTERVAL '1 DAY 1.5 SECOND' > x",
            ),
        ] {
            assert_eq!(in_sql(arrow), shown);
        }
    }
}
