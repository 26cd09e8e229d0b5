//! The buffers of a forward pass, kept from pass to pass.

use std::ops::Range;

use super::adapted::Adapted;
use super::architecture::Residual;
use super::batch::Seq;
use super::config::ModelConfig;
use crate::error::Result;
use crate::kernels::{Activations, resize};
use crate::nn::{BiasTable, Rope, Scratch, Stats};

/// Activations between the operations of a pass; rows are the new tokens of all steps.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// The residual stream (m, E).
    pub(super) hidden: Vec<f32>,
    /// What the current norm measured of each row of `hidden` (m).
    pub(super) stats: Vec<Stats>,
    /// What attention and the feed-forward compute, at `places`.
    pub(super) inner: Vec<f32>,
    /// Where in `inner`.
    pub(super) places: Places,
    /// Attention's unpacked keys and values.
    pub(super) attention: Scratch,
    /// Rotary tables (m, `n_rot`).
    pub(super) rope: Vec<f32>,
    /// What distances add to the decoder's scores.
    pub(super) bias: BiasTable,
    /// The current matrix's input.
    pub(super) x: Activations,
    /// The rows with adapters.
    pub(super) adapted: Adapted,
}

/// Parts of [`Workspace::inner`].
#[derive(Debug, Default)]
pub(super) struct Places {
    /// `[q | k | v]` (m, (H + 2K)·D), then attention's output (m, H·D).
    pub(super) attention: Range<usize>,
    /// Elements of the former.
    pub(super) qkv: usize,
    /// `[gate | up]` (m, 2F) or `up` (m, F). Over `attention` where that is done by then.
    pub(super) up: Range<usize>,
}

impl Workspace {
    /// `[q | k | v]` and attention's output, in `inner` at `places`.
    pub(super) fn attention<'a>(
        inner: &'a mut [f32],
        places: &Places,
    ) -> (&'a mut [f32], &'a mut [f32]) {
        inner[places.attention.clone()].split_at_mut(places.qkv)
    }

    /// Sizes the buffers for `seqs` and computes their positions' rotary tables.
    pub(super) fn prepare(
        &mut self,
        config: &ModelConfig,
        rope: &Rope,
        seqs: &[Seq<'_>],
    ) -> Result<()> {
        let rows: usize = seqs.iter().map(|seq| seq.n).sum();
        let ModelConfig { n_heads, n_kv_heads, head_dim, hidden_size, feed_forward, .. } = *config;
        let up = rows * if config.mlp.is_gated() { 2 * feed_forward } else { feed_forward };
        let qkv = rows * (n_heads + 2 * n_kv_heads) * head_dim;
        let attention = 0..qkv + rows * n_heads * head_dim;
        // With a parallel residual the feed-forward begins before attention.
        let up_start = if config.residual == Residual::Sequential { 0 } else { attention.end };
        self.places = Places { attention, qkv, up: up_start..up_start + up };
        self.adapted.prepare(seqs, |seq| seq.n);
        resize(&mut self.inner, self.places.attention.end.max(self.places.up.end))?;
        resize(&mut self.hidden, rows * hidden_size)?;
        resize(&mut self.rope, rows * rope.table_len())?;
        let positions = seqs.iter().flat_map(|seq| {
            let first = seq.cache.len();
            first..first + seq.n
        });
        let len = rope.table_len();
        for (row, position) in positions.enumerate().take_while(|_| len > 0) {
            rope.table(position, &mut self.rope[row * len..][..len]);
        }
        Ok(())
    }
}
