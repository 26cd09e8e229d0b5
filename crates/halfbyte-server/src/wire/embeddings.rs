//! `/v1/embeddings`: vectors for texts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ignored, Prompt};

/// Asks for the vectors of texts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingRequest {
    /// A text or its tokens, or a list of either.
    pub input: Prompt,
    /// How the vectors are written. Default float.
    #[serde(default)]
    pub encoding_format: Option<EncodingFormat>,
    /// Only the model's own width.
    #[serde(default)]
    pub dimensions: Option<u32>,
    /// Any name; the one model that is served answers. Without meaning here.
    #[serde(default)]
    pub model: Option<String>,
    /// Without meaning here.
    #[serde(default)]
    pub user: Option<Ignored>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// Lists of numbers.
    #[default]
    Float,
    /// 32-bit floats, little-endian, in base64.
    Base64,
}

/// The vectors of texts.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EmbeddingList {
    /// `list`.
    pub object: &'static str,
    /// The vectors, in the order of the texts.
    pub data: Vec<Embedding>,
    /// The model.
    pub model: String,
    /// Tokens.
    pub usage: EmbeddingUsage,
}

/// Tokens that were read.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct EmbeddingUsage {
    /// Tokens of the texts.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// The vector of a text: the mean of the last hidden states of its tokens, of length 1.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Embedding {
    /// `embedding`.
    pub object: &'static str,
    /// Which of the texts this is.
    pub index: usize,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// As numbers.
    Float(Vec<f32>),
    /// As base64.
    Base64(String),
}
