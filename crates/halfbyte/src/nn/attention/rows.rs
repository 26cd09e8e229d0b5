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
    /// What is read after the keys, asked for while they are scored, and what after the values.
    pub(super) next: [&'a [u8]; 2],
}

/// Asks for part `i` of `n` of some bytes.
#[inline(always)]
fn prefetch<L: Lanes>(isa: L, bytes: &[u8], i: usize, n: usize) {
    let lines = bytes.len().div_ceil(64).div_ceil(n);
    for line in i * lines..(i + 1) * lines {
        isa.prefetch_once(bytes.as_ptr().wrapping_add(64 * line));
    }
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
        prefetch(isa, block.next[0], i / V * dim + d, dim * (BLOCK / LANES / V));
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

/// Turns scores into exp(score − max), zero from `n` on; returns the maximum and the sum.
#[inline(always)]
fn softmax<L: Lanes>(isa: L, p: &mut [f32; BLOCK], n: usize) -> (f32, f32) {
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
    (max, if max.is_nan() { f32::NAN } else { sum_lanes(lanes(isa, sum)) })
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
        let (mut maxima, mut totals) = ([0.0; R], [0.0; LANES]);
        for r in 0..R {
            if let Some(bias) = queries[r].bias.get(block.start..) {
                add_bias(isa, bias, &mut self.p[r]);
            }
            (maxima[r], totals[r]) = softmax(isa, &mut self.p[r], self.n[r]);
        }
        self.enter(isa, maxima, &totals, states);
    }

    /// Counts a block's maxima and sums in `states`: each row in a lane, since an exponential of one
    /// takes as long as one of all.
    #[inline(always)]
    fn enter<L: Lanes>(
        &mut self,
        isa: L,
        maxima: [f32; R],
        totals: &[f32; LANES],
        states: &mut [State; R],
    ) {
        let (mut keep, mut take, mut old) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (r, state) in states.iter_mut().enumerate() {
            let max = if state.max > maxima[r] { state.max } else { maxima[r] };
            (keep[r], take[r], old[r]) = (state.max - max, maxima[r] - max, state.total);
            state.max = max;
        }
        let (keep, take) = (exp(isa, isa.load(&keep)), exp(isa, isa.load(&take)));
        let total = isa.fma(isa.load(totals), take, isa.mul(isa.load(&old), keep));
        let (keep, take, total) = (lanes(isa, keep), lanes(isa, take), lanes(isa, total));
        for (r, state) in states.iter_mut().enumerate() {
            (self.keep[r], self.take[r], state.total) = (keep[r], take[r], total[r]);
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
        let common = self.n[0].min(BLOCK);
        let chunks = block.shape.head_dim.div_ceil(LANES).div_ceil(V);
        for j in 0..common {
            prefetch(isa, block.next[1], c / V * BLOCK + j, BLOCK * chunks);
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
