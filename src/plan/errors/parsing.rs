//! What the parser says of a statement that it cannot read.

use crate::error::{At, Error, nearest};
use crate::plan::tokens::Tokens;
use datafusion_common::DataFusionError;
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::Token;

/// The parser's message ends in ` at Line: 3, Column: 7`, in the substituted text.
pub fn parsing(error: DataFusionError, tokens: &Tokens) -> Error {
    let text = match error.find_root() {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "too much within each other".into(),
        },
        other => other.strip_backtrace(),
    };
    let text = text.lines().next().unwrap_or_default();
    let (message, position) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
    let numbers: Vec<u64> = position
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    // (Words that are no keywords here we have quoted ourselves.)
    let message = message
        .replace("Expected: ", "expected ")
        .replace(", found: ", ", found ")
        .replace("found EOF", "found the end of the statement")
        .replace('"', "");
    match numbers.as_slice() {
        [line, column, ..] if *line > 0 => {
            let at = tokens.original(At {
                line: *line,
                column: *column,
            });
            let error = Error::sql(message).or_at(at);
            match misspelt_keyword(tokens, at) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        _ => Error::sql(message).or_at(tokens.at(tokens.len())),
    }
}

/// The keyword that was meant by the word before `at`, which the parser took for an alias.
fn misspelt_keyword(tokens: &Tokens, at: At) -> Option<String> {
    const KEYWORDS: [&str; 7] = [
        "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION",
    ];
    let behind = (0..tokens.len()).find(|i| tokens.at(*i) == at)?;
    let Token::Word(word) = &tokens.list[behind.checked_sub(1)?].token else {
        return None;
    };
    let is_keyword = KEYWORDS.iter().any(|k| word.value.eq_ignore_ascii_case(k));
    (word.value.len() > 3 && !is_keyword)
        .then(|| nearest(&word.value, KEYWORDS))
        .flatten()
}
