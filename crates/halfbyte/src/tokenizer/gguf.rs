//! A tokenizer under GGUF's `tokenizer.ggml.*` keys.
//!
//! Source: ggml-org/ggml, `docs/gguf.md`; ggml-org/llama.cpp, `src/llama-vocab.cpp`.

use super::added::Added;
use super::byte_level::ByteLevel;
use super::charsmap::Charsmap;
use super::ids::{Defaults, SpecialIds, keyed, token_id};
use super::sentencepiece::{Normalization, SentencePiece};
use super::special::{BOS_SPELLINGS, END_SPELLINGS};
use super::split::{PreTokenizer, pre_tokenizer};
use super::unigram::Unigram;
use super::vocab::{Kind, Spelling, Vocab, byte_token};
use super::{Engine, Tokenizer};
use crate::error::{Error, Result};
use crate::io::{Metadata, alphabet};

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const PRE: &str = "tokenizer.ggml.pre";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Reads one `tokenizer.ggml.model`.
type Build = fn(&Metadata, &[Vec<u8>]) -> Result<Tokenizer>;

/// What `tokenizer.ggml.model` may be.
const MODELS: &[(&str, Build)] = &[("llama", sentencepiece), ("gpt2", byte_level), ("t5", unigram)];

/// Builds the tokenizer that `metadata` describes.
///
/// # Errors
///
/// [`Error::Tokenizer`] naming the key that is missing, wrong or not supported.
pub(super) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer> {
    let model = keyed(metadata.str("tokenizer.ggml.model"))?
        .ok_or_else(|| Error::Tokenizer("tokenizer.ggml.model is missing".into()))?;
    let Some((_, build)) = MODELS.iter().find(|(name, _)| *name == model) else {
        let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
        return Err(Error::Tokenizer(format!(
            "tokenizer.ggml.model is {model:?} (supported: {})",
            names.join(", ")
        )));
    };
    let texts = keyed(metadata.strings(TOKENS))?
        .ok_or_else(|| Error::Tokenizer(format!("{TOKENS} is missing")))?;
    build(metadata, texts)
}

fn sentencepiece(metadata: &Metadata, texts: &[Vec<u8>]) -> Result<Tokenizer> {
    let vocab = vocab(metadata, texts, Spelling::SentencePiece)?;
    let scores = keyed(metadata.f32s(SCORES))?.ok_or_else(|| {
        Error::Tokenizer(format!("{SCORES} is missing: a llama tokenizer merges by scores"))
    })?;
    let normalization = normalization(metadata, false)?;
    let defaults = Defaults { adds_bos: true, ..Defaults::default() };
    let ids = SpecialIds::read(metadata, &vocab, defaults)?;
    let engine = SentencePiece::new(&vocab, scores, normalization, SCORES)?;
    let strips_space = normalization.add_space_prefix;
    Tokenizer::assemble(vocab, Engine::SentencePiece(engine), ids, strips_space)
}

fn unigram(metadata: &Metadata, texts: &[Vec<u8>]) -> Result<Tokenizer> {
    let vocab = vocab(metadata, texts, Spelling::SentencePiece)?;
    let scores = keyed(metadata.f32s(SCORES))?.filter(|scores| scores.len() == vocab.len());
    let scores = scores.ok_or_else(|| {
        Error::Tokenizer(format!("{SCORES}: a t5 tokenizer needs one for each of its tokens"))
    })?;
    let map = keyed(metadata.integers(CHARSMAP))?.unwrap_or_default();
    // Writers have the bytes as signed or unsigned.
    let map: Vec<u8> = map.into_iter().map(|byte| byte as u8).collect();
    let charsmap = Charsmap::read(&map, CHARSMAP)?;
    let normalization = normalization(metadata, true)?;
    let ids = SpecialIds::read(metadata, &vocab, Defaults::default())?;
    let engine = Unigram::new(&vocab, scores, (normalization, charsmap), SCORES)?;
    let strips_space = normalization.add_space_prefix;
    let added = Added::read(metadata)?.ids();
    let tokenizer = Tokenizer::unigram(vocab, engine, ids, strips_space, &added)?;
    Ok(Tokenizer { parting: added, ..tokenizer })
}

/// How texts are prepared; `tidy` says what holds for extra spaces if the file does not.
fn normalization(metadata: &Metadata, tidy: bool) -> Result<Normalization> {
    let flag = |name: &str| keyed(metadata.bool(&format!("tokenizer.ggml.{name}")));
    Ok(Normalization {
        add_space_prefix: flag("add_space_prefix")?.unwrap_or(true),
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?.unwrap_or(tidy),
    })
}

fn byte_level(metadata: &Metadata, texts: &[Vec<u8>]) -> Result<Tokenizer> {
    let space = alphabet::SPACE.as_bytes();
    let encoded = texts.iter().any(|text| text.windows(space.len()).any(|part| part == space));
    let spelling = if encoded { Spelling::ByteAlphabet } else { Spelling::Raw };
    let vocab = vocab(metadata, texts, spelling)?;
    let pre = pre(metadata)?;
    let merges = keyed(metadata.strings("tokenizer.ggml.merges"))?;
    let engine = ByteLevel::new(&vocab, merges, spelling, pre)?;
    let defaults = Defaults { adds_bos: pre.adds_bos, ..Defaults::default() };
    let ids = SpecialIds::read(metadata, &vocab, defaults)?;
    Tokenizer::assemble(vocab, Engine::ByteLevel(engine), ids, false)
}

/// The split that the file names, or that its architecture implies.
fn pre(metadata: &Metadata) -> Result<&'static PreTokenizer> {
    match keyed(metadata.str(PRE))? {
        Some(name) => pre_tokenizer(name),
        None => pre_tokenizer(implied_pre(metadata)),
    }
}

/// The split of a file older than the key: all GPT-NeoX models share one tokenizer.
pub(super) fn implied_pre(metadata: &Metadata) -> &'static str {
    let is_neox = metadata.str("general.architecture").is_ok_and(|name| name == Some("gptneox"));
    if is_neox { "gpt-neox" } else { "gpt-2" }
}

fn vocab(metadata: &Metadata, texts: &[Vec<u8>], spelling: Spelling) -> Result<Vocab> {
    let mut vocab = Vocab::with_capacity(texts.len(), TOKENS)?;
    let Some(numbers) = keyed(metadata.integers(TYPES))? else {
        for text in texts {
            vocab.push(text, guessed_kind(text, spelling), spelling, TOKENS)?;
        }
        for name in ["bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"] {
            if let Some(id) = token_id(metadata, &vocab, name)? {
                vocab.make_control(id);
            }
        }
        return Ok(vocab);
    };
    if numbers.len() != texts.len() {
        return Err(Error::Tokenizer(format!(
            "{TYPES} has {} entries for {} tokens: there must be one each",
            numbers.len(),
            texts.len()
        )));
    }
    for (id, (text, &number)) in texts.iter().zip(&numbers).enumerate() {
        let kind = Kind::from_number(number).ok_or_else(|| {
            Error::Tokenizer(format!("{TYPES}[{id}] is {number}, expected 1 to 6"))
        })?;
        vocab.push(text, kind, spelling, TOKENS)?;
    }
    Ok(vocab)
}

/// The kind of a token in a file that does not say.
fn guessed_kind(text: &[u8], spelling: Spelling) -> Kind {
    let listed = |list: &[&str]| list.iter().any(|special| special.as_bytes() == text);
    if listed(BOS_SPELLINGS) || listed(END_SPELLINGS) {
        Kind::Control
    } else if text == b"<unk>" {
        Kind::Unknown
    } else if spelling == Spelling::SentencePiece && byte_token(text).is_some() {
        Kind::Byte
    } else {
        Kind::Normal
    }
}
