//! The readers on bytes in memory, for fuzzers: an input costs no file, and so there can be millions.
//!
//! Only what a reader takes is worth a file, with all that follows from opening it.

use std::path::Path;

use super::adapter::Base;
use super::checkpoint::Checkpoint;
use super::hf_json::Document;
use super::metadata::Metadata;
use super::source::Source;
use super::{adapter_ggla, adapter_gguf, adapter_peft, container, ggml, gguf};
use super::{hf_config, hf_families, safetensors, torch};
use crate::error::{Error, Result};

/// Stands for the path in messages.
const NAME: &str = "in memory";

/// A GGUF file, or a file of 2023.
pub fn checkpoint(bytes: &[u8]) -> Result<Checkpoint> {
    let (path, source) = (Path::new(NAME), Source::Owned(bytes.to_vec()));
    if bytes.starts_with(gguf::MAGIC) {
        return gguf::read(path, source);
    }
    if ggml::is_one(bytes) {
        return ggml::whole(path, ggml::parse(path, source)?);
    }
    Err(unknown(bytes))
}

/// The tensor list of a safetensors file; how many there are.
pub fn safetensors(bytes: &[u8]) -> Result<usize> {
    safetensors::read(Path::new(NAME), bytes).map(|infos| infos.len())
}

/// The tensor list of a PyTorch file; how many there are.
pub fn torch(bytes: &[u8]) -> Result<usize> {
    torch::read(Path::new(NAME), bytes).map(|infos| infos.len())
}

/// A `config.json`.
pub fn config(bytes: &[u8]) -> Result<()> {
    let path = Path::new(NAME);
    let document = Document::parse(path.into(), bytes, hf_families::FIELDS)?;
    hf_config::parse(path, document, &mut Metadata::default()).map(|_| ())
}

/// A GGUF adapter or a `ggla` file for a model of that architecture, with as many key heads as
/// query heads; how many matrices it changes.
pub fn adapter(bytes: &[u8], architecture: &str, n_heads: usize) -> Result<usize> {
    let (path, source) = (Path::new(NAME), Source::Owned(bytes.to_vec()));
    let base = Base { architecture, n_heads, n_kv_heads: n_heads };
    let file = if bytes.starts_with(gguf::MAGIC) {
        adapter_gguf::read(path, source, base)
    } else if bytes.starts_with(adapter_ggla::MAGIC) {
        adapter_ggla::read(path, source, base)
    } else {
        Err(unknown(bytes))
    };
    file.map(|file| file.deltas().count())
}

/// An `adapter_config.json`.
pub fn adapter_config(bytes: &[u8]) -> Result<()> {
    adapter_peft::read_config(Path::new(NAME), bytes)
}

fn unknown(bytes: &[u8]) -> Error {
    Error::UnsupportedFormat {
        path: NAME.into(),
        found: container::describe(Path::new(NAME), bytes),
        supported: "files that are read from memory".into(),
    }
}
