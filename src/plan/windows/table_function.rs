//! `TUMBLE(TABLE t, DESCRIPTOR(ts), size)`, `HOP(…)`, `CUMULATE(…)` and `SESSION(…)`, Flink's functions
//! over a table.

use super::{Block, Clause, Rewriter};
use crate::error::{Error, Result, nearest};
use crate::plan::markers::{self, Kind, Marker, PARTS};
use crate::plan::tokens::{quoted, word};
use datafusion_sql::sqlparser::tokenizer::Token;

/// From a token to behind another.
type Range = (usize, usize);

impl Rewriter<'_> {
    /// `TUMBLE(TABLE t, DESCRIPTOR(ts), …)` as a derived table. Returns the index behind it.
    pub(super) fn table_function(&mut self, i: usize) -> Result<usize> {
        let name = self.t.name(i, "a window function")?.to_uppercase();
        let kind = match name.as_str() {
            "TUMBLE" => Kind::Tumble,
            "HOP" => Kind::Hop,
            "CUMULATE" => Kind::Cumulate,
            _ => Kind::SessionBy,
        };
        let close = self.t.close(i + 1)?;
        let form = match kind {
            Kind::Tumble => "TUMBLE(TABLE t, DESCRIPTOR(ts), size)",
            Kind::Cumulate => "CUMULATE(TABLE t, DESCRIPTOR(ts), step, size)",
            Kind::Hop | Kind::SparkHop => "HOP(TABLE t, DESCRIPTOR(ts), slide, size)",
            Kind::Session | Kind::SessionBy => {
                "SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)"
            }
        };
        let args = self.arguments(kind, i, close)?;
        let too_few = || {
            Error::sql(format!("{name} lacks an argument"))
                .or_at(self.t.at(i))
                .with_hint(format!("write {form}"))
        };
        let (table, time) = match args.as_slice() {
            [table, time, _, ..]
                if matches!(kind, Kind::Tumble | Kind::SessionBy) || args.len() > 3 =>
            {
                (*table, self.descriptor(*time)?)
            }
            _ => return Err(too_few()),
        };
        for (from, to) in &args[2..] {
            self.check_argument(*from, *to)?;
        }
        let (table, keys) = self.partition_by(table, kind)?;
        let constants = args[2..].iter().chain(&keys);
        self.push(i, [Token::LParen, word("SELECT"), Token::Mul]);
        for part in PARTS {
            self.push(
                i,
                [
                    Token::Comma,
                    word(&Marker::name_of(kind, part)),
                    Token::LParen,
                ],
            );
            self.block(time.0, time.1, &mut Block::of(Clause::Other), false)?;
            for constant in constants.clone() {
                self.push(i, [Token::Comma]);
                self.block(constant.0, constant.1, &mut Block::of(Clause::Other), false)?;
            }
            self.push(i, [Token::RParen, word("AS"), quoted(markers::name(part))]);
        }
        self.push(i, [word("FROM")]);
        let from = if self.t.is_word(table.0, "TABLE") {
            table.0 + 1
        } else {
            table.0
        };
        self.block(from, table.1, &mut Block::of(Clause::From), true)?;
        self.push(close, [Token::RParen]);
        Ok(close + 1)
    }

    /// The arguments of the function at `i` in positional order: table, time, then the window's constants.
    fn arguments(&self, kind: Kind, i: usize, to: usize) -> Result<Vec<(usize, usize)>> {
        let mut parts = self.t.split_commas(i + 2, to, false);
        // `PARTITION BY a, b` without parentheses.
        let time = parts
            .iter()
            .position(|(a, _)| self.t.is_word(*a, "DESCRIPTOR"));
        if let Some(time) = time.filter(|t| kind == Kind::SessionBy && *t > 1) {
            let table = (parts[0].0, parts[time - 1].1);
            parts.splice(..time, [table]);
        }
        if !parts.iter().any(|(a, _)| self.t.is(a + 1, &Token::RArrow)) {
            return Ok(parts);
        }
        let order: &[&str] = match kind {
            Kind::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            Kind::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
            Kind::Hop | Kind::SparkHop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
            Kind::Session | Kind::SessionBy => &["DATA", "TIMECOL", "GAP"],
        };
        let all = || format!("the arguments are {}", order.join(", "));
        let mut named = vec![None; order.len()];
        for (a, b) in parts {
            let name = self.t.name(a, "an argument's name")?.to_uppercase();
            self.t.expect(a + 1, &Token::RArrow)?;
            match order.iter().position(|n| *n == name) {
                Some(k) if named[k].is_some() => {
                    return Err(Error::sql(format!("argument {name} is given twice"))
                        .or_at(self.t.at(a))
                        .with_hint(all()));
                }
                Some(k) => named[k] = Some((a + 2, b)),
                None => {
                    return Err(Error::sql(format!("unknown argument {name}"))
                        .or_at(self.t.at(a))
                        .with_hint(nearest(&name, order.iter().copied()).unwrap_or_else(all)));
                }
            }
        }
        // What comes behind would take its place.
        let missing = order.iter().zip(&named);
        let missing = missing.filter(|(name, given)| given.is_none() && **name != "OFFSET");
        if let Some((missing, _)) = missing.into_iter().next() {
            let name = self.t.name(i, "a window function")?.to_uppercase();
            return Err(Error::sql(format!("{name} lacks the argument {missing}"))
                .or_at(self.t.at(i))
                .with_hint(all()));
        }
        Ok(named.into_iter().flatten().collect())
    }

    /// `TABLE t PARTITION BY a, b` as the table and the columns that sessions are partitioned by.
    fn partition_by(&self, (from, to): Range, kind: Kind) -> Result<(Range, Vec<Range>)> {
        let mut at = from;
        while at < to && !self.t.are_words(at, &["PARTITION", "BY"]) {
            at = match self.t.is(at, &Token::LParen) {
                true => self.t.close(at)? + 1,
                false => at + 1,
            };
        }
        if at >= to {
            return Ok(((from, to), Vec::new()));
        }
        if kind != Kind::SessionBy {
            return Err(Error::sql("only SESSION is partitioned")
                .or_at(self.t.at(at))
                .with_hint("put the columns into the GROUP BY"));
        }
        let (mut first, mut end) = (at + 2, to);
        if self.t.is(first, &Token::LParen) {
            (first, end) = (first + 1, self.t.close(first)?);
        }
        Ok(((from, at), self.t.split_commas(first, end, false)))
    }

    /// `DESCRIPTOR(ts)` or `ts`.
    fn descriptor(&self, (from, to): (usize, usize)) -> Result<(usize, usize)> {
        if self.t.is_word(from, "DESCRIPTOR") {
            self.t.expect(from + 1, &Token::LParen)?;
            let (from, to) = (from + 2, self.t.close(from + 1)?);
            let refused = |at: usize, message: &str| {
                let error = Error::sql(message).or_at(self.t.at(at));
                Err(error.with_hint("write DESCRIPTOR(ts), with the name of the time's column"))
            };
            if let [_, (second, _), ..] = self.t.split_commas(from, to, false)[..] {
                return refused(second, "DESCRIPTOR takes one column");
            }
            if from == to || matches!(self.t.list[from].token, Token::SingleQuotedString(_)) {
                return refused(from, "DESCRIPTOR takes the name of a column");
            }
            self.check_argument(from, to)?;
            return Ok((from, to));
        }
        self.check_argument(from, to)?;
        Ok((from, to))
    }
}
