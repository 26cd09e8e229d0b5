//! Layer normalization and root-mean-square normalization.

use crate::kernels::{Brake, LANES, Lanes, Op, Team, sum_lanes};

/// The weights of one normalization, padded to whole lanes.
#[derive(Debug)]
pub(crate) struct NormWeights {
    len: usize,
    weight: Vec<f32>,
    /// Present for layer normalization.
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl NormWeights {
    /// Root-mean-square normalization without a bias, layer normalization with one.
    pub(crate) fn new(mut weight: Vec<f32>, mut bias: Option<Vec<f32>>, eps: f32) -> Self {
        let len = weight.len();
        weight.resize(len.next_multiple_of(LANES), 0.0);
        if let Some(bias) = &mut bias {
            bias.resize(weight.len(), 0.0);
        }
        Self { len, weight, bias, eps }
    }

    /// Normalizes the rows of `x` (m, E) into `out` (m, E).
    ///
    /// Sums take element i into lane i mod 16 and add the lanes as one fixed tree.
    pub(crate) fn apply(&self, team: &Team, x: &[f32], out: &mut [f32]) {
        let rows_per_job = 8;
        team.each_chunk(out, rows_per_job * self.len, &Brake::none(), |job, out| {
            let x = &x[job * rows_per_job * self.len..][..out.len()];
            for (x, out) in x.chunks_exact(self.len).zip(out.chunks_exact_mut(self.len)) {
                team.isa().run(NormRow { weights: self, x, out });
            }
        });
    }
}

struct NormRow<'a> {
    weights: &'a NormWeights,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Op for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let Self { weights: w, x, out } = self;
        let n = x.len() as f32;
        let layer = w.bias.is_some();
        let mean = if layer { reduce(isa, x, |acc, x| isa.add(acc, x)) / n } else { 0.0 };
        let shift = isa.splat(mean);
        // Padding counts as the mean, so that it adds nothing to the squares.
        let squares = reduce_from(isa, x, mean, |acc, x| {
            let centred = isa.sub(x, shift);
            isa.fma(centred, centred, acc)
        });
        let scale = isa.splat(1.0 / (squares / n + w.eps).sqrt());
        let (weight, _) = w.weight.as_chunks::<LANES>();
        let bias = w.bias.as_ref().map(|bias| bias.as_chunks::<LANES>().0);
        for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
            let centred = isa.sub(load_padded(isa, x, 0.0), shift);
            let y = isa.mul(isa.mul(centred, scale), isa.load(&weight[i]));
            let y = match bias {
                Some(bias) => isa.add(y, isa.load(&bias[i])),
                None => y,
            };
            store_prefix(isa, y, out);
        }
    }
}

#[inline(always)]
fn reduce<L: Lanes>(isa: L, x: &[f32], add: impl Fn(L::F, L::F) -> L::F) -> f32 {
    reduce_from(isa, x, 0.0, add)
}

/// Folds `x` into sixteen lanes, its last lanes filled with `padding`, and sums them.
#[inline(always)]
fn reduce_from<L: Lanes>(isa: L, x: &[f32], padding: f32, add: impl Fn(L::F, L::F) -> L::F) -> f32 {
    let mut acc = isa.splat(0.0);
    for x in x.chunks(LANES) {
        acc = add(acc, load_padded(isa, x, padding));
    }
    let mut lanes = [0.0; LANES];
    isa.store(acc, &mut lanes);
    sum_lanes(lanes)
}

/// The first (at most sixteen) elements of `x`, then `padding`.
#[inline(always)]
pub(super) fn load_padded<L: Lanes>(isa: L, x: &[f32], padding: f32) -> L::F {
    if let Some(full) = x.first_chunk::<LANES>() {
        return isa.load(full);
    }
    let mut lanes = [padding; LANES];
    lanes[..x.len()].copy_from_slice(x);
    isa.load(&lanes)
}

/// Stores as many lanes as `out` holds, at most sixteen.
#[inline(always)]
pub(super) fn store_prefix<L: Lanes>(isa: L, x: L::F, out: &mut [f32]) {
    if let Some(full) = out.first_chunk_mut::<LANES>() {
        return isa.store(x, full);
    }
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    let n = out.len();
    out.copy_from_slice(&lanes[..n]);
}
