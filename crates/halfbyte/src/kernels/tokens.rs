//! How tokens are cut into tiles.

use super::buffer::resize;
use super::lanes::Lanes;
use super::{Isa, Op};
use crate::error::Result;

/// Tiles up to which it is quicker to unpack weights for each tile than to write them to a panel.
pub(super) const FEW_TILES: usize = 4;

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
pub(super) const WIDTHS: [usize; 7] = [1, 2, 3, 4, 6, 8, 12];

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

/// Tokens of the widest tile of all instruction sets.
pub(super) const MOST_TOKENS: usize = WIDTHS[WIDTHS.len() - 1];

/// The narrowest of more than [`FEW_TILES`] tiles, as [`cut`] makes them.
pub(super) const fn least_in_panels(max_tile: usize) -> usize {
    max_tile * 2 / 3
}

/// Cuts `rows` tokens into tiles.
pub(super) fn cut(rows: usize, isa: Isa, tiles: &mut Vec<Tile>) -> Result<()> {
    struct MaxTile;
    impl Op for MaxTile {
        type Output = usize;
        fn run<L: Lanes>(self, _: L) -> usize {
            L::MAX_TILE
        }
    }
    let n_tiles = n_tiles(rows, isa.run(MaxTile));
    resize(tiles, n_tiles)?;
    let (mut start, mut before) = (0, 0);
    for (i, tile) in tiles.iter_mut().enumerate() {
        let rows = rows / n_tiles + usize::from(i < rows % n_tiles);
        *tile = Tile { start, rows, width: width(rows), before };
        start += rows;
        before += tile.width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FEW_TILES, least_in_panels, n_tiles, width};

    #[test]
    fn tiles_are_few_and_full_and_wide_enough_for_panels() {
        assert_eq!(
            [1, 12, 13, 24, 32, 33, 264].map(|rows| n_tiles(rows, 12)),
            [1, 1, 2, 2, 4, 3, 22]
        );
        for max in [2, 4, 12] {
            for rows in 1..2000 {
                let n = n_tiles(rows, max);
                let narrowest = width(rows / n);
                assert!(width(rows.div_ceil(n)) <= max, "{rows} {max}");
                let least = least_in_panels(max);
                assert!(n <= FEW_TILES || narrowest >= least, "{rows} {max}: {narrowest} wide");
            }
        }
    }
}
