//! Files of models: whatever opens must be readable to its last element.

use std::path::Path;

use halfbyte::ChatTemplate;
use halfbyte::io::Checkpoint;
use halfbyte::model::ModelConfig;
use halfbyte::tokenizer::{Specials, Tokenizer};

use super::written;
use crate::data;
use crate::fixtures::{Folder, Gguf, safetensors_bytes};
use crate::legacy_files::{Ggml, LLAMA, Model};
use crate::torch_file;

/// Elements of a tensor that are decoded: shapes may promise more than a fuzzer has time for.
const MOST_ELEMENTS: usize = 1 << 16;

/// Opens a file or folder and reads all that it holds.
fn read(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    for name in checkpoint.tensor_names() {
        let tensor = checkpoint.require(name).expect("listed");
        let n = tensor.n_rows() * tensor.row_len();
        if n <= MOST_ELEMENTS {
            assert_eq!(tensor.to_f32().expect("little memory").len(), n, "{name}");
        }
    }
    drop(ModelConfig::from_checkpoint(&checkpoint));
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint);
    if let Ok(tokenizer) = &tokenizer
        && let Ok(ids) = tokenizer.encode("Hello, w\u{f6}rld \u{1f600}\n", Specials::Parse)
    {
        drop(tokenizer.decode(&ids));
    }
    drop(ChatTemplate::of_checkpoint(&checkpoint, tokenizer.as_ref().ok()));
}

pub(super) fn gguf(bytes: &[u8]) {
    read(&written("gguf", "model.gguf", bytes));
}

pub(super) fn gguf_seeds() -> Vec<Vec<u8>> {
    vec![Gguf::llama().bytes()]
}

/// A file of 2023 as `models` begin, with the first word that tells what it is.
fn ggml(name: &str, bytes: &[u8]) {
    read(&written(name, "ggml-model.bin", bytes));
}

fn ggml_seeds(models: &[Model]) -> Vec<Vec<u8>> {
    models.iter().map(|&model| Ggml::tiny(model).bytes()).collect()
}

pub(super) fn ggml_llama(bytes: &[u8]) {
    ggml("llama", bytes);
}

pub(super) fn ggml_llama_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&LLAMA)
}

pub(super) fn ggml_gptj(bytes: &[u8]) {
    ggml("gptj", bytes);
}

pub(super) fn ggml_gptj_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&[Model::GptJ])
}

pub(super) fn ggml_neox(bytes: &[u8]) {
    ggml("neox", bytes);
}

pub(super) fn ggml_neox_seeds() -> Vec<Vec<u8>> {
    ggml_seeds(&[Model::NeoX, Model::NeoXOld])
}

/// A folder in which only the file under test changes.
fn beside_config(name: &str, file: &str, bytes: &[u8]) {
    let path = written(name, file, bytes);
    let folder = path.parent().expect("a file in a folder");
    if !folder.join("config.json").exists() {
        Folder::llama().write_without_weights(folder);
    }
    read(folder);
}

pub(super) fn safetensors(bytes: &[u8]) {
    beside_config("safetensors", "model.safetensors", bytes);
}

pub(super) fn safetensors_seeds() -> Vec<Vec<u8>> {
    vec![safetensors_bytes(&Folder::llama().tensors)]
}

pub(super) fn pickle(bytes: &[u8]) {
    beside_config("pickle", "pytorch_model.bin", bytes);
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
    let path = written("config", "config.json", bytes);
    let folder = path.parent().expect("a file in a folder");
    if !folder.join("model.safetensors").exists() {
        let weights = safetensors_bytes(&Folder::llama().tensors);
        std::fs::write(folder.join("model.safetensors"), weights).expect("written");
    }
    read(folder);
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let t5 = std::fs::read(data().join("t5-micro/config.json")).expect("the tests' data");
    vec![Folder::llama().config.to_string().into_bytes(), t5]
}
