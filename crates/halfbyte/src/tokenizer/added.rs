//! Tokens that were added to a SentencePiece model later, and lie beside it.
//!
//! They are not part of the model's own file, so metadata have them, under keys of our own:
//! `tokenizer.ggml.extra_ids` (how many `<extra_id_N>` follow the pieces, the highest N first),
//! `tokenizer.ggml.added_tokens` and `added_token_ids` (texts, and ids in ascending order).
//!
//! As in transformers, what stands between them is a text of its own: it gets its own space in
//! front, and loses it when it is decoded.

use super::ids::keyed;
use super::vocab::{Kind, Spelling, Vocab};
use crate::error::{Error, Result};
use crate::io::Metadata;

const EXTRA: &str = "tokenizer.ggml.extra_ids";
const TOKENS: &str = "tokenizer.ggml.added_tokens";
const IDS: &str = "tokenizer.ggml.added_token_ids";

/// T5 models have 100.
const MAX_EXTRA: u64 = 1 << 12;
/// Rows without a token that may lie between the pieces and an added one.
const MAX_GAP: usize = 1 << 12;

/// Tokens that were added later.
#[derive(Debug, Default)]
pub(super) struct Added {
    n_extra: u64,
    /// By ascending id.
    tokens: Vec<(u32, Vec<u8>)>,
}

impl Added {
    /// Reads the keys above.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] naming the key that is wrong.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        let n_extra = keyed(metadata.u64(EXTRA))?.unwrap_or(0);
        if n_extra > MAX_EXTRA {
            return Err(Error::Tokenizer(format!("{EXTRA} is {n_extra}, more than {MAX_EXTRA}")));
        }
        let texts = keyed(metadata.strings(TOKENS))?.unwrap_or_default();
        let ids = keyed(metadata.integers(IDS))?.unwrap_or_default();
        let ids: Option<Vec<u32>> = ids.into_iter().map(|id| u32::try_from(id).ok()).collect();
        let ids = ids.filter(|ids| ids.len() == texts.len() && ids.is_sorted_by(|a, b| a < b));
        let ids = ids.ok_or_else(|| {
            Error::Tokenizer(format!("{IDS} are not one ascending id for each of {TOKENS}"))
        })?;
        Ok(Self { n_extra, tokens: ids.into_iter().zip(texts.iter().cloned()).collect() })
    }

    /// Appends the tokens to a vocabulary that has the pieces.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if an id is that of a piece with another spelling, or far behind them.
    pub(super) fn append_to(&self, vocab: &mut Vocab) -> Result<()> {
        let sentencepiece = Spelling::SentencePiece;
        if vocab.id(b"<extra_id_0>").is_none() {
            for i in (0..self.n_extra).rev() {
                let text = format!("<extra_id_{i}>");
                vocab.push(text.as_bytes(), Kind::Control, sentencepiece, TOKENS)?;
            }
        }
        for (id, text) in &self.tokens {
            let place = *id as usize;
            if let Some(token) = vocab.get(*id) {
                if *token.text == **text {
                    continue;
                }
                return Err(Error::Tokenizer(format!(
                    "{IDS} has {id} for {:?}, which is the id of {:?}",
                    String::from_utf8_lossy(text),
                    String::from_utf8_lossy(&token.text)
                )));
            }
            if place - vocab.len() > MAX_GAP {
                let len = vocab.len();
                return Err(Error::Tokenizer(format!("{IDS} has {id}, far behind {len} tokens")));
            }
            while vocab.len() < place {
                vocab.push(b"", Kind::Unused, sentencepiece, TOKENS)?;
            }
            vocab.push(text, Kind::UserDefined, sentencepiece, TOKENS)?;
        }
        Ok(())
    }

    /// The ids, ascending, without those of `<extra_id_N>`.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|(id, _)| *id).collect()
    }
}
