//! Where values end that are not plain strings, and whether they are JSON.

use super::escape;
use super::masks::Masks;
use super::number::Number;
use super::walk::{GiveUp, Walked, Written};
use crate::source::Span;

/// serde_json's bound: so many objects and arrays in each other, the record included.
const DEPTH: usize = 127;

/// What the value at `at` spans, how it is written, and where it ends.
#[inline(never)]
pub(super) fn other_value(
    masks: &Masks,
    unescaped: &mut String,
    record: &[u8],
    at: usize,
) -> Walked<(Span, Written, usize)> {
    let first = *record.get(at).ok_or(GiveUp)?;
    let (written, after) = match first {
        b'"' => {
            let string = string(masks, unescaped, record, at + 1)?;
            let span = span_of(at + 1, string.after - 1);
            return Ok((span, string.written, string.after));
        }
        b'-' | b'0'..=b'9' => {
            let number = Number::at(record, at).ok_or(GiveUp)?;
            let written = if number.is_whole {
                Written::Whole
            } else {
                Written::Fraction
            };
            (written, number.end)
        }
        b't' => (Written::True, word(record, at, b"true")?),
        b'f' => (Written::False, word(record, at, b"false")?),
        b'n' => (Written::Null, word(record, at, b"null")?),
        b'{' | b'[' => (Written::Nested, skip_nested(masks, unescaped, record, at)?),
        _ => return Err(GiveUp),
    };
    Ok((span_of(at, after), written, after))
}

/// Checks the object or array that starts at `start`; returns where it ends.
fn skip_nested(
    masks: &Masks,
    unescaped: &mut String,
    record: &[u8],
    start: usize,
) -> Walked<usize> {
    // A bit per level that is open: whether it is an object. The record is the first level.
    let (mut objects, mut depth) = (0_u128, 0);
    let mut at = start;
    loop {
        // A value, or the end of an empty object or array.
        let first = *record.get(at).ok_or(GiveUp)?;
        if matches!(first, b'{' | b'[') {
            depth += 1;
            if depth >= DEPTH {
                return Err(GiveUp);
            }
            objects = objects << 1 | u128::from(first == b'{');
            at = skip_blanks(record, at + 1);
            let closing = if first == b'{' { b'}' } else { b']' };
            if record.get(at) == Some(&closing) {
                at += 1;
                depth -= 1;
                objects >>= 1;
            } else {
                if first == b'{' {
                    at = nested_key(masks, unescaped, record, at)?;
                }
                continue;
            }
        } else {
            at = match plain_end(masks, record, at) {
                Some(end) => end,
                None => other_value(masks, unescaped, record, at)?.2,
            };
        }
        // What follows a value: the end of levels, then the next value of one.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = skip_blanks(record, at);
            let in_object = objects & 1 == 1;
            match record.get(at) {
                Some(b',') => {
                    at = skip_blanks(record, at + 1);
                    if in_object {
                        at = nested_key(masks, unescaped, record, at)?;
                    }
                    break;
                }
                Some(b'}') if in_object => {}
                Some(b']') if !in_object => {}
                _ => return Err(GiveUp),
            }
            at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Checks `"key":`; returns where the value starts.
#[inline]
fn nested_key(masks: &Masks, unescaped: &mut String, record: &[u8], at: usize) -> Walked<usize> {
    let after = match plain_end(masks, record, at) {
        Some(end) => end,
        None if record.get(at) == Some(&b'"') => string(masks, unescaped, record, at + 1)?.after,
        None => return Err(GiveUp),
    };
    let at = skip_blanks(record, after);
    match record.get(at) {
        Some(b':') => Ok(skip_blanks(record, at + 1)),
        _ => Err(GiveUp),
    }
}

/// What follows the string at `at`, if there is a short one without escapes.
#[inline(always)]
fn plain_end(masks: &Masks, record: &[u8], at: usize) -> Option<usize> {
    let is_quote = |at: usize| record.get(at) == Some(&b'"');
    let stop = masks.stops().near(at + 1).filter(|_| is_quote(at))?;
    is_quote(stop).then_some(stop + 1)
}

/// A string.
pub(super) struct Text<'a> {
    /// What it means: UTF-8.
    pub(super) text: &'a [u8],
    pub(super) written: Written,
    /// What follows the closing quote.
    pub(super) after: usize,
}

/// The string whose text starts at `start`.
pub(super) fn string<'a>(
    masks: &Masks,
    unescaped: &'a mut String,
    record: &'a [u8],
    start: usize,
) -> Walked<Text<'a>> {
    let (mut at, mut has_escapes) = (start, false);
    let end = loop {
        let stop = masks.stop(at);
        match record.get(stop) {
            Some(b'"') => break stop,
            Some(b'\\') => (at, has_escapes) = (stop + 2, true),
            _ => return Err(GiveUp),
        }
        if at > record.len() {
            return Err(GiveUp);
        }
    };
    let (text, after) = (&record[start..end], end + 1);
    if !has_escapes {
        let written = Written::Plain;
        return Ok(Text {
            text,
            written,
            after,
        });
    }
    unescaped.clear();
    let text = simdutf8::basic::from_utf8(text).map_err(|_| GiveUp)?;
    escape::unescape(text, unescaped).ok_or(GiveUp)?;
    Ok(Text {
        text: unescaped.as_bytes(),
        written: Written::Escaped,
        after,
    })
}

#[inline(always)]
pub(super) fn skip_blanks(record: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = record.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
pub(super) fn span_of(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

fn word(record: &[u8], at: usize, word: &[u8]) -> Walked<usize> {
    match record[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => Err(GiveUp),
    }
}
