//! Causal attention of new tokens over a cache, in one pass with a running softmax.

mod cached;
mod rows;
mod strip;
#[cfg(test)]
mod tests;

use super::kv_cache::{CacheShape, KvCache};
use crate::error::Result;
use crate::kernels::{Brake, Grid, Line, Team, resize};
use strip::Strip;

/// Query heads that one job takes at most: enough to read a block of keys and values once for many.
const MOST_ROWS: usize = 32;

/// Heads of the queries, and the scale of their scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    /// H: query heads; a multiple of the cache's key/value heads.
    pub(crate) n_heads: usize,
    /// Scores are multiplied by this, 1/√D.
    pub(crate) scale: f32,
}

/// Room for each thread's unpacked keys and values.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<Line>);

impl Scratch {
    /// Makes room for caches of `shape`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn reserve(&mut self, team: &Team<'_>, shape: &CacheShape) -> Result<()> {
        let wanted = team.threads() * 2 * cached::unpacked_lines(shape);
        if self.0.len() < wanted { resize(&mut self.0, wanted) } else { Ok(()) }
    }
}

/// Writes each new token's attention output, `out` (T, H·D).
///
/// `qkv` (T, stride) begins with the H·D query elements of each token; token t is at position
/// `first + t` and sees the keys up to its own. The keys are summed in blocks at absolute
/// positions, merged in ascending order, so that the result does not depend on T.
///
/// Source: M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax" (2018),
/// arXiv:1805.02867.
///
/// # Panics
///
/// If the cache does not hold the new tokens' keys, or `scratch` has no room for its shape.
pub(crate) fn attention(
    team: &Team<'_>,
    brake: &Brake<'_>,
    shape: AttentionShape,
    (cache, layer): (&KvCache, usize),
    (qkv, stride): (&[f32], usize),
    first: usize,
    (out, scratch): (&mut [f32], &mut Scratch),
) {
    let (dim, width) = (cache.shape().head_dim, shape.n_heads * cache.shape().head_dim);
    let group = shape.n_heads / cache.shape().n_kv_heads;
    let tokens = out.len() / width;
    // As many query heads a job as leave every thread some jobs; whole groups if that is possible,
    // since a group's heads share keys and values.
    let fair = (tokens * shape.n_heads).div_ceil(2 * team.threads()).clamp(1, MOST_ROWS);
    let heads = (1..=group.min(fair)).rev().find(|&heads| group.is_multiple_of(heads)).unwrap_or(1);
    let height = (fair / heads).max(1);
    let grid = Grid { data: out, stride: width, height, width: heads * dim };
    team.each_rectangle(grid, &mut scratch.0, brake, |x, out, scratch| {
        let strip = Strip {
            cache,
            layer,
            kv_head: x * heads / group,
            queries: (qkv, stride, x * heads * dim),
            heads,
            first,
            scale: shape.scale,
            out,
            scratch,
        };
        team.isa().run(strip);
    });
}
