//! Text to tokens and back, and what a model says about given tokens.

use std::ffi::c_char;

use halfbyte::Hooks;
use halfbyte::tokenizer::Specials;

use crate::boundary::boundary;
use crate::cancel::{self, hb_cancel};
use crate::handles;
use crate::model::hb_model;
use crate::pointers::Pointers;
use crate::status::{Failure, HB_OK, Outcome, hb_status};

/// hb_tokenize: puts the token that starts a text in front, if the model's file asks for it.
pub const HB_ADD_BOS: u32 = 1;
/// hb_tokenize: takes spelled special tokens, as chat templates write them, for those tokens. Never
/// for text that a stranger wrote.
pub const HB_PARSE_SPECIAL: u32 = 2;

/// The tokens of a text; flags is 0 or a sum of HB_ADD_BOS and HB_PARSE_SPECIAL.
///
/// *n_tokens is how many there are, also for HB_BUFFER_TOO_SMALL. With tokens NULL and a capacity
/// of 0 nothing but that is asked. HB_TOKENIZER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_tokenize(
    model: *mut hb_model,
    text: *const c_char,
    flags: u32,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let text = given.text(text, "text")?;
        let mut out = given.buffer((tokens, capacity), n_tokens, "tokens")?;
        if flags & !(HB_ADD_BOS | HB_PARSE_SPECIAL) != 0 {
            return Err(Failure::argument("flags", format!("{flags} has bits that mean nothing")));
        }
        let parse = flags & HB_PARSE_SPECIAL != 0;
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        let tokenizer = model.here()?.tokenizer()?;
        let found = if flags & HB_ADD_BOS != 0 {
            tokenizer.encode_prompt(text, specials)
        } else {
            tokenizer.encode(text, specials)
        };
        out.fill(&found?)?;
        Ok(HB_OK)
    })
}

/// The text of tokens: special ones, and those that the model does not have, are left out; broken
/// UTF-8 becomes U+FFFD.
///
/// capacity counts the NUL at the end; *n_bytes does not, and is set also for HB_BUFFER_TOO_SMALL.
/// With text NULL and a capacity of 0 nothing but that is asked. HB_TOKENIZER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_detokenize(
    model: *mut hb_model,
    tokens: *const u32,
    n_tokens: usize,
    text: *mut c_char,
    capacity: usize,
    n_bytes: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let tokens = given.slice(tokens, n_tokens, "tokens")?;
        let mut out = given.buffer((text, capacity), n_bytes, "text")?;
        out.fill_text(&model.here()?.tokenizer()?.decode(tokens))?;
        Ok(HB_OK)
    })
}

/// The logits after each of n_tokens tokens: as many rows of vocab_size numbers, in one fresh pass.
///
/// n_tokens is 1 to context_length, and each token is below vocab_size. *n_logits is n_tokens times
/// vocab_size, also for HB_BUFFER_TOO_SMALL, which is said before anything is computed. With logits
/// NULL and a capacity of 0 nothing but that is asked. cancel may be NULL. The bits do not depend on
/// the number of threads or the processor. HB_INVALID_ARGUMENT for a model with an encoder, which does
/// not predict its prompt, HB_CONTEXT_FULL, HB_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_logits(
    model: *mut hb_model,
    tokens: *const u32,
    n_tokens: usize,
    cancel: *mut hb_cancel,
    logits: *mut f32,
    capacity: usize,
    n_logits: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let model = model.here()?;
        let tokens = given.slice(tokens, n_tokens, "tokens")?;
        let hooks = braked(cancel)?;
        let mut out = given.buffer((logits, capacity), n_logits, "logits")?;
        out.expect(n_tokens.saturating_mul(model.config().vocab_size))?;
        if !out.is_question() {
            out.fill(&model.logits_with(tokens, &hooks)?)?;
        }
        Ok(HB_OK)
    })
}

/// The embedding of a text: the mean of the last hidden states, hidden_size numbers.
///
/// *n is hidden_size, also for HB_BUFFER_TOO_SMALL, which is said before anything is computed. With
/// embedding NULL and a capacity of 0 nothing but that is asked. cancel may be NULL. HB_TOKENIZER,
/// HB_CONTEXT_FULL, HB_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_embed(
    model: *mut hb_model,
    text: *const c_char,
    cancel: *mut hb_cancel,
    embedding: *mut f32,
    capacity: usize,
    n: *mut usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let model = handles::get(model)?;
        let model = model.here()?;
        let text = given.text(text, "text")?;
        let hooks = braked(cancel)?;
        let mut out = given.buffer((embedding, capacity), n, "embedding")?;
        out.expect(model.config().hidden_size)?;
        if !out.is_question() {
            let tokens = model.tokenizer()?.encode_prompt(text, Specials::AsText)?;
            out.fill(&model.embed_tokens_with(&tokens, &hooks)?)?;
        }
        Ok(HB_OK)
    })
}

fn braked(cancel: *const hb_cancel) -> Outcome<Hooks> {
    Ok(Hooks { cancel: cancel::optional(cancel)?, ..Hooks::default() })
}
