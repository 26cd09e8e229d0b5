//! LoRA adapters: what one changes, checked against a model's numbers.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::config::ModelConfig;
use crate::error::{Error, Result};
use crate::io::{AdapterFile, Base, Delta, TensorView};
use crate::kernels::Packed;
use crate::nn::{Linear, LowRank, LowRankPart, LowRankShape, LowRanks};
use crate::quant::{self, Encoding};

/// A LoRA adapter for models of one shape. Cheap to clone.
///
/// [`Model::open_adapter`](crate::Model::open_adapter) opens one,
/// [`Session::set_adapters`](crate::Session::set_adapters) and
/// [`Model::with_adapters`](crate::Model::with_adapters) use it beside the packed weights, and
/// [`quantize_merged`](crate::quantize_merged) adds it to them.
#[derive(Clone, Debug)]
pub struct Adapter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: AdapterFile,
    shape: LowRankShape,
    fingerprint: [u8; 32],
    packed: OnceLock<Arc<LowRanks>>,
}

/// Linear layers over one input, where adapters may add to the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// `[q | k | v]` of a block.
    Qkv(usize),
    /// The projection of a block's attention.
    AttnOutput(usize),
    /// `[gate | up]` of a block.
    Up(usize),
    /// The down projection of a block.
    Down(usize),
    /// The output head.
    Head,
}

/// A matrix at its site: which of the site's columns are its outputs.
#[derive(Clone, Copy, Debug)]
struct Place {
    site: Site,
    first: usize,
    /// (out, in).
    shape: (usize, usize),
}

impl Adapter {
    /// Opens a PEFT folder, a GGUF adapter or a `ggla` file for models of `config`.
    ///
    /// Nothing of the model is needed but its numbers. The files stay mapped while the adapter
    /// lives.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Malformed`], [`Error::UnsupportedFormat`],
    /// [`Error::UnsupportedEncoding`]; [`Error::MissingTensor`] for A without B; [`Error::Shape`]
    /// for matrices of another size than the model's; [`Error::Config`] for what is no plain LoRA
    /// (DoRA, trained biases, whole modules), or changes what this model does not have, and for
    /// every encoder-decoder model.
    pub fn open(path: impl AsRef<Path>, config: &ModelConfig) -> Result<Self> {
        refuse_encoder(path.as_ref(), config)?;
        let base = Base {
            architecture: config.architecture.name,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
        };
        let file = AdapterFile::open(path.as_ref(), base)?;
        let mut hash = Sha256::new();
        for delta in file.deltas() {
            check(&file, config, &delta)?;
            hash.update(delta.name.as_bytes());
            hash.update([0]);
            hash.update(delta.scale.to_bits().to_le_bytes());
            for tensor in [delta.a, delta.b] {
                hash.update(tensor.encoding().name());
                hash.update((tensor.n_rows() as u64).to_le_bytes());
                (0..tensor.n_rows()).for_each(|row| hash.update(tensor.row(row)));
            }
        }
        let (shape, fingerprint) = (shape(config), hash.finalize().into());
        Ok(Self(Arc::new(Inner { file, shape, fingerprint, packed: OnceLock::new() })))
    }

    /// The file or folder that it came from.
    pub fn path(&self) -> &Path {
        self.0.file.path()
    }

    /// The matrices that it changes: GGUF name, rank, and the scale of B·A (α / r).
    pub fn matrices(&self) -> impl Iterator<Item = (&str, usize, f32)> {
        self.0.file.deltas().map(|delta| (delta.name, delta.a.n_rows(), delta.scale))
    }

    /// Identifies the numbers: a SHA-256 over names, scales and all of A and B in GGUF's order.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// What it adds to the matrix of that GGUF name.
    pub(crate) fn delta(&self, name: &str) -> Option<Delta<'_>> {
        self.0.file.delta(name)
    }

    /// [`Error::Config`] if it was opened for a model of another shape, or cannot be multiplied by
    /// `scale`.
    pub(super) fn check_fits(&self, config: &ModelConfig, scale: f32) -> Result<()> {
        let path = self.path();
        refuse_encoder(path, config)?;
        if self.0.shape != shape(config) {
            let reason = format!("{} was opened for a model of another shape", path.display());
            return Err(Error::config("adapter", reason));
        }
        if !scale.is_finite() {
            return Err(Error::config("adapter scale", format!("{scale} is not finite")));
        }
        Ok(())
    }

    /// The matrices as layers beside those of the model; packed on the calling rayon pool when it
    /// is first asked for.
    pub(super) fn packed(&self, config: &ModelConfig) -> Result<Arc<LowRanks>> {
        if let Some(packed) = self.0.packed.get() {
            return Ok(packed.clone());
        }
        let packed = Arc::new(pack(&self.0.file, config)?);
        Ok(self.0.packed.get_or_init(|| packed).clone())
    }
}

impl Site {
    /// The number of the site's layers.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Head => 0,
            Self::Qkv(block) => 4 * block + 1,
            Self::AttnOutput(block) => 4 * block + 2,
            Self::Up(block) => 4 * block + 3,
            Self::Down(block) => 4 * block + 4,
        }
    }
}

/// [`Error::Config`] for a model with an encoder: [`Site`] knows the matrices of a single stack of
/// blocks.
fn refuse_encoder(path: &Path, config: &ModelConfig) -> Result<()> {
    if config.encoder.is_none() {
        return Ok(());
    }
    let reason = format!(
        "LoRA adapters run beside decoder-only models, not beside {}: add the adapter to the \
         weights where it was trained, and open the model that this makes",
        config.architecture.name
    );
    Err(Error::config(format!("adapter {}", path.display()), reason))
}

/// The numbers that A and B depend on.
pub(super) fn shape(config: &ModelConfig) -> LowRankShape {
    let gated = usize::from(config.mlp.is_gated());
    let fused = usize::from(config.architecture.fused_qkv);
    [
        config.n_layers,
        config.hidden_size,
        config.n_heads,
        config.n_kv_heads,
        config.head_dim,
        config.feed_forward,
        config.vocab_size,
        2 * gated + fused,
    ]
}

/// Where the matrix of that GGUF name is, if the model has it and adapters may change it.
fn place(config: &ModelConfig, name: &str) -> Option<Place> {
    let ModelConfig { hidden_size, feed_forward, n_heads, n_kv_heads, head_dim, .. } = *config;
    let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let stem = name.strip_suffix(".weight")?;
    let at = |site, first, shape| Some(Place { site, first, shape });
    if stem == "output" {
        return at(Site::Head, 0, (config.vocab_size, hidden_size));
    }
    let (block, stem) = stem.strip_prefix("blk.")?.split_once('.')?;
    let block =
        block.parse().ok().filter(|b: &usize| *b < config.n_layers && b.to_string() == block)?;
    let gated = config.mlp.is_gated();
    let fused = config.architecture.fused_qkv;
    match stem {
        "attn_qkv" if fused => at(Site::Qkv(block), 0, (q + 2 * kv, hidden_size)),
        "attn_q" if !fused => at(Site::Qkv(block), 0, (q, hidden_size)),
        "attn_k" if !fused => at(Site::Qkv(block), q, (kv, hidden_size)),
        "attn_v" if !fused => at(Site::Qkv(block), q + kv, (kv, hidden_size)),
        "attn_output" => at(Site::AttnOutput(block), 0, (hidden_size, q)),
        "ffn_gate" if gated => at(Site::Up(block), 0, (feed_forward, hidden_size)),
        "ffn_up" if gated => at(Site::Up(block), feed_forward, (feed_forward, hidden_size)),
        "ffn_up" => at(Site::Up(block), 0, (feed_forward, hidden_size)),
        "ffn_down" => at(Site::Down(block), 0, (hidden_size, feed_forward)),
        _ => None,
    }
}

fn check(file: &AdapterFile, config: &ModelConfig, delta: &Delta<'_>) -> Result<()> {
    let Some(Place { shape: (n, k), .. }) = place(config, delta.name) else {
        let reason = format!(
            "changes {}: of this model adapters may change the attention's and the feed-forward's \
             matrices of its {} blocks, and the output head",
            delta.name, config.n_layers
        );
        return Err(Error::config(format!("adapter {}", file.path().display()), reason));
    };
    let rank = delta.a.n_rows();
    for (tensor, expected) in [(delta.a, [rank, k]), (delta.b, [n, rank])] {
        if tensor.dims() != expected {
            return Err(Error::Shape {
                tensor: format!("{} in {}", tensor.name(), file.path().display()),
                expected: expected.to_vec(),
                found: tensor.dims().to_vec(),
            });
        }
    }
    // No more than one of the sides can be of use.
    if rank > n.max(k) {
        let reason =
            format!("of {} is {rank}, more than the matrix has rows and columns", delta.name);
        return Err(Error::config(format!("rank in {}", file.path().display()), reason));
    }
    Ok(())
}

fn pack(file: &AdapterFile, config: &ModelConfig) -> Result<LowRanks> {
    let mut sites: Vec<Vec<(Place, Delta<'_>)>> = vec![Vec::new(); 4 * config.n_layers + 1];
    for delta in file.deltas() {
        if let Some(place) = place(config, delta.name) {
            sites[place.site.number()].push((place, delta));
        }
    }
    let layers = sites.into_iter().map(|mut site| {
        site.sort_by_key(|(place, _)| place.first);
        let Some((Place { shape: (_, k), .. }, _)) = site.first() else { return Ok(None) };
        // All A, one below the other.
        let a = site.iter().flat_map(|(_, delta)| rows(&delta.a)).collect::<Vec<_>>();
        let a = pack_rows(&a, *k)?;
        let parts = site.iter().map(|(place, delta)| {
            let b = pack_rows(&rows(&delta.b).collect::<Vec<_>>(), delta.b.row_len())?;
            Ok(LowRankPart { b: Linear::new(b, None), scale: delta.scale, first: place.first })
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Some(LowRank { a: Linear::new(a, None), parts }))
    });
    Ok(LowRanks { layers: layers.collect::<Result<_>>()?, shape: shape(config) })
}

/// A factor's rows with their encoding.
fn rows<'a>(tensor: &TensorView<'a>) -> impl Iterator<Item = (Encoding, &'a [u8])> {
    (0..tensor.n_rows()).map(|row| (tensor.encoding(), tensor.row(row)))
}

/// Packs rows of `k` numbers as they are if they are floats of one encoding, else as f32: the
/// factors are small, and what is added to the model's outputs should not be rounded once more.
fn pack_rows(rows: &[(Encoding, &[u8])], k: usize) -> Result<Packed> {
    let encoding = rows.first().map_or(Encoding::F32, |(encoding, _)| *encoding);
    if encoding.is_float() && rows.iter().all(|(other, _)| *other == encoding) {
        return quant::pack(encoding, (rows.len(), k), |row| rows[row].1);
    }
    let decoded: Vec<_> = rows.iter().map(|(encoding, row)| decoded(*encoding, row, k)).collect();
    quant::pack(Encoding::F32, (rows.len(), k), |row| &decoded[row])
}

/// A row as the bytes of f32.
fn decoded(encoding: Encoding, row: &[u8], k: usize) -> Vec<u8> {
    let mut values = vec![0.0; k];
    encoding.decode(row, &mut values);
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
