//! A checkpoint's tensors, checked against the configuration and packed.

use rayon::prelude::*;

use super::architecture::{Mlp, Norm, Residual};
use super::config::ModelConfig;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, TensorView};
use crate::kernels::{Activations, Brake, Buffer, Needs, Packed, Team, Threads};
use crate::nn::{Linear, NormWeights};
use crate::quant::{self, Encoding};

/// Bytes of the embedding that a thread copies in one go.
const COPY_BYTES: usize = 1 << 20;

/// Linear layers over the same input, writing adjacent columns. Neighbours of one encoding (and one
/// order of columns) are one matrix, so that their weights are one stream.
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
    /// Absent where attention and feed-forward share a norm.
    pub(super) ffn_norm: Option<NormWeights>,
    /// `[gate | up]`, or `up` alone.
    pub(super) up: Stack,
    pub(super) down: Stack,
}

/// The embedding's rows as the file stores them: one row is decoded for each token.
#[derive(Debug)]
pub(super) struct Embedding {
    encoding: Encoding,
    row_bytes: usize,
    width: usize,
    bytes: Buffer,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Embedding,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: NormWeights,
    pub(super) output: Stack,
}

/// Tensors that make up one matrix: (GGUF name without `.weight`, rows).
type Parts<'a> = &'a [(&'a str, usize)];

/// Reads tensors, checks their shapes, packs them, releases their pages and reports progress.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    threads: &'a Threads,
    cancel: Option<&'a Cancel>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
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
        let layers = (0..config.n_layers).map(|i| loader.layer(i)).collect::<Result<_>>()?;
        let output_norm = loader.norm("output_norm")?;
        let tied = checkpoint.tensor("output.weight").is_none();
        let head = if tied { "token_embd" } else { "output" };
        let output = loader.stack(&[(head, config.vocab_size)], config.hidden_size)?;
        Ok(Self { embedding, layers, output_norm, output })
    }

    /// Bytes in memory.
    pub(super) fn n_bytes(&self) -> usize {
        self.embedding.bytes.len() + self.bytes_per_token()
    }

    /// Bytes of the matrices: what a pass over one token reads.
    pub(super) fn bytes_per_token(&self) -> usize {
        self.matrices().map(Packed::n_bytes).sum()
    }

    /// The matrices in the order in which a pass reads them.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Packed> {
        let layers = self.layers.iter().flat_map(|layer| {
            [&layer.qkv, &layer.attn_output, &layer.up, &layer.down].map(|stack| &stack.parts)
        });
        layers.chain([&self.output.parts]).flatten().map(|(linear, _)| linear.weight())
    }
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
        if tensor.dims().len() == 2 && (!is_embedding || tied) {
            let bytes = quant::packed_bytes(tensor.encoding(), tensor.n_rows(), tensor.row_len());
            total += bytes.ok_or(Error::OutOfMemory { bytes: usize::MAX })? as u64;
        }
    }
    Ok(total)
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

impl Loader<'_> {
    fn layer(&mut self, i: usize) -> Result<Layer> {
        let ModelConfig { hidden_size, feed_forward, n_heads, n_kv_heads, head_dim, .. } =
            *self.config;
        let architecture = self.config.architecture;
        let name = |stem: &str| format!("blk.{i}.{stem}");
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv = if architecture.fused_qkv {
            self.stack(&[(&name("attn_qkv"), q + 2 * kv)], hidden_size)?
        } else {
            let names = ["attn_q", "attn_k", "attn_v"].map(name);
            self.stack(&[(&names[0], q), (&names[1], kv), (&names[2], kv)], hidden_size)?
        };
        let up = if architecture.mlp == Mlp::GatedSilu {
            let names = ["ffn_gate", "ffn_up"].map(name);
            self.stack(&[(&names[0], feed_forward), (&names[1], feed_forward)], hidden_size)?
        } else {
            self.stack(&[(&name("ffn_up"), feed_forward)], hidden_size)?
        };
        let shares_norm = self.config.residual == Residual::ParallelShared;
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"))?,
            qkv,
            attn_output: self.stack(&[(&name("attn_output"), hidden_size)], q)?,
            ffn_norm: if shares_norm { None } else { Some(self.norm(&name("ffn_norm"))?) },
            up,
            down: self.stack(&[(&name("ffn_down"), hidden_size)], feed_forward)?,
        })
    }

    fn embedding(&mut self) -> Result<Embedding> {
        let tensor = self.checkpoint.require("token_embd.weight")?;
        let width = self.config.hidden_size;
        expect_shape(&tensor, &[tensor.n_rows(), width])?;
        let row_bytes = tensor.n_bytes() / tensor.n_rows().max(1);
        let mut bytes = Buffer::zeroed(tensor.n_bytes())?;
        let rows_per_task = (COPY_BYTES / row_bytes).max(1);
        let cancel = self.cancel;
        self.threads.install(|| -> Result<()> {
            let tasks = bytes.par_chunks_mut(rows_per_task * row_bytes).enumerate();
            tasks.try_for_each(|(task, out)| {
                cancel.map_or(Ok(()), Cancel::check)?;
                let first = task * rows_per_task;
                let rows = first..first + out.len() / row_bytes;
                for (row, out) in rows.clone().zip(out.chunks_exact_mut(row_bytes)) {
                    out.copy_from_slice(tensor.row(row));
                }
                self.checkpoint.release_rows(tensor.name(), rows);
                Ok(())
            })
        })?;
        self.finish(&tensor);
        Ok(Embedding { encoding: tensor.encoding(), row_bytes, width, bytes })
    }

    fn norm(&mut self, name: &str) -> Result<NormWeights> {
        let len = self.config.hidden_size;
        let tensor = self.checkpoint.require(&format!("{name}.weight"))?;
        expect_shape(&tensor, &[len])?;
        let weight = tensor.to_f32()?;
        self.finish(&tensor);
        let bias = match self.config.architecture.norm {
            Norm::Rms => None,
            Norm::Layer => Some(self.vector(&format!("{name}.bias"), len)?),
        };
        Ok(NormWeights::new(weight, bias, self.config.norm_eps))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self.checkpoint.require(name)?;
        expect_shape(&tensor, &[len])?;
        let values = tensor.to_f32()?;
        self.finish(&tensor);
        Ok(values)
    }

    /// Packs `parts` of `k` columns; runs of one encoding become one matrix.
    fn stack(&mut self, parts: Parts<'_>, k: usize) -> Result<Stack> {
        let mut tensors = Vec::with_capacity(parts.len());
        for &(name, rows) in parts {
            let tensor = self.checkpoint.require(&format!("{name}.weight"))?;
            expect_shape(&tensor, &[rows, k])?;
            tensors.push((tensor, self.bias(name, rows)?));
        }
        let mut stack = Stack { parts: Vec::new(), n: 0 };
        for run in tensors
            .chunk_by(|(a, _), (b, _)| a.encoding() == b.encoding() && a.columns() == b.columns())
        {
            let (checkpoint, cancel) = (self.checkpoint, self.cancel);
            let weight = self.threads.install(|| pack_run(checkpoint, run, cancel))?;
            let n = weight.n();
            let biased = run.iter().any(|(_, bias)| bias.is_some());
            let bias = biased.then(|| {
                let parts = run.iter().map(|(tensor, bias)| {
                    bias.clone().unwrap_or_else(|| vec![0.0; tensor.n_rows()])
                });
                parts.flatten().collect()
            });
            let linear = Linear::new(weight, bias);
            let columns = run.first().and_then(|(tensor, _)| tensor.columns());
            let linear = match columns {
                Some(columns) => linear.with_columns(columns.to_vec()),
                None => linear,
            };
            stack.parts.push((linear, stack.n));
            stack.n += n;
            run.iter().for_each(|(tensor, _)| self.finish(tensor));
        }
        Ok(stack)
    }

    /// The bias of a layer, if the file has it; an error if the architecture needs it and it hasn't.
    fn bias(&mut self, name: &str, rows: usize) -> Result<Option<Vec<f32>>> {
        let full = format!("{name}.bias");
        let stem = name.rsplit('.').next().unwrap_or(name);
        let required = self.config.architecture.required_biases.contains(&stem);
        if required || self.checkpoint.tensor(&full).is_some() {
            return self.vector(&full, rows).map(Some);
        }
        Ok(None)
    }

    /// Counts a tensor as loaded and lets go of its pages.
    fn finish(&mut self, tensor: &TensorView<'_>) {
        self.checkpoint.release(tensor.name());
        self.done += tensor.n_bytes() as u64;
        (self.progress)(self.done.min(self.total), self.total);
    }
}

/// Packs tensors of one encoding as one matrix, and lets go of their pages on the way: what is in
/// memory twice is little, however large the matrix.
///
/// [`Error::Cancelled`] within a task of packing: a large matrix takes a second.
fn pack_run(
    checkpoint: &Checkpoint,
    run: &[(TensorView<'_>, Option<Vec<f32>>)],
    cancel: Option<&Cancel>,
) -> Result<Packed> {
    let (first, _) = &run[0];
    let n = run.iter().map(|(tensor, _)| tensor.n_rows()).sum();
    let row = |mut row: usize| {
        for (tensor, _) in run {
            if row < tensor.n_rows() {
                return tensor.row(row);
            }
            row -= tensor.n_rows();
        }
        unreachable!("rows are counted from the same tensors")
    };
    quant::pack_and(first.encoding(), (n, first.row_len()), row, |rows| {
        cancel.map_or(Ok(()), Cancel::check)?;
        let mut start = 0;
        for (tensor, _) in run {
            let end = start + tensor.n_rows();
            let (from, to) = (rows.start.clamp(start, end), rows.end.clamp(start, end));
            if from < to {
                checkpoint.release_rows(tensor.name(), from - start..to - start);
            }
            start = end;
        }
        Ok(())
    })
}

fn expect_shape(tensor: &TensorView<'_>, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(Error::Shape {
        tensor: tensor.name().into(),
        expected: expected.to_vec(),
        found: tensor.dims().to_vec(),
    })
}
