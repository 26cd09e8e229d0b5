//! The vocabularies that tests can reach, each in every form in which it is stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halfbyte::io::{Checkpoint, Metadata, TokenizerSource, Value};
use halfbyte::tokenizer::Tokenizer;

use crate::shared;

/// How a vocabulary is stored.
#[derive(Clone, Copy, Debug)]
pub enum Stored {
    /// A GGUF file, relative to the shared folder.
    Gguf(&'static str),
    /// A `tokenizer.json`.
    Json(&'static str),
    /// A `tokenizer.model`.
    Model(&'static str),
    /// A folder with `vocab.json`, `merges.txt` and `added_tokens.json`.
    VocabAndMerges(&'static str),
    /// The same folder as gpt4all stored it: tokens as bytes, no merges.
    RawBytes(&'static str),
}

use Stored::{Gguf, Json, Model, RawBytes, VocabAndMerges};

/// Vocabularies by the golden file that they must reproduce.
pub const FAMILIES: &[(&str, &[Stored])] = &[
    (
        "gpt-j",
        &[
            Gguf("data/vocab/ggml-vocab-gpt-2.gguf"),
            Json("data/vocab/gpt-j/tokenizer.json"),
            VocabAndMerges("data/vocab/gpt-j"),
            RawBytes("data/vocab/gpt-j"),
        ],
    ),
    (
        "gpt-neox",
        &[
            Gguf("data/vocab/ggml-vocab-gpt-neox.gguf"),
            Json("data/vocab/gpt-neox/20B_tokenizer.json"),
        ],
    ),
    (
        "llama",
        &[
            Gguf("data/vocab/ggml-vocab-llama-spm.gguf"),
            Json("data/vocab/llama/tokenizer.json"),
            Model("data/vocab/llama/tokenizer.model"),
        ],
    ),
];

impl Stored {
    /// The tokenizer's description, and the metadata beside it.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn source(self, shared: &Path) -> Result<(TokenizerSource, Metadata)> {
        let read = |name: &str| {
            std::fs::read(shared.join(name)).with_context(|| format!("cannot read {name}"))
        };
        Ok(match self {
            Gguf(name) => {
                let checkpoint = Checkpoint::open(shared.join(name))?;
                (checkpoint.tokenizer().clone(), checkpoint.metadata().clone())
            }
            Json(name) => (TokenizerSource::Json(read(name)?), Metadata::default()),
            Model(name) => (TokenizerSource::SentencePiece(read(name)?), Metadata::default()),
            VocabAndMerges(folder) => {
                (TokenizerSource::Metadata, vocab_and_merges(&shared.join(folder))?)
            }
            RawBytes(folder) => {
                (TokenizerSource::Metadata, raw(vocab_and_merges(&shared.join(folder))?)?)
            }
        })
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the tokenizer not built.
    pub fn load(self, shared: &Path) -> Result<Tokenizer> {
        let (source, metadata) = self.source(shared)?;
        Tokenizer::new(&source, &metadata).with_context(|| format!("{self:?}"))
    }
}

/// `vocab.json`, `added_tokens.json` and `merges.txt` under GGUF's keys.
fn vocab_and_merges(folder: &Path) -> Result<Metadata> {
    let mut tokens = BTreeMap::new();
    for (name, kind) in [("vocab.json", 1), ("added_tokens.json", 4)] {
        let entries: BTreeMap<String, u32> =
            serde_json::from_slice(&std::fs::read(folder.join(name))?)?;
        for (text, id) in entries {
            let kind = if text == "<|endoftext|>" { 3 } else { kind };
            tokens.insert(id, (text.into_bytes(), kind));
        }
    }
    let merges = std::fs::read_to_string(folder.join("merges.txt"))?;
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    let mut metadata = Metadata::default();
    let (texts, kinds) = tokens.into_values().unzip();
    metadata.set("tokenizer.ggml.model", Value::String(b"gpt2".to_vec()));
    metadata.set("tokenizer.ggml.tokens", Value::Strings(texts));
    metadata.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    let lines = lines.map(|line| line.as_bytes().to_vec()).collect();
    metadata.set("tokenizer.ggml.merges", Value::Strings(lines));
    Ok(metadata)
}

/// The vocabulary as gpt4all's GPT-J files hold it.
fn raw(mut metadata: Metadata) -> Result<Metadata> {
    let tokenizer = Tokenizer::new(&TokenizerSource::Metadata, &metadata)?;
    let tokens = (0..tokenizer.vocab_size() as u32).map(|id| match tokenizer.token_bytes(id) {
        Some(bytes) if !bytes.is_empty() => bytes.to_vec(),
        _ => tokenizer.token_text(id).unwrap_or_default().into_bytes(),
    });
    metadata.set("tokenizer.ggml.tokens", Value::Strings(tokens.collect()));
    metadata.remove("tokenizer.ggml.merges");
    Ok(metadata)
}

/// The byte that a character of GPT-2's byte alphabet stands for, from its description.
pub fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let code = u32::from(character);
    if let Ok(byte) = u8::try_from(code)
        && printable(&byte)
    {
        return Some(byte);
    }
    (0..=255).filter(|byte| !printable(byte)).nth(code.checked_sub(256)? as usize)
}

/// The two small vocabularies of the repository, with ids that sentencepiece and tokenizers gave.
///
/// # Errors
///
/// If a file cannot be read.
pub fn small() -> Result<[Tokenizer; 2]> {
    let llama = TokenizerSource::SentencePiece(small_file("llama-1k.tokenizer.model")?);
    let gptj = TokenizerSource::Json(small_file("gptj-1k.tokenizer.json")?);
    let none = Metadata::default();
    Ok([Tokenizer::new(&llama, &none)?, Tokenizer::new(&gptj, &none)?])
}

/// The shared data; without them, says that `test` could not run.
#[expect(clippy::print_stderr, reason = "a test that does nothing must say so")]
pub fn shared_or_skip(test: &str) -> Option<PathBuf> {
    let folder = shared();
    if folder.is_none() {
        eprintln!("skipped: {test} (no ../shared)");
    }
    folder
}

/// A file of the small vocabularies.
///
/// # Errors
///
/// If it cannot be read.
pub fn small_file(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tokenizer").join(name);
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// All vocabularies that can be reached, small and shared.
///
/// # Errors
///
/// If a vocabulary cannot be read.
pub fn everything() -> Result<Vec<(String, Tokenizer)>> {
    let [llama, gptj] = small()?;
    let mut all = vec![("llama-1k".to_owned(), llama), ("gptj-1k".to_owned(), gptj)];
    if let Some(shared) = shared_or_skip("the large vocabularies") {
        for member in FAMILIES.iter().flat_map(|(_, members)| *members) {
            all.push((format!("{member:?}"), member.load(&shared)?));
        }
    }
    Ok(all)
}

/// Collects all rows that fail, so that one run shows them all.
#[derive(Debug, Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Records `row` if `holds` is false.
    pub fn check(&mut self, holds: bool, row: impl FnOnce() -> String) {
        if !holds {
            self.0.push(row());
        }
    }

    /// # Errors
    ///
    /// The failed rows, if there are any.
    pub fn finish(self) -> Result<()> {
        let shown: Vec<_> = self.0.iter().take(20).collect();
        ensure!(self.0.is_empty(), "{} rows failed, the first: {shown:#?}", self.0.len());
        Ok(())
    }
}
