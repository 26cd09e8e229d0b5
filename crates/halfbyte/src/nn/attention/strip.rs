//! Some query heads of some tokens, which share their keys and values.

use super::cached::{Cached, F16, F32, Q8, Unpacked, unpack, unpacked_lines};
use super::rows::{Block, Query, State, Weights};
use super::{MOST_ROWS, Sight};
use crate::kernels::{LANES, Lanes, Line, Op, Rectangle, load_padded, store_prefix};
use crate::nn::block_cache::{BLOCK, BlockCache, CacheType};

/// Rows from which it is quicker to unpack a block once than to convert it for every row.
const UNPACKED_FROM: usize = 3;

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
            let states = &mut states[skipped..n_rows];
            match self.cache.cache_type() {
                _ if rows.1.len() >= UNPACKED_FROM => self.unpacked(isa, at, rows, states),
                CacheType::F16 => self.direct::<L, F16>(isa, block, rows, states),
                CacheType::F32 => self.direct::<L, F32>(isa, block, rows, states),
                CacheType::Q8 => self.direct::<L, Q8>(isa, block, rows, states),
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

    /// One row after the other, on the cache itself.
    #[inline(always)]
    fn direct<L: Lanes, C: Cached<Part = [u8]>>(
        &mut self,
        isa: L,
        block: usize,
        rows: (usize, &[Query<'_>]),
        states: &mut [State],
    ) {
        let (keys, values) = self.cache.head(self.layer, block, self.kv_head);
        let (shape, start) = (self.cache.shape(), block * BLOCK);
        let block = Block { shape, keys, values, start, scale: self.scale };
        self.rows::<L, C, 1, 4>(isa, &block, rows, states);
    }

    /// Unpacks the block's first `n` keys and values, then takes as many rows at a time as the
    /// instruction set keeps in registers.
    #[inline(always)]
    fn unpacked<L: Lanes>(
        &mut self,
        isa: L,
        (block, n): (usize, usize),
        (first, queries): (usize, &[Query<'_>]),
        states: &mut [State],
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
        let block = Block { shape, keys: &*keys, values: &*values, start, scale: self.scale };
        let mut done = 0;
        macro_rules! by {
            ($($rows:literal)*) => {$(
                if const { 2 * $rows <= L::SUMS } {
                    let n = (queries.len() - done) / $rows * $rows;
                    let rows = (first + done, &queries[done..done + n]);
                    self.rows::<L, Unpacked, $rows, 2>(isa, &block, rows, &mut states[done..]);
                    done += n;
                }
            )*};
        }
        by!(8 4 2);
        let rest = (first + done, &queries[done..]);
        self.rows::<L, Unpacked, 1, 2>(isa, &block, rest, &mut states[done..]);
        self.scratch = scratch;
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
