//! JSON records: one object each.
//!
//! There are two paths to the same columns. The fast one finds where the values are (`walk`) and
//! then fills the columns (`fill`). What it gives up on is read again by serde_json (`visit`),
//! which alone decides what is an error and says why.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

mod compare;
mod escape;
mod fill;
mod keys;
mod masks;
mod node;
mod number;
mod shapes;
mod texts;
mod tokens;
mod value;
mod visit;
mod walk;

#[cfg(test)]
mod tests;

use super::{Bad, Decode, Decoded, Outcomes, text};
use crate::error::Result;
use crate::source::{Blobs, Span};
use arrow::datatypes::SchemaRef;
#[cfg(target_arch = "x86_64")]
use compare::Vectors;
use compare::{Compare, Words};
use fill::{Rules, fill};
use masks::Isa;
use node::{Label, Node, Row};
use serde::de::Deserializer;
use shapes::Run;
use std::ops::Range;
use tokens::Tokens;
use visit::{Context, Failure, Record};
use walk::{COLUMNS_MAX, GROUP, Walker};

#[derive(Debug, Clone, Default)]
pub struct JsonOptions {
    /// A record without one of the wanted fields is bad; otherwise the field is NULL.
    pub fail_on_missing_field: bool,
}

/// Reads records that are one JSON object each.
///
/// - A record is good when serde_json accepts it as a whole, unwanted fields included (depth up
///   to 127), and every wanted field fits its column. The last of equal keys counts.
/// - A missing field and an explicit `null` are NULL, and bad for a NOT NULL column.
/// - STRING also takes numbers, `true` and `false` as they are written, and objects and arrays
///   as their JSON text without blanks. All other types take their own JSON type only: integers
///   also as `1.0` or `1e3`, DECIMAL rounded half away from zero, FLOAT and DOUBLE rounded to
///   nearest, times as strings (`super::timestamp`), BYTES as base64 with padding, ARRAY as an
///   array, MAP and ROW as an object.
#[derive(Debug)]
pub struct JsonDecoder {
    schema: SchemaRef,
    options: JsonOptions,
    row: Row,
    isa: Isa,
    /// `None` when there are too many columns for it.
    walker: Option<Walker>,
    labels: Vec<Label>,
    /// The records that are read at the time, but for those that are absent.
    group: Box<[u32; GROUP]>,
    /// Of the current record; kept for its memory.
    failures: Vec<Failure>,
}

impl JsonDecoder {
    /// A decoder that delivers `schema`; each field stands under its own name.
    pub fn new(schema: SchemaRef, options: JsonOptions) -> Result<Self> {
        let keys: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        Self::with_keys(schema, &keys, options)
    }

    /// A decoder that delivers `schema`; field `i` stands under `keys[i]`.
    pub fn with_keys(schema: SchemaRef, keys: &[String], options: JsonOptions) -> Result<Self> {
        Self::with_isa(schema, keys, options, Isa::detect())
    }

    fn with_isa(
        schema: SchemaRef,
        keys: &[String],
        options: JsonOptions,
        isa: Isa,
    ) -> Result<Self> {
        let mut labels = Vec::new();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let row = Row::new(&keys, schema.fields(), "", &mut labels)?;
        Ok(Self {
            schema,
            options,
            isa,
            walker: (keys.len() <= COLUMNS_MAX).then(|| Walker::new(&keys, isa)),
            row,
            labels,
            group: Box::new([0; GROUP]),
            failures: Vec::new(),
        })
    }

    /// Reads the records of `range`.
    #[inline(always)]
    fn records<C: Compare>(
        &mut self,
        payload: &Blobs,
        range: Range<usize>,
        outcomes: &mut Outcomes,
    ) {
        let data = payload.data.as_slice();
        let records = &payload.spans[range.clone()];
        let last = records.iter().rfind(|record| !record.is_absent());
        let limit = last.map_or(0, |last| last.end as usize);
        let mut next = range.start;
        while next < range.end {
            let mut spans = [Span::ABSENT; GROUP];
            let (first, mut rows) = (next, 0);
            while rows < GROUP && next < range.end {
                let span = payload.spans[next];
                // In any case, and taken back where it is absent: that may be random.
                (self.group[rows], spans[rows]) = (next as u32, span);
                rows += usize::from(!span.is_absent());
                next += 1;
            }
            if rows < next - first {
                outcomes.gap();
            }
            self.group_of::<C>(payload, data, &spans[..rows], limit, outcomes);
        }
    }

    /// Reads the group's records, which are at `spans`.
    #[inline(always)]
    fn group_of<C: Compare>(
        &mut self,
        payload: &Blobs,
        data: &[u8],
        spans: &[Span],
        limit: usize,
        outcomes: &mut Outcomes,
    ) {
        // Up to there the columns are filled.
        let (mut filled, mut row) = (0, 0);
        while row < spans.len() {
            let mut is_walked = false;
            if let Some(walker) = &mut self.walker {
                let mut run = Run::Over;
                if walker.expects_alike() {
                    let alike;
                    (alike, run) = walker.walk_alike(data, &spans[row..], limit, row);
                    row += alike;
                    if run == Run::New {
                        walker.miss();
                    } else if row == spans.len() {
                        break;
                    }
                }
                // The next one is like none before, or for other paths.
                is_walked = walker.walk::<C>(data, spans[row], limit, row).is_ok();
                if is_walked && run == Run::New {
                    walker.learn(data, spans[row]);
                }
            }
            if !is_walked {
                self.fill_rows(payload, filled..row, outcomes);
                self.general(payload, self.group[row] as usize, outcomes);
                filled = row + 1;
            }
            row += 1;
        }
        self.fill_rows(payload, filled..spans.len(), outcomes);
        if let Some(walker) = &mut self.walker {
            walker.start_group();
        }
    }

    /// Fills the columns with rows `rows` of the group.
    fn fill_rows(&mut self, payload: &Blobs, rows: Range<usize>, outcomes: &mut Outcomes) {
        let (Some(walker), false) = (&self.walker, rows.is_empty()) else {
            return;
        };
        let data = payload.data.as_slice();
        let rules = Rules {
            fail_on_missing_field: self.options.fail_on_missing_field,
            labels: &self.labels,
        };
        let mut columns = self.row.children.iter_mut().enumerate();
        let filled = columns.try_for_each(|(column, node)| {
            fill(node, data, walker.values(column, rows.clone()), rules)
        });
        if filled.is_ok() {
            self.row.close_many(rows.len());
            outcomes.rows_of(&self.group[rows]);
            return;
        }
        // Some record is bad. Halves find it; why it is bad is said by the general path.
        self.row.truncate(outcomes.rows());
        if rows.len() == 1 {
            return self.general(payload, self.group[rows.start] as usize, outcomes);
        }
        let middle = rows.start + rows.len() / 2;
        self.fill_rows(payload, rows.start..middle, outcomes);
        self.fill_rows(payload, middle..rows.end, outcomes);
    }

    /// The same, compiled for the vectors and bit operations of newer processors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn records_avx2(&mut self, payload: &Blobs, range: Range<usize>, outcomes: &mut Outcomes) {
        self.records::<Vectors>(payload, range, outcomes);
    }

    /// What the fast path leaves: bad records, and rows that are unusual.
    #[inline(never)]
    fn general(&mut self, payload: &Blobs, record: usize, outcomes: &mut Outcomes) {
        let read = match text(payload, record) {
            None => return outcomes.gap(),
            Some(Ok(text)) => self.read(record as u32, text),
            Some(Err(bad)) => Err(bad),
        };
        match read {
            Ok(()) => outcomes.row(record),
            Err(bad) => {
                self.row.truncate(outcomes.rows());
                outcomes.bad(bad);
            }
        }
    }

    /// Reads one record into a new row. The caller takes back what a bad one has left behind.
    fn read(&mut self, record: u32, text: &str) -> Result<(), Bad> {
        self.failures.clear();
        let mut context = Context {
            tokens: Tokens::new(text),
            failures: &mut self.failures,
            labels: &self.labels,
            fail_on_missing_field: self.options.fail_on_missing_field,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_any(Record(&mut self.row, &mut context));
        if let Err(e) = read.and_then(|()| json.end()) {
            return Err(Bad {
                record,
                field: None,
                reason: e.to_string(),
            });
        }
        match self.failures.iter().find(|failure| !failure.replaced) {
            None => Ok(()),
            Some(failure) => {
                let field = Some(self.labels[failure.node].path.clone());
                Err(Bad {
                    record,
                    field,
                    reason: failure.reason.clone(),
                })
            }
        }
    }
}

impl Decode for JsonDecoder {
    fn decode(&mut self, payload: &Blobs, range: Range<usize>) -> Result<Decoded> {
        self.row.truncate(0);
        self.row.begin(&payload.data);
        if let Some(walker) = &mut self.walker {
            walker.begin();
        }
        let mut outcomes = Outcomes::new(&range);
        match self.isa {
            // SAFETY: the processor has the features, or `Isa::all` would not have listed it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe { self.records_avx2(payload, range, &mut outcomes) },
            _ => self.records::<Words>(payload, range, &mut outcomes),
        }
        Ok(outcomes.finish(self.row.finish_children()?))
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Reads `text`, an object or array that is known to be JSON, into a new slot of `node`; `None`
/// when a value in it does not fit.
fn read_nested(node: &mut Node, text: &str, rules: Rules<'_>) -> Option<()> {
    let mut failures = Vec::new();
    let mut context = Context {
        tokens: Tokens::new(text),
        failures: &mut failures,
        labels: rules.labels,
        fail_on_missing_field: rules.fail_on_missing_field,
    };
    visit::read_value(node, text, &mut context).ok()?;
    failures
        .iter()
        .all(|failure| failure.replaced)
        .then_some(())
}
