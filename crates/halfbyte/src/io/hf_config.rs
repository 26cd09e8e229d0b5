//! `config.json` → metadata under GGUF keys, in the key names of all transformers versions.

use std::path::Path;

use super::hf_json::Document;
use super::hf_names::{self, Name};
use super::hf_packing::Packing;
use super::hf_rope::{self, Scaling};
use super::metadata::{Metadata, Value};
use crate::error::{Error, Result};

/// One row for each model type that can be read.
#[derive(Debug)]
pub(super) struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// `general.architecture` in GGUF.
    architecture: &'static str,
    keys: &'static [Key],
    rotary: Rotary,
    /// The field that names the activation, its default, and the names that mean what the
    /// architecture computes.
    activation: (&'static str, &'static str, &'static [&'static str]),
    /// Tensor names.
    pub(super) names: &'static [Name],
}

/// A GGUF key without the architecture's prefix, and the fields of `config.json` that hold it.
#[derive(Debug)]
struct Key {
    gguf: &'static str,
    hf: &'static [&'static str],
    default: Default,
}

/// What transformers takes if the field is absent; also says the field's type.
#[derive(Clone, Copy, Debug)]
enum Default {
    /// An integer without a default, of at most that.
    Required(u64),
    /// An integer whose GGUF key is left out as well.
    Absent,
    Size(u64),
    /// That many times the hidden size, which stands above in the table.
    Widths(u64),
    Number(f32),
    Truth(bool),
}

/// How many elements of a head rotate.
#[derive(Debug)]
enum Rotary {
    /// The field's number.
    Elements(&'static [&'static str], u64),
    /// All.
    Whole,
    /// That part of the head, rounded down.
    Part(&'static [&'static str], f64),
}

const fn key(gguf: &'static str, hf: &'static [&'static str], default: Default) -> Key {
    Key { gguf, hf, default }
}

const HIDDEN: &str = "embedding_length";
const BLOCKS: &str = "block_count";
const HEADS: &str = "attention.head_count";
const KV_HEADS: &str = "attention.head_count_kv";
const BLOCK_FIELDS: &[&str] = &["n_layer", "num_hidden_layers"];
const HEAD_FIELDS: &[&str] = &["n_head", "num_attention_heads"];
const PART: &[&str] =
    &["rope_parameters.partial_rotary_factor", "partial_rotary_factor", "rotary_pct"];

/// All families; a new one is a row here and one in the architectures' table.
static FAMILIES: &[Family] = &[
    Family {
        model_type: "gptj",
        architecture: "gptj",
        keys: &[
            key("context_length", &["n_positions", "max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["n_embd", "hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["n_inner"], Default::Widths(4)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key("attention.layer_norm_epsilon", &["layer_norm_epsilon"], Default::Number(1e-5)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Elements(&["rotary_dim"], 64),
        activation: (
            "activation_function",
            "gelu_new",
            &["gelu_new", "gelu_fast", "gelu_pytorch_tanh"],
        ),
        names: hf_names::GPTJ,
    },
    Family {
        model_type: "llama",
        architecture: "llama",
        keys: &[
            key("context_length", &["max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["intermediate_size"], Default::Required(MAX_SIZE)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key(KV_HEADS, &["num_key_value_heads"], Default::Absent),
            key("attention.layer_norm_rms_epsilon", &["rms_norm_eps"], Default::Number(1e-6)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Whole,
        activation: ("hidden_act", "silu", &["silu", "swish"]),
        names: hf_names::LLAMA,
    },
    Family {
        model_type: "gpt_neox",
        architecture: "gptneox",
        keys: &[
            key("context_length", &["max_position_embeddings"], Default::Size(2048)),
            key(HIDDEN, &["hidden_size"], Default::Required(MAX_WIDTH)),
            key(BLOCKS, BLOCK_FIELDS, Default::Required(MAX_BLOCKS)),
            key("feed_forward_length", &["intermediate_size"], Default::Required(MAX_SIZE)),
            key(HEADS, HEAD_FIELDS, Default::Required(MAX_HEADS)),
            key("attention.layer_norm_epsilon", &["layer_norm_eps"], Default::Number(1e-5)),
            key("use_parallel_residual", &["use_parallel_residual"], Default::Truth(true)),
            key("vocab_size", &["vocab_size"], Default::Absent),
        ],
        rotary: Rotary::Part(PART, 0.25),
        activation: ("hidden_act", "gelu", &["gelu", "gelu_python"]),
        names: hf_names::GPTNEOX,
    },
];

/// Fields of `config.json` that anything here reads.
static FIELDS: &[&str] = &[
    "activation_function",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "model_type",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "n_positions",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "partial_rotary_factor",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "tie_word_embeddings",
    "use_parallel_residual",
    "vocab_size",
];

const MAX_BLOCKS: u64 = 1024;
const MAX_HEADS: u64 = 4096;
const MAX_WIDTH: u64 = 1 << 17;
const MAX_HEAD_DIM: u64 = 1 << 16;
/// Above any context length or width; products of two still fit in 64 bits.
const MAX_SIZE: u64 = 1 << 24;

/// What the loader needs to know of a configuration, besides the metadata.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) document: Document,
    pub(super) family: &'static Family,
    pub(super) n_blocks: usize,
    pub(super) hidden_size: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    /// Whether the output head may be missing because it is the embedding.
    pub(super) tied: bool,
    /// Divisors of the rotary frequencies (Llama 3), `n_rot / 2` of them.
    pub(super) rope_factors: Option<Vec<f32>>,
    /// How matrices are packed in four bits, if they are.
    pub(super) packing: Option<Packing>,
}

/// Reads `config.json` of `folder` into `metadata`.
pub(super) fn read(folder: &Path, metadata: &mut Metadata) -> Result<Config> {
    let document = Document::read(folder.join("config.json"), FIELDS)?;
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
    let tied = document.truth("tie_word_embeddings")?.unwrap_or(false);
    let size = |n: u64| usize::try_from(n).expect("checked to be at most 2^24");
    Ok(Config {
        family,
        n_blocks: size(n_blocks),
        hidden_size: size(hidden_size),
        n_heads: size(n_heads),
        n_kv_heads: size(n_kv_heads),
        head_dim: size(head_dim),
        tied,
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
        if let Some(explicit) = self.size(&["head_dim"], MAX_HEAD_DIM)? {
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
