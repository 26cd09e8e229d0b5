//! Tokens per second of whole models with random weights: prompts, decoding, batches.

#![expect(missing_docs, reason = "criterion_group! writes functions without any")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use halfbyte::{GenerationConfig, Model, QuantizeType};
use halfbyte_benches::synth::{self, Shape};

/// Models that fit in the memory and patience of a laptop.
const SHAPES: [&str; 2] = ["tinyllama-1.1b", "pythia-1b"];

const TYPES: [&str; 3] = ["q4_0", "q8_0", "q4_k_m"];

/// Tokens of a prompt, and tokens written after it.
const PROMPT: usize = 256;
const NEW: usize = 32;

fn models(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in SHAPES {
        let shape = Shape::find(name).expect("a row of the table");
        for kind_name in TYPES {
            let path = folder.path().join("model.gguf");
            let kind = QuantizeType::from_name(kind_name).expect("a row of the table");
            synth::write(&path, shape, kind, 1, &mut |_, _| {}).expect("room on the disk");
            let model = Model::open(&path).expect("a model that synth wrote");
            measure(c, &format!("{name} {kind_name}"), &model);
        }
    }
}

fn measure(c: &mut Criterion, name: &str, model: &Model) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| 300 + 7 * i % 20000).collect();

    group.throughput(Throughput::Elements(PROMPT as u64));
    group.bench_function("prompt", |b| {
        b.iter_batched(
            || model.session(),
            |mut session| session.append_tokens(&prompt).expect("a prompt that fits"),
            BatchSize::PerIteration,
        );
    });

    let mut start = model.session();
    start.append_tokens(&prompt).expect("a prompt that fits");
    let config =
        GenerationConfig { max_new_tokens: NEW, ignore_eos: true, ..GenerationConfig::greedy() };
    group.throughput(Throughput::Elements(NEW as u64));
    group.bench_function("decode", |b| {
        b.iter_batched(
            || start.fork(),
            |mut session| session.resume(&config).and_then(|g| g.complete()).expect("room"),
            BatchSize::PerIteration,
        );
    });

    let prompts = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    group.throughput(Throughput::Elements((NEW * prompts.len()) as u64));
    group.bench_function("decode, 8 together", |b| {
        b.iter(|| model.generate_batch(&prompts, &config).expect("room"));
    });
    group.finish();
}

criterion_group!(benches, models);
criterion_main!(benches);
