//! Bytes on disk → [`Checkpoint`]. Nothing past this module knows which container a model came in.
//!
//! Every reader proves that what a file promises lies inside the file before anything is allocated
//! or handed out, so that views cannot go out of bounds later. Start reading at
//! [`Checkpoint::open`]; a new container is one row of the table behind it.

// A number from a file must never be an unchecked index.
#![deny(clippy::indexing_slicing)]

mod adapter;
mod adapter_ggla;
mod adapter_gguf;
mod adapter_peft;
pub(crate) mod alphabet;
mod checkpoint;
mod container;
mod cursor;
mod ggml;
mod ggml_header;
mod ggml_layout;
mod ggml_parts;
mod ggml_vocab;
mod gguf;
mod gguf_split;
mod gguf_value;
mod gguf_writer;
mod hf;
mod hf_config;
mod hf_families;
mod hf_files;
mod hf_json;
mod hf_names;
mod hf_packed;
mod hf_packing;
mod hf_rope;
mod hf_tokenizer;
#[doc(hidden)]
pub mod in_memory;
mod metadata;
mod mmap;
mod new_file;
mod pickle;
mod pickle_calls;
mod pickle_value;
mod safetensors;
mod source;
mod torch;
mod view;
mod zip;

pub(crate) use adapter::{AdapterFile, Base, Delta};
pub use checkpoint::{Checkpoint, TokenizerSource};
pub use gguf_writer::{GgufWriter, TensorInfo};
pub(crate) use metadata::TokenKind;
pub use metadata::{Metadata, Value};
pub(crate) use mmap::open_regular;
pub(crate) use new_file::NewFile;
pub use view::{RowOrder, TensorView};
