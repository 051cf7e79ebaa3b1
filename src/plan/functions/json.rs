//! JSON_VALUE, JSON_QUERY, JSON_EXISTS, GET_JSON_OBJECT, JSON_STRING.
//!
//! A document is validated once by serde_json without building it; then the path walks its
//! bytes. So what is found keeps its text: key order, digits of numbers, escapes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use serde::de::IgnoredAny;

use super::udf::{Call, Kind, Memo, Param, Spec, optional, param, to_text};

const JSON_AND_PATH: &[Param] = &[param("json", Kind::Text), param("path", Kind::Text)];
const JSON_VALUE: &[Param] = &[
    param("json", Kind::Text),
    param("path", Kind::Text),
    optional("value on empty", Kind::Text),
    optional("value on error", Kind::Text),
];
const VALUE: &[Param] = &[param("value", Kind::Json)];

pub(super) static FUNCTIONS: [Spec; 5] = [
    Spec::new("json_value", JSON_VALUE, DataType::Utf8View, json_value).check(check_path),
    Spec::new("json_query", JSON_AND_PATH, DataType::Utf8View, |c| {
        search(c, json_query)
    })
    .check(check_path),
    Spec::new("get_json_object", JSON_AND_PATH, DataType::Utf8View, |c| {
        search(c, get_json_object)
    })
    .check(check_path),
    Spec::new("json_exists", JSON_AND_PATH, DataType::Boolean, json_exists).check(check_path),
    Spec::new("json_string", VALUE, DataType::Utf8View, json_string),
];

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
    /// `[*]` or `.*`: every element or value.
    All,
}

#[derive(Debug, Clone, PartialEq)]
struct Path {
    steps: Vec<Step>,
    /// Has a `*`, so it may find several values.
    many: bool,
    /// What it does not find is nothing, and no error.
    lax: bool,
}

impl Path {
    /// `$`, `.name`, `['name']`, `["name"]`, `[0]`, `[*]`, `.*`; `lax` or `strict` may go before,
    /// `strict` is the default (Flink).
    /// The error is a sentence to be put after the function's name.
    fn compile(text: &str) -> Result<Path, String> {
        let wrong = |what: &str| format!("the JSON path '{text}' {what}");
        let trimmed = text.trim();
        let path = ["lax", "strict"]
            .iter()
            .find_map(|mode| trimmed.strip_prefix(mode)?.strip_prefix(' '))
            .unwrap_or(trimmed)
            .trim_start();
        let mut rest = path
            .strip_prefix('$')
            .ok_or_else(|| wrong("does not start with '$'"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, tail) = if let Some(tail) = rest.strip_prefix('.') {
                let end = tail.find(['.', '[']).unwrap_or(tail.len());
                match &tail[..end] {
                    "" => return Err(wrong("has a '.' without a name after it")),
                    "*" => (Step::All, &tail[end..]),
                    name => (Step::Key(name.to_string()), &tail[end..]),
                }
            } else if let Some(tail) = rest.strip_prefix('[') {
                bracket(tail).ok_or_else(|| {
                    wrong(
                        "has a '[' that is not followed by a number, '*' or a quoted name, and ']'",
                    )
                })?
            } else {
                return Err(wrong(&format!("has an unexpected '{rest}'")));
            };
            steps.push(step);
            rest = tail;
        }
        let many = steps.contains(&Step::All);
        let lax = trimmed.starts_with("lax");
        Ok(Path { steps, many, lax })
    }

    /// The values that the path finds in `json`; `None` when that is no JSON document.
    fn find<'a>(&self, json: &'a str) -> Option<Vec<&'a str>> {
        serde_json::from_str::<IgnoredAny>(json).ok()?;
        let mut found = Vec::new();
        let start = skip_blanks(json.as_bytes(), 0);
        walk(json, start, &self.steps, &mut found);
        Some(found)
    }
}

fn check_path(literals: &[Option<&str>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(path)) => Path::compile(path).map(|_| ()),
        _ => Ok(()),
    }
}

/// What stands between `[` and `]`, and the text after it.
fn bracket(tail: &str) -> Option<(Step, &str)> {
    let tail = tail.trim_start();
    if let Some(quote) = tail.chars().next().filter(|c| ['\'', '"'].contains(c)) {
        let mut name = String::new();
        let mut chars = tail[1..].char_indices();
        loop {
            match chars.next()? {
                (_, '\\') => name.push(chars.next()?.1),
                (at, c) if c == quote => {
                    let rest = tail[1 + at + 1..].trim_start().strip_prefix(']')?;
                    return Some((Step::Key(name), rest));
                }
                (_, c) => name.push(c),
            }
        }
    }
    let (inner, rest) = tail.split_once(']')?;
    match inner.trim() {
        "*" => Some((Step::All, rest)),
        number => Some((Step::Index(number.parse().ok()?), rest)),
    }
}

// The walker below only sees documents that serde_json has accepted. It still indexes with
// `get`, so that a mistake here would find nothing instead of stopping a query.

fn skip_blanks(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The end of the string whose quote is at `at`.
fn string_end(json: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = json.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    json.len()
}

/// The end of the value that starts at `at`.
fn value_end(json: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (0usize, at);
    while let Some(byte) = json.get(end) {
        match byte {
            b'"' => end = string_end(json, end),
            b'{' | b'[' => {
                depth += 1;
                end += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                end += 1;
            }
            b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return end,
            _ => {
                end += 1;
                continue;
            }
        }
        if depth == 0 {
            return end;
        }
    }
    json.len()
}

/// Adds the values that `steps` lead to from the value at `at`, in the document's order.
fn walk<'a>(json: &'a str, at: usize, steps: &[Step], found: &mut Vec<&'a str>) {
    let bytes = json.as_bytes();
    let Some((step, rest)) = steps.split_first() else {
        found.extend(json.get(at..value_end(bytes, at)));
        return;
    };
    match (bytes.get(at), step) {
        (Some(b'{'), Step::Key(name)) => {
            // The last of equal keys counts, as for the decoder.
            let mut last = None;
            for_each_entry(json, at, |key, value| {
                if same_key(key, name) {
                    last = Some(value);
                }
            });
            if let Some(value) = last {
                walk(json, value, rest, found);
            }
        }
        (Some(b'{'), Step::All) => {
            for_each_entry(json, at, |_, value| walk(json, value, rest, found));
        }
        (Some(b'['), Step::Index(wanted)) => {
            let mut i = 0;
            for_each_element(bytes, at, |element| {
                if i == *wanted {
                    walk(json, element, rest, found);
                }
                i += 1;
            });
        }
        (Some(b'['), Step::All) => {
            for_each_element(bytes, at, |element| walk(json, element, rest, found));
        }
        _ => {}
    }
}

/// Calls `f` with the key (its text with quotes) and the start of the value of each entry of the
/// object at `at`.
fn for_each_entry<'a>(json: &'a str, at: usize, mut f: impl FnMut(&'a str, usize)) {
    let bytes = json.as_bytes();
    let mut at = skip_blanks(bytes, at + 1);
    while bytes.get(at) == Some(&b'"') {
        let key_end = string_end(bytes, at);
        let key = json.get(at..key_end).unwrap_or_default();
        let colon = skip_blanks(bytes, key_end);
        let value = skip_blanks(bytes, colon + 1);
        f(key, value);
        let comma = skip_blanks(bytes, value_end(bytes, value));
        at = skip_blanks(bytes, comma + 1);
    }
}

/// Calls `f` with the start of each element of the array at `at`.
fn for_each_element(json: &[u8], at: usize, mut f: impl FnMut(usize)) {
    let mut at = skip_blanks(json, at + 1);
    while at < json.len() && json[at] != b']' {
        f(at);
        let comma = skip_blanks(json, value_end(json, at));
        if json.get(comma) != Some(&b',') {
            return;
        }
        at = skip_blanks(json, comma + 1);
    }
}

fn same_key(key: &str, name: &str) -> bool {
    match key.contains('\\') {
        true => unquote(key) == name,
        false => key.strip_prefix('"').and_then(|k| k.strip_suffix('"')) == Some(name),
    }
}

/// The content of a JSON string.
fn unquote(string: &str) -> Cow<'_, str> {
    match string.contains('\\') {
        true => Cow::Owned(serde_json::from_str::<String>(string).unwrap_or_default()),
        false => Cow::Borrowed(string.trim_matches('"')),
    }
}

/// The value's text without blanks between tokens.
fn compact(value: &str) -> Cow<'_, str> {
    if !value.bytes().any(|b| b.is_ascii_whitespace()) {
        return Cow::Borrowed(value);
    }
    let bytes = value.as_bytes();
    let (mut out, mut at) = (String::with_capacity(value.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let end = if *byte == b'"' {
            string_end(bytes, at)
        } else {
            at + 1
        };
        // Outside of strings all bytes are ASCII.
        if !byte.is_ascii_whitespace() {
            out.push_str(value.get(at..end).unwrap_or_default());
        }
        at = end;
    }
    Cow::Owned(out)
}

fn is_container(value: &str) -> bool {
    value.starts_with(['{', '['])
}

/// A scalar as text. For all else, what is no JSON included, it is the third argument (`DEFAULT … ON
/// EMPTY`) if the path is `lax`, and the fourth (`DEFAULT … ON ERROR`) if not, as in Flink 2.2; both are
/// NULL unless given.
fn json_value(call: &Call) -> Result<ArrayRef> {
    let (on_empty, on_error) = (call.optional_text(2)?, call.optional_text(3)?);
    documents::<StringViewArray, String>(call, |row, path, json| {
        let found = path.find(json).and_then(|found| found.first().copied());
        if let Some(value) = found.filter(|_| !path.many)
            && value != "null"
            && !is_container(value)
        {
            return Some(scalar_text(value));
        }
        let otherwise = if path.lax { &on_empty } else { &on_error };
        let otherwise = otherwise.as_ref().and_then(|text| text.get(row));
        otherwise.map(str::to_string)
    })
}

fn scalar_text(value: &str) -> String {
    match value.starts_with('"') {
        true => unquote(value).into_owned(),
        false => value.to_string(),
    }
}

/// An object or an array as JSON text; a path with `*` gives the array of what it finds.
fn json_query(path: &Path, json: &str) -> Option<String> {
    let found = path.find(json)?;
    if path.many {
        return Some(array_of(&found));
    }
    let value = found.first().filter(|v| is_container(v))?;
    Some(compact(value).into_owned())
}

fn array_of(values: &[&str]) -> String {
    let values: Vec<_> = values.iter().map(|v| compact(v)).collect();
    format!("[{}]", values.join(","))
}

/// Anything: strings without their quotes, the rest as JSON text; several values as an array.
fn get_json_object(path: &Path, json: &str) -> Option<String> {
    let found = path.find(json)?;
    match found.as_slice() {
        [] | ["null"] => None,
        [value] if is_container(value) => Some(compact(value).into_owned()),
        [value] => Some(scalar_text(value)),
        values => Some(array_of(values)),
    }
}

/// What `get` gives for each row, its path and its document; NULL when one of these is.
fn documents<A, T>(
    call: &Call,
    mut get: impl FnMut(usize, &Path, &str) -> Option<T>,
) -> Result<ArrayRef>
where
    A: FromIterator<Option<T>> + Array + 'static,
{
    let (json, path) = (call.text(0)?, call.text(1)?);
    let mut memo = Memo::new();
    call.try_map::<A, T>(|row| {
        let (Some(json), Some(path)) = (json.get(row), path.get(row)) else {
            return Ok(None);
        };
        let path = memo
            .get(path, Path::compile)
            .map_err(|e| call.error(1, format!("is wrong: {e}")))?;
        Ok(get(row, path, json))
    })
}

fn search(call: &Call, get: fn(&Path, &str) -> Option<String>) -> Result<ArrayRef> {
    documents::<StringViewArray, String>(call, |_, path, json| get(path, json))
}

/// Whether the path finds anything (JSON's null counts); false for text that is no JSON, as
/// Flink's FALSE ON ERROR.
fn json_exists(call: &Call) -> Result<ArrayRef> {
    documents::<BooleanArray, bool>(call, |_, path, json| {
        Some(path.find(json).is_some_and(|found| !found.is_empty()))
    })
}

/// The value as JSON text: strings quoted and escaped, and so are NaN and infinities, which JSON has no
/// numbers for.
fn json_string(call: &Call) -> Result<ArrayRef> {
    let value = call.array(0);
    let texts = match value.data_type() {
        DataType::Float32 | DataType::Float64 => to_text(Arc::clone(value)),
        _ => cast(value, &DataType::Utf8View)?,
    };
    let text = call.like(0, texts.as_string_view());
    let is_text = value.data_type() == &DataType::Utf8View;
    call.map::<StringViewArray, String>(|row| {
        let text = text.get(row)?;
        match is_text || ["NaN", "Infinity", "-Infinity"].contains(&text) {
            true => serde_json::to_string(text).ok(),
            false => Some(text.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, json: &str) -> Option<Vec<String>> {
        let found = Path::compile(path).unwrap().find(json)?;
        Some(found.iter().map(|v| v.to_string()).collect())
    }

    #[test]
    fn paths() {
        let json =
            r#" {"a": {"b": [1, {"c": "x,]}\""}, []], "d e": null}, "k\u0041": 2, "a.b": 3} "#;
        for (path, expected) in [
            ("$.a.b[0]", vec!["1"]),
            ("lax $.a.b[1].c", vec![r#""x,]}\"""#]),
            ("strict $.a['d e']", vec!["null"]),
            ("$[\"a\"].b[2]", vec!["[]"]),
            ("$.a.b[ 3 ]", vec![]),
            ("$.a.b[*]", vec!["1", r#"{"c": "x,]}\""}"#, "[]"]),
            ("$.kA", vec!["2"]),
            ("$['a.b']", vec!["3"]),
            ("$.a[0]", vec![]),
            ("$.a.b.c", vec![]),
        ] {
            assert_eq!(find(path, json).unwrap(), expected, "{path}");
        }
        assert_eq!(find("$", " [1 , 2] ").unwrap(), ["[1 , 2]"]);
        assert_eq!(find("$.a", r#"{"a":1,"a":2}"#).unwrap(), ["2"]);
        assert_eq!(find("$[*]", "[ ]").unwrap(), Vec::<String>::new());
        assert_eq!(find("$.*", "{ }").unwrap(), Vec::<String>::new());
        for bad in ["", "{", r#"{"a":1} x"#, r#"{"a":01}"#, "nul"] {
            assert_eq!(find("$.a", bad), None, "{bad}");
        }
    }

    #[test]
    fn wrong_paths() {
        for path in [
            "a", "", "$a", "$.", "$.a..b", "$[", "$[x]", "$['a]", "$[-1]",
        ] {
            assert!(Path::compile(path).unwrap_err().contains(path), "{path}");
        }
    }

    /// Every node of a random document is found at its path, and has the same value.
    fn check_all(root: &str, value: &serde_json::Value, path: &str) {
        let found = find(path, root).unwrap();
        assert_eq!(found.len(), 1, "{path} in {root}");
        let back: serde_json::Value = serde_json::from_str(&compact(&found[0])).unwrap();
        assert_eq!(&back, value, "{path} in {root}");
        if let Some(array) = value.as_array() {
            for (i, element) in array.iter().enumerate() {
                check_all(root, element, &format!("{path}[{i}]"));
            }
        }
        if let Some(object) = value.as_object() {
            for (key, element) in object {
                let key = key.replace('\\', "\\\\").replace('\'', "\\'");
                check_all(root, element, &format!("{path}['{key}']"));
            }
        }
    }

    fn document() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\ a-cé\n]{0,6}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(("[\\]}\"'\\\\ a-cé\n]{0,4}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(value in document(), pretty in proptest::bool::ANY) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            check_all(&text, &value, "$");
        }
    }
}
