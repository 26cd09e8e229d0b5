//! Texts have the ids that their vocabularies gave them, whatever the old file left out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use halfbyte::io::Checkpoint;
use halfbyte::quant::Encoding;
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte_tests::golden_file;
use halfbyte_tests::legacy_files::{Ggml, Model};
use halfbyte_tests::{Rows, data, shared, skip};

use crate::{GGJT3, GGMF, GGML, open, rewritten};

#[test]
fn texts_have_the_ids_of_their_goldens() -> Result<()> {
    let mut rows = Rows::default();
    let mut check = |row: &str, checkpoint: &Checkpoint, golden: &Path| -> Result<()> {
        let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
        for prompt in golden_file::read(golden)? {
            let Some(text) = &prompt.text else { continue };
            let found = tokenizer.encode_prompt(text, Specials::AsText)?;
            rows.check(row, found == prompt.ids, format!("{text:?} is {found:?}"));
            let decoded = tokenizer.decode(&found);
            rows.check(row, decoded == *text, format!("{text:?} came back as {decoded:?}"));
        }
        Ok(())
    };
    let folder = tempfile::tempdir()?;
    for (name, model, encoding) in [
        // Without scores: the order of ids stands for them.
        ("llama-1k.q4_0.gguf", GGML, Encoding::Q4_0_V1),
        ("llama-1k.q4_0.gguf", GGMF, Encoding::Q4_0_V1),
        ("llama-1k.q4_0.gguf", GGJT3, Encoding::Q4_0),
        ("gptj-1k.q4_0.gguf", Model::GptJ, Encoding::Q4_0_V1),
    ] {
        let old = rewritten(folder.path(), &open(name)?, (model, encoding, 2))?;
        check(&model.name(), &old, &data().join(format!("{name}.golden")))?;
    }
    for path in shared_files() {
        let golden = PathBuf::from(format!("{}.golden", path.display()));
        check(&path.display().to_string(), &Checkpoint::open(&path)?, &golden)?;
    }
    rows.finish()
}

/// The files of 2023 that are not ours.
fn shared_files() -> Vec<PathBuf> {
    let Some(root) = shared() else {
        skip("files of 2023 by other writers");
        return Vec::new();
    };
    let folder = root.join("data/ggml");
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|f| f.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "bin")).collect()
}

#[test]
fn gpt_neox_files_know_their_tokenizer() -> Result<()> {
    let Some(root) = shared() else {
        skip("GPT-NeoX's vocabulary");
        return Ok(());
    };
    let vocabularies = root.join("data/vocab");
    let hf = json_tokenizer(&vocabularies.join("gpt-neox/20B_tokenizer.json"))?;
    let mut file = Ggml::tiny(Model::NeoX);
    file.words[0] = 50_304;
    file.tokens = (0..50_304u32).map(|id| (neox_token(&hf, id), 0.0)).collect();
    for name in ["gpt_neox.embed_in.weight", "embed_out.weight"] {
        let tensor = file.tensor_mut(name);
        tensor.dims[1] = 50_304;
        tensor.data = vec![0; 50_304 * 8 * 4];
    }
    // Markers are text to us, and tokens to the golden library.
    let counts = |text: &str| !text.contains("<|") && text.is_ascii();
    texts_have_their_ids(&file, &vocabularies.join("goldens/gpt-neox.shared.json"), counts)
}

#[test]
fn gpt_js_vocabulary_has_its_ids() -> Result<()> {
    let Some(root) = shared() else {
        skip("GPT-2's vocabulary");
        return Ok(());
    };
    let vocabularies = root.join("data/vocab");
    let hf = json_tokenizer(&vocabularies.join("gpt-j/tokenizer.json"))?;
    let (mut file, n) = (Ggml::tiny(Model::GptJ), 50_400);
    (file.words[0], file.words[7]) = (n, n);
    file.tokens = (0..n).map(|id| (raw_token(&hf, id), 0.0)).collect();
    for (name, width) in [("transformer.wte.weight", 8), ("lm_head.weight", 8), ("lm_head.bias", 1)]
    {
        let tensor = file.tensor_mut(name);
        *tensor.dims.last_mut().context("a dimension")? = n;
        tensor.data = vec![0; n as usize * width * 4];
    }
    let counts = |text: &str| !text.contains("<|endoftext|>");
    texts_have_their_ids(&file, &vocabularies.join("goldens/gpt-j.shared.json"), counts)
}

/// The texts of `goldens` that count have their ids by the tokenizer of `file`.
fn texts_have_their_ids(file: &Ggml, goldens: &Path, counts: impl Fn(&str) -> bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.bin");
    file.write(&path);
    let tokenizer = Tokenizer::from_checkpoint(&Checkpoint::open(&path)?)?;
    let goldens: serde_json::Value = serde_json::from_slice(&std::fs::read(goldens)?)?;
    let cases = goldens["cases"].as_array().or(goldens.as_array()).context("a list")?;
    let mut rows = Rows::default();
    for case in cases {
        let text = case["text"].as_str().context("a text")?;
        let want: Vec<u32> = serde_json::from_value(case["ids"].clone())?;
        let found = tokenizer.encode(text, Specials::AsText)?;
        if counts(text) {
            rows.check(text, found == want, format!("{found:?}, expected {want:?}"));
        }
    }
    rows.finish()
}

fn json_tokenizer(path: &Path) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_file(path).map_err(|error| anyhow::anyhow!("{error}"))
}

/// What the converter wrote for a token: decoded after a dot, which is then cut off.
fn neox_token(hf: &tokenizers::Tokenizer, id: u32) -> Vec<u8> {
    if hf.id_to_token(id).is_none() || id > 50_276 {
        return Vec::new();
    }
    let dot = hf.token_to_id(".").unwrap_or_default();
    let text = hf.decode(&[dot, id], false).unwrap_or_default();
    // transformers' clean-up of spaces, which tokenizers leave to it.
    let cleaned = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"]
        .iter()
        .fold(text, |text, end| text.replace(end, end.trim_start().trim_end()));
    cleaned.into_bytes().split_off(1)
}

/// The bytes of a token of GPT-J.
fn raw_token(hf: &tokenizers::Tokenizer, id: u32) -> Vec<u8> {
    let text = hf.id_to_token(id).unwrap_or_default();
    if text.starts_with("<|") && text.ends_with("|>") {
        return text.into_bytes();
    }
    let hidden: Vec<u8> = (0..=255u8)
        .filter(|b| !(33..=126).contains(b) && !(161..=172).contains(b) && *b < 174)
        .collect();
    let byte = |c: char| match u32::from(c) {
        code @ 0x100.. => hidden.get(code as usize - 0x100).copied().unwrap_or(b'?'),
        code => code as u8,
    };
    text.chars().map(byte).collect()
}
