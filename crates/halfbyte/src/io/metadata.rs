//! Typed metadata under GGUF keys, whatever the container.

use crate::error::{Error, Result};
use crate::kernels::collect;

/// A metadata value, in the types of GGUF.
///
/// Strings are bytes: the GPT-J files that gpt4all wrote hold tokens that are not UTF-8.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are GGUF's value types by name")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Vec<u8>),
    U64(u64),
    I64(i64),
    F64(f64),
    U8s(Vec<u8>),
    I8s(Vec<i8>),
    U16s(Vec<u16>),
    I16s(Vec<i16>),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
    Strings(Vec<Vec<u8>>),
    U64s(Vec<u64>),
    I64s(Vec<i64>),
    F64s(Vec<f64>),
}

impl Value {
    /// A copy, the list of an array with its allocation checked.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn copy(&self) -> Result<Self> {
        fn all<T: Clone>(list: &[T]) -> Result<Vec<T>> {
            collect(list.len(), list.iter().cloned())
        }
        Ok(match self {
            Self::U8s(v) => Self::U8s(all(v)?),
            Self::I8s(v) => Self::I8s(all(v)?),
            Self::U16s(v) => Self::U16s(all(v)?),
            Self::I16s(v) => Self::I16s(all(v)?),
            Self::U32s(v) => Self::U32s(all(v)?),
            Self::I32s(v) => Self::I32s(all(v)?),
            Self::F32s(v) => Self::F32s(all(v)?),
            Self::Bools(v) => Self::Bools(all(v)?),
            Self::String(v) => Self::String(all(v)?),
            Self::Strings(v) => Self::Strings(all(v)?),
            Self::U64s(v) => Self::U64s(all(v)?),
            Self::I64s(v) => Self::I64s(all(v)?),
            Self::F64s(v) => Self::F64s(all(v)?),
            number => number.clone(),
        })
    }

    /// Whether it is an array of values.
    fn is_array(&self) -> bool {
        use Value::{Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        !matches!(
            self,
            U8(_)
                | I8(_)
                | U16(_)
                | I16(_)
                | U32(_)
                | I32(_)
                | F32(_)
                | Bool(_)
                | String(_)
                | U64(_)
                | I64(_)
                | F64(_)
        )
    }
}

/// Metadata in file order, looked up by key.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Sets `key`, replacing an earlier value.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => *slot = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|(k, _)| k != key);
    }

    /// Adds all entries of `other`, whose keys must be new.
    pub(super) fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
    }

    /// A copy without the arrays whose keys start with `prefix`.
    pub(crate) fn without_arrays(&self, prefix: &str) -> Self {
        let drops = |(key, value): &&(String, Value)| key.starts_with(prefix) && value.is_array();
        Self { entries: self.entries.iter().filter(|entry| !drops(entry)).cloned().collect() }
    }

    /// All entries in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Adds an entry whose key is known to be new; readers check for duplicates themselves.
    pub(super) fn push_unique(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    /// A non-negative integer of any width, `None` when absent.
    ///
    /// An array whose entries are all equal counts as its entry: some writers give
    /// `attention.head_count_kv` and `feed_forward_length` once per block.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is negative or no integer.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::U64(v) => Some(*v),
            Value::U64s(v) => uniform(v),
            other => match other.to_i64() {
                Some(v) => u64::try_from(v).ok(),
                None => {
                    other.to_i64s()?.as_deref().and_then(uniform).and_then(|v| v.try_into().ok())
                }
            },
        };
        number.map(Some).ok_or_else(|| wrong_type(key, value, "a non-negative integer"))
    }

    /// A number as f32, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no number.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            Value::U64(v) => Some(*v as f32),
            other => other.to_i64().map(|v| v as f32),
        };
        number.map(Some).ok_or_else(|| wrong_type(key, value, "a number"))
    }

    /// A truth value, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, other, "a truth value")),
        }
    }

    /// A UTF-8 string, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no string or not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(v)) => match std::str::from_utf8(v) {
                Ok(text) => Ok(Some(text)),
                Err(e) => Err(Error::config(key, format!("is not UTF-8: {e}"))),
            },
            Some(other) => Err(wrong_type(key, other, "a string")),
        }
    }

    /// An array of byte strings, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[Vec<u8>]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Strings(v)) => Ok(Some(v)),
            Some(other) => Err(wrong_type(key, other, "an array of strings")),
        }
    }

    /// An array of f32, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no array of f32.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32s(v)) => Ok(Some(v)),
            Some(other) => Err(wrong_type(key, other, "an array of f32")),
        }
    }

    /// An array of integers of any width, `None` when absent.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value is no array of integers, or one is above `i64::MAX`;
    /// [`Error::OutOfMemory`].
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.to_i64s()?.map(Some).ok_or_else(|| wrong_type(key, value, "an array of integers"))
    }
}

impl Value {
    /// The type's name, as messages and `inspect` print it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
            Self::U8s(_) => "array of u8",
            Self::I8s(_) => "array of i8",
            Self::U16s(_) => "array of u16",
            Self::I16s(_) => "array of i16",
            Self::U32s(_) => "array of u32",
            Self::I32s(_) => "array of i32",
            Self::F32s(_) => "array of f32",
            Self::Bools(_) => "array of bool",
            Self::Strings(_) => "array of string",
            Self::U64s(_) => "array of u64",
            Self::I64s(_) => "array of i64",
            Self::F64s(_) => "array of f64",
        }
    }

    /// A signed view of every integer type that fits one.
    fn to_i64(&self) -> Option<i64> {
        match self {
            Self::U8(v) => Some((*v).into()),
            Self::I8(v) => Some((*v).into()),
            Self::U16(v) => Some((*v).into()),
            Self::I16(v) => Some((*v).into()),
            Self::U32(v) => Some((*v).into()),
            Self::I32(v) => Some((*v).into()),
            Self::I64(v) => Some(*v),
            Self::U64(v) => i64::try_from(*v).ok(),
            _ => None,
        }
    }

    fn to_i64s(&self) -> Result<Option<Vec<i64>>> {
        match self {
            Self::U8s(v) => widened(v),
            Self::I8s(v) => widened(v),
            Self::U16s(v) => widened(v),
            Self::I16s(v) => widened(v),
            Self::U32s(v) => widened(v),
            Self::I32s(v) => widened(v),
            Self::I64s(v) => widened(v),
            Self::U64s(v) if v.iter().all(|&x| i64::try_from(x).is_ok()) => {
                let mut list = reserved(v.len())?;
                list.extend(v.iter().map(|x| x.cast_signed()));
                Ok(Some(list))
            }
            _ => Ok(None),
        }
    }
}

fn widened<T: Copy + Into<i64>>(numbers: &[T]) -> Result<Option<Vec<i64>>> {
    let mut list = reserved(numbers.len())?;
    list.extend(numbers.iter().map(|&x| x.into()));
    Ok(Some(list))
}

/// An empty vector with room for `n` elements.
pub(super) fn reserved<T>(n: usize) -> Result<Vec<T>> {
    collect(n, [])
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.as_bytes().to_vec())
    }
}

/// What a token is for, with GGUF's and SentencePiece's numbers (they agree).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// BOS, EOS, chat markers: never text.
    Control = 3,
    /// Text that is always one token, wherever it occurs.
    UserDefined = 4,
    /// A row of the model without meaning.
    Unused = 5,
    /// One byte, spelled `<0xNN>`.
    Byte = 6,
}

impl TokenKind {
    /// The kind of that number in `tokenizer.ggml.token_type` or a SentencePiece file.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        [Normal, Unknown, Control, UserDefined, Unused, Byte]
            .into_iter()
            .find(|&kind| kind as i64 == number)
    }
}

/// The entry that all entries equal, if there is one.
fn uniform<T: Copy + PartialEq>(values: &[T]) -> Option<T> {
    let first = *values.first()?;
    values.iter().all(|v| *v == first).then_some(first)
}

fn wrong_type(key: &str, found: &Value, wanted: &str) -> Error {
    let shown = match found.to_i64() {
        Some(number) => format!("{} {number}", found.type_name()),
        None => found.type_name().to_owned(),
    };
    Error::config(key, format!("is {shown}, expected {wanted}"))
}
