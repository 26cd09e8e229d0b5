//! How tokens are cut into tiles: how many, and how wide; what stands in them is in `activations.rs`.

use super::buffer::resize;
use super::lanes::{LANES, Lanes};
use super::{Isa, Op};
use crate::error::Result;

/// Tiles up to which it is quicker to unpack weights for each tile than to write them to a panel,
/// where panels are not multiplied as matrices.
pub(super) const FEW_TILES: usize = 4;

/// Tokens up to which matrices are no quicker: AMX reads 64 tokens 1.3 times as fast as without
/// them, and 32 as fast (benches/RESULTS.md).
const FEW_TOKENS: usize = 2 * LANES;

/// Consecutive tokens that a kernel keeps in registers together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// The first token.
    pub(super) start: usize,
    /// Tokens.
    pub(super) rows: usize,
    /// Places for tokens, one of `WIDTHS`; those past `rows` hold zeros.
    pub(super) width: usize,
    /// Places in the tiles before.
    pub(super) before: usize,
}

impl Default for Tile {
    fn default() -> Self {
        Self { start: 0, rows: 0, width: 1, before: 0 }
    }
}

/// Widths of tiles for which there are kernels.
pub(super) const WIDTHS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// The narrowest tile for `rows` tokens.
fn width(rows: usize) -> usize {
    WIDTHS.into_iter().find(|&width| width >= rows).unwrap_or(rows)
}

/// How many tiles of about equal size are quickest: as few as possible, or one more if that leaves
/// fewer places empty.
fn n_tiles(rows: usize, max_width: usize) -> usize {
    // Unpacking and scales cost a tile about as much as one and a half more tokens.
    let cost = |n: usize| n * (2 * width(rows.div_ceil(n)) + 3);
    let least = rows.div_ceil(max_width);
    if least > 1 && cost(least + 1) < cost(least) { least + 1 } else { least }
}

/// Tokens of the widest tile that an instruction set keeps in registers.
pub(super) const MOST_STREAMED: usize = 12;

/// Tokens of an instruction set's widest tile.
pub(super) const fn widest<L: Lanes>() -> usize {
    if L::MATRICES { LANES } else { L::MAX_TILE }
}

/// Tokens of the narrowest tile that meets weights in panels, as [`cut`] makes them.
pub(super) const fn least_in_panels<L: Lanes>() -> usize {
    if L::MATRICES { LANES } else { least_of_many(L::MAX_TILE) }
}

/// The narrowest of more than [`FEW_TILES`] tiles, as [`n_tiles`] makes them.
const fn least_of_many(max_width: usize) -> usize {
    max_width * 2 / 3
}

/// How many tiles `rows` tokens are cut into, how wide all of them are if that is fixed, and whether
/// they meet weights in panels.
struct Cut {
    rows: usize,
    /// Whether any of the weights are quantized.
    codes: bool,
}

impl Op for Cut {
    type Output = (usize, Option<usize>, bool);

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Self::Output {
        if L::MATRICES && self.codes && self.rows > FEW_TOKENS {
            return (self.rows.div_ceil(LANES), Some(LANES), true);
        }
        let n = n_tiles(self.rows, L::MAX_TILE);
        (n, None, n > FEW_TILES)
    }
}

/// Cuts `rows` tokens into tiles; true if they meet quantized weights, if there are `codes`, in panels.
pub(super) fn cut(rows: usize, codes: bool, isa: Isa, tiles: &mut Vec<Tile>) -> Result<bool> {
    let (n_tiles, fixed, in_panels) = isa.run(Cut { rows, codes });
    resize(tiles, n_tiles)?;
    let (mut start, mut before) = (0, 0);
    for (i, tile) in tiles.iter_mut().enumerate() {
        let rows = rows / n_tiles + usize::from(i < rows % n_tiles);
        let width = fixed.unwrap_or_else(|| width(rows));
        *tile = Tile { start, rows, width, before };
        start += rows;
        before += tile.width;
    }
    Ok(in_panels)
}

#[cfg(test)]
mod tests {
    use super::{FEW_TILES, FEW_TOKENS, least_of_many, n_tiles, width};

    #[test]
    fn tiles_are_few_and_full_and_wide_enough_for_panels() {
        assert_eq!(
            [1, 12, 13, 24, 32, 33, 264].map(|rows| n_tiles(rows, 12)),
            [1, 1, 2, 2, 4, 3, 22]
        );
        // With matrices, what is too little for them is too little for other panels, too.
        assert!((1..=FEW_TOKENS).all(|rows| n_tiles(rows, 12) <= FEW_TILES));
        for max in [2, 4, 12] {
            for rows in 1..2000 {
                let n = n_tiles(rows, max);
                let narrowest = width(rows / n);
                assert!(width(rows.div_ceil(n)) <= max, "{rows} {max}");
                let least = least_of_many(max);
                assert!(n <= FEW_TILES || narrowest >= least, "{rows} {max}: {narrowest} wide");
            }
        }
    }
}
