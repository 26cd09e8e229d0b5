//! Ctrl-C: the first one stops the work, the second one ends the process, unless there is patience.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use halfbyte::Cancel;

use crate::output;

static PATIENT: AtomicBool = AtomicBool::new(false);
/// Whether nothing runs that Ctrl-C could stop.
static IDLE: AtomicBool = AtomicBool::new(false);
/// Whether this idle time has had its Ctrl-C.
static WARNED: AtomicBool = AtomicBool::new(false);

/// The handle that Ctrl-C pulls, not pulled; the handler is installed by the first call.
pub(crate) fn cancel() -> anyhow::Result<&'static Cancel> {
    static CANCEL: OnceLock<Cancel> = OnceLock::new();
    if let Some(cancel) = CANCEL.get() {
        // A host that runs several commands starts each with the brake off.
        cancel.reset();
        return Ok(cancel);
    }
    let cancel = CANCEL.get_or_init(Cancel::new);
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            let is_idle = IDLE.load(Ordering::Relaxed);
            if !PATIENT.load(Ordering::Relaxed) || is_idle && WARNED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            if is_idle {
                output::note("\nCtrl-C again, or Ctrl-D, leaves");
            }
        }
        cancel.cancel();
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}

/// While it lives, no single Ctrl-C ends the process: a conversation would be lost to a finger that
/// was a moment late.
#[derive(Debug)]
pub(crate) struct Patience(());

impl Patience {
    pub(crate) fn new() -> Self {
        PATIENT.store(true, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        PATIENT.store(false, Ordering::Relaxed);
    }
}

/// Runs `wait`, which does no work: Ctrl-C ends the process, with [`Patience`] the second one. The
/// brake is off afterwards.
pub(crate) fn while_idle<T>(cancel: &Cancel, wait: impl FnOnce() -> T) -> T {
    WARNED.store(false, Ordering::Relaxed);
    IDLE.store(true, Ordering::Relaxed);
    cancel.cancel();
    let waited = wait();
    IDLE.store(false, Ordering::Relaxed);
    cancel.reset();
    waited
}
