//! The tree of columns under construction that mirrors a schema: ARRAY, MAP and ROW hold
//! children, all else is a [`Scalar`].

use super::keys::Keys;
use crate::decode::column::{Scalar, take_same_capacity};
use crate::error::{Error, Result};
use crate::table::sql_name;
use arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, MapArray, NullBufferBuilder, StructArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use std::sync::Arc;

/// A column, or a part of one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    /// Number of the node in its tree, parents first: nodes `id..end` are this one and those
    /// below it. Failures name their node by it.
    pub(super) id: usize,
    pub(super) end: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(List),
    Map(Map),
    Row(Row),
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) element: Box<Node>,
    /// Per slot the number of elements up to its end.
    ends: Vec<usize>,
    field: FieldRef,
    validity: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct Map {
    pub(super) key: Scalar,
    pub(super) value: Box<Node>,
    /// Per slot the number of entries up to its end, replaced ones included.
    ends: Vec<usize>,
    /// Entries whose key came again in the same map, ascending: left out of the array.
    replaced: Vec<usize>,
    entries: FieldRef,
    validity: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) keys: Keys,
    pub(super) children: Vec<Node>,
    fields: Fields,
    validity: NullBufferBuilder,
}

/// What messages call a node.
#[derive(Debug)]
pub(super) struct Label {
    /// Dotted path from the record.
    pub(super) path: String,
    pub(super) sql_type: String,
}

impl Node {
    /// The node of `field`, whose value stands under `key` of the object at `path`. Adds a label
    /// for it and for each node below it.
    fn new(key: &str, field: &Field, path: &str, labels: &mut Vec<Label>) -> Result<Self> {
        let id = labels.len();
        let path = if path.is_empty() {
            key.to_string()
        } else {
            format!("{path}.{key}")
        };
        labels.push(Label {
            path: path.clone(),
            sql_type: sql_name(field.data_type()),
        });
        let unsupported = || {
            let sql_type = sql_name(field.data_type());
            Error::sql(format!(
                "column '{path}': {sql_type} cannot be read from JSON"
            ))
        };
        let kind = match field.data_type() {
            DataType::List(element) => Kind::List(List {
                element: Box::new(Node::new("element", element, &path, labels)?),
                ends: Vec::new(),
                field: Arc::clone(element),
                validity: NullBufferBuilder::new(0),
            }),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if is_map_entry(pair) => Kind::Map(Map {
                    key: Scalar::new(pair[0].data_type()).ok_or_else(unsupported)?,
                    value: Box::new(Node::new("value", &pair[1], &path, labels)?),
                    ends: Vec::new(),
                    replaced: Vec::new(),
                    entries: Arc::clone(entries),
                    validity: NullBufferBuilder::new(0),
                }),
                _ => return Err(unsupported().with_hint("a MAP has keys of type STRING")),
            },
            DataType::Struct(fields) => {
                let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
                Kind::Row(Row::new(&names, fields, &path, labels)?)
            }
            other => Kind::Scalar(Scalar::new(other).ok_or_else(unsupported)?),
        };
        Ok(Self {
            kind,
            nullable: field.is_nullable(),
            id,
            end: labels.len(),
        })
    }

    pub(super) fn begin(&mut self, source: &Buffer) {
        match &mut self.kind {
            Kind::Scalar(scalar) => scalar.begin(source),
            Kind::List(list) => list.element.begin(source),
            Kind::Map(map) => {
                map.key.begin(source);
                map.value.begin(source);
            }
            Kind::Row(row) => row.begin(source),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.len(),
            Kind::List(list) => list.validity.len(),
            Kind::Map(map) => map.validity.len(),
            Kind::Row(row) => row.len(),
        }
    }

    /// Forgets all slots from `len` on, one that is not finished included.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.kind {
            Kind::Scalar(scalar) => scalar.truncate(len),
            Kind::List(list) => {
                list.ends.truncate(len);
                list.validity.truncate(len);
                list.element
                    .truncate(list.ends.last().copied().unwrap_or(0));
            }
            Kind::Map(map) => map.truncate(len),
            Kind::Row(row) => row.truncate(len),
        }
    }

    /// Appends NULL; to a NOT NULL node a placeholder, which is not there for long (the record
    /// is bad, or another value replaces it) or not seen (a ROW above is NULL).
    pub(super) fn push_null(&mut self) {
        let valid = !self.nullable;
        match &mut self.kind {
            Kind::Scalar(scalar) => scalar.push_default(valid),
            Kind::List(list) => list.close(valid),
            Kind::Map(map) => map.close(valid, []),
            Kind::Row(row) => {
                row.children.iter_mut().for_each(Node::push_null);
                row.close(valid);
            }
        }
    }

    /// All slots as an array; the node is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        match &mut self.kind {
            Kind::Scalar(scalar) => scalar.finish(),
            Kind::List(list) => {
                let offsets = offsets(&take_same_capacity(&mut list.ends), &[])?;
                let field = Arc::clone(&list.field);
                let nulls = list.validity.finish();
                Ok(Arc::new(ListArray::try_new(
                    field,
                    offsets,
                    list.element.finish()?,
                    nulls,
                )?))
            }
            Kind::Map(map) => map.finish(),
            Kind::Row(row) => {
                let (len, nulls) = (row.len(), row.validity.finish());
                let columns = row.finish_children()?;
                let fields = row.fields.clone();
                let array = StructArray::try_new_with_length(fields, columns, nulls, len)?;
                Ok(Arc::new(array))
            }
        }
    }
}

fn is_map_entry(pair: &Fields) -> bool {
    pair.len() == 2 && *pair[0].data_type() == DataType::Utf8View
}

impl List {
    /// Ends a slot after its elements.
    pub(super) fn close(&mut self, valid: bool) {
        self.ends.push(self.element.len());
        self.validity.append(valid);
    }
}

impl Map {
    /// Number of entries; the first of the slot under construction, when it is opened.
    pub(super) fn entries(&self) -> usize {
        self.key.len()
    }

    /// Ends a slot after its entries. `replaced` are those of its entries whose key came again.
    pub(super) fn close(&mut self, valid: bool, replaced: impl IntoIterator<Item = usize>) {
        self.replaced.extend(replaced);
        self.ends.push(self.key.len());
        self.validity.append(valid);
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.validity.truncate(len);
        let entries = self.ends.last().copied().unwrap_or(0);
        self.key.truncate(entries);
        self.value.truncate(entries);
        self.replaced
            .truncate(self.replaced.partition_point(|entry| *entry < entries));
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let (mut key, mut value) = (self.key.finish()?, self.value.finish()?);
        let replaced = std::mem::take(&mut self.replaced);
        let offsets = offsets(&take_same_capacity(&mut self.ends), &replaced)?;
        if !replaced.is_empty() {
            let mut keep = vec![true; key.len()];
            replaced.iter().for_each(|entry| keep[*entry] = false);
            let keep = BooleanArray::from(keep);
            (key, value) = (filter(&key, &keep)?, filter(&value, &keep)?);
        }
        let DataType::Struct(pair) = self.entries.data_type() else {
            return Err(Error::bug("the entries of a MAP are no ROW"));
        };
        let pairs = StructArray::try_new(pair.clone(), vec![key, value], None)?;
        let nulls = self.validity.finish();
        let entries = Arc::clone(&self.entries);
        Ok(Arc::new(MapArray::try_new(
            entries, offsets, pairs, nulls, false,
        )?))
    }
}

/// Arrow's offsets: 0, then each end less the entries before it that are left out.
fn offsets(ends: &[usize], left_out: &[usize]) -> Result<OffsetBuffer<i32>> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends {
        let end = end - left_out.partition_point(|entry| entry < end);
        let end =
            i32::try_from(end).map_err(|_| Error::bug("more than 2^31 elements in a batch"))?;
        offsets.push(end);
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

impl Row {
    /// A row of `fields`, whose values stand under `keys` of the object at `path`.
    pub(super) fn new(
        keys: &[&str],
        fields: &Fields,
        path: &str,
        labels: &mut Vec<Label>,
    ) -> Result<Self> {
        let children = keys
            .iter()
            .zip(fields)
            .map(|(key, f)| Node::new(key, f, path, labels));
        Ok(Self {
            children: children.collect::<Result<_>>()?,
            keys: Keys::new(keys.iter().copied()),
            fields: fields.clone(),
            validity: NullBufferBuilder::new(0),
        })
    }

    pub(super) fn begin(&mut self, source: &Buffer) {
        self.children
            .iter_mut()
            .for_each(|child| child.begin(source));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Ends a slot after its children.
    #[inline]
    pub(super) fn close(&mut self, valid: bool) {
        self.validity.append(valid);
    }

    /// Ends as many slots, none of them NULL.
    pub(super) fn close_many(&mut self, rows: usize) {
        self.validity.append_n_non_nulls(rows);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.children
            .iter_mut()
            .for_each(|child| child.truncate(len));
        self.validity.truncate(len);
    }

    /// The children's arrays; the row is empty afterwards.
    pub(super) fn finish_children(&mut self) -> Result<Vec<ArrayRef>> {
        self.validity.truncate(0);
        self.children.iter_mut().map(Node::finish).collect()
    }
}
