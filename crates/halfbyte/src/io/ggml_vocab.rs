//! The vocabularies of 2023 as GGUF's `tokenizer.ggml.*` metadata.
//!
//! The files hold what a token stands for, not how the vocabulary spells it: a space is a space,
//! a byte a byte. Here tokens get their spelling back, so that everything past this module, and
//! every file written from it, is as if it came from today's converters.

use std::collections::{HashMap, HashSet};

use super::alphabet;
use super::metadata::TokenKind::{self, Byte, Control, Normal, Unknown, Unused, UserDefined};
use super::metadata::{Metadata, Value};
use crate::error::{Error, Result};
use crate::kernels::collect;

/// Tokens of LLaMA's own vocabulary; what comes after was added by a fine-tune.
const LLAMA_TOKENS: usize = 32_000;
/// Where LLaMA's bytes and pieces begin: after `<unk>`, `<s>`, `</s>`, and after the bytes.
const FIRST_BYTE: usize = 3;
const FIRST_PIECE: usize = FIRST_BYTE + 256;
/// Tokens of GPT-NeoX's BPE; what comes after was added: runs of spaces, chat markers.
const NEOX_TOKENS: usize = 50_254;
/// What a decoder writes for bytes that are no text: U+FFFD.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Adds a SentencePiece vocabulary to `metadata`; returns what had to be assumed.
///
/// A file without `scores` (magic `ggml`) gets minus the number of the piece. That is no guess for
/// LLaMA's vocabulary nor for any that SentencePiece's BPE trainer made: it numbers pieces in the
/// order of its merges, and its scores are those numbers.
pub(super) fn sentencepiece(
    tokens: &[&[u8]],
    scores: Option<Vec<f32>>,
    metadata: &mut Metadata,
) -> Result<Option<String>> {
    let mut spelled = Spelled::new(tokens.len())?;
    for (id, token) in tokens.iter().enumerate() {
        let (token, text, kind): (&[u8], _, _) = match id {
            0 => (b"<unk>", b"<unk>".to_vec(), Unknown),
            1 => (b"<s>", b"<s>".to_vec(), Control),
            2 => (b"</s>", b"</s>".to_vec(), Control),
            _ => {
                let (text, kind) = piece(id, token);
                (token, text, kind)
            }
        };
        spelled.push(token, text, kind);
    }
    let rank = |id: usize| -(id.saturating_sub(FIRST_PIECE) as f32);
    let note = scores.is_none().then(|| {
        "the file has no scores: pieces merge in the order of their ids, as LLaMA's do".to_owned()
    });
    let scores = match scores {
        Some(scores) => scores,
        None => collect(tokens.len(), (0..tokens.len()).map(rank))?,
    };
    set(metadata, "model", Value::from("llama"));
    set(metadata, "pre", Value::from("default"));
    set(metadata, "scores", Value::F32s(scores));
    set(metadata, "add_bos_token", Value::Bool(true));
    for (name, id) in [("unknown_token_id", 0), ("bos_token_id", 1), ("eos_token_id", 2)] {
        if (id as usize) < tokens.len() {
            set(metadata, name, Value::U32(id));
        }
    }
    spelled.finish(metadata)?;
    Ok(note)
}

fn piece(id: usize, token: &[u8]) -> (Vec<u8>, TokenKind) {
    if let Some(byte) = id.checked_sub(FIRST_BYTE).and_then(|byte| u8::try_from(byte).ok())
        && token == [byte]
    {
        return (format!("<0x{byte:02X}>").into_bytes(), Byte);
    }
    let bracketed = |open: u8, close: u8| token.first() == Some(&open) && token.ends_with(&[close]);
    let is_marker = id >= LLAMA_TOKENS && (bracketed(b'<', b'>') || bracketed(b'[', b']'));
    let mut text = Vec::with_capacity(token.len() + 2);
    for &byte in token {
        match byte {
            b' ' => text.extend_from_slice("\u{2581}".as_bytes()),
            other => text.push(other),
        }
    }
    (text, if is_marker { Control } else { Normal })
}

/// Adds a byte-level vocabulary to `metadata`; returns what had to be assumed.
///
/// There are no merges in these files and none are needed: ids are the order of merges, in
/// GPT-2's vocabulary as in GPT-NeoX's.
pub(super) fn byte_level(
    tokens: &[&[u8]],
    is_neox: bool,
    metadata: &mut Metadata,
) -> Result<Option<String>> {
    let restored = if is_neox { restored(tokens) } else { HashMap::new() };
    let mut spelled = Spelled::new(tokens.len())?;
    let mut lost = 0;
    for (id, token) in tokens.iter().enumerate() {
        let token: &[u8] = restored.get(&id).map_or(*token, Vec::as_slice);
        let kind = kind(id, token, is_neox);
        let text = match kind {
            Normal => alphabet::encode(token).into_bytes(),
            _ => token.to_vec(),
        };
        // A vocabulary may have U+FFFD in some tokens, but no two of the same text.
        let is_new = spelled.push(token, text, kind);
        let spoiled = || token.windows(REPLACEMENT.len()).any(|part| part == REPLACEMENT);
        lost += usize::from(!is_new && spoiled());
    }
    set(metadata, "model", Value::from("gpt2"));
    set(metadata, "pre", Value::from(if is_neox { "gpt-neox" } else { "gpt-2" }));
    if let Some(end) = tokens.iter().position(|token| *token == b"<|endoftext|>") {
        let end = Value::U32(u32::try_from(end).unwrap_or(u32::MAX));
        set(metadata, "bos_token_id", end.clone());
        set(metadata, "eos_token_id", end);
    }
    set(metadata, "add_bos_token", Value::Bool(false));
    spelled.finish(metadata)?;
    Ok((lost > 0).then(|| {
        format!(
            "the converter lost the bytes of {lost} tokens that are parts of characters: text \
             beyond ASCII is cut into more tokens than the model learned"
        )
    }))
}

fn kind(id: usize, token: &[u8], is_neox: bool) -> TokenKind {
    let marker = token.strip_prefix(b"<|").and_then(|rest| rest.strip_suffix(b"|>"));
    match marker {
        Some(name) if name.starts_with(b"extratoken_") => UserDefined,
        Some(_) => Control,
        None if !is_neox || id < NEOX_TOKENS || token.is_empty() => Normal,
        None if token.iter().all(|&byte| byte == b' ') => UserDefined,
        None => Control,
    }
}

/// Tokens of GPT-NeoX whose text the converter of 2023 spoiled, with their bytes.
///
/// It decoded each token by itself. So bytes that are no character became U+FFFD, and the space
/// before `.`, `'s` and their like was cleaned away. What can be told is undone: single bytes by
/// their place, and a second token of the same text is the one with the space.
fn restored(tokens: &[&[u8]]) -> HashMap<usize, Vec<u8>> {
    const CLEANED: &[&[u8]] = &[b".", b"?", b"!", b",", b"'", b"'m", b"'s", b"'ve", b"'re", b"n't"];
    let mut restored = HashMap::new();
    for (id, byte) in (2..).zip(bytes_in_order()) {
        if tokens.get(id).is_some_and(|token| *token == REPLACEMENT) {
            restored.insert(id, vec![byte]);
        }
    }
    for token in CLEANED {
        let with_space = [b" ", *token].concat();
        if tokens.iter().any(|other| *other == with_space) {
            continue;
        }
        let mut places = tokens.iter().enumerate().filter(|(_, other)| *other == token);
        if let Some((id, _)) = places.nth(1) {
            restored.insert(id, with_space);
        }
    }
    restored
}

/// The bytes of UTF-8 in the order of GPT-2's alphabet, in which GPT-NeoX's vocabulary has them.
fn bytes_in_order() -> impl Iterator<Item = u8> {
    let in_utf8 = |byte: &u8| !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF);
    alphabet::bytes().filter(in_utf8)
}

/// Spellings, which must differ, and kinds.
struct Spelled<'t> {
    texts: Vec<Vec<u8>>,
    kinds: Vec<TokenKind>,
    /// What the tokens so far stand for, those apart whose spelling is like no other's.
    seen: HashSet<&'t [u8]>,
}

impl<'t> Spelled<'t> {
    fn new(n: usize) -> Result<Self> {
        let mut seen = HashSet::new();
        let bytes = n.saturating_mul(size_of::<&[u8]>());
        seen.try_reserve(n + 1).map_err(|_| Error::OutOfMemory { bytes })?;
        seen.insert(b"".as_slice());
        Ok(Self { texts: collect(n, [])?, kinds: collect(n, [])?, seen })
    }

    /// Adds the next token, which stands for `token`. Rows that stand for nothing, or for what an
    /// earlier one stands for, get a name and mean nothing.
    ///
    /// Returns whether the token has a text of its own.
    fn push(&mut self, token: &'t [u8], text: Vec<u8>, kind: TokenKind) -> bool {
        // A byte is spelled in a way of its own, and so is a run of spaces that a model added: as
        // spaces, where the BPE's token has characters for them.
        let is_run = kind == UserDefined && token.first() == Some(&b' ');
        if kind == Byte || is_run || self.seen.insert(token) {
            self.texts.push(text);
            self.kinds.push(kind);
            return true;
        }
        let mut name = format!("[PAD{}]", self.texts.len()).into_bytes();
        while self.seen.contains(name.as_slice()) {
            name.push(b']');
        }
        self.texts.push(name);
        self.kinds.push(Unused);
        false
    }

    fn finish(self, metadata: &mut Metadata) -> Result<()> {
        set(metadata, "tokens", Value::Strings(self.texts));
        let kinds = collect(self.kinds.len(), self.kinds.iter().map(|kind| *kind as i32))?;
        set(metadata, "token_type", Value::I32s(kinds));
        Ok(())
    }
}

fn set(metadata: &mut Metadata, name: &str, value: Value) {
    metadata.set(format!("tokenizer.ggml.{name}"), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(metadata: &Metadata) -> Vec<(String, i64)> {
        let texts = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
        let kinds = metadata.integers("tokenizer.ggml.token_type").unwrap().unwrap();
        let texts = texts.iter().map(|text| String::from_utf8(text.clone()).unwrap());
        texts.zip(kinds).collect()
    }

    #[test]
    fn pieces_get_their_spelling_back() {
        let bytes: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
        let mut tokens: Vec<&[u8]> = vec![" \u{2047} ".as_bytes(), b"", b""];
        tokens.extend(bytes.iter().map(<[u8; 1]>::as_slice));
        tokens.extend([b" t".as_slice(), b" ", b"A", b" t", b""]);
        let mut metadata = Metadata::default();
        assert!(sentencepiece(&tokens, None, &mut metadata).unwrap().is_some());
        let found = spelled(&metadata);
        let want = [
            (0, "<unk>", Unknown),
            (1, "<s>", Control),
            (2, "</s>", Control),
            (3 + 32, "<0x20>", Byte),
            (3 + 65, "<0x41>", Byte),
            (259, "\u{2581}t", Normal),
            (260, "\u{2581}", Normal),
            (261, "A", Normal),
            (262, "[PAD262]", Unused),
            (263, "[PAD263]", Unused),
        ];
        for (id, text, kind) in want {
            assert_eq!(found.get(id), Some(&(text.to_owned(), kind as i64)), "{id}");
        }
        let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
        assert_eq!(scores.get(258..262), Some([0.0, 0.0, -1.0, -2.0].as_slice()));
    }

    #[test]
    fn bytes_are_spelled_in_the_alphabet_and_markers_are_not() {
        let tokens: [&[u8]; 6] =
            [b"!", b" the", b"\n", b"<|endoftext|>", b"<|extratoken_1|>", b"\xC3\xA9"];
        let mut metadata = Metadata::default();
        assert_eq!(byte_level(&tokens, false, &mut metadata).unwrap(), None);
        let want = [
            ("!", Normal),
            ("\u{120}the", Normal),
            ("\u{10A}", Normal),
            ("<|endoftext|>", Control),
            ("<|extratoken_1|>", UserDefined),
            ("\u{C3}\u{A9}", Normal),
        ];
        let want = want.map(|(text, kind)| (text.to_owned(), kind as i64));
        assert_eq!(spelled(&metadata), want);
        assert_eq!(metadata.u64("tokenizer.ggml.eos_token_id").unwrap(), Some(3));
    }

    #[test]
    fn spoiled_tokens_of_gpt_neox_are_restored() {
        let mut tokens: Vec<&[u8]> = vec![b"<|endoftext|>", b"<|padding|>"];
        let bytes: Vec<Vec<u8>> = bytes_in_order().map(|byte| vec![byte]).collect();
        assert_eq!(bytes.len(), 243);
        let spoil = |byte: &Vec<u8>| byte.first().is_some_and(|b| *b >= 0x80);
        let text = |byte| if spoil(byte) { REPLACEMENT } else { byte.as_slice() };
        tokens.extend(bytes.iter().map(text));
        tokens.extend([b".".as_slice(), b".", REPLACEMENT, REPLACEMENT, b""]);
        let restored = restored(&tokens);
        assert_eq!(restored.get(&245), Some(&b" .".to_vec()));
        assert_eq!(restored.get(&246), None);
        for (id, byte) in (2..).zip(&bytes) {
            assert_eq!(restored.get(&id), spoil(byte).then_some(byte));
        }
        let mut metadata = Metadata::default();
        assert!(byte_level(&tokens, true, &mut metadata).unwrap().is_some());
    }
}
