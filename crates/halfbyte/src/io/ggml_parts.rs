//! Files whose tensors do not lie in them as they are: split over several, or transposed.
//!
//! Both are converters' habits of spring 2023. Such tensors are put together in memory, which then
//! holds them as long as the checkpoint is open; `halfbyte quantize` makes a file that can be mapped.

use std::path::{Path, PathBuf};

use super::ggml::{File, Record, malformed, read};
use super::ggml_layout::Dim;
use super::metadata::reserved;
use super::source::Source;
use super::view::upright;
use crate::error::{Error, Result};

/// Parts that LLaMA's converter made of its largest model.
const MAX_PARTS: usize = 8;

/// A model in one piece.
#[derive(Debug)]
pub(super) struct Joined {
    /// The first part.
    pub(super) path: PathBuf,
    /// Without its records.
    pub(super) file: File,
    pub(super) sources: Vec<Source>,
    /// Tensors, and where they are.
    pub(super) tensors: Vec<(Record, (usize, usize))>,
}

/// Puts the file at `path` together with its other parts, and transposed matrices upright.
pub(super) fn join(path: &Path, file: File) -> Result<Joined> {
    let n_parts = n_parts(path, &file)?;
    if n_parts > 1 {
        return join_parts(path, file, n_parts);
    }
    let transposed = is_transposed(&file);
    let mut file = file;
    let records = std::mem::take(&mut file.records);
    let mut sources = Vec::new();
    let mut tensors = Vec::with_capacity(records.len());
    for mut record in records {
        let place = if transposed && is_turned(&record) {
            let bytes = turned(path, &file, &mut record)?;
            sources.push(Source::Owned(bytes));
            // The file becomes source 0.
            (sources.len(), 0)
        } else {
            (0, record.start)
        };
        tensors.push((record, place));
    }
    if transposed {
        file.notes_mut().push(
            "written before 29 March 2023 with transposed matrices: they were turned in memory"
                .into(),
        );
    }
    Ok(with_file(path, file, sources, tensors))
}

fn with_file(
    path: &Path,
    mut file: File,
    owned: Vec<Source>,
    tensors: Vec<(Record, (usize, usize))>,
) -> Joined {
    let mut sources = Vec::with_capacity(owned.len() + 1);
    sources.extend(file.take_source());
    sources.extend(owned);
    Joined { path: path.into(), file, sources, tensors }
}

/// Whether the first GPT-J converter wrote the file: it stored these matrices as (in, out).
///
/// Square ones do not show it; the feed-forward block's first one does.
fn is_transposed(file: &File) -> bool {
    let (width, is_gptj) = (file.header.width, file.header.layout.architecture == "gptj");
    let up = file.records.iter().find(|r| r.named.part.gguf == "blk.{}.ffn_up");
    is_gptj && up.is_some_and(|r| r.dims == [width, 4 * width])
}

/// Whether that converter transposed the tensor.
fn is_turned(record: &Record) -> bool {
    let stems = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up"];
    let stem = record.named.part.gguf.strip_prefix("blk.{}.");
    !record.named.is_bias && stem.is_some_and(|stem| stems.contains(&stem))
}

/// The tensor's bytes as (out, in), and its dimensions swapped.
fn turned(path: &Path, file: &File, record: &mut Record) -> Result<Vec<u8>> {
    if !record.encoding.is_float() {
        return Err(Error::UnsupportedEncoding {
            found: format!(
                "{} of tensor {} in {}, which is stored transposed: its blocks run the wrong way",
                record.encoding.name(),
                record.name,
                path.display()
            ),
            supported: "F32 and F16 in files of before 29 March 2023".into(),
        });
    }
    let wrong = || malformed(path, record.at, format!("tensor {} is no matrix", record.name));
    let (&[_, n_out], Some(size)) = (record.dims.as_slice(), record.encoding.row_bytes(1)) else {
        return Err(wrong());
    };
    let bytes = file.bytes().get(record.start..record.start + record.n_bytes).ok_or_else(wrong)?;
    record.dims.swap(0, 1);
    upright(bytes, n_out, size)
}

/// In how many files the model is: LLaMA's first converter kept the parts of Meta's checkpoints.
fn n_parts(path: &Path, file: &File) -> Result<usize> {
    let width = file.header.width;
    let embedding = file.records.iter().find(|r| r.named.part.gguf == "token_embd");
    let Some(&[_, found]) = embedding.map(|r| r.dims.as_slice()) else { return Ok(1) };
    if file.header.layout.architecture != "llama" || found == width {
        return Ok(1);
    }
    let n = width / found.max(1);
    if n * found != width || n > MAX_PARTS {
        let at = embedding.map_or(0, |r| r.at);
        let why = format!("the embedding has rows of {found}, which is no part of {width}");
        return Err(malformed(path, at, why));
    }
    Ok(n)
}

/// `model.bin`, `model.bin.1`, … given any of them.
fn part_paths(path: &Path, n: usize) -> Vec<PathBuf> {
    let number = path.extension().and_then(|end| end.to_str()?.parse::<usize>().ok());
    let first = match number {
        Some(number) if number < n => path.with_extension(""),
        _ => path.to_owned(),
    };
    let part = |i: usize| {
        let mut name = first.clone().into_os_string();
        if i > 0 {
            name.push(format!(".{i}"));
        }
        PathBuf::from(name)
    };
    (0..n).map(part).collect()
}

fn join_parts(path: &Path, file: File, n: usize) -> Result<Joined> {
    let paths = part_paths(path, n);
    drop(file);
    let mut files = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    for (path, file) in paths.iter().zip(&files) {
        let first = files.first().map_or(0, |first| first.records.len());
        if n_parts(path, file)? != n || file.records.len() != first {
            return Err(malformed(path, 0, "is a part of another model than its first part"));
        }
    }
    let first = paths.first().cloned().unwrap_or_default();
    let records: Vec<Vec<Record>> =
        files.iter_mut().map(|file| std::mem::take(&mut file.records)).collect();
    let (mut sources, mut tensors) = (Vec::new(), Vec::new());
    for (i, record) in records.first().into_iter().flatten().enumerate() {
        let mut slices = Vec::with_capacity(n);
        for ((path, file), records) in paths.iter().zip(&files).zip(&records) {
            let other = records.get(i).filter(|other| {
                (&other.name, &other.dims, other.encoding)
                    == (&record.name, &record.dims, record.encoding)
            });
            let bytes = other.and_then(|r| file.bytes().get(r.start..r.start + r.n_bytes));
            let why = || format!("tensor {} is not as in the first part", record.name);
            slices.push(bytes.ok_or_else(|| malformed(path, 0, why()))?);
        }
        let (dims, bytes) = joined(record, &slices)?;
        let record = Record { name: record.name.clone(), dims, ..*record };
        tensors.push((record, (sources.len(), 0)));
        sources.push(Source::Owned(bytes));
    }
    let mut files = files.into_iter();
    let Some(mut file) = files.next() else {
        return Err(malformed(path, 0, "has no parts"));
    };
    file.notes_mut().push(format!("{n} parts were joined in memory"));
    Ok(Joined { path: first, file, sources, tensors })
}

/// The whole tensor: vectors are in every part, some matrices are parted by columns, most by rows.
fn joined(record: &Record, parts: &[&[u8]]) -> Result<(Vec<usize>, Vec<u8>)> {
    let first = parts.first().copied().unwrap_or_default();
    let &[rows, columns] = record.dims.as_slice() else {
        let mut whole = reserved(first.len())?;
        whole.extend_from_slice(first);
        return Ok((record.dims.clone(), whole));
    };
    // Where a matrix reads what the parts' heads and neurons made, and in the embedding.
    let by_columns = record.named.part.dims == [Dim::Width, Dim::Inner]
        || ["token_embd", "blk.{}.attn_output"].contains(&record.named.part.gguf);
    let mut whole = reserved(first.len().saturating_mul(parts.len()))?;
    if !by_columns {
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        return Ok((vec![rows * parts.len(), columns], whole));
    }
    let row_bytes = (first.len() / rows.max(1)).max(1);
    for row in 0..rows {
        for part in parts {
            let at = row * row_bytes;
            whole.extend_from_slice(part.get(at..at + row_bytes).unwrap_or_default());
        }
    }
    Ok((vec![rows, columns * parts.len()], whole))
}
