//! Words that the parser would take for keywords, and small differences between dialects.

use super::{Block, Clause, Rewriter};
use crate::error::Result;
use crate::plan::spellings::ends_value;
use crate::plan::tokens::quoted;
use datafusion_sql::sqlparser::tokenizer::Token;

impl Rewriter<'_> {
    /// Words that the parser would take for keywords, and small differences between dialects.
    pub(super) fn plain_word(&mut self, i: usize, upper: &str, block: &mut Block) -> Result<usize> {
        let behind_dot = i > 0 && self.t.is(i - 1, &Token::Period);
        let literal = matches!(
            self.t.list.get(i + 1).map(|t| &t.token),
            Some(Token::SingleQuotedString(_))
        );
        let call = self.t.is(i + 1, &Token::LParen);
        match upper {
            "CASE" => block.cases += 1,
            // Where a value must begin it is a column.
            "END" if block.cases > 0 && !behind_dot && ends_value(&self.t.list[..i]) => {
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
}
