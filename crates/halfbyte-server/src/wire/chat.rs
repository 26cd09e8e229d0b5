//! `/v1/chat/completions`: the next message of a conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Usage;
use super::request::{Ignored, Neutral, Refused, generation_request};

generation_request! {
    /// Asks for the next message of a conversation.
    pub struct ChatRequest {
        /// The conversation so far, oldest message first.
        #[schemars(length(min = 1))]
        pub messages: Vec<ChatMessage>,
        /// New tokens at most. Default what the context has room for.
        #[serde(default)]
        pub max_completion_tokens: Option<u32>,
        /// The older name of `max_completion_tokens`.
        #[serde(default)]
        pub max_tokens: Option<u32>,
        /// Reports each token's log-probability under the model itself. Default false.
        #[serde(default)]
        pub logprobs: Option<bool>,
        /// The most probable tokens to report in each place, at most 20; with `logprobs`.
        #[serde(default)]
        #[schemars(range(max = 20))]
        pub top_logprobs: Option<u32>,
        /// What the answer must look like. Default text.
        #[serde(default)]
        pub response_format: Option<ResponseFormat>,
        /// Functions that the model may call, if its template knows about them.
        #[serde(default)]
        pub tools: Option<Vec<Tool>>,
        /// Whether it may call one (`auto`), must not (`none`), must (`required`), or which it must.
        #[serde(default)]
        pub tool_choice: Option<ToolChoice>,
        /// Without meaning here.
        #[serde(default)]
        pub parallel_tool_calls: Option<Ignored>,
        /// Without meaning here.
        #[serde(default)]
        pub prediction: Option<Ignored>,
        /// Not supported.
        #[serde(default)]
        pub audio: Option<Refused>,
        /// Not supported; use `tools`.
        #[serde(default)]
        pub functions: Option<Refused>,
        /// Not supported; use `tool_choice`.
        #[serde(default)]
        pub function_call: Option<Refused>,
        /// Not supported.
        #[serde(default)]
        pub modalities: Option<Neutral>,
        /// Not supported.
        #[serde(default)]
        pub reasoning_effort: Option<Refused>,
        /// Not supported.
        #[serde(default)]
        pub verbosity: Option<Neutral>,
        /// Not supported.
        #[serde(default)]
        pub web_search_options: Option<Refused>,
    }
}

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Sends an event with the numbers of tokens before the end. Default false.
    #[serde(default)]
    pub include_usage: Option<bool>,
    /// Without meaning here.
    #[serde(default)]
    pub include_obfuscation: Option<Ignored>,
}

/// A message of a conversation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system` (or `developer`), `user`, `assistant` or `tool`.
    #[schemars(extend("enum" = ["system", "developer", "user", "assistant", "tool"]))]
    pub role: String,
    /// What is said; a message of the assistant that calls functions may be without.
    #[serde(default)]
    pub content: Option<MessageContent>,
    /// Without meaning here.
    #[serde(default)]
    pub name: Option<Ignored>,
    /// The functions that the assistant called.
    #[serde(default)]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// The call that a message of a tool answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// Without meaning here.
    #[serde(default)]
    pub refusal: Option<Ignored>,
    /// Without meaning here.
    #[serde(default)]
    pub annotations: Option<Ignored>,
    /// Not supported.
    #[serde(default)]
    pub audio: Option<Refused>,
    /// Not supported; use `tool_calls`.
    #[serde(default)]
    pub function_call: Option<Refused>,
}

/// A text, or a list of parts that are texts.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum MessageContent {
    /// A text.
    Text(String),
    /// Parts, which are joined.
    Parts(Vec<ContentPart>),
}

/// A part of a message.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentPart {
    /// `text`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "text"))]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// Not supported.
    #[serde(default)]
    pub image_url: Option<Refused>,
    /// Not supported.
    #[serde(default)]
    pub input_audio: Option<Refused>,
    /// Not supported.
    #[serde(default)]
    pub file: Option<Refused>,
}

super::one_or_many::text_or_list!(MessageContent, ContentPart, Text, Parts);

/// What an answer must look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text {},
    /// Any JSON object.
    JsonObject {},
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchemaFormat,
    },
}

/// A JSON schema with a name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaFormat {
    /// Its name.
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

/// Something that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "function"))]
    pub kind: String,
    /// The function.
    pub function: ToolFunction,
}

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFunction {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A JSON schema of its arguments. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Without meaning here: the schema is followed where a call is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Whether the model calls functions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ToolChoice {
    /// `auto`, `none` or `required`.
    Mode(String),
    /// This one.
    Named(NamedTool),
}

/// A function by its name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    pub function: FunctionChoice,
}

/// A function by its name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionChoice {
    /// Its name.
    pub name: String,
}

/// A call of a function.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// A name for this call; in a stream only in its first event.
    #[serde(default)]
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function and its arguments.
    pub function: FunctionCall,
    /// Which of the calls this is; in streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// A function and its arguments.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    /// The function's name.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// The next message of a conversation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChatCompletion {
    /// A name for this answer.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model.
    pub model: String,
    /// Identifies the weights: equal requests with a seed give equal answers as long as it is equal.
    pub system_fingerprint: String,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// Tokens.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChatChoice {
    /// Which of the answers this is.
    pub index: usize,
    /// The message.
    pub message: ReplyMessage,
    /// The tokens' scores, if asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// A message of the model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReplyMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text; null if functions are called instead.
    pub content: Option<String>,
    /// Always null.
    pub refusal: Option<String>,
    /// The functions that are called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// Scores of an answer's tokens.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct ChatLogprobs {
    /// One for each token.
    pub content: Vec<TokenScore>,
}

/// The score of a token.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TokenScore {
    /// The token as text.
    pub token: String,
    /// Its log-probability under the model itself.
    pub logprob: f64,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
    /// The most probable tokens in its place.
    pub top_logprobs: Vec<TopScore>,
}

/// The score of a token that might have been.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TopScore {
    /// The token as text.
    pub token: String,
    /// Its log-probability under the model itself.
    pub logprob: f64,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
}

/// An event of a streamed answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChatChunk {
    /// The answer's name.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model.
    pub model: String,
    /// Identifies the weights.
    pub system_fingerprint: String,
    /// What is new; nothing in the event with the numbers of tokens.
    pub choices: Vec<ChatChunkChoice>,
    /// Tokens, in the last event, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What is new in one answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChatChunkChoice {
    /// Which of the answers this is.
    pub index: usize,
    /// What is new.
    pub delta: Delta,
    /// The new tokens' scores, if asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`; null before the end.
    pub finish_reason: Option<&'static str>,
}

/// What is new in a message.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Delta {
    /// `assistant`, in the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// New text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// New calls of functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}
