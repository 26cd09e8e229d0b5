//! Weights times activations: one generic loop for every form, batch and instruction set.

use std::ops::Range;

use super::activations::{Activations, GROUP, Tile, WORDS, word};
use super::buffer::Line;
use super::forms::{Form, Packed, Scale};
use super::lanes::{Codes, LANES, Lanes, load_padded, store_prefix};
use super::panel;
use super::team::Disjoint;
use super::tiles::{self, Group, Terms, TileForm};
use super::{Brake, Op, Team};

/// Where a product goes: some columns of wider rows.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// (m, stride).
    pub(crate) out: &'a mut [f32],
    /// Elements of an output row.
    pub(crate) stride: usize,
    /// The first column.
    pub(crate) first: usize,
    /// Added to each row of the product, (n).
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether the product is added to what is there, or replaces it.
    pub(crate) add: bool,
}

/// Bytes of weights that a thread streams at a time: long enough to stream, short enough to share
/// out evenly and to cancel within milliseconds.
const JOB_BYTES: usize = 128 << 10;

/// `out[m, first + n] (+)= Σₖ w[n, k] · x[m, k] (+ bias[n])`.
///
/// `w` (n, k), `x` (m, k). Each element is one fixed sequence of operations (README.md §3): the same
/// bits for any team, batch and instruction set. Once `brake` is pulled the rest of `out` stays as
/// it was.
///
/// # Panics
///
/// If the shapes disagree.
pub(crate) fn matmul(
    team: &Team<'_>,
    brake: &Brake<'_>,
    w: &Packed,
    x: &mut Activations,
    target: Target<'_>,
) {
    let (n, rows) = (w.n(), x.rows());
    assert!(w.k() == x.k(), "weights have {} columns, activations {}", w.k(), x.k());
    assert!(target.first + n <= target.stride, "columns outside the row");
    assert!(target.out.len() == rows * target.stride, "output of another size");
    assert!(target.bias.is_none_or(|bias| bias.len() == n), "bias of another size");
    let Target { out, stride, first, bias, add } = target;
    let output = Output { out: Disjoint::new(out), n, stride, first, bias, add };
    let n_groups = w.n_groups();
    if x.tiles().len() > 1 && !w.form().is_float() {
        let mut panels = std::mem::take(&mut x.panels);
        let per_job = panels.row_groups(tiles::terms(w.form()));
        let (lines, per_thread) = panels.shared();
        team.each_worker(n_groups.div_ceil(per_job), brake, |worker, job| {
            let groups = job * per_job..n_groups.min((job + 1) * per_job);
            // SAFETY: each thread has its own panel, and runs one job at a time.
            let panel = unsafe { lines.part(worker * per_thread..(worker + 1) * per_thread) };
            team.isa().run(Product { w, x, groups, panel: Some(panel), output: &output });
        });
        x.panels = panels;
    } else {
        let per_job = (JOB_BYTES / w.group_bytes().max(1)).max(1);
        team.each(n_groups.div_ceil(per_job), brake, |job| {
            let groups = job * per_job..n_groups.min((job + 1) * per_job);
            team.isa().run(Product { w, x, groups, panel: None, output: &output });
        });
    }
}

/// A [`Target`] that several threads write.
struct Output<'a> {
    out: Disjoint<'a, f32>,
    n: usize,
    stride: usize,
    first: usize,
    bias: Option<&'a [f32]>,
    add: bool,
}

impl Output<'_> {
    /// Writes a tile's sums of row group `group`, leaving out padded rows and padded tokens.
    #[inline(always)]
    fn store<L: Lanes, const W: usize>(&self, isa: L, group: usize, tile: Tile, sums: [L::F; W]) {
        let row = group * LANES;
        let n = LANES.min(self.n - row);
        let bias = self.bias.map(|bias| &bias[row..row + n]);
        for t in 0..W.min(tile.rows) {
            let at = (tile.start + t) * self.stride + self.first + row;
            // SAFETY: this row group's columns of this token's row; every group and token is
            // computed once, so no other part meets it.
            let out = unsafe { self.out.part(at..at + n) };
            let mut sum = sums[t];
            if let Some(bias) = bias {
                sum = isa.add(sum, load_padded(isa, bias, 0.0));
            }
            if self.add {
                sum = isa.add(load_padded(isa, out, 0.0), sum);
            }
            store_prefix(isa, sum, out);
        }
    }
}

/// Some row groups of weights times all tokens.
struct Product<'a> {
    w: &'a Packed,
    x: &'a Activations,
    groups: Range<usize>,
    /// Where to unpack the weights, if they serve more than one tile.
    panel: Option<&'a mut [Line]>,
    output: &'a Output<'a>,
}

impl Op for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        use tiles::{F16Scale, F32Scale};
        match self.w.form() {
            Form::Q4(Scale::F16) => self.quantized(isa, tiles::Q4::<F16Scale>::NEW),
            Form::Q4(Scale::F32) => self.quantized(isa, tiles::Q4::<F32Scale>::NEW),
            Form::Q4Codebook(Scale::F16, table) => {
                self.quantized(isa, tiles::Q4Codebook::<F16Scale>::new(table));
            }
            Form::Q4Codebook(Scale::F32, table) => {
                self.quantized(isa, tiles::Q4Codebook::<F32Scale>::new(table));
            }
            Form::Q4Affine => self.quantized(isa, tiles::Q4Affine),
            Form::Q4K => self.quantized(isa, tiles::Q4K),
            Form::Q6K => self.quantized(isa, tiles::Q6K),
            Form::Q8 => self.quantized(isa, tiles::Q8),
            Form::Q8Halves => self.quantized(isa, tiles::Q8Halves),
            Form::Q8Affine => self.quantized(isa, tiles::Q8Affine),
            Form::Q8AffineHalves => self.quantized(isa, tiles::Q8AffineHalves),
            form @ (Form::F16 | Form::BF16 | Form::F32) => self.float(isa, form),
        }
    }
}

/// Calls `$body` with `$W` bound to the tile's width, from `$least` to the instruction set's most.
///
/// The guards are `const`, so that nothing is compiled for tiles that an instruction set lacks.
macro_rules! with_width {
    ($tile:expr, $L:ident, $least:expr, $W:ident => $body:expr) => {
        with_width!(@ $tile, $L, $least, $W => $body, 1 2 3 4 6 8 12)
    };
    (@ $tile:expr, $L:ident, $least:expr, $W:ident => $body:expr, $($width:literal)*) => {
        match $tile.width {
            $($width if const { $least <= $width && $width <= $L::MAX_TILE } => {
                const $W: usize = $width;
                $body
            })*
            width => unreachable!("no tile is {width} wide"),
        }
    };
}

impl Product<'_> {
    #[inline(always)]
    fn quantized<L: Lanes, T: TileForm>(self, isa: L, form: T) {
        let Self { w, x, groups, panel, output } = self;
        let Some(panel) = panel else {
            for group in groups {
                for &tile in x.tiles() {
                    with_width!(tile, L, 1, W => {
                        let sums = stream::<L, T, W>(isa, form, w.group(group), x.words(tile));
                        output.store(isa, group, tile, sums);
                    });
                }
            }
            return;
        };
        let per_row_group = w.k().div_ceil(GROUP) * T::TERMS.lines();
        for (group, panel) in groups.clone().zip(panel.chunks_exact_mut(per_row_group)) {
            panel::unpack(isa, form, w.group(group), panel);
        }
        // Of several tiles none is narrower than half the widest (`activations::cut`).
        for &tile in x.tiles() {
            let words = x.words(tile);
            for (group, panel) in groups.clone().zip(panel.chunks_exact(per_row_group)) {
                with_width!(tile, L, L::MAX_TILE / 2, W => {
                    let sums = unpacked::<L, T, W>(isa, panel, words);
                    output.store(isa, group, tile, sums);
                });
            }
        }
    }

    #[inline(always)]
    fn float<L: Lanes>(self, isa: L, form: Form) {
        for group in self.groups {
            let bytes = self.w.group(group);
            for &tile in self.x.tiles() {
                let x = self.x.floats(tile);
                with_width!(tile, L, 1, W => {
                    let sums = float_tile::<L, W>(isa, form, self.w.k(), bytes, x);
                    self.output.store(isa, group, tile, sums);
                });
            }
        }
    }
}

/// The sums of sixteen packed rows over all columns, for W tokens.
#[inline(always)]
fn stream<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    form: T,
    bytes: &[u8],
    words: &[i32],
) -> [L::F; W] {
    let mut acc = [isa.splat(0.0); W];
    let (rows, _) = words.as_chunks::<W>();
    for (b, record) in rows.as_chunks::<WORDS>().0.iter().enumerate() {
        let group = form.group(isa, bytes, b);
        add_group::<L, T, W>(isa, &group, record, &mut acc);
    }
    acc
}

/// As [`stream`], from a panel.
#[inline(always)]
fn unpacked<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    panel: &[Line],
    words: &[i32],
) -> [L::F; W] {
    let mut acc = [isa.splat(0.0); W];
    let (rows, _) = words.as_chunks::<W>();
    let records = rows.as_chunks::<WORDS>().0;
    for (lines, record) in panel.chunks_exact(T::TERMS.lines()).zip(records) {
        let group = panel::group::<L, T>(isa, lines);
        add_group::<L, T, W>(isa, &group, record, &mut acc);
    }
    acc
}

/// Adds one 32-column group's terms to the tokens' sums: the sequence of README.md §3.
///
/// Loops and inlined functions only: the compiler may leave a closure, or what `array::map` calls,
/// outside, where vectors travel through memory.
#[inline(always)]
fn add_group<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    group: &Group<L>,
    record: &[[i32; W]; WORDS],
    acc: &mut [L::F; W],
) {
    let (lines, scales) = (&group.lines, &record[word::SCALE]);
    match const { T::TERMS } {
        Terms::Scale | Terms::ScaleMin => {
            let sums = isa.dots(
                T::CODES,
                lines,
                &record[..8],
                starts::<L, T, W>(isa, &record[word::START]),
            );
            for t in 0..W {
                acc[t] = scaled(isa, group.scale[0], scales[t], sums[t], acc[t]);
                if T::TERMS == Terms::ScaleMin {
                    acc[t] = isa.fma(group.min[0], float(isa, record[word::SCALED_SUM][t]), acc[t]);
                }
            }
        }
        Terms::ScaleHalves | Terms::ScaleMinHalves => {
            let [low, high] = halves::<L, T, W>(isa, lines, record);
            for t in 0..W {
                acc[t] = scaled(isa, group.scale[0], scales[t], low[t], acc[t]);
                acc[t] = scaled(isa, group.scale[1], scales[t], high[t], acc[t]);
                if T::TERMS == Terms::ScaleMinHalves {
                    for (half, &min) in group.min.iter().enumerate() {
                        let sum = record[word::HALF_SCALED_SUM + half][t];
                        acc[t] = isa.fma(min, float(isa, sum), acc[t]);
                    }
                }
            }
        }
        Terms::SubHalves => {
            let [low, high] = halves::<L, T, W>(isa, lines, record);
            for t in 0..W {
                let low = isa.mul_i(low[t], group.sub[0]);
                let sum = isa.add_i(low, isa.mul_i(high[t], group.sub[1]));
                acc[t] = scaled(isa, group.scale[0], scales[t], sum, acc[t]);
            }
        }
    }
}

/// The sums of columns 0..16 and 16..32.
#[inline(always)]
fn halves<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    lines: &[L::B; 8],
    record: &[[i32; W]; WORDS],
) -> [[L::I; W]; 2] {
    let low = starts::<L, T, W>(isa, &record[word::HALF_START]);
    let high = starts::<L, T, W>(isa, &record[word::HALF_START + 1]);
    [
        isa.dots(T::CODES, &lines[..4], &record[..4], low),
        isa.dots(T::CODES, &lines[4..], &record[4..8], high),
    ]
}

/// `fma(scale · d, sum, acc)`, with d as bits.
#[inline(always)]
fn scaled<L: Lanes>(isa: L, scale: L::F, d: i32, sum: L::I, acc: L::F) -> L::F {
    isa.fma(isa.mul(scale, float(isa, d)), isa.to_f(sum), acc)
}

#[inline(always)]
fn float<L: Lanes>(isa: L, bits: i32) -> L::F {
    isa.splat(f32::from_bits(bits.cast_unsigned()))
}

/// What Σ code·q starts at, so that it becomes Σ (code − OFFSET)·q: `eighths` is −8·Σq.
#[inline(always)]
fn starts<L: Lanes, T: TileForm, const W: usize>(isa: L, eighths: &[i32; W]) -> [L::I; W] {
    let offset = T::OFFSET + if T::CODES == Codes::I8 { L::I8_BIAS } else { 0 };
    let mut starts = [isa.splat_i(0); W];
    if offset > 0 {
        for t in 0..W {
            // A shift in lanes, not in a general register: those are dear to broadcast.
            starts[t] = isa.shl_i(isa.splat_i(eighths[t]), (offset / 8).unsigned_abs().ilog2());
        }
    }
    starts
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
        for t in 0..W {
            acc[t] = isa.fma(w, isa.splat(x[t]), acc[t]);
        }
    }
    acc
}
