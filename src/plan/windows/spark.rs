//! Spark's `window(ts, size)` and `session_window(ts, gap)` with their fields, and its WATERMARK clause.

use super::{Block, Rewriter};
use crate::error::{At, Error, Result};
use crate::plan::markers::{Kind, PARTS, Part};
use crate::plan::tokens::{Tokens, quoted, word};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// `FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS`, taken out of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct SparkWatermark {
    pub table: String,
    pub column: String,
    /// Of the column.
    pub at: At,
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
    /// Where the GROUP BY names an item of the SELECT instead.
    pub(super) named: Option<Named>,
}

/// `SELECT window(…) AS w … GROUP BY w`, or `GROUP BY 1`.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The name of the item.
    name: String,
    /// The token in the GROUP BY.
    pub(super) at: usize,
}

/// The window that results of an inner SELECT have, as a ROW.
#[derive(Debug, Clone)]
pub(super) struct InnerWindow {
    pub(super) word: &'static str,
    /// The token in the GROUP BY.
    pub(super) at: usize,
}

impl InnerWindow {
    /// Its start and its end.
    pub(super) fn fields(&self) -> [[Token; 3]; 2] {
        ["start", "end"].map(|field| [quoted(self.word), Token::Period, quoted(field)])
    }
}

impl Rewriter<'_> {
    /// `window` as a name of Spark's window, not as SQL's WINDOW clause; `session_window`.
    pub(super) fn is_spark_word(&self, i: usize, block: &Block) -> bool {
        if self.is_name(i) {
            return false;
        }
        let call = self.t.is(i + 1, &Token::LParen);
        let field = self.t.is(i + 1, &Token::Period);
        let named = block.spark.as_ref().and_then(|w| w.named.as_ref());
        named.is_some_and(|named| field && self.t.is_word(i, &named.name))
            || SPARK_WINDOWS.iter().any(|word| {
                let grouped = block.spark.as_ref().is_some_and(|w| w.word == *word);
                self.t.is_word(i, word) && (grouped || call)
            })
    }

    /// Whether the word at `i` is what something is called: `… AS window`, `t.window`.
    pub(super) fn is_name(&self, i: usize) -> bool {
        i > 0 && (self.t.is_word(i - 1, "AS") || self.t.is(i - 1, &Token::Period))
    }

    /// `t.window.start`, where `window` is that of the GROUP BY.
    pub(super) fn refuse_qualified(&self, i: usize) -> Result<()> {
        let is_field = |part| self.t.is_word(i + 2, part);
        if i < 2
            || !self.t.is(i - 1, &Token::Period)
            || !self.t.is(i + 1, &Token::Period)
            || !(is_field("start") || is_field("end"))
        {
            return Ok(());
        }
        let (table, window) = (self.t.name(i - 2, "a table")?, self.t.name(i, "a window")?);
        let field = self.t.name(i + 2, "a field")?;
        Err(
            Error::sql(format!("the {window} of a GROUP BY is in no table"))
                .or_at(self.t.at(i - 2))
                .with_hint(format!("write {window}.{field}, without '{table}.'")),
        )
    }

    /// `window(…)` of a query whose GROUP BY has none.
    pub(super) fn refuse_ungrouped(&self, i: usize, upper: &str, block: &Block) -> Result<()> {
        let call = self.t.is(i + 1, &Token::LParen);
        if block.spark.is_some() || !call || !SPARK_WINDOWS.iter().any(|w| self.t.is_word(i, w)) {
            return Ok(());
        }
        let name = upper.to_lowercase();
        Err(Error::sql(format!("{name}(…) is not in the GROUP BY"))
            .or_at(self.t.at(i))
            .with_hint(format!(
                "group by it: SELECT {name}.start, … GROUP BY {name}(ts, '10 seconds')"
            )))
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
                (grouping, i) = (true, i + 1);
            } else if ["HAVING", "ORDER", "LIMIT", "QUALIFY"]
                .iter()
                .any(|w| self.t.is_word(i, w))
            {
                return None;
            } else if grouping
                && self.t.is(i + 1, &Token::LParen)
                && let Some(word) = SPARK_WINDOWS.into_iter().find(|w| self.t.is_word(i, w))
            {
                let args = (i + 2, self.t.close(i + 1).ok()?);
                return Some(SparkWindow {
                    word,
                    args,
                    named: None,
                });
            } else if grouping && let Some(window) = self.named_window(select, i) {
                return Some(window);
            }
            i += 1;
        }
        None
    }

    /// Whether the token at `at` is a whole item of a GROUP BY.
    fn is_item(&self, at: usize) -> bool {
        let begins = self.t.is_word(at - 1, "BY") || self.t.is(at - 1, &Token::Comma);
        let ends = match self.t.list.get(at + 1).map(|t| &t.token) {
            Some(Token::Comma | Token::RParen | Token::Word(_)) | None => true,
            Some(_) => false,
        };
        begins && ends
    }

    /// The window that is an item of the SELECT, if the token at `at` of the GROUP BY names it.
    fn named_window(&self, select: usize, at: usize) -> Option<SparkWindow> {
        if !self.is_item(at) {
            return None;
        }
        let mut from = select + 1;
        while !self.t.is_word(from, "FROM") {
            from = match self.t.is(from, &Token::LParen) {
                true => self.t.close(from).ok()? + 1,
                false if from < at => from + 1,
                false => return None,
            };
        }
        let items = self.t.split_commas(select + 1, from, false);
        items.into_iter().enumerate().find_map(|(place, (a, b))| {
            let word = SPARK_WINDOWS.into_iter().find(|w| self.t.is_word(a, w))?;
            if !self.t.is(a + 1, &Token::LParen) {
                return None;
            }
            let close = self.t.close(a + 1).ok()?;
            let name = match b - close - 1 {
                0 => word.to_string(),
                1 | 2 => self.t.name(b - 1, "a name").ok()?,
                _ => return None,
            };
            let is_named = match &self.t.list[at].token {
                Token::Number(number, _) => *number == (place + 1).to_string(),
                Token::Word(w) => w.value.eq_ignore_ascii_case(&name),
                _ => false,
            };
            is_named.then(|| SparkWindow {
                word,
                args: (a + 2, close),
                named: Some(Named { name, at }),
            })
        })
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
        self.named_struct(
            i,
            |rewriter| rewriter.spark_marker(Part::Start, i, block),
            |rewriter| rewriter.spark_marker(Part::End, i, block),
        )?;
        self.alias(item, i, next, name);
        Ok(next)
    }

    /// A window as a whole: a ROW of its start and its end.
    pub(super) fn named_struct(
        &mut self,
        at: usize,
        start: impl FnOnce(&mut Self) -> Result<()>,
        end: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let name = |name: &str| Token::SingleQuotedString(name.into());
        self.push(at, [word("named_struct"), Token::LParen]);
        self.push(at, [name("start"), Token::Comma]);
        start(self)?;
        self.push(at, [Token::Comma, name("end"), Token::Comma]);
        end(self)?;
        self.push(at, [Token::RParen]);
        Ok(())
    }

    /// `… GROUP BY window` over `FROM (SELECT window, … GROUP BY window(…))`.
    pub(super) fn inner_window(&self, select: usize, to: usize) -> Option<InnerWindow> {
        let mut i = select + 1;
        let mut inner = None;
        while i < to && !self.t.are_words(i, &["GROUP", "BY"]) {
            if self.t.is(i, &Token::LParen) {
                let close = self.t.close(i).ok()?;
                if self.t.is_word(i - 1, "FROM") && self.t.is_word(i + 1, "SELECT") {
                    inner = self.spark_window(i + 1, close);
                }
                i = close;
            }
            i += 1;
        }
        let word = inner?.word;
        let items = (i + 2..to).take_while(|k| {
            !["HAVING", "ORDER", "LIMIT", "QUALIFY", "UNION"]
                .iter()
                .any(|w| self.t.is_word(*k, w))
        });
        let mut items = items.filter(|k| self.t.is_word(*k, word) && self.is_item(*k));
        items.next().map(|at| InnerWindow { word, at })
    }

    /// Whether the word at `i` is that window, and not a field of it, or a name.
    pub(super) fn is_whole(&self, i: usize, window: &InnerWindow) -> bool {
        let goes_on = self.t.is(i + 1, &Token::Period) || self.t.is(i + 1, &Token::LParen);
        self.t.is_word(i, window.word) && !goes_on && !self.is_name(i)
    }

    /// `window_time(w)` of a window that is a column: its end less a millisecond.
    pub(super) fn time_of(&mut self, i: usize, item: bool) -> Result<usize> {
        let close = self.t.close(i + 1)?;
        self.push(i, [Token::LParen]);
        for k in i + 2..close {
            self.copy(k);
        }
        self.push(
            i,
            [Token::Period, quoted("end"), Token::Minus, word("INTERVAL")],
        );
        let millisecond = Token::SingleQuotedString("1 millisecond".into());
        self.push(i, [millisecond, Token::RParen]);
        self.alias(item, i, close + 1, "window_time");
        Ok(close + 1)
    }

    /// All three markers, for the GROUP BY.
    pub(super) fn spark_markers(&mut self, at: usize, block: &Block) -> Result<()> {
        for (k, part) in PARTS.into_iter().enumerate() {
            if k > 0 {
                self.push(at, [Token::Comma]);
            }
            self.spark_marker(part, at, block)?;
        }
        Ok(())
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
            at: self.t.at(i + 1),
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
