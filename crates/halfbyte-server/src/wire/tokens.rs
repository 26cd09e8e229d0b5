//! `/tokenize`, `/detokenize`, `/tokenizer_info`, `/apply-template`: what a text is to the model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChatMessage, Ignored, Tool};

/// Asks for the tokens of a text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    /// The text.
    #[serde(alias = "content")]
    pub prompt: String,
    /// Puts BOS (and EOS) where the model wants it. Default true.
    #[serde(default, alias = "add_special")]
    pub add_special_tokens: Option<bool>,
    /// Reads what spells a special token as that token. Default true.
    #[serde(default)]
    pub parse_special: Option<bool>,
    /// Gives the tokens' texts, too. Default false.
    #[serde(default, alias = "with_pieces")]
    pub return_token_strs: Option<bool>,
    /// Without meaning here.
    #[serde(default)]
    pub model: Option<Ignored>,
}

/// The tokens of a text.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tokenized {
    /// Their ids.
    pub tokens: Vec<u32>,
    /// How many there are.
    pub count: usize,
    /// Tokens that the context holds.
    pub max_model_len: usize,
    /// Their texts as the vocabulary spells them, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_strs: Option<Vec<String>>,
}

/// Asks for the text of tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Without meaning here.
    #[serde(default)]
    pub model: Option<Ignored>,
}

/// The text of tokens.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Detokenized {
    /// The text, without special tokens.
    pub prompt: String,
    /// The same under another name.
    pub content: String,
}

/// What the tokenizer is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TokenizerInfo {
    /// How it encodes, in words.
    pub tokenizer_class: String,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Tokens that the context holds.
    pub model_max_length: usize,
    /// The token that starts a text.
    pub bos_token: Option<String>,
    /// Its id.
    pub bos_token_id: Option<u32>,
    /// Whether texts start with it.
    pub add_bos_token: bool,
    /// The token that ends a text.
    pub eos_token: Option<String>,
    /// Its id.
    pub eos_token_id: Option<u32>,
    /// The same: there is no padding here, but clients ask for such a token.
    pub pad_token: Option<String>,
    /// The chat template, if it is Jinja.
    pub chat_template: Option<String>,
}

/// Asks for the prompt that a conversation becomes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyTemplateRequest {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Functions that the model may call.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// Ends where the assistant's answer begins. Default true.
    #[serde(default)]
    pub add_generation_prompt: Option<bool>,
    /// Without meaning here.
    #[serde(default)]
    pub model: Option<Ignored>,
}

/// The prompt that a conversation becomes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AppliedTemplate {
    /// The prompt.
    pub prompt: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}
