//! Some row groups of weights times all tokens: the loops that every form and batch runs.

use std::ops::Range;

use super::activations::{Activations, GROUP, WORDS};
use super::buffer::Line;
use super::forms::{Form, Packed, Scale};
use super::kinds::{self, Kind};
use super::lanes::Lanes;
use super::matmul::Output;
use super::terms::{add_group, each_token};
use super::tiles::{self, TileForm};
use super::tokens::{FEW_TILES, MOST_STREAMED, Tile, least_in_panels, widest};
use super::{Op, panel};

/// 32-column groups that all tiles meet before the next ones: the first tile brings the weights
/// into the level-1 cache, and while the others use them there the processor fetches the next.
const SHORT_BLOCK: usize = 8;

/// 32-column groups of a panel that all its row groups meet: a tile's words, 15 for each of at most
/// sixteen tokens, stay in the level-1 cache.
const BLOCK: usize = 24;

/// Calls `$body` with `$W` bound to the tile's width, which is within `$widths`.
///
/// The guards are `const`, so that nothing is compiled for tiles that an instruction set lacks.
macro_rules! with_width {
    ($tile:expr, $least:expr, $most:expr, $W:ident => $body:expr) => {
        with_width!(@ $tile, $least, $most, $W => $body, 1 2 3 4 6 8 12 16)
    };
    (@ $tile:expr, $least:expr, $most:expr, $W:ident => $body:expr, $($width:literal)*) => {
        match $tile.width {
            $($width if const { $least <= $width && $width <= $most } => {
                const $W: usize = $width;
                $body
            })*
            width => unreachable!("no tile is {width} wide"),
        }
    };
}

/// Row groups `groups` of `w` times a few tiles, unpacked as they are read.
pub(super) struct Stream<'a> {
    pub(super) w: &'a Packed,
    pub(super) x: &'a Activations,
    pub(super) groups: Range<usize>,
    pub(super) output: &'a Output<'a>,
}

impl Op for Stream<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        tiles::with_form!(self.w.form(), form => self.quantized(isa, form), other => self.float(isa, other));
    }
}

impl Stream<'_> {
    /// A single token waits for memory only, unless its sums go there, too.
    #[inline(always)]
    fn token<L: Lanes, T: TileForm>(self, isa: L, form: T, tile: Tile, group_bytes: usize) {
        for group in self.groups {
            let mut sums = [isa.splat(0.0)];
            let weights = (form, self.w.group(group), group_bytes);
            add_columns::<L, T, 1>(isa, weights, 0, self.x.words(tile), &mut sums);
            self.output.store(isa, group, tile, &sums);
        }
    }

    #[inline(always)]
    fn quantized<L: Lanes, T: TileForm>(self, isa: L, form: T) {
        let (w, x) = (self.w, self.x);
        debug_assert!(!x.in_panels(), "{} tiles need a panel", x.tiles().len());
        let n_groups = w.k().div_ceil(GROUP);
        let group_bytes = w.group_bytes() / n_groups.max(1);
        if let [tile @ Tile { width: 1, .. }] = x.tiles() {
            return self.token(isa, form, *tile, group_bytes);
        }
        let block = if x.tiles().len() == 1 { n_groups.max(1) } else { SHORT_BLOCK };
        for group in self.groups.clone() {
            let weights = (form, w.group(group), group_bytes);
            let mut sums = [[isa.splat(0.0); MOST_STREAMED]; FEW_TILES];
            for first in (0..n_groups).step_by(block) {
                self.add_block(isa, weights, (first, block), &mut sums);
            }
            for (&tile, sums) in x.tiles().iter().zip(&sums) {
                with_width!(tile, 1, L::MAX_TILE, W => {
                    let sums = sums.first_chunk::<W>().expect("no tile is wider");
                    self.output.store(isa, group, tile, sums);
                });
            }
        }
    }

    /// Adds to the tiles' `sums` some columns: `block` groups of them from `first` on.
    #[inline(always)]
    fn add_block<L: Lanes, T: TileForm>(
        &self,
        isa: L,
        weights: (T, &[u8], usize),
        (first, block): (usize, usize),
        sums: &mut [[L::F; MOST_STREAMED]; FEW_TILES],
    ) {
        for (&tile, sums) in self.x.tiles().iter().zip(sums) {
            with_width!(tile, 1, L::MAX_TILE, W => {
                let words = &self.x.words(tile)[first * WORDS * W..];
                let words = &words[..words.len().min(block * WORDS * W)];
                let sums = sums.first_chunk_mut().expect("no tile is wider");
                add_columns::<L, T, W>(isa, weights, first, words, sums);
            });
        }
    }

    #[inline(always)]
    fn float<L: Lanes>(self, isa: L, form: Form) {
        for group in self.groups {
            let bytes = self.w.group(group);
            for &tile in self.x.tiles() {
                let x = self.x.floats(tile);
                with_width!(tile, 1, widest::<L>(), W => {
                    let sums = float_tile::<L, W>(isa, form, self.w.k(), bytes, x);
                    self.output.store(isa, group, tile, &sums);
                });
            }
        }
    }
}

/// Bytes of weights that are asked for ahead of those that are being multiplied.
const AHEAD: usize = 2048;

/// Adds to `sums` the columns from group `first` on that `words` hold.
#[inline(always)]
fn add_columns<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    (form, bytes, group_bytes): (T, &[u8], usize),
    first: usize,
    words: &[i32],
    sums: &mut [L::F; W],
) {
    let mut acc = *sums;
    let (rows, _) = words.as_chunks::<W>();
    for (b, record) in (first..).zip(rows.as_chunks::<WORDS>().0) {
        // A processor that is busy multiplying does not look ahead far enough by itself.
        for line in 0..group_bytes.div_ceil(64) {
            let address = bytes.as_ptr().wrapping_add(b * group_bytes + line * 64 + AHEAD);
            if const { W > 1 } { isa.prefetch(address) } else { isa.prefetch_once(address) }
        }
        let group = form.group(isa, bytes, b);
        add_group::<L, T::Kind, W>(isa, &group, None, record, &mut acc);
    }
    *sums = acc;
}

/// The sums of sixteen float rows, one fused multiply-add a column, for W tokens.
#[inline(always)]
fn float_tile<L: Lanes, const W: usize>(
    isa: L,
    form: Form,
    n_columns: usize,
    bytes: &[u8],
    x: &[f32],
) -> [L::F; W] {
    let mut acc = [isa.splat(0.0); W];
    for (k, x) in x.as_chunks::<W>().0.iter().take(n_columns).enumerate() {
        let w = tiles::float_column(isa, form, bytes, k);
        each_token!(TOKEN < W => acc[TOKEN] = isa.fma(w, isa.splat(x[TOKEN]), acc[TOKEN]));
    }
    acc
}

/// Unpacks row groups `groups` of `w` into `panel`.
pub(super) struct Unpack<'a> {
    pub(super) w: &'a Packed,
    pub(super) groups: Range<usize>,
    pub(super) panel: &'a mut [Line],
}

impl Op for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        let Self { w, groups, panel } = self;
        let lines = panel_lines(w);
        tiles::with_form!(w.form(), form => {
            for (group, panel) in groups.zip(panel.chunks_exact_mut(lines)) {
                panel::unpack(isa, form, w.group(group), panel);
            }
        }, _ => unreachable!("float weights need no panel"));
    }
}

/// Lines of a row group in a panel.
fn panel_lines(w: &Packed) -> usize {
    w.k().div_ceil(GROUP) * kinds::terms(w.form()).lines()
}

/// Row groups `groups` of `w`, which [`Unpack`] put into `panel`, times many tiles.
///
/// An operation of its own, since it depends on the kind of sums and not on the form.
pub(super) struct Multiply<'a> {
    pub(super) w: &'a Packed,
    pub(super) x: &'a Activations,
    pub(super) groups: Range<usize>,
    pub(super) panel: &'a [Line],
    pub(super) output: &'a Output<'a>,
}

impl Op for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        isa.begin_matrices();
        kinds::with_kind!(self.w.form(), K => self.tiles::<L, K>(isa));
        isa.end_matrices();
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, K: Kind>(self, isa: L) {
        for (i, &tile) in self.x.tiles().iter().enumerate() {
            with_width!(tile, least_in_panels::<L>(), widest::<L>(), W => self.tile::<L, K, W>(isa, i, tile));
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, K: Kind, const W: usize>(&self, isa: L, i: usize, tile: Tile) {
        let lines = panel_lines(self.w);
        self.output.prefetch(isa, &self.groups, tile);
        let mut sums = [[isa.splat(0.0); W]; panel::MOST_ROW_GROUPS];
        let words = self.x.words(tile).chunks(BLOCK * WORDS * W);
        let n_blocks = words.len();
        for (b, words) in words.enumerate() {
            self.prefetch_next(isa, i * n_blocks + b, self.x.tiles().len() * n_blocks);
            let first = b * BLOCK * K::TERMS.lines();
            let panels = self.panel.chunks_exact(lines).take(self.groups.len());
            for (panel, sums) in panels.zip(&mut sums) {
                add_panel::<L, K, W>(isa, &panel[first..], words, sums);
            }
        }
        for (group, sums) in self.groups.clone().zip(&sums) {
            self.output.store(isa, group, tile, sums);
        }
    }

    /// Asks for part `i` of `n` of the row groups that this thread will most likely unpack next.
    #[inline(always)]
    fn prefetch_next<L: Lanes>(&self, isa: L, i: usize, n: usize) {
        let bytes = self.groups.len() * self.w.group_bytes();
        let part = bytes.div_ceil(64).div_ceil(n) * 64;
        let start = self.groups.end * self.w.group_bytes() + i * part;
        for line in (start..start + part).step_by(64) {
            isa.prefetch(self.w.bytes().as_ptr().wrapping_add(line));
        }
    }
}

/// Adds to `sums` the columns that `words` hold, from a panel that starts with them.
#[inline(always)]
fn add_panel<L: Lanes, K: Kind, const W: usize>(
    isa: L,
    panel: &[Line],
    words: &[i32],
    sums: &mut [L::F; W],
) {
    let mut acc = *sums;
    let (rows, _) = words.as_chunks::<W>();
    let records = rows.as_chunks::<WORDS>().0;
    for (lines, record) in panel.chunks_exact(K::TERMS.lines()).zip(records) {
        let (group, codes) = panel::group::<L, K>(isa, lines);
        add_group::<L, K, W>(isa, &group, Some(codes), record, &mut acc);
    }
    *sums = acc;
}
