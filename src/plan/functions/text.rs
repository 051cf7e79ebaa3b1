//! Text: CONCAT, SUBSTRING, SPLIT, SPLIT_INDEX, LOCATE, ELT, IS_DIGIT, STR_TO_MAP, PARSE_URL, TO_BASE64.
//! Positions count characters from 1; a NULL argument gives NULL unless noted.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, ListBuilder, MapBuilder, StringBuilder,
    StringViewArray, StringViewBuilder,
};
use arrow::datatypes::{DataType, Field, Fields};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use datafusion_common::Result;
use regex::Regex;

use super::udf::{Call, Column, Kind, Param, Returns, Spec, optional, param};

const TEXT: &[Param] = &[param("text", Kind::Text)];
const SUBSTRING: &[Param] = &[
    param("text", Kind::Text),
    param("position", Kind::Int),
    optional("length", Kind::Int),
];
const SPLIT: &[Param] = &[
    param("text", Kind::Text),
    param("delimiter", Kind::TextOrInt),
    param("index", Kind::Int),
];
const SPLIT_ALL: &[Param] = &[param("text", Kind::Text), param("delimiter", Kind::Text)];
const BYTES: &[Param] = &[param("text", Kind::Bytes)];
const LOCATE: &[Param] = &[
    param("substring", Kind::Text),
    param("text", Kind::Text),
    optional("position", Kind::Int),
];
const ELT: &[Param] = &[param("index", Kind::Int), param("text", Kind::Text)];
const TO_MAP: &[Param] = &[
    param("text", Kind::Text),
    optional("pair delimiter", Kind::Text),
    optional("key-value delimiter", Kind::Text),
];
const URL: &[Param] = &[
    param("url", Kind::Text),
    param("part", Kind::Text),
    optional("key", Kind::Text),
];

pub(super) static FUNCTIONS: [Spec; 14] = [
    Spec::new("concat", TEXT, DataType::Utf8View, concat).variadic(),
    Spec::new("substr", SUBSTRING, DataType::Utf8View, substring).aliases(&["substring", "mid"]),
    Spec::new("split_index", SPLIT, DataType::Utf8View, split_index),
    Spec::returning("split", SPLIT_ALL, Returns::By(|_| list_type()), split),
    Spec::new("to_base64", BYTES, DataType::Utf8View, to_base64).aliases(&["base64"]),
    Spec::new("from_base64", TEXT, DataType::Utf8View, |c| {
        let text = c.text(0)?;
        c.map::<StringViewArray, _>(|row| String::from_utf8(from_base64(text.get(row)?)?).ok())
    }),
    Spec::new("unbase64", TEXT, DataType::Binary, |c| {
        let text = c.text(0)?;
        c.map::<BinaryArray, _>(|row| from_base64(text.get(row)?))
    }),
    Spec::new("locate", LOCATE, DataType::Int64, locate),
    Spec::new("elt", ELT, DataType::Utf8View, elt).variadic(),
    Spec::new("is_digit", TEXT, DataType::Boolean, |c| {
        all_chars(c, is_digit)
    }),
    Spec::new("is_alpha", TEXT, DataType::Boolean, |c| {
        all_chars(c, char::is_alphabetic)
    }),
    Spec::new("is_decimal", TEXT, DataType::Boolean, is_decimal),
    Spec::returning(
        "str_to_map",
        TO_MAP,
        Returns::By(|_| map_type()),
        str_to_map,
    ),
    Spec::new("parse_url", URL, DataType::Utf8View, parse_url).check(check_part),
];

/// All arguments one after the other; NULL when one is NULL (DataFusion skips those).
fn concat(call: &Call) -> Result<ArrayRef> {
    let columns = (0..call.len())
        .map(|i| call.text(i))
        .collect::<Result<Vec<_>>>()?;
    let mut buffer = String::new();
    let mut out = StringViewBuilder::with_capacity(call.rows());
    for row in 0..call.rows() {
        buffer.clear();
        let whole = columns.iter().try_for_each(|column| {
            buffer.push_str(column.get(row)?);
            Some(())
        });
        out.append_option(whole.map(|()| buffer.as_str()));
    }
    Ok(Arc::new(out.finish()))
}

/// From character `position` on; 0 is 1, and a negative position counts from the end (empty text
/// when it lies before the start), as in Flink and Spark; DataFusion follows PostgreSQL. A negative
/// length gives NULL (Flink).
fn substring(call: &Call) -> Result<ArrayRef> {
    let (text, position) = (call.text(0)?, call.int(1)?);
    let length = call.optional_int(2)?;
    call.map::<StringViewArray, &str>(|row| {
        let text = text.get(row)?;
        let position = position.get(row)?;
        let length = match &length {
            Some(length) => usize::try_from(length.get(row)?).ok()?,
            None => usize::MAX,
        };
        let skip = if position > 0 {
            usize::try_from(position - 1).ok()?
        } else if position == 0 {
            0
        } else {
            let back = usize::try_from(position.unsigned_abs()).ok()?;
            match text.chars().count().checked_sub(back) {
                Some(skip) => skip,
                None => return Some(""),
            }
        };
        let start = char_offset(text, skip);
        let rest = &text[start..];
        Some(&rest[..char_offset(rest, length)])
    })
}

/// The byte offset of character `n` (from 0), the text's length when it has fewer.
fn char_offset(text: &str, n: usize) -> usize {
    if text.is_ascii() {
        return n.min(text.len());
    }
    text.char_indices().nth(n).map_or(text.len(), |(at, _)| at)
}

/// Part `index` (from 0) of the text between delimiters; NULL when there is no such part. The
/// delimiter may be a character's code. An empty delimiter splits at blanks, as in Flink.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let (text, index) = (call.text(0)?, call.int(2)?);
    let part = |text: &'_ str, delimiter: &str, index: usize| -> Option<(usize, usize)> {
        let found = match (text, delimiter) {
            ("", _) => None,
            (_, "") => text.split(char::is_whitespace).nth(index),
            _ => text.split(delimiter).nth(index),
        }?;
        // The part's place, so that the closure need not name the text's lifetime.
        let start = found.as_ptr() as usize - text.as_ptr() as usize;
        Some((start, start + found.len()))
    };
    if call.data_type(1) == &DataType::Int64 {
        let code = call.int(1)?;
        return call.map::<StringViewArray, &str>(|row| {
            let text = text.get(row)?;
            let code = u8::try_from(code.get(row)?).ok().filter(|c| *c > 0)?;
            let index = usize::try_from(index.get(row)?).ok()?;
            let (start, end) = part(text, char::from(code).encode_utf8(&mut [0; 2]), index)?;
            Some(&text[start..end])
        });
    }
    let delimiter = call.text(1)?;
    call.map::<StringViewArray, &str>(|row| {
        let text = text.get(row)?;
        let index = usize::try_from(index.get(row)?).ok();
        let (start, end) = part(text, delimiter.get(row)?, index?)?;
        Some(&text[start..end])
    })
}

fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)))
}

/// The text's parts between delimiters; its characters if the delimiter is empty.
fn split(call: &Call) -> Result<ArrayRef> {
    let (text, delimiter) = (call.text(0)?, call.text(1)?);
    let mut out = ListBuilder::new(StringViewBuilder::new());
    for row in 0..call.rows() {
        let (Some(text), Some(delimiter)) = (text.get(row), delimiter.get(row)) else {
            out.append(false);
            continue;
        };
        match delimiter {
            "" => text
                .chars()
                .for_each(|c| out.values().append_value(c.to_string())),
            _ => text
                .split(delimiter)
                .for_each(|part| out.values().append_value(part)),
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// Of a text's bytes, of bytes, or of a number's digits.
fn to_base64(call: &Call) -> Result<ArrayRef> {
    match call.data_type(0) {
        DataType::Binary => {
            let bytes = call.bytes(0)?;
            call.map::<StringViewArray, _>(|row| Some(STANDARD.encode(bytes.get(row)?)))
        }
        DataType::Int64 => {
            let number = call.int(0)?;
            call.map::<StringViewArray, _>(|row| {
                Some(STANDARD.encode(number.get(row)?.to_string()))
            })
        }
        _ => {
            let text = call.text(0)?;
            call.map::<StringViewArray, _>(|row| Some(STANDARD.encode(text.get(row)?)))
        }
    }
}

/// With padding or without.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// Where the substring begins, from `position` on; 0 when it does not occur.
fn locate(call: &Call) -> Result<ArrayRef> {
    let (substring, text) = (call.text(0)?, call.text(1)?);
    let position = call.optional_int(2)?;
    call.map::<Int64Array, _>(|row| {
        let (substring, text) = (substring.get(row)?, text.get(row)?);
        let position = match &position {
            Some(position) => position.get(row)?,
            None => 1,
        };
        let Ok(skip) = usize::try_from(position.saturating_sub(1)) else {
            return Some(0);
        };
        if skip > text.chars().count() {
            return Some(0);
        }
        let start = char_offset(text, skip);
        let found = text[start..].find(substring);
        Some(found.map_or(0, |at| (text[..start + at].chars().count() + 1) as i64))
    })
}

/// The argument after `index` that has this number (from 1); only that one must not be NULL.
fn elt(call: &Call) -> Result<ArrayRef> {
    let index = call.int(0)?;
    let texts = (1..call.len())
        .map(|i| call.text(i))
        .collect::<Result<Vec<Column<&StringViewArray>>>>()?;
    call.map::<StringViewArray, &str>(|row| {
        let chosen = usize::try_from(index.get(row)?).ok()?.checked_sub(1)?;
        texts.get(chosen)?.get(row)
    })
}

/// Whether the text is not empty and all its characters are of a kind; false for NULL, as Flink
/// answers.
fn all_chars(call: &Call, kind: fn(char) -> bool) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.map::<BooleanArray, _>(|row| {
        let text = text.get(row).unwrap_or_default();
        Some(!text.is_empty() && text.chars().all(kind))
    })
}

/// A digit of any script, as Java has it; `char::is_numeric` takes `½` and `Ⅷ`, too.
fn is_digit(c: char) -> bool {
    // It always compiles.
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{Nd}").ok());
    let matches = |digit: &Regex| digit.is_match(c.encode_utf8(&mut [0; 4]));
    c.is_ascii_digit() || !c.is_ascii() && DIGIT.as_ref().is_some_and(matches)
}

/// Whether the text is a number; false for NULL.
fn is_decimal(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.map::<BooleanArray, _>(|row| {
        let text = text.get(row).unwrap_or_default();
        // Rust also reads "inf" and "nan".
        let digits = text.bytes().any(|b| b.is_ascii_digit());
        Some(digits && text.parse::<f64>().is_ok())
    })
}

/// Utf8, because DataFusion's `map['key']` compares keys with Utf8 only.
fn map_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// `a=1,b=2` as a map; Flink's delimiters `,` and `=` unless others are given, taken as they are.
/// A pair without a delimiter has a NULL value; the last of equal keys counts.
fn str_to_map(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let (pairs, values) = (call.optional_text(1)?, call.optional_text(2)?);
    let mut out = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    let given = |column: &Option<Column<&StringViewArray>>, row| match column {
        Some(column) => column.get(row).map(str::to_string),
        None => Some(String::new()),
    };
    // Where each key of a text is for the last time.
    let mut last: HashMap<&str, usize> = HashMap::new();
    for row in 0..call.rows() {
        let parts = (text.get(row), given(&pairs, row), given(&values, row));
        let (Some(text), Some(pair), Some(value)) = parts else {
            out.append(false)?;
            continue;
        };
        let pair = if pair.is_empty() { "," } else { &pair };
        let value = if value.is_empty() { "=" } else { &value };
        let entry = |part| match str::split_once(part, value) {
            Some((key, value)) => (key, Some(value)),
            None => (part, None),
        };
        let entries: Vec<(&str, Option<&str>)> = text.split(pair).map(entry).collect();
        last.clear();
        last.extend(entries.iter().enumerate().map(|(i, (key, _))| (*key, i)));
        for (i, (key, value)) in entries.into_iter().enumerate() {
            if last[key] == i {
                out.keys().append_value(key);
                out.values().append_option(value);
            }
        }
        out.append(true)?;
    }
    Ok(Arc::new(out.finish()))
}

const PARTS: [&str; 8] = [
    "HOST",
    "PATH",
    "QUERY",
    "REF",
    "PROTOCOL",
    "AUTHORITY",
    "FILE",
    "USERINFO",
];

fn check_part(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(part)) if !PARTS.contains(part) => Err(format!(
            "'{part}' is no part of a URL; parts are {}",
            PARTS.join(", ")
        )),
        _ => Ok(()),
    }
}

/// A part of a URL, or with QUERY the value of one key; NULL when it has no such part.
fn parse_url(call: &Call) -> Result<ArrayRef> {
    let (url, part) = (call.text(0)?, call.text(1)?);
    let key = call.optional_text(2)?;
    call.map::<StringViewArray, String>(|row| {
        let found = url_part(url.get(row)?, part.get(row)?)?;
        let Some(key) = &key else {
            return Some(found.to_string());
        };
        let key = key.get(row)?;
        let pairs = found.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == key);
        let is_query = part.get(row) == Some("QUERY");
        values
            .next()
            .filter(|_| is_query)
            .map(|(_, v)| v.to_string())
    })
}

fn url_part<'a>(url: &'a str, part: &str) -> Option<&'a str> {
    let (protocol, rest) = url.split_once("://")?;
    let (rest, reference) = match rest.split_once('#') {
        Some((rest, reference)) => (rest, Some(reference)),
        None => (rest, None),
    };
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, file) = rest.split_at(path_at);
    let (path, query) = match file.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (file, None),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match part {
        "PROTOCOL" => Some(protocol),
        "AUTHORITY" => Some(authority).filter(|a| !a.is_empty()),
        "USERINFO" => user,
        "FILE" => Some(file),
        "PATH" => Some(path),
        "QUERY" => query,
        "REF" => reference,
        "HOST" => {
            // The colon before a port, not one inside an IPv6 address.
            let port = host.rfind(':').filter(|at| !host[*at..].contains(']'));
            Some(&host[..port.unwrap_or(host.len())]).filter(|h| !h.is_empty())
        }
        _ => None,
    }
}
