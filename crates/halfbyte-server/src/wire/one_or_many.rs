//! Fields that are one thing or a list of them.
//!
//! Read by hand: serde's untagged enums would keep the whole field in memory in a form that is many
//! times its size, and could not say what is wrong with it.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A text or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Many.
    Many(Vec<String>),
}

/// What to go on from or to embed: a text, its tokens, or a list of either.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// The tokens of texts.
    TokenLists(Vec<Vec<u32>>),
}

impl OneOrMany {
    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Reads `$name::$one` from a text and `$name::$many` from a list of `$part`.
macro_rules! text_or_list {
    ($name:ident, $part:ty, $one:ident, $many:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> serde::de::Visitor<'de> for Reader {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string or a list")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok($name::$one(text.to_owned()))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        seq: A,
                    ) -> Result<$name, A::Error> {
                        let list = serde::de::value::SeqAccessDeserializer::new(seq);
                        <Vec<$part> as serde::Deserialize>::deserialize(list).map($name::$many)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

pub(super) use text_or_list;

text_or_list!(OneOrMany, String, One, Many);

/// The first item of a prompt's list, which says what the others must be.
enum First {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Item;
        impl<'de> Visitor<'de> for Item {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or a list of token ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<First, E> {
                Ok(First::Text(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, token: u64) -> Result<First, E> {
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(token), &"a token id");
                u32::try_from(token).map(First::Token).map_err(|_| wrong())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(First::Tokens)
            }
        }
        deserializer.deserialize_any(Item)
    }
}

/// Collects a list whose first item is known.
fn rest<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    mut seq: A,
    first: T,
) -> Result<Vec<T>, A::Error> {
    let mut all = vec![first];
    while let Some(item) = seq.next_element()? {
        all.push(item);
    }
    Ok(all)
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Prompts;
        impl<'de> Visitor<'de> for Prompts {
            type Value = Prompt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of token ids, or a list of either")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prompt, E> {
                Ok(Prompt::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompt, A::Error> {
                match seq.next_element()? {
                    None => Err(de::Error::invalid_length(0, &"at least one item")),
                    Some(First::Text(text)) => rest(seq, text).map(Prompt::Texts),
                    Some(First::Token(token)) => rest(seq, token).map(Prompt::Tokens),
                    Some(First::Tokens(tokens)) => rest(seq, tokens).map(Prompt::TokenLists),
                }
            }
        }
        deserializer.deserialize_any(Prompts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_read_as_what_its_first_item_is() {
        let cases = [
            (r#""a""#, Some(Prompt::Text("a".into()))),
            (r#"["a","b"]"#, Some(Prompt::Texts(vec!["a".into(), "b".into()]))),
            ("[1,2]", Some(Prompt::Tokens(vec![1, 2]))),
            ("[[1],[]]", Some(Prompt::TokenLists(vec![vec![1], vec![]]))),
            ("[]", None),
            ("[1,\"a\"]", None),
            ("[-1]", None),
            ("[1.5]", None),
            ("[4294967296]", None),
            ("[[1],2]", None),
            ("[[[1]]]", None),
            ("null", None),
            ("{}", None),
        ];
        for (json, expected) in cases {
            assert_eq!(serde_json::from_str::<Prompt>(json).ok(), expected, "{json}");
        }
    }
}
