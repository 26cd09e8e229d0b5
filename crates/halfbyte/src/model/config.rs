//! A model's numbers, read from metadata and checked once.

use super::architecture::{Architecture, Mlp, Norm, Residual, Rotary};
use crate::error::{Error, Result};
use crate::io::{Checkpoint, Metadata};

/// The sizes and constants of one model. Letters as in the crate documentation.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The row of the architectures' table.
    pub architecture: &'static Architecture,
    /// The residual order after the metadata had its say.
    pub residual: Residual,
    /// The feed-forward block after the tensors had theirs.
    pub mlp: Mlp,
    /// The encoder, for an encoder-decoder model.
    pub encoder: Option<EncoderConfig>,
    /// Blocks; the decoder's, if there is an encoder.
    pub n_layers: usize,
    /// E: width of the residual stream.
    pub hidden_size: usize,
    /// H: query heads.
    pub n_heads: usize,
    /// K: key/value heads; H is a multiple of it.
    pub n_kv_heads: usize,
    /// D: elements of a head.
    pub head_dim: usize,
    /// Rotated elements at the start of each head; even, at most D.
    pub n_rot: usize,
    /// F: width of the feed-forward block.
    pub feed_forward: usize,
    /// V: rows of the output head.
    pub vocab_size: usize,
    /// Tokens that the model was trained on at once: for an encoder-decoder model those of the
    /// prompt and the answer together, and 2048 if the file says less.
    pub context_length: usize,
    /// The normalization's epsilon.
    pub norm_eps: f32,
    /// Base of the rotary frequencies (theta).
    pub rope_base: f32,
    /// Positions are divided by this (linear scaling); 1 for none.
    pub rope_linear_factor: f32,
    /// Divisors of the rotary frequencies, `n_rot / 2` of them (`rope_freqs.weight`, Llama 3).
    pub rope_freq_factors: Option<Vec<f32>>,
}

/// What an encoder-decoder model (T5) has besides a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// The encoder's blocks.
    pub n_layers: usize,
    /// Classes of distances that have a bias of their own; even.
    pub n_buckets: usize,
    /// Distances from here on are one class.
    pub max_distance: usize,
    /// The token that every answer starts from.
    pub start_token: u32,
}

/// Upper bounds for the numbers of a model file; far above any real model, far below trouble.
const MAX_LAYERS: u64 = 1024;
const MAX_HEADS: u64 = 4096;
const MAX_WIDTH: u64 = 1 << 17;
const MAX_FEED_FORWARD: u64 = 1 << 20;
const MAX_VOCAB: u64 = 1 << 21;
const MAX_CONTEXT: u64 = 1 << 24;
const MAX_BUCKETS: u64 = 1 << 12;
/// Distances have no end, and FastChat-T5, trained on 2048 tokens, says 512 as its ancestors do.
const ENCODED_CONTEXT: usize = 2048;

impl ModelConfig {
    /// Reads and checks the configuration of `checkpoint`.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedArchitecture`], and [`Error::Config`] naming the key.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let meta = checkpoint.metadata();
        let name = meta.str("general.architecture")?.unwrap_or("unnamed");
        let architecture =
            Architecture::find(name).ok_or_else(|| Error::UnsupportedArchitecture {
                found: name.to_owned(),
                supported: Architecture::supported(),
            })?;
        let keys = Keys { meta, architecture };
        let hidden_size = keys.size("embedding_length", MAX_WIDTH)?;
        let n_heads = keys.size("attention.head_count", MAX_HEADS)?;
        let n_kv_heads = keys.size_or("attention.head_count_kv", MAX_HEADS, n_heads)?;
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(keys.invalid(
                "attention.head_count_kv",
                format!("{n_heads} heads are no multiple of {n_kv_heads} key/value heads"),
            ));
        }
        let default_head_dim = (hidden_size / n_heads).max(1);
        let head_dim = keys.size_or("attention.key_length", MAX_WIDTH, default_head_dim)?;
        if keys.size_or("attention.value_length", MAX_WIDTH, head_dim)? != head_dim {
            return Err(keys.invalid("attention.value_length", "differs from key_length".into()));
        }
        let n_rot = keys.n_rot(head_dim)?;
        let feed_forward =
            keys.size_or("feed_forward_length", MAX_FEED_FORWARD, 4 * hidden_size)?;
        let embedding = checkpoint.require("token_embd.weight")?;
        let head = checkpoint.tensor("output.weight").unwrap_or(embedding);
        let vocab_size = head.n_rows();
        if vocab_size == 0 || vocab_size as u64 > MAX_VOCAB {
            return Err(keys.invalid("vocab_size", format!("{vocab_size} rows in the head")));
        }
        if embedding.n_rows() < vocab_size {
            return Err(Error::Shape {
                tensor: embedding.name().into(),
                expected: vec![vocab_size, hidden_size],
                found: embedding.dims().to_vec(),
            });
        }
        let parallel = meta.bool(&keys.key("use_parallel_residual"))?.unwrap_or(true);
        let residual = match architecture.residual {
            Residual::Parallel if !parallel => Residual::Sequential,
            other => other,
        };
        let n_layers = keys.size("block_count", MAX_LAYERS)?;
        let encoder = keys.encoder(vocab_size, n_layers)?;
        let gate = if encoder.is_some() { "dec.blk.0.ffn_gate" } else { "blk.0.ffn_gate" };
        let has_gate = checkpoint.tensor(&format!("{gate}.weight")).is_some();
        let context_length = keys.size("context_length", MAX_CONTEXT)?;
        Ok(Self {
            architecture,
            residual,
            mlp: if architecture.encoder && !has_gate { Mlp::Relu } else { architecture.mlp },
            n_layers: match &encoder {
                Some(_) => keys.size_or("decoder_block_count", MAX_LAYERS, n_layers)?,
                None => n_layers,
            },
            context_length: match &encoder {
                Some(_) => context_length.max(ENCODED_CONTEXT),
                None => context_length,
            },
            encoder,
            hidden_size,
            n_heads,
            n_kv_heads,
            head_dim,
            n_rot,
            feed_forward,
            vocab_size,
            norm_eps: keys.norm_eps()?,
            rope_base: keys.positive("rope.freq_base", 10000.0)?,
            rope_linear_factor: keys.linear_factor()?,
            rope_freq_factors: keys.freq_factors(checkpoint, n_rot)?,
        })
    }
}

/// Typed look-ups under one architecture's prefix.
struct Keys<'a> {
    meta: &'a Metadata,
    architecture: &'static Architecture,
}

impl Keys<'_> {
    fn key(&self, stem: &str) -> String {
        format!("{}.{stem}", self.architecture.name)
    }

    fn invalid(&self, stem: &str, reason: String) -> Error {
        Error::config(self.key(stem), reason)
    }

    fn size(&self, stem: &str, max: u64) -> Result<usize> {
        let value = self.meta.u64(&self.key(stem))?;
        self.in_range(stem, max, value.ok_or_else(|| self.invalid(stem, "is missing".into()))?)
    }

    fn size_or(&self, stem: &str, max: u64, default: usize) -> Result<usize> {
        match self.meta.u64(&self.key(stem))? {
            Some(value) => self.in_range(stem, max, value),
            None => Ok(default),
        }
    }

    fn in_range(&self, stem: &str, max: u64, value: u64) -> Result<usize> {
        if value == 0 || value > max {
            return Err(self.invalid(stem, format!("{value} is not between 1 and {max}")));
        }
        usize::try_from(value).map_err(|_| self.invalid(stem, format!("{value} is too large")))
    }

    fn positive(&self, stem: &str, default: f32) -> Result<f32> {
        let value = self.meta.f32(&self.key(stem))?.unwrap_or(default);
        if !value.is_finite() || value <= 0.0 {
            return Err(self.invalid(stem, format!("{value} is not a positive number")));
        }
        Ok(value)
    }

    fn norm_eps(&self) -> Result<f32> {
        let stem = match self.architecture.norm {
            Norm::Rms => "attention.layer_norm_rms_epsilon",
            Norm::Layer => "attention.layer_norm_epsilon",
        };
        self.positive(stem, if self.architecture.encoder { 1e-6 } else { 1e-5 })
    }

    fn n_rot(&self, head_dim: usize) -> Result<usize> {
        if self.architecture.rotary == Rotary::None {
            return Ok(0);
        }
        let n_rot = self.size_or("rope.dimension_count", MAX_WIDTH, head_dim)?;
        if n_rot > head_dim || n_rot % 2 != 0 {
            return Err(self.invalid(
                "rope.dimension_count",
                format!("{n_rot} is odd or above the head size {head_dim}"),
            ));
        }
        Ok(n_rot)
    }

    /// The encoder of `n_layers` blocks, where the architecture has one.
    fn encoder(&self, vocab_size: usize, n_layers: usize) -> Result<Option<EncoderConfig>> {
        const BUCKETS: &str = "attention.relative_buckets_count";
        const DISTANCE: &str = "attention.relative_max_distance";
        const START: &str = "decoder_start_token_id";
        if !self.architecture.encoder {
            return Ok(None);
        }
        let n_buckets = self.size(BUCKETS, MAX_BUCKETS)?;
        // Half of them look back, and half of those are for single distances.
        if n_buckets < 4 || !n_buckets.is_multiple_of(4) {
            return Err(self.invalid(BUCKETS, format!("{n_buckets} is no multiple of 4")));
        }
        // No GGUF writer stores it; all T5 models have 128.
        let max_distance = self.size_or(DISTANCE, MAX_CONTEXT, 128)?;
        if max_distance <= n_buckets / 2 {
            let reason = format!("{max_distance} is not above half of the {n_buckets} buckets");
            return Err(self.invalid(DISTANCE, reason));
        }
        let start = self.meta.u64(&self.key(START))?.unwrap_or(0);
        let start_token = u32::try_from(start).ok().filter(|&id| (id as usize) < vocab_size);
        let start_token = start_token.ok_or_else(|| {
            self.invalid(START, format!("{start} is outside the vocabulary of {vocab_size}"))
        })?;
        Ok(Some(EncoderConfig { n_layers, n_buckets, max_distance, start_token }))
    }

    fn linear_factor(&self) -> Result<f32> {
        match self.meta.str(&self.key("rope.scaling.type"))? {
            Some("linear") => self.positive("rope.scaling.factor", 1.0),
            None => self.positive("rope.scale_linear", 1.0),
            // Llama 3's scaling is in `rope_freqs.weight`.
            Some("none" | "llama3") => Ok(1.0),
            Some(other) => {
                let reason = format!("{other} is not supported (supported: none, linear, llama3)");
                Err(self.invalid("rope.scaling.type", reason))
            }
        }
    }

    fn freq_factors(&self, checkpoint: &Checkpoint, n_rot: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = checkpoint.tensor("rope_freqs.weight") else { return Ok(None) };
        if tensor.dims() != [n_rot / 2] {
            return Err(Error::Shape {
                tensor: tensor.name().into(),
                expected: vec![n_rot / 2],
                found: tensor.dims().to_vec(),
            });
        }
        let factors = tensor.to_f32()?;
        if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
            return Err(Error::config("rope_freqs.weight", "holds a factor that is not positive"));
        }
        Ok(Some(factors))
    }
}
