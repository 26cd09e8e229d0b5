//! Embeddings: one vector for a text.

use super::Hooks;
use super::generation::PROMPT_CHUNK;
use crate::error::{Error, Result};
use crate::model::{Batch, Model, Step, Want};
use crate::tokenizer::Specials;

impl Model {
    /// The mean of the last hidden states of `text`'s tokens, (E), BOS included if the file adds it.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`]; [`Error::ContextFull`]; [`Error::Config`] for a text without tokens.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        self.embed_tokens(&self.tokenizer()?.encode_prompt(text, Specials::AsText)?)
    }

    /// The mean of the last hidden states (after the final norm) of `tokens`, (E).
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed); [`Error::Config`] for a token outside the vocabulary.
    pub fn embed_tokens(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.embed_tokens_with(tokens, &Hooks::default())
    }

    /// As [`embed_tokens`](Self::embed_tokens), with a brake and a progress bar that counts tokens.
    ///
    /// # Errors
    ///
    /// As [`embed_tokens`](Self::embed_tokens); [`Error::Cancelled`].
    pub fn embed_tokens_with(&self, tokens: &[u32], hooks: &Hooks) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::config("text", "holds no token to embed"));
        }
        self.check_tokens(tokens)?;
        self.check_fits(tokens.len())?;
        let (hidden_size, n_tokens) = (self.config().hidden_size, tokens.len());
        let mut sums = vec![0f64; hidden_size];
        let mut cache = self.new_cache();
        // An encoder reads all of them at once.
        let chunk = if self.config().encoder.is_some() { n_tokens } else { PROMPT_CHUNK };
        for tokens in tokens.chunks(chunk) {
            let step = Step { cache: &mut cache, tokens, want: Want::Hidden };
            let cancel = hooks.cancel.as_ref();
            let outputs = self.decoder().forward(&mut Batch { steps: vec![step], cancel })?;
            hooks.report(cache.len(), n_tokens);
            for row in outputs.hidden.chunks_exact(hidden_size) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(value);
                }
            }
        }
        Ok(sums.iter().map(|sum| (sum / n_tokens as f64) as f32).collect())
    }
}
