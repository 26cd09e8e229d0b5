//! GGUF files as gpt4all's converter wrote them: tokens as raw bytes, no split, no token types.

use std::path::Path;

use anyhow::Result;
use halfbyte::io::{Checkpoint, GgufWriter, Metadata, TensorInfo, Value};
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte_tests::data;
use halfbyte_tests::vocabularies::byte_of;

use crate::open;

/// Writes `source` with its tokens as gpt4all wrote them, under `architecture`.
fn write(source: &Checkpoint, merges: bool, path: &Path) -> Result<()> {
    let mut metadata = Metadata::default();
    for (key, value) in source.metadata().iter() {
        let dropped = ["tokenizer.ggml.pre", "tokenizer.ggml.token_type", "general.alignment"];
        if !dropped.contains(&key) {
            metadata.set(key, value.clone());
        }
    }
    let tokens = source.metadata().strings("tokenizer.ggml.tokens")?.unwrap_or_default();
    let raw = tokens.iter().map(|token| {
        let text = std::str::from_utf8(token).expect("the byte alphabet is text");
        text.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.clone())
    });
    metadata.set("tokenizer.ggml.tokens", Value::Strings(raw.collect()));
    metadata.set("general.name", Value::from("GPT-J"));
    if !merges {
        metadata.remove("tokenizer.ggml.merges");
    }
    let info = |name| {
        let tensor = source.require(name)?;
        let (dims, encoding) = (tensor.dims().to_vec(), tensor.encoding());
        Ok(TensorInfo { name: name.to_owned(), dims, encoding })
    };
    let infos = source.tensor_names().map(info).collect::<Result<Vec<_>>>()?;
    let mut writer = GgufWriter::create(path, &metadata, infos)?;
    for name in source.tensor_names() {
        let tensor = source.require(name)?;
        for row in 0..tensor.n_rows() {
            writer.write(tensor.row(row))?;
        }
    }
    writer.finish()?;
    Ok(())
}

#[test]
fn raw_byte_vocabularies_give_the_ids_of_the_byte_alphabet() -> Result<()> {
    let source = open(&data().join("gptj-1k.q4_0.gguf"));
    assert!(source.tensor("output.bias").is_some(), "GPT-J's head has a bias");
    let wanted = Tokenizer::from_checkpoint(&source)?;
    let dir = crate::folder();
    // The converter took the merges along, still in the byte alphabet; other writers have none.
    for merges in [true, false] {
        let path = dir.path().join(format!("merges-{merges}.gguf"));
        write(&source, merges, &path)?;
        let written = open(&path);
        let tokenizer = Tokenizer::from_checkpoint(&written)?;
        let tokens = written.metadata().strings("tokenizer.ggml.tokens")?.unwrap_or_default();
        let has_alphabet =
            |token: &Vec<u8>| token.windows(2).any(|pair| pair == "\u{120}".as_bytes());
        assert!(!tokens.iter().any(has_alphabet), "tokens are raw bytes");
        for text in [
            "Once upon a time there was a little dog.",
            "  two spaces\n\nand \u{e9}t\u{e9}, \u{65e5}\u{672c} \u{1f600}\ttab",
            "It's 1234567890 o'clock!",
            "\u{120}the alphabet itself",
            "",
        ] {
            let found = tokenizer.encode(text, Specials::AsText)?;
            assert_eq!(found, wanted.encode(text, Specials::AsText)?, "{merges} {text:?}");
            assert_eq!(tokenizer.decode(&found), text);
        }
        assert_eq!(tokenizer.bos(), wanted.bos());
        assert_eq!(tokenizer.eos(), wanted.eos());
        crate::assert_same_tensors(&written, &source);
    }
    Ok(())
}

#[test]
fn gpt_neox_vocabularies_may_be_raw_bytes_too() -> Result<()> {
    let source = open(&data().join("gptj-1k.q4_0.gguf"));
    let dir = crate::folder();
    let path = dir.path().join("raw.gguf");
    write(&source, true, &path)?;
    // Its merges are ranks of their own; only the split differs from GPT-J's.
    let mut metadata = open(&path).metadata().clone();
    metadata.set("general.architecture", Value::from("gptneox"));
    let mut encoded = source.metadata().clone();
    encoded.set("general.architecture", Value::from("gptneox"));
    encoded.remove("tokenizer.ggml.pre");
    let new = |metadata| Tokenizer::new(source.tokenizer(), metadata);
    let (raw, wanted) = (new(&metadata)?, new(&encoded)?);
    for text in ["Hello, world! 123", "a\n  b", "\u{fc}ber"] {
        assert_eq!(raw.encode(text, Specials::AsText)?, wanted.encode(text, Specials::AsText)?);
    }
    Ok(())
}
