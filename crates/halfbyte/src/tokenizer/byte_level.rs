//! Byte-level BPE: words are split off by a regular expression, then merged from single bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;

use tokenizers::normalizers::unicode::NFC;
use tokenizers::{NormalizedString, Normalizer};

use super::merge::{Merge, Symbol, merge_all};
use super::split::{PreTokenizer, Splitter};
use super::vocab::{Kind, Spelling, Token, Vocab};
use crate::error::{Error, Result};
use crate::io::alphabet;
use crate::kernels::collect;

/// An encoder over bytes and merges.
#[derive(Debug)]
pub(super) struct ByteLevel {
    words: HashMap<Box<[u8]>, u32>,
    longest: usize,
    bytes: [Option<u32>; 256],
    merges: Merges,
    splitter: Splitter,
    pre: &'static PreTokenizer,
}

/// Which neighbours merge, and which first.
#[derive(Debug)]
enum Merges {
    /// As listed, by the pair's ids.
    Listed(HashMap<(u32, u32), Merge>),
    /// Any two that make a token, the lowest id first.
    ///
    /// True of GPT-2's vocabulary: merge i makes token 256 + i. The GPT-J files of 2023 have no
    /// list of merges, and need none.
    ByTokenId,
}

impl ByteLevel {
    /// An encoder over `vocab`; `merges` are `left right` lines, none if ids are the ranks.
    /// `spelling` is that of the tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if a merge is not of two tokens that make a third;
    /// [`Error::OutOfMemory`].
    pub(super) fn new(
        vocab: &Vocab,
        merges: Option<&[Vec<u8>]>,
        spelling: Spelling,
        pre: &'static PreTokenizer,
    ) -> Result<Self> {
        let normal =
            vocab.iter().filter(|(_, token)| token.kind == Kind::Normal && !token.bytes.is_empty());
        let mut words = with_room(vocab.len())?;
        words.extend(normal.map(|(id, token)| (token.bytes.clone(), id)));
        let mut bytes = [None; 256];
        for byte in 0..=u8::MAX {
            bytes[usize::from(byte)] = words.get([byte].as_slice()).copied();
        }
        let merges = match merges {
            Some(lines) => Merges::Listed(listed(vocab, &words, lines, spelling)?),
            None => Merges::ByTokenId,
        };
        let longest = words.keys().map(|word| word.len()).max().unwrap_or(0);
        let splitter = Splitter::new(pre.patterns)?;
        Ok(Self { words, longest, bytes, merges, splitter, pre })
    }

    /// The text as this vocabulary wants it, before its tokens are looked for.
    pub(super) fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.pre.composes || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut normalized = NormalizedString::from(text);
        match NFC.normalize(&mut normalized) {
            Ok(()) => Cow::Owned(normalized.get().to_owned()),
            Err(_) => Cow::Borrowed(text),
        }
    }

    /// Appends the ids of `text`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the vocabulary lacks a byte.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.splitter.split(text).into_iter().try_for_each(|word| self.encode_word(word, ids))
    }

    /// The merges for which ids stand, as lines of `left right`; none if they are listed already.
    ///
    /// A token is made of the two that merging with earlier tokens alone leaves of it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(super) fn implied_merges(&self, vocab: &Vocab) -> Result<Vec<Vec<u8>>> {
        if matches!(self.merges, Merges::Listed(_)) {
            return Ok(Vec::new());
        }
        let tokens = vocab.iter().filter(|(_, token)| token.kind == Kind::Normal);
        let line = |(id, token): (u32, &Token)| -> Result<Option<Vec<u8>>> {
            let word = &token.bytes;
            let bytes = word.iter().enumerate();
            let parts = bytes.map(|(i, &byte)| (i..i + 1, self.bytes[usize::from(byte)]));
            let earlier = |left: &Symbol, right: &Symbol| {
                self.merge(word, left, right).filter(|merge| merge.id < id)
            };
            let symbols: Vec<_> = merge_all(parts, earlier)?.collect();
            let [left, right] = &*symbols else { return Ok(None) };
            let text = |symbol: &Symbol| vocab.get(symbol.id?).map(|token| &*token.text);
            let pair = text(left).zip(text(right));
            Ok(pair.map(|(left, right)| [left, b" ", right].concat()))
        };
        let mut lines = collect(vocab.len(), [])?;
        for token in tokens {
            lines.extend(line(token)?);
        }
        Ok(lines)
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        let word = word.as_bytes();
        if self.pre.ignore_merges
            && let Some(&id) = self.words.get(word)
        {
            ids.push(id);
            return Ok(());
        }
        let parts = word.iter().enumerate().map(|(i, &b)| (i..i + 1, self.bytes[usize::from(b)]));
        for symbol in merge_all(parts, |left, right| self.merge(word, left, right))? {
            ids.push(symbol.id.ok_or_else(|| {
                let byte = word[symbol.range.start];
                Error::Tokenizer(format!("the vocabulary has no token for the byte 0x{byte:02x}"))
            })?);
        }
        Ok(())
    }

    fn merge(&self, word: &[u8], left: &Symbol, right: &Symbol) -> Option<Merge> {
        match &self.merges {
            Merges::Listed(pairs) => pairs.get(&(left.id?, right.id?)).copied(),
            Merges::ByTokenId => {
                let range = left.range.start..right.range.end;
                if range.len() > self.longest {
                    return None;
                }
                let id = *self.words.get(&word[range])?;
                Some(Merge { rank: id, id })
            }
        }
    }
}

/// A map with room for `n` entries.
fn with_room<K: Eq + Hash, V>(n: usize) -> Result<HashMap<K, V>> {
    let mut map = HashMap::new();
    let bytes = n.saturating_mul(size_of::<(K, V)>());
    map.try_reserve(n).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(map)
}

/// The merges of `lines` by pair; the first line of a pair counts.
fn listed(
    vocab: &Vocab,
    words: &HashMap<Box<[u8]>, u32>,
    lines: &[Vec<u8>],
    spelling: Spelling,
) -> Result<HashMap<(u32, u32), Merge>> {
    let mut pairs = with_room(lines.len())?;
    for (rank, line) in (0..).zip(lines) {
        let (pair, id) = made_by(vocab, words, line, spelling).ok_or_else(|| {
            Error::Tokenizer(format!(
                "tokenizer.ggml.merges[{rank}] is {:?}, expected two tokens that make a third, \
                 parted by a space",
                String::from_utf8_lossy(line)
            ))
        })?;
        pairs.entry(pair).or_insert(Merge { rank, id });
    }
    Ok(pairs)
}

/// The pair of tokens that a line of merges spells, and the token that they make.
///
/// gpt4all's files, whose tokens are raw bytes, have their merges in the byte alphabet all the same.
fn made_by(
    vocab: &Vocab,
    words: &HashMap<Box<[u8]>, u32>,
    line: &[u8],
    spelling: Spelling,
) -> Option<((u32, u32), u32)> {
    let space = line.iter().position(|&byte| byte == b' ')?;
    let id = |half: &[u8]| match spelling {
        Spelling::Raw => words.get(&alphabet::decode(half)).copied(),
        _ => vocab.id(half),
    };
    let (left, right) = (id(&line[..space])?, id(&line[space + 1..])?);
    let made = [&*vocab.get(left)?.bytes, &*vocab.get(right)?.bytes].concat();
    Some(((left, right), *words.get(made.as_slice())?))
}
