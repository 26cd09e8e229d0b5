//! What the members of the pool are for.

use std::sync::Arc;

use super::Choice;
use super::order::Client;
use crate::grammar::Grammar;

/// A member of the pool, and what comes after it.
pub(super) struct Active {
    pub(super) client: Arc<Client>,
    pub(super) stage: Stage,
    /// Sequences that it stands for.
    pub(super) n_sequences: usize,
    /// Bytes of keys and values that it may come to.
    pub(super) n_bytes: usize,
}

pub(super) enum Stage {
    /// A text is read for its vector.
    Embed { job: usize },
    /// A prompt is read, for its scores if `scored`, and then answered.
    Read { job: usize, scored: bool, tokens: Vec<u32>, choices: Vec<Choice> },
    /// An answer is written.
    Write { index: usize, grammar: Option<Arc<Grammar>> },
}
