//! JSON files of Hugging Face folders: read with a size cap, only the wanted fields kept.

use std::cell::Cell;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::mmap;
use crate::error::{Error, Result};

/// Largest configuration file that is read, in bytes.
pub(super) const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Values in the kept fields of one file.
const MAX_VALUES: usize = 65_536;

/// The fields of a JSON object that somebody will ask for.
#[derive(Debug, Default)]
pub(super) struct Document {
    path: PathBuf,
    fields: Vec<(String, Value)>,
}

impl Document {
    /// Reads the fields `wanted` of the object in the file, which may be absent (no fields then).
    pub(super) fn read(path: PathBuf, wanted: &[&str]) -> Result<Self> {
        let Some(bytes) = read_file(&path, MAX_CONFIG_BYTES)? else {
            return Ok(Self { path, fields: Vec::new() });
        };
        Self::parse(path, &bytes, wanted)
    }

    /// Reads the fields `wanted` of the object that the file's `bytes` are.
    pub(super) fn parse(path: PathBuf, bytes: &[u8], wanted: &[&str]) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let fields = (&mut json)
            .deserialize_map(Fields { wanted })
            .and_then(|fields| json.end().map(|()| fields))
            .map_err(|e| malformed(&path, bytes, &e))?;
        Ok(Self { path, fields })
    }

    /// The value at `name`, where a dot parts an object's name from its field's. Null is `None`.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let (outer, inner) = name.split_once('.').map_or((name, None), |(o, i)| (o, Some(i)));
        // As in Python, the last of several equal keys counts.
        let value = self.fields.iter().rev().find(|(key, _)| key == outer).map(|(_, v)| v)?;
        let value = inner.map_or(Some(value), |inner| value.get(inner))?;
        (!value.is_null()).then_some(value)
    }

    /// The first of `names` that has a value.
    pub(super) fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// A non-negative integer under the first of `names` that has a value.
    pub(super) fn integer(&self, names: &[&str]) -> Result<Option<u64>> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        let number = value.as_u64().ok_or_else(|| self.wrong(name, "a non-negative integer"))?;
        Ok(Some(number))
    }

    /// A positive number that an f32 can hold, under the first of `names` that has a value.
    pub(super) fn positive(&self, names: &[&str]) -> Result<Option<f64>> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.wrong(name, "a number"))?;
        if number <= 0.0 || number > f64::from(f32::MAX) {
            return Err(self.wrong(name, "a positive number"));
        }
        Ok(Some(number))
    }

    /// A truth value.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A string under the first of `names` that has a value.
    pub(super) fn text(&self, names: &[&str]) -> Result<Option<&str>> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, "a string"))
    }

    /// An [`Error::Config`] that names the field, the file and what is there.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> Error {
        let found = match self.get(name) {
            None => "missing".into(),
            Some(Value::Array(_)) => "a list".into(),
            Some(Value::Object(_)) => "an object".into(),
            Some(Value::String(text)) => format!("{:?}", text.chars().take(64).collect::<String>()),
            Some(other) => other.to_string(),
        };
        self.invalid(name, format!("is {found}, expected {expected}"))
    }

    /// An [`Error::Config`] that names the field and the file.
    pub(super) fn invalid(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::config(format!("{name} in {}", self.path.display()), reason)
    }
}

/// The bytes of a file of at most `max_bytes`, `None` if there is no such file.
pub(super) fn read_file(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let file = match mmap::open_regular(path) {
        Ok(file) => file,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
    if len > max_bytes {
        let what = format!("the file has {len} bytes, more than {max_bytes}");
        return Err(Error::Malformed { path: path.into(), what, offset: max_bytes });
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(len).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|_| Error::OutOfMemory { bytes: room })?;
    // `take`: a file that grows meanwhile ends where it ended a moment ago.
    file.take(len).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(Some(bytes))
}

/// An [`Error::Malformed`] for what serde found wrong with `bytes`.
pub(super) fn malformed(path: &Path, bytes: &[u8], error: &serde_json::Error) -> Error {
    let offset = offset_of(bytes, error) as u64;
    Error::Malformed { path: path.into(), what: format!("JSON: {error}"), offset }
}

/// The byte that serde's line and column point to.
pub(super) fn offset_of(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize =
        bytes.split_inclusive(|&b| b == b'\n').take(lines_before).map(<[u8]>::len).sum();
    (line_start + error.column().saturating_sub(1)).min(bytes.len())
}

/// Reads an object, keeping the fields `wanted`.
struct Fields<'a> {
    wanted: &'a [&'a str],
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let left = Cell::new(MAX_VALUES);
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.wanted.contains(&key.as_str()) {
                fields.push((key, map.next_value_seed(Bounded { left: &left })?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// Builds a [`Value`] of at most `left` parts: a value takes many times its bytes in the file.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom(format!("more than {MAX_VALUES} values")))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            object.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}
