//! What a session keeps of its past: keys and values, and an encoder-decoder model's prompt.

use std::io::{self, Write};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nn::{BlockCache, CacheShape, CacheType, LowRankSet};

/// The keys and values of one sequence. A clone shares its blocks until either side writes.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// What the (decoder's) blocks computed of the tokens that they read.
    pub(super) own: BlockCache,
    /// Only for encoder-decoder models.
    pub(super) prompt: Option<Prompt>,
}

/// A prompt that an encoder reads: at once, and so not before all of it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt {
    /// The tokens so far.
    pub(super) tokens: Vec<u32>,
    /// How many there will be; `None` while nobody knows.
    pub(super) end: Option<usize>,
    /// What the encoder last made of a prompt, which may be another one by now.
    pub(super) read: Option<Arc<Encoded>>,
}

/// What an encoder made of a prompt.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The whole prompt.
    pub(super) tokens: Vec<u32>,
    /// Its keys and values for each of the decoder's blocks.
    pub(super) keys: BlockCache,
}

impl KvCache {
    pub(super) fn new(shape: CacheShape, has_prompt: bool) -> Self {
        Self { own: BlockCache::new(shape), prompt: has_prompt.then(Prompt::default) }
    }

    pub(super) fn shape(&self) -> &CacheShape {
        self.own.shape()
    }
    pub(super) fn adapters(&self) -> Option<&Arc<LowRankSet>> {
        self.own.adapters()
    }
    /// Reads all further tokens with `adapters`; forgets those that were read with others. Those of
    /// encoder-decoder models have none.
    pub(crate) fn adapt(&mut self, adapters: Option<Arc<LowRankSet>>) {
        self.own.adapt(adapters);
    }
    /// The cache, whose tokens were read with `adapters`.
    pub(super) fn read_with(self, adapters: Option<Arc<LowRankSet>>) -> Self {
        Self { own: self.own.read_with(adapters), ..self }
    }
    /// How keys and values are kept.
    pub fn cache_type(&self) -> CacheType {
        self.own.shape().cache_type
    }
    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        match &self.prompt {
            // The decoder starts from a token of its own once the prompt is complete.
            Some(prompt) => prompt.tokens.len() + self.own.len().saturating_sub(1),
            None => self.own.len(),
        }
    }
    /// Tokens that fit in the memory that it holds now.
    pub fn capacity(&self) -> usize {
        self.own.capacity()
    }
    /// Whether the cache holds no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all tokens from `len` on, and frees their blocks. Of a prompt that is cut an
    /// encoder-decoder model no longer knows where it ends.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        let Some(prompt) = &mut self.prompt else { return self.own.truncate(len) };
        match len.checked_sub(prompt.tokens.len()) {
            Some(answered) => self.own.truncate(answered + 1),
            None => {
                prompt.tokens.truncate(len);
                prompt.end = None;
                self.own.truncate(0);
            }
        }
    }

    /// Says that the prompt of an encoder-decoder model has `n_tokens`, before they are read;
    /// nothing happens with other models, or if the prompt has ended before.
    pub fn end_prompt_at(&mut self, n_tokens: usize) {
        if let Some(prompt) = &mut self.prompt
            && self.own.is_empty()
        {
            prompt.end = Some(n_tokens.max(prompt.tokens.len()).max(1));
        }
    }

    /// Tokens of an encoder-decoder model's prompt, once that has ended.
    pub fn prompt_len(&self) -> Option<usize> {
        self.prompt.as_ref()?.end
    }

    /// Forgets where the prompt ends, and what follows: more may be read as prompt.
    pub(crate) fn reopen(&mut self) {
        if let Some(end) = self.prompt_len() {
            self.truncate(end.saturating_sub(1));
        }
        if let Some(prompt) = &mut self.prompt {
            prompt.end = None;
        }
    }

    /// Bytes that the cache holds now, shared blocks included.
    pub fn n_bytes(&self) -> usize {
        let encoded = self.prompt.as_ref().and_then(|prompt| prompt.read.as_ref());
        self.own.n_bytes() + encoded.map_or(0, |encoded| encoded.keys.n_bytes())
    }

    /// The number of cached tokens (u64, little-endian), then their blocks, layer after layer.
    ///
    /// Of an encoder-decoder model first: where the prompt ends (u64, all ones for nowhere), its
    /// tokens (their number as u64, u32 each); then as above what the decoder read. What the
    /// encoder made of the prompt is not kept: it is computed again.
    ///
    /// # Panics
    ///
    /// If there is no memory for it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out).expect("only memory can be missing");
        out
    }

    /// Bytes that [`write_to`](Self::write_to) writes.
    pub(crate) fn written_bytes(&self) -> u64 {
        let prompt = self.prompt.as_ref().map_or(0, |prompt| prompt_bytes(prompt.tokens.len()));
        self.own.written_bytes().saturating_add(prompt)
    }

    /// Bytes that [`write_to`](Self::write_to) writes at most of `len` tokens, however many of them
    /// are a prompt.
    pub(crate) fn longest_written(&self, len: usize) -> u64 {
        let prompt = self.prompt.as_ref().map_or(0, |_| prompt_bytes(len));
        self.shape().written_bytes(len).saturating_add(prompt)
    }

    /// Writes what [`to_bytes`](Self::to_bytes) gives, block by block: the whole may be larger than
    /// the memory that is left.
    ///
    /// # Errors
    ///
    /// Those of `out`, and that of memory for one block.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(prompt) = &self.prompt {
            let end = prompt.end.map_or(u64::MAX, |end| end as u64);
            out.write_all(&end.to_le_bytes())?;
            out.write_all(&(prompt.tokens.len() as u64).to_le_bytes())?;
            prompt.tokens.iter().try_for_each(|token| out.write_all(&token.to_le_bytes()))?;
        }
        self.own.write_to(out)
    }

    /// Reads back what [`to_bytes`](Self::to_bytes) wrote for a cache of this shape.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the bytes do not fit, [`Error::OutOfMemory`].
    pub(super) fn from_bytes(shape: CacheShape, has_prompt: bool, bytes: &[u8]) -> Result<Self> {
        if !has_prompt {
            return Ok(Self { own: BlockCache::from_bytes(shape, bytes)?, prompt: None });
        }
        let wrong = || Error::config("saved cache", "the prompt does not fit its tokens");
        let (end, rest) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let (n_tokens, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        let end = Some(u64::from_le_bytes(*end)).filter(|&end| end != u64::MAX);
        let end = end.map(usize::try_from).transpose().map_err(|_| wrong())?;
        let n_tokens = usize::try_from(u64::from_le_bytes(*n_tokens)).map_err(|_| wrong())?;
        let n_bytes = n_tokens.checked_mul(4).ok_or_else(wrong)?;
        let (tokens, own) = rest.split_at_checked(n_bytes).ok_or_else(wrong)?;
        let tokens = tokens.as_chunks().0.iter().map(|&token| u32::from_le_bytes(token)).collect();
        let own = BlockCache::from_bytes(shape, own)?;
        let complete = end == Some(n_tokens);
        if end.is_some_and(|end| end < n_tokens.max(1)) || complete == own.is_empty() {
            return Err(wrong());
        }
        Ok(Self { own, prompt: Some(Prompt { tokens, end, read: None }) })
    }
}

/// Bytes that the `n_tokens` of a prompt take in a written cache.
fn prompt_bytes(n_tokens: usize) -> u64 {
    (n_tokens as u64).saturating_mul(4).saturating_add(16)
}
