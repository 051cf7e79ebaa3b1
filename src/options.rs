//! `WITH ('key' = 'value')`: one table of options gives validation, nearest names and the help.

mod table;
mod units;

use crate::error::{At, Error, Result, nearest};
use std::time::Duration;
pub use units::parse_size;

use table::MORE_THAN_0;
pub use table::{OPTIONS, OptionDef, PROPERTIES};
pub use units::parse_duration;

/// The options of one table, in the order of the file, under their canonical (Flink) names.
#[derive(Debug, Clone, Default)]
pub struct Options {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    value: String,
    at: At,
}

fn is_of_format(key: &str) -> bool {
    key.starts_with("json.") || key.starts_with("csv.")
}

impl Options {
    /// Adds `key = value` after checking that `connector` knows it. Aliases become canonical
    /// names, and Spark's values (`earliest`) Flink's. The formats' options may be given as
    /// `value.json.…`, which is the same, and as `key.json.…`, see [`Options::of_key`].
    pub fn insert(&mut self, connector: &str, key: &str, value: &str, at: At) -> Result<()> {
        let given = key;
        let (part, key) = match key.split_once('.') {
            Some((part @ ("key" | "value"), of_format))
                if connector == "kafka" && is_of_format(of_format) =>
            {
                (part, of_format)
            }
            _ => ("value", key),
        };
        let found = OPTIONS.iter().find_map(|def| {
            if !def.connectors.split(' ').any(|c| c == connector) {
                return None;
            }
            match_name(def.name, key)
                .map(|rest| (def, rest))
                .or_else(|| {
                    def.alias
                        .and_then(|a| match_name(a, key))
                        .map(|rest| (def, rest))
                })
        });
        let Some((def, rest)) = found else {
            let error = Error::sql(format!(
                "unknown option '{given}' for connector '{connector}'"
            ))
            .or_at(at);
            let known = OPTIONS
                .iter()
                .filter(|d| d.connectors.split(' ').any(|c| c == connector));
            let names = known.flat_map(|d| std::iter::once(d.name).chain(d.alias));
            let hint = nearest(key, names).or_else(|| nearest_property(connector, key));
            return Err(error.with_hint(
                hint.unwrap_or_else(|| "`windrow explain --options` lists every option".into()),
            ));
        };
        let mut name = def.name.replace('*', rest);
        let value = match (name.as_str(), value) {
            ("scan.startup.mode", "earliest") => "earliest-offset",
            ("scan.startup.mode" | "scan.bounded.mode", "latest") => "latest-offset",
            (_, v) => v,
        };
        // Spark's offsets of each partition, in JSON.
        let is_offsets = value.trim_start().starts_with('{')
            && matches!(name.as_str(), "scan.startup.mode" | "scan.bounded.mode");
        let closed = def.values.contains(" | ")
            && !is_offsets
            && !def.values.contains("number")
            && name != "connector"
            && !name.starts_with("fields.");
        let mut values = def.values.split(" | ");
        let known = values.find(|known| known.eq_ignore_ascii_case(value));
        // Whoever asks for the value finds it in one spelling.
        let value = known.filter(|_| closed).unwrap_or(value);
        if closed && known.is_none() {
            return Err(
                Error::sql(format!("'{value}' is no value of option '{given}'"))
                    .or_at(at)
                    .with_hint(format!("it takes {}", def.values)),
            );
        }
        let fits = match def.values.split([' ', ',']).next() {
            Some("number" | "milliseconds") => {
                let number = value.trim().parse::<i64>();
                number.is_ok_and(|n| n > 0 || !def.values.contains(MORE_THAN_0))
            }
            Some("duration") => parse_duration(value).is_some(),
            Some("size") => {
                parse_size(value).is_some_and(|n| n > 0 || !def.values.contains(MORE_THAN_0))
            }
            _ => true,
        };
        if !fits {
            let error = Error::sql(format!("'{value}' is no value of option '{given}'")).or_at(at);
            let article = match def.values.starts_with("milliseconds") {
                true => "",
                false => "a ",
            };
            return Err(error.with_hint(format!("it takes {article}{}", def.values)));
        }
        if part == "key" {
            name.insert_str(0, "key.");
        }
        if self.get(&name).is_some() {
            return Err(Error::sql(format!("option '{name}' is given twice")).or_at(at));
        }
        self.entries.push(Entry {
            key: name,
            value: value.to_string(),
            at,
        });
        Ok(())
    }

    /// Whether records that do not fit their format are to be left out; `None`: nothing is said of it.
    pub fn ignore_parse_errors(&self) -> Result<Option<bool>> {
        let json = self.bool("json.ignore-parse-errors")?;
        Ok(json.or(self.bool("csv.ignore-parse-errors")?))
    }

    /// As the key's format has them: `key.json.…` and `key.csv.…` count for `json.…` and `csv.…`.
    pub fn of_key(&self) -> Options {
        let mut options = self.clone();
        for entry in &self.entries {
            if let Some(key) = entry
                .key
                .strip_prefix("key.")
                .filter(|key| is_of_format(key))
            {
                options.entries.retain(|e| e.key != key);
                let key = key.to_string();
                options.entries.push(Entry {
                    key,
                    ..entry.clone()
                });
            }
        }
        options
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|e| e.key == key)
            .map(|e| e.value.as_str())
    }

    /// The option's position, for errors about its value.
    pub fn at(&self, key: &str) -> Option<At> {
        self.entries.iter().find(|e| e.key == key).map(|e| e.at)
    }

    /// Options that start with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.entries
            .iter()
            .filter_map(move |e| e.key.strip_prefix(prefix).map(|k| (k, e.value.as_str())))
    }

    /// An error about the value of `key`, at its position.
    pub fn invalid(&self, key: &str, message: impl std::fmt::Display) -> Error {
        let value = self.get(key).unwrap_or("");
        let error = Error::sql(format!("option '{key}' = '{value}': {message}"));
        match self.at(key) {
            Some(at) => error.or_at(at),
            None => error,
        }
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.invalid(key, "expected true or false")),
        }
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.get(key)
            .map(|v| {
                v.trim()
                    .parse()
                    .map_err(|_| self.invalid(key, "expected a whole number"))
            })
            .transpose()
    }

    /// `10 s`, `500ms`, `1 min`, `2 h`, `1 d`; a bare number is milliseconds.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.get(key)
            .map(|v| {
                parse_duration(v)
                    .ok_or_else(|| self.invalid(key, "expected a duration like '10 s' or '5 min'"))
            })
            .transpose()
    }

    /// `128MB`, `64 kb`, `1g`; a bare number is bytes.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.get(key)
            .map(|v| parse_size(v).ok_or_else(|| self.invalid(key, "expected a size like '128MB'")))
            .transpose()
    }
}

/// The property of a client that was meant by a name without its prefix, or with a misspelt one.
fn nearest_property(connector: &str, key: &str) -> Option<String> {
    if connector != "kafka" {
        return None;
    }
    let (prefix, rest) = key.split_once('.').unwrap_or_default();
    if let Some(meant) = ["properties", "kafka"]
        .into_iter()
        .find(|meant| nearest(prefix, [*meant]).is_some())
    {
        return Some(format!("did you mean '{meant}.{rest}'?"));
    }
    let names = PROPERTIES.iter().map(|name| format!("properties.{name}"));
    let names: Vec<String> = names.collect();
    nearest(
        &format!("properties.{key}"),
        names.iter().map(String::as_str),
    )
}

/// `Some(text that stands for the star)` when `key` is of the form `pattern`.
fn match_name<'a>(pattern: &str, key: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix('*') {
        Some(prefix) => key.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
        None => (pattern == key).then_some(""),
    }
}

#[cfg(test)]
mod tests;
