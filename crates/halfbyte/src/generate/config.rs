//! How to generate: every option once, with its default and its range.

use crate::error::{Error, Result};

/// What happens when the tokens outgrow the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextPolicy {
    /// A prompt that leaves no room for one new token is [`Error::ContextFull`] before anything is
    /// computed; a generation that reaches the end of the context ends with
    /// [`FinishReason::Length`](crate::FinishReason::Length).
    Error,
    /// As `Error`, but a [`Chat`](crate::Chat) leaves out its oldest turns first.
    DropOldestTurns,
    /// Drops the oldest half of the tokens (BOS stays) and computes the rest anew. [`Error::Config`]
    /// for a model with an encoder.
    Shift,
}

/// How to generate, in Hugging Face's words.
///
/// Write the fields that matter and take the rest from [`Default`]:
///
/// ```
/// use halfbyte::GenerationConfig;
///
/// let config = GenerationConfig { max_new_tokens: 32, seed: Some(1), ..Default::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Tokens to generate at most. Default 256.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the most probable token every time. Default 0.7.
    pub temperature: f32,
    /// Draws from the k most probable tokens only; 0 for all. Default 40.
    pub top_k: usize,
    /// Draws from the smallest set with this probability in all; 1 for all. Default 0.95.
    pub top_p: f32,
    /// Leaves out tokens below this share of the best one's probability; 0 for none. Default 0.
    pub min_p: f32,
    /// Keeps the tokens closest to the expected surprise until this probability; 1 for all.
    /// Default 1.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 for none. Default 1.1.
    pub repetition_penalty: f32,
    /// Recent tokens that the three penalties look at, prompt included unless an encoder reads it;
    /// 0 for none. Default 64.
    pub repeat_last_n: usize,
    /// Taken from the logit of each recent token once. Default 0.
    pub presence_penalty: f32,
    /// Taken from the logit of each recent token as often as it occurs. Default 0.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; negative infinity forbids one. Default none.
    pub logit_bias: Vec<(u32, f32)>,
    /// Start of the random generator (ChaCha8); `None` takes a fresh one, reported in the result.
    pub seed: Option<u64>,
    /// Texts that end the generation; they are left out of the result. Default none.
    pub stop: Vec<String>,
    /// What happens when the context is full; `None` is [`ContextPolicy::Error`] for a prompt and
    /// [`ContextPolicy::DropOldestTurns`] for a chat.
    pub context_policy: Option<ContextPolicy>,
    /// Goes on after the model's end token, which is then never drawn. Default false.
    pub ignore_eos: bool,
    /// Reports each token's log-probability under the model itself, and those of this many most
    /// probable tokens. Default `None`.
    pub logprobs: Option<usize>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.1,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            stop: Vec::new(),
            context_policy: None,
            ignore_eos: false,
            logprobs: None,
        }
    }
}

/// Most alternatives that [`GenerationConfig::logprobs`] may ask for.
const MAX_LOGPROBS: usize = 1000;

impl GenerationConfig {
    /// The most probable token every time, without penalties: the model's plain answer.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, repetition_penalty: 1.0, ..Self::default() }
    }

    /// Checks every option.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        in_range("temperature", self.temperature, 0.0, 100.0)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("typical_p", self.typical_p, 0.0, 1.0)?;
        in_range("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        in_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| !is_bias(*bias)) {
            let reason = format!("{bias} for token {token} is neither a number nor -inf");
            return Err(Error::config("logit_bias", reason));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::config("stop", "holds an empty text, which would stop at once"));
        }
        if self.logprobs.is_some_and(|n| n > MAX_LOGPROBS) {
            return Err(Error::config("logprobs", format!("is above {MAX_LOGPROBS}")));
        }
        Ok(())
    }
}

fn is_bias(bias: f32) -> bool {
    bias.is_finite() || bias == f32::NEG_INFINITY
}

fn in_range(field: &str, value: f32, low: f32, high: f32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::config(field, format!("{value} is not between {low} and {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_out_of_range_is_named() {
        let d = GenerationConfig::default;
        let cases = [
            ("temperature", GenerationConfig { temperature: f32::NAN, ..d() }),
            ("temperature", GenerationConfig { temperature: -0.1, ..d() }),
            ("top_p", GenerationConfig { top_p: 1.5, ..d() }),
            ("min_p", GenerationConfig { min_p: -1.0, ..d() }),
            ("typical_p", GenerationConfig { typical_p: f32::INFINITY, ..d() }),
            ("repetition_penalty", GenerationConfig { repetition_penalty: 0.0, ..d() }),
            ("presence_penalty", GenerationConfig { presence_penalty: f32::NAN, ..d() }),
            ("frequency_penalty", GenerationConfig { frequency_penalty: 1e9, ..d() }),
            ("logit_bias", GenerationConfig { logit_bias: vec![(1, f32::INFINITY)], ..d() }),
            ("stop", GenerationConfig { stop: vec![String::new()], ..d() }),
            ("logprobs", GenerationConfig { logprobs: Some(5000), ..d() }),
        ];
        for (field, config) in cases {
            match config.validate() {
                Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{field}: {other:?}"),
            }
        }
        d().validate().expect("the defaults are valid");
        GenerationConfig::greedy().validate().expect("greedy is valid");
    }
}
