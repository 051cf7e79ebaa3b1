//! Where rows go: a query's result to the columns of its sink, late rows to their table.

use super::Script;
use crate::encode::text::counted;
use crate::error::{At, Error, Result, nearest};
use crate::plan::errors::{in_sql, planning};
use crate::plan::query::{Body, LateTable, QuerySink};
use crate::plan::tokens::Tokens;
use crate::sink::OutputMode;
use crate::table::{Column, ColumnKind, MetadataKey, TableDef, sql_name};
use crate::window::Assign;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion_common::Column as DfColumn;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use std::sync::Arc;

impl Script {
    /// Gives the windowed queries their late tables.
    pub(super) fn late_tables(&mut self) -> Result<()> {
        for query in &mut self.queries {
            let mut options = query.sources.iter().filter_map(|source| {
                let options = &self.sources[*source].def.options;
                Some((
                    options.get("late.table")?.to_string(),
                    options.at("late.table"),
                ))
            });
            let set = || Some((self.settings.late_table.clone()?, None));
            let Some((name, at)) = options.next().or_else(set) else {
                continue;
            };
            if !matches!(&query.body, Body::Windowed(w) if w.assign() != Assign::Global) {
                continue;
            }
            let at = at.unwrap_or(query.at);
            let [source] = query.sources[..] else {
                return Err(Error::sql(
                    "a late table takes the rows of one source, but the query has two",
                )
                .or_at(at)
                .with_hint(
                    "leave 'late.table' away, or write each aggregate to a topic and join those",
                ));
            };
            let pending = &mut self.sources[source];
            let Some(def) = self.tables.get(&name) else {
                let hint = nearest(&name, self.tables.keys().map(String::as_str));
                return Err(
                    Error::sql(format!("the late table '{name}' is not declared"))
                        .or_at(at)
                        .with_hint(hint.unwrap_or_else(|| "declare it with CREATE TABLE".into())),
                );
            };
            // As in other sinks, NOT NULL is said to readers.
            let field = |c: &Column| c.field().with_nullable(true);
            let fields: Vec<Field> = def.sink_columns().map(field).collect();
            for field in &fields {
                let Some(column) = pending.def.column(field.name()) else {
                    return Err(Error::sql(format!("late table {name} has a column '{}' that {} has not", field.name(), pending.def.name))
                        .or_at(def.at)
                        .with_hint("a late table takes the source's rows: its columns must be some of the source's"));
                };
                if !keeps(&column.data_type, field.data_type()) {
                    return Err(Error::sql(format!(
                        "column '{}' of late table {name} is {}, but that of {} is {}",
                        field.name(),
                        sql_name(field.data_type()),
                        pending.def.name,
                        sql_name(&column.data_type)
                    ))
                    .or_at(def.at)
                    .with_hint("declare it as it is in the source's table"));
                }
                pending.columns.insert(field.name().clone());
            }
            query.late = Some(LateTable {
                def: def.clone(),
                columns: Vec::new(),
                schema: Arc::new(Schema::new(fields)),
            });
        }
        Ok(())
    }
}

pub(super) fn check_sink(sink: &QuerySink, mode: OutputMode) -> Result<()> {
    let QuerySink::Table(def) = sink else {
        return Ok(());
    };
    let of_record = |c: &&Column| match &c.kind {
        ColumnKind::Metadata { key, .. } => matches!(
            key,
            MetadataKey::Topic | MetadataKey::Offset | MetadataKey::TimestampType
        ),
        _ => false,
    };
    if def.connector() == "kafka"
        && let Some(column) = def.sink_columns().find(of_record)
    {
        return Err(Error::sql(format!(
            "column '{}' of {} cannot be written: where a record lies is said by the topic",
            column.name, def.name
        ))
        .or_at(column.at)
        .with_hint("declare it METADATA VIRTUAL, then only readers have it"));
    }
    match (def.connector(), mode) {
        ("kafka", OutputMode::Update) if def.primary_key.is_empty() => Err(Error::sql(format!("the result changes, but table {} can only be appended to", def.name))
            .with_hint("declare PRIMARY KEY (…) NOT ENFORCED, which makes it an upsert sink, or aggregate by a window")),
        ("filesystem", OutputMode::Update | OutputMode::Complete) => Err(Error::sql(format!("files take final rows only, but the result for table {} changes", def.name))
            .with_hint("aggregate by a window in output mode append")),
        _ => Ok(()),
    }
}

/// Projects a query's result to the sink's columns, by position.
pub(super) fn to_sink(
    plan: LogicalPlan,
    def: &TableDef,
    columns: Option<&[(String, At)]>,
    tokens: &Tokens,
) -> Result<LogicalPlan> {
    let targets: Vec<&Column> = def.sink_columns().collect();
    let fields = plan.schema().columns();
    let order = column_order(def, columns, &fields, tokens)?;
    let mut exprs = Vec::new();
    for target in &targets {
        let Some(i) = order.iter().position(|n| *n == target.name) else {
            let null = datafusion_common::ScalarValue::try_from(&target.data_type)
                .map_err(|e| planning(e, tokens))?;
            exprs.push(Expr::Literal(null, None).alias(&target.name));
            continue;
        };
        let from = plan.schema().field(i).data_type().clone();
        if !assignable(&from, &target.data_type) {
            let name = in_sql(&fields[i].name);
            return Err(Error::sql(format!(
                "column {} of the query ({name}) is {}, but column '{}' of {} is {}",
                i + 1,
                sql_name(&from),
                target.name,
                def.name,
                sql_name(&target.data_type)
            ))
            .or_at(tokens.find_word(&fields[i].name).unwrap_or(tokens.start()))
            .with_hint(format!(
                "write CAST({name} AS {})",
                sql_name(&target.data_type)
            )));
        }
        let column = Expr::Column(fields[i].clone());
        let expr = if from == target.data_type {
            column
        } else {
            datafusion_expr::cast(column, target.data_type.clone())
        };
        exprs.push(expr.alias(&target.name));
    }
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(|b| b.build())
        .map_err(|e| planning(e, tokens))
}

/// The sink's columns that the query's `fields` go to, one for each.
fn column_order<'a>(
    def: &'a TableDef,
    columns: Option<&'a [(String, At)]>,
    fields: &[DfColumn],
    tokens: &Tokens,
) -> Result<Vec<&'a str>> {
    let targets: Vec<&Column> = def.sink_columns().collect();
    let order: Vec<&str> = match columns {
        None => targets.iter().map(|c| c.name.as_str()).collect(),
        Some(list) => {
            for (i, (name, at)) in list.iter().enumerate() {
                if list[..i].iter().any(|(before, _)| before == name) {
                    return Err(Error::sql(format!("column '{name}' is named twice"))
                        .or_at(*at)
                        .with_hint("a column takes one value: name each once"));
                }
                if !targets.iter().any(|c| c.name == *name) {
                    let hint = nearest(name, targets.iter().map(|c| c.name.as_str()));
                    return Err(Error::sql(format!("'{name}' is no column of {}", def.name))
                        .or_at(*at)
                        .with_hint(hint.unwrap_or_default()));
                }
            }
            list.iter().map(|(n, _)| n.as_str()).collect()
        }
    };
    if fields.len() != order.len() {
        let names: Vec<&str> = fields.iter().map(|c| c.name.as_str()).collect();
        return Err(Error::sql(format!(
            "the query has {}, table {} takes {}",
            counted(fields.len() as u64, "column"),
            def.name,
            order.len()
        ))
        .or_at(tokens.start())
        .with_hint(format!(
            "query: {}; table: {}",
            names.join(", "),
            order.join(", ")
        )));
    }
    Ok(order)
}

/// Whether fields take those of another in their places.
fn are_assignable(from: &Fields, to: &Fields) -> bool {
    let fits = |(from, to): (&FieldRef, &FieldRef)| assignable(from.data_type(), to.data_type());
    from.len() == to.len() && from.iter().zip(to).all(fits)
}

/// Whether a ROW has the fields of another, in their order. (A cast goes by their names, and gives NULL for
/// those that are not there; Flink's goes by their places.)
fn has_fields(from: &Fields, to: &Fields) -> bool {
    let same_name = |(from, to): (&FieldRef, &FieldRef)| from.name() == to.name();
    are_assignable(from, to) && from.iter().zip(to).all(same_name)
}

/// Whether a MAP has keys and values of another's, whatever its entries are called.
fn has_entries(from: &Field, to: &Field) -> bool {
    match (from.data_type(), to.data_type()) {
        (DataType::Struct(from), DataType::Struct(to)) => are_assignable(from, to),
        _ => false,
    }
}

/// Whether each value of one type has its like in another.
fn keeps(from: &DataType, to: &DataType) -> bool {
    let width = |t: &DataType| t.primitive_width().filter(|_| t.is_signed_integer());
    from == to
        || match (width(from), width(to)) {
            (Some(from), Some(to)) => from < to,
            _ => from.is_string() && to.is_string(),
        }
}

/// Whether a sink's column takes a value without a CAST in the query.
fn assignable(from: &DataType, to: &DataType) -> bool {
    let text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let number = |t: &DataType| t.is_numeric();
    let bytes = |t: &DataType| {
        matches!(
            t,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        )
    };
    let time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32);
    from == to
        || *from == DataType::Null
        || (text(from) && text(to))
        || (number(from) && number(to))
        || (bytes(from) && bytes(to))
        || (time(from) && time(to))
        || matches!(
            (from, to),
            (
                DataType::Time64(_) | DataType::Time32(_),
                DataType::Time64(_)
            )
        )
        || matches!((from, to), (DataType::Dictionary(_, v), t) if assignable(v, t))
        || matches!((from, to), (DataType::Struct(a), DataType::Struct(b)) if has_fields(a, b))
        || matches!((from, to), (DataType::List(a), DataType::List(b)) if assignable(a.data_type(), b.data_type()))
        || matches!((from, to), (DataType::Map(a, _), DataType::Map(b, _)) if has_entries(a, b))
        || (from.is_nested()
            && to.is_nested()
            && !matches!(
                from,
                DataType::Struct(_) | DataType::List(_) | DataType::Map(..)
            )
            && std::mem::discriminant(from) == std::mem::discriminant(to))
}
