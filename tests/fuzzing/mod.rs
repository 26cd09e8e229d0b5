//! What fuzzers call: one function for each reader of bytes from outside, with bytes to begin with.
//!
//! `fuzz/` gives them coverage-guided bytes for hours; `tests/fuzz_smoke.rs` gives them changed
//! seeds in every test run. A target panics where halfbyte breaks a promise, and at nothing else.

mod files;
mod models;
mod texts;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A function that is to survive any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its program in `fuzz/`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Bytes that it likes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// All targets. Each has a program of three lines in `fuzz/fuzz_targets`.
pub const TARGETS: &[Target] = &[
    target("gguf", files::gguf, files::gguf_seeds),
    target("ggml_llama", files::ggml_llama, files::ggml_llama_seeds),
    target("ggml_gptj", files::ggml_gptj, files::ggml_gptj_seeds),
    target("ggml_neox", files::ggml_neox, files::ggml_neox_seeds),
    target("safetensors", files::safetensors, files::safetensors_seeds),
    target("pickle", files::pickle, files::pickle_seeds),
    target("config", files::config, files::config_seeds),
    target("lora_gguf", models::lora_gguf, models::lora_gguf_seeds),
    target("lora_ggla", models::lora_ggla, models::lora_ggla_seeds),
    target("lora_peft", models::lora_peft, models::lora_peft_seeds),
    target("session", models::session, models::session_seeds),
    target("generate", models::generate, models::generate_seeds),
    target("sentencepiece", texts::sentencepiece, texts::sentencepiece_seeds),
    target("unigram", texts::unigram, texts::unigram_seeds),
    target("byte_level", texts::byte_level, texts::byte_level_seeds),
    target("encode", texts::encode, texts::encode_seeds),
    target("template", texts::template, texts::template_seeds),
    target("stream", texts::stream, texts::stream_seeds),
];

/// Runs the target of that name.
///
/// # Panics
///
/// If there is none, or the target fails.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a row of TARGETS").run)(bytes);
}

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A folder of this thread, in memory where the system has such a place.
fn folder() -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let memory = Path::new("/dev/shm");
            let made = match memory.is_dir() {
                true => tempfile::tempdir_in(memory),
                false => tempfile::tempdir(),
            };
            made.expect("a temporary folder")
        });
        folder.path().to_owned()
    })
}

/// Writes `bytes` as a file in a folder of their own; returns its path.
fn written(folder_name: &str, file: &str, bytes: &[u8]) -> PathBuf {
    let folder = folder().join(folder_name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(file);
    std::fs::write(&path, bytes).expect("written");
    path
}
