//! Rewrites every spelling of a window into calls of the markers (see [`super::markers`]).
//!
//! | spelling | becomes |
//! |---|---|
//! | `FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size))` | `FROM (SELECT *, start(ts, size) AS window_start, … FROM t)` |
//! | `GROUP BY TUMBLE(ts, size)`, `TUMBLE_START(ts, size)` | `GROUP BY start(ts, size), end(…), time(…)`, `start(ts, size)` |
//! | `GROUP BY window(ts, '10 s')`, `window.start`, `window` | the same, `start(…)`, a struct of both |
//! | `GROUP BY SESSION(ts, gap)`, `session_window(ts, '10 s')` | the same |
//!
//! It works on tokens, because the parser knows none of these forms; each token keeps its
//! position, so messages point into the user's file.

mod spark;
mod table_function;
mod words;

use super::markers::{self, Kind, Marker, PARTS, Part};
use super::tokens::{Tokens, quoted, token_at, word};
use super::{intervals, session};
use crate::error::{Error, Result, nearest};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

pub use spark::SparkWatermark;
use spark::{InnerWindow, SPARK_WINDOWS, SparkWindow};

/// Rewrites the query that `tokens` is.
pub fn rewrite(tokens: &Tokens) -> Result<(Tokens, Vec<SparkWatermark>)> {
    let mut rewriter = Rewriter {
        t: tokens,
        out: Vec::with_capacity(tokens.len()),
        watermarks: Vec::new(),
    };
    rewriter.block(0, tokens.len(), &mut Block::default(), true)?;
    Ok((tokens.with(rewriter.out), rewriter.watermarks))
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Clause {
    #[default]
    None,
    Select,
    From,
    GroupBy,
    Other,
}

/// One SELECT and what is known of it.
#[derive(Debug, Clone, Default)]
struct Block {
    clause: Clause,
    /// Spark's window in this SELECT's GROUP BY.
    spark: Option<SparkWindow>,
    /// Where this SELECT groups by the window of the results it reads.
    inner: Option<InnerWindow>,
    /// Depth of CASE … END.
    cases: usize,
}

impl Block {
    fn of(clause: Clause) -> Self {
        Self {
            clause,
            ..Self::default()
        }
    }
}

struct Rewriter<'a> {
    t: &'a Tokens,
    out: Vec<TokenWithSpan>,
    watermarks: Vec<SparkWatermark>,
}

const TABLE_FUNCTIONS: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

impl Rewriter<'_> {
    /// Rewrites `from..to`; `top` is true outside parentheses that hold no query of their own.
    fn block(&mut self, from: usize, to: usize, block: &mut Block, top: bool) -> Result<()> {
        let mut i = from;
        while i < to {
            i = self.step(i, to, block, top)?;
        }
        Ok(())
    }

    /// Rewrites what begins at `i` and returns the index behind it.
    fn step(&mut self, i: usize, to: usize, block: &mut Block, top: bool) -> Result<usize> {
        if top
            && block.clause == Clause::GroupBy
            && let Some(window) = block.spark.as_ref()
            && window.named.as_ref().is_some_and(|named| named.at == i)
        {
            self.spark_markers(i, block)?;
            return Ok(i + 1);
        }
        if let Some(window) = &block.inner
            && window.at == i
        {
            let [start, end] = window.fields();
            self.push(i, start);
            self.push(i, [Token::Comma]);
            self.push(i, end);
            return Ok(i + 1);
        }
        match &self.t.list[i].token {
            Token::LParen => {
                let close = self.t.close(i)?;
                self.copy(i);
                if self.t.is_word(i + 1, "SELECT") || self.t.is_word(i + 1, "WITH") {
                    self.block(i + 1, close, &mut Block::default(), true)?;
                } else {
                    self.block(i + 1, close, block, false)?;
                }
                self.copy(close);
                Ok(close + 1)
            }
            Token::Word(w) if w.quote_style.is_none() => {
                let upper = w.value.to_uppercase();
                if top {
                    self.clause(i, to, &upper, block);
                }
                match self.window_form(i, to, &upper, block, top)? {
                    Some(next) => Ok(next),
                    None => self.plain_word(i, &upper, block),
                }
            }
            _ => {
                self.copy(i);
                Ok(i + 1)
            }
        }
    }

    fn clause(&self, i: usize, to: usize, upper: &str, block: &mut Block) {
        block.clause = match upper {
            "SELECT" => {
                block.spark = self.spark_window(i, to);
                block.inner = self.inner_window(i, to);
                Clause::Select
            }
            "FROM" => Clause::From,
            "GROUP" if self.t.is_word(i + 1, "BY") => Clause::GroupBy,
            "WHERE" | "HAVING" | "ORDER" | "LIMIT" | "QUALIFY" | "UNION" if !self.is_name(i) => {
                Clause::Other
            }
            // `WINDOW w AS (…)`, not Spark's window.
            "WINDOW" if self.t.is_word(i + 2, "AS") && self.t.is(i + 3, &Token::LParen) => {
                Clause::Other
            }
            _ => return,
        };
    }

    fn window_form(
        &mut self,
        i: usize,
        to: usize,
        upper: &str,
        block: &Block,
        top: bool,
    ) -> Result<Option<usize>> {
        let call = self.t.is(i + 1, &Token::LParen);
        if block.clause == Clause::From && top {
            if upper == "TABLE" && call && TABLE_FUNCTIONS.iter().any(|f| self.t.is_word(i + 2, f))
            {
                let close = self.t.close(i + 1)?;
                let inner = self.table_function(i + 2)?;
                if inner != close {
                    return Err(
                        Error::sql("TABLE( ) takes one window function").or_at(self.t.at(inner))
                    );
                }
                return Ok(Some(close + 1));
            }
            if call && TABLE_FUNCTIONS.contains(&upper) {
                return self.table_function(i).map(Some);
            }
            if call && i > 0 {
                let function = i + if upper == "TABLE" { 2 } else { 0 };
                self.refuse_misspelt(function)?;
            }
            if upper == "WATERMARK" && self.t.are_words(i + 2, &["DELAY", "OF"]) {
                return self.spark_watermark(i, to).map(Some);
            }
        }
        let item = block.clause == Clause::Select && top;
        if call
            && block.clause == Clause::GroupBy
            && let Some(kind) = group_function(upper)
        {
            let close = self.t.close(i + 1)?;
            self.three_markers(kind, i, (i + 2, close))?;
            return Ok(Some(close + 1));
        }
        if call && let Some((kind, part)) = auxiliary(upper)? {
            let close = self.t.close(i + 1)?;
            self.marker(kind, part, i, (i + 2, close))?;
            self.alias(item, i, close + 1, markers::name(part));
            return Ok(Some(close + 1));
        }
        if upper == "WINDOW_TIME"
            && call
            && block.spark.is_some()
            && SPARK_WINDOWS.iter().any(|w| self.t.is_word(i + 2, w))
        {
            self.spark_marker(Part::Time, i, block)?;
            self.alias(item, i, i + 4, "window_time");
            return Ok(Some(i + 4));
        }
        if upper == "WINDOW_TIME" && call {
            return self.time_of(i, item).map(Some);
        }
        if let Some(window) = &block.inner
            && block.clause == Clause::Select
            && self.is_whole(i, window)
        {
            let [start, end] = window.fields();
            let name = window.word;
            self.named_struct(
                i,
                |rewriter| {
                    rewriter.push(i, start);
                    Ok(())
                },
                |rewriter| {
                    rewriter.push(i, end);
                    Ok(())
                },
            )?;
            self.alias(item, i, i + 1, name);
            return Ok(Some(i + 1));
        }
        if self.is_spark_word(i, block) && block.spark.is_some() {
            return self.spark_reference(i, block, item).map(Some);
        }
        if block.spark.is_some() && SPARK_WINDOWS.iter().any(|w| self.t.is_word(i, w)) {
            self.refuse_qualified(i)?;
        }
        self.refuse_ungrouped(i, upper, block)?;
        Ok(None)
    }

    /// Refuses an unknown function over a table, whose arguments the parser would stumble over.
    fn refuse_misspelt(&self, i: usize) -> Result<()> {
        let begins = ["FROM", "JOIN"].iter().any(|w| self.t.is_word(i - 1, w))
            || self.t.is(i - 1, &Token::Comma)
            || self.t.is(i - 1, &Token::LParen);
        if !begins || !self.t.is(i + 1, &Token::LParen) {
            return Ok(());
        }
        let close = self.t.close(i + 1)?;
        let is_query = ["SELECT", "WITH", "VALUES"]
            .iter()
            .any(|w| self.t.is_word(i + 2, w));
        let is_of_table = self.t.is_word(i + 2, "TABLE")
            || (i + 2..close)
                .any(|k| self.t.is_word(k, "DESCRIPTOR") && self.t.is(k + 1, &Token::LParen));
        if is_query || !is_of_table {
            return Ok(());
        }
        let name = self.t.name(i, "a function over a table")?;
        let hint = nearest(&name, TABLE_FUNCTIONS);
        Err(
            Error::sql(format!("there is no function '{name}' over a table"))
                .or_at(self.t.at(i))
                .with_hint(
                    hint.unwrap_or_else(|| format!("there are: {}", TABLE_FUNCTIONS.join(", "))),
                ),
        )
    }

    fn three_markers(&mut self, kind: Kind, at: usize, args: (usize, usize)) -> Result<()> {
        for (k, part) in PARTS.into_iter().enumerate() {
            if k > 0 {
                self.push(at, [Token::Comma]);
            }
            self.marker(kind, part, at, args)?;
        }
        Ok(())
    }

    fn marker(
        &mut self,
        kind: Kind,
        part: Part,
        at: usize,
        (from, to): (usize, usize),
    ) -> Result<()> {
        // window() of two arguments tumbles, and a tumbling marker can be computed row by row.
        let kind = match kind {
            Kind::SparkHop if self.t.split_commas(from, to, false).len() == 2 => Kind::Tumble,
            other => other,
        };
        for (from, to) in self.t.split_commas(from, to, false) {
            self.check_argument(from, to)?;
        }
        self.push(at, [word(&Marker::name_of(kind, part)), Token::LParen]);
        self.block(from, to, &mut Block::of(Clause::Other), false)?;
        self.push(at, [Token::RParen]);
        Ok(())
    }

    /// Refuses an argument that is no expression: behind the rewriting the parser would say so of tokens that
    /// the user did not write.
    fn check_argument(&self, from: usize, to: usize) -> Result<()> {
        intervals::check(self.t, from, to)?;
        let mut argument = Rewriter {
            t: self.t,
            out: Vec::new(),
            watermarks: Vec::new(),
        };
        argument.block(from, to, &mut Block::of(Clause::Other), false)?;
        session::parse(&self.t.slice(from, to).with(argument.out)).map(|_| ())
    }

    /// Names a SELECT item that the rewriting would otherwise leave with the marker's name.
    fn alias(&mut self, item: bool, start: usize, end: usize, name: &str) {
        let begins = start == 0
            || self.t.is(start - 1, &Token::Comma)
            || ["SELECT", "DISTINCT", "ALL"]
                .iter()
                .any(|w| self.t.is_word(start - 1, w));
        let ends =
            end >= self.t.len() || self.t.is(end, &Token::Comma) || self.t.is_word(end, "FROM");
        if item && begins && ends {
            self.push(start, [word("AS"), quoted(name)]);
        }
    }

    fn copy(&mut self, i: usize) {
        self.out.push(self.t.list[i].clone());
    }

    fn push<const N: usize>(&mut self, at: usize, tokens: [Token; N]) {
        let at = self.t.list[at.min(self.t.len() - 1)].clone();
        self.out
            .extend(tokens.into_iter().map(|t| token_at(t, &at)));
    }
}

fn group_function(upper: &str) -> Option<Kind> {
    match upper {
        "TUMBLE" => Some(Kind::Tumble),
        "HOP" => Some(Kind::Hop),
        "CUMULATE" => Some(Kind::Cumulate),
        "SESSION" | "SESSION_WINDOW" => Some(Kind::Session),
        "WINDOW" => Some(Kind::SparkHop),
        _ => None,
    }
}

/// `TUMBLE_START(ts, size)` and its kin.
fn auxiliary(upper: &str) -> Result<Option<(Kind, Part)>> {
    let Some((function, part)) = upper.rsplit_once('_') else {
        return Ok(None);
    };
    let kind = match function {
        "TUMBLE" => Kind::Tumble,
        "HOP" => Kind::Hop,
        "CUMULATE" => Kind::Cumulate,
        "SESSION" => Kind::Session,
        _ => return Ok(None),
    };
    match part {
        "START" => Ok(Some((kind, Part::Start))),
        "END" => Ok(Some((kind, Part::End))),
        "ROWTIME" => Ok(Some((kind, Part::Time))),
        "PROCTIME" => Err(Error::sql(format!(
            "{upper} is processing time, which cannot be replayed"
        ))
        .with_hint(format!("use event time: {function}_ROWTIME"))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
