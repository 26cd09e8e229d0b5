//! LoRA adapters: open ones, and lists of them with scales.

use std::path::PathBuf;

use pyo3::prelude::*;

/// An open LoRA adapter; `halfbyte.Adapter` holds one.
#[pyclass(frozen, module = "halfbyte._native")]
pub(crate) struct Adapter {
    adapter: halfbyte::Adapter,
}

/// Adapters and what each is multiplied by.
pub(crate) type Scaled<'py> = Vec<(Bound<'py, Adapter>, f32)>;

#[pymethods]
impl Adapter {
    /// The file or folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.adapter.path().to_owned()
    }

    /// (GGUF name, rank, scale) of each matrix that it changes.
    fn matrices(&self) -> Vec<(String, usize, f32)> {
        let matrices = self.adapter.matrices();
        matrices.map(|(name, rank, scale)| (name.to_owned(), rank, scale)).collect()
    }
}

impl From<halfbyte::Adapter> for Adapter {
    fn from(adapter: halfbyte::Adapter) -> Self {
        Self { adapter }
    }
}

/// The core's adapters.
pub(crate) fn list(adapters: &Scaled<'_>) -> Vec<(halfbyte::Adapter, f32)> {
    adapters.iter().map(|(adapter, scale)| (adapter.get().adapter.clone(), *scale)).collect()
}
