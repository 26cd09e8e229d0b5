//! Types that several endpoints share.

use schemars::JsonSchema;
use serde::Serialize;

/// An error, as OpenAI's API has it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong, and with which field.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ErrorDetail {
    /// What is wrong, and what would be right.
    pub message: String,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field of the request that is at fault.
    pub param: Option<String>,
    /// The error in one word, such as `context_length_exceeded`.
    pub code: Option<String>,
}

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Usage {
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// New tokens.
    pub completion_tokens: usize,
    /// Their sum.
    pub total_tokens: usize,
    /// More about the prompts.
    pub prompt_tokens_details: PromptDetails,
}

/// More about the tokens of the prompts.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct PromptDetails {
    /// Those that an earlier request had read already.
    pub cached_tokens: usize,
}

impl Usage {
    /// Both numbers and their sum.
    #[must_use]
    pub fn new(prompt_tokens: usize, completion_tokens: usize, cached_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }
}

/// The models that are served: one.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// The models.
    pub data: Vec<ModelCard>,
}

/// A model that is served.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelCard {
    /// The name to ask for it.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// `halfbyte`.
    pub owned_by: &'static str,
    /// Tokens that a prompt and its answer may have together (not in OpenAI's API).
    pub context_length: usize,
    /// The architecture, such as `llama` (not in OpenAI's API).
    pub architecture: String,
    /// Where the chat template comes from, and its name; absent without one (not in OpenAI's API).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
}

/// Whether the server takes requests.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Health {
    /// `ok`, or `stopping` during a shutdown.
    pub status: &'static str,
}
