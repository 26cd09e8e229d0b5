//! Tokens → logits: embedding, blocks, final norm, output head.

use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::{Embedding, Linear, Module};

use super::block::Block;
use super::rope::Rope;
use super::weights::{self, NormLayer, Weights};
use crate::error::{Error, Result};
use crate::io::Checkpoint;
use crate::model::{Adapter, ModelConfig};

/// A decoder-only model in f32 tensors.
#[derive(Debug)]
pub struct Reference {
    config: ModelConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: NormLayer,
    head: Linear,
}

impl Reference {
    /// Loads a model, decoding every weight to f32.
    ///
    /// # Errors
    ///
    /// What the configuration's checks say, [`Error::MissingTensor`], [`Error::Tensor`] for a
    /// tensor of the wrong shape, [`Error::OutOfMemory`]; [`Error::UnsupportedArchitecture`] for an
    /// encoder-decoder model, which is a [`ReferenceT5`](super::ReferenceT5).
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        Self::load_with(checkpoint, &[])
    }

    /// As [`load`](Self::load), with W + scale · B·A in place of each W that an adapter changes.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); [`Error::Tensor`] for an adapter of a model of another shape.
    pub fn load_with(checkpoint: &Checkpoint, adapters: &[(Adapter, f32)]) -> Result<Self> {
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        if config.encoder.is_some() {
            return Err(Error::UnsupportedArchitecture {
                found: config.architecture.name.into(),
                supported: "decoder-only models; see ReferenceT5".into(),
            });
        }
        let weights = Weights::load(checkpoint, &config, adapters)?;
        let embedding = weights.embedding(checkpoint.require("token_embd.weight")?.n_rows())?;
        let blocks = (0..config.n_layers)
            .map(|layer| Block::load(&weights.block(layer), &config))
            .collect::<Result<_>>()?;
        let norm = weights.norm("output_norm")?;
        let head = if checkpoint.tensor("output.weight").is_some() {
            weights.linear("output", config.vocab_size, config.hidden_size)?
        } else {
            let tied = embedding.embeddings().clone();
            Linear::new(weights::adapted(tied, "output.weight", adapters)?, None)
        };
        Ok(Self { config, embedding, blocks, norm, head })
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The logits of every position of `tokens`, (T, V).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `tokens` is empty or holds a token that has no embedding.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor> {
        let (x, _) = self.residual_stream(tokens)?;
        Ok(self.head.forward(&self.norm.forward(&x)?)?)
    }

    /// The residual stream before the first block and after each one, `n_layers` + 1 of (T, E).
    ///
    /// The last one has passed the final norm: what the head sees.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Tensor>> {
        let (x, mut states) = self.residual_stream(tokens)?;
        states.push(self.norm.forward(&x)?);
        Ok(states)
    }

    /// The `n` most likely next tokens, one after the other; the lower id wins a tie.
    ///
    /// End tokens are tokens like any other. The whole sequence is computed anew for each token.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn generate_greedy(&self, tokens: &[u32], n: usize) -> Result<Vec<u32>> {
        let mut sequence = tokens.to_vec();
        for _ in 0..n {
            let logits = self.forward(&sequence)?;
            let last = logits.i(sequence.len() - 1)?;
            sequence.push(last.argmax(D::Minus1)?.to_scalar()?);
        }
        Ok(sequence.split_off(tokens.len()))
    }

    /// The stream after the last block, before the final norm, and what entered each block.
    fn residual_stream(&self, tokens: &[u32]) -> Result<(Tensor, Vec<Tensor>)> {
        check_tokens(&self.embedding, tokens)?;
        let rope = Rope::new(&self.config, tokens.len())?;
        let mut x = self.embedding.forward(&Tensor::new(tokens, &Device::Cpu)?)?;
        let mut entered = Vec::with_capacity(self.blocks.len() + 1);
        for block in &self.blocks {
            entered.push(x.clone());
            x = block.forward(&x, &rope)?;
        }
        Ok((x, entered))
    }
}

/// Checks that there are tokens, and that all have an embedding.
pub(super) fn check_tokens(embedding: &Embedding, tokens: &[u32]) -> Result<()> {
    let rows = embedding.embeddings().dim(0)?;
    if tokens.is_empty() {
        return Err(Error::config("tokens", "there are none: pass at least one"));
    }
    match tokens.iter().find(|&&token| token as usize >= rows) {
        Some(token) => {
            Err(Error::config("tokens", format!("{token} is outside the vocabulary of {rows}")))
        }
        None => Ok(()),
    }
}
