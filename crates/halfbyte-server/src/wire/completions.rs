//! `/v1/completions`: text that goes on from a prompt.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::request::{Refused, generation_request};
use super::{Prompt, Usage};

generation_request! {
    /// Asks for text that goes on from prompts.
    pub struct CompletionRequest {
        /// What to go on from: a text or its tokens, or a list of either. A text is read with BOS in
        /// front if the model wants it, tokens are read as they are.
        pub prompt: Prompt,
        /// New tokens at most. Default 16.
        #[serde(default)]
        pub max_tokens: Option<u32>,
        /// Gives the prompt back in front of the answer, with `logprobs` also its scores.
        #[serde(default)]
        pub echo: Option<bool>,
        /// Reports each token's log-probability under the model itself, and those of this many most
        /// probable tokens, at most 20.
        #[serde(default)]
        #[schemars(range(max = 20))]
        pub logprobs: Option<u32>,
        /// Only the number of answers, `n`.
        #[serde(default)]
        pub best_of: Option<u32>,
        /// Not supported.
        #[serde(default)]
        pub suffix: Option<Refused>,
    }
}

/// Text that goes on from prompts; the same with less in it for an event of a stream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Completion {
    /// A name for this answer.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model.
    pub model: String,
    /// Identifies the weights: equal requests with a seed give equal answers as long as it is equal.
    pub system_fingerprint: String,
    /// The answers: those to the first prompt, then those to the second, and so on.
    pub choices: Vec<CompletionChoice>,
    /// Tokens; in a stream in the last event, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CompletionChoice {
    /// Which of the answers this is.
    pub index: usize,
    /// The text.
    pub text: String,
    /// The tokens' scores, if asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; in a stream null before the end.
    pub finish_reason: Option<&'static str>,
}

/// Scores of tokens, in lists of equal lengths.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct CompletionLogprobs {
    /// Where each token's text begins, in characters from the start of the choice's text.
    pub text_offset: Vec<usize>,
    /// Log-probabilities; null for the first token of a prompt, which nothing predicts.
    pub token_logprobs: Vec<Option<f64>>,
    /// The tokens as texts, or `bytes:\xNN…` for those that are no whole characters.
    pub tokens: Vec<String>,
    /// The most probable tokens in each place.
    pub top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
}
