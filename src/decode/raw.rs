//! Raw records: the whole payload is the value of the only column.

use super::column::Scalar;
use super::{Bad, Decode, Decoded, Outcomes, text};
use crate::error::{Error, Result};
use crate::source::Blobs;
use crate::table::sql_name;
use arrow::datatypes::{DataType, SchemaRef};
use std::ops::Range;

/// Delivers each payload as it is: as a STRING, where one that is not UTF-8 is bad, or as BYTES,
/// where none is.
#[derive(Debug)]
pub struct RawDecoder {
    schema: SchemaRef,
    /// `None` when the column is not wanted: rows are only counted.
    column: Option<Scalar>,
    is_text: bool,
}

impl RawDecoder {
    /// `schema` has the only column, or none when nobody wants its value (`COUNT(*)`).
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let column = match schema.fields().as_ref() {
            [] => None,
            [field] => match field.data_type() {
                DataType::Utf8View | DataType::Binary => Scalar::new(field.data_type()),
                other => {
                    let (name, sql_type) = (field.name(), sql_name(other));
                    let message =
                        format!("column '{name}': format 'raw' cannot deliver {sql_type}");
                    return Err(Error::sql(message).with_hint("it delivers STRING or BYTES"));
                }
            },
            fields => {
                let message = format!("format 'raw' delivers one column, not {}", fields.len());
                return Err(Error::sql(message));
            }
        };
        let is_text = column.as_ref().is_some_and(Scalar::is_string);
        Ok(Self {
            schema,
            column,
            is_text,
        })
    }
}

impl Decode for RawDecoder {
    fn decode(&mut self, payload: &Blobs, range: Range<usize>) -> Result<Decoded> {
        if let Some(column) = &mut self.column {
            column.truncate(0);
            column.begin(&payload.data);
        }
        let mut outcomes = Outcomes::new(&range);
        for record in range {
            let Some(bytes) = payload.get(record) else {
                outcomes.gap();
                continue;
            };
            let pushed = match (
                &mut self.column,
                self.is_text.then(|| text(payload, record)).flatten(),
            ) {
                (_, Some(Err(bad))) => Err(bad.reason),
                (Some(column), Some(Ok(text))) => {
                    column.push_str(text).map_err(|_| "no text".to_string())
                }
                (Some(column), None) => {
                    column.push_bytes(bytes).map_err(|_| "too long".to_string())
                }
                (None, _) => Ok(()),
            };
            match pushed {
                Ok(()) => outcomes.row(record),
                Err(reason) => {
                    let field = self.schema.fields().first().map(|f| f.name().clone());
                    outcomes.bad(Bad {
                        record: record as u32,
                        field,
                        reason,
                    });
                }
            }
        }
        let column = self.column.as_mut().map(Scalar::finish).transpose()?;
        Ok(outcomes.finish(column.into_iter().collect()))
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

#[cfg(test)]
mod tests;
