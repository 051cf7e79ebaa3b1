//! Rewrites every spelling of a window into calls of the markers (see [`super::markers`]).
//!
//! | spelling | becomes |
//! |---|---|
//! | `FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size))` | `FROM (SELECT *, start(ts, size) AS window_start, … FROM t)` |
//! | `GROUP BY TUMBLE(ts, size)`, `TUMBLE_START(ts, size)` | `GROUP BY start(ts, size), end(…), time(…)`, `start(ts, size)` |
//! | `GROUP BY window(ts, '10 s')`, `window.start`, `window` | the same, `start(…)`, a struct of both |
//!
//! It works on tokens, because the parser knows none of these forms; each token keeps its
//! position, so messages point into the user's file.

use super::markers::{Kind, Marker, Part};
use super::tokens::{Tokens, quoted, token_at, word};
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// `FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS`, taken out of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct SparkWatermark {
    pub table: String,
    pub column: String,
    /// Index of the first token behind `DELAY OF`, and of the one after the interval.
    pub interval: Vec<TokenWithSpan>,
}

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
    /// Arguments of `window(…)` in this SELECT's GROUP BY.
    spark: Option<(usize, usize)>,
    /// Depth of CASE … END.
    cases: usize,
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
                block.spark = self.spark_arguments(i, to);
                Clause::Select
            }
            "FROM" => Clause::From,
            "GROUP" if self.t.is_word(i + 1, "BY") => Clause::GroupBy,
            "WHERE" | "HAVING" | "ORDER" | "LIMIT" | "QUALIFY" | "UNION" | "WINDOW"
                if !self.is_spark_word(i, block) =>
            {
                Clause::Other
            }
            _ => return,
        };
    }

    /// `window` as a name of Spark's window, not as SQL's WINDOW clause.
    fn is_spark_word(&self, i: usize, block: &Block) -> bool {
        self.t.is_word(i, "WINDOW") && (block.spark.is_some() || self.t.is(i + 1, &Token::LParen))
    }

    /// The arguments of `window(…)` in the GROUP BY of the SELECT at `select`.
    fn spark_arguments(&self, select: usize, to: usize) -> Option<(usize, usize)> {
        let (mut i, mut grouping) = (select + 1, false);
        while i < to {
            if self.t.is(i, &Token::LParen) {
                i = self.t.close(i).ok()?;
            } else if self.t.is_word(i, "SELECT") || self.t.is_word(i, "UNION") {
                return None;
            } else if self.t.are_words(i, &["GROUP", "BY"]) {
                grouping = true;
            } else if grouping && self.t.is_word(i, "window") && self.t.is(i + 1, &Token::LParen) {
                return Some((i + 2, self.t.close(i + 1).ok()?));
            }
            i += 1;
        }
        None
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
            if upper == "WATERMARK" && self.t.are_words(i + 2, &["DELAY", "OF"]) {
                return self.spark_watermark(i, to).map(Some);
            }
        }
        let item = block.clause == Clause::Select && top;
        if call && block.clause == Clause::GroupBy {
            if let Some(kind) =
                group_function(upper)?.or((upper == "WINDOW").then_some(Kind::SparkHop))
            {
                let close = self.t.close(i + 1)?;
                self.three_markers(kind, i, (i + 2, close))?;
                return Ok(Some(close + 1));
            }
            if matches!(upper, "SESSION" | "CUMULATE" | "SESSION_WINDOW") {
                return Err(unsupported(upper).or_at(self.t.at(i)));
            }
        }
        if call && let Some((kind, part)) = auxiliary(upper)? {
            let close = self.t.close(i + 1)?;
            self.marker(kind, part, i, (i + 2, close))?;
            self.alias(item, i, close + 1, part_name(part));
            return Ok(Some(close + 1));
        }
        if upper == "WINDOW_TIME"
            && call
            && block.spark.is_some()
            && self.t.is_word(i + 2, "window")
        {
            self.spark_marker(Part::Time, i, block)?;
            self.alias(item, i, i + 4, "window_time");
            return Ok(Some(i + 4));
        }
        if upper == "WINDOW" && self.is_spark_word(i, block) && block.spark.is_some() {
            return self.spark_reference(i, block, item).map(Some);
        }
        Ok(None)
    }

    /// `window`, `window.start`, `window(…)` outside the GROUP BY.
    fn spark_reference(&mut self, i: usize, block: &Block, item: bool) -> Result<usize> {
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
        self.alias(item, i, next, "window");
        Ok(next)
    }

    fn spark_marker(&mut self, part: Part, at: usize, block: &Block) -> Result<()> {
        let Some(args) = block.spark else {
            return Err(Error::bug("no window() in this GROUP BY"));
        };
        self.marker(Kind::SparkHop, part, at, args)
    }

    /// `TUMBLE(TABLE t, DESCRIPTOR(ts), …)` as a derived table. Returns the index behind it.
    fn table_function(&mut self, i: usize) -> Result<usize> {
        let name = self.t.name(i, "a window function")?.to_uppercase();
        let kind = match name.as_str() {
            "TUMBLE" => Kind::Tumble,
            "HOP" => Kind::Hop,
            _ => return Err(unsupported(&name).or_at(self.t.at(i))),
        };
        let close = self.t.close(i + 1)?;
        let args = self.arguments(kind, i + 2, close)?;
        let too_few = || {
            let form = if kind == Kind::Tumble {
                "TUMBLE(TABLE t, DESCRIPTOR(ts), size)"
            } else {
                "HOP(TABLE t, DESCRIPTOR(ts), slide, size)"
            };
            Error::sql(format!("{name} lacks an argument"))
                .or_at(self.t.at(i))
                .with_hint(format!("write {form}"))
        };
        let (table, time) = match args.as_slice() {
            [table, time, _, ..] => (*table, self.descriptor(*time)?),
            _ => return Err(too_few()),
        };
        let constants = &args[2..];
        self.push(i, [Token::LParen, word("SELECT"), Token::Mul]);
        for part in [Part::Start, Part::End, Part::Time] {
            self.push(
                i,
                [
                    Token::Comma,
                    word(&Marker::name_of(kind, part)),
                    Token::LParen,
                ],
            );
            self.block(
                time.0,
                time.1,
                &mut Block {
                    clause: Clause::Other,
                    ..Default::default()
                },
                false,
            )?;
            for constant in constants {
                self.push(i, [Token::Comma]);
                self.block(
                    constant.0,
                    constant.1,
                    &mut Block {
                        clause: Clause::Other,
                        ..Default::default()
                    },
                    false,
                )?;
            }
            self.push(i, [Token::RParen, word("AS"), quoted(part_name(part))]);
        }
        self.push(i, [word("FROM")]);
        let from = if self.t.is_word(table.0, "TABLE") {
            table.0 + 1
        } else {
            table.0
        };
        self.block(
            from,
            table.1,
            &mut Block {
                clause: Clause::From,
                ..Default::default()
            },
            true,
        )?;
        self.push(close, [Token::RParen]);
        Ok(close + 1)
    }

    /// The arguments in positional order: table, time, then the window's constants.
    fn arguments(&self, kind: Kind, from: usize, to: usize) -> Result<Vec<(usize, usize)>> {
        let parts = self.t.split_commas(from, to, false);
        if !parts.iter().any(|(a, _)| self.t.is(a + 1, &Token::RArrow)) {
            return Ok(parts);
        }
        let order: &[&str] = match kind {
            Kind::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            _ => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        };
        let mut named = vec![None; order.len()];
        for (a, b) in parts {
            let name = self.t.name(a, "an argument's name")?.to_uppercase();
            self.t.expect(a + 1, &Token::RArrow)?;
            match order.iter().position(|n| *n == name) {
                Some(k) => named[k] = Some((a + 2, b)),
                None => {
                    let hint = format!("the arguments are {}", order.join(", "));
                    return Err(Error::sql(format!("unknown argument {name}"))
                        .or_at(self.t.at(a))
                        .with_hint(hint));
                }
            }
        }
        Ok(named.into_iter().flatten().collect())
    }

    /// `DESCRIPTOR(ts)` or `ts`.
    fn descriptor(&self, (from, to): (usize, usize)) -> Result<(usize, usize)> {
        if self.t.is_word(from, "DESCRIPTOR") {
            self.t.expect(from + 1, &Token::LParen)?;
            return Ok((from + 2, self.t.close(from + 1)?));
        }
        Ok((from, to))
    }

    fn three_markers(&mut self, kind: Kind, at: usize, args: (usize, usize)) -> Result<()> {
        for (k, part) in [Part::Start, Part::End, Part::Time].into_iter().enumerate() {
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
        self.push(at, [word(&Marker::name_of(kind, part)), Token::LParen]);
        self.block(
            from,
            to,
            &mut Block {
                clause: Clause::Other,
                ..Default::default()
            },
            false,
        )?;
        self.push(at, [Token::RParen]);
        Ok(())
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

    /// `WATERMARK ts DELAY OF INTERVAL 5 SECONDS` behind a table's name and alias.
    fn spark_watermark(&mut self, i: usize, to: usize) -> Result<usize> {
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

    /// Words that the parser would take for keywords, and small differences between dialects.
    fn plain_word(&mut self, i: usize, upper: &str, block: &mut Block) -> Result<usize> {
        let behind_dot = i > 0 && self.t.is(i - 1, &Token::Period);
        let literal = matches!(
            self.t.list.get(i + 1).map(|t| &t.token),
            Some(Token::SingleQuotedString(_))
        );
        let call = self.t.is(i + 1, &Token::LParen);
        match upper {
            "CASE" => block.cases += 1,
            "END" if block.cases > 0 && !behind_dot => {
                block.cases -= 1;
                self.copy(i);
                return Ok(i + 1);
            }
            "INTERVAL"
                if matches!(
                    self.t.list.get(i + 1).map(|t| &t.token),
                    Some(Token::Number(..))
                ) =>
            {
                self.copy(i);
                if let Token::Number(n, _) = &self.t.list[i + 1].token {
                    self.push(i + 1, [Token::SingleQuotedString(n.clone())]);
                }
                return Ok(i + 2);
            }
            "TIMESTAMPDIFF" | "TIMESTAMPADD" if call => {
                self.copy(i);
                self.copy(i + 1);
                let unit = self.t.name(i + 2, "a unit of time")?;
                self.push(i + 2, [Token::SingleQuotedString(unit)]);
                return Ok(i + 3);
            }
            _ => {}
        }
        let name = match upper {
            "USER" | "OFFSET" | "PARTITION" => {
                !call
                    && !self.t.is_word(i + 1, "BY")
                    && !matches!(
                        self.t.list.get(i + 1).map(|t| &t.token),
                        Some(Token::Number(..))
                    )
            }
            "TIMESTAMP" | "DATE" | "TIME" => !literal && !call && !self.is_type(i),
            "END" => true,
            _ => behind_dot && block.clause != Clause::None,
        };
        match &self.t.list[i].token {
            Token::Word(w) if name && !call => {
                let token = quoted(&w.value);
                self.push(i, [token]);
            }
            _ => self.copy(i),
        }
        Ok(i + 1)
    }

    /// The word at `i` is the type of a CAST.
    fn is_type(&self, i: usize) -> bool {
        i > 0
            && (self.t.is_word(i - 1, "AS") && self.t.is(i + 1, &Token::RParen)
                || self.t.is(i - 1, &Token::DoubleColon))
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

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Start => "window_start",
        Part::End => "window_end",
        Part::Time => "window_time",
    }
}

fn group_function(upper: &str) -> Result<Option<Kind>> {
    Ok(match upper {
        "TUMBLE" => Some(Kind::Tumble),
        "HOP" => Some(Kind::Hop),
        _ => None,
    })
}

/// `TUMBLE_START(ts, size)` and its kin.
fn auxiliary(upper: &str) -> Result<Option<(Kind, Part)>> {
    let Some((function, part)) = upper.rsplit_once('_') else {
        return Ok(None);
    };
    let kind = match function {
        "TUMBLE" => Kind::Tumble,
        "HOP" => Kind::Hop,
        "SESSION" if matches!(part, "START" | "END" | "ROWTIME" | "PROCTIME") => {
            return Err(unsupported("SESSION"));
        }
        _ => return Ok(None),
    };
    match part {
        "START" => Ok(Some((kind, Part::Start))),
        "END" => Ok(Some((kind, Part::End))),
        "ROWTIME" => Ok(Some((kind, Part::Time))),
        "PROCTIME" => Err(Error::sql(format!(
            "{upper} is processing time, which cannot be replayed"
        ))
        .with_hint("use event time: TUMBLE_ROWTIME")),
        _ => Ok(None),
    }
}

fn unsupported(name: &str) -> Error {
    Error::sql(format!("{name} windows are not supported yet")).with_hint(
        "TUMBLE and HOP are; a cumulating window is a HOP of its step, summed up by the reader",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let tokens = super::super::tokens::statements(sql, &|_| None)
            .unwrap()
            .remove(0);
        rewrite(&tokens).unwrap().0.text()
    }

    #[test]
    fn all_spellings_of_a_tumbling_window_are_one() {
        let spellings = [
            "SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start",
            "SELECT window_start, count(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start",
            "SELECT window_start, count(*) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY window_start",
            "SELECT window_start, count(*) FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND)) GROUP BY window_start",
        ];
        let first = rewritten(spellings[0]);
        assert!(first.contains("FROM ( SELECT * , __window_tumble_start ( ts , INTERVAL '10' SECOND ) AS \"window_start\""), "{first}");
        for s in &spellings[1..] {
            assert_eq!(rewritten(s), first);
        }
    }

    #[test]
    fn group_functions() {
        assert_eq!(
            rewritten(
                "SELECT TUMBLE_START(ts, INTERVAL 10 SECONDS) w, page FROM t GROUP BY TUMBLE(ts, INTERVAL 10 SECONDS), page"
            ),
            "SELECT __window_tumble_start ( ts , INTERVAL '10' SECONDS ) w , page FROM t GROUP BY __window_tumble_start ( ts , INTERVAL '10' SECONDS ) , __window_tumble_end ( ts , INTERVAL '10' SECONDS ) , __window_tumble_time ( ts , INTERVAL '10' SECONDS ) , page"
        );
    }

    #[test]
    fn spark_window() {
        let text = rewritten(
            "SELECT window.start, page, count(*) FROM t GROUP BY window(ts, '10 seconds'), page ORDER BY window.end",
        );
        assert!(
            text.starts_with(
                "SELECT __window_tumble_start ( ts , '10 seconds' ) AS \"start\" , page"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("ORDER BY __window_tumble_end ( ts , '10 seconds' )"),
            "{text}"
        );
        let text = rewritten(
            "SELECT window, count(*) FROM t GROUP BY window(ts, '1 minute', '10 seconds')",
        );
        assert!(text.contains("AS \"window\" , count"), "{text}");
        assert!(text.contains("__window_spark_hop_start"), "{text}");
    }

    #[test]
    fn spark_watermark_is_taken_out() {
        let tokens = super::super::tokens::statements(
            "SELECT count(*) FROM t WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY window(ts, '10 seconds')",
            &|_| None,
        )
        .unwrap()
        .remove(0);
        let (out, watermarks) = rewrite(&tokens).unwrap();
        assert!(!out.text().contains("WATERMARK"));
        assert_eq!(
            (watermarks[0].table.as_str(), watermarks[0].column.as_str()),
            ("t", "ts")
        );
        assert_eq!(watermarks[0].interval.len(), 3);
    }

    #[test]
    fn keywords_as_columns() {
        let text = rewritten(
            "SELECT user, t.end, CASE WHEN a THEN 1 END, timestamp FROM t WHERE timestamp > TIMESTAMP '2022-01-01 00:00:00'",
        );
        assert_eq!(
            text,
            "SELECT \"user\" , t . \"end\" , CASE WHEN a THEN 1 END , \"timestamp\" FROM t WHERE \"timestamp\" > TIMESTAMP '2022-01-01 00:00:00'"
        );
    }
}
