//! Logits → one token, by a fixed chain of steps.
//!
//! 1. repetition, presence and frequency penalties over the recent tokens;
//! 2. logit bias;
//! 3. the caller's [`LogitsProcessor`](super::LogitsProcessor);
//! 4. temperature 0: the best token, the lowest id among equals; done;
//! 5. top-k; 6. typical; 7. top-p; 8. min-p, each over the probabilities that its predecessor left;
//! 9. temperature; 10. one draw from ChaCha8.
//!
//! Sums run in a fixed order in f64 and `exp` and `ln` come from `libm`, so equal logits and an equal
//! seed give the equal token on every machine. NaN counts as forbidden.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{GenerationConfig, Hooks, ScoredToken, TokenLogprob};
use crate::error::{Error, Result};

/// Draws the tokens of one generation.
pub(super) struct Sampler {
    config: GenerationConfig,
    hooks: Hooks,
    /// Tokens that are never drawn.
    forbidden: Vec<u32>,
    seed: u64,
    random: ChaCha8Rng,
    /// The logits being changed (V), kept between tokens to save allocations.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Proportional to the probability; the best has 1.
    weight: f64,
}

impl Sampler {
    pub(super) fn new(config: &GenerationConfig, hooks: &Hooks, forbidden: Vec<u32>) -> Self {
        let seed = config.seed.unwrap_or_else(fresh_seed);
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            config: config.clone(),
            hooks: hooks.clone(),
            forbidden,
            seed,
            random: ChaCha8Rng::from_seed(key),
            logits: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The seed in use.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Draws the token that follows `tokens`, given the model's logits (V).
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if the processor pulled the brake, as one does that failed: what it left
    /// is not to be drawn from; [`Error::OutOfMemory`].
    pub(super) fn sample(&mut self, tokens: &[u32], logits: &[f32]) -> Result<u32> {
        make_room(&mut self.logits, logits.len())?;
        self.logits.extend(logits.iter().map(|&logit| sane(logit)));
        let recent = &tokens[tokens.len().saturating_sub(self.config.repeat_last_n)..];
        penalize(&mut self.logits, recent, &self.config);
        for &(token, bias) in &self.config.logit_bias {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        for &token in &self.forbidden {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(processor) = &self.hooks.processor {
            processor.process(tokens, &mut self.logits);
            self.hooks.check()?;
        }
        for logit in &mut self.logits {
            *logit = sane(*logit);
        }
        if self.config.temperature == 0.0 {
            return Ok(argmax(&self.logits));
        }
        self.filter()?;
        Ok(self.draw())
    }

    /// Leaves the candidates that the filters let through; at least one. Best first, unless none
    /// looked at the order: then by id.
    fn filter(&mut self) -> Result<()> {
        top_k(&self.logits, self.config.top_k, &mut self.candidates)?;
        let candidates = &mut self.candidates;
        weigh(candidates, 1.0);
        typical(candidates, self.config.typical_p)?;
        top_p(candidates, self.config.top_p);
        // The best one has weight 1, and min-p is at most 1: one stays.
        let least = f64::from(self.config.min_p);
        candidates.retain(|c| c.weight >= least);
        Ok(())
    }

    fn draw(&mut self) -> u32 {
        weigh(&mut self.candidates, f64::from(self.config.temperature));
        // 53 random bits: every multiple of 2⁻⁵³ below 1 is equally probable.
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total(&self.candidates);
        for candidate in &self.candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding can leave a crumb; it belongs to the last one that is possible at all.
        self.candidates.iter().rfind(|c| c.weight > 0.0).map_or(0, |c| c.token)
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("config", &self.config).field("seed", &self.seed).finish()
    }
}

/// Empties `list` and makes room for `n` items: a vocabulary has up to 2²¹.
fn make_room<T>(list: &mut Vec<T>, n: usize) -> Result<()> {
    list.clear();
    let bytes = n.saturating_mul(size_of::<T>());
    list.try_reserve_exact(n).map_err(|_| Error::OutOfMemory { bytes })
}

/// A seed from the operating system's entropy; 53 bits, so that it survives in JSON.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}

/// NaN becomes forbidden and +∞ the largest number, so that later steps only see an order.
fn sane(logit: f32) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { logit.min(f32::MAX) }
}

/// Makes recent tokens less probable.
///
/// Source: repetition: Keskar et al. 2019 (CTRL), as in Hugging Face's
/// `RepetitionPenaltyLogitsProcessor`; presence and frequency: OpenAI's API reference.
fn penalize(logits: &mut [f32], recent: &[u32], config: &GenerationConfig) {
    let mut recent = recent.to_vec();
    recent.sort_unstable();
    for run in recent.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(run[0] as usize) else { continue };
        if *logit > 0.0 {
            *logit /= config.repetition_penalty;
        } else {
            *logit *= config.repetition_penalty;
        }
        *logit -= config.presence_penalty + config.frequency_penalty * run.len() as f32;
    }
}

/// The index of the largest logit, the lowest one among equals.
pub(super) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    // A vocabulary has at most 2²¹ tokens.
    best as u32
}

/// Fills `out` with the `k` best tokens that are not forbidden, best first, or with all of them by
/// id where there are no more or `k` is 0; one at least.
fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) -> Result<()> {
    make_room(out, logits.len().max(1))?;
    out.extend(
        (0..)
            .zip(logits)
            .filter(|(_, l)| **l > f32::NEG_INFINITY)
            .map(|(token, &logit)| Candidate { token, logit, weight: 1.0 }),
    );
    if out.is_empty() {
        out.push(Candidate { token: 0, logit: 0.0, weight: 1.0 });
    }
    if (1..out.len()).contains(&k) {
        out.select_nth_unstable_by(k - 1, best_first);
        out.truncate(k);
        out.sort_unstable_by(best_first);
    }
    Ok(())
}

/// A total order, so that no sort can depend on where a candidate stood before.
fn best_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// Sets each weight to `exp((logit − best) / temperature)`.
fn weigh(candidates: &mut [Candidate], temperature: f64) {
    let best = candidates.iter().map(|c| f64::from(c.logit)).fold(f64::NEG_INFINITY, f64::max);
    for candidate in candidates {
        candidate.weight = libm::exp((f64::from(candidate.logit) - best) / temperature);
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| c.weight).sum()
}

/// Keeps the most probable tokens with a share of at least `p`, best first.
fn top_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p < 1.0 {
        let enough = f64::from(p) * total(candidates);
        keep_shortest(candidates, enough, |c| c.weight, best_first);
    }
}

/// Keeps the shortest beginning, in `order`, whose weights sum to `enough`; one item at least.
///
/// It is short as a rule, and a vocabulary is long: so ever longer beginnings are selected and
/// sorted, and the rest never.
fn keep_shortest<T>(
    items: &mut Vec<T>,
    enough: f64,
    weight: impl Fn(&T) -> f64,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) {
    let (mut sorted, mut sum, mut step) = (0, 0.0, 64);
    while sorted < items.len() {
        let rest = &mut items[sorted..];
        let n = step.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n - 1, &order);
        }
        rest[..n].sort_unstable_by(&order);
        for i in 0..n {
            sum += weight(&rest[i]);
            if sum >= enough {
                items.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += n;
        step *= 4;
    }
}

/// Keeps the tokens whose surprise is closest to the expected one, with a share of at least `p`.
///
/// Source: Meister et al. 2023, "Locally Typical Sampling".
fn typical(candidates: &mut Vec<Candidate>, p: f32) -> Result<()> {
    if p >= 1.0 {
        return Ok(());
    }
    let total = total(candidates);
    let surprise = |c: &Candidate| -libm::log(c.weight / total);
    let entropy: f64 =
        candidates.iter().filter(|c| c.weight > 0.0).map(|c| c.weight / total * surprise(c)).sum();
    let mut by_distance: Vec<(f64, Candidate)> = Vec::new();
    make_room(&mut by_distance, candidates.len())?;
    by_distance.extend(candidates.iter().map(|c| ((surprise(c) - entropy).abs(), *c)));
    let enough = f64::from(p) * total;
    keep_shortest(
        &mut by_distance,
        enough,
        |(_, c)| c.weight,
        |a, b| a.0.total_cmp(&b.0).then_with(|| best_first(&a.1, &b.1)),
    );
    candidates.clear();
    candidates.extend(by_distance.into_iter().map(|(_, c)| c));
    candidates.sort_unstable_by(best_first);
    Ok(())
}

/// ln Σ exp(logit), in f64 and index order; NaN counts as forbidden.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let best = f64::from(logits.iter().fold(f32::NEG_INFINITY, |best, &l| best.max(sane(l))));
    if best == f64::NEG_INFINITY {
        return best;
    }
    let sum: f64 = logits.iter().map(|&l| libm::exp(f64::from(sane(l)) - best)).sum();
    best + libm::log(sum)
}

/// The log-probability of `token`, and the `n` most probable tokens, best first.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(super) fn logprobs(logits: &[f32], token: u32, n: usize) -> Result<(f32, Vec<TokenLogprob>)> {
    let ScoredToken { logprob, top_logprobs, .. } = scored(logits, token, n)?;
    let top = |(token, logprob): (u32, f64)| TokenLogprob { token, logprob: logprob as f32 };
    Ok((logprob as f32, top_logprobs.into_iter().map(top).collect()))
}

/// How probable `token` is, and which `n` tokens are the most probable.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
pub(super) fn scored(logits: &[f32], token: u32, n: usize) -> Result<ScoredToken> {
    let norm = log_sum_exp(logits);
    let logprob = |logit: f32| f64::from(sane(logit)) - norm;
    let mut best = Vec::new();
    if n > 0 {
        let mut all = Vec::new();
        make_room(&mut all, logits.len())?;
        all.extend(logits.iter().map(|&l| sane(l)));
        top_k(&all, n, &mut best)?;
        best.sort_unstable_by(best_first);
    }
    Ok(ScoredToken {
        token,
        logprob: logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| logprob(logit)),
        top_logprobs: best.iter().map(|c| (c.token, logprob(c.logit))).collect(),
    })
}

#[cfg(test)]
mod tests;
