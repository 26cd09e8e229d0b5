//! Weights times activations: work for a team, and where the results go.

use std::ops::Range;

use super::activations::Activations;
use super::forms::Packed;
use super::lanes::{LANES, Lanes};
use super::product::{Multiply, Stream, Unpack};
use super::team::Disjoint;
use super::terms::each_token;
use super::tokens::{FEW_TILES, Tile};
use super::{Brake, Team, kinds};

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
    if x.in_panels() && !w.form().is_float() {
        let mut panels = std::mem::take(&mut x.panels);
        let per_job = panels.row_groups(kinds::terms(w.form()));
        let (lines, per_thread) = panels.shared();
        team.each_worker(n_groups.div_ceil(per_job), brake, |worker, job| {
            let groups = job * per_job..n_groups.min((job + 1) * per_job);
            // SAFETY: each thread has its own panel, and runs one job at a time.
            let panel = unsafe { lines.part(worker * per_thread..(worker + 1) * per_thread) };
            team.isa().run(Unpack { w, groups: groups.clone(), panel });
            team.isa().run(Multiply { w, x, groups, panel, output: &output });
        });
        x.panels = panels;
    } else {
        let per_job = if x.tiles().len() > FEW_TILES {
            ((384 << 10) / w.group_bytes().max(1)).clamp(1, 4)
        } else {
            (JOB_BYTES / w.group_bytes().max(1)).max(1)
        };
        team.each(n_groups.div_ceil(per_job), brake, |job| {
            let groups = job * per_job..n_groups.min((job + 1) * per_job);
            team.isa().run(Stream { w, x, groups, output: &output });
        });
    }
}

/// A [`Target`] that several threads write.
pub(super) struct Output<'a> {
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
    pub(super) fn store<L: Lanes, const W: usize>(
        &self,
        isa: L,
        group: usize,
        tile: Tile,
        sums: &[L::F; W],
    ) {
        let mut lanes = [[0.0; LANES]; W];
        each_token!(TOKEN < W => isa.store(sums[TOKEN], &mut lanes[TOKEN]));
        self.write(group, tile, &lanes[..W.min(tile.rows)]);
    }

    /// Asks for the places of some row groups' sums of a tile.
    #[inline(always)]
    pub(super) fn prefetch<L: Lanes>(&self, isa: L, groups: &Range<usize>, tile: Tile) {
        for t in tile.start..tile.start + tile.rows {
            let row = t * self.stride + self.first;
            for group in groups.clone() {
                isa.prefetch(self.out.address(row + group * LANES).cast());
            }
        }
    }

    /// As [`store`](Self::store). Not inlined: it would be compiled for each form and width.
    #[inline(never)]
    fn write(&self, group: usize, tile: Tile, sums: &[[f32; LANES]]) {
        let row = group * LANES;
        let n = LANES.min(self.n - row);
        let bias = self.bias.map(|bias| padded(&bias[row..row + n]));
        for (t, sums) in sums.iter().enumerate() {
            let at = (tile.start + t) * self.stride + self.first + row;
            // SAFETY: this row group's columns of this token's row; every group and token is
            // computed once, so no other part meets it.
            let out = unsafe { self.out.part(at..at + n) };
            match out.first_chunk_mut() {
                Some(out) => *out = combine(sums, bias.as_ref(), self.add.then_some(&*out)),
                None => {
                    let old = padded(out);
                    let sums = combine(sums, bias.as_ref(), self.add.then_some(&old));
                    out.copy_from_slice(&sums[..n]);
                }
            }
        }
    }
}

/// `old + (sums + bias)`, of what there is.
#[inline(always)]
fn combine(
    sums: &[f32; LANES],
    bias: Option<&[f32; LANES]>,
    old: Option<&[f32; LANES]>,
) -> [f32; LANES] {
    let mut out = *sums;
    for more in [bias, old].into_iter().flatten() {
        for i in 0..LANES {
            out[i] += more[i];
        }
    }
    out
}

/// The elements of `x`, at most sixteen, then zeros.
fn padded(x: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    lanes
}
