//! Files of models: whatever opens must be readable to its last element.

use std::path::Path;

use halfbyte::ChatTemplate;
use halfbyte::io::{Checkpoint, in_memory};
use halfbyte::model::ModelConfig;
use halfbyte::tokenizer::{Specials, Tokenizer};

use super::{folder, seeds, written};
use crate::data;
use crate::fixtures::{Folder, Gguf, safetensors_bytes};
use crate::legacy_files::{Ggml, LLAMA, Model};
use crate::torch_file;

/// Elements of a tensor that are decoded: shapes may promise more than a fuzzer has time for.
const MOST_ELEMENTS: usize = 1 << 16;

/// Opens a file or folder and reads all that it holds.
fn read(path: &Path) {
    if let Ok(checkpoint) = Checkpoint::open(path) {
        read_all(&checkpoint);
    }
}

/// Reads all that a checkpoint holds.
fn read_all(checkpoint: &Checkpoint) {
    for name in checkpoint.tensor_names() {
        let tensor = checkpoint.require(name).expect("listed");
        let n = tensor.n_rows() * tensor.row_len();
        if n <= MOST_ELEMENTS {
            assert_eq!(tensor.to_f32().expect("little memory").len(), n, "{name}");
        }
    }
    drop(ModelConfig::from_checkpoint(checkpoint));
    let tokenizer = Tokenizer::from_checkpoint(checkpoint);
    if let Ok(tokenizer) = &tokenizer
        && let Ok(ids) = tokenizer.encode("Hello, w\u{f6}rld \u{1f600}\n", Specials::Parse)
    {
        drop(tokenizer.decode(&ids));
    }
    drop(ChatTemplate::of_checkpoint(checkpoint, tokenizer.as_ref().ok()));
}

/// A file that is a checkpoint by itself.
fn single(bytes: &[u8]) {
    if let Ok(checkpoint) = in_memory::checkpoint(bytes) {
        read_all(&checkpoint);
    }
}

pub(super) fn gguf(bytes: &[u8]) {
    single(bytes);
}

pub(super) fn gguf_seeds() -> Vec<Vec<u8>> {
    let mut files = vec![Gguf::llama(), seeds::every_encoding()];
    files.extend(seeds::with_vocabularies());
    files.iter().map(Gguf::bytes).collect()
}

fn ggml_seeds(models: &[Model]) -> Vec<Vec<u8>> {
    models.iter().map(|&model| Ggml::tiny(model).bytes()).collect()
}

pub(super) fn ggml_llama(bytes: &[u8]) {
    single(bytes);
}

pub(super) fn ggml_llama_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&LLAMA)
}

pub(super) fn ggml_gptj(bytes: &[u8]) {
    single(bytes);
}

pub(super) fn ggml_gptj_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&[Model::GptJ])
}

pub(super) fn ggml_neox(bytes: &[u8]) {
    single(bytes);
}

pub(super) fn ggml_neox_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&[Model::NeoX, Model::NeoXOld])
}

/// Reads a folder in which only this file changes.
fn beside_config(name: &'static str, file: &str, bytes: &[u8]) {
    let folder = folder(name, |path| Folder::llama().write_without_weights(path));
    std::fs::write(folder.join(file), bytes).expect("written");
    read(&folder);
}

pub(super) fn safetensors(bytes: &[u8]) {
    if in_memory::safetensors(bytes).is_ok() {
        beside_config("safetensors", "model.safetensors", bytes);
    }
}

pub(super) fn safetensors_seeds() -> Vec<Vec<u8>> {
    vec![safetensors_bytes(&Folder::llama().tensors)]
}

pub(super) fn pickle(bytes: &[u8]) {
    if in_memory::torch(bytes).is_ok() {
        beside_config("pickle", "pytorch_model.bin", bytes);
    }
}

pub(super) fn pickle_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![torch_file::of_folder(&Folder::llama()).bytes()];
    for name in ["zip.bin", "legacy.bin", "shared.bin", "sliced.bin", "evil.bin", "protocol4.bin"] {
        seeds.extend(std::fs::read(data().join("torch").join(name)));
    }
    seeds
}

/// `config.json` beside weights that fit the right one.
pub(super) fn config(bytes: &[u8]) {
    if in_memory::config(bytes).is_err() {
        return;
    }
    let weights = |path: &Path| {
        let weights = safetensors_bytes(&Folder::llama().tensors);
        std::fs::write(path.join("model.safetensors"), weights).expect("written");
    };
    drop(folder("config", weights));
    let path = written("config", "config.json", bytes);
    read(path.parent().expect("a file in a folder"));
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let t5 = std::fs::read(data().join("t5-micro/config.json")).expect("the tests' data");
    vec![Folder::llama().config.to_string().into_bytes(), t5]
}
