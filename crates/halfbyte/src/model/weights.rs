//! A model's weights in memory, packed.

use super::config::ModelConfig;
use super::loader::{ALONE, DECODER, Loader};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::Checkpoint;
use crate::kernels::{Activations, Brake, Buffer, Needs, Packed, Team, Threads};
use crate::nn::{Linear, NormWeights, RelativeBias};
use crate::quant::{self, Encoding};

/// Linear layers over the same input, writing adjacent columns. Neighbours of one encoding are one
/// matrix, so that their weights are one stream.
#[derive(Debug)]
pub(super) struct Stack {
    /// Each layer and its first column.
    pub(super) parts: Vec<(Linear, usize)>,
    /// Columns of all layers together.
    pub(super) n: usize,
}

/// One transformer block.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attn_norm: NormWeights,
    /// `[q | k | v]`.
    pub(super) qkv: Stack,
    pub(super) attn_output: Stack,
    /// What the decoder's blocks look at a prompt with, if an encoder reads it.
    pub(super) cross: Option<Cross>,
    /// Absent where attention and feed-forward share a norm.
    pub(super) ffn_norm: Option<NormWeights>,
    /// `[gate | up]`, or `up` alone.
    pub(super) up: Stack,
    pub(super) down: Stack,
}

/// Attention of a decoder's block over what the encoder made of the prompt.
#[derive(Debug)]
pub(super) struct Cross {
    pub(super) norm: NormWeights,
    pub(super) q: Stack,
    /// `[k | v]`, of the prompt.
    pub(super) kv: Stack,
    pub(super) output: Stack,
}

/// The encoder of an encoder-decoder model.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) layers: Vec<Layer>,
    pub(super) bias: RelativeBias,
    pub(super) norm: NormWeights,
}

/// The embedding's rows as the file stores them: one row is decoded for each token.
#[derive(Debug)]
pub(super) struct Embedding {
    pub(super) encoding: Encoding,
    pub(super) row_bytes: usize,
    pub(super) width: usize,
    pub(super) bytes: Buffer,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Embedding,
    pub(super) encoder: Option<Encoder>,
    pub(super) layers: Vec<Layer>,
    /// What distances add to scores, where they do.
    pub(super) bias: Option<RelativeBias>,
    pub(super) output_norm: NormWeights,
    pub(super) output: Stack,
}

impl Weights {
    /// Packs the weights on `threads`, calling `progress(done, total)` in bytes.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        threads: &Threads,
        cancel: Option<&Cancel>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let total = checkpoint
            .tensor_names()
            .filter_map(|name| checkpoint.tensor(name))
            .map(|tensor| tensor.n_bytes() as u64)
            .sum();
        let mut loader = Loader { checkpoint, config, threads, cancel, done: 0, total, progress };
        let embedding = loader.embedding()?;
        let encoder = config.encoder.as_ref().map(|encoder| loader.encoder(encoder)).transpose()?;
        let names = if encoder.is_some() { DECODER } else { ALONE };
        let layers = (0..config.n_layers).map(|i| loader.layer(names, i)).collect::<Result<_>>()?;
        let bias = config.encoder.as_ref().map(|encoder| loader.relative_bias(names, encoder));
        let bias = bias.transpose()?;
        let tied = checkpoint.tensor("output.weight").is_none();
        let scale = if encoder.is_some() && is_tied(checkpoint) {
            1.0 / (config.hidden_size as f32).sqrt()
        } else {
            1.0
        };
        let output_norm = loader.norm(names.output_norm, scale)?;
        let head = if tied { "token_embd" } else { "output" };
        let output = loader.stack(&[(head, config.vocab_size)], config.hidden_size)?;
        Ok(Self { embedding, encoder, layers, bias, output_norm, output })
    }

    /// Bytes in memory.
    pub(super) fn n_bytes(&self) -> usize {
        let encoder = self.encoder.iter().flat_map(|encoder| &encoder.layers);
        let encoder = encoder.flat_map(Layer::stacks);
        let keys = self.layers.iter().filter_map(|layer| Some(&layer.cross.as_ref()?.kv));
        let read_once = encoder.chain(keys).flat_map(|stack| &stack.parts);
        self.embedding.bytes.len()
            + self.bytes_per_token()
            + read_once.map(|(linear, _)| linear.weight().n_bytes()).sum::<usize>()
    }

    /// Bytes of the (decoder's) matrices: what a pass over one token reads.
    pub(super) fn bytes_per_token(&self) -> usize {
        self.matrices().map(Packed::n_bytes).sum()
    }

    /// The matrices in the order in which a pass reads them.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Packed> {
        let stacks = self.layers.iter().flat_map(Layer::stacks).chain([&self.output]);
        stacks.flat_map(|stack| &stack.parts).map(|(linear, _)| linear.weight())
    }
}

/// Whether the output head is the embedding, left out or written twice.
///
/// Such a T5 model scales what its head reads, and no key of a GGUF file says so.
fn is_tied(checkpoint: &Checkpoint) -> bool {
    let pair = checkpoint.tensor("output.weight").zip(checkpoint.tensor("token_embd.weight"));
    pair.is_none_or(|(output, embedding)| {
        output.encoding() == embedding.encoding()
            && output.dims() == embedding.dims()
            && (0..output.n_rows()).all(|i| output.row(i) == embedding.row(i))
    })
}

/// Bytes that the weights of `checkpoint` take in memory, without loading them.
///
/// # Errors
///
/// [`Error::OutOfMemory`] if they are more than the machine can address.
pub fn packed_size(checkpoint: &Checkpoint) -> Result<u64> {
    let tied = checkpoint.tensor("output.weight").is_none();
    let mut total = 0;
    for tensor in checkpoint.tensor_names().filter_map(|name| checkpoint.tensor(name)) {
        let is_embedding = tensor.name() == "token_embd.weight";
        if is_embedding {
            total += tensor.n_bytes() as u64;
        }
        let is_matrix = tensor.dims().len() == 2 && !tensor.name().ends_with("attn_rel_b.weight");
        if is_matrix && (!is_embedding || tied) {
            let bytes = quant::packed_bytes(tensor.encoding(), tensor.n_rows(), tensor.row_len());
            total += bytes.ok_or(Error::OutOfMemory { bytes: usize::MAX })? as u64;
        }
    }
    Ok(total)
}

impl Layer {
    /// What a pass over a token reads, in that order.
    fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let cross = self.cross.iter().flat_map(|cross| [&cross.q, &cross.output]);
        [&self.qkv, &self.attn_output].into_iter().chain(cross).chain([&self.up, &self.down])
    }
}

impl Stack {
    /// Which activations the layers need.
    pub(super) fn needs(&self) -> Needs {
        self.parts.iter().fold(Needs::default(), |all, (linear, _)| all | linear.needs())
    }

    /// Writes all layers' outputs of `x` side by side into `out` (m, n), or adds them to it.
    pub(super) fn forward(
        &self,
        team: &Team<'_>,
        brake: &Brake<'_>,
        x: &mut Activations,
        out: &mut [f32],
        add: bool,
    ) {
        for (linear, first) in &self.parts {
            linear.forward(team, brake, x, (out, self.n), *first, add);
        }
    }
}

impl Embedding {
    /// Decodes the rows of `tokens` into `out` (T, E).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a token outside the vocabulary.
    pub(super) fn rows(&self, tokens: &[u32], out: &mut [f32]) -> Result<()> {
        for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(self.width)) {
            let start = usize::try_from(token).ok().and_then(|t| t.checked_mul(self.row_bytes));
            let row = start.and_then(|s| self.bytes.get(s..)?.get(..self.row_bytes));
            let row = row.ok_or_else(|| {
                let n = self.bytes.len() / self.row_bytes;
                Error::config("tokens", format!("{token} is not below the vocabulary's {n}"))
            })?;
            self.encoding.decode(row, out);
        }
        Ok(())
    }
}
