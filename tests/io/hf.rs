//! Hugging Face folders: shards, precisions, row orders, rotary scaling, tokenizers.

use halfbyte::io::{TokenizerSource, Value};
use halfbyte::quant::Encoding;
use halfbyte_tests::fixtures::{Folder, f32_data, gguf_name, llama_shapes, safetensors_bytes};
use halfbyte_tests::shared;
use serde_json::json;

use crate::{assert_same_tensors, floats, open, open_folder, values, without};

#[test]
fn old_and_new_configuration_keys_mean_the_same() {
    let Some(shared) = shared() else {
        println!("skipped: config.json against config.v5.json (no ../shared)");
        return;
    };
    let mut n_models = 0;
    for entry in std::fs::read_dir(shared.join("data/models")).expect("a folder") {
        let model = entry.expect("an entry").path();
        if !model.join("config.v5.json").exists() {
            continue;
        }
        let dir = crate::folder();
        let copy = dir.path().join(model.file_name().expect("a name"));
        std::fs::create_dir(&copy).expect("a folder");
        for (from, to) in
            [("config.v5.json", "config.json"), ("model.safetensors", "model.safetensors")]
        {
            std::fs::copy(model.join(from), copy.join(to)).expect("copied");
        }
        let (old, new) = (open(&model), open(&copy));
        assert_eq!(without(old.metadata(), &[]), without(new.metadata(), &[]));
        assert_same_tensors(&old, &new);
        assert_eq!(old.fingerprint(), new.fingerprint());
        n_models += 1;
    }
    assert!(n_models >= 6, "{n_models} models");
}

#[test]
fn sharded_safetensors_equal_the_single_file() {
    let folder = Folder::llama();
    let (_single_dir, single) = open_folder(&folder);
    let dir = crate::folder();
    folder.write_without_weights(dir.path());
    let mut weight_map = serde_json::Map::new();
    for (i, shard) in folder.tensors.chunks(4).enumerate() {
        let name = format!("model-{:05}-of-00003.safetensors", i + 1);
        std::fs::write(dir.path().join(&name), safetensors_bytes(shard)).expect("written");
        weight_map.extend(shard.iter().map(|t| (t.0.clone(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": weight_map}).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).expect("written");
    for entry in
        ["", "config.json", "model.safetensors.index.json", "model-00002-of-00003.safetensors"]
    {
        assert_same_tensors(&open(&dir.path().join(entry)), &single);
    }
}

#[test]
fn half_precision_weights_decode_to_their_floats() {
    let mut folder = Folder::llama();
    for (name, dtype, shape, data) in &mut folder.tensors {
        let exact = floats(&f32_data(name, shape));
        let (kind, bytes): (_, Vec<u8>) = if name.contains("mlp") {
            let bytes = exact.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes());
            ("BF16", bytes.collect())
        } else {
            ("F16", exact.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect())
        };
        (*dtype, *data) = (kind, bytes);
    }
    let (_dir, checkpoint) = open_folder(&folder);
    for (hf, shape) in llama_shapes() {
        let name = gguf_name(&hf);
        let tensor = checkpoint.require(&name).expect("mapped");
        assert_eq!(tensor.dims(), shape);
        let bf16 = hf.contains("mlp");
        assert_eq!(tensor.encoding(), if bf16 { Encoding::BF16 } else { Encoding::F16 }, "{name}");
        if hf.contains("q_proj") || hf.contains("k_proj") {
            continue;
        }
        let exact = floats(&f32_data(&hf, &shape));
        let rounded = exact.iter().map(|&v| {
            if bf16 { half::bf16::from_f32(v).to_f32() } else { half::f16::from_f32(v).to_f32() }
        });
        assert_eq!(values(&checkpoint, &name), rounded.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn biases_follow_their_rows_into_gguf_order() {
    let numbers = |n: usize| (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>();
    let mut folder = Folder::llama();
    let bias = "model.layers.0.self_attn.q_proj.bias";
    folder.tensors.push((bias.into(), "F32", vec![8], numbers(8)));
    let (_dir, llama) = open_folder(&folder);
    let wanted = [0., 2., 1., 3., 4., 6., 5., 7.];
    assert_eq!(values(&llama, "blk.0.attn_q.bias"), wanted);
    assert_eq!(llama.require("blk.0.attn_q.bias").expect("mapped").row(0), numbers_of(&wanted));

    // GPT-NeoX: two heads of 2, rows [q0 k0 v0 q1 k1 v1] of two each.
    let mut folder = neox_folder();
    folder.tensors.push((
        "gpt_neox.layers.0.attention.query_key_value.bias".into(),
        "F32",
        vec![12],
        numbers(12),
    ));
    let (_dir, neox) = open_folder(&folder);
    let wanted = [0., 1., 6., 7., 2., 3., 8., 9., 4., 5., 10., 11.];
    assert_eq!(values(&neox, "blk.0.attn_qkv.bias"), wanted);
    let rows: Vec<f32> = values(&neox, "blk.0.attn_qkv.weight").chunks(4).map(|r| r[0]).collect();
    assert_eq!(rows, wanted, "the first column of the weight counts the stored rows");
    assert_eq!(neox.metadata().bool("gptneox.use_parallel_residual").expect("a bool"), Some(true));
    assert_eq!(neox.metadata().u64("gptneox.rope.dimension_count").expect("a number"), Some(1));
}

fn numbers_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A GPT-NeoX of one block, width 4, two heads; column 0 of its fused weight counts the rows.
fn neox_folder() -> Folder {
    let block = "gpt_neox.layers.0";
    let shapes = [
        ("gpt_neox.embed_in".to_owned(), vec![3, 4]),
        (format!("{block}.input_layernorm"), vec![4]),
        (format!("{block}.attention.query_key_value"), vec![12, 4]),
        (format!("{block}.attention.dense"), vec![4, 4]),
        (format!("{block}.post_attention_layernorm"), vec![4]),
        (format!("{block}.mlp.dense_h_to_4h"), vec![8, 4]),
        (format!("{block}.mlp.dense_4h_to_h"), vec![4, 8]),
        ("gpt_neox.final_layer_norm".to_owned(), vec![4]),
        ("embed_out".to_owned(), vec![3, 4]),
    ];
    let tensors = shapes.into_iter().map(|(module, shape)| {
        let mut data = f32_data(&module, &shape);
        if module.ends_with("query_key_value") {
            for (row, bytes) in data.chunks_exact_mut(16).enumerate() {
                bytes[..4].copy_from_slice(&(row as f32).to_le_bytes());
            }
        }
        (format!("{module}.weight"), "F32", shape, data)
    });
    let tensors = tensors.collect();
    let config = json!({
        "model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": 4, "intermediate_size": 8,
        "max_position_embeddings": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
        "rotary_pct": 0.5, "vocab_size": 3,
    });
    Folder { config, tensors, files: Vec::new() }
}

#[test]
fn a_neox_head_has_either_name() {
    let mut folder = neox_folder();
    let (_dir, old) = open_folder(&folder);
    for tensor in &mut folder.tensors {
        tensor.0 = tensor.0.replace("embed_out", "lm_head");
    }
    let (_dir, new) = open_folder(&folder);
    assert_same_tensors(&old, &new);
}

#[test]
fn a_tied_head_may_be_missing_and_buffers_are_skipped() {
    let mut folder = Folder::llama();
    folder.tensors.retain(|t| t.0 != "lm_head.weight");
    folder.config["tie_word_embeddings"] = json!(true);
    let inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
    folder.tensors.push((inv_freq, "F32", vec![2], vec![0; 8]));
    folder.tensors.push(("model.layers.0.attn.masked_bias".into(), "BOOL", vec![3], vec![0; 3]));
    let (_dir, checkpoint) = open_folder(&folder);
    assert!(checkpoint.tensor("output.weight").is_none());
    assert_eq!(checkpoint.tensor_names().count(), llama_shapes().len() - 1);
}

#[test]
fn rotary_scaling_becomes_metadata_or_divisors() {
    // Heads of 4 at base 10000: wavelengths 2π = 6.28 and 2π·100 = 628.3.
    let llama3 = |context: u32| {
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": context})
    };
    // At context 1024 the second wave lies between 256 and 1024: blended, computed by hand:
    // smooth = (1024 / 628.3185 − 1) / 3 = 0.209916; 1 / ((1 − s) / 8 + s) = 3.239642.
    for (scaling, wanted) in
        [(llama3(8192), [1.0, 1.0]), (llama3(64), [1.0, 8.0]), (llama3(1024), [1.0, 3.239_642])]
    {
        for key in ["rope_scaling", "rope_parameters"] {
            let mut folder = Folder::llama();
            folder.config[key] = scaling.clone();
            let (_dir, checkpoint) = open_folder(&folder);
            let found = values(&checkpoint, "rope_freqs.weight");
            assert!(
                found.len() == 2 && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5),
                "{scaling}: {found:?}, wanted {wanted:?}"
            );
        }
    }
    let mut folder = Folder::llama();
    folder.config["rope_scaling"] = json!({"type": "linear", "factor": 2});
    let (_dir, checkpoint) = open_folder(&folder);
    let metadata = checkpoint.metadata();
    assert_eq!(metadata.str("llama.rope.scaling.type").expect("text"), Some("linear"));
    assert_eq!(metadata.f32("llama.rope.scaling.factor").expect("a number"), Some(2.0));
    assert!(checkpoint.tensor("rope_freqs.weight").is_none());
}

#[test]
fn special_tokens_come_from_the_files_around_the_tokenizer() {
    let file = |name: &str, json: serde_json::Value| (name.to_owned(), json.to_string().into());
    let mut folder = Folder::llama();
    folder.config["bos_token_id"] = json!(1);
    folder.config["eos_token_id"] = json!(2);
    folder.files = vec![
        file("tokenizer.json", json!({"version": "1.0"})),
        file("generation_config.json", json!({"eos_token_id": [3, 2]})),
        file(
            "tokenizer_config.json",
            json!({"add_eos_token": false, "tokenizer_class": "LlamaTokenizerFast",
                   "unk_token": {"content": "<unk>", "lstrip": false},
                   "chat_template": [{"name": "default", "template": "D"},
                                     {"name": "tool_use", "template": "T"}]}),
        ),
    ];
    let (_dir, checkpoint) = open_folder(&folder);
    assert!(matches!(checkpoint.tokenizer(), TokenizerSource::Json(bytes) if !bytes.is_empty()));
    let metadata = checkpoint.metadata();
    for (key, value) in [
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(3)),
        ("tokenizer.ggml.eos_token_ids", Value::U32s(vec![3, 2])),
        ("tokenizer.ggml.unknown_token", Value::from("<unk>")),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::from("D")),
        ("tokenizer.chat_template.tool_use", Value::from("T")),
        ("tokenizer.chat_templates", Value::Strings(vec![b"tool_use".to_vec()])),
    ] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
}

#[test]
fn a_vocab_json_with_merges_becomes_a_gguf_vocabulary() {
    let mut folder = Folder::llama();
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    folder.files = vec![
        file("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "<|end|>": 4}"#),
        file("added_tokens.json", r#"{"<|more|>": 5}"#),
        file("merges.txt", "#version: 0.2\na b\n"),
        file("special_tokens_map.json", r#"{"eos_token": "<|end|>"}"#),
    ];
    let (_dir, checkpoint) = open_folder(&folder);
    assert!(matches!(checkpoint.tokenizer(), TokenizerSource::Metadata));
    let metadata = checkpoint.metadata();
    let strings =
        |list: &[&str]| Value::Strings(list.iter().map(|s| s.as_bytes().into()).collect());
    for (key, value) in [
        ("model", Value::from("gpt2")),
        ("tokens", strings(&["a", "b", "ab", "[PAD3]", "<|end|>", "<|more|>"])),
        ("token_type", Value::I32s(vec![1, 1, 1, 5, 3, 4])),
        ("merges", strings(&["a b"])),
        ("eos_token_id", Value::U32(4)),
    ] {
        assert_eq!(metadata.get(&format!("tokenizer.ggml.{key}")), Some(&value), "{key}");
    }
}
