//! What a caller may hang into running work: a brake, a progress bar, an own logits processor.

use std::fmt;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::progress::Progress;

/// Changes logits before a token is drawn from them.
///
/// Runs after the penalties and the logit bias, and before temperature and the filters. It is given
/// the tokens so far (prompt and new ones, but not a prompt that an encoder reads) and the logits
/// (V); negative infinity forbids a token.
/// What it does should depend on nothing else, or the same seed gives another text.
/// One that cannot go on pulls the brake of the same [`Hooks`]: then no token is drawn.
/// Closures `Fn(&[u32], &mut [f32])` are processors.
pub trait LogitsProcessor: Send + Sync {
    /// Changes `logits` (V), the scores of the token that follows `tokens`.
    fn process(&self, tokens: &[u32], logits: &mut [f32]);
}

impl<F: Fn(&[u32], &mut [f32]) + Send + Sync> LogitsProcessor for F {
    fn process(&self, tokens: &[u32], logits: &mut [f32]) {
        self(tokens, logits);
    }
}

/// What a caller may hang into running work. All are optional; clones share them.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Stops the work within milliseconds, also in the middle of a prompt.
    pub cancel: Option<Cancel>,
    /// Hears (tokens done, tokens in all) while a prompt or a text is processed.
    pub progress: Option<Progress>,
    /// Changes logits before a token is drawn.
    pub processor: Option<Arc<dyn LogitsProcessor>>,
}

impl Hooks {
    /// Hooks with only a brake.
    pub fn cancelled_by(cancel: &Cancel) -> Self {
        Self { cancel: Some(cancel.clone()), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)
    }

    pub(crate) fn report(&self, done: usize, total: usize) {
        if let Some(progress) = &self.progress {
            progress.report(done as u64, total as u64);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("cancel", &self.cancel)
            .field("progress", &self.progress)
            .field("processor", &self.processor.is_some())
            .finish()
    }
}
