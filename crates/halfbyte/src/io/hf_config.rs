//! `config.json` → metadata under GGUF keys, in the key names of all transformers versions.

use std::path::Path;

use super::hf_families::{
    BLOCKS, DECODER_BLOCKS, Default, FAMILIES, FEED_FORWARD, FIELDS, Family, GATED, HEAD_FIELDS,
    HEADS, HIDDEN, KV_HEADS, Key, MAX_HEAD_DIM, MAX_SIZE, PART, Rotary,
};
use super::hf_json::Document;
use super::hf_names::Name;
use super::hf_packing::Packing;
use super::hf_rope::{self, Scaling};
use super::metadata::{Metadata, Value};
use crate::error::{Error, Result};

/// What the loader needs to know of a configuration, besides the metadata.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) document: Document,
    pub(super) family: &'static Family,
    pub(super) n_blocks: usize,
    /// Blocks of a decoder that has an encoder before it.
    pub(super) n_decoder_blocks: usize,
    pub(super) hidden_size: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    /// Whether the output head may be missing because it is the embedding.
    pub(super) tied: bool,
    /// Whether the feed-forward block has a gate.
    pub(super) gated: bool,
    /// Divisors of the rotary frequencies (Llama 3), `n_rot / 2` of them.
    pub(super) rope_factors: Option<Vec<f32>>,
    /// How matrices are packed in four bits, if they are.
    pub(super) packing: Option<Packing>,
}

impl Config {
    /// How many modules have that name, for one block each.
    pub(super) fn count(&self, name: &Name) -> usize {
        match name.gguf {
            gguf if !gguf.contains("{}") => 1,
            gguf if gguf.starts_with("dec.") => self.n_decoder_blocks,
            _ => self.n_blocks,
        }
    }

    /// Whether the files may lack the module: a tied head.
    pub(super) fn may_lack(&self, name: &Name) -> bool {
        self.tied && name.gguf == "output"
    }

    /// Whether the files' copy of the module is not to be read: T5's tied head, by which other
    /// readers would not know that it is tied, and a gate without its use.
    pub(super) fn skips(&self, name: &Name) -> bool {
        let copies_embedding = self.n_decoder_blocks > 0 && self.tied && name.gguf == "output";
        copies_embedding || (!self.gated && name.gguf.ends_with(".ffn_gate"))
    }

    /// What the files may call the module.
    pub(super) fn hf_names(&self, name: &Name) -> impl Iterator<Item = &'static str> {
        // T5 has another name for the layer beside a gate.
        let foreign = if self.gated { ".wi" } else { ".wi_1" };
        name.hf_names().filter(move |name| !name.ends_with(foreign))
    }
}

/// Reads `config.json` of `folder` into `metadata`.
pub(super) fn read(folder: &Path, metadata: &mut Metadata) -> Result<Config> {
    parse(folder, Document::read(folder.join("config.json"), FIELDS)?, metadata)
}

/// Reads the fields [`FIELDS`] of a `config.json` of `folder` into `metadata`.
pub(super) fn parse(folder: &Path, document: Document, metadata: &mut Metadata) -> Result<Config> {
    let family = family(&document)?;
    let packing = Packing::read(folder, &document)?;
    check_activation(&document, family)?;
    metadata.set("general.architecture", Value::from(family.architecture));
    let mut reader = Reader { document: &document, prefix: family.architecture, metadata };
    for key in family.keys {
        reader.copy(key)?;
    }
    let hidden_size = reader.written(HIDDEN)?.unwrap_or(0);
    let n_heads = reader.written(HEADS)?.unwrap_or(0);
    let n_kv_heads = reader.written(KV_HEADS)?.unwrap_or(n_heads);
    let head_dim = reader.head_dim(hidden_size, n_heads)?;
    let n_rot = reader.n_rot(&family.rotary, head_dim)?;
    let rope_factors = reader.rope(n_rot)?;
    let n_blocks = reader.written(BLOCKS)?.unwrap_or(0);
    let n_decoder_blocks = reader.written(DECODER_BLOCKS)?.unwrap_or(0);
    let encodes = n_decoder_blocks > 0;
    if encodes {
        let start = document.integer(&["decoder_start_token_id", "pad_token_id"])?.unwrap_or(0);
        reader.set_size("decoder_start_token_id", start);
    }
    // T5's heads are tied unless the configuration says otherwise.
    let tied = document.truth("tie_word_embeddings")?.unwrap_or(encodes);
    let gated = !encodes || document.text(&[FEED_FORWARD])? == Some(GATED);
    let size = |n: u64| usize::try_from(n).expect("checked to be at most 2^24");
    Ok(Config {
        family,
        n_blocks: size(n_blocks),
        n_decoder_blocks: size(n_decoder_blocks),
        hidden_size: size(hidden_size),
        n_heads: size(n_heads),
        n_kv_heads: size(n_kv_heads),
        head_dim: size(head_dim),
        tied,
        gated,
        rope_factors,
        packing,
        document,
    })
}

/// The names of an architecture's modules.
pub(super) fn names_of(architecture: &str) -> Option<&'static [Name]> {
    FAMILIES.iter().find(|f| f.architecture == architecture).map(|f| f.names)
}

fn family(document: &Document) -> Result<&'static Family> {
    let Some(model_type) = document.text(&["model_type"])? else {
        return Err(document.wrong("model_type", "the name of a model type"));
    };
    FAMILIES.iter().find(|f| f.model_type == model_type).ok_or_else(|| {
        let supported: Vec<_> = FAMILIES.iter().map(|f| f.model_type).collect();
        Error::UnsupportedArchitecture {
            found: model_type.to_owned(),
            supported: supported.join(", "),
        }
    })
}

fn check_activation(document: &Document, family: &Family) -> Result<()> {
    let (field, default, accepted) = family.activation;
    let found = document.text(&[field])?.unwrap_or(default);
    if !accepted.contains(&found) {
        return Err(document.wrong(field, &accepted.join(" or ")));
    }
    Ok(())
}

/// Copies fields of the document into metadata under one architecture's prefix.
struct Reader<'a> {
    document: &'a Document,
    prefix: &'static str,
    metadata: &'a mut Metadata,
}

impl Reader<'_> {
    fn set(&mut self, stem: &str, value: Value) {
        self.metadata.set(format!("{}.{stem}", self.prefix), value);
    }

    fn set_size(&mut self, stem: &str, size: u64) {
        let value = u32::try_from(size).map_or(Value::U64(size), Value::U32);
        self.set(stem, value);
    }

    /// A number that an earlier `set_size` wrote.
    fn written(&self, stem: &str) -> Result<Option<u64>> {
        self.metadata.u64(&format!("{}.{stem}", self.prefix))
    }

    fn copy(&mut self, key: &Key) -> Result<()> {
        match key.default {
            Default::Number(default) => {
                let value = self.document.positive(key.hf)?.map_or(default, |v| v as f32);
                self.set(key.gguf, Value::F32(value));
            }
            Default::Truth(default) => {
                let mut value = default;
                for name in key.hf {
                    value = self.document.truth(name)?.unwrap_or(value);
                }
                self.set(key.gguf, Value::Bool(value));
            }
            Default::Required(max) => {
                let Some(value) = self.size(key.hf, max)? else {
                    let name = key.hf.last().copied().unwrap_or(key.gguf);
                    return Err(self.document.wrong(name, "an integer"));
                };
                self.set_size(key.gguf, value);
            }
            Default::Absent => {
                if let Some(value) = self.size(key.hf, MAX_SIZE)? {
                    self.set_size(key.gguf, value);
                }
            }
            Default::Widths(n) => {
                let default = self.written(HIDDEN)?.unwrap_or(0) * n;
                let value = self.size(key.hf, MAX_SIZE)?.unwrap_or(default);
                self.set_size(key.gguf, value);
            }
            Default::Size(default) => {
                let value = self.size(key.hf, MAX_SIZE)?.unwrap_or(default);
                self.set_size(key.gguf, value);
            }
        }
        Ok(())
    }

    /// An integer from 1 to `max`.
    fn size(&self, names: &[&str], max: u64) -> Result<Option<u64>> {
        let found = self.document.integer(names)?;
        if let (Some(v), Some((name, _))) = (found, self.document.first(names))
            && !(1..=max).contains(&v)
        {
            let reason = format!("{v} is not between 1 and {max}");
            return Err(self.document.invalid(name, reason));
        }
        Ok(found)
    }

    fn head_dim(&mut self, hidden_size: u64, n_heads: u64) -> Result<u64> {
        if let Some(explicit) = self.size(&["head_dim", "d_kv"], MAX_HEAD_DIM)? {
            self.set_size("attention.key_length", explicit);
            self.set_size("attention.value_length", explicit);
            return Ok(explicit);
        }
        match hidden_size.checked_div(n_heads) {
            Some(d) if d * n_heads == hidden_size && (1..=MAX_HEAD_DIM).contains(&d) => Ok(d),
            _ => {
                let name = self.document.first(HEAD_FIELDS).map_or("", |(name, _)| name);
                let reason = format!("{n_heads} heads do not part a width of {hidden_size}");
                Err(self.document.invalid(name, reason))
            }
        }
    }

    fn n_rot(&mut self, rotary: &Rotary, head_dim: u64) -> Result<u64> {
        let n_rot = match *rotary {
            Rotary::Nothing => return Ok(0),
            Rotary::Elements(names, default) => self.size(names, MAX_HEAD_DIM)?.unwrap_or(default),
            Rotary::Whole => {
                let part = self.document.positive(PART)?.unwrap_or(1.0);
                if part != 1.0 {
                    let reason = format!("{part} is not supported here, only 1");
                    return Err(self.document.invalid("partial_rotary_factor", reason));
                }
                head_dim
            }
            Rotary::Part(names, default) => {
                let part = self.document.positive(names)?.unwrap_or(default);
                if part > 1.0 {
                    let name = self.document.first(names).map_or("rotary_pct", |(name, _)| name);
                    return Err(self.document.invalid(name, format!("{part} is above 1")));
                }
                // Truncated as in Python's `int(head_dim * part)`; head_dim is at most 2^24.
                (head_dim as f64 * part) as u64
            }
        };
        self.set_size("rope.dimension_count", n_rot);
        Ok(n_rot)
    }

    /// Writes the rotary base and linear scaling; returns the divisors of Llama 3's scaling.
    fn rope(&mut self, n_rot: u64) -> Result<Option<Vec<f32>>> {
        if n_rot == 0 {
            return Ok(None);
        }
        let names = ["rope_parameters.rope_theta", "rope_theta", "rotary_emb_base"];
        let theta = match self.prefix {
            // transformers' GPT-J knows no other base.
            "gptj" => 10000.0,
            _ => self.document.positive(&names)?.unwrap_or(10000.0),
        };
        self.set("rope.freq_base", Value::F32(theta as f32));
        match hf_rope::scaling(self.document, theta, n_rot)? {
            Scaling::None => Ok(None),
            Scaling::Linear(factor) => {
                self.set("rope.scaling.type", Value::from("linear"));
                self.set("rope.scaling.factor", Value::F32(factor));
                Ok(None)
            }
            Scaling::Divisors(divisors) => Ok(Some(divisors)),
        }
    }
}
