//! The adapter between one row of a table of functions ([`Spec`]) and DataFusion's
//! [`ScalarUDFImpl`]: argument types, planning-time checks, columns and scalars are handled here,
//! so that a function is a name, its parameters and one loop over rows.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::encode::text::scalar::{float32, float64};
use crate::table::sql_name;
use crate::time::{US_PER_DAY, format_us};

/// The one timestamp type of windrow: microseconds since 1970-01-01 UTC.
pub(super) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// What a parameter takes. Arguments are cast to one column type per kind before the function
/// sees them; what is not listed is a planning error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Text; numbers, booleans, dates and timestamps as the text that CAST gives. Read with
    /// [`Call::text`].
    Text,
    /// Whole numbers, as `Int64`. Read with [`Call::int`].
    Int,
    /// Numbers, as `Float64`. Read with [`Call::double`].
    Double,
    /// Whole numbers as `Int64`, other numbers as `Float64`.
    Number,
    /// Timestamps and dates (NULL outside of the timestamps' range); text is parsed, NULL when it is none. Read with [`Call::time`].
    Time,
    /// Text, timestamps or numbers, each as its own type.
    Moment,
    /// Text or whole numbers, each as its own type.
    TextOrInt,
    /// Text, bytes or whole numbers, each as its own type.
    Bytes,
    /// Text, booleans or numbers, each as its own type.
    Json,
}

impl Kind {
    /// The type that an argument of type `given` is cast to; `None` when it does not fit.
    fn accept(self, given: &DataType) -> Option<DataType> {
        use DataType::*;
        let given = match given {
            Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        let is_text = matches!(given, Utf8 | LargeUtf8 | Utf8View);
        let is_time = matches!(given, Timestamp(..) | Date32 | Date64);
        let text = is_text.then_some(Utf8View);
        let int = given.is_integer().then_some(Int64);
        let number = int.clone().or(given.is_numeric().then_some(Float64));
        // Dates may lie outside of the timestamps' range, where a cast is an error.
        let time = is_time.then_some(match given {
            Date32 => Date32,
            _ => TIMESTAMP,
        });
        if given == &Null {
            return Some(match self {
                Kind::Int | Kind::Number => Int64,
                Kind::Double => Float64,
                Kind::Time | Kind::Moment => TIMESTAMP,
                _ => Utf8View,
            });
        }
        match self {
            Kind::Text => match given {
                Timestamp(..) => time,
                Float32 | Float64 | Boolean => Some(given.clone()),
                Date32 | Date64 | Time32(_) | Time64(_) => Some(Utf8View),
                _ => text.or(number.and(Some(Utf8View))),
            },
            Kind::Int => int,
            Kind::Double => number.and(Some(Float64)),
            Kind::Number => number,
            Kind::Time => text.or(time),
            Kind::Moment => text.or(time).or(number),
            Kind::TextOrInt => text.or(int),
            Kind::Bytes => {
                let bytes = matches!(
                    given,
                    Binary | LargeBinary | BinaryView | FixedSizeBinary(_)
                );
                text.or(int).or(bytes.then_some(Binary))
            }
            Kind::Json => {
                let is_plain = given.is_numeric() || given == &Boolean;
                text.or(is_plain.then(|| given.clone()))
            }
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Int => "a whole number",
            Kind::Double | Kind::Number => "a number",
            Kind::Time => "a timestamp, a date or text",
            Kind::Moment => "text, a timestamp or a number",
            Kind::TextOrInt => "text or a whole number",
            Kind::Bytes => "text, bytes or a whole number",
            Kind::Json => "text, a number or a boolean",
        }
    }
}

/// One parameter: its name in messages, what it takes, whether it can be left out.
#[derive(Debug)]
pub(super) struct Param {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
}

pub(super) const fn param(name: &'static str, kind: Kind) -> Param {
    Param {
        name,
        kind,
        optional: false,
    }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Param {
    Param {
        name,
        kind,
        optional: true,
    }
}

/// The type of the result: always the same, or by the (cast) arguments' types.
pub(super) enum Returns {
    Is(DataType),
    By(fn(&[DataType]) -> DataType),
}

/// Looks at the arguments that are literals (`None`: not a literal) while the query is planned.
pub(super) type Check = fn(&[Option<&str>]) -> Result<(), String>;

/// One function. NULL arguments are the function's own business; nearly all give NULL.
pub(super) struct Spec {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub params: &'static [Param],
    /// The last parameter may be repeated.
    pub variadic: bool,
    pub returns: Returns,
    pub volatility: Volatility,
    /// Rejects bad literals (a pattern, a path) with the position of the query, not of a row.
    pub check: Option<Check>,
    /// Gives [`Call::rows`] values of the type that `returns` says.
    pub eval: fn(&Call) -> Result<ArrayRef>,
}

impl Spec {
    /// An immutable function without aliases and checks.
    pub const fn new(
        name: &'static str,
        params: &'static [Param],
        returns: DataType,
        eval: fn(&Call) -> Result<ArrayRef>,
    ) -> Spec {
        Spec::returning(name, params, Returns::Is(returns), eval)
    }

    pub const fn returning(
        name: &'static str,
        params: &'static [Param],
        returns: Returns,
        eval: fn(&Call) -> Result<ArrayRef>,
    ) -> Spec {
        Spec {
            name,
            aliases: &[],
            params,
            variadic: false,
            returns,
            volatility: Volatility::Immutable,
            check: None,
            eval,
        }
    }

    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Spec {
        self.aliases = aliases;
        self
    }

    pub const fn check(mut self, check: Check) -> Spec {
        self.check = Some(check);
        self
    }

    pub const fn variadic(mut self) -> Spec {
        self.variadic = true;
        self
    }

    /// The function may give another result for the same arguments.
    pub const fn volatile(mut self) -> Spec {
        self.volatility = Volatility::Volatile;
        self
    }

    fn param(&self, position: usize) -> Option<&'static Param> {
        let last = self.params.last().filter(|_| self.variadic);
        self.params.get(position).or(last)
    }

    /// The types that arguments of the types `given` are cast to.
    pub fn coerce(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name.to_uppercase();
        let required = self.params.iter().filter(|p| !p.optional).count();
        if given.len() < required {
            let missing = self.params[given.len()].name;
            return plan_err!(
                "{name}: argument {} ({missing}) is missing",
                given.len() + 1
            );
        }
        let typed = given.iter().enumerate().map(|(i, data_type)| {
            let Some(param) = self.param(i) else {
                let most = self.params.len();
                return plan_err!("{name} takes {most} argument(s), not {}", given.len());
            };
            match param.kind.accept(data_type) {
                Some(target) => Ok(target),
                None => plan_err!(
                    "{name}: argument {} ({}) takes {}, not {}",
                    i + 1,
                    param.name,
                    param.kind.takes(),
                    sql_name(data_type)
                ),
            }
        });
        typed.collect()
    }

    /// The result's type for coerced arguments, once literals have passed the check.
    pub fn return_type(
        &self,
        types: &[DataType],
        scalars: &[Option<&ScalarValue>],
    ) -> Result<DataType> {
        if let Some(check) = self.check {
            let texts: Vec<Option<&str>> = scalars
                .iter()
                .map(|s| s.and_then(|s| s.try_as_str().flatten()))
                .collect();
            if let Err(message) = check(&texts) {
                return plan_err!("{}: {message}", self.name.to_uppercase());
            }
        }
        Ok(match &self.returns {
            Returns::Is(data_type) => data_type.clone(),
            Returns::By(f) => f(types),
        })
    }

    /// Evaluates the function. Arguments that are all scalars give a scalar.
    pub fn invoke(&'static self, args: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
        let scalar = self.volatility != Volatility::Volatile
            && args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let call = Call::new(self, args, if scalar { 1 } else { rows })?;
        let result = (self.eval)(&call)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &result, 0,
            )?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// A [`Spec`] as DataFusion sees it. Functions are the same when their names are.
pub(super) struct Function {
    spec: &'static Spec,
    signature: Signature,
    aliases: Vec<String>,
}

impl Function {
    pub fn new(spec: &'static Spec) -> Self {
        Function {
            spec,
            signature: Signature::user_defined(spec.volatility),
            aliases: spec.aliases.iter().map(|a| a.to_string()).collect(),
        }
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({})", self.spec.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.spec.coerce(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.spec.return_type(arg_types, &[])
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        let data_type = self.spec.return_type(&types, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.spec.invoke(&args.args, args.number_rows)
    }
}

/// The arguments of one evaluation.
pub(super) struct Call {
    spec: &'static Spec,
    /// With the step from row to row: 1, or 0 for a scalar, which is an array of one value.
    args: Vec<(ArrayRef, usize)>,
    rows: usize,
}

impl Call {
    fn new(spec: &'static Spec, args: &[ColumnarValue], rows: usize) -> Result<Call> {
        let convert = |(i, arg): (usize, &ColumnarValue)| {
            let (array, step) = match arg {
                ColumnarValue::Array(array) => (Arc::clone(array), 1),
                ColumnarValue::Scalar(scalar) => (scalar.to_array_of_size(1)?, 0),
            };
            let kind = spec.param(i).map(|p| p.kind);
            let array = match (kind, array.data_type()) {
                (Some(Kind::Text), _) => to_text(array),
                (Some(Kind::Time), DataType::Utf8View) => text_to_timestamps(&array),
                (Some(Kind::Time | Kind::Moment), DataType::Date32) => dates_to_timestamps(&array),
                _ => array,
            };
            Ok((array, step))
        };
        Ok(Call {
            spec,
            args: args
                .iter()
                .enumerate()
                .map(convert)
                .collect::<Result<_>>()?,
            rows,
        })
    }

    /// How many values the result has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments were given.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// The argument's array (of one value for a scalar).
    pub fn array(&self, i: usize) -> &ArrayRef {
        &self.args[i].0
    }

    /// The type of argument `i`, `Null` when it was not given.
    pub fn data_type(&self, i: usize) -> &DataType {
        self.args
            .get(i)
            .map_or(&DataType::Null, |(array, _)| array.data_type())
    }

    fn column<'a, A>(&'a self, i: usize, array: Option<&'a A>) -> Result<Column<&'a A>> {
        match (array, self.args.get(i)) {
            (Some(array), Some((_, step))) => Ok(Column { array, step: *step }),
            _ => Err(self.error(i, format!("has the unexpected type {}", self.data_type(i)))),
        }
    }

    /// Another array with the values of argument `i`.
    pub fn like<'a, A>(&self, i: usize, array: &'a A) -> Column<&'a A> {
        let step = self.args[i].1;
        Column { array, step }
    }

    pub fn text(&self, i: usize) -> Result<Column<&StringViewArray>> {
        self.column(i, self.args.get(i).and_then(|a| a.0.as_string_view_opt()))
    }

    /// Argument `i` when it was given.
    pub fn optional_text(&self, i: usize) -> Result<Option<Column<&StringViewArray>>> {
        (i < self.len()).then(|| self.text(i)).transpose()
    }

    pub fn int(&self, i: usize) -> Result<Column<&Int64Array>> {
        let array = self
            .args
            .get(i)
            .map(|a| a.0.as_primitive_opt::<Int64Type>());
        self.column(i, array.flatten())
    }

    /// Argument `i` when it was given.
    pub fn optional_int(&self, i: usize) -> Result<Option<Column<&Int64Array>>> {
        (i < self.len()).then(|| self.int(i)).transpose()
    }

    pub fn double(&self, i: usize) -> Result<Column<&Float64Array>> {
        let array = self
            .args
            .get(i)
            .map(|a| a.0.as_primitive_opt::<Float64Type>());
        self.column(i, array.flatten())
    }

    pub fn bytes(&self, i: usize) -> Result<Column<&BinaryArray>> {
        self.column(i, self.args.get(i).and_then(|a| a.0.as_binary_opt()))
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn time(&self, i: usize) -> Result<Column<&TimestampMicrosecondArray>> {
        let array = self.args.get(i);
        let array = array.map(|a| a.0.as_primitive_opt::<TimestampMicrosecondType>());
        self.column(i, array.flatten())
    }

    /// An error about argument `i` (from 0) while rows are evaluated.
    pub fn error(&self, i: usize, message: impl std::fmt::Display) -> DataFusionError {
        let function = self.spec.name.to_uppercase();
        let name = self.spec.param(i).map_or("?", |p| p.name);
        exec_datafusion_err!("{function}: argument {} ({name}) {message}", i + 1)
    }

    /// The column of `f(row)`.
    pub fn map<A, T>(&self, f: impl FnMut(usize) -> Option<T>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        Ok(Arc::new((0..self.rows).map(f).collect::<A>()))
    }

    /// The column of `f(row)`, or the first error.
    pub fn try_map<A, T>(&self, f: impl FnMut(usize) -> Result<Option<T>>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        Ok(Arc::new((0..self.rows).map(f).collect::<Result<A>>()?))
    }
}

/// A column or a repeated scalar.
#[derive(Clone, Copy)]
pub(super) struct Column<A> {
    array: A,
    step: usize,
}

impl<A: ArrayAccessor> Column<A> {
    /// The value of a row, `None` for NULL.
    pub fn get(&self, row: usize) -> Option<A::Item> {
        let i = row * self.step;
        (!self.array.is_null(i)).then(|| self.array.value(i))
    }
}

/// Keeps what the last few texts compiled to: a literal is compiled once per batch, and so is each of
/// a few patterns that take turns in a column.
pub(super) struct Memo<T> {
    known: Vec<(String, T)>,
    /// Whose place is taken next.
    oldest: usize,
}

impl<T> Memo<T> {
    const MOST: usize = 16;

    pub fn new() -> Self {
        Memo {
            known: Vec::new(),
            oldest: 0,
        }
    }

    /// What `text` compiles to.
    pub fn get<E>(&mut self, text: &str, compile: impl Fn(&str) -> Result<T, E>) -> Result<&T, E> {
        if let Some(at) = self.known.iter().position(|(key, _)| key == text) {
            return Ok(&self.known[at].1);
        }
        let entry = (text.to_string(), compile(text)?);
        let at = match self.known.len() {
            Self::MOST => {
                let at = self.oldest;
                self.oldest = (at + 1) % Self::MOST;
                self.known[at] = entry;
                at
            }
            at => {
                self.known.push(entry);
                at
            }
        };
        Ok(&self.known[at].1)
    }
}

/// Values as Flink and Spark print them: of timestamps arrow's cast writes a `T`, of 1.0E10 all zeros.
/// Other types stay as they are.
pub(super) fn to_text(array: ArrayRef) -> ArrayRef {
    let texts: StringViewArray = match array.data_type() {
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            numbers.map(|n| written(n, float64)).collect()
        }
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>().iter();
            numbers.map(|n| written(n, float32)).collect()
        }
        DataType::Boolean => {
            let text = |is: bool| if is { "TRUE" } else { "FALSE" };
            array.as_boolean().iter().map(|is| is.map(text)).collect()
        }
        data_type if data_type == &TIMESTAMP => {
            let times = array.as_primitive::<TimestampMicrosecondType>().iter();
            times.map(|us| us.map(format_us)).collect()
        }
        _ => return array,
    };
    Arc::new(texts)
}

fn written<T>(number: Option<T>, write: fn(&mut Vec<u8>, T)) -> Option<String> {
    let mut text = Vec::new();
    write(&mut text, number?);
    String::from_utf8(text).ok()
}

/// NULL for a day outside of the timestamps' range.
fn dates_to_timestamps(array: &ArrayRef) -> ArrayRef {
    let days = array.as_primitive::<Date32Type>().iter();
    let us = |day: Option<i32>| i64::from(day?).checked_mul(US_PER_DAY);
    Arc::new(days.map(us).collect::<TimestampMicrosecondArray>())
}

fn text_to_timestamps(array: &ArrayRef) -> ArrayRef {
    let texts = array.as_string_view();
    Arc::new(
        texts
            .iter()
            .map(|text| text.and_then(super::parse::parse_timestamp))
            .collect::<TimestampMicrosecondArray>(),
    )
}
