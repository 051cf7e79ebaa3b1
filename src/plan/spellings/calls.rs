//! Functions that Flink or Spark have and DataFusion has in other words:
//!
//! | spelling | becomes |
//! |---|---|
//! | `COUNT_IF(c)` | `COUNT(CASE WHEN c THEN TRUE END)` |
//! | `COLLECT_LIST(x)`, `COLLECT_SET(x)` | `ARRAY_AGG(x IGNORE NULLS)`, `ARRAY_AGG(DISTINCT x IGNORE NULLS)`: NULL, no empty array, where all are NULL |
//! | `MAX_BY(x, y)`, `MIN_BY(x, y)` | `LAST_VALUE(CASE WHEN y IS NOT NULL THEN x END ORDER BY y NULLS FIRST)`, `FIRST_VALUE(… ORDER BY y NULLS LAST)`: NULL where all `y` are |
//! | `FIRST(x, TRUE)`, `LAST(x, TRUE)` (also `FIRST_VALUE`, `LAST_VALUE`) | `FIRST_VALUE(x IGNORE NULLS)`, `LAST_VALUE(x IGNORE NULLS)` |
//! | `ISNULL(x)`, `ISNOTNULL(x)` | `((x) IS NULL)`, `((x) IS NOT NULL)` |
//! | `INT(x)`, `STRING(x)`, … | `CAST(x AS INT)`, `CAST(x AS STRING)`, … |
//! | `ELEMENT_AT(x, k)` | `((x)[k])`: of an array and of a map |
//! | `EXPLODE(x)` | `UNNEST(x)` |
//! | `GROUPING_ID(x, y)` | `GROUPING(x, y)` |
//! | `LISTAGG(x)`, `LISTAGG(x, separator)` | `STRING_AGG(x, ',')`, `STRING_AGG(x, separator)` |
//!
//! What is but another name is an alias in [`crate::plan::functions`].

use crate::error::{Error, Result};
use crate::plan::tokens::{Tokens, token_at, word};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// A call in other words.
struct Call {
    name: &'static str,
    /// In place of the name; empty: none.
    function: &'static str,
    /// Words before the first argument.
    before: &'static [&'static str],
    /// Words in place of the comma behind the first argument, if there are any.
    comma: &'static [&'static str],
    /// Words behind the last argument.
    behind: &'static [&'static str],
    /// A text that is the second argument where there is none.
    second: Option<&'static str>,
}

/// What a call has unless it says otherwise.
const PLAIN: Call = Call {
    name: "",
    function: "",
    before: &[],
    comma: &[],
    behind: &[],
    second: None,
};

/// A type that is called like a function.
const fn cast(name: &'static str, behind: &'static [&'static str]) -> Call {
    Call {
        name,
        function: "CAST",
        behind,
        ..PLAIN
    }
}

const CALLS: [Call; 18] = [
    Call {
        name: "COUNT_IF",
        function: "COUNT",
        before: &["CASE", "WHEN"],
        behind: &["THEN", "TRUE", "END"],
        ..PLAIN
    },
    Call {
        name: "COLLECT_LIST",
        function: "ARRAY_AGG",
        behind: &["IGNORE", "NULLS"],
        ..PLAIN
    },
    Call {
        name: "COLLECT_SET",
        function: "ARRAY_AGG",
        before: &["DISTINCT"],
        behind: &["IGNORE", "NULLS"],
        ..PLAIN
    },
    Call {
        name: "ISNULL",
        before: &["("],
        behind: &[")", "IS", "NULL"],
        ..PLAIN
    },
    Call {
        name: "ISNOTNULL",
        before: &["("],
        behind: &[")", "IS", "NOT", "NULL"],
        ..PLAIN
    },
    Call {
        name: "ELEMENT_AT",
        before: &["("],
        comma: &[")", "["],
        behind: &["]"],
        ..PLAIN
    },
    Call {
        name: "GROUPING_ID",
        function: "GROUPING",
        ..PLAIN
    },
    Call {
        name: "EXPLODE",
        function: "UNNEST",
        ..PLAIN
    },
    cast("TINYINT", &["AS", "TINYINT"]),
    cast("SMALLINT", &["AS", "SMALLINT"]),
    cast("INT", &["AS", "INT"]),
    cast("BIGINT", &["AS", "BIGINT"]),
    cast("FLOAT", &["AS", "FLOAT"]),
    cast("DOUBLE", &["AS", "DOUBLE"]),
    cast("BOOLEAN", &["AS", "BOOLEAN"]),
    cast("STRING", &["AS", "STRING"]),
    cast("DATE", &["AS", "DATE"]),
    Call {
        name: "LISTAGG",
        function: "STRING_AGG",
        second: Some(","),
        ..PLAIN
    },
];

/// A call whose end has not come yet.
struct Open {
    call: &'static Call,
    /// The comma between its first two arguments.
    comma: Option<usize>,
    close: usize,
}

/// Rewrites the query that `tokens` is.
pub fn rewrite(tokens: &Tokens) -> Result<Tokens> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut open: Vec<Open> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let here = &tokens.list[i];
        let words = |words: &[&str]| {
            words
                .iter()
                .filter(|w| !w.is_empty())
                .map(|w| match *w {
                    "(" => token_at(Token::LParen, here),
                    ")" => token_at(Token::RParen, here),
                    "[" => token_at(Token::LBracket, here),
                    "]" => token_at(Token::RBracket, here),
                    w => token_at(word(w), here),
                })
                .collect::<Vec<_>>()
        };
        if let Some((end, function, nulls)) = first_or_last(tokens, i)? {
            out.extend(words(&[function]));
            out.push(tokens.list[i + 1].clone());
            out.extend(rewrite(&tokens.slice(i + 2, end))?.list);
            out.extend(words(nulls));
            i = tokens.close(i + 1)?;
            continue;
        }
        if let Some(by) = max_or_min_by(tokens, i)? {
            let [(value, comma), (order, close)] = by.arguments;
            let value = rewrite(&tokens.slice(value, comma))?.list;
            let order = rewrite(&tokens.slice(order, close))?.list;
            out.extend(words(&[by.function, "(", "CASE", "WHEN", "("]));
            out.extend(order.clone());
            out.extend(words(&[")", "IS", "NOT", "NULL", "THEN"]));
            out.extend(value);
            out.extend(words(&["END", "ORDER", "BY"]));
            out.extend(order);
            out.extend(words(by.nulls));
            i = close;
            continue;
        }
        let begins = CALLS.iter().find(|call| tokens.is_word(i, call.name));
        if let Some(call) = begins.filter(|_| tokens.is(i + 1, &Token::LParen)) {
            let close = tokens.close(i + 1)?;
            let parts = tokens.split_commas(i + 2, close, false);
            let comma = (parts.len() > 1).then(|| parts[0].1);
            open.push(Open { call, comma, close });
            out.extend(words(&[call.function]));
            out.push(tokens.list[i + 1].clone());
            out.extend(words(call.before));
            i += 2;
            continue;
        }
        match open.last() {
            Some(Open { call, comma, .. }) if *comma == Some(i) && !call.comma.is_empty() => {
                out.extend(words(call.comma));
            }
            Some(Open { call, comma, close }) if *close == i => {
                out.extend(words(call.behind));
                if let (Some(text), None) = (call.second, comma) {
                    let text = Token::SingleQuotedString(text.into());
                    out.extend([Token::Comma, text].map(|t| token_at(t, here)));
                }
                out.push(here.clone());
                open.pop();
            }
            _ => out.push(here.clone()),
        }
        i += 1;
    }
    Ok(tokens.with(out))
}

/// `FIRST(x, TRUE)` or its like at `i`: where `x` ends, the function, and what is said of NULLs.
fn first_or_last(
    tokens: &Tokens,
    i: usize,
) -> Result<Option<(usize, &'static str, &'static [&'static str])>> {
    let is = |names: [&str; 2]| names.iter().any(|name| tokens.is_word(i, name));
    let function = match () {
        () if is(["FIRST", "FIRST_VALUE"]) => "FIRST_VALUE",
        () if is(["LAST", "LAST_VALUE"]) => "LAST_VALUE",
        () => return Ok(None),
    };
    if !tokens.is(i + 1, &Token::LParen) {
        return Ok(None);
    }
    let parts = tokens.split_commas(i + 2, tokens.close(i + 1)?, false);
    Ok(match parts.as_slice() {
        [(_, end), (flag, last)] if last - flag == 1 && tokens.is_word(*flag, "TRUE") => {
            Some((*end, function, &["IGNORE", "NULLS"]))
        }
        [(_, end), (flag, last)] if last - flag == 1 && tokens.is_word(*flag, "FALSE") => {
            Some((*end, function, &[]))
        }
        _ => None,
    })
}

/// A call of MAX_BY or MIN_BY.
struct By {
    /// Where the value and what it is ordered by begin and end.
    arguments: [(usize, usize); 2],
    function: &'static str,
    nulls: &'static [&'static str],
}

/// The one at `i`, if there is one.
fn max_or_min_by(tokens: &Tokens, i: usize) -> Result<Option<By>> {
    let (function, nulls): (_, &[&str]) = match () {
        () if tokens.is_word(i, "MAX_BY") => ("LAST_VALUE", &["NULLS", "FIRST"]),
        () if tokens.is_word(i, "MIN_BY") => ("FIRST_VALUE", &["NULLS", "LAST"]),
        () => return Ok(None),
    };
    if !tokens.is(i + 1, &Token::LParen) {
        return Ok(None);
    }
    let parts = tokens.split_commas(i + 2, tokens.close(i + 1)?, false);
    match parts.as_slice() {
        [value, order] => Ok(Some(By {
            arguments: [*value, *order],
            function,
            nulls,
        })),
        _ => Err(Error::sql(format!(
            "{} takes a value and what it is ordered by",
            tokens.list[i].token
        ))
        .or_at(tokens.at(i))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spellings::tests::rewritten;

    #[test]
    fn calls_in_other_words() {
        for (sql, expected) in [
            (
                "SELECT count_if(a > f(1, 2)) FILTER (WHERE b)",
                "SELECT COUNT ( CASE WHEN a > f ( 1 , 2 ) THEN TRUE END ) FILTER ( WHERE b )",
            ),
            (
                "SELECT COLLECT_LIST(a), COLLECT_SET(COALESCE(a, 1))",
                "SELECT ARRAY_AGG ( a IGNORE NULLS ) , ARRAY_AGG ( DISTINCT COALESCE ( a , 1 ) IGNORE NULLS )",
            ),
            (
                "SELECT MAX_BY(f(a, 1), ts), MIN_BY(a, f(b, c))",
                "SELECT LAST_VALUE ( CASE WHEN ( ts ) IS NOT NULL THEN f ( a , 1 ) END ORDER BY ts NULLS FIRST ) , FIRST_VALUE ( CASE WHEN ( f ( b , c ) ) IS NOT NULL THEN a END ORDER BY f ( b , c ) NULLS LAST )",
            ),
            (
                "SELECT LISTAGG(a), LISTAGG(DISTINCT a, '; '), listagg FROM t",
                "SELECT STRING_AGG ( a , ',' ) , STRING_AGG ( DISTINCT a , '; ' ) , listagg FROM t",
            ),
            (
                "SELECT FIRST(f(a, 1), TRUE), LAST_VALUE(a, false), FIRST(a)",
                "SELECT FIRST_VALUE ( f ( a , 1 ) IGNORE NULLS ) , LAST_VALUE ( a ) , FIRST ( a )",
            ),
            (
                "SELECT ELEMENT_AT(f(a, 1), 2)",
                "SELECT ( ( f ( a , 1 ) ) [ 2 ] )",
            ),
            (
                "SELECT ISNULL(a OR b), INT(CAST(a AS INT)), EXPLODE(a)",
                "SELECT ( ( a OR b ) IS NULL ) , CAST ( CAST ( a AS INT ) AS INT ) , UNNEST ( a )",
            ),
            (
                "SELECT MAX_BY(COUNT_IF(a), ISNULL(b))",
                "SELECT LAST_VALUE ( CASE WHEN ( ( ( b ) IS NULL ) ) IS NOT NULL THEN COUNT ( CASE WHEN a THEN TRUE END ) END ORDER BY ( ( b ) IS NULL ) NULLS FIRST )",
            ),
        ] {
            assert_eq!(rewritten(sql, rewrite), expected);
        }
    }
}
