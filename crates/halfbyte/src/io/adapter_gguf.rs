//! GGUF adapters: `general.type` is `adapter`, tensors are `<tensor>.lora_a` and `<tensor>.lora_b`.
//!
//! Source: llama.cpp's `llama-adapter.cpp`.

use std::path::Path;

use super::adapter::{AdapterFile, Base};
use super::gguf;
use super::gguf_split;
use super::mmap::Map;
use super::source::Source;
use crate::error::{Error, Result};

/// Opens the GGUF adapter at `path`.
pub(super) fn open(path: &Path, base: Base<'_>) -> Result<AdapterFile> {
    read(path, Source::Map(Map::open(path)?), base)
}

/// Reads the GGUF adapter whose bytes are `source`.
pub(super) fn read(path: &Path, source: Source, base: Base<'_>) -> Result<AdapterFile> {
    let parsed = gguf::parse(path, source.bytes())?;
    let metadata = parsed.metadata;
    let field = |key: &str| format!("{key} in {}", path.display());
    if metadata.str("general.type")? != Some("adapter") {
        return Err(Error::UnsupportedFormat {
            path: path.into(),
            found: "a GGUF model".into(),
            supported: "adapters, whose general.type is adapter".into(),
        });
    }
    for (key, expected) in [("adapter.type", "lora"), ("general.architecture", base.architecture)] {
        let found = metadata.str(key)?.unwrap_or("missing");
        if found != expected {
            return Err(Error::config(field(key), format!("is {found}, expected {expected}")));
        }
    }
    let aside = ["adapter.alora.invocation_tokens", gguf_split::COUNT];
    if let Some(key) = aside.into_iter().find(|key| metadata.get(key).is_some()) {
        return Err(Error::config(field(key), "such adapters are not supported"));
    }
    // As llama.cpp has it: no alpha, or one of 0, is a scale of 1.
    let alpha = f64::from(metadata.f32("adapter.lora.alpha")?.unwrap_or(0.0));
    let scale = |_: &str, rank: usize| Ok(if alpha == 0.0 { 1.0 } else { alpha / rank as f64 });
    AdapterFile::assemble(path, metadata, vec![source], parsed.tensors, scale)
}
