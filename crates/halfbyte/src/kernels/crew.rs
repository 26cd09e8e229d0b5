//! Helpers that wait for jobs: they spin for a moment, then sleep until they are woken.
//!
//! A job is a closure on the caller's stack. It is open while the caller works on it; helpers enter
//! while it is open, and the caller leaves only when none is inside. A helper that comes late, or
//! never, is not waited for.

use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Condvar, Instant, Mutex, Ordering, spin_loop,
    yield_now,
};

/// How long a helper spins before it sleeps: longer than the serial work between two jobs, shorter
/// than anybody would notice on a busy machine.
const SPIN: Duration = Duration::from_micros(100);

/// A job, as helpers call it: the number of their thread is the argument.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Set in the state while helpers may enter; the bits below count those inside.
const OPEN: u64 = 1 << 31;
/// One job in the upper half of the state, so that a helper enters each job at most once.
const EPOCH: u64 = 1 << 32;

/// The threads of one pass.
#[derive(Debug)]
pub(super) struct Crew {
    threads: usize,
    /// Helpers that may be woken at once: more than the other cores would only share them.
    wake: usize,
    /// Whether there are more threads than cores: then nobody spins for long.
    crowded: bool,
    /// Epoch, [`OPEN`], helpers inside.
    state: Line<AtomicU64>,
    /// Where the current job's `&Job` stands; null before the first.
    job: AtomicPtr<&'static Job<'static>>,
    finished: AtomicBool,
    sleepers: Line<AtomicUsize>,
    lock: Mutex<()>,
    woken: Condvar,
}

/// On a pair of cache lines of its own: neighbours are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

impl Crew {
    /// A crew of `threads`, the caller included, on `cores` cores.
    pub(super) fn new(threads: usize, cores: usize) -> Self {
        Self {
            threads,
            wake: cores.saturating_sub(1),
            crowded: threads > cores,
            state: Line(AtomicU64::new(0)),
            job: AtomicPtr::new(std::ptr::null_mut()),
            finished: AtomicBool::new(false),
            sleepers: Line(AtomicUsize::new(0)),
            lock: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job` on the caller as thread 0 and on every helper that comes in time; returns when no
    /// thread is in it any more.
    pub(super) fn run(&self, job: &Job<'_>) {
        // SAFETY: only the lifetimes change. Helpers use the job between entering, which succeeds
        // only while it is open, and leaving; `Closing` closes it and waits for all to leave before
        // this function returns or unwinds, and `job` lives longer than that.
        let mut job: &'static Job<'static> = unsafe { std::mem::transmute(job) };
        self.job.store(&raw mut job, Ordering::Relaxed);
        let epoch = (self.state.0.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // Publishes the job, and comes before the look at the sleepers in everybody's eyes.
        self.state.0.store(epoch | OPEN, Ordering::SeqCst);
        let _closing = Closing(self);
        self.wake_sleepers();
        job(0);
    }

    fn wake_sleepers(&self) {
        let sleepers = self.sleepers.0.load(Ordering::SeqCst);
        if sleepers > 0 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..sleepers.min(self.wake) {
                self.woken.notify_one();
            }
        }
    }

    /// A helper's life: jobs until the crew is dismissed.
    pub(super) fn help(&self, thread: usize) {
        let mut last = 0;
        while let Some(epoch) = self.next_job(last) {
            last = epoch;
            let inside = Inside(self);
            // SAFETY: this thread has entered, so `run` has not returned: the pointer is to its
            // local variable, which holds a reference that lives as long.
            let job = unsafe { *self.job.load(Ordering::Relaxed) };
            job(thread);
            drop(inside);
        }
    }

    /// Enters the next open job after `last` and returns its epoch; `None` once dismissed.
    fn next_job(&self, last: u64) -> Option<u64> {
        let mut started = None;
        loop {
            let state = self.state.0.load(Ordering::Acquire);
            let epoch = state & !(EPOCH - 1);
            if epoch != last && state & OPEN != 0 {
                let entered = self.state.0.compare_exchange_weak(
                    state,
                    state + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if entered.is_ok() {
                    return Some(epoch);
                }
                continue;
            }
            if self.finished.load(Ordering::Acquire) {
                return None;
            }
            for _ in 0..32 {
                spin_loop();
            }
            let waited = started.get_or_insert_with(Instant::now).elapsed();
            if self.crowded {
                yield_now();
            }
            if waited > SPIN {
                self.sleep(last);
                started = None;
            }
        }
    }

    /// Sleeps until there is a job after `last`, or none any more.
    fn sleep(&self, last: u64) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        loop {
            // After the count above: either this sees the new job, or `run` sees the sleeper.
            let state = self.state.0.load(Ordering::SeqCst);
            let has_job = state & !(EPOCH - 1) != last && state & OPEN != 0;
            if has_job || self.finished.load(Ordering::SeqCst) {
                break;
            }
            guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Sends all helpers home when the returned guard is dropped, also by a panic.
    pub(super) fn dismiss_on_drop(&self) -> impl Drop + '_ {
        Dismiss(self)
    }
}

/// Closes the current job and waits until no helper is in it.
struct Closing<'a>(&'a Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.0.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0u32;
        // Acquire: what the helpers wrote is seen after this.
        while self.0.state.0.load(Ordering::Acquire) & (OPEN - 1) != 0 {
            spins += 1;
            if self.0.crowded || spins > 10_000 {
                // A helper was preempted: let it run.
                yield_now();
            } else {
                spin_loop();
            }
        }
    }
}

/// A helper inside a job.
struct Inside<'a>(&'a Crew);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.0.fetch_sub(1, Ordering::Release);
    }
}

struct Dismiss<'a>(&'a Crew);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        self.0.finished.store(true, Ordering::SeqCst);
        let _guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.woken.notify_all();
    }
}
