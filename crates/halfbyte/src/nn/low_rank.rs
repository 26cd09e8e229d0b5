//! Low-rank layers: what LoRA adapters add to the outputs of linear layers while they run.
//!
//! `y += scale · B·(A·x)`, in floats, beside the packed `W·x` that is there already. The matrices are
//! packed once, when an adapter is opened; a set of adapters with scales is only a list of them, so
//! that changing it costs nothing. One adapter is added after the other, in the set's order.
//!
//! Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021),
//! arXiv:2106.09685.

use std::ops::Range;
use std::sync::Arc;

use super::linear::Linear;
use crate::error::Result;
use crate::kernels::{Activations, Brake, Lanes, Needs, Source, Team, load_group, resize};

/// What one adapter adds to linear layers that share an input and write into the same rows.
#[derive(Debug)]
pub(crate) struct LowRank {
    /// (R, k): the A of all parts, stacked, so that the input is read once.
    pub(crate) a: Linear,
    /// The layers that change; their ranks sum to R.
    pub(crate) parts: Vec<LowRankPart>,
}

/// What one adapter adds to one linear layer.
#[derive(Debug)]
pub(crate) struct LowRankPart {
    /// B (n, r).
    pub(crate) b: Linear,
    /// α / r.
    pub(crate) scale: f32,
    /// The first of the columns that it adds to.
    pub(crate) first: usize,
}

/// An adapter's layers.
#[derive(Debug)]
pub(crate) struct LowRanks {
    /// Numbered by the model; `None` where the adapter changes nothing.
    pub(crate) layers: Vec<Option<LowRank>>,
    /// The sizes of the models that it fits.
    pub(crate) shape: LowRankShape,
}

/// The sizes of a model that layers over it depend on, chosen by the model.
pub(crate) type LowRankShape = [usize; 8];

/// Adapters that work together, each with a scale.
#[derive(Debug)]
pub(crate) struct LowRankSet {
    members: Vec<(Arc<LowRanks>, f32)>,
}

/// The buffers that adding needs, kept from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct LowRankSpace {
    /// The layers' input.
    x: Activations,
    /// A·x (m, R).
    inner: Vec<f32>,
    /// One part's columns of it, scaled.
    scaled: Activations,
}

impl LowRankSet {
    pub(crate) fn new(members: Vec<(Arc<LowRanks>, f32)>) -> Self {
        Self { members }
    }

    /// Whether every adapter was made for a model of these sizes.
    pub(crate) fn fits(&self, shape: &LowRankShape) -> bool {
        self.members.iter().all(|(member, _)| member.shape == *shape)
    }

    /// Whether both sets compute the same: the same adapters with the same scales in one order.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.members.iter().zip(&other.members);
        self.members.len() == other.members.len()
            && pairs.all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1.to_bits() == b.1.to_bits())
    }

    /// Adds what the adapters say of layer number `layer` for `rows` rows of `source` to `out`
    /// (rows, stride).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn add(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        layer: usize,
        (source, rows): (&impl Source, usize),
        (out, stride): (&mut [f32], usize),
        space: &mut LowRankSpace,
    ) -> Result<()> {
        let layers = || {
            let members = self.members.iter();
            members
                .filter_map(|(member, scale)| Some((member.layers.get(layer)?.as_ref()?, *scale)))
        };
        let Some((first, _)) = layers().next() else { return Ok(()) };
        let needs = layers().fold(Needs::default(), |all, (layer, _)| all | layer.a.needs());
        space.x.fill(team, source, (rows, first.a.weight().k()), needs)?;
        for (layer, scale) in layers() {
            layer.add((team, brake), scale, (&mut *out, stride), space)?;
        }
        Ok(())
    }
}

impl LowRank {
    fn add(
        &self,
        (team, brake): (&Team<'_>, &Brake<'_>),
        scale: f32,
        (out, stride): (&mut [f32], usize),
        space: &mut LowRankSpace,
    ) -> Result<()> {
        let LowRankSpace { x, inner, scaled } = space;
        let (rows, width) = (x.rows(), self.a.weight().n());
        resize(inner, rows * width)?;
        self.a.forward(team, brake, x, (inner, width), 0, false);
        let mut start = 0;
        for part in &self.parts {
            let rank = part.b.weight().k();
            let columns = Scaled {
                x: inner,
                stride: width,
                columns: start..start + rank,
                scale: part.scale * scale,
            };
            scaled.fill(team, &columns, (rows, rank), part.b.needs())?;
            part.b.forward(team, brake, scaled, (&mut *out, stride), part.first, true);
            start += rank;
        }
        Ok(())
    }
}

/// Some columns of rows in memory, times a number.
#[derive(Debug)]
struct Scaled<'a> {
    /// (rows, stride).
    x: &'a [f32],
    stride: usize,
    columns: Range<usize>,
    scale: f32,
}

impl Source for Scaled<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        let row = &self.x[row * self.stride..][..self.stride];
        let [low, high] = load_group(isa, &row[self.columns.clone()], g);
        let scale = isa.splat(self.scale);
        [isa.mul(low, scale), isa.mul(high, scale)]
    }
}

/// The rows of another source from number `first` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsFrom<'a, S> {
    pub(crate) source: &'a S,
    pub(crate) first: usize,
}

impl<S: Source> Source for RowsFrom<'_, S> {
    #[inline(always)]
    fn group<L: Lanes>(&self, isa: L, row: usize, g: usize) -> [L::F; 2] {
        self.source.group(isa, self.first + row, g)
    }
}
