//! LoRA adapters: transformers' and PEFT's numbers, dense weights, every container, the same bits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, KvCache, ModelConfig, Step, Want};
use halfbyte::{Adapter, Cancel, Model, ModelOptions, QuantizeType, quantize};
use halfbyte_tests::adapters::Lora;
use halfbyte_tests::{Rows, data};

#[path = "lora/files.rs"]
mod files;
#[path = "lora/numbers.rs"]
mod numbers;
#[path = "lora/sessions.rs"]
mod sessions;

const ALL: &[&str] = &[
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "output",
];

/// A model of each architecture, in few bits.
const MODELS: &[&str] = &["llama-1k.q4_0.gguf", "gptj-1k.q4_0.gguf", "gptneox-tiny.q8_0.gguf"];

fn open(name: &str) -> Result<(Checkpoint, ModelConfig)> {
    let checkpoint = Checkpoint::open(data().join(name))?;
    let config = ModelConfig::from_checkpoint(&checkpoint)?;
    Ok((checkpoint, config))
}

fn decoder(checkpoint: &Checkpoint) -> Result<Decoder> {
    Ok(Decoder::load(checkpoint, None, &mut |_, _| {})?)
}

/// Logits of every position.
fn logits(decoder: &Decoder, cache: &mut KvCache, tokens: &[u32]) -> Result<Vec<f32>> {
    let step = Step { cache, tokens, want: Want::AllLogits };
    Ok(decoder.forward(&mut Batch { steps: vec![step], cancel: None })?.logits)
}

fn adapted(decoder: &Decoder, adapters: &[(Adapter, f32)], tokens: &[u32]) -> Result<Vec<f32>> {
    logits(decoder, &mut decoder.new_cache_with(CacheType::F32, adapters)?, tokens)
}

fn tokens(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + 17) % 512) as u32).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Writes `lora` as a PEFT folder and opens it.
fn peft(folder: &Path, name: &str, lora: &Lora, config: &ModelConfig) -> Result<Adapter> {
    let path = folder.join(name);
    lora.write_peft(&path);
    Ok(Adapter::open(path, config)?)
}

/// The model in f32, in a file.
fn in_f32(checkpoint: &Checkpoint, path: &Path) -> Result<Checkpoint> {
    let kind = QuantizeType::from_name("f32").context("a type")?;
    quantize(checkpoint, path, kind, &Cancel::new(), &mut |_, _| {})?;
    Ok(Checkpoint::open(path)?)
}

/// A model of [`MODELS`], and a folder that is its own.
struct Base {
    name: &'static str,
    /// Its place in the list, for texts of its own.
    i: usize,
    folder: PathBuf,
    checkpoint: Checkpoint,
    config: ModelConfig,
}

impl Base {
    fn peft(&self, name: &str, lora: &Lora) -> Result<Adapter> {
        peft(&self.folder, name, lora, &self.config)
    }

    /// The model in f32.
    fn in_f32(&self) -> Result<Checkpoint> {
        in_f32(&self.checkpoint, &self.folder.join("f32.gguf"))
    }
}

/// Runs `work` with every model.
fn for_each_model(work: impl Fn(&mut Rows, &Base) -> Result<()>) -> Result<()> {
    let mut rows = Rows::default();
    let dir = tempfile::tempdir()?;
    for (i, name) in MODELS.iter().copied().enumerate() {
        rows.run(name, |rows| {
            let (checkpoint, config) = open(name)?;
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder)?;
            work(rows, &Base { name, i, folder, checkpoint, config })
        });
    }
    rows.finish()
}

fn model(name: &str) -> Result<Model> {
    Ok(Model::open_with(
        data().join(name),
        &ModelOptions { threads: Some(2), ..Default::default() },
    )?)
}
