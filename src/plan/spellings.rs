//! Operators and calls that Flink or Spark have and the parser or DataFusion does not:
//!
//! | spelling | becomes |
//! |---|---|
//! | `text RLIKE pattern`, `text NOT RLIKE pattern` (also `REGEXP`) | `text ~ pattern`, `text !~ pattern` |
//! | `FLOOR(ts TO unit)` | `date_trunc('unit', ts)` |
//!
//! Like [`super::windows`] it works on tokens, which keep their positions.

use super::tokens::{Tokens, is_word, token_at, word};
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Words before which no value has ended, so that what follows begins one.
const BEFORE_A_VALUE: [&str; 18] = [
    "SELECT", "DISTINCT", "WHERE", "HAVING", "BY", "ON", "AND", "OR", "NOT", "CASE", "WHEN",
    "THEN", "ELSE", "IN", "BETWEEN", "LIKE", "IS", "AS",
];

const UNITS: [&str; 9] = [
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
];

/// Rewrites the query that `tokens` is.
pub fn rewrite(tokens: &Tokens) -> Result<Tokens> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut floors = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let here = &tokens.list[i];
        let is_match = is_word(&here.token, "RLIKE") || is_word(&here.token, "REGEXP");
        if is_match && ends_value(&out) {
            out.push(token_at(Token::Tilde, here));
        } else if is_match
            && out.last().is_some_and(|t| is_word(&t.token, "NOT"))
            && ends_value(&out[..out.len() - 1])
        {
            out.pop();
            out.push(token_at(Token::ExclamationMarkTilde, here));
        } else if is_word(&here.token, "FLOOR")
            && tokens.is(i + 1, &Token::LParen)
            && let Some((unit, close)) = floor_unit(tokens, i)?
        {
            out.push(token_at(word("date_trunc"), here));
            out.push(tokens.list[i + 1].clone());
            out.push(token_at(Token::SingleQuotedString(unit), here));
            out.push(token_at(Token::Comma, here));
            floors.push(close - 2);
            i += 2;
            continue;
        } else if floors.last() == Some(&i) {
            floors.pop();
            i += 2;
            continue;
        } else {
            out.push(here.clone());
        }
        i += 1;
    }
    Ok(tokens.with(out))
}

/// Whether the last of `tokens` can end a value, so that an operator may follow.
fn ends_value(tokens: &[TokenWithSpan]) -> bool {
    match tokens.last().map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => !BEFORE_A_VALUE
            .iter()
            .any(|b| w.value.eq_ignore_ascii_case(b)),
        Some(token) => matches!(
            token,
            Token::Word(_)
                | Token::RParen
                | Token::RBracket
                | Token::SingleQuotedString(_)
                | Token::Number(..)
        ),
        None => false,
    }
}

/// The unit of `FLOOR(… TO unit)` at `floor` and the index of its closing parenthesis; `None`
/// for the number's FLOOR.
fn floor_unit(tokens: &Tokens, floor: usize) -> Result<Option<(String, usize)>> {
    let close = tokens.close(floor + 1)?;
    if close < floor + 5 || !tokens.is_word(close - 2, "TO") {
        return Ok(None);
    }
    let unit = tokens.name(close - 1, "a unit of time")?.to_uppercase();
    if !UNITS.contains(&unit.as_str()) {
        return Err(Error::sql(format!("FLOOR knows no unit {unit}"))
            .or_at(tokens.at(close - 1))
            .with_hint(format!("one of {}", UNITS.join(", "))));
    }
    Ok(Some((unit.to_lowercase(), close)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tokens::statements;

    fn rewritten(sql: &str) -> String {
        rewrite(&statements(sql, &|_| None).unwrap()[0])
            .unwrap()
            .text()
    }

    #[test]
    fn regular_expressions_between_values_and_as_a_function() {
        for (sql, expected) in [
            ("SELECT a RLIKE 'x'", "SELECT a ~ 'x'"),
            ("SELECT a NOT RLIKE 'x'", "SELECT a !~ 'x'"),
            ("SELECT f(a) REGEXP ('x')", "SELECT f ( a ) ~ ( 'x' )"),
            ("SELECT RLIKE(a, 'x')", "SELECT RLIKE ( a , 'x' )"),
            ("SELECT NOT RLIKE(a, 'x')", "SELECT NOT RLIKE ( a , 'x' )"),
            (
                "SELECT b AND RLIKE(a, 'x')",
                "SELECT b AND RLIKE ( a , 'x' )",
            ),
        ] {
            assert_eq!(rewritten(sql), expected);
        }
    }

    #[test]
    fn floors_of_times_and_of_numbers() {
        for (sql, expected) in [
            (
                "SELECT FLOOR(ts TO HOUR)",
                "SELECT date_trunc ( 'hour' , ts )",
            ),
            (
                "SELECT FLOOR(f(ts, 1) TO day), 1",
                "SELECT date_trunc ( 'day' , f ( ts , 1 ) ) , 1",
            ),
            (
                "SELECT FLOOR(FLOOR(ts TO HOUR) TO DAY)",
                "SELECT date_trunc ( 'day' , date_trunc ( 'hour' , ts ) )",
            ),
            ("SELECT FLOOR(x)", "SELECT FLOOR ( x )"),
        ] {
            assert_eq!(rewritten(sql), expected);
        }
        let error = rewrite(&statements("SELECT FLOOR(ts TO EON)", &|_| None).unwrap()[0]);
        assert!(error.unwrap_err().to_string().contains("no unit EON"));
    }
}
