//! REGEXP_EXTRACT, REGEXP_REPLACE and REGEXP over Java's spelling of regular expressions.

use std::borrow::Cow;

use arrow::array::{ArrayRef, BooleanArray, StringViewArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use regex::{Captures, Regex};

use super::udf::{Call, Kind, Memo, Param, Spec, optional, param};

const TEXT_AND_REGEX: &[Param] = &[param("text", Kind::Text), param("regex", Kind::Text)];
const EXTRACT: &[Param] = &[
    param("text", Kind::Text),
    param("regex", Kind::Text),
    optional("group", Kind::Int),
];
const REPLACE: &[Param] = &[
    param("text", Kind::Text),
    param("regex", Kind::Text),
    param("replacement", Kind::Text),
];

const SIMILAR: &[Param] = &[
    param("text", Kind::Text),
    param("pattern", Kind::Text),
    optional("escape character", Kind::Text),
];

pub(super) static FUNCTIONS: [Spec; 4] = [
    Spec::new("regexp_extract", EXTRACT, DataType::Utf8View, extract)
        .aliases(&["regexp_substr"])
        .check(check_regex),
    Spec::new("regexp_replace", REPLACE, DataType::Utf8View, replace).check(check_regex),
    Spec::new("regexp", TEXT_AND_REGEX, DataType::Boolean, matches)
        .aliases(&["rlike", "regexp_like"])
        .check(check_regex),
    // `text SIMILAR TO pattern ESCAPE '…'`
    Spec::new("windrow_similar", SIMILAR, DataType::Boolean, similar).check(check_similar),
];

fn check_regex(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(regex)) => compile(regex).map(|_| ()),
        _ => Ok(()),
    }
}

/// The error is a sentence to be put after the function's name.
fn compile(java: &str) -> Result<Regex, String> {
    Regex::new(&from_java(java)).map_err(|e| match e {
        regex::Error::Syntax(text) => {
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!("the regular expression '{java}' cannot be used: {reason}")
        }
        other => format!("the regular expression '{java}' cannot be used: {other}"),
    })
}

/// Java's `\d`, `\w`, `\s` and `\b` mean ASCII, the regex crate's Unicode; the rest is the same
/// or an error.
fn from_java(java: &str) -> Cow<'_, str> {
    if !java.contains('\\') {
        return Cow::Borrowed(java);
    }
    let mut out = String::with_capacity(java.len() + 16);
    let mut chars = java.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[A-Za-z0-9_]"),
            Some('W') => out.push_str("[^A-Za-z0-9_]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
            Some('b') => out.push_str(r"(?-u:\b)"),
            Some('Z') => out.push_str(r"\n?\z"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

/// The regular expression of a row; an error names the function and the argument.
fn row_regex<'m>(call: &Call, memo: &'m mut Memo<Regex>, text: &str) -> Result<&'m Regex> {
    memo.get(text, compile)
        .map_err(|e| call.error(1, format!("is wrong: {e}")))
}

/// The group of the first match; NULL without a match and for a group that the regular expression
/// does not have, as in Flink. Without a third argument it is group 0, the whole match.
fn extract(call: &Call) -> Result<ArrayRef> {
    let (text, regex, group) = (call.text(0)?, call.text(1)?, call.optional_int(2)?);
    let mut memo = Memo::new();
    call.try_map::<StringViewArray, &str>(|row| {
        let group = match &group {
            Some(group) => group.get(row),
            None => Some(0),
        };
        let (Some(text), Some(regex), Some(group)) = (text.get(row), regex.get(row), group) else {
            return Ok(None);
        };
        let regex = row_regex(call, &mut memo, regex)?;
        let found = usize::try_from(group).ok().and_then(|group| match group {
            0 => regex.find(text),
            _ => regex.captures(text)?.get(group),
        });
        Ok(found.map(|m| m.as_str()))
    })
}

/// Replaces every match. `$1` is a group (Spark) when the regular expression has that group; any
/// other `$` is itself (Flink).
fn replace(call: &Call) -> Result<ArrayRef> {
    let (text, regex, new) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let mut memo = Memo::new();
    call.try_map::<StringViewArray, Cow<str>>(|row| {
        let (Some(text), Some(regex), Some(new)) = (text.get(row), regex.get(row), new.get(row))
        else {
            return Ok(None);
        };
        let regex = row_regex(call, &mut memo, regex)?;
        Ok(Some(if new.contains('$') {
            regex.replace_all(text, |found: &Captures| expand(new, found))
        } else {
            regex.replace_all(text, regex::NoExpand(new))
        }))
    })
}

fn expand(new: &str, found: &Captures) -> String {
    let mut out = String::with_capacity(new.len());
    let mut rest = new;
    while let Some(at) = rest.find('$') {
        let (before, tail) = (&rest[..at], &rest[at + 1..]);
        out.push_str(before);
        // As in Java, the longest number that is a group.
        let digits = tail.bytes().take(3).take_while(u8::is_ascii_digit).count();
        let group = (1..=digits).rev().find_map(|n| {
            let group = tail[..n].parse().ok().filter(|g: &usize| *g < found.len());
            group.map(|g| (g, n))
        });
        match group {
            Some((group, n)) => {
                out.push_str(found.get(group).map_or("", |m| m.as_str()));
                rest = &tail[n..];
            }
            None => {
                out.push('$');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

fn matches(call: &Call) -> Result<ArrayRef> {
    let (text, regex) = (call.text(0)?, call.text(1)?);
    let mut memo = Memo::new();
    call.try_map::<BooleanArray, bool>(|row| {
        let (Some(text), Some(regex)) = (text.get(row), regex.get(row)) else {
            return Ok(None);
        };
        Ok(Some(row_regex(call, &mut memo, regex)?.is_match(text)))
    })
}

fn check_similar(literals: &[Option<&str>]) -> Result<(), String> {
    match literals {
        [_, Some(pattern), rest @ ..] => {
            let escape = rest.first().copied().flatten();
            compile_similar(pattern, escape.and_then(|e| e.chars().next())).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn similar(call: &Call) -> Result<ArrayRef> {
    let (text, pattern, escape) = (call.text(0)?, call.text(1)?, call.optional_text(2)?);
    let mut memo = Memo::new();
    call.try_map::<BooleanArray, bool>(|row| {
        let escape = match &escape {
            Some(escape) => escape.get(row),
            None => Some(""),
        };
        let (Some(text), Some(pattern), Some(escape)) = (text.get(row), pattern.get(row), escape)
        else {
            return Ok(None);
        };
        let compile = |pattern: &str| compile_similar(pattern, escape.chars().next());
        let regex = memo.get(pattern, compile);
        let regex = regex.map_err(|e| call.error(1, format!("is wrong: {e}")))?;
        Ok(Some(regex.is_match(text)))
    })
}

/// SQL's pattern of a whole text (ISO 9075-2, "similar predicate"): `%` and `_` as with LIKE; `|`, `*`,
/// `+`, `?`, `{…}`, `(…)` and `[…]` as in regular expressions; all else is itself.
fn compile_similar(pattern: &str, escape: Option<char>) -> Result<Regex, String> {
    let mut regex = String::from("(?s)^(?:");
    let mut chars = pattern.chars();
    let mut in_brackets = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            let escaped = chars
                .next()
                .ok_or("the pattern ends in its escape character")?;
            regex.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            continue;
        }
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
        match c {
            '%' if !in_brackets => regex.push_str(".*"),
            '_' if !in_brackets => regex.push('.'),
            '.' | '$' | '^' | '\\' | '#' if !in_brackets => regex.extend(['\\', c]),
            '\\' | '&' | '~' => regex.extend(['\\', c]),
            c => regex.push(c),
        }
    }
    regex.push_str(")$");
    Regex::new(&regex).map_err(|_| format!("the pattern '{pattern}' cannot be used"))
}
