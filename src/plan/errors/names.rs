//! Names that are not known where they stand, and what may have been meant.

use crate::error::nearest;
use crate::plan::ddl::TYPES;
use crate::plan::markers::PREFIX;
use datafusion_common::Column;
use std::collections::BTreeSet;

/// A message, a hint, and the name that is complained of.
pub(super) type Said = (String, Option<String>, Option<String>);

pub(super) fn unknown_column(field: &Column, known: &[Column]) -> Said {
    let known: Vec<&Column> = known.iter().filter(|c| !c.name.starts_with("__")).collect();
    let names: Vec<&str> = known.iter().map(|c| c.name.as_str()).collect();
    if names.is_empty() {
        return (
            format!("unknown column '{}'", field.name),
            Some("no column is known here: write a constant".into()),
            Some(field.name.clone()),
        );
    }
    let list = || format!("there are: {}", names.join(", "));
    if let Some(table) = field.relation.as_ref().map(|r| r.table())
        && !known.iter().any(|c| is_of(c, table))
    {
        let hint = meant(&field.name, &known).or_else(|| {
            let tables: BTreeSet<&str> = known.iter().filter_map(|c| table_of(c)).collect();
            nearest(table, tables.into_iter().chain(names.iter().copied()))
        });
        return (
            format!("unknown table or column '{table}'"),
            Some(hint.unwrap_or_else(list)),
            Some(table.to_string()),
        );
    }
    (
        format!("unknown column '{}'", field.name),
        Some(nearest(&field.name, names.iter().copied()).unwrap_or_else(list)),
        Some(field.name.clone()),
    )
}

fn table_of(column: &Column) -> Option<&str> {
    column.relation.as_ref().map(|table| table.table())
}

fn is_of(column: &Column, table: &str) -> bool {
    table_of(column) == Some(table)
}

/// The one column of this name, with its table.
fn meant(name: &str, known: &[&Column]) -> Option<String> {
    let mut found = known.iter().filter(|c| c.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => Some(match table_of(one) {
            Some(table) => format!("did you mean '{table}.{name}'?"),
            None => format!("did you mean '{name}'?"),
        }),
        _ => None,
    }
}

/// `Unsupported SQL type STRNG`.
pub(super) fn unknown_type(text: &str) -> Option<(String, Option<String>)> {
    let name = text.strip_prefix("Unsupported SQL type ")?;
    let hint = nearest(name, TYPES).unwrap_or_else(|| format!("there are: {}", TYPES.join(", ")));
    Some((format!("unknown type '{name}'"), Some(hint)))
}

/// `Field zz not found in struct`; which there are the session knows.
pub(super) fn unknown_field(text: &str) -> Option<(String, Option<String>)> {
    let name = text
        .strip_prefix("Field ")?
        .strip_suffix(" not found in struct")?;
    Some((format!("a ROW has no field '{name}'"), None))
}

/// A column that is shown of groups that may have many values of it.
pub(super) fn not_grouped(text: &str) -> Option<(String, Option<String>)> {
    let (_, rest) = text.split_once("While expanding wildcard, column \"")?;
    let (column, grouped) = rest.split_once("\" must appear")?;
    let of_window = grouped.contains(PREFIX) && grouped.contains(&format!("({column},"));
    let name = column.rsplit('.').next()?;
    let hint = match of_window {
        true => "TUMBLE_START and the like take the same arguments as the window in the GROUP BY; of a plain column take one value of each group".into(),
        false => "add it to the GROUP BY, or take one value of each group".to_string(),
    };
    Some((
        format!("'{name}' is neither in the GROUP BY nor in an aggregate function"),
        Some(format!("{hint}, like MAX({name})")),
    ))
}
