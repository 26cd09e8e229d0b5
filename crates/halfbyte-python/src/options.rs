//! Options as Python writes them → the core's structs. What a value means is checked by the core.

use std::fmt::Display;

use halfbyte::model::CacheType;
use halfbyte::{ContextPolicy, GenerationConfig, Message, Role};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::config;

/// The names of cache types, as the command has them.
const CACHE_TYPES: &[(&str, CacheType)] =
    &[("f16", CacheType::F16), ("f32", CacheType::F32), ("q8", CacheType::Q8)];

const CONTEXT_POLICIES: &[(&str, ContextPolicy)] = &[
    ("error", ContextPolicy::Error),
    ("drop_oldest_turns", ContextPolicy::DropOldestTurns),
    ("shift", ContextPolicy::Shift),
];

/// The configuration that `options` spell; what they lack stays at its default.
pub(crate) fn generation(options: &Bound<'_, PyDict>) -> PyResult<GenerationConfig> {
    let mut config = GenerationConfig::default();
    for (key, value) in options {
        let key: String = key.extract()?;
        match key.as_str() {
            "max_new_tokens" => config.max_new_tokens = field(&key, &value)?,
            "temperature" => config.temperature = field(&key, &value)?,
            "top_k" => config.top_k = field(&key, &value)?,
            "top_p" => config.top_p = field(&key, &value)?,
            "min_p" => config.min_p = field(&key, &value)?,
            "typical_p" => config.typical_p = field(&key, &value)?,
            "repetition_penalty" => config.repetition_penalty = field(&key, &value)?,
            "repeat_last_n" => config.repeat_last_n = field(&key, &value)?,
            "presence_penalty" => config.presence_penalty = field(&key, &value)?,
            "frequency_penalty" => config.frequency_penalty = field(&key, &value)?,
            "logit_bias" => config.logit_bias = field(&key, &value)?,
            "seed" => config.seed = field(&key, &value)?,
            "stop" => config.stop = field(&key, &value)?,
            "ignore_eos" => config.ignore_eos = field(&key, &value)?,
            "logprobs" => config.logprobs = field(&key, &value)?,
            "context_policy" => {
                config.context_policy = Some(choice(&key, &value, CONTEXT_POLICIES)?);
            }
            _ => return Err(PyTypeError::new_err(format!("there is no option {key}"))),
        }
    }
    Ok(config)
}

/// The cache type of that name.
pub(crate) fn cache_type(name: &Bound<'_, PyAny>) -> PyResult<CacheType> {
    choice("cache_type", name, CACHE_TYPES)
}

/// The name of a cache type.
pub(crate) fn cache_type_name(cache_type: CacheType) -> &'static str {
    CACHE_TYPES.iter().find(|(_, kind)| *kind == cache_type).map_or("", |(name, _)| name)
}

/// The messages of (role, content) pairs.
pub(crate) fn messages(pairs: Vec<(String, String)>) -> PyResult<Vec<Message>> {
    let message = |(role, content): (String, String)| {
        let role = Role::from_name(&role).ok_or_else(|| {
            config("role", format!("{role:?} is not one of system, user, assistant"))
        })?;
        Ok(Message::new(role, content))
    };
    pairs.into_iter().map(message).collect()
}

/// The value of `name`, or an error that names it.
pub(crate) fn field<'py, T>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    value.extract::<T>().map_err(|error| explain(name, value, error.into()))
}

fn explain(name: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = value.py();
    if error.is_instance_of::<PyOverflowError>(py) {
        return config(name, format!("{} is out of range", shown(value.repr())));
    }
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    PyTypeError::new_err(format!("{name}: {}", error.value(py)))
}

fn shown(repr: PyResult<impl Display>) -> String {
    repr.map_or_else(|_| "the value".to_owned(), |repr| repr.to_string())
}

fn choice<T: Copy>(name: &str, value: &Bound<'_, PyAny>, rows: &[(&str, T)]) -> PyResult<T> {
    let wanted: String = field(name, value)?;
    let row = rows.iter().find(|(row, _)| *row == wanted);
    row.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = rows.iter().map(|(row, _)| *row).collect();
        config(name, format!("{wanted:?} is not one of {}", names.join(", ")))
    })
}
