//! Scoring: logits and perplexity of given text.

use candle_core::{Device, Tensor};

use super::generation::PROMPT_CHUNK;
use super::protocol::Window;
use super::sampler::log_sum_exp;
use super::{Hooks, Protocol};
use crate::error::{Error, Result};
use crate::model::{Batch, KvCache, Model, Step, Want};

/// Rows of logits in one pass: 64 rows of GPT-J's vocabulary are 13 MB.
const LOGITS_CHUNK: usize = 64;

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// exp of the mean negative log-probability per scored token.
    pub value: f64,
    /// Mean negative natural-log probability of a scored token.
    pub mean_nll: f64,
    /// Standard error of `mean_nll`.
    pub std_error: f64,
    /// Tokens that were scored.
    pub n_scored: usize,
}

impl Model {
    /// The logits after each of `tokens`, (T, V) row after row, in one fresh pass.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`]; [`Error::Config`] for no tokens or one outside the vocabulary;
    /// [`Error::OutOfMemory`].
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.logits_with(tokens, &Hooks::default())
    }

    /// As [`logits`](Self::logits), with a brake.
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits); [`Error::Cancelled`].
    pub fn logits_with(&self, tokens: &[u32], hooks: &Hooks) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::config("tokens", "there are none"));
        }
        let mut reading = Reading::new(self, tokens, 0)?;
        let n = tokens.len().saturating_mul(self.config().vocab_size);
        let mut rows = Vec::new();
        rows.try_reserve_exact(n)
            .map_err(|_| Error::OutOfMemory { bytes: n.saturating_mul(size_of::<f32>()) })?;
        while let Some((_, logits)) = reading.next(hooks)? {
            rows.extend_from_slice(&logits);
        }
        Ok(rows)
    }

    /// The logits after each of `tokens` as a candle tensor (T, V).
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits).
    pub fn logits_tensor(&self, tokens: &[u32]) -> Result<Tensor> {
        let shape = (tokens.len(), self.config().vocab_size);
        Ok(Tensor::from_vec(self.logits(tokens)?, shape, &Device::Cpu)?)
    }

    /// The perplexity of `tokens`, read in windows of `window` tokens that move by `stride`.
    ///
    /// [`perplexity_by`](Self::perplexity_by) with [`Protocol::Strided`]: each token is scored once,
    /// in the first window that holds it, after all that stands before it in that window; the first
    /// token of the text, and with `stride` = `window` of every window, is not scored.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if window or stride do not fit the model or the text;
    /// [`Error::Cancelled`].
    pub fn perplexity(
        &self,
        tokens: &[u32],
        window: usize,
        stride: usize,
        hooks: &Hooks,
    ) -> Result<Perplexity> {
        self.perplexity_by(tokens, Protocol::Strided { window, stride }, hooks)
    }

    /// The perplexity of `tokens`, cut by `protocol`.
    ///
    /// If the text begins with BOS, BOS replaces the first token of every later window: the model
    /// never saw a text without.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the protocol does not fit the model or the text; [`Error::Cancelled`].
    pub fn perplexity_by(
        &self,
        tokens: &[u32],
        protocol: Protocol,
        hooks: &Hooks,
    ) -> Result<Perplexity> {
        let mut nll = Moments::default();
        self.each_scored(tokens, protocol, hooks, &mut |logits, target| {
            nll.add(log_sum_exp(logits) - f64::from(logits[target as usize]));
            Ok(())
        })?;
        Ok(nll.perplexity())
    }

    /// Visits (logits, the token that follows) for each token that `protocol` scores.
    pub(super) fn each_scored(
        &self,
        tokens: &[u32],
        protocol: Protocol,
        hooks: &Hooks,
        visit: &mut dyn FnMut(&[f32], u32) -> Result<()>,
    ) -> Result<()> {
        for excerpt in self.excerpts(tokens, protocol, self.context_length())? {
            let mut reading = Reading::new(self, &excerpt.read, excerpt.from)?;
            while let Some((start, rows)) = reading.next(hooks)? {
                for (row, &target) in self.rows(&rows).zip(&excerpt.targets[start..]) {
                    visit(row, target)?;
                }
            }
            hooks.report(excerpt.end, tokens.len());
        }
        Ok(())
    }

    /// The windows of `tokens` for models with a context of `context_length`.
    pub(super) fn excerpts<'t>(
        &self,
        tokens: &'t [u32],
        protocol: Protocol,
        context_length: usize,
    ) -> Result<impl Iterator<Item = Excerpt<'t>> + use<'t>> {
        self.check_tokens(tokens)?;
        protocol.check(context_length, tokens.len())?;
        let bos = self.repeated_bos(tokens);
        Ok(protocol.windows(tokens.len()).map(move |Window { begin, end, from }| {
            let mut read = tokens[begin..end - 1].to_vec();
            if let (Some(bos), Some(first)) = (bos, read.first_mut()) {
                *first = bos;
            }
            Excerpt { read, targets: &tokens[begin + 1..end], from, end }
        }))
    }

    /// The start token that stands before every window of `tokens`, if they begin with it.
    pub fn repeated_bos(&self, tokens: &[u32]) -> Option<u32> {
        let bos = self.tokenizer().ok().and_then(|tokenizer| tokenizer.bos());
        bos.filter(|bos| tokens.first() == Some(bos))
    }

    /// The rows (V) of logits (T, V).
    pub(super) fn rows<'a>(&self, logits: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        logits.chunks_exact(self.config().vocab_size)
    }
}

/// A window of a text.
pub(super) struct Excerpt<'t> {
    /// What is read; the text's BOS stands in the place of its first token.
    pub(super) read: Vec<u32>,
    /// The token that follows each of those.
    pub(super) targets: &'t [u32],
    /// The first of them whose logits count.
    pub(super) from: usize,
    /// Where the window ends in the text.
    pub(super) end: usize,
}

/// Tokens that are read into a fresh cache, some rows of logits at a time.
pub(super) struct Reading<'a> {
    model: &'a Model,
    cache: KvCache,
    tokens: &'a [u32],
    /// The first token whose logits are wanted.
    from: usize,
}

impl<'a> Reading<'a> {
    pub(super) fn new(model: &'a Model, tokens: &'a [u32], from: usize) -> Result<Self> {
        if model.config().encoder.is_some() {
            let reason = "an encoder-decoder model does not predict its prompt: score answers with \
                          log_likelihood";
            return Err(Error::config("model", reason));
        }
        model.check_fits(tokens.len())?;
        model.check_tokens(tokens)?;
        Ok(Self { model, cache: model.new_cache(), tokens, from })
    }

    /// The next rows (T, V), and after which token, counted from the first, the first one is.
    pub(super) fn next(&mut self, hooks: &Hooks) -> Result<Option<(usize, Vec<f32>)>> {
        while self.cache.len() < self.tokens.len() {
            let start = self.cache.len();
            let (end, want) = if start < self.from {
                (self.from.min(start + PROMPT_CHUNK), Want::Nothing)
            } else {
                (self.tokens.len().min(start + LOGITS_CHUNK), Want::AllLogits)
            };
            let step = Step { cache: &mut self.cache, tokens: &self.tokens[start..end], want };
            let mut batch = Batch { steps: vec![step], cancel: hooks.cancel.as_ref() };
            let outputs = self.model.decoder().forward(&mut batch)?;
            if start >= self.from {
                return Ok(Some((start, outputs.logits)));
            }
        }
        Ok(None)
    }
}

/// Mean and spread of numbers that come one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    n: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    pub(super) fn std_error(&self) -> f64 {
        let n = self.n as f64;
        let variance = (self.sum_of_squares / n - self.mean() * self.mean()).max(0.0);
        (variance / (n - 1.0).max(1.0)).sqrt()
    }

    /// The square root of the mean of squares.
    pub(super) fn root_mean_square(&self) -> f64 {
        (self.sum_of_squares / self.n as f64).sqrt()
    }

    /// The perplexity, if the numbers are negative log-probabilities.
    pub(super) fn perplexity(&self) -> Perplexity {
        let mean_nll = self.mean();
        Perplexity {
            value: libm::exp(mean_nll),
            mean_nll,
            std_error: self.std_error(),
            n_scored: self.n,
        }
    }
}
