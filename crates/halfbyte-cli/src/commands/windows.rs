//! How `perplexity` and `compare` cut a text, and how they say so.

use clap::ValueEnum;
use halfbyte::Model;
use halfbyte::generate::{Divergence, KL_QUANTILES, Perplexity, Protocol};
use serde_json::json;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Windows {
    /// How the text is cut and what is scored.
    #[arg(long, value_enum, default_value_t = Kind::Strided)]
    protocol: Kind,
    /// Tokens that the model sees at once [default: its context; llama.cpp: 512].
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Tokens by which the window moves [default: half of the window].
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Windows that move by --stride; every token is scored once.
    Strided,
    /// Windows side by side, the second half of each scored, as llama-perplexity does.
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

impl Windows {
    /// The protocol for a context of `context_length`.
    pub(crate) fn protocol(&self, context_length: usize) -> anyhow::Result<Protocol> {
        match self.protocol {
            Kind::Strided => {
                let window = self.window.unwrap_or(context_length);
                let stride = self.stride.unwrap_or_else(|| (window / 2).max(1));
                Ok(Protocol::Strided { window, stride })
            }
            Kind::LlamaCpp => {
                anyhow::ensure!(
                    self.stride.is_none(),
                    "the windows of llama.cpp's protocol lie side by side: leave out --stride"
                );
                let window = self.window.unwrap_or_else(|| context_length.min(512));
                Ok(Protocol::SecondHalves { window })
            }
        }
    }
}

/// What was done, in words.
pub(crate) fn describe(protocol: Protocol, model: &Model, tokens: &[u32]) -> String {
    let cut = match protocol {
        Protocol::Strided { window, stride } => format!("window {window}, stride {stride}"),
        other => format!("second halves of windows of {}", other.window()),
    };
    let bos = match model.repeated_bos(tokens) {
        Some(_) => "BOS first in each window",
        None => "no BOS",
    };
    format!("{cut}, {bos}")
}

/// The same for programs.
pub(crate) fn facts(protocol: Protocol, model: &Model, tokens: &[u32]) -> serde_json::Value {
    let (name, stride) = match protocol {
        Protocol::Strided { stride, .. } => ("strided", Some(stride)),
        _ => ("llama.cpp", None),
    };
    json!({
        "protocol": name,
        "window": protocol.window(),
        "stride": stride,
        "bos": model.repeated_bos(tokens),
    })
}

/// The fields of a perplexity.
pub(crate) fn perplexity(found: &Perplexity) -> serde_json::Value {
    json!({
        "perplexity": found.value,
        "mean_nll": found.mean_nll,
        "mean_nll_std_error": found.std_error,
        "scored_tokens": found.n_scored,
    })
}

/// The fields of a divergence, perplexities aside.
pub(crate) fn divergence(found: &Divergence) -> serde_json::Value {
    let quantiles = KL_QUANTILES.iter().zip(found.kl_quantiles);
    json!({
        "mean_kl": found.mean_kl,
        "mean_kl_std_error": found.kl_std_error,
        "kl_quantiles": quantiles.map(|(share, kl)| json!([share, kl])).collect::<Vec<_>>(),
        "top_agreement": found.top_agreement,
        "mean_probability_change": found.mean_probability_change,
        "rms_probability_change": found.rms_probability_change,
        "perplexity_ratio": found.model.value / found.base.value,
    })
}

/// The same in lines of text.
pub(crate) fn divergence_lines(found: &Divergence) -> Vec<String> {
    let quantiles = KL_QUANTILES.iter().zip(found.kl_quantiles);
    let quantiles = quantiles.map(|(share, kl)| format!("{}% {kl:.5}", 100.0 * share));
    let n = found.model.n_scored as f64;
    let agreed = found.top_agreement;
    vec![
        format!(
            "perplexity {:.4}, base {:.4}, ratio {:.5}",
            found.model.value,
            found.base.value,
            found.model.value / found.base.value
        ),
        format!("mean KL divergence {:.6} ± {:.6}", found.mean_kl, found.kl_std_error),
        format!("KL quantiles: {}", quantiles.collect::<Vec<_>>().join(", ")),
        format!(
            "same top token {:.2}% ± {:.2}%",
            100.0 * agreed,
            100.0 * (agreed * (1.0 - agreed) / (n - 1.0).max(1.0)).sqrt()
        ),
        format!(
            "probability of the next token: mean change {:+.3}%, root mean square {:.3}%",
            100.0 * found.mean_probability_change,
            100.0 * found.rms_probability_change
        ),
    ]
}
