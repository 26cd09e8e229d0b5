//! Sessions: one text in the making, kept between calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::adapter::{Scaled, list};
use crate::call::{Call, check_process};
use crate::error::{busy, closed, raise};
use crate::generation::{Generation, Home};
use crate::options;

/// A place for a value that is lent to one user at a time.
///
/// The lock is held for a moment only, never while something is computed or Python runs.
pub(crate) struct Slot<T>(Arc<Mutex<Lent<T>>>);

enum Lent<T> {
    Here(Box<T>),
    Away,
    Closed,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Lent::Here(Box::new(value)))))
    }

    /// Takes the value out, if it is there.
    pub(crate) fn take(&self) -> Option<T> {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *lent, Lent::Away) {
            Lent::Here(value) => Some(*value),
            other => {
                *lent = other;
                None
            }
        }
    }

    /// Takes the value out, or says why it is not there.
    pub(crate) fn lend(&self, what: &str) -> PyResult<T> {
        self.take().ok_or_else(|| if self.is_closed() { closed(what) } else { busy(what) })
    }

    /// Puts the value back, or drops it if it was closed meanwhile.
    pub(crate) fn put(&self, value: T) {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*lent, Lent::Closed) {
            *lent = Lent::Here(Box::new(value));
        }
    }

    /// Drops the value, now or when it is put back.
    pub(crate) fn close(&self) {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *lent, Lent::Closed);
        // Dropping may run Python, which may come here again.
        drop(lent);
        drop(old);
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Lent::Closed)
    }
}

const WHAT: &str = "the session";

/// A session; `halfbyte.Session` holds one.
#[pyclass(frozen, module = "halfbyte._native")]
pub(crate) struct Session {
    slot: Slot<halfbyte::Session>,
    process: u32,
}

impl Session {
    /// A session of a model that `process` loaded.
    pub(crate) fn new(session: halfbyte::Session, process: u32) -> Self {
        Self { slot: Slot::new(session), process }
    }

    /// Lends the session to quick work.
    fn with<T>(&self, work: impl FnOnce(&mut halfbyte::Session) -> T) -> PyResult<T> {
        check_process(self.process)?;
        let mut session = self.slot.lend(WHAT)?;
        let result = work(&mut session);
        self.slot.put(session);
        Ok(result)
    }

    /// Lends the session to long work.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut halfbyte::Session) -> halfbyte::Result<T> + Send,
    ) -> PyResult<T> {
        check_process(self.process)?;
        let mut session = self.slot.lend(WHAT)?;
        let call = Call::new(None);
        session.set_hooks(call.hooks());
        let result = call.run(py, || work(&mut session));
        self.slot.put(session);
        result
    }
}

#[pymethods]
impl Session {
    /// The token ids so far.
    fn tokens(&self) -> PyResult<Vec<u32>> {
        self.with(|session| session.tokens().to_vec())
    }

    /// The text so far; special tokens are left out.
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        self.run(py, |session| Ok(session.model().tokenizer()?.decode(session.tokens())))
    }

    /// Bytes of keys and values in memory.
    fn cache_bytes(&self) -> PyResult<usize> {
        self.with(|session| session.cache_bytes())
    }

    /// A generation; the prompt is the whole text, or token ids, or None to go on.
    #[pyo3(signature = (prompt, options: "dict[str, Any]", processor))]
    fn generate(
        &self,
        prompt: Option<&Bound<'_, PyAny>>,
        options: &Bound<'_, PyDict>,
        processor: Option<Py<PyAny>>,
    ) -> PyResult<Generation> {
        check_process(self.process)?;
        let session = self.slot.lend(WHAT)?;
        let home = Home::Session(self.slot.clone());
        let started = Generation::start(session.fork(), prompt, options, processor, home);
        if started.is_err() {
            self.slot.put(session);
        }
        started
    }

    /// Appends a text and computes its keys and values.
    fn append(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        self.run(py, |session| session.append(text))
    }

    /// Appends token ids and computes their keys and values.
    fn append_tokens(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<()> {
        let tokens: Vec<u32> = options::field("tokens", tokens)?;
        self.run(py, |session| session.append_tokens(&tokens))
    }

    /// Reads tokens with these adapters, each times its number, from here on.
    fn set_adapters(&self, adapters: Scaled<'_>) -> PyResult<()> {
        let adapters = list(&adapters);
        self.with(|session| session.set_adapters(&adapters))?.map_err(raise)
    }

    /// Forgets all tokens from `n_tokens` on.
    fn truncate(&self, n_tokens: &Bound<'_, PyAny>) -> PyResult<()> {
        let n_tokens = options::field("n_tokens", n_tokens)?;
        self.with(|session| session.truncate(n_tokens))
    }

    /// An independent copy that goes on from here.
    fn fork(&self) -> PyResult<Self> {
        self.with(|session| Self::new(session.fork(), self.process))
    }

    /// Writes the session to a file.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.run(py, |session| session.save(path))
    }

    /// Replaces the session by one from a file.
    fn load(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.run(py, |session| {
            *session = halfbyte::Session::load(session.model(), path)?;
            Ok(())
        })
    }

    /// Lets go of tokens, keys and values.
    fn close(&self) {
        self.slot.close();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }
}
