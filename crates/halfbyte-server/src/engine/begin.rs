//! How jobs become members of the pool.

use std::sync::Arc;

use halfbyte::Session;
use halfbyte::generate::{Purpose, Work};

use super::active::{Active, STEP, Stage};
use super::order::Client;
use super::worker::Worker;
use super::{Choice, Job, Task};

impl Worker {
    pub(super) fn begin(&mut self, client: &Arc<Client>, job: Job) -> halfbyte::Result<()> {
        let (n_sequences, n_reserved) = (job.n_sequences(), self.n_tokens(&job));
        let Job { index, tokens, task } = job;
        let mut session = self.model.session();
        session.set_hooks(client.hooks(None));
        let (n_read, mut n_cached) = (tokens.len(), 0);
        let (reading, stage) = match task {
            Task::Embed => {
                (session.into_reading(&tokens, Purpose::Embedding)?, Stage::Embed { job: index })
            }
            Task::Write { choices, score: Some(n) } => {
                let reading = session.into_reading(&tokens, Purpose::Logprobs(n))?;
                (reading, Stage::Read { job: index, scored: true, tokens, choices })
            }
            Task::Write { choices, score: None } if self.shares(&tokens, &choices) => {
                let (mut session, n) = self.session_for(&tokens);
                n_cached = n.min(n_read - 1);
                session.set_hooks(client.hooks(None));
                let reading = session.into_reading(&tokens[..n_read - 1], Purpose::Cache)?;
                (reading, Stage::Read { job: index, scored: false, tokens, choices })
            }
            Task::Write { choices, score: None } => {
                let (session, n) = self.session_for(&tokens);
                n_cached = n.min(n_read.saturating_sub(1));
                self.metrics.prompt(n_read, n_cached);
                return self.write(client, &session, &tokens, choices, n_cached);
            }
        };
        self.metrics.prompt(n_read, n_cached);
        let client = client.clone();
        let active = Active {
            client,
            stage,
            n_sequences,
            n_reserved,
            n_most: n_reserved,
            n_shared: 0,
            n_cached,
        };
        self.join(Work::Reading(reading), active)
    }

    /// Tokens that there must be room for before `job` begins.
    pub(super) fn n_tokens(&self, job: &Job) -> usize {
        job.n_tokens(self.model.context_length(), STEP)
    }

    /// Whether a prompt is read once for several answers: an encoder reads at once, so that there is
    /// no moment between the prompt and the answers.
    fn shares(&self, tokens: &[u32], choices: &[Choice]) -> bool {
        choices.len() > 1 && tokens.len() > 1 && self.model.config().encoder.is_none()
    }

    /// Begins the answers to a prompt, each from a copy of `session`.
    pub(super) fn write(
        &mut self,
        client: &Arc<Client>,
        session: &Session,
        tokens: &[u32],
        choices: Vec<Choice>,
        n_cached: usize,
    ) -> halfbyte::Result<()> {
        let (n, context_length) = (choices.len().max(1), self.model.context_length());
        let n_shared = tokens.len() * (n - 1) / n;
        for choice in choices {
            let mut fork = session.fork();
            let (index, config) = (choice.index, choice.config());
            let n_most = tokens.len().saturating_add(config.max_new_tokens).min(context_length);
            let grammar = choice.grammar.map(|grammar| grammar.start());
            fork.set_hooks(client.hooks(grammar.as_ref()));
            let generation = fork.into_generation_tokens(tokens, &config)?;
            let active = Active {
                client: client.clone(),
                stage: Stage::Write { index, grammar },
                n_sequences: 1,
                n_reserved: n_most.min(tokens.len() + STEP),
                n_most,
                n_shared,
                n_cached,
            };
            if generation.finish_reason().is_some() {
                self.conclude(&active, generation);
            } else {
                self.join(Work::Generation(generation), active)?;
            }
        }
        Ok(())
    }

    pub(super) fn join(&mut self, work: Work<'static>, active: Active) -> halfbyte::Result<()> {
        let is_done = !work.is_running();
        let key = self.pool.add(work)?;
        self.active.insert(key, active);
        if is_done {
            // Nothing was to be read: the prompt was cached, or has one token.
            self.done(key);
        }
        Ok(())
    }
}
