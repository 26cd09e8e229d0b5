//! GGUF's metadata values and type numbers.

use std::path::Path;

use super::cursor::Cursor;
use super::gguf::{size, string};
use super::metadata::{Value, reserved};
use crate::error::{Error, Result};
use crate::quant::Encoding;

const MAX_STRING_BYTES: u64 = 16 << 20;
const MAX_ELEMENTS: u64 = 1 << 26;
/// Strings in all arrays together: a string costs 24 bytes in memory and at least 8 in the file.
const MAX_STRINGS: u64 = 1_500_000;
/// GGUF's number for an array.
const ARRAY: u32 = 9;

/// How many strings the arrays of a file may still hold.
#[derive(Debug)]
pub(super) struct Strings {
    left: u64,
}

impl Default for Strings {
    fn default() -> Self {
        Self { left: MAX_STRINGS }
    }
}

/// Reads the type and the value of metadata entry `key`.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    version: u32,
    key: &str,
    strings: &mut Strings,
) -> Result<Value> {
    let at = cursor.position();
    let kind = cursor.u32(format_args!("type of {key}"))?;
    Ok(match kind {
        0 => Value::U8(cursor.u8(key)?),
        1 => Value::I8(i8::from_le_bytes([cursor.u8(key)?])),
        2 => Value::U16(cursor.u16(key)?),
        3 => Value::I16(i16::from_le_bytes(cursor.u16(key)?.to_le_bytes())),
        4 => Value::U32(cursor.u32(key)?),
        5 => Value::I32(i32::from_le_bytes(cursor.u32(key)?.to_le_bytes())),
        6 => Value::F32(f32::from_bits(cursor.u32(key)?)),
        7 => Value::Bool(truth(cursor, key)?),
        8 => {
            let max = if key == "tokenizer.huggingface.json" { u64::MAX } else { MAX_STRING_BYTES };
            Value::String(owned(string(cursor, version, (key, max))?)?)
        }
        ARRAY => array(cursor, version, key, strings)?,
        10 => Value::U64(cursor.u64(key)?),
        11 => Value::I64(i64::from_le_bytes(cursor.u64(key)?.to_le_bytes())),
        12 => Value::F64(f64::from_bits(cursor.u64(key)?)),
        other => {
            return Err(cursor.malformed_at(at, format!("{key} has the unknown type {other}")));
        }
    })
}

fn truth(cursor: &mut Cursor<'_>, key: &str) -> Result<bool> {
    let at = cursor.position();
    match cursor.u8(key)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(cursor.malformed_at(at, format!("{key} is the truth value {other}"))),
    }
}

fn array(cursor: &mut Cursor<'_>, version: u32, key: &str, strings: &mut Strings) -> Result<Value> {
    let at = cursor.position();
    let kind = cursor.u32(format_args!("element type of {key}"))?;
    let length_at = cursor.position();
    let n = size(cursor, version, format_args!("array length of {key}"))?;
    // Of a string, its length word at least.
    let string_bytes = if version == 1 { 4 } else { 8 };
    let least = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 => string_bytes,
        10..=12 => 8,
        ARRAY => return Err(cursor.malformed_at(at, format!("{key} is an array of arrays"))),
        other => {
            let why = format!("{key} is an array of the unknown type {other}");
            return Err(cursor.malformed_at(at, why));
        }
    };
    let n_bytes = n.checked_mul(least).filter(|_| n <= MAX_ELEMENTS);
    let n_bytes =
        n_bytes.and_then(|b| usize::try_from(b).ok()).filter(|&b| b <= cursor.remaining());
    let Some(n_bytes) = n_bytes else {
        let remaining = cursor.remaining();
        let why = format!(
            "array length of {key} is {n} (at most {MAX_ELEMENTS}, and {remaining} bytes remain)"
        );
        return Err(cursor.malformed_at(length_at, why));
    };
    if kind == 8 {
        if n > strings.left {
            let why = format!("{key} makes the arrays hold more than {MAX_STRINGS} strings");
            return Err(cursor.malformed_at(length_at, why));
        }
        strings.left -= n;
        return string_array(cursor, version, key, n);
    }
    if kind == 7 {
        return bool_array(cursor, key, n_bytes);
    }
    let bytes = cursor.take(n_bytes, key)?;
    Ok(match kind {
        0 => Value::U8s(owned(bytes)?),
        1 => Value::I8s(numbers(bytes, i8::from_le_bytes)?),
        2 => Value::U16s(numbers(bytes, u16::from_le_bytes)?),
        3 => Value::I16s(numbers(bytes, i16::from_le_bytes)?),
        4 => Value::U32s(numbers(bytes, u32::from_le_bytes)?),
        5 => Value::I32s(numbers(bytes, i32::from_le_bytes)?),
        6 => Value::F32s(numbers(bytes, f32::from_le_bytes)?),
        10 => Value::U64s(numbers(bytes, u64::from_le_bytes)?),
        11 => Value::I64s(numbers(bytes, i64::from_le_bytes)?),
        _ => Value::F64s(numbers(bytes, f64::from_le_bytes)?),
    })
}

fn string_array(cursor: &mut Cursor<'_>, version: u32, key: &str, n: u64) -> Result<Value> {
    // `n` length words were seen to fit in the file, so this is at most three times their size.
    let mut list = reserved(usize::try_from(n).unwrap_or(usize::MAX))?;
    let field = format_args!("string in {key}");
    for _ in 0..n {
        list.push(owned(string(cursor, version, (field, MAX_STRING_BYTES))?)?);
    }
    Ok(Value::Strings(list))
}

fn bool_array(cursor: &mut Cursor<'_>, key: &str, n: usize) -> Result<Value> {
    let mut list = reserved(n)?;
    for _ in 0..n {
        list.push(truth(cursor, key)?);
    }
    Ok(Value::Bools(list))
}

fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let (chunks, _) = bytes.as_chunks::<N>();
    let mut list = reserved(chunks.len())?;
    list.extend(chunks.iter().map(|c| read(*c)));
    Ok(list)
}

fn owned(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = reserved(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Names of type numbers, for messages about those that cannot be read.
const TYPE_NAMES: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4, a repacked form that was removed; quantize to Q4_0 again"),
    (32, "Q4_0_4_8, a repacked form that was removed; quantize to Q4_0 again"),
    (33, "Q4_0_8_8, a repacked form that was removed; quantize to Q4_0 again"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// The encoding of a ggml type number, or how to name what it is.
pub(super) fn encoding(number: u32) -> Result<Encoding, String> {
    Encoding::from_ggml_type(number).ok_or_else(|| {
        match TYPE_NAMES.iter().find(|(n, _)| *n == number) {
            Some((_, name)) => format!("ggml type {number} ({name})"),
            None if number >= 97 => format!("ggml type {number} (of a fork of ggml)"),
            None => format!("ggml type {number}"),
        }
    })
}

/// An [`Error::UnsupportedEncoding`] that names the tensor and the file.
pub(super) fn in_tensor(found: String, tensor: &str, path: &Path) -> Error {
    // Type numbers are small; the table of encodings says which of them are ours.
    let supported: Vec<_> =
        (0..128).filter_map(Encoding::from_ggml_type).map(Encoding::name).collect();
    Error::UnsupportedEncoding {
        found: format!("{found} of tensor {tensor} in {}", path.display()),
        supported: supported.join(", "),
    }
}
