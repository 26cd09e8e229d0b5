//! What goes over the wire: the types of requests and answers, and nothing else.
//!
//! Names and meanings are those of OpenAI's API; fields that are not there say so. A request that
//! has a field which is not in its type is refused.

mod chat;
mod common;
mod completions;
mod embeddings;
mod one_or_many;
mod request;
mod responses;
mod tokens;

pub use chat::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, ChatMessage, ChatRequest,
    ContentPart, Delta, FunctionCall, FunctionChoice, JsonSchemaFormat, MessageContent, NamedTool,
    ReplyMessage, ResponseFormat, StreamOptions, TokenScore, Tool, ToolCall, ToolChoice,
    ToolFunction, TopScore,
};
pub use common::{ErrorBody, ErrorDetail, Health, ModelCard, ModelList, PromptDetails, Usage};
pub use completions::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest};
pub use embeddings::{
    Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EmbeddingVector, EncodingFormat,
};
pub use one_or_many::{OneOrMany, Prompt};
pub use request::{Ignored, Neutral, Refused, Sampling};
pub use responses::{
    IncompleteDetails, InputContent, InputDetails, InputItem, InputPart, OutputDetails,
    ResponseEvent, ResponseInput, ResponseItem, ResponseObject, ResponsePart, ResponseRequest,
    ResponseUsage, TextFormat, TextOptions,
};
pub use tokens::{
    AppliedTemplate, ApplyTemplateRequest, DetokenizeRequest, Detokenized, TokenizeRequest,
    Tokenized, TokenizerInfo,
};
