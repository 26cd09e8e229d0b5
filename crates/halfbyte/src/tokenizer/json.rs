//! A Hugging Face `tokenizer.json`: what it says, checked before the `tokenizers` crate sees it.
//!
//! The crate trusts its input: a merge that is longer than every token, or a prefix that a token
//! lacks, is a panic there. So the file is read here, and the crate is built from checked parts.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::vocab::{Kind, MAX_TOKENS, Spelling, Vocab, byte_token};
use crate::error::{Error, Result};

/// The parts of a `tokenizer.json` that matter here.
#[derive(Debug, Deserialize)]
pub(super) struct JsonFile {
    /// Tokens that are found before the model sees the text.
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    /// What is done to the text first.
    #[serde(default)]
    pub(super) normalizer: Value,
    /// How the text is cut into words.
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    /// What is put around the ids.
    #[serde(default)]
    pub(super) post_processor: Value,
    /// How tokens become text.
    #[serde(default)]
    pub(super) decoder: Value,
    /// The vocabulary and the merges.
    pub(super) model: Model,
}

/// An added token; the fields are the crate's.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) normalized: bool,
    pub(super) special: bool,
}

/// A BPE or Unigram model; the fields are the crate's.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) vocab: Entries,
    #[serde(default)]
    pub(super) merges: Vec<Pair>,
    pub(super) unk_token: Option<String>,
    /// A Unigram model's unknown token.
    unk_id: Option<u32>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// A merge, in the old and the new way of writing it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Pair {
    /// `"a b"`.
    Line(String),
    /// `["a", "b"]`.
    Parts(String, String),
}

/// A vocabulary in file order, and a Unigram model's scores.
#[derive(Debug, Default)]
pub(super) struct Entries(pub(super) Vec<(String, u32)>, pub(super) Vec<f32>);

impl Pair {
    /// The two tokens.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Line(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' ')),
            Self::Parts(left, right) => Some((left, right)),
        }
    }
}

impl JsonFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] naming the field that is wrong or not supported.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut file: Self = serde_json::from_slice(bytes).map_err(|e| error(&e.to_string()))?;
        file.added_tokens.sort_by_key(|token| token.id);
        // Old files list merges under a version line, as `merges.txt` does.
        file.model
            .merges
            .retain(|merge| !matches!(merge, Pair::Line(line) if line.starts_with("#version")));
        file.check_model()?;
        Ok(file)
    }

    /// Whether the model is a Unigram one.
    pub(super) fn is_unigram(&self) -> bool {
        self.model.kind.as_deref() == Some("Unigram")
    }

    fn check_model(&self) -> Result<()> {
        let model = &self.model;
        if let Some(kind) = model.kind.as_deref().filter(|kind| !["BPE", "Unigram"].contains(kind))
        {
            return Err(error(&format!("model.type is {kind:?} (supported: BPE, Unigram)")));
        }
        if !model.vocab.0.is_empty() && self.is_unigram() == model.vocab.1.is_empty() {
            return Err(error(
                "model.vocab: a Unigram model, and no other, has a list with scores",
            ));
        }
        if let Some(id) = model.unk_id.filter(|&id| id as usize >= model.vocab.0.len()) {
            return Err(error(&format!("model.unk_id {id} is not in model.vocab")));
        }
        for (field, value) in [
            ("continuing_subword_prefix", &model.continuing_subword_prefix),
            ("end_of_word_suffix", &model.end_of_word_suffix),
        ] {
            if value.as_deref().is_some_and(|value| !value.is_empty()) {
                return Err(error(&format!("model.{field} is {value:?}, expected none")));
            }
        }
        let mut ids = HashMap::with_capacity(model.vocab.0.len());
        for (text, id) in &model.vocab.0 {
            if ids.insert(text.as_str(), *id).is_some() {
                return Err(error(&format!("model.vocab has {text:?} twice")));
            }
        }
        for (i, merge) in model.merges.iter().enumerate() {
            let known = |(left, right): (&str, &str)| {
                ids.contains_key(left)
                    && ids.contains_key(right)
                    && ids.contains_key([left, right].concat().as_str())
            };
            if !merge.parts().is_some_and(known) {
                return Err(error(&format!(
                    "model.merges[{i}] is {merge:?}, expected two tokens that make a third"
                )));
            }
        }
        match &model.unk_token {
            Some(unknown) if !ids.contains_key(unknown.as_str()) => {
                Err(error(&format!("model.unk_token {unknown:?} is not in model.vocab")))
            }
            _ => Ok(()),
        }
    }

    /// The table of tokens; ids that are left out become unused tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if an id is out of range, given twice, or a spelling is.
    pub(super) fn vocab(&self) -> Result<Vocab> {
        let spelling = self.spelling()?;
        let model = self.model.vocab.0.iter().map(|(text, id)| (text.as_str(), *id, None));
        let added = self.added_tokens.iter().map(|token| {
            let kind = if token.special { Kind::Control } else { Kind::UserDefined };
            (token.content.as_str(), token.id, Some(kind))
        });
        let n_listed = self.model.vocab.0.len() + self.added_tokens.len();
        let n_tokens = model.clone().chain(added.clone()).map(|(_, id, _)| id as usize + 1).max();
        // Gaps are rows without a token; a few thousand exist, more is a broken file.
        let n_tokens = n_tokens.unwrap_or(0);
        if n_tokens > (n_listed + (1 << 16)).min(MAX_TOKENS) {
            return Err(error(&format!(
                "id {} is out of range for {n_listed} tokens",
                n_tokens - 1
            )));
        }
        let mut table: Vec<(&str, Kind)> = vec![("", Kind::Unused); n_tokens];
        for (text, id, kind) in model.chain(added) {
            let row = &mut table[id as usize];
            if !row.0.is_empty() && row.0 != text {
                return Err(error(&format!("id {id} is given to {:?} and to {text:?}", row.0)));
            }
            let own = self.kind(text);
            // Converters list a Unigram model's unknown token among the special ones, too.
            let is_unknown = self.is_unigram() && own == Kind::Unknown;
            *row = (text, kind.filter(|_| !is_unknown).unwrap_or(own));
        }
        let mut vocab = Vocab::with_capacity(n_tokens, "tokenizer.json: model.vocab")?;
        for (text, kind) in table {
            vocab.push(text.as_bytes(), kind, spelling, "tokenizer.json: vocabulary")?;
        }
        Ok(vocab)
    }

    /// The kind of a token of the model.
    fn kind(&self, text: &str) -> Kind {
        let by_id = self.model.unk_id.and_then(|id| self.model.vocab.0.get(id as usize));
        let unknown = by_id.map(|(text, _)| text).or(self.model.unk_token.as_ref());
        if unknown.is_some_and(|unknown| unknown == text) {
            Kind::Unknown
        } else if self.model.byte_fallback && byte_token(text.as_bytes()).is_some() {
            Kind::Byte
        } else {
            Kind::Normal
        }
    }

    /// How the vocabulary spells bytes, which the decoder shows.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the decoder is not one that we know.
    pub(super) fn spelling(&self) -> Result<Spelling> {
        let decoders = steps(&self.decoder, "decoders");
        let has = |name| decoders.iter().any(|step| step["type"] == name);
        if has("ByteLevel") || (decoders.is_empty() && self.is_byte_level()) {
            return Ok(Spelling::ByteAlphabet);
        }
        if has("Metaspace") || has("ByteFallback") || has("Replace") {
            return Ok(Spelling::SentencePiece);
        }
        let names: Vec<String> = decoders.iter().map(|step| step["type"].to_string()).collect();
        Err(error(&format!(
            "decoder is [{}] (supported: ByteLevel, Metaspace, ByteFallback with Replace)",
            names.join(", ")
        )))
    }

    /// Whether decoding takes away a space at the start of a text.
    pub(super) fn strips_space(&self) -> bool {
        steps(&self.decoder, "decoders").iter().any(|step| match step["type"].as_str() {
            Some("Strip") => step["start"].as_u64().unwrap_or(0) > 0,
            Some("Metaspace") => {
                step["prepend_scheme"] != "never" && step["add_prefix_space"] != false
            }
            _ => false,
        })
    }

    /// The token that the post-processor puts first.
    pub(super) fn first_token(&self) -> Option<&str> {
        steps(&self.post_processor, "processors")
            .into_iter()
            .find_map(|step| step["single"][0]["SpecialToken"]["id"].as_str())
    }

    fn is_byte_level(&self) -> bool {
        steps(&self.pre_tokenizer, "pretokenizers").iter().any(|step| step["type"] == "ByteLevel")
    }
}

/// The steps of a stage: itself, or the parts of a `Sequence`, which are under `list`.
pub(super) fn steps<'v>(stage: &'v Value, list: &str) -> Vec<&'v Value> {
    match stage[list].as_array() {
        Some(parts) if stage["type"] == "Sequence" => {
            parts.iter().flat_map(|part| steps(part, list)).collect()
        }
        _ if stage.is_null() => Vec::new(),
        _ => vec![stage],
    }
}

/// An [`Error::Tokenizer`] about the file.
pub(super) fn error(what: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.json: {what}"))
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tokens and ids, or a list of tokens and scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries, Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
        let mut entries = Entries::default();
        while let Some((text, score)) = list.next_element::<(String, f32)>()? {
            let id = u32::try_from(entries.0.len()).map_err(A::Error::custom)?;
            entries.0.push((text, id));
            entries.1.push(score);
        }
        Ok(entries)
    }
}
