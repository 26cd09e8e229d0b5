//! Weights times activations: one generic loop for every form, batch and instruction set.

use super::activations::{Activations, GROUP, Tile, WORDS};
use super::forms::{Form, Packed, Scale};
use super::lanes::{Codes, LANES, Lanes};
use super::team::Disjoint;
use super::tiles::{self, Group, Terms, TileForm};
use super::{Brake, Op, Team};

/// Where a product's columns stand in a wider output row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// Elements of an output row.
    pub(crate) stride: usize,
    /// The first column.
    pub(crate) first: usize,
}

/// Row groups that a thread takes at a time: long enough to stream, short enough to cancel
/// within milliseconds.
const GROUPS_PER_JOB: usize = 16;

/// `out[m, first + n] = Σₖ w[n, k] · x[m, k]`.
///
/// `w` (n, k), `x` (m, k), `out` (m, stride). Each element is one fixed sequence of operations
/// (README.md §3): the same bits for any team, batch and instruction set. Once `brake` is pulled
/// the rest of `out` stays as it was.
///
/// # Panics
///
/// If the shapes disagree.
pub(crate) fn matmul(
    team: &Team,
    brake: &Brake<'_>,
    w: &Packed,
    x: &Activations,
    out: &mut [f32],
    columns: Columns,
) {
    assert!(w.k() == x.k(), "weights have {} columns, activations {}", w.k(), x.k());
    assert!(columns.first + w.n() <= columns.stride, "columns outside the row");
    assert!(
        out.len() == x.rows() * columns.stride,
        "output of {} for {} rows",
        out.len(),
        x.rows()
    );
    let out = Disjoint::new(out);
    team.each(w.n_groups().div_ceil(GROUPS_PER_JOB), brake, |job| {
        let first = job * GROUPS_PER_JOB;
        let last = (first + GROUPS_PER_JOB).min(w.n_groups());
        for group in first..last {
            team.isa().run(GroupProduct { w, x, group, out: &out, columns });
        }
    });
}

/// Sixteen rows of weights times all tokens.
struct GroupProduct<'a> {
    w: &'a Packed,
    x: &'a Activations,
    group: usize,
    out: &'a Disjoint<'a, f32>,
    columns: Columns,
}

impl Op for GroupProduct<'_> {
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

impl GroupProduct<'_> {
    #[inline(always)]
    fn quantized<L: Lanes, T: TileForm>(&self, isa: L, form: T) {
        let bytes = self.w.group(self.group);
        for &tile in self.x.tiles() {
            let words = self.x.quantized(tile);
            match tile.width {
                1 => self.store(isa, tile, quantized_tile::<L, T, 1>(isa, form, bytes, words)),
                2 => self.store(isa, tile, quantized_tile::<L, T, 2>(isa, form, bytes, words)),
                4 => self.store(isa, tile, quantized_tile::<L, T, 4>(isa, form, bytes, words)),
                8 if L::MAX_TILE >= 8 => {
                    self.store(isa, tile, quantized_tile::<L, T, 8>(isa, form, bytes, words));
                }
                12 if L::MAX_TILE >= 12 => {
                    self.store(isa, tile, quantized_tile::<L, T, 12>(isa, form, bytes, words));
                }
                width => unreachable!("no tile is {width} wide"),
            }
        }
    }

    #[inline(always)]
    fn float<L: Lanes>(&self, isa: L, form: Form) {
        let bytes = self.w.group(self.group);
        for &tile in self.x.tiles() {
            let x = self.x.floats(tile);
            match tile.width {
                1 => self.store(isa, tile, float_tile::<L, 1>(isa, form, bytes, x)),
                2 => self.store(isa, tile, float_tile::<L, 2>(isa, form, bytes, x)),
                4 => self.store(isa, tile, float_tile::<L, 4>(isa, form, bytes, x)),
                8 if L::MAX_TILE >= 8 => {
                    self.store(isa, tile, float_tile::<L, 8>(isa, form, bytes, x));
                }
                12 if L::MAX_TILE >= 12 => {
                    self.store(isa, tile, float_tile::<L, 12>(isa, form, bytes, x));
                }
                width => unreachable!("no tile is {width} wide"),
            }
        }
    }

    /// Writes a tile's sums, leaving out the padded rows of the last group.
    #[inline(always)]
    fn store<L: Lanes, const W: usize>(&self, isa: L, tile: Tile, sums: [L::F; W]) {
        let first = self.group * LANES;
        let n = LANES.min(self.w.n() - first);
        for (t, sum) in sums.into_iter().enumerate() {
            let mut lanes = [0.0; LANES];
            isa.store(sum, &mut lanes);
            let at = (tile.start + t) * self.columns.stride + self.columns.first + first;
            // SAFETY: this group's columns of this token's row; every group and token is computed
            // once, so no other part meets it.
            let out = unsafe { self.out.part(at..at + n) };
            out.copy_from_slice(&lanes[..n]);
        }
    }
}

/// The sums of sixteen quantized rows over all columns, for W tokens.
#[inline(always)]
fn quantized_tile<L: Lanes, T: TileForm, const W: usize>(
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

/// Adds one 32-column group's terms to the tokens' sums: the sequence of README.md §3.
#[inline(always)]
fn add_group<L: Lanes, T: TileForm, const W: usize>(
    isa: L,
    group: &Group<L>,
    record: &[[i32; W]; WORDS],
    acc: &mut [L::F; W],
) {
    let bias = T::OFFSET + if T::CODES == Codes::I8 { L::I8_BIAS } else { 0 };
    let sums = |lines: std::ops::Range<usize>, q_sums: [i32; W]| {
        // Σ (code − OFFSET)·q: the offset enters once, as the sum's start.
        let start = q_sums.map(|sum| isa.splat_i(-bias * sum));
        isa.dots(T::CODES, &group.lines[lines.clone()], &record[lines], start)
    };
    let whole = || sums(0..8, std::array::from_fn(|t| record[10][t] + record[11][t]));
    let halves = || [sums(0..4, record[10]), sums(4..8, record[11])];
    let float = |word: i32| isa.splat(f32::from_bits(word.cast_unsigned()));
    let scaled = |half: usize, t: usize, sum: L::I, acc: L::F| {
        isa.fma(isa.mul(group.scale[half], float(record[8][t])), isa.to_f(sum), acc)
    };
    let minimum = |half: usize, word: i32, acc: L::F| isa.fma(group.min[half], float(word), acc);
    match T::TERMS {
        Terms::Scale | Terms::ScaleMin => {
            let sums = whole();
            for t in 0..W {
                acc[t] = scaled(0, t, sums[t], acc[t]);
                if T::TERMS == Terms::ScaleMin {
                    acc[t] = minimum(0, record[9][t], acc[t]);
                }
            }
        }
        Terms::ScaleHalves | Terms::ScaleMinHalves => {
            let [low, high] = halves();
            for t in 0..W {
                acc[t] = scaled(1, t, high[t], scaled(0, t, low[t], acc[t]));
                if T::TERMS == Terms::ScaleMinHalves {
                    acc[t] = minimum(1, record[13][t], minimum(0, record[12][t], acc[t]));
                }
            }
        }
        Terms::SubHalves => {
            let [low, high] = halves();
            for t in 0..W {
                let low = isa.mul_i(low[t], group.sub[0]);
                acc[t] = scaled(0, t, isa.add_i(low, isa.mul_i(high[t], group.sub[1])), acc[t]);
            }
        }
    }
}

/// The sums of sixteen float rows, one fused multiply-add a column, for W tokens.
#[inline(always)]
fn float_tile<L: Lanes, const W: usize>(isa: L, form: Form, bytes: &[u8], x: &[f32]) -> [L::F; W] {
    let mut acc = [isa.splat(0.0); W];
    for (k, x) in x.chunks_exact(W).enumerate() {
        let w = tiles::float_column(isa, form, bytes, k);
        for t in 0..W {
            acc[t] = isa.fma(w, isa.splat(x[t]), acc[t]);
        }
    }
    acc
}

// The groups of the two files must agree on how many columns they hold.
const _: () = assert!(GROUP == 32);
