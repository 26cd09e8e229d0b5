//! The one way from C into the library: whatever happens inside becomes a status number.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::callbacks::{self, HB_LOG_ERROR};
use crate::status::{Failure, HB_INTERNAL, Outcome, hb_status};

thread_local! {
    /// Why the last call that failed on this thread did.
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function.
pub(crate) fn boundary(body: impl FnOnce() -> Outcome) -> hb_status {
    // The body shares only what locks guard, and poisoned locks are taken as they are: nothing that
    // can panic runs under one. What a call has borrowed goes back when it unwinds.
    let outcome = catch_unwind(AssertUnwindSafe(body));
    match outcome.unwrap_or_else(|panic| Err(internal(&*panic))) {
        Ok(status) => status,
        Err(failure) => fail(failure),
    }
}

/// The message of the last failure on this thread; empty if there was none.
pub(crate) fn last_error() -> *const c_char {
    // A thread that is being taken down has no message any more.
    LAST_ERROR.try_with(|message| message.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

fn internal(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(HB_INTERNAL, format!("internal error, please report it: {words}"))
}

fn fail(failure: Failure) -> hb_status {
    let message = c_string(&failure.message);
    // Before the log callback runs, which may ask for it.
    let _ = LAST_ERROR.try_with(|last| last.replace(message.clone()));
    callbacks::log(HB_LOG_ERROR, &message);
    // What failed in there is the callback's own affair. Where nothing did, the text stays in its
    // place: the callback may have kept the pointer.
    let _ = LAST_ERROR.try_with(|last| {
        if *last.borrow() != message {
            last.replace(message);
        }
    });
    failure.status
}

/// `text` for C, which takes NUL for the end.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default()
}

/// `text` in a field of fixed size: as many whole characters as fit, up to a NUL.
pub(crate) fn c_field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    let mut n = 0;
    for c in text.chars().take_while(|&c| c != '\0') {
        if n + c.len_utf8() >= N {
            break;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            field[n] = c_char::from_ne_bytes([byte]);
            n += 1;
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::status::{HB_BUSY, HB_OK};

    fn message() -> String {
        // SAFETY: the pointer is this thread's message, which no call replaces meanwhile.
        unsafe { CStr::from_ptr(last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn panics_and_failures_become_statuses() {
        assert_eq!(boundary(|| Ok(HB_OK)), HB_OK);
        assert_eq!(boundary(|| Err(Failure::new(HB_BUSY, "a\0b"))), HB_BUSY);
        assert_eq!(message(), "a\u{FFFD}b");
        assert_eq!(boundary(|| panic!("number {}", 7)), HB_INTERNAL);
        assert!(message().ends_with("number 7"), "{}", message());
        assert_eq!(boundary(|| std::panic::panic_any(7)), HB_INTERNAL);
        assert!(message().ends_with("no message"), "{}", message());
        let elsewhere = std::thread::spawn(message).join();
        assert_eq!(elsewhere.ok().as_deref(), Some(""));
    }

    #[test]
    fn fields_hold_whole_characters() {
        let text = |field: &[c_char]| {
            let bytes: Vec<u8> =
                field.iter().map(|c| c.to_ne_bytes()[0]).take_while(|&b| b != 0).collect();
            String::from_utf8(bytes)
        };
        let euro = "\u{20AC}";
        let cases = [("abc", "abc"), ("", ""), ("a\0b", "a"), ("1234567", "1234567")];
        for (given, expected) in cases {
            assert_eq!(text(&c_field::<8>(given)).as_deref(), Ok(expected));
        }
        assert_eq!(text(&c_field::<8>("12345678")).as_deref(), Ok("1234567"));
        assert_eq!(text(&c_field::<8>(&euro.repeat(3))), Ok(euro.repeat(2)));
    }
}
