//! Options that shape a generation, under Hugging Face's names.

use std::fmt;
use std::str::FromStr;

use halfbyte::{ContextPolicy, GenerationConfig};

/// The fields of [`GenerationConfig`] as options; what is not given stays at its default.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct Sampling {
    /// Tokens to write at most [default: 256].
    #[arg(short = 'n', long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// 0 always takes the most probable token [default: 0.7].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw from the N most probable tokens; 0 from all [default: 40].
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the most probable tokens that sum to P [default: 0.95].
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from tokens at least P times as probable as the best [default: 0].
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Draw from the most typical tokens that sum to P [default: 1].
    #[arg(long, value_name = "P")]
    typical_p: Option<f32>,
    /// Divide the logits of repeated tokens by X [default: 1.1].
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// Tokens in which repetition counts [default: 64].
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<usize>,
    /// Subtract X from the logits of tokens that were there [default: 0].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtract X for each time that a token was there [default: 0].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Add VALUE to the logit of token ID; may be repeated.
    #[arg(long, value_name = "ID=VALUE")]
    logit_bias: Vec<LogitBias>,
    /// The same seed gives the same text; random by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Stop before this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// When the context is full, drop the oldest half and go on.
    #[arg(long)]
    shift: bool,
    /// Go on after the model's end token.
    #[arg(long)]
    ignore_eos: bool,
}

/// `ID=VALUE`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogitBias(pub(crate) u32, pub(crate) f32);

impl FromStr for LogitBias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(id, value)| {
            Some(Self(id.trim().parse().ok()?, value.trim().parse().ok()?))
        });
        parts.ok_or_else(|| "expected a token id, '=' and a number, such as 50=-100".to_owned())
    }
}

impl fmt::Display for LogitBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.0, self.1)
    }
}

impl Sampling {
    /// The configuration; it is checked where it is used.
    pub(crate) fn config(&self) -> GenerationConfig {
        let d = GenerationConfig::default();
        GenerationConfig {
            max_new_tokens: self.max_new_tokens.unwrap_or(d.max_new_tokens),
            temperature: self.temperature.unwrap_or(d.temperature),
            top_k: self.top_k.unwrap_or(d.top_k),
            top_p: self.top_p.unwrap_or(d.top_p),
            min_p: self.min_p.unwrap_or(d.min_p),
            typical_p: self.typical_p.unwrap_or(d.typical_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(d.repetition_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(d.repeat_last_n),
            presence_penalty: self.presence_penalty.unwrap_or(d.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(d.frequency_penalty),
            logit_bias: self.logit_bias.iter().map(|b| (b.0, b.1)).collect(),
            seed: self.seed,
            stop: self.stop.clone(),
            context_policy: self.shift.then_some(ContextPolicy::Shift),
            ignore_eos: self.ignore_eos,
            logprobs: None,
        }
    }
}
