//! Options that are given in vain: beside others they would say nothing.

use crate::error::{Error, Result};
use crate::options::Options;

pub(super) fn check(options: &Options) -> Result<()> {
    names_a_topic(options)?;
    modes(options)?;
    formats(options)
}

/// A topic whose name is empty, as that of a variable, would be read to its end at once.
fn names_a_topic(options: &Options) -> Result<()> {
    for key in ["topic", "topic-pattern"] {
        let is_empty = |text: &str| text.split([';', ',']).all(|name| name.trim().is_empty());
        if options.get(key).is_some_and(is_empty) {
            return Err(options
                .invalid(key, "names no topic")
                .with_hint("is the variable in it empty?"));
        }
    }
    Ok(())
}

/// Where reading starts or ends is said by a mode; what belongs to another one has no effect.
fn modes(options: &Options) -> Result<()> {
    for prefix in ["scan.startup", "scan.bounded"] {
        for (name, mode) in [
            ("specific-offsets", "specific-offsets"),
            ("timestamp-millis", "timestamp"),
        ] {
            let key = format!("{prefix}.{name}");
            let asked = format!("{prefix}.mode");
            let is_it = |asked: &str| asked.eq_ignore_ascii_case(mode);
            if options.get(&key).is_some() && !options.get(&asked).is_some_and(is_it) {
                let message = format!("has no effect without '{asked}' = '{mode}'");
                let hint = format!("add '{asked}' = '{mode}', or leave '{key}' away");
                return Err(options.invalid(&key, message).with_hint(hint));
            }
        }
    }
    Ok(())
}

/// The options of a format are for tables that have it.
fn formats(options: &Options) -> Result<()> {
    let keys = ["format", "value.format", "key.format"];
    for format in ["json", "csv", "parquet"] {
        let has = |of: &str| of.eq_ignore_ascii_case(format);
        let is_it = |key: &&str| options.get(key).is_some_and(has);
        let wanted = |prefix: &str| match prefix {
            "key." => is_it(&"key.format"),
            _ => keys.iter().any(is_it),
        };
        for prefix in ["", "key."] {
            let of_format = format!("{prefix}{format}.");
            let given = options.with_prefix(&of_format).next();
            if let Some((name, _)) = given
                && !wanted(prefix)
            {
                let key = format!("{of_format}{name}");
                let error = Error::sql(format!(
                    "option '{key}' is of format '{format}', which the table has not"
                ));
                let error = error.with_hint(format!(
                    "leave it away, or set '{prefix}format' = '{format}'"
                ));
                return Err(match options.at(&key) {
                    Some(at) => error.or_at(at),
                    None => error,
                });
            }
        }
    }
    Ok(())
}
