//! Each large block of memory in turn that cannot be had, for every other kind of file that is opened
//! or written: folders, packed matrices, PyTorch, T5, files of 2023, adapters, sessions.

use std::path::{Path, PathBuf};

use anyhow::Result;
use halfbyte::io::Checkpoint;
use halfbyte::model::ModelConfig;
use halfbyte::quant::Encoding;
use halfbyte::{
    Adapter, Cancel, Error, GenerationConfig, Hooks, Model, ModelOptions, QuantizeType, Session,
    quantize_merged,
};
use halfbyte_benches::synth::{self, Shape};
use halfbyte_tests::adapters::Lora;
use halfbyte_tests::fixtures::{Folder, f32_data};
use halfbyte_tests::legacy_files::{self, of_gguf};
use halfbyte_tests::{Rows, torch_file};
use serde_json::json;

use crate::memory::{LARGE, SHAPE};
use crate::system;

/// Width, width of the feed-forward block and vocabulary of the folders below.
const WIDTH: usize = 256;
const INNER: usize = 512;
const VOCAB: usize = 1024;

/// Columns that share a scale.
const GROUP: usize = 64;

/// How a folder's matrices are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    /// With columns out of order.
    Gptq,
    Awq,
}

/// A LLaMA of one block as Hugging Face has it.
fn llama(packing: Packing) -> Folder {
    let mut folder = Folder::llama();
    let sizes = json!({
        "hidden_size": WIDTH, "intermediate_size": INNER, "vocab_size": VOCAB,
        "num_attention_heads": 4, "max_position_embeddings": 512,
    });
    update(&mut folder.config, &sizes);
    let description = match packing {
        Packing::Plain => None,
        Packing::Gptq => Some(json!({
            "bits": 4, "group_size": GROUP, "desc_act": true, "sym": false, "quant_method": "gptq",
        })),
        Packing::Awq => Some(json!({
            "bits": 4, "group_size": GROUP, "quant_method": "awq", "version": "gemm",
            "zero_point": true,
        })),
    };
    if let Some(description) = description {
        folder.config["quantization_config"] = description;
    }
    let small = std::mem::take(&mut folder.tensors);
    for (name, _, shape, _) in small {
        // The small model's sizes, and this one's.
        let grow = |n: &usize| match n {
            8 => WIDTH,
            12 => INNER,
            _ => VOCAB,
        };
        let shape: Vec<usize> = shape.iter().map(grow).collect();
        match (shape.as_slice(), name.strip_suffix("_proj.weight")) {
            (&[n, k], Some(stem)) if packing != Packing::Plain => {
                folder.tensors.extend(packed(&format!("{stem}_proj"), packing, (n, k)));
            }
            _ => folder.tensors.push(plain(name, shape)),
        }
    }
    folder
}

fn update(config: &mut serde_json::Value, with: &serde_json::Value) {
    for (field, value) in with.as_object().expect("fields") {
        config[field] = value.clone();
    }
}

/// A tensor as fixtures have it.
type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

fn plain(name: String, shape: Vec<usize>) -> Tensor {
    let data = f32_data(&name, &shape);
    (name, "F32", shape, data)
}

/// The parts of a matrix in four bits, its codes and zero points any bits whatever.
fn packed(name: &str, packing: Packing, (n, k): (usize, usize)) -> Vec<Tensor> {
    let groups = k / GROUP;
    let words = |part: &str, shape: [usize; 2]| {
        let name = format!("{name}.{part}");
        let data = f32_data(&name, &shape);
        (name, "I32", shape.to_vec(), data)
    };
    let scale = half::f16::from_f32(1.0 / 64.0).to_le_bytes();
    let mut parts = vec![
        words("qweight", if packing == Packing::Gptq { [k / 8, n] } else { [k, n / 8] }),
        words("qzeros", [groups, n / 8]),
        (format!("{name}.scales"), "F16", vec![groups, n], scale.repeat(groups * n)),
    ];
    if packing == Packing::Gptq {
        let order = (0..k).flat_map(|column| ((column % groups) as i32).to_le_bytes());
        parts.push((format!("{name}.g_idx"), "I32", vec![k], order.collect()));
    }
    parts
}

/// A T5 of one block on either side.
fn t5() -> Folder {
    let config = json!({
        "model_type": "t5", "d_model": WIDTH, "d_kv": 64, "d_ff": INNER, "num_layers": 1,
        "num_decoder_layers": 1, "num_heads": 4, "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6, "tie_word_embeddings": true, "is_encoder_decoder": true,
        "vocab_size": VOCAB, "n_positions": 512, "decoder_start_token_id": 0, "pad_token_id": 0,
        "eos_token_id": 1,
    });
    let mut tensors = vec![plain("shared.weight".into(), vec![VOCAB, WIDTH])];
    let mut add = |name: String, shape: &[usize]| {
        tensors.push(plain(format!("{name}.weight"), shape.to_vec()));
    };
    for (side, attentions) in
        [("encoder", &["SelfAttention"][..]), ("decoder", &["SelfAttention", "EncDecAttention"])]
    {
        for (layer, attention) in attentions.iter().enumerate() {
            let layer = format!("{side}.block.0.layer.{layer}");
            add(format!("{layer}.layer_norm"), &[WIDTH]);
            for part in ["q", "k", "v", "o"] {
                add(format!("{layer}.{attention}.{part}"), &[WIDTH, WIDTH]);
            }
        }
        let first = format!("{side}.block.0.layer.0.SelfAttention");
        add(format!("{first}.relative_attention_bias"), &[32, 4]);
        let layer = format!("{side}.block.0.layer.{}", attentions.len());
        add(format!("{layer}.layer_norm"), &[WIDTH]);
        add(format!("{layer}.DenseReluDense.wi_0"), &[INNER, WIDTH]);
        add(format!("{layer}.DenseReluDense.wi_1"), &[INNER, WIDTH]);
        add(format!("{layer}.DenseReluDense.wo"), &[WIDTH, INNER]);
        add(format!("{side}.final_layer_norm"), &[WIDTH]);
    }
    Folder { config, tensors, files: Vec::new() }
}

/// Writes the folder with its weights as PyTorch saves them.
fn write_torch(folder: &Folder, path: &Path) {
    folder.write_without_weights(path);
    let bytes = torch_file::of_folder(folder).bytes();
    std::fs::write(path.join("pytorch_model.bin"), bytes).expect("a writable folder");
}

/// Writes a vocabulary as GPT-2's files have it: single bytes, and pairs of them.
fn write_vocabulary(path: &Path) -> Result<()> {
    let letters: Vec<char> = ('!'..='~').collect();
    let pairs = letters.iter().flat_map(|a| letters.iter().map(move |b| (*a, *b)));
    let pairs: Vec<(char, char)> = pairs.take(4000).collect();
    let single = letters.iter().map(char::to_string);
    let tokens = single.chain(pairs.iter().map(|(a, b)| format!("{a}{b}")));
    let ids: serde_json::Map<String, serde_json::Value> =
        tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
    std::fs::write(path.join("vocab.json"), serde_json::to_vec(&ids)?)?;
    let merges = pairs.iter().map(|(a, b)| format!("{a} {b}\n"));
    let merges = std::iter::once("#version: 0.2\n".to_owned()).chain(merges);
    Ok(std::fs::write(path.join("merges.txt"), merges.collect::<String>())?)
}

/// The prompt of all models: two passes.
fn prompt() -> Vec<u32> {
    (0..300).map(|i| 3 + 7 * i % 900).collect()
}

fn write_text(model: &Model) -> halfbyte::Result<Vec<u32>> {
    let config = GenerationConfig {
        max_new_tokens: 16,
        seed: Some(1),
        ignore_eos: true,
        ..GenerationConfig::default()
    };
    let done = model.session().generate_tokens(&prompt(), &config)?.complete()?;
    Ok(done.pieces.iter().map(|piece| piece.token).collect())
}

fn options() -> ModelOptions {
    ModelOptions { threads: Some(2), ..ModelOptions::default() }
}

/// Refuses each large block of `work` in turn; afterwards it gives what it gave before.
fn refuse_each<T: PartialEq + std::fmt::Debug>(
    rows: &mut Rows,
    name: &str,
    work: &dyn Fn() -> halfbyte::Result<T>,
) -> Result<()> {
    // What stays from a first time, such as a pool of threads, is not asked for again.
    work()?;
    let (whole, n_blocks) = system::fail_block(usize::MAX, LARGE, work);
    let whole = whole?;
    rows.check(name, n_blocks > 1, format!("{n_blocks} blocks"));
    for n in 0..n_blocks {
        let (failed, _) = system::fail_block(n, LARGE, work);
        let is_error = matches!(failed, Err(Error::OutOfMemory { bytes }) if bytes > 0);
        let fact = failed.map_or_else(|error| format!("{error:?}"), |_| "no error".to_owned());
        rows.check(&format!("{name}, block {n} of {n_blocks}"), is_error, fact);
    }
    let (again, _) = system::fail_block(usize::MAX, LARGE, work);
    rows.check(name, again? == whole, "something else afterwards");
    Ok(())
}

#[test]
fn folders_of_every_kind_fail_in_order() -> Result<()> {
    let _alone = system::alone();
    let dir = tempfile::tempdir()?;
    let mut rows = Rows::default();
    type Write = fn(&Path);
    let folders: [(&str, Write); 5] = [
        ("safetensors", |path| llama(Packing::Plain).write(path)),
        ("GPTQ", |path| llama(Packing::Gptq).write(path)),
        ("AWQ", |path| llama(Packing::Awq).write(path)),
        ("PyTorch", |path| write_torch(&llama(Packing::Plain), path)),
        ("T5", |path| t5().write(path)),
    ];
    for (name, write) in folders {
        let path = dir.path().join(name);
        std::fs::create_dir(&path)?;
        write(&path);
        refuse_each(&mut rows, name, &|| write_text(&Model::open_with(&path, &options())?))?;
    }
    // The engine that cuts texts for a vocabulary of bytes ends the process: only the files are read.
    let path = dir.path().join("GPT-2's vocabulary");
    std::fs::create_dir(&path)?;
    llama(Packing::Plain).write(&path);
    write_vocabulary(&path)?;
    refuse_each(&mut rows, "GPT-2's vocabulary", &|| {
        let checkpoint = Checkpoint::open(&path)?;
        Ok(checkpoint.metadata().strings("tokenizer.ggml.tokens")?.map(<[_]>::len))
    })?;
    rows.finish()
}

/// A LLaMA in a file.
fn gguf(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("model.gguf");
    let kind = QuantizeType::from_name("q4_0").expect("a type");
    synth::write(&path, &SHAPE, kind, 1, &mut |_, _| {})?;
    Ok(path)
}

#[test]
fn files_of_2023_fail_in_order() -> Result<()> {
    let _alone = system::alone();
    let dir = tempfile::tempdir()?;
    let mut rows = Rows::default();
    // The feed-forward width that LLaMA's header means.
    let shape = Shape { n_kv_heads: SHAPE.n_heads, feed_forward: 768, ..SHAPE };
    let source = dir.path().join("source.gguf");
    synth::write_encoding(&source, &shape, Encoding::Q4_0, None, 1)?;
    let source = Checkpoint::open(source)?;
    let [ggml, .., ggjt] = legacy_files::LLAMA;
    for (name, model, encoding) in
        [("ggjt of May", ggjt, Encoding::Q4_0), ("ggml of March", ggml, Encoding::Q4_0_V1)]
    {
        let path = dir.path().join(format!("{name}.bin"));
        of_gguf(&source, model, (encoding, 2), 1.0).write(&path);
        refuse_each(&mut rows, name, &|| write_text(&Model::open_with(&path, &options())?))?;
    }
    rows.finish()
}

#[test]
fn adapters_fail_in_order() -> Result<()> {
    let _alone = system::alone();
    let dir = tempfile::tempdir()?;
    let mut rows = Rows::default();
    let path = gguf(dir.path())?;
    let checkpoint = Checkpoint::open(&path)?;
    let config = ModelConfig::from_checkpoint(&checkpoint)?;
    let lora = Lora::random(&config, 1, 64, &["attn_q", "attn_output", "ffn_up", "ffn_down"]);
    let [peft, ggla] = ["peft", "lora.bin"].map(|name| dir.path().join(name));
    lora.write_peft(&peft);
    std::fs::write(&ggla, lora.ggla())?;
    // The others are read where they lie in the file.
    refuse_each(&mut rows, "turned factors", &|| Ok(Adapter::open(&ggla, &config)?.fingerprint()))?;
    refuse_each(&mut rows, "an adapter", &|| {
        // A fresh model each time, or the buffers of the last passes would serve.
        let model = Model::open_with(&path, &options())?;
        let adapter = model.open_adapter(&peft)?;
        write_text(&model.with_adapters(&[(adapter, 0.5)])?)
    })?;
    // Into a file of its own, which is there when it is complete and not before.
    let to = dir.path().join("merged.gguf");
    for name in ["q4_k_m", "f32"] {
        let kind = QuantizeType::from_name(name).expect("a type");
        refuse_each(&mut rows, &format!("merge into {name}"), &|| {
            let source = Checkpoint::open(&path)?;
            let adapters = [(Adapter::open(&peft, &config)?, 0.5)];
            let done =
                quantize_merged((&source, &adapters), &to, kind, &Cancel::new(), &mut |_, _| {});
            assert_eq!(to.exists(), done.is_ok(), "half a file");
            drop(std::fs::remove_file(&to));
            done.map(|report| report.bytes)
        })?;
    }
    rows.finish()
}

#[test]
fn sessions_and_scores_fail_in_order() -> Result<()> {
    let _alone = system::alone();
    let dir = tempfile::tempdir()?;
    let mut rows = Rows::default();
    let file = gguf(dir.path())?;
    let model = || Model::open_with(&file, &options());
    let path = dir.path().join("session");
    refuse_each(&mut rows, "a session's file", &|| {
        let model = model()?;
        let mut session = model.session();
        session.append_tokens(&prompt())?;
        session.save(&path)?;
        Ok(Session::load(&model, &path)?.tokens().to_vec())
    })?;
    let tokens = prompt();
    refuse_each(&mut rows, "embedding", &|| model()?.embed_tokens(&tokens))?;
    refuse_each(&mut rows, "all logits", &|| model()?.logits(&tokens))?;
    refuse_each(&mut rows, "perplexity", &|| {
        Ok(model()?.perplexity(&tokens, 64, 32, &Hooks::default())?.value)
    })?;
    rows.finish()
}
