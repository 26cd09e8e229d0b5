//! A linear layer over packed weights.

use crate::kernels::{Activations, Brake, Needs, Packed, Target, Team, matmul};

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
    /// Which activations the weights need.
    pub(crate) fn needs(&self) -> Needs {
        self.weight.form().needs()
    }

    /// Writes the layer's outputs into columns `first..first + n` of `out` (m, stride), or adds them
    /// to what is there.
    pub(crate) fn forward(
        &self,
        team: &Team<'_>,
        brake: &Brake<'_>,
        x: &mut Activations,
        (out, stride): (&mut [f32], usize),
        first: usize,
        add: bool,
    ) {
        let target = Target { out, stride, first, bias: self.bias.as_deref(), add };
        matmul(team, brake, &self.weight, x, target);
    }
}
