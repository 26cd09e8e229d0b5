//! Tokens that are looked for in a text before anything else.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use super::vocab::{Kind, Token, Vocab};
use crate::error::{Error, Result};

/// A part of a text: a token that was spelled out, or the text between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// Text to be encoded; never empty.
    Text(&'t str),
    /// A token.
    Token(u32),
}

/// Finds the longest of a set of tokens, from left to right.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// `None` if there is nothing to be found.
    automaton: Option<(AhoCorasick, Vec<u32>)>,
}

/// Spellings of control tokens that end a turn or a text, whatever the metadata say.
pub(super) const END_SPELLINGS: &[&str] = &[
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<EOT>",
];

/// Spellings of the token that starts a text, for files that do not name it.
pub(super) const BOS_SPELLINGS: &[&str] = &["<s>", "<|begin_of_text|>", "<|endoftext|>"];

/// Spellings of the token that ends a text, for files that do not name it.
pub(super) const EOS_SPELLINGS: &[&str] = &["</s>", "<|end_of_text|>", "<|endoftext|>"];

impl Finder {
    /// A finder for the tokens of some kinds: special ones by spelling, others by their bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if there are too many to search for.
    pub(super) fn new(vocab: &Vocab, wanted: impl Fn(u32, Kind) -> bool) -> Result<Self> {
        let pattern = |token: &Token| {
            let bytes = if token.kind.is_special() { &token.text } else { &token.bytes };
            // Only whole characters: a match must not split one.
            std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let found: HashMap<String, u32> = vocab
            .iter()
            .filter(|(id, token)| wanted(*id, token.kind))
            .filter_map(|(id, token)| Some((pattern(token)?, id)))
            .collect();
        if found.is_empty() {
            return Ok(Self::default());
        }
        let (patterns, ids): (Vec<String>, Vec<u32>) = found.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .map_err(|e| Error::Tokenizer(format!("cannot search for special tokens: {e}")))?;
        Ok(Self { automaton: Some((automaton, ids)) })
    }

    /// Cuts `text` at the tokens in it.
    pub(super) fn parts<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        let mut done = 0;
        if let Some((automaton, ids)) = &self.automaton {
            for found in automaton.find_iter(text) {
                if done < found.start() {
                    parts.push(Part::Text(&text[done..found.start()]));
                }
                parts.push(Part::Token(ids[found.pattern().as_usize()]));
                done = found.end();
            }
        }
        if done < text.len() {
            parts.push(Part::Text(&text[done..]));
        }
        parts
    }
}

/// The control tokens of `vocab` that end a turn or a text by their spelling.
pub(super) fn end_tokens(vocab: &Vocab) -> impl Iterator<Item = u32> {
    END_SPELLINGS.iter().filter_map(|spelling| control(vocab, spelling))
}

/// The control token of that spelling.
pub(super) fn control(vocab: &Vocab, spelling: &str) -> Option<u32> {
    vocab
        .id(spelling.as_bytes())
        .filter(|&id| vocab.get(id).is_some_and(|token| token.kind == Kind::Control))
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Spelling;
    use super::*;

    #[test]
    fn the_longest_token_wins_and_the_rest_is_text() {
        let mut vocab = Vocab::with_capacity(3, "tokens").unwrap();
        for text in ["<a>", "<a><b>", "\u{E9}"] {
            vocab.push(text.as_bytes(), Kind::Control, Spelling::Raw, "tokens").unwrap();
        }
        let finder = Finder::new(&vocab, |_, kind| kind.is_special()).unwrap();
        let cases: [(&str, &[Part<'_>]); 4] = [
            ("", &[]),
            ("x<a>", &[Part::Text("x"), Part::Token(0)]),
            ("<a><b><a>", &[Part::Token(1), Part::Token(0)]),
            ("e\u{E9} <", &[Part::Text("e"), Part::Token(2), Part::Text(" <")]),
        ];
        for (text, expected) in cases {
            assert_eq!(finder.parts(text), expected, "{text}");
        }
    }
}
