//! LoRA adapters beside a model's weights: what they cost a token, and how long a switch takes.
//!
//! `cargo bench -p halfbyte-benches --bench lora -- MODEL [PAIRS] [ENDS]`: one token is decoded without
//! and with a random adapter of rank 8 in turns, in one process, so that a slow minute of the machine
//! hits both; the median of the pairs' quotients counts. `ENDS` are the ends of the changed matrices'
//! names, `attn_q,attn_v` by default.

#![expect(clippy::print_stdout, reason = "a table for whoever runs it")]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use halfbyte::io::{Checkpoint, GgufWriter, Metadata, TensorInfo, Value};
use halfbyte::model::{Batch, KvCache, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte::{Model, ModelOptions};

const RANK: usize = 8;

/// Tokens in the cache before those that are timed.
const DEPTH: usize = 64;

fn main() -> Result<()> {
    // cargo adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(path) = args.next() else {
        println!("lora: which model? cargo bench -p halfbyte-benches --bench lora -- MODEL");
        return Ok(());
    };
    let pairs: usize = args.next().map_or(Ok(40), |n| n.parse())?;
    let ends = args.next().unwrap_or_else(|| "attn_q,attn_v".into());
    let ends: Vec<_> = ends.split(',').map(|end| format!("{end}.weight")).collect();
    let dir = tempfile::tempdir()?;
    let files = [dir.path().join("one.gguf"), dir.path().join("two.gguf")];
    let checkpoint = Checkpoint::open(&path)?;
    for (i, file) in files.iter().enumerate() {
        write_adapter(&checkpoint, &ends, file, i as u32)?;
    }
    drop(checkpoint);
    let model = Model::open_with(&path, &ModelOptions::default())?;
    let start = Instant::now();
    let one = model.open_adapter(&files[0])?;
    let opening = start.elapsed();
    let two = model.open_adapter(&files[1])?;
    let adapted = model.with_adapters(&[(one.clone(), 1.0)])?;
    println!(
        "{path}: {} matrices of rank {RANK}, opened in {:.1} ms",
        one.matrices().count(),
        1e3 * opening.as_secs_f64()
    );
    let both = model.with_adapters(&[(one.clone(), 1.0), (two.clone(), 0.5)])?;
    decode(&model, &adapted, "one adapter", pairs)?;
    decode(&model, &both, "two adapters", pairs)?;
    let mut session = model.session();
    session.append_tokens(&tokens(DEPTH))?;
    let mut times = Vec::new();
    for i in 0..101 {
        let set = if i % 2 == 0 { vec![(one.clone(), 1.0)] } else { vec![(two.clone(), 0.5)] };
        let start = Instant::now();
        session.set_adapters(&set)?;
        times.push(1e6 * start.elapsed().as_secs_f64());
    }
    println!(
        "switch: median {:.1} µs, longest {:.1} µs",
        median(&mut times),
        times[times.len() - 1]
    );
    Ok(())
}

/// Times one token without and with adapters, in turns.
fn decode(plain: &Model, adapted: &Model, what: &str, pairs: usize) -> Result<()> {
    let mut caches = [plain.new_cache(), adapted.new_cache()];
    for cache in &mut caches {
        pass(plain, cache, &tokens(DEPTH))?;
    }
    let (mut quotients, mut times) = (Vec::new(), [Vec::new(), Vec::new()]);
    for i in 0..=pairs {
        let mut pair = [0.0; 2];
        // Who goes first changes, too.
        for which in if i % 2 == 0 { [0, 1] } else { [1, 0] } {
            let start = Instant::now();
            pass(plain, &mut caches[which], &tokens(1))?;
            pair[which] = 1e3 * start.elapsed().as_secs_f64();
        }
        // The first one warms up.
        if i > 0 {
            quotients.push(pair[1] / pair[0]);
            times.iter_mut().zip(pair).for_each(|(times, time)| times.push(time));
        }
    }
    let [plain, adapted] = &mut times;
    println!(
        "{what}: median {:.2} ms against {:.2} ms, {:+.2} % by pairs (fastest {:.2} against {:.2} ms)",
        median(adapted),
        median(plain),
        100.0 * (median(&mut quotients) - 1.0),
        adapted[0],
        plain[0],
    );
    Ok(())
}

fn pass(model: &Model, cache: &mut KvCache, tokens: &[u32]) -> Result<()> {
    let step = Step { cache, tokens, want: Want::LastLogits };
    model.decoder().forward(&mut Batch { steps: vec![step], cancel: None })?;
    Ok(())
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 7919 * (i + 1) % 1000).collect()
}

/// Sorts, and gives the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Writes an adapter of random numbers for the matrices of `base` whose names end in one of `ends`.
fn write_adapter(base: &Checkpoint, ends: &[String], path: &Path, seed: u32) -> Result<()> {
    let mut metadata = Metadata::default();
    let architecture = base.metadata().str("general.architecture")?.context("an architecture")?;
    for (key, value) in [
        ("general.architecture", architecture),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
    ] {
        metadata.set(key, Value::from(value));
    }
    metadata.set("adapter.lora.alpha", Value::F32(2.0 * RANK as f32));
    let mut infos = Vec::new();
    for name in
        base.tensor_names().filter(|name| ends.iter().any(|end| name.ends_with(end.as_str())))
    {
        let dims = base.require(name)?.dims();
        for (side, dims) in [("a", vec![RANK, dims[1]]), ("b", vec![dims[0], RANK])] {
            let name = format!("{name}.lora_{side}");
            infos.push(TensorInfo { name, dims, encoding: Encoding::F32 });
        }
    }
    let mut writer = GgufWriter::create(path, &metadata, infos.clone())?;
    let mut state = seed.wrapping_add(1);
    for info in &infos {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 1.7e9
        };
        let n = info.dims.iter().product::<usize>();
        writer.write(&(0..n).flat_map(|_| next().to_le_bytes()).collect::<Vec<_>>())?;
    }
    Ok(writer.finish()?)
}
