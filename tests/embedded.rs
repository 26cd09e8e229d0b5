//! Models of real text on text that they were not trained on: that the embedded one predicts it as well
//! as it should, and what each encoding costs one whose f32 weights lie beside the checkout.

use anyhow::{Context, Result};
use halfbyte::io::Checkpoint;
use halfbyte::{Cancel, GenerationConfig, Hooks, Model, ModelOptions, QuantizeType, quantize};
use halfbyte_tests::{Rows, data, shared, skip};

/// Distances to f32's perplexity (27.2335, also by transformers) of `../shared/demo/gptj-stories` on `data/heldout.txt`, as this test printed them on
/// 2026-11-24; 1.3 times as much is allowed.
const DISTANCES: &[(&str, f64)] = &[("q8_0", 0.0043), ("q4_0", 0.3013), ("q4_k", 0.0750)];

/// The perplexity of the embedded model's f32 weights by transformers 5.24 in f32.
const EMBEDDED_F32: f64 = 18.868_302_965_5;

/// The perplexity of the committed Q4_0 file: shows a change of model or maths without `../shared`.
const EMBEDDED: f64 = 18.954_117_953_9;

/// The mean over documents, each from its own start token, weighted by tokens.
fn perplexity(model: &Model) -> Result<f64> {
    let text = std::fs::read_to_string(data().join("heldout.txt")).context("heldout.txt")?;
    let tokenizer = model.tokenizer()?;
    let start = tokenizer.bos().context("the model has a start token")?;
    let (mut nll, mut n) = (0.0, 0.0);
    for document in text.split("<|endoftext|>") {
        let mut tokens = vec![start];
        tokens.extend(tokenizer.encode(document.trim(), Default::default())?);
        tokens.truncate(model.context_length());
        let window = model.context_length();
        let score = model.perplexity(&tokens, window, window, &Hooks::default())?;
        nll += score.mean_nll * score.n_scored as f64;
        n += score.n_scored as f64;
    }
    Ok((nll / n).exp())
}

#[test]
fn every_encoding_stays_near_f32() -> Result<()> {
    let Some(source) = shared().map(|s| s.join("demo/gptj-stories")) else {
        skip("perplexity of f32, Q8_0, Q4_0 and Q4_K on held-out text");
        return Ok(());
    };
    let source = Checkpoint::open(source)?;
    let exact = perplexity(&Model::from_checkpoint(&source, &ModelOptions::default())?)?;
    println!("f32    {exact:.4}");
    let folder = tempfile::tempdir()?;
    let mut rows = Rows::default();
    for &(name, distance) in DISTANCES {
        let file = folder.path().join(name);
        let kind = QuantizeType::from_name(name).context("a known type")?;
        quantize(&source, &file, kind, &Cancel::new(), &mut |_, _| {})?;
        let found = perplexity(&Model::open(&file)?)?;
        println!("{name:<6} {found:.4} ({:+.4})", found - exact);
        let allowed = 1.3 * distance;
        rows.check(name, (found - exact).abs() <= allowed, format!("{found} against {exact}"));
    }
    rows.finish()
}

#[test]
fn the_embedded_model_predicts_held_out_text() -> Result<()> {
    let options = ModelOptions::default();
    let model = Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)?;
    let found = perplexity(&model)?;
    println!("embedded {found:.6}");
    anyhow::ensure!((found - EMBEDDED).abs() < 1e-6, "{found} instead of {EMBEDDED}");
    anyhow::ensure!((found / EMBEDDED_F32 - 1.0).abs() < 0.01, "{found}, f32 {EMBEDDED_F32}");
    Ok(())
}

#[test]
fn the_embedded_model_writes_english() -> Result<()> {
    let options = ModelOptions::default();
    let model = Model::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES, &options)?;
    let config = GenerationConfig { max_new_tokens: 60, ..GenerationConfig::greedy() };
    let text = model.generate("Once upon a time", &config)?.text;
    let common = ["the", "a", "to", "was", "she", "he", "and", "her", "his", "it", "in"];
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    let known = words.iter().filter(|w| common.contains(&w.as_str())).count();
    anyhow::ensure!(words.len() > 25 && 5 * known > words.len(), "not a story: {text}");
    Ok(())
}
