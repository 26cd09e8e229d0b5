//! A `tokenizer.json` with a Unigram model, as Hugging Face converts SentencePiece's.
//!
//! The `tokenizers` crate follows places in a compiled map of characters unchecked, so it is not
//! used here: the file is read as the SentencePiece model that it was made from.

use serde_json::Value;

use super::Tokenizer;
use super::charsmap::Charsmap;
use super::ids::{Defaults, SpecialIds};
use super::json::{JsonFile, error, steps};
use super::sentencepiece::Normalization;
use super::unigram::Unigram;
use super::vocab::VISIBLE_SPACE;
use crate::error::Result;
use crate::io::Metadata;

const FIELD: &str = "tokenizer.json: normalizer.precompiled_charsmap";

/// Builds the tokenizer that `file` describes.
///
/// # Errors
///
/// [`Error::Tokenizer`](crate::Error::Tokenizer) if the file is broken, or asks for something that
/// SentencePiece does not do.
pub(super) fn tokenizer(file: &JsonFile, metadata: &Metadata) -> Result<Tokenizer> {
    let vocab = file.vocab()?;
    let ids = SpecialIds::read(metadata, &vocab, Defaults::default())?;
    let Parts { normalization, charsmap, prefixes_once } = Parts::read(file)?;
    let charsmap = Charsmap::read(&charsmap, FIELD)?;
    let scores = &file.model.vocab.1;
    let engine = Unigram::new(&vocab, scores, (normalization, charsmap), "model.vocab")?;
    let added = || file.added_tokens.iter().filter(|token| !token.special);
    if let Some(token) = added().find(|token| token.lstrip || token.rstrip || token.single_word) {
        let text = &token.content;
        return Err(error(&format!("added token {text:?} is more than its text: not supported")));
    }
    let added: Vec<u32> = added().map(|token| token.id).collect();
    let strips_space = normalization.add_space_prefix;
    let tokenizer = Tokenizer::unigram(vocab, engine, ids, strips_space, &added)?;
    Ok(Tokenizer { prefixes_once, ..tokenizer })
}

/// How the file prepares a text, and its compiled map of characters, empty for none.
///
/// # Errors
///
/// As [`tokenizer`].
pub(super) fn preparation(file: &JsonFile) -> Result<(Normalization, Vec<u8>)> {
    let Parts { normalization, charsmap, .. } = Parts::read(file)?;
    Ok((normalization, charsmap))
}

/// What the file does to a text before it is cut.
struct Parts {
    normalization: Normalization,
    /// Compiled; empty for none.
    charsmap: Vec<u8>,
    /// Whether only the start of a text may get a space in front, not every part between tokens.
    prefixes_once: bool,
}

impl Parts {
    fn read(file: &JsonFile) -> Result<Self> {
        let normalization =
            Normalization { add_space_prefix: false, remove_extra_whitespaces: false };
        let mut parts = Self { normalization, charsmap: Vec::new(), prefixes_once: false };
        for step in steps(&file.normalizer, "normalizers") {
            match step["type"].as_str() {
                Some("Precompiled") => parts.charsmap = charsmap(step)?,
                Some("Strip") => parts.normalization.remove_extra_whitespaces = true,
                Some("Replace") if step["pattern"]["Regex"] == " {2,}" => {
                    parts.normalization.remove_extra_whitespaces = true;
                }
                _ => {
                    return Err(refused(
                        "normalizer",
                        step,
                        "Precompiled, Strip, Replace of spaces",
                    ));
                }
            }
        }
        for step in steps(&file.pre_tokenizer, "pretokenizers") {
            match step["type"].as_str() {
                Some("WhitespaceSplit") => parts.normalization.remove_extra_whitespaces = true,
                Some("Metaspace") if step["replacement"] == VISIBLE_SPACE => {
                    parts.normalization.add_space_prefix =
                        step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
                    parts.prefixes_once = step["prepend_scheme"] == "first";
                }
                _ => return Err(refused("pre_tokenizer", step, "WhitespaceSplit, Metaspace")),
            }
        }
        Ok(parts)
    }
}

fn refused(stage: &str, step: &Value, supported: &str) -> crate::Error {
    error(&format!(
        "{stage}.type is {} (supported with a Unigram model: Sequence, {supported})",
        step["type"]
    ))
}

fn charsmap(step: &Value) -> Result<Vec<u8>> {
    let text = step["precompiled_charsmap"].as_str().unwrap_or_default();
    from_base64(text).ok_or_else(|| error("precompiled_charsmap is no base64"))
}

/// The bytes that `text` encodes: RFC 4648, padded, in one line.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (quads, rest) = text.as_bytes().as_chunks::<4>();
    let mut bytes = Vec::with_capacity(quads.len() * 3);
    for (i, quad) in quads.iter().enumerate() {
        let is_last = i + 1 == quads.len();
        let n = quad.iter().position(|&c| c == b'=').filter(|_| is_last).unwrap_or(4);
        if n < 2 || quad[n..].iter().any(|&c| c != b'=') {
            return None;
        }
        let mut bits = 0;
        for (j, &c) in quad[..n].iter().enumerate() {
            bits |= u32::from(value(c)?) << (18 - 6 * j);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..n]);
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_the_standard_says() {
        let cases: [(&str, Option<&[u8]>); 10] = [
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("+/+/", Some(&[0xFB, 0xFF, 0xBF])),
            ("Zm9", None),
            ("Z===", None),
            ("Zg==Zg==", None),
            ("Zm9\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(from_base64(text).as_deref(), expected, "{text:?}");
        }
    }
}
