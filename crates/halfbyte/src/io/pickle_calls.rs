//! What a pickle of weights may call: the storages, tensors and dictionaries that it builds.

use super::pickle::Machine;
use super::pickle_value::{Class, Object, Storage, Tensor, Value};
use super::zip::MAX_NAME;
use crate::error::Result;

/// Dimensions of a tensor.
const MAX_DIMS: usize = 8;

impl<'a> Machine<'_, 'a> {
    /// `('storage', class, key, location, length[, None])` → a storage.
    pub(super) fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let (dtype, key, len) = match *self.tuple(id, "a storage's name")? {
            [
                Value::Text("storage"),
                Value::Class(Class::Storage(dtype)),
                Value::Text(key),
                _,
                len,
                ref view @ ..,
            ] if view.iter().all(|view| *view == Value::None) => (dtype, key, len),
            _ => return self.wrong("what is loaded here is no storage of a known type"),
        };
        if key.len() > MAX_NAME {
            let n = key.len();
            return self.wrong(format!("a storage's key has {n} bytes, more than {MAX_NAME}"));
        }
        let len = self.size(len, "a storage's length")?;
        self.make(Object::Storage(Storage { dtype, key, len }))
    }

    /// Applies a class to a tuple of arguments.
    pub(super) fn call(&mut self) -> Result<()> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let Value::Class(class) = class else { return self.wrong("what is called is no class") };
        let parts = self.tuple(arguments, "what a class is called with")?;
        match (class, parts) {
            (Class::OrderedDict, []) => self.make(Object::Dict(Vec::new())),
            (Class::RebuildTensor, &[Value::Object(storage), offset, dims, strides, _, _, ..]) => {
                self.tensor(storage, offset, (dims, strides))
            }
            (Class::RebuildParameter, &[tensor @ Value::Object(_), ..]) => self.push(tensor),
            _ => {
                let what = format!("{class:?} cannot be called with {} such values", parts.len());
                self.wrong(what)
            }
        }
    }

    fn tensor(
        &mut self,
        storage: usize,
        offset: Value<'a>,
        (dims, strides): (Value<'a>, Value<'a>),
    ) -> Result<()> {
        if !matches!(self.objects.get(storage), Some(Object::Storage(_))) {
            return self.wrong("a tensor has no storage");
        }
        let at = self.cursor.position();
        let offset = self.size(offset, "a tensor's offset")?;
        let (dims, strides) = (self.sizes(dims, "a shape")?, self.sizes(strides, "strides")?);
        if dims.len() != strides.len() || dims.len() > MAX_DIMS {
            let (dims, strides) = (dims.len(), strides.len());
            return self.wrong(format!("a tensor has {dims} dimensions, {strides} strides"));
        }
        self.make(Object::Tensor(Box::new(Tensor { storage, offset, dims, strides, at })))
    }

    /// The parts of a tuple.
    fn tuple(&self, value: Value<'a>, what: &str) -> Result<&[Value<'a>]> {
        let Value::Object(number) = value else { return self.wrong(format!("{what} is no tuple")) };
        match self.objects.get(number) {
            Some(Object::Tuple(parts)) => Ok(parts),
            _ => self.wrong(format!("{what} is no tuple")),
        }
    }

    fn size(&self, value: Value<'a>, field: &str) -> Result<usize> {
        match value {
            Value::Int(number) => usize::try_from(number)
                .or_else(|_| self.wrong(format!("{field} is {number}, below zero"))),
            _ => self.wrong(format!("{field} is no integer")),
        }
    }

    fn sizes(&self, value: Value<'a>, field: &str) -> Result<Vec<usize>> {
        let parts = self.tuple(value, field)?;
        parts.iter().take(MAX_DIMS + 1).map(|&part| self.size(part, field)).collect()
    }
}
