//! `/v1/responses`: OpenAI's newer form of a conversation, without what servers would have to keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::request::{Ignored, Neutral, Refused};

/// Asks for an answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseRequest {
    /// A text of the user, or messages.
    pub input: ResponseInput,
    /// A message of the system in front.
    #[serde(default)]
    pub instructions: Option<String>,
    /// New tokens at most. Default what the context has room for.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// Divides the logits; 0 takes the most probable token every time. Default 1.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: Option<f32>,
    /// Draws from the smallest set of tokens with this probability in all. Default 1.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f32>,
    /// The same seed gives the same answer (not in OpenAI's API). Default random.
    #[serde(default)]
    pub seed: Option<i64>,
    /// What the answer must look like. Default text.
    #[serde(default)]
    pub text: Option<TextOptions>,
    /// Whether the answer comes in server-sent events as it is written. Default false.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Any name; the one model that is served answers. Without meaning here.
    #[serde(default)]
    pub model: Option<String>,
    /// Without meaning here.
    #[serde(default)]
    pub user: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub metadata: Option<Ignored>,
    /// Without meaning here: nothing is kept.
    #[serde(default)]
    pub store: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub service_tier: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub safety_identifier: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub prompt_cache_key: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub parallel_tool_calls: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub stream_options: Option<Ignored>,
    /// Not supported: send the conversation.
    #[serde(default)]
    pub previous_response_id: Option<Refused>,
    /// Not supported: send the conversation.
    #[serde(default)]
    pub conversation: Option<Refused>,
    /// Not supported; use `/v1/chat/completions`.
    #[serde(default)]
    pub tools: Option<Neutral>,
    /// `auto` or `none` at most: there are no tools here.
    #[serde(default)]
    pub tool_choice: Option<Neutral>,
    /// `disabled` at most: nothing is ever left out.
    #[serde(default)]
    pub truncation: Option<Neutral>,
    /// An empty list at most.
    #[serde(default)]
    pub include: Option<Neutral>,
    /// 0 at most.
    #[serde(default)]
    pub top_logprobs: Option<Neutral>,
    /// Not supported.
    #[serde(default)]
    pub reasoning: Option<Refused>,
    /// Not supported.
    #[serde(default)]
    pub background: Option<Neutral>,
}

/// A text of the user, or messages.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum ResponseInput {
    /// A text.
    Text(String),
    /// Messages, oldest first.
    Items(Vec<InputItem>),
}

super::one_or_many::text_or_list!(ResponseInput, InputItem, Text, Items);

/// A message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputItem {
    /// `message`, if it is there.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// `system` (or `developer`), `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: InputContent,
    /// Without meaning here.
    #[serde(default)]
    pub id: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub status: Option<Ignored>,
}

/// A text, or a list of parts that are texts.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum InputContent {
    /// A text.
    Text(String),
    /// Parts, which are joined.
    Parts(Vec<InputPart>),
}

super::one_or_many::text_or_list!(InputContent, InputPart, Text, Parts);

/// A part of a message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputPart {
    /// `input_text` or `output_text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// Without meaning here.
    #[serde(default)]
    pub annotations: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub logprobs: Option<Ignored>,
}

/// What an answer must look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextOptions {
    /// Default text.
    #[serde(default)]
    pub format: Option<TextFormat>,
}

/// What an answer must look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema's name; without meaning here.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for; without meaning here.
    #[serde(default)]
    pub description: Option<String>,
    /// The schema. Default any object.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Without meaning here: the schema is always followed.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResponseObject {
    /// A name for this answer.
    pub id: String,
    /// `response`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// Why it is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// Always null: errors have answers of their own.
    pub error: Option<Value>,
    /// The system's message.
    pub instructions: Option<String>,
    /// The model.
    pub model: String,
    /// The answer's message.
    pub output: Vec<ResponseItem>,
    /// Always false.
    pub parallel_tool_calls: bool,
    /// As it was asked for.
    pub temperature: f32,
    /// As it was asked for.
    pub top_p: f32,
    /// Always `none`.
    pub tool_choice: &'static str,
    /// Always empty.
    pub tools: Vec<Value>,
    /// Always empty.
    pub metadata: Map<String, Value>,
    /// Tokens, at the end.
    pub usage: Option<ResponseUsage>,
}

/// Why an answer is incomplete.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IncompleteDetails {
    /// `max_output_tokens`.
    pub reason: &'static str,
}

/// A message of an answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResponseItem {
    /// `message`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its name.
    pub id: String,
    /// As the answer's.
    pub status: &'static str,
    /// `assistant`.
    pub role: &'static str,
    /// One part.
    pub content: Vec<ResponsePart>,
}

/// A part of a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResponsePart {
    /// `output_text`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// Always empty.
    pub annotations: Vec<Value>,
    /// Always empty.
    pub logprobs: Vec<Value>,
}

/// Tokens that an answer took.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct ResponseUsage {
    /// Tokens of the prompt.
    pub input_tokens: usize,
    /// More about them.
    pub input_tokens_details: InputDetails,
    /// New tokens.
    pub output_tokens: usize,
    /// More about them.
    pub output_tokens_details: OutputDetails,
    /// Their sum.
    pub total_tokens: usize,
}

/// More about the tokens of the prompt.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct InputDetails {
    /// Those that an earlier request had read already.
    pub cached_tokens: usize,
}

/// More about the new tokens.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct OutputDetails {
    /// Always 0.
    pub reasoning_tokens: usize,
}

/// An event of a streamed answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResponseEvent {
    /// What happened, such as `response.output_text.delta`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The events are counted from 0.
    pub sequence_number: usize,
    /// What belongs to this kind of event.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}
