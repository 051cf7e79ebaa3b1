//! The types that SQL names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::Result;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{
    CharacterLength, DataType as SqlType, ObjectName, TimezoneInfo,
};

use super::udf::TIMESTAMP;

/// Metadata of the type that a cast is to: the most characters that its text may have.
pub(super) const LENGTH: &str = "windrow.length";
/// Of a time: the most digits that its seconds may have.
pub(super) const PRECISION: &str = "windrow.precision";
/// It has exactly so many, blanks behind if need be.
pub(super) const PADDED: &str = "windrow.padded";

/// Makes `TIMESTAMP` and `TIME` microseconds in casts and in literals. DataFusion's own nanoseconds end in
/// the year 2262, and a union that starts with a literal would cast every other input to them.
///
/// The analyzer rule of [`register`](super::register) cuts values to the precision of `TIMESTAMP(p)`
/// and texts to the length of `VARCHAR(n)` and `CHAR(n)`, which arrow's types do not have.
/// `BYTES` and `TIMESTAMP_LTZ` are Flink's.
#[derive(Debug)]
pub struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let field = |data_type| Some(Arc::new(Field::new("", data_type, true)));
        let text = |length: &Option<CharacterLength>, padded: bool| {
            let length = match length {
                Some(CharacterLength::IntegerLength { length, .. }) => *length,
                Some(CharacterLength::Max) => return None,
                None if padded => 1,
                None => return None,
            };
            let mut metadata = HashMap::from([(LENGTH.to_string(), length.to_string())]);
            if padded {
                metadata.insert(PADDED.to_string(), String::new());
            }
            let text = Field::new("", DataType::Utf8View, true);
            Some(Arc::new(text.with_metadata(metadata)))
        };
        let time = |digits: Option<String>| {
            let precision = digits.map(|digits| (PRECISION.to_string(), digits));
            let field = Field::new("", TIMESTAMP, true);
            Some(Arc::new(
                field.with_metadata(precision.into_iter().collect()),
            ))
        };
        Ok(match sql_type {
            SqlType::Timestamp(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                time(digits.map(|digits| digits.to_string()))
            }
            SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                field(DataType::Time64(TimeUnit::Microsecond))
            }
            SqlType::Varchar(length)
            | SqlType::CharVarying(length)
            | SqlType::CharacterVarying(length) => text(length, false),
            SqlType::Char(length) | SqlType::Character(length) => text(length, true),
            SqlType::Bytes(_) => field(DataType::Binary),
            SqlType::Custom(name, digits) if is_named(name, "TIMESTAMP_LTZ") => {
                time(digits.first().cloned())
            }
            _ => None,
        })
    }
}

fn is_named(name: &ObjectName, expected: &str) -> bool {
    name.to_string().eq_ignore_ascii_case(expected)
}
