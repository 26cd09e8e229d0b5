//! Layer normalization and root-mean-square normalization.

use crate::error::Result;
use crate::kernels::{
    Brake, GROUP, LANES, Lanes, Op, Source, Team, load_group, load_padded, resize, store_prefix,
    sum_lanes,
};

/// The weights of one normalization.
#[derive(Debug)]
pub(crate) struct NormWeights {
    len: usize,
    weight: Vec<f32>,
    /// Present for layer normalization.
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl NormWeights {
    /// Root-mean-square normalization without a bias, layer normalization with one.
    pub(crate) fn new(weight: Vec<f32>, bias: Option<Vec<f32>>, eps: f32) -> Self {
        Self { len: weight.len(), weight, bias, eps }
    }

    /// Writes what normalizing the rows of `x` (m, E) needs to know of each into `stats`.
    ///
    /// Sums take element i into lane i mod 16 and add the lanes as one fixed tree.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn measure(&self, team: &Team<'_>, x: &[f32], stats: &mut Vec<Stats>) -> Result<()> {
        resize(stats, x.len() / self.len)?;
        team.each_chunk(stats, ROWS_PER_JOB, &Brake::none(), |job, stats| {
            let x = &x[job * ROWS_PER_JOB * self.len..];
            for (x, stats) in x.chunks_exact(self.len).zip(stats) {
                *stats = team.isa().run(MeasureRow { weights: self, x });
            }
        });
        Ok(())
    }

    /// The normalized rows of `x` (m, E), computed as they are taken; `stats` is measured from `x`.
    pub(crate) fn rows<'a>(&'a self, x: &'a [f32], stats: &'a [Stats]) -> Normed<'a> {
        Normed { weights: self, x, stats }
    }
}

/// Rows whose statistics one thread measures at a time.
const ROWS_PER_JOB: usize = 8;

/// A row's mean (0 for root-mean-square normalization) and 1 / its standard deviation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    mean: f32,
    scale: f32,
}

struct MeasureRow<'a> {
    weights: &'a NormWeights,
    x: &'a [f32],
}

impl Op for MeasureRow<'_> {
    type Output = Stats;

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) -> Stats {
        let Self { weights: w, x } = self;
        let n = x.len() as f32;
        let layer = w.bias.is_some();
        let mean = if layer { reduce(isa, x, |acc, x| isa.add(acc, x)) / n } else { 0.0 };
        let shift = isa.splat(mean);
        // Padding counts as the mean, so that it adds nothing to the squares.
        let squares = reduce_from(isa, x, mean, |acc, x| {
            let centred = isa.sub(x, shift);
            isa.fma(centred, centred, acc)
        });
        Stats { mean, scale: 1.0 / (squares / n + w.eps).sqrt() }
    }
}

/// Normalized rows: `(x − mean) · scale · weight (+ bias)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normed<'a> {
    weights: &'a NormWeights,
    x: &'a [f32],
    stats: &'a [Stats],
}

impl Normed<'_> {
    /// Writes the normalized `rows` into `out` (rows, E).
    pub(crate) fn write(&self, team: &Team<'_>, rows: &[usize], out: &mut [f32]) {
        team.each_chunk(out, self.weights.len, &Brake::none(), |i, out| {
            team.isa().run(WriteRow { rows: self, row: rows[i], out });
        });
    }
}

struct WriteRow<'a> {
    rows: &'a Normed<'a>,
    row: usize,
    out: &'a mut [f32],
}

impl Op for WriteRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, isa: L) {
        for (g, out) in self.out.chunks_mut(GROUP).enumerate() {
            let [low, high] = self.rows.group(isa, self.row, g);
            let (first, second) = out.split_at_mut(out.len().min(LANES));
            store_prefix(isa, low, first);
            store_prefix(isa, high, second);
        }
    }
}

impl Source for Normed<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        let w = self.weights;
        let x = load_group(isa, &self.x[row * w.len..][..w.len], g);
        let weight = load_group(isa, &w.weight, g);
        let (shift, scale) = (isa.splat(self.stats[row].mean), isa.splat(self.stats[row].scale));
        // No closures: the compiler may leave them outside of the lanes' features.
        let mut y = x;
        for half in 0..2 {
            y[half] = isa.mul(isa.mul(isa.sub(x[half], shift), scale), weight[half]);
        }
        if let Some(bias) = &w.bias {
            let bias = load_group(isa, bias, g);
            y = [isa.add(y[0], bias[0]), isa.add(y[1], bias[1])];
        }
        y
    }
}

#[inline(always)]
fn reduce<L: Lanes>(isa: L, x: &[f32], add: impl Fn(L::F, L::F) -> L::F) -> f32 {
    reduce_from(isa, x, 0.0, add)
}

/// Folds `x` into sixteen lanes, its last lanes filled with `padding`, and sums them.
#[inline(always)]
fn reduce_from<L: Lanes>(isa: L, x: &[f32], padding: f32, add: impl Fn(L::F, L::F) -> L::F) -> f32 {
    let mut acc = isa.splat(0.0);
    for x in x.chunks(LANES) {
        acc = add(acc, load_padded(isa, x, padding));
    }
    let mut lanes = [0.0; LANES];
    isa.store(acc, &mut lanes);
    sum_lanes(lanes)
}
