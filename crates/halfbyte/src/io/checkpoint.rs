//! What every container becomes: metadata, tensors under GGUF names, a tokenizer description.

use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::metadata::Metadata;
use super::source::Source;
use super::view::{RowOrder, TensorView};
use super::{container, gguf, gguf_writer};
use crate::error::{Error, Result};
use crate::quant::Encoding;

/// A model on disk (or in memory): metadata under GGUF keys, tensors under GGUF names.
///
/// Every tensor's byte range was proved to lie inside its file when the checkpoint was opened.
/// Files are mapped, not read: they must not be shortened or rewritten while the checkpoint lives.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    metadata: Metadata,
    tokenizer: TokenizerSource,
    sources: Vec<Source>,
    tensors: Vec<Tensor>,
    /// Positions in `tensors`, ordered by name.
    by_name: Vec<usize>,
    container: String,
    notes: Vec<String>,
}

/// Where the tokenizer's description is.
#[derive(Clone, Debug, Default)]
pub enum TokenizerSource {
    /// The checkpoint has none.
    #[default]
    None,
    /// In the metadata, under GGUF's `tokenizer.ggml.*` keys.
    Metadata,
    /// A Hugging Face `tokenizer.json`.
    Json(Vec<u8>),
    /// A SentencePiece `tokenizer.model` (protobuf).
    SentencePiece(Vec<u8>),
}

/// One tensor's place; made only by [`Tensor::new`], which proves the sizes.
#[derive(Debug)]
pub(super) struct Tensor {
    name: String,
    dims: Vec<usize>,
    encoding: Encoding,
    row_order: RowOrder,
    layout: Layout,
    source: usize,
    start: usize,
    /// Which column of the matrix each stored one is, if they are out of order.
    columns: Option<Vec<u32>>,
}

/// The sizes that a shape and an encoding make: the one place where they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) n_rows: usize,
    pub(super) row_len: usize,
    pub(super) row_bytes: usize,
    pub(super) n_bytes: usize,
}

impl Layout {
    /// Sizes of a tensor of `dims` (outermost first), or what is wrong with them.
    pub(super) fn of(dims: &[usize], encoding: Encoding) -> Result<Self, String> {
        let Some((&row_len, outer)) = dims.split_last() else {
            return Err("has no dimensions".into());
        };
        if dims.contains(&0) {
            return Err(format!("has a dimension of zero in {dims:?}"));
        }
        let too_large = || format!("of shape {dims:?} is too large");
        let n_rows = outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let n_rows = n_rows.ok_or_else(too_large)?;
        if !row_len.is_multiple_of(encoding.block_len()) {
            return Err(format!(
                "has rows of {row_len} elements, no multiple of the {} of a {} block",
                encoding.block_len(),
                encoding.name()
            ));
        }
        let row_bytes = encoding.row_bytes(row_len).ok_or_else(too_large)?;
        let n_bytes = row_bytes.checked_mul(n_rows).ok_or_else(too_large)?;
        // Decoding makes n_rows · row_len floats of 4 bytes; that count must not overflow, either.
        let n_elements = row_len.checked_mul(n_rows);
        n_elements.and_then(|n| n.checked_mul(4)).ok_or_else(too_large)?;
        Ok(Self { n_rows, row_len, row_bytes, n_bytes })
    }
}

impl Tensor {
    /// A tensor at byte `start` of source number `source`; what is wrong with it otherwise.
    pub(super) fn new(
        name: String,
        dims: Vec<usize>,
        encoding: Encoding,
        row_order: RowOrder,
        (source, start): (usize, usize),
    ) -> Result<Self, String> {
        let layout = Layout::of(&dims, encoding)?;
        if !row_order.fits(layout.n_rows) {
            return Err(format!("has {} rows, which {row_order:?} does not divide", layout.n_rows));
        }
        Ok(Self { name, dims, encoding, row_order, layout, source, start, columns: None })
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.layout.n_bytes
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The tensor's bytes, `None` if they do not lie in the sources.
    fn bytes<'a>(&self, sources: &'a [Source]) -> Option<&'a [u8]> {
        let end = self.start.checked_add(self.layout.n_bytes)?;
        sources.get(self.source)?.bytes().get(self.start..end)
    }

    /// The tensor with its columns stored in this order, a permutation of them.
    pub(super) fn with_columns(mut self, columns: Vec<u32>) -> Self {
        debug_assert_eq!(columns.len(), self.layout.row_len, "columns of another tensor");
        self.columns = Some(columns);
        self
    }

    /// Renumbers the source, when several files become one checkpoint.
    pub(super) fn in_source(mut self, source: usize) -> Self {
        self.source = source;
        self
    }
}

impl Checkpoint {
    /// Opens a GGUF file, a file of 2023 (`ggml`, `ggmf`, `ggjt`) or a Hugging Face directory.
    ///
    /// A split GGUF may be named by any of its parts, a directory by its `config.json` or one of
    /// its weights files (`.safetensors`, or PyTorch's `.bin`, `.pt`, `.pth`). Matrices that GPTQ or
    /// AWQ packed in four bits are repacked while opening, which takes memory of their size.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Malformed`], [`Error::UnsupportedFormat`],
    /// [`Error::UnsupportedEncoding`], and for directories also [`Error::Config`],
    /// [`Error::UnsupportedArchitecture`], [`Error::MissingTensor`] and [`Error::Shape`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        container::open(path.as_ref())
    }

    /// Reads a GGUF file that is already in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_static_bytes(name: &str, bytes: &'static [u8]) -> Result<Self> {
        gguf::from_static_bytes(name, bytes).map(|checkpoint| checkpoint.opened_as("GGUF file"))
    }

    /// Puts the parts together, with the last proofs: every tensor in its source, names unique.
    pub(super) fn assemble(
        path: PathBuf,
        metadata: Metadata,
        tokenizer: TokenizerSource,
        sources: Vec<Source>,
        tensors: Vec<Tensor>,
    ) -> Result<Self> {
        let malformed = |tensor: &Tensor, what: &str| Error::Malformed {
            path: path.clone(),
            what: format!("tensor {} {what}", tensor.name),
            offset: tensor.start as u64,
        };
        if let Some(outside) = tensors.iter().find(|t| t.bytes(&sources).is_none()) {
            return Err(malformed(outside, "does not lie in its file"));
        }
        let mut order: Vec<(&str, usize)> =
            tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        order.sort_unstable();
        for (first, second) in order.iter().zip(order.iter().skip(1)) {
            if first.0 == second.0
                && let Some(twice) = tensors.get(second.1)
            {
                return Err(malformed(twice, "is there twice"));
            }
        }
        let by_name = order.into_iter().map(|(_, i)| i).collect();
        let (container, notes) = (String::new(), Vec::new());
        Ok(Self { path, metadata, tokenizer, sources, tensors, by_name, container, notes })
    }

    /// Says what the container is, and what whoever looks at it should know.
    pub(super) fn described(mut self, container: String, notes: Vec<String>) -> Self {
        self.container = container;
        self.notes = notes;
        self
    }

    /// Says what the container is, if its reader did not.
    pub(super) fn opened_as(mut self, container: &str) -> Self {
        if self.container.is_empty() {
            container.clone_into(&mut self.container);
        }
        self
    }

    /// The file or directory, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of file it came from, for people: `ggjt version 1 of 2023, LLaMA, …`.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// What was assumed or put together when it was opened, for people; mostly nothing.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, to be changed where a file is silent or wrong.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The tokenizer's description.
    pub fn tokenizer(&self) -> &TokenizerSource {
        &self.tokenizer
    }

    /// The tensors' GGUF names, in file order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// The tensor of that GGUF name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.find(name).map(|t| self.view(t))
    }

    /// The tensor of that GGUF name, or [`Error::MissingTensor`].
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    pub fn require(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensor(name)
            .ok_or_else(|| Error::MissingTensor { name: name.into(), path: self.path.clone() })
    }

    /// Tells the operating system that the tensor's file pages are not needed any more.
    ///
    /// The bytes stay readable; they are read from disk again when touched.
    pub fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name)
            && let Some(source) = self.sources.get(tensor.source)
        {
            source.release(tensor.start, tensor.layout.n_bytes);
        }
    }

    /// As [`release`](Self::release), for some rows of the tensor.
    ///
    /// Rows that the file has in another order stay until the whole tensor goes: their pages may
    /// hold rows that are still needed.
    pub(crate) fn release_rows(&self, name: &str, rows: Range<usize>) {
        if let Some(tensor) = self.find(name)
            && tensor.row_order == RowOrder::Natural
            && rows.end <= tensor.layout.n_rows
            && let Some(source) = self.sources.get(tensor.source)
        {
            let row_bytes = tensor.layout.row_bytes;
            source.release(tensor.start + rows.start * row_bytes, rows.len() * row_bytes);
        }
    }

    /// A SHA-256 that tells models apart: over metadata, tensor list and samples of the weights.
    ///
    /// Reads at most about 4 MiB of weights, evenly spread over all tensors (beginning, middle and
    /// end of each), so it takes milliseconds and does not notice every single changed byte. The
    /// path does not matter.
    pub fn fingerprint(&self) -> [u8; 32] {
        const SAMPLE_BYTES: usize = 4 << 20;
        let per_tensor = (SAMPLE_BYTES / self.tensors.len().max(1)).clamp(48, 64 << 10);
        let mut hash = Sha256::new();
        gguf_writer::encode_metadata(&self.metadata, &mut |bytes| hash.update(bytes));
        for tensor in &self.tensors {
            let view = self.view(tensor);
            hash.update((view.name.len() as u64).to_le_bytes());
            hash.update(view.name);
            hash.update((view.dims.len() as u64).to_le_bytes());
            for &dim in view.dims {
                hash.update((dim as u64).to_le_bytes());
            }
            hash.update(view.encoding.name());
            hash.update(format!("{:?}", view.row_order));
            for column in view.columns.into_iter().flatten() {
                hash.update(column.to_le_bytes());
            }
            for sample in samples(view.bytes, per_tensor) {
                hash.update(sample);
            }
        }
        hash.finalize().into()
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let tensor = |position: &usize| self.tensors.get(*position);
        let slot = self
            .by_name
            .binary_search_by(|i| tensor(i).map_or("", |t| t.name.as_str()).cmp(name))
            .ok()?;
        self.by_name.get(slot).and_then(tensor)
    }

    fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        let bytes = tensor.bytes(&self.sources);
        TensorView {
            name: &tensor.name,
            dims: &tensor.dims,
            encoding: tensor.encoding,
            bytes: bytes.expect("assemble checked that every tensor lies in its source"),
            row_order: tensor.row_order,
            n_rows: tensor.layout.n_rows,
            row_len: tensor.layout.row_len,
            row_bytes: tensor.layout.row_bytes,
            columns: tensor.columns.as_deref(),
        }
    }
}

/// Beginning, middle and end of `bytes`, `budget` bytes together; all of it if it is shorter.
fn samples(bytes: &[u8], budget: usize) -> impl Iterator<Item = &[u8]> {
    let piece = budget / 3;
    let starts = if bytes.len() <= budget {
        [(0, bytes.len()), (0, 0), (0, 0)]
    } else {
        [(0, piece), (bytes.len() / 2, piece), (bytes.len() - piece, piece)]
    };
    starts.into_iter().filter_map(|(start, len)| bytes.get(start..(start + len).min(bytes.len())))
}
