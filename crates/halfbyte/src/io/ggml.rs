//! The files of 2023: LLaMA's `ggml`, `ggmf` and `ggjt`, GPT-J's and GPT-NeoX's `ggml`.
//!
//! A header of a few words, the vocabulary, then tensors one after another until the file ends.
//! Nothing in it says which model it is: files without a version are told apart by which header,
//! vocabulary and first tensor fit together. What the layouts are is data, in `ggml_layout`.
//!
//! Source: ggml-org/llama.cpp `llama.cpp` and `convert.py` of March to July 2023, ggml-org/ggml
//! `examples/gpt-j` and `examples/gpt-neox`, nomic-ai/gpt4all `gptj.cpp`.

use std::path::Path;

use super::checkpoint::{self, Checkpoint, Tensor, TokenizerSource};
use super::cursor::Cursor;
use super::ggml_header::{Header, Magic, unaligned};
use super::ggml_layout::{Dim, Named};
use super::ggml_parts::{self, Joined};
use super::ggml_vocab;
use super::hf_names::BUFFERS;
use super::metadata::{Metadata, Value};
use super::mmap::Map;
use super::source::Source;
use super::view::RowOrder;
use crate::error::{Error, Result};
use crate::quant::Encoding;

const MAX_NAME_BYTES: usize = 256;
/// A model of 1,024 blocks has some 12,000 tensors.
const MAX_TENSORS: usize = 16_384;
/// LLaMA 1's context and RMS epsilon, where a file is silent, and those of LLaMA 2, which is the only
/// one of that time with fewer key heads than query heads.
const LLAMA_1: (u32, f32) = (2048, 1e-6);
const LLAMA_2: (u32, f32) = (4096, 1e-5);

/// A tensor as the file has it.
#[derive(Debug)]
pub(super) struct Record {
    /// Where its record starts, for messages.
    pub(super) at: usize,
    /// The name in the file.
    pub(super) name: String,
    pub(super) named: Named,
    /// Outermost first.
    pub(super) dims: Vec<usize>,
    pub(super) encoding: Encoding,
    /// Its bytes in the file.
    pub(super) start: usize,
    pub(super) n_bytes: usize,
}

/// A file, read.
#[derive(Debug)]
pub(super) struct File {
    source: Option<Source>,
    pub(super) header: Header,
    pub(super) records: Vec<Record>,
    /// The vocabulary's entries, and what had to be assumed about them.
    vocab: Metadata,
    notes: Vec<String>,
}

impl File {
    /// The file's bytes, none after [`take_source`](Self::take_source).
    pub(super) fn bytes(&self) -> &[u8] {
        self.source.as_ref().map_or(&[], Source::bytes)
    }

    pub(super) fn take_source(&mut self) -> Option<Source> {
        self.source.take()
    }

    /// What whoever looks at the model should know.
    pub(super) fn notes_mut(&mut self) -> &mut Vec<String> {
        &mut self.notes
    }
}

/// Whether a file that starts so is one of 2023.
pub(super) fn is_one(head: &[u8]) -> bool {
    Magic::of(head).is_some()
}

/// Opens the file at `path`, and its other parts if LLaMA's converter left several.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    whole(path, read(path)?)
}

/// The model of which `file`, at `path`, is all or a part.
pub(super) fn whole(path: &Path, file: File) -> Result<Checkpoint> {
    let Joined { path, mut file, mut sources, tensors } = ggml_parts::join(path, file)?;
    let sizes = Sizes::of(&path, &file.header, || tensors.iter().map(|(record, _)| record))?;
    let tensors = tensors.into_iter().map(|(record, place)| {
        sizes.check(&file.header, &record)?;
        let n_heads = file.header.n_heads;
        let order = record.named.part.rows.order(n_heads, n_heads);
        if record.dims.len() == 1 && order != RowOrder::Natural {
            return part_vector(&path, &mut sources, &record, place, order);
        }
        Tensor::new(record.named.gguf(), record.dims, record.encoding, order, place)
            .map_err(|what| malformed(&path, record.at, format!("tensor {} {what}", record.name)))
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    sizes.complete(&path, &file.header, &tensors)?;
    let metadata = metadata(&path, &mut file, &sizes);
    let container = file.header.describe();
    let checkpoint =
        Checkpoint::assemble(path, metadata, TokenizerSource::Metadata, sources, tensors)?;
    Ok(checkpoint.described(container, file.notes))
}

/// Reads one file: header, vocabulary, tensor list.
pub(super) fn read(path: &Path) -> Result<File> {
    parse(path, Source::Map(Map::open(path)?))
}

/// Reads the file whose bytes are `source`.
pub(super) fn parse(path: &Path, source: Source) -> Result<File> {
    let mut cursor = Cursor::new(path, source.bytes());
    let header = Header::read(&mut cursor)?;
    let (vocab, notes) = vocabulary(&mut cursor, &header)?;
    let mut records = Vec::new();
    while cursor.remaining() > 0 {
        records.extend(record(&mut cursor, &header)?);
        if records.len() > MAX_TENSORS {
            return Err(cursor.malformed(format!("there are more than {MAX_TENSORS} tensors")));
        }
    }
    Ok(File { source: Some(source), header, records, vocab, notes })
}

fn vocabulary(cursor: &mut Cursor<'_>, header: &Header) -> Result<(Metadata, Vec<String>)> {
    let mut tokens = Vec::new();
    let mut scores = header.has_scores().then(Vec::new);
    // Every token takes four bytes at least: the lists are no larger than six times the file.
    for id in 0..header.n_vocab {
        grow(&mut tokens)?;
        tokens.push(header.token(cursor, id)?);
        if let Some(scores) = &mut scores {
            let at = cursor.position();
            let score = f32::from_bits(cursor.u32("score of a token")?);
            if !score.is_finite() {
                return Err(cursor.malformed_at(at, format!("score of token {id} is {score}")));
            }
            grow(scores)?;
            scores.push(score);
        }
    }
    let mut metadata = Metadata::default();
    let note = match header.layout.architecture {
        "llama" => ggml_vocab::sentencepiece(&tokens, scores, &mut metadata)?,
        architecture => ggml_vocab::byte_level(&tokens, architecture == "gptneox", &mut metadata)?,
    };
    Ok((metadata, note.into_iter().collect()))
}

/// Makes room for one element more.
fn grow<T>(list: &mut Vec<T>) -> Result<()> {
    let bytes = (list.len() + 1).saturating_mul(size_of::<T>());
    list.try_reserve(1).map_err(|_| Error::OutOfMemory { bytes })
}

/// The next tensor; `None` for masks and frequencies, which are no weights.
fn record(cursor: &mut Cursor<'_>, header: &Header) -> Result<Option<Record>> {
    let at = cursor.position();
    let n_dims = cursor.u32("dimension count of a tensor")?;
    let name_len = cursor.u32("name length of a tensor")?;
    let number = cursor.u32("type of a tensor")?;
    if !(1..=2).contains(&n_dims) {
        let why = format!("a tensor has {n_dims} dimensions, expected 1 or 2");
        return Err(cursor.malformed_at(at, why));
    }
    let mut dims = Vec::with_capacity(2);
    for _ in 0..n_dims {
        // The file has the innermost dimension first.
        let dim = cursor.u32("dimension of a tensor")?;
        dims.insert(0, usize::try_from(dim).unwrap_or(usize::MAX));
    }
    let name_len = usize::try_from(name_len).unwrap_or(usize::MAX);
    if !(1..=MAX_NAME_BYTES).contains(&name_len) {
        let why = format!("a tensor's name has {name_len} bytes, expected 1 to {MAX_NAME_BYTES}");
        return Err(cursor.malformed_at(at, why));
    }
    let name = cursor.take(name_len, "name of a tensor")?;
    let Ok(name) = std::str::from_utf8(name) else {
        return Err(cursor.malformed_at(at, "a tensor's name is not UTF-8"));
    };
    let Some(encoding) = header.generation.encoding(number) else {
        return Err(Error::UnsupportedEncoding {
            found: format!(
                "{} of tensor {name} in {} ({})",
                Encoding::by_number_name(number),
                cursor.path().display(),
                header.generation.describe()
            ),
            supported: header.generation.supported(),
        });
    };
    if header.magic.aligned() {
        cursor.take(unaligned(cursor.position()), "padding before a tensor's data")?;
    }
    let layout = checkpoint::Layout::of(&dims, encoding);
    let n_bytes = match layout {
        Ok(layout) => layout.n_bytes,
        Err(what) => return Err(cursor.malformed_at(at, format!("tensor {name} {what}"))),
    };
    let start = cursor.position();
    cursor.take(n_bytes, format_args!("data of tensor {name}"))?;
    if BUFFERS.iter().any(|end| name.ends_with(end)) {
        return Ok(None);
    }
    let named = named(header, name).map_err(|why| cursor.malformed_at(at, why))?;
    Ok(Some(Record { at, name: name.to_owned(), named, dims, encoding, start, n_bytes }))
}

/// What the tensor `name` is, or why it is nothing.
fn named(header: &Header, name: &str) -> Result<Named, String> {
    let named = header.layout.named(name).ok_or_else(|| {
        format!("tensor {name} is no part of a {} model of 2023", header.layout.name)
    })?;
    if named.block >= header.n_blocks {
        let n = header.n_blocks;
        return Err(format!("tensor {name} is of a block beyond the {n} of the header"));
    }
    Ok(named)
}

/// The sizes of a model: those of the header, and those that only its tensors tell.
#[derive(Debug)]
pub(super) struct Sizes {
    vocab: usize,
    width: usize,
    key_value: usize,
    inner: usize,
}

impl Sizes {
    fn of<'r, R: Iterator<Item = &'r Record>>(
        path: &Path,
        header: &Header,
        records: impl Fn() -> R,
    ) -> Result<Self> {
        let rows = |dim: Dim| {
            let wanted = |r: &&Record| !r.named.is_bias && r.named.part.dims.first() == Some(&dim);
            records().find(wanted).and_then(|record| record.dims.first().copied())
        };
        let missing =
            |name: &str| Error::MissingTensor { name: name.to_owned(), path: path.to_owned() };
        let inner = rows(Dim::Inner).ok_or_else(|| missing("of a feed-forward block"))?;
        let key_value = rows(Dim::KeyValue).unwrap_or(header.width);
        let head = header.width / header.n_heads;
        let n_groups = key_value / head.max(1);
        let part = key_value.is_multiple_of(head.max(1)) && n_groups > 0;
        if !part || !header.n_heads.is_multiple_of(n_groups) {
            let n_heads = header.n_heads;
            return Err(malformed(
                path,
                0,
                format!("{key_value} rows of keys do not fit {n_heads} heads of {head}"),
            ));
        }
        Ok(Self { vocab: header.n_vocab, width: header.width, key_value, inner })
    }

    fn dim(&self, dim: Dim) -> usize {
        match dim {
            Dim::Vocab => self.vocab,
            Dim::Width => self.width,
            Dim::KeyValue => self.key_value,
            Dim::Inner => self.inner,
            // The width is at most 2^17.
            Dim::Qkv => 3 * self.width,
        }
    }

    fn check(&self, header: &Header, record: &Record) -> Result<()> {
        let mut expected: Vec<_> =
            record.named.part.dims.iter().map(|&dim| self.dim(dim)).collect();
        if record.named.is_bias {
            expected.truncate(1);
        }
        if record.dims != expected {
            let tensor = format!("{} of a {} model", record.name, header.layout.name);
            return Err(Error::Shape { tensor, expected, found: record.dims.clone() });
        }
        Ok(())
    }

    /// Proves that every tensor of the layout is there.
    fn complete(&self, path: &Path, header: &Header, tensors: &[Tensor]) -> Result<()> {
        let names: std::collections::HashSet<&str> = tensors.iter().map(Tensor::name).collect();
        for part in header.layout.parts {
            let blocks = if part.file.contains("{}") { header.n_blocks } else { 1 };
            for named in (0..blocks).flat_map(|block| {
                let of = move |is_bias| Named { part, block, is_bias };
                std::iter::once(of(false)).chain(part.bias.then(|| of(true)))
            }) {
                if !names.contains(named.gguf().as_str()) {
                    let file = part.file.replace("{}", &named.block.to_string());
                    let name = format!("{file} ({})", named.gguf());
                    return Err(Error::MissingTensor { name, path: path.to_owned() });
                }
            }
        }
        Ok(())
    }
}

/// A vector whose elements the file has in another order.
fn part_vector(
    path: &Path,
    sources: &mut Vec<Source>,
    record: &Record,
    (source, start): (usize, usize),
    order: RowOrder,
) -> Result<Tensor> {
    let wrong = |what: &str| malformed(path, record.at, format!("tensor {} {what}", record.name));
    let n = record.dims.first().copied().unwrap_or(0);
    let end = start.saturating_add(record.n_bytes);
    let bytes = sources.get(source).and_then(|source| source.bytes().get(start..end));
    let size = record.encoding.row_bytes(1);
    let (Some(bytes), Some(size), true) = (bytes, size, order.fits(n)) else {
        return Err(wrong("is no vector of queries, keys and values"));
    };
    let parted = order.elements(bytes, size)?;
    let place = (sources.len(), 0);
    sources.push(Source::Owned(parted));
    let dims = record.dims.clone();
    Tensor::new(record.named.gguf(), dims, record.encoding, RowOrder::Natural, place)
        .map_err(|what| wrong(&what))
}

fn metadata(path: &Path, file: &mut File, sizes: &Sizes) -> Metadata {
    let (header, architecture) = (&file.header, file.header.layout.architecture);
    let (context, epsilon) = if sizes.key_value < sizes.width { LLAMA_2 } else { LLAMA_1 };
    let number = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::from(architecture));
    if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
        metadata.set("general.name", Value::from(stem));
    }
    let mut set = |key: &str, value: Value| metadata.set(format!("{architecture}.{key}"), value);
    let context = header.context.unwrap_or(context);
    set("context_length", Value::U32(context));
    set("embedding_length", number(header.width));
    set("block_count", number(header.n_blocks));
    set("feed_forward_length", number(sizes.inner));
    set("attention.head_count", number(header.n_heads));
    let head = (header.width / header.n_heads).max(1);
    set("attention.head_count_kv", number(sizes.key_value / head));
    set("rope.dimension_count", number(header.n_rot));
    set("vocab_size", number(header.n_vocab));
    if architecture == "llama" {
        set("attention.layer_norm_rms_epsilon", Value::F32(epsilon));
        file.notes.push(format!(
            "the file does not say its context length, RMS epsilon and rope base: assumed \
             {context}, {epsilon:e} and 10000 (--rms-eps and --rope-base change them)"
        ));
    } else {
        set("attention.layer_norm_epsilon", Value::F32(1e-5));
        set("use_parallel_residual", Value::Bool(header.parallel));
        file.notes.push(
            "the file does not say its rope base: assumed 10000 (--rope-base changes it)".into(),
        );
    }
    metadata.append(std::mem::take(&mut file.vocab));
    metadata
}

pub(super) fn malformed(path: &Path, at: usize, what: impl Into<String>) -> Error {
    Error::Malformed { path: path.into(), what: what.into(), offset: at as u64 }
}
