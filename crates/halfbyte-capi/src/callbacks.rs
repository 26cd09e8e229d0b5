//! Functions of the caller: pieces, progress, log.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{PoisonError, RwLock};

use halfbyte::Progress;

/// A failure, with the message that hb_last_error has, too.
pub const HB_LOG_ERROR: i32 = 1;
/// Something worth knowing: a model was opened.
pub const HB_LOG_INFO: i32 = 2;

/// One new token, and the text that it made certain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_piece {
    /// sizeof(hb_piece), set by the caller where the caller owns the struct.
    pub size: usize,
    /// The text in UTF-8 with a NUL at its end; empty while a character or a possible stop text is
    /// incomplete. Whole characters only. NULL after HB_BUFFER_TOO_SMALL.
    pub text: *const c_char,
    /// Bytes of the text without its NUL. A model may write NUL characters, so this may be more than
    /// strlen finds.
    pub text_bytes: usize,
    /// The token.
    pub token: u32,
    /// The token's natural-log probability under the model itself; NaN unless the options asked
    /// for it.
    pub logprob: f32,
}

/// Takes a piece; 0 to go on, anything else to end the generation here. After the last piece there is
/// nothing to end: the report then says why it was the last.
///
/// The piece and its text belong to halfbyte and live until the callback returns. Runs on the thread
/// that called hb_generate. It may call any function of this header, but the session in use gives
/// HB_BUSY. It must return: no longjmp, no C++ exception out of it.
pub type hb_piece_callback =
    Option<unsafe extern "C" fn(piece: *const hb_piece, user_data: *mut c_void) -> c_int>;

/// Hears how far a call has come: bytes while loading, tokens of a prompt. Runs on the thread that
/// made the call; the rules of hb_piece_callback hold. To stop the work, stop its hb_cancel.
pub type hb_progress_callback =
    Option<unsafe extern "C" fn(done: u64, total: u64, user_data: *mut c_void)>;

/// Takes a message; level is HB_LOG_ERROR or HB_LOG_INFO, or one that a later version adds.
///
/// The message lives until the callback returns. Runs on whichever thread made the call, also on
/// several at once; the rules of hb_piece_callback hold. What it causes itself is not logged.
pub type hb_log_callback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// What a callback gets back from whoever registered it.
#[derive(Clone, Copy)]
pub(crate) struct UserData(*mut c_void);

// SAFETY: it is handed to callbacks and never looked into; the header says on which threads those
// run, so what it points to is the caller's affair.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub(crate) fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    /// The pointer; a method, so that closures capture the whole and not the bare field.
    pub(crate) fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// `callback` as the library's progress hook.
pub(crate) fn progress(callback: hb_progress_callback, data: *mut c_void) -> Option<Progress> {
    let (callback, data) = (callback?, UserData::new(data));
    Some(Progress::new(move |done, total| {
        // SAFETY: the caller gave a function of this type, and data that it takes.
        unsafe { callback(done, total, data.pointer()) }
    }))
}

/// Who hears messages.
static LOG: RwLock<(hb_log_callback, UserData)> =
    RwLock::new((None, UserData(std::ptr::null_mut())));

thread_local! {
    /// Whether this thread is inside the log callback.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Replaces the log callback.
pub(crate) fn set_log(callback: hb_log_callback, data: *mut c_void) {
    let data = UserData::new(data);
    *LOG.write().unwrap_or_else(PoisonError::into_inner) = (callback, data);
}

/// Tells the log callback, if there is one and this is not its own doing.
pub(crate) fn log(level: i32, message: &CStr) {
    // Copied out: the callback may replace itself.
    let (callback, data) = *LOG.read().unwrap_or_else(PoisonError::into_inner);
    let Some(callback) = callback else { return };
    // A thread that is being taken down logs no more.
    if LOGGING.try_with(|logging| logging.replace(true)).unwrap_or(true) {
        return;
    }
    // SAFETY: the caller gave a function of this type, and data that it takes.
    unsafe { callback(level, message.as_ptr(), data.pointer()) };
    let _ = LOGGING.try_with(|logging| logging.set(false));
}
