//! Flink's clauses of JSON_VALUE:
//!
//! | spelling | becomes |
//! |---|---|
//! | `JSON_VALUE(json, path RETURNING type)` | `TRY_CAST(JSON_VALUE(json, path) AS type)` |
//! | `JSON_VALUE(json, path DEFAULT a ON EMPTY DEFAULT b ON ERROR)` | `JSON_VALUE(json, path, a, b)` |

use crate::error::{Error, Result};
use crate::plan::tokens::{Tokens, token_at, word};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// From a token to behind another.
type Range = (usize, usize);

/// The clauses of one call.
#[derive(Default)]
struct Clauses {
    returning: Option<Range>,
    on_empty: Option<Range>,
    on_error: Option<Range>,
}

/// Rewrites the query that `tokens` is.
pub fn rewrite(tokens: &Tokens) -> Result<Tokens> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        let here = &tokens.list[i];
        let is_call = tokens.is_word(i, "JSON_VALUE") && tokens.is(i + 1, &Token::LParen);
        let clauses = match is_call {
            true => clauses(tokens, i)?,
            false => None,
        };
        let Some((end, clauses)) = clauses else {
            out.push(here.clone());
            i += 1;
            continue;
        };
        let mut push = |tokens: Vec<TokenWithSpan>| out.extend(tokens);
        let token = |token| token_at(token, here);
        let part = |(from, to): Range| Ok::<_, Error>(rewrite(&tokens.slice(from, to))?.list);
        let default = |range: Option<Range>| match range {
            Some(range) => part(range),
            None => Ok(vec![token(word("NULL"))]),
        };
        if clauses.returning.is_some() {
            push(vec![token(word("TRY_CAST")), token(Token::LParen)]);
        }
        push(vec![here.clone(), token(Token::LParen)]);
        push(part((i + 2, end))?);
        if clauses.on_empty.is_some() || clauses.on_error.is_some() {
            push(vec![token(Token::Comma)]);
            push(default(clauses.on_empty)?);
            push(vec![token(Token::Comma)]);
            push(default(clauses.on_error)?);
        }
        push(vec![token(Token::RParen)]);
        if let Some(returning) = clauses.returning {
            push(vec![token(word("AS"))]);
            push(part(returning)?);
            push(vec![token(Token::RParen)]);
        }
        i = tokens.close(i + 1)? + 1;
    }
    Ok(tokens.with(out))
}

/// The clauses of the call at `i`, and where the path ends; `None`: it has none.
fn clauses(tokens: &Tokens, i: usize) -> Result<Option<(usize, Clauses)>> {
    let close = tokens.close(i + 1)?;
    let parts = tokens.split_commas(i + 2, close, false);
    let &[_, (path, _)] = parts.as_slice() else {
        return Ok(None);
    };
    let starts = |at| {
        let words = ["RETURNING", "DEFAULT", "ERROR"];
        words.iter().any(|word| tokens.is_word(at, word)) || tokens.are_words(at, &["NULL", "ON"])
    };
    let Some(end) = (path + 1..close).find(|at| starts(*at)) else {
        return Ok(None);
    };
    let mut clauses = Clauses::default();
    let mut at = end;
    while at < close {
        let value = match () {
            () if tokens.is_word(at, "RETURNING") => {
                let mut to = at + 2;
                if tokens.is(to, &Token::LParen) {
                    to = tokens.close(to)? + 1;
                }
                clauses.returning = Some((at + 1, to));
                at = to;
                continue;
            }
            () if tokens.is_word(at, "DEFAULT") => {
                let on = (at + 2..close).find(|on| tokens.is_word(*on, "ON"));
                on.map(|on| (on, Some((at + 1, on))))
            }
            () if tokens.are_words(at, &["NULL", "ON"]) => Some((at + 1, None)),
            () => None,
        };
        at = match value {
            Some((on, value)) if tokens.is_word(on + 1, "EMPTY") => {
                clauses.on_empty = value;
                on + 2
            }
            Some((on, value)) if tokens.is_word(on + 1, "ERROR") => {
                clauses.on_error = value;
                on + 2
            }
            _ => {
                return Err(Error::sql("this clause of JSON_VALUE is not known")
                    .or_at(tokens.at(at))
                    .with_hint(
                        "there are: RETURNING type, NULL or DEFAULT … ON EMPTY, the same ON ERROR",
                    ));
            }
        };
    }
    Ok(Some((end, clauses)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spellings::tests::rewritten;
    use crate::plan::tokens::statements;

    #[test]
    fn clauses_of_json_value() {
        for (sql, expected) in [
            ("JSON_VALUE(a, '$.b')", "JSON_VALUE ( a , '$.b' )"),
            (
                "json_value(f(a, 1), '$.b' RETURNING DECIMAL(5, 2))",
                "TRY_CAST ( json_value ( f ( a , 1 ) , '$.b' ) AS DECIMAL ( 5 , 2 ) )",
            ),
            (
                "JSON_VALUE(a, '$.b' DEFAULT c + 1 ON EMPTY) + 1",
                "JSON_VALUE ( a , '$.b' , c + 1 , NULL ) + 1",
            ),
            (
                "JSON_VALUE(a, p RETURNING INT NULL ON EMPTY DEFAULT JSON_VALUE(b, p RETURNING INT) ON ERROR)",
                "TRY_CAST ( JSON_VALUE ( a , p , NULL , TRY_CAST ( JSON_VALUE ( b , p ) AS INT ) ) AS INT )",
            ),
        ] {
            assert_eq!(rewritten(sql, rewrite), expected);
        }
        let tokens = &statements("JSON_VALUE(a, p ERROR ON ERROR)", &|_| None).unwrap()[0];
        let error = rewrite(tokens).unwrap_err().to_string();
        assert!(error.contains("clause of JSON_VALUE"), "{error}");
    }
}
