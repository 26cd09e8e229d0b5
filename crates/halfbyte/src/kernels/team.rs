//! The threads of one model, and slices that they write in disjoint parts.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::{Brake, Isa};
use crate::error::{Error, Result};

/// Threads that share a model's work, and the instruction set that they use.
#[derive(Debug)]
pub(crate) struct Team {
    pool: rayon::ThreadPool,
    isa: Isa,
}

/// More threads than this are refused: a slip of the keyboard, not a machine.
const MAX_THREADS: usize = 1024;

impl Team {
    /// `threads` threads, or as many as there are physical cores that this process may use.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for zero or more than 1024 threads, or if they cannot be started.
    pub(crate) fn new(threads: Option<usize>, isa: Isa) -> Result<Self> {
        let threads = threads.unwrap_or_else(default_threads);
        if threads == 0 || threads > MAX_THREADS {
            return Err(Error::config("threads", format!("{threads} is not in 1..={MAX_THREADS}")));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("halfbyte-{i}"))
            .build()
            .map_err(|e| Error::config("threads", e.to_string()))?;
        Ok(Self { pool, isa })
    }

    /// The instruction set.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads in the team.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on one of the team's threads: dispatching from there costs about a microsecond,
    /// from outside about twenty.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs `job` for each of `0..n`, on all threads; skips the rest once `brake` is pulled.
    pub(crate) fn each(&self, n: usize, brake: &Brake<'_>, job: impl Fn(usize) + Sync + Send) {
        let guarded = |i| {
            if !brake.is_pulled() {
                job(i);
            }
        };
        if n == 1 || self.threads() == 1 {
            (0..n).for_each(guarded);
        } else {
            self.pool.install(|| (0..n).into_par_iter().with_max_len(1).for_each(guarded));
        }
    }

    /// Runs `job(i, chunk i)` over `data` cut in chunks of `chunk` elements.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        brake: &Brake<'_>,
        job: impl Fn(usize, &mut [T]) + Sync + Send,
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

/// Threads that a model uses by default: the physical cores that affinity and quota leave us.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed)
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
