//! From a table's options to its decoders.

use super::Decode;
use super::csv::{CsvDecoder, CsvOptions};
use super::json::{JsonDecoder, JsonOptions};
use super::raw::RawDecoder;
use crate::error::{Error, Result, nearest};
use crate::options::Options;
use crate::table::{Column, ColumnKind, TableDef};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// The decoder of the values of `def`'s records. It delivers those of the `wanted` columns that
/// stand in the value, in the order of `wanted`: all but those in the names of folders and, with
/// `'value.fields-include' = 'EXCEPT_KEY'`, the columns of `key.fields`, which [`key_decoder`]
/// delivers.
pub fn decoder(def: &TableDef, wanted: &[String]) -> Result<Box<dyn Decode>> {
    let key_columns = key_columns(def)?;
    let elsewhere = |column: &&Column| {
        def.is_folder(&column.name) || key_columns.iter().any(|key| key.name == column.name)
    };
    let (others, declared): (Vec<&Column>, Vec<&Column>) = physical(def).partition(elsewhere);
    let option = match (def.options.get("value.format"), def.options.get("format")) {
        (Some(_), Some(_)) => {
            let error = at_option(def, "format", "both 'format' and 'value.format' are given");
            return Err(error.with_hint("they mean the same: keep one"));
        }
        (Some(_), None) => "value.format",
        _ => "format",
    };
    let wanted = wanted_of(def, &declared, &others, wanted)?;
    build(def, &def.options, option, &declared, &wanted, "")
}

/// The decoder of the keys of `def`'s records: it delivers those of the `wanted` columns that
/// stand in the key only, in the order of `wanted`. `None` when there are none, and without
/// `'value.fields-include' = 'EXCEPT_KEY'`, because then the value has all columns and counts.
pub fn key_decoder(def: &TableDef, wanted: &[String]) -> Result<Option<Box<dyn Decode>>> {
    let declared = key_columns(def)?;
    let others: Vec<&Column> = physical(def).collect();
    let wanted = wanted_of(def, &declared, &others, wanted)?;
    if wanted.is_empty() {
        return Ok(None);
    }
    let prefix = def.options.get("key.fields-prefix").unwrap_or("");
    let options = def.options.of_key();
    build(def, &options, "key.format", &declared, &wanted, prefix).map(Some)
}

fn physical(def: &TableDef) -> impl Iterator<Item = &Column> {
    def.columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Physical)
}

/// The columns that stand in the key and not in the value, in the order of `key.fields`.
pub fn key_columns(def: &TableDef) -> Result<Vec<&Column>> {
    let options = &def.options;
    let fields = options.get("key.fields").unwrap_or("");
    let prefix = options.get("key.fields-prefix").unwrap_or("");
    let include = options.get("value.fields-include").unwrap_or("ALL");
    let mut columns = Vec::new();
    for name in fields
        .split(';')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let Some(column) = physical(def).find(|column| column.name == name) else {
            let message = format!("table '{}' has no physical column '{name}'", def.name);
            let error = options.invalid("key.fields", message);
            return Err(
                match nearest(name, physical(def).map(|c| c.name.as_str())) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                },
            );
        };
        if !name.starts_with(prefix) {
            let message = format!("key column '{name}' does not begin with it");
            return Err(options.invalid("key.fields-prefix", message));
        }
        columns.push(column);
    }
    match (
        include.eq_ignore_ascii_case("EXCEPT_KEY"),
        prefix.is_empty(),
    ) {
        (true, _) => Ok(columns),
        (false, true) => Ok(Vec::new()),
        (false, false) => {
            let message = "the value would need columns without the prefix";
            let error = options.invalid("key.fields-prefix", message);
            Err(error.with_hint("add 'value.fields-include' = 'EXCEPT_KEY'"))
        }
    }
}

/// Those of `wanted` that are among `declared`. The rest must be among `others`.
fn wanted_of<'a>(
    def: &TableDef,
    declared: &[&'a Column],
    others: &[&Column],
    wanted: &[String],
) -> Result<Vec<&'a Column>> {
    let mut columns = Vec::new();
    for name in wanted {
        match declared.iter().find(|column| column.name == *name) {
            Some(column) => columns.push(*column),
            None if others.iter().any(|column| column.name == *name) => {}
            None => {
                let message = format!("table '{}' has no physical column '{name}'", def.name);
                return Err(Error::sql(message).or_at(def.at));
            }
        }
    }
    Ok(columns)
}

/// The decoder that the option `option` names, for `wanted` of the columns that the records
/// have. Their fields lack `prefix`.
fn build(
    def: &TableDef,
    options: &Options,
    option: &str,
    declared: &[&Column],
    wanted: &[&Column],
    prefix: &str,
) -> Result<Box<dyn Decode>> {
    let schema = Schema::new(
        wanted
            .iter()
            .map(|column| column.field())
            .collect::<Vec<_>>(),
    );
    let schema: SchemaRef = Arc::new(schema);
    let Some(format) = options.get(option) else {
        let message = format!("table '{}' needs the option '{option}'", def.name);
        return Err(Error::sql(message)
            .or_at(def.at)
            .with_hint("it takes json | csv | raw"));
    };
    // A constructor blames a column that it cannot read; it knows no positions.
    let at = wanted
        .iter()
        .find(|c| !is_readable(format, c))
        .map_or(def.at, |c| c.at);
    match format.to_ascii_lowercase().as_str() {
        "json" => {
            let key = |column: &&Column| match column.name.strip_prefix(prefix) {
                Some(key) => key.to_string(),
                None => column.name.clone(),
            };
            let keys: Vec<String> = wanted.iter().map(key).collect();
            let decoder = JsonDecoder::with_keys(schema, &keys, json_options(options)?);
            Ok(Box::new(decoder.map_err(|e| e.or_at(at))?))
        }
        "csv" => {
            let declared: Vec<String> = declared.iter().map(|c| c.name.clone()).collect();
            let decoder = CsvDecoder::new(&declared, schema, csv_options(options)?);
            Ok(Box::new(decoder.map_err(|e| e.or_at(at))?))
        }
        "raw" => {
            if let [_, second, ..] = declared {
                let message = format!("format 'raw' is one column, not {}", declared.len());
                let error = Error::sql(message).or_at(second.at);
                return Err(error.with_hint("declare one column of STRING or BYTES"));
            }
            Ok(Box::new(RawDecoder::new(schema).map_err(|e| e.or_at(at))?))
        }
        _ => {
            let error = options.invalid(option, "records cannot be decoded from it");
            Err(error.with_hint("it takes json | csv | raw"))
        }
    }
}

/// Whether a decoder of `format` for this column alone can be made.
fn is_readable(format: &str, column: &Column) -> bool {
    let schema: SchemaRef = Arc::new(Schema::new(vec![column.field()]));
    let names = std::slice::from_ref(&column.name);
    match format.to_ascii_lowercase().as_str() {
        "json" => JsonDecoder::new(schema, JsonOptions::default()).is_ok(),
        "csv" => CsvDecoder::new(names, schema, CsvOptions::default()).is_ok(),
        _ => RawDecoder::new(schema).is_ok(),
    }
}

fn at_option(def: &TableDef, option: &str, message: &str) -> Error {
    let at = def.options.at(option).unwrap_or(def.at);
    Error::sql(message).or_at(at)
}

fn json_options(options: &Options) -> Result<JsonOptions> {
    let fail_on_missing_field = options.bool("json.fail-on-missing-field")?.unwrap_or(false);
    Ok(JsonOptions {
        fail_on_missing_field,
    })
}

fn csv_options(options: &Options) -> Result<CsvOptions> {
    let defaults = CsvOptions::default();
    let csv = CsvOptions {
        delimiter: character(options, "csv.field-delimiter")?.unwrap_or(defaults.delimiter),
        quote: character(options, "csv.quote-character")?.unwrap_or(defaults.quote),
        null_literal: options.get("csv.null-literal").map(str::to_string),
        // As Flink has it: whoever ignores errors gets NULL for the columns that are not there.
        fail_on_missing_field: !options.bool("csv.ignore-parse-errors")?.unwrap_or(false),
    };
    if csv.delimiter == csv.quote {
        let option = match options.get("csv.field-delimiter") {
            Some(_) => "csv.field-delimiter",
            None => "csv.quote-character",
        };
        return Err(options.invalid(option, "delimiter and quote are the same character"));
    }
    Ok(csv)
}

/// One ASCII character; a tab may be written `\t`.
fn character(options: &Options, option: &str) -> Result<Option<u8>> {
    match options.get(option).map(str::as_bytes) {
        None => Ok(None),
        Some(b"\\t") => Ok(Some(b'\t')),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(Some(*byte)),
        Some(_) => Err(options.invalid(option, "expected one ASCII character (\\t for a tab)")),
    }
}

#[cfg(test)]
mod tests;
