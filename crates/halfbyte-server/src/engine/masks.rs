//! Threads that find out what may follow in answers with grammars, beside the passes: the grammars
//! come from strangers, and nobody else shall wait for theirs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::worker::Worker;

/// The least time that a pass waits for what grammars allow; ordinary ones need less.
pub(super) const LEAST_PATIENCE: Duration = Duration::from_millis(1);

/// Where nothing else is to be computed, others are listened to as often.
const LISTENS: Duration = Duration::from_millis(10);

/// Threads: one grammar that takes long leaves one to the others.
pub(super) const N_THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which end with it once they have done what they were given.
pub(super) struct Masks {
    jobs: Sender<Job>,
    open: Arc<Open>,
}

/// Jobs that are not done.
#[derive(Default)]
struct Open {
    n: Mutex<usize>,
    done: Condvar,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.n.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Masks {
    /// Starts the threads.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let open = Arc::new(Open::default());
        for _ in 0..N_THREADS {
            let (receiver, open) = (receiver.clone(), open.clone());
            std::thread::Builder::new()
                .name("masks".into())
                .spawn(move || work(&receiver, &open))?;
        }
        Ok(Self { jobs, open })
    }

    /// Does `job` as soon as a thread is free.
    pub(super) fn begin(&self, job: impl FnOnce() + Send + 'static) {
        *self.open.lock() += 1;
        if self.jobs.send(Box::new(job)).is_err() {
            *self.open.lock() -= 1;
        }
    }

    /// Waits until all is done, but no longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let open = self.open.lock();
        // Whether it is done is seen elsewhere.
        drop(self.open.done.wait_timeout_while(open, patience, |n| *n > 0));
    }
}

impl Worker {
    /// Leaves out of the next pass whoever's grammar takes so long that the others would wait for it
    /// more than a quarter of a pass; says how many those are.
    pub(super) fn hold(&mut self) -> usize {
        if self.active.values().all(|active| active.grammar().is_none()) {
            return 0;
        }
        self.masks.wait(self.patience);
        let mut n_held = 0;
        for (key, active) in &self.active {
            let is_held = active.grammar().is_some_and(|grammar| !grammar.is_ready());
            self.pool.hold(*key, is_held);
            n_held += usize::from(is_held);
        }
        n_held
    }

    /// Where `n_held` answers wait for their grammars, and nothing else is to be done, waits, too.
    pub(super) fn idle(&self, n_held: usize) {
        if n_held > 0 {
            self.masks.wait(LISTENS);
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, open: &Open) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a mistake in a grammar; please report it");
        }
        *open.lock() -= 1;
        open.done.notify_all();
    }
}
