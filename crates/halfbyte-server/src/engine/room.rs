//! Who has room for keys and values: those who are served, the next ones, and what is kept.

use halfbyte::generate::Work;
use halfbyte::{Error, Session};

use super::active::{Active, STEP, Stage};
use super::worker::Worker;
use super::{Event, Job};
use crate::error::ApiError;

impl Worker {
    /// Bytes that are left for what is kept, and for those who come.
    pub(super) fn spare_bytes(&self) -> usize {
        let reserved: usize = self.active.values().map(|active| active.n_bytes(&self.model)).sum();
        self.limits.cache_bytes.saturating_sub(reserved)
    }

    /// Begins as many jobs as there is room for: each gets as much as it needs now, and a step more.
    /// What is kept makes way.
    pub(super) fn admit(&mut self) {
        self.grow();
        self.go_on_with_paused();
        while self.paused.is_empty() {
            let idle = self.active.is_empty();
            let n_running: usize = self.active.values().map(|active| active.n_sequences).sum();
            let free = self.limits.parallel.saturating_sub(n_running);
            let spare = self.spare_bytes();
            let (model, context_length) = (&self.model, self.model.context_length());
            let need = |job: &Job| model.cache_bytes(job.n_tokens(context_length, STEP));
            let fits = |job: &Job| idle || (job.n_sequences() <= free && need(job) <= spare);
            let Some((client, job)) = self.queue.pop(fits) else { break };
            self.metrics.unqueue(1);
            if let Err(error) = self.begin(&client, job) {
                client.tell(Event::Failed(ApiError::of("prompt", &error)));
            }
            self.prefixes.shrink(self.spare_bytes());
        }
    }

    /// Gives more room to those who have written so much; if there is none, the youngest give up
    /// theirs and go on later.
    fn grow(&mut self) {
        let mut grows = false;
        for (key, active) in &mut self.active {
            grows |= self.pool.get(*key).is_some_and(|work| active.grow(work));
        }
        if !grows {
            return;
        }
        let reserved = |worker: &Self| -> usize {
            worker.active.values().map(|active| active.n_bytes(&worker.model)).sum()
        };
        while reserved(self) > self.limits.cache_bytes && self.pause() {}
        self.prefixes.shrink(self.spare_bytes());
    }

    /// Takes the youngest answer but the only one out of the pool, without its keys and values. They
    /// will be computed anew, to the same bits. False if nobody can be paused.
    fn pause(&mut self) -> bool {
        // What an encoder read cannot be read again.
        if self.active.len() < 2 || self.model.config().encoder.is_some() {
            return false;
        }
        let answers = self.active.iter().filter(|(_, active)| is_answer(active));
        let Some(youngest) = answers.map(|(key, _)| *key).max() else { return false };
        let Some((active, mut work)) = self.remove(youngest) else { return false };
        if let Work::Generation(generation) = &mut work {
            generation.forget();
        }
        self.metrics.pause();
        self.paused.push_front((Active { n_shared: 0, ..active }, work));
        true
    }

    fn go_on_with_paused(&mut self) {
        while let Some((active, _)) = self.paused.front() {
            let fits = active.n_bytes(&self.model) <= self.spare_bytes();
            if !(fits || self.active.is_empty()) {
                return;
            }
            let Some((active, work)) = self.paused.pop_front() else { return };
            let client = active.client.clone();
            if let Err(error) = self.join(work, active) {
                client.tell(Event::Failed(ApiError::of("prompt", &error)));
            }
            self.prefixes.shrink(self.spare_bytes());
        }
    }

    /// A session that has read as much of `tokens` as any has, and how much that is.
    pub(super) fn session_for(&mut self, tokens: &[u32]) -> (Session, usize) {
        let fresh = || (self.model.session(), 0);
        if self.model.config().encoder.is_some() {
            return fresh();
        }
        let running = self.active.keys().filter_map(|key| Some(self.pool.get(*key)?.session()));
        let running = running.map(|session| (session, session.n_common(tokens)));
        let running = running.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0);
        let running = running.map(|(session, n)| (session.fork(), n));
        let kept = self.prefixes.find(tokens);
        let best = running.into_iter().chain(kept).max_by_key(|(_, n)| *n);
        best.unwrap_or_else(fresh)
    }

    /// Makes room after `error`, which is one of memory: what is kept goes first, then whoever came
    /// last waits, and if that is of no use either it is given up.
    pub(super) fn relieve(&mut self, error: &Error) {
        if self.prefixes.len() > 0 {
            self.prefixes.shrink(0);
            return;
        }
        if self.pause() {
            return;
        }
        let last = self.active.keys().max().copied();
        if let Some((active, _)) = last.and_then(|key| self.remove(key)) {
            tracing::warn!(%error, "a request was given up");
            active.client.tell(Event::Failed(ApiError::of("prompt", error)));
        }
    }
}

fn is_answer(active: &Active) -> bool {
    matches!(active.stage, Stage::Write { .. })
}
