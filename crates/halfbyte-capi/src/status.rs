//! Status numbers, and what an error of the library becomes.

use std::ffi::CStr;
use std::io;

use halfbyte::Error;

/// What a function says at its end: one of the HB_ numbers below. A number never changes its
/// meaning; later versions may add numbers, so treat one that you do not know as a failure.
pub type hb_status = i32;

/// It worked.
pub const HB_OK: hb_status = 0;
/// The generation has ended and has no more pieces. Not a failure; how it ended says the report.
pub const HB_END: hb_status = 1;
/// A pointer that must not be NULL is NULL.
pub const HB_NULL_ARGUMENT: hb_status = 2;
/// The handle was freed, is of another kind, or never was one.
pub const HB_INVALID_HANDLE: hb_status = 3;
/// A text is not UTF-8.
pub const HB_INVALID_UTF8: hb_status = 4;
/// An option or a count is out of its range; the message names it and its range.
pub const HB_INVALID_ARGUMENT: hb_status = 5;
/// The result does not fit; nothing was written but the needed size.
pub const HB_BUFFER_TOO_SMALL: hb_status = 6;
/// The session or generation is in use by another call.
pub const HB_BUSY: hb_status = 7;
/// The model was opened in the process from which this one was forked. Threads do not survive a
/// fork: open the model in the child.
pub const HB_FORKED: hb_status = 8;
/// The work was stopped through its hb_cancel.
pub const HB_CANCELLED: hb_status = 9;
/// The tokens do not fit in the model's context.
pub const HB_CONTEXT_FULL: hb_status = 10;
/// There is no such file.
pub const HB_NOT_FOUND: hb_status = 11;
/// The operating system refused to read or write a file.
pub const HB_IO: hb_status = 12;
/// A file is damaged, does not follow its format, or holds numbers that no model has.
pub const HB_MALFORMED: hb_status = 13;
/// A file is of a format, encoding or architecture that this version cannot run.
pub const HB_UNSUPPORTED: hb_status = 14;
/// The model has no tokenizer or a broken one, or the text cannot be written with it.
pub const HB_TOKENIZER: hb_status = 15;
/// The chat template is missing, broken, or refuses these messages.
pub const HB_TEMPLATE: hb_status = 16;
/// Memory for weights, keys and values, or results could not be allocated, or a thread could not be
/// started.
pub const HB_OUT_OF_MEMORY: hb_status = 17;
/// A mistake in halfbyte itself. Please report it.
pub const HB_INTERNAL: hb_status = 18;

/// The names, at the place of their number.
pub(crate) const NAMES: &[&CStr] = &[
    c"HB_OK",
    c"HB_END",
    c"HB_NULL_ARGUMENT",
    c"HB_INVALID_HANDLE",
    c"HB_INVALID_UTF8",
    c"HB_INVALID_ARGUMENT",
    c"HB_BUFFER_TOO_SMALL",
    c"HB_BUSY",
    c"HB_FORKED",
    c"HB_CANCELLED",
    c"HB_CONTEXT_FULL",
    c"HB_NOT_FOUND",
    c"HB_IO",
    c"HB_MALFORMED",
    c"HB_UNSUPPORTED",
    c"HB_TOKENIZER",
    c"HB_TEMPLATE",
    c"HB_OUT_OF_MEMORY",
    c"HB_INTERNAL",
];

/// A call that failed: its status, and the message for `hb_last_error`.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: hb_status,
    pub(crate) message: String,
}

/// What the body of a function gives.
pub(crate) type Outcome<T = hb_status> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: hb_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// An argument out of its range.
    pub(crate) fn argument(what: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(HB_INVALID_ARGUMENT, format!("invalid {what}: {reason}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => HB_NOT_FOUND,
                io::ErrorKind::OutOfMemory => HB_OUT_OF_MEMORY,
                _ => HB_IO,
            },
            Error::Malformed { .. } | Error::MissingTensor { .. } | Error::Shape { .. } => {
                HB_MALFORMED
            }
            Error::UnsupportedFormat { .. }
            | Error::UnsupportedEncoding { .. }
            | Error::UnsupportedArchitecture { .. } => HB_UNSUPPORTED,
            Error::ContextFull { .. } => HB_CONTEXT_FULL,
            Error::Config { .. } => HB_INVALID_ARGUMENT,
            Error::Tokenizer(_) => HB_TOKENIZER,
            Error::Template(_) => HB_TEMPLATE,
            Error::Cancelled => HB_CANCELLED,
            Error::OutOfMemory { .. } | Error::Threads { .. } => HB_OUT_OF_MEMORY,
            _ => HB_INTERNAL,
        };
        Self::new(status, error.to_string())
    }
}
