//! Adapters added to a model's weights, row by row.

use super::adapter::Adapter;
use super::config::ModelConfig;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, TensorView};

/// What adapters add to one matrix, decoded.
#[derive(Debug, Default)]
pub(super) struct Merge {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    rank: usize,
    scale: f32,
    /// (r, k).
    a: Vec<f32>,
    /// (n, r).
    b: Vec<f32>,
}

/// [`Error::Config`] if an adapter is for another model than `checkpoint`, or changes what that has
/// only as a part of something else.
pub(super) fn check(checkpoint: &Checkpoint, adapters: &[(Adapter, f32)]) -> Result<()> {
    if adapters.is_empty() {
        return Ok(());
    }
    let config = ModelConfig::from_checkpoint(checkpoint)?;
    for (adapter, scale) in adapters {
        adapter.check_fits(&config, *scale)?;
        if let Some((name, ..)) = adapter.matrices().find(|(n, ..)| checkpoint.tensor(n).is_none())
        {
            let reason = format!(
                "changes {name}, which this model shares with its embedding: it cannot be merged, \
                 use it while the model runs"
            );
            return Err(Error::config(format!("adapter {}", adapter.path().display()), reason));
        }
    }
    Ok(())
}

impl Merge {
    /// What `adapters`, each multiplied by its number, add to `tensor`.
    pub(super) fn of(adapters: &[(Adapter, f32)], tensor: &TensorView<'_>) -> Result<Self> {
        let deltas = adapters.iter().filter_map(|(adapter, scale)| {
            let delta = adapter.delta(tensor.name())?;
            Some((delta, delta.scale * scale))
        });
        let parts = deltas.map(|(delta, scale)| {
            let rank = delta.a.n_rows();
            Ok(Part { rank, scale, a: delta.a.to_f32()?, b: delta.b.to_f32()? })
        });
        Ok(Self { parts: parts.collect::<Result<_>>()? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds to the values (k) of row `row`; `sums` (k) is overwritten.
    pub(super) fn add(&self, row: usize, values: &mut [f32], sums: &mut [f32]) {
        for Part { rank, scale, a, b } in &self.parts {
            sums.fill(0.0);
            let b = &b[row * rank..][..*rank];
            for (b, a) in b.iter().zip(a.chunks_exact(values.len())) {
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += b * a;
                }
            }
            for (value, sum) in values.iter_mut().zip(&*sums) {
                *value += scale * sum;
            }
        }
    }
}
