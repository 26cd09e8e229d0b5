//! Logits and greedy tokens against Hugging Face transformers.
//!
//! Chain of oracles: transformers → `Reference` (the same weights, decoded to f32) → `Decoder`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Tensor;
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, KvCache, Step, Want};
use halfbyte::reference::Reference;
use halfbyte_tests::golden_file::{
    self, Prompt, argmax, log_prob, margin, max_abs_diff, relative_rms,
};
use halfbyte_tests::{Rows, data, shared, skip};

#[path = "golden/candle.rs"]
mod candle;

/// How far logits may lie from what they are compared with.
#[derive(Clone, Copy, Debug)]
enum Tolerance {
    MaxAbs(f64),
    RelativeRms(f64),
}

use Tolerance::{MaxAbs, RelativeRms};

/// How weights are stored, as far as tolerances care.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weights {
    F32,
    F16,
    Quantized,
}

use Weights::{F16, F32, Quantized};

/// One checkpoint with its golden results.
struct Case {
    /// Below `../shared/data`, or below `tests/data`.
    path: &'static str,
    /// Without `.json` and `.safetensors`.
    golden: &'static str,
    weights: Weights,
    /// `Reference` against transformers.
    exactness: Tolerance,
}

const fn case(path: &'static str, golden: &'static str, weights: Weights) -> Case {
    Case { path, golden, weights, exactness: MaxAbs(1e-4) }
}

/// A model that GPTQ or AWQ packed in four bits; embeddings and norms are f16.
const fn packed(path: &'static str, golden: &'static str) -> Case {
    case(path, golden, Quantized)
}

#[rustfmt::skip]
const SHARED: &[Case] = &[
    case("models/gptj-tiny", "models/gptj-tiny/golden", F32),
    case("models/llama-tiny-mha", "models/llama-tiny-mha/golden", F32),
    case("models/llama-tiny-gqa-tied", "models/llama-tiny-gqa-tied/golden", F32),
    case("models/llama-tiny-llama3rope", "models/llama-tiny-llama3rope/golden", F32),
    case("models/gptneox-tiny-parallel", "models/gptneox-tiny-parallel/golden", F32),
    case("models/gptneox-tiny-sequential", "models/gptneox-tiny-sequential/golden", F32),
    case("ggml/gptj-1k.f16.gguf", "ggml/gptj-1k.f16.gguf.golden", F16),
    case("ggml/gptj-1k.q8_0.gguf", "ggml/gptj-1k.q8_0.gguf.golden", Quantized),
    case("ggml/gptj-1k.q4_0.gguf", "ggml/gptj-1k.q4_0.gguf.golden", Quantized),
    case("ggml/llama-1k.f16.gguf", "ggml/llama-1k.f16.gguf.golden", F16),
    case("ggml/llama-1k.q8_0.gguf", "ggml/llama-1k.q8_0.gguf.golden", Quantized),
    case("ggml/llama-1k.q4_0.gguf", "ggml/llama-1k.q4_0.gguf.golden", Quantized),
    case("ggml/gptj-1k-hf", "ggml/gptj-1k.f16.gguf.golden", F16),
    case("ggml/llama-1k-hf", "ggml/llama-1k.f16.gguf.golden", F16),
    case("ggml/gptj-1k.f16.ggml.bin", "ggml/gptj-1k.f16.ggml.bin.golden", F16),
    case("ggml/gptj-1k.q4_0.qnt2.ggml.bin", "ggml/gptj-1k.q4_0.qnt2.ggml.bin.golden", Quantized),
    case(
        "ggml/gptj-1k.q4_0-interleaved-f32.qnt0.ggml.bin",
        "ggml/gptj-1k.q4_0-interleaved-f32.qnt0.ggml.bin.golden",
        Quantized,
    ),
    case("ggml/llama-1k.f16.ggjt-v1.bin", "ggml/llama-1k.f16.ggjt-v1.bin.golden", F16),
    case("ggml/llama-1k.q4_0.ggjt-v3.bin", "ggml/llama-1k.q4_0.ggjt-v3.bin.golden", Quantized),
    case(
        "ggml/llama-1k.q4_0-interleaved-f32.ggjt-v1.bin",
        "ggml/llama-1k.q4_0-interleaved-f32.ggjt-v1.bin.golden",
        Quantized,
    ),
];

/// What a run without `../shared` still has.
#[rustfmt::skip]
const COMMITTED: &[Case] = &[
    case("gptj-1k.q4_0.gguf", "gptj-1k.q4_0.gguf.golden", Quantized),
    case("llama-1k.q4_0.gguf", "llama-1k.q4_0.gguf.golden", Quantized),
    // The golden results are those of the f32 weights: the tolerance is Q8_0's own error.
    Case {
        path: "gptneox-tiny.q8_0.gguf",
        golden: "gptneox-tiny.golden",
        weights: Quantized,
        exactness: RelativeRms(0.02),
    },
    packed("packed/llama-gptq-sym-g32", "packed/llama-gptq-sym-g32.golden"),
    packed("packed/llama-gptq-act-g32", "packed/llama-gptq-act-g32.golden"),
    packed("packed/llama-gptq-v2-g128", "packed/llama-gptq-v2-g128.golden"),
    packed("packed/llama-gptq-one-group", "packed/llama-gptq-one-group.golden"),
    Case { weights: F32, ..packed("packed/llama-gptq-act-g16", "packed/llama-gptq-act-g16.golden") },
    packed("packed/llama-gptq-2023", "packed/llama-gptq-2023.golden"),
    packed("packed/llama-awq-g32", "packed/llama-awq-g32.golden"),
    packed("packed/llama-awq-g64", "packed/llama-awq-g64.golden"),
    packed("packed/gptj-gptq-act-g32", "packed/gptj-gptq-act-g32.golden"),
    packed("packed/gptneox-gptq-act-g32", "packed/gptneox-gptq-act-g32.golden"),
];

/// The decoder's cache types and how close to the reference it must stay with each.
///
/// Greedy tokens are compared where the reference's first logit leads by more than `margin`.
struct DecoderRow {
    weights: Weights,
    cache: CacheType,
    tolerance: Tolerance,
    margin: f32,
}

#[rustfmt::skip]
const DECODER: &[DecoderRow] = &[
    DecoderRow { weights: F32, cache: CacheType::F32, tolerance: MaxAbs(1e-4), margin: 1e-3 },
    DecoderRow { weights: F32, cache: CacheType::F16, tolerance: MaxAbs(5e-3), margin: 0.02 },
    DecoderRow { weights: F16, cache: CacheType::F32, tolerance: MaxAbs(5e-4), margin: 2e-3 },
    DecoderRow { weights: F16, cache: CacheType::F16, tolerance: MaxAbs(5e-3), margin: 0.02 },
    DecoderRow { weights: Quantized, cache: CacheType::F32, tolerance: RelativeRms(0.03), margin: 0.2 },
    DecoderRow { weights: Quantized, cache: CacheType::F16, tolerance: RelativeRms(0.03), margin: 0.2 },
];

impl Tolerance {
    /// Checks and returns the distance.
    fn check(self, rows: &mut Rows, row: &str, found: &[f32], expected: &[f32]) -> f64 {
        let (distance, limit, what) = match self {
            MaxAbs(limit) => (max_abs_diff(found, expected), limit, "max abs difference"),
            RelativeRms(limit) => (relative_rms(found, expected), limit, "relative RMS"),
        };
        rows.check(
            row,
            distance <= limit,
            format!("{what} of logits {distance:.2e} > {limit:.0e}"),
        );
        distance
    }
}

/// Every case whose data is here, with the folder it lies in.
fn cases() -> Vec<(PathBuf, &'static Case)> {
    let mut cases: Vec<_> = COMMITTED.iter().map(|case| (data(), case)).collect();
    match shared() {
        Some(root) => cases.extend(SHARED.iter().map(|case| (root.join("data"), case))),
        None => skip("most golden models"),
    }
    cases
}

fn load(root: &Path, case: &Case) -> Result<(Checkpoint, Vec<Prompt>)> {
    Ok((Checkpoint::open(root.join(case.path))?, golden_file::read(&root.join(case.golden))?))
}

/// The prompt and all greedy tokens but the last: its logits predict every greedy token.
fn forced(prompt: &Prompt) -> Vec<u32> {
    let kept = prompt.greedy.len().saturating_sub(1);
    [prompt.ids.as_slice(), &prompt.greedy[..kept]].concat()
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[test]
fn reference_equals_transformers() -> Result<()> {
    let mut rows = Rows::default();
    for (root, case) in cases() {
        rows.run(case.path, |rows| {
            let (checkpoint, prompts) = load(&root, case)?;
            let reference = Reference::load(&checkpoint)?;
            for prompt in &prompts {
                let row = format!("{} {}", case.path, prompt.name);
                check_reference(rows, &row, case, &reference, prompt)?;
            }
            Ok(())
        });
    }
    rows.finish()
}

#[expect(clippy::print_stdout, reason = "a table for whoever runs it with --nocapture")]
fn check_reference(
    rows: &mut Rows,
    row: &str,
    case: &Case,
    reference: &Reference,
    prompt: &Prompt,
) -> Result<()> {
    let logits = to_vec(&reference.forward(&forced(prompt))?)?;
    let vocab = reference.config().vocab_size;
    let (fed, decoded) = logits.split_at(prompt.ids.len() * vocab);
    let last = &fed[fed.len() - vocab..];
    let mut distance = case.exactness.check(rows, row, last, &prompt.logits_last);
    if let Some(expected) = &prompt.logits {
        distance = distance.max(case.exactness.check(rows, row, fed, expected));
    }
    println!("{row:40} {distance:.1e} of {:?}", case.exactness);
    let states = reference.hidden_states(&prompt.ids)?;
    if let MaxAbs(limit) = case.exactness {
        for (k, expected) in prompt.hidden.iter().enumerate() {
            let distance = max_abs_diff(&to_vec(&states[k])?, expected);
            rows.check(
                row,
                distance <= limit,
                format!("hidden state {k} is off by {distance:.1e}"),
            );
        }
        check_log_probs(rows, row, fed, vocab, &prompt.ids[1..], &prompt.token_logprobs);
        let steps = [last, decoded].concat();
        check_log_probs(rows, row, &steps, vocab, &prompt.greedy, &prompt.greedy_logprobs);
        // Given the tokens before it, each greedy token is the likeliest: so is the whole run.
        let found: Vec<u32> = steps.chunks(vocab).map(argmax).collect();
        rows.check(row, found == prompt.greedy, format!("greedy {found:?}, {:?}", prompt.greedy));
    }
    if prompt.name == "len7" && case.weights == F32 {
        let found = reference.generate_greedy(&prompt.ids, prompt.greedy.len())?;
        rows.check(row, found == prompt.greedy, format!("generated {found:?}"));
    }
    Ok(())
}

/// Compares log p of `tokens[i]` under row i of `logits` with `expected[i]`.
fn check_log_probs(
    rows: &mut Rows,
    row: &str,
    logits: &[f32],
    vocab: usize,
    tokens: &[u32],
    expected: &[f64],
) {
    rows.check(
        row,
        tokens.len() == expected.len(),
        "tokens and log-probabilities differ in number",
    );
    for ((logits, &token), &expected) in logits.chunks(vocab).zip(tokens).zip(expected) {
        let distance = (log_prob(logits, token) - expected).abs();
        rows.check(row, distance <= 1e-4, format!("log p of {token} is off by {distance:.1e}"));
    }
}

#[test]
fn decoder_equals_reference_and_transformers() -> Result<()> {
    let mut rows = Rows::default();
    for (root, case) in cases() {
        rows.run(case.path, |rows| {
            let (checkpoint, prompts) = load(&root, case)?;
            let reference = Reference::load(&checkpoint)?;
            let decoder = Decoder::load(&checkpoint, None, &mut |_, _| {})?;
            let logits = |prompt| to_vec(&reference.forward(&forced(prompt))?);
            let expected: Vec<_> = prompts.iter().map(logits).collect::<Result<_>>()?;
            for setting in DECODER.iter().filter(|row| row.weights == case.weights) {
                let mut worst = 0f64;
                for (prompt, expected) in prompts.iter().zip(&expected) {
                    let row = format!("{} {} {:?} cache", case.path, prompt.name, setting.cache);
                    let found = decode(&decoder, setting.cache, prompt)?;
                    let distance = setting.tolerance.check(rows, &row, &found, expected);
                    worst = worst.max(distance);
                    check_against_golden(rows, &row, case, setting, prompt, &found);
                    check_greedy(rows, &row, setting, prompt, &found, expected);
                }
                println!(
                    "{:36} {:?} cache: {worst:.1e} of {:?}",
                    case.path, setting.cache, setting.tolerance
                );
            }
            Ok(())
        });
    }
    rows.finish()
}

/// Logits of every position of [`forced`]: the prompt in one pass, then one token at a time.
fn decode(decoder: &Decoder, cache_type: CacheType, prompt: &Prompt) -> Result<Vec<f32>> {
    let mut cache = decoder.new_cache(cache_type);
    let mut logits = step(decoder, &mut cache, &prompt.ids)?;
    for token in &forced(prompt)[prompt.ids.len()..] {
        logits.extend(step(decoder, &mut cache, &[*token])?);
    }
    Ok(logits)
}

fn step(decoder: &Decoder, cache: &mut KvCache, tokens: &[u32]) -> Result<Vec<f32>> {
    let step = Step { cache, tokens, want: Want::AllLogits };
    let mut batch = Batch { steps: vec![step], ..Batch::default() };
    Ok(decoder.forward(&mut batch)?.logits)
}

/// Compares with transformers directly, so that an error in the reference cannot hide one here.
fn check_against_golden(
    rows: &mut Rows,
    row: &str,
    case: &Case,
    setting: &DecoderRow,
    prompt: &Prompt,
    found: &[f32],
) {
    let vocab = prompt.logits_last.len();
    let fed = &found[..prompt.ids.len() * vocab];
    let tolerance = match (setting.tolerance, case.exactness) {
        (RelativeRms(decoder), RelativeRms(weights)) => RelativeRms(decoder + weights),
        (tolerance, _) => tolerance,
    };
    tolerance.check(rows, row, &fed[fed.len() - vocab..], &prompt.logits_last);
    if let Some(expected) = &prompt.logits {
        tolerance.check(rows, row, fed, expected);
    }
}

fn check_greedy(
    rows: &mut Rows,
    row: &str,
    setting: &DecoderRow,
    prompt: &Prompt,
    found: &[f32],
    expected: &[f32],
) {
    let vocab = prompt.logits_last.len();
    let before = (prompt.ids.len() - 1) * vocab;
    let steps = found[before..].chunks(vocab).zip(expected[before..].chunks(vocab));
    for (i, (found, expected)) in steps.enumerate() {
        if margin(expected) > setting.margin {
            let (found, expected) = (argmax(found), argmax(expected));
            rows.check(
                row,
                found == expected,
                format!("greedy token {i}: {found}, not {expected}"),
            );
        }
    }
}

#[test]
fn every_case_has_its_files() -> Result<()> {
    let mut rows = Rows::default();
    for (root, case) in cases() {
        rows.check(case.path, root.join(case.path).exists(), "is missing");
        rows.run(case.path, |rows| {
            let prompts = golden_file::read(&root.join(case.golden)).context(case.golden)?;
            rows.check(case.path, prompts.iter().any(|p| p.logits.is_some()), "no logits");
            Ok(())
        });
    }
    rows.finish()
}
