//! halfbyte for C and C++: `include/halfbyte.h` is made from this crate.
//!
//! Conversions and nothing else: what a value means is checked by the library. Every function that
//! can fail runs its body inside `boundary::boundary`, which turns errors, NULL, text
//! that is not UTF-8 and panics into status numbers. Objects are handles, slots of one table, and
//! never pointers (`handles`); pointers from C are read and written in `pointers` alone.
//!
//! The comments of public items are the header's documentation, so they speak to C programmers.

#![expect(non_camel_case_types, reason = "the names are C's")]
#![expect(unsafe_code, reason = "pointers come from C and go there")]
#![expect(clippy::doc_markdown, reason = "in the header's comments backticks mean nothing")]
#![expect(
    clippy::missing_safety_doc,
    reason = "one rule holds for every pointer of every function; the header opens with it"
)]

mod boundary;
mod handles;
mod pointers;
mod work;

// In the order in which the header shows them.
mod library;

mod status;

mod callbacks;

mod cancel;

mod model;

mod tokens;

mod chat;

mod session;

mod adapter;

mod options;

mod generation;

pub use adapter::*;
pub use callbacks::*;
pub use cancel::*;
pub use chat::*;
pub use generation::*;
pub use library::*;
pub use model::*;
pub use options::*;
pub use session::*;
pub use status::*;
pub use tokens::*;
