//! A block of keys and values for a few query rows at a time: scores, softmax, weighted sums.
//!
//! Each element is one sequence of operations, however many rows are computed together.

use super::cached::Cached;
use crate::kernels::{LANES, Lanes, exp, load_padded, max_lanes, store_prefix, sum_lanes};
use crate::nn::block_cache::{BLOCK, CacheShape};

/// One head's keys and values of a block.
pub(super) struct Block<'a, C: Cached> {
    pub(super) shape: &'a CacheShape,
    pub(super) keys: &'a C::Part,
    pub(super) values: &'a C::Part,
    /// The position of the first key.
    pub(super) start: usize,
    /// Scores are multiplied by this.
    pub(super) scale: f32,
}

/// One query head of one token.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Query<'a> {
    /// (D).
    pub(super) elements: &'a [f32],
    /// Keys that it sees.
    pub(super) n_keys: usize,
    /// Added to its scores, as many as there are keys; empty for nothing.
    pub(super) bias: &'a [f32],
}

/// What a row's softmax has seen so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// The largest score.
    max: f32,
    /// Σ exp(score − max).
    pub(super) total: f32,
}

impl Default for State {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, total: 0.0 }
    }
}

/// The weights of a block's keys for R rows, and what they do to the sums of earlier blocks.
pub(super) struct Weights<const R: usize> {
    /// exp(score − the block's maximum), 0 for keys that the row does not see.
    p: [[f32; BLOCK]; R],
    /// Keys that each row sees, ascending.
    n: [usize; R],
    /// The old sums shrink by this …
    keep: [f32; R],
    /// … and the block's terms enter with this.
    take: [f32; R],
}

impl<const R: usize> Default for Weights<R> {
    fn default() -> Self {
        Self { p: [[0.0; BLOCK]; R], n: [0; R], keep: [0.0; R], take: [0.0; R] }
    }
}

/// The scores of keys 16i..16(i + V): a fused multiply-add per element.
#[inline(always)]
fn scores<L: Lanes, C: Cached, const R: usize, const V: usize>(
    isa: L,
    block: &Block<'_, C>,
    queries: &[Query<'_>; R],
    i: usize,
    p: &mut [[f32; BLOCK]; R],
) {
    let dim = block.shape.head_dim;
    let mut elements = [&queries[0].elements[..dim]; R];
    for r in 0..R {
        elements[r] = &queries[r].elements[..dim];
    }
    let mut acc = [[isa.splat(0.0); V]; R];
    for d in 0..dim {
        for v in 0..V {
            let keys = C::keys(isa, block.shape, block.keys, i + v, d);
            for r in 0..R {
                acc[r][v] = isa.fma(isa.splat(elements[r][d]), keys, acc[r][v]);
            }
        }
    }
    for r in 0..R {
        let p = p[r].as_chunks_mut::<LANES>().0;
        for v in 0..V {
            isa.store(isa.mul(acc[r][v], isa.splat(block.scale)), &mut p[i + v]);
        }
    }
}

/// Adds what a row's positions add to its scores of a block.
#[inline(always)]
fn add_bias<L: Lanes>(isa: L, bias: &[f32], p: &mut [f32; BLOCK]) {
    for (p, bias) in p.as_chunks_mut::<LANES>().0.iter_mut().zip(bias.chunks(LANES)) {
        isa.store(isa.add(isa.load(p), load_padded(isa, bias, 0.0)), p);
    }
}

/// Turns scores into exp(score − max), zero from `n` on, and counts them in `state`; returns the
/// factors of the old sums and of the block's.
#[inline(always)]
fn softmax<L: Lanes>(isa: L, p: &mut [f32; BLOCK], n: usize, state: &mut State) -> (f32, f32) {
    p[n..].fill(f32::NEG_INFINITY);
    let max = largest(isa, p);
    let shift = isa.splat(max);
    for x in p.as_chunks_mut::<LANES>().0 {
        isa.store(exp(isa, isa.sub(isa.load(x), shift)), x);
    }
    p[n..].fill(0.0);
    let mut sum = isa.splat(0.0);
    for x in p.as_chunks::<LANES>().0 {
        sum = isa.add(sum, isa.load(x));
    }
    let total = if max.is_nan() { f32::NAN } else { sum_lanes(lanes(isa, sum)) };
    let new_max = if state.max > max { state.max } else { max };
    let keep = exp(isa, isa.splat(state.max - new_max));
    let take = exp(isa, isa.splat(max - new_max));
    let old = isa.mul(isa.splat(state.total), keep);
    let total = isa.fma(isa.splat(total), take, old);
    *state = State { max: new_max, total: lanes(isa, total)[0] };
    (lanes(isa, keep)[0], lanes(isa, take)[0])
}

/// The largest score, or NaN if there is one: broken weights must show.
#[inline(always)]
fn largest<L: Lanes>(isa: L, p: &[f32; BLOCK]) -> f32 {
    let mut max = isa.splat(f32::NEG_INFINITY);
    let mut magnitude = isa.splat_i(0);
    for x in p.as_chunks::<LANES>().0 {
        let x = isa.load(x);
        max = isa.max(max, x);
        magnitude = isa.max_i(magnitude, isa.and_i(isa.as_i(x), isa.splat_i(i32::MAX)));
    }
    let is_nan = isa.max_lanes(magnitude) > f32::INFINITY.to_bits().cast_signed();
    if is_nan { f32::NAN } else { max_lanes(lanes(isa, max)) }
}

#[inline(always)]
fn lanes<L: Lanes>(isa: L, x: L::F) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    isa.store(x, &mut lanes);
    lanes
}

impl<const R: usize> Weights<R> {
    /// Scores a block for R rows, V vectors of sixteen keys at a time, and takes it into `states`.
    #[inline(always)]
    pub(super) fn score<L: Lanes, C: Cached, const V: usize>(
        &mut self,
        isa: L,
        block: &Block<'_, C>,
        queries: &[Query<'_>; R],
        states: &mut [State; R],
    ) {
        for r in 0..R {
            self.n[r] = BLOCK.min(queries[r].n_keys - block.start);
        }
        for i in (0..self.n[R - 1].div_ceil(LANES)).step_by(V) {
            scores::<L, C, R, V>(isa, block, queries, i, &mut self.p);
        }
        for r in 0..R {
            if let Some(bias) = queries[r].bias.get(block.start..) {
                add_bias(isa, bias, &mut self.p[r]);
            }
            (self.keep[r], self.take[r]) = softmax(isa, &mut self.p[r], self.n[r], &mut states[r]);
        }
    }

    /// The weighted sums of elements 16c..16(c + V) of the block's values, for each row.
    #[inline(always)]
    pub(super) fn weigh<L: Lanes, C: Cached, const V: usize>(
        &self,
        isa: L,
        block: &Block<'_, C>,
        c: usize,
        sums: &mut [[[f32; LANES]; V]; R],
    ) {
        let mut acc = [[isa.splat(0.0); V]; R];
        // What all rows see; they are in ascending order.
        let common = self.n[0];
        for j in 0..common {
            for v in 0..V {
                let value = C::value(isa, block.shape, block.values, j, c + v);
                for r in 0..R {
                    acc[r][v] = isa.fma(isa.splat(self.p[r][j]), value, acc[r][v]);
                }
            }
        }
        // In memory from here on, so that the sums above can stay in registers.
        for r in 0..R {
            for v in 0..V {
                isa.store(acc[r][v], &mut sums[r][v]);
            }
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            for j in common..self.n[r] {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let value = C::value(isa, block.shape, block.values, j, c + v);
                    isa.store(isa.fma(isa.splat(self.p[r][j]), value, isa.load(sum)), sum);
                }
            }
        }
    }

    /// Merges sums of [`weigh`](Self::weigh) into those of earlier blocks: row r, sixteen elements.
    #[inline(always)]
    pub(super) fn merge<L: Lanes>(&self, isa: L, r: usize, sum: &[f32; LANES], out: &mut [f32]) {
        let old = isa.mul(load_padded(isa, out, 0.0), isa.splat(self.keep[r]));
        store_prefix(isa, isa.fma(isa.load(sum), isa.splat(self.take[r]), old), out);
    }
}
