//! How far a model's predictions are from those of another, such as its own unquantized weights.

use std::path::Path;
use std::time::{Duration, Instant};

use super::log_prob_file::{LogProbFile, LogProbWriter};
use super::sampler::{argmax, log_sum_exp};
use super::score::{Excerpt, Moments, Perplexity, Reading};
use super::{Hooks, Protocol};
use crate::error::{Error, Result};
use crate::model::Model;

/// The shares of tokens for which [`Divergence::kl_quantiles`] says how small the divergence is.
pub const KL_QUANTILES: [f64; 9] = [0.0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0];

/// How far a model's predictions are from a base's, token by token.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Divergence {
    /// The base's perplexity.
    pub base: Perplexity,
    /// The model's.
    pub model: Perplexity,
    /// Mean of the Kullback–Leibler divergence Σ p (ln p − ln q) of the model's probabilities q from
    /// the base's p, in nats.
    pub mean_kl: f64,
    /// Standard error of `mean_kl`.
    pub kl_std_error: f64,
    /// The divergence that the share [`KL_QUANTILES`] of all tokens does not exceed, each.
    pub kl_quantiles: [f64; KL_QUANTILES.len()],
    /// The share of tokens for which both find the same next token most probable.
    pub top_agreement: f64,
    /// Mean of the change of the probability of the token that follows, model less base.
    pub mean_probability_change: f64,
    /// Root of the mean square of that change.
    pub rms_probability_change: f64,
}

/// A divergence, and the time that each of the two models took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// How far the model is from the base.
    pub divergence: Divergence,
    /// Tokens that each of them read.
    pub tokens_read: usize,
    /// Time that the base took for them.
    pub base_time: Duration,
    /// Time that the model took for them.
    pub model_time: Duration,
}

impl Model {
    /// Writes this model's log-probabilities of all tokens, for [`divergence`](Self::divergence).
    ///
    /// The file holds the tokens, too, and two bytes for each token of the vocabulary and each scored
    /// token of the text: 1.6 GB for 50,000 and 16,000. It appears when it is complete.
    ///
    /// # Errors
    ///
    /// As [`perplexity_by`](Self::perplexity_by); [`Error::Io`].
    pub fn write_log_probs(
        &self,
        path: impl AsRef<Path>,
        tokens: &[u32],
        protocol: Protocol,
        hooks: &Hooks,
    ) -> Result<Perplexity> {
        self.check_tokens(tokens)?;
        protocol.check(self.context_length(), tokens.len())?;
        let vocab_size = self.config().vocab_size;
        let mut file = LogProbWriter::create(path.as_ref(), vocab_size, tokens, protocol)?;
        let mut nll = Moments::default();
        self.each_scored(tokens, protocol, hooks, &mut |logits, target| {
            let norm = log_sum_exp(logits);
            nll.add(norm - f64::from(logits[target as usize]));
            file.write(logits, norm)
        })?;
        file.finish()?;
        Ok(nll.perplexity())
    }

    /// How far this model is from the one whose log-probabilities `base` holds, on the same tokens
    /// in the same windows.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the file is of another vocabulary or its windows do not fit this model;
    /// [`Error::Malformed`]; [`Error::Io`]; [`Error::Cancelled`].
    pub fn divergence(&self, base: LogProbFile, hooks: &Hooks) -> Result<Divergence> {
        if base.vocab_size() != self.config().vocab_size {
            let reason = format!(
                "it is of a model with {} tokens and this one has {}: only models of one vocabulary \
                 can be compared",
                base.vocab_size(),
                self.config().vocab_size
            );
            return Err(Error::config("base", reason));
        }
        let (mut rows, tokens) = base.into_rows();
        let mut sums = Sums::default();
        let mut log_probs = Vec::new();
        self.each_scored(&tokens, rows.protocol(), hooks, &mut |logits, target| {
            rows.read(&mut log_probs)?;
            sums.add(&log_probs, logits, target);
            Ok(())
        })?;
        Ok(sums.divergence())
    }

    /// How far `self` is from `base`: both read the same windows side by side.
    ///
    /// # Errors
    ///
    /// As [`perplexity_by`](Self::perplexity_by); [`Error::Config`] if the two have vocabularies of
    /// different sizes.
    pub fn compare(
        &self,
        base: &Self,
        tokens: &[u32],
        protocol: Protocol,
        hooks: &Hooks,
    ) -> Result<Comparison> {
        let sizes = [base, self].map(|model| model.config().vocab_size);
        if sizes[0] != sizes[1] {
            let reason = format!("the models have {} and {} tokens", sizes[0], sizes[1]);
            return Err(Error::config("vocabulary", reason));
        }
        let context_length = self.context_length().min(base.context_length());
        let (mut sums, mut log_probs) = (Sums::default(), Vec::new());
        let (mut tokens_read, mut times) = (0, [Duration::ZERO; 2]);
        for Excerpt { read, targets, from, end } in
            self.excerpts(tokens, protocol, context_length)?
        {
            let mut readings = [Reading::new(base, &read, from)?, Reading::new(self, &read, from)?];
            tokens_read += read.len();
            loop {
                let [left, right] = &mut readings;
                let (left, right) =
                    (timed(left, hooks, &mut times[0])?, timed(right, hooks, &mut times[1])?);
                let (Some((start, theirs)), Some((_, ours))) = (left, right) else { break };
                let rows = base.rows(&theirs).zip(self.rows(&ours)).zip(&targets[start..]);
                for ((theirs, ours), &target) in rows {
                    let norm = log_sum_exp(theirs);
                    log_probs.clear();
                    log_probs.extend(theirs.iter().map(|&logit| f64::from(logit) - norm));
                    sums.add(&log_probs, ours, target);
                }
            }
            hooks.report(end, tokens.len());
        }
        let [base_time, model_time] = times;
        Ok(Comparison { divergence: sums.divergence(), tokens_read, base_time, model_time })
    }
}

/// The next rows of `reading`, whose time is added to `spent`.
fn timed(
    reading: &mut Reading<'_>,
    hooks: &Hooks,
    spent: &mut Duration,
) -> Result<Option<(usize, Vec<f32>)>> {
    let start = Instant::now();
    let rows = reading.next(hooks);
    *spent += start.elapsed();
    rows
}

/// What is added up token by token.
#[derive(Debug, Default)]
struct Sums {
    base: Moments,
    model: Moments,
    kl: Moments,
    change: Moments,
    agreed: usize,
    /// All divergences, for their quantiles.
    all: Vec<f32>,
}

impl Sums {
    /// One token: the base's log-probabilities (V), the model's logits (V), the token that follows.
    fn add(&mut self, base: &[f64], logits: &[f32], target: u32) {
        let norm = log_sum_exp(logits);
        // A file's log-probabilities are rounded, so that their sum is not quite 1.
        let (mut sum, mut weighted, mut best) = (0.0, 0.0, 0);
        for (i, (&p, &logit)) in base.iter().zip(logits).enumerate() {
            let share = libm::exp(p);
            if share > 0.0 {
                sum += share;
                weighted += share * (p - (f64::from(logit) - norm));
            }
            if p > base[best] {
                best = i;
            }
        }
        let kl = weighted / sum - libm::log(sum);
        let p = base[target as usize] - libm::log(sum);
        let q = f64::from(logits[target as usize]) - norm;
        self.base.add(-p);
        self.model.add(-q);
        self.kl.add(kl);
        self.change.add(libm::exp(q) - libm::exp(p));
        self.agreed += usize::from(argmax(logits) as usize == best);
        self.all.push(kl as f32);
    }

    fn divergence(mut self) -> Divergence {
        self.all.sort_unstable_by(f32::total_cmp);
        let last = self.all.len().saturating_sub(1);
        let quantile = |share: f64| {
            let place = (share * last as f64).round() as usize;
            self.all.get(place).map_or(f64::NAN, |&kl| f64::from(kl))
        };
        Divergence {
            base: self.base.perplexity(),
            model: self.model.perplexity(),
            mean_kl: self.kl.mean(),
            kl_std_error: self.kl.std_error(),
            kl_quantiles: KL_QUANTILES.map(quantile),
            top_agreement: self.agreed as f64 / self.all.len() as f64,
            mean_probability_change: self.change.mean(),
            rms_probability_change: self.change.root_mean_square(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_those_of_known_distributions() {
        // Base (1/2, 1/4, 1/4), model (1/4, 1/2, 1/4): ½ ln 2 − ¼ ln 2 = ¼ ln 2.
        let base = [0.5_f64, 0.25, 0.25].map(f64::ln);
        let logits = [0.25_f32, 0.5, 0.25].map(f32::ln);
        let mut sums = Sums::default();
        sums.add(&base, &logits, 0);
        // The same distribution, scaled: logits need not be normalized, nor a file's be exact.
        sums.add(&base.map(|p| p + 0.3), &[0.5_f32, 0.25, 0.25].map(|p| p.ln() + 7.0), 1);
        let found = sums.divergence();
        let ln2 = std::f64::consts::LN_2;
        assert!((found.mean_kl - ln2 / 8.0).abs() < 1e-7, "{found:?}");
        assert!((found.kl_quantiles[8] - ln2 / 4.0).abs() < 1e-7, "{found:?}");
        assert!(found.kl_quantiles[0].abs() < 1e-7, "{found:?}");
        assert!((found.top_agreement - 0.5).abs() < f64::EPSILON);
        assert!((found.base.mean_nll - 1.5 * ln2).abs() < 1e-7);
        assert!((found.model.mean_nll - 2.0 * ln2).abs() < 1e-7);
        assert!((found.mean_probability_change + 0.125).abs() < 1e-7);
        assert!((found.rms_probability_change - 0.25 / 2.0_f64.sqrt()).abs() < 1e-7);
    }
}
