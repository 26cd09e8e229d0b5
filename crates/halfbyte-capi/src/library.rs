//! The library itself: versions, errors, log.

use std::ffi::{CStr, c_char, c_void};

use crate::boundary::{boundary, last_error};
use crate::callbacks::{hb_log_callback, set_log};
use crate::status::{HB_OK, NAMES, hb_status};

/// The version of this interface. It grows when something that was there changes, which is not
/// planned; functions, fields at the end of structs, and numbers may be added without.
pub const HB_ABI_VERSION: u32 = 1;

/// The library's version, such as "0.1.0". Any thread; the text lives forever.
#[unsafe(no_mangle)]
pub extern "C" fn hb_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// HB_ABI_VERSION of the library that is loaded. A program compares it with that of its header.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn hb_abi_version() -> u32 {
    HB_ABI_VERSION
}

/// The message of the last call that failed on this thread; empty if none has. It says what is
/// wrong and what would be right, in one line of UTF-8.
///
/// Calls that succeed leave it as it is. The text belongs to halfbyte and lives until the next call
/// that fails on this thread, or the thread's end. Inside the log callback it is the logged message.
#[unsafe(no_mangle)]
pub extern "C" fn hb_last_error() -> *const c_char {
    last_error()
}

/// The name of a status, such as "HB_BUSY"; "?" for a number that this version does not know. Any
/// thread; the text lives forever.
#[unsafe(no_mangle)]
pub extern "C" fn hb_status_name(status: hb_status) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|index| NAMES.get(index));
    name.copied().map_or(c"?".as_ptr(), CStr::as_ptr)
}

/// Sends messages to a function; NULL for nobody, as it is at first.
///
/// Any thread; holds for the whole process. Calls on other threads that began before may still run
/// the old callback with the old user_data, which live until those have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_set_log(
    callback: hb_log_callback,
    user_data: *mut c_void,
) -> hb_status {
    boundary(|| {
        set_log(callback, user_data);
        Ok(HB_OK)
    })
}
