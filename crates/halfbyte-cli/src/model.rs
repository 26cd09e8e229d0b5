//! Which model a command works on, and how it is loaded.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::{Adapter, Model, ModelOptions, Overrides};

use crate::output;

/// Options that choose the model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// GGUF file, file of one of 2023's formats or Hugging Face folder; without it, the small model
    /// inside this program.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) numbers: Numbers,
}

/// Options for numbers that the file does not say, or says wrongly.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Numbers {
    /// Epsilon of the RMS norms.
    #[arg(long, value_name = "X")]
    rms_eps: Option<f32>,
    /// Query heads for each key/value head.
    #[arg(long, value_name = "N")]
    n_gqa: Option<usize>,
    /// Base of the rotary frequencies.
    #[arg(long, value_name = "X")]
    rope_base: Option<f32>,
}

impl Numbers {
    /// Opens the file or folder, with these numbers instead of its own.
    pub(crate) fn open(&self, path: &Path) -> halfbyte::Result<Checkpoint> {
        self.applied(Checkpoint::open(path)?)
    }

    fn applied(&self, mut checkpoint: Checkpoint) -> halfbyte::Result<Checkpoint> {
        let &Self { rms_eps, n_gqa, rope_base } = self;
        Overrides { rms_eps, n_gqa, rope_base }.apply(&mut checkpoint)?;
        Ok(checkpoint)
    }
}

/// Options that choose a model and say how it is loaded.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Loading {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Options for loading a model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct How {
    /// Threads; all physical cores by default.
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Tokens that a session may hold, at most the model's own.
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// How keys and values are kept.
    #[arg(long, value_enum, default_value_t = Cache::F16)]
    cache_type: Cache,
    #[command(flatten)]
    pub(crate) adapters: Adapters,
}

/// LoRA adapters, each with a scale.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Adapters {
    /// LoRA adapter (PEFT folder, GGUF adapter or ggla file), times SCALE; may be repeated.
    #[arg(long, value_name = "PATH[=SCALE]")]
    lora: Vec<ScaledPath>,
}

/// `PATH[=SCALE]`.
#[derive(Clone, Debug, PartialEq)]
struct ScaledPath(PathBuf, f32);

impl FromStr for ScaledPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        // A path may end like a scale: what exists is a path.
        let parts = text.rsplit_once('=').filter(|_| !Path::new(text).exists());
        let scaled = parts.and_then(|(path, scale)| Some((path, scale.parse().ok()?)));
        Ok(scaled.map_or_else(|| Self(text.into(), 1.0), |(path, scale)| Self(path.into(), scale)))
    }
}

impl Adapters {
    /// Opens them with `open`.
    pub(crate) fn open(
        &self,
        open: impl Fn(&Path) -> halfbyte::Result<Adapter>,
    ) -> halfbyte::Result<Vec<(Adapter, f32)>> {
        self.lora.iter().map(|ScaledPath(path, scale)| Ok((open(path)?, *scale))).collect()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cache {
    F16,
    F32,
    Q8,
}

impl Source {
    /// Opens the file, the folder or the embedded model.
    pub(crate) fn checkpoint(&self) -> halfbyte::Result<Checkpoint> {
        match &self.model {
            Some(path) => self.numbers.open(path),
            None => self.numbers.applied(Checkpoint::from_static_bytes(
                halfbyte_model::NAME,
                halfbyte_model::BYTES,
            )?),
        }
    }
}

/// What the tensors of a checkpoint come to.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Tensors and their bytes, by the name of their encoding.
    pub(crate) encodings: BTreeMap<&'static str, (usize, u64)>,
    /// Bytes of all.
    pub(crate) bytes: u64,
    /// Elements of all.
    pub(crate) weights: u64,
}

impl Contents {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let mut contents = Self::default();
        for tensor in checkpoint.tensor_names().filter_map(|name| checkpoint.tensor(name)) {
            let bytes = tensor.n_bytes() as u64;
            let row = contents.encodings.entry(tensor.encoding().name()).or_default();
            *row = (row.0 + 1, row.1 + bytes);
            contents.bytes += bytes;
            contents.weights += tensor.dims().iter().product::<usize>() as u64;
        }
        contents
    }

    /// The encodings and their bytes, the largest first.
    pub(crate) fn by_share(&self) -> Vec<(&'static str, u64)> {
        let mut shares: Vec<_> = self.encodings.iter().map(|(&name, &(_, n))| (name, n)).collect();
        shares.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        shares
    }

    pub(crate) fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights.max(1) as f64
    }
}

impl Loading {
    /// Loads the model with its adapters, with a progress bar for a terminal.
    pub(crate) fn load(&self) -> halfbyte::Result<Model> {
        self.how.load(&self.source.checkpoint()?)
    }
}

impl How {
    /// Loads what `checkpoint` holds, with a progress bar for a terminal.
    pub(crate) fn load(&self, checkpoint: &Checkpoint) -> halfbyte::Result<Model> {
        let bar = output::bar("loading", true);
        let options = ModelOptions {
            threads: self.threads,
            context_length: self.context_length,
            cache_type: match self.cache_type {
                Cache::F16 => CacheType::F16,
                Cache::F32 => CacheType::F32,
                Cache::Q8 => CacheType::Q8,
            },
            progress: Some(output::hook(bar.clone())),
            ..ModelOptions::default()
        };
        let model = Model::from_checkpoint(checkpoint, &options);
        bar.finish_and_clear();
        let model = model?;
        model.with_adapters(&self.adapters.open(|path| model.open_adapter(path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_after_the_last_equals_sign_of_no_path() {
        let here = env!("CARGO_MANIFEST_DIR");
        let in_folder = format!("{here}=2");
        for (text, path, scale) in [
            ("lora", "lora", 1.0),
            ("lora=0.5", "lora", 0.5),
            ("lora=-2", "lora", -2.0),
            ("r=8=0.5", "r=8", 0.5),
            ("a=b", "a=b", 1.0),
            (here, here, 1.0),
            (&in_folder, here, 2.0),
        ] {
            let expected = ScaledPath(path.into(), scale);
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("alpha=16");
        std::fs::write(&path, "").expect("written");
        let text = path.to_str().expect("a path");
        assert_eq!(text.parse(), Ok(ScaledPath(path.clone(), 1.0)));
    }
}
