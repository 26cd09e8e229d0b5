//! Every hot loop, as far as public API reaches it: matrix products in every packed form, packing,
//! attention, and what stands between them in a block.
//!
//! One row (m = 1) is decoding and bound by memory: compare GB/s with `read`. Prompts are bound by
//! arithmetic: their elements are operations, so Gelem/s are GOPS. `HALFBYTE_ISA` chooses the
//! instruction set.

#![expect(missing_docs, reason = "criterion_group! writes functions without any")]

use std::hint::black_box;
use std::path::Path;

use candle_core::{Device, Module, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use halfbyte::QLinear;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, KvCache, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte_benches::synth::{self, Family, Shape};

/// (n, k) of LLaMA-7B's layers: a square one, and one with long rows.
const SHAPES: [(usize, usize); 2] = [(4096, 4096), (4096, 11008)];

/// Rows of activations: one token, small batches, a prompt's block.
const ROWS: [usize; 4] = [1, 8, 32, 512];

/// From so many rows on, arithmetic is the limit and not memory.
const PROMPT_ROWS: usize = 32;

/// An encoding of each packed form that can be written, named as in `kernels/forms.rs`.
const FORMS: [(&str, Encoding); 10] = [
    ("Q4", Encoding::Q4_0),
    ("Q4Codebook", Encoding::IQ4_NL),
    ("Q4Affine", Encoding::Q4_1),
    ("Q4K", Encoding::Q4_K),
    ("Q6K", Encoding::Q6_K),
    ("Q8", Encoding::Q8_0),
    ("Q8Affine", Encoding::Q5_1),
    ("F16", Encoding::F16),
    ("BF16", Encoding::BF16),
    ("F32", Encoding::F32),
];

/// The other forms, with an encoding that can only be read, where in its block the factors stand,
/// and one that keeps weights of random bits small.
const READ_ONLY: [(&str, Encoding, &[usize], &[u8]); 4] = [
    ("Q4Codebook, f32 scales", Encoding::IQ4_XS, &[0], &F16_SMALL),
    ("Q4Codebook, powers of two", Encoding::MXFP4, &[0], &[120]),
    ("Q8Halves", Encoding::Q3_K, &[108], &F16_SMALL),
    ("Q8AffineHalves", Encoding::Q2_K, &[80, 82], &F16_SMALL),
];

/// 2⁻¹⁰.
const F16_SMALL: [u8; 2] = 0x1400u16.to_le_bytes();

/// One block of TinyLlama's widths, for forms that only a file can hold.
const BLOCK: Shape = Shape {
    name: "one block",
    architecture: Family::Llama,
    n_layers: 1,
    hidden_size: 2048,
    n_heads: 16,
    n_kv_heads: 16,
    n_rot: 128,
    feed_forward: 5632,
    vocab_size: 1024,
    context_length: 1024,
};

/// A block with hardly anything but attention.
const ATTENTION: Shape = Shape {
    name: "attention",
    hidden_size: 1024,
    n_heads: 8,
    n_kv_heads: 8,
    feed_forward: 32,
    context_length: 8192,
    ..BLOCK
};

/// Caches: heads of keys for the eight of queries, and how they are kept.
const CACHES: [(&str, u32, CacheType); 4] = [
    ("f16", 8, CacheType::F16),
    ("f16, 4 queries a key", 2, CacheType::F16),
    ("q8", 8, CacheType::Q8),
    ("f32", 8, CacheType::F32),
];

/// Tokens in the cache, and new ones.
const DEPTHS: [(usize, usize); 6] =
    [(64, 1), (512, 1), (2048, 1), (4096, 1), (0, 512), (2048, 512)];

/// Models so narrow that norms, rotary embedding, activations and the handing out of work show:
/// RMS norm and a gated block, layer norm and GELU, two layer norms and fused QKV.
const NARROW: [&str; 3] = ["tiny-llama", "tiny-gptj", "tiny-gptneox"];

/// Streaming read of as many bytes as a 7B model has layers of: the ceiling of decoding.
fn read(c: &mut Criterion) {
    let words = vec![1u64; 1 << 27];
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(8 * words.len() as u64)).sample_size(20);
    group.bench_function("all cores", |b| {
        use rayon::prelude::*;
        b.iter(|| black_box(&words).par_chunks(1 << 16).map(xor).reduce(|| 0, |a, b| a ^ b));
    });
    group.finish();
}

/// Reads every word once, eight chains at a time so that arithmetic does not count.
fn xor(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 8];
    for chunk in words.chunks_exact(8) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane ^= word;
        }
    }
    lanes.iter().fold(0, |a, b| a ^ b)
}

fn matmul(c: &mut Criterion) {
    for (form, encoding) in FORMS {
        let mut group = c.benchmark_group(format!("matmul {form} ({})", encoding.name()));
        group.sample_size(10);
        for (n, k) in SHAPES {
            let layer = layer(n, k, encoding);
            let n_bytes = n * encoding.row_bytes(k).expect("widths are whole blocks");
            for m in ROWS {
                let x = normal(m, k);
                group.throughput(throughput(m, n_bytes, n * k));
                let id = BenchmarkId::new(format!("{n}x{k}"), format!("m={m}"));
                group.bench_with_input(id, &x, |b, x| b.iter(|| layer.forward(black_box(x))));
            }
        }
        group.finish();
    }
}

/// A pass over a block in those forms that [`matmul`] cannot make.
fn blocks(c: &mut Criterion) {
    for (form, encoding, factors, small) in READ_ONLY {
        let mut group = c.benchmark_group(format!("block {form} ({})", encoding.name()));
        group.sample_size(10);
        let file = File::new(&BLOCK, encoding, Some(&random_blocks(encoding, factors, small)));
        let decoder = file.load();
        let mut cache = decoder.new_cache(CacheType::F16);
        let weights = weights(&BLOCK);
        let n_bytes = encoding.row_bytes(weights).expect("widths are whole blocks");
        for m in ROWS {
            group.throughput(throughput(m, n_bytes, weights));
            group.bench_function(format!("m={m}"), |b| {
                b.iter(|| pass(&decoder, &mut cache, 0, m, Want::Hidden));
            });
        }
        group.finish();
    }
}

/// From a mapped file to packed weights.
fn packing(c: &mut Criterion) {
    let mut group = c.benchmark_group("packing");
    group.sample_size(10);
    let writable = FORMS.map(|(form, encoding)| (form, encoding, None));
    let read_only = READ_ONLY.map(|(form, encoding, factors, small)| {
        (form, encoding, Some(random_blocks(encoding, factors, small)))
    });
    for (form, encoding, blocks) in writable.into_iter().chain(read_only) {
        let file = File::new(&BLOCK, encoding, blocks.as_deref());
        group.throughput(Throughput::Bytes(file.n_bytes));
        group.bench_function(format!("{form} ({})", encoding.name()), |b| b.iter(|| file.load()));
    }
    group.finish();
}

/// Bytes are those of keys and values; a prompt's elements are tokens.
fn attention(c: &mut Criterion) {
    for (name, n_kv_heads, cache_type) in CACHES {
        let mut group = c.benchmark_group(format!("attention {name}"));
        group.sample_size(20);
        let file = File::new(&Shape { n_kv_heads, ..ATTENTION }, Encoding::Q4_0, None);
        let decoder = file.load();
        for (depth, n) in DEPTHS {
            let mut cache = decoder.new_cache(cache_type);
            if depth > 0 {
                pass(&decoder, &mut cache, 0, depth, Want::Nothing);
            }
            group.throughput(match n {
                1 => Throughput::Bytes(cache.n_bytes() as u64),
                _ => Throughput::Elements(n as u64),
            });
            let id = BenchmarkId::new(format!("depth={depth}"), format!("m={n}"));
            group.bench_function(id, |b| {
                b.iter(|| pass(&decoder, &mut cache, depth, n, Want::Hidden));
            });
        }
        group.finish();
    }
}

/// Whole passes of narrow models with all logits; elements are tokens.
fn narrow(c: &mut Criterion) {
    for name in NARROW {
        let mut group = c.benchmark_group(format!("narrow {name}"));
        let shape = Shape::find(name).expect("a row of the table");
        let decoder = File::new(shape, Encoding::Q4_0, None).load();
        let mut cache = decoder.new_cache(CacheType::F16);
        for m in [1, 8, 32, 128] {
            group.throughput(Throughput::Elements(m as u64));
            group.bench_function(format!("m={m}"), |b| {
                b.iter(|| pass(&decoder, &mut cache, 0, m, Want::AllLogits));
            });
        }
        group.finish();
    }
}

/// What a product of `m` rows with so many weights is measured in.
fn throughput(m: usize, n_bytes: usize, weights: usize) -> Throughput {
    if m < PROMPT_ROWS {
        Throughput::Bytes(n_bytes as u64)
    } else {
        Throughput::Elements(2 * (m * weights) as u64)
    }
}

fn layer(n: usize, k: usize, encoding: Encoding) -> QLinear {
    QLinear::from_tensor(&normal(n, k), encoding).expect("the encoding can be written")
}

fn normal(rows: usize, columns: usize) -> Tensor {
    Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu).expect("memory for a layer")
}

/// A model in a file that goes with the value.
struct File {
    n_bytes: u64,
    checkpoint: Checkpoint,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(shape: &Shape, encoding: Encoding, blocks: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path: &Path = &folder.path().join("model.gguf");
        synth::write_encoding(path, shape, encoding, blocks, 1).expect("room on the disk");
        let n_bytes = path.metadata().expect("the file that was written").len();
        let checkpoint = Checkpoint::open(path).expect("a model that synth wrote");
        Self { n_bytes, checkpoint, _folder: folder }
    }

    fn load(&self) -> Decoder {
        Decoder::load(&self.checkpoint, None, &mut |_, _| {}).expect("memory for a block")
    }
}

/// Weights in the matrices of `shape`'s blocks, without embedding and head.
fn weights(shape: &Shape) -> usize {
    let (e, f) = (shape.hidden_size as usize, shape.feed_forward as usize);
    shape.n_layers as usize * (4 * e * e + 3 * e * f)
}

/// Blocks of every byte there is, with `small` as their factors.
fn random_blocks(encoding: Encoding, factors: &[usize], small: &[u8]) -> Vec<u8> {
    let len = encoding.block_bytes();
    let mut bytes: Vec<u8> =
        (0..256 * len).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
    for block in bytes.chunks_exact_mut(len) {
        for &at in factors {
            block[at..at + small.len()].copy_from_slice(small);
        }
    }
    bytes
}

/// `n` tokens after the first `depth` of the cache.
fn pass(decoder: &Decoder, cache: &mut KvCache, depth: usize, n: usize, want: Want) {
    cache.truncate(depth);
    let tokens: Vec<u32> = (0..n as u32).map(|i| 7919 * (i + 1) % 1000).collect();
    let step = Step { cache, tokens: &tokens, want };
    let outputs = decoder.forward(&mut Batch { steps: vec![step], cancel: None });
    black_box(outputs.expect("memory for a pass"));
}

criterion_group!(benches, read, matmul, blocks, packing, attention, narrow);
criterion_main!(benches);
