//! Hugging Face folders: `config.json`, safetensors in one file or many, a tokenizer.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use super::checkpoint::{Checkpoint, Tensor};
use super::hf_config::{self, Config};
use super::hf_json;
use super::hf_names::{BUFFERS, Name, Rows};
use super::metadata::{Metadata, Value};
use super::mmap::Map;
use super::safetensors::{self, Info};
use super::source::Source;
use super::view::RowOrder;
use super::{gguf_value, hf_tokenizer};
use crate::error::{Error, Result};
use crate::quant::Encoding;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Files that the weights may be spread over.
const MAX_SHARDS: usize = 1024;
/// Unknown tensors that an error message lists.
const MAX_LISTED: usize = 8;

/// The Hugging Face folder that `path` is, or is a weights or configuration file of.
pub(super) fn folder_of(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return path.join("config.json").is_file().then(|| path.into());
    }
    let name = path.file_name()?.to_str()?;
    if name != "config.json" && name != INDEX && !name.ends_with(".safetensors") {
        return None;
    }
    let folder =
        path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    folder.join("config.json").is_file().then(|| folder.into())
}

/// Opens the Hugging Face folder `folder`.
pub(super) fn open(folder: &Path) -> Result<Checkpoint> {
    let mut metadata = Metadata::default();
    let config = hf_config::read(folder, &mut metadata)?;
    if let Some(name) = folder.file_name().and_then(|n| n.to_str()) {
        metadata.set("general.name", Value::from(name));
    }
    let mut weights = Weights::open(folder)?;
    let mut tensors = Vec::new();
    for name in config.family.names.iter().filter(|name| !config.skips(name)) {
        for block in 0..config.count(name) {
            tensors.extend(weights.take_module(&config, name, block)?);
        }
    }
    if let Some(factors) = &config.rope_factors {
        let bytes: Vec<u8> = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        let name = "rope_freqs.weight".to_owned();
        let dims = vec![factors.len()];
        tensors.push(weights.computed(name, dims, Encoding::F32, bytes)?);
    }
    let tokenizer = hf_tokenizer::read(folder, &config.document, &mut metadata)?;
    Checkpoint::assemble(folder.into(), metadata, tokenizer, weights.sources, tensors)
}

/// The tensors of all weights files under their Hugging Face names.
struct Weights {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    sources: Vec<Source>,
    /// File number and place of each tensor.
    infos: HashMap<String, (usize, Info)>,
}

impl Weights {
    fn open(folder: &Path) -> Result<Self> {
        let mut weights = Self {
            folder: folder.into(),
            paths: Vec::new(),
            sources: Vec::new(),
            infos: HashMap::new(),
        };
        for path in weight_files(folder)? {
            let map = Map::open(&path)?;
            for (name, info) in safetensors::read(&path, map.bytes())? {
                let offset = info.start as u64;
                if let Some((first, _)) = weights.infos.get(&name) {
                    let first = weights.paths.get(*first).map(|p| p.display().to_string());
                    let what = format!("tensor {name} is also in {}", first.unwrap_or_default());
                    return Err(Error::Malformed { path, what, offset });
                }
                weights.infos.insert(name, (weights.paths.len(), info));
            }
            weights.paths.push(path);
            weights.sources.push(Source::Map(map));
        }
        Ok(weights)
    }

    /// The weight and, if there is one, the bias of a module.
    fn take_module(&mut self, config: &Config, name: &Name, block: usize) -> Result<Vec<Tensor>> {
        let number = block.to_string();
        let gguf = name.gguf.replace("{}", &number);
        let mut tensors = Vec::with_capacity(2);
        for suffix in ["weight", "bias"] {
            let gguf = format!("{gguf}.{suffix}");
            let in_files = |hf: &str| format!("{}.{suffix}", hf.replace("{}", &number));
            let mut names = config.hf_names(name).map(in_files);
            let found = names.find_map(|hf| self.infos.remove_entry(&hf));
            if let Some((hf, place)) = found {
                tensors.push(self.tensor(config, name.rows, (gguf, &hf), place)?);
            } else if suffix == "weight" && !config.may_lack(name) {
                let usual = config.hf_names(name).next().unwrap_or(name.hf);
                return Err(self.missing(config.family.names, &gguf, &in_files(usual)));
            }
        }
        Ok(tensors)
    }

    fn tensor(
        &mut self,
        config: &Config,
        rows: Rows,
        (gguf, hf): (String, &str),
        (file, info): (usize, Info),
    ) -> Result<Tensor> {
        let path = self.paths.get(file).unwrap_or(&self.folder);
        let encoding = safetensors::encoding(info.dtype)
            .ok_or_else(|| gguf_value::in_tensor(format!("dtype {}", info.dtype), hf, path))?;
        let order = row_order(config, rows, hf, &info.dims)?;
        let offset = info.start as u64;
        let malformed = |what: String| Error::Malformed {
            path: path.clone(),
            what: format!("tensor {hf} {what}"),
            offset,
        };
        if info.dims.len() == 1 && order != RowOrder::Natural {
            let bytes = self.sources.get(file).map_or(&[][..], Source::bytes);
            let bytes = permuted(bytes, &info, encoding, order);
            let bytes = bytes.ok_or_else(|| malformed("does not lie in its file".into()))?;
            return self.computed(gguf, info.dims, encoding, bytes);
        }
        Tensor::new(gguf, info.dims, encoding, order, (file, info.start)).map_err(malformed)
    }

    /// A tensor whose bytes this loader made.
    fn computed(
        &mut self,
        name: String,
        dims: Vec<usize>,
        encoding: Encoding,
        bytes: Vec<u8>,
    ) -> Result<Tensor> {
        let place = (self.sources.len(), 0);
        let tensor = Tensor::new(name.clone(), dims, encoding, RowOrder::Natural, place);
        self.sources.push(Source::Owned(bytes));
        tensor.map_err(|why| Error::config(format!("tensor {name}"), why))
    }

    /// An [`Error::MissingTensor`] that lists what the files have instead.
    fn missing(&self, names: &[Name], gguf: &str, hf: &str) -> Error {
        let known = |name: &str| {
            let module = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"));
            BUFFERS.iter().any(|end| name.ends_with(end))
                || module.is_some_and(|module| names.iter().any(|n| n.is_of(module)))
        };
        let mut unknown: Vec<_> =
            self.infos.keys().map(String::as_str).filter(|n| !known(n)).collect();
        unknown.sort_unstable();
        let left_out = unknown.len().saturating_sub(MAX_LISTED);
        unknown.truncate(MAX_LISTED);
        let others = match (unknown.is_empty(), left_out) {
            (true, _) => String::new(),
            (_, 0) => format!("; not used: {}", unknown.join(", ")),
            (_, n) => format!("; not used: {} and {n} more", unknown.join(", ")),
        };
        Error::MissingTensor { name: format!("{hf} ({gguf}{others})"), path: self.folder.clone() }
    }
}

/// The row order of a tensor, after its shape was held against the configuration.
fn row_order(config: &Config, rows: Rows, hf: &str, dims: &[usize]) -> Result<RowOrder> {
    // Sizes of a configuration are at most 2^24: products of three stay below 2^64.
    let (order, n_rows) = match rows {
        Rows::Same => return Ok(RowOrder::Natural),
        Rows::QueryHalves => {
            let heads = config.n_heads;
            (RowOrder::InterleaveHalves { heads }, heads.checked_mul(config.head_dim))
        }
        Rows::KeyHalves => {
            let heads = config.n_kv_heads;
            (RowOrder::InterleaveHalves { heads }, heads.checked_mul(config.head_dim))
        }
        Rows::QkvTriples => {
            let heads = config.n_heads;
            let rows = heads.checked_mul(config.head_dim).and_then(|n| n.checked_mul(3));
            (RowOrder::SplitQkv { heads }, rows)
        }
    };
    let mut expected = vec![n_rows.unwrap_or(usize::MAX)];
    if hf.ends_with(".weight") {
        expected.push(config.hidden_size);
    }
    if dims != expected || !order.fits(expected.first().copied().unwrap_or(0)) {
        return Err(Error::Shape { tensor: hf.to_owned(), expected, found: dims.to_vec() });
    }
    Ok(order)
}

/// The elements of a vector in GGUF's order.
fn permuted(bytes: &[u8], info: &Info, encoding: Encoding, order: RowOrder) -> Option<Vec<u8>> {
    let n = *info.dims.first()?;
    let size = encoding.row_bytes(1)?;
    let bytes = bytes.get(info.start..info.start.checked_add(n.checked_mul(size)?)?)?;
    let mut out = Vec::with_capacity(bytes.len());
    for element in 0..n {
        let start = order.stored_row(element, n) * size;
        out.extend_from_slice(bytes.get(start..start + size)?);
    }
    Some(out)
}

/// The weights files of the folder: one, or those that the index names, each once.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join(WEIGHTS);
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    let Some(bytes) = hf_json::read_file(&index, hf_json::MAX_CONFIG_BYTES)? else {
        let found = if folder.join("pytorch_model.bin").exists() {
            "a folder with PyTorch weights (pytorch_model.bin)"
        } else {
            "a folder with a config.json, but without model.safetensors"
        };
        return Err(Error::UnsupportedFormat {
            path: folder.into(),
            found: found.into(),
            supported: format!("{WEIGHTS} or {INDEX} with its files"),
        });
    };
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let shards = json.deserialize_map(Index).map_err(|e| hf_json::malformed(&index, &bytes, &e))?;
    Ok(shards.into_iter().map(|name| folder.join(name)).collect())
}

/// Reads an index's `weight_map`, keeping each file name once.
struct Index;

impl<'de> Visitor<'de> for Index {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        let mut shards = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                shards = Some(map.next_value_seed(WeightMap)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        shards.ok_or_else(|| A::Error::missing_field("weight_map"))
    }
}

struct WeightMap;

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
            if !is_plain_file_name(&file) {
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
fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.ends_with(".safetensors")
        && !name.contains(['/', '\\', ':', '\0'])
}
