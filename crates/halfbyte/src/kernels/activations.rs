//! Activations as the matrix kernels read them: int8 in tiles of tokens, or f32.

use super::buffer::resize;
use super::lanes::{LANES, Lanes};
use super::{Brake, Isa, Op, Team};
use crate::error::Result;

/// Columns that share an activation scale.
pub(super) const GROUP: usize = 32;
/// Words that one token has in each 32-column group of a tile: see [`Record`].
pub(super) const WORDS: usize = 14;

/// Rows of activations, (m, k), ready to be multiplied.
///
/// Tokens are grouped in tiles of `width` (at most the instruction set's `MAX_TILE`). For each
/// group of 32 columns a tile holds `WORDS` rows of `width` words: eight quads of int8 (column
/// 4j..4j+4 in word j), the scale d, d·Σq, Σq of either half of 16, and d·Σq of either half.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    k: usize,
    tiles: Vec<Tile>,
    quantized: Vec<i32>,
    floats: Vec<f32>,
}

/// Consecutive tokens that a kernel keeps in registers together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// The first token.
    pub(super) start: usize,
    /// Tokens: 1, 2, 4, 8 or 12.
    pub(super) width: usize,
}

impl Activations {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
    pub(crate) fn k(&self) -> usize {
        self.k
    }
    pub(super) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// The words of `tile`, `k / 32` (rounded up) records of `WORDS · width`.
    #[inline(always)]
    pub(super) fn quantized(&self, tile: Tile) -> &[i32] {
        let per_token = self.k.div_ceil(GROUP) * WORDS;
        &self.quantized[tile.start * per_token..][..tile.width * per_token]
    }

    /// The floats of `tile`: `k` rows of `width`.
    #[inline(always)]
    pub(super) fn floats(&self, tile: Tile) -> &[f32] {
        &self.floats[tile.start * self.k..][..tile.width * self.k]
    }

    /// Takes in `x` (rows, k): quantized if `int8`, and as floats if `float`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn fill(
        &mut self,
        team: &Team,
        x: &[f32],
        k: usize,
        (int8, float): (bool, bool),
    ) -> Result<()> {
        self.k = k;
        self.rows = x.len() / k.max(1);
        self.tiles = cut(self.rows, team.isa());
        let words = if int8 { self.rows * k.div_ceil(GROUP) * WORDS } else { 0 };
        resize(&mut self.quantized, words)?;
        resize(&mut self.floats, if float { self.rows * k } else { 0 })?;
        if int8 {
            let per_token = k.div_ceil(GROUP) * WORDS;
            let mut rest = self.quantized.as_mut_slice();
            let mut jobs = Vec::with_capacity(self.tiles.len());
            for tile in &self.tiles {
                let (words, tail) = rest.split_at_mut(tile.width * per_token);
                rest = tail;
                jobs.push(Quantize { x: &x[tile.start * k..][..tile.width * k], k, words });
            }
            team.each_chunk(&mut jobs, 1, &Brake::none(), |_, job| team.isa().run(&mut job[0]));
        }
        if float {
            for tile in &self.tiles {
                let out = &mut self.floats[tile.start * k..][..tile.width * k];
                let x = &x[tile.start * k..][..tile.width * k];
                for (t, row) in x.chunks_exact(k).enumerate() {
                    for (i, &v) in row.iter().enumerate() {
                        out[i * tile.width + t] = v;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Cuts `rows` tokens into tiles: as many widest ones as fit, then powers of two.
fn cut(rows: usize, isa: Isa) -> Vec<Tile> {
    struct MaxTile;
    impl Op for MaxTile {
        type Output = usize;
        fn run<L: Lanes>(self, _: L) -> usize {
            L::MAX_TILE
        }
    }
    let widest = isa.run(MaxTile);
    let mut tiles = Vec::with_capacity(rows / widest + 4);
    let mut start = 0;
    while start < rows {
        let left = rows - start;
        let width = if left >= widest { widest } else { 1 << left.ilog2() };
        tiles.push(Tile { start, width });
        start += width;
    }
    tiles
}

/// Quantizes the tokens of one tile to int8 with one f32 scale per 32 columns.
///
/// `d = max|x| / 127`, `q = round_ties_even(x · (127 / max|x|))`; a group below 1e-30 becomes zero,
/// one that holds NaN or infinity becomes NaN.
pub(crate) struct Quantize<'a> {
    /// (width, k).
    x: &'a [f32],
    k: usize,
    words: &'a mut [i32],
}

impl Op for &mut Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let width = self.x.len() / self.k;
        for (t, row) in self.x.chunks_exact(self.k).enumerate() {
            let records = self.words.chunks_exact_mut(WORDS * width);
            for (group, record) in row.chunks(GROUP).zip(records) {
                let mut x = [0.0; GROUP];
                x[..group.len()].copy_from_slice(group);
                quantize_group(isa, &x, |word, value| record[word * width + t] = value);
            }
        }
    }
}

#[inline(always)]
fn quantize_group<L: Lanes>(isa: L, x: &[f32; GROUP], mut put: impl FnMut(usize, i32)) {
    let (halves, _) = x.as_chunks::<LANES>();
    let halves = [isa.load(&halves[0]), isa.load(&halves[1])];
    let abs = halves.map(|h| isa.and_i(isa.as_i(h), isa.splat_i(i32::MAX)));
    // As integers the bits of non-negative floats order like the floats, NaN above infinity:
    // the maximum does not depend on the order.
    let mut lanes = [0; LANES];
    isa.store_i(isa.max_i(abs[0], abs[1]), &mut lanes);
    let max = f32::from_bits(lanes.into_iter().fold(0, Ord::max).cast_unsigned());
    let (scale, inverse) = match max {
        m if !m.is_finite() => (f32::NAN, 0.0),
        m if m < 1e-30 => (0.0, 0.0),
        m => (m / 127.0, 127.0 / m),
    };
    let mut sums = [0; 2];
    for (half, &x) in halves.iter().enumerate() {
        let mut q = [0; LANES];
        if inverse > 0.0 {
            isa.store_i(isa.round(isa.mul(x, isa.splat(inverse))), &mut q);
        }
        sums[half] = q.iter().sum();
        for (j, q) in q.as_chunks::<4>().0.iter().enumerate() {
            put(4 * half + j, i32::from_le_bytes(q.map(|q| q as u8)));
        }
    }
    let word = |x: f32| x.to_bits().cast_signed();
    put(8, word(scale));
    put(9, word(scale * (sums[0] + sums[1]) as f32));
    put(10, sums[0]);
    put(11, sums[1]);
    put(12, word(scale * sums[0] as f32));
    put(13, word(scale * sums[1] as f32));
}
