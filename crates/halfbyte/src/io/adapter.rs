//! LoRA adapters on disk: for each matrix that one changes, A, B and a scale.
//!
//! Every container becomes one [`AdapterFile`]: tensors under GGUF names, rows in GGUF's order. A
//! new container is a row of the table behind [`AdapterFile::open`].

use std::collections::BTreeMap;
use std::path::Path;

use super::checkpoint::{Checkpoint, Tensor, TokenizerSource};
use super::hf_config;
use super::hf_names::{Name, block_of};
use super::metadata::Metadata;
use super::source::Source;
use super::view::{RowOrder, TensorView};
use super::{adapter_ggla, adapter_gguf, adapter_peft, container};
use crate::error::{Error, Result};

/// What the readers must know of the model that an adapter changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base<'a> {
    /// `general.architecture`.
    pub(crate) architecture: &'a str,
    /// H: query heads.
    pub(crate) n_heads: usize,
    /// K: key/value heads.
    pub(crate) n_kv_heads: usize,
}

/// An adapter on disk. Its matrices are pointed at, not read.
#[derive(Debug)]
pub(crate) struct AdapterFile {
    /// The matrices as `<tensor>.lora_a` and `<tensor>.lora_b`.
    checkpoint: Checkpoint,
    /// GGUF tensor name → what B·A is multiplied by.
    scales: BTreeMap<String, f32>,
}

/// What an adapter adds to one matrix: `W += scale · B·A`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta<'a> {
    /// The matrix's GGUF name, such as `blk.0.attn_q.weight`.
    pub(crate) name: &'a str,
    /// A (r, in).
    pub(crate) a: TensorView<'a>,
    /// B (out, r), its rows in GGUF's order.
    pub(crate) b: TensorView<'a>,
    pub(crate) scale: f32,
}

/// Either factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

/// A kind of adapter on disk.
struct Container {
    name: &'static str,
    /// Whether `path`, whose first bytes are `head` if it is a file, is one.
    sniff: fn(path: &Path, head: &[u8]) -> bool,
    open: fn(path: &Path, base: Base<'_>) -> Result<AdapterFile>,
}

static CONTAINERS: &[Container] = &[
    Container {
        name: "PEFT folder (adapter_config.json and adapter_model.safetensors or .bin)",
        sniff: |path, _| adapter_peft::folder_of(path).is_some(),
        open: adapter_peft::open,
    },
    Container {
        name: "GGUF adapter",
        sniff: |_, head| head.starts_with(super::gguf::MAGIC),
        open: adapter_gguf::open,
    },
    Container {
        name: "ggla file of 2023",
        sniff: |_, head| head.starts_with(adapter_ggla::MAGIC),
        open: adapter_ggla::open,
    },
];

impl Side {
    /// The end of the tensor's name, as GGUF spells it.
    fn suffix(self) -> &'static str {
        match self {
            Self::A => ".lora_a",
            Self::B => ".lora_b",
        }
    }

    /// The tensor's name.
    fn of(self, matrix: &str) -> String {
        format!("{matrix}{}", self.suffix())
    }

    /// The matrix of the tensor `name`, and which factor it is.
    pub(super) fn split(name: &str) -> Option<(&str, Self)> {
        [Self::A, Self::B].into_iter().find_map(|side| {
            let matrix = name.strip_suffix(side.suffix())?;
            Some((matrix, side))
        })
    }
}

impl AdapterFile {
    /// Opens a PEFT folder, a GGUF adapter or a `ggla` file for the model `base`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Malformed`], [`Error::UnsupportedFormat`],
    /// [`Error::UnsupportedEncoding`], [`Error::MissingTensor`] for A without B, and
    /// [`Error::Config`] for what is no plain LoRA or is made for another architecture.
    pub(crate) fn open(path: &Path, base: Base<'_>) -> Result<Self> {
        let head = container::head(path)?;
        if let Some(container) = CONTAINERS.iter().find(|c| (c.sniff)(path, &head)) {
            return (container.open)(path, base);
        }
        let supported: Vec<_> = CONTAINERS.iter().map(|c| c.name).collect();
        let found = match container::describe(path, &head) {
            _ if path.is_dir() => "a folder without adapter_config.json".into(),
            found => found,
        };
        Err(Error::UnsupportedFormat { path: path.into(), found, supported: supported.join(", ") })
    }

    /// Puts the parts together: every A has its B, and `scale` is asked for each pair's.
    ///
    /// `scale(name, r)` is given the matrix's GGUF name and the rank.
    pub(super) fn assemble(
        path: &Path,
        metadata: Metadata,
        sources: Vec<Source>,
        tensors: Vec<Tensor>,
        scale: impl Fn(&str, usize) -> Result<f64>,
    ) -> Result<Self> {
        let none = TokenizerSource::None;
        let checkpoint = Checkpoint::assemble(path.into(), metadata, none, sources, tensors)?;
        let mut scales = BTreeMap::new();
        for name in checkpoint.tensor_names() {
            let Some((matrix, side)) = Side::split(name) else {
                let reason = "is no A or B of a LoRA adapter";
                return Err(Error::config(format!("tensor {name} in {}", path.display()), reason));
            };
            // Either needs the other.
            let rank = rank(&checkpoint, matrix)?;
            if side == Side::B {
                scales.insert(matrix.to_owned(), finite(path, matrix, scale(matrix, rank)?)?);
            }
        }
        if scales.is_empty() {
            let what = "there is no lora_a and lora_b in it".into();
            return Err(Error::Malformed { path: path.into(), what, offset: 0 });
        }
        Ok(Self { checkpoint, scales })
    }

    /// The file or folder, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// What is added to each matrix, in the order of their names.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = Delta<'_>> {
        self.scales.keys().filter_map(|name| self.delta(name))
    }

    /// What is added to the matrix of that GGUF name.
    pub(crate) fn delta(&self, name: &str) -> Option<Delta<'_>> {
        let (name, &scale) = self.scales.get_key_value(name)?;
        let a = self.checkpoint.tensor(&Side::A.of(name))?;
        let b = self.checkpoint.tensor(&Side::B.of(name))?;
        Some(Delta { name, a, b, scale })
    }
}

/// The rank of a pair, whose A and B must agree on it.
fn rank(checkpoint: &Checkpoint, name: &str) -> Result<usize> {
    let a = checkpoint.require(&Side::A.of(name))?;
    let b = checkpoint.require(&Side::B.of(name))?;
    for tensor in [a, b] {
        let n_dims = tensor.dims().len();
        if n_dims != 2 {
            let what = format!("tensor {} has {n_dims} dimensions, expected 2", tensor.name());
            return Err(Error::Malformed { path: checkpoint.path().into(), what, offset: 0 });
        }
    }
    if b.row_len() != a.n_rows() {
        return Err(Error::Shape {
            tensor: b.name().into(),
            expected: vec![b.n_rows(), a.n_rows()],
            found: b.dims().to_vec(),
        });
    }
    Ok(a.n_rows())
}

fn finite(path: &Path, name: &str, scale: f64) -> Result<f32> {
    let scale = scale as f32;
    if scale.is_finite() {
        return Ok(scale);
    }
    let reason = format!("the scale of {name}, alpha divided by the rank, is {scale}");
    Err(Error::config(format!("alpha in {}", path.display()), reason))
}

/// The row of the architecture's table of names that `module` is, and the block's number.
///
/// `names` gives a row's spellings, `{}` standing for the number.
pub(super) fn find_name<'a>(
    base: Base<'_>,
    module: &str,
    names: impl Fn(&'static Name) -> Vec<&'a str>,
) -> Option<(&'static Name, usize)> {
    hf_config::names_of(base.architecture)?.iter().find_map(|row| {
        let block = names(row).into_iter().find_map(|name| block_of(name, module))?;
        Some((row, block))
    })
}

/// The GGUF name of a factor of the module `row` of block `number`, and the order of its rows in a
/// file that has them as Hugging Face does.
pub(super) fn from_hf(
    base: Base<'_>,
    (row, number): (&Name, usize),
    side: Side,
) -> (String, RowOrder) {
    let matrix = format!("{}.weight", row.gguf.replace("{}", &number.to_string()));
    let order = match side {
        // Only the outputs' order differs.
        Side::A => RowOrder::Natural,
        Side::B => row.rows.order(base.n_heads, base.n_kv_heads),
    };
    (side.of(&matrix), order)
}
