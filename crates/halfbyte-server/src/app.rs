//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use halfbyte::{ChatTemplate, Model};

use crate::apart::Threads;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammars;
use crate::guard::Pace;
use crate::metrics::Metrics;
use crate::options::Options;

/// The server's parts. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: Model,
    /// The model's name.
    pub(crate) id: String,
    /// When the server began, in seconds since 1970.
    pub(crate) created: u64,
    /// Identifies the weights.
    pub(crate) fingerprint: String,
    pub(crate) engine: Engine,
    pub(crate) grammars: Grammars,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: Options,
    pub(crate) pace: Pace,
    pub(crate) threads: Threads,
    template: Result<ChatTemplate, String>,
    stopping: AtomicBool,
    /// Names for answers: when the server began, and a count.
    n_answers: AtomicU64,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(
        model: Model,
        engine: Engine,
        metrics: Arc<Metrics>,
        options: Options,
    ) -> Self {
        let stem = || {
            let stem = model.path().file_stem()?.to_str()?;
            Some(stem.to_owned()).filter(|stem| !stem.is_empty())
        };
        let id = options.name.clone().or_else(stem).unwrap_or_else(|| "halfbyte".to_owned());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let fingerprint = format!("hb_{}", hex(&model.fingerprint()[..8]));
        Self(Arc::new(Shared {
            id,
            created: now(),
            fingerprint,
            engine,
            grammars: Grammars::new(model.clone()),
            metrics,
            pace: Pace::new(options.requests_per_second),
            options,
            threads: Threads::default(),
            template: model.chat_template().map_err(|error| error.to_string()),
            model,
            stopping: AtomicBool::new(false),
            n_answers: AtomicU64::new(0),
        }))
    }
}

impl Shared {
    /// The model's chat template.
    pub(crate) fn template(&self) -> ApiResult<&ChatTemplate> {
        let missing = |reason: &String| ApiError::invalid("messages", reason.clone());
        self.template.as_ref().map_err(missing)
    }

    /// A name for an answer.
    pub(crate) fn answer_id(&self, kind: &str) -> String {
        let n = self.n_answers.fetch_add(1, Ordering::Relaxed);
        format!("{kind}-{:x}-{n:x}", self.created)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
