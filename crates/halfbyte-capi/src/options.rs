//! How to generate: the struct, its defaults, and what it means to the library.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use halfbyte::{ContextPolicy, GenerationConfig, Hooks};

use crate::boundary::boundary;
use crate::callbacks::{self, hb_progress_callback};
use crate::cancel::{self, hb_cancel};
use crate::model::number;
use crate::pointers::{Growing, Pointers, size_up_to};
use crate::status::{Failure, HB_OK, Outcome, hb_status};

/// HB_CONTEXT_ERROR for a prompt, HB_CONTEXT_DROP_OLDEST_TURNS for messages: the default.
pub const HB_CONTEXT_DEFAULT: u32 = 0;
/// A prompt that does not fit is HB_CONTEXT_FULL; a generation ends where the context ends.
pub const HB_CONTEXT_ERROR: u32 = 1;
/// As HB_CONTEXT_ERROR, but of messages the oldest turns are left out first.
pub const HB_CONTEXT_DROP_OLDEST_TURNS: u32 = 2;
/// Drops the oldest half of the tokens and goes on. HB_INVALID_ARGUMENT for a model with an encoder.
pub const HB_CONTEXT_SHIFT: u32 = 3;

const CONTEXT_POLICIES: [Option<ContextPolicy>; 4] = [
    None,
    Some(ContextPolicy::Error),
    Some(ContextPolicy::DropOldestTurns),
    Some(ContextPolicy::Shift),
];

/// What is added to the logit of a token.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_logit_bias {
    /// The token, below vocab_size.
    pub token: u32,
    /// A number, or negative infinity, which forbids the token.
    pub bias: f32,
}

/// How to generate. Its defaults are not zeros, so start from hb_generation_options_init.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hb_generation_options {
    /// sizeof(hb_generation_options).
    pub size: usize,
    /// Tokens to generate at most; 0 for none. Default 256.
    pub max_new_tokens: u64,
    /// Start of the random generator, where has_seed is 1.
    pub seed: u64,
    /// 1 to use seed; 0 for a fresh one, which the report tells. Default 0.
    pub has_seed: u32,
    /// Divides the logits, 0 to 100; 0 takes the most probable token every time. Default 0.7.
    pub temperature: f32,
    /// Draws from the k most probable tokens only; 0 for all. Default 40.
    pub top_k: u32,
    /// Draws from the smallest set with this probability in all, 0 to 1; 1 for all. Default 0.95.
    pub top_p: f32,
    /// Leaves out tokens below this share of the best one's probability, 0 to 1. Default 0.
    pub min_p: f32,
    /// Keeps the tokens closest to the expected surprise until this probability, 0 to 1. Default 1.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens, 0.01 to 100; 1 for none.
    /// Default 1.1.
    pub repetition_penalty: f32,
    /// Recent tokens that the three penalties look at, prompt included unless an encoder reads it; 0
    /// for none. Default 64.
    pub repeat_last_n: u32,
    /// Taken from the logit of each recent token once, -100 to 100. Default 0.
    pub presence_penalty: f32,
    /// Taken from the logit of each recent token as often as it occurs, -100 to 100. Default 0.
    pub frequency_penalty: f32,
    /// One of the HB_CONTEXT_ numbers.
    pub context_policy: u32,
    /// 1 to go on after the model's end token, which is then never drawn. Default 0.
    pub ignore_eos: u32,
    /// 1 to report each token's log-probability. Default 0.
    pub logprobs: u32,
    /// 0.
    pub reserved: u32,
    /// n_stop texts, none of them empty, that end the generation and are left out of it. Default none.
    pub stop: *const *const c_char,
    /// How many.
    pub n_stop: usize,
    /// n_logit_bias changes of logits. Default none.
    pub logit_bias: *const hb_logit_bias,
    /// How many.
    pub n_logit_bias: usize,
    /// Hears (tokens of the prompt that are done, tokens of the prompt), or NULL.
    pub progress: hb_progress_callback,
    /// Handed to progress.
    pub progress_data: *mut c_void,
    /// Stops the generation, also in the middle of a prompt, or NULL.
    pub cancel: *mut hb_cancel,
}

// SAFETY: `repr(C)`, the size first, then numbers, a callback that may be NULL, and pointers.
unsafe impl Growing for hb_generation_options {
    const WHAT: &'static str = "hb_generation_options";
    const SIZES: &'static [usize] =
        &[size_up_to::<Self>(offset_of!(Self, cancel) + size_of::<*mut hb_cancel>())];
}

/// Fills options with the defaults; size is sizeof(hb_generation_options) in the caller's program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_generation_options_init(
    options: *mut hb_generation_options,
    size: usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        given.init(options, size, defaults())?;
        Ok(HB_OK)
    })
}

/// The library's defaults in C's struct.
pub(crate) fn defaults() -> hb_generation_options {
    let config = GenerationConfig::default();
    hb_generation_options {
        size: size_of::<hb_generation_options>(),
        max_new_tokens: config.max_new_tokens as u64,
        seed: 0,
        has_seed: 0,
        temperature: config.temperature,
        top_k: number(config.top_k),
        top_p: config.top_p,
        min_p: config.min_p,
        typical_p: config.typical_p,
        repetition_penalty: config.repetition_penalty,
        repeat_last_n: number(config.repeat_last_n),
        presence_penalty: config.presence_penalty,
        frequency_penalty: config.frequency_penalty,
        context_policy: HB_CONTEXT_DEFAULT,
        ignore_eos: 0,
        logprobs: 0,
        reserved: 0,
        stop: std::ptr::null(),
        n_stop: 0,
        logit_bias: std::ptr::null(),
        n_logit_bias: 0,
        progress: None,
        progress_data: std::ptr::null_mut(),
        cancel: std::ptr::null_mut(),
    }
}

/// What `options` (NULL for the defaults) mean to the library.
pub(crate) fn read(
    given: &Pointers,
    options: *const hb_generation_options,
) -> Outcome<(GenerationConfig, Hooks)> {
    let options = given.options(options, defaults())?;
    let policy = CONTEXT_POLICIES.get(options.context_policy as usize).copied();
    let no_policy = || Failure::argument("context_policy", "is not one of the HB_CONTEXT_ numbers");
    if options.reserved != 0 {
        return Err(Failure::argument("reserved", "is not 0"));
    }
    let stop = given.slice(options.stop, options.n_stop, "stop")?;
    let stop = stop.iter().map(|&text| Ok(given.text(text, "stop text")?.to_owned()));
    let bias = given.slice(options.logit_bias, options.n_logit_bias, "logit_bias")?;
    let config = GenerationConfig {
        max_new_tokens: usize::try_from(options.max_new_tokens).unwrap_or(usize::MAX),
        temperature: options.temperature,
        top_k: options.top_k as usize,
        top_p: options.top_p,
        min_p: options.min_p,
        typical_p: options.typical_p,
        repetition_penalty: options.repetition_penalty,
        repeat_last_n: options.repeat_last_n as usize,
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        logit_bias: bias.iter().map(|bias| (bias.token, bias.bias)).collect(),
        seed: flag("has_seed", options.has_seed)?.then_some(options.seed),
        stop: stop.collect::<Outcome<_>>()?,
        context_policy: policy.ok_or_else(no_policy)?,
        ignore_eos: flag("ignore_eos", options.ignore_eos)?,
        logprobs: flag("logprobs", options.logprobs)?.then_some(0),
    };
    let hooks = Hooks {
        cancel: cancel::optional(options.cancel)?,
        progress: callbacks::progress(options.progress, options.progress_data),
        processor: None,
    };
    Ok((config, hooks))
}

/// A number that is 0 or 1.
pub(crate) fn flag(what: &str, number: u32) -> Outcome<bool> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::argument(what, format!("{number} is neither 0 nor 1"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_librarys() {
        // SAFETY: the defaults hold no pointers.
        let given = unsafe { Pointers::new() };
        let (config, hooks) = read(&given, std::ptr::null()).unwrap();
        assert_eq!(config, GenerationConfig::default());
        assert!(hooks.cancel.is_none() && hooks.progress.is_none());
        let spelled = hb_generation_options { seed: 3, has_seed: 1, logprobs: 1, ..defaults() };
        let (config, _) = read(&given, &spelled).unwrap();
        let expected = GenerationConfig { seed: Some(3), logprobs: Some(0), ..Default::default() };
        assert_eq!(config, expected);
    }
}
