//! Rotary scaling of Hugging Face configurations.

use super::hf_json::Document;
use crate::error::Result;

/// How positions or frequencies are stretched beyond the original context.
#[derive(Debug)]
pub(super) enum Scaling {
    /// Not at all.
    None,
    /// Positions are divided by this.
    Linear(f32),
    /// Each rotary frequency is divided by its own number (Llama 3), `n_rot / 2` of them.
    Divisors(Vec<f32>),
}

/// Reads `rope_scaling`, or the `rope_parameters` of transformers 5.
pub(super) fn scaling(document: &Document, theta: f64, n_rot: u64) -> Result<Scaling> {
    let old = document.get("rope_scaling").is_some();
    let field =
        |name: &str| format!("{}.{name}", if old { "rope_scaling" } else { "rope_parameters" });
    let required = |name: &str| {
        let found = document.positive(&[name])?;
        found.ok_or_else(|| document.wrong(name, "a positive number"))
    };
    let (type_new, type_old) = (field("rope_type"), field("type"));
    let names = [type_new.as_str(), type_old.as_str()];
    match document.text(&names)?.unwrap_or("default") {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear(required(&field("factor"))? as f32)),
        "llama3" => {
            let high_field = field("high_freq_factor");
            let scaling = Llama3 {
                factor: required(&field("factor"))?,
                low: required(&field("low_freq_factor"))?,
                high: required(&high_field)?,
                context: required(&field("original_max_position_embeddings"))?,
            };
            if scaling.high <= scaling.low {
                return Err(document.wrong(&high_field, "more than low_freq_factor"));
            }
            let divisors = (0..n_rot / 2).map(|i| scaling.divisor(theta, i, n_rot)).collect();
            Ok(Scaling::Divisors(divisors))
        }
        _ => {
            let name = document.first(&names).map_or("rope_type", |(name, _)| name);
            Err(document.wrong(name, "default, linear or llama3"))
        }
    }
}

/// Llama 3's rotary scaling: long waves are stretched, short ones kept, those between blended.
#[derive(Clone, Copy, Debug)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    /// Original context length.
    context: f64,
}

impl Llama3 {
    /// What the frequency of pair `i` is divided by.
    ///
    /// Source: transformers `_compute_llama3_parameters`.
    fn divisor(self, theta: f64, i: u64, n_rot: u64) -> f32 {
        let frequency = libm::pow(theta, -(2.0 * i as f64) / n_rot as f64);
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        if wavelength < self.context / self.high {
            return 1.0;
        }
        if wavelength > self.context / self.low {
            return self.factor as f32;
        }
        let smooth = (self.context / wavelength - self.low) / (self.high - self.low);
        (1.0 / ((1.0 - smooth) / self.factor + smooth)) as f32
    }
}
