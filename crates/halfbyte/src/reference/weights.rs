//! Weights of a checkpoint, decoded to f32, as candle's layers.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module, RmsNorm, VarBuilder};

use crate::error::{Error, Result};
use crate::io::{Checkpoint, Delta};
use crate::model::{Adapter, Architecture, ModelConfig, Norm};

/// Tensors under GGUF names, below one prefix.
pub(super) struct Weights {
    tensors: VarBuilder<'static>,
    path: PathBuf,
    architecture: &'static Architecture,
    hidden_size: usize,
    norm_eps: f64,
}

/// The architecture's normalization.
#[derive(Debug)]
pub(super) enum NormLayer {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Weights {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        adapters: &[(Adapter, f32)],
    ) -> Result<Self> {
        let mut tensors = HashMap::new();
        for name in checkpoint.tensor_names() {
            let view = checkpoint.require(name)?;
            let tensor = Tensor::from_vec(view.to_f32()?, view.dims(), &Device::Cpu)?;
            tensors.insert(name.to_owned(), adapted(tensor, name, adapters)?);
        }
        Ok(Self {
            tensors: VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu),
            path: checkpoint.path().to_owned(),
            architecture: config.architecture,
            hidden_size: config.hidden_size,
            norm_eps: f64::from(config.norm_eps),
        })
    }

    /// The weights of block `layer`.
    pub(super) fn block(&self, layer: usize) -> Self {
        self.below("blk").below(&layer.to_string())
    }

    /// The weights whose names go on from `prefix` and a dot.
    pub(super) fn below(&self, prefix: &str) -> Self {
        Self { tensors: self.tensors.pp(prefix), path: self.path.clone(), ..*self }
    }

    /// The same tensors for somebody who asks by other names.
    pub(super) fn renamed(&self, name: fn(&str) -> String) -> VarBuilder<'static> {
        self.tensors.clone().rename_f(name)
    }

    /// (rows, E)
    pub(super) fn embedding(&self, rows: usize) -> Result<Embedding> {
        let weight = self.get((rows, self.hidden_size), "token_embd.weight")?;
        Ok(Embedding::new(weight, self.hidden_size))
    }

    pub(super) fn norm(&self, stem: &str) -> Result<NormLayer> {
        let weight = self.get(self.hidden_size, &format!("{stem}.weight"))?;
        Ok(match self.architecture.norm {
            Norm::Rms => NormLayer::Rms(RmsNorm::new(weight, self.norm_eps)),
            Norm::Layer => {
                let bias = self.get(self.hidden_size, &format!("{stem}.bias"))?;
                NormLayer::Layer(LayerNorm::new(weight, bias, self.norm_eps))
            }
        })
    }

    /// A layer (out, in), with its bias if the file has one or the architecture asks for it.
    pub(super) fn linear(&self, stem: &str, n: usize, k: usize) -> Result<Linear> {
        let weight = self.get((n, k), &format!("{stem}.weight"))?;
        let bias_name = format!("{stem}.bias");
        let required = self.architecture.required_biases.contains(&stem);
        let bias = if required || self.tensors.contains_tensor(&bias_name) {
            Some(self.get(n, &bias_name)?)
        } else {
            None
        };
        Ok(Linear::new(weight, bias))
    }

    pub(super) fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        if !self.tensors.contains_tensor(name) {
            let prefix = self.tensors.prefix();
            let dot = if prefix.is_empty() { "" } else { "." };
            let name = format!("{prefix}{dot}{name}");
            return Err(Error::MissingTensor { name, path: self.path.clone() });
        }
        Ok(self.tensors.get(shape, name)?)
    }
}

/// The matrix of that GGUF name with what the adapters add: W + Σ scale · B·A.
pub(super) fn adapted(weight: Tensor, name: &str, adapters: &[(Adapter, f32)]) -> Result<Tensor> {
    let mut weight = weight;
    for (adapter, scale) in adapters {
        if let Some(Delta { a, b, scale: own, .. }) = adapter.delta(name) {
            let a = Tensor::from_vec(a.to_f32()?, a.dims(), &Device::Cpu)?;
            let b = Tensor::from_vec(b.to_f32()?, b.dims(), &Device::Cpu)?;
            weight = (weight + (b.matmul(&a)? * f64::from(own * scale))?)?;
        }
    }
    Ok(weight)
}

impl Module for NormLayer {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}
