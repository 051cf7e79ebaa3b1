//! A SQL file as tokens with positions: substitution, splitting into statements, searching.

use super::intervals;
use crate::error::{At, Error, Result};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace, Word};
use std::sync::Arc;

/// Where `${NAME}` was replaced: from `from` (in the replaced text) on, columns of its line are `shift` to
/// the right of the original, and all lines `lines` below it.
#[derive(Debug, Clone, Copy)]
struct Shift {
    from: At,
    shift: i64,
    lines: u64,
}

/// Parentheses within each other: what reads them calls itself for each.
const NESTING_MAX: usize = 256;

/// The significant tokens of one statement, with positions in the substituted text.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub list: Vec<TokenWithSpan>,
    shifts: Arc<Vec<Shift>>,
    /// In the substituted text, where none of them stands: what they are behind.
    behind: At,
}

/// Replaces `${NAME}` and cuts the text at each `;` that ends a statement.
pub fn statements(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Tokens>> {
    // Editors on Windows begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (text, shifts) = substitute(text, variable)?;
    let shifts = Arc::new(shifts);
    let dialect = GenericDialect {};
    let all = Tokenizer::new(&dialect, &text)
        .tokenize_with_location()
        .map_err(|e| {
            let at = original(
                &shifts,
                At {
                    line: e.location.line,
                    column: e.location.column,
                },
            );
            Error::sql(e.message).or_at(at)
        })?;
    let (mut lists, mut list) = (Vec::new(), Vec::new());
    let mut nesting = 0_usize;
    for token in all {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if is_option_hint(text) => {
                return Err(Error::sql("options cannot be given in a hint")
                    .or_at(original(&shifts, start_of(&token)))
                    .with_hint("write them into the WITH of the table, or of a second table"));
            }
            Token::Whitespace(_) => {}
            Token::SemiColon | Token::EOF => lists.push(std::mem::take(&mut list)),
            _ => {
                nesting = match token.token {
                    Token::LParen => nesting + 1,
                    Token::RParen => nesting.saturating_sub(1),
                    _ => nesting,
                };
                if nesting > NESTING_MAX {
                    let error = Error::sql("too many parentheses within each other");
                    return Err(error.or_at(original(&shifts, start_of(&token))));
                }
                list.push(token);
            }
        }
    }
    lists.push(list);
    let lists = lists.into_iter().filter(|list| !list.is_empty());
    let statement = |list: Vec<TokenWithSpan>| Tokens {
        behind: start_of(&list[0]),
        list: intervals::rewrite(list),
        shifts: shifts.clone(),
    };
    Ok(lists.map(statement).collect())
}

/// Flink's `/*+ OPTIONS('k' = 'v') */`, which changes what is read; other hints are advice.
fn is_option_hint(comment: &str) -> bool {
    let hint = comment.strip_prefix('+').map(|hint| hint.trim_start());
    let name = hint.and_then(|hint| hint.get(.."OPTIONS".len()));
    name.is_some_and(|name| name.eq_ignore_ascii_case("OPTIONS"))
}

fn substitute(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Vec<Shift>)> {
    let mut out = String::with_capacity(text.len());
    let mut shifts = Vec::new();
    let mut within = Within::Code;
    // Lines that values have added.
    let mut lines = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let line_number = number as u64 + 1;
        let (mut rest, mut shift, mut column) = (line, 0i64, 1u64);
        while let Some(start) = rest.find("${") {
            within = within.after(&rest[..start]);
            if matches!(within, Within::Line | Within::Block(_)) {
                let (comment, behind) = rest.split_at(start + "${".len());
                out.push_str(comment);
                column += comment.chars().count() as u64;
                rest = behind;
                continue;
            }
            let at = At {
                line: line_number,
                column: (column as i64 + rest[..start].chars().count() as i64 - shift) as u64,
            };
            let Some(length) = rest[start..].find('}') else {
                return Err(Error::sql("'${' without '}'").or_at(at));
            };
            let name = &rest[start + 2..start + length];
            let Some(value) = variable(name) else {
                if name.is_empty() {
                    return Err(Error::sql("'${}' names no variable").or_at(at));
                }
                return Err(Error::sql(format!("variable {name} is not set"))
                    .or_at(at)
                    .with_hint(format!(
                        "pass --set {name}=VALUE, or set the environment variable {name}"
                    )));
            };
            out.push_str(&rest[..start]);
            out.push_str(&value);
            column += rest[..start].chars().count() as u64;
            // All lines of a value stand where its name stands.
            let mut parts = value.split('\n');
            column += parts.next().map_or(0, |first| first.chars().count() as u64);
            for part in parts {
                lines += 1;
                let line = line_number + lines;
                shifts.push(Shift {
                    from: At { line, column: 1 },
                    shift: 1 - at.column as i64,
                    lines,
                });
                column = 1 + part.chars().count() as u64;
            }
            shift = column as i64 - (at.column as i64 + name.chars().count() as i64 + 3);
            let line = line_number + lines;
            shifts.push(Shift {
                from: At { line, column },
                shift,
                lines,
            });
            rest = &rest[start + length + 1..];
        }
        within = within.after(rest);
        out.push_str(rest);
    }
    Ok((out, shifts))
}

/// What a place in a file is part of.
#[derive(Debug, Clone, Copy)]
enum Within {
    Code,
    Quotes(char),
    /// A comment to the end of the line.
    Line,
    /// So many comments between `/*` and `*/` within each other.
    Block(u32),
}

impl Within {
    /// What the place behind `text` is part of.
    fn after(mut self, text: &str) -> Self {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            self = match (self, c) {
                (Self::Code, '-') if next == Some('-') => Self::Line,
                (Self::Code, '/') if next == Some('*') => {
                    chars.next();
                    Self::Block(1)
                }
                (Self::Block(depth), '/') if next == Some('*') => {
                    chars.next();
                    Self::Block(depth + 1)
                }
                (Self::Code, '\'' | '"' | '`') => Self::Quotes(c),
                // A doubled quote opens what it has closed.
                (Self::Quotes(quote), c) if c == quote => Self::Code,
                (Self::Line, '\n') => Self::Code,
                (Self::Block(depth), '*') if next == Some('/') => {
                    chars.next();
                    match depth {
                        1 => Self::Code,
                        _ => Self::Block(depth - 1),
                    }
                }
                (within, _) => within,
            };
        }
        self
    }
}

/// Where a token begins in the replaced text.
fn start_of(token: &TokenWithSpan) -> At {
    At {
        line: token.span.start.line,
        column: token.span.start.column,
    }
}

fn original(shifts: &[Shift], at: At) -> At {
    let Some(last) = shifts.iter().rfind(|s| s.from <= at) else {
        return at;
    };
    let shift = match last.from.line == at.line {
        true => last.shift,
        false => 0,
    };
    At {
        line: at.line - last.lines,
        column: (at.column as i64 - shift).max(1) as u64,
    }
}

impl Tokens {
    /// A position in the file as the user wrote it.
    pub fn original(&self, at: At) -> At {
        original(&self.shifts, at)
    }

    /// Position of token `i`, or of the last one.
    pub fn at(&self, i: usize) -> At {
        let token = self.list.get(i).or(self.list.last());
        self.original(token.map_or(self.behind, start_of))
    }

    pub fn start(&self) -> At {
        self.at(0)
    }

    /// The same tokens from `from` to `to` (exclusive).
    pub fn slice(&self, from: usize, to: usize) -> Tokens {
        let before = self.list[..from.min(to)].last();
        Tokens {
            behind: before.map_or(self.behind, start_of),
            ..self.with(self.list[from.min(to)..to].to_vec())
        }
    }

    pub fn with(&self, list: Vec<TokenWithSpan>) -> Tokens {
        Tokens {
            list,
            shifts: self.shifts.clone(),
            behind: self.behind,
        }
    }

    /// Position of the last word that reads `name` (names are usually misspelt where they are
    /// used, which is after where they could be declared).
    pub fn find_word(&self, name: &str) -> Option<At> {
        let matches = |t: &TokenWithSpan| match &t.token {
            Token::Word(w) => w.value.eq_ignore_ascii_case(name),
            Token::SingleQuotedString(s) => s == name,
            _ => false,
        };
        self.list
            .iter()
            .position(|t| matches(t) && t.span.start.line > 0)
            .map(|i| self.at(i))
    }

    pub fn is_word(&self, i: usize, word: &str) -> bool {
        self.list.get(i).is_some_and(|t| is_word(&t.token, word))
    }

    /// True when the tokens from `i` on read `words`.
    pub fn are_words(&self, i: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(k, w)| self.is_word(i + k, w))
    }

    pub fn is(&self, i: usize, token: &Token) -> bool {
        self.list.get(i).is_some_and(|t| t.token == *token)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The index behind the parenthesis that closes the one at `open`.
    pub fn close(&self, open: usize) -> Result<usize> {
        let mut depth = 0usize;
        for (i, t) in self.list.iter().enumerate().skip(open) {
            match t.token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 1 => return Ok(i),
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Err(Error::sql("this parenthesis is not closed").or_at(self.at(open)))
    }

    /// Ranges of the parts between commas at the depth of `from..to`. With `angles`, brackets of types
    /// (`ARRAY<`, `MAP<`, `ROW<`) are counted; others compare.
    pub fn split_commas(&self, from: usize, to: usize, angles: bool) -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let (mut depth, mut start) = (0i32, from);
        // The depths of the types' brackets that are open.
        let mut types: Vec<i32> = Vec::new();
        for i in from..to {
            match &self.list[i].token {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth -= 1,
                Token::Lt if angles && i > 0 && self.is_nested_type(i - 1) => {
                    depth += 1;
                    types.push(depth);
                }
                Token::Gt | Token::ShiftRight => {
                    let brackets = match self.list[i].token {
                        Token::Gt => 1,
                        _ => 2,
                    };
                    for _ in 0..brackets {
                        depth -= i32::from(types.pop_if(|open| *open == depth).is_some());
                    }
                }
                Token::Comma if depth == 0 => {
                    parts.push((start, i));
                    start = i + 1;
                }
                _ => {}
            }
        }
        if start < to {
            parts.push((start, to));
        }
        parts
    }

    fn is_nested_type(&self, i: usize) -> bool {
        let types = ["ARRAY", "MAP", "ROW", "STRUCT", "MULTISET"];
        types.iter().any(|name| self.is_word(i, name))
    }

    /// The tokens as text that parses to the same tokens.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let texts = self.list.iter().map(|t| text_of(&t.token));
        texts.collect::<Vec<_>>().join(" ")
    }

    /// The tokens as text that parses to the same tokens, each where it stands in the file, as far as a
    /// variable's value leaves room.
    pub fn text_in_place(&self) -> String {
        let mut out = String::new();
        let mut end = At { line: 1, column: 1 };
        for (i, token) in self.list.iter().enumerate() {
            let at = self.at(i);
            while end.line < at.line {
                out.push('\n');
                (end.line, end.column) = (end.line + 1, 1);
            }
            let before = i.checked_sub(1).map(|i| self.list[i].span.end);
            let least = u64::from(before.is_some_and(|end| end != token.span.start));
            let blanks = at.column.saturating_sub(end.column).max(least);
            out.push_str(&" ".repeat(blanks as usize));
            end.column += blanks;
            for c in text_of(&token.token).chars() {
                out.push(c);
                (end.line, end.column) = match c {
                    '\n' => (end.line + 1, 1),
                    _ => (end.line, end.column + 1),
                };
            }
        }
        out
    }

    /// An unquoted or quoted name at `i`.
    pub fn name(&self, i: usize, what: &str) -> Result<String> {
        match self.list.get(i).map(|t| &t.token) {
            Some(Token::Word(w)) => Ok(w.value.clone()),
            Some(other) => {
                Err(Error::sql(format!("expected {what}, found {other}")).or_at(self.at(i)))
            }
            None => Err(
                Error::sql(format!("expected {what}, but the statement ends here"))
                    .or_at(self.at(i)),
            ),
        }
    }

    /// `'text'` at `i`.
    pub fn string(&self, i: usize, what: &str) -> Result<String> {
        match self.list.get(i).map(|t| &t.token) {
            Some(Token::SingleQuotedString(s)) => Ok(s.clone()),
            Some(other) => Err(Error::sql(format!(
                "expected {what} in single quotes, found {other}"
            ))
            .or_at(self.at(i))),
            None => Err(Error::sql(format!(
                "expected {what} in single quotes, but the statement ends here"
            ))
            .or_at(self.at(i))),
        }
    }

    pub fn expect(&self, i: usize, token: &Token) -> Result<()> {
        if self.is(i, token) {
            return Ok(());
        }
        let found = self
            .list
            .get(i)
            .map_or("the end of the statement".to_string(), |t| {
                t.token.to_string()
            });
        Err(Error::sql(format!("expected '{token}', found {found}")).or_at(self.at(i)))
    }
}

fn text_of(token: &Token) -> String {
    match token {
        // It is printed as it is, quotes in it too.
        Token::SingleQuotedString(text) => format!("'{}'", text.replace('\'', "''")),
        token => token.to_string(),
    }
}

pub fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// A token that stands where `at` stands.
pub fn token_at(token: Token, at: &TokenWithSpan) -> TokenWithSpan {
    TokenWithSpan {
        token,
        span: at.span,
    }
}

/// A keyword or plain name.
pub fn word(text: &str) -> Token {
    Token::make_keyword(text)
}

/// A name that is never taken for a keyword.
pub fn quoted(text: &str) -> Token {
    Token::Word(Word {
        value: text.to_string(),
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitution_keeps_positions() {
        let vars = |n: &str| (n == "LONG").then(|| "a-rather-long-value".to_string());
        let list = statements("SELECT '${LONG}', x\n, y;", &vars).unwrap();
        let tokens = &list[0];
        assert_eq!(
            tokens.find_word("x"),
            Some(At {
                line: 1,
                column: 19
            })
        );
        assert_eq!(tokens.find_word("y"), Some(At { line: 2, column: 3 }));
        let error = statements("SELECT 1,\n  ${NONE}", &vars).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Sql {
                    at: Some(At { line: 2, column: 3 }),
                    ..
                }
            ),
            "{error:?}"
        );
    }

    /// What came behind such a value was said to be on a later line than it is.
    #[test]
    fn a_value_of_several_lines_leaves_the_others_where_they_are() {
        let vars = |_: &str| Some("1,\n22".to_string());
        let list = statements("SELECT ${X}, x,\n ${X}, y\n, z", &vars).unwrap();
        let at = |name| list[0].find_word(name).map(|at| (at.line, at.column));
        assert_eq!(at("x"), Some((1, 14)));
        assert_eq!(at("y"), Some((2, 8)));
        assert_eq!(at("z"), Some((3, 3)));
        assert_eq!(list[0].at(3), At { line: 1, column: 8 });
    }

    #[test]
    fn what_is_tokenized_again_stands_where_it_stood() {
        let first = statements("a AS\n  b + 'it''s',\n\n   c", &|_| None).unwrap();
        let again = statements(&first[0].text_in_place(), &|_| None).unwrap();
        let places = |t: &Tokens| (0..t.len()).map(|i| t.at(i)).collect::<Vec<_>>();
        assert_eq!(places(&first[0]), places(&again[0]));
    }

    #[test]
    fn a_variable_in_a_comment_is_none() {
        let vars = |name: &str| (name == "X").then(|| "x".to_string());
        let text = "/* /* in */ it's old: 'a' = '${OLD}'\n ${OLDER} */ SELECT ${X}, '/* ${X}' -- ${OLD} it's\n, ${X} -- ${\n;";
        let list = statements(text, &vars).unwrap();
        let tokens = list[0].list.iter().map(|t| t.token.to_string());
        assert_eq!(tokens.collect::<String>(), "SELECTx,'/* x',x");
        let open = statements("SELECT '--', '${OLD}'", &vars).unwrap_err();
        assert!(open.to_string().contains("variable OLD is not set"));
    }

    #[test]
    fn statements_end_at_semicolons_outside_strings() {
        let list = statements("SELECT ';'; -- no; end\nSELECT 2 /* ; */;;", &|_| None).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].start(), At { line: 2, column: 1 });
    }
}
