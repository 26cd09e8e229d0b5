//! The feed-forward block's nonlinearities.

use crate::kernels::{Lanes, Source, gelu_erf, gelu_tanh, load_group, silu};

/// What happens between the feed-forward matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Rows are `[gate | up]`: `silu(gate) · up`.
    GatedSilu,
    /// Rows are `[gate | up]`: `gelu(gate) · up`, tanh form.
    GatedGeluTanh,
    /// GELU, tanh form.
    GeluTanh,
    /// GELU, exact form.
    GeluErf,
    /// `max(x, 0)`.
    Relu,
}

/// The feed-forward block's inner rows, computed from its first layers' outputs as they are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activated<'a> {
    pub(crate) kind: Activation,
    /// (m, stride), stride = 2·width for the gated kinds, else width.
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    /// F: columns of the result.
    pub(crate) width: usize,
}

impl Source for Activated<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        let row = &self.x[row * self.stride..][..self.stride];
        let (first, up) = row.split_at(self.width);
        let x = load_group(isa, first, g);
        match self.kind {
            Activation::GatedSilu => {
                let up = load_group(isa, up, g);
                [isa.mul(silu(isa, x[0]), up[0]), isa.mul(silu(isa, x[1]), up[1])]
            }
            Activation::GatedGeluTanh => {
                let up = load_group(isa, up, g);
                [isa.mul(gelu_tanh(isa, x[0]), up[0]), isa.mul(gelu_tanh(isa, x[1]), up[1])]
            }
            Activation::GeluTanh => [gelu_tanh(isa, x[0]), gelu_tanh(isa, x[1])],
            Activation::GeluErf => [gelu_erf(isa, x[0]), gelu_erf(isa, x[1])],
            Activation::Relu => {
                let zero = isa.splat(0.0);
                // In this order NaN stays NaN: broken weights must show.
                [isa.max(zero, x[0]), isa.max(zero, x[1])]
            }
        }
    }
}
