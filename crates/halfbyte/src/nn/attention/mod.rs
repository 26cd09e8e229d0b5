//! Attention of new tokens over a cache, in one pass with a running softmax.

mod cached;
mod rows;
mod strip;
#[cfg(test)]
mod tests;

use super::block_cache::{BlockCache, CacheShape};
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
    /// Scores are multiplied by this: 1/√D, or 1 where the weights have it in them.
    pub(crate) scale: f32,
}

/// Which keys a query sees, and what positions add to its scores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight<'a> {
    /// Token t is at position `first + t` and sees the keys up to its own.
    Past {
        /// The position of the first token.
        first: usize,
        /// Added to the scores; `None` for nothing.
        bias: Option<Bias<'a>>,
    },
    /// Every token sees the same keys, token t from position t.
    All {
        /// How many keys there are.
        n_keys: usize,
        /// Added to the scores; `None` for nothing.
        bias: Option<Bias<'a>>,
    },
}

/// What the distance of a key from its query adds to a score, for each query head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bias<'a> {
    /// (H, stride): each head's additions by distance, ascending.
    pub(crate) table: &'a [f32],
    /// Distances in a head's part.
    pub(crate) stride: usize,
    /// The column of distance 0, where a key stands at its query's position.
    pub(crate) zero: usize,
}

impl<'a> Sight<'a> {
    /// The keys that token `token` sees, and for head `head` what is added to their scores (that
    /// many, or none).
    fn of(self, token: usize, head: usize) -> (usize, &'a [f32]) {
        let (n_keys, position, bias) = match self {
            Self::Past { first, bias } => (first + token + 1, first + token, bias),
            Self::All { n_keys, bias } => (n_keys, token, bias),
        };
        let Some(Bias { table, stride, zero }) = bias else { return (n_keys, &[]) };
        (n_keys, &table[head * stride + zero - position..][..n_keys])
    }
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
/// `qkv` (T, stride) begins with the H·D query elements of each token, which sees the keys that
/// `sight` says. The keys are summed in blocks at absolute positions, merged in ascending order, so
/// that the result does not depend on T.
///
/// Source: M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax" (2018),
/// arXiv:1805.02867.
///
/// # Panics
///
/// If the cache does not hold the keys, the bias does not reach as far, or `scratch` has no room for
/// the cache's shape.
pub(crate) fn attention(
    team: &Team<'_>,
    brake: &Brake<'_>,
    shape: AttentionShape,
    (cache, layer): (&BlockCache, usize),
    (qkv, stride): (&[f32], usize),
    sight: Sight<'_>,
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
            heads: (x * heads, heads),
            sight,
            scale: shape.scale,
            out,
            scratch,
        };
        team.isa().run(strip);
    });
}
