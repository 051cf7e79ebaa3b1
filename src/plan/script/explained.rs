//! What stands around statements: EXPLAIN, and statement sets, of which all statements are explained.

use super::Script;
use crate::error::{At, Error, Result};
use crate::plan::explain;
use crate::plan::tokens::Tokens;
use datafusion_sql::sqlparser::tokenizer::Token;

/// `EXECUTE STATEMENT SET BEGIN` up to `END`.
pub(super) struct StatementSet {
    at: At,
    explained: bool,
}

impl StatementSet {
    pub fn not_closed(&self) -> Error {
        Error::sql("this statement set is not closed")
            .or_at(self.at)
            .with_hint("write END; behind its last INSERT")
    }
}

impl Script {
    pub(super) fn statement(&mut self, t: &Tokens) -> Result<()> {
        let mut explained = t.is_word(0, "EXPLAIN");
        let t = &match explained {
            true => t.slice(behind_explain(t)?, t.len()),
            false => t.clone(),
        };
        let opened = opening(t);
        if opened > 0 {
            if let Some(set) = &self.set {
                return Err(set.not_closed());
            }
            self.set = Some(StatementSet {
                at: t.start(),
                explained,
            });
        }
        let t = &t.slice(opened, t.len());
        if t.is_word(0, "END") && t.len() == 1 {
            let hint = "a statement set begins with EXECUTE STATEMENT SET BEGIN";
            let none = || Error::sql("END without a statement set").with_hint(hint);
            return self.set.take().map(|_| ()).ok_or_else(none);
        }
        if t.is_empty() {
            return Ok(());
        }
        if let Some(set) = &self.set {
            explained |= set.explained;
            if !t.is_word(0, "INSERT") {
                return Err(Error::sql("a statement set holds nothing but INSERTs")
                    .or_at(t.start())
                    .with_hint("write this before the set, or close the set with END; first"));
            }
        }
        match explained {
            true => self.explain(t),
            false => self.plain(t),
        }
    }

    /// The query does not run, and the others are as they would be without.
    fn explain(&mut self, t: &Tokens) -> Result<()> {
        let kept = self.queries.len();
        let (tables, sources, read) =
            (self.tables.clone(), self.sources.clone(), self.read.clone());
        self.plain(t)?;
        for query in self.queries.drain(kept..) {
            let sources = query
                .sources
                .iter()
                .map(|s| self.sources[*s].def.name.as_str());
            let text = explain::query_text(&query, &sources.collect::<Vec<_>>());
            self.explained.push(text);
        }
        for new in self
            .tables
            .keys()
            .filter(|name| !tables.contains_key(*name))
        {
            self.session.deregister(new);
        }
        (self.tables, self.sources, self.read) = (tables, sources, read);
        for def in self.tables.values() {
            self.session.register(&def.name, def.schema());
        }
        Ok(())
    }
}

/// The number of tokens that open a statement set.
fn opening(t: &Tokens) -> usize {
    let words: [&[&str]; 3] = [
        &["EXECUTE", "STATEMENT", "SET", "BEGIN"],
        &["STATEMENT", "SET", "BEGIN"],
        &["BEGIN", "STATEMENT", "SET"],
    ];
    let opening = words.into_iter().find(|words| t.are_words(0, words));
    opening.map_or(0, <[_]>::len)
}

/// The index of what is explained: behind Flink's and Spark's words for how much is to be said.
fn behind_explain(t: &Tokens) -> Result<usize> {
    const DETAILS: [&str; 9] = [
        "ESTIMATED_COST",
        "CHANGELOG_MODE",
        "JSON_EXECUTION_PLAN",
        "PLAN_ADVICE",
        "EXTENDED",
        "FORMATTED",
        "CODEGEN",
        "COST",
        "LOGICAL",
    ];
    const QUERIES: [&str; 7] = [
        "SELECT",
        "WITH",
        "VALUES",
        "INSERT",
        "EXECUTE",
        "STATEMENT",
        "BEGIN",
    ];
    let mut i = 1;
    if t.are_words(i, &["PLAN", "FOR"]) {
        i += 2;
    }
    while DETAILS.iter().any(|word| t.is_word(i, word)) || t.is(i, &Token::Comma) {
        i += 1;
    }
    if t.is(i, &Token::LParen) || QUERIES.iter().any(|word| t.is_word(i, word)) {
        return Ok(i);
    }
    Err(Error::sql("expected a query behind EXPLAIN")
        .or_at(t.at(i))
        .with_hint("EXPLAIN takes a SELECT, an INSERT or a STATEMENT SET"))
}
