//! Rotary position embedding.

use candle_core::{D, Device, Result, Tensor};

use crate::model::{ModelConfig, Rotary};

/// Cosines and sines for the positions of one sequence.
///
/// Source: Su et al., RoFormer, <https://arxiv.org/abs/2104.09864>, equation 34.
pub(super) struct Rope {
    /// (T, `n_rot` / 2)
    cos: Tensor,
    /// (T, `n_rot` / 2)
    sin: Tensor,
    n_rot: usize,
    /// Whether pairs are neighbours, and not a half of the rotated elements apart.
    interleaved: bool,
}

impl Rope {
    /// The angle of pair i at position t: `t / linear · base^(−2i / n_rot) / factorᵢ`, in f64.
    pub(super) fn new(config: &ModelConfig, n_tokens: usize) -> Result<Self> {
        let n_pairs = config.n_rot / 2;
        let frequency = |i: usize| {
            let exponent = -2.0 * i as f64 / config.n_rot as f64;
            let factor = config.rope_freq_factors.as_ref().map_or(1.0, |f| f64::from(f[i]));
            libm::pow(f64::from(config.rope_base), exponent) / factor
        };
        let frequencies: Vec<f64> = (0..n_pairs).map(frequency).collect();
        let linear = f64::from(config.rope_linear_factor);
        let table = |wave: fn(f64) -> f64| {
            let values = (0..n_tokens)
                .flat_map(|t| frequencies.iter().map(move |f| wave(t as f64 / linear * f) as f32))
                .collect();
            Tensor::from_vec(values, (n_tokens, n_pairs), &Device::Cpu)
        };
        Ok(Self {
            cos: table(libm::cos)?,
            sin: table(libm::sin)?,
            n_rot: config.n_rot,
            interleaved: config.architecture.rotary == Rotary::Interleaved,
        })
    }

    /// Rotates the first `n_rot` elements of every head of `x` (H, T, D); the rest passes.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n_heads, n_tokens, head_dim) = x.dims3()?;
        let n_pairs = self.n_rot / 2;
        let rotated = x.narrow(D::Minus1, 0, self.n_rot)?;
        let (a, b) = if self.interleaved {
            let pairs = rotated.reshape((n_heads, n_tokens, n_pairs, 2))?;
            (
                pairs.narrow(3, 0, 1)?.squeeze(3)?, // elements 2i
                pairs.narrow(3, 1, 1)?.squeeze(3)?, // elements 2i + 1
            )
        } else {
            (rotated.narrow(2, 0, n_pairs)?, rotated.narrow(2, n_pairs, n_pairs)?)
        };
        let new_a = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let new_b = (a.broadcast_mul(&self.sin)? + b.broadcast_mul(&self.cos)?)?;
        let rotated = if self.interleaved {
            Tensor::stack(&[new_a, new_b], 3)?.reshape((n_heads, n_tokens, self.n_rot))?
        } else {
            Tensor::cat(&[new_a, new_b], 2)?
        };
        if self.n_rot == head_dim {
            return Ok(rotated);
        }
        let rest = x.narrow(D::Minus1, self.n_rot, head_dim - self.n_rot)?;
        Tensor::cat(&[rotated, rest], 2)
    }
}
