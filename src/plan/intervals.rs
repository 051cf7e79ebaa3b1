//! Intervals in spellings that the parser or DataFusion does not take:
//!
//! | spelling | becomes |
//! |---|---|
//! | `INTERVAL 1 MINUTE 30 SECONDS` (Spark) | `INTERVAL '1 MINUTE 30 SECONDS'` |
//! | `INTERVAL '1:30' MINUTE TO SECOND` | `INTERVAL '1 MINUTE 30 SECOND'` |
//! | `INTERVAL '100' DAY(3)` | `INTERVAL '100' DAY` |

use super::tokens::{Tokens, is_word, token_at};
use crate::error::{Error, Result, nearest};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

const UNITS: [&str; 9] = [
    "YEAR",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
];

/// Refuses what is meant as a length of time and is none, where it still stands as it was written.
pub fn check(t: &Tokens, from: usize, to: usize) -> Result<()> {
    let is_interval = t.is_word(from, "INTERVAL");
    let value = from + usize::from(is_interval);
    let text = match t.list.get(value).map(|t| &t.token) {
        Some(Token::Number(text, _) | Token::SingleQuotedString(text)) => text,
        _ => return Ok(()),
    };
    let Some(Token::Word(word)) = t.list[..to].get(value + 1).map(|t| &t.token) else {
        return Ok(());
    };
    if unit(&t.list[value + 1]).is_none() && word.keyword == Keyword::NoKeyword {
        let hint = nearest(&word.value, UNITS);
        return Err(Error::sql(format!("'{}' is no unit of time", word.value))
            .or_at(t.at(value + 1))
            .with_hint(hint.unwrap_or_else(|| format!("there are: {}", UNITS.join(", ")))));
    }
    if !is_interval {
        return Err(Error::sql("expected an INTERVAL")
            .or_at(t.at(from))
            .with_hint(format!("write INTERVAL '{text}' {}", word.value)));
    }
    Ok(())
}

/// The units of `… TO …`, the largest first, and what stands behind each.
const FIELDS: [(&str, char); 4] = [
    ("DAY", ' '),
    ("HOUR", ':'),
    ("MINUTE", ':'),
    ("SECOND", ':'),
];

/// Rewrites the intervals of a statement.
pub fn rewrite(list: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out = Vec::with_capacity(list.len());
    let mut i = 0;
    while i < list.len() {
        out.push(list[i].clone());
        i += 1;
        if !is_word(&out[out.len() - 1].token, "INTERVAL") {
            continue;
        }
        let other = several(&list[i..]).or_else(|| one(&list[i..]));
        if let Some((tokens, length)) = other {
            out.extend(tokens.into_iter().map(|token| token_at(token, &list[i])));
            i += length;
        }
    }
    out
}

/// A number and the unit behind it.
fn amount(list: &[TokenWithSpan]) -> Option<(&str, &str)> {
    let number = match &list.first()?.token {
        Token::Number(number, _) | Token::SingleQuotedString(number) => number.trim(),
        _ => return None,
    };
    Some((number, unit(list.get(1)?)?))
}

fn unit(token: &TokenWithSpan) -> Option<&str> {
    let Token::Word(word) = &token.token else {
        return None;
    };
    let upper = word.value.to_uppercase();
    let is_known = UNITS.contains(&upper.strip_suffix('S').unwrap_or(&upper));
    (is_known && word.quote_style.is_none()).then_some(word.value.as_str())
}

/// More than one number with a unit; what they become, and their number of tokens.
fn several(list: &[TokenWithSpan]) -> Option<(Vec<Token>, usize)> {
    let (mut text, mut length) = (String::new(), 0);
    while let Some((number, unit)) = amount(&list[length..]) {
        // A text of several is one already.
        number.parse::<f64>().ok()?;
        text.push_str(&format!("{number} {unit} "));
        length += 2;
    }
    let text = text.trim_end().to_string();
    (length > 2).then(|| (vec![Token::SingleQuotedString(text)], length))
}

/// A text with a precise unit, or with two.
fn one(list: &[TokenWithSpan]) -> Option<(Vec<Token>, usize)> {
    let (text, first) = amount(list)?;
    let mut length = 2 + precision(&list[2..]);
    if !list.get(length).is_some_and(|t| is_word(&t.token, "TO")) {
        let tokens = list[..2].iter().map(|t| t.token.clone());
        return (length > 2).then(|| (tokens.collect(), length));
    }
    let last = unit(list.get(length + 1)?)?;
    length += 2;
    length += precision(&list[length..]);
    let text = fields(text, first, last)?;
    Some((vec![Token::SingleQuotedString(text)], length))
}

/// The tokens of `(3)` or `(2, 3)`, which say how many digits there are.
fn precision(list: &[TokenWithSpan]) -> usize {
    let is = |i: usize, token: &Token| list.get(i).is_some_and(|t| t.token == *token);
    let is_number = |i: usize| matches!(list.get(i).map(|t| &t.token), Some(Token::Number(..)));
    match is(0, &Token::LParen) && is_number(1) {
        true if is(2, &Token::RParen) => 3,
        true if is(2, &Token::Comma) && is_number(3) && is(4, &Token::RParen) => 5,
        _ => 0,
    }
}

/// `1 02:03:04.5` from DAY TO SECOND as `1 DAY 02 HOUR 03 MINUTE 04.5 SECOND`.
fn fields(text: &str, first: &str, last: &str) -> Option<String> {
    let place = |unit: &str| {
        FIELDS
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case(unit))
    };
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest.trim()),
        None => ("", text),
    };
    if first.eq_ignore_ascii_case("YEAR") && last.eq_ignore_ascii_case("MONTH") {
        let (years, months) = rest.split_once('-')?;
        return Some(format!("{sign}{years} YEAR {sign}{months} MONTH"));
    }
    let (first, last) = (place(first)?, place(last)?);
    let mut out = Vec::new();
    for (unit, behind) in FIELDS.get(first..last)? {
        let (value, after) = rest.split_once(*behind)?;
        out.push(format!("{sign}{value} {unit}"));
        rest = after.trim_start();
    }
    rest.parse::<f64>().ok()?;
    out.push(format!("{sign}{rest} {}", FIELDS[last].0));
    Some(out.join(" "))
}

#[cfg(test)]
mod tests {
    use crate::plan::tokens::statements;

    #[test]
    fn intervals_become_what_the_parser_takes() {
        for (sql, expected) in [
            (
                "ts - INTERVAL 1 MINUTE 30 SECONDS",
                "ts - INTERVAL '1 MINUTE 30 SECONDS'",
            ),
            (
                "INTERVAL '1' DAY '2' HOUR + x",
                "INTERVAL '1 DAY 2 HOUR' + x",
            ),
            (
                "INTERVAL '1:30.5' MINUTE TO SECOND(3)",
                "INTERVAL '1 MINUTE 30.5 SECOND'",
            ),
            (
                "INTERVAL '-1 02:03' DAY(2) TO MINUTE",
                "INTERVAL '-1 DAY -02 HOUR -03 MINUTE'",
            ),
            ("INTERVAL '1-6' YEAR TO MONTH", "INTERVAL '1 YEAR 6 MONTH'"),
            ("INTERVAL '100' DAY(3)", "INTERVAL '100' DAY"),
            ("f(INTERVAL '5' SECOND, 1)", "f ( INTERVAL '5' SECOND , 1 )"),
            ("INTERVAL '5 seconds'", "INTERVAL '5 seconds'"),
        ] {
            assert_eq!(statements(sql, &|_| None).unwrap()[0].text(), expected);
        }
    }
}
