//! Broken T5 folders: each gives a typed error that names what is wrong, and none a panic.
//!
//! The files are those of `data/t5-micro` with one thing wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use halfbyte::io::Checkpoint;
use halfbyte::model::{CacheType, ModelConfig};
use halfbyte::{Adapter, Error, GenerationConfig, Model};
use halfbyte_tests::adapters::Lora;
use halfbyte_tests::fixtures::{Folder, Gguf};
use halfbyte_tests::{Rows, data, kind};
use serde_json::{Value, json};

/// What is broken, the kind of the error, and words of its message.
struct Row {
    name: &'static str,
    kind: &'static str,
    says: &'static str,
    edit: Box<dyn Fn(&mut Folder)>,
}

fn row(
    name: &'static str,
    (kind, says): (&'static str, &'static str),
    edit: impl Fn(&mut Folder) + 'static,
) -> Row {
    Row { name, kind, says, edit: Box::new(edit) }
}

/// A row whose `config.json` has that value under `key`; null takes the field out.
fn config(key: &'static str, value: Value, kind: &'static str, says: &'static str) -> Row {
    row(key, (kind, says), move |folder| folder.config[key] = value.clone())
}

/// A row that lacks a tensor.
fn without(tensor: &'static str, says: &'static str) -> Row {
    row(tensor, ("MissingTensor", says), move |folder| {
        let n_before = folder.tensors.len();
        folder.tensors.retain(|(name, ..)| name != tensor);
        assert_eq!(folder.tensors.len(), n_before - 1, "there is {tensor}");
    })
}

/// A row with a tensor of another shape and as many elements.
fn reshaped(tensor: &'static str, shape: &'static [usize]) -> Row {
    row(tensor, ("Shape", "expected"), move |folder| {
        let found = folder.tensors.iter_mut().find(|(name, ..)| name == tensor);
        found.expect("there is such a tensor").2 = shape.to_vec();
    })
}

/// A row with a file that is edited; it is empty if there was none.
fn file(
    name: &'static str,
    file: &'static str,
    says: &'static str,
    edit: impl Fn(&mut Vec<u8>) + 'static,
) -> Row {
    row(name, ("Tokenizer", says), move |folder| {
        let place = folder.files.iter().position(|(name, _)| name == file);
        let place = place.unwrap_or_else(|| {
            folder.files.push((file.to_owned(), Vec::new()));
            folder.files.len() - 1
        });
        edit(&mut folder.files[place].1);
    })
}

fn micro() -> Folder {
    Folder::read(&data().join("t5-micro"), &["spiece.model", "tokenizer_config.json"])
}

fn sizes() -> Vec<Row> {
    let c = config;
    vec![
        c("model_type", json!("mt5"), "UnsupportedArchitecture", "t5"),
        c("d_model", Value::Null, "Config", "d_model in"),
        c("d_model", json!(0), "Config", "0 is not between"),
        c("d_model", json!(1u64 << 40), "Config", "is not between"),
        c("d_model", json!(48), "Shape", "expected"),
        c("d_model", json!("wide"), "Config", "a non-negative integer"),
        c("d_kv", json!(0), "Config", "d_kv in"),
        c("d_kv", json!(16), "Shape", "expected"),
        c("d_kv", json!(1u64 << 33), "Config", "d_kv in"),
        c("d_ff", Value::Null, "Config", "d_ff in"),
        c("d_ff", json!(64), "Shape", "expected"),
        c("d_ff", json!(-32), "Config", "d_ff in"),
        c("num_layers", Value::Null, "Config", "num_layers in"),
        c("num_layers", json!(0), "Config", "num_layers in"),
        c("num_layers", json!(3), "MissingTensor", "encoder.block.2"),
        c("num_layers", json!(1_000_000_000), "Config", "1024"),
        c("num_decoder_layers", json!(3), "MissingTensor", "decoder.block.2"),
        c("num_decoder_layers", json!(0), "Config", "num_decoder_layers in"),
        c("num_heads", Value::Null, "Config", "num_heads in"),
        c("num_heads", json!(0), "Config", "num_heads in"),
        c("num_heads", json!(3), "Shape", "expected"),
        c("num_heads", json!(1 << 20), "Config", "num_heads in"),
        c("n_positions", json!(0), "Config", "n_positions in"),
    ]
}

fn fields() -> Vec<Row> {
    let c = config;
    let (buckets, distance) = ("relative_attention_num_buckets", "relative_attention_max_distance");
    vec![
        c("feed_forward_proj", json!("gated-silu"), "Config", "relu or gated-gelu"),
        c("feed_forward_proj", json!("gelu"), "Config", "relu or gated-gelu"),
        c("feed_forward_proj", json!(5), "Config", "feed_forward_proj in"),
        c("feed_forward_proj", json!("relu"), "MissingTensor", "DenseReluDense.wi.weight"),
        c(buckets, json!(0), "Config", buckets),
        c(buckets, json!(6), "Config", "no multiple of 4"),
        c(buckets, json!(64), "Shape", "attn_rel_b"),
        c(buckets, json!(1 << 20), "Config", "relative_buckets_count"),
        c(distance, json!(0), "Config", distance),
        c(distance, json!(16), "Config", "16 is not above half of the 32 buckets"),
        c(distance, json!("far"), "Config", distance),
        c("decoder_start_token_id", json!(620), "Config", "620 is outside the vocabulary"),
        c("decoder_start_token_id", json!(-1), "Config", "decoder_start_token_id in"),
        c("decoder_start_token_id", json!(u64::MAX), "Config", "outside the vocabulary"),
        c("layer_norm_epsilon", json!(0.0), "Config", "layer_norm_epsilon in"),
        c("layer_norm_epsilon", json!("small"), "Config", "layer_norm_epsilon in"),
        c("tie_word_embeddings", json!(false), "MissingTensor", "lm_head"),
        c("tie_word_embeddings", json!("yes"), "Config", "tie_word_embeddings in"),
        c("eos_token_id", json!(5000), "Tokenizer", "eos_token_id is 5000"),
        c("quantization_config", json!({"bits": 4}), "Config", "quantization_config in"),
    ]
}

fn tensors() -> Vec<Row> {
    vec![
        without("shared.weight", "shared"),
        without("encoder.final_layer_norm.weight", "enc.output_norm"),
        without("decoder.final_layer_norm.weight", "dec.output_norm"),
        without(
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "enc.blk.0.attn_rel_b",
        ),
        without(
            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "dec.blk.0.attn_rel_b",
        ),
        without("decoder.block.1.layer.1.EncDecAttention.k.weight", "dec.blk.1.cross_attn_k"),
        without("decoder.block.0.layer.1.layer_norm.weight", "cross_attn_norm"),
        without("decoder.block.0.layer.2.DenseReluDense.wi_0.weight", "ffn_gate"),
        without("encoder.block.1.layer.1.DenseReluDense.wi_1.weight", "ffn_up"),
        reshaped("shared.weight", &[32, 620]),
        reshaped("encoder.block.0.layer.0.SelfAttention.q.weight", &[32, 16]),
        reshaped("encoder.block.0.layer.0.SelfAttention.o.weight", &[512]),
        reshaped("decoder.block.0.layer.0.layer_norm.weight", &[4, 8]),
        reshaped("decoder.block.1.layer.1.EncDecAttention.v.weight", &[32, 16]),
        reshaped("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[2, 32]),
        reshaped("encoder.block.1.layer.1.DenseReluDense.wo.weight", &[16, 64]),
    ]
}

fn tokenizers() -> Vec<Row> {
    const MODEL: &str = "spiece.model";
    // Messages that the file's last fields repeat: protocol buffers take the later ones.
    let appended = |bytes: &'static [u8]| move |file: &mut Vec<u8>| file.extend_from_slice(bytes);
    let config = |text: &'static str| move |file: &mut Vec<u8>| *file = text.into();
    let added = "added_tokens.json";
    vec![
        file("a cut model", MODEL, "malformed at byte", |file| file.truncate(5000)),
        file("an empty model", MODEL, "1 to", Vec::clear),
        file("words", MODEL, "model_type", appended(&[0x12, 2, 0x18, 3])),
        file("suffixes", MODEL, "as_suffix", appended(&[0x12, 3, 0xC0, 1, 1])),
        file("no escapes", MODEL, "escape_whitespaces", appended(&[0x1A, 2, 0x28, 0])),
        file("a map of a byte", MODEL, "shorter than", appended(&[0x1A, 3, 0x12, 1, 7])),
        file("a map without a trie", MODEL, "trie", appended(&[0x1A, 6, 0x12, 4, 0, 0, 0, 0])),
        file("a long trie", MODEL, "trie", appended(&[0x1A, 6, 0x12, 4, 255, 255, 255, 127])),
        file(
            "a map that is not UTF-8",
            MODEL,
            "UTF-8",
            appended(&[0x1A, 11, 0x12, 9, 4, 0, 0, 0, 0, 0, 0, 0, 0xFF]),
        ),
        file(
            "a score that is none",
            MODEL,
            "finite",
            appended(&[0x0A, 8, 0x0A, 1, b'~', 0x15, 0, 0, 0xC0, 0x7F]),
        ),
        file(
            "a piece twice",
            MODEL,
            "spellings must differ",
            appended(&[0x0A, 6, 0x0A, 4, b'<', b'/', b's', b'>']),
        ),
        file(
            "a million extra ids",
            "tokenizer_config.json",
            "extra_ids",
            config("{\"extra_ids\": 1000000}"),
        ),
        file("an id that is taken", added, "which is the id of", config("{\"new\": 5}")),
        file("an id far away", added, "far behind", config("{\"new\": 4000000000}")),
        file("an id twice", added, "ascending", config("{\"new\": 620, \"newer\": 620}")),
    ]
}

#[test]
fn broken_t5_folders_are_typed_errors() -> Result<()> {
    let cases: Vec<Row> =
        [sizes(), fields(), tensors(), tokenizers()].into_iter().flatten().collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let sound = micro();
    let mut rows = Rows::default();
    for case in &cases {
        let folder = tempfile::tempdir()?;
        let mut broken = sound.clone();
        (case.edit)(&mut broken);
        broken.write(folder.path());
        let config = GenerationConfig { max_new_tokens: 1, ..GenerationConfig::default() };
        let tried = catch_unwind(AssertUnwindSafe(|| {
            Model::open(folder.path()).and_then(|model| model.generate("a dog", &config))
        }));
        let name = format!("{} {}", case.name, case.says);
        match tried {
            Err(_) => rows.check(&name, false, "a panic"),
            Ok(Ok(_)) => rows.check(&name, false, "no error"),
            Ok(Err(error)) => {
                let text = error.to_string();
                let holds = kind(&error) == case.kind && text.contains(case.says);
                rows.check(&name, holds, format!("{}: {text}", kind(&error)));
            }
        }
    }
    rows.finish()
}

#[test]
fn the_sound_folder_is_sound() -> Result<()> {
    let folder = tempfile::tempdir()?;
    micro().write(folder.path());
    let model = Model::open(folder.path())?;
    let config = GenerationConfig { max_new_tokens: 1, ..GenerationConfig::default() };
    assert_eq!(model.generate("a dog", &config)?.pieces.len(), 1);
    Ok(())
}

#[test]
fn lora_adapters_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = Model::open(data().join("t5-micro"))?;
    let bytes: &'static [u8] = Gguf::llama().bytes().leak();
    let llama = ModelConfig::from_checkpoint(&Checkpoint::from_static_bytes("llama", bytes)?)?;
    let lora = Lora::random(&llama, 1, 4, &["attn_q", "output"]);
    let peft = folder.path().join("peft");
    std::fs::create_dir(&peft)?;
    lora.write_peft(&peft);
    let (gguf, ggla) = (folder.path().join("lora.gguf"), folder.path().join("lora.bin"));
    std::fs::write(&gguf, lora.gguf().bytes())?;
    std::fs::write(&ggla, lora.ggla())?;
    let refused = |result: halfbyte::Result<()>| match result {
        Err(Error::Config { field, reason }) => {
            assert!(field.starts_with("adapter ") && reason.contains("not beside t5"), "{reason}");
        }
        other => panic!("{other:?} instead of an error"),
    };
    for path in [peft, gguf, ggla] {
        refused(model.open_adapter(&path).map(drop));
        // One of another model.
        let adapters = [(Adapter::open(&path, &llama)?, 1.0)];
        refused(model.with_adapters(&adapters).map(drop));
        refused(model.session().set_adapters(&adapters));
        refused(model.decoder().new_cache_with(CacheType::F16, &adapters).map(drop));
    }
    let mut session = model.session();
    session.append("a dog")?;
    let n_tokens = session.tokens().len();
    session.set_adapters(&[])?;
    assert!(session.tokens().len() == n_tokens && model.with_adapters(&[])?.adapters().is_empty());
    Ok(())
}
