//! Functions that read the clock. They are volatile: DataFusion would otherwise take the time
//! once, while the query is planned, and a streaming query would show its start for ever.
//! Each batch reads the clock once.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::instant::TO_UNIX_TIMESTAMP;
use super::udf::{Spec, TIMESTAMP};
use crate::time::{Clock, US_PER_DAY, US_PER_SECOND};

static WITH_ARGUMENTS: Spec = TO_UNIX_TIMESTAMP;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    Timestamp,
    Date,
    /// Seconds; with arguments it is TO_UNIX_TIMESTAMP.
    Seconds,
}

pub(super) struct ClockFunction {
    name: &'static str,
    aliases: Vec<String>,
    reading: Reading,
    clock: Arc<dyn Clock>,
    signature: Signature,
}

impl ClockFunction {
    fn new(names: &[&'static str], reading: Reading, clock: &Arc<dyn Clock>) -> Self {
        ClockFunction {
            name: names[0],
            aliases: names[1..].iter().map(|n| n.to_string()).collect(),
            reading,
            clock: Arc::clone(clock),
            signature: Signature::user_defined(Volatility::Volatile),
        }
    }

    /// Every function that reads a clock, reading this one.
    pub fn all(clock: &Arc<dyn Clock>) -> [Self; 3] {
        let timestamps = [
            "now",
            "current_timestamp",
            "localtimestamp",
            "current_row_timestamp",
            "proctime",
        ];
        [
            Self::new(&timestamps, Reading::Timestamp, clock),
            Self::new(&["current_date", "today", "curdate"], Reading::Date, clock),
            Self::new(&["unix_timestamp"], Reading::Seconds, clock),
        ]
    }
}

impl std::fmt::Debug for ClockFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClockFunction({})", self.name)
    }
}

impl PartialEq for ClockFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ClockFunction {}

impl Hash for ClockFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ClockFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match self.reading {
            _ if arg_types.is_empty() => Ok(Vec::new()),
            Reading::Seconds => WITH_ARGUMENTS.coerce(arg_types),
            _ => plan_err!("{} takes no argument", self.name.to_uppercase()),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Timestamp => TIMESTAMP,
            Reading::Date => DataType::Date32,
            Reading::Seconds => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !args.args.is_empty() {
            return WITH_ARGUMENTS.invoke(&args.args, args.number_rows);
        }
        let us = self.clock.wall_us();
        Ok(ColumnarValue::Scalar(match self.reading {
            Reading::Timestamp => ScalarValue::TimestampMicrosecond(Some(us), None),
            Reading::Date => ScalarValue::Date32(i32::try_from(us.div_euclid(US_PER_DAY)).ok()),
            Reading::Seconds => ScalarValue::Int64(Some(us.div_euclid(US_PER_SECOND))),
        }))
    }
}
