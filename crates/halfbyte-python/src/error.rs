//! The core's errors → the exceptions of `halfbyte.errors`.

use std::io;

use halfbyte::Error;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

/// The exception that stands for `error`.
pub(crate) fn raise(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Io { path, source } => {
            let class = match source.kind() {
                io::ErrorKind::NotFound => "FileMissingError",
                io::ErrorKind::PermissionDenied => "FilePermissionError",
                _ => "FileAccessError",
            };
            // What `OSError` is made of; Rust appends its number to the system's words.
            let words = source.to_string();
            let words = words.split(" (os error").next().unwrap_or_default().to_owned();
            match source.raw_os_error() {
                Some(errno) => exception(class, (errno, words, path.into_os_string())),
                // Not the system's error but ours: there is nothing to take apart.
                None => exception(class, (message,)),
            }
        }
        Error::Malformed { .. } | Error::MissingTensor { .. } | Error::Shape { .. } => {
            exception("FormatError", (message,))
        }
        Error::UnsupportedFormat { .. }
        | Error::UnsupportedEncoding { .. }
        | Error::UnsupportedArchitecture { .. } => exception("UnsupportedError", (message,)),
        Error::ContextFull { needed, context_length } => {
            exception("ContextFullError", (message, needed, context_length))
        }
        Error::Config { field, .. } => exception("ConfigError", (message, field)),
        Error::Tokenizer(_) => exception("TokenizerError", (message,)),
        Error::Template(_) => exception("TemplateError", (message,)),
        Error::Cancelled => exception("Cancelled", (message,)),
        Error::OutOfMemory { .. } => exception("OutOfMemoryError", (message,)),
        _ => exception("Error", (message,)),
    }
}

/// An exception of the class of that name in `halfbyte.errors`.
pub(crate) fn exception(class: &str, args: impl for<'py> PyCallArgs<'py>) -> PyErr {
    Python::attach(|py| {
        let class = py.import("halfbyte.errors").and_then(|module| module.getattr(class));
        match class.and_then(|class| class.call1(args)) {
            Ok(exception) => PyErr::from_value(exception),
            // Only where the package's own files are broken.
            Err(error) => error,
        }
    })
}

/// What is raised for `field`, whose value is out of its range or no such thing.
pub(crate) fn config(field: &str, reason: impl Into<String>) -> PyErr {
    raise(Error::Config { field: field.into(), reason: reason.into() })
}

/// What is raised when something is in use by another thread, or by a stream that is still open.
pub(crate) fn busy(what: &str) -> PyErr {
    exception("BusyError", (format!("{what} is in use: finish or close the stream on it first"),))
}

/// What is raised for use after `close()`.
pub(crate) fn closed(what: &str) -> PyErr {
    exception("ClosedError", (format!("{what} is closed"),))
}
