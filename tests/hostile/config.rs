//! Broken `config.json` files and their neighbours.

use serde_json::{Value, json};

use super::safetensors::folder_case;
use super::{Case, MALFORMED};

/// A case whose `config.json` has that value under `key` (null takes the field out).
fn config(
    name: &'static str,
    expected: (&'static str, &'static str),
    key: &'static str,
    value: Value,
) -> Case {
    folder_case(name, expected, move |folder, path| {
        folder.config[key] = value.clone();
        folder.write(path);
    })
}

/// A case whose folder has that file in place of its own.
fn file(
    name: &'static str,
    expected: (&'static str, &'static str),
    file_name: &'static str,
    bytes: impl Fn() -> Vec<u8> + 'static,
) -> Case {
    folder_case(name, expected, move |folder, path| {
        folder.write(path);
        std::fs::write(path.join(file_name), bytes()).expect("written");
    })
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    files().into_iter().chain(fields()).chain(rotary()).collect()
}

fn files() -> Vec<Case> {
    let wrong = |says| ("Config", says);
    vec![
        file("a cut file", (MALFORMED, "JSON: EOF"), "config.json", || b"{\"model_type\"".into()),
        file("a list", (MALFORMED, "expected a JSON object"), "config.json", || b"[1]".into()),
        file("an endless nest", (MALFORMED, "recursion limit"), "config.json", || {
            format!("{{\"rope_scaling\":{}", "[".repeat(1_000_000)).into()
        }),
        file("17 MiB of space", (MALFORMED, "more than 16777216"), "config.json", || {
            vec![b' '; 17 << 20]
        }),
        file("a million end tokens", (MALFORMED, "more than 65536 values"), "config.json", || {
            format!("{{\"eos_token_id\":[{}1]}}", "1,".repeat(1_000_000)).into()
        }),
        file(
            "a cut generation config",
            (MALFORMED, "generation_config.json"),
            "generation_config.json",
            || b"{\"eos_token_id\": [1".into(),
        ),
        file("a switch of words", wrong("add_bos_token in"), "tokenizer_config.json", || {
            b"{\"add_bos_token\": \"yes\"}".into()
        }),
    ]
}

fn fields() -> Vec<Case> {
    let wrong = |says| ("Config", says);
    vec![
        config("no model type", wrong("model_type in"), "model_type", Value::Null),
        config(
            "a foreign model",
            ("UnsupportedArchitecture", "mamba (supported: gptj, llama, gpt_neox, t5)"),
            "model_type",
            json!("mamba"),
        ),
        config(
            "a width in words",
            wrong("config.json: is \"wide\", expected a non-negative integer"),
            "hidden_size",
            json!("wide"),
        ),
        config("no width", wrong("hidden_size in"), "hidden_size", Value::Null),
        config(
            "a billion layers",
            wrong("1000000000 is not between 1 and 1024"),
            "num_hidden_layers",
            json!(1_000_000_000),
        ),
        config("minus one layer", wrong("num_hidden_layers in"), "num_hidden_layers", json!(-1)),
        config("no heads", wrong("num_attention_heads in"), "num_attention_heads", json!(0)),
        config("three heads of 8", wrong("3 heads do not part a"), "num_attention_heads", json!(3)),
        config(
            "key heads that do not fit",
            ("Shape", "k_proj.weight has shape [8, 8], expected [12, 8]"),
            "num_key_value_heads",
            json!(3),
        ),
        config("a huge head", wrong("head_dim in"), "head_dim", json!(1u64 << 40)),
        config("another activation", wrong("hidden_act in"), "hidden_act", json!("relu")),
        config(
            "quantized, but with whole matrices",
            wrong("matrices are packed, but none has a qweight"),
            "quantization_config",
            json!({"bits": 4}),
        ),
        config("an end token below 0", wrong("eos_token_id in"), "eos_token_id", json!(-5)),
    ]
}

fn rotary() -> Vec<Case> {
    let wrong = |says| ("Config", says);
    let llama3 = json!({"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64});
    let mut upside_down = llama3.clone();
    upside_down["factor"] = json!(8.0);
    upside_down["high_freq_factor"] = json!(0.5);
    vec![
        config("rope base 0", wrong("rope_theta in"), "rope_theta", json!(0.0)),
        config(
            "yarn",
            wrong("rope_scaling.rope_type in"),
            "rope_scaling",
            json!({"rope_type": "yarn"}),
        ),
        config("half of llama3", wrong("rope_scaling.factor in"), "rope_scaling", llama3),
        config("llama3 upside down", wrong("high_freq_factor in"), "rope_scaling", upside_down),
        config(
            "part of a head",
            wrong("partial_rotary_factor in"),
            "partial_rotary_factor",
            json!(0.5),
        ),
    ]
}
