//! A running generation, taken piece by piece or to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use halfbyte::generate::{Timings, Usage};
use halfbyte::{Completion, FinishReason, Generation as Running, Hooks, Piece};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyString};

use crate::call::{Call, TICK};
use crate::error::{busy, raise};
use crate::options;
use crate::processor::Function;
use crate::session::Slot;

/// (text, token, logprob, [(token, logprob), …]) of a piece.
pub(crate) type Written = (String, u32, Option<f32>, Vec<(u32, f32)>);

/// (text, why it ended, the stop text, tokens of (prompt, reused, new), seconds of (prompt,
/// decoding), seed).
pub(crate) type Report =
    (String, Option<&'static str>, Option<String>, (usize, usize, usize), (f64, f64), u64);

/// (pieces, report) of one prompt of a batch.
#[derive(IntoPyObject)]
pub(crate) struct Batched(Vec<Written>, Report);

/// Where the session goes when the generation ends.
pub(crate) enum Home {
    Nowhere,
    Session(Slot<halfbyte::Session>),
    /// The conversation waits here for its answer.
    Chat(Slot<halfbyte::Chat>, Box<halfbyte::Chat>),
}

/// A running generation; `halfbyte.Stream` holds one.
#[pyclass(frozen, module = "halfbyte._native")]
pub(crate) struct Generation {
    call: Call,
    /// The caller's logits processor.
    function: Function,
    state: Mutex<State>,
    home: Mutex<Home>,
    /// Whether the last piece took less time than a look for Ctrl-C waits.
    is_quick: AtomicBool,
}

/// A whole text that a generation goes on from.
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    /// A text or token ids.
    pub(crate) fn new(prompt: &Bound<'_, PyAny>) -> PyResult<Self> {
        if prompt.is_instance_of::<PyString>() {
            return Ok(Self::Text(prompt.extract()?));
        }
        Ok(Self::Tokens(options::field("prompt", prompt)?))
    }
}

enum State {
    Ready(Box<Running<'static>>),
    /// A thread is computing; this was known before.
    Busy(Report),
    Ended(Report),
}

impl Generation {
    /// Starts on `session`; without a prompt on what it holds.
    pub(crate) fn start(
        mut session: halfbyte::Session,
        prompt: Option<&Bound<'_, PyAny>>,
        options: &Bound<'_, PyDict>,
        processor: Option<Py<PyAny>>,
        home: Home,
    ) -> PyResult<Self> {
        let config = options::generation(options)?;
        let call = Call::new(None);
        let mut hooks = call.hooks();
        let function = Function::new(processor);
        hooks.processor = call.processor(&function);
        session.set_hooks(hooks);
        let prompt = prompt.map(Prompt::new).transpose()?;
        // A long text takes its time to become tokens.
        let running = call.run(options.py(), || match prompt {
            Some(Prompt::Text(text)) => session.into_generation(&text, &config),
            Some(Prompt::Tokens(tokens)) => session.into_generation_tokens(&tokens, &config),
            None => session.into_resumed(&config),
        });
        Ok(Self::new(call, function, running?, home))
    }

    pub(crate) fn new(
        call: Call,
        function: Function,
        running: Running<'static>,
        home: Home,
    ) -> Self {
        let state = Mutex::new(State::Ready(Box::new(running)));
        Self { call, function, state, home: Mutex::new(home), is_quick: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the generation to `work`; `None` if it has ended.
    ///
    /// The lock is never held while Python may run, or two threads could wait for each other.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        is_quick: bool,
        work: impl FnOnce(&mut Running<'static>) -> T + Send,
    ) -> PyResult<Option<T>> {
        let Some(mut running) = self.take()? else { return Ok(None) };
        let result = if is_quick {
            self.call.run_here(py, || work(&mut running))
        } else {
            self.call.run_plain(py, || work(&mut running))
        };
        let has_ended = running.finish_reason().is_some();
        *self.state() = State::Ready(running);
        // Asked afterwards: a `close` until then found it busy and left it to this thread.
        if has_ended || result.is_err() || self.call.cancel().is_cancelled() {
            self.settle();
        }
        result.map(Some)
    }

    /// Takes the generation out; `None` if it has ended.
    fn take(&self) -> PyResult<Option<Box<Running<'static>>>> {
        let mut state = self.state();
        match &*state {
            State::Ready(running) => {
                let busy = State::Busy(report_of(running));
                match std::mem::replace(&mut *state, busy) {
                    State::Ready(running) => Ok(Some(running)),
                    State::Busy(_) | State::Ended(_) => Ok(None),
                }
            }
            State::Busy(_) => Err(busy("the stream")),
            State::Ended(_) => Ok(None),
        }
    }

    /// Ends it here: the session goes home, and what was asked about it stays. While a thread
    /// computes, that thread ends it.
    fn settle(&self) {
        let mut state = self.state();
        if let State::Ready(running) = &*state {
            let ended = State::Ended(report_of(running));
            if let State::Ready(running) = std::mem::replace(&mut *state, ended) {
                drop(state);
                self.go_home(*running);
            }
        }
    }

    fn go_home(&self, running: Running<'static>) {
        let mut place = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let home = std::mem::replace(&mut *place, Home::Nowhere);
        // Letting go of the processor may run Python, which may come here again.
        drop(place);
        match home {
            Home::Nowhere => drop(running),
            Home::Session(slot) => {
                let mut session = running.into_session();
                session.set_hooks(Hooks::default());
                slot.put(session);
            }
            Home::Chat(slot, mut chat) => {
                chat.accept(running);
                chat.set_hooks(Hooks::default());
                slot.put(*chat);
            }
        }
        self.function.forget();
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.settle();
    }
}

#[pymethods]
impl Generation {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.function.traverse(&visit)
    }

    fn __clear__(&self) {
        self.function.forget();
    }

    /// The next piece, None at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Written>> {
        let start = Instant::now();
        let piece = self.with(py, self.is_quick.load(Ordering::Relaxed), Iterator::next)?;
        self.is_quick.store(start.elapsed() < TICK, Ordering::Relaxed);
        match piece.flatten() {
            Some(Ok(piece)) => Ok(Some(written(piece))),
            Some(Err(error)) => {
                self.settle();
                Err(raise(error))
            }
            None => Ok(None),
        }
    }

    /// All pieces that are left.
    fn finish(&self, py: Python<'_>) -> PyResult<Vec<Written>> {
        let all = |running: &mut Running<'static>| running.collect::<halfbyte::Result<Vec<_>>>();
        match self.with(py, false, all)?.unwrap_or(Ok(Vec::new())) {
            Ok(pieces) => Ok(pieces.into_iter().map(written).collect()),
            Err(error) => {
                self.settle();
                Err(raise(error))
            }
        }
    }

    /// Stops a running computation from another thread.
    fn cancel(&self) {
        self.call.cancel().cancel();
    }

    /// Ends it: the session is free again, with the tokens so far.
    fn close(&self) {
        self.cancel();
        self.settle();
    }

    /// What is known about it so far; while a thread computes, what was known before.
    fn report(&self) -> Report {
        match &*self.state() {
            State::Ready(running) => report_of(running),
            State::Busy(report) | State::Ended(report) => report.clone(),
        }
    }
}

fn written(piece: Piece) -> Written {
    let top = piece.top_logprobs.iter().map(|top| (top.token, top.logprob)).collect();
    (piece.text, piece.token, piece.logprob, top)
}

fn report_of(running: &Running<'static>) -> Report {
    let (reason, stop) = ending(running.finish_reason());
    let text = running.text().to_owned();
    (text, reason, stop, usage(running.usage()), seconds(running.timings()), running.seed())
}

fn usage(usage: Usage) -> (usize, usize, usize) {
    (usage.prompt_tokens, usage.reused_tokens, usage.new_tokens)
}

fn seconds(timings: Timings) -> (f64, f64) {
    (timings.prompt.as_secs_f64(), timings.decode.as_secs_f64())
}

fn ending(reason: Option<&FinishReason>) -> (Option<&'static str>, Option<String>) {
    let stop = match reason {
        Some(FinishReason::StopString(text)) => Some(text.clone()),
        _ => None,
    };
    (reason.map(FinishReason::name), stop)
}

impl From<Completion> for Batched {
    fn from(done: Completion) -> Self {
        let (reason, stop) = ending(Some(&done.finish_reason));
        let numbers = (usage(done.usage), seconds(done.timings));
        let report = (done.text, reason, stop, numbers.0, numbers.1, done.seed);
        Self(done.pieces.into_iter().map(written).collect(), report)
    }
}
