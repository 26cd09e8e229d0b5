//! Which model a command works on, and how it is loaded.

use std::path::PathBuf;

use clap::ValueEnum;
use halfbyte::io::Checkpoint;
use halfbyte::model::CacheType;
use halfbyte::{Model, ModelOptions};

use crate::output;

/// Options that choose the model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// GGUF file or Hugging Face folder; without it, the small model inside this program.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
}

/// Options that choose a model and say how it is loaded.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Loading {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    how: How,
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
            Some(path) => Checkpoint::open(path),
            None => Checkpoint::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES),
        }
    }
}

impl Loading {
    /// Loads the model, with a progress bar for a terminal.
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
            cancel: None,
        };
        let model = Model::from_checkpoint(checkpoint, &options);
        bar.finish_and_clear();
        model
    }
}
