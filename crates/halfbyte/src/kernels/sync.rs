//! What the threads of a crew share, in one place: `tests/loom` puts a model checker's in its stead.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Condvar, Mutex};
pub(super) use std::thread::yield_now;
pub(super) use std::time::Instant;
