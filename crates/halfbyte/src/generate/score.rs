//! Scoring: logits and perplexity of given text.

use candle_core::{Device, Tensor};

use super::Hooks;
use super::generation::PROMPT_CHUNK;
use super::sampler::log_sum_exp;
use crate::error::{Error, Result};
use crate::model::{Batch, Model, Step, Want};

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
        let n = tokens.len().saturating_mul(self.config().vocab_size);
        let mut rows = Vec::new();
        rows.try_reserve_exact(n)
            .map_err(|_| Error::OutOfMemory { bytes: n.saturating_mul(size_of::<f32>()) })?;
        self.each_logits(tokens, 0, hooks, &mut |_, logits| {
            rows.extend_from_slice(logits);
        })?;
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
    /// Each token is scored once, in the first window that holds it, after all that stands before
    /// it in that window; the first token of the text, and with `stride` = `window` of every window,
    /// is not scored. If the text begins with BOS, BOS replaces the first token of every later
    /// window: the model never saw a text without.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if window or stride do not fit the model or the text;
    /// [`Error::Cancelled`].
    ///
    /// Source: "Perplexity of fixed-length models", Hugging Face transformers documentation.
    pub fn perplexity(
        &self,
        tokens: &[u32],
        window: usize,
        stride: usize,
        hooks: &Hooks,
    ) -> Result<Perplexity> {
        self.check_tokens(tokens)?;
        if !(2..=self.context_length()).contains(&window) {
            let reason = format!("{window} is not between 2 and {}", self.context_length());
            return Err(Error::config("window", reason));
        }
        if !(1..=window).contains(&stride) {
            return Err(Error::config("stride", format!("{stride} is not between 1 and {window}")));
        }
        if tokens.len() < 2 {
            return Err(Error::config("text", "holds less than two tokens"));
        }
        let bos = self.tokenizer().ok().and_then(|tokenizer| tokenizer.bos());
        let bos = bos.filter(|&bos| tokens[0] == bos);
        let mut nll = Moments::default();
        let (mut begin, mut scored) = (0, 1);
        while scored < tokens.len() {
            let end = tokens.len().min(begin + window);
            let mut read = tokens[begin..end].to_vec();
            if let Some(bos) = bos {
                read[0] = bos;
            }
            let from = scored.max(begin + 1) - begin - 1;
            self.each_logits(&read[..read.len() - 1], from, hooks, &mut |i, logits| {
                let target = tokens[begin + i + 1] as usize;
                nll.add(log_sum_exp(logits) - f64::from(logits[target]));
            })?;
            scored = end;
            begin += stride;
            hooks.report(scored, tokens.len());
        }
        let mean_nll = nll.mean();
        Ok(Perplexity {
            value: libm::exp(mean_nll),
            mean_nll,
            std_error: nll.std_error(),
            n_scored: nll.n,
        })
    }

    /// Reads `tokens` into a fresh cache and visits (i, logits after token i) for all i ≥ `from`.
    fn each_logits(
        &self,
        tokens: &[u32],
        from: usize,
        hooks: &Hooks,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        if self.config().encoder.is_some() {
            let reason = "an encoder-decoder model does not predict its prompt: score answers with \
                          log_likelihood";
            return Err(Error::config("model", reason));
        }
        self.check_fits(tokens.len())?;
        self.check_tokens(tokens)?;
        let mut cache = self.new_cache();
        while cache.len() < tokens.len() {
            let start = cache.len();
            let (end, want) = if start < from {
                (from.min(start + PROMPT_CHUNK), Want::Nothing)
            } else {
                (tokens.len().min(start + LOGITS_CHUNK), Want::AllLogits)
            };
            let step = Step { cache: &mut cache, tokens: &tokens[start..end], want };
            let mut batch = Batch { steps: vec![step], cancel: hooks.cancel.as_ref() };
            let outputs = self.decoder().forward(&mut batch)?;
            for (i, row) in outputs.logits.chunks_exact(self.config().vocab_size).enumerate() {
                visit(start + i, row);
            }
        }
        Ok(())
    }
}

/// Mean and spread of numbers that come one by one.
#[derive(Default)]
struct Moments {
    n: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    fn std_error(&self) -> f64 {
        let n = self.n as f64;
        let variance = (self.sum_of_squares / n - self.mean() * self.mean()).max(0.0);
        (variance / (n - 1.0).max(1.0)).sqrt()
    }
}
