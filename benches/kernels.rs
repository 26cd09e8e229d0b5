//! Matrix products of real layers in every form: GB/s of weights, next to what memory can deliver.
//!
//! One row (m = 1) is decoding and bound by memory: compare with `read`. Many rows are prompts and
//! bound by arithmetic. `HALFBYTE_ISA` chooses the instruction set.

#![expect(missing_docs, reason = "criterion_group! writes functions without any")]

use std::hint::black_box;

use candle_core::{Device, Module, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use halfbyte::QLinear;
use halfbyte::quant::Encoding;

/// (n, k) of LLaMA-7B's and GPT-J's layers.
const SHAPES: [(usize, usize); 4] = [(4096, 4096), (11008, 4096), (4096, 11008), (16384, 4096)];

/// Rows of activations: one token, a small batch, a prompt's block.
const ROWS: [usize; 3] = [1, 8, 128];

const ENCODINGS: [Encoding; 7] = [
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q4_K,
    Encoding::Q6_K,
    Encoding::Q8_0,
    Encoding::F16,
    Encoding::F32,
];

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
    for encoding in ENCODINGS {
        let mut group = c.benchmark_group(format!("matmul {}", encoding.name()));
        group.sample_size(20);
        for (n, k) in SHAPES {
            let layer = layer(n, k, encoding);
            let n_bytes = n * encoding.row_bytes(k).expect("widths are whole blocks");
            group.throughput(Throughput::Bytes(n_bytes as u64));
            for m in ROWS {
                let x = normal(m, k);
                let id = BenchmarkId::new(format!("{n}x{k}"), format!("m={m}"));
                group.bench_with_input(id, &x, |b, x| b.iter(|| layer.forward(black_box(x))));
            }
        }
        group.finish();
    }
}

fn layer(n: usize, k: usize, encoding: Encoding) -> QLinear {
    QLinear::from_tensor(&normal(n, k), encoding).expect("the encoding can be written")
}

fn normal(rows: usize, columns: usize) -> Tensor {
    Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu).expect("memory for a layer")
}

criterion_group!(benches, read, matmul);
criterion_main!(benches);
