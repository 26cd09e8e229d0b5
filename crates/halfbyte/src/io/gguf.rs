//! Reads GGUF version 1, 2 and 3: header, metadata, tensor list. Weights are only pointed at.
//!
//! Nothing is allocated by a number that was not first held against the bytes that are there, all
//! sums and products are checked, and tensors must follow each other without holes or overlaps.
//! The caps below are far above any real file and keep memory within twice the file's size plus
//! 16 MiB even for a file made of nothing but the smallest possible entries.
//!
//! Source: the format as in ggml's `docs/gguf.md`; the set of checks as in ggml's `gguf.cpp`, and
//! beyond.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;

use super::checkpoint::{Checkpoint, Tensor, TokenizerSource};
use super::cursor::Cursor;
use super::gguf_split;
use super::gguf_value::{self, Strings};
use super::metadata::Metadata;
use super::mmap::Map;
use super::source::Source;
use super::view::RowOrder;
use crate::error::{Error, Result};
use crate::quant::Encoding;

/// The first four bytes of a GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Padding between tensors unless `general.alignment` says otherwise, in bytes.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// Longest tensor name that other readers accept, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// Most dimensions of a tensor.
pub(super) const MAX_DIMS: usize = 4;

const MAX_ENTRIES: u64 = 65_536;
/// A model of 1,024 blocks has some 20,000 tensors.
const MAX_TENSORS: u64 = 65_536;
const MAX_KEY_BYTES: u64 = 65_535;
/// Metadata and tensor list together.
const MAX_HEADER_BYTES: usize = 256 << 20;
/// Bytes that the smallest metadata entry and tensor record take in version 1.
const MIN_ENTRY_BYTES: u64 = 10;
const MIN_TENSOR_BYTES: u64 = 24;

/// What a GGUF file says: its metadata and where its tensors are.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
}

/// Opens the GGUF file at `path`, and the other parts if it is split.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    read(path, Source::Map(Map::open(path)?))
}

/// Reads the GGUF file whose bytes are `source`, and the other parts if it is split.
pub(super) fn read(path: &Path, source: Source) -> Result<Checkpoint> {
    let parsed = parse(path, source.bytes())?;
    if gguf_split::is_part(&parsed.metadata) {
        return gguf_split::open(path, source, parsed);
    }
    finish(path, parsed.metadata, vec![source], parsed.tensors)
}

/// Reads a GGUF file that is part of the program.
pub(super) fn from_static_bytes(name: &str, bytes: &'static [u8]) -> Result<Checkpoint> {
    let path = Path::new(name);
    let parsed = parse(path, bytes)?;
    if gguf_split::is_part(&parsed.metadata) {
        let reason = "a split model cannot be read from memory";
        return Err(Error::config(gguf_split::COUNT, reason));
    }
    finish(path, parsed.metadata, vec![Source::Static(bytes)], parsed.tensors)
}

/// Makes the checkpoint, with the tokenizer that the metadata describes.
pub(super) fn finish(
    path: &Path,
    metadata: Metadata,
    sources: Vec<Source>,
    tensors: Vec<Tensor>,
) -> Result<Checkpoint> {
    let tokenizer = if let Some(json) = metadata.str("tokenizer.huggingface.json")? {
        TokenizerSource::Json(json.as_bytes().to_vec())
    } else if metadata.get("tokenizer.ggml.tokens").is_some() {
        TokenizerSource::Metadata
    } else {
        TokenizerSource::None
    };
    Checkpoint::assemble(path.into(), metadata, tokenizer, sources, tensors)
}

/// Reads metadata and tensor list; the tensors' source is number 0.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Parsed> {
    let mut cursor = Cursor::new(path, bytes);
    if cursor.take(MAGIC.len(), "the magic")? != MAGIC {
        return Err(cursor.malformed_at(0, "the magic is not GGUF"));
    }
    let version = version(&mut cursor, path)?;
    let n_tensors = count(&mut cursor, version, ("tensor count", MAX_TENSORS))?;
    let n_entries = count(&mut cursor, version, ("metadata count", MAX_ENTRIES))?;
    let least = n_tensors * MIN_TENSOR_BYTES + n_entries * MIN_ENTRY_BYTES;
    if least > cursor.remaining() as u64 {
        return Err(cursor.malformed(format!(
            "tensor count {n_tensors} and metadata count {n_entries} need {least} bytes, \
             but the file ends after {}",
            cursor.remaining()
        )));
    }
    let metadata = entries(&mut cursor, version, n_entries)?;
    let alignment = alignment(&metadata, &cursor)?;
    let tensors = tensors(&mut cursor, version, n_tensors, alignment)?;
    Ok(Parsed { metadata, tensors })
}

fn version(cursor: &mut Cursor<'_>, path: &Path) -> Result<u32> {
    let at = cursor.position();
    let version = cursor.u32("the version")?;
    let unsupported = |found: String| Error::UnsupportedFormat {
        path: path.into(),
        found,
        supported: "little-endian GGUF versions 1, 2 and 3".into(),
    };
    match version {
        1..=3 => Ok(version),
        0 => Err(cursor.malformed_at(at, "the version is 0")),
        v if v & 0xffff == 0 => {
            Err(unsupported(format!("big-endian GGUF version {}", v.swap_bytes())))
        }
        v => Err(unsupported(format!("GGUF version {v}"))),
    }
}

/// A count or size of the width that the version has: 32 bits in version 1, else 64.
pub(super) fn size(cursor: &mut Cursor<'_>, version: u32, field: impl Display) -> Result<u64> {
    if version == 1 { cursor.u32(field).map(u64::from) } else { cursor.u64(field) }
}

fn count(cursor: &mut Cursor<'_>, version: u32, (field, max): (&str, u64)) -> Result<u64> {
    let at = cursor.position();
    let n = size(cursor, version, field)?;
    if n > max {
        return Err(cursor.malformed_at(at, format!("{field} is {n}, more than {max}")));
    }
    Ok(n)
}

/// A string of at most `max` bytes; version 1 files may end it with a NUL.
pub(super) fn string<'a>(
    cursor: &mut Cursor<'a>,
    version: u32,
    (field, max): (impl Display + Copy, u64),
) -> Result<&'a [u8]> {
    let at = cursor.position();
    let len = size(cursor, version, field)?;
    let remaining = cursor.remaining();
    let len = match usize::try_from(len) {
        Ok(n) if len <= max && n <= remaining => n,
        _ => {
            let why = format!("{field} has length {len} (at most {max}, and {remaining} remain)");
            return Err(cursor.malformed_at(at, why));
        }
    };
    let bytes = cursor.take(len, field)?;
    Ok(if version == 1 { bytes.strip_suffix(b"\0").unwrap_or(bytes) } else { bytes })
}

fn check_header_size(cursor: &Cursor<'_>) -> Result<()> {
    if cursor.position() > MAX_HEADER_BYTES {
        let why = format!("metadata and tensor list exceed {} MiB", MAX_HEADER_BYTES >> 20);
        return Err(cursor.malformed(why));
    }
    Ok(())
}

fn entries(cursor: &mut Cursor<'_>, version: u32, n: u64) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    let mut seen = HashSet::new();
    let mut strings = Strings::default();
    for i in 0..n {
        let at = cursor.position();
        let field = format_args!("key of metadata entry {i}");
        let key = string(cursor, version, (field, MAX_KEY_BYTES))?;
        let Some(text) = std::str::from_utf8(key).ok().filter(|k| !k.is_empty()) else {
            return Err(cursor.malformed_at(at, format!("{field} is empty or not UTF-8")));
        };
        if !seen.insert(text) {
            return Err(cursor.malformed_at(at, format!("metadata key {text} is there twice")));
        }
        let value = gguf_value::read(cursor, version, text, &mut strings)?;
        check_header_size(cursor)?;
        metadata.push_unique(text.to_owned(), value);
    }
    Ok(metadata)
}

fn alignment(metadata: &Metadata, cursor: &Cursor<'_>) -> Result<usize> {
    use super::metadata::Value;
    let value = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::U32(v)) => *v,
        Some(other) => {
            let why = format!("general.alignment is {}, expected u32", other.type_name());
            return Err(cursor.malformed(why));
        }
    };
    if !is_alignment(value) {
        let why = format!("general.alignment is {value}, expected a power of two from 8 to 65536");
        return Err(cursor.malformed(why));
    }
    usize::try_from(value).map_err(|_| cursor.malformed("general.alignment is too large"))
}

/// Whether tensors may be aligned to `value` bytes.
pub(super) fn is_alignment(value: u32) -> bool {
    value.is_power_of_two() && (8..=65_536).contains(&value)
}

/// A tensor record: everything but the tensor's place.
struct Record<'a> {
    name: &'a str,
    dims: Vec<usize>,
    encoding: Encoding,
    /// From the start of the data section, in bytes.
    offset: u64,
    /// Where in the file the offset is written.
    offset_at: usize,
}

fn tensors(cursor: &mut Cursor<'_>, version: u32, n: u64, alignment: usize) -> Result<Vec<Tensor>> {
    let mut records = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..n {
        let at = cursor.position();
        let record = record(cursor, version, i)?;
        check_header_size(cursor)?;
        if !seen.insert(record.name) {
            let why = format!("tensor {} is there twice", record.name);
            return Err(cursor.malformed_at(at, why));
        }
        records.push(record);
    }
    let data_start = cursor.position().next_multiple_of(alignment);
    place(cursor, records, alignment, data_start)
}

fn record<'a>(cursor: &mut Cursor<'a>, version: u32, i: u64) -> Result<Record<'a>> {
    let at = cursor.position();
    let field = format_args!("name of tensor {i}");
    let name = string(cursor, version, (field, MAX_NAME_BYTES as u64))?;
    let Some(name) = std::str::from_utf8(name).ok().filter(|n| !n.is_empty()) else {
        return Err(cursor.malformed_at(at, format!("{field} is empty or not UTF-8")));
    };
    let at = cursor.position();
    let n_dims = cursor.u32(format_args!("dimension count of tensor {name}"))?;
    let n_dims = match usize::try_from(n_dims) {
        Ok(n) if (1..=MAX_DIMS).contains(&n) => n,
        _ => {
            let why = format!("tensor {name} has {n_dims} dimensions, expected 1 to {MAX_DIMS}");
            return Err(cursor.malformed_at(at, why));
        }
    };
    let mut dims = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        let at = cursor.position();
        let dim = size(cursor, version, format_args!("dimension of tensor {name}"))?;
        // The file has the innermost dimension first.
        dims.insert(
            0,
            usize::try_from(dim).ok().filter(|&d| d != 0).ok_or_else(|| {
                cursor.malformed_at(at, format!("tensor {name} has a dimension of {dim}"))
            })?,
        );
    }
    let number = cursor.u32(format_args!("type of tensor {name}"))?;
    let encoding =
        gguf_value::encoding(number).map_err(|e| gguf_value::in_tensor(e, name, cursor.path()))?;
    let offset_at = cursor.position();
    let offset = cursor.u64(format_args!("offset of tensor {name}"))?;
    Ok(Record { name, dims, encoding, offset, offset_at })
}

/// Proves that the tensors follow each other, padded, from `data_start` to within the file.
fn place(
    cursor: &Cursor<'_>,
    records: Vec<Record<'_>>,
    alignment: usize,
    data_start: usize,
) -> Result<Vec<Tensor>> {
    let file_len = cursor.position() + cursor.remaining();
    let mut tensors = Vec::with_capacity(records.len());
    let mut next = 0usize;
    for Record { name, dims, encoding, offset, offset_at } in records {
        let malformed =
            |why: String| cursor.malformed_at(offset_at, format!("tensor {name} {why}"));
        if offset != next as u64 {
            return Err(malformed(format!("has offset {offset}, expected {next}")));
        }
        let start = data_start.checked_add(next);
        let start = start.ok_or_else(|| malformed("starts beyond all files".into()))?;
        let place = (0, start);
        let tensor = Tensor::new(name.to_owned(), dims, encoding, RowOrder::Natural, place)
            .map_err(malformed)?;
        let end = start.checked_add(tensor.n_bytes());
        if end.is_none_or(|end| end > file_len) {
            return Err(malformed(format!(
                "has {} bytes from byte {start} on, but the file has {file_len} bytes",
                tensor.n_bytes()
            )));
        }
        // Below file_len + alignment: cannot overflow.
        next = (next + tensor.n_bytes()).next_multiple_of(alignment);
        tensors.push(tensor);
    }
    Ok(tensors)
}
