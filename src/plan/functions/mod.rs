//! Scalar functions that make portable Flink SQL and Spark SQL files run on DataFusion.
//!
//! A function is here when DataFusion lacks it or means something else by its name. Where Flink
//! and Spark differ, Flink decides. Timestamps are microseconds, UTC, without a zone; results
//! that are text are `Utf8View`. A NULL argument gives NULL unless noted, and so does a value that
//! cannot be read (text that is no time, JSON that is none), because one bad row must not stop a
//! query. A bad *literal* (pattern, regular expression, path, unit) is a planning error.
//!
//! | function | origin | note |
//! |---|---|---|
//! | `TO_TIMESTAMP(text[, pattern])` | both | both spellings, offsets become UTC; replaces DataFusion's |
//! | `TO_TIMESTAMP(seconds)`, `TO_TIMESTAMP(timestamp)` | Spark | `TRY_TO_TIMESTAMP` is the same |
//! | `TO_TIMESTAMP_LTZ(epoch, 0 \| 3)`, `(text[, pattern[, 'UTC']])` | Flink | precision 6 too |
//! | `TO_DATE(text[, pattern])` | both | replaces DataFusion's |
//! | `DATE_FORMAT(time, pattern)` | both | Java's patterns; replaces DataFusion's alias of `to_char` |
//! | `FROM_UNIXTIME(seconds[, pattern])` | both | text; replaces DataFusion's |
//! | `UNIX_TIMESTAMP()`, `UNIX_TIMESTAMP(time[, pattern])` | both | with arguments planned as `TO_UNIX_TIMESTAMP` (Spark), which reads no clock |
//! | `TIMESTAMP_SECONDS`, `_MILLIS`, `_MICROS`; `UNIX_SECONDS`, `_MILLIS`, `_MICROS` | Spark | |
//! | `NOW`, `CURRENT_TIMESTAMP`, `LOCALTIMESTAMP`, `CURRENT_ROW_TIMESTAMP`, `PROCTIME` | both, Flink | read for each batch; DataFusion's are frozen when the query is planned |
//! | `CURRENT_DATE`, `CURDATE` | both, Spark | likewise |
//! | `YEAR QUARTER MONTH WEEK DAYOFYEAR DAYOFMONTH DAYOFWEEK HOUR MINUTE SECOND` | both | BIGINT; Sunday is 1, weeks are ISO |
//! | `DAY`, `WEEKDAY`, `WEEKOFYEAR` | Spark | Monday is weekday 0 |
//! | `DATEDIFF(end, start)`, `DATE_ADD`, `DATE_SUB`, `ADD_MONTHS`, `LAST_DAY` | Spark | days |
//! | `TIMESTAMPDIFF('unit', start, end)`, `TIMESTAMPADD('unit', n, time)` | both | the unit is text here |
//! | `CONCAT` | both | NULL when an argument is; DataFusion skips NULLs |
//! | `SUBSTR`, `SUBSTRING` (each spelling) | both | positions from the end; DataFusion follows PostgreSQL |
//! | `SPLIT_INDEX(text, delimiter, index)` | Flink | index from 0 |
//! | `LOCATE(part, text[, position])`, `ELT(n, …)` | both | |
//! | `IS_DIGIT`, `IS_ALPHA`, `IS_DECIMAL` | Flink | false for NULL |
//! | `STR_TO_MAP(text[, pairs[, values]])` | both | Flink's `,` and `=`; delimiters are no regular expressions |
//! | `PARSE_URL(url, part[, key])` | both | |
//! | `REGEXP_EXTRACT(text, regex[, group])` | both | group 0 by default (Flink), NULL without a match |
//! | `REGEXP_REPLACE(text, regex, new)` | both | replaces all; `$1` is a group when there is one (Spark), else text (Flink) |
//! | `REGEXP`, `RLIKE`, `REGEXP_LIKE` | Flink, Spark | |
//! | `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS`, `JSON_STRING` | Flink | `JSON_EXISTS` of bad JSON is false; `RETURNING` and `DEFAULT` in `plan/spellings/json.rs` |
//! | `GET_JSON_OBJECT` | Spark | |
//! | `LOG(x)`, `LOG(base, x)` | both | natural; DataFusion's is to base 10 |
//! | `POWER`, `POW` | both | DOUBLE; DataFusion's integers overflow |
//! | `MOD`, `E`, `BIN`, `HEX`, `UNHEX` | both | |
//! | `PMOD`, `RINT`, `LOG1P`, `EXPM1`, `HYPOT` | Spark | |
//! | `RAND_INTEGER(bound)` | Flink | |
//! | `SHA1`, `SHA224`, `SHA256`, `SHA384`, `SHA512`, `SHA2(text, bits)` | both | hexadecimal text; DataFusion's give bytes |
//! | `IF(condition, a, b)` | both | planned as CASE |
//! | `CEILING TRUNCATE SIGN LCASE UCASE LEN STARTSWITH ENDSWITH SIZE CHAR ARRAY SORT_ARRAY MAP_FROM_ARRAYS` | both | other names of DataFusion's functions |
//! | `APPROX_COUNT_DISTINCT VARIANCE STD EVERY SOME ANY FIRST LAST PERCENTILE PERCENTILE_APPROX APPROX_PERCENTILE` | both | other names of DataFusion's aggregates; more in `plan/spellings/calls.rs` |
//! | `TO_BASE64`, `FROM_BASE64` (text), `BASE64`, `UNBASE64` (bytes) | Flink, Spark | NULL for what is no base 64 |
//! | `SPLIT(text, delimiter)` | both | the delimiter is text (Flink), each character if it is empty |
//! | `text SIMILAR TO pattern` | both | the whole text, as SQL says; DataFusion looks for a part |
//! | `GREATEST`, `LEAST` | Flink | NULL when an argument is; DataFusion skips NULLs |
//! | `EXTRACT(DOW …)`, `EXTRACT(MILLISECOND …)`, `MICROSECOND`, `NANOSECOND` | both, Flink | Sunday is 1; without the seconds |
//! | `ENCODE(text, 'UTF-8')`, `DECODE(bytes, 'UTF-8')` | both | DataFusion's `base64` and `hex`, too |
//! | `map['key']` | both | DataFusion compares texts of one arrow type only, and takes literals only |
//! | `CAST(timestamp AS STRING)` | both | planned as `windrow_timestamp_to_string`: a blank, no `T`; so in `\|\|`, CONCAT and CONCAT_WS, and the next two |
//! | `CAST(double AS STRING)`, `CAST(boolean AS STRING)` | both, Flink | `1.0E10`, `TRUE` |
//! | `CAST(x AS VARCHAR(n))`, `CAST(x AS CHAR(n))` | both | cut to `n` characters, and filled up |
//! | `FIRST_VALUE`, `LAST_VALUE`, `NTH_VALUE`, `ANY_VALUE` | Flink | over a stream by its event time, then by the value, where their own order does not say; DataFusion's take what comes first |
//! | `ARRAY_AGG(x ORDER BY y)`, `LISTAGG` | both | likewise |
//! | `APPROX_COUNT_DISTINCT(double)` | both | DataFusion's has no doubles |
//! | `CAST(x AS TIMESTAMP(p))`, `TIMESTAMP '…'` | both | microseconds, of which the last are 0 if `p` is below 6; a number is seconds (Spark) |
//! | `CAST(text AS INT)` | both | `12.7` is 12; see `plan/casts.rs` |
//!
//! Known differences: a day that its month does not have (2022-02-30) is NULL, where Flink takes
//! the month's last; patterns are strict about the number of digits everywhere; regular expressions
//! have no look-around and no back-references (planning error); the only time zone is UTC.
//!
//! To add a function: one line in a `FUNCTIONS` table, one `fn(&Call) -> Result<ArrayRef>`, one
//! line above, and cases in `tests.rs`.

mod calendar;
mod clock;
mod instant;
mod json;
mod number;
mod parse;
mod pattern;
mod places;
mod regexp;
mod rewrite;
#[cfg(test)]
mod tests;
mod text;
mod types;
mod udf;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use datafusion_expr::registry::FunctionRegistry;

use self::clock::ClockFunction;
use self::rewrite::{If, Rewrite};
use self::udf::{Function, Spec};
use crate::time::Clock;

pub(super) use self::instant::CUT_TIME;
pub use self::places::Places;
pub use self::types::SqlTypes;

/// Other systems' names of functions that DataFusion has under the first name.
const ALIASES: &[(&str, &[&str])] = &[
    ("ceil", &["ceiling"]),
    ("trunc", &["truncate"]),
    ("signum", &["sign"]),
    ("lower", &["lcase"]),
    ("upper", &["ucase"]),
    ("character_length", &["length", "char_length", "len"]),
    ("starts_with", &["startswith"]),
    ("ends_with", &["endswith"]),
    ("cardinality", &["size"]),
    ("chr", &["char"]),
    ("map", &["map_from_arrays"]),
    ("make_array", &["array"]),
    ("array_sort", &["sort_array"]),
];

/// The same of aggregates.
const AGGREGATE_ALIASES: &[(&str, &[&str])] = &[
    ("approx_distinct", &["approx_count_distinct"]),
    (
        "approx_percentile_cont",
        &["approx_percentile", "percentile_approx"],
    ),
    ("percentile_cont", &["percentile"]),
    ("var", &["variance"]),
    ("stddev", &["std"]),
    ("bool_and", &["every"]),
    ("bool_or", &["some", "any"]),
    ("first_value", &["first"]),
    ("last_value", &["last"]),
];

/// Registers every function of this module, replacing DataFusion's of the same name, and the
/// analyzer rule that rewrites what functions cannot replace. `clock` is what NOW(),
/// CURRENT_TIMESTAMP and UNIX_TIMESTAMP() read.
///
/// The session must also be built with [`SqlTypes`] as its type planner. An error means that
/// the registry lacks one of DataFusion's own functions.
pub fn register(registry: &mut dyn FunctionRegistry, clock: &Arc<dyn Clock>) -> Result<()> {
    for (name, aliases) in ALIASES {
        let function = registry.udf(name)?.as_ref().clone();
        registry.register_udf(Arc::new(function.with_aliases(aliases.iter().copied())))?;
    }
    for (name, aliases) in AGGREGATE_ALIASES {
        let function = registry.udaf(name)?.as_ref().clone();
        registry.register_udaf(Arc::new(function.with_aliases(aliases.iter().copied())))?;
    }
    let tables: [&'static [Spec]; 7] = [
        &instant::FUNCTIONS,
        &calendar::FUNCTIONS,
        &text::FUNCTIONS,
        &regexp::FUNCTIONS,
        &number::FUNCTIONS,
        &json::FUNCTIONS,
        &rewrite::FUNCTIONS,
    ];
    for spec in tables.into_iter().flatten() {
        registry.register_udf(Arc::new(ScalarUDF::new_from_impl(Function::new(spec))))?;
    }
    for function in ClockFunction::all(clock) {
        registry.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    registry.register_udf(Arc::new(ScalarUDF::new_from_impl(If::new())))?;
    let rewrite = Rewrite::new(registry)?;
    registry.register_function_rewrite(Arc::new(rewrite))
}
