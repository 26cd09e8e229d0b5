//! The scheduler's thread.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use halfbyte::generate::{Advance, Pool, Reading, Usage, Work};
use halfbyte::{Cancel, Error, FinishReason, Generation, Model};

use super::active::{Active, Stage};
use super::masks::{LEAST_PATIENCE, Masks};
use super::order::{Client, PassWatch};
use super::prefix::PrefixCache;
use super::queue::Queue;
use super::{Choice, Command, Event, Limits, Order, Task};
use crate::error::ApiError;
use crate::grammar::Outcome;
use crate::metrics::Metrics;

pub(super) struct Worker {
    pub(super) model: Model,
    pub(super) limits: Limits,
    commands: Receiver<Command>,
    watch: Arc<PassWatch>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Queue,
    pub(super) pool: Pool<'static>,
    /// Whose the pool's members are, by key.
    pub(super) active: HashMap<usize, Active>,
    /// Answers that gave up their room, the next to go on first.
    pub(super) paused: VecDeque<(Active, Work<'static>)>,
    pub(super) prefixes: PrefixCache,
    pub(super) masks: Masks,
    /// How long a pass waits for what grammars allow.
    pub(super) patience: Duration,
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
    ) -> std::io::Result<Self> {
        let pool = Pool::new(&model).with_pass_tokens(limits.pass_tokens);
        Ok(Self {
            model,
            limits,
            commands,
            watch,
            metrics,
            queue: Queue::default(),
            pool,
            active: HashMap::new(),
            paused: VecDeque::new(),
            prefixes: PrefixCache::default(),
            masks: Masks::start()?,
            patience: LEAST_PATIENCE,
            brake: Cancel::new(),
            draining: false,
        })
    }

    /// Works until nobody can hand anything in any more.
    pub(super) fn run(mut self) {
        while self.listen() {
            let turn = catch_unwind(AssertUnwindSafe(|| {
                self.dismiss();
                self.admit();
                self.report();
                self.compute();
            }));
            if turn.is_err() {
                self.recover();
            }
            self.report();
        }
    }

    /// Goes on after a mistake of ours: whoever was being served hears of it, and what they left is
    /// given up, as nobody knows in which state it is.
    fn recover(&mut self) {
        tracing::error!("a mistake in the scheduler; please report it");
        self.watch.end();
        let paused = self.paused.drain(..).map(|(active, _)| active);
        for active in self.active.drain().map(|(_, active)| active).chain(paused) {
            let message = "a mistake in the server; please report it";
            active.client.tell(Event::Failed(ApiError::internal(message)));
        }
        self.pool = Pool::new(&self.model).with_pass_tokens(self.limits.pass_tokens);
        self.prefixes = PrefixCache::default();
    }

    fn report(&self) {
        let n_running = self.active.values().map(|active| active.n_sequences).sum();
        self.metrics.set_load(n_running, self.paused.len());
        self.metrics.set_prefixes(self.prefixes.len(), self.prefixes.n_bytes());
    }

    /// Takes what is handed in; waits for it if there is nothing to do. False when all is over.
    fn listen(&mut self) -> bool {
        loop {
            let idle = self.active.is_empty() && self.queue.is_empty() && self.paused.is_empty();
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
                Command::Order(order) if self.draining => self.refuse(order, &ApiError::stopping()),
                Command::Order(order) => self.queue.push(order),
                Command::Drain => self.drain(),
                Command::Finish => {
                    self.drain();
                    self.end_early(|_| true);
                    for order in self.queue.take(|_| true) {
                        self.refuse(order, &ApiError::stopping());
                    }
                }
            }
        }
    }

    /// Refuses requests of which nothing has begun, from now on.
    fn drain(&mut self) {
        self.draining = true;
        for order in self.queue.take(|order| !order.has_begun) {
            self.refuse(order, &ApiError::stopping());
        }
    }

    /// Ends what is left of a request: with an error, or as cut off if some of it was answered.
    fn refuse(&self, order: Order, error: &ApiError) {
        self.metrics.unqueue(order.jobs.len());
        for job in order.jobs {
            match job.task {
                Task::Write { choices, .. } if order.has_begun => cut(&order.client, choices),
                _ => return order.client.tell(Event::Failed(error.clone())),
            }
        }
    }

    /// Parts with those who have gone or whose time is over.
    fn dismiss(&mut self) {
        let now = Instant::now();
        let leaves = |client: &Client| client.is_gone() || client.is_overdue(now);
        for order in self.queue.take(|order| leaves(&order.client)) {
            let error = ApiError::timeout("the request waited longer than it may take");
            self.refuse(order, &error);
        }
        self.paused.retain(|(active, _)| !active.client.is_gone());
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

    pub(super) fn remove(&mut self, key: usize) -> Option<(Active, Work<'static>)> {
        Some((self.active.remove(&key)?, self.pool.remove(key)?))
    }

    /// Ends what runs for some clients: answers with what they have, everything else as failed.
    fn end_early(&mut self, of: impl Fn(&Client) -> bool) {
        let paused = self.paused.drain(..);
        let (mut early, stay): (VecDeque<_>, _) =
            paused.partition(|(active, _)| of(&active.client));
        self.paused = stay;
        let running = self.keys(of);
        early.extend(running.into_iter().filter_map(|key| self.remove(key)));
        for (mut active, work) in early {
            let work = match work {
                Work::Generation(generation) => {
                    self.finish(&active, generation, "length");
                    continue;
                }
                reading @ Work::Reading(_) => reading,
            };
            let cuts = self.draining || active.client.has_heard();
            if let Stage::Read { choices, .. } = &mut active.stage
                && cuts
            {
                cut(&active.client, std::mem::take(choices));
            } else if self.draining {
                active.client.tell(Event::Failed(ApiError::stopping()));
            } else {
                let error = ApiError::timeout("the request took longer than it may");
                active.client.tell(Event::Failed(error));
            }
            self.keep(&active, work);
        }
    }

    /// Keeps what a sequence has read, for those who begin alike.
    pub(super) fn keep(&mut self, active: &Active, work: Work<'static>) {
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

    /// Computes one pass, and tells everybody what it brought.
    fn compute(&mut self) {
        let n_held = self.hold();
        let plan = self.pool.plan();
        if plan.is_empty() {
            return self.idle(n_held);
        }
        let n_tokens: usize = plan.iter().map(|share| share.n_tokens).sum();
        let shares = plan.iter().filter_map(|share| {
            Some((self.active.get(&share.key)?.client.presence(), share.n_tokens))
        });
        self.watch.begin(&self.brake, shares.collect());
        let start = Instant::now();
        let result = self.pool.pass(Some(&self.brake));
        self.watch.end();
        let time = start.elapsed();
        self.patience = (time / 4).max(LEAST_PATIENCE);
        self.metrics.pass(time, n_tokens);
        match result {
            Ok(advances) => advances.into_iter().for_each(|advance| self.advance(advance)),
            // Who left is dismissed before the next one.
            Err(Error::Cancelled) => {}
            Err(error) => self.relieve(&error),
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
            if let Some(grammar) = active.grammar().filter(|_| !is_done) {
                self.masks.begin(grammar.prepare(piece.token));
            }
            active.client.tell(Event::Piece { index, piece });
        }
        if is_done {
            self.done(key);
        }
    }

    /// A member came to its end.
    pub(super) fn done(&mut self, key: usize) {
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
        let Active { client, stage, n_cached, .. } = active;
        match stage {
            Stage::Embed { job } => {
                client.tell(Event::Embedding { job, vector: reading.embedding() });
            }
            Stage::Read { job, scored, tokens, choices } => {
                if scored {
                    client.tell(Event::Scores { job, scores: reading.scores().to_vec() });
                }
                let session = reading.into_session();
                if let Err(error) = self.write(&client, &session, &tokens, choices, n_cached) {
                    client.tell(Event::Failed(ApiError::of("prompt", &error)));
                }
            }
            Stage::Write { .. } => {}
        }
    }

    /// An answer came to its end.
    pub(super) fn conclude(&mut self, active: &Active, generation: Generation<'static>) {
        let Stage::Write { grammar, .. } = &active.stage else { return };
        let outcome = grammar.as_ref().map(|grammar| (grammar.param(), grammar.outcome()));
        match (generation.finish_reason(), outcome) {
            (Some(FinishReason::Cancelled), Some((param, Outcome::Failed(reason)))) => {
                active.client.tell(Event::Failed(ApiError::invalid(param, reason)));
                self.keep(active, Work::Generation(generation));
            }
            (Some(FinishReason::Length), _) => self.finish(active, generation, "length"),
            _ => self.finish(active, generation, "stop"),
        }
    }

    /// Tells the end of an answer, with what was held back of it.
    fn finish(
        &mut self,
        active: &Active,
        mut generation: Generation<'static>,
        finish: &'static str,
    ) {
        let Stage::Write { index, .. } = active.stage else { return };
        let text = generation.take_held();
        if !text.is_empty() {
            active.client.tell(Event::Tail { index, text });
        }
        let usage = Usage { reused_tokens: active.n_cached, ..generation.usage() };
        self.metrics.answered(active.client.received.elapsed());
        active.client.tell(Event::Done { index, finish, usage });
        self.keep(active, Work::Generation(generation));
    }
}

/// Ends answers that have not begun.
fn cut(client: &Client, choices: Vec<Choice>) {
    for Choice { index, .. } in choices {
        client.tell(Event::Done { index, finish: "length", usage: Usage::default() });
    }
}

#[cfg(test)]
mod tests;
