//! The crate's one error type.

use std::path::PathBuf;

/// Everything that can go wrong in this crate, one variant for each thing a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not follow its format.
    #[error("{} is malformed at byte {offset}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        what: String,
        /// Where in the file, in bytes from its start.
        offset: u64,
    },
    /// A file is in a container that this crate cannot read.
    #[error("{} is not a supported model file: found {found} (supported: {supported})", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// What the file seems to be.
        found: String,
        /// The containers that would have worked.
        supported: String,
    },
    /// A tensor is stored in an encoding that this crate cannot decode or write.
    #[error("unsupported encoding {found} (supported: {supported})")]
    UnsupportedEncoding {
        /// The encoding's name or type number, and where it was found.
        found: String,
        /// The encodings that would have worked.
        supported: String,
    },
    /// A model is of an architecture that this crate cannot run.
    #[error("unsupported architecture {found} (supported: {supported})")]
    UnsupportedArchitecture {
        /// The architecture's name.
        found: String,
        /// The architectures that would have worked.
        supported: String,
    },
    /// A model file lacks a tensor that its architecture needs.
    #[error("{} has no tensor {name}", path.display())]
    MissingTensor {
        /// The tensor's GGUF name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A tensor has another shape than the model's metadata promises.
    #[error("tensor {tensor} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The shape that the metadata asks for, (out, in).
        expected: Vec<usize>,
        /// The shape in the file, (out, in).
        found: Vec<usize>,
    },
    /// The tokens do not fit in the model's context.
    #[error(
        "{needed} tokens do not fit in the context of {context_length}: shorten the prompt, \
         ask for fewer new tokens, or choose a context policy"
    )]
    ContextFull {
        /// Tokens that the request needs.
        needed: usize,
        /// Tokens that the context holds.
        context_length: usize,
    },
    /// An option or a metadata value is out of its range.
    #[error("invalid {field}: {reason}")]
    Config {
        /// The option or metadata key.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A tokenizer could not be built, or could not encode or decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template could not be parsed or rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// The work was cancelled through its [`Cancel`](crate::Cancel) handle.
    #[error("cancelled")]
    Cancelled,
    /// Memory could not be allocated.
    #[error("out of memory: could not allocate {bytes} bytes")]
    OutOfMemory {
        /// The size of the allocation that failed.
        bytes: usize,
    },
    /// The operating system refused to start a thread.
    #[error(
        "cannot start a thread: {source}; raise the limits on memory and processes, or ask for \
         fewer threads"
    )]
    Threads {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// candle could not carry out a tensor operation.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `path`.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// An [`Error::Config`] for `field`.
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }
}
