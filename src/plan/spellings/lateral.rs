//! Spark's `LATERAL VIEW EXPLODE(list) x AS e` becomes `CROSS JOIN UNNEST(list) AS x (e)`, with OUTER
//! `LEFT JOIN … ON TRUE`.

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
        let is_outer = tokens.is_word(i + 2, "OUTER");
        let function = i + 2 + usize::from(is_outer);
        if !tokens.is_word(function, "UNNEST") || !tokens.is(function + 1, &Token::LParen) {
            return Err(Error::sql("LATERAL VIEW takes EXPLODE(list)").or_at(tokens.at(function)));
        }
        let close = tokens.close(function + 1)?;
        // The view's name may be left away, the column's not.
        let has_view = !tokens.is_word(close + 1, "AS");
        let word_as = close + 1 + usize::from(has_view);
        let column = word_as + 1;
        let view = if has_view { close + 1 } else { column };
        if !tokens.is_word(word_as, "AS") || column >= tokens.len() {
            return Err(
                Error::sql("expected LATERAL VIEW EXPLODE(list) x AS e").or_at(tokens.at(word_as))
            );
        }
        let here = &tokens.list[i];
        let join = if is_outer { "LEFT" } else { "CROSS" };
        out.extend([join, "JOIN"].map(|w| token_at(word(w), here)));
        out.extend_from_slice(&tokens.list[function..=close]);
        out.push(token_at(word("AS"), here));
        out.push(tokens.list[view].clone());
        out.push(token_at(Token::LParen, here));
        out.push(tokens.list[column].clone());
        out.push(token_at(Token::RParen, here));
        if is_outer {
            out.extend(["ON", "TRUE"].map(|w| token_at(word(w), here)));
        }
        i = column + 1;
    }
    Ok(tokens.with(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spellings::tests::rewritten;
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
            (
                "SELECT e FROM t LATERAL VIEW OUTER UNNEST(l) x AS e",
                "SELECT e FROM t LEFT JOIN UNNEST ( l ) AS x ( e ) ON TRUE",
            ),
        ] {
            assert_eq!(rewritten(sql, rewrite), expected);
        }
        for sql in [
            "SELECT e FROM t LATERAL VIEW UNNEST(l) x",
            "SELECT e FROM t LATERAL VIEW OUTER f(l) x AS e",
        ] {
            let tokens = &statements(sql, &|_| None).unwrap()[0];
            assert!(rewrite(tokens).is_err());
        }
    }
}
