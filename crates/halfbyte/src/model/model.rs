//! The public [`Model`]: weights, tokenizer and metadata, shared by every session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::adapter::Adapter;
use super::cache::KvCache;
use super::config::{EncoderConfig, ModelConfig};
use super::decoder::Decoder;
use super::overrides::Overrides;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, Metadata};
use crate::kernels::Isa;
use crate::nn::{CacheType, LowRankSet};
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
    /// What to use instead of what the file says.
    pub overrides: Overrides,
    /// Hears (bytes packed, bytes in all) while the model loads.
    pub progress: Option<Progress>,
    /// Stops the loading, which then ends with [`Error::Cancelled`].
    pub cancel: Option<Cancel>,
}

/// A loaded model. Cheap to clone, immutable, shared between threads and sessions.
///
/// Generating from text needs the file's tokenizer; a model without one still computes logits and
/// generates from token ids.
///
/// [`with_adapters`](Self::with_adapters) makes a second `Model` over the same weights.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
    adapters: Option<Arc<Adapters>>,
}

/// What a model reads its tokens with, beside its weights.
#[derive(Debug)]
struct Adapters {
    list: Vec<(Adapter, f32)>,
    set: Arc<LowRankSet>,
}

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
    /// Opens a model file or a Hugging Face directory with the default options.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ModelOptions::default())
    }

    /// Opens a GGUF file, a file of 2023 (`ggml`, `ggmf`, `ggjt`) or a Hugging Face directory.
    ///
    /// A missing or broken tokenizer or chat template is reported when it is first needed.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`] and [`Decoder::load`]; [`Error::Config`] for a
    /// `context_length` of 0 or above the model's own and for overrides that do not fit;
    /// [`Error::Cancelled`].
    pub fn open_with(path: impl AsRef<Path>, options: &ModelOptions) -> Result<Self> {
        Self::overridden(Checkpoint::open(path)?, options)
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
        Self::overridden(Checkpoint::from_static_bytes(name, bytes)?, options)
    }

    /// Loads an open checkpoint; [`Overrides::apply`] has changed it before, if need be.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with), and [`Error::Config`] for options with overrides.
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Self> {
        if options.overrides != Overrides::default() {
            let reason = "of an open checkpoint are applied to it: Overrides::apply";
            return Err(Error::config("overrides", reason));
        }
        Self::load(checkpoint, options)
    }

    fn overridden(mut checkpoint: Checkpoint, options: &ModelOptions) -> Result<Self> {
        options.overrides.apply(&mut checkpoint)?;
        Self::load(&checkpoint, options)
    }

    fn load(checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Self> {
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        let trained = config.context_length;
        let context_length = options.context_length.unwrap_or(trained);
        if context_length == 0 || context_length > trained {
            let reason = format!("{context_length} is not between 1 and the model's {trained}");
            return Err(Error::config("context_length", reason));
        }
        let fingerprint = fingerprint(checkpoint, &config)?;
        let tokenizer = match Tokenizer::from_checkpoint(checkpoint) {
            Ok(tokenizer) => Ok(tokenizer),
            // There may be enough the next time: that is no fault of the tokenizer.
            Err(error @ Error::OutOfMemory { .. }) => return Err(error),
            Err(Error::Tokenizer(message)) => Err(message),
            Err(other) => Err(other.to_string()),
        };
        let team = (Isa::choose()?, options.threads);
        let cancel = options.cancel.as_ref();
        let source = (checkpoint, config);
        let decoder = Decoder::load_until(team, source, cancel, &mut |done, total| {
            if let Some(progress) = &options.progress {
                progress.report(done, total);
            }
        })?;
        let inner = Arc::new(Inner {
            decoder,
            tokenizer,
            metadata: checkpoint.metadata().without_arrays("tokenizer."),
            path: checkpoint.path().to_owned(),
            fingerprint,
            cache_type: options.cache_type,
            context_length,
        });
        Ok(Self { inner, adapters: None })
    }

    /// Opens a LoRA adapter for this model: a PEFT folder, a GGUF adapter or a `ggla` file.
    ///
    /// The adapter is ready to be used; it works with every model of the same shape.
    ///
    /// # Errors
    ///
    /// As [`Adapter::open`]; [`Error::OutOfMemory`].
    pub fn open_adapter(&self, path: impl AsRef<Path>) -> Result<Adapter> {
        let adapter = Adapter::open(path, self.config())?;
        self.decoder().attach(&[(adapter.clone(), 1.0)])?;
        Ok(adapter)
    }

    /// The model with `adapters`, each multiplied by its number, in place of those that it has.
    ///
    /// Weights, threads and tokenizer are shared, so this takes microseconds. Everything that starts
    /// from the returned model, such as sessions, chats and scores, reads its tokens with them.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an adapter of a model of another shape or a number that is not finite.
    pub fn with_adapters(&self, adapters: &[(Adapter, f32)]) -> Result<Self> {
        let list = adapters.to_vec();
        let set = self.decoder().attach(adapters)?;
        let adapters = set.map(|set| Arc::new(Adapters { list, set }));
        Ok(Self { inner: self.inner.clone(), adapters })
    }

    /// The adapters that tokens are read with, and what each is multiplied by.
    pub fn adapters(&self) -> &[(Adapter, f32)] {
        self.adapters.as_ref().map_or(&[], |adapters| &adapters.list)
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        self.inner.decoder.config()
    }

    /// The forward pass, for callers who batch their own tokens.
    pub fn decoder(&self) -> &Decoder {
        &self.inner.decoder
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file has none or a broken one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.tokenizer.as_ref().map_err(|message| Error::Tokenizer(message.clone()))
    }

    /// The file's metadata under GGUF keys, without the lists of tokens, which are in memory once:
    /// in [`tokenizer`](Self::tokenizer).
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The file or directory that the model came from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Identifies the weights and the adapters: equal for the same numbers, wherever the files lie.
    ///
    /// SHA-256 over the configuration, and each tensor's name, shape, encoding, first and last row;
    /// with adapters, over that and their fingerprints and scales.
    pub fn fingerprint(&self) -> [u8; 32] {
        if self.adapters().is_empty() {
            return self.inner.fingerprint;
        }
        let mut hash = Sha256::new_with_prefix(self.inner.fingerprint);
        for (adapter, scale) in self.adapters() {
            hash.update(adapter.fingerprint());
            hash.update(scale.to_bits().to_le_bytes());
        }
        hash.finalize().into()
    }

    /// Tokens that a session of this model may hold.
    pub fn context_length(&self) -> usize {
        self.inner.context_length
    }

    /// How the sessions of this model keep keys and values.
    pub fn cache_type(&self) -> CacheType {
        self.inner.cache_type
    }

    /// An empty cache in this model's [`cache_type`](Self::cache_type), whose tokens are read with
    /// its [`adapters`](Self::adapters).
    pub fn new_cache(&self) -> KvCache {
        self.inner.decoder.new_cache(self.inner.cache_type).read_with(self.low_ranks())
    }

    /// Bytes of keys and values that the `n_tokens` of a session take, in whole blocks of 64.
    pub fn cache_bytes(&self, n_tokens: usize) -> usize {
        let shape = self.decoder().cache_shape(self.cache_type());
        usize::try_from(shape.written_bytes(n_tokens) - 8).unwrap_or(usize::MAX)
    }

    /// Whether this is `other`, or differs from it in its adapters only.
    pub(crate) fn has_weights_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// As [`Decoder::cache_from_bytes`], for tokens that were read with this model's adapters.
    pub(crate) fn cache_from_bytes(&self, cache_type: CacheType, bytes: &[u8]) -> Result<KvCache> {
        Ok(self.decoder().cache_from_bytes(cache_type, bytes)?.read_with(self.low_ranks()))
    }

    /// The adapters as a cache has them.
    pub(crate) fn low_ranks(&self) -> Option<Arc<LowRankSet>> {
        self.adapters.as_ref().map(|adapters| adapters.set.clone())
    }
}

/// Two rows of each tensor are enough to tell fine-tunes apart (each step of training moves every
/// tensor), and touch megabytes where the whole file may have tens of gigabytes.
fn fingerprint(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for name in checkpoint.tensor_names() {
        let tensor = checkpoint.require(name)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(tensor.encoding().name().as_bytes());
        for &dim in tensor.dims() {
            hash.update((dim as u64).to_le_bytes());
        }
        for column in tensor.columns().into_iter().flatten() {
            hash.update(column.to_le_bytes());
        }
        if let Some(last) = tensor.n_rows().checked_sub(1) {
            hash.update(tensor.row(0));
            hash.update(tensor.row(last));
        }
    }
    hash.update(config.architecture.name.as_bytes());
    hash.update(format!("{:?}", config.residual));
    for size in [config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim, config.n_rot]
    {
        hash.update((size as u64).to_le_bytes());
    }
    for number in [config.norm_eps, config.rope_base, config.rope_linear_factor] {
        hash.update(number.to_bits().to_le_bytes());
    }
    if let Some(encoder) = &config.encoder {
        let EncoderConfig { n_layers, n_buckets, max_distance, start_token } = *encoder;
        for size in [n_layers, n_buckets, max_distance, start_token as usize] {
            hash.update((size as u64).to_le_bytes());
        }
    }
    Ok(hash.finalize().into())
}
