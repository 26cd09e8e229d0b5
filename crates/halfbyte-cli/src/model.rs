//! Which model a command works on, and how it is loaded.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::{Model, ModelOptions, Overrides};

use crate::output;

/// Options that choose the model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// GGUF file, file of 2023 or Hugging Face folder; without it, the small model inside this
    /// program.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) numbers: Numbers,
}

/// Options for numbers that the file does not say, or says wrongly.
#[derive(Clone, Debug, Default, clap::Args)]
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

/// Options for loading a model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Loading {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Threads; all physical cores by default.
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Tokens that a session may hold, at most the model's own.
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// How keys and values are kept.
    #[arg(long, value_enum, default_value_t = Cache::F16)]
    cache_type: Cache,
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

impl Loading {
    /// Loads the model, with a progress bar for a terminal.
    pub(crate) fn load(&self) -> halfbyte::Result<Model> {
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
        let model = Model::from_checkpoint(&self.source.checkpoint()?, &options);
        bar.finish_and_clear();
        model
    }
}
