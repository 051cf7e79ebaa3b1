//! Spark's `window(ts, size)` and `session_window(ts, gap)` with their fields, and its WATERMARK clause.

use super::{Block, Rewriter};
use crate::error::{Error, Result};
use crate::plan::markers::{Kind, Part};
use crate::plan::tokens::{Tokens, word};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// `FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS`, taken out of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct SparkWatermark {
    pub table: String,
    pub column: String,
    /// The tokens of the interval.
    pub interval: Vec<TokenWithSpan>,
}

/// What Spark's windows are called.
pub(super) const SPARK_WINDOWS: [&str; 2] = ["window", "session_window"];

/// Spark's window in a GROUP BY.
#[derive(Debug, Clone)]
pub(super) struct SparkWindow {
    word: &'static str,
    /// From the first token of its arguments to behind the last.
    args: (usize, usize),
}

impl Rewriter<'_> {
    /// `window` as a name of Spark's window, not as SQL's WINDOW clause; `session_window`.
    pub(super) fn is_spark_word(&self, i: usize, block: &Block) -> bool {
        let call = self.t.is(i + 1, &Token::LParen);
        SPARK_WINDOWS.iter().any(|word| {
            let grouped = block.spark.as_ref().is_some_and(|w| w.word == *word);
            self.t.is_word(i, word) && (grouped || call)
        })
    }

    /// `window(…)` or `session_window(…)` in the GROUP BY of the SELECT at `select`.
    pub(super) fn spark_window(&self, select: usize, to: usize) -> Option<SparkWindow> {
        let (mut i, mut grouping) = (select + 1, false);
        while i < to {
            if self.t.is(i, &Token::LParen) {
                i = self.t.close(i).ok()?;
            } else if self.t.is_word(i, "SELECT") || self.t.is_word(i, "UNION") {
                return None;
            } else if self.t.are_words(i, &["GROUP", "BY"]) {
                grouping = true;
            } else if grouping
                && self.t.is(i + 1, &Token::LParen)
                && let Some(word) = SPARK_WINDOWS.into_iter().find(|w| self.t.is_word(i, w))
            {
                let args = (i + 2, self.t.close(i + 1).ok()?);
                return Some(SparkWindow { word, args });
            }
            i += 1;
        }
        None
    }

    /// `window`, `window.start`, `window(…)` outside the GROUP BY.
    pub(super) fn spark_reference(&mut self, i: usize, block: &Block, item: bool) -> Result<usize> {
        let name = block.spark.as_ref().map_or("window", |w| w.word);
        let mut next = i + 1;
        if self.t.is(i + 1, &Token::LParen) {
            next = self.t.close(i + 1)? + 1;
        }
        if self.t.is(next, &Token::Period) {
            let (part, name) = match self
                .t
                .name(next + 1, "start or end")?
                .to_lowercase()
                .as_str()
            {
                "start" => (Part::Start, "start"),
                "end" => (Part::End, "end"),
                other => {
                    return Err(Error::sql(format!("a window has no field '{other}'"))
                        .or_at(self.t.at(next + 1))
                        .with_hint("it has start and end"));
                }
            };
            self.spark_marker(part, i, block)?;
            self.alias(item, i, next + 2, name);
            return Ok(next + 2);
        }
        self.push(
            i,
            [
                word("named_struct"),
                Token::LParen,
                Token::SingleQuotedString("start".into()),
                Token::Comma,
            ],
        );
        self.spark_marker(Part::Start, i, block)?;
        self.push(
            i,
            [
                Token::Comma,
                Token::SingleQuotedString("end".into()),
                Token::Comma,
            ],
        );
        self.spark_marker(Part::End, i, block)?;
        self.push(i, [Token::RParen]);
        self.alias(item, i, next, name);
        Ok(next)
    }

    pub(super) fn spark_marker(&mut self, part: Part, at: usize, block: &Block) -> Result<()> {
        let Some(window) = &block.spark else {
            return Err(Error::bug("no window() in this GROUP BY"));
        };
        let kind = match window.word {
            "session_window" => Kind::Session,
            _ => Kind::SparkHop,
        };
        self.marker(kind, part, at, window.args)
    }

    /// `WATERMARK ts DELAY OF INTERVAL 5 SECONDS` behind a table's name and alias.
    pub(super) fn spark_watermark(&mut self, i: usize, to: usize) -> Result<usize> {
        let column = self.t.name(i + 1, "the watermark's column")?;
        let mut table = i - 1;
        while table > 0
            && !matches!(self.t.list[table - 1].token, Token::Comma)
            && !self.t.is_word(table - 1, "FROM")
            && !self.t.is_word(table - 1, "JOIN")
        {
            table -= 1;
        }
        let table = self.t.name(table, "a table before WATERMARK")?;
        let mut end = i + 4;
        if self.t.is_word(end, "INTERVAL") {
            end += 1;
        }
        end += match self.t.list.get(end).map(|t| &t.token) {
            Some(Token::SingleQuotedString(_)) if end + 1 >= to || !is_unit(self.t, end + 1) => 1,
            _ => 2,
        };
        let mut interval = Rewriter {
            t: self.t,
            out: Vec::new(),
            watermarks: Vec::new(),
        };
        interval.block(i + 4, end.min(to), &mut Block::default(), false)?;
        self.watermarks.push(SparkWatermark {
            table,
            column,
            interval: interval.out,
        });
        Ok(end)
    }
}

fn is_unit(t: &Tokens, i: usize) -> bool {
    [
        "SECOND",
        "SECONDS",
        "MINUTE",
        "MINUTES",
        "HOUR",
        "HOURS",
        "DAY",
        "DAYS",
        "MILLISECOND",
        "MILLISECONDS",
    ]
    .iter()
    .any(|u| t.is_word(i, u))
}
