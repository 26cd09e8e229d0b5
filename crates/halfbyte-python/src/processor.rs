//! A Python function as the core's logits processor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halfbyte::generate::LogitsProcessor;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyByteArray, PyList};

use crate::call::Fault;
use crate::error::config;

/// The caller's function, if there is one: a single reference for all clones, so that Python's
/// garbage collector can be shown it. It may hold the very generation that it is called by.
///
/// The lock is held for moments only, with the interpreter's lock, and never while Python runs.
#[derive(Clone, Default)]
pub(crate) struct Function(Arc<Mutex<Option<Py<PyAny>>>>);

impl Function {
    pub(crate) fn new(function: Option<Py<PyAny>>) -> Self {
        Self(Arc::new(Mutex::new(function)))
    }

    pub(crate) fn is_some(&self) -> bool {
        self.lock().is_some()
    }

    /// Lets go of the function, which is not called any more.
    pub(crate) fn forget(&self) {
        let function = self.lock().take();
        // Dropping may run Python.
        drop(function);
    }

    /// Shows the reference to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.try_lock().map_or(Ok(()), |function| visit.call(function.as_ref()))
    }

    fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().as_ref().map(|function| function.clone_ref(py))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `function(tokens, logits)`, which changes the bytes of the float32 `logits` in place.
pub(crate) struct Processor {
    pub(crate) function: Function,
    pub(crate) fault: Fault,
}

impl Processor {
    fn call(&self, py: Python<'_>, tokens: &[u32], logits: &mut [f32]) -> PyResult<()> {
        let Some(function) = self.function.get(py) else { return Ok(()) };
        let bytes = float_bytes(py, logits)?;
        function.call1(py, (PyList::new(py, tokens)?, &bytes))?;
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
