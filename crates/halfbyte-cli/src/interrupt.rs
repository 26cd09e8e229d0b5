//! Ctrl-C: the first one stops the work, the second one ends the process.

use std::sync::OnceLock;

use anyhow::Context;
use halfbyte::Cancel;

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
            std::process::exit(130);
        }
        cancel.cancel();
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}
