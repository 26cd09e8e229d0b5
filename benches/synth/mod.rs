//! Writes GGUF models of real shapes with seeded random weights, fast and streaming.
//!
//! A file is a [`Shape`] (a row of [`SHAPES`]), a [`QuantizeType`]
//! that says how each tensor is stored,
//! and a seed; the same three give the same bytes. Weights are drawn so that activations keep
//! sane sizes (`weights`), and the vocabulary is made up but works on real text (`vocab`).
//! [`old`] writes the files of spring 2023.

pub mod old;
mod plan;
mod random;
mod shapes;
mod vocab;
mod weights;

use std::path::Path;

use halfbyte::io::{GgufWriter, Metadata, TensorInfo, Value};
use halfbyte::quant::Encoding;
use halfbyte::{QuantizeType, Result};

pub use shapes::{Family, SHAPES, Shape};

use plan::Tensor;
use weights::Generator;

/// Writes the model of `shape` to `path`, calling `progress(done, total)` in bytes.
///
/// Memory stays at a few MiB, whatever the model's size.
///
/// # Errors
///
/// What the writer says.
pub fn write(
    path: &Path,
    shape: &Shape,
    kind: QuantizeType,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let tensors = plan::tensors(shape, &encodings(shape, kind));
    write_tensors(path, shape, &tensors, Generator::new(seed), progress)
}

/// Writes the model of `shape` with every matrix in `encoding`, from random sequences of `blocks`
/// (whole blocks of that encoding; none: of normal weights).
///
/// # Errors
///
/// What the writer says; without `blocks` also if the encoding can only be read.
pub fn write_encoding(
    path: &Path,
    shape: &Shape,
    encoding: Encoding,
    blocks: Option<&[u8]>,
    seed: u64,
) -> Result<()> {
    let tensors = plan::tensors(shape, &|_, _| encoding);
    let mut generator = Generator::new(seed);
    if let Some(blocks) = blocks {
        generator.draw_from(encoding, blocks);
    }
    write_tensors(path, shape, &tensors, generator, &mut |_, _| {})
}

/// How a model of `shape` and `kind` stores its matrices.
fn encodings(shape: &Shape, kind: QuantizeType) -> impl Fn(&str, usize) -> Encoding + use<> {
    let n_layers = shape.n_layers as usize;
    move |name, row_len| kind.encoding_of(name, row_len, n_layers, false)
}

fn write_tensors(
    path: &Path,
    shape: &Shape,
    tensors: &[Tensor],
    mut generator: Generator,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let infos: Vec<TensorInfo> = tensors
        .iter()
        .map(|t| TensorInfo { name: t.name.clone(), dims: t.dims.clone(), encoding: t.encoding })
        .collect();
    let total = tensors.iter().map(|t| t.n_bytes() as u64).sum();
    let mut writer = GgufWriter::create(path, &metadata(shape), infos)?;
    let mut done = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        generator.write(index as u64, tensor, &mut |chunk| {
            done += chunk.len() as u64;
            progress(done, total);
            writer.write(chunk)
        })?;
    }
    writer.finish()
}

/// Everything that a loader wants to know about `shape`.
fn metadata(shape: &Shape) -> Metadata {
    let mut meta = Metadata::default();
    let arch = shape.architecture.name();
    let text = |s: &str| Value::String(s.as_bytes().to_vec());
    meta.set("general.architecture", text(arch));
    meta.set("general.name", text(shape.name));
    meta.set("general.quantization_version", Value::U32(2));
    for (key, value) in [
        ("context_length", shape.context_length),
        ("embedding_length", shape.hidden_size),
        ("block_count", shape.n_layers),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.n_heads),
        ("attention.head_count_kv", shape.n_kv_heads),
        ("rope.dimension_count", shape.n_rot),
        ("vocab_size", shape.vocab_size),
    ] {
        meta.set(format!("{arch}.{key}"), Value::U32(value));
    }
    meta.set(format!("{arch}.rope.freq_base"), Value::F32(10000.0));
    let (eps_key, eps) = shape.architecture.norm_eps();
    meta.set(format!("{arch}.{eps_key}"), Value::F32(eps));
    if let Some(parallel) = shape.architecture.use_parallel_residual() {
        meta.set(format!("{arch}.use_parallel_residual"), Value::Bool(parallel));
    }
    vocab::describe(shape, &mut meta);
    meta
}
