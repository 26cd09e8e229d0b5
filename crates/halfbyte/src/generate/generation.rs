//! A running generation: an iterator over pieces of text.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::sampler::{Sampler, logprobs};
use super::stop::StopScanner;
use super::{Completion, ContextPolicy, FinishReason, GenerationConfig};
use super::{Piece, Session, Timings, Usage};
use crate::error::{Error, Result};
use crate::model::{Batch, Model, Step, Want};
use crate::tokenizer::{Tokenizer, Undecoded};

/// Prompt tokens in one pass: whole tiles for every instruction set, enough of them to use each
/// weight often, few enough to cancel between and to keep the pass in cache.
pub const PROMPT_CHUNK: usize = 264;

/// Tokens before the new ones that the text decoder is shown, so that it knows whether a space or
/// half a character came before.
const DECODER_CONTEXT: usize = 8;

type StopTokens = Vec<(u32, String)>;

/// A running generation: an iterator over [`Piece`]s.
///
/// Nothing is computed before the first `next`. Dropping it early leaves the session usable, with
/// the tokens so far. An error ends the iteration; cancelling ends it without one.
///
/// `Generation<'static>` owns its session, as [`Session::into_generation`] makes it.
#[derive(Debug)]
pub struct Generation<'a> {
    session: Held<'a>,
    policy: ContextPolicy,
    max_new_tokens: usize,
    /// Tokens that the new ones do not go on from: the prompt, if an encoder reads it.
    apart: usize,
    n_logprobs: Option<usize>,
    ignore_eos: bool,
    sampler: Sampler,
    /// `None` for a model without a tokenizer.
    undecoded: Option<Undecoded>,
    scanner: StopScanner,
    /// Special tokens that were given as stop strings.
    stop_tokens: StopTokens,
    text: String,
    /// A chat's message that grows with the text.
    transcript: Option<&'a mut String>,
    usage: Usage,
    timings: Timings,
    finish: Option<FinishReason>,
    failed: bool,
}

/// The session that a generation works on.
#[derive(Debug)]
pub(super) enum Held<'a> {
    Borrowed(&'a mut Session),
    Owned(Box<Session>),
}

impl Deref for Held<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Borrowed(session) => session,
            Self::Owned(session) => session,
        }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            Self::Borrowed(session) => session,
            Self::Owned(session) => session,
        }
    }
}

impl<'a> Generation<'a> {
    /// Starts on `session.tokens`, which are checked and at least one. `reused` of them are cached.
    pub(super) fn new(session: Held<'a>, config: &GenerationConfig, reused: usize) -> Result<Self> {
        let Session { model, tokens, hooks, .. } = &*session;
        let tokenizer = model.tokenizer();
        let apart = match model.config().encoder {
            Some(_) => session.cache.prompt_len().unwrap_or(tokens.len()),
            None => 0,
        };
        let undecoded = tokenizer.as_ref().ok().map(|tokenizer| {
            let mut decoder = tokenizer.decoder();
            for &token in &tokens[tokens.len().saturating_sub(DECODER_CONTEXT).max(apart)..] {
                decoder.push(token);
            }
            decoder.into_undecoded()
        });
        let (stop_tokens, stop_texts) = split_stops(model, &config.stop)?;
        let ends = match &tokenizer {
            Ok(tokenizer) if config.ignore_eos => {
                (0..model.config().vocab_size as u32).filter(|&id| tokenizer.is_end(id)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self {
            usage: Usage { prompt_tokens: tokens.len(), reused_tokens: reused, new_tokens: 0 },
            sampler: Sampler::new(config, hooks, ends),
            policy: config.context_policy.unwrap_or(ContextPolicy::Error),
            max_new_tokens: config.max_new_tokens,
            apart,
            n_logprobs: config.logprobs,
            ignore_eos: config.ignore_eos,
            scanner: StopScanner::new(stop_texts),
            finish: (config.max_new_tokens == 0).then_some(FinishReason::Length),
            session,
            undecoded,
            stop_tokens,
            text: String::new(),
            transcript: None,
            timings: Timings::default(),
            failed: false,
        })
    }

    /// Lets the text grow in `message`, too.
    pub(super) fn transcribe_to(mut self, message: &'a mut String) -> Self {
        self.transcript = Some(message);
        self
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why it ended; `None` while it runs, and after an error.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Time so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The seed in use, whether given or fresh.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// The session below, with the tokens so far.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, with the tokens so far; a copy of it where it was only borrowed.
    pub fn into_session(self) -> Session {
        match self.session {
            Held::Borrowed(session) => session.fork(),
            Held::Owned(session) => *session,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    ///
    /// The first error of the iteration. Cancelling is none: the text so far is returned.
    pub fn complete(mut self) -> Result<Completion> {
        let mut pieces = Vec::new();
        for piece in &mut self {
            pieces.push(piece?);
        }
        Ok(self.into_completion(pieces))
    }

    pub(super) fn into_completion(self, pieces: Vec<Piece>) -> Completion {
        Completion {
            seed: self.sampler.seed(),
            text: self.text,
            pieces,
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
            usage: self.usage,
            timings: self.timings,
        }
    }

    /// Takes the text that was held back, as it might have become a stop string or is a part of a
    /// character; a generation that still runs ends as cancelled.
    ///
    /// Nothing is held back when a generation ends by itself; whoever ends it takes this.
    pub fn take_held(&mut self) -> String {
        if !matches!(self.finish, None | Some(FinishReason::Cancelled)) {
            return String::new();
        }
        let held = self.end(FinishReason::Cancelled, String::new());
        self.finish = Some(FinishReason::Cancelled);
        self.text.push_str(&held);
        if let Some(transcript) = &mut self.transcript {
            transcript.push_str(&held);
        }
        held
    }

    /// Gives up all keys and values, and so their memory; they are computed anew when it goes on,
    /// with the same bits. An encoder-decoder model's stay: its prompt is read only once.
    pub fn forget(&mut self) {
        if self.session.model.config().encoder.is_none() {
            self.session.cache.truncate(0);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.finish.is_none() && !self.failed
    }

    /// Ends with `reason`; what was held back stays so, for [`take_held`](Self::take_held).
    pub(super) fn stop(&mut self, reason: FinishReason) {
        self.finish = Some(reason);
    }

    /// Tokens to compute until there are logits to draw from.
    pub(super) fn left(&self) -> usize {
        let Session { cache, tokens, .. } = &*self.session;
        tokens.len() - cache.len().min(tokens.len() - 1)
    }

    /// The next tokens to compute, `budget` at most. Their end wants logits.
    pub(super) fn step(&mut self, budget: usize) -> Step<'_> {
        let Session { cache, tokens, .. } = &mut *self.session;
        // The last token is computed again when everything is cached: its logits are not.
        cache.truncate(tokens.len() - 1);
        let start = cache.len();
        let end = tokens.len().min(start + budget.clamp(1, PROMPT_CHUNK));
        let want = if end == tokens.len() { Want::LastLogits } else { Want::Nothing };
        Step { cache, tokens: &tokens[start..end], want }
    }

    /// Whether the whole text is cached, so that the last step's logits are the next token's.
    pub(super) fn has_logits(&self) -> bool {
        self.session.cache.len() == self.session.tokens.len()
    }

    /// Books the time of a pass and its draw, and tells the progress hook how far the prompt is.
    pub(super) fn book(&mut self, time: Duration) {
        if self.usage.new_tokens > 1 {
            self.timings.decode += time;
            return;
        }
        self.timings.prompt += time;
        let total = self.usage.prompt_tokens;
        self.session.hooks.report(self.session.cache.len().min(total), total);
    }

    /// Draws the next token from its logits (V).
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if the processor pulled the brake, [`Error::OutOfMemory`]; no token is
    /// drawn then.
    pub(super) fn advance(&mut self, logits: &[f32]) -> Result<Piece> {
        let token = self.sampler.sample(&self.session.tokens[self.apart..], logits)?;
        self.usage.new_tokens += 1;
        let (logprob, top_logprobs) = match self.n_logprobs {
            Some(n) => {
                let (own, top) = logprobs(logits, token, n)?;
                (Some(own), top)
            }
            None => (None, Vec::new()),
        };
        let text = self.accept(token);
        self.text.push_str(&text);
        if let Some(transcript) = &mut self.transcript {
            transcript.push_str(&text);
        }
        Ok(Piece { text, token, logprob, top_logprobs })
    }

    /// Appends `token` and returns the text that is now certain; sets the finish reason.
    fn accept(&mut self, token: u32) -> String {
        if let Some((_, stop)) = self.stop_tokens.iter().find(|(id, _)| *id == token) {
            return self.end(FinishReason::StopString(stop.clone()), String::new());
        }
        if !self.ignore_eos && self.tokenizer().is_some_and(|t| t.is_end(token)) {
            return self.end(FinishReason::Stop, String::new());
        }
        self.session.tokens.push(token);
        let new_text = self.decode(token);
        let scanned = self.scanner.push(&new_text);
        if let Some(stop) = scanned.stop {
            self.finish = Some(FinishReason::StopString(stop));
            return scanned.text;
        }
        if self.usage.new_tokens == self.max_new_tokens {
            return self.end(FinishReason::Length, scanned.text);
        }
        if self.session.tokens.len() >= self.session.context_length() {
            if self.policy != ContextPolicy::Shift {
                return self.end(FinishReason::Length, scanned.text);
            }
            let Session { model, cache, tokens, .. } = &mut *self.session;
            cache.truncate(shift(model, tokens));
        }
        scanned.text
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        self.session.model.tokenizer().ok()
    }

    /// The text that `token` makes certain.
    fn decode(&mut self, token: u32) -> String {
        match (self.session.model.tokenizer(), &mut self.undecoded) {
            (Ok(tokenizer), Some(undecoded)) => undecoded.push(tokenizer, token),
            _ => String::new(),
        }
    }

    /// Ends with `reason`; `text` is followed by what was held back.
    fn end(&mut self, reason: FinishReason, mut text: String) -> String {
        let rest = self.undecoded.as_mut().map_or_else(String::new, Undecoded::finish);
        let scanned = self.scanner.push(&rest);
        text.push_str(&scanned.text);
        text.push_str(&self.scanner.flush());
        self.finish = Some(scanned.stop.map_or(reason, FinishReason::StopString));
        text
    }

    /// Computes until a token is drawn.
    fn draw(&mut self) -> Result<Piece> {
        let model = self.session.model.clone();
        let cancel = self.session.hooks.cancel.clone();
        loop {
            let start = Instant::now();
            let steps = vec![self.step(PROMPT_CHUNK)];
            let outputs = model.decoder().forward(&mut Batch { steps, cancel: cancel.as_ref() })?;
            let piece = self.has_logits().then(|| self.advance(&outputs.logits)).transpose()?;
            self.book(start.elapsed());
            if let Some(piece) = piece {
                return Ok(piece);
            }
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.is_running() {
            return None;
        }
        match self.session.hooks.check().and_then(|()| self.draw()) {
            Ok(piece) => Some(Ok(piece)),
            Err(Error::Cancelled) => {
                self.stop(FinishReason::Cancelled);
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Parts stop strings into special tokens, which show no text, and texts.
fn split_stops(model: &Model, stops: &[String]) -> Result<(StopTokens, Vec<String>)> {
    let (mut tokens, mut texts) = (Vec::new(), Vec::new());
    for stop in stops {
        let tokenizer = model.tokenizer()?;
        match tokenizer.token_id(stop).filter(|&id| tokenizer.is_special(id)) {
            Some(id) => tokens.push((id, stop.clone())),
            None => texts.push(stop.clone()),
        }
    }
    Ok((tokens, texts))
}

/// Drops the oldest half of `tokens`, but not BOS; returns how many at the front stay in place.
pub(super) fn shift(model: &Model, tokens: &mut Vec<u32>) -> usize {
    let bos = model.tokenizer().ok().and_then(|tokenizer| tokenizer.bos());
    let kept = usize::from(bos.is_some() && tokens.first() == bos.as_ref());
    let n_dropped = ((tokens.len() - kept) / 2).max(1);
    tokens.drain(kept..(kept + n_dropped).min(tokens.len()));
    kept
}
