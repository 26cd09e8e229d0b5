//! Tokens that are read for what the model makes of them, chunk by chunk beside other work.

use super::Session;
use super::generation::PROMPT_CHUNK;
use super::outcome::ScoredToken;
use super::sampler::scored;
use crate::error::{Error, Result};
use crate::model::{Step, Want};

/// Rows of logits in one pass: 64 rows of GPT-J's vocabulary are 13 MB.
const LOGITS_CHUNK: usize = 64;

/// What a [`Reading`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Only to fill the session's cache, from which forks then go on.
    Cache,
    /// For the log-probability of each token but the first after those before it, and those of this
    /// many most probable tokens in its place.
    Logprobs(usize),
    /// For the mean of the last hidden states, as [`Model::embed_tokens`](crate::Model::embed_tokens).
    Embedding,
}

/// Tokens that a [`Pool`](super::Pool) reads in a session, to draw none from.
#[derive(Debug)]
pub struct Reading {
    session: Session,
    purpose: Purpose,
    /// The tokens to score: all but the first.
    targets: Vec<u32>,
    scores: Vec<ScoredToken>,
    /// Sums of the hidden states over the tokens, (E).
    sums: Vec<f64>,
    stopped: bool,
}

impl Session {
    /// Makes the whole text `tokens` be read for `purpose`, in place of what the session held.
    ///
    /// Keys and values of the common beginning are kept where only they are wanted. For
    /// log-probabilities the last token is not read, as nothing is predicted from it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no tokens, one outside the vocabulary, or log-probabilities of an
    /// encoder-decoder model's prompt; [`Error::ContextFull`]. The session is lost then.
    pub fn into_reading(mut self, tokens: &[u32], purpose: Purpose) -> Result<Reading> {
        let config = self.model.config();
        if tokens.is_empty() {
            return Err(Error::config("text", "holds no token to read"));
        }
        self.model.check_tokens(tokens)?;
        self.model.check_fits(tokens.len())?;
        let (mut read, mut targets, mut sums) = (tokens, &[][..], Vec::new());
        match purpose {
            Purpose::Cache => {}
            Purpose::Logprobs(_) if config.encoder.is_some() => {
                let reason = "an encoder-decoder model does not predict its prompt";
                return Err(Error::config("logprobs", reason));
            }
            Purpose::Logprobs(_) => (read, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]),
            Purpose::Embedding => sums = vec![0.0; config.hidden_size],
        }
        self.cache.reopen();
        let kept = if purpose == Purpose::Cache { self.n_common(tokens) } else { 0 };
        self.cache.truncate(kept);
        self.tokens = read.to_vec();
        let scores = Vec::with_capacity(targets.len());
        let targets = targets.to_vec();
        Ok(Reading { session: self, purpose, targets, scores, sums, stopped: false })
    }
}

impl Reading {
    /// Whether all is read.
    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// Whether the session's brake ended it.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The scores of all tokens but the first, once all is read for [`Purpose::Logprobs`].
    pub fn scores(&self) -> &[ScoredToken] {
        &self.scores
    }

    /// The mean of the hidden states (E), once all is read for [`Purpose::Embedding`].
    pub fn embedding(&self) -> Vec<f32> {
        let n_tokens = self.session.tokens.len() as f64;
        self.sums.iter().map(|sum| (sum / n_tokens) as f32).collect()
    }

    /// The session, with the tokens that were to be read.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, with the tokens that were to be read.
    pub fn into_session(self) -> Session {
        self.session
    }

    pub(super) fn is_running(&self) -> bool {
        !self.stopped && !self.is_done()
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Tokens that are still to be read.
    pub(super) fn left(&self) -> usize {
        self.session.tokens.len().saturating_sub(self.session.cache.len())
    }

    /// Tokens of it that a pass has at most: all of them, if an encoder is to read them.
    pub(super) fn chunk(&self) -> usize {
        match self.purpose {
            Purpose::Logprobs(_) => LOGITS_CHUNK,
            Purpose::Embedding if self.session.model.config().encoder.is_some() => usize::MAX,
            Purpose::Cache | Purpose::Embedding => PROMPT_CHUNK,
        }
    }

    /// The next tokens to compute, `budget` at most, unless they must come at once.
    pub(super) fn step(&mut self, budget: usize) -> Step<'_> {
        let n = match self.chunk() {
            usize::MAX => self.left(),
            chunk => budget.clamp(1, chunk),
        };
        let want = match self.purpose {
            Purpose::Cache => Want::Nothing,
            Purpose::Logprobs(_) => Want::AllLogits,
            Purpose::Embedding => Want::Hidden,
        };
        let Session { cache, tokens, .. } = &mut self.session;
        let start = cache.len();
        let end = tokens.len().min(start + n);
        Step { cache, tokens: &tokens[start..end], want }
    }

    /// Takes what a pass gave for its step: `logits` (T, V) or `hidden` (T, E), or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn take(&mut self, logits: &[f32], hidden: &[f32]) -> Result<()> {
        let config = self.session.model.config();
        if let Purpose::Logprobs(n_top) = self.purpose {
            let targets = &self.targets[self.scores.len()..];
            let rows = logits.chunks_exact(config.vocab_size).zip(targets);
            for (row, &target) in rows {
                self.scores.push(scored(row, target, n_top)?);
            }
        }
        for row in hidden.chunks_exact(config.hidden_size) {
            for (sum, &value) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        Ok(())
    }
}
