//! Spark's `LATERAL VIEW EXPLODE(list) x AS e` becomes `CROSS JOIN UNNEST(list) AS x (e)`.

use crate::error::{Error, Result};
use crate::plan::tokens::{Tokens, token_at, word};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Rewrites the query that `tokens` is; EXPLODE is UNNEST already.
pub fn rewrite(tokens: &Tokens) -> Result<Tokens> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        if !tokens.are_words(i, &["LATERAL", "VIEW"]) {
            out.push(tokens.list[i].clone());
            i += 1;
            continue;
        }
        let function = i + 2;
        if !tokens.is_word(function, "UNNEST") || !tokens.is(function + 1, &Token::LParen) {
            return Err(Error::sql("LATERAL VIEW takes EXPLODE(list)").or_at(tokens.at(function)));
        }
        let close = tokens.close(function + 1)?;
        let mut next = close + 1;
        let mut names = Vec::new();
        // The view's name may be left away, the column's not.
        if !tokens.is_word(next, "AS") {
            names.push(tokens.list.get(next).cloned());
            next += 1;
        }
        if !tokens.is_word(next, "AS") {
            return Err(
                Error::sql("expected LATERAL VIEW EXPLODE(list) x AS e").or_at(tokens.at(next))
            );
        }
        names.push(tokens.list.get(next + 1).cloned());
        let (Some(Some(view)), Some(Some(column))) = (names.first(), names.last()) else {
            return Err(Error::sql("expected a name").or_at(tokens.at(next)));
        };
        let here = &tokens.list[i];
        out.extend(["CROSS", "JOIN"].map(|w| token_at(word(w), here)));
        out.extend_from_slice(&tokens.list[function..=close]);
        out.push(token_at(word("AS"), here));
        out.push(view.clone());
        out.push(token_at(Token::LParen, here));
        out.push(column.clone());
        out.push(token_at(Token::RParen, here));
        i = next + 2;
    }
    Ok(tokens.with(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tokens::statements;

    #[test]
    fn views_become_joins() {
        for (sql, expected) in [
            (
                "SELECT a, e FROM t LATERAL VIEW UNNEST(f(l, 1)) x AS e WHERE e > 1",
                "SELECT a , e FROM t CROSS JOIN UNNEST ( f ( l , 1 ) ) AS x ( e ) WHERE e > 1",
            ),
            (
                "SELECT e FROM t LATERAL VIEW UNNEST(l) AS e",
                "SELECT e FROM t CROSS JOIN UNNEST ( l ) AS e ( e )",
            ),
        ] {
            let tokens = &statements(sql, &|_| None).unwrap()[0];
            assert_eq!(rewrite(tokens).unwrap().text(), expected);
        }
        for sql in [
            "SELECT e FROM t LATERAL VIEW UNNEST(l) x",
            "SELECT e FROM t LATERAL VIEW OUTER UNNEST(l) x AS e",
        ] {
            let tokens = &statements(sql, &|_| None).unwrap()[0];
            assert!(rewrite(tokens).is_err());
        }
    }
}
