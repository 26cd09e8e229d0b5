//! The table of tokens: how each is spelled, what bytes it stands for, what kind it is.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::error::{Error, Result};
pub(super) use crate::io::TokenKind as Kind;
use crate::io::alphabet;

/// Tokens that a vocabulary may have at most: eight times the largest in use.
pub(super) const MAX_TOKENS: usize = 1 << 21;

/// SentencePiece's visible space, U+2581.
pub(super) const VISIBLE_SPACE: &str = "\u{2581}";

/// How the vocabulary writes bytes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Spaces as U+2581, single bytes as `<0xNN>`.
    SentencePiece,
    /// Every byte as one character of GPT-2's alphabet.
    ByteAlphabet,
    /// The bytes themselves (the GPT-J files that gpt4all wrote).
    Raw,
}

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// As the vocabulary spells it.
    pub(super) text: Box<[u8]>,
    /// What it stands for in a text; empty for special tokens.
    pub(super) bytes: Box<[u8]>,
    /// What it is for.
    pub(super) kind: Kind,
}

/// All tokens by id, and ids by spelling.
#[derive(Debug, Default)]
pub(super) struct Vocab {
    tokens: Vec<Token>,
    /// Ids by the hash of their spelling: the spellings themselves stand in `tokens` only.
    by_text: HashTable<u32>,
    hasher: RandomState,
}

impl Kind {
    /// Whether tokens of this kind are shown as no text.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

impl Vocab {
    /// A vocabulary without tokens; `field` names the list in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if `n_tokens` is zero or more than [`MAX_TOKENS`];
    /// [`Error::OutOfMemory`].
    pub(super) fn with_capacity(n_tokens: usize, field: &str) -> Result<Self> {
        if n_tokens == 0 || n_tokens > MAX_TOKENS {
            return Err(Error::Tokenizer(format!(
                "{field} has {n_tokens} entries, expected 1 to {MAX_TOKENS}"
            )));
        }
        let mut vocab = Self::default();
        let bytes = n_tokens * size_of::<Token>();
        vocab.tokens.try_reserve_exact(n_tokens).map_err(|_| Error::OutOfMemory { bytes })?;
        let bytes = n_tokens * size_of::<u32>();
        // There is nothing in it yet whose hash could be asked for.
        let reserved = vocab.by_text.try_reserve(n_tokens, |_| 0);
        reserved.map_err(|_| Error::OutOfMemory { bytes })?;
        Ok(vocab)
    }

    /// Checks that `scores` of the first tokens are finite, and at least `least` and not more than
    /// there are tokens; `field` names the list in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub(super) fn check_scores(&self, scores: &[f32], least: usize, field: &str) -> Result<()> {
        if !(least..=self.len()).contains(&scores.len()) {
            return Err(Error::Tokenizer(format!(
                "{field} has {} entries for {} tokens: there must be one each",
                scores.len(),
                self.len()
            )));
        }
        match scores.iter().position(|score| !score.is_finite()) {
            Some(bad) => Err(Error::Tokenizer(format!(
                "{field}[{bad}] is {}, expected a finite number",
                scores[bad]
            ))),
            None => Ok(()),
        }
    }

    /// Adds the next token; `field` names the list in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the spelling is taken, or a byte token is not `<0xNN>`.
    pub(super) fn push(
        &mut self,
        text: &[u8],
        kind: Kind,
        spelling: Spelling,
        field: &str,
    ) -> Result<()> {
        let id = self.tokens.len();
        let bytes = token_bytes(text, kind, spelling).ok_or_else(|| {
            Error::Tokenizer(format!(
                "{field}[{id}] is a byte token but spelled {:?}, expected <0x00> to <0xFF>",
                String::from_utf8_lossy(text)
            ))
        })?;
        self.tokens.push(Token { text: text.into(), bytes, kind });
        if kind == Kind::Unused && text.is_empty() {
            return Ok(());
        }
        let (tokens, hasher) = (&self.tokens, &self.hasher);
        let spelling_of = |&id: &u32| &*tokens[id as usize].text;
        let same = |id: &u32| spelling_of(id) == text;
        let hash = |id: &u32| hasher.hash_one(spelling_of(id));
        match self.by_text.entry(hasher.hash_one(text), same, hash) {
            Entry::Vacant(place) => {
                place.insert(id as u32);
                Ok(())
            }
            Entry::Occupied(first) => Err(Error::Tokenizer(format!(
                "{field}[{id}] is {:?}, the same as token {}: spellings must differ",
                String::from_utf8_lossy(text),
                first.get()
            ))),
        }
    }

    /// Tokens in all.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token of that id.
    pub(super) fn get(&self, id: u32) -> Option<&Token> {
        self.tokens.get(id as usize)
    }

    /// The id of that spelling.
    pub(super) fn id(&self, text: &[u8]) -> Option<u32> {
        let same = |&id: &u32| &*self.tokens[id as usize].text == text;
        self.by_text.find(self.hasher.hash_one(text), same).copied()
    }

    /// All tokens with their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Token)> {
        (0..).zip(&self.tokens)
    }

    /// The token of each byte.
    pub(super) fn byte_ids(&self) -> [Option<u32>; 256] {
        let mut ids = [None; 256];
        for (id, token) in self.iter() {
            if let (Kind::Byte, &[byte]) = (token.kind, &*token.bytes) {
                ids[usize::from(byte)] = Some(id);
            }
        }
        ids
    }

    /// The first token that stands for what the vocabulary cannot spell.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.iter().find(|(_, token)| token.kind == Kind::Unknown).map(|(id, _)| id)
    }

    /// Declares tokens to be special: they stand for no text from now on.
    pub(super) fn make_control(&mut self, id: u32) {
        if let Some(token) = self.tokens.get_mut(id as usize)
            && !token.kind.is_special()
        {
            token.kind = Kind::Control;
            token.bytes = Box::default();
        }
    }
}

/// What a token stands for; `None` for a byte token that is misspelled.
fn token_bytes(text: &[u8], kind: Kind, spelling: Spelling) -> Option<Box<[u8]>> {
    Some(match (kind, spelling) {
        (Kind::Control | Kind::Unknown | Kind::Unused, _) => Box::default(),
        (Kind::Byte, _) => [byte_token(text)?].into(),
        (_, Spelling::SentencePiece) => unescape_spaces(text),
        (Kind::Normal, Spelling::ByteAlphabet) => alphabet::decode(text),
        _ => text.into(),
    })
}

/// The byte that a `<0xNN>` token stands for: exactly two hexadecimal digits, nothing else.
pub(super) fn byte_token(text: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = *text else { return None };
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn unescape_spaces(text: &[u8]) -> Box<[u8]> {
    match std::str::from_utf8(text) {
        Ok(text) => text.replace(VISIBLE_SPACE, " ").into_bytes().into(),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokens_are_exactly_two_hex_digits() {
        let cases: [(&str, Option<u8>); 9] = [
            ("<0x00>", Some(0)),
            ("<0xfF>", Some(255)),
            ("<0x-1>", None),
            ("<0x+1>", None),
            ("<0x1>", None),
            ("<0x100>", None),
            ("<0xG0>", None),
            ("<0x00> ", None),
            ("", None),
        ];
        for (text, byte) in cases {
            assert_eq!(byte_token(text.as_bytes()), byte, "{text}");
        }
    }

    #[test]
    fn token_bytes_follow_kind_and_spelling() {
        let cases: [(&str, Kind, Spelling, &[u8]); 7] = [
            ("\u{2581}a\u{2581}", Kind::Normal, Spelling::SentencePiece, b" a "),
            ("\u{2581}", Kind::UserDefined, Spelling::SentencePiece, b" "),
            ("<0x0A>", Kind::Byte, Spelling::SentencePiece, b"\n"),
            ("<0x0A>", Kind::Normal, Spelling::SentencePiece, b"<0x0A>"),
            ("\u{120}a\u{10A}", Kind::Normal, Spelling::ByteAlphabet, b" a\n"),
            ("\u{120}a", Kind::Normal, Spelling::Raw, "\u{120}a".as_bytes()),
            ("<s>", Kind::Control, Spelling::SentencePiece, b""),
        ];
        for (text, kind, spelling, bytes) in cases {
            let found = token_bytes(text.as_bytes(), kind, spelling);
            assert_eq!(found.as_deref(), Some(bytes), "{text} {kind:?} {spelling:?}");
        }
    }
}
