//! Reads a checkpoint's tensors, holds them against the configuration and packs them.

use rayon::prelude::*;

use super::architecture::{Norm, Residual};
use super::config::{EncoderConfig, ModelConfig};
use super::weights::{Cross, Embedding, Encoder, Layer, Stack};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, TensorView};
use crate::kernels::{Buffer, Packed, Threads, zeroed};
use crate::nn::{Linear, NormWeights, RelativeBias};
use crate::quant;

/// Bytes of the embedding that a thread copies in one go.
const COPY_BYTES: usize = 1 << 20;

/// Tensors that make up one matrix: (GGUF name without `.weight`, rows).
pub(super) type Parts<'a> = &'a [(&'a str, usize)];

/// Reads tensors, checks their shapes, packs them, releases their pages and reports progress.
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: &'a ModelConfig,
    pub(super) threads: &'a Threads,
    pub(super) cancel: Option<&'a Cancel>,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) progress: &'a mut dyn FnMut(u64, u64),
}

/// How the tensors of a stack of blocks are called.
#[derive(Clone, Copy)]
pub(super) struct Names {
    block: &'static str,
    attn_output: &'static str,
    pub(super) output_norm: &'static str,
    has_cross: bool,
}

pub(super) const ALONE: Names = Names {
    block: "blk",
    attn_output: "attn_output",
    output_norm: "output_norm",
    has_cross: false,
};
const ENCODER: Names = Names {
    block: "enc.blk",
    attn_output: "attn_o",
    output_norm: "enc.output_norm",
    has_cross: false,
};
pub(super) const DECODER: Names = Names {
    block: "dec.blk",
    attn_output: "attn_o",
    output_norm: "dec.output_norm",
    has_cross: true,
};

impl Loader<'_> {
    pub(super) fn encoder(&mut self, config: &EncoderConfig) -> Result<Encoder> {
        Ok(Encoder {
            layers: (0..config.n_layers).map(|i| self.layer(ENCODER, i)).collect::<Result<_>>()?,
            bias: self.relative_bias(ENCODER, config)?,
            norm: self.norm(ENCODER.output_norm, 1.0)?,
        })
    }

    /// The first block's bias serves all.
    pub(super) fn relative_bias(
        &mut self,
        names: Names,
        config: &EncoderConfig,
    ) -> Result<RelativeBias> {
        let tensor = self.checkpoint.require(&format!("{}.0.attn_rel_b.weight", names.block))?;
        let n_heads = self.config.n_heads;
        expect_shape(&tensor, &[config.n_buckets, n_heads])?;
        let weight = tensor.to_f32()?;
        self.finish(&tensor);
        let buckets = (config.n_buckets, config.max_distance);
        Ok(RelativeBias::new(weight, n_heads, buckets, !names.has_cross))
    }

    fn cross(&mut self, name: impl Fn(&str) -> String) -> Result<Cross> {
        let ModelConfig { hidden_size, n_heads, n_kv_heads, head_dim, .. } = *self.config;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (k, v) = (name("cross_attn_k"), name("cross_attn_v"));
        Ok(Cross {
            norm: self.norm(&name("cross_attn_norm"), 1.0)?,
            q: self.stack(&[(&name("cross_attn_q"), q)], hidden_size)?,
            kv: self.stack(&[(&k, kv), (&v, kv)], hidden_size)?,
            output: self.stack(&[(&name("cross_attn_o"), hidden_size)], q)?,
        })
    }

    pub(super) fn layer(&mut self, names: Names, i: usize) -> Result<Layer> {
        let ModelConfig { hidden_size, feed_forward, n_heads, n_kv_heads, head_dim, .. } =
            *self.config;
        let architecture = self.config.architecture;
        let name = |stem: &str| format!("{}.{i}.{stem}", names.block);
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv = if architecture.fused_qkv {
            self.stack(&[(&name("attn_qkv"), q + 2 * kv)], hidden_size)?
        } else {
            let names = ["attn_q", "attn_k", "attn_v"].map(name);
            self.stack(&[(&names[0], q), (&names[1], kv), (&names[2], kv)], hidden_size)?
        };
        let up = if self.config.mlp.is_gated() {
            let names = ["ffn_gate", "ffn_up"].map(name);
            self.stack(&[(&names[0], feed_forward), (&names[1], feed_forward)], hidden_size)?
        } else {
            self.stack(&[(&name("ffn_up"), feed_forward)], hidden_size)?
        };
        let shares_norm = self.config.residual == Residual::ParallelShared;
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"), 1.0)?,
            qkv,
            attn_output: self.stack(&[(&name(names.attn_output), hidden_size)], q)?,
            cross: if names.has_cross { Some(self.cross(name)?) } else { None },
            ffn_norm: if shares_norm { None } else { Some(self.norm(&name("ffn_norm"), 1.0)?) },
            up,
            down: self.stack(&[(&name("ffn_down"), hidden_size)], feed_forward)?,
        })
    }

    pub(super) fn embedding(&mut self) -> Result<Embedding> {
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

    /// A norm whose result is also multiplied by `scale`.
    pub(super) fn norm(&mut self, name: &str, scale: f32) -> Result<NormWeights> {
        let len = self.config.hidden_size;
        let tensor = self.checkpoint.require(&format!("{name}.weight"))?;
        expect_shape(&tensor, &[len])?;
        let mut weight = tensor.to_f32()?;
        weight.iter_mut().for_each(|weight| *weight *= scale);
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

    /// Packs `parts` of `k` columns; runs of one encoding and one order of columns become one
    /// matrix.
    pub(super) fn stack(&mut self, parts: Parts<'_>, k: usize) -> Result<Stack> {
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
            let bias = joined_bias(run, n)?;
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

/// The biases of `run`, which has `n` rows, one behind the other: zeros where a tensor has none, and
/// nothing where no tensor has one.
fn joined_bias(run: &[(TensorView<'_>, Option<Vec<f32>>)], n: usize) -> Result<Option<Vec<f32>>> {
    if run.iter().all(|(_, bias)| bias.is_none()) {
        return Ok(None);
    }
    let mut joined = zeroed(n)?;
    let mut rest = joined.as_mut_slice();
    for (tensor, bias) in run {
        let (own, others) = rest.split_at_mut(tensor.n_rows());
        if let Some(bias) = bias {
            own.copy_from_slice(bias);
        }
        rest = others;
    }
    Ok(Some(joined))
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
