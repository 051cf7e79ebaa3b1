//! The types that SQL names.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion_common::Result;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

use super::udf::TIMESTAMP;

/// Makes `TIMESTAMP` microseconds in casts and in literals. DataFusion's own nanoseconds end in
/// the year 2262, and a union that starts with a literal would cast every other input to them.
///
/// `TIMESTAMP(0)` and `TIMESTAMP(3)` are left to DataFusion, whose casts cut the value to the
/// precision; the analyzer rule of [`register`](super::register) then goes on in microseconds.
#[derive(Debug)]
pub struct TimestampTypes;

impl TypePlanner for TimestampTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let is_ours = match sql_type {
            SqlType::Timestamp(precision, zone) => {
                let plain = matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone);
                plain && !matches!(precision, Some(0 | 3))
            }
            _ => false,
        };
        Ok(is_ours.then(|| Arc::new(Field::new("", TIMESTAMP, true))))
    }
}
