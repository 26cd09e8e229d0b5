//! Causal attention of new tokens over a cache, in one pass with a running softmax.

use super::kv_cache::{BLOCK, CacheShape, CacheType, KvCache};
use crate::kernels::{Brake, LANES, Lanes, Op, Team, exp, load_padded, store_prefix, sum_lanes};

/// Heads of the queries, and the scale of their scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    /// H: query heads; a multiple of the cache's key/value heads.
    pub(crate) n_heads: usize,
    /// Scores are multiplied by this, 1/√D.
    pub(crate) scale: f32,
}

/// Writes each new token's attention output, `out` (T, H·D).
///
/// `qkv` (T, stride) begins with the H·D query elements of each token; token t is at position
/// `first + t` and sees the keys up to its own. The keys are summed in blocks at absolute
/// positions, merged in ascending order, so that the result does not depend on T.
///
/// Source: M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax" (2018),
/// arXiv:1805.02867.
pub(crate) fn attention(
    team: &Team<'_>,
    brake: &Brake<'_>,
    shape: AttentionShape,
    (cache, layer): (&KvCache, usize),
    (qkv, stride): (&[f32], usize),
    first: usize,
    out: &mut [f32],
) {
    let dim = cache.shape().head_dim;
    let group = shape.n_heads / cache.shape().n_kv_heads;
    team.each_chunk(out, dim, brake, |i, out| {
        let (token, head) = (i / shape.n_heads, i % shape.n_heads);
        team.isa().run(HeadRow {
            cache,
            layer,
            kv_head: head / group,
            query: &qkv[token * stride + head * dim..][..dim],
            n_keys: first + token + 1,
            scale: shape.scale,
            out,
        });
    });
}

/// One query head of one token.
struct HeadRow<'a> {
    cache: &'a KvCache,
    layer: usize,
    kv_head: usize,
    query: &'a [f32],
    n_keys: usize,
    scale: f32,
    out: &'a mut [f32],
}

impl Op for HeadRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        match self.cache.cache_type() {
            CacheType::F16 => self.over::<L, F16>(isa),
            CacheType::F32 => self.over::<L, F32>(isa),
            CacheType::Q8 => self.over::<L, Q8>(isa),
        }
    }
}

impl HeadRow<'_> {
    #[inline(always)]
    fn over<L: Lanes, C: Cached>(self, isa: L) {
        let shape = self.cache.shape();
        let mut max = isa.splat(f32::NEG_INFINITY);
        let mut total = isa.splat(0.0);
        self.out.fill(0.0);
        for block in 0..self.n_keys.div_ceil(BLOCK) {
            let (keys, values) = self.cache.head(self.layer, block, self.kv_head);
            let n = BLOCK.min(self.n_keys - block * BLOCK);
            let mut p = scores::<L, C>(isa, shape, keys, self.query, self.scale);
            p[n..].fill(f32::NEG_INFINITY);
            let (block_max, block_total) = softmax_terms(isa, &mut p, n);
            let new_max = isa.max(max, block_max);
            // The old sums shrink by `keep`, the block's terms enter with `take`.
            let keep = exp(isa, isa.sub(max, new_max));
            let take = exp(isa, isa.sub(block_max, new_max));
            max = new_max;
            total = isa.fma(block_total, take, isa.mul(total, keep));
            for (c, out) in self.out.chunks_mut(LANES).enumerate() {
                let mut sum = isa.splat(0.0);
                for (j, &p) in p[..n].iter().enumerate() {
                    sum = isa.fma(isa.splat(p), C::value(isa, shape, values, j, c), sum);
                }
                let old = isa.mul(load_padded(isa, out, 0.0), keep);
                store_prefix(isa, isa.fma(sum, take, old), out);
            }
        }
        for out in self.out.chunks_mut(LANES) {
            let sum = load_padded(isa, out, 0.0);
            store_prefix(isa, isa.div(sum, total), out);
        }
    }
}

/// The scores of a block's 64 keys: sixteen keys in lanes, a fused multiply-add per element.
#[inline(always)]
fn scores<L: Lanes, C: Cached>(
    isa: L,
    shape: &CacheShape,
    keys: &[u8],
    query: &[f32],
    scale: f32,
) -> [f32; BLOCK] {
    let mut acc = [isa.splat(0.0); BLOCK / LANES];
    for (d, &q) in query.iter().enumerate() {
        let q = isa.splat(q);
        for (i, acc) in acc.iter_mut().enumerate() {
            *acc = isa.fma(q, C::keys(isa, shape, keys, i, d), *acc);
        }
    }
    let mut out = [0.0; BLOCK];
    for (acc, out) in acc.into_iter().zip(out.as_chunks_mut::<LANES>().0) {
        isa.store(isa.mul(acc, isa.splat(scale)), out);
    }
    out
}

/// Turns scores into exp(score − max), zero from `n` on; returns the maximum and the sum, in all
/// lanes.
#[inline(always)]
fn softmax_terms<L: Lanes>(isa: L, p: &mut [f32; BLOCK], n: usize) -> (L::F, L::F) {
    let mut max = f32::NEG_INFINITY;
    for &x in p.iter() {
        // A NaN stays: broken weights must show.
        max = if x > max || x.is_nan() { x } else { max };
    }
    let shift = isa.splat(max);
    for x in p.as_chunks_mut::<LANES>().0 {
        isa.store(exp(isa, isa.sub(isa.load(x), shift)), x);
    }
    p[n..].fill(0.0);
    let mut sum = isa.splat(0.0);
    for x in p.as_chunks::<LANES>().0 {
        sum = isa.add(sum, isa.load(x));
    }
    let mut lanes = [0.0; LANES];
    isa.store(sum, &mut lanes);
    let total = if max.is_nan() { f32::NAN } else { sum_lanes(lanes) };
    (shift, isa.splat(total))
}

/// How lanes are read from a cache of one type.
trait Cached {
    /// Element `d` of keys 16i..16i + 16.
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F;
    /// Elements 16c..16c + 16 of value `j`.
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F;
}

struct F16;
struct F32;
struct Q8;

#[inline(always)]
fn line<const N: usize>(part: &[u8], at: usize) -> &[u8; N] {
    part[at..].first_chunk().expect("caches hold whole lanes")
}

impl Cached for F16 {
    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        isa.load_f16(line(part, 2 * LANES * (i * shape.padded_dim() + d)))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        isa.load_f16(line(part, 2 * (j * shape.padded_dim() + LANES * c)))
    }
}

#[inline(always)]
fn load_f32<L: Lanes>(isa: L, part: &[u8], at: usize) -> L::F {
    isa.as_f(isa.line_as_i(isa.load_line(line(part, at))))
}

impl Cached for F32 {
    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        load_f32(isa, part, 4 * LANES * (i * shape.padded_dim() + d))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        load_f32(isa, part, 4 * (j * shape.padded_dim() + LANES * c))
    }
}

impl Cached for Q8 {
    #[inline(always)]
    fn keys<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], i: usize, d: usize) -> L::F {
        let dim = shape.padded_dim();
        let codes = isa.load_i8(line(part, LANES * (i * dim + d)));
        let scale = load_f32(isa, part, BLOCK * dim + 4 * LANES * (i * (dim / 32) + d / 32));
        isa.mul(scale, isa.to_f(codes))
    }
    #[inline(always)]
    fn value<L: Lanes>(isa: L, shape: &CacheShape, part: &[u8], j: usize, c: usize) -> L::F {
        let dim = shape.padded_dim();
        let codes = isa.load_i8(line(part, j * dim + LANES * c));
        let scale = line(part, BLOCK * dim + 4 * (j * (dim / 32) + c / 2));
        isa.mul(isa.splat(f32::from_le_bytes(*scale)), isa.to_f(codes))
    }
}
