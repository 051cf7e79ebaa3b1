//! Operators and calls that Flink or Spark have and the parser or DataFusion does not:
//!
//! | spelling | becomes |
//! |---|---|
//! | `text RLIKE pattern`, `text NOT RLIKE pattern` (also `REGEXP`) | `text ~ pattern`, `text !~ pattern` |
//! | `FLOOR(ts TO unit)` | `date_trunc('unit', ts)`; a week begins on Sunday, as in Flink |
//! | `CEIL(ts TO unit)` (also `CEILING`) | one unit after the floor of the microsecond before |
//!
//! Functions in other words are in [`calls`], JSON_VALUE's clauses in [`json`], Spark's views of lists in
//! [`lateral`], Flink's joins at a time in [`temporal`]. Like [`super::windows`] all works on tokens, which keep
//! their positions.

mod calls;
mod json;
mod lateral;
mod temporal;

use super::tokens::{Tokens, is_word, token_at, word};
use crate::error::{Error, Result};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

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
    let tokens = &temporal::rewrite(tokens)?;
    let tokens = &json::rewrite(&lateral::rewrite(&calls::rewrite(tokens)?)?)?;
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut open: Vec<Rounding> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let here = &tokens.list[i];
        if is_word(&here.token, "TABLESAMPLE") && ends_value(&out) {
            return Err(
                Error::sql("TABLESAMPLE is not supported: its rows could not be replayed")
                    .or_at(tokens.at(i))
                    .with_hint("take a part of the keys, like WHERE MOD(id, 100) = 0"),
            );
        }
        let is_match = is_word(&here.token, "RLIKE") || is_word(&here.token, "REGEXP");
        if is_match && ends_value(&out) {
            out.push(token_at(Token::Tilde, here));
        } else if is_match
            && out.last().is_some_and(|t| is_word(&t.token, "NOT"))
            && ends_value(&out[..out.len() - 1])
        {
            out.pop();
            out.push(token_at(Token::ExclamationMarkTilde, here));
        } else if let Some(rounding) = Rounding::at(tokens, i)? {
            out.extend(rounding.begin().into_iter().map(|t| token_at(t, here)));
            open.push(rounding);
            i += 2;
            continue;
        } else if let Some(rounding) = open.pop_if(|r| r.to == i) {
            out.extend(rounding.end().into_iter().map(|t| token_at(t, here)));
            // TO, the unit, the parenthesis.
            i += 3;
            continue;
        } else {
            out.push(here.clone());
        }
        i += 1;
    }
    Ok(tokens.with(out))
}

/// Whether the last of `tokens` can end a value, so that an operator may follow.
pub(super) fn ends_value(tokens: &[TokenWithSpan]) -> bool {
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

/// `FLOOR(… TO unit)` or `CEIL(… TO unit)`.
struct Rounding {
    unit: String,
    /// Intervals that are added before and after the truncation.
    shifts: Option<(&'static str, String)>,
    /// Index of `TO`.
    to: usize,
}

impl Rounding {
    /// The one that begins at `i`; `None` for a number's FLOOR and for all else.
    fn at(tokens: &Tokens, i: usize) -> Result<Option<Self>> {
        let up = tokens.is_word(i, "CEIL") || tokens.is_word(i, "CEILING");
        if !(up || tokens.is_word(i, "FLOOR")) || !tokens.is(i + 1, &Token::LParen) {
            return Ok(None);
        }
        let close = tokens.close(i + 1)?;
        if close < i + 5 || !tokens.is_word(close - 2, "TO") {
            return Ok(None);
        }
        let unit = tokens.name(close - 1, "a unit of time")?.to_uppercase();
        if !UNITS.contains(&unit.as_str()) {
            let function = tokens.name(i, "a function")?.to_uppercase();
            return Err(Error::sql(format!("{function} knows no unit {unit}"))
                .or_at(tokens.at(close - 1))
                .with_hint(format!("one of {}", UNITS.join(", "))));
        }
        let unit = unit.to_lowercase();
        // date_trunc's week begins on Monday, a day after Flink's.
        let shifts = match (up, unit.as_str()) {
            (false, "week") => Some(("1 day", "-1 day".into())),
            (false, _) => None,
            (true, "week") => Some(("1 day -1 microsecond", "6 days".into())),
            (true, "quarter") => Some(("-1 microsecond", "3 months".into())),
            (true, unit) => Some(("-1 microsecond", format!("1 {unit}"))),
        };
        Ok(Some(Self {
            unit,
            shifts,
            to: close - 2,
        }))
    }

    /// What stands before the time. Casts it, because a DATE less a microsecond stays the day.
    fn begin(&self) -> Vec<Token> {
        let unit = Token::SingleQuotedString(self.unit.clone());
        let truncation = [word("date_trunc"), Token::LParen, unit, Token::Comma];
        match self.shifts {
            None => truncation.into(),
            Some(_) => [
                &[Token::LParen],
                &truncation[..],
                &[word("CAST"), Token::LParen],
            ]
            .concat(),
        }
    }

    /// What stands behind the time.
    fn end(&self) -> Vec<Token> {
        let Some((before, after)) = &self.shifts else {
            return vec![Token::RParen];
        };
        let plus = |interval: &str| {
            let interval = Token::SingleQuotedString(interval.into());
            [Token::Plus, word("INTERVAL"), interval, Token::RParen]
        };
        let cast = [word("AS"), word("TIMESTAMP"), Token::RParen];
        [&cast[..], &plus(before), &plus(after)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tokens::statements;

    /// A statement that `rewrite` has rewritten, as text.
    pub(super) fn rewritten(sql: &str, rewrite: fn(&Tokens) -> Result<Tokens>) -> String {
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
            assert_eq!(rewritten(sql, rewrite), expected);
        }
    }

    #[test]
    fn roundings_of_times_and_of_numbers() {
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
            (
                "SELECT CEIL(FLOOR(d TO HOUR) TO QUARTER)",
                "SELECT ( date_trunc ( 'quarter' , CAST ( date_trunc ( 'hour' , d ) AS TIMESTAMP ) + INTERVAL '-1 microsecond' ) + INTERVAL '3 months' )",
            ),
            ("SELECT CEIL(x)", "SELECT CEIL ( x )"),
            ("SELECT FLOOR(x)", "SELECT FLOOR ( x )"),
        ] {
            assert_eq!(rewritten(sql, rewrite), expected);
        }
        let error = rewrite(&statements("SELECT CEIL(ts TO EON)", &|_| None).unwrap()[0]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("CEIL knows no unit EON"), "{error}");
    }
}
