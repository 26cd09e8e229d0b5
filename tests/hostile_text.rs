//! Broken tokenizers: each is an error that names the field, none panics, hangs or eats memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use halfbyte::Error;
use halfbyte::io::{Metadata, TokenizerSource, Value};
use halfbyte::tokenizer::Tokenizer;
use halfbyte_tests::Stopwatch;
use serde_json::{Value as Json, json};

/// A broken tokenizer, and what the message must name.
struct Case {
    name: &'static str,
    source: TokenizerSource,
    metadata: Metadata,
    names: &'static str,
}

/// A sound SentencePiece vocabulary in metadata, then `key` set to `value`.
fn llama(name: &'static str, key: &str, value: Value, names: &'static str) -> Case {
    let tokens = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"];
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String(b"llama".to_vec()));
    metadata.set("tokenizer.ggml.tokens", strings(&tokens));
    metadata.set("tokenizer.ggml.scores", Value::F32s(vec![0.0; 7]));
    metadata.set("tokenizer.ggml.token_type", Value::I32s(vec![2, 3, 3, 6, 1, 1, 1]));
    metadata.set(format!("tokenizer.ggml.{key}"), value);
    Case { name, source: TokenizerSource::Metadata, metadata, names }
}

/// A sound byte-level vocabulary in metadata, then `key` set to `value`.
fn gpt2(name: &'static str, key: &str, value: Value, names: &'static str) -> Case {
    let mut case = llama(name, "model", Value::String(b"gpt2".to_vec()), names);
    case.metadata.set("tokenizer.ggml.tokens", strings(&["a", "b", "ab", "\u{120}", "<s>"]));
    case.metadata.set("tokenizer.ggml.token_type", Value::I32s(vec![1, 1, 1, 1, 3]));
    case.metadata.set("tokenizer.ggml.merges", strings(&["a b"]));
    case.metadata.set(format!("tokenizer.ggml.{key}"), value);
    case
}

/// A sound `tokenizer.json`, then the value at `pointer` replaced.
fn json_with(name: &'static str, pointer: &str, value: Json, names: &'static str) -> Case {
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

fn json_text(name: &'static str, text: String, names: &'static str) -> Case {
    let source = TokenizerSource::Json(text.into_bytes());
    Case { name, source, metadata: Metadata::default(), names }
}

fn model_file(name: &'static str, bytes: Vec<u8>, names: &'static str) -> Case {
    let source = TokenizerSource::SentencePiece(bytes);
    Case { name, source, metadata: Metadata::default(), names }
}

fn strings(texts: &[&str]) -> Value {
    Value::Strings(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn data(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tokenizer").join(name);
    Ok(std::fs::read(path)?)
}

/// Vocabularies in metadata.
fn broken_metadata() -> Vec<Case> {
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
    ]
}

/// `tokenizer.json` files; several of these make the tokenizers crate panic.
fn broken_json() -> Result<Vec<Case>> {
    let replace =
        json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b".repeat(1000)});
    let deep = format!("{{\"normalizer\":{}", "[".repeat(100_000));
    let sound = String::from_utf8(data("gptj-1k.tokenizer.json")?)?;
    let in_decoder = sound.find("\"decoder\"").map_or(0, |at| at + 40);
    let twice = r#"{"decoder":{"type":"ByteLevel"},"model":{"vocab":{"a":0,"a":1},"merges":[]}}"#;
    Ok(vec![
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
    ])
}

/// `tokenizer.model` files.
fn broken_model_files() -> Result<Vec<Case>> {
    let sound = data("llama-1k.tokenizer.model")?;
    let cut = sound[..sound.len() / 2 + 1].to_vec();
    let long = [&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F][..], &sound[..]].concat();
    let kind = [&[0x0A, 0x05, 0x0A, 0x01, b'x', 0x18, 0x63][..], &sound[..]].concat();
    let words = [&sound[..], &[0x12, 0x02, 0x18, 0x03]].concat();
    let twice = [&sound[..], &[0x0A, 0x05, 0x0A, 0x03, b'<', b's', b'>']].concat();
    Ok(vec![
        model_file("cut off", cut, "byte"),
        model_file("a piece longer than the file", long, "byte 6"),
        model_file("a piece of no kind", kind, "type"),
        model_file("a model of words", words, "model_type"),
        model_file("a piece twice", twice, "pieces[1024]"),
        model_file("text", b"not a protocol buffer".to_vec(), "tokenizer.model"),
        model_file("nothing", Vec::new(), "tokenizer.model"),
    ])
}

fn broken() -> Result<Vec<Case>> {
    Ok([broken_metadata(), broken_json()?, broken_model_files()?].into_iter().flatten().collect())
}

/// The most address space that this process ever had, in bytes; 0 where that is not known.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or("");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

/// The files that are broken are sound otherwise.
fn check_sound() -> Result<()> {
    let sound = [
        llama("", "model", Value::String(b"llama".to_vec()), ""),
        gpt2("", "model", Value::String(b"gpt2".to_vec()), ""),
        json_with("", "/model/type", json!("BPE"), ""),
        json_text("", String::from_utf8(data("gptj-1k.tokenizer.json")?)?, ""),
        model_file("", data("llama-1k.tokenizer.model")?, ""),
    ];
    for case in sound {
        Tokenizer::new(&case.source, &case.metadata)?;
    }
    Ok(())
}

// The only test of this program: the memory that it takes is that of the process.
#[test]
fn broken_tokenizers_are_errors_that_name_the_field() -> Result<()> {
    check_sound()?;
    let cases = broken()?;
    ensure!(cases.len() >= 10, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let file_bytes = match &case.source {
            TokenizerSource::Json(bytes) | TokenizerSource::SentencePiece(bytes) => bytes.len(),
            _ => 1024,
        };
        let (peak, start) = (peak_bytes(), Stopwatch::start());
        let result = Tokenizer::new(&case.source, &case.metadata);
        let (elapsed, grown) = (start.elapsed(), peak_bytes() - peak);
        match result {
            Err(Error::Tokenizer(message)) if message.contains(case.names) => {}
            other => failures.push(format!("{}: {other:?}, expected {:?}", case.name, case.names)),
        }
        if elapsed > Duration::from_millis(100) {
            failures.push(format!("{}: took {elapsed:?}", case.name));
        }
        if grown > 2 * file_bytes + (16 << 20) {
            failures.push(format!("{}: took {grown} bytes", case.name));
        }
    }
    ensure!(failures.is_empty(), "{} of {} failed: {failures:#?}", failures.len(), cases.len());
    Ok(())
}
