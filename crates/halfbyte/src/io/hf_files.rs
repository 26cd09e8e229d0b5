//! Which files of a Hugging Face folder hold its weights.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{hf_json, torch};
use crate::error::{Error, Result};

/// Weights in one file, or in those that an index names.
struct Kind {
    file: &'static str,
    index: &'static str,
    extension: &'static str,
}

/// The kinds of weights, those that are taken first in front.
static KINDS: &[Kind] = &[
    Kind {
        file: "model.safetensors",
        index: "model.safetensors.index.json",
        extension: ".safetensors",
    },
    Kind { file: "pytorch_model.bin", index: "pytorch_model.bin.index.json", extension: ".bin" },
];

/// Ends of names that a lone weights file may have.
const SAFETENSORS: &str = ".safetensors";
const TORCH: &[&str] = &[".bin", ".pt", ".pth"];

/// Files that the weights may be spread over.
const MAX_SHARDS: usize = 1024;
/// Files of a folder that are looked at for a lone weights file.
const MAX_FILES: usize = 4096;

/// The folder, or the weights file in one, that `path` (which begins with `head`) means.
pub(super) fn start_of(path: &Path, head: &[u8]) -> Option<PathBuf> {
    if path.is_dir() {
        return path.join("config.json").is_file().then(|| path.into());
    }
    let name = path.file_name()?.to_str()?;
    let is_weights = name.ends_with(SAFETENSORS)
        || (TORCH.iter().any(|end| name.ends_with(end)) && torch::is_torch(head));
    if !is_weights && name != "config.json" && KINDS.iter().all(|kind| kind.index != name) {
        return None;
    }
    let folder = folder(path);
    folder
        .join("config.json")
        .is_file()
        .then(|| if is_weights { path.into() } else { folder.into() })
}

/// The folder that a file lies in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// The weights files of the folder, or of the one in which the file `start` lies: that file alone,
/// unless it is one of the folder's shards.
pub(super) fn weights(start: &Path) -> Result<Vec<PathBuf>> {
    if start.is_dir() {
        return of_folder(start)?.map_or_else(|| lone_file(start).map(|file| vec![file]), Ok);
    }
    let of_folder = of_folder(folder(start))?.unwrap_or_default();
    let is_part = of_folder.iter().any(|path| path.file_name() == start.file_name());
    Ok(if is_part { of_folder } else { vec![start.into()] })
}

/// The one file under the usual name, or those that the index names, each once.
fn of_folder(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    for kind in KINDS {
        let single = folder.join(kind.file);
        if single.exists() {
            return Ok(Some(vec![single]));
        }
        let index = folder.join(kind.index);
        if let Some(bytes) = hf_json::read_file(&index, hf_json::MAX_CONFIG_BYTES)? {
            let mut json = serde_json::Deserializer::from_slice(&bytes);
            let shards = json.deserialize_map(Index { extension: kind.extension });
            let shards = shards.map_err(|e| hf_json::malformed(&index, &bytes, &e))?;
            return Ok(Some(shards.into_iter().map(|name| folder.join(name)).collect()));
        }
    }
    Ok(None)
}

/// The only weights file of a folder that has none under a usual name: quantized models have names
/// that say how (`gptq_model-4bit-128g.safetensors`).
fn lone_file(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut found: Vec<PathBuf> = entries
        .take(MAX_FILES)
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "safetensors" || e == "pt" || e == "pth")
        })
        .collect();
    let safetensors = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    if found.iter().any(safetensors) {
        found.retain(safetensors);
    }
    let n = found.len();
    match found.pop().filter(|_| n == 1) {
        Some(path) => Ok(path),
        None => Err(Error::UnsupportedFormat {
            path: folder.into(),
            found: match n {
                0 => {
                    "a folder with a config.json, but without model.safetensors or PyTorch weights"
                        .into()
                }
                _ => format!("a folder with {n} weights files: name one of them"),
            },
            supported: KINDS
                .iter()
                .map(|k| format!("{} or {}", k.file, k.index))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Reads an index's `weight_map`, keeping each file name once.
struct Index {
    extension: &'static str,
}

impl<'de> Visitor<'de> for Index {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        let mut shards = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                shards = Some(map.next_value_seed(WeightMap { extension: self.extension })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        shards.ok_or_else(|| A::Error::missing_field("weight_map"))
    }
}

struct WeightMap {
    extension: &'static str,
}

impl<'de> DeserializeSeed<'de> for WeightMap {
    type Value = Vec<String>;
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Vec<String>, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weight_map: an object of file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        let mut shards: Vec<String> = Vec::new();
        while let Some((_, file)) = map.next_entry::<IgnoredAny, String>()? {
            if shards.contains(&file) {
                continue;
            }
            if !is_plain_file_name(&file, self.extension) {
                let what = format!("weight_map names {file:?}, which is no plain file name");
                return Err(A::Error::custom(what));
            }
            if shards.len() == MAX_SHARDS {
                let what = format!("weight_map names more than {MAX_SHARDS} files");
                return Err(A::Error::custom(what));
            }
            shards.push(file);
        }
        if shards.is_empty() {
            return Err(A::Error::custom("weight_map is empty"));
        }
        Ok(shards)
    }
}

/// Whether `name` stays inside its folder on every operating system.
fn is_plain_file_name(name: &str, extension: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.ends_with(extension)
        && !name.contains(['/', '\\', ':', '\0'])
}
