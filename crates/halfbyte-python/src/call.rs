//! Long calls: off the interpreter lock, stopped by Ctrl-C, with progress on the caller's thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use halfbyte::generate::LogitsProcessor;
use halfbyte::{Cancel, Hooks, Progress};
use pyo3::prelude::*;

use crate::error::{exception, raise};
use crate::processor::{Function, Processor};

/// How long a waiting thread sleeps before it looks for Ctrl-C and reports progress.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// One long call: its brake, what it has reached, and what a callback raised meanwhile.
#[derive(Clone)]
pub(crate) struct Call {
    cancel: Cancel,
    /// The process that it began in.
    process: u32,
    progress: Option<Arc<Py<PyAny>>>,
    reached: Arc<Reached>,
    fault: Fault,
}

/// How far the work is: (done, total).
#[derive(Default)]
struct Reached {
    done: AtomicU64,
    total: AtomicU64,
}

/// Keeps the first exception of a callback, which ends the work.
#[derive(Clone, Default)]
pub(crate) struct Fault {
    cancel: Cancel,
    raised: Arc<Mutex<Option<PyErr>>>,
}

type Outcome<T> = Result<T, Box<dyn Any + Send>>;

impl Fault {
    /// Stops the work; the caller raises `error`.
    pub(crate) fn set(&self, error: PyErr) {
        self.cancel.cancel();
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Whether the work is to end.
    pub(crate) fn is_set(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn take(&self) -> PyResult<()> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        raised.map_or(Ok(()), Err)
    }
}

impl Call {
    /// A call that tells `progress(done, total)` how far it is.
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        let cancel = Cancel::new();
        let fault = Fault { cancel: cancel.clone(), ..Fault::default() };
        Self {
            cancel,
            process: std::process::id(),
            progress: progress.map(Arc::new),
            reached: Arc::default(),
            fault,
        }
    }

    /// What stops the work.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What the work tells how far it is, if anybody listens.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.progress.as_ref().map(|_| {
            let reached = self.reached.clone();
            Progress::new(move |done, total| reached.set(done, total))
        })
    }

    /// The brake and the progress as hooks.
    pub(crate) fn hooks(&self) -> Hooks {
        Hooks { progress: self.progress(), ..Hooks::cancelled_by(&self.cancel) }
    }

    /// `function` as a logits processor that ends this call when it raises.
    pub(crate) fn processor(&self, function: &Function) -> Option<Arc<dyn LogitsProcessor>> {
        let processor = Processor { function: function.clone(), fault: self.fault.clone() };
        function.is_some().then(|| Arc::new(processor) as Arc<dyn LogitsProcessor>)
    }

    /// Does `work`, whose errors are the core's.
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> halfbyte::Result<T> + Send,
    ) -> PyResult<T> {
        // Whatever stopped the work says more than that it was stopped.
        let result = self.run_plain(py, work)?;
        result.map_err(raise)
    }

    /// Does `work` while other Python threads run.
    ///
    /// Signals reach only Python's main thread, and only while it executes Python; so there (and
    /// where progress is wanted) the work is done by a thread of its own, and the caller waits.
    pub(crate) fn run_plain<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> T + Send,
    ) -> PyResult<T> {
        check_process(self.process)?;
        if !(self.progress.is_some() || is_main_thread(py)?) {
            return self.run_here(py, work);
        }
        let outcome = self.run_watched(py, work)?;
        self.conclude(outcome)
    }

    /// Does `work` on the caller's thread, which hears of Ctrl-C only afterwards.
    pub(crate) fn run_here<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> T + Send,
    ) -> PyResult<T> {
        check_process(self.process)?;
        let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
        self.conclude(outcome)
    }

    /// The result, unless a callback raised or the work panicked.
    fn conclude<T>(&self, outcome: Outcome<T>) -> PyResult<T> {
        self.fault.take()?;
        outcome.map_err(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            let words = words.unwrap_or("no message");
            exception("Error", (format!("internal error, please report it: {words}"),))
        })
    }

    fn run_watched<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> T + Send,
    ) -> PyResult<Outcome<T>> {
        std::thread::scope(|scope| {
            let (sender, mut receiver) = mpsc::sync_channel(1);
            let body = move || drop(sender.send(catch_unwind(AssertUnwindSafe(work))));
            std::thread::Builder::new().name("halfbyte-call".into()).spawn_scoped(scope, body)?;
            let (mut seen, mut interrupt) = (0, Ok(()));
            loop {
                let message;
                (receiver, message) = py.detach(move || {
                    let message = receiver.recv_timeout(TICK);
                    (receiver, message)
                });
                if interrupt.is_ok() {
                    interrupt = py.check_signals().and_then(|()| self.report(py, &mut seen));
                    if interrupt.is_err() {
                        self.cancel.cancel();
                    }
                }
                match message {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Ok(outcome) => return interrupt.map(|()| outcome),
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        return Err(exception("Error", ("internal error: a thread was lost",)));
                    }
                }
            }
        })
    }

    /// Tells the progress callback what is new since it was last told.
    fn report(&self, py: Python<'_>, seen: &mut u64) -> PyResult<()> {
        let Some(progress) = &self.progress else { return Ok(()) };
        let total = self.reached.total.load(Ordering::Acquire);
        let done = self.reached.done.load(Ordering::Relaxed);
        if total > 0 && done != *seen {
            *seen = done;
            progress.call1(py, (done, total))?;
        }
        Ok(())
    }
}

impl Reached {
    fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Release);
    }
}

/// An error in a forked child: threads, and so models, stay behind in the parent.
pub(crate) fn check_process(process: u32) -> PyResult<()> {
    let here = std::process::id();
    if here == process {
        return Ok(());
    }
    let message = format!(
        "the model was loaded in process {process}, of which this process {here} is a fork; \
         threads do not survive a fork, so open the model in the child, or start it with \
         multiprocessing's \"spawn\" method"
    );
    Err(exception("ForkError", (message,)))
}

/// Whether this is the thread that Python handles signals on.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}
