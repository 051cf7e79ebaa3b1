//! Numbers, their other spellings, and digests: LOG, POWER, MOD, E, HEX, SHA2, …

use std::fmt::Write;
use std::ops::{Add, Rem};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, Float64Array, Int64Array,
    PrimitiveArray, StringViewArray,
};
use arrow::compute::cast;
use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion_common::Result;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion_functions::{crypto, math};

use super::udf::{Call, Kind, Param, Returns, Spec, optional, param};

const TEXT: &[Param] = &[param("text", Kind::Text)];
const LOG: &[Param] = &[
    param("base or number", Kind::Double),
    optional("number", Kind::Double),
];
const POWER: &[Param] = &[param("base", Kind::Double), param("exponent", Kind::Double)];
const MOD: &[Param] = &[
    param("dividend", Kind::Number),
    param("divisor", Kind::Number),
];
const DOUBLE: &[Param] = &[param("number", Kind::Double)];
const HYPOT: &[Param] = &[param("a", Kind::Double), param("b", Kind::Double)];
const BYTES: &[Param] = &[param("value", Kind::Bytes)];
const BIN: &[Param] = &[param("number", Kind::Int)];
const RANDOM: &[Param] = &[param("bound", Kind::Int)];
const SHA2: &[Param] = &[param("text", Kind::Text), param("bits", Kind::Int)];

pub(super) static FUNCTIONS: [Spec; 19] = [
    Spec::new("log", LOG, DataType::Float64, log),
    Spec::new("power", POWER, DataType::Float64, power).aliases(&["pow"]),
    Spec::returning("mod", MOD, Returns::By(mod_type), modulo),
    Spec::returning("pmod", MOD, Returns::By(mod_type), positive_modulo),
    Spec::new("rint", DOUBLE, DataType::Float64, |c| {
        of_double(c, f64::round_ties_even)
    }),
    Spec::new("log1p", DOUBLE, DataType::Float64, |c| {
        of_double(c, f64::ln_1p)
    }),
    Spec::new("expm1", DOUBLE, DataType::Float64, |c| {
        of_double(c, f64::exp_m1)
    }),
    Spec::new("hypot", HYPOT, DataType::Float64, |c| {
        let (a, b) = (c.double(0)?, c.double(1)?);
        c.map::<Float64Array, _>(|row| Some(a.get(row)?.hypot(b.get(row)?)))
    }),
    Spec::new("e", &[], DataType::Float64, |c| {
        c.map::<Float64Array, _>(|_| Some(std::f64::consts::E))
    }),
    Spec::new("hex", BYTES, DataType::Utf8View, hex),
    Spec::new("unhex", TEXT, DataType::Binary, unhex),
    Spec::new("bin", BIN, DataType::Utf8View, |c| {
        let number = c.int(0)?;
        c.map::<StringViewArray, _>(|row| number.get(row).map(|n| format!("{n:b}")))
    }),
    Spec::new("rand_integer", RANDOM, DataType::Int64, rand_integer).volatile(),
    Spec::new("sha1", TEXT, DataType::Utf8View, sha1_column).aliases(&["sha"]),
    Spec::new("sha224", TEXT, DataType::Utf8View, |c| {
        digest(c, &crypto::sha224())
    }),
    Spec::new("sha256", TEXT, DataType::Utf8View, |c| {
        digest(c, &crypto::sha256())
    }),
    Spec::new("sha384", TEXT, DataType::Utf8View, |c| {
        digest(c, &crypto::sha384())
    }),
    Spec::new("sha512", TEXT, DataType::Utf8View, |c| {
        digest(c, &crypto::sha512())
    }),
    Spec::new("sha2", SHA2, DataType::Utf8View, sha2),
];

fn of_double(call: &Call, f: fn(f64) -> f64) -> Result<ArrayRef> {
    let number = call.double(0)?;
    call.map::<Float64Array, _>(|row| number.get(row).map(f))
}

/// LOG(x) is the natural logarithm (DataFusion: base 10), LOG(b, x) that of base b.
fn log(call: &Call) -> Result<ArrayRef> {
    let first = call.double(0)?;
    if call.len() == 1 {
        return call.map::<Float64Array, _>(|row| first.get(row).map(f64::ln));
    }
    let second = call.double(1)?;
    call.map::<Float64Array, _>(|row| Some(second.get(row)?.ln() / first.get(row)?.ln()))
}

/// Always a DOUBLE (DataFusion's integer power fails on overflow and on negative exponents).
fn power(call: &Call) -> Result<ArrayRef> {
    let (base, exponent) = (call.double(0)?, call.double(1)?);
    call.map::<Float64Array, _>(|row| Some(base.get(row)?.powf(exponent.get(row)?)))
}

fn mod_type(types: &[DataType]) -> DataType {
    match types.iter().all(|t| t == &DataType::Int64) {
        true => DataType::Int64,
        false => DataType::Float64,
    }
}

/// The remainder with the dividend's sign; zero as a whole divisor is an error, as for `%`.
fn modulo(call: &Call) -> Result<ArrayRef> {
    if mod_type(&[call.data_type(0).clone(), call.data_type(1).clone()]) == DataType::Float64 {
        let (a, b) = (doubles(call.array(0))?, doubles(call.array(1))?);
        return call.map::<Float64Array, _>(|row| Some(at(&a, row)? % at(&b, row)?));
    }
    let (a, b) = (call.int(0)?, call.int(1)?);
    let a: Int64Array = (0..call.rows()).map(|row| a.get(row)).collect();
    let b: Int64Array = (0..call.rows()).map(|row| b.get(row)).collect();
    Ok(rem(&a, &b)?)
}

/// The remainder, a divisor more when it is below zero (Spark).
fn positive_modulo(call: &Call) -> Result<ArrayRef> {
    let rest = modulo(call)?;
    if rest.data_type() == &DataType::Int64 {
        let (rest, divisor) = (rest.as_primitive::<Int64Type>(), call.int(1)?);
        return call.map::<Int64Array, _>(|row| Some(positive(at(rest, row)?, divisor.get(row)?)));
    }
    let (rest, divisor) = (doubles(&rest)?, doubles(call.array(1))?);
    call.map::<Float64Array, _>(|row| Some(positive(at(&rest, row)?, at(&divisor, row)?)))
}

fn positive<T>(rest: T, divisor: T) -> T
where
    T: Copy + Default + PartialOrd + Add<Output = T> + Rem<Output = T>,
{
    match rest < T::default() {
        true => (rest + divisor) % divisor,
        false => rest,
    }
}

fn doubles(numbers: &ArrayRef) -> Result<Float64Array> {
    let doubles = cast(numbers, &DataType::Float64)?;
    Ok(doubles.as_primitive().clone())
}

/// The value of a row; an array of one holds for all rows.
fn at<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    let i = if array.len() == 1 { 0 } else { row };
    array.is_valid(i).then(|| array.value(i))
}

/// Upper-case digits of a number, or of the bytes of text.
fn hex(call: &Call) -> Result<ArrayRef> {
    match call.data_type(0) {
        DataType::Int64 => {
            let number = call.int(0)?;
            call.map::<StringViewArray, _>(|row| number.get(row).map(|n| format!("{n:X}")))
        }
        DataType::Binary => {
            let bytes = call.bytes(0)?;
            call.map::<StringViewArray, _>(|row| bytes.get(row).map(|b| hex_text(b).to_uppercase()))
        }
        _ => {
            let text = call.text(0)?;
            call.map::<StringViewArray, _>(|row| {
                text.get(row).map(|t| hex_text(t.as_bytes()).to_uppercase())
            })
        }
    }
}

fn hex_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

/// The bytes of hexadecimal text, an odd first digit alone; NULL when it is no such text.
fn unhex(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.map::<BinaryArray, Vec<u8>>(|row| {
        let digits = text
            .get(row)?
            .chars()
            .map(|c| c.to_digit(16).map(|d| d as u8));
        let mut digits: Vec<u8> = digits.collect::<Option<_>>()?;
        if digits.len() % 2 == 1 {
            digits.insert(0, 0);
        }
        Some(
            digits
                .chunks_exact(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect(),
        )
    })
}

/// A number from 0 to the bound, without it; NULL for a bound below 1.
fn rand_integer(call: &Call) -> Result<ArrayRef> {
    let bound = call.int(0)?;
    let random = invoke(&math::random(), vec![], call.rows(), DataType::Float64)?;
    let random = random.as_primitive::<Float64Type>();
    call.map::<Int64Array, _>(|row| {
        let bound = bound.get(row).filter(|b| *b > 0)?;
        Some((random.value(row) * bound as f64) as i64)
    })
}

/// The result of one of DataFusion's functions, cast to `target`.
fn invoke(
    function: &ScalarUDF,
    args: Vec<ArrayRef>,
    rows: usize,
    target: DataType,
) -> Result<ArrayRef> {
    let field = |array: &ArrayRef| Arc::new(Field::new("", array.data_type().clone(), true));
    let result = function.invoke_with_args(ScalarFunctionArgs {
        arg_fields: args.iter().map(field).collect(),
        args: args.into_iter().map(ColumnarValue::Array).collect(),
        number_rows: rows,
        return_field: Arc::new(Field::new("", target.clone(), true)),
        config_options: Arc::new(ConfigOptions::default()),
    })?;
    Ok(cast(&result.into_array(rows)?, &target)?)
}

/// The digest of argument 0 by DataFusion's function, as lower-case hexadecimal text.
fn digest(call: &Call, function: &ScalarUDF) -> Result<ArrayRef> {
    let array = Arc::clone(call.array(0));
    let rows = array.len();
    let digests = invoke(function, vec![array], rows, DataType::Binary)?;
    let hex = digests.as_binary::<i32>().iter().map(|d| d.map(hex_text));
    Ok(Arc::new(hex.collect::<StringViewArray>()))
}

/// SHA2(text, 224 | 256 | 384 | 512), 0 is 256; NULL for other widths.
fn sha2(call: &Call) -> Result<ArrayRef> {
    let bits = call.int(1)?;
    let mut columns: Vec<(i64, ArrayRef)> = Vec::new();
    for row in 0..call.rows() {
        let Some(bits) = bits.get(row) else {
            continue;
        };
        let function = match bits {
            224 => crypto::sha224(),
            0 | 256 => crypto::sha256(),
            384 => crypto::sha384(),
            512 => crypto::sha512(),
            _ => continue,
        };
        if !columns.iter().any(|(known, _)| *known == bits) {
            columns.push((bits, digest(call, &function)?));
        }
    }
    call.map::<StringViewArray, &str>(|row| {
        let bits = bits.get(row)?;
        let (_, array) = columns.iter().find(|(known, _)| *known == bits)?;
        let texts = array.as_string_view();
        let i = if texts.len() == 1 { 0 } else { row };
        (!texts.is_null(i)).then(|| texts.value(i))
    })
}

fn sha1_column(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.map::<StringViewArray, _>(|row| text.get(row).map(|t| hex_text(&sha1(t.as_bytes()))))
}

/// FIPS 180-4, section 6.1. Here because DataFusion has SHA-2 only.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&((message.len() as u64) * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 80];
        for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t {
                0..20 => ((b & c) | (!b & d), 0x5a827999),
                20..40 => (b ^ c ^ d, 0x6ed9eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1bbcdc),
                _ => (b ^ c ^ d, 0xca62c1d6u32),
            };
            let sum = a.rotate_left(5).wrapping_add(f).wrapping_add(e);
            let next = sum.wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d, e]) {
            *s = s.wrapping_add(v);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}
