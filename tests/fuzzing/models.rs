//! What a loaded model takes: adapters, saved sessions, and files that load and then must compute.

use std::path::Path;
use std::sync::LazyLock;

use halfbyte::io::{Checkpoint, in_memory};
use halfbyte::model::ModelConfig;
use halfbyte::{Adapter, GenerationConfig, Model, ModelOptions, Session};

use sha2::{Digest, Sha256};

use super::{folder, written};
use crate::adapters::Lora;
use crate::fixtures::{Folder, Gguf, safetensors_bytes};
use crate::legacy_files::{Ggml, LLAMA, Model as Legacy};

/// The tiny LLaMA that adapters and sessions are for.
static MODEL: LazyLock<Model> = LazyLock::new(|| {
    Model::open_with(written("base", "base.gguf", &Gguf::llama().bytes()), &small())
        .expect("the fixture is valid")
});

fn small() -> ModelOptions {
    ModelOptions { threads: Some(1), context_length: None, ..ModelOptions::default() }
}

fn base_config() -> ModelConfig {
    let path = written("base", "base.gguf", &Gguf::llama().bytes());
    let checkpoint = Checkpoint::open(path).expect("the fixture is valid");
    ModelConfig::from_checkpoint(&checkpoint).expect("the fixture is valid")
}

fn lora() -> Lora {
    Lora::random(&base_config(), 1, 2, &["attn_q", "ffn_down"])
}

/// An adapter that opens must compute.
fn adapt(path: &Path) {
    let Ok(adapter) = MODEL.open_adapter(path) else { return };
    drop(Adapter::open(path, MODEL.config()));
    let mut session = MODEL.session();
    if session.set_adapters(&[(adapter, 0.5)]).is_ok() {
        session.append_tokens(&[1, 2, 3]).expect("a fitting adapter computes");
    }
}

/// Whether the bytes are an adapter for [`MODEL`], as far as the file tells.
fn is_adapter(bytes: &[u8]) -> bool {
    let config = MODEL.config();
    in_memory::adapter(bytes, config.architecture.name, config.n_heads).is_ok()
}

pub(super) fn lora_gguf(bytes: &[u8]) {
    if !is_adapter(bytes) {
        return;
    }
    adapt(&written("lora-gguf", "adapter.gguf", bytes));
}

pub(super) fn lora_gguf_seeds() -> Vec<Vec<u8>> {
    vec![lora().gguf().bytes()]
}

pub(super) fn lora_ggla(bytes: &[u8]) {
    if !is_adapter(bytes) {
        return;
    }
    adapt(&written("lora-ggla", "adapter.bin", bytes));
}

pub(super) fn lora_ggla_seeds() -> Vec<Vec<u8>> {
    vec![lora().ggla()]
}

/// `adapter_config.json` and the weights, in one input: the first two bytes say where it is cut.
pub(super) fn lora_peft(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (config, weights) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    if in_memory::adapter_config(config).is_err() || in_memory::safetensors(weights).is_err() {
        return;
    }
    let path = written("peft", "adapter_config.json", config);
    written("peft", "adapter_model.safetensors", weights);
    adapt(path.parent().expect("a file in a folder"));
}

pub(super) fn lora_peft_seeds() -> Vec<Vec<u8>> {
    let (config, weights) = (lora().config().to_string(), safetensors_bytes(&lora().tensors()));
    let length = u16::try_from(config.len()).expect("a short description");
    vec![[&length.to_le_bytes()[..], config.as_bytes(), &weights].concat()]
}

/// A session that is read must go on. A checksum is at its end, which no change would survive: it is
/// made right.
pub(super) fn session(bytes: &[u8]) {
    drop(Session::from_bytes(&MODEL, "fuzzed", bytes));
    let body = &bytes[..bytes.len().saturating_sub(32)];
    let bytes = [body, &Sha256::digest(body)].concat();
    let Ok(mut session) = Session::from_bytes(&MODEL, "fuzzed", &bytes) else { return };
    assert!(session.tokens().len() <= session.context_length());
    let config =
        GenerationConfig { max_new_tokens: 2, seed: Some(1), ..GenerationConfig::default() };
    if !session.tokens().is_empty() {
        drop(session.resume(&config).and_then(|generation| generation.complete()));
    }
}

pub(super) fn session_seeds() -> Vec<Vec<u8>> {
    let mut session = MODEL.session();
    let empty = session.to_bytes();
    session.append_tokens(&[1, 2, 3, 0, 2]).expect("the fixture computes");
    vec![empty, session.to_bytes()]
}

/// Containers that [`generate`] changes.
fn containers() -> Vec<Vec<u8>> {
    let mut files = vec![Gguf::llama().bytes()];
    let legacy = [LLAMA[0], LLAMA[LLAMA.len() - 1], Legacy::GptJ, Legacy::NeoX];
    files.extend(legacy.map(|model| Ggml::tiny(model).bytes()));
    files.push(safetensors_bytes(&Folder::llama().tensors));
    files
}

/// Loads a valid file with some bytes changed, and draws four tokens if it loads.
///
/// The first byte chooses the file; each four after it are a place (three bytes, modulo the file's
/// length) and what is put there.
pub(super) fn generate(bytes: &[u8]) {
    static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(containers);
    let Some((&choice, edits)) = bytes.split_first() else { return };
    let choice = usize::from(choice) % FILES.len();
    let mut file = FILES[choice].clone();
    for &[a, b, c, value] in edits.as_chunks().0.iter().take(64) {
        let at = u32::from_le_bytes([a, b, c, 0]) as usize % file.len();
        file[at] = value;
    }
    let path = if choice + 1 == FILES.len() {
        let folder = folder("generate-hf", |path| Folder::llama().write_without_weights(path));
        std::fs::write(folder.join("model.safetensors"), &file).expect("written");
        folder
    } else {
        written("generate", "model.bin", &file)
    };
    let Ok(model) = Model::open_with(path, &small()) else { return };
    let config =
        GenerationConfig { max_new_tokens: 4, seed: Some(7), ..GenerationConfig::default() };
    let mut session = model.session();
    let prompt = [0, 1 % model.config().vocab_size as u32];
    // A context that a file made shorter than the prompt is an error, and so are weights of NaN.
    if let Ok(generation) = session.generate_tokens(&prompt, &config) {
        drop(generation.complete());
    }
}

pub(super) fn generate_seeds() -> Vec<Vec<u8>> {
    let n = containers().len() as u8;
    (0..n).map(|i| vec![i, 40, 0, 0, 1, 200, 1, 0, 0x7f]).collect()
}
