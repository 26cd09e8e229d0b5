//! Tokens as texts, for reports of log-probabilities.

use std::collections::VecDeque;

use halfbyte::Piece;
use halfbyte::tokenizer::Tokenizer;

/// The token as text: unequal for unequal tokens as far as their bytes are, so that it can be a key.
/// Bytes that are no whole characters are `bytes:\xNN…`, as in OpenAI's API.
pub(super) fn label(tokenizer: Option<&Tokenizer>, token: u32) -> String {
    let bytes = bytes(tokenizer, token);
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) => {
            let text = tokenizer.and_then(|tokenizer| tokenizer.token_text(token));
            text.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("<{token}>"))
        }
        Err(error) => {
            let hex =
                error.into_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
            format!("bytes:{hex}")
        }
    }
}

/// The bytes that it stands for; none for special tokens.
pub(super) fn bytes(tokenizer: Option<&Tokenizer>, token: u32) -> Vec<u8> {
    tokenizer.and_then(|tokenizer| tokenizer.token_bytes(token)).unwrap_or_default().to_vec()
}

fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Characters that begin in the token.
pub(super) fn n_chars(tokenizer: Option<&Tokenizer>, token: u32) -> usize {
    bytes(tokenizer, token).iter().filter(|&&byte| !continues(byte)).count()
}

/// Pieces whose text is not out yet: what turns out to be past the end of an answer, its end token or
/// the tokens of a stop string, is no part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// Characters of the text that is out.
    n_out: usize,
    /// Characters of all tokens.
    n_drawn: usize,
    /// The last characters before pieces, and these.
    pieces: VecDeque<(usize, Piece)>,
}

impl Pending {
    /// Takes a piece.
    pub(super) fn push(&mut self, tokenizer: Option<&Tokenizer>, piece: Piece) {
        let begun = bytes(tokenizer, piece.token).first().is_some_and(|&byte| continues(byte));
        let start = self.n_drawn.saturating_sub(usize::from(begun));
        self.n_drawn += n_chars(tokenizer, piece.token);
        self.pieces.push_back((start, piece));
    }

    /// Numbers and short texts in the pieces.
    pub(super) fn n_values(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| 1 + piece.top_logprobs.len()).sum()
    }

    /// Gives the pieces that begin in the text when `n` more characters of it are out.
    pub(super) fn grow(&mut self, n: usize) -> Vec<Piece> {
        self.n_out += n;
        let n_ready = self.pieces.partition_point(|(start, _)| *start < self.n_out);
        self.pieces.drain(..n_ready).map(|(_, piece)| piece).collect()
    }
}
