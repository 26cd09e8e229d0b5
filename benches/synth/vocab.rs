//! Made-up vocabularies of the right size and kind, on which real text can be tokenized.
//!
//! Pieces grow breadth first, each by one letter from an earlier piece, so that merging always
//! finds its way: `▁`, `t`, `▁t`, `▁th`. Random weights then speak in pronounceable nonsense.

use std::collections::HashSet;

use halfbyte::io::{Metadata, Value};

use super::shapes::{Family, Shape};

/// GGUF's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// Adds the tokenizer's keys for `shape` to `meta`.
pub(super) fn describe(shape: &Shape, meta: &mut Metadata) {
    let n_tokens = shape.vocab_size as usize;
    match shape.architecture {
        Family::Llama => sentencepiece(n_tokens, meta),
        Family::GptJ | Family::GptNeoX => byte_level(n_tokens, meta),
    }
}

/// `<unk> <s> </s>`, 256 bytes, single characters, then grown pieces with falling scores.
fn sentencepiece(n_tokens: usize, meta: &mut Metadata) {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut kinds = vec![UNKNOWN, CONTROL, CONTROL];
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    kinds.resize(tokens.len(), BYTE);
    tokens.push("▁".into());
    tokens.extend(('!'..='~').map(String::from));
    let grown = grow("▁", n_tokens - tokens.len());
    tokens.extend(grown.into_iter().map(|(left, right)| left + &right));
    kinds.resize(tokens.len(), NORMAL);
    // The later a piece, the worse its score, as in a trained vocabulary.
    let scores = (0..tokens.len()).map(|i| -(i.saturating_sub(258) as f32)).collect();
    set_tokens(meta, "llama", tokens, kinds);
    meta.set("tokenizer.ggml.scores", Value::F32s(scores));
    meta.set("tokenizer.ggml.unknown_token_id", Value::U32(0));
    meta.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    meta.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    meta.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
}

/// The 256 bytes in GPT-2's alphabet, one token for each merge, then `<|endoftext|>`.
fn byte_level(n_tokens: usize, meta: &mut Metadata) {
    let mut tokens: Vec<String> = byte_alphabet().map(String::from).to_vec();
    let merges = grow("Ġ", n_tokens - tokens.len() - 1);
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let mut kinds = vec![NORMAL; tokens.len()];
    tokens.push("<|endoftext|>".into());
    kinds.push(CONTROL);
    let last = u32::try_from(tokens.len() - 1).unwrap_or(u32::MAX);
    set_tokens(meta, "gpt2", tokens, kinds);
    let merges = merges.into_iter().map(|(left, right)| format!("{left} {right}").into_bytes());
    meta.set("tokenizer.ggml.merges", Value::Strings(merges.collect()));
    meta.set("tokenizer.ggml.pre", Value::String(b"gpt-2".to_vec()));
    meta.set("tokenizer.ggml.bos_token_id", Value::U32(last));
    meta.set("tokenizer.ggml.eos_token_id", Value::U32(last));
}

fn set_tokens(meta: &mut Metadata, model: &str, tokens: Vec<String>, kinds: Vec<i32>) {
    meta.set("tokenizer.ggml.model", Value::String(model.as_bytes().to_vec()));
    let tokens = tokens.into_iter().map(String::into_bytes).collect();
    meta.set("tokenizer.ggml.tokens", Value::Strings(tokens));
    meta.set("tokenizer.ggml.token_type", Value::I32s(kinds));
}

/// The first `n` pieces of two or more letters, each as its two halves: an earlier piece, a letter.
///
/// `space` is how the vocabulary spells a leading space.
fn grow(space: &str, n: usize) -> Vec<(String, String)> {
    // By how often English uses them, so that common beginnings come first.
    const LETTERS: &str = "etaoinshrdlucmfwygpbvkxqjz";
    let mut queue: Vec<String> = vec![space.to_owned()];
    queue.extend(LETTERS.chars().map(String::from));
    let mut seen: HashSet<String> = queue.iter().cloned().collect();
    let mut grown = Vec::with_capacity(n);
    let mut next = 0;
    while grown.len() < n {
        let left = queue[next].clone();
        next += 1;
        for letter in LETTERS.chars().take(n - grown.len()) {
            let piece = format!("{left}{letter}");
            if seen.insert(piece.clone()) {
                queue.push(piece);
                grown.push((left.clone(), letter.to_string()));
            }
        }
    }
    grown
}

/// GPT-2's printable stand-ins for the 256 bytes, in the order of its vocabulary.
///
/// Source: `bytes_to_unicode` of openai/gpt-2: printable Latin-1 stands for itself and comes first,
/// the rest follows as U+0100 and up.
fn byte_alphabet() -> [char; 256] {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let own = (0..=255u8).filter(printable).map(char::from);
    let rest = (0x100u32..).filter_map(char::from_u32);
    let mut all = own.chain(rest);
    std::array::from_fn(|_| all.next().unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::super::shapes::SHAPES;
    use super::*;

    #[test]
    fn every_shape_gets_distinct_tokens_of_the_right_number() {
        for shape in SHAPES {
            let mut meta = Metadata::default();
            describe(shape, &mut meta);
            let Some(Value::Strings(tokens)) = meta.get("tokenizer.ggml.tokens") else {
                panic!("{} has no tokens", shape.name)
            };
            assert_eq!(tokens.len(), shape.vocab_size as usize, "{}", shape.name);
            let distinct: HashSet<_> = tokens.iter().collect();
            assert_eq!(distinct.len(), tokens.len(), "{}", shape.name);
        }
    }

    #[test]
    fn every_grown_piece_can_be_reached_by_merges() {
        let grown = grow("▁", 3000);
        let mut known: HashSet<String> =
            "etaoinshrdlucmfwygpbvkxqjz▁".chars().map(String::from).collect();
        for (left, right) in grown {
            assert!(known.contains(&left) && known.contains(&right), "{left} + {right}");
            known.insert(left + &right);
        }
    }

    #[test]
    fn the_byte_alphabet_is_gpt_2s() {
        let alphabet = byte_alphabet();
        assert_eq!((alphabet[0], alphabet[187], alphabet[188]), ('!', 'ÿ', 'Ā'));
        // A space, byte 32, is the 33rd of the bytes that are not printable.
        assert_eq!(alphabet[188 + 32], 'Ġ');
    }
}
