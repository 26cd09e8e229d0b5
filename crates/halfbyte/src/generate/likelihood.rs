//! Log-likelihoods: how probable a model finds given continuations, many of them at once.

use super::Hooks;
use super::generation::PROMPT_CHUNK;
use super::sampler::{argmax, log_sum_exp};
use crate::error::{Error, Result};
use crate::model::{Batch, KvCache, Model, Step, Want};
use crate::tokenizer::Specials;

/// Tokens in one pass over contexts, which bounds the activations' memory.
const PASS_TOKENS: usize = 512;

/// Rows of logits in one pass: 128 rows of GPT-J's vocabulary are 26 MB.
const PASS_LOGITS: usize = 128;

/// Continuations that are scored together: each holds a cache.
const MAX_ACTIVE: usize = 64;

/// Tokens of a context, and of what follows it.
type Pair = (Vec<u32>, Vec<u32>);

/// How probable a model finds a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogLikelihood {
    /// Sum of the natural-log probabilities of the continuation's tokens.
    pub sum: f64,
    /// Whether each of them was the most probable one.
    pub is_greedy: bool,
    /// Tokens of the continuation.
    pub n_tokens: usize,
}

/// How probable a model finds many continuations, and what that took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LikelihoodBatch {
    /// One for each pair, in their order.
    pub scores: Vec<LogLikelihood>,
    /// Tokens that the model read: fewer than the pairs hold, as neighbours with equal contexts read
    /// them once.
    pub tokens_read: usize,
}

/// A sequence that is read in several passes.
struct Reader {
    cache: KvCache,
    tokens: Vec<u32>,
    /// Tokens that are read, besides what the cache held before.
    done: usize,
}

impl Model {
    /// How probable `continuation` is after `context`.
    ///
    /// Spaces at the end of the context count as the beginning of the continuation, and the two are
    /// tokenized together. A context of nothing else is BOS, or the end token in its place. For an
    /// encoder-decoder model the two are a prompt and the beginning of an answer, tokenized apart.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`]; [`Error::ContextFull`]; [`Error::Config`] for an empty continuation.
    ///
    /// Source: `loglikelihood` of EleutherAI's lm-evaluation-harness.
    pub fn log_likelihood(&self, context: &str, continuation: &str) -> Result<LogLikelihood> {
        let (context, continuation) = self.encode_pair(context, continuation)?;
        self.log_likelihood_tokens(&context, &continuation)
    }

    /// How probable the tokens `continuation` are after the tokens `context`.
    ///
    /// # Errors
    ///
    /// As [`log_likelihood`](Self::log_likelihood); [`Error::Config`] for an empty context.
    pub fn log_likelihood_tokens(
        &self,
        context: &[u32],
        continuation: &[u32],
    ) -> Result<LogLikelihood> {
        let pair = (context.to_vec(), continuation.to_vec());
        let scores = self.log_likelihood_batch(&[pair], &Hooks::default())?;
        Ok(scores[0])
    }

    /// The tokens of `context` and of `continuation`, cut as
    /// [`log_likelihood`](Self::log_likelihood) describes.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`]; [`Error::Config`] if nothing can stand for an empty context.
    pub fn encode_pair(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let tokenizer = self.tokenizer()?;
        if self.config().encoder.is_some() {
            // The answer is a text of its own.
            let context = tokenizer.encode_prompt(context, Specials::AsText)?;
            return Ok((context, tokenizer.encode(continuation, Specials::AsText)?));
        }
        let whole = format!("{context}{continuation}");
        if context.trim_end().is_empty() {
            let start = tokenizer.bos().or_else(|| tokenizer.eos()).ok_or_else(|| {
                Error::config("context", "is empty and the model has no token to start from")
            })?;
            return Ok((vec![start], tokenizer.encode(&whole, Specials::AsText)?));
        }
        let mut whole = tokenizer.encode_prompt(&whole, Specials::AsText)?;
        let context = tokenizer.encode_prompt(context.trim_end(), Specials::AsText)?;
        let continuation = whole.split_off(context.len().min(whole.len()));
        Ok((context, continuation))
    }

    /// The likelihoods of many pairs of context and continuation, computed together.
    ///
    /// Each is the same bit for bit as alone. Neighbours with equal contexts read them once, so keep
    /// the answers to one question together. Progress counts pairs.
    ///
    /// # Errors
    ///
    /// As [`log_likelihood_tokens`](Self::log_likelihood_tokens), before anything is computed;
    /// [`Error::Cancelled`].
    pub fn log_likelihood_batch(
        &self,
        pairs: &[(Vec<u32>, Vec<u32>)],
        hooks: &Hooks,
    ) -> Result<Vec<LogLikelihood>> {
        Ok(self.score_pairs(pairs, hooks)?.scores)
    }

    /// As [`log_likelihood_batch`](Self::log_likelihood_batch), and says how many tokens were read.
    ///
    /// # Errors
    ///
    /// As [`log_likelihood_batch`](Self::log_likelihood_batch).
    pub fn score_pairs(
        &self,
        pairs: &[(Vec<u32>, Vec<u32>)],
        hooks: &Hooks,
    ) -> Result<LikelihoodBatch> {
        for (i, pair) in pairs.iter().enumerate() {
            self.check_pair(pair).map_err(|error| match error {
                Error::Config { field, reason } if pairs.len() > 1 => {
                    Error::Config { field, reason: format!("of pair {i} {reason}") }
                }
                other => other,
            })?;
        }
        let mut scores = Vec::with_capacity(pairs.len());
        let mut tokens_read = 0;
        for wave in waves(pairs) {
            let mut readers = self.read_contexts(wave, hooks, &mut tokens_read)?;
            let start = scores.len();
            scores.extend(wave.iter().map(|(_, continuation)| LogLikelihood {
                sum: 0.0,
                is_greedy: true,
                n_tokens: continuation.len(),
            }));
            let scores = &mut scores[start..];
            let how = (Want::AllLogits, PASS_LOGITS);
            tokens_read += self.read(&mut readers, how, hooks, &mut |i, t, logits| {
                let target = wave[i].1[t];
                scores[i].sum += f64::from(logits[target as usize]) - log_sum_exp(logits);
                scores[i].is_greedy &= argmax(logits) == target;
            })?;
            hooks.report(start + wave.len(), pairs.len());
        }
        Ok(LikelihoodBatch { scores, tokens_read })
    }

    fn check_pair(&self, (context, continuation): &Pair) -> Result<()> {
        if context.is_empty() {
            return Err(Error::config("context", "holds no token to predict from"));
        }
        if continuation.is_empty() {
            return Err(Error::config(
                "continuation",
                "holds no token to score: it is empty, or becomes one token with the context",
            ));
        }
        self.check_tokens(context)?;
        self.check_tokens(continuation)?;
        // The last token is only predicted, never read.
        self.check_fits(context.len() + continuation.len() - 1)
    }

    /// One reader for each pair, about to read what its logits are wanted for.
    fn read_contexts(
        &self,
        pairs: &[Pair],
        hooks: &Hooks,
        tokens_read: &mut usize,
    ) -> Result<Vec<Reader>> {
        let groups: Vec<&[Pair]> = pairs.chunk_by(|(a, _), (b, _)| a == b).collect();
        // An encoder reads the whole context once, and each pair starts from its last token.
        let kept = usize::from(self.config().encoder.is_some());
        let contexts = groups.iter().map(|group| {
            let context = &group[0].0;
            let mut cache = self.new_cache();
            cache.end_prompt_at(context.len());
            Reader { cache, tokens: context[..context.len() - 1 + kept].to_vec(), done: 0 }
        });
        let mut shared: Vec<Reader> = contexts.collect();
        let how = (Want::Nothing, PASS_TOKENS);
        *tokens_read += self.read(&mut shared, how, hooks, &mut |_, _, _| {})?;
        let mut readers = Vec::with_capacity(pairs.len());
        for (group, shared) in groups.iter().zip(shared) {
            for (context, continuation) in *group {
                let (last, scored) = (&context[context.len() - 1..], continuation.len() - 1);
                let tokens = [last, &continuation[..scored]].concat();
                let mut cache = shared.cache.clone();
                cache.truncate(context.len() - 1);
                cache.end_prompt_at(context.len());
                readers.push(Reader { cache, tokens, done: 0 });
            }
        }
        Ok(readers)
    }

    /// Reads all that is left, `budget` tokens in a pass, and counts it; visits (reader, token,
    /// logits after it).
    fn read(
        &self,
        readers: &mut [Reader],
        (want, budget): (Want, usize),
        hooks: &Hooks,
        visit: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<usize> {
        let mut total = 0;
        loop {
            let (mut steps, mut rows, mut left) = (Vec::new(), Vec::new(), budget);
            for (i, reader) in readers.iter_mut().enumerate() {
                let n = (reader.tokens.len() - reader.done).min(left).min(PROMPT_CHUNK);
                if n > 0 {
                    let range = reader.done..reader.done + n;
                    rows.extend(range.clone().map(|t| (i, t)));
                    steps.push(Step {
                        cache: &mut reader.cache,
                        tokens: &reader.tokens[range],
                        want,
                    });
                    reader.done += n;
                    left -= n;
                }
            }
            if steps.is_empty() {
                return Ok(total);
            }
            total += budget - left;
            let mut batch = Batch { steps, cancel: hooks.cancel.as_ref() };
            let outputs = self.decoder().forward(&mut batch)?;
            let logits = outputs.logits.chunks_exact(self.config().vocab_size);
            for ((i, t), logits) in rows.into_iter().zip(logits) {
                visit(i, t, logits);
            }
        }
    }
}

/// Pairs that are scored together: at most [`MAX_ACTIVE`], and those with one context, where they
/// are not more, in one wave, so that it is read once.
fn waves(pairs: &[Pair]) -> Vec<&[Pair]> {
    let mut waves = Vec::new();
    let (mut start, mut end) = (0, 0);
    for group in pairs.chunk_by(|(a, _), (b, _)| a == b) {
        if end > start && end + group.len() - start > MAX_ACTIVE {
            waves.push(&pairs[start..end]);
            start = end;
        }
        end += group.len();
        while end - start > MAX_ACTIVE {
            waves.push(&pairs[start..start + MAX_ACTIVE]);
            start += MAX_ACTIVE;
        }
    }
    if end > start {
        waves.push(&pairs[start..end]);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_keep_questions_whole_and_lose_nobody() {
        let cases: [(&[usize], &[usize]); 4] = [
            (&[], &[]),
            (&[5; 13], &[60, 5]),
            (&[130, 3], &[64, 64, 5]),
            (&[60, 70, 1], &[60, 64, 7]),
        ];
        for (groups, expected) in cases {
            let pairs: Vec<Pair> = groups
                .iter()
                .enumerate()
                .flat_map(|(i, &n)| (0..n).map(move |j| (vec![i as u32], vec![j as u32])))
                .collect();
            let found = waves(&pairs);
            let sizes: Vec<usize> = found.iter().map(|wave| wave.len()).collect();
            assert_eq!(sizes, expected, "{groups:?}");
            assert_eq!(found.concat(), pairs);
        }
    }
}
