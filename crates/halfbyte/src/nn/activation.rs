//! The feed-forward block's nonlinearities over whole rows.

use super::norm::{load_padded, store_prefix};
use crate::kernels::{Brake, LANES, Lanes, Op, Team, gelu_erf, gelu_tanh, silu};

/// What happens between the feed-forward matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Rows are `[gate | up]`: `silu(gate) · up`.
    GatedSilu,
    /// GELU, tanh form.
    GeluTanh,
    /// GELU, exact form.
    GeluErf,
}

/// Applies `kind` to rows of `x` in place: the result stands in each row's first `width` elements.
///
/// `x` (m, stride), stride = 2·width for [`Activation::GatedSilu`], else width.
pub(crate) fn activate(team: &Team, kind: Activation, x: &mut [f32], stride: usize, width: usize) {
    team.each_chunk(x, stride, &Brake::none(), |_, row| {
        team.isa().run(ActivateRow { kind, row, width });
    });
}

struct ActivateRow<'a> {
    kind: Activation,
    row: &'a mut [f32],
    width: usize,
}

impl Op for ActivateRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let (first, up) = self.row.split_at_mut(self.width);
        match self.kind {
            Activation::GatedSilu => {
                for (x, up) in first.chunks_mut(LANES).zip(up.chunks(LANES)) {
                    let gate = silu(isa, load_padded(isa, x, 0.0));
                    store_prefix(isa, isa.mul(gate, load_padded(isa, up, 0.0)), x);
                }
            }
            Activation::GeluTanh => map(isa, first, |x| gelu_tanh(isa, x)),
            Activation::GeluErf => map(isa, first, |x| gelu_erf(isa, x)),
        }
    }
}

#[inline(always)]
fn map<L: Lanes>(isa: L, x: &mut [f32], f: impl Fn(L::F) -> L::F) {
    for x in x.chunks_mut(LANES) {
        store_prefix(isa, f(load_padded(isa, x, 0.0)), x);
    }
}
