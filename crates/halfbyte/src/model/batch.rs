//! What goes into a pass over the decoder, and what comes out.

use crate::cancel::Cancel;
use crate::nn::KvCache;

/// What a [`Step`] wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing: only fill the cache.
    Nothing,
    /// Logits of the last new token.
    LastLogits,
    /// Logits of every new token.
    AllLogits,
    /// The last hidden states (after the final norm) of every new token.
    Hidden,
}

/// Some new tokens of one sequence.
#[derive(Debug)]
pub struct Step<'a> {
    /// The sequence so far; the new tokens are appended.
    pub cache: &'a mut KvCache,
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// What to compute for them.
    pub want: Want,
}

/// Steps of many sequences, computed in one pass.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// The steps; each cache belongs to one step.
    pub steps: Vec<Step<'a>>,
    /// Stops the pass when pulled; the caches stay as they were.
    pub cancel: Option<&'a Cancel>,
}

/// What the steps of a batch wanted, row after row in step order.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Logits, (rows, V).
    pub logits: Vec<f32>,
    /// Hidden states, (rows, E).
    pub hidden: Vec<f32>,
}

impl Step<'_> {
    /// Rows of logits that the step wants.
    pub(super) fn n_logits(&self) -> usize {
        match self.want {
            Want::Nothing | Want::Hidden => 0,
            Want::LastLogits => 1,
            Want::AllLogits => self.tokens.len(),
        }
    }
}

/// The rows of a pass whose hidden states are wanted, and those whose logits are.
pub(super) fn wanted_rows(steps: &[Step<'_>]) -> (Vec<usize>, Vec<usize>) {
    let (mut for_hidden, mut for_logits) = (Vec::new(), Vec::new());
    let mut row = 0;
    for step in steps {
        let end = row + step.tokens.len();
        for_logits.extend(end - step.n_logits()..end);
        if step.want == Want::Hidden {
            for_hidden.extend(row..end);
        }
        row = end;
    }
    (for_hidden, for_logits)
}
