//! What fuzzers call: one function for each reader of bytes from outside, with bytes to begin with.
//!
//! `fuzz/` gives them coverage-guided bytes for hours; `tests/fuzz_smoke.rs` gives them changed
//! seeds in every test run. A target panics where halfbyte breaks a promise, and at nothing else.
//!
//! Time decides how many inputs there can be, so nothing that all inputs share is made twice, and
//! files are written only for what the readers take from memory.

mod files;
mod models;
mod seeds;
mod server;
mod texts;

use std::cell::RefCell;
use std::collections::HashMap;
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

/// All targets. Each has an entry in `fuzz/Cargo.toml`.
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
    target("server", server::server, server::server_seeds),
];

/// The target `name`.
///
/// In a constant, it is all that a program holds of the other targets: libFuzzer looks at the counters
/// of everything that is linked after each input.
///
/// # Panics
///
/// If there is none.
pub const fn find(name: &str) -> Target {
    let mut i = 0;
    while !is_same(TARGETS[i].name.as_bytes(), name.as_bytes()) {
        i += 1;
        assert!(i < TARGETS.len(), "no row of TARGETS has that name");
    }
    TARGETS[i]
}

/// `==`, which constants cannot use.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Folders of one thread, in memory where the system has such a place.
#[derive(Debug)]
struct Folders {
    root: TempDir,
    made: HashMap<&'static str, PathBuf>,
}

thread_local! {
    static FOLDERS: RefCell<Option<Folders>> = const { RefCell::new(None) };
}

/// The folder of this thread that has this name; `fill` puts in what stays, once.
fn folder(name: &'static str, fill: impl FnOnce(&Path)) -> PathBuf {
    let made = FOLDERS.with_borrow(|folders| folders.as_ref()?.made.get(name).cloned());
    made.unwrap_or_else(|| {
        let path = FOLDERS.with_borrow_mut(|folders| {
            let folders = folders.get_or_insert_with(|| {
                let memory = Path::new("/dev/shm");
                let root = match memory.is_dir() {
                    true => tempfile::tempdir_in(memory),
                    false => tempfile::tempdir(),
                };
                Folders { root: root.expect("a temporary folder"), made: HashMap::new() }
            });
            let path = folders.root.path().join(name);
            std::fs::create_dir(&path).expect("a folder");
            folders.made.insert(name, path.clone());
            path
        });
        fill(&path);
        path
    })
}

/// Writes `bytes` as a file in the folder of that name; returns its path.
fn written(folder_name: &'static str, file: &str, bytes: &[u8]) -> PathBuf {
    let path = folder(folder_name, |_| {}).join(file);
    std::fs::write(&path, bytes).expect("written");
    path
}
