//! The scheduler: one thread owns the model's work, and requests join and leave between passes.

mod active;
mod begin;
mod masks;
mod order;
mod prefix;
mod queue;
mod room;
mod worker;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use halfbyte::Model;

use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use order::PassWatch;
use worker::Worker;

#[cfg(test)]
pub(crate) use order::ticket_of;
pub(crate) use order::{Choice, Event, Job, Order, Task, Ticket};

/// What the scheduler may use.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Sequences that are computed together.
    pub(crate) parallel: usize,
    /// Prompts that wait.
    pub(crate) queue: usize,
    /// Bytes of keys and values, of running sequences and of what is kept together. One sequence is
    /// computed whatever it takes.
    pub(crate) cache_bytes: usize,
    /// Tokens in one pass.
    pub(crate) pass_tokens: usize,
    /// Time for a request, in the queue and running.
    pub(crate) timeout: Option<Duration>,
}

/// What the scheduler is told.
#[derive(Debug)]
enum Command {
    Order(Order),
    /// Refuses what has not begun.
    Drain,
    /// Ends what runs, with what it has.
    Finish,
}

/// Where requests are handed in. Clones hand in to the same scheduler, which ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    commands: Sender<Command>,
    watch: Arc<PassWatch>,
    metrics: Arc<Metrics>,
    limits: Limits,
    /// Lives as long as the scheduler.
    pulse: Weak<()>,
}

impl Engine {
    /// Starts the scheduler's thread.
    pub(crate) fn start(
        model: Model,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        let watch = Arc::new(PassWatch::default());
        let worker = Worker::new(model, limits.clone(), receiver, watch.clone(), metrics.clone())?;
        let life = Arc::new(());
        let pulse = Arc::downgrade(&life);
        let work = move || {
            let _life = life;
            worker.run();
        };
        std::thread::Builder::new().name("scheduler".into()).spawn(work)?;
        Ok(Self { commands, watch, metrics, limits, pulse })
    }

    /// Whether `n` more prompts may wait.
    pub(crate) fn has_room(&self, n: usize) -> bool {
        self.metrics.queued() + n <= self.limits.queue
    }

    /// Whether the scheduler works.
    pub(crate) fn is_alive(&self) -> bool {
        self.pulse.strong_count() > 0
    }

    /// Hands jobs in.
    ///
    /// # Errors
    ///
    /// 429 if the queue is full, 503 if there is no scheduler any more.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> ApiResult<Ticket> {
        let n = jobs.len();
        if !self.metrics.queue(n, self.limits.queue) {
            return Err(ApiError::busy(self.metrics.wait_seconds(self.limits.parallel)));
        }
        let deadline = self.limits.timeout.map(|timeout| Instant::now() + timeout);
        let (order, ticket) = Order::new(jobs, deadline, &self.watch);
        match self.commands.send(Command::Order(order)) {
            Ok(()) => Ok(ticket),
            Err(_) => {
                self.metrics.unqueue(n);
                Err(ApiError::stopping())
            }
        }
    }

    /// Refuses what has not begun.
    pub(crate) fn drain(&self) {
        drop(self.commands.send(Command::Drain));
    }

    /// Ends what runs, with what it has.
    pub(crate) fn finish(&self) {
        drop(self.commands.send(Command::Finish));
    }
}
