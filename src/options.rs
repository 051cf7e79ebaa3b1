//! `WITH ('key' = 'value')`: one table of options gives validation, nearest names and the help.

use crate::error::{At, Error, Result, nearest};
use std::time::Duration;

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

/// One row of the table of options.
pub struct OptionDef {
    /// Canonical name. A `*` stands for any text: `properties.*`.
    pub name: &'static str,
    /// Accepted spelling of another system, `*` alike.
    pub alias: Option<&'static str>,
    /// Connectors that know it, space separated.
    pub connectors: &'static str,
    /// The values it takes, for help and errors.
    pub values: &'static str,
    pub doc: &'static str,
}

const fn def(
    name: &'static str,
    alias: Option<&'static str>,
    connectors: &'static str,
    values: &'static str,
    doc: &'static str,
) -> OptionDef {
    OptionDef {
        name,
        alias,
        connectors,
        values,
        doc,
    }
}

const ALL: &str = "kafka filesystem datagen print console blackhole";

/// Every option of every connector.
pub const OPTIONS: &[OptionDef] = &[
    def(
        "connector",
        None,
        ALL,
        "kafka | filesystem | datagen | print | console | blackhole",
        "where the table is",
    ),
    def(
        "topic",
        Some("subscribe"),
        "kafka",
        "names separated by ;",
        "topics to read, or the topic to write",
    ),
    def(
        "topic-pattern",
        Some("subscribePattern"),
        "kafka",
        "regular expression",
        "topics to read",
    ),
    def(
        "properties.*",
        Some("kafka.*"),
        "kafka",
        "text",
        "client properties, by the Java client's or librdkafka's names",
    ),
    def(
        "scan.startup.mode",
        Some("startingOffsets"),
        "kafka",
        "earliest-offset | latest-offset | group-offsets | timestamp | specific-offsets",
        "where reading starts (default group-offsets with a group.id, else latest-offset)",
    ),
    def(
        "scan.startup.timestamp-millis",
        None,
        "kafka",
        "milliseconds",
        "for mode timestamp",
    ),
    def(
        "scan.startup.specific-offsets",
        None,
        "kafka",
        "partition:0,offset:42;partition:1,offset:300",
        "for mode specific-offsets",
    ),
    def(
        "scan.bounded.mode",
        Some("endingOffsets"),
        "kafka",
        "unbounded | latest-offset | group-offsets | timestamp | specific-offsets",
        "where reading ends (default unbounded)",
    ),
    def(
        "scan.bounded.timestamp-millis",
        None,
        "kafka",
        "milliseconds",
        "for mode timestamp",
    ),
    def(
        "scan.bounded.specific-offsets",
        None,
        "kafka",
        "partition:0,offset:42;partition:1,offset:300",
        "for mode specific-offsets",
    ),
    def(
        "scan.topic-partition-discovery.interval",
        None,
        "kafka",
        "duration, 0 for never",
        "how often new partitions are looked for (default 30 s)",
    ),
    def(
        "source.client",
        None,
        "kafka",
        "direct | librdkafka",
        "which client reads (default: direct, or librdkafka where a property asks for what only that can)",
    ),
    def(
        "scan.watermark.idle-timeout",
        None,
        "kafka filesystem datagen",
        "duration",
        "a partition without rows for so long does not hold the watermark back (default: never idle)",
    ),
    def(
        "scan.watermark.max-ahead",
        None,
        "kafka",
        "duration",
        "a row whose event time is more than this after its record's timestamp does not move the watermark (default 1 day)",
    ),
    def(
        "late.table",
        None,
        "kafka filesystem datagen",
        "table",
        "takes the rows that came too late",
    ),
    def(
        "format",
        None,
        "kafka filesystem",
        "json | csv | raw | parquet",
        "encoding of the records",
    ),
    def(
        "value.format",
        None,
        "kafka",
        "json | csv | raw",
        "encoding of the value",
    ),
    def(
        "value.fields-include",
        None,
        "kafka",
        "ALL | EXCEPT_KEY",
        "whether the value holds the key's fields too",
    ),
    def(
        "key.format",
        None,
        "kafka",
        "json | csv | raw",
        "encoding of the key",
    ),
    def(
        "key.fields",
        None,
        "kafka",
        "names separated by ;",
        "columns that are the key",
    ),
    def(
        "key.fields-prefix",
        None,
        "kafka",
        "text",
        "taken off the key columns' names",
    ),
    def(
        "json.ignore-parse-errors",
        None,
        "kafka filesystem",
        "true | false",
        "true: same as 'bad-records' = 'skip'",
    ),
    def(
        "json.fail-on-missing-field",
        None,
        "kafka filesystem",
        "true | false",
        "true: a record without a field is a bad record",
    ),
    def(
        "json.timestamp-format.standard",
        None,
        "kafka filesystem",
        "SQL | ISO-8601",
        "how timestamps are written; both are read",
    ),
    def(
        "json.encode.ignore-null-fields",
        None,
        "kafka filesystem",
        "true | false",
        "true: NULL fields are not written",
    ),
    def(
        "csv.field-delimiter",
        None,
        "kafka filesystem",
        "one character",
        "default ,",
    ),
    def(
        "csv.quote-character",
        None,
        "kafka filesystem",
        "one character",
        "default \"",
    ),
    def(
        "csv.null-literal",
        None,
        "kafka filesystem",
        "text",
        "read and written for NULL",
    ),
    def(
        "csv.ignore-parse-errors",
        None,
        "kafka filesystem",
        "true | false",
        "true: same as 'bad-records' = 'skip'",
    ),
    def(
        "csv.header",
        None,
        "filesystem",
        "true | false",
        "the first line of a file holds the names (default false)",
    ),
    def(
        "bad-records",
        None,
        "kafka filesystem",
        "fail | skip | dead-letter",
        "what happens to a record that is no row (default skip: counted and shown)",
    ),
    def(
        "dead-letter.topic",
        None,
        "kafka filesystem",
        "topic",
        "for 'bad-records' = 'dead-letter'",
    ),
    def(
        "dead-letter.path",
        None,
        "kafka filesystem",
        "folder",
        "for 'bad-records' = 'dead-letter'",
    ),
    def(
        "sink.delivery-guarantee",
        None,
        "kafka filesystem",
        "none | at-least-once | exactly-once",
        "default at-least-once",
    ),
    def(
        "sink.transactional-id-prefix",
        None,
        "kafka",
        "text",
        "for exactly-once",
    ),
    def(
        "sink.partitioner",
        None,
        "kafka",
        "default | fixed | round-robin",
        "which partition a row goes to",
    ),
    def(
        "sink.parallelism",
        None,
        "kafka filesystem",
        "number",
        "accepted for portability; a query has one writer",
    ),
    def(
        "path",
        None,
        "filesystem",
        "file or folder",
        "where the files are",
    ),
    def(
        "sink.rolling-policy.file-size",
        None,
        "filesystem",
        "size (128MB)",
        "a file is finished at this size",
    ),
    def(
        "sink.rolling-policy.rollover-interval",
        None,
        "filesystem",
        "duration (30 min)",
        "a file is finished after this time",
    ),
    def(
        "sink.rolling-policy.check-interval",
        None,
        "filesystem",
        "duration",
        "how often the interval is checked",
    ),
    def(
        "parquet.compression",
        None,
        "filesystem",
        "SNAPPY | ZSTD | LZ4 | GZIP | UNCOMPRESSED",
        "default SNAPPY",
    ),
    def(
        "truncate",
        None,
        "console",
        "true | false | number",
        "cut cells at 20 (or so many) characters; false left-aligns",
    ),
    def(
        "numRows",
        None,
        "console",
        "number",
        "rows shown of each batch (default 20)",
    ),
    def(
        "print-identifier",
        None,
        "print",
        "text",
        "prefix of each line",
    ),
    def(
        "standard-error",
        None,
        "print",
        "true | false",
        "write to standard error",
    ),
    def(
        "rows-per-second",
        None,
        "datagen",
        "number",
        "default 10000",
    ),
    def(
        "number-of-rows",
        None,
        "datagen",
        "number",
        "default unbounded",
    ),
    def(
        "seed",
        None,
        "datagen",
        "number",
        "same seed, same rows (default 0)",
    ),
    def(
        "fields.*",
        None,
        "datagen",
        "text",
        "fields.<name>.kind | min | max | length | start | end | max-past | null-rate",
    ),
];

impl Options {
    /// Adds `key = value` after checking that `connector` knows it. Aliases become canonical
    /// names, and Spark's values (`earliest`) Flink's.
    pub fn insert(&mut self, connector: &str, key: &str, value: &str, at: At) -> Result<()> {
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
                "unknown option '{key}' for connector '{connector}'"
            ))
            .or_at(at);
            let known = OPTIONS
                .iter()
                .filter(|d| d.connectors.split(' ').any(|c| c == connector));
            let names = known.flat_map(|d| std::iter::once(d.name).chain(d.alias));
            return Err(match nearest(key, names) {
                Some(hint) => error.with_hint(hint),
                None => error.with_hint("`windrow explain --options` lists every option"),
            });
        };
        let name = def.name.replace('*', rest);
        let value = match (name.as_str(), value) {
            ("scan.startup.mode", "earliest") => "earliest-offset",
            ("scan.startup.mode" | "scan.bounded.mode", "latest") => "latest-offset",
            (_, v) => v,
        };
        let closed = def.values.contains(" | ")
            && !def.values.contains("number")
            && name != "connector"
            && !name.starts_with("fields.");
        if closed
            && !def
                .values
                .split(" | ")
                .any(|v| v.eq_ignore_ascii_case(value))
        {
            return Err(
                Error::sql(format!("'{value}' is no value of option '{key}'"))
                    .or_at(at)
                    .with_hint(format!("it takes {}", def.values)),
            );
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

/// `Some(text that stands for the star)` when `key` is of the form `pattern`.
fn match_name<'a>(pattern: &str, key: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix('*') {
        Some(prefix) => key.strip_prefix(prefix).filter(|rest| !rest.is_empty()),
        None => (pattern == key).then_some(""),
    }
}

fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

/// See [`Options::duration`]. `None` when the text is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1e-6,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// See [`Options::size`]. `None` when the text is none.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let bytes = match unit.as_str() {
        "" | "b" | "bytes" => 1u64,
        "k" | "kb" | "kib" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mib" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gib" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    Some((number * bytes as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = At { line: 1, column: 1 };

    #[test]
    fn unknown_option_names_the_nearest() {
        let error = Options::default()
            .insert("kafka", "scan.statup.mode", "x", AT)
            .unwrap_err();
        assert_eq!(error.hint(), Some("did you mean 'scan.startup.mode'?"));
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn spark_names_become_flink_names() {
        let mut options = Options::default();
        options.insert("kafka", "subscribe", "clicks", AT).unwrap();
        options
            .insert("kafka", "kafka.bootstrap.servers", "h:1", AT)
            .unwrap();
        options
            .insert("kafka", "startingOffsets", "earliest", AT)
            .unwrap();
        assert_eq!(options.get("topic"), Some("clicks"));
        assert_eq!(options.get("properties.bootstrap.servers"), Some("h:1"));
        assert_eq!(options.get("scan.startup.mode"), Some("earliest-offset"));
        assert!(options.insert("kafka", "topic", "again", AT).is_err());
    }

    #[test]
    fn values_are_checked() {
        let error = Options::default()
            .insert("kafka", "scan.startup.mode", "sooner", AT)
            .unwrap_err();
        assert!(error.hint().unwrap().contains("earliest-offset"));
        assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5min"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("ten"), None);
        assert_eq!(parse_size("128MB"), Some(128 << 20));
    }
}
