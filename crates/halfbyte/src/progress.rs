//! A callback that hears how far long work has come.

use std::fmt;
use std::sync::Arc;

/// Hears how far loading, prompt processing or scoring has come; clones share one callback.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Wraps a callback that is given (done, total): bytes while loading, tokens elsewhere.
    pub fn new(callback: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// Tells the callback that `done` of `total` is finished.
    pub fn report(&self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
