//! Numbers of a model that its file does not say, or says wrongly.

use super::architecture::{Architecture, Norm, Rotary};
use crate::error::{Error, Result};
use crate::io::{Checkpoint, Value};

/// Values to use instead of what a file says, or what is assumed where it is silent.
///
/// The files of 2023 know neither epsilon nor rotary base of a LLaMA:
/// [`Checkpoint::notes`] says what is assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// The epsilon of a model with RMS norms.
    pub rms_eps: Option<f32>,
    /// Query heads for each key/value head: 8 for LLaMA 2 70B.
    pub n_gqa: Option<usize>,
    /// Base of the rotary frequencies (theta).
    pub rope_base: Option<f32>,
}

impl Overrides {
    /// Writes the values into the metadata of `checkpoint`, before it becomes a model.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the value that is out of range or does not fit the model.
    pub fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let metadata = checkpoint.metadata();
        let name = metadata.str("general.architecture")?.unwrap_or("unnamed").to_owned();
        let mut entries = Vec::new();
        if let Some(epsilon) = self.rms_eps {
            if Architecture::find(&name).is_none_or(|a| a.norm != Norm::Rms) {
                return Err(Error::config("rms_eps", format!("{name} models have no RMS norm")));
            }
            let value = Value::F32(positive("rms_eps", epsilon)?);
            entries.push(("attention.layer_norm_rms_epsilon", value));
        }
        if let Some(group) = self.n_gqa {
            let n_heads = metadata.u64(&format!("{name}.attention.head_count"))?.unwrap_or(0);
            let fits = |group: &u64| *group > 0 && n_heads.is_multiple_of(*group) && n_heads > 0;
            let Some(group) = u64::try_from(group).ok().filter(fits) else {
                let reason = format!("{n_heads} heads do not form groups of {group}");
                return Err(Error::config("n_gqa", reason));
            };
            entries.push(("attention.head_count_kv", Value::U64(n_heads / group)));
        }
        if let Some(base) = self.rope_base {
            if Architecture::find(&name).is_some_and(|a| a.rotary == Rotary::None) {
                return Err(Error::config("rope_base", format!("{name} models do not rotate")));
            }
            entries.push(("rope.freq_base", Value::F32(positive("rope_base", base)?)));
        }
        for (key, value) in entries {
            checkpoint.metadata_mut().set(format!("{name}.{key}"), value);
        }
        Ok(())
    }
}

fn positive(field: &str, value: f32) -> Result<f32> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(Error::config(field, format!("{value} is not a positive number")))
}
