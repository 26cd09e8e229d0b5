//! A checkpoint → a GGUF file in another encoding, tensor by tensor.

use std::path::Path;

use rayon::prelude::*;

use super::adapter::Adapter;
use super::merge::{self, Merge};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::io::{Checkpoint, GgufWriter, Metadata, TensorInfo, TensorView, Value};
use crate::kernels::zeroed;
use crate::quant::{self, Encoding};
use crate::tokenizer::gguf_metadata;

/// What a model's matrices are encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeType(&'static Row);

#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    /// `general.file_type`, as llama.cpp numbers them.
    file_type: u32,
    /// Most matrices.
    base: Encoding,
    /// The output head.
    output: Encoding,
    /// The tensors that suffer most: values and down projections of some layers.
    more: Encoding,
    /// Whether tensors stay as they are instead.
    keeps: bool,
}

/// One row for each name that `halfbyte quantize --type` takes.
static TYPES: &[Row] = &[
    plain("f32", 0, Encoding::F32),
    plain("f16", 1, Encoding::F16),
    plain("bf16", 32, Encoding::BF16),
    with_output("q4_0", 2, Encoding::Q4_0),
    with_output("q4_1", 3, Encoding::Q4_1),
    with_output("q5_0", 8, Encoding::Q5_0),
    with_output("q5_1", 9, Encoding::Q5_1),
    plain("q8_0", 7, Encoding::Q8_0),
    with_output("q4_k", 14, Encoding::Q4_K),
    Row { more: Encoding::Q6_K, ..with_output("q4_k_m", 15, Encoding::Q4_K) },
    plain("q6_k", 18, Encoding::Q6_K),
    with_output("iq4_nl", 25, Encoding::IQ4_NL),
    Row { keeps: true, ..plain("keep", 0, Encoding::F32) },
];

const fn plain(name: &'static str, file_type: u32, base: Encoding) -> Row {
    Row { name, file_type, base, output: base, more: base, keeps: false }
}

/// As published files have it: the output head in Q6_K.
const fn with_output(name: &'static str, file_type: u32, base: Encoding) -> Row {
    Row { output: Encoding::Q6_K, ..plain(name, file_type, base) }
}

/// What [`quantize`] did.
#[derive(Clone, Debug)]
pub struct QuantizeReport {
    /// Bytes of the source's tensors.
    pub source_bytes: u64,
    /// Bytes of the written tensors.
    pub bytes: u64,
    /// Weights of all tensors.
    pub weights: u64,
    /// Tensors written.
    pub tensors: usize,
    /// One line for each tensor whose width did not fit its encoding's blocks.
    pub fallbacks: Vec<String>,
    /// Tensors kept in encodings of 2023 (or [`Encoding::Q4_Z`]) that only this crate reads in a GGUF
    /// file.
    pub kept_of_2023: usize,
}

impl QuantizeType {
    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES.iter().find(|row| row.name.eq_ignore_ascii_case(name)).map(Self)
    }

    /// The name that [`from_name`](Self::from_name) takes.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// All names, for messages.
    pub fn names() -> String {
        TYPES.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
    }

    /// The encoding of the matrix `name` with rows of `row_len`, in a stack of `n_layers` blocks.
    ///
    /// `tied`: the embedding is the output head, too. Rows that are no whole blocks fall back to
    /// an encoding of smaller blocks.
    pub fn encoding_of(self, name: &str, row_len: usize, n_layers: usize, tied: bool) -> Encoding {
        fitting(self.encoding(name, n_layers, tied), row_len)
    }

    /// The encoding of the matrix `name`, before fallbacks.
    ///
    /// Source: llama.cpp's mixture for `Q4_K_M` (`llama_tensor_get_type`). Its Q5_K for GPT-NeoX's
    /// fused `attn_qkv` is Q6_K here, the nearest larger encoding that this crate writes.
    fn encoding(self, name: &str, n_layers: usize, tied: bool) -> Encoding {
        let Row { base, output, more, .. } = *self.0;
        if name == "output.weight" || (tied && name == "token_embd.weight") {
            return output;
        }
        let block = name.strip_prefix("enc.").or_else(|| name.strip_prefix("dec."));
        let mut parts = block.unwrap_or(name).split('.');
        let (Some("blk"), Some(layer), Some(stem)) = (parts.next(), parts.next(), parts.next())
        else {
            return base;
        };
        let more_bits = layer.parse().is_ok_and(|i| needs_more_bits(i, n_layers));
        match stem {
            "attn_v" | "cross_attn_v" | "ffn_down" if more_bits => more,
            "attn_qkv" => more,
            // Added to scores: no factor of a product, and too few numbers to save anything.
            "attn_rel_b" => Encoding::F32,
            _ => base,
        }
    }
}

/// The first and last eighth of the layers, and every third between.
///
/// Source: llama.cpp `use_more_bits`.
fn needs_more_bits(i: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    i < eighth || i >= 7 * n_layers / 8 || (i - eighth) % 3 == 2
}

/// Writes `source` as a GGUF file with its matrices in `kind`, calling `progress(done, total)` in
/// source bytes. Vectors stay f32. The file appears at `destination` only when it is complete.
///
/// With the type `keep` every tensor keeps its values, bit for bit. Blocks of 2023 become today's
/// where f16 holds their scales exactly; elsewhere they stay as they are, under type numbers of our
/// own, which other programs refuse. With the type that their blocks have today, codes are kept
/// and only scales are rounded.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Cancelled`], [`Error::Tokenizer`] if the tokenizer is broken, and
/// [`Error::Config`] if the destination is the source.
pub fn quantize(
    source: &Checkpoint,
    destination: &Path,
    kind: QuantizeType,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<QuantizeReport> {
    quantize_merged((source, &[]), destination, kind, cancel, progress)
}

/// As [`quantize`], with LoRA adapters, each multiplied by its number, added to the weights first:
/// the written file needs them no more.
///
/// # Errors
///
/// As [`quantize`]; [`Error::Config`] for an adapter of a model of another shape, one that changes
/// an output head which is the embedding, or a number that is not finite;
/// [`Error::UnsupportedEncoding`] for an adapter of a matrix that the type `keep` would leave in an
/// encoding which can only be read.
pub fn quantize_merged(
    (source, adapters): (&Checkpoint, &[(Adapter, f32)]),
    destination: &Path,
    kind: QuantizeType,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<QuantizeReport> {
    merge::check(source, adapters)?;
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(source.path(), destination) {
        return Err(Error::config("destination", "is the source file: choose another path"));
    }
    let mut report = QuantizeReport {
        source_bytes: 0,
        bytes: 0,
        weights: 0,
        tensors: 0,
        fallbacks: Vec::new(),
        kept_of_2023: 0,
    };
    let names: Vec<&str> = source.tensor_names().collect();
    let infos = names
        .iter()
        .map(|name| plan(source, name, kind, &mut report))
        .collect::<Result<Vec<_>>>()?;
    check_writable(&infos, adapters)?;
    let metadata = metadata(source, kind)?;
    let mut writer = GgufWriter::create(destination, &metadata, infos.clone())?;
    let mut done = 0;
    for info in &infos {
        let tensor = source.require(&info.name)?;
        let merge = Merge::of(adapters, &tensor)?;
        write_tensor(&mut writer, (&tensor, &merge), info.encoding, &mut |bytes| {
            done += bytes;
            progress(done, report.source_bytes);
            cancel.check()
        })?;
        source.release(&info.name);
    }
    writer.finish()?;
    Ok(report)
}

/// [`Error::UnsupportedEncoding`] if adapters change a matrix whose encoding can only be read.
fn check_writable(infos: &[TensorInfo], adapters: &[(Adapter, f32)]) -> Result<()> {
    let is_changed = |info: &&TensorInfo| {
        adapters.iter().any(|(adapter, _)| adapter.delta(&info.name).is_some())
    };
    match infos.iter().filter(is_changed).find(|info| !info.encoding.can_encode()) {
        None => Ok(()),
        Some(TensorInfo { name, encoding, .. }) => Err(Error::UnsupportedEncoding {
            found: format!(
                "{} for writing {name}, which an adapter changes: choose a type other than keep",
                encoding.name()
            ),
            supported: Encoding::writable(),
        }),
    }
}

/// Chooses a tensor's encoding and counts it.
fn plan(
    source: &Checkpoint,
    name: &str,
    kind: QuantizeType,
    report: &mut QuantizeReport,
) -> Result<TensorInfo> {
    let tensor = source.require(name)?;
    let arch = source.metadata().str("general.architecture")?.unwrap_or_default();
    let blocks = |stem: &str| source.metadata().u64(&format!("{arch}.{stem}"));
    let own = if name.starts_with("dec.") { blocks("decoder_block_count")? } else { None };
    let n_layers = own.or(blocks("block_count")?).unwrap_or(0);
    // Only a share of it counts; no model has as many.
    let n_layers = usize::try_from(n_layers.min(1 << 20)).unwrap_or(0);
    let tied = source.tensor("output.weight").is_none();
    let wanted = match (kind.0.keeps, tensor.dims().len()) {
        (true, _) => kept(&tensor)?,
        (false, 0 | 1) => Encoding::F32,
        (false, _) => kind.encoding(name, n_layers, tied),
    };
    report.kept_of_2023 += usize::from(wanted.is_of_2023() || wanted == Encoding::Q4_Z);
    let encoding = fitting(wanted, tensor.row_len());
    if encoding != wanted {
        report.fallbacks.push(format!(
            "{name}: width {} is no multiple of {}, {} → {}",
            tensor.row_len(),
            wanted.block_len(),
            wanted.name(),
            encoding.name()
        ));
    }
    let too_large = || Error::OutOfMemory { bytes: usize::MAX };
    let row_bytes = encoding.row_bytes(tensor.row_len()).ok_or_else(too_large)?;
    report.source_bytes += tensor.n_bytes() as u64;
    report.bytes += (row_bytes as u64).saturating_mul(tensor.n_rows() as u64);
    report.weights += (tensor.row_len() as u64).saturating_mul(tensor.n_rows() as u64);
    report.tensors += 1;
    Ok(TensorInfo { name: name.to_owned(), dims: tensor.dims().to_vec(), encoding })
}

/// The encoding that keeps the tensor's values: that of today for blocks of 2023, where it can.
///
/// GGUF stores columns in order, and then those that were quantized out of order are exact in f32 only.
fn kept(tensor: &TensorView<'_>) -> Result<Encoding> {
    if tensor.columns().is_some() {
        return Ok(Encoding::F32);
    }
    let encoding = tensor.encoding();
    let Some(modern) = quant::modern(encoding) else { return Ok(encoding) };
    let too_large = || Error::OutOfMemory { bytes: usize::MAX };
    let row_bytes = modern.row_bytes(tensor.row_len()).ok_or_else(too_large)?;
    let is_exact = (0..tensor.n_rows()).into_par_iter().map_init(Vec::new, |out, row| {
        out.resize(row_bytes, 0);
        quant::modernize(encoding, tensor.row(row), out)
    });
    Ok(if is_exact.all(|exact| exact) { modern } else { encoding })
}

/// `wanted`, or the nearest larger encoding whose blocks divide `width`.
fn fitting(wanted: Encoding, width: usize) -> Encoding {
    let mut encoding = wanted;
    while !width.is_multiple_of(encoding.block_len()) {
        encoding = match encoding {
            Encoding::Q4_K => Encoding::Q5_0,
            Encoding::Q6_K => Encoding::Q8_0,
            _ => Encoding::F16,
        };
    }
    encoding
}

fn metadata(source: &Checkpoint, kind: QuantizeType) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    for (key, value) in source.metadata().iter() {
        let dropped = ["tokenizer.", "split."].iter().any(|prefix| key.starts_with(prefix));
        if !dropped || key.starts_with("tokenizer.chat_template") {
            metadata.set(key, value.copy()?);
        }
    }
    if !kind.0.keeps {
        metadata.set("general.file_type", Value::U32(kind.0.file_type));
    }
    metadata.set("general.quantization_version", Value::U32(2));
    for (key, value) in gguf_metadata(source.tokenizer(), source.metadata())? {
        metadata.set(key, value);
    }
    Ok(metadata)
}

/// Weights that are encoded before they are written, or one row: bounds the memory.
const WEIGHTS_AT_ONCE: usize = 1 << 22;

fn write_tensor(
    writer: &mut GgufWriter,
    (tensor, merge): (&TensorView<'_>, &Merge),
    encoding: Encoding,
    done: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (n, k) = (tensor.n_rows(), tensor.row_len());
    let too_large = || Error::OutOfMemory { bytes: usize::MAX };
    let row_bytes = encoding.row_bytes(k).ok_or_else(too_large)?;
    let as_is = tensor.columns().is_none() && merge.is_empty();
    let modern = quant::modern(tensor.encoding());
    let source_row = (tensor.n_bytes() / n.max(1)) as u64;
    let rows_at_once = (WEIGHTS_AT_ONCE / k.max(1)).clamp(1, n.max(1));
    let mut bytes = zeroed(row_bytes.saturating_mul(rows_at_once))?;
    for first in (0..n).step_by(rows_at_once) {
        let rows = rows_at_once.min(n - first);
        let bytes = &mut bytes[..rows * row_bytes];
        bytes.par_chunks_exact_mut(row_bytes).enumerate().try_for_each_init(
            Vec::new,
            |values: &mut Vec<f32>, (i, out)| {
                if as_is && tensor.encoding() == encoding {
                    out.copy_from_slice(tensor.row(first + i));
                    return Ok(());
                }
                if as_is && modern == Some(encoding) {
                    quant::modernize(tensor.encoding(), tensor.row(first + i), out);
                    return Ok(());
                }
                if values.is_empty() {
                    *values = zeroed(2 * k)?;
                }
                let (values, sums) = values.split_at_mut(k);
                tensor.decode_row(first + i, values);
                merge.add(first + i, values, sums);
                encoding.encode(values, out)
            },
        )?;
        writer.write(bytes)?;
        done(source_row * rows as u64)?;
    }
    Ok(())
}
