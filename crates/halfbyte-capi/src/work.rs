//! A generation at work: the session that it has, its state between calls, and its end.

use std::sync::{Mutex, PoisonError};

use halfbyte::{FinishReason, Generation, GenerationConfig, Hooks, Message, Piece};

use crate::generation::{
    HB_FINISH_CANCELLED, HB_FINISH_FAILED, HB_FINISH_LENGTH, HB_FINISH_NONE, HB_FINISH_STOP,
    HB_FINISH_STOP_TEXT, hb_generation_report,
};
use crate::session::Lease;
use crate::status::{Failure, HB_BUSY, HB_CANCELLED, HB_END, HB_OK, Outcome};

/// How, and what may stop it.
type Config = (GenerationConfig, Hooks);

/// A generation and the session that it has; when it goes, the session has the tokens so far.
pub(crate) struct Work {
    /// `None` only while it goes.
    running: Option<Generation<'static>>,
    lease: Lease,
    /// A piece that did not fit into the caller's buffer.
    kept: Option<Piece>,
    /// Whether a failure or the caller ended it.
    stopped: Option<u32>,
}

impl Work {
    pub(crate) fn from_prompt(mut lease: Lease, prompt: &str, config: Config) -> Outcome<Self> {
        let (config, hooks) = config;
        let mut session = lease.session()?.fork();
        session.set_hooks(hooks);
        let running = session.into_generation(prompt, &config)?;
        // Two owners of the same keys and values would make the first write copy them.
        lease.clear();
        Ok(Self::new(lease, running))
    }

    /// From the tokens of a whole text, or on from what the session holds.
    pub(crate) fn from_tokens(
        mut lease: Lease,
        tokens: Option<&[u32]>,
        (config, hooks): Config,
    ) -> Outcome<Self> {
        let mut session = lease.session()?.fork();
        session.set_hooks(hooks);
        let running = match tokens {
            Some(tokens) => session.into_generation_tokens(tokens, &config),
            None => session.into_resumed(&config),
        }?;
        lease.clear();
        Ok(Self::new(lease, running))
    }

    /// The answer to `messages` by the template of that name.
    pub(crate) fn from_messages(
        mut lease: Lease,
        template: Option<&str>,
        messages: Vec<Message>,
        (config, hooks): Config,
    ) -> Outcome<Self> {
        let chat = lease.chat(template)?;
        chat.set_hooks(hooks);
        chat.set_messages(messages);
        *chat.config_mut() = config;
        let running = chat.answer_apart()?;
        Ok(Self::new(lease, running))
    }

    fn new(lease: Lease, running: Generation<'static>) -> Self {
        Self { running: Some(running), lease, kept: None, stopped: None }
    }

    /// Tells every piece to `goes_on`, until that is false.
    pub(crate) fn run(&mut self, mut goes_on: impl FnMut(&Piece) -> bool) -> Outcome {
        while let Some(piece) = self.next()? {
            if !goes_on(&piece) {
                // Nothing was left to stop after the last piece.
                if self.finish_reason() == HB_FINISH_NONE {
                    self.stopped = Some(HB_FINISH_CANCELLED);
                }
                return Ok(HB_OK);
            }
        }
        at_end(self.finish_reason(), HB_OK)
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Outcome<Option<Piece>> {
        if let Some(kept) = self.kept.take() {
            return Ok(Some(kept));
        }
        self.lease.check_here()?;
        let next = self.running.as_mut().and_then(Iterator::next).transpose();
        next.map_err(|error| {
            self.stopped = Some(HB_FINISH_FAILED);
            error.into()
        })
    }

    fn has_ended(&self) -> bool {
        let has_finished = self.stopped.is_some() || self.finish_reason() != HB_FINISH_NONE;
        has_finished && self.kept.is_none()
    }

    fn finish_reason(&self) -> u32 {
        if let Some(reason) = self.stopped {
            return reason;
        }
        match self.running.as_ref().and_then(Generation::finish_reason) {
            None => HB_FINISH_NONE,
            Some(FinishReason::Stop) => HB_FINISH_STOP,
            Some(FinishReason::StopString(_)) => HB_FINISH_STOP_TEXT,
            Some(FinishReason::Length) => HB_FINISH_LENGTH,
            Some(_) => HB_FINISH_CANCELLED,
        }
    }

    pub(crate) fn report(&self) -> hb_generation_report {
        let usage = self.running.as_ref().map(Generation::usage).unwrap_or_default();
        let timings = self.running.as_ref().map(Generation::timings).unwrap_or_default();
        hb_generation_report {
            size: size_of::<hb_generation_report>(),
            finish_reason: self.finish_reason(),
            reserved: 0,
            prompt_tokens: usage.prompt_tokens as u64,
            reused_tokens: usage.reused_tokens as u64,
            new_tokens: usage.new_tokens as u64,
            seed: self.running.as_ref().map_or(0, Generation::seed),
            prompt_seconds: timings.prompt.as_secs_f64(),
            decode_seconds: timings.decode.as_secs_f64(),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.lease.accept(running);
        }
    }
}

/// A generation between the calls that pull its pieces.
pub(crate) struct Running(Mutex<State>);

enum State {
    Ready(Box<Work>),
    /// A call has it. The lock is held for a moment only, never while something is computed.
    Busy,
    Ended(hb_generation_report),
}

/// A call's turn: puts back what comes after it, also when the call panics.
struct Turn<'a> {
    home: &'a Running,
    after: State,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let after = std::mem::replace(&mut self.after, State::Busy);
        *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }
}

impl Running {
    pub(crate) fn new(work: Work) -> Self {
        Self(Mutex::new(State::Ready(Box::new(work))))
    }

    /// Computes the next piece for `deliver`; one that it refuses is kept for the next call.
    pub(crate) fn next(&self, deliver: impl FnOnce(&Piece) -> Outcome<()>) -> Outcome {
        let mut work = match self.replace_ready(State::Busy) {
            State::Ready(work) => work,
            State::Busy => return Err(busy()),
            State::Ended(report) => return at_end(report.finish_reason, HB_END),
        };
        // A panic drops the work, and with it the session goes home.
        let failed = hb_generation_report { finish_reason: HB_FINISH_FAILED, ..work.report() };
        let mut turn = Turn { home: self, after: State::Ended(failed) };
        let outcome = match work.next() {
            Ok(Some(piece)) => deliver(&piece).map(|()| HB_OK).inspect_err(|_| {
                work.kept = Some(piece);
            }),
            Ok(None) => at_end(work.finish_reason(), HB_END),
            Err(failure) => Err(failure),
        };
        if work.has_ended() {
            turn.after = State::Ended(work.report());
            // The session goes home before anybody can hear of the end.
            drop(work);
        } else {
            turn.after = State::Ready(work);
        }
        outcome
    }

    pub(crate) fn report(&self) -> Outcome<hb_generation_report> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(work) => Ok(work.report()),
            State::Busy => Err(busy()),
            State::Ended(report) => Ok(*report),
        }
    }

    /// Puts `state` in the place of a ready one, and returns that; else a copy of what is there.
    fn replace_ready(&self, state: State) -> State {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            State::Ready(_) => std::mem::replace(&mut *place, state),
            State::Busy => State::Busy,
            State::Ended(report) => State::Ended(*report),
        }
    }
}

fn busy() -> Failure {
    Failure::new(HB_BUSY, "the generation is in use by another call")
}

/// What is said at the end of a generation: `status`, unless it was stopped.
fn at_end(finish_reason: u32, status: i32) -> Outcome {
    match finish_reason {
        HB_FINISH_CANCELLED => Err(Failure::new(HB_CANCELLED, "cancelled")),
        _ => Ok(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::boundary;
    use crate::session::Session;
    use crate::status::HB_INTERNAL;

    #[test]
    fn a_panic_ends_a_generation_and_its_session_comes_home() {
        let session = Session::embedded();
        let work = Work::from_prompt(session.lend().unwrap(), "Once", Config::default()).unwrap();
        let running = Running::new(work);
        assert!(session.lend().is_err());
        assert_eq!(running.next(|_| Ok(())).unwrap(), HB_OK);
        assert_eq!(boundary(|| running.next(|_| panic!("as planned"))), HB_INTERNAL);
        assert_eq!(running.next(|_| Ok(())).unwrap(), HB_END);
        assert_eq!(running.report().unwrap().finish_reason, HB_FINISH_FAILED);
        assert!(session.lend().is_ok());
    }
}
