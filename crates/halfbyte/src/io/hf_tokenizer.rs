//! A Hugging Face folder's tokenizer, and the facts about special tokens that lie around it.
//!
//! Two kinds of keys are not GGUF's own, but ours: `tokenizer.ggml.eos_token_ids` lists all end
//! tokens if there are several, and `tokenizer.ggml.{bos,eos,…}_token` give a special token's text
//! where no file gives its id. Those of tokens that were added to a SentencePiece model are described
//! in the tokenizer's `added.rs`.

use std::fmt;
use std::iter::repeat_with;
use std::path::Path;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::Value as Json;

use super::checkpoint::TokenizerSource;
use super::hf_json::{self, Document};
use super::metadata::{Metadata, TokenKind, Value};
use crate::error::{Error, Result};
use crate::kernels::collect;

/// Largest tokenizer file that is read, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// Tokens that a `vocab.json` may hold; tokenizers with more come as `tokenizer.json`.
const MAX_VOCAB: usize = 1 << 18;
/// Lines of a `merges.txt`.
const MAX_MERGES: usize = 1 << 19;

/// The tokens that have a role: Hugging Face's word, GGUF's word.
static ROLES: &[(&str, &str)] =
    &[("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];

/// Finds the tokenizer of `folder` and writes what is known of special tokens into `metadata`.
pub(super) fn read(
    folder: &Path,
    config: &Document,
    metadata: &mut Metadata,
) -> Result<TokenizerSource> {
    let facts = Facts::read(folder, config)?;
    let source = source(folder, &facts, metadata)?;
    facts.write(matches!(source, TokenizerSource::Metadata), metadata)?;
    chat_templates(folder, &facts.tokenizer_config, metadata)?;
    Ok(source)
}

fn source(folder: &Path, facts: &Facts<'_>, metadata: &mut Metadata) -> Result<TokenizerSource> {
    let file = |name: &str| hf_json::read_file(&folder.join(name), MAX_TOKENIZER_BYTES);
    if let Some(json) = file("tokenizer.json")? {
        return Ok(TokenizerSource::Json(json));
    }
    for name in ["tokenizer.model", "spiece.model"] {
        if let Some(model) = file(name)? {
            added_tokens(folder, facts, metadata)?;
            return Ok(TokenizerSource::SentencePiece(model));
        }
    }
    if !folder.join("vocab.json").exists() || !folder.join("merges.txt").exists() {
        return Ok(TokenizerSource::None);
    }
    byte_level_bpe(folder, facts, metadata)?;
    Ok(TokenizerSource::Metadata)
}

/// Writes what was added to T5's SentencePiece model: its `<extra_id_N>`, and the tokens of
/// `added_tokens.json`.
fn added_tokens(folder: &Path, facts: &Facts<'_>, metadata: &mut Metadata) -> Result<()> {
    if facts.config.text(&["model_type"])? != Some("t5") {
        return Ok(());
    }
    let n_extra = facts.tokenizer_config.integer(&["extra_ids"])?.unwrap_or(100);
    metadata.set("tokenizer.ggml.extra_ids", Value::U64(n_extra));
    let mut added = vocabulary_or_empty(&folder.join("added_tokens.json"))?;
    if !added.is_empty() {
        added.sort_unstable();
        let (ids, texts): (Vec<u32>, Vec<String>) = added.into_iter().unzip();
        let texts = texts.into_iter().map(String::into_bytes).collect();
        metadata.set("tokenizer.ggml.added_tokens", Value::Strings(texts));
        metadata.set("tokenizer.ggml.added_token_ids", Value::U32s(ids));
    }
    Ok(())
}

/// The files that say something about special tokens.
struct Facts<'a> {
    config: &'a Document,
    generation: Document,
    tokenizer_config: Document,
    special_tokens: Document,
}

impl<'a> Facts<'a> {
    fn read(folder: &Path, config: &'a Document) -> Result<Self> {
        let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
        let texts = ["bos_token", "eos_token", "unk_token", "pad_token"];
        let about =
            ["add_bos_token", "add_eos_token", "chat_template", "extra_ids", "tokenizer_class"];
        let tokenizer_fields: Vec<_> = texts.iter().chain(&about).copied().collect();
        let document = |name: &str, fields: &[&str]| Document::read(folder.join(name), fields);
        Ok(Self {
            config,
            generation: document("generation_config.json", &ids)?,
            tokenizer_config: document("tokenizer_config.json", &tokenizer_fields)?,
            special_tokens: document("special_tokens_map.json", &texts)?,
        })
    }

    /// Writes ids, texts and the add-token switches under GGUF's keys.
    fn write(&self, has_vocabulary: bool, metadata: &mut Metadata) -> Result<()> {
        for (hf, gguf) in ROLES {
            let key = format!("tokenizer.ggml.{gguf}_token_id");
            let ids = self.ids(hf)?;
            if let Some(&first) = ids.first() {
                metadata.set(key, Value::U32(first));
                if ids.len() > 1 {
                    metadata.set(format!("tokenizer.ggml.{gguf}_token_ids"), Value::U32s(ids));
                }
            } else if let Some(text) = self.text(hf) {
                let id = if has_vocabulary { id_of(metadata, text) } else { None };
                match id {
                    Some(id) => metadata.set(key, Value::U32(id)),
                    None => {
                        metadata.set(format!("tokenizer.ggml.{gguf}_token"), Value::from(text));
                    }
                }
            }
        }
        let class = self.tokenizer_config.text(&["tokenizer_class"])?.unwrap_or("");
        // transformers' LLaMA tokenizers add BOS unless told otherwise.
        let default =
            (class.starts_with("LlamaTokenizer") || class.starts_with("CodeLlama")).then_some(true);
        for (field, default) in [("add_bos_token", default), ("add_eos_token", None)] {
            if let Some(adds) = self.tokenizer_config.truth(field)?.or(default) {
                metadata.set(format!("tokenizer.ggml.{field}"), Value::Bool(adds));
            }
        }
        Ok(())
    }

    /// The ids of a role, one or a list; those for generation before those of the model.
    fn ids(&self, role: &str) -> Result<Vec<u32>> {
        let field = format!("{role}_token_id");
        for document in [&self.generation, self.config] {
            let Some(value) = document.get(&field) else { continue };
            let id = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
            let ids: Option<Vec<_>> = match value {
                Json::Array(list) => list.iter().map(id).collect(),
                // Some old configurations say -1 for "none".
                Json::Number(n) if n.as_i64() == Some(-1) => continue,
                one => id(one).map(|id| vec![id]),
            };
            return ids.ok_or_else(|| document.wrong(&field, "a token id or a list of them"));
        }
        Ok(Vec::new())
    }

    /// The text of a role's token, a string or an object with `content`.
    fn text(&self, role: &str) -> Option<&str> {
        let field = format!("{role}_token");
        [&self.tokenizer_config, &self.special_tokens].into_iter().find_map(|document| {
            let value = document.get(&field)?;
            value.as_str().or_else(|| value.get("content")?.as_str())
        })
    }

    /// Whether `token` is a special one.
    fn is_special(&self, token: &[u8]) -> bool {
        ROLES.iter().any(|(role, _)| self.text(role).is_some_and(|t| t.as_bytes() == token))
    }
}

fn id_of(metadata: &Metadata, text: &str) -> Option<u32> {
    let Some(Value::Strings(tokens)) = metadata.get("tokenizer.ggml.tokens") else { return None };
    let position = tokens.iter().position(|t| t == text.as_bytes())?;
    u32::try_from(position).ok()
}

/// `vocab.json`, `added_tokens.json` and `merges.txt` as a GGUF vocabulary.
fn byte_level_bpe(folder: &Path, facts: &Facts<'_>, metadata: &mut Metadata) -> Result<()> {
    let path = folder.join("vocab.json");
    let vocabulary = vocabulary(&path)?;
    let added = vocabulary_or_empty(&folder.join("added_tokens.json"))?;
    let highest = vocabulary.iter().chain(&added).map(|(id, _)| *id).max();
    let n_tokens = highest.map_or(0, |id| id as usize + 1);
    if n_tokens == 0 || n_tokens > MAX_VOCAB {
        let what = format!("the highest token id makes {n_tokens} tokens, not 1 to {MAX_VOCAB}");
        return Err(Error::Malformed { path, what, offset: 0 });
    }
    let mut tokens: Vec<Vec<u8>> = collect(n_tokens, repeat_with(Vec::new))?;
    let mut types = collect(n_tokens, repeat_with(|| TokenKind::Unused))?;
    for (kind, entries) in [(TokenKind::Normal, vocabulary), (TokenKind::UserDefined, added)] {
        for (id, text) in entries {
            let text = text.into_bytes();
            let slot = tokens.get_mut(id as usize).zip(types.get_mut(id as usize));
            let Some((slot, slot_type)) = slot else { continue };
            if *slot_type != TokenKind::Unused && *slot != text {
                let what = format!("token id {id} is there twice");
                return Err(Error::Malformed { path, what, offset: 0 });
            }
            *slot_type = if facts.is_special(&text) { TokenKind::Control } else { kind };
            *slot = text;
        }
    }
    for (id, (token, kind)) in tokens.iter_mut().zip(&types).enumerate() {
        if *kind == TokenKind::Unused {
            *token = format!("[PAD{id}]").into_bytes();
        }
    }
    metadata.set("tokenizer.ggml.model", Value::from("gpt2"));
    metadata.set("tokenizer.ggml.pre", Value::from("gpt-2"));
    metadata.set("tokenizer.ggml.tokens", Value::Strings(tokens));
    let types = collect(n_tokens, types.into_iter().map(|kind| kind as i32))?;
    metadata.set("tokenizer.ggml.token_type", Value::I32s(types));
    metadata.set("tokenizer.ggml.merges", Value::Strings(merges(&folder.join("merges.txt"))?));
    Ok(())
}

fn vocabulary_or_empty(path: &Path) -> Result<Vec<(u32, String)>> {
    if path.exists() { vocabulary(path) } else { Ok(Vec::new()) }
}

/// The entries of an object of token ids.
fn vocabulary(path: &Path) -> Result<Vec<(u32, String)>> {
    let bytes = hf_json::read_file(path, MAX_TOKENIZER_BYTES)?.unwrap_or_default();
    // Each entry has a colon, so the list need not grow, which could fail, in the midst of reading.
    let n = bytes.iter().filter(|&&byte| byte == b':').count();
    let entries = Ids(collect(n.min(MAX_VOCAB), [])?);
    serde_json::Deserializer::from_slice(&bytes)
        .deserialize_map(entries)
        .map_err(|e| hf_json::malformed(path, &bytes, &e))
}

/// The entries so far: none.
struct Ids(Vec<(u32, String)>);

impl<'de> Visitor<'de> for Ids {
    type Value = Vec<(u32, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = self.0;
        while let Some((token, id)) = map.next_entry::<String, u32>()? {
            if entries.len() == MAX_VOCAB {
                return Err(A::Error::custom(format!("more than {MAX_VOCAB} tokens")));
            }
            entries.push((id, token));
        }
        Ok(entries)
    }
}

/// The lines "a b" of a `merges.txt`.
fn merges(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = hf_json::read_file(path, MAX_TOKENIZER_BYTES)?.unwrap_or_default();
    let n_lines = bytes.iter().filter(|&&b| b == b'\n').count();
    let malformed = |what: String, offset: usize| Error::Malformed {
        path: path.into(),
        what,
        offset: offset as u64,
    };
    if n_lines > MAX_MERGES {
        return Err(malformed(format!("{n_lines} merges are more than {MAX_MERGES}"), 0));
    }
    let mut merges = collect(n_lines + 1, [])?;
    let mut offset = 0;
    for (number, whole) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_header = number == 0 && line.starts_with(b"#version");
        if !line.is_empty() && !is_header {
            let spaces = line.iter().filter(|&&b| b == b' ').count();
            if spaces != 1 || line.starts_with(b" ") || line.ends_with(b" ") {
                let what = format!("line {} is not two tokens and a space", number + 1);
                return Err(malformed(what, offset));
            }
            merges.push(line.to_vec());
        }
        offset += whole.len();
    }
    Ok(merges)
}

/// Chat templates from `chat_template.jinja` or `tokenizer_config.json`.
fn chat_templates(folder: &Path, config: &Document, metadata: &mut Metadata) -> Result<()> {
    let path = folder.join("chat_template.jinja");
    if let Some(template) = hf_json::read_file(&path, hf_json::MAX_CONFIG_BYTES)? {
        metadata.set("tokenizer.chat_template", Value::String(template));
        return Ok(());
    }
    match config.get("chat_template") {
        None => {}
        Some(Json::String(template)) => {
            metadata.set("tokenizer.chat_template", Value::from(template.as_str()));
        }
        Some(Json::Array(templates)) => {
            let mut names = Vec::new();
            for entry in templates {
                let part = |field: &str| entry.get(field).and_then(Json::as_str);
                let (Some(name), Some(template)) = (part("name"), part("template")) else {
                    return Err(config.wrong("chat_template", "objects of name and template"));
                };
                if name == "default" {
                    metadata.set("tokenizer.chat_template", Value::from(template));
                } else {
                    let key = format!("tokenizer.chat_template.{name}");
                    metadata.set(key, Value::from(template));
                    names.push(name.as_bytes().to_vec());
                }
            }
            if !names.is_empty() {
                metadata.set("tokenizer.chat_templates", Value::Strings(names));
            }
        }
        Some(_) => return Err(config.wrong("chat_template", "a string or a list")),
    }
    Ok(())
}
