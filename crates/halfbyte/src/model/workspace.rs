//! The buffers of a forward pass, kept from pass to pass.

use super::config::ModelConfig;
use super::decoder::Step;
use crate::error::Result;
use crate::kernels::{Activations, resize};
use crate::nn::{Rope, Scratch, Stats};

/// Activations between the operations of a pass; rows are the new tokens of all steps.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// The residual stream (m, E).
    pub(super) hidden: Vec<f32>,
    /// What the current norm measured of each row of `hidden` (m).
    pub(super) stats: Vec<Stats>,
    /// `[q | k | v]` (m, (H + 2K)·D).
    pub(super) qkv: Vec<f32>,
    /// Attention's output (m, H·D).
    pub(super) attended: Vec<f32>,
    /// Attention's unpacked keys and values.
    pub(super) attention: Scratch,
    /// `[gate | up]` (m, 2F) or `up` (m, F).
    pub(super) up: Vec<f32>,
    /// Rotary tables (m, `n_rot`).
    pub(super) rope: Vec<f32>,
    /// The current matrix's input.
    pub(super) x: Activations,
}

impl Workspace {
    /// Sizes the buffers for `steps` and computes their positions' rotary tables.
    pub(super) fn prepare(
        &mut self,
        config: &ModelConfig,
        rope: &Rope,
        steps: &[Step<'_>],
    ) -> Result<()> {
        let rows: usize = steps.iter().map(|step| step.tokens.len()).sum();
        let ModelConfig { n_heads, n_kv_heads, head_dim, hidden_size, feed_forward, .. } = *config;
        let gated = config.architecture.mlp == super::architecture::Mlp::GatedSilu;
        let up = if gated { 2 * feed_forward } else { feed_forward };
        for (buffer, width) in [
            (&mut self.hidden, hidden_size),
            (&mut self.qkv, (n_heads + 2 * n_kv_heads) * head_dim),
            (&mut self.attended, n_heads * head_dim),
            (&mut self.up, up),
            (&mut self.rope, rope.table_len()),
        ] {
            resize(buffer, rows * width)?;
        }
        let positions = steps.iter().flat_map(|step| {
            let first = step.cache.len();
            first..first + step.tokens.len()
        });
        for (row, position) in positions.enumerate() {
            let len = rope.table_len();
            rope.table(position, &mut self.rope[row * len..][..len]);
        }
        Ok(())
    }
}
