//! What a GGUF file says about a tokenizer that came from elsewhere.

use std::collections::HashMap;

use super::gguf::implied_pre;
use super::json::{JsonFile, steps};
use super::model_file::{Model, ModelFile};
use super::sentencepiece::Normalization;
use super::split::{GPT2, PRE_TOKENIZERS};
use super::vocab::{Spelling, Vocab};
use super::{Engine, HUGGING_FACE_JSON, Tokenizer, json_unigram};
use crate::error::Result;
use crate::io::{Metadata, TokenizerSource, Value};
use crate::kernels::{collect, resize};

/// Keys and values in the order in which they are written.
type Entries = Vec<(String, Value)>;

/// The `tokenizer.*` entries with which a GGUF file keeps the tokenizer of `source`.
///
/// A `tokenizer.json` is kept whole, which is what this crate reads back, beside the
/// `tokenizer.ggml.*` keys for other programs. All other `tokenizer.*` entries of `metadata` (chat
/// templates, ends of turn) stay; a tokenizer that came out of a GGUF file stays as it is.
///
/// # Errors
///
/// [`Error::Tokenizer`](crate::Error::Tokenizer) if the tokenizer is broken.
pub fn gguf_metadata(source: &TokenizerSource, metadata: &Metadata) -> Result<Entries> {
    let mut entries = match source {
        TokenizerSource::None => Entries::new(),
        _ if metadata.get("tokenizer.ggml.tokens").is_some() => completed(source, metadata)?,
        TokenizerSource::Metadata => Entries::new(),
        TokenizerSource::Json(bytes) => from_json(bytes, metadata)?,
        TokenizerSource::SentencePiece(bytes) => from_model_file(bytes, metadata)?,
    };
    let kept = metadata
        .iter()
        .filter(|(key, _)| key.starts_with("tokenizer."))
        .filter(|(key, _)| entries.iter().all(|(written, _)| written != key))
        .map(|(key, value)| Ok((key.to_owned(), value.copy()?)));
    let kept = kept.collect::<Result<Entries>>()?;
    entries.extend(kept);
    Ok(entries)
}

/// The tokens that start and end a text, and the unknown one.
fn roles(tokenizer: &Tokenizer) -> Entries {
    let mut entries: Entries = [
        ("bos_token_id", tokenizer.bos()),
        ("eos_token_id", tokenizer.eos()),
        ("unknown_token_id", tokenizer.vocab.unknown()),
    ]
    .into_iter()
    .filter_map(|(name, id)| Some(entry(name, Value::U32(id?))))
    .collect();
    entries.push(entry("add_bos_token", Value::Bool(tokenizer.adds_bos())));
    entries
}

/// What other programs want to know of a byte-level vocabulary and older files do not give: the
/// split by name (before 2024), and the merges (2023).
fn completed(source: &TokenizerSource, metadata: &Metadata) -> Result<Entries> {
    let mut entries = Entries::new();
    let is_byte_level = metadata.str("tokenizer.ggml.model").is_ok_and(|name| name == Some("gpt2"));
    if !is_byte_level {
        return Ok(entries);
    }
    if metadata.get("tokenizer.ggml.pre").is_none() {
        entries.push(entry("pre", text(implied_pre(metadata))));
    }
    // Lines of merges are parted by a space: the tokens must be spelled in the alphabet.
    let has_spaces = |token: &Vec<u8>| token.contains(&b' ');
    let tokens = metadata.strings("tokenizer.ggml.tokens")?.unwrap_or_default();
    if metadata.get("tokenizer.ggml.merges").is_none() && !tokens.iter().any(has_spaces) {
        let tokenizer = Tokenizer::new(source, metadata)?;
        if let Engine::ByteLevel(engine) = &tokenizer.engine {
            let merges = engine.implied_merges(&tokenizer.vocab)?;
            entries.push(entry("merges", Value::Strings(merges)));
        }
    }
    Ok(entries)
}

fn from_model_file(bytes: &[u8], metadata: &Metadata) -> Result<Entries> {
    let tokenizer = Tokenizer::from_model_file(bytes, metadata)?;
    let file = ModelFile::read(bytes)?;
    // Tokens that were added later have no score.
    let mut scores = file.scores;
    resize(&mut scores, tokenizer.vocab.len())?;
    let is_unigram = file.model == Model::Unigram;
    let mut entries = vocabulary(&tokenizer, if is_unigram { "t5" } else { "llama" })?;
    entries.push(entry("scores", Value::F32s(scores)));
    entries.extend(preparation(&tokenizer, file.normalization, file.charsmap));
    entries.extend(roles(&tokenizer));
    Ok(entries)
}

/// A SentencePiece vocabulary without its scores.
fn vocabulary(tokenizer: &Tokenizer, model: &str) -> Result<Entries> {
    let mut entries = vec![entry("model", text(model)), entry("pre", text("default"))];
    entries.extend(tokens(&tokenizer.vocab)?);
    Ok(entries)
}

/// Spellings and kinds.
fn tokens(vocab: &Vocab) -> Result<[(String, Value); 2]> {
    let spellings = collect(vocab.len(), vocab.iter().map(spelling))?;
    let kinds = collect(vocab.len(), vocab.iter().map(|(_, token)| token.kind as i32))?;
    Ok([entry("tokens", Value::Strings(spellings)), entry("token_type", Value::I32s(kinds))])
}

/// How a SentencePiece tokenizer prepares a text.
fn preparation(tokenizer: &Tokenizer, how: Normalization, charsmap: Vec<u8>) -> Entries {
    let mut entries = vec![
        entry("add_space_prefix", Value::Bool(how.add_space_prefix)),
        entry("remove_extra_whitespaces", Value::Bool(how.remove_extra_whitespaces)),
    ];
    if !charsmap.is_empty() {
        entries.push(entry("precompiled_charsmap", Value::U8s(charsmap)));
    }
    if tokenizer.ids.adds_eos {
        entries.push(entry("add_eos_token", Value::Bool(true)));
    }
    entries
}

fn from_json(bytes: &[u8], metadata: &Metadata) -> Result<Entries> {
    let tokenizer = Tokenizer::from_json(bytes, metadata)?;
    let vocab = &tokenizer.vocab;
    let file = JsonFile::read(bytes)?;
    let whole = Value::String(collect(bytes.len(), bytes.iter().copied())?);
    if file.is_unigram() {
        let (how, charsmap) = json_unigram::preparation(&file)?;
        let mut scores = file.model.vocab.1;
        resize(&mut scores, vocab.len())?;
        let mut entries = vocabulary(&tokenizer, "t5")?;
        entries.insert(0, (HUGGING_FACE_JSON.to_owned(), whole));
        entries.push(entry("scores", Value::F32s(scores)));
        entries.extend(preparation(&tokenizer, how, charsmap));
        entries.extend(roles(&tokenizer));
        return Ok(entries);
    }
    let mut entries = vec![(HUGGING_FACE_JSON.to_owned(), whole)];
    entries.extend(tokens(vocab)?);
    if file.spelling()? == Spelling::SentencePiece {
        entries.push(entry("model", text("llama")));
        entries.push(entry("pre", text("default")));
        entries.push(entry("scores", Value::F32s(scores(&file, vocab))));
        entries.push(entry("add_space_prefix", Value::Bool(file.strips_space())));
    } else {
        entries.push(entry("model", text("gpt2")));
        entries.extend(pre(&file).map(|name| entry("pre", text(name))));
        let merges = file.model.merges.iter().filter_map(|merge| merge.parts());
        let lines = merges.map(|(left, right)| format!("{left} {right}").into_bytes());
        let lines = collect(file.model.merges.len(), lines)?;
        entries.push(entry("merges", Value::Strings(lines)));
    }
    entries.extend(roles(&tokenizer));
    Ok(entries)
}

/// A token's spelling; rows without one get a name, as other programs want them to differ.
fn spelling((id, token): (u32, &super::vocab::Token)) -> Vec<u8> {
    if token.text.is_empty() { format!("[PAD{id}]").into_bytes() } else { token.text.to_vec() }
}

/// Scores that rank pieces as the merges do: minus the first merge that makes the piece.
///
/// f32 counts merges exactly up to 2²⁴.
fn scores(file: &JsonFile, vocab: &Vocab) -> Vec<f32> {
    let mut first = HashMap::new();
    for (rank, merge) in file.model.merges.iter().enumerate() {
        if let Some((left, right)) = merge.parts() {
            first.entry([left, right].concat().into_bytes()).or_insert(rank);
        }
    }
    let last = file.model.merges.len();
    let rank = |text: &[u8]| first.get(text).copied().unwrap_or(last);
    vocab.iter().map(|(_, token)| -(rank(&token.text) as f32)).collect()
}

/// What llama.cpp calls the file's way of splitting, if it is in our table.
fn pre(file: &JsonFile) -> Option<&'static str> {
    let mut patterns = Vec::new();
    for step in steps(&file.pre_tokenizer, "pretokenizers") {
        match step["type"].as_str() {
            Some("ByteLevel") if step["use_regex"] != false => patterns.push(GPT2),
            Some("ByteLevel") => {}
            Some("Digits") => patterns.push(r"\p{N}"),
            Some("Split") => patterns.push(step["pattern"]["Regex"].as_str()?),
            _ => return None,
        }
    }
    let composes = steps(&file.normalizer, "normalizers").iter().any(|step| step["type"] == "NFC");
    let rows = || PRE_TOKENIZERS.iter().filter(|row| row.patterns == patterns);
    let row = rows().find(|row| row.composes == composes).or_else(|| rows().next())?;
    row.names.first().copied()
}

fn entry(name: &str, value: Value) -> (String, Value) {
    (format!("tokenizer.ggml.{name}"), value)
}

fn text(value: &str) -> Value {
    Value::String(value.as_bytes().to_vec())
}
