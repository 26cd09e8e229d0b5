//! What the members of the pool are for.

use std::sync::Arc;

use halfbyte::Model;
use halfbyte::generate::Work;

use super::Choice;
use super::order::Client;
use crate::grammar::Grammar;

/// New tokens for which there is room beforehand.
pub(super) const STEP: usize = 256;

/// A member of the pool, and what comes after it.
pub(super) struct Active {
    pub(super) client: Arc<Client>,
    pub(super) stage: Stage,
    /// Sequences that it stands for.
    pub(super) n_sequences: usize,
    /// Tokens for which there is room.
    pub(super) n_reserved: usize,
    /// Tokens that it may come to.
    pub(super) n_most: usize,
    /// Tokens that are counted with others that began with the same prompt.
    pub(super) n_shared: usize,
    /// Tokens of the prompt that need not be read, if this is the first answer to it.
    pub(super) n_cached: usize,
}

pub(super) enum Stage {
    /// A text is read for its vector.
    Embed { job: usize },
    /// A prompt is read, for its scores if `scored`, and then answered.
    Read { job: usize, scored: bool, tokens: Vec<u32>, choices: Vec<Choice> },
    /// An answer is written.
    Write { index: usize, grammar: Option<Arc<Grammar>> },
}

impl Active {
    /// Bytes of keys and values that are set aside for it.
    pub(super) fn n_bytes(&self, model: &Model) -> usize {
        model.cache_bytes(self.n_reserved.saturating_sub(self.n_shared))
    }

    /// The grammar that it follows, if it is an answer with one.
    pub(super) fn grammar(&self) -> Option<&Arc<Grammar>> {
        match &self.stage {
            Stage::Write { grammar, .. } => grammar.as_ref(),
            _ => None,
        }
    }

    /// Whether `work` needs more room than it has; then it gets more.
    pub(super) fn grow(&mut self, work: &Work<'_>) -> bool {
        let n_tokens = work.session().tokens().len();
        let grows = matches!(self.stage, Stage::Write { .. }) && n_tokens >= self.n_reserved;
        if grows {
            self.n_reserved = self.n_most.min(n_tokens + STEP).max(n_tokens);
        }
        grows
    }
}
