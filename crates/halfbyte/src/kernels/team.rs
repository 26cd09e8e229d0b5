//! The threads that share a forward pass, and slices that they write in disjoint parts.
//!
//! A rayon pool owns the threads. For the length of one pass its workers form a [`Team`]: they stay
//! awake between jobs and take the next one in a fraction of a microsecond, where waking a sleeping
//! worker costs tens. Between passes nobody spins.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::crew::Crew;
use super::{Brake, Isa, cores};
use crate::error::{Error, Result};

/// More threads than this are refused: a slip of the keyboard, not a machine.
const MAX_THREADS: usize = 1024;
/// Threads for each core that this process may use: more could only wait for each other.
const THREADS_PER_CORE: usize = 4;

/// The threads of a model, and the instruction set that they use.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: rayon::ThreadPool,
    /// Cores that this process may use: no more helpers than that are woken for a job.
    cores: usize,
    isa: Isa,
}

impl Threads {
    /// `threads` threads, or as many as there are physical cores that this process may use.
    ///
    /// At most four a core are started, however many are asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for zero or more than 1024 threads, [`Error::Threads`] if they cannot be
    /// started.
    pub(crate) fn new(threads: Option<usize>, isa: Isa) -> Result<Self> {
        let asked = threads.unwrap_or_else(cores::default_threads);
        if asked == 0 || asked > MAX_THREADS {
            return Err(Error::config("threads", format!("{asked} is not in 1..={MAX_THREADS}")));
        }
        let cores = cores::available();
        let threads = asked.min(THREADS_PER_CORE * cores);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("halfbyte-{i}"))
            .build()
            .map_err(|error| Error::Threads { source: std::io::Error::other(error) })?;
        Ok(Self { pool, cores, isa })
    }

    /// The instruction set.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` where rayon's parallel iterators use these threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs `work` with all threads standing by.
    ///
    /// Passes of several callers take turns.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce(&Team<'_>) -> R + Send) -> R {
        let threads = self.count();
        if threads == 1 {
            return work(&Team { isa: self.isa, crew: None });
        }
        self.pool.install(|| {
            let crew = Crew::new(threads, self.cores);
            rayon::scope(|scope| {
                for helper in 1..threads {
                    let crew = &crew;
                    scope.spawn(move |_| crew.help(helper));
                }
                let _dismissed_at_the_end = crew.dismiss_on_drop();
                work(&Team { isa: self.isa, crew: Some(&crew) })
            })
        })
    }
}

/// Threads that stand by for the length of one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Team<'a> {
    isa: Isa,
    crew: Option<&'a Crew>,
}

impl Team<'_> {
    /// The instruction set.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads in the team.
    pub(crate) fn threads(&self) -> usize {
        self.crew.map_or(1, Crew::threads)
    }

    /// Runs `job` for each of `0..n`, on all threads; skips the rest once `brake` is pulled.
    pub(crate) fn each(&self, n: usize, brake: &Brake<'_>, job: impl Fn(usize) + Sync) {
        self.each_worker(n, brake, |_, i| job(i));
    }

    /// As [`each`](Self::each); `job` also hears which thread it runs on, below
    /// [`threads`](Self::threads). No two jobs run on one thread at a time: a job must not hand out
    /// jobs itself.
    ///
    /// Each thread works through a range of its own in ascending order, so that what it reads is one
    /// stream, and helps with the others' ranges when it is through.
    pub(crate) fn each_worker(
        &self,
        n: usize,
        brake: &Brake<'_>,
        job: impl Fn(usize, usize) + Sync,
    ) {
        let Some(crew) = self.crew.filter(|_| n > 1) else {
            for i in (0..n).take_while(|_| !brake.is_pulled()) {
                job(0, i);
            }
            return;
        };
        let threads = crew.threads();
        let shares: Vec<Share> = (0..threads).map(|t| Share::new(n, t, threads)).collect();
        crew.run(&|worker| {
            for turn in 0..threads {
                let share = &shares[(worker + turn) % threads];
                while let Some(i) = share.take() {
                    if brake.is_pulled() {
                        return;
                    }
                    job(worker, i);
                }
            }
        });
    }

    /// Runs `job(i, chunk i)` over `data` cut in chunks of `chunk` elements.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        brake: &Brake<'_>,
        job: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let parts = Disjoint::new(data);
        self.each(parts.len.div_ceil(chunk.max(1)), brake, |i| {
            let range = i * chunk..((i + 1) * chunk).min(parts.len);
            // SAFETY: chunk i is this range, ranges of different i do not meet, and `each` runs
            // every i once.
            job(i, unsafe { parts.part(range) });
        });
    }
}

/// One thread's range of a job's indices. On a cache line of its own: each is taken from by one
/// thread most of the time.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Share {
    /// Part `t` of `0..n` in `threads` parts.
    fn new(n: usize, t: usize, threads: usize) -> Self {
        let at = |t: usize| n / threads * t + (n % threads).min(t);
        Self { next: AtomicUsize::new(at(t)), end: at(t + 1) }
    }

    fn take(&self) -> Option<usize> {
        // Checked first, so that looking at an empty share again and again cannot overflow it.
        if self.next.load(Ordering::Relaxed) >= self.end {
            return None;
        }
        let i = self.next.fetch_add(1, Ordering::Relaxed);
        (i < self.end).then_some(i)
    }
}

/// A mutable slice that several threads write in parts which do not meet.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by the unsafe `part`, whose callers promise that they do not meet.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as for a `&mut [T]`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    /// Where element `i` is or would be.
    pub(super) fn address(&self, i: usize) -> *const T {
        self.start.wrapping_add(i)
    }

    /// The part `range`.
    ///
    /// # Safety
    ///
    /// No other part that is alive at the same time may meet `range`.
    ///
    /// # Panics
    ///
    /// If `range` is not within the slice.
    #[expect(clippy::mut_from_ref, reason = "the caller promises disjoint parts")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the slice");
        // SAFETY: the range was just checked to lie in the slice.
        let start = unsafe { self.start.add(range.start) };
        // SAFETY: in bounds as above; the caller promises that nobody else uses this part.
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team_of(threads: usize) -> Threads {
        Threads::new(Some(threads), Isa::available()[0]).unwrap()
    }

    #[test]
    fn every_index_runs_once_on_any_team() {
        for threads in [1, 2, 3, 8] {
            team_of(threads).enter(|team| {
                for n in [0, 1, 2, 7, 64, 1000] {
                    let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                    team.each(n, &Brake::none(), |i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} {n}");
                }
            });
        }
    }

    #[test]
    fn thousands_of_tiny_jobs_and_pauses_end() {
        let total = AtomicUsize::new(0);
        for _ in 0..3 {
            team_of(4).enter(|team| {
                for round in 0..2000 {
                    team.each(5, &Brake::none(), |_| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                    if round % 500 == 0 {
                        // Long enough that helpers fall asleep, and must be woken.
                        std::thread::sleep(std::time::Duration::from_millis(3));
                    }
                }
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 3 * 2000 * 5);
    }

    #[test]
    fn passes_of_many_callers_take_turns() {
        let threads = team_of(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        threads.enter(|team| {
                            team.each(9, &Brake::none(), |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 6 * 50 * 9);
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller_and_the_team_goes_on() {
        let threads = team_of(2);
        for at in [0, 99] {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.enter(|team| {
                    team.each(100, &Brake::none(), |i| assert!(i != at, "as planned"));
                });
            }));
            assert!(caught.is_err(), "the panic at {at} was lost");
        }
        let total = AtomicUsize::new(0);
        threads.enter(|team| {
            team.each(100, &Brake::none(), |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 100);
    }
}
