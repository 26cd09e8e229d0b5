//! `halfbyte._native`: the core's types for Python, converted and nothing else.
//!
//! What Python users see is in `python/halfbyte`; its classes hold the ones here. Start reading at
//! `_native`, which lists every export, and at `Call`, through which every long call goes.

mod adapter;
mod call;
mod chat;
mod error;
mod files;
mod generation;
mod model;
mod options;
mod processor;
mod session;

/// The native half of the package halfbyte; use `halfbyte` itself.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::adapter::Adapter;
    #[pymodule_export]
    use crate::chat::Chat;
    #[pymodule_export]
    use crate::files::{command, inspect, quantize};
    #[pymodule_export]
    use crate::generation::Generation;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::session::Session;

    /// The version of library and package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "what Python calls it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
