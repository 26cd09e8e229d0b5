//! Unigram tokenizers against the sentencepiece package, from every file that has one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use halfbyte::io::{Checkpoint, Metadata, TokenizerSource, Value as Meta};
use halfbyte::tokenizer::{Specials, Tokenizer, gguf_metadata};
use halfbyte_tests::{Rows, data};
use serde_json::{Value, json};

/// The committed vocabularies, and those of `HALFBYTE_UNIGRAM` (see `data/unigram/make.py`).
fn folders() -> Vec<PathBuf> {
    let more = std::env::var_os("HALFBYTE_UNIGRAM").map(PathBuf::from);
    std::iter::once(data().join("unigram")).chain(more).collect()
}

fn golden(folder: &Path) -> Result<Value> {
    let path = folder.join("golden.json");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The tokenizer of a SentencePiece file, from the file itself and from the GGUF keys made of it.
fn both(model: Vec<u8>) -> Result<[Tokenizer; 2]> {
    let (source, metadata) = (TokenizerSource::SentencePiece(model), Metadata::default());
    let mut gguf = Metadata::default();
    for (key, value) in gguf_metadata(&source, &metadata)? {
        gguf.set(key, value);
    }
    let read = Tokenizer::new(&TokenizerSource::Metadata, &gguf)?;
    Ok([Tokenizer::new(&source, &metadata)?, read])
}

#[test]
fn every_string_has_sentencepieces_ids() -> Result<()> {
    let mut rows = Rows::default();
    for folder in folders() {
        let golden = golden(&folder)?;
        let strings: Vec<String> = serde_json::from_value(golden["strings"].clone())?;
        for (name, made) in golden.as_object().context("no object")? {
            if name == "strings" {
                continue;
            }
            let ids: Vec<Vec<u32>> = serde_json::from_value(made["ids"].clone())?;
            let model = std::fs::read(folder.join(format!("{name}.model")))?;
            for (from, tokenizer) in ["file", "GGUF"].into_iter().zip(both(model)?) {
                for (text, expected) in strings.iter().zip(&ids) {
                    let found = tokenizer.encode(text, Specials::AsText)?;
                    let fact = || format!("{text:?} is {found:?}, not {expected:?}");
                    rows.check(&format!("{name} {from}"), found == *expected, fact());
                }
            }
        }
    }
    rows.finish()
}

/// As transformers converts SentencePiece's models: a list of pieces, and the map in base64.
fn tokenizer_json(gguf: &Metadata) -> Result<Value> {
    let tokens = gguf.strings("tokenizer.ggml.tokens")?.context("no tokens")?;
    let scores = gguf.f32s("tokenizer.ggml.scores")?.context("no scores")?;
    let texts: Vec<&str> =
        tokens.iter().map(|text| std::str::from_utf8(text)).collect::<Result<_, _>>()?;
    let vocab: Vec<Value> =
        texts.iter().zip(scores).map(|(text, score)| json!([text, score])).collect();
    let special = |id: usize| json!({ "id": id, "content": texts[id], "special": true });
    let map = match gguf.get("tokenizer.ggml.precompiled_charsmap") {
        Some(Meta::U8s(bytes)) => base64(bytes),
        _ => String::new(),
    };
    Ok(json!({
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": { "type": "Precompiled", "precompiled_charsmap": map },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "WhitespaceSplit" },
            { "type": "Metaspace", "replacement": "\u{2581}", "add_prefix_space": true },
        ] },
        "decoder": { "type": "Metaspace", "replacement": "\u{2581}", "add_prefix_space": true },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": vocab },
    }))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[test]
fn a_tokenizer_json_with_the_same_vocabulary_is_the_same() -> Result<()> {
    let golden = golden(&data().join("unigram"))?;
    let strings: Vec<String> = serde_json::from_value(golden["strings"].clone())?;
    let ids: Vec<Vec<u32>> = serde_json::from_value(golden["own"]["ids"].clone())?;
    let model = std::fs::read(data().join("unigram/own.model"))?;
    let mut gguf = Metadata::default();
    for (key, value) in gguf_metadata(&TokenizerSource::SentencePiece(model), &Metadata::default())?
    {
        gguf.set(key, value);
    }
    let json = serde_json::to_vec(&tokenizer_json(&gguf)?)?;
    let source = TokenizerSource::Json(json);
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Meta::from("t5"));
    let tokenizer = Tokenizer::new(&source, &metadata)?;
    let mut rows = Rows::default();
    for (text, expected) in strings.iter().zip(&ids) {
        let found = tokenizer.encode(text, Specials::AsText)?;
        rows.check("json", found == *expected, format!("{text:?} is {found:?}, not {expected:?}"));
    }
    // In a GGUF file, where the JSON travels along, and without it.
    for drops_json in [false, true] {
        let mut gguf = metadata.clone();
        for (key, value) in gguf_metadata(&source, &metadata)? {
            if !(drops_json && key == "tokenizer.huggingface.json") {
                gguf.set(key, value);
            }
        }
        let read = Tokenizer::new(&TokenizerSource::Metadata, &gguf)?;
        for text in &strings {
            let (found, expected) = (
                read.encode_prompt(text, Specials::AsText)?,
                tokenizer.encode_prompt(text, Specials::AsText)?,
            );
            rows.check("GGUF", found == expected, format!("{text:?} is {found:?}"));
            rows.check("GGUF", found.last() == Some(&1), "no end token");
        }
    }
    rows.finish()
}

#[test]
fn tokens_added_beside_the_model_are_those_of_transformers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["spiece.model", "config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(data().join("t5-micro").join(name), folder.path().join(name))?;
    }
    let golden: Value = serde_json::from_slice(&std::fs::read(data().join("unigram/added.json"))?)?;
    std::fs::write(folder.path().join("added_tokens.json"), golden["added_tokens"].to_string())?;
    let checkpoint = Checkpoint::open(folder.path())?;
    let mut gguf = checkpoint.metadata().clone();
    for (key, value) in gguf_metadata(checkpoint.tokenizer(), checkpoint.metadata())? {
        gguf.set(key, value);
    }
    let from_gguf = Tokenizer::new(&TokenizerSource::Metadata, &gguf)?;
    let mut rows = Rows::default();
    for tokenizer in [Tokenizer::from_checkpoint(&checkpoint)?, from_gguf] {
        for row in golden["rows"].as_array().context("no rows")? {
            let text = row["text"].as_str().context("no text")?;
            let ids: Vec<u32> = serde_json::from_value(row["ids"].clone())?;
            let found = tokenizer.encode_prompt(text, Specials::AsText)?;
            rows.check(text, found == ids, format!("{found:?}, not {ids:?}"));
            let decoded = tokenizer.decode(&ids);
            let expected = row["decoded"].as_str().context("no decoded")?;
            rows.check(text, decoded == expected, format!("{decoded:?}, not {expected:?}"));
        }
        let marked = tokenizer.encode("a<extra_id_0>", Specials::Parse)?;
        rows.check("extra", marked.last() == Some(&619), format!("{marked:?}"));
        let plain = tokenizer.encode("a<extra_id_0>", Specials::AsText)?;
        rows.check("extra", !plain.contains(&619), "a prompt is plain text");
    }
    rows.finish()
}
