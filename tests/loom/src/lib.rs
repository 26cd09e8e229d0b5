//! The threads of a pass (`kernels/crew.rs`) in every order in which they can meet: each job is run by
//! its caller, by a helper at most once, and by nobody when its caller goes on; all go home.
//!
//! `cargo test --release --manifest-path tests/loom/Cargo.toml`
#![cfg(test)]
#![allow(dead_code, reason = "the crew has more than these tests use")]

#[path = "../../../crates/halfbyte/src/kernels/crew.rs"]
mod crew;

/// What `kernels/sync.rs` is there.
mod sync {
    use std::time::Duration;

    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex};
    pub(super) use loom::thread::yield_now;

    /// A clock by which every wait was long: helpers fall asleep as soon as they may.
    pub(super) struct Instant;

    impl Instant {
        pub(super) fn now() -> Self {
            Self
        }

        pub(super) fn elapsed(&self) -> Duration {
            Duration::MAX
        }
    }
}

use crew::Crew;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

/// A place that only whoever took it may touch; loom tells of two that touch it at once.
struct Place(UnsafeCell<usize>);

// SAFETY: loom watches every access.
unsafe impl Sync for Place {}

/// Runs `jobs` jobs on a caller and `helpers` helpers; the scheduler interrupts threads `switches` times
/// wherever it likes, besides where they wait. Without that bound it takes hours.
fn check(helpers: usize, jobs: usize, switches: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(move || {
        let crew = Arc::new(Crew::new(helpers + 1, helpers + 1));
        let threads: Vec<_> = (1..=helpers)
            .map(|helper| {
                let crew = crew.clone();
                loom::thread::spawn(move || crew.help(helper))
            })
            .collect();
        let dismissed_at_the_end = crew.dismiss_on_drop();
        for _ in 0..jobs {
            let places: Vec<_> = (0..2).map(|_| Place(UnsafeCell::new(0))).collect();
            let next = AtomicUsize::new(0);
            crew.run(&|_| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // SAFETY: each place is taken once.
                    place.0.with_mut(|n| unsafe { *n += 1 });
                }
            });
            for place in &places {
                // SAFETY: nobody is in the job any more.
                place.0.with(|n| assert_eq!(unsafe { *n }, 1));
            }
        }
        drop(dismissed_at_the_end);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn one_helper_and_one_job() {
    check(1, 1, 4);
}

#[test]
fn one_helper_and_two_jobs() {
    check(1, 2, 3);
}

#[test]
fn two_helpers_and_one_job() {
    check(2, 1, 1);
}
