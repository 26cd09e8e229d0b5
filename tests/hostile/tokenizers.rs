//! Broken tokenizers, in the small LLaMA's files: vocabularies in metadata, `tokenizer.json`,
//! `tokenizer.model`.

use halfbyte::io::Value;
use serde_json::{Value as Json, json};

use crate::fixtures::{Folder, array_value};

use super::Case;
use super::gguf::gguf;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [vocabularies(), json_files(), unigram_files(), model_files()];
    tables.into_iter().flatten().collect()
}

/// A sound SentencePiece vocabulary in metadata, then `key` set to `value`.
pub(crate) fn llama(name: &'static str, key: &str, value: Value, names: &'static str) -> Case {
    let tokens = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"];
    let entries = vec![
        ("model", Value::String(b"llama".to_vec())),
        ("tokens", strings(&tokens)),
        ("scores", Value::F32s(vec![0.0; 7])),
        ("token_type", Value::I32s(vec![2, 3, 3, 6, 1, 1, 1])),
    ];
    metadata(name, entries, (key, value), names)
}

/// A sound byte-level vocabulary in metadata, then `key` set to `value`.
fn gpt2(name: &'static str, key: &str, value: Value, names: &'static str) -> Case {
    let entries = vec![
        ("model", Value::String(b"gpt2".to_vec())),
        ("tokens", strings(&["a", "b", "ab", "\u{120}", "<s>"])),
        ("token_type", Value::I32s(vec![1, 1, 1, 1, 3])),
        ("merges", strings(&["a b"])),
    ];
    metadata(name, entries, (key, value), names)
}

/// Tokens of that model, and nothing that says which are better.
fn without_scores(name: &'static str, model: &str, names: &'static str) -> Case {
    let model = Value::String(model.into());
    let entries = vec![("model", model), ("token_type", Value::I32s(vec![2, 1]))];
    metadata(name, entries, ("tokens", strings(&["<unk>", "a"])), names)
}

fn metadata(
    name: &'static str,
    sound: Vec<(&'static str, Value)>,
    (key, value): (&str, Value),
    names: &'static str,
) -> Case {
    let key = format!("tokenizer.ggml.{key}");
    gguf(name, ("Tokenizer", names), move |f| {
        for (key, value) in &sound {
            f.entry(&format!("tokenizer.ggml.{key}"), encoded(value));
        }
        f.entry(&key, encoded(&value));
    })
}

/// A value of a row below as a GGUF file has it.
fn encoded(value: &Value) -> Vec<u8> {
    let one = |kind: u32, bytes: &[u8]| [&kind.to_le_bytes(), bytes].concat();
    let all = |kind, n: usize, bytes: Vec<u8>| array_value(kind, n as u64, &bytes);
    let text = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
    match value {
        Value::U8(number) => one(0, &[*number]),
        Value::U32(number) => one(4, &number.to_le_bytes()),
        Value::U64(number) => one(10, &number.to_le_bytes()),
        Value::Bool(truth) => one(7, &[u8::from(*truth)]),
        Value::String(bytes) => one(8, &text(bytes)),
        Value::I32s(list) => {
            all(5, list.len(), list.iter().flat_map(|n| n.to_le_bytes()).collect())
        }
        Value::F32s(list) => {
            all(6, list.len(), list.iter().flat_map(|n| n.to_le_bytes()).collect())
        }
        Value::Strings(list) => all(8, list.len(), list.iter().flat_map(|s| text(s)).collect()),
        other => unreachable!("no row has a {}", other.type_name()),
    }
}

/// A sound `tokenizer.json`, then the value at `pointer` replaced.
pub(crate) fn json_with(
    name: &'static str,
    pointer: &str,
    value: Json,
    names: &'static str,
) -> Case {
    let mut file = json!({
        "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "ab": 2},
            "merges": ["a b"],
            "continuing_subword_prefix": null,
        },
    });
    if let Some(slot) = file.pointer_mut(pointer) {
        *slot = value;
    }
    json_text(name, file.to_string(), names)
}

/// A sound `tokenizer.json` with a Unigram model, then the value at `pointer` replaced.
fn unigram_with(name: &'static str, pointer: &str, value: Json, names: &'static str) -> Case {
    let mut file = json!({
        "added_tokens": [{"id": 2, "content": "<x>", "lstrip": false}],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}"},
        "decoder": {"type": "Metaspace", "replacement": "\u{2581}"},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]},
    });
    *file.pointer_mut(pointer).expect("it is there") = value;
    json_text(name, file.to_string(), names)
}

fn json_text(name: &'static str, text: String, names: &'static str) -> Case {
    file(name, "tokenizer.json", text.into_bytes(), names)
}

pub(crate) fn model_file(name: &'static str, bytes: Vec<u8>, names: &'static str) -> Case {
    file(name, "tokenizer.model", bytes, names)
}

/// A case that is the small folder with that tokenizer.
fn file(name: &'static str, file_name: &'static str, bytes: Vec<u8>, names: &'static str) -> Case {
    let write = move |path: &std::path::Path| {
        Folder::llama().write(path);
        std::fs::write(path.join(file_name), &bytes).expect("written");
        path.to_owned()
    };
    Case { name, write: Box::new(write), kind: "Tokenizer", says: names }
}

fn strings(texts: &[&str]) -> Value {
    Value::Strings(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(crate::data().join("tokenizer").join(name)).expect("test data")
}

/// Vocabularies in metadata.
fn vocabularies() -> Vec<Case> {
    let tokens = |texts: &[&str]| strings(texts);
    let twice = ["<unk>", "<s>", "</s>", "<0x41>", "a", "a", "ab"];
    let negative_byte = ["<unk>", "<s>", "</s>", "<0x-1>", "a", "b", "ab"];
    let not_a_number = vec![0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0];
    vec![
        llama("a token twice", "tokens", tokens(&twice), "tokenizer.ggml.tokens[5]"),
        llama("no tokens", "tokens", tokens(&[]), "tokenizer.ggml.tokens"),
        llama("tokens that are numbers", "tokens", Value::U32(7), "tokenizer.ggml.tokens"),
        llama("too few scores", "scores", Value::F32s(vec![0.0; 6]), "tokenizer.ggml.scores"),
        llama("a score that is no number", "scores", Value::F32s(not_a_number), "scores[5]"),
        llama("too many kinds", "token_type", Value::I32s(vec![1; 8]), "tokenizer.ggml.token_type"),
        llama("a kind that is none", "token_type", Value::I32s(vec![9; 7]), "token_type[0]"),
        llama("a byte below zero", "tokens", tokens(&negative_byte), "tokenizer.ggml.tokens[3]"),
        llama("an end outside", "eos_token_id", Value::U64(1 << 40), "tokenizer.ggml.eos_token_id"),
        llama("ends outside", "eos_token_ids", Value::I32s(vec![2, -7]), "eos_token_ids"),
        llama("an unknown model", "model", Value::String(b"rwkv".to_vec()), "llama, gpt2"),
        gpt2("a merge of unknown tokens", "merges", strings(&["a b", "b a"]), "merges[1]"),
        gpt2("a merge without a space", "merges", strings(&["ab"]), "merges[0]"),
        gpt2("an unknown split", "pre", Value::String(b"new-bpe".to_vec()), "gpt-2"),
        gpt2("a truth value of the wrong type", "add_bos_token", Value::U8(1), "add_bos_token"),
        without_scores("merges without scores", "llama", "scores is missing"),
        without_scores("pieces without scores", "t5", "a t5 tokenizer needs one for each"),
    ]
}

/// `tokenizer.json` files; several of these make the tokenizers crate panic.
fn json_files() -> Vec<Case> {
    let replace =
        json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b".repeat(1000)});
    let deep = format!("{{\"normalizer\":{}", "[".repeat(100_000));
    let sound = String::from_utf8(data("gptj-1k.tokenizer.json")).expect("text");
    let in_decoder = sound.find("\"decoder\"").map_or(0, |at| at + 40);
    let twice = r#"{"decoder":{"type":"ByteLevel"},"model":{"vocab":{"a":0,"a":1},"merges":[]}}"#;
    vec![
        json_with(
            "a merge longer than any token",
            "/model/merges",
            json!(["ab b"]),
            "model.merges[0]",
        ),
        json_with("a merge of three", "/model/merges", json!(["a b b"]), "model.merges[0]"),
        json_with(
            "a prefix longer than a token",
            "/model/continuing_subword_prefix",
            json!("####"),
            "continuing_subword_prefix",
        ),
        json_with("an id out of range", "/model/vocab/ab", json!(u32::MAX), "4294967295"),
        json_with("an id given twice", "/model/vocab/ab", json!(1), "id 1"),
        json_with("an added id that is taken", "/added_tokens/0/id", json!(2), "id 2"),
        json_with("a gap before an added token", "/added_tokens/0/id", json!(9), "\"<s>\""),
        json_with("another kind of model", "/model/type", json!("WordPiece"), "supported: BPE"),
        json_with("merges as Unigram", "/model/type", json!("Unigram"), "a list with scores"),
        json_with("a normalizer that explodes", "/normalizer", replace, "normalizer"),
        json_with("an unknown decoder", "/decoder/type", json!("CTC"), "decoder"),
        json_with("an unknown splitter", "/pre_tokenizer/type", json!("Exec"), "pre_tokenizer"),
        json_text("a token twice", twice.to_owned(), "\"a\" twice"),
        json_text("nesting without end", deep, "recursion limit"),
        json_text("cut off in the decoder", sound[..in_decoder].to_owned(), "EOF"),
    ]
}

/// `tokenizer.json` files of Unigram models.
fn unigram_files() -> Vec<Case> {
    let map = "/normalizer/precompiled_charsmap";
    vec![
        unigram_with("letters made small", "/normalizer/type", json!("Lowercase"), "Precompiled"),
        unigram_with("split at bytes", "/pre_tokenizer/type", json!("ByteLevel"), "Metaspace"),
        unigram_with("a map of signs", map, json!("A*=="), "no base64"),
        unigram_with("a map of padding", map, json!("Z==="), "no base64"),
        unigram_with("a map of three bytes", map, json!("AAAA"), "shorter than its length"),
        unigram_with("a token that eats spaces", "/added_tokens/0/lstrip", json!(true), "\"<x>\""),
        unigram_with("an unknown token outside", "/model/unk_id", json!(9), "model.unk_id 9"),
        unigram_with(
            "pieces without scores",
            "/model/vocab",
            json!({"a": 0}),
            "a list with scores",
        ),
        json_with("an unknown token of nobody", "/model", no_unknown(), "model.unk_token"),
    ]
}

/// A model whose unknown token is not in its vocabulary.
fn no_unknown() -> Json {
    json!({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"})
}

/// `tokenizer.model` files.
fn model_files() -> Vec<Case> {
    let sound = data("llama-1k.tokenizer.model");
    let cut = sound[..sound.len() / 2 + 1].to_vec();
    let long = [&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F][..], &sound[..]].concat();
    let kind = [&[0x0A, 0x05, 0x0A, 0x01, b'x', 0x18, 0x63][..], &sound[..]].concat();
    let words = [&sound[..], &[0x12, 0x02, 0x18, 0x03]].concat();
    let twice = [&sound[..], &[0x0A, 0x05, 0x0A, 0x03, b'<', b's', b'>']].concat();
    vec![
        model_file("cut off", cut, "byte"),
        model_file("a piece longer than the file", long, "byte 6"),
        model_file("a piece of no kind", kind, "type"),
        model_file("a model of words", words, "model_type"),
        model_file("a piece twice", twice, "pieces[1024]"),
        model_file("text", b"not a protocol buffer".to_vec(), "tokenizer.model"),
        model_file("nothing", Vec::new(), "tokenizer.model"),
    ]
}
