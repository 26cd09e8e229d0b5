//! Many prompts generated together, in one forward pass per step.

use super::{Completion, GenerationConfig, Hooks, Piece, Pool, Work};
use crate::error::{Error, Result};
use crate::model::Model;

/// Tokens in one pass, which bounds the activations' memory.
const PASS_TOKENS: usize = 512;

impl Model {
    /// Generates from many prompts together; the results are those of each prompt alone.
    ///
    /// With a given seed every prompt uses that seed; without, each has a fresh one.
    ///
    /// # Errors
    ///
    /// As [`Session::generate`](crate::Session::generate), for the first prompt that is refused,
    /// before anything is computed.
    pub fn generate_batch(
        &self,
        prompts: &[impl AsRef<str>],
        config: &GenerationConfig,
    ) -> Result<Vec<Completion>> {
        self.generate_batch_with(prompts, config, &Hooks::default())
    }

    /// As [`generate_batch`](Self::generate_batch), with hooks; progress counts finished prompts.
    ///
    /// Cancelling is no error: unfinished prompts end with
    /// [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    ///
    /// # Errors
    ///
    /// As [`generate_batch`](Self::generate_batch).
    pub fn generate_batch_with(
        &self,
        prompts: &[impl AsRef<str>],
        config: &GenerationConfig,
        hooks: &Hooks,
    ) -> Result<Vec<Completion>> {
        let prompts = prompts.iter().map(|prompt| self.prompt_tokens(prompt.as_ref()));
        self.generate_batch_tokens(&prompts.collect::<Result<Vec<_>>>()?, config, hooks)
    }

    /// As [`generate_batch_with`](Self::generate_batch_with), from token ids.
    ///
    /// # Errors
    ///
    /// As [`generate_batch`](Self::generate_batch); [`Error::Config`] for a token outside the
    /// vocabulary.
    pub fn generate_batch_tokens(
        &self,
        prompts: &[Vec<u32>],
        config: &GenerationConfig,
        hooks: &Hooks,
    ) -> Result<Vec<Completion>> {
        let mut pool = Pool::new(self).with_pass_tokens(PASS_TOKENS);
        let mut all = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let mut session = self.session();
            session.set_hooks(Hooks { progress: None, ..hooks.clone() });
            let generation = session.into_generation_tokens(prompt, config)?;
            all.push((pool.add(Work::Generation(generation))?, Vec::new(), None));
        }
        let mut n_done = all.len() - pool.n_running();
        while pool.n_running() > 0 {
            let advances = match hooks.check().and_then(|()| pool.pass(hooks.cancel.as_ref())) {
                Err(Error::Cancelled) => break,
                other => other?,
            };
            for advance in advances {
                // Keys ascend as the prompts were added.
                let found = all.binary_search_by_key(&advance.key, |(key, ..)| *key);
                let Some((key, pieces, completion)) = found.ok().map(|i| &mut all[i]) else {
                    continue;
                };
                if let Some(error) = advance.error {
                    return Err(error);
                }
                pieces.extend(advance.piece);
                if advance.is_done {
                    // Its keys and values are freed at once: nobody goes on from there.
                    *completion = complete(&mut pool, *key, pieces);
                    n_done += 1;
                }
            }
            hooks.report(n_done, all.len());
        }
        let rest = all.into_iter().filter_map(|(key, mut pieces, completion)| {
            completion.or_else(|| complete(&mut pool, key, &mut pieces))
        });
        Ok(rest.collect())
    }
}

/// Takes a generation out of the pool, with the pieces that it gave.
fn complete(pool: &mut Pool<'_>, key: usize, pieces: &mut Vec<Piece>) -> Option<Completion> {
    match pool.remove(key)? {
        Work::Generation(generation) => Some(generation.into_completion(std::mem::take(pieces))),
        Work::Reading(_) => None,
    }
}
