//! Results of Hugging Face transformers: `golden.json` beside `golden.safetensors`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;
use serde_json::Value;

/// What transformers computed for one prompt.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// `len7`, `text0`…
    pub name: String,
    /// The text, where the ids come from one.
    pub text: Option<String>,
    /// The prompt.
    pub ids: Vec<u32>,
    /// log p(ids[i + 1] | ids[..= i]), natural logarithm.
    pub token_logprobs: Vec<f64>,
    /// Greedy tokens after the prompt.
    pub greedy: Vec<u32>,
    /// log p of each greedy token.
    pub greedy_logprobs: Vec<f64>,
    /// Smallest distance of the first to the second logit along `greedy`.
    pub greedy_min_margin: f64,
    /// Logits of every position (T, V), where the file has them.
    pub logits: Option<Vec<f32>>,
    /// Logits of the last position.
    pub logits_last: Vec<f32>,
    /// Hidden states (T, E): embeddings, after each layer, the last one after the final norm.
    pub hidden: Vec<Vec<f32>>,
}

/// Reads `stem.json` and `stem.safetensors`.
///
/// # Errors
///
/// If a file is missing or not as the data's README says.
pub fn read(stem: &Path) -> Result<Vec<Prompt>> {
    let with = |extension: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(extension);
        std::fs::read(&name).with_context(|| format!("cannot read {}", Path::new(&name).display()))
    };
    let json: Value = serde_json::from_slice(&with(".json")?)?;
    let bytes = with(".safetensors")?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let prompts = json["prompts"].as_array().context("no `prompts`")?;
    ensure!(!prompts.is_empty(), "`prompts` is empty");
    prompts.iter().map(|prompt| read_prompt(prompt, &tensors)).collect()
}

fn read_prompt(prompt: &Value, tensors: &SafeTensors<'_>) -> Result<Prompt> {
    let name = prompt["name"].as_str().context("a prompt has no name")?.to_owned();
    let tensor = |suffix: &str| {
        let view = tensors.tensor(&format!("{name}.{suffix}")).ok()?;
        Some(
            view.data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        )
    };
    Ok(Prompt {
        text: prompt["text"].as_str().map(str::to_owned),
        ids: list(&prompt["input_ids"])?,
        token_logprobs: list(&prompt["token_logprobs"])?,
        greedy: list(&prompt["greedy"])?,
        greedy_logprobs: list(&prompt["greedy_logprobs"])?,
        greedy_min_margin: prompt["greedy_min_margin"].as_f64().context("no greedy_min_margin")?,
        logits: tensor("logits"),
        logits_last: tensor("logits_last").with_context(|| format!("{name}: no logits_last"))?,
        hidden: (0..).map_while(|k| tensor(&format!("hidden.{k}"))).collect(),
        name,
    })
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Result<Vec<T>> {
    Ok(serde_json::from_value(value.clone())?)
}

/// The largest |a − b|; NaN counts as infinite.
///
/// # Panics
///
/// If the lengths differ.
pub fn max_abs_diff(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "compared rows differ in length");
    let diffs = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
    diffs.map(|d| if d.is_nan() { f64::INFINITY } else { d.abs() }).fold(0.0, f64::max)
}

/// √(Σ(a − b)² / Σb²)
///
/// # Panics
///
/// If the lengths differ.
pub fn relative_rms(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "compared rows differ in length");
    let square = |x: f64| x * x;
    let noise: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let signal: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (noise / signal).sqrt()
}

/// The index of the largest logit, the lowest at a tie.
pub fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    u32::try_from(best.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The distance of the largest to the second largest logit.
pub fn margin(logits: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits {
        if logit > first {
            (first, second) = (logit, first);
        } else if logit > second {
            second = logit;
        }
    }
    first - second
}

/// log p(token) under `logits`, in f64.
pub fn log_prob(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}
