//! A linear layer over packed weights.

use crate::kernels::{Activations, Brake, Needs, Packed, Target, Team, matmul};

/// `y = W·x + b`, with W in a packed form.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Packed,
    bias: Option<Vec<f32>>,
    /// Which column of W each stored one is, if they are out of order.
    columns: Option<Vec<u32>>,
}

impl Linear {
    /// # Panics
    ///
    /// If the bias is not as long as the weight has rows.
    pub(crate) fn new(weight: Packed, bias: Option<Vec<f32>>) -> Self {
        assert!(bias.as_ref().is_none_or(|b| b.len() == weight.n()), "bias and weight differ");
        Self { weight, bias, columns: None }
    }

    /// The layer over weights whose columns are stored in that order.
    ///
    /// # Panics
    ///
    /// If they are floats, or have another number of columns.
    pub(crate) fn with_columns(mut self, columns: Vec<u32>) -> Self {
        assert!(!self.weight.form().is_float(), "float weights have no reason to be out of order");
        assert_eq!(columns.len(), self.weight.k(), "columns of other weights");
        self.columns = Some(columns);
        self
    }

    pub(crate) fn weight(&self) -> &Packed {
        &self.weight
    }
    /// Which activations the weights need.
    pub(crate) fn needs(&self) -> Needs {
        match self.columns {
            Some(_) => Needs { codes: false, floats: true, gathered: true },
            None => self.weight.form().needs(),
        }
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
        let x = match &self.columns {
            Some(columns) => x.gather(team, columns),
            None => x,
        };
        matmul(team, brake, &self.weight, x, target);
    }
}
