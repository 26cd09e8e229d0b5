//! Tokens → text, one at a time.

use super::Tokenizer;

/// Turns a stream of tokens into text, never splitting a character.
///
/// The pieces, [`finish`](Self::finish) included, join to what [`Tokenizer::decode`] gives for the
/// whole, whatever the tokens: bytes that are no UTF-8 become U+FFFD, special tokens nothing.
#[derive(Clone, Debug)]
pub struct TextDecoder<'a> {
    tokenizer: &'a Tokenizer,
    undecoded: Undecoded,
}

/// What a [`TextDecoder`] knows of the tokens so far, for those who cannot hold the tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Undecoded {
    /// The start of a character that is not complete; at most three bytes.
    pending: Vec<u8>,
    /// Whether a space, if it comes next, is the one that the encoder put in front.
    strips_space: bool,
}

impl<'a> TextDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, strips_space: bool) -> Self {
        Self { tokenizer, undecoded: Undecoded { pending: Vec::new(), strips_space } }
    }

    /// Takes one token and returns the text that is now certain; often empty, never half a character.
    pub fn push(&mut self, id: u32) -> String {
        self.undecoded.push(self.tokenizer, id)
    }

    /// The rest: a character that was left incomplete becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        self.undecoded.finish()
    }

    /// The decoder without its tokenizer.
    pub(crate) fn into_undecoded(self) -> Undecoded {
        self.undecoded
    }
}

impl Undecoded {
    /// As [`TextDecoder::push`], with the tokenizer that it began with.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let mut bytes = tokenizer.token_bytes(id).unwrap_or_default();
        if tokenizer.parts_texts(id) {
            self.strips_space = true;
        } else if self.strips_space && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.strips_space = false;
        }
        self.pending.extend_from_slice(bytes);
        let complete = complete_len(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        text
    }

    /// As [`TextDecoder::finish`].
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// How many of `bytes` can be turned into text before more are known.
fn complete_len(bytes: &[u8]) -> usize {
    let mut done = 0;
    loop {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(_) => return bytes.len(),
            Err(e) => {
                done += e.valid_up_to();
                match e.error_len() {
                    Some(broken) => done += broken,
                    None => return done,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::complete_len;

    #[test]
    fn only_an_unfinished_character_waits() {
        let cases: [(&[u8], usize); 8] = [
            (b"", 0),
            (b"abc", 3),
            (b"a\xC3", 1),
            (b"\xF0\x9F\x98", 0),
            (b"\xF0\x9F\x98\x80", 4),
            (b"\xF0\x9Fx", 3),
            (b"\xFF\xFEa\xE2\x82", 3),
            (b"\x80", 1),
        ];
        for (bytes, expected) in cases {
            assert_eq!(complete_len(bytes), expected, "{bytes:x?}");
        }
    }
}
