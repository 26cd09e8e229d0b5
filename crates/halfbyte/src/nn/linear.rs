//! A linear layer over packed weights.

use crate::kernels::{Activations, Brake, Columns, Packed, Team, matmul};

/// `y = W·x + b`, with W in a packed form.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Packed,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// # Panics
    ///
    /// If the bias is not as long as the weight has rows.
    pub(crate) fn new(weight: Packed, bias: Option<Vec<f32>>) -> Self {
        assert!(bias.as_ref().is_none_or(|b| b.len() == weight.n()), "bias and weight differ");
        Self { weight, bias }
    }

    pub(crate) fn weight(&self) -> &Packed {
        &self.weight
    }
    /// Which activations the weights need: (int8, float).
    pub(crate) fn needs(&self) -> (bool, bool) {
        (!self.weight.form().is_float(), self.weight.form().is_float())
    }

    /// Writes the layer's outputs into columns `first..first + n` of `out` (m, stride).
    pub(crate) fn forward(
        &self,
        team: &Team,
        brake: &Brake<'_>,
        x: &Activations,
        out: &mut [f32],
        columns: Columns,
    ) {
        matmul(team, brake, &self.weight, x, out, columns);
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(columns.stride) {
                for (y, b) in row[columns.first..].iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    }
}
