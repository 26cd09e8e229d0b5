//! SentencePiece's BPE: merges ranked by the score of the piece they make, bytes as the fallback.
//!
//! Source: google/sentencepiece, `src/bpe_model.cc` and `src/normalizer.cc`.

use std::borrow::Cow;

use super::merge::{Merge, merge_all};
use super::vocab::{Kind, VISIBLE_SPACE, Vocab};
use crate::error::{Error, Result};
use crate::kernels::zeroed;

/// How a text is prepared before it is cut into pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalization {
    /// Whether a space is put in front of a text.
    pub(super) add_space_prefix: bool,
    /// Whether runs of spaces become one, and spaces at the ends are dropped.
    pub(super) remove_extra_whitespaces: bool,
}

/// An encoder over pieces and their scores.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// By token id.
    ranks: Vec<u32>,
    longest: usize,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    normalization: Normalization,
}

impl SentencePiece {
    /// An encoder over `vocab`; `scores` by token id, `field` names them in messages.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if there is not one score for each token, or a score is not finite.
    pub(super) fn new(
        vocab: &Vocab,
        scores: &[f32],
        normalization: Normalization,
        field: &str,
    ) -> Result<Self> {
        vocab.check_scores(scores, vocab.len(), field)?;
        let ranks = ranks(scores)?;
        let pieces = vocab.iter().filter(|(_, token)| is_piece(token.kind));
        let longest = pieces.map(|(_, token)| token.text.len()).max().unwrap_or(0);
        let (bytes, unknown) = (vocab.byte_ids(), vocab.unknown());
        Ok(Self { ranks, longest, bytes, unknown, normalization })
    }

    /// What makes `text`, if it is a piece of `vocab`, which must be the one that this was made for.
    fn piece(&self, vocab: &Vocab, text: &[u8]) -> Option<Merge> {
        let id = vocab.id(text)?;
        let rank = *self.ranks.get(id as usize)?;
        is_piece(vocab.get(id)?.kind).then_some(Merge { rank, id })
    }

    /// Appends the ids of `text`, with the vocabulary that this was made for; `prefix` says whether
    /// it may get a space in front.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the vocabulary has no token for a character, its bytes or unknowns.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        prefix: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let text = self.normalize(text, prefix);
        let parts = text.char_indices().map(|(i, c)| (i..i + c.len_utf8(), None));
        let symbols = merge_all(parts, |left, right| {
            let range = left.range.start..right.range.end;
            if range.len() > self.longest {
                return None;
            }
            self.piece(vocab, &text.as_bytes()[range])
        })?;
        let mut after_unknown = false;
        for symbol in symbols {
            let piece = &text.as_bytes()[symbol.range];
            if let Some(found) = self.piece(vocab, piece) {
                ids.push(found.id);
                after_unknown = false;
                continue;
            }
            let bytes = piece.iter().map(|&byte| self.bytes[usize::from(byte)]);
            if let Some(fallback) = bytes.collect::<Option<Vec<u32>>>() {
                ids.extend(fallback);
                after_unknown = false;
                continue;
            }
            let unknown = self.unknown.ok_or_else(|| no_token(piece))?;
            // A run of unknown characters is one unknown token.
            if !after_unknown {
                ids.push(unknown);
            }
            after_unknown = true;
        }
        Ok(())
    }

    fn normalize(&self, text: &str, prefix: bool) -> String {
        let mut text = Cow::Borrowed(text);
        if self.normalization.remove_extra_whitespaces {
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            text = Cow::Owned(words.join(" "));
        }
        let escaped = text.replace(' ', VISIBLE_SPACE);
        if prefix && self.normalization.add_space_prefix && !escaped.is_empty() {
            return format!("{VISIBLE_SPACE}{escaped}");
        }
        escaped
    }
}

/// Whether text is made of tokens of that kind, byte tokens apart.
fn is_piece(kind: Kind) -> bool {
    matches!(kind, Kind::Normal | Kind::UserDefined)
}

/// The ranks of `scores`: the highest score has rank 0, equal scores share a rank.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
fn ranks(scores: &[f32]) -> Result<Vec<u32>> {
    let mut order: Vec<usize> = zeroed(scores.len())?;
    order.iter_mut().enumerate().for_each(|(i, place)| *place = i);
    // Equal scores share a rank, so that their order does not matter.
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut ranks = zeroed(scores.len())?;
    let mut rank = 0;
    for pair in order.windows(2) {
        // `!=`, not the total order: -0.0 and 0.0 are the same score.
        rank += u32::from(scores[pair[0]] != scores[pair[1]]);
        ranks[pair[1]] = rank;
    }
    Ok(ranks)
}

fn no_token(piece: &[u8]) -> Error {
    Error::Tokenizer(format!(
        "{:?} cannot be encoded: the vocabulary lacks its bytes and an unknown token",
        String::from_utf8_lossy(piece)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::vocab::Spelling;
    use super::*;

    /// A vocabulary from (spelling, kind, score) rows, and its encoder.
    fn encoder(rows: &[(&str, Kind, f32)], normalization: Normalization) -> (Vocab, SentencePiece) {
        let mut vocab = Vocab::with_capacity(rows.len(), "rows").unwrap();
        for (text, kind, _) in rows {
            vocab.push(text.as_bytes(), *kind, Spelling::SentencePiece, "rows").unwrap();
        }
        let scores: Vec<f32> = rows.iter().map(|row| row.2).collect();
        let encoder = SentencePiece::new(&vocab, &scores, normalization, "scores").unwrap();
        (vocab, encoder)
    }

    const PLAIN: Normalization =
        Normalization { add_space_prefix: false, remove_extra_whitespaces: false };

    #[test]
    fn scores_rank_merges_and_ties_go_left() {
        let row = |text, score| (text, Kind::Normal, score);
        let rows =
            [row("a", -9.0), row("b", -9.0), row("ab", -2.0), row("ba", -2.0), row("aab", -1.0)];
        let (vocab, encoder) = encoder(&rows, PLAIN);
        let cases: [(&str, &[u32]); 4] =
            [("aba", &[2, 0]), ("bab", &[3, 1]), ("aab", &[4]), ("abab", &[2, 2])];
        for (text, expected) in cases {
            let mut ids = Vec::new();
            encoder.encode(&vocab, text, true, &mut ids).unwrap();
            assert_eq!(ids, expected, "{text}");
        }
    }

    #[test]
    fn characters_outside_the_vocabulary_fall_back() {
        let rows = [("<unk>", Kind::Unknown, 0.0), ("a", Kind::Normal, 0.0)];
        let with_bytes =
            [rows[0], rows[1], ("<0xC3>", Kind::Byte, 0.0), ("<0xA9>", Kind::Byte, 0.0)];
        type Case<'a> = (&'a [(&'a str, Kind, f32)], &'a str, &'a [u32]);
        let cases: [Case<'_>; 3] = [
            (&rows, "axya", &[1, 0, 1]),
            (&with_bytes, "a\u{E9}", &[1, 2, 3]),
            (&with_bytes, "\u{E9}\u{E8}x", &[2, 3, 0]),
        ];
        for (rows, text, expected) in cases {
            let mut ids = Vec::new();
            let (vocab, encoder) = encoder(rows, PLAIN);
            encoder.encode(&vocab, text, true, &mut ids).unwrap();
            assert_eq!(ids, expected, "{text}");
        }
    }

    #[test]
    fn whitespace_is_prepared_as_the_file_says() {
        let cases = [
            (true, false, " a  b ", "\u{2581}\u{2581}a\u{2581}\u{2581}b\u{2581}"),
            (true, true, " a  b ", "\u{2581}a\u{2581}b"),
            (false, true, " a  b ", "a\u{2581}b"),
            (true, true, "  ", ""),
            (true, false, "", ""),
        ];
        for (add_space_prefix, remove_extra_whitespaces, text, expected) in cases {
            let normalization = Normalization { add_space_prefix, remove_extra_whitespaces };
            let rows = [("a", Kind::Normal, 0.0)];
            assert_eq!(encoder(&rows, normalization).1.normalize(text, true), expected, "{text:?}");
        }
    }
}
