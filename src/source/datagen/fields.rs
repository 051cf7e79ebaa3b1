//! `fields.<column>.…`: what one column of a datagen table holds.

use crate::error::{Error, Result, nearest};
use crate::options::Options;
use crate::table::{Column, ColumnKind, TableDef, sql_name};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use std::ops::Range;
use std::sync::Arc;

const PROPERTIES: [&str; 9] = [
    "kind",
    "min",
    "max",
    "length",
    "var-len",
    "start",
    "end",
    "max-past",
    "null-rate",
];
const DAY_US: i64 = 86_400_000_000;

/// One column: how its values are made. Value `i` depends on the seed, the column's place in
/// the declaration and `i`.
#[derive(Debug, Clone)]
pub(super) struct Field {
    data_type: DataType,
    kind: Kind,
    /// NULL below this, in units of 2⁻³².
    null_below: u64,
    stream: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Sequence {
        start: i64,
        end: i64,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    /// In units of the type's scale.
    Decimal {
        min: i128,
        max: i128,
    },
    Boolean,
    Text {
        length: u64,
        variable: bool,
    },
    Bytes {
        length: u64,
        variable: bool,
    },
    /// The clock's time less 0 to `max_past_us`.
    Time {
        max_past_us: i64,
    },
}

/// Every `fields.…` option must name a physical column and a property.
pub(super) fn check_names(def: &TableDef) -> Result<()> {
    for (rest, _) in def.options.with_prefix("fields.") {
        let key = format!("fields.{rest}");
        let (name, property) = rest.rsplit_once('.').unwrap_or((rest, ""));
        if !PROPERTIES.contains(&property) {
            let hint = nearest(property, PROPERTIES)
                .unwrap_or_else(|| format!("there are {}", PROPERTIES.join(", ")));
            return Err(def
                .options
                .invalid(&key, format!("a field has no property '{property}'"))
                .with_hint(hint));
        }
        let physical = || {
            def.columns
                .iter()
                .filter(|c| c.kind == ColumnKind::Physical)
                .map(|c| c.name.as_str())
        };
        if !physical().any(|c| c == name) {
            let error = def
                .options
                .invalid(&key, format!("table '{}' has no column '{name}'", def.name));
            return Err(match nearest(name, physical()) {
                Some(hint) => error.with_hint(hint),
                None => error,
            });
        }
    }
    Ok(())
}

impl Field {
    /// `number` is the column's place in the declaration: a query that reads fewer columns
    /// gets the same values.
    pub(super) fn new(column: &Column, options: &Options, seed: u64, number: u64) -> Result<Field> {
        let reader = PropertyReader { column, options };
        let kind = match reader.text("kind").unwrap_or("random") {
            "random" => reader.random()?,
            "sequence" => reader.sequence()?,
            _ => return Err(reader.invalid("kind", "expected random or sequence")),
        };
        let null_rate = reader.number("null-rate")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(reader.invalid("null-rate", "expected 0 to 1"));
        }
        if null_rate > 0.0 && !column.nullable {
            return Err(reader.invalid("null-rate", "the column is declared NOT NULL"));
        }
        Ok(Field {
            data_type: column.data_type.clone(),
            kind,
            null_below: (null_rate * 4_294_967_296.0) as u64,
            stream: mix(seed ^ mix(number.wrapping_add(1))),
        })
    }

    /// How many rows a sequence lasts; `None` for a column without end.
    pub(super) fn rows(&self) -> Option<i64> {
        match self.kind {
            Kind::Sequence { start, end } => Some(end.saturating_sub(start).saturating_add(1)),
            _ => None,
        }
    }

    /// The values of `rows`, of the column's type.
    pub(super) fn array(&self, rows: Range<i64>, now_us: i64) -> Result<ArrayRef> {
        let array: ArrayRef = match self.kind {
            Kind::Sequence { start, .. } => Arc::new(Int64Array::from_iter(
                self.values(rows, |row| start.wrapping_add(row)),
            )),
            Kind::Integer { min, max } => {
                Arc::new(Int64Array::from_iter(self.values(rows, |row| {
                    let width = (i128::from(max) - i128::from(min) + 1) as u128;
                    (i128::from(min) + below(self.draw(row, 0), width) as i128) as i64
                })))
            }
            Kind::Float { min, max } => {
                Arc::new(Float64Array::from_iter(self.values(rows, |row| {
                    let unit = (self.draw(row, 0) >> 11) as f64 / (1u64 << 53) as f64;
                    // Not min + unit * (max - min), which overflows for the type's whole range.
                    min * (1.0 - unit) + max * unit
                })))
            }
            Kind::Decimal { min, max } => {
                let values = self.values(rows, |row| {
                    min + below(self.draw(row, 0), (max - min) as u128 + 1) as i128
                });
                Arc::new(Decimal128Array::from_iter(values).with_data_type(self.data_type.clone()))
            }
            Kind::Boolean => Arc::new(BooleanArray::from_iter(
                self.values(rows, |row| self.draw(row, 0) & 1 == 1),
            )),
            Kind::Text { length, variable } => {
                Arc::new(StringArray::from_iter(self.values(rows, |row| {
                    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
                    self.nibbles(row, length, variable)
                        .map(digit)
                        .collect::<String>()
                })))
            }
            Kind::Bytes { length, variable } => {
                Arc::new(BinaryArray::from_iter(self.values(rows, |row| {
                    let nibbles: Vec<u8> = self.nibbles(row, length, variable).collect();
                    nibbles.iter().map(|n| n * 17).collect::<Vec<u8>>()
                })))
            }
            Kind::Time { max_past_us } => {
                Arc::new(Int64Array::from_iter(self.values(rows, |row| {
                    let us = now_us - below(self.draw(row, 0), max_past_us as u128 + 1) as i64;
                    self.time(us)
                })))
            }
        };
        self.convert(array)
    }

    /// Microseconds since the epoch in the unit of the column's type.
    fn time(&self, us: i64) -> i64 {
        match &self.data_type {
            DataType::Date32 => us.div_euclid(DAY_US),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                in_unit(us.rem_euclid(DAY_US), *unit)
            }
            DataType::Timestamp(unit, _) => in_unit(us, *unit),
            _ => us,
        }
    }

    fn convert(&self, array: ArrayRef) -> Result<ArrayRef> {
        // arrow has no direct way from 64-bit numbers to the 32-bit times.
        let array = match self.data_type {
            DataType::Date32 | DataType::Time32(_) => cast(&array, &DataType::Int32)?,
            _ => array,
        };
        Ok(if *array.data_type() == self.data_type {
            array
        } else {
            cast(&array, &self.data_type)?
        })
    }

    fn values<T>(
        &self,
        rows: Range<i64>,
        value: impl Fn(i64) -> T,
    ) -> impl Iterator<Item = Option<T>> {
        rows.map(move |row| {
            // The draw with the largest number is the one that no value uses.
            let null = self.null_below > 0 && (self.draw(row, u64::MAX) >> 32) < self.null_below;
            (!null).then(|| value(row))
        })
    }

    /// `length` values of 4 bits, or as many as chance says up to `length`.
    fn nibbles(&self, row: i64, length: u64, variable: bool) -> impl Iterator<Item = u8> {
        let length = if variable {
            1 + below(self.draw(row, u64::MAX - 1), length.max(1).into())
        } else {
            length
        };
        (0..length).map(move |i| ((self.draw(row, i / 16) >> (i % 16 * 4)) & 15) as u8)
    }

    /// 64 random bits for part `part` of row `row`.
    fn draw(&self, row: i64, part: u64) -> u64 {
        mix(self.stream ^ mix((row as u64).wrapping_add(mix(part))))
    }
}

/// The finaliser of splitmix64 (Sebastiano Vigna, public domain), one step on.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `bits` scaled to 0..`n`; `n` is at most 2⁶⁴.
fn below(bits: u64, n: u128) -> u64 {
    match u64::try_from(n) {
        Ok(n) => ((u128::from(bits) * u128::from(n)) >> 64) as u64,
        Err(_) => bits,
    }
}

fn in_unit(us: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => us.div_euclid(1_000_000),
        TimeUnit::Millisecond => us.div_euclid(1000),
        TimeUnit::Microsecond => us,
        TimeUnit::Nanosecond => us.saturating_mul(1000),
    }
}

/// The options of one column.
struct PropertyReader<'a> {
    column: &'a Column,
    options: &'a Options,
}

impl PropertyReader<'_> {
    fn key(&self, property: &str) -> String {
        format!("fields.{}.{property}", self.column.name)
    }

    fn text(&self, property: &str) -> Option<&str> {
        self.options.get(&self.key(property))
    }

    fn integer(&self, property: &str) -> Result<Option<i64>> {
        self.options.integer(&self.key(property))
    }

    fn number(&self, property: &str) -> Result<Option<f64>> {
        let parse = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| self.invalid(property, "expected a number"))
        };
        self.text(property).map(parse).transpose()
    }

    fn invalid(&self, property: &str, message: &str) -> Error {
        self.options.invalid(&self.key(property), message)
    }

    fn sequence(&self) -> Result<Kind> {
        let t = &self.column.data_type;
        if !(t.is_numeric() || t.is_string()) {
            return Err(self.invalid("kind", "a sequence is made of numbers or of text"));
        }
        let (Some(start), Some(end)) = (self.integer("start")?, self.integer("end")?) else {
            return Err(self.invalid("kind", "a sequence needs start and end"));
        };
        if end < start {
            return Err(self.invalid("end", "the end is before the start"));
        }
        let (min, max) = integer_range(t).unwrap_or((i64::MIN, i64::MAX));
        if start < min || end > max {
            return Err(self.invalid("end", &format!("start or end is no {}", sql_name(t))));
        }
        Ok(Kind::Sequence { start, end })
    }

    fn random(&self) -> Result<Kind> {
        let kind = match &self.column.data_type {
            DataType::Boolean => Kind::Boolean,
            DataType::Float32 => self.float(f64::from(f32::MIN), f64::from(f32::MAX))?,
            DataType::Float64 => self.float(f64::MIN, f64::MAX)?,
            DataType::Decimal128(precision, scale) => self.decimal(*precision, *scale)?,
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Kind::Text {
                length: self.length()?,
                variable: self.variable()?,
            },
            DataType::Binary | DataType::BinaryView | DataType::LargeBinary => Kind::Bytes {
                length: self.length()?,
                variable: self.variable()?,
            },
            DataType::Date32
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(..) => {
                let max_past = self
                    .options
                    .duration(&self.key("max-past"))?
                    .unwrap_or_default();
                Kind::Time {
                    max_past_us: max_past.as_micros().min(i64::MAX as u128 / 4) as i64,
                }
            }
            other => {
                match integer_range(other) {
                    Some((min, max)) => {
                        let (low, high) = (
                            self.integer("min")?.unwrap_or(min),
                            self.integer("max")?.unwrap_or(max),
                        );
                        if low > high || low < min || high > max {
                            return Err(self.invalid(
                                "max",
                                &format!("expected min and max of {min} to {max}, min first"),
                            ));
                        }
                        Kind::Integer {
                            min: low,
                            max: high,
                        }
                    }
                    None => {
                        let column = &self.column.name;
                        return Err(Error::sql(format!("datagen makes no values of type {} (column '{column}')", sql_name(other)))
                        .or_at(self.column.at)
                        .with_hint("declare its parts as columns, and put them together in a computed column"));
                    }
                }
            }
        };
        Ok(kind)
    }

    fn float(&self, min: f64, max: f64) -> Result<Kind> {
        let (min, max) = (
            self.number("min")?.unwrap_or(min),
            self.number("max")?.unwrap_or(max),
        );
        // Also false for NaN.
        if min <= max {
            Ok(Kind::Float { min, max })
        } else {
            Err(self.invalid("max", "min is above max"))
        }
    }

    fn decimal(&self, precision: u8, scale: i8) -> Result<Kind> {
        let limit = 10i128.pow(u32::from(precision.min(18))) - 1;
        let units = |value: f64| (value * 10f64.powi(i32::from(scale))).round() as i128;
        let min = self.number("min")?.map_or(-limit, units);
        let max = self.number("max")?.map_or(limit, units);
        if min > max || min < -limit || max > limit {
            return Err(self.invalid(
                "max",
                "min and max do not fit the type, or min is above max",
            ));
        }
        Ok(Kind::Decimal { min, max })
    }

    fn length(&self) -> Result<u64> {
        match self.integer("length")?.unwrap_or(100) {
            length @ 0..=1_000_000 => Ok(length as u64),
            _ => Err(self.invalid("length", "expected 0 to 1000000")),
        }
    }

    fn variable(&self) -> Result<bool> {
        Ok(self.options.bool(&self.key("var-len"))?.unwrap_or(false))
    }
}

fn integer_range(data_type: &DataType) -> Option<(i64, i64)> {
    match data_type {
        DataType::Int8 => Some((i8::MIN.into(), i8::MAX.into())),
        DataType::Int16 => Some((i16::MIN.into(), i16::MAX.into())),
        DataType::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
        DataType::Int64 => Some((i64::MIN, i64::MAX)),
        _ => None,
    }
}
