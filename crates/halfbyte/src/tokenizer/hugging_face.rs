//! The `tokenizers` crate as the encoder of a checked `tokenizer.json`.

use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::Specials;
use super::json::{JsonFile, error, steps};
use crate::error::{Error, Result};

/// Normalizers whose settings cannot make the crate fail; others are refused by name.
const NORMALIZERS: &[&str] = &["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace"];

/// Pre-tokenizers, likewise.
const PRE_TOKENIZERS: &[&str] = &["ByteLevel", "Split", "Digits", "Metaspace"];

/// The longest string that a normalizer may insert, in bytes: a text must not explode.
const MAX_INSERT_BYTES: usize = 16;

/// An encoder of a `tokenizer.json`.
#[derive(Debug)]
pub(super) struct HuggingFace {
    /// Special tokens are text.
    plain: Tokenizer,
    /// Special tokens are tokens; made when first needed.
    parsing: OnceLock<Tokenizer>,
}

impl HuggingFace {
    /// Builds the encoder that `file` describes.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file asks for something that is not supported.
    pub(super) fn new(file: &JsonFile) -> Result<Self> {
        let model = &file.model;
        let vocab: Vocab = model.vocab.0.iter().cloned().collect();
        let merges = model
            .merges
            .iter()
            .filter_map(|merge| merge.parts())
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .collect();
        let mut builder = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .fuse_unk(model.fuse_unk)
            .byte_fallback(model.byte_fallback)
            .ignore_merges(model.ignore_merges);
        if let Some(unknown) = &model.unk_token {
            builder = builder.unk_token(unknown.clone());
        }
        let mut plain = Tokenizer::new(builder.build().map_err(failed)?);
        check_normalizer(&file.normalizer)?;
        let normalizer: Option<NormalizerWrapper> = stage(&file.normalizer, "normalizer")?;
        plain.with_normalizer(normalizer).map_err(failed)?;
        check_names(&file.pre_tokenizer, "pretokenizers", "pre_tokenizer", PRE_TOKENIZERS)?;
        let pre_tokenizer: Option<PreTokenizerWrapper> =
            stage(&file.pre_tokenizer, "pre_tokenizer")?;
        plain.with_pre_tokenizer(pre_tokenizer);
        add_tokens(&mut plain, file)?;
        plain.set_encode_special_tokens(true);
        Ok(Self { plain, parsing: OnceLock::new() })
    }

    /// The ids of `text`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the crate cannot encode it.
    pub(super) fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let tokenizer = match specials {
            Specials::AsText => &self.plain,
            Specials::Parse => self.parsing.get_or_init(|| {
                let mut parsing = self.plain.clone();
                parsing.set_encode_special_tokens(false);
                parsing
            }),
        };
        let encoding = tokenizer.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Adds the added tokens, which the crate numbers itself.
fn add_tokens(tokenizer: &mut Tokenizer, file: &JsonFile) -> Result<()> {
    let tokens = file.added_tokens.iter().map(|token| AddedToken {
        content: token.content.clone(),
        single_word: token.single_word,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        normalized: token.normalized,
        special: token.special,
    });
    tokenizer.add_tokens(tokens).map_err(failed)?;
    for token in &file.added_tokens {
        let id = tokenizer.token_to_id(&token.content);
        if id != Some(token.id) {
            return Err(error(&format!(
                "added token {:?} has id {}, expected {id:?}: the next that is free",
                token.content, token.id
            )));
        }
    }
    Ok(())
}

fn check_normalizer(normalizer: &Value) -> Result<()> {
    check_names(normalizer, "normalizers", "normalizer", NORMALIZERS)?;
    for step in steps(normalizer, "normalizers") {
        let inserted = match step["type"].as_str() {
            Some("Prepend") => &step["prepend"],
            Some("Replace") if step["pattern"]["String"].as_str().is_none_or(str::is_empty) => {
                return Err(error(&format!(
                    "normalizer.pattern is {}, expected {{\"String\": …}}",
                    step["pattern"]
                )));
            }
            Some("Replace") => &step["content"],
            _ => continue,
        };
        if inserted.as_str().is_some_and(|text| text.len() > MAX_INSERT_BYTES) {
            return Err(error(&format!(
                "normalizer inserts more than {MAX_INSERT_BYTES} bytes: {}",
                step["type"]
            )));
        }
    }
    Ok(())
}

/// Checks that all steps of a stage are of a type in `supported`.
fn check_names(stage: &Value, list: &str, field: &str, supported: &[&str]) -> Result<()> {
    for step in steps(stage, list) {
        if !step["type"].as_str().is_some_and(|name| supported.contains(&name)) {
            return Err(error(&format!(
                "{field}.type is {} (supported: Sequence, {})",
                step["type"],
                supported.join(", ")
            )));
        }
    }
    Ok(())
}

/// Reads a stage in the crate's own form.
fn stage<T: serde::de::DeserializeOwned>(value: &Value, field: &str) -> Result<Option<T>> {
    if value.is_null() {
        return Ok(None);
    }
    serde_json::from_value(value.clone()).map(Some).map_err(|e| error(&format!("{field}: {e}")))
}

fn failed(cause: tokenizers::Error) -> Error {
    error(&cause.to_string())
}
