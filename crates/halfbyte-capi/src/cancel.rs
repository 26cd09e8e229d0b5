//! The brake that stops calls from another thread.

use std::sync::Arc;

use halfbyte::Cancel;

use crate::boundary::boundary;
use crate::handles::{self, Handle};
use crate::pointers::Pointers;
use crate::status::{HB_OK, Outcome, hb_status};

/// A brake: stops every call that it was given to. A handle; any thread may use and free it.
pub struct hb_cancel {
    _private: [u8; 0],
}

impl Handle for hb_cancel {
    type Object = Cancel;
    const WHAT: &'static str = "cancel";
}

/// The brake of an optional handle.
pub(crate) fn optional(handle: *const hb_cancel) -> Outcome<Option<Cancel>> {
    if handle.is_null() {
        return Ok(None);
    }
    Ok(Some((*handles::get(handle)?).clone()))
}

/// Makes a brake. The caller frees it with hb_cancel_free; *cancel is NULL after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_cancel_new(cancel: *mut *mut hb_cancel) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(cancel, "place for the cancel")?;
        out.write(std::ptr::null_mut());
        out.write(handles::insert(Arc::new(Cancel::new()))?);
        Ok(HB_OK)
    })
}

/// Stops every call that was given this brake, now and later, within milliseconds: those end with
/// HB_CANCELLED, and sessions stay usable. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn hb_cancel_stop(cancel: *mut hb_cancel) -> hb_status {
    boundary(|| {
        handles::get(cancel)?.cancel();
        Ok(HB_OK)
    })
}

/// Frees a brake; calls that have it go on, and nobody stops them any more. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hb_cancel_free(cancel: *mut hb_cancel) -> hb_status {
    boundary(|| {
        handles::remove(cancel)?;
        Ok(HB_OK)
    })
}
