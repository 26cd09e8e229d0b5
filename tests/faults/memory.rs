//! Each large block of memory in turn that cannot be had, from opening a model to its last token.

use std::path::Path;

use anyhow::{Context as _, Result};
use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::{Error, GenerationConfig, Model, ModelOptions, QuantizeType};
use halfbyte_benches::synth::{self, Family, Shape};
use halfbyte_tests::Rows;

use crate::system;

/// Blocks of the models below that are large: weights, activations, logits and caches of a real model
/// have 1 MiB and more, and these are as much smaller.
pub(crate) const LARGE: usize = 48 << 10;

pub(crate) const SHAPE: Shape = Shape {
    name: "failing",
    architecture: Family::Llama,
    n_layers: 2,
    hidden_size: 256,
    n_heads: 4,
    n_kv_heads: 2,
    n_rot: 64,
    feed_forward: 512,
    vocab_size: 16_384,
    context_length: 512,
};

/// Opens the model and generates from a prompt of two passes.
///
/// Byte-level vocabularies are cut by regular expressions, whose engine takes 320 kB whatever the
/// model, and ends the process if it does not get them: those models run without.
fn open_and_generate(
    path: &Path,
    family: Family,
    cache_type: CacheType,
) -> halfbyte::Result<Vec<u32>> {
    let options = ModelOptions { threads: Some(2), cache_type, ..ModelOptions::default() };
    let mut checkpoint = Checkpoint::open(path)?;
    if family != Family::Llama {
        checkpoint.metadata_mut().remove("tokenizer.ggml.model");
    }
    let model = Model::from_checkpoint(&checkpoint, &options)?;
    let prompt: Vec<u32> = (0..300).map(|i| 3 + 7 * i % 900).collect();
    let config = GenerationConfig {
        max_new_tokens: 16,
        seed: Some(1),
        temperature: 0.8,
        typical_p: 0.95,
        logprobs: Some(2),
        ignore_eos: true,
        ..GenerationConfig::default()
    };
    let done = model.session().generate_tokens(&prompt, &config)?.complete()?;
    Ok(done.pieces.iter().map(|piece| piece.token).collect())
}

#[test]
fn every_large_block_that_cannot_be_had_is_an_error() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let mut rows = Rows::default();
    for (family, kind, cache_type) in [
        (Family::Llama, "q4_0", CacheType::F16),
        (Family::GptJ, "q8_0", CacheType::F32),
        (Family::GptNeoX, "q4_k_m", CacheType::Q8),
    ] {
        let kind = QuantizeType::from_name(kind).context("a type")?;
        let n_kv_heads = if family == Family::Llama { 2 } else { 4 };
        let shape = Shape { architecture: family, n_kv_heads, ..SHAPE };
        let path = folder.path().join(format!("{}.gguf", family.name()));
        synth::write(&path, &shape, kind, 1, &mut |_, _| {})?;
        let run = || open_and_generate(&path, family, cache_type);
        let (whole, n_blocks) = system::fail_block(usize::MAX, LARGE, run);
        let whole = whole?;
        assert!(whole.len() == 16 && n_blocks > 20, "{n_blocks} blocks");
        for n in 0..n_blocks {
            let (failed, _) = system::fail_block(n, LARGE, run);
            let row = format!("{}, block {n} of {n_blocks}", family.name());
            let is_error = matches!(failed, Err(Error::OutOfMemory { bytes }) if bytes > 0);
            rows.check(&row, is_error, format!("{failed:?}"));
        }
        let (again, _) = system::fail_block(usize::MAX, LARGE, run);
        rows.check(family.name(), again? == whole, "other tokens afterwards");
        println!("{}: {n_blocks} blocks of {LARGE} bytes and more", family.name());
    }
    rows.finish()
}

#[test]
fn a_model_goes_on_after_every_block_that_it_could_not_have() -> Result<()> {
    let _alone = system::alone();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    let kind = QuantizeType::from_name("q4_0").context("a type")?;
    synth::write(&path, &SHAPE, kind, 1, &mut |_, _| {})?;
    let config = GenerationConfig {
        max_new_tokens: 4,
        seed: Some(1),
        ignore_eos: true,
        ..GenerationConfig::default()
    };
    let prompt: Vec<u32> = (0..300).map(|i| 3 + 7 * i % 900).collect();
    let fresh =
        || Model::open_with(&path, &ModelOptions { threads: Some(2), ..Default::default() });
    let want = fresh()?.session().generate_tokens(&prompt, &config)?.complete()?;
    // A fresh model each time, or the buffers of the last passes would serve.
    for n in 0.. {
        let model = fresh()?;
        let mut session = model.session();
        let (failed, n_blocks) =
            system::fail_block(n, LARGE, || session.generate_tokens(&prompt, &config)?.complete());
        if n == n_blocks {
            assert!(n > 5, "{n} blocks");
            break;
        }
        assert!(matches!(failed, Err(Error::OutOfMemory { .. })), "block {n}: {failed:?}");
        let done = session.generate_tokens(&prompt, &config)?.complete()?;
        assert_eq!(done.pieces, want.pieces, "after block {n}");
    }
    Ok(())
}
