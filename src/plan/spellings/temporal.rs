//! Flink's `JOIN t FOR SYSTEM_TIME AS OF s.proctime AS x`: a row meets what the table holds at that time. A table
//! in files is the same at all times, so the clause says nothing of it; a join of two streams is refused
//! with it and without.

use crate::error::{Error, Result};
use crate::plan::tokens::Tokens;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

const CLAUSE: [&str; 4] = ["FOR", "SYSTEM_TIME", "AS", "OF"];

/// Takes the clause out of the query that `tokens` is.
pub fn rewrite(tokens: &Tokens) -> Result<Tokens> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        if !tokens.are_words(i, &CLAUSE) {
            out.push(tokens.list[i].clone());
            i += 1;
            continue;
        }
        let time = i + CLAUSE.len();
        let is_name =
            |i: usize| matches!(tokens.list.get(i).map(|t| &t.token), Some(Token::Word(_)));
        if !is_name(time) {
            return Err(Error::sql("FOR SYSTEM_TIME AS OF takes a column of the stream")
                .or_at(tokens.at(time.min(tokens.len() - 1)))
                .with_hint("write FOR SYSTEM_TIME AS OF s.proctime, or leave the clause away: a table in files is the same at all times"));
        }
        i = time + 1;
        while tokens.is(i, &Token::Period) && is_name(i + 1) {
            i += 2;
        }
    }
    Ok(tokens.with(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spellings::tests::rewritten;
    use crate::plan::tokens::statements;

    #[test]
    fn the_clause_goes() {
        for (sql, expected) in [
            (
                "SELECT * FROM s JOIN t FOR SYSTEM_TIME AS OF s.pt AS x ON s.k = x.k",
                "SELECT * FROM s JOIN t AS x ON s . k = x . k",
            ),
            (
                "SELECT * FROM s LEFT JOIN t for system_time as of pt ON k = c",
                "SELECT * FROM s LEFT JOIN t ON k = c",
            ),
        ] {
            assert_eq!(rewritten(sql, rewrite), expected);
        }
        let sql = "SELECT * FROM s JOIN t FOR SYSTEM_TIME AS OF '2022-01-01'";
        let tokens = &statements(sql, &|_| None).unwrap()[0];
        assert!(rewrite(tokens).is_err());
    }
}
