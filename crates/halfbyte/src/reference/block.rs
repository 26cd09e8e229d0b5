//! One block: attention and feed-forward around the residual stream.

use candle_core::{D, Device, Tensor};
use candle_nn::{Linear, Module};

use super::rope::Rope;
use super::weights::{NormLayer, Weights};
use crate::error::Result;
use crate::model::{Mlp, ModelConfig, Residual};

#[derive(Debug)]
pub(super) struct Block {
    residual: Residual,
    attn_norm: NormLayer,
    attention: Attention,
    /// None if the feed-forward reads the attention's norm ([`Residual::ParallelShared`]).
    ffn_norm: Option<NormLayer>,
    feed_forward: FeedForward,
}

impl Block {
    pub(super) fn load(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        let ffn_norm = match config.residual {
            Residual::ParallelShared => None,
            Residual::Parallel | Residual::Sequential => Some(weights.norm("ffn_norm")?),
        };
        Ok(Self {
            residual: config.residual,
            attn_norm: weights.norm("attn_norm")?,
            attention: Attention::load(weights, config)?,
            ffn_norm,
            feed_forward: FeedForward::load(weights, config)?,
        })
    }

    /// `x` (T, E) → (T, E)
    pub(super) fn forward(&self, x: &Tensor, rope: &Rope) -> Result<Tensor> {
        let normed = self.attn_norm.forward(x)?;
        let after_attention = (x + self.attention.forward(&normed, rope)?)?;
        let ffn_input = match (&self.ffn_norm, self.residual) {
            (None, _) => normed,
            (Some(norm), Residual::Sequential) => norm.forward(&after_attention)?,
            (Some(norm), _) => norm.forward(x)?,
        };
        Ok((after_attention + self.feed_forward.forward(&ffn_input)?)?)
    }
}

/// Causal self-attention; each key/value head serves H / K query heads.
///
/// Source: Vaswani et al., <https://arxiv.org/abs/1706.03762>, section 3.2; grouped heads:
/// Ainslie et al., <https://arxiv.org/abs/2305.13245>.
#[derive(Debug)]
struct Attention {
    qkv: Projections,
    output: Linear,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

/// How the file holds the three input projections.
#[derive(Debug)]
enum Projections {
    Fused(Linear),
    Parted { q: Linear, k: Linear, v: Linear },
}

impl Attention {
    fn load(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        let &ModelConfig { hidden_size, n_heads, n_kv_heads, head_dim, .. } = config;
        let (q_rows, kv_rows) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv = if config.architecture.fused_qkv {
            Projections::Fused(weights.linear("attn_qkv", q_rows + 2 * kv_rows, hidden_size)?)
        } else {
            Projections::Parted {
                q: weights.linear("attn_q", q_rows, hidden_size)?,
                k: weights.linear("attn_k", kv_rows, hidden_size)?,
                v: weights.linear("attn_v", kv_rows, hidden_size)?,
            }
        };
        let output = weights.linear("attn_output", hidden_size, q_rows)?;
        Ok(Self { qkv, output, n_heads, n_kv_heads, head_dim })
    }

    fn forward(&self, x: &Tensor, rope: &Rope) -> Result<Tensor> {
        let n_tokens = x.dim(0)?;
        let (q, k, v) = self.qkv.forward(x, self.n_heads * self.head_dim)?;
        let q = rope.forward(&self.split_heads(&q, self.n_heads)?)?;
        let k = rope.forward(&self.split_heads(&k, self.n_kv_heads)?)?;
        let v = self.split_heads(&v, self.n_kv_heads)?;

        let scores = q.matmul(&self.for_each_query_head(&k)?.t()?)?; // (H, T, T)
        let scores = (scores / (self.head_dim as f64).sqrt())?;
        let scores = scores.broadcast_add(&causal_mask(n_tokens)?)?;
        let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        let mixed = probabilities.matmul(&self.for_each_query_head(&v)?)?; // (H, T, D)
        let joined = mixed.transpose(0, 1)?.contiguous()?.flatten_from(1)?; // (T, H·D)
        Ok(self.output.forward(&joined)?)
    }

    /// (T, heads·D) → (heads, T, D)
    fn split_heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let by_head = x.reshape((x.dim(0)?, heads, self.head_dim))?;
        Ok(by_head.transpose(0, 1)?.contiguous()?)
    }

    /// (K, T, D) → (H, T, D): query head h reads key/value head h / (H / K).
    fn for_each_query_head(&self, x: &Tensor) -> Result<Tensor> {
        let (n_kv_heads, n_tokens, head_dim) = x.dims3()?;
        let shared_by = self.n_heads / n_kv_heads;
        let repeated = x.unsqueeze(1)?.repeat((1, shared_by, 1, 1))?;
        Ok(repeated.reshape((self.n_heads, n_tokens, head_dim))?)
    }
}

impl Projections {
    fn forward(&self, x: &Tensor, q_rows: usize) -> Result<(Tensor, Tensor, Tensor)> {
        Ok(match self {
            Self::Fused(qkv) => {
                let qkv = qkv.forward(x)?;
                let kv_rows = (qkv.dim(1)? - q_rows) / 2;
                (
                    qkv.narrow(1, 0, q_rows)?,
                    qkv.narrow(1, q_rows, kv_rows)?,
                    qkv.narrow(1, q_rows + kv_rows, kv_rows)?,
                )
            }
            Self::Parted { q, k, v } => (q.forward(x)?, k.forward(x)?, v.forward(x)?),
        })
    }
}

/// (T, T): 0 where query t may see key s ≤ t, −∞ elsewhere.
fn causal_mask(n_tokens: usize) -> Result<Tensor> {
    let may_see = |t, s| if s <= t { 0.0 } else { f32::NEG_INFINITY };
    let mask = (0..n_tokens).flat_map(|t| (0..n_tokens).map(move |s| may_see(t, s))).collect();
    Ok(Tensor::from_vec(mask, (n_tokens, n_tokens), &Device::Cpu)?)
}

/// The position-wise feed-forward layer.
///
/// Source: gated form: Shazeer, <https://arxiv.org/abs/2002.05202>; both forms of GELU: Hendrycks
/// and Gimpel, <https://arxiv.org/abs/1606.08415>.
#[derive(Debug)]
pub(super) struct FeedForward {
    expand: Expand,
    down: Linear,
}

/// E → F and the nonlinearity.
#[derive(Debug)]
enum Expand {
    GatedSilu { gate: Linear, up: Linear },
    GatedGeluTanh { gate: Linear, up: Linear },
    GeluTanh { up: Linear },
    GeluErf { up: Linear },
    Relu { up: Linear },
}

impl FeedForward {
    pub(super) fn load(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.feed_forward);
        let up = weights.linear("ffn_up", inner, hidden)?;
        let gate = || weights.linear("ffn_gate", inner, hidden);
        let expand = match config.mlp {
            Mlp::GatedSilu => Expand::GatedSilu { gate: gate()?, up },
            Mlp::GatedGeluTanh => Expand::GatedGeluTanh { gate: gate()?, up },
            Mlp::Relu => Expand::Relu { up },
            Mlp::GeluTanh => Expand::GeluTanh { up },
            Mlp::GeluErf => Expand::GeluErf { up },
        };
        Ok(Self { expand, down: weights.linear("ffn_down", hidden, inner)? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = match &self.expand {
            Expand::GatedSilu { gate, up } => (gate.forward(x)?.silu()? * up.forward(x)?)?,
            Expand::GatedGeluTanh { gate, up } => (gate.forward(x)?.gelu()? * up.forward(x)?)?,
            Expand::Relu { up } => up.forward(x)?.relu()?,
            Expand::GeluTanh { up } => up.forward(x)?.gelu()?,
            Expand::GeluErf { up } => up.forward(x)?.gelu_erf()?,
        };
        Ok(self.down.forward(&inner)?)
    }
}
