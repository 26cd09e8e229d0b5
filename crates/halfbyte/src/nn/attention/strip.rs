//! Some query heads of some tokens, which share their keys and values.

use super::cached::{Cached, F16, F32, Q8, Unpacked, unpack, unpacked_lines};
use super::rows::{Block, Query, State, Weights};
use super::{MOST_ROWS, Sight};
use crate::kernels::{LANES, Lanes, Line, Op, Rectangle, load_padded, store_prefix};
use crate::nn::block_cache::{BLOCK, BlockCache, CacheType};

/// Sets of rows, each of which reads a block once, from which it is quicker to unpack the block once
/// than to convert it for each set.
const UNPACKED_FROM: usize = 3;

/// Sets that `rows` rows make, as [`Strip::sets`] cuts them.
const fn n_sets<L: Lanes>(rows: usize) -> usize {
    let widest = L::SUMS / 2;
    rows / widest + (rows % widest).count_ones() as usize
}

/// Some query heads of the tokens in `out`, all of them on one key/value head.
pub(super) struct Strip<'a> {
    pub(super) cache: &'a BlockCache,
    pub(super) layer: usize,
    pub(super) kv_head: usize,
    /// The matrix, its stride, and the column of the first head.
    pub(super) queries: (&'a [f32], usize, usize),
    /// The first query head, and how many.
    pub(super) heads: (usize, usize),
    pub(super) sight: Sight<'a>,
    pub(super) scale: f32,
    pub(super) out: Rectangle<'a>,
    pub(super) scratch: &'a mut [Line],
}

impl Op for Strip<'_> {
    type Output = ();

    /// Row r is head `r % heads` of token `r / heads`, counted from the strip's first.
    #[inline(always)]
    fn run<L: Lanes>(mut self, isa: L) {
        let shape = self.cache.shape();
        let dim = shape.head_dim;
        let (first_head, heads) = self.heads;
        let n_rows = self.out.rows().len() * heads;
        let mut queries = [Query::default(); MOST_ROWS];
        for (r, query) in queries[..n_rows].iter_mut().enumerate() {
            let (token, head) = (self.out.rows().start + r / heads, r % heads);
            let (matrix, stride, column) = self.queries;
            query.elements = &matrix[token * stride + column + head * dim..][..dim];
            (query.n_keys, query.bias) = self.sight.of(token, first_head + head);
        }
        for token in self.out.rows() {
            self.out.row_mut(token).fill(0.0);
        }
        let mut states = [State::default(); MOST_ROWS];
        let n_keys = queries[n_rows - 1].n_keys;
        for block in 0..n_keys.div_ceil(BLOCK) {
            let start = block * BLOCK;
            // Tokens ascend, so those that see nothing of the block come first.
            let skipped = queries[..n_rows].partition_point(|query| query.n_keys <= start);
            let rows = (skipped, &queries[skipped..n_rows]);
            let at = (block, BLOCK.min(n_keys - start));
            let after = if start + BLOCK < n_keys {
                self.cache.head(self.layer, block + 1, self.kv_head)
            } else {
                Default::default()
            };
            let states = &mut states[skipped..n_rows];
            match self.cache.cache_type() {
                _ if n_sets::<L>(rows.1.len()) >= UNPACKED_FROM => {
                    self.unpacked(isa, at, rows, states, after);
                }
                CacheType::F16 => self.direct::<L, F16>(isa, block, rows, states, after),
                CacheType::F32 => self.direct::<L, F32>(isa, block, rows, states, after),
                CacheType::Q8 => self.direct::<L, Q8>(isa, block, rows, states, after),
            }
        }
        for (r, state) in states[..n_rows].iter().enumerate() {
            let total = isa.splat(state.total);
            for out in self.row(r).chunks_mut(LANES) {
                let sum = load_padded(isa, out, 0.0);
                store_prefix(isa, isa.div(sum, total), out);
            }
        }
    }
}

impl Strip<'_> {
    fn row(&mut self, r: usize) -> &mut [f32] {
        let heads = self.heads.1;
        let (token, head) = (self.out.rows().start + r / heads, r % heads);
        let row = self.out.row_mut(token);
        let dim = row.len() / heads;
        &mut row[head * dim..][..dim]
    }

    /// All rows on the cache itself. `after` are the next block's keys and values.
    #[inline(always)]
    fn direct<L: Lanes, C: Cached<Part = [u8]>>(
        &mut self,
        isa: L,
        block: usize,
        rows: (usize, &[Query<'_>]),
        states: &mut [State],
        after: (&[u8], &[u8]),
    ) {
        let (keys, values) = self.cache.head(self.layer, block, self.kv_head);
        let (shape, start) = (self.cache.shape(), block * BLOCK);
        let next = [values, after.0];
        let block = Block::<C> { shape, keys, values, start, scale: self.scale, next };
        self.sets(isa, &block, rows, states);
    }

    /// All rows on the block's first `n` keys and values, which it unpacks first. `after` are the
    /// next block's.
    #[inline(always)]
    fn unpacked<L: Lanes>(
        &mut self,
        isa: L,
        (block, n): (usize, usize),
        (first, queries): (usize, &[Query<'_>]),
        states: &mut [State],
        after: (&[u8], &[u8]),
    ) {
        let (shape, start) = (self.cache.shape(), block * BLOCK);
        let packed = self.cache.head(self.layer, block, self.kv_head);
        let scratch = std::mem::take(&mut self.scratch);
        let (keys, values) = scratch.split_at_mut(unpacked_lines(shape));
        match self.cache.cache_type() {
            CacheType::F16 => unpack::<L, F16>(isa, shape, packed, n, (keys, values)),
            CacheType::F32 => unpack::<L, F32>(isa, shape, packed, n, (keys, values)),
            CacheType::Q8 => unpack::<L, Q8>(isa, shape, packed, n, (keys, values)),
        }
        let (keys, values) = (&*keys, &*values);
        let next = [after.0, after.1];
        let block = Block::<Unpacked> { shape, keys, values, start, scale: self.scale, next };
        self.sets(isa, &block, (first, queries), states);
        self.scratch = scratch;
    }

    /// As many rows at a time as the instruction set keeps in registers.
    #[inline(always)]
    fn sets<L: Lanes, C: Cached>(
        &mut self,
        isa: L,
        block: &Block<'_, C>,
        (first, queries): (usize, &[Query<'_>]),
        states: &mut [State],
    ) {
        let mut done = 0;
        macro_rules! by {
            ($($rows:literal: $vectors:literal)*) => {$(
                if const { 2 * $rows <= L::SUMS } {
                    let n = (queries.len() - done) / $rows * $rows;
                    let rows = (first + done, &queries[done..done + n]);
                    self.rows::<L, C, $rows, $vectors>(isa, block, rows, &mut states[done..]);
                    done += n;
                }
            )*};
        }
        // Four vectors of a single row, so that no sum waits for the one before.
        by!(8: 2 4: 2 2: 2 1: 4);
        debug_assert_eq!(done, queries.len(), "all rows");
    }

    /// R rows at a time; their number is a multiple of R.
    #[inline(always)]
    fn rows<L: Lanes, C: Cached, const R: usize, const V: usize>(
        &mut self,
        isa: L,
        block: &Block<'_, C>,
        (first, queries): (usize, &[Query<'_>]),
        states: &mut [State],
    ) {
        let chunks = block.shape.head_dim.div_ceil(LANES);
        let pairs = queries.as_chunks::<R>().0.iter().zip(states.as_chunks_mut::<R>().0);
        // Overwritten by each set of rows.
        let mut weights = Weights::default();
        let (mut sums, mut last) = ([[[0.0; LANES]; V]; R], [[[0.0; LANES]; 1]; R]);
        for (i, (queries, states)) in pairs.enumerate() {
            weights.score::<L, C, V>(isa, block, queries, states);
            let first = first + i * R;
            let whole = chunks / V * V;
            for c in (0..whole).step_by(V) {
                weights.weigh::<L, C, V>(isa, block, c, &mut sums);
                self.merge(isa, &weights, first, c, &sums);
            }
            for c in whole..chunks {
                weights.weigh::<L, C, 1>(isa, block, c, &mut last);
                self.merge(isa, &weights, first, c, &last);
            }
        }
    }

    /// Merges the sums of elements 16c and up into rows `first` and up.
    #[inline(always)]
    fn merge<L: Lanes, const R: usize, const V: usize>(
        &mut self,
        isa: L,
        weights: &Weights<R>,
        first: usize,
        c: usize,
        sums: &[[[f32; LANES]; V]; R],
    ) {
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.row(first + r)[c * LANES..];
            for (sum, out) in sums.iter().zip(out.chunks_mut(LANES)) {
                weights.merge(isa, r, sum, out);
            }
        }
    }
}
