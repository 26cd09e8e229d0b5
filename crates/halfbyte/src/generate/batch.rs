//! Many prompts generated together, in one forward pass per step.

use std::time::Instant;

use super::{Completion, FinishReason, Generation, GenerationConfig, Hooks, Piece, Session};
use crate::error::{Error, Result};
use crate::model::{Batch, Model};

/// Sequences that decode together; the others wait. Past this many rows a pass gains nothing more,
/// and each sequence holds a cache.
const MAX_ACTIVE: usize = 64;

/// Tokens in one pass, which bounds the activations' memory.
const PASS_TOKENS: usize = 512;

struct Running<'a> {
    generation: Generation<'a>,
    pieces: Vec<Piece>,
}

impl Model {
    /// Generates from many prompts together; the results are those of each prompt alone.
    ///
    /// With a given seed every prompt uses that seed; without, each has a fresh one.
    ///
    /// # Errors
    ///
    /// As [`Session::generate`], for the first prompt that is refused, before anything is computed.
    pub fn generate_batch(
        &self,
        prompts: &[impl AsRef<str>],
        config: &GenerationConfig,
    ) -> Result<Vec<Completion>> {
        self.generate_batch_with(prompts, config, &Hooks::default())
    }

    /// As [`generate_batch`](Self::generate_batch), with hooks; progress counts finished prompts.
    ///
    /// Cancelling is no error: unfinished prompts end with [`FinishReason::Cancelled`].
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
        let mut sessions: Vec<Session> = prompts.iter().map(|_| self.session()).collect();
        let mut all = Vec::with_capacity(prompts.len());
        for (session, prompt) in sessions.iter_mut().zip(prompts) {
            session.set_hooks(Hooks { progress: None, ..hooks.clone() });
            let generation = session.generate_tokens(prompt, config)?;
            all.push(Running { generation, pieces: Vec::new() });
        }
        while pass(self, &mut all, hooks)? {
            let running = all.iter().filter(|r| r.generation.is_running()).count();
            hooks.report(all.len() - running, all.len());
        }
        Ok(all.into_iter().map(|r| r.generation.into_completion(r.pieces)).collect())
    }
}

/// Computes one pass over the running generations; false when there was none.
fn pass(model: &Model, all: &mut [Running<'_>], hooks: &Hooks) -> Result<bool> {
    let start = Instant::now();
    let mut active: Vec<&mut Running<'_>> =
        all.iter_mut().filter(|r| r.generation.is_running()).take(MAX_ACTIVE).collect();
    if active.is_empty() {
        return Ok(false);
    }
    let mut budget = PASS_TOKENS;
    let mut steps = Vec::new();
    for running in &mut active {
        if budget == 0 {
            break;
        }
        let step = running.generation.step(budget);
        budget -= step.tokens.len();
        steps.push(step);
    }
    let n_steps = steps.len();
    let mut batch = Batch { steps, cancel: hooks.cancel.as_ref() };
    let outputs = match hooks.check().and_then(|()| model.decoder().forward(&mut batch)) {
        Err(Error::Cancelled) => {
            for running in all.iter_mut().filter(|r| r.generation.is_running()) {
                running.generation.stop(FinishReason::Cancelled);
            }
            return Ok(false);
        }
        other => other?,
    };
    let mut rows = outputs.logits.chunks_exact(model.config().vocab_size);
    for running in &mut active[..n_steps] {
        if running.generation.has_logits()
            && let Some(row) = rows.next()
        {
            match running.generation.advance(row) {
                Ok(piece) => running.pieces.push(piece),
                // The next pass stops the others.
                Err(Error::Cancelled) => running.generation.stop(FinishReason::Cancelled),
                Err(error) => return Err(error),
            }
        }
        running.generation.book(start.elapsed());
        if !running.generation.is_running() {
            running.generation.release();
        }
    }
    Ok(true)
}
