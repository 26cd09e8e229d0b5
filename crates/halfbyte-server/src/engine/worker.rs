//! The scheduler's thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use halfbyte::generate::{Advance, Pool, Purpose, Reading, Work};
use halfbyte::{Cancel, Error, FinishReason, Generation, Model, Session};

use super::active::{Active, Stage};
use super::order::{Client, PassWatch};
use super::prefix::{PrefixCache, n_common};
use super::queue::Queue;
use super::{Choice, Command, Event, Job, Limits, Order, Task};
use crate::error::ApiError;
use crate::grammar::Outcome;
use crate::metrics::Metrics;

pub(super) struct Worker {
    model: Model,
    limits: Limits,
    commands: Receiver<Command>,
    watch: Arc<PassWatch>,
    metrics: Arc<Metrics>,
    queue: Queue,
    pool: Pool<'static>,
    /// Whose the pool's members are, by key.
    active: HashMap<usize, Active>,
    prefixes: PrefixCache,
    brake: Cancel,
    /// Whether new requests are refused.
    draining: bool,
}

impl Worker {
    pub(super) fn new(
        model: Model,
        limits: Limits,
        commands: Receiver<Command>,
        watch: Arc<PassWatch>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Pool::new(&model).with_pass_tokens(limits.pass_tokens);
        Self {
            model,
            limits,
            commands,
            watch,
            metrics,
            queue: Queue::default(),
            pool,
            active: HashMap::new(),
            prefixes: PrefixCache::default(),
            brake: Cancel::new(),
            draining: false,
        }
    }

    /// Works until nobody can hand anything in any more.
    pub(super) fn run(mut self) {
        while self.listen() {
            self.dismiss();
            self.admit();
            self.compute();
            self.report();
        }
    }

    fn report(&self) {
        let n_running = self.active.values().map(|active| active.n_sequences).sum();
        self.metrics.set_load(n_running, self.prefixes.len(), self.prefixes.n_bytes());
    }

    /// Takes what is handed in; waits for it if there is nothing to do. False when all is over.
    fn listen(&mut self) -> bool {
        loop {
            let idle = self.active.is_empty() && self.queue.is_empty();
            let command = if idle {
                match self.commands.recv() {
                    Ok(command) => command,
                    Err(_) => return false,
                }
            } else {
                match self.commands.try_recv() {
                    Ok(command) => command,
                    // Whoever is left is served to its end.
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
                }
            };
            match command {
                Command::Order(order) if self.draining => self.refuse(&order, ApiError::stopping()),
                Command::Order(order) => self.queue.push(order),
                Command::Drain => self.drain(),
                Command::Finish => {
                    self.drain();
                    self.end_early(|_| true);
                }
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        for order in self.queue.take(|_| true) {
            self.refuse(&order, ApiError::stopping());
        }
    }

    fn refuse(&self, order: &Order, error: ApiError) {
        self.metrics.unqueue(order.jobs.len());
        order.client.tell(Event::Failed(error));
    }

    /// Parts with those who have gone or whose time is over.
    fn dismiss(&mut self) {
        let now = Instant::now();
        for order in self.queue.take(|client| client.is_gone() || client.is_overdue(now)) {
            self.refuse(&order, ApiError::timeout("the request waited longer than it may take"));
        }
        let gone: Vec<usize> = self.keys(Client::is_gone);
        for key in gone {
            if let Some((active, work)) = self.remove(key) {
                self.keep(&active, work);
            }
        }
        self.end_early(|client| client.is_overdue(now));
    }

    fn keys(&self, of: impl Fn(&Client) -> bool) -> Vec<usize> {
        self.active.iter().filter(|(_, active)| of(&active.client)).map(|(key, _)| *key).collect()
    }

    fn remove(&mut self, key: usize) -> Option<(Active, Work<'static>)> {
        Some((self.active.remove(&key)?, self.pool.remove(key)?))
    }

    /// Ends what runs for some clients: answers with what they have, everything else as failed.
    fn end_early(&mut self, of: impl Fn(&Client) -> bool) {
        for key in self.keys(of) {
            let Some((active, work)) = self.remove(key) else { continue };
            match (&active.stage, &work) {
                (Stage::Write { index, .. }, Work::Generation(generation)) => {
                    let usage = generation.usage();
                    active.client.tell(Event::Done { index: *index, finish: "length", usage });
                }
                _ if self.draining => active.client.tell(Event::Failed(ApiError::stopping())),
                _ => {
                    let error = ApiError::timeout("the request took longer than it may");
                    active.client.tell(Event::Failed(error));
                }
            }
            self.keep(&active, work);
        }
    }

    /// Keeps what a sequence has read, for those who begin alike.
    fn keep(&mut self, active: &Active, work: Work<'static>) {
        let session = match (work, &active.stage) {
            (Work::Generation(generation), _) => generation.into_session(),
            (Work::Reading(reading), Stage::Read { .. }) => reading.into_session(),
            (Work::Reading(_), _) => return,
        };
        // What an encoder read is of no use to another prompt.
        if self.model.config().encoder.is_none() {
            let budget = self.spare_bytes();
            self.prefixes.insert(session, budget);
        }
    }

    fn spare_bytes(&self) -> usize {
        let reserved: usize = self.active.values().map(|active| active.n_bytes).sum();
        self.limits.cache_bytes.saturating_sub(reserved)
    }

    /// Begins as many jobs as there is room for.
    fn admit(&mut self) {
        loop {
            let (model, idle) = (&self.model, self.active.is_empty());
            let n_running: usize = self.active.values().map(|active| active.n_sequences).sum();
            let free = self.limits.parallel.saturating_sub(n_running);
            let spare = self.spare_bytes();
            let need = |job: &Job| model.cache_bytes(job.n_tokens(model.context_length()));
            let fits = |job: &Job| idle || (job.n_sequences() <= free && need(job) <= spare);
            let Some((client, job)) = self.queue.pop(fits) else { break };
            self.metrics.unqueue(1);
            let n_bytes = need(&job);
            self.prefixes.shrink(spare.saturating_sub(n_bytes));
            if let Err(error) = self.begin(&client, job, n_bytes) {
                client.tell(Event::Failed(ApiError::of("prompt", &error)));
            }
        }
    }

    fn begin(&mut self, client: &Arc<Client>, job: Job, n_bytes: usize) -> halfbyte::Result<()> {
        let n_sequences = job.n_sequences();
        let Job { index, tokens, task } = job;
        let mut session = self.model.session();
        session.set_hooks(client.hooks(None));
        let (reading, stage) = match task {
            Task::Embed => {
                (session.into_reading(&tokens, Purpose::Embedding)?, Stage::Embed { job: index })
            }
            Task::Write { choices, score: Some(n) } => {
                let reading = session.into_reading(&tokens, Purpose::Logprobs(n))?;
                (reading, Stage::Read { job: index, scored: true, tokens, choices })
            }
            Task::Write { choices, score: None } if self.shares(&tokens, &choices) => {
                let (mut session, _) = self.session_for(&tokens);
                session.set_hooks(client.hooks(None));
                let reading = session.into_reading(&tokens[..tokens.len() - 1], Purpose::Cache)?;
                (reading, Stage::Read { job: index, scored: false, tokens, choices })
            }
            Task::Write { choices, score: None } => {
                let (session, _) = self.session_for(&tokens);
                return self.write(client, &session, &tokens, choices, n_bytes);
            }
        };
        let client = client.clone();
        self.join(Work::Reading(reading), Active { client, stage, n_sequences, n_bytes })
    }

    /// Whether a prompt is read once for several answers: an encoder reads at once, so that there is
    /// no moment between the prompt and the answers.
    fn shares(&self, tokens: &[u32], choices: &[Choice]) -> bool {
        choices.len() > 1 && tokens.len() > 1 && self.model.config().encoder.is_none()
    }

    /// A session that has read as much of `tokens` as any has, and how much that is.
    fn session_for(&mut self, tokens: &[u32]) -> (Session, usize) {
        let fresh = || (self.model.session(), 0);
        if self.model.config().encoder.is_some() {
            return fresh();
        }
        let running = self.active.keys().filter_map(|key| Some(self.pool.get(*key)?.session()));
        let running = running.map(|session| (session, n_common(session, tokens)));
        let running = running.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0);
        let running = running.map(|(session, n)| (session.fork(), n));
        let kept = self.prefixes.find(tokens);
        let best = running.into_iter().chain(kept).max_by_key(|(_, n)| *n);
        best.unwrap_or_else(fresh)
    }

    /// Begins the answers to a prompt, each from a copy of `session`.
    fn write(
        &mut self,
        client: &Arc<Client>,
        session: &Session,
        tokens: &[u32],
        choices: Vec<Choice>,
        n_bytes: usize,
    ) -> halfbyte::Result<()> {
        let n_bytes = n_bytes / choices.len().max(1);
        for Choice { index, config, grammar } in choices {
            let mut fork = session.fork();
            fork.set_hooks(client.hooks(grammar.as_ref()));
            let generation = fork.into_generation_tokens(tokens, &config)?;
            let stage = Stage::Write { index, grammar };
            let active = Active { client: client.clone(), stage, n_sequences: 1, n_bytes };
            if generation.finish_reason().is_some() {
                self.conclude(&active, generation);
            } else {
                self.join(Work::Generation(generation), active)?;
            }
        }
        Ok(())
    }

    fn join(&mut self, work: Work<'static>, active: Active) -> halfbyte::Result<()> {
        let is_done = !work.is_running();
        let key = self.pool.add(work)?;
        self.active.insert(key, active);
        if is_done {
            // Nothing was to be read: the prompt was cached, or has one token.
            self.done(key);
        }
        Ok(())
    }

    /// Computes one pass, and tells everybody what it brought.
    fn compute(&mut self) {
        let plan = self.pool.plan();
        if plan.is_empty() {
            return;
        }
        let n_tokens: usize = plan.iter().map(|share| share.n_tokens).sum();
        let shares = plan.iter().filter_map(|share| {
            Some((self.active.get(&share.key)?.client.clone(), share.n_tokens))
        });
        self.watch.begin(&self.brake, shares.collect());
        let start = Instant::now();
        let result = self.pool.pass(Some(&self.brake));
        self.watch.end();
        self.metrics.pass(start.elapsed(), n_tokens);
        match result {
            Ok(advances) => advances.into_iter().for_each(|advance| self.advance(advance)),
            // Who left is dismissed before the next one.
            Err(Error::Cancelled) => {}
            Err(error) => self.relieve(&error),
        }
    }

    /// Makes room after `error`, which is one of memory: what is kept goes first, then whoever came
    /// last.
    fn relieve(&mut self, error: &Error) {
        if self.prefixes.len() > 0 {
            self.prefixes.shrink(0);
            return;
        }
        let last = self.active.keys().max().copied();
        if let Some((active, _)) = last.and_then(|key| self.remove(key)) {
            tracing::warn!(%error, "a request was given up");
            active.client.tell(Event::Failed(ApiError::of("prompt", error)));
        }
    }

    fn advance(&mut self, advance: Advance) {
        let Advance { key, piece, is_done, error } = advance;
        if let Some(error) = error {
            if let Some((active, _)) = self.remove(key) {
                active.client.tell(Event::Failed(ApiError::of("prompt", &error)));
            }
            return;
        }
        if let (Some(piece), Some(active)) = (piece, self.active.get(&key))
            && let Stage::Write { index, .. } = active.stage
        {
            self.metrics.token();
            if active.client.hears_first() {
                self.metrics.first_token(active.client.received.elapsed());
            }
            active.client.tell(Event::Piece { index, piece });
        }
        if is_done {
            self.done(key);
        }
    }

    /// A member came to its end.
    fn done(&mut self, key: usize) {
        let Some((active, work)) = self.remove(key) else { return };
        match work {
            Work::Generation(generation) => self.conclude(&active, generation),
            Work::Reading(reading) if reading.is_stopped() => {
                self.keep(&active, Work::Reading(reading));
            }
            Work::Reading(reading) => self.go_on(active, reading),
        }
    }

    /// What was to be read is read.
    fn go_on(&mut self, active: Active, reading: Reading) {
        let Active { client, stage, n_bytes, .. } = active;
        match stage {
            Stage::Embed { job } => {
                client.tell(Event::Embedding { job, vector: reading.embedding() });
            }
            Stage::Read { job, scored, tokens, choices } => {
                if scored {
                    client.tell(Event::Scores { job, scores: reading.scores().to_vec() });
                }
                let session = reading.into_session();
                if let Err(error) = self.write(&client, &session, &tokens, choices, n_bytes) {
                    client.tell(Event::Failed(ApiError::of("prompt", &error)));
                }
            }
            Stage::Write { .. } => {}
        }
    }

    /// An answer came to its end.
    fn conclude(&mut self, active: &Active, generation: Generation<'static>) {
        let Stage::Write { index, grammar } = &active.stage else { return };
        let usage = generation.usage();
        self.metrics.answered(usage, active.client.received.elapsed());
        let outcome = grammar.as_ref().map(|grammar| grammar.outcome());
        let event = match (generation.finish_reason(), outcome) {
            (Some(FinishReason::Cancelled), Some(Outcome::Failed(reason))) => {
                Event::Failed(ApiError::invalid("grammar", reason))
            }
            (Some(FinishReason::Length), _) => {
                Event::Done { index: *index, finish: "length", usage }
            }
            _ => Event::Done { index: *index, finish: "stop", usage },
        };
        active.client.tell(event);
        self.keep(active, Work::Generation(generation));
    }
}

impl Drop for Worker {
    /// Whoever still waits hears that nobody comes.
    fn drop(&mut self) {
        for active in self.active.values() {
            active.client.tell(Event::Failed(ApiError::internal("the scheduler ended")));
        }
    }
}
