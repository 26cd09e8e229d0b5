//! What a forward pass is given, and what it gives back.

use super::cache::KvCache;
use crate::cancel::Cancel;
use crate::nn::{Bias, BlockCache};

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
///
/// An encoder-decoder model's sequence is its prompt, which the encoder reads, and the answer. Only
/// the prompt's last token and those of the answer have logits, only the prompt has hidden states,
/// and all of them come in one step. The prompt ends where
/// [`end_prompt_at`](KvCache::end_prompt_at) says, else with the first step that wants logits.
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

/// New tokens of one sequence, as the blocks see them.
#[derive(Debug)]
pub(super) struct Seq<'a> {
    /// Keys and values of the tokens before, and the adapters that all are read with.
    pub(super) cache: &'a mut BlockCache,
    /// New tokens, at least one.
    pub(super) n: usize,
    pub(super) want: Want,
    /// Keys and values of the prompt, where the blocks look at one.
    pub(super) prompt: Option<&'a BlockCache>,
}

/// The rows of a pass: the new tokens of its sequences, one after the other.
#[derive(Debug)]
pub(super) struct Rows<'a, 's> {
    pub(super) seqs: &'a mut [Seq<'s>],
    /// Whether tokens see those that follow them, too: in an encoder.
    pub(super) both_ways: bool,
    /// What distances add to scores.
    pub(super) bias: Option<Bias<'a>>,
}

impl Want {
    /// Rows of logits that are wanted of `n` new tokens.
    pub(super) fn n_logits(self, n: usize) -> usize {
        match self {
            Self::Nothing | Self::Hidden => 0,
            Self::LastLogits => 1,
            Self::AllLogits => n,
        }
    }
}

/// The rows of a pass whose hidden states are wanted, and those whose logits are.
pub(super) fn wanted_rows(seqs: &[Seq<'_>]) -> (Vec<usize>, Vec<usize>) {
    let (mut for_hidden, mut for_logits) = (Vec::new(), Vec::new());
    let mut row = 0;
    for seq in seqs {
        let end = row + seq.n;
        for_logits.extend(end - seq.want.n_logits(seq.n)..end);
        if seq.want == Want::Hidden {
            for_hidden.extend(row..end);
        }
        row = end;
    }
    (for_hidden, for_logits)
}
