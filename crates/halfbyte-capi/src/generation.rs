//! Generations: pieces pulled one by one, or handed to a callback.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;

use crate::boundary::boundary;
use crate::callbacks::{hb_piece, hb_piece_callback};
use crate::chat::{self, hb_message};
use crate::handles::{self, Handle};
use crate::options::{self, hb_generation_options};
use crate::pointers::{Growing, Pointers, size_up_to};
use crate::session::{Session, hb_session};
use crate::status::{Failure, HB_NULL_ARGUMENT, HB_OK, Outcome, hb_status};
use crate::work::{Running, Work};

/// It goes on.
pub const HB_FINISH_NONE: u32 = 0;
/// The model said that it is done.
pub const HB_FINISH_STOP: u32 = 1;
/// A stop text was generated.
pub const HB_FINISH_STOP_TEXT: u32 = 2;
/// max_new_tokens or the end of the context was reached.
pub const HB_FINISH_LENGTH: u32 = 3;
/// Its hb_cancel or its callback stopped it.
pub const HB_FINISH_CANCELLED: u32 = 4;
/// A failure ended it, which the call that met it returned.
pub const HB_FINISH_FAILED: u32 = 5;

/// A running generation, whose pieces are pulled one by one. A handle. It has its session until it
/// ends or is freed. One call at a time: a second one gives HB_BUSY at once.
pub struct hb_generation {
    _private: [u8; 0],
}

/// What is known about a generation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_generation_report {
    /// sizeof(hb_generation_report), set by the caller.
    pub size: usize,
    /// One of the HB_FINISH_ numbers.
    pub finish_reason: u32,
    /// 0.
    pub reserved: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the prompt whose keys and values the session still had.
    pub reused_tokens: u64,
    /// New tokens, the end token included.
    pub new_tokens: u64,
    /// The seed that makes the same text again.
    pub seed: u64,
    /// Seconds until the first token.
    pub prompt_seconds: f64,
    /// Seconds of all later tokens.
    pub decode_seconds: f64,
}

// SAFETY: `repr(C)`, the size first, then numbers.
unsafe impl Growing for hb_generation_report {
    const WHAT: &'static str = "hb_generation_report";
    const SIZES: &'static [usize] =
        &[size_up_to::<Self>(offset_of!(Self, decode_seconds) + size_of::<f64>())];
}

// SAFETY: `repr(C)`, the size first, then numbers and a pointer.
unsafe impl Growing for hb_piece {
    const WHAT: &'static str = "hb_piece";
    const SIZES: &'static [usize] =
        &[size_up_to::<Self>(offset_of!(Self, logprob) + size_of::<f32>())];
}

impl Handle for hb_generation {
    type Object = Running;
    const WHAT: &'static str = "generation";
}

/// Generates from a prompt, and hands each piece to callback until it says stop.
///
/// The prompt is the whole text: it replaces what the session held, but what both begin with is not
/// computed again. It is plain text, in which special tokens mean nothing. options and report may
/// be NULL; report is filled whenever the generation began, also after a failure. A callback that
/// says stop is no failure: HB_OK, and the report says HB_FINISH_CANCELLED. HB_TOKENIZER,
/// HB_CONTEXT_FULL, HB_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generate(
    session: *mut hb_session,
    prompt: *const c_char,
    options: *const hb_generation_options,
    callback: hb_piece_callback,
    user_data: *mut c_void,
    report: *mut hb_generation_report,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let session = handles::get(session)?;
        let prompt = given.text(prompt, "prompt")?;
        let callback =
            callback.ok_or_else(|| Failure::new(HB_NULL_ARGUMENT, "the callback is NULL"))?;
        let mut record = given.record(report)?;
        let config = options::read(&given, options)?;
        let mut work = Work::from_prompt(session.lend()?, prompt, config)?;
        let outcome = work.run(|piece| {
            let text = [piece.text.as_bytes(), &[0]].concat();
            let piece = c_piece(piece, text.as_ptr().cast());
            // SAFETY: the caller gave a function of this type, and data that it takes.
            unsafe { callback(&piece, user_data) == 0 }
        });
        if let Some(record) = &mut record {
            record.write(work.report());
        }
        outcome
    })
}

/// Starts a generation from a prompt, as hb_generate; the pieces are pulled with
/// hb_generation_next. Nothing is computed yet. The caller frees the generation with
/// hb_generation_free; *generation is NULL after a failure. HB_TOKENIZER, HB_CONTEXT_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_start(
    session: *mut hb_session,
    prompt: *const c_char,
    options: *const hb_generation_options,
    generation: *mut *mut hb_generation,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    start(&given, generation, session, |session| {
        let prompt = given.text(prompt, "prompt")?;
        let config = options::read(&given, options)?;
        Work::from_prompt(session.lend()?, prompt, config)
    })
}

/// Starts a generation from the tokens of a whole text, each below vocab_size, or for n_tokens 0 goes
/// on from those that the session holds, of which there must be one. Else as hb_generation_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_start_tokens(
    session: *mut hb_session,
    tokens: *const u32,
    n_tokens: usize,
    options: *const hb_generation_options,
    generation: *mut *mut hb_generation,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    start(&given, generation, session, |session| {
        let tokens = given.slice(tokens, n_tokens, "tokens")?;
        let config = options::read(&given, options)?;
        let tokens = (n_tokens > 0).then_some(tokens);
        Work::from_tokens(session.lend()?, tokens, config)
    })
}

/// Starts the answer to the messages of a conversation, oldest first: the whole of it each time.
///
/// What the session still has of it is not computed again. chat_template as for
/// hb_apply_chat_template; the template's stop texts are added to the options'. Else as
/// hb_generation_start; HB_TEMPLATE besides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_start_chat(
    session: *mut hb_session,
    chat_template: *const c_char,
    messages: *const hb_message,
    n_messages: usize,
    options: *const hb_generation_options,
    generation: *mut *mut hb_generation,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    start(&given, generation, session, |session| {
        let template = given.optional_text(chat_template, "chat template")?;
        let messages = chat::read(&given, messages, n_messages)?;
        let config = options::read(&given, options)?;
        Work::from_messages(session.lend()?, template, messages, config)
    })
}

/// Writes the handle of the generation that `work` makes, or NULL.
fn start(
    given: &Pointers,
    generation: *mut *mut hb_generation,
    session: *mut hb_session,
    work: impl FnOnce(Arc<Session>) -> Outcome<Work>,
) -> hb_status {
    boundary(|| {
        let mut out = given.out(generation, "place for the generation")?;
        out.write(std::ptr::null_mut());
        let work = work(handles::get(session)?)?;
        out.write(handles::insert(Arc::new(Running::new(work)))?);
        Ok(HB_OK)
    })
}

/// Computes the next piece and writes its text, with a NUL at the end, into the caller's buffer.
///
/// HB_OK with a piece, HB_END when there are no more, HB_CANCELLED when its hb_cancel stopped it. A
/// failure ends it: the call that meets it returns it, later ones HB_END, and the report says
/// HB_FINISH_FAILED.
///
/// 256 bytes nearly always suffice; where they do not, HB_BUFFER_TOO_SMALL, piece->text_bytes is
/// what the text needs without its NUL, and the next call gives the same piece again. piece may be
/// NULL; else the caller sets its size, and its text points into the caller's buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_next(
    generation: *mut hb_generation,
    text: *mut c_char,
    capacity: usize,
    piece: *mut hb_piece,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let running = handles::get(generation)?;
        given.out(text, "place for the text")?;
        let mut record = given.record(piece)?;
        running.next(|piece| {
            let mut text_bytes = 0;
            let mut out = given.buffer((text, capacity), &raw mut text_bytes, "text")?;
            let written = out.fill_text(&piece.text);
            let text = if written.is_ok() { text.cast_const() } else { std::ptr::null() };
            if let Some(record) = &mut record {
                record.write(c_piece(piece, text));
            }
            written
        })
    })
}

/// Says what is known about a generation so far; HB_BUSY while another call computes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_get_report(
    generation: *mut hb_generation,
    report: *mut hb_generation_report,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let running = handles::get(generation)?;
        let mut record = given.required_record(report)?;
        record.write(running.report()?);
        Ok(HB_OK)
    })
}

/// Frees a generation, at any time; the session is free again, with the tokens so far. A call that
/// computes meanwhile goes on to the end of its piece, and only then is the session free. NULL is
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hb_generation_free(generation: *mut hb_generation) -> hb_status {
    boundary(|| {
        handles::remove(generation)?;
        Ok(HB_OK)
    })
}

/// `piece` for C, with its text at `text`.
fn c_piece(piece: &halfbyte::Piece, text: *const c_char) -> hb_piece {
    hb_piece {
        size: size_of::<hb_piece>(),
        text,
        text_bytes: piece.text.len(),
        token: piece.token,
        logprob: piece.logprob.unwrap_or(f32::NAN),
    }
}
