//! DataFusion's errors as windrow's: who must act, and where in the file.

use super::markers::BadWindow;
use super::tokens::Tokens;
use crate::error::{At, Error, nearest};
use datafusion_common::{DataFusionError, SchemaError};

/// A failure inside a running plan. Resources and user data surface here as well, so the
/// message alone is kept: it names the expression.
pub fn internal(error: DataFusionError) -> Error {
    Error::Data(first_line(&error.strip_backtrace()))
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
            (first_line(&bad.to_string()), None, Some(bad.marker.clone()))
        }
        other => {
            let whole = other.strip_backtrace();
            let text = first_line(&whole);
            let name = quoted_name(&text);
            let (text, hint) = clearer(text, &whole);
            (text, hint, name)
        }
    };
    let at = span
        .filter(|at| at.line > 0)
        .map(|at| tokens.original(at))
        .or_else(|| name.as_deref().and_then(|n| tokens.find_word(n)))
        .unwrap_or_else(|| tokens.start());
    Error::Sql {
        message,
        hint,
        at: Some(at),
    }
}

fn schema_message(error: &SchemaError) -> (String, Option<String>, Option<String>) {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let names: Vec<&str> = valid_fields
                .iter()
                .map(|c| c.name.as_str())
                .filter(|n| !n.starts_with("__"))
                .collect();
            let list = || format!("there are: {}", names.join(", "));
            let hint = nearest(&field.name, names.iter().copied()).unwrap_or_else(list);
            (
                format!("unknown column '{}'", field.name),
                Some(hint),
                Some(field.name.clone()),
            )
        }
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
        let hint = near.map(|near| format!("did you mean '{near}'?"));
        return (format!("there is no function '{name}'"), hint);
    }
    if text.starts_with("Projections require unique expression names") {
        let hint = "give one of them another name, with AS";
        return (text, Some(hint.into()));
    }
    if text.starts_with("table '") && text.ends_with("' not found") {
        let hint = whole.lines().nth(1).map(str::to_string);
        return (text, hint);
    }
    if let Some((_, types)) = text.split_once("failed to match any signature")
        && let (Some(name), Some((_, received))) =
            (quoted_name(&text), types.split_once("received "))
    {
        let received = received.split([' ', '.', ',']).next().unwrap_or_default();
        let message = format!("{} does not take a {received}", name.to_uppercase());
        let hint = format!(
            "convert it, like {}(CAST(x AS DOUBLE))",
            name.to_uppercase()
        );
        return (message, Some(hint));
    }
    (text, None)
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
        "Optimizer rule",
        "Compute error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.to_string()
}

/// The first name in quotes of a message.
fn quoted_name(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(['\'', '"', '`'])?;
    let (name, _) = rest.split_once(['\'', '"', '`'])?;
    let last = name.rsplit('.').next()?;
    (!last.is_empty()).then(|| last.to_string())
}
