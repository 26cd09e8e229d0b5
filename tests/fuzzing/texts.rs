//! Tokenizers, templates, and text that comes in pieces.

use std::sync::LazyLock;

use halfbyte::io::{Metadata, TokenizerSource};
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte::{ChatTemplate, GenerationConfig, Hooks, Message, Model, ModelOptions, Role};

use super::{seeds, written};
use crate::data;
use crate::vocabularies::small;

/// What every vocabulary is asked to cut.
const TEXT: &str =
    " Hello,\tw\u{f6}rld!  \u{1f600}\u{1f3fd}\n\n\u{3b1}\u{301} 1234567 <s></s> \u{ac00}";

/// The tokenizer `source`, which must be read, as a seed.
fn sound(source: &TokenizerSource) {
    let tokenizer = Tokenizer::new(source, &Metadata::default()).expect("the seed is valid");
    tokenizer.encode(TEXT, Specials::Parse).expect("it knows every text");
}

/// A tokenizer that is read must cut texts and join them again.
fn cut(source: &TokenizerSource) {
    let Ok(tokenizer) = Tokenizer::new(source, &Metadata::default()) else { return };
    for specials in [Specials::Parse, Specials::AsText] {
        let Ok(ids) = tokenizer.encode(TEXT, specials) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        drop(tokenizer.decode(&ids));
    }
}

pub(super) fn sentencepiece(bytes: &[u8]) {
    cut(&TokenizerSource::SentencePiece(bytes.to_vec()));
}

pub(super) fn sentencepiece_seeds() -> Vec<Vec<u8>> {
    model_files([seeds::model_file(seeds::BPE, &[]), seeds::model_file(seeds::BPE_OF_BYTES, &[])])
}

fn model_files(files: [Vec<u8>; 2]) -> Vec<Vec<u8>> {
    files.iter().for_each(|file| sound(&TokenizerSource::SentencePiece(file.clone())));
    files.into()
}

/// Of the same container, with the other kind of pieces.
pub(super) fn unigram(bytes: &[u8]) {
    sentencepiece(bytes);
}

pub(super) fn unigram_seeds() -> Vec<Vec<u8>> {
    let map = seeds::charsmap();
    model_files([seeds::model_file(seeds::UNIGRAM, &[]), seeds::model_file(seeds::UNIGRAM, &map)])
}

pub(super) fn byte_level(bytes: &[u8]) {
    cut(&TokenizerSource::Json(bytes.to_vec()));
}

pub(super) fn byte_level_seeds() -> Vec<Vec<u8>> {
    let files = [seeds::tokenizer_json(), seeds::sentencepiece_json(), seeds::unigram_json()];
    files.iter().for_each(|file| sound(&TokenizerSource::Json(file.clone())));
    files.into()
}

static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| small().expect("the tests' data"));

/// Cuts any text, and joins any tokens: in pieces as in one.
pub(super) fn encode(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for tokenizer in &*TOKENIZERS {
        let ids = tokenizer.encode(&text, Specials::AsText).expect("any text");
        let mut decoder = tokenizer.decoder();
        let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
        streamed.push_str(&decoder.finish());
        assert_eq!(streamed, tokenizer.decode(&ids));
        let ids =
            bytes.as_chunks().0.iter().map(|&pair| u32::from(u16::from_le_bytes(pair)) % 1100);
        let ids: Vec<u32> = ids.collect();
        let mut decoder = tokenizer.decoder();
        let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
        streamed.push_str(&decoder.finish());
        assert_eq!(streamed, tokenizer.decode(&ids));
    }
}

pub(super) fn encode_seeds() -> Vec<Vec<u8>> {
    vec![TEXT.as_bytes().to_vec(), b"\xff\xfe\xf0\x9f\x98".to_vec()]
}

pub(super) fn template(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes).into_owned();
    let template = ChatTemplate::from_source(source, "<s>", "</s>");
    let message = |role, content: &str| Message::new(role, content);
    let messages = [message(Role::System, "Be brief."), message(Role::User, "{{ 1 }} {% if %}")];
    drop(template.apply(&messages, true));
}

pub(super) fn template_seeds() -> Vec<Vec<u8>> {
    let cases = std::fs::read(data().join("templates/cases.json")).expect("the tests' data");
    let cases: serde_json::Value = serde_json::from_slice(&cases).expect("JSON");
    let mut seeds = Vec::new();
    strings_with(&cases, "{%", &mut seeds);
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

/// All strings of a document that hold `part`.
fn strings_with(value: &serde_json::Value, part: &str, out: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::String(text) if text.contains(part) => {
            out.push(text.clone().into_bytes());
        }
        serde_json::Value::Array(values) => values.iter().for_each(|v| strings_with(v, part, out)),
        serde_json::Value::Object(map) => map.values().for_each(|v| strings_with(v, part, out)),
        _ => {}
    }
}

static WRITER: LazyLock<Model> = LazyLock::new(|| {
    let options = ModelOptions { threads: Some(1), ..ModelOptions::default() };
    let path = written("writer", "writer.gguf", &seeds::talking().bytes());
    Model::open_with(path, &options).expect("the model is valid")
});

/// Pieces of a generation whose tokens the bytes say, with stop strings: they join to its text, and
/// no stop string is in it.
pub(super) fn stream(bytes: &[u8]) {
    let Some((&n_stops, rest)) = bytes.split_first() else { return };
    let mut stop = Vec::new();
    let mut rest = rest;
    for _ in 0..n_stops % 4 {
        let Some((&length, after)) = rest.split_first() else { return };
        let (text, after) = after.split_at(usize::from(length % 12).min(after.len()));
        let text = String::from_utf8_lossy(text).into_owned();
        if !text.is_empty() {
            stop.push(text);
        }
        rest = after;
    }
    let vocab = WRITER.config().vocab_size as u32;
    let tokens: Vec<u32> = rest
        .as_chunks()
        .0
        .iter()
        .take(24)
        .map(|&pair| u32::from(u16::from_le_bytes(pair)) % vocab)
        .collect();
    if tokens.is_empty() {
        return;
    }
    let (start, asked) = (1, tokens.clone());
    let follow = move |seen: &[u32], logits: &mut [f32]| {
        let next = asked.get(seen.len() - start).copied().unwrap_or(0);
        logits.fill(f32::NEG_INFINITY);
        logits[next as usize] = 0.0;
    };
    let mut session = WRITER.session();
    session.set_hooks(Hooks { processor: Some(std::sync::Arc::new(follow)), ..Hooks::default() });
    let config = GenerationConfig {
        max_new_tokens: tokens.len(),
        ignore_eos: false,
        repetition_penalty: 1.0,
        stop: stop.clone(),
        ..GenerationConfig::default()
    };
    let found = session.generate_tokens(&[1], &config).and_then(|generation| generation.complete());
    let found = found.expect("a generation of forced tokens");
    let joined: String = found.pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(joined, found.text);
    let special = |text: &&String| {
        WRITER.tokenizer().is_ok_and(|t| t.token_id(text).is_some_and(|id| t.is_special(id)))
    };
    for text in stop.iter().filter(|text| !special(text)) {
        assert!(!found.text.contains(text.as_str()), "{:?} holds {text:?}", found.text);
    }
}

pub(super) fn stream_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 40, 1, 41, 1, 42, 1],
        [&[1, 2][..], b"th", &[60, 1, 61, 1, 62, 1, 63, 1]].concat(),
        vec![2, 1, b'e', 3, b' ', b'a', b' ', 100, 0, 101, 0, 240, 0, 159, 0],
    ]
}
