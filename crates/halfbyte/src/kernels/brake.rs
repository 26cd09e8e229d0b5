//! Stopping a pass: a [`Cancel`] handle that, once seen pulled, stays pulled for the pass.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// The brake of one pass. Work that was skipped must not count as done, even if somebody resets
/// the handle meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Brake<'a> {
    cancel: Option<&'a Cancel>,
    pulled: AtomicBool,
}

impl<'a> Brake<'a> {
    pub(crate) fn new(cancel: Option<&'a Cancel>) -> Self {
        Self { cancel, pulled: AtomicBool::new(false) }
    }

    /// A brake that nobody can pull.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn is_pulled(&self) -> bool {
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            self.pulled.store(true, Ordering::Relaxed);
        }
        self.pulled.load(Ordering::Relaxed)
    }

    /// [`Error::Cancelled`] if it was pulled at any time.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_pulled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
