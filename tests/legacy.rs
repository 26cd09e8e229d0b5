//! The files of spring 2023: every container and every block layout gives the model of today.
//!
//! The oracle is a golden GGUF model: rewritten as files of 2023 (`legacy_files`, which shares
//! nothing with the reader) its weights keep their values, so names, orders, numbers, tokens and
//! logits must be equal. Files that others wrote are in the shared data, and in `golden.rs`, too.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use halfbyte::io::Checkpoint;
use halfbyte::model::{Batch, CacheType, Decoder, ModelConfig, Step, Want};
use halfbyte::quant::Encoding;
use halfbyte::reference::Reference;
use halfbyte::{Error, Model as Opened, ModelOptions, Overrides};
use halfbyte_benches::synth::old::{self, Old};
use halfbyte_tests::golden_file::{self, relative_rms};
use halfbyte_tests::legacy_files::{Ggml, LLAMA, Model, of_gguf};
use halfbyte_tests::{Rows, data, shared, skip};

#[path = "legacy/blocks.rs"]
mod blocks;
#[path = "legacy/convert.rs"]
mod convert;
#[path = "legacy/texts.rs"]
mod texts;

const GGML: Model = LLAMA[0];
const GGMF: Model = LLAMA[1];
const GGJT1: Model = LLAMA[2];
const GGJT2: Model = LLAMA[3];
const GGJT3: Model = LLAMA[4];

/// Containers, encodings and the numbers that these had then. Every encoding is in each of its
/// containers' families, every container is there.
#[rustfmt::skip]
const CASES: &[(&str, Model, Encoding, u32)] = &[
    ("llama-1k.q4_0.gguf", GGML, Encoding::Q4_0_V1, 2),
    ("llama-1k.q4_0.gguf", GGML, Encoding::F32, 0),
    ("llama-1k.q4_0.gguf", GGMF, Encoding::Q4_1_V1, 3),
    ("llama-1k.q4_0.gguf", GGMF, Encoding::Q4_0_V1, 2),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q4_0_V1, 2),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q4_1_V1, 3),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q4_2, 4),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q4_3, 5),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q5_0_V1, 6),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q5_1_V1, 7),
    ("llama-1k.q4_0.gguf", GGJT1, Encoding::Q8_0_V1, 8),
    ("llama-1k.q4_0.gguf", GGJT2, Encoding::Q4_0_V2, 2),
    ("llama-1k.q4_0.gguf", GGJT2, Encoding::Q4_1_V2, 3),
    ("llama-1k.q4_0.gguf", GGJT2, Encoding::Q8_0_V1, 8),
    ("llama-1k.q4_0.gguf", GGJT3, Encoding::Q4_0, 2),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::F32, 0),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_0_V1, 2),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_1_V1, 3),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_2, 4),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_0_V2, 2),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_1_V2, 3),
    ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_0, 2),
    ("gptneox-tiny.q8_0.gguf", Model::NeoX, Encoding::Q8_0_V1, 8),
    ("gptneox-tiny.q8_0.gguf", Model::NeoX, Encoding::Q8_0, 8),
    ("gptneox-tiny.q8_0.gguf", Model::NeoXOld, Encoding::Q8_0_V1, 8),
    ("gptneox-tiny.q8_0.gguf", Model::NeoXOld, Encoding::F32, 0),
];

fn open(name: &str) -> Result<Checkpoint> {
    Ok(Checkpoint::open(data().join(name))?)
}

/// Writes a file of 2023 and opens it.
fn rewritten(
    folder: &Path,
    source: &Checkpoint,
    (model, encoding, kind): (Model, Encoding, u32),
) -> Result<Checkpoint> {
    let path = folder.join("old.bin");
    of_gguf(source, model, (encoding, kind), 1.0).write(&path);
    Ok(Checkpoint::open(path)?)
}

fn values(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u32>)>> {
    let mut names: Vec<_> = checkpoint.tensor_names().map(str::to_owned).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bits = checkpoint.require(&name)?.to_f32()?;
            // Zeros of both signs are one value.
            Ok((name, bits.iter().map(|x| (x + 0.0).to_bits()).collect()))
        })
        .collect()
}

#[test]
fn every_container_and_encoding_gives_the_model_of_today() -> Result<()> {
    let mut rows = Rows::default();
    for &(source, model, encoding, kind) in CASES {
        let row = format!("{source} as {} {}", model.name(), encoding.name());
        rows.run(&row, |rows| {
            let folder = tempfile::tempdir()?;
            let source = open(source)?;
            let old = rewritten(folder.path(), &source, (model, encoding, kind))?;
            let stored = old.require("blk.0.ffn_up.weight")?.encoding();
            rows.check(&row, stored == encoding, format!("is {}", stored.name()));
            let mut want = values(&source)?;
            let mut found = values(&old)?;
            rows.check(&row, found.len() == want.len(), "tensors differ in number");
            want.retain(|tensor| !found.contains(tensor));
            found.clear();
            let names: Vec<_> = want.iter().map(|(name, _)| name).collect();
            rows.check(&row, want.is_empty(), format!("tensors differ: {names:?}"));
            check_config(rows, &row, &source, &old)?;
            rows.check(&row, old.container().contains("of 2023"), old.container());
            Ok(())
        });
    }
    rows.finish()
}

/// The numbers of both models, the context length of LLaMA apart, which its files do not have.
fn check_config(rows: &mut Rows, row: &str, new: &Checkpoint, old: &Checkpoint) -> Result<()> {
    let new = ModelConfig::from_checkpoint(new)?;
    let mut config = ModelConfig::from_checkpoint(old)?;
    if config.architecture.name == "llama" {
        rows.check(row, config.context_length == 2048, "context length");
        config.context_length = new.context_length;
    }
    let (found, want) = (format!("{config:?}"), format!("{new:?}"));
    rows.check(row, found == want, format!("configuration {found}, expected {want}"));
    Ok(())
}

/// Logits of the last token.
fn logits(checkpoint: &Checkpoint, tokens: &[u32]) -> Result<Vec<f32>> {
    let decoder = Decoder::load(checkpoint, Some(2), &mut |_, _| {})?;
    let mut cache = decoder.new_cache(CacheType::F32);
    let step = Step { cache: &mut cache, tokens, want: Want::LastLogits };
    Ok(decoder.forward(&mut Batch { steps: vec![step], cancel: None })?.logits)
}

#[test]
fn every_encoding_computes_as_exactly_as_q4_0_does() -> Result<()> {
    let mut rows = Rows::default();
    for &(name, model, encoding, kind) in CASES {
        let row = format!("{name} as {} {}", model.name(), encoding.name());
        rows.run(&row, |rows| {
            let folder = tempfile::tempdir()?;
            let source = open(name)?;
            let golden = name.replace(".q8_0.gguf", ".gguf").replace("tiny.gguf", "tiny");
            let golden = golden_file::read(&data().join(format!("{golden}.golden")))?;
            let prompt = golden.iter().find(|p| p.ids.len() > 3).context("a prompt")?;
            let want = Reference::load(&source)?.forward(&prompt.ids)?;
            let want = want.get(prompt.ids.len() - 1)?.to_vec1::<f32>()?;
            let old = rewritten(folder.path(), &source, (model, encoding, kind))?;
            let (found, today) = (logits(&old, &prompt.ids)?, logits(&source, &prompt.ids)?);
            let (rms, rms_today) = (relative_rms(&found, &want), relative_rms(&today, &want));
            // The same codes in the same order; where scales are per half, sums are in halves.
            let bound = if encoding.is_float() { 1e-5 } else { rms_today * 1.001 };
            rows.check(&row, rms <= bound, format!("relative RMS {rms:.3e} > {bound:.3e}"));
            let same = matches!(encoding, Encoding::Q4_0_V1 | Encoding::Q4_0_V2)
                || encoding == source.require("blk.0.ffn_up.weight")?.encoding();
            rows.check(&row, !same || found == today, "logits differ from the GGUF file's");
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn transposed_matrices_are_turned() -> Result<()> {
    let source = open("gptj-1k.q4_0.gguf")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.bin");
    for (encoding, kind, size) in [(Encoding::F32, 0, 4), (Encoding::F16, 1, 2)] {
        let mut file = of_gguf(&source, Model::GptJ, (encoding, kind), 1.0);
        file.write(&path);
        let want = values(&Checkpoint::open(&path)?)?;
        for tensor in &mut file.tensors {
            let name = String::from_utf8_lossy(&tensor.name).into_owned();
            let turned = ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in.weight"];
            if !turned.iter().any(|part| name.contains(part)) {
                continue;
            }
            let (k, n) = (tensor.dims[0] as usize, tensor.dims[1] as usize);
            let at = |row: usize, column: usize| (row * k + column) * size;
            let columns = (0..k).flat_map(|column| (0..n).map(move |row| (row, column)));
            let bytes =
                |(row, column): (usize, usize)| tensor.data[at(row, column)..][..size].to_vec();
            tensor.data = columns.flat_map(bytes).collect();
            tensor.dims.reverse();
        }
        file.write(&path);
        let checkpoint = Checkpoint::open(&path)?;
        ensure!(values(&checkpoint)? == want, "{} matrices differ", encoding.name());
        ensure!(checkpoint.notes().iter().any(|note| note.contains("transposed")), "no note");
    }
    Ok(())
}

#[test]
fn blocks_of_256_are_those_of_today() -> Result<()> {
    let source = open("llama-1k.q4_0.gguf")?;
    let weights = source.require("output.weight")?.to_f32()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.bin");
    for (encoding, kind) in [(Encoding::Q4_K, 12), (Encoding::Q6_K, 14)] {
        let mut file = of_gguf(&source, GGJT3, (Encoding::Q4_0, 2), 1.0);
        let output = file.tensor_mut("output.weight");
        output.kind = kind;
        output.data = vec![0; weights.len() / 256 * encoding.block_bytes()];
        encoding.encode(&weights, &mut output.data)?;
        let data = output.data.clone();
        file.write(&path);
        let checkpoint = Checkpoint::open(&path)?;
        let tensor = checkpoint.require("output.weight")?;
        ensure!(tensor.encoding() == encoding, "is {}", tensor.encoding().name());
        let rows: Vec<u8> = (0..tensor.n_rows()).flat_map(|row| tensor.row(row).to_vec()).collect();
        ensure!(rows == data, "{} has other bytes", encoding.name());
    }
    Ok(())
}

#[test]
fn parts_are_joined() -> Result<()> {
    let source = open("llama-1k.q4_0.gguf")?;
    let folder = tempfile::tempdir()?;
    let whole = of_gguf(&source, GGML, (Encoding::Q4_0_V1, 2), 1.0);
    let paths = ["old.bin", "old.bin.1"].map(|name| folder.path().join(name));
    for (i, path) in paths.iter().enumerate() {
        let mut part = whole.clone();
        for tensor in &mut part.tensors {
            let name = String::from_utf8_lossy(&tensor.name).into_owned();
            let &[k, n] = tensor.dims.as_slice() else { continue };
            let by_columns = ["tok_embeddings", "attention.wo", "feed_forward.w2"];
            let row_bytes = tensor.data.len() / n as usize;
            if by_columns.iter().any(|part| name.contains(part)) {
                let rows = tensor.data.chunks_exact(row_bytes);
                let half = row_bytes / 2;
                tensor.data = rows.flat_map(|row| row[i * half..][..half].to_vec()).collect();
                tensor.dims = vec![k / 2, n];
            } else {
                let half = tensor.data.len() / 2;
                tensor.data = tensor.data[i * half..][..half].to_vec();
                tensor.dims = vec![k, n / 2];
            }
        }
        part.write(path);
    }
    for path in &paths {
        let joined = Checkpoint::open(path)?;
        ensure!(values(&joined)? == values(&source)?, "{} differs", path.display());
        ensure!(joined.path() == paths[0], "{}", joined.path().display());
    }
    std::fs::remove_file(&paths[1])?;
    let error = Checkpoint::open(&paths[0]).err().context("opened half a model")?;
    ensure!(matches!(&error, Error::Io { path, .. } if *path == paths[1]), "{error}");
    Ok(())
}

#[test]
fn groovy_and_snoozy_layouts_have_their_sizes() -> Result<()> {
    let Some(root) = shared() else {
        skip("the sizes of groovy and snoozy");
        return Ok(());
    };
    // As in the list of models that gpt4all published.
    for (name, folder, size) in
        [("groovy", "gpt-j", 3_785_248_281), ("snoozy", "llama", 8_136_770_688)]
    {
        let layout = Old::find(name).context("a layout")?;
        let tokens = old::tokens(layout, Some(&root.join("data/vocab").join(folder)))?;
        let found = old::n_bytes(layout, &tokens)?;
        ensure!(found == size, "{name} has {found} bytes, expected {size}");
    }
    Ok(())
}

#[test]
fn overrides_replace_what_files_do_not_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.bin");
    of_gguf(&open("llama-1k.q4_0.gguf")?, GGJT1, (Encoding::Q4_0_V1, 2), 1.0).write(&path);
    let open = |overrides| {
        Opened::open_with(&path, &ModelOptions { overrides, ..ModelOptions::default() })
    };
    let none = Overrides::default();
    let config = |overrides| open(overrides).map(|model| model.config().clone());
    let plain = config(none)?;
    ensure!((plain.norm_eps, plain.rope_base) == (1e-6, 10000.0), "{plain:?}");
    let changed = config(Overrides { rms_eps: Some(1e-5), rope_base: Some(1e6), ..none })?;
    ensure!((changed.norm_eps, changed.rope_base) == (1e-5, 1e6), "{changed:?}");
    for (overrides, field) in [
        (Overrides { rms_eps: Some(0.0), ..none }, "rms_eps"),
        (Overrides { rope_base: Some(f32::NAN), ..none }, "rope_base"),
        (Overrides { n_gqa: Some(0), ..none }, "n_gqa"),
        (Overrides { n_gqa: Some(3), ..none }, "n_gqa"),
    ] {
        let error = open(overrides).err().context("opened")?;
        ensure!(matches!(&error, Error::Config { field: f, .. } if f == field), "{error}");
    }
    let error = open(Overrides { n_gqa: Some(2), ..none }).err().context("opened")?;
    ensure!(matches!(&error, Error::Shape { .. }), "{error}");
    Ok(())
}

#[test]
fn groups_of_key_heads_are_seen_in_the_tensors() -> Result<()> {
    let mut file = Ggml::tiny(GGJT3);
    for name in ["layers.0.attention.wk.weight", "layers.0.attention.wv.weight"] {
        let tensor = file.tensor_mut(name);
        tensor.dims = vec![8, 4];
        tensor.data.truncate(8 * 4 * 4);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.bin");
    file.write(&path);
    let config = ModelConfig::from_checkpoint(&Checkpoint::open(&path)?)?;
    ensure!((config.n_heads, config.n_kv_heads) == (2, 1), "{config:?}");
    // Only LLaMA 2 had them then: its epsilon and context are assumed.
    ensure!((config.norm_eps, config.context_length) == (1e-5, 4096), "{config:?}");
    Ok(())
}
