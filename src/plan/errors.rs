//! DataFusion's errors as windrow's: who must act, and where in the file.

mod names;
mod parsing;
mod types;

use super::markers::BadWindow;
use super::tokens::Tokens;
use crate::error::{At, Error, nearest};
use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::tokenizer::Token;
pub use parsing::parsing;
pub use types::in_sql;

/// A failure inside a running plan. Resources and user data surface here as well, so the
/// message alone is kept: it names the expression.
pub fn internal(error: DataFusionError) -> Error {
    Error::Data(in_sql(&first_line(&error.strip_backtrace())))
}

/// What a user wrote and one of our own functions refuses; the place is not known.
pub fn refused(error: DataFusionError) -> Error {
    let text = error.strip_backtrace();
    let refused = Error::sql(first_line(&text));
    match hint_of(&text) {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

/// A failure to plan one statement: finds the position by the error's own span, else by the
/// name that it complains about.
pub fn planning(error: DataFusionError, tokens: &Tokens) -> Error {
    let span = error.diagnostic().and_then(|d| d.span).map(|s| At {
        line: s.start.line,
        column: s.start.column,
    });
    let root = error.find_root();
    let (message, hint, name) = match root {
        DataFusionError::SchemaError(schema_error, _) => schema_message(schema_error),
        DataFusionError::External(bad) if let Some(bad) = bad.downcast_ref::<BadWindow>() => {
            let text = bad.to_string();
            let marker = Some(bad.marker.clone());
            (in_sql(&first_line(&text)), hint_of(&text), marker)
        }
        other => {
            let whole = other.strip_backtrace();
            let text = first_line(&whole);
            if span.is_none()
                && names::not_grouped(&text).is_some()
                && let Some(at) = all_columns(tokens)
            {
                return Error::sql(
                    "SELECT * shows all columns, but of a GROUP BY only its own are known",
                )
                .or_at(at)
                .with_hint("name the columns of the GROUP BY, and aggregates of others");
            }
            let name = quoted_name(&text);
            let (text, hint) = clearer(text, &whole);
            (in_sql(&text), hint.or_else(|| hint_of(&whole)), name)
        }
    };
    let at = span
        .filter(|at| at.line > 0)
        .map(|at| tokens.original(at))
        .or_else(|| name.as_deref().and_then(|n| tokens.find_word(n)))
        .or_else(|| tokens.find_word(&quoted_name(&message)?))
        .unwrap_or_else(|| tokens.start());
    Error::Sql {
        message,
        hint,
        at: Some(at),
    }
}

/// The place of the star of `SELECT *`.
fn all_columns(tokens: &Tokens) -> Option<At> {
    let select = (0..tokens.len()).find(|i| tokens.is_word(*i, "SELECT"))?;
    tokens
        .is(select + 1, &Token::Mul)
        .then(|| tokens.at(select + 1))
}

fn schema_message(error: &SchemaError) -> names::Said {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => names::unknown_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => (
            format!("column '{}' is in more than one table", field.name),
            Some("write table.column".into()),
            Some(field.name.clone()),
        ),
        other => (other.to_string(), None, None),
    }
}

/// Some messages in other words, with a hint.
fn clearer(text: String, whole: &str) -> (String, Option<String>) {
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.trim_end_matches(['\'', '.']);
        let near = whole.split_once("Did you mean '");
        let near = near.and_then(|(_, rest)| rest.split('\'').next());
        let hint = nearest(name, near);
        return (format!("there is no function '{name}'"), hint);
    }
    let clear = [
        names::unknown_type,
        names::unknown_field,
        names::not_grouped,
        no_length,
    ];
    if let Some(clear) = clear.into_iter().find_map(|clear| clear(&text)) {
        return clear;
    }
    if text.starts_with("Projections require unique expression names") {
        let hint = "give one of them another name, with AS";
        return (text, Some(hint.into()));
    }
    if text.starts_with("table '") && text.ends_with("' not found") {
        let hint = whole.lines().nth(1).map(str::to_string);
        return (text, hint);
    }
    if let Some((_, signatures)) = text.split_once("failed to match any signature")
        && let Some(name) = quoted_name(&text)
        && let Some(clear) = no_signature(&name.to_uppercase(), signatures)
    {
        return clear;
    }
    if let Some((name, rest)) = text
        .strip_prefix("Function '")
        .and_then(|t| t.split_once("' requires "))
        && let Some((wanted, rest)) = rest.split_once(", but received ")
    {
        let given = rest.split(" (DataType").next().unwrap_or(rest);
        let message = format!("{} takes {wanted}, not {given}", name.to_uppercase());
        return (
            message,
            Some("convert what it is given, with CAST(… AS …)".into()),
        );
    }
    if text.starts_with("Substring without for/from") {
        return (
            "SUBSTRING takes a text, a start and an optional length".into(),
            None,
        );
    }
    no_function(&text).unwrap_or((text, None))
}

/// What is said of each signature of a function, in one sentence: of a type, else of the number of arguments.
fn no_signature(name: &str, signatures: &str) -> Option<(String, Option<String>)> {
    let word = |text| str::split(text, [' ', '.', ',']).next().unwrap_or_default();
    let said: Vec<&str> = signatures.split("received ").collect();
    for said in said.windows(2) {
        let received = match said[1].split_once(" (DataType") {
            Some((data_type, _)) => data_type,
            None => word(said[1]),
        };
        if received.parse::<usize>().is_ok() {
            continue;
        }
        let wanted = match said[0]
            .trim_end_matches(", but ")
            .ends_with("requires String")
        {
            true => "STRING",
            false => "DOUBLE",
        };
        let hint = format!("convert it, like {name}(CAST(x AS {wanted}))");
        return Some((format!("{name} does not take {received}"), Some(hint)));
    }
    let mut counts: Vec<&str> = signatures.split("expects ").skip(1).map(word).collect();
    if counts.is_empty() {
        return None;
    }
    counts.sort();
    counts.dedup();
    let received = word(said.last()?);
    let counts = counts.join(" or ");
    Some((
        match counts == "1" {
            true => format!("{name} takes 1 argument, not {received}"),
            false => format!("{name} takes {counts} arguments, not {received}"),
        },
        None,
    ))
}

/// The message about an interval that is none.
fn no_length(text: &str) -> Option<(String, Option<String>)> {
    let (_, text) = text.split_once("Invalid input syntax for type interval: \"")?;
    let text = text.trim_end_matches(['"', '.']);
    // The unit behind the user's text has been put to it.
    let given = match text.rsplit_once(' ') {
        Some((given, unit)) if unit.chars().all(|c| c.is_ascii_uppercase()) => given,
        _ => text,
    };
    let hint = "write for example INTERVAL '10' SECOND";
    Some((format!("'{given}' is no length of time"), Some(hint.into())))
}

/// The message about a function that does not take its arguments.
fn no_function(text: &str) -> Option<(String, Option<String>)> {
    const WHICH: &str = "No function matches the given name and argument types '";
    let (why, call) = text.split_once(WHICH)?;
    let (name, types) = call.split_once('\'')?.0.split_once('(')?;
    let (name, types) = (name.to_uppercase(), types.strip_suffix(')')?);
    let why = why.trim_end_matches([' ', '.']);
    // Our own functions say it themselves.
    if let Some((_, own)) = why.rsplit_once("Error during planning: ") {
        return Some((own.to_string(), None));
    }
    let wanted = ["requires ", "expects "].iter().find_map(|word| {
        let (_, wanted) = why.split_once(word)?;
        let one = wanted.split([' ', ',']).next()?;
        ["String", "Numeric", "Integer", "Timestamp"]
            .contains(&one)
            .then_some(one)
    });
    if types.is_empty() {
        return Some((format!("{name} is given no argument"), None));
    }
    let message = match wanted {
        Some(wanted) => format!("{name} takes {}, not {types}", wanted.to_uppercase()),
        None => format!("{name} does not take ({types})"),
    };
    Some((
        message,
        Some("convert what it is given, with CAST(… AS …)".into()),
    ))
}

/// The first line without DataFusion's "… error: " prefixes.
fn first_line(error: &str) -> String {
    let mut text = error.lines().next().unwrap_or_default().trim();
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "SQL error: ",
        "Arrow error: ",
        "External error: ",
        "Invalid argument error: ",
        "Cast error: ",
        "This feature is not implemented: ",
        "Parser error: ",
        "Optimizer rule",
        "Compute error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.to_string()
}

/// What a message of our own advises.
fn hint_of(error: &str) -> Option<String> {
    let (_, hint) = error.split_once("\nhint: ")?;
    hint.lines().next().map(str::to_string)
}

/// The first name in quotes of a message.
fn quoted_name(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(['\'', '"', '`'])?;
    let (name, _) = rest.split_once(['\'', '"', '`'])?;
    let last = name.rsplit('.').next()?;
    (!last.is_empty()).then(|| last.to_string())
}
