//! A Python function as the core's logits processor.

use halfbyte::generate::LogitsProcessor;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList};

use crate::call::Fault;
use crate::error::config;

/// Calls `function(tokens, logits)`, which changes the bytes of the float32 `logits` in place.
pub(crate) struct Processor {
    pub(crate) function: Py<PyAny>,
    pub(crate) fault: Fault,
}

impl Processor {
    fn call(&self, py: Python<'_>, tokens: &[u32], logits: &mut [f32]) -> PyResult<()> {
        let bytes = float_bytes(py, logits)?;
        self.function.call1(py, (PyList::new(py, tokens)?, &bytes))?;
        let changed = bytes.to_vec();
        if changed.len() != size_of_val(logits) {
            return Err(config("logits_processor", "changed the number of logits"));
        }
        for (logit, bytes) in logits.iter_mut().zip(changed.as_chunks().0) {
            *logit = f32::from_ne_bytes(*bytes);
        }
        Ok(())
    }
}

impl LogitsProcessor for Processor {
    fn process(&self, tokens: &[u32], logits: &mut [f32]) {
        if self.fault.is_set() {
            return;
        }
        // An interpreter that is shutting down hears nothing more.
        if let Some(Err(error)) = Python::try_attach(|py| self.call(py, tokens, logits)) {
            self.fault.set(error);
        }
    }
}

/// The bytes of `values` as they are in memory.
pub(crate) fn float_bytes<'py>(
    py: Python<'py>,
    values: &[f32],
) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, size_of_val(values), |bytes| {
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_ne_bytes();
        }
        Ok(())
    })
}
