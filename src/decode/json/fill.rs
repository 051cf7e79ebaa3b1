//! From the values that the walker found to columns, one column at a time.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

use super::node::{Kind, Label, Node};
use super::walk::{Values, Written};
use super::{escape, number, read_nested};
use crate::decode::column::Mismatch;
use crate::source::Span;

/// What the table's options and types say of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) fail_on_missing_field: bool,
    pub(super) labels: &'a [Label],
}

/// Appends `values` of `data`, which the walker has checked. At a value that does
/// not fit it stops; then the node is longer than it was, by how much is not said.
pub(super) fn fill(
    node: &mut Node,
    data: &[u8],
    Values { spans, written }: Values<'_>,
    rules: Rules<'_>,
) -> Result<(), Mismatch> {
    let Some(written) = written else {
        return plain(node, data, spans, rules);
    };
    let mut spans = spans;
    for run in written.chunk_by(|a, b| (*a == Written::Plain) == (*b == Written::Plain)) {
        let (of_run, rest) = spans.split_at(run.len());
        spans = rest;
        if run[0] == Written::Plain {
            plain(node, data, of_run, rules)?;
            continue;
        }
        for (span, written) in of_run.iter().zip(run) {
            push(node, data, *span, *written, rules)?;
        }
    }
    Ok(())
}

/// Appends strings without escapes.
fn plain(node: &mut Node, data: &[u8], spans: &[Span], rules: Rules<'_>) -> Result<(), Mismatch> {
    if let Kind::Scalar(scalar) = &mut node.kind
        && let Some(filled) = scalar.extend_texts(data, spans)
    {
        return filled;
    }
    let mut spans = spans.iter();
    spans.try_for_each(|span| push(node, data, *span, Written::Plain, rules))
}

fn push(
    node: &mut Node,
    data: &[u8],
    span: Span,
    written: Written,
    rules: Rules<'_>,
) -> Result<(), Mismatch> {
    // SAFETY: the walker has found valid UTF-8 there, a whole value: the record was checked, and
    // a value begins and ends beside ASCII.
    let text =
        || unsafe { std::str::from_utf8_unchecked(&data[span.start as usize..span.end as usize]) };
    match (&mut node.kind, written) {
        (_, Written::Null) if node.nullable => node.push_null(),
        (_, Written::Missing) if node.nullable && !rules.fail_on_missing_field => node.push_null(),
        (Kind::Scalar(scalar), Written::Plain) => scalar.push_str(text())?,
        (Kind::Scalar(scalar), Written::Escaped) => {
            let mut unescaped = String::new();
            escape::unescape(text(), &mut unescaped).ok_or(Mismatch)?;
            scalar.push_str(&unescaped)?;
        }
        (Kind::Scalar(scalar), Written::Whole) => number::push(scalar, text(), true)?,
        (Kind::Scalar(scalar), Written::Fraction) => number::push(scalar, text(), false)?,
        (Kind::Scalar(scalar), Written::True | Written::False) => match scalar.is_string() {
            true => scalar.push_str(text())?,
            false => scalar.push_bool(written == Written::True)?,
        },
        (kind, Written::Nested) if takes(kind, data[span.start as usize]) => {
            read_nested(node, text(), rules).ok_or(Mismatch)?;
        }
        _ => return Err(Mismatch),
    }
    Ok(())
}

/// Whether a value that opens with `first` can go into a column of this kind: a STRING takes its
/// text.
fn takes(kind: &Kind, first: u8) -> bool {
    match kind {
        Kind::Scalar(scalar) => scalar.is_string(),
        Kind::List(_) => first == b'[',
        Kind::Map(_) | Kind::Row(_) => first == b'{',
    }
}
