//! SentencePiece's Unigram model: the cut of a text whose pieces are the most probable.
//!
//! Source: T. Kudo, "Subword Regularization" (2018), arXiv:1804.10959; google/sentencepiece,
//! `src/unigram_model.cc` and `src/normalizer.cc`, whose roundings decide between equals.

use std::ops::Range;

use super::charsmap::Charsmap;
use super::sentencepiece::Normalization;
use super::vocab::{Kind, VISIBLE_SPACE, Vocab};
use crate::error::{Error, Result};
use crate::kernels::zeroed;

/// How far the score of an unknown character is below the lowest of all pieces.
const UNKNOWN_PENALTY: f32 = 10.0;

/// Pieces are at most so long, in bytes: what a look-up may cost.
const MAX_PIECE_BYTES: usize = 1024;

/// An encoder over pieces and the logarithms of their probabilities.
#[derive(Debug)]
pub(super) struct Unigram {
    /// By token id.
    scores: Vec<f32>,
    pieces: Sorted,
    /// The pieces that are looked for in the text as it is written.
    user_defined: Sorted,
    /// What a byte of a user-defined piece scores, and an unknown character.
    highest: f32,
    unknown_score: f32,
    unknown: u32,
    /// By byte, if the vocabulary has them all.
    bytes: Option<Vec<u32>>,
    normalization: Normalization,
    charsmap: Option<Charsmap>,
}

/// The best way to cut the text up to some place.
#[derive(Clone, Copy, Default)]
struct Cut {
    score: f32,
    /// Where its last piece starts; `None` if there is no way yet.
    start: Option<usize>,
    id: u32,
}

impl Unigram {
    /// An encoder over the first tokens of `vocab`, one for each of `scores`; `field` names these
    /// in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if there are more scores than tokens, a score is not finite, a piece is
    /// too long, or there is no unknown token.
    pub(super) fn new(
        vocab: &Vocab,
        scores: &[f32],
        (normalization, charsmap): (Normalization, Option<Charsmap>),
        field: &str,
    ) -> Result<Self> {
        vocab.check_scores(scores, 0, field)?;
        let listed = || vocab.iter().take(scores.len());
        let unknown = vocab.unknown().filter(|&id| (id as usize) < scores.len());
        let unknown = unknown.ok_or_else(|| {
            Error::Tokenizer("a Unigram vocabulary needs an unknown token, and has none".into())
        })?;
        let normal = || {
            let normal = listed().filter(|(_, token)| token.kind == Kind::Normal);
            normal.map(|(id, _)| scores[id as usize])
        };
        let lowest = normal().reduce(f32::min).unwrap_or(0.0);
        let of_kinds = |kinds: &[Kind]| {
            let ids = listed().filter(|(_, token)| kinds.contains(&token.kind)).map(|(id, _)| id);
            Sorted::new(vocab, ids.collect())
        };
        Ok(Self {
            scores: scores.to_vec(),
            pieces: of_kinds(&[Kind::Normal, Kind::UserDefined])?,
            user_defined: of_kinds(&[Kind::UserDefined])?,
            // SentencePiece begins at its smallest positive number: its scores are rarely above.
            highest: normal().fold(f32::MIN_POSITIVE, f32::max),
            unknown_score: lowest - UNKNOWN_PENALTY,
            unknown,
            bytes: vocab.byte_ids().into_iter().collect(),
            normalization,
            charsmap,
        })
    }

    /// Appends the ids of `text`, with the vocabulary that this was made for; `prefix` says whether
    /// it may get a space in front.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]: the table of cuts takes 24 bytes for each of the text.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        prefix: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let text = self.normalize(vocab, text, prefix)?;
        let mut after_unknown = false;
        for (range, id) in self.cut(vocab, &text)? {
            let is_unknown = id == self.unknown;
            ids.try_reserve(range.len()).map_err(|_| no_room(size_of_val(&**ids)))?;
            match &self.bytes {
                Some(bytes) if is_unknown => {
                    ids.extend(text.as_bytes()[range].iter().map(|&b| bytes[usize::from(b)]));
                }
                // A run of unknown characters is one unknown token.
                _ if is_unknown && after_unknown => {}
                _ => ids.push(id),
            }
            after_unknown = is_unknown;
        }
        Ok(())
    }

    /// The pieces of the best cut, in order. Of equal cuts the one that was found first counts.
    ///
    /// Sums are kept in f32 and compared in f64, as SentencePiece does.
    fn cut(&self, vocab: &Vocab, text: &str) -> Result<Vec<(Range<usize>, u32)>> {
        let mut best: Vec<Cut> = zeroed(text.len() + 1)?;
        for (start, c) in text.char_indices() {
            let so_far = best[start].score;
            let mut offer = |end: usize, score: f64, id: u32| {
                let cut = &mut best[end];
                if cut.start.is_none() || score > f64::from(cut.score) {
                    *cut = Cut { score: score as f32, start: Some(start), id };
                }
            };
            let mut has_character = false;
            self.pieces.each_prefix(vocab, &text.as_bytes()[start..], |len, id| {
                offer(start + len, self.score(vocab, id, len) + f64::from(so_far), id);
                has_character |= len == c.len_utf8();
            });
            if !has_character {
                let score = self.unknown_score + so_far;
                offer(start + c.len_utf8(), f64::from(score), self.unknown);
            }
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Some(start) = best[end].start {
            pieces.try_reserve(1).map_err(|_| no_room(size_of_val(&*pieces)))?;
            pieces.push((start..end, best[end].id));
            end = start;
        }
        pieces.reverse();
        Ok(pieces)
    }

    /// The score of a piece of `len` bytes; user-defined ones get one that nothing beats.
    fn score(&self, vocab: &Vocab, id: u32, len: usize) -> f64 {
        match vocab.get(id).map(|token| token.kind) {
            Some(Kind::UserDefined) => f64::from(len as f32 * self.highest) - 0.1,
            _ => f64::from(self.scores[id as usize]),
        }
    }

    /// `text` as the pieces spell it.
    fn normalize(&self, vocab: &Vocab, text: &str, prefix: bool) -> Result<String> {
        let collapses = self.normalization.remove_extra_whitespaces;
        let mut rest = text;
        if collapses {
            while !rest.is_empty() {
                let (to, len) = self.next(vocab, rest);
                if to != " " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        let mut out = String::new();
        if rest.is_empty() {
            return Ok(out);
        }
        let n_bytes = text.len().saturating_add(VISIBLE_SPACE.len());
        out.try_reserve(n_bytes).map_err(|_| no_room(n_bytes))?;
        if prefix && self.normalization.add_space_prefix {
            out.push_str(VISIBLE_SPACE);
        }
        let mut after_space = collapses;
        while !rest.is_empty() {
            let (to, len) = self.next(vocab, rest);
            let to = if after_space { to.trim_start_matches(' ') } else { to };
            if !to.is_empty() {
                // Spaces become longer.
                let most = to.len() * VISIBLE_SPACE.len();
                out.try_reserve(most).map_err(|_| no_room(out.len()))?;
                to.split(' ').enumerate().for_each(|(i, word)| {
                    out.push_str(if i == 0 { "" } else { VISIBLE_SPACE });
                    out.push_str(word);
                });
                after_space = collapses && to.ends_with(' ');
            }
            rest = &rest[len..];
        }
        if collapses {
            let kept = out.trim_end_matches(VISIBLE_SPACE).len();
            out.truncate(kept);
        }
        Ok(out)
    }

    /// What `text`, which is not empty, begins with: replaced, and how many bytes that was.
    fn next<'t>(&'t self, vocab: &Vocab, text: &'t str) -> (&'t str, usize) {
        let mut own = 0;
        self.user_defined.each_prefix(vocab, text.as_bytes(), |len, _| own = len);
        if own > 0 && text.is_char_boundary(own) {
            return (&text[..own], own);
        }
        if let Some((len, to)) = self.charsmap.as_ref().and_then(|map| map.longest(text)) {
            return (to, len);
        }
        let len = text.chars().next().map_or(text.len(), char::len_utf8);
        (&text[..len], len)
    }
}

/// The error for a list of so many bytes that could not grow: lists do so by doubling.
fn no_room(bytes: usize) -> Error {
    Error::OutOfMemory { bytes }
}

/// Tokens in the order of their spellings.
#[derive(Debug)]
struct Sorted(Vec<u32>);

impl Sorted {
    fn new(vocab: &Vocab, mut ids: Vec<u32>) -> Result<Self> {
        let text = |id: u32| vocab.get(id).map_or(&[][..], |token| &*token.text);
        if let Some(&id) = ids.iter().find(|&&id| text(id).len() > MAX_PIECE_BYTES) {
            return Err(Error::Tokenizer(format!(
                "token {id} has {} bytes, more than {MAX_PIECE_BYTES}",
                text(id).len()
            )));
        }
        ids.retain(|&id| !text(id).is_empty());
        ids.sort_unstable_by_key(|&id| text(id));
        Ok(Self(ids))
    }

    /// Calls `found` with the length and the id of each token that `text` begins with, shortest
    /// first.
    fn each_prefix(&self, vocab: &Vocab, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let spelling = |id: u32| vocab.get(id).map_or(&[][..], |token| &*token.text);
        let mut ids = &self.0[..];
        for (depth, byte) in text.iter().enumerate() {
            // All of them agree in the bytes before `depth`.
            let at = |id: u32| spelling(id).get(depth);
            let start = ids.partition_point(|&id| at(id) < Some(byte));
            let end = ids.partition_point(|&id| at(id) <= Some(byte));
            ids = &ids[start..end];
            let Some(&first) = ids.first() else { return };
            if spelling(first).len() == depth + 1 {
                found(depth + 1, first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Spelling;
    use super::*;

    const PLAIN: Normalization =
        Normalization { add_space_prefix: false, remove_extra_whitespaces: false };
    const TIDY: Normalization =
        Normalization { add_space_prefix: true, remove_extra_whitespaces: true };

    type Row<'a> = (&'a str, Kind, f32);

    fn ids(rows: &[Row<'_>], normalization: Normalization, text: &str) -> Vec<u32> {
        let mut vocab = Vocab::with_capacity(rows.len(), "rows").unwrap();
        for (text, kind, _) in rows {
            vocab.push(text.as_bytes(), *kind, Spelling::SentencePiece, "rows").unwrap();
        }
        let scores: Vec<f32> = rows.iter().map(|row| row.2).collect();
        let encoder = Unigram::new(&vocab, &scores, (normalization, None), "scores").unwrap();
        let mut ids = Vec::new();
        encoder.encode(&vocab, text, true, &mut ids).unwrap();
        ids
    }

    #[test]
    fn the_most_probable_pieces_win() {
        let row = |text, score| (text, Kind::Normal, score);
        let unknown = ("<unk>", Kind::Unknown, 0.0);
        let rows = [unknown, row("a", -3.0), row("b", -3.0), row("ab", -5.0), row("abb", -9.0)];
        let cases: [(&str, &[u32]); 5] = [
            ("ab", &[3]),
            // Equal: what was found first, from the earlier start, stays.
            ("abb", &[3, 2]),
            ("ba", &[2, 1]),
            ("axyb", &[1, 0, 2]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(ids(&rows, PLAIN, text), expected, "{text}");
        }
    }

    #[test]
    fn user_defined_pieces_beat_all_and_unused_ones_are_nothing() {
        let rows = [
            ("<unk>", Kind::Unknown, 0.0),
            ("a", Kind::Normal, -1.0),
            ("b", Kind::Normal, -1.0),
            ("ab", Kind::UserDefined, -50.0),
            ("ba", Kind::Unused, 9.0),
        ];
        assert_eq!(ids(&rows, PLAIN, "bab"), [2, 3]);
        assert_eq!(ids(&rows, PLAIN, "baab"), [2, 1, 3]);
    }

    #[test]
    fn unknown_characters_become_bytes_where_there_are_all() {
        let spellings: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut rows = vec![("<unk>", Kind::Unknown, 0.0), ("a", Kind::Normal, -1.0)];
        rows.extend(spellings.iter().map(|text| (text.as_str(), Kind::Byte, 0.0)));
        assert_eq!(ids(&rows, PLAIN, "a\u{E9}a"), [1, 2 + 0xC3, 2 + 0xA9, 1]);
        assert_eq!(ids(&rows[..100], PLAIN, "a\u{E9}a"), [1, 0, 1]);
    }

    #[test]
    fn whitespace_is_prepared_as_the_file_says() {
        let rows = [
            ("<unk>", Kind::Unknown, 0.0),
            ("a", Kind::Normal, -1.0),
            ("\u{2581}", Kind::Normal, -1.0),
        ];
        let cases: [(Normalization, &str, &[u32]); 6] = [
            (TIDY, "  a   a ", &[2, 1, 2, 1]),
            (TIDY, "   ", &[]),
            (PLAIN, " a  a ", &[2, 1, 2, 2, 1, 2]),
            (PLAIN, "  ", &[2, 2]),
            (Normalization { add_space_prefix: true, ..PLAIN }, "a ", &[2, 1, 2]),
            (Normalization { remove_extra_whitespaces: true, ..PLAIN }, " a", &[1]),
        ];
        for (normalization, text, expected) in cases {
            assert_eq!(ids(&rows, normalization, text), expected, "{text:?} {normalization:?}");
        }
    }

    #[test]
    fn broken_vocabularies_are_errors() {
        let long = "x".repeat(MAX_PIECE_BYTES + 1);
        let unknown = ("<unk>", Kind::Unknown, 0.0);
        let cases: [(&[Row<'_>], usize); 4] = [
            (&[("a", Kind::Normal, 0.0)], 1),
            (&[unknown, ("a", Kind::Normal, f32::NAN)], 2),
            (&[unknown, (&long, Kind::Normal, 0.0)], 2),
            (&[unknown], 2),
        ];
        for (i, (rows, n_scores)) in cases.into_iter().enumerate() {
            let mut vocab = Vocab::with_capacity(rows.len(), "rows").unwrap();
            for (text, kind, _) in rows {
                vocab.push(text.as_bytes(), *kind, Spelling::SentencePiece, "rows").unwrap();
            }
            let mut scores: Vec<f32> = rows.iter().map(|row| row.2).collect();
            scores.resize(n_scores, 0.0);
            assert!(Unigram::new(&vocab, &scores, (PLAIN, None), "scores").is_err(), "{i}");
        }
    }
}
