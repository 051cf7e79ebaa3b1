//! What an aggregate's state means, as text: a checkpoint's state is taken over by a changed file
//! only where this agrees.

use super::cut::{AggregatePlan, Chain};
use super::explain::windows_text;
use super::query::{Body, QueryPlan, SourcePlan};
use super::stages::Stage;
use crate::state::{FunctionShape, Shape};
use std::borrow::Borrow;

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
    }
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
