//! What a generation gives: pieces while it runs, a completion at its end.

use std::time::Duration;

/// One new token and the text that it made certain.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Text that is now certain; empty while a character or a possible stop string is incomplete.
    pub text: String,
    /// The token. The model's end token comes as the last piece, with what was held back.
    pub token: u32,
    /// The token's log-probability under the model itself, if `logprobs` asked for it.
    pub logprob: Option<f32>,
    /// The most probable tokens, best first, as many as `logprobs` asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A token and its natural-log probability under the model itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its log-probability, before penalties, temperature and filters.
    pub logprob: f32,
}

/// A given token, and how probable it was in its place under the model itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// The token.
    pub token: u32,
    /// Its natural-log probability after all tokens before it.
    pub logprob: f64,
    /// The most probable tokens in its place and their log-probabilities, best first, as many as
    /// were asked for.
    pub top_logprobs: Vec<(u32, f64)>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model said that it is done (its end token).
    Stop,
    /// This stop string was generated.
    StopString(String),
    /// `max_new_tokens` or the end of the context was reached.
    Length,
    /// The [`Cancel`](crate::Cancel) handle was pulled.
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length` or `cancelled`: OpenAI's words where there is one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stop | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Tokens of a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose keys and values the session still had.
    pub reused_tokens: usize,
    /// New tokens, the end token included.
    pub new_tokens: usize,
}

/// Time that a generation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Until the first token was drawn.
    pub prompt: Duration,
    /// All later tokens.
    pub decode: Duration,
}

/// A generation that came to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The new text.
    pub text: String,
    /// The pieces that the text was made of.
    pub pieces: Vec<Piece>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens.
    pub usage: Usage,
    /// Time.
    pub timings: Timings,
    /// The seed that gives this text again.
    pub seed: u64,
}

impl Completion {
    /// The new tokens.
    pub fn tokens(&self) -> Vec<u32> {
        self.pieces.iter().map(|piece| piece.token).collect()
    }
}
