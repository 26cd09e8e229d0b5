//! Finds out which container a path holds.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::{ggml, gguf, hf, hf_files, mmap};
use crate::error::{Error, Result};

/// A kind of model on disk.
struct Container {
    name: &'static str,
    /// Where the model starts if `path` (whose first bytes are `head`, if it is a file) is one.
    sniff: fn(path: &Path, head: &[u8]) -> Option<PathBuf>,
    open: fn(path: &Path) -> Result<Checkpoint>,
}

/// Every container that can be read.
static CONTAINERS: &[Container] = &[
    Container {
        name: "GGUF file",
        sniff: |path, head| head.starts_with(gguf::MAGIC).then(|| path.into()),
        open: gguf::open,
    },
    Container {
        name: "ggml, ggmf or ggjt file of 2023 (GPT-J, LLaMA, GPT-NeoX)",
        sniff: |path, head| ggml::is_one(head).then(|| path.into()),
        open: ggml::open,
    },
    Container {
        name: "Hugging Face folder (config.json with safetensors or PyTorch files)",
        sniff: hf_files::start_of,
        open: hf::open,
    },
];

/// First bytes of files that people try, for messages.
static KNOWN_MAGICS: &[(&[u8], &str)] = &[
    (b"algg", "a LoRA adapter of 2023 (magic ggla), which is opened beside its base model"),
    (b"nsgg", "a llama.cpp session file (magic ggsn)"),
    (b"PK\x03\x04", "a zip archive, perhaps PyTorch weights without a config.json beside them"),
    (b"\x80\x02", "a pickle, perhaps PyTorch weights without a config.json beside them"),
    (b"\x80\x04", "a pickle, perhaps PyTorch weights without a config.json beside them"),
    (b"FUGG", "GGUF with its bytes swapped"),
];

pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let head = head(path)?;
    for container in CONTAINERS {
        if let Some(start) = (container.sniff)(path, &head) {
            return (container.open)(&start).map(|checkpoint| checkpoint.opened_as(container.name));
        }
    }
    let supported: Vec<_> = CONTAINERS.iter().map(|c| c.name).collect();
    Err(Error::UnsupportedFormat {
        path: path.into(),
        found: describe(path, &head),
        supported: supported.join(", "),
    })
}

/// The first bytes of the file, none for a folder.
pub(super) fn head(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        return Ok(Vec::new());
    }
    let mut head = Vec::new();
    let file = mmap::open_regular(path)?;
    file.take(16).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    Ok(head)
}

pub(super) fn describe(path: &Path, head: &[u8]) -> String {
    if path.is_dir() {
        return if path.join("adapter_config.json").exists() {
            "a LoRA adapter, which is opened beside its base model".into()
        } else {
            "a folder without config.json".into()
        };
    }
    if head.is_empty() {
        return "an empty file".into();
    }
    if let Some((_, name)) = KNOWN_MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).into();
    }
    if path.extension().is_some_and(|e| e == "safetensors") {
        return "safetensors without a config.json beside it".into();
    }
    let shown = head.iter().take(4).flat_map(|b| b.escape_ascii()).map(char::from);
    format!("a file that starts with \"{}\"", shown.collect::<String>())
}
