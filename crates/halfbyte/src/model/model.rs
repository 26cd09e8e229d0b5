//! The public [`Model`]: weights, tokenizer and metadata, shared by every session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cache::KvCache;
use super::config::ModelConfig;
use super::decoder::Decoder;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, Metadata};
use crate::kernels::Isa;
use crate::nn::CacheType;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// How to open a [`Model`].
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// Compute threads; `None` for the physical cores that this process may use.
    pub threads: Option<usize>,
    /// How the sessions of this model keep keys and values.
    pub cache_type: CacheType,
    /// Tokens that a session may hold, at most the model's own; `None` for the model's own.
    pub context_length: Option<usize>,
    /// Hears (bytes packed, bytes in all) while the model loads.
    pub progress: Option<Progress>,
    /// Stops the loading, which then ends with [`Error::Cancelled`].
    pub cancel: Option<Cancel>,
}

/// A loaded model. Cheap to clone, immutable, shared between threads and sessions.
///
/// Generating from text needs the file's tokenizer; a model without one still computes logits and
/// generates from token ids.
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    decoder: Decoder,
    /// The message of the error when the tokenizer is missing or broken.
    tokenizer: Result<Tokenizer, String>,
    metadata: Metadata,
    path: PathBuf,
    fingerprint: [u8; 32],
    cache_type: CacheType,
    context_length: usize,
}

impl Model {
    /// Opens a GGUF file or a Hugging Face directory with the default options.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ModelOptions::default())
    }

    /// Opens a GGUF file or a Hugging Face directory.
    ///
    /// A missing or broken tokenizer or chat template is reported when it is first needed.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`] and [`Decoder::load`]; [`Error::Config`] for a
    /// `context_length` of 0 or above the model's own; [`Error::Cancelled`].
    pub fn open_with(path: impl AsRef<Path>, options: &ModelOptions) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(path)?, options)
    }

    /// Loads a GGUF file that is already in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn from_static_bytes(
        name: &str,
        bytes: &'static [u8],
        options: &ModelOptions,
    ) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::from_static_bytes(name, bytes)?, options)
    }

    /// Loads an open checkpoint.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Self> {
        let trained = ModelConfig::from_checkpoint(checkpoint)?.context_length;
        let context_length = options.context_length.unwrap_or(trained);
        if context_length == 0 || context_length > trained {
            let reason = format!("{context_length} is not between 1 and the model's {trained}");
            return Err(Error::config("context_length", reason));
        }
        let fingerprint = fingerprint(checkpoint)?;
        let tokenizer = Tokenizer::from_checkpoint(checkpoint).map_err(|error| match error {
            Error::Tokenizer(message) => message,
            other => other.to_string(),
        });
        let team = (Isa::choose()?, options.threads);
        let cancel = options.cancel.as_ref();
        let decoder = Decoder::load_until(team, checkpoint, cancel, &mut |done, total| {
            if let Some(progress) = &options.progress {
                progress.report(done, total);
            }
        })?;
        Ok(Self(Arc::new(Inner {
            decoder,
            tokenizer,
            metadata: checkpoint.metadata().without_arrays("tokenizer."),
            path: checkpoint.path().to_owned(),
            fingerprint,
            cache_type: options.cache_type,
            context_length,
        })))
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        self.0.decoder.config()
    }

    /// The forward pass, for callers who batch their own tokens.
    pub fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file has none or a broken one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.0.tokenizer.as_ref().map_err(|message| Error::Tokenizer(message.clone()))
    }

    /// The file's metadata under GGUF keys, without the lists of tokens, which are in memory once:
    /// in [`tokenizer`](Self::tokenizer).
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The file or directory that the model came from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Identifies the weights: equal for the same numbers, wherever the file lies.
    ///
    /// SHA-256 over the configuration, and each tensor's name, shape, encoding, first and last row.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Tokens that a session of this model may hold.
    pub fn context_length(&self) -> usize {
        self.0.context_length
    }

    /// How the sessions of this model keep keys and values.
    pub fn cache_type(&self) -> CacheType {
        self.0.cache_type
    }

    /// An empty cache in this model's [`cache_type`](Self::cache_type).
    pub(crate) fn new_cache(&self) -> KvCache {
        self.0.decoder.new_cache(self.0.cache_type)
    }
}

/// Two rows of each tensor are enough to tell fine-tunes apart (each step of training moves every
/// tensor), and touch megabytes where the whole file may have tens of gigabytes.
fn fingerprint(checkpoint: &Checkpoint) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for name in checkpoint.tensor_names() {
        let tensor = checkpoint.require(name)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(tensor.encoding().name().as_bytes());
        for &dim in tensor.dims() {
            hash.update((dim as u64).to_le_bytes());
        }
        if let Some(last) = tensor.n_rows().checked_sub(1) {
            hash.update(tensor.row(0));
            hash.update(tensor.row(last));
        }
    }
    let config = ModelConfig::from_checkpoint(checkpoint)?;
    hash.update(config.architecture.name.as_bytes());
    hash.update(format!("{:?}", config.residual));
    for size in [config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim, config.n_rot]
    {
        hash.update((size as u64).to_le_bytes());
    }
    for number in [config.norm_eps, config.rope_base, config.rope_linear_factor] {
        hash.update(number.to_bits().to_le_bytes());
    }
    Ok(hash.finalize().into())
}
