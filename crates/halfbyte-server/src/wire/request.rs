//! The fields that every request for new text has.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize as Read;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny};

/// A field that OpenAI's clients send and that means nothing here.
#[derive(Clone, Copy, Debug, Default, Read)]
pub struct Ignored(IgnoredAny);

/// A field of OpenAI's API that would change the answer and that is not supported: null at most.
#[derive(Clone, Copy, Debug)]
pub enum Refused {}

impl JsonSchema for Ignored {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ignored".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("this field is not supported; leave it out"))
    }
}

/// A field of OpenAI's API that would change the answer and that is not supported, but that some
/// clients send with a value that changes nothing: no list items, no tools, no truncation, only text.
#[derive(Clone, Copy, Debug)]
pub struct Neutral;

impl<'de> Deserialize<'de> for Neutral {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NeutralVisitor)
    }
}

struct NeutralVisitor;

impl<'de> de::Visitor<'de> for NeutralVisitor {
    type Value = Neutral;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that changes nothing")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Neutral, E> {
        match text {
            "auto" | "none" | "disabled" | "text" | "medium" => Ok(Neutral),
            _ => Err(E::custom("only the default is supported; leave it out")),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Neutral, E> {
        if number == 0 { Ok(Neutral) } else { self.visit_str("") }
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Neutral, E> {
        if value { self.visit_str("") } else { Ok(Neutral) }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Neutral, A::Error> {
        while items.next_element::<OnlyText>()?.is_some() {}
        Ok(Neutral)
    }
}

/// The one kind of answer that there is.
struct OnlyText;

impl<'de> Deserialize<'de> for OnlyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = std::borrow::Cow::<str>::deserialize(deserializer);
        match kind {
            Ok(kind) if kind == "text" => Ok(Self),
            _ => Err(de::Error::custom("only an empty list is supported; leave it out")),
        }
    }
}

impl JsonSchema for Neutral {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Neutral".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "null" },
                { "enum": ["auto", "none", "disabled", "text", "medium", 0, false] },
                { "type": "array", "maxItems": 1, "items": { "const": "text" } },
            ]
        })
    }
}

impl JsonSchema for Refused {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Refused".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "null" })
    }
}

/// How to draw tokens, as a request says it; what it does not say is `None`.
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    /// Divides the logits.
    pub temperature: Option<f32>,
    /// Draws from the most probable tokens with this probability in all.
    pub top_p: Option<f32>,
    /// Draws from this many most probable tokens.
    pub top_k: Option<u32>,
    /// Leaves out tokens below this share of the best one's probability.
    pub min_p: Option<f32>,
    /// Keeps the tokens closest to the expected surprise.
    pub typical_p: Option<f32>,
    /// Divides the logits of tokens that were there.
    pub repetition_penalty: Option<f32>,
    /// Recent tokens that the penalties look at.
    pub repeat_last_n: Option<u32>,
    /// Taken once from the logits of tokens that were there.
    pub presence_penalty: Option<f32>,
    /// Taken from the logits of tokens as often as they were there.
    pub frequency_penalty: Option<f32>,
    /// Added to the logits of tokens.
    pub logit_bias: BTreeMap<String, f32>,
    /// Start of the random generator.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Whether the model's end token is never drawn.
    pub ignore_eos: bool,
    /// Answers to one prompt.
    pub n: Option<u32>,
    /// A grammar that the answer follows.
    pub grammar: Option<String>,
}

/// Fields of a request, with those for drawing tokens and those that clients send for other servers.
macro_rules! generation_request {
    ($(#[$about:meta])* pub struct $name:ident {
        $($(#[$field_about:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
            /// Divides the logits; 0 takes the most probable token every time. Default 1.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = 100.0))]
            pub temperature: Option<f32>,
            /// Draws from the smallest set of tokens with this probability in all. Default 1.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = 1.0))]
            pub top_p: Option<f32>,
            /// Draws from the k most probable tokens; 0 for all (not in OpenAI's API). Default 0.
            #[serde(default)]
            pub top_k: Option<u32>,
            /// Leaves out tokens below this share of the best one's probability (not in OpenAI's
            /// API). Default 0.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = 1.0))]
            pub min_p: Option<f32>,
            /// Keeps the tokens closest to the expected surprise until this probability (not in
            /// OpenAI's API). Default 1.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = 1.0))]
            pub typical_p: Option<f32>,
            /// Divides positive and multiplies negative logits of tokens that were there (not in
            /// OpenAI's API). Default 1.
            #[serde(default)]
            #[schemars(range(min = 0.01, max = 100.0))]
            pub repetition_penalty: Option<f32>,
            /// Recent tokens that the penalties look at, prompt included (not in OpenAI's API).
            /// Default all.
            #[serde(default)]
            pub repeat_last_n: Option<u32>,
            /// Taken once from the logit of each token that was there. Default 0.
            #[serde(default)]
            #[schemars(range(min = -100.0, max = 100.0))]
            pub presence_penalty: Option<f32>,
            /// Taken from the logit of each token as often as it was there. Default 0.
            #[serde(default)]
            #[schemars(range(min = -100.0, max = 100.0))]
            pub frequency_penalty: Option<f32>,
            /// Added to the logits of tokens, by their ids. Default none.
            #[serde(default)]
            pub logit_bias: Option<std::collections::BTreeMap<String, f32>>,
            /// The same seed gives the same answer; choice i has the seed plus i. Default random.
            #[serde(default)]
            pub seed: Option<i64>,
            /// Texts that end the answer, at most 16; they are not part of it. Default none.
            #[serde(default)]
            pub stop: Option<super::OneOrMany>,
            /// Never draws the model's end token (not in OpenAI's API). Default false.
            #[serde(default)]
            pub ignore_eos: Option<bool>,
            /// Answers to each prompt, at most 8; the prompt is read once. Default 1.
            #[serde(default)]
            #[schemars(range(min = 1, max = 8))]
            pub n: Option<u32>,
            /// A grammar in llguidance's variant of Lark that the answer follows (not in OpenAI's
            /// API).
            #[serde(default)]
            pub grammar: Option<String>,
            /// Whether the answer comes in server-sent events as it is written. Default false.
            #[serde(default)]
            pub stream: Option<bool>,
            /// How it is streamed.
            #[serde(default)]
            pub stream_options: Option<super::StreamOptions>,
            /// Any name; the one model that is served answers. Without meaning here.
            #[serde(default)]
            pub model: Option<String>,
            /// Without meaning here.
            #[serde(default)]
            pub user: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub metadata: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub store: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub service_tier: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub safety_identifier: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub prompt_cache_key: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub prompt_cache_retention: Option<super::Ignored>,
            /// Without meaning here.
            #[serde(default)]
            pub prompt_cache_options: Option<super::Ignored>,
        }

        impl $name {
            /// How to draw tokens.
            #[must_use]
            pub fn sampling(&self) -> super::Sampling {
                super::Sampling {
                    temperature: self.temperature,
                    top_p: self.top_p,
                    top_k: self.top_k,
                    min_p: self.min_p,
                    typical_p: self.typical_p,
                    repetition_penalty: self.repetition_penalty,
                    repeat_last_n: self.repeat_last_n,
                    presence_penalty: self.presence_penalty,
                    frequency_penalty: self.frequency_penalty,
                    logit_bias: self.logit_bias.clone().unwrap_or_default(),
                    seed: self.seed,
                    stop: self.stop.clone().map_or_else(Vec::new, super::OneOrMany::into_vec),
                    ignore_eos: self.ignore_eos.unwrap_or(false),
                    n: self.n,
                    grammar: self.grammar.clone(),
                }
            }
        }
    };
}

pub(super) use generation_request;
