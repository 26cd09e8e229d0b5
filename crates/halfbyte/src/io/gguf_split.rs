//! GGUF models in several files, `model-00001-of-00003.gguf` and so on, as one checkpoint.

use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::gguf::{self, Parsed};
use super::metadata::Metadata;
use super::mmap::Map;
use super::source::Source;
use crate::error::{Error, Result};

/// The metadata key that counts the parts.
pub(super) const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";
/// Far above what is published; bounds the files that one `open` touches.
const MAX_PARTS: u64 = 1024;

/// Whether the file with this metadata is one part of several.
pub(super) fn is_part(metadata: &Metadata) -> bool {
    metadata.get(COUNT).is_some() && !matches!(metadata.u64(COUNT), Ok(Some(0 | 1)))
}

/// Opens all parts of the model that the already parsed `opened` is one of.
///
/// Metadata comes from the first part, without the `split.*` keys: the result is as if the model
/// were one file.
pub(super) fn open(path: &Path, source: Source, opened: Parsed) -> Result<Checkpoint> {
    let n_parts = part_count(path, &opened.metadata)?;
    let names = Names::of(path).filter(|names| names.n_parts == n_parts).ok_or_else(|| {
        malformed(path, format!("is one of {n_parts} parts ({COUNT}), but its name does not end with -NNNNN-of-{n_parts:05}.gguf"))
    })?;
    let mut opened = Some((source, opened));
    let mut sources = Vec::new();
    let mut tensors = Vec::new();
    let mut metadata = Metadata::default();
    for number in 0..n_parts {
        let part = names.part(number);
        let (source, parsed) = match opened.take() {
            Some(this) if number == names.number => this,
            other => {
                opened = other;
                let map = Map::open(&part)?;
                let parsed = gguf::parse(&part, map.bytes())?;
                (Source::Map(map), parsed)
            }
        };
        check_part(&part, &parsed.metadata, (number, n_parts))?;
        tensors.extend(parsed.tensors.into_iter().map(|t| t.in_source(sources.len())));
        sources.push(source);
        if number == 0 {
            metadata = parsed.metadata;
        }
    }
    if let Some(promised) = metadata.u64(TENSORS)?
        && promised != tensors.len() as u64
    {
        let why = format!("{TENSORS} is {promised}, but the parts hold {}", tensors.len());
        return Err(malformed(path, why));
    }
    for key in [COUNT, NUMBER, TENSORS] {
        metadata.remove(key);
    }
    gguf::finish(path, metadata, sources, tensors)
}

fn malformed(path: &Path, what: String) -> Error {
    Error::Malformed { path: path.into(), what, offset: 0 }
}

fn part_count(path: &Path, metadata: &Metadata) -> Result<u64> {
    match metadata.u64(COUNT) {
        Ok(Some(n)) if n <= MAX_PARTS => Ok(n),
        Ok(n) => Err(malformed(path, format!("{COUNT} is {n:?}, more than {MAX_PARTS}"))),
        Err(e) => Err(malformed(path, e.to_string())),
    }
}

fn check_part(path: &Path, metadata: &Metadata, (number, n_parts): (u64, u64)) -> Result<()> {
    let count = part_count(path, metadata)?;
    if metadata.get(COUNT).is_none() || count != n_parts {
        return Err(malformed(path, format!("{COUNT} is not {n_parts} as in the other parts")));
    }
    let found = metadata.u64(NUMBER).map_err(|e| malformed(path, e.to_string()))?;
    if found != Some(number) {
        return Err(malformed(path, format!("{NUMBER} is not {number}, as the file name says")));
    }
    Ok(())
}

/// The file names of a split model.
struct Names {
    folder: PathBuf,
    stem: String,
    /// The part that the name was taken from, counted from 0.
    number: u64,
    n_parts: u64,
}

impl Names {
    /// The names of the model of which `path` is one part, if it is called like one.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (name, n_parts) = name.rsplit_once("-of-")?;
        let (stem, number) = name.rsplit_once('-')?;
        let digits = |s: &str| -> Option<u64> {
            (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
        };
        let (number, n_parts) = (digits(number)?, digits(n_parts)?);
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        let number = number.checked_sub(1).filter(|&n| n < n_parts)?;
        Some(Self { folder, stem: stem.to_owned(), number, n_parts })
    }

    fn part(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}-{:05}-of-{:05}.gguf", self.stem, number + 1, self.n_parts))
    }
}
