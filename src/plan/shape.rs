//! What an aggregate's state means, as text: a checkpoint's state is taken over by a changed file
//! only where this agrees.

use super::cut::{AggregatePlan, Chain};
use super::explain::windows_text;
use super::query::{Body, QueryPlan, SourcePlan};
use super::stages::Stage;
use crate::state::{FunctionShape, Shape};
use crate::window::Assign;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Each query's name, and a shape for each of its aggregates. Names of columns count, their places
/// do not.
pub fn shapes<Q: Borrow<QueryPlan>, S: Borrow<SourcePlan>>(
    queries: &[Q],
    sources: &[S],
) -> Vec<(String, Vec<Shape>)> {
    let queries = queries.iter().map(Borrow::borrow);
    queries
        .map(|q| (q.name.clone(), of_query(q, sources)))
        .collect()
}

fn of_query<S: Borrow<SourcePlan>>(query: &QueryPlan, sources: &[S]) -> Vec<Shape> {
    let source =
        |aggregate: &AggregatePlan| sources[query.sources[aggregate.chain.stream]].borrow();
    match &query.body {
        Body::Stateless(_) => Vec::new(),
        Body::Windowed(plan) => (plan.aggregates.iter())
            .map(|aggregate| shape(aggregate, source(aggregate)))
            .collect(),
    }
}

fn shape(aggregate: &AggregatePlan, source: &SourcePlan) -> Shape {
    let (keys, functions) = aggregate.factory.0.texts();
    let mut input = computed(&aggregate.chain, source);
    input.extend(stages(&aggregate.chain));
    Shape {
        window: windows_text(&aggregate.assign),
        input,
        keys,
        functions: (functions.into_iter())
            .map(|(text, width)| FunctionShape { text, width })
            .collect(),
        names: names(aggregate, source),
    }
}

/// What the texts of a shape do not say of the names in them.
fn names(aggregate: &AggregatePlan, source: &SourcePlan) -> BTreeMap<String, String> {
    let mut names = BTreeMap::from([("source".to_string(), source.def.name.clone())]);
    if let Some(time) = source
        .event_time
        .filter(|_| aggregate.assign != Assign::Global)
    {
        let name = source.schema.field(time).name();
        names.insert("event time".to_string(), name.clone());
    }
    for stage in &aggregate.chain.stages {
        let Stage::Project { exprs, schema } = stage else {
            continue;
        };
        for (expr, field) in exprs.iter().zip(schema.fields()) {
            let expr = without_places(&expr.to_string());
            if expr != *field.name() {
                let of = names.entry(format!("column {}", field.name())).or_default();
                *of = format!("{of}{}{expr}", if of.is_empty() { "" } else { ", then " });
            }
        }
    }
    names.extend(aggregate.factory.0.argument_types());
    names
}

/// The computed columns of the source that the aggregate reads.
fn computed(chain: &Chain, source: &SourcePlan) -> Vec<String> {
    let first = source.schema.fields().len() - source.computed.len();
    let named = source.schema.fields().iter().skip(first);
    named
        .zip(&source.computed)
        .filter(|(field, _)| chain.columns.contains(field.name()))
        .map(|(field, computed)| without_places(&format!("{} = {}", field.name(), computed.expr)))
        .collect()
}

fn stages(chain: &Chain) -> Vec<String> {
    let mut all = Vec::new();
    for stage in &chain.stages {
        match stage {
            Stage::Filter { predicate, .. } => all.push(format!("where {predicate}")),
            // A column that is passed on as it is changes nothing.
            Stage::Project { exprs, .. } => all.extend(
                (exprs.iter().map(|e| e.to_string()))
                    .filter(|e| without_places(e).contains(['(', ' '])),
            ),
            Stage::Unnest(elements) => all.push(format!("unnest {}", elements.name())),
            Stage::Lookup(lookup) => all.push(format!("join {}", lookup.text())),
        }
    }
    all.iter().map(|text| without_places(text)).collect()
}

/// `page@3` as `page`: where a column stands in a batch is nobody's business.
pub(super) fn without_places(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '@' && chars.peek().is_some_and(char::is_ascii_digit) {
            while chars.next_if(char::is_ascii_digit).is_some() {}
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Settings, plan_script};

    fn names(view: &str, table: &str, function: &str, time: &str) -> BTreeMap<String, String> {
        let tables = ["t", "u"].map(|table| {
            format!(
                "CREATE TABLE {table} (a STRING, b STRING, i INT, d DECIMAL(10, 2), ts TIMESTAMP(3), tt TIMESTAMP(3), \
                 WATERMARK FOR {time} AS {time}) WITH ('connector' = 'kafka', 'topic' = 't', \
                 'properties.bootstrap.servers' = 'x:1', 'format' = 'json');"
            )
        });
        let script = format!(
            "{} CREATE VIEW v AS SELECT {time}, {view} AS k, i, d FROM {table}; \
             SELECT k, window_start, {function} FROM TUMBLE(v, {time}, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end;",
            tables.concat()
        );
        let job = plan_script(&script, &|_| None, &Settings::default()).unwrap();
        shapes(&job.queries, &job.sources)[0].1[0].names.clone()
    }

    /// State was taken over by a query that read another table, another column under the same name, by
    /// another time, or numbers of another scale.
    #[test]
    fn names_that_stand_for_something_else_are_seen() {
        let old = names("a", "t", "MAX(d)", "ts");
        assert_eq!(old, names("a", "t", "MAX(d)", "ts"));
        let changed = |new: &BTreeMap<String, String>| {
            let changed = new
                .iter()
                .filter(|(name, of)| old.get(*name).is_some_and(|old| old != *of));
            changed.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(changed(&names("b", "t", "MAX(d)", "ts")), ["column k"]);
        assert_eq!(changed(&names("a", "u", "MAX(d)", "ts")), ["source"]);
        assert!(changed(&names("a", "t", "MAX(d)", "tt")).contains(&"event time".to_string()));
        assert_eq!(
            changed(&names("a", "t", "MAX(i)", "ts")),
            Vec::<String>::new()
        );
        let mut types = old
            .iter()
            .filter(|(name, _)| name.starts_with("arguments of max("));
        assert_eq!(types.next().unwrap().1, "Decimal128(10, 2)");
    }
}
