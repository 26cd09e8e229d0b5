//! `ggla`: the LoRA adapters of llama.cpp from April 2023 to May 2024.
//!
//! Little-endian: magic `ggla` (on disk `algg`), version (i32 1), rank and alpha (i32); then until
//! the end of the file a record for each matrix: number of dimensions, length of the name and type
//! (i32), dimensions (i32, innermost first), name, zeros up to a multiple of 32, data. A stands
//! transposed, (in, r). The rows of B are Hugging Face's, for queries and keys as well: the only
//! program that wrote such files for a whole model's queries and keys copied them in that order.
//!
//! Source: llama.cpp's `convert-lora-to-ggml.py`.

use std::path::Path;

use super::adapter::{self, AdapterFile, Base, Side};
use super::checkpoint::Tensor;
use super::cursor::Cursor;
use super::ggml_header::unaligned;
use super::ggml_layout::VERSIONED;
use super::gguf_value;
use super::metadata::Metadata;
use super::mmap::Map;
use super::source::Source;
use super::view::{RowOrder, upright};
use crate::error::{Error, Result};
use crate::quant::Encoding;

pub(super) const MAGIC: &[u8; 4] = b"algg";
const VERSION: u32 = 1;
/// Longer names no writer makes.
const MAX_NAME_BYTES: u32 = 256;
/// A pair for each of the matrices of 1,024 blocks.
const MAX_TENSORS: usize = 16_384;

/// Opens the `ggla` file at `path`.
pub(super) fn open(path: &Path, base: Base<'_>) -> Result<AdapterFile> {
    read(path, Source::Map(Map::open(path)?), base)
}

/// Reads the `ggla` file whose bytes are `source`.
pub(super) fn read(path: &Path, source: Source, base: Base<'_>) -> Result<AdapterFile> {
    let mut cursor = Cursor::new(path, source.bytes());
    cursor.take(MAGIC.len(), "the magic")?;
    let version = cursor.u32("the version")?;
    if version != VERSION {
        return Err(Error::UnsupportedFormat {
            path: path.into(),
            found: format!("ggla version {version}"),
            supported: format!("ggla version {VERSION}"),
        });
    }
    let rank = positive(&mut cursor, "the rank")?;
    // Negative or zero, it is a number like another.
    let alpha = cursor.u32("alpha")?.cast_signed();
    let mut transposed = Vec::new();
    let mut tensors = Vec::new();
    while cursor.remaining() > 0 {
        if tensors.len() == MAX_TENSORS {
            return Err(cursor.malformed(format!("there are more than {MAX_TENSORS} tensors")));
        }
        tensors.push(record(&mut cursor, base, &mut transposed)?);
    }
    let sources = [source].into_iter().chain(transposed.into_iter().map(Source::Owned));
    let scale = |_: &str, _| Ok(f64::from(alpha) / rank as f64);
    AdapterFile::assemble(path, Metadata::default(), sources.collect(), tensors, scale)
}

/// The next tensor; the bytes of A, which are transposed, join `transposed`.
fn record(
    cursor: &mut Cursor<'_>,
    base: Base<'_>,
    transposed: &mut Vec<Vec<u8>>,
) -> Result<Tensor> {
    let at = cursor.position();
    let n_dims = cursor.u32("the number of dimensions")?;
    let name_len = cursor.u32("the length of a name")?;
    let kind = cursor.u32("the type of a tensor")?;
    if n_dims != 2 || name_len > MAX_NAME_BYTES {
        let what = format!("a tensor has {n_dims} dimensions and a name of {name_len} bytes");
        return Err(cursor.malformed_at(at, what));
    }
    let inner = positive(cursor, "a dimension")?;
    let outer = positive(cursor, "a dimension")?;
    let name = cursor.take(name_len as usize, "a name")?;
    let name = std::str::from_utf8(name).map_err(|_| cursor.malformed("the name is not UTF-8"))?;
    cursor.take(unaligned(cursor.position()), "padding")?;
    let encoding =
        Encoding::from_ggml_type(kind).filter(|e| matches!(e, Encoding::F32 | Encoding::F16));
    let encoding = encoding.ok_or_else(|| {
        gguf_value::in_tensor(Encoding::by_number_name(kind), name, cursor.path())
    })?;
    let (gguf, side, order) = place(cursor, base, name)?;
    let start = cursor.position();
    let too_large = || cursor.malformed_at(at, format!("tensor {name} is too large"));
    let n_bytes = encoding.row_bytes(inner).and_then(|row| row.checked_mul(outer));
    let n_bytes = n_bytes.ok_or_else(too_large)?;
    let bytes = cursor.take(n_bytes, format_args!("tensor {name}"))?;
    let (dims, place) = match side {
        Side::A => {
            transposed.push(upright(bytes, inner, bytes.len() / inner / outer)?);
            (vec![inner, outer], (transposed.len(), 0))
        }
        Side::B => (vec![outer, inner], (0, start)),
    };
    Tensor::new(gguf, dims, encoding, order, place)
        .map_err(|why| cursor.malformed_at(at, format!("tensor {name} {why}")))
}

fn positive(cursor: &mut Cursor<'_>, field: &str) -> Result<usize> {
    let at = cursor.position();
    let number = cursor.u32(field)?.cast_signed();
    usize::try_from(number)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| cursor.malformed_at(at, format!("{field} is {number}, expected 1 or more")))
}

/// What the tensor of that name is: in Meta's names, if a LLaMA's, or since August 2023 in GGUF's.
fn place(cursor: &Cursor<'_>, base: Base<'_>, name: &str) -> Result<(String, Side, RowOrder)> {
    let sides = [(".weight.loraA", Side::A), (".weight.loraB", Side::B)];
    let is_llama = base.architecture == VERSIONED.architecture;
    let meta = if is_llama { VERSIONED.parts } else { &[] };
    let found = sides.into_iter().find_map(|(end, side)| {
        let module = name.strip_suffix(end)?;
        let found = adapter::find_name(base, module, |row| {
            let meta = meta.iter().filter(|part| part.gguf == row.gguf).map(|part| part.file);
            std::iter::once(row.gguf).chain(meta).collect()
        });
        found.map(|found| (found, side))
    });
    let Some(((row, number), side)) = found else {
        let field = format!("tensor {name} in {}", cursor.path().display());
        let reason = format!("is no loraA or loraB of a matrix that {} has", base.architecture);
        return Err(Error::config(field, reason));
    };
    let (gguf, order) = adapter::from_hf(base, (row, number), side);
    Ok((gguf, side, order))
}
