//! Activations as the matrix kernels read them: int8 in tiles of tokens, or f32.

use super::buffer::{Words, resize};
use super::forms::Needs;
use super::lanes::{LANES, Lanes};
use super::panel::Panels;
use super::team::Disjoint;
use super::tokens::{self, Tile};
use super::{Brake, Op, Team};
use crate::error::Result;

/// Columns that share an activation scale.
pub(crate) const GROUP: usize = 32;
/// Words that one token has in each 32-column group of a tile: see [`word`].
pub(super) const WORDS: usize = 15;

/// What stands in the words of a group, besides the codes of columns 4j..4j + 4 in word j < 8.
pub(super) mod word {
    /// The scale d, as f32 bits.
    pub(in super::super) const SCALE: usize = 8;
    /// −[`UNIT`]·Σq of all 32 columns: what an offset of 8 takes from each code, as a sum's start.
    pub(in super::super) const START: usize = 9;
    /// The offset of four-bit weights; other offsets are this times a power of two.
    pub(in super::super) const UNIT: i32 = 8;
    /// d·Σq of all 32 columns, as f32 bits.
    pub(in super::super) const SCALED_SUM: usize = 10;
    /// −[`HALF_UNIT`]·Σq of columns 0..16 and 16..32.
    pub(in super::super) const HALF_START: usize = 11;
    /// The offset of six-bit weights, whose halves are summed up apart.
    pub(in super::super) const HALF_UNIT: i32 = 32;
    /// d·Σq of columns 0..16 and 16..32, as f32 bits.
    pub(in super::super) const HALF_SCALED_SUM: usize = 13;
}

/// Rows that activations are taken from, computed as they are taken.
pub(crate) trait Source: Sync {
    /// Columns 32g..32g + 32 of `row`, zeros past the last column.
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2];
}

/// Rows in memory, one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    /// (rows, k).
    pub(crate) x: &'a [f32],
    pub(crate) k: usize,
}

impl Source for Plain<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        load_group(isa, &self.x[row * self.k..][..self.k], g)
    }
}

/// Some rows of another source, in the order of `rows`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked<'a, S> {
    pub(crate) source: &'a S,
    pub(crate) rows: &'a [usize],
}

impl<S: Source> Source for Picked<'_, S> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        self.source.group(isa, self.rows[row], g)
    }
}

/// Elements 32g..32g + 32 of `x`, zeros past its end.
#[inline(always)]
pub(crate) fn load_group<L: Lanes>(isa: L, x: &[f32], g: usize) -> [L::F; 2] {
    let rest = &x[(g * GROUP).min(x.len())..];
    if let Some(group) = rest.first_chunk::<GROUP>() {
        let (halves, _) = group.as_chunks::<LANES>();
        return [isa.load(&halves[0]), isa.load(&halves[1])];
    }
    let mut padded = [0.0; GROUP];
    padded[..rest.len()].copy_from_slice(rest);
    let (halves, _) = padded.as_chunks::<LANES>();
    [isa.load(&halves[0]), isa.load(&halves[1])]
}

/// Rows of activations, (m, k), ready to be multiplied.
///
/// Tokens are grouped in tiles that a kernel keeps in registers. For each group of 32 columns a tile
/// holds `WORDS` rows of its width: see [`word`]. Where panels are multiplied as matrices
/// ([`Lanes::MATRICES`]), a token's eight words of codes stand together instead.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    k: usize,
    tiles: Vec<Tile>,
    /// Whether the tiles meet weights in panels.
    in_panels: bool,
    words: Words,
    floats: Vec<f32>,
    /// Room in which the matrix kernel unpacks weights.
    pub(super) panels: Panels,
    /// Room for the columns in another order.
    pub(super) gathered: Option<Box<Self>>,
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
    pub(super) fn in_panels(&self) -> bool {
        self.in_panels
    }

    /// The words of `tile`, `k / 32` (rounded up) records of `WORDS · width`.
    #[inline(always)]
    pub(super) fn words(&self, tile: Tile) -> &[i32] {
        let per_place = self.k.div_ceil(GROUP) * WORDS;
        &self.words.get()[tile.before * per_place..][..tile.width * per_place]
    }

    /// The floats of `tile`: `k` (rounded up to 32) rows of `width`.
    #[inline(always)]
    pub(super) fn floats(&self, tile: Tile) -> &[f32] {
        let per_place = self.k.next_multiple_of(GROUP);
        &self.floats[tile.before * per_place..][..tile.width * per_place]
    }

    /// Takes in `rows` rows of `k` columns in the shapes that `needs` names.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn fill(
        &mut self,
        team: &Team<'_>,
        source: &impl Source,
        (rows, k): (usize, usize),
        needs: Needs,
    ) -> Result<()> {
        self.reserve(team, (rows, k), needs)?;
        let n_groups = k.div_ceil(GROUP);
        let (words, floats) =
            (Disjoint::new(self.words.get_mut()), Disjoint::new(&mut self.floats));
        let per_job = groups_per_job(&self.tiles, n_groups, team.threads());
        let jobs_per_tile = n_groups.div_ceil(per_job).max(1);
        let (tiles, in_panels) = (&self.tiles, self.in_panels);
        team.each(tiles.len() * jobs_per_tile, &Brake::none(), |job| {
            let tile = tiles[job / jobs_per_tile];
            let first = job % jobs_per_tile * per_job;
            let groups = first..n_groups.min(first + per_job);
            let part = |per_group: usize| {
                let start = (tile.before * n_groups + tile.width * groups.start) * per_group;
                start..start + tile.width * groups.len() * per_group
            };
            if needs.codes {
                // SAFETY: these groups of this tile: each job has its own.
                let words = unsafe { words.part(part(WORDS)) };
                team.isa().run(Quantize { source, tile, first, in_panels, words });
            }
            if needs.floats {
                // SAFETY: as above.
                let floats = unsafe { floats.part(part(GROUP)) };
                team.isa().run(Transpose { source, tile, first, floats });
            }
        });
        Ok(())
    }

    /// Makes room for what [`fill`](Self::fill) takes in.
    pub(super) fn reserve(
        &mut self,
        team: &Team<'_>,
        (rows, k): (usize, usize),
        needs: Needs,
    ) -> Result<()> {
        (self.rows, self.k) = (rows, k);
        self.in_panels = tokens::cut(rows, needs.codes, team.isa(), &mut self.tiles)?;
        let places = self.tiles.last().map_or(0, |tile| tile.before + tile.width);
        let n_groups = k.div_ceil(GROUP);
        let len =
            |wanted: bool, per_group: usize| if wanted { places * n_groups * per_group } else { 0 };
        self.words.reserve(len(needs.codes, WORDS))?;
        resize(&mut self.floats, len(needs.floats, GROUP))?;
        if needs.codes && self.in_panels {
            self.panels.reserve(team.threads(), n_groups)?;
        }
        if needs.gathered {
            let gathered = self.gathered.get_or_insert_default();
            gathered.reserve(team, (rows, k), super::gather::NEEDS)?;
        }
        Ok(())
    }
}

/// Groups of a tile that one thread takes at a time: all of them where there are many tiles, and in
/// one go what takes less time than handing it out.
fn groups_per_job(tiles: &[Tile], n_groups: usize, threads: usize) -> usize {
    /// About a microsecond of work.
    const LEAST: usize = 128;
    let places = tiles.first().map_or(1, |tile| tile.width);
    if tiles.len() >= 4 * threads {
        return n_groups.max(1);
    }
    n_groups.div_ceil(threads).max(LEAST / places).max(1)
}

/// Quantizes some groups of one tile to int8 with one f32 scale per 32 columns.
///
/// `d = max|x| / 127`, `q = round_ties_even(x · (127 / max|x|))`; a group below 1e-30 becomes zero,
/// one that holds NaN or infinity becomes NaN.
struct Quantize<'a, S> {
    source: &'a S,
    tile: Tile,
    /// The first group.
    first: usize,
    in_panels: bool,
    words: &'a mut [i32],
}

impl<S: Source> Op for Quantize<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let Tile { start, rows, width, .. } = self.tile;
        let by_token = L::MATRICES && self.in_panels;
        for (g, record) in self.words.chunks_exact_mut(WORDS * width).enumerate() {
            for t in 0..rows {
                let x = self.source.group(isa, start + t, self.first + g);
                let words = quantize_group(isa, x);
                for (j, word) in words.into_iter().enumerate() {
                    let at = if by_token && j < word::SCALE { 8 * t + j } else { j * width + t };
                    record[at] = word;
                }
            }
            for t in rows..width {
                let by_place = if by_token { word::SCALE } else { 0 };
                let (codes, rest) = record.split_at_mut(by_place * width);
                codes[by_place * t..by_place * (t + 1)].fill(0);
                rest.iter_mut().skip(t).step_by(width).for_each(|word| *word = 0);
            }
        }
    }
}

#[inline(always)]
fn quantize_group<L: Lanes>(isa: L, x: [L::F; 2]) -> [i32; WORDS] {
    // As integers the bits of non-negative floats order like the floats, NaN above infinity:
    // the maximum does not depend on the order.
    let magnitude = isa.splat_i(i32::MAX);
    let low = isa.and_i(isa.as_i(x[0]), magnitude);
    let high = isa.and_i(isa.as_i(x[1]), magnitude);
    let max = f32::from_bits(isa.max_lanes(isa.max_i(low, high)).cast_unsigned());
    let (scale, inverse) = match max {
        m if !m.is_finite() => (f32::NAN, 0.0),
        m if m < 1e-30 => (0.0, 0.0),
        m => (m / 127.0, 127.0 / m),
    };
    let mut words = [0; WORDS];
    words[word::SCALE] = scale.to_bits().cast_signed();
    if inverse == 0.0 {
        // Σq is 0; with a NaN scale everything that it meets is NaN.
        let nothing = (scale * 0.0).to_bits().cast_signed();
        words[word::SCALED_SUM] = nothing;
        words[word::HALF_SCALED_SUM] = nothing;
        words[word::HALF_SCALED_SUM + 1] = nothing;
        return words;
    }
    let mut sums = [0; 2];
    for (half, x) in x.into_iter().enumerate() {
        let q = isa.round(isa.mul(x, isa.splat(inverse)));
        sums[half] = isa.sum_lanes_i(q);
        let (quads, _) = words.as_chunks_mut::<4>();
        quads[half] = isa.narrow(q);
    }
    let [low, high] = sums;
    let scaled = |sum: i32| (scale * sum as f32).to_bits().cast_signed();
    words[word::START] = -word::UNIT * (low + high);
    words[word::SCALED_SUM] = scaled(low + high);
    for (half, sum) in sums.into_iter().enumerate() {
        words[word::HALF_START + half] = -word::HALF_UNIT * sum;
        words[word::HALF_SCALED_SUM + half] = scaled(sum);
    }
    words
}

/// Writes some groups of one tile as floats, token by token for each column.
struct Transpose<'a, S> {
    source: &'a S,
    tile: Tile,
    first: usize,
    floats: &'a mut [f32],
}

impl<S: Source> Op for Transpose<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let Tile { start, rows, width, .. } = self.tile;
        self.floats.fill(0.0);
        for (g, columns) in self.floats.chunks_exact_mut(GROUP * width).enumerate() {
            for t in 0..rows {
                let halves = self.source.group(isa, start + t, self.first + g);
                let mut lanes = [[0.0; LANES]; 2];
                isa.store(halves[0], &mut lanes[0]);
                isa.store(halves[1], &mut lanes[1]);
                for (column, x) in columns.chunks_exact_mut(width).zip(lanes.as_flattened()) {
                    column[t] = *x;
                }
            }
        }
    }
}
