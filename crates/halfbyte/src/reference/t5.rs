//! T5: candle-transformers' encoder, and a decoder over plain tensors.
//!
//! The decoder is ours because that of candle-transformers 0.11.1 is not T5's: it sorts distances
//! into the encoder's classes, which is wrong from 8 tokens on, and multiplies what a tied head reads
//! by √E where T5 divides. Its quantized twin's encoder is wrong as well, from 128 tokens on.

use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::{Activation, Embedding, Linear, Module};
use candle_transformers::models::t5::{ActivationWithOptionalGating, Config, T5EncoderModel};

use super::block::FeedForward;
use super::model::check_tokens;
use super::weights::{NormLayer, Weights};
use crate::error::{Error, Result};
use crate::io::Checkpoint;
use crate::model::{EncoderConfig, Mlp, ModelConfig};

/// An encoder-decoder model in f32 tensors.
///
/// Source: C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
/// Transformer" (2019), <https://arxiv.org/abs/1910.10683>.
#[derive(Debug)]
pub struct ReferenceT5 {
    config: ModelConfig,
    start_token: u32,
    encoder: T5EncoderModel,
    embedding: Embedding,
    bias: RelativeBias,
    blocks: Vec<Block>,
    norm: NormLayer,
    head: Linear,
    /// What the head reads is multiplied by this.
    head_scale: f64,
}

impl ReferenceT5 {
    /// Loads a model, decoding every weight to f32.
    ///
    /// # Errors
    ///
    /// What the configuration's checks say, [`Error::UnsupportedArchitecture`] for a model without
    /// an encoder, [`Error::MissingTensor`], [`Error::Tensor`] for a tensor of the wrong shape or
    /// one that the encoder lacks, [`Error::OutOfMemory`].
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        let Some(encoder_config) = config.encoder.clone() else {
            return Err(Error::UnsupportedArchitecture {
                found: config.architecture.name.into(),
                supported: "encoder-decoder models; see Reference".into(),
            });
        };
        let weights = Weights::load(checkpoint, &config, &[])?;
        let n_rows = checkpoint.require("token_embd.weight")?.n_rows();
        let embedding = weights.embedding(n_rows)?;
        let candle = candle_config(&config, &encoder_config, n_rows);
        let encoder = T5EncoderModel::load(weights.renamed(gguf_name), &candle)?;
        let decoder = weights.below("dec");
        let block = |i: usize| Block::load(&decoder.block(i), &config);
        let tied = Linear::new(embedding.embeddings().clone(), None);
        let own = match checkpoint.tensor("output.weight") {
            Some(_) => Some(weights.linear("output", config.vocab_size, config.hidden_size)?),
            None => None,
        };
        let is_tied = own.as_ref().map_or(Ok(true), |own| same(own.weight(), tied.weight()))?;
        Ok(Self {
            start_token: encoder_config.start_token,
            encoder,
            bias: RelativeBias::load(&decoder.block(0), &config, &encoder_config)?,
            blocks: (0..config.n_layers).map(block).collect::<Result<_>>()?,
            norm: decoder.norm("output_norm")?,
            head: own.unwrap_or(tied),
            head_scale: if is_tied { (config.hidden_size as f64).sqrt().recip() } else { 1.0 },
            embedding,
            config,
        })
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the encoder makes of `prompt`, (S, E).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `prompt` is empty or holds a token that has no embedding.
    pub fn encode(&self, prompt: &[u32]) -> Result<Tensor> {
        check_tokens(&self.embedding, prompt)?;
        let ids = Tensor::new(prompt, &Device::Cpu)?.unsqueeze(0)?;
        // candle's models change while they compute; a clone shares the weights.
        Ok(self.encoder.clone().forward(&ids)?.squeeze(0)?)
    }

    /// The logits of every position of `tokens`, (T, V), which begin with the start token; `encoded`
    /// is [`encode`](Self::encode)'s (S, E).
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn decode(&self, encoded: &Tensor, tokens: &[u32]) -> Result<Tensor> {
        check_tokens(&self.embedding, tokens)?;
        let mut x = self.embedding.forward(&Tensor::new(tokens, &Device::Cpu)?)?;
        let bias = self.bias.forward(tokens.len())?;
        for block in &self.blocks {
            x = block.forward(&x, &bias, encoded)?;
        }
        let x = (self.norm.forward(&x)? * self.head_scale)?;
        Ok(self.head.forward(&x)?)
    }

    /// The `n` most likely tokens of an answer to `prompt`, one after the other; the lower id wins a
    /// tie. End tokens are tokens like any other.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn generate_greedy(&self, prompt: &[u32], n: usize) -> Result<Vec<u32>> {
        let encoded = self.encode(prompt)?;
        let mut sequence = vec![self.start_token];
        for _ in 0..n {
            let logits = self.decode(&encoded, &sequence)?;
            sequence.push(logits.i(sequence.len() - 1)?.argmax(D::Minus1)?.to_scalar()?);
        }
        Ok(sequence.split_off(1))
    }
}

/// One block of the decoder.
#[derive(Debug)]
struct Block {
    attn_norm: NormLayer,
    attention: Attention,
    cross_norm: NormLayer,
    cross_attention: Attention,
    ffn_norm: NormLayer,
    feed_forward: FeedForward,
}

impl Block {
    fn load(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            attn_norm: weights.norm("attn_norm")?,
            attention: Attention::load(weights, "attn", config)?,
            cross_norm: weights.norm("cross_attn_norm")?,
            cross_attention: Attention::load(weights, "cross_attn", config)?,
            ffn_norm: weights.norm("ffn_norm")?,
            feed_forward: FeedForward::load(weights, config)?,
        })
    }

    /// `x` (T, E), `bias` (H, T, T), `encoded` (S, E) → (T, E)
    fn forward(&self, x: &Tensor, bias: &Tensor, encoded: &Tensor) -> Result<Tensor> {
        let normed = self.attn_norm.forward(x)?;
        let x = (x + self.attention.forward(&normed, &normed, Some(bias))?)?;
        let normed = self.cross_norm.forward(&x)?;
        let x = (&x + self.cross_attention.forward(&normed, encoded, None)?)?;
        let normed = self.ffn_norm.forward(&x)?;
        Ok((&x + self.feed_forward.forward(&normed)?)?)
    }
}

/// Attention without a scale: T5's first weights were drawn so that it needs none.
#[derive(Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    n_heads: usize,
}

impl Attention {
    fn load(weights: &Weights, stem: &str, config: &ModelConfig) -> Result<Self> {
        let (inner, hidden) = (config.n_heads * config.head_dim, config.hidden_size);
        let linear = |name: &str, n, k| weights.linear(&format!("{stem}_{name}"), n, k);
        Ok(Self {
            q: linear("q", inner, hidden)?,
            k: linear("k", inner, hidden)?,
            v: linear("v", inner, hidden)?,
            output: linear("o", hidden, inner)?,
            n_heads: config.n_heads,
        })
    }

    /// Queries of `x` (T, E) over keys and values of `seen` (S, E); `bias` (H, T, S) → (T, E)
    fn forward(&self, x: &Tensor, seen: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let q = self.split_heads(&self.q.forward(x)?)?;
        let k = self.split_heads(&self.k.forward(seen)?)?;
        let v = self.split_heads(&self.v.forward(seen)?)?;
        let mut scores = q.matmul(&k.t()?)?; // (H, T, S)
        if let Some(bias) = bias {
            scores = (scores + bias)?;
        }
        let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        let mixed = probabilities.matmul(&v)?.transpose(0, 1)?.contiguous()?; // (T, H, D)
        Ok(self.output.forward(&mixed.flatten_from(1)?)?)
    }

    /// (T, H·D) → (H, T, D)
    fn split_heads(&self, x: &Tensor) -> Result<Tensor> {
        let (n_tokens, width) = x.dims2()?;
        let by_head = x.reshape((n_tokens, self.n_heads, width / self.n_heads))?;
        Ok(by_head.transpose(0, 1)?.contiguous()?)
    }
}

/// The decoder's bias by distance, the same in all blocks.
#[derive(Debug)]
struct RelativeBias {
    /// (`n_buckets`, H)
    weight: Tensor,
    n_buckets: usize,
    max_distance: usize,
}

impl RelativeBias {
    fn load(weights: &Weights, config: &ModelConfig, encoder: &EncoderConfig) -> Result<Self> {
        let &EncoderConfig { n_buckets, max_distance, .. } = encoder;
        let weight = weights.get((n_buckets, config.n_heads), "attn_rel_b.weight")?;
        Ok(Self { weight, n_buckets, max_distance })
    }

    /// (H, T, T): what key s ≤ t adds to query t's score, −∞ for the keys that it may not see.
    fn forward(&self, n_tokens: usize) -> Result<Tensor> {
        let buckets = (0..n_tokens)
            .flat_map(|t| (0..n_tokens).map(move |s| self.bucket(t.saturating_sub(s))))
            .collect();
        let buckets = Tensor::from_vec(buckets, n_tokens * n_tokens, &Device::Cpu)?;
        let rows = self.weight.index_select(&buckets, 0)?;
        let bias = rows.reshape((n_tokens, n_tokens, ()))?.permute((2, 0, 1))?;
        let may_see = |t, s| if s <= t { 0.0 } else { f32::NEG_INFINITY };
        let mask = (0..n_tokens).flat_map(|t| (0..n_tokens).map(move |s| may_see(t, s))).collect();
        let mask = Tensor::from_vec(mask, (n_tokens, n_tokens), &Device::Cpu)?;
        Ok(bias.broadcast_add(&mask)?)
    }

    /// The class of a distance: its own in the first half, then wider and wider.
    fn bucket(&self, distance: usize) -> u32 {
        let half = self.n_buckets / 2;
        if distance < half {
            return distance as u32;
        }
        let (distance, most) = (distance as f64 / half as f64, self.max_distance as f64);
        let part = libm::log(distance) / libm::log(most / half as f64);
        let bucket = half + (part * (self.n_buckets - half) as f64) as usize;
        bucket.min(self.n_buckets - 1) as u32
    }
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.dims() == b.dims()
        && a.ne(b)?.to_dtype(candle_core::DType::U32)?.sum_all()?.to_scalar::<u32>()? == 0)
}

/// The configuration in candle's words.
fn candle_config(config: &ModelConfig, encoder: &EncoderConfig, vocab_size: usize) -> Config {
    Config {
        vocab_size,
        d_model: config.hidden_size,
        d_kv: config.head_dim,
        d_ff: config.feed_forward,
        num_layers: encoder.n_layers,
        num_heads: config.n_heads,
        relative_attention_num_buckets: encoder.n_buckets,
        relative_attention_max_distance: encoder.max_distance,
        layer_norm_epsilon: f64::from(config.norm_eps),
        feed_forward_proj: ActivationWithOptionalGating {
            gated: config.mlp == Mlp::GatedGeluTanh,
            activation: Activation::NewGelu,
        },
        ..Config::default()
    }
}

/// The encoder's modules: candle's name within a block, GGUF's.
static MODULES: &[(&str, &str)] = &[
    ("layer.0.SelfAttention.q", "attn_q"),
    ("layer.0.SelfAttention.k", "attn_k"),
    ("layer.0.SelfAttention.v", "attn_v"),
    ("layer.0.SelfAttention.o", "attn_o"),
    ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
    ("layer.0.layer_norm", "attn_norm"),
    ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("layer.1.DenseReluDense.wi", "ffn_up"),
    ("layer.1.DenseReluDense.wo", "ffn_down"),
    ("layer.1.layer_norm", "ffn_norm"),
];

/// GGUF's name of the tensor that candle's encoder asks for.
fn gguf_name(name: &str) -> String {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let known = match module {
        "shared" => Some("token_embd".to_owned()),
        "encoder.final_layer_norm" => Some("enc.output_norm".to_owned()),
        _ => module.strip_prefix("encoder.block.").and_then(|rest| {
            let (block, module) = rest.split_once('.')?;
            let (_, stem) = MODULES.iter().find(|(candle, _)| *candle == module)?;
            Some(format!("enc.blk.{block}.{stem}"))
        }),
    };
    known.map_or_else(|| name.to_owned(), |known| format!("{known}.weight"))
}
