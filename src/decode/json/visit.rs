//! From serde_json's events straight into the columns.
//!
//! serde_json alone decides what is JSON: every error of these visitors is one of its own. A
//! value that is JSON but not of its column's type becomes NULL for the moment and is noted as
//! a [`Failure`], so that a later value under the same key can still replace it, as it does in
//! any other reader of JSON.

use super::keys::{Keys, Place};
use super::node::{Kind, Label, Map, Node, Row};
use super::tokens::Tokens;
use crate::decode::column::{Mismatch, cut, shown};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use std::collections::HashMap;
use std::fmt;

/// What is known about the record being read.
pub(super) struct Context<'c> {
    pub(super) tokens: Tokens<'c>,
    pub(super) failures: &'c mut Vec<Failure>,
    pub(super) labels: &'c [Label],
    pub(super) fail_on_missing_field: bool,
}

/// A value that does not fit its node.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) node: usize,
    pub(super) reason: String,
    /// The value was replaced by another one under the same key.
    pub(super) replaced: bool,
}

impl Context<'_> {
    fn fail(&mut self, node: &mut Node, reason: String) {
        self.failures.push(Failure {
            node: node.id,
            reason,
            replaced: false,
        });
        node.push_null();
    }

    #[cold]
    fn mismatch(&mut self, node: &mut Node, found: impl fmt::Display) {
        let expected = &self.labels[node.id].sql_type;
        let reason = format!("expected {expected}, found {found}");
        self.fail(node, reason);
    }

    fn null(&mut self, node: &mut Node) {
        if node.nullable {
            node.push_null()
        } else {
            self.mismatch(node, "null, but it is NOT NULL")
        }
    }

    #[cold]
    fn missing(&mut self, node: &mut Node) {
        if self.fail_on_missing_field {
            self.fail(node, "missing field".into());
        } else if node.nullable {
            node.push_null();
        } else {
            self.fail(node, "missing field, but it is NOT NULL".into());
        }
    }

    /// A number; `push` tries the value that serde_json made of it.
    fn number(&mut self, node: &mut Node, push: impl FnOnce(&mut Node) -> Result<(), Mismatch>) {
        self.tokens.begin();
        if push(node).is_ok() {
            return;
        }
        let text = self.tokens.number();
        let pushed = match &mut node.kind {
            Kind::Scalar(scalar) if scalar.is_string() => scalar.push_str(text),
            Kind::Scalar(scalar) => scalar.push_number_text(text),
            _ => Err(Mismatch),
        };
        if pushed.is_err() {
            let (text, dots) = cut(text);
            self.mismatch(node, format_args!("number {text}{dots}"));
        }
    }

    /// Begins an object or array that `node` cannot hold as such; where it starts if the node
    /// takes its text.
    fn container(&mut self, node: &Node) -> Option<usize> {
        self.tokens.begin();
        match &node.kind {
            Kind::Scalar(scalar) if scalar.is_string() => Some(self.tokens.start()),
            _ => None,
        }
    }

    /// A STRING column takes objects and arrays as their JSON text; no other type does.
    fn keep_text(&mut self, node: &mut Node, start: Option<usize>, found: &str) {
        let pushed = match (&mut node.kind, start) {
            (Kind::Scalar(scalar), Some(start)) => scalar.push_str(&self.tokens.container(start)),
            _ => Err(Mismatch),
        };
        if pushed.is_err() {
            self.mismatch(node, found);
        }
    }

    #[cold]
    fn replace(&mut self, since: usize, node: &Node) {
        let failures = self.failures[since..].iter_mut();
        let of_node = failures.filter(|f| (node.id..node.end).contains(&f.node));
        of_node.for_each(|f| f.replaced = true);
    }
}

/// Reads the record: an object.
pub(super) struct Record<'a, 'c>(pub(super) &'a mut Row, pub(super) &'a mut Context<'c>);

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// serde's own message would repeat the text however long it is.
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(E::invalid_type(Unexpected::Other("string"), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        read_object(self.0, map, self.1)
    }
}

/// Reads an object into a new slot of `row`. After an error the slot is unfinished.
fn read_object<'de, A: MapAccess<'de>>(
    row: &mut Row,
    mut map: A,
    context: &mut Context<'_>,
) -> Result<(), A::Error> {
    context.tokens.begin();
    let slot = row.len();
    let since = context.failures.len();
    let mut place = Place::START;
    let mut filled = 0;
    while let Some(column) = map.next_key_seed(Key(&mut row.keys, &mut place))? {
        let Some(column) = column else {
            map.next_value_seed(Skip(context))?;
            continue;
        };
        let child = &mut row.children[column];
        if child.len() > slot {
            child.truncate(slot);
            context.replace(since, child);
        } else {
            filled += 1;
        }
        map.next_value_seed(Value(child, context))?;
    }
    if filled < row.children.len() {
        let missing = row.children.iter_mut().filter(|child| child.len() == slot);
        missing.for_each(|child| context.missing(child));
    }
    row.close(true);
    Ok(())
}

/// Reads `text`, one value, into a new slot of `node`. After an error the slot is unfinished.
pub(super) fn read_value(
    node: &mut Node,
    text: &str,
    context: &mut Context<'_>,
) -> serde_json::Result<()> {
    serde_json::Deserializer::from_str(text).deserialize_any(Value(node, context))
}

/// Looks a key up: `Some(column)`, or `None` for a key that nobody wants.
struct Key<'a>(&'a mut Keys, &'a mut Place);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.column(key, self.1))
    }
}

/// Reads a value into a new slot of a node. After an error the slot is unfinished.
struct Value<'a, 'c>(&'a mut Node, &'a mut Context<'c>);

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let Value(node, context) = self;
        let pushed = match &mut node.kind {
            Kind::Scalar(scalar) => scalar.push_str(text),
            _ => Err(Mismatch),
        };
        if pushed.is_err() {
            context.mismatch(node, format_args!("string {}", shown(text)));
        }
        Ok(())
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.1
            .number(self.0, |node| push_integer(node, value.into()));
        Ok(())
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.1
            .number(self.0, |node| push_integer(node, value.into()));
        Ok(())
    }

    #[inline]
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.1.number(self.0, |node| match &mut node.kind {
            Kind::Scalar(scalar) => scalar.push_double(value),
            _ => Err(Mismatch),
        });
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Value(node, context) = self;
        let text = if value { "true" } else { "false" };
        let pushed = match &mut node.kind {
            Kind::Scalar(scalar) if scalar.is_string() => scalar.push_str(text),
            Kind::Scalar(scalar) => scalar.push_bool(value),
            _ => Err(Mismatch),
        };
        if pushed.is_err() {
            context.mismatch(node, text);
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.1.null(self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Value(node, context) = self;
        let Kind::List(list) = &mut node.kind else {
            let start = context.container(node);
            skip_elements(seq, context)?;
            context.keep_text(node, start, "an array");
            return Ok(());
        };
        context.tokens.begin();
        while seq
            .next_element_seed(Value(&mut list.element, context))?
            .is_some()
        {}
        list.close(true);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Value(node, context) = self;
        match &mut node.kind {
            Kind::Row(row) => read_object(row, map, context),
            Kind::Map(column) => read_map(column, map, context),
            _ => {
                let start = context.container(node);
                skip_fields(map, context)?;
                context.keep_text(node, start, "an object");
                Ok(())
            }
        }
    }
}

#[inline]
fn push_integer(node: &mut Node, value: i128) -> Result<(), Mismatch> {
    match &mut node.kind {
        Kind::Scalar(scalar) => scalar.push_integer(value),
        _ => Err(Mismatch),
    }
}

/// Reads an object into a new slot of a MAP. Of equal keys the last one stays.
fn read_map<'de, A: MapAccess<'de>>(
    column: &mut Map,
    mut map: A,
    context: &mut Context<'_>,
) -> Result<(), A::Error> {
    context.tokens.begin();
    // Per key its entry and its value's failures.
    let mut last = HashMap::new();
    let mut replaced = Vec::new();
    while let Some(key) = map.next_key::<String>()? {
        let entry = column.entries();
        let since = context.failures.len();
        column
            .key
            .push_str(&key)
            .map_err(|Mismatch| A::Error::custom("the key is no string"))?;
        map.next_value_seed(Value(&mut column.value, context))?;
        let failures = since..context.failures.len();
        if let Some((entry, failures)) = last.insert(key, (entry, failures)) {
            context.failures[failures]
                .iter_mut()
                .for_each(|f| f.replaced = true);
            replaced.push(entry);
        }
    }
    replaced.sort_unstable();
    column.close(true, replaced);
    Ok(())
}

/// Reads a value that nobody wants. Its strings and numbers are checked like any other's,
/// which serde's `IgnoredAny` would not do.
struct Skip<'a, 'c>(&'a mut Context<'c>);

impl<'de> DeserializeSeed<'de> for Skip<'_, '_> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.0.tokens.begin();
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.0.tokens.begin();
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.0.tokens.begin();
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        self.0.tokens.begin();
        skip_elements(seq, self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.tokens.begin();
        skip_fields(map, self.0)
    }
}

fn skip_elements<'de, A: SeqAccess<'de>>(
    mut seq: A,
    context: &mut Context<'_>,
) -> Result<(), A::Error> {
    while seq.next_element_seed(Skip(context))?.is_some() {}
    Ok(())
}

fn skip_fields<'de, A: MapAccess<'de>>(
    mut map: A,
    context: &mut Context<'_>,
) -> Result<(), A::Error> {
    while map.next_key_seed(Skip(context))?.is_some() {
        map.next_value_seed(Skip(context))?;
    }
    Ok(())
}
