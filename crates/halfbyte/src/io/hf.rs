//! Hugging Face folders: `config.json`, safetensors or PyTorch files, a tokenizer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Tensor};
use super::hf_config::{self, Config};
use super::hf_names::{BUFFERS, Name, Rows};
use super::hf_packed::{Part, Parts, Repacked, repack};
use super::hf_packing::Method;
use super::metadata::{Metadata, Value};
use super::mmap::Map;
use super::safetensors::{self, Info, Strides};
use super::source::Source;
use super::view::{RowOrder, upright};
use super::{gguf_value, hf_files, hf_tokenizer, torch};
use crate::error::{Error, Result};
use crate::quant::Encoding;

/// Ends of a module's tensors.
const PARTS: &[&str] = &[".weight", ".bias", ".qweight", ".qzeros", ".scales", ".g_idx"];
/// Unknown tensors that an error message lists.
const MAX_LISTED: usize = 8;

/// Opens the Hugging Face folder `start`, or the one in which the weights file `start` lies.
pub(super) fn open(start: &Path) -> Result<Checkpoint> {
    let folder = if start.is_dir() { start } else { hf_files::folder(start) };
    let mut metadata = Metadata::default();
    let config = hf_config::read(folder, &mut metadata)?;
    if let Some(name) = folder.file_name().and_then(|n| n.to_str()) {
        metadata.set("general.name", Value::from(name));
    }
    let mut weights = Weights::open(folder, hf_files::weights(start)?)?;
    let mut tensors = Vec::new();
    for name in config.family.names.iter().filter(|name| !config.skips(name)) {
        for block in 0..config.count(name) {
            tensors.extend(weights.take_module(&config, name, block)?);
        }
    }
    weights.check_packed(&config)?;
    if let Some(factors) = &config.rope_factors {
        let bytes: Vec<u8> = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        let name = "rope_freqs.weight".to_owned();
        let dims = vec![factors.len()];
        tensors.push(weights.computed((name, RowOrder::Natural), dims, Encoding::F32, bytes)?);
    }
    let tokenizer = hf_tokenizer::read(folder, &config.document, &mut metadata)?;
    let (container, notes) = (weights.container(&config), weights.notes());
    let checkpoint =
        Checkpoint::assemble(start.into(), metadata, tokenizer, weights.sources, tensors)?;
    Ok(checkpoint.described(container, notes))
}

/// The tensors of all weights files under their Hugging Face names.
struct Weights {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    sources: Vec<Source>,
    /// File number and place of each tensor.
    infos: HashMap<String, (usize, Info)>,
    /// Matrices that were packed in four bits.
    n_packed: usize,
    /// Those of them whose columns are out of order.
    n_out_of_order: usize,
    /// Those of them that became f32.
    n_widened: usize,
}

impl Weights {
    fn open(folder: &Path, files: Vec<PathBuf>) -> Result<Self> {
        let mut weights = Self {
            folder: folder.into(),
            paths: Vec::new(),
            sources: Vec::new(),
            infos: HashMap::new(),
            n_packed: 0,
            n_out_of_order: 0,
            n_widened: 0,
        };
        for path in files {
            let map = Map::open(&path)?;
            let is_safetensors = path.extension().is_some_and(|e| e == "safetensors");
            let read = if is_safetensors { safetensors::read } else { torch::read };
            for (name, info) in read(&path, map.bytes())? {
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
            let packed = config.hf_names(name).map(|hf| hf.replace("{}", &number));
            if suffix == "weight"
                && let Some(module) = packed.into_iter().find(|hf| self.is_packed(hf))
            {
                tensors.push(self.packed(config, name.rows, gguf, &module)?);
                continue;
            }
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
        let is_vector = info.dims.len() == 1;
        if info.strides == Strides::Rows && (!is_vector || order == RowOrder::Natural) {
            let place = (file, info.start);
            return Tensor::new(gguf, info.dims, encoding, order, place).map_err(malformed);
        }
        let bytes = self.in_rows(hf, file, &info)?;
        if !is_vector {
            let bytes = bytes.into_owned();
            return self.computed((gguf, order), info.dims, encoding, bytes);
        }
        let bytes = order.elements(&bytes, info.dtype.bitsize() / 8)?;
        self.computed((gguf, RowOrder::Natural), info.dims, encoding, bytes)
    }

    /// A tensor's elements row after row.
    fn in_rows(&self, hf: &str, file: usize, info: &Info) -> Result<Cow<'_, [u8]>> {
        let malformed = |what: String| Error::Malformed {
            path: self.paths.get(file).unwrap_or(&self.folder).clone(),
            what: format!("tensor {hf} {what}"),
            offset: info.start as u64,
        };
        let size = info.dtype.bitsize() / 8;
        let n_bytes = info.dims.iter().try_fold(size, |n, &dim| n.checked_mul(dim));
        let bytes = self.sources.get(file).map_or(&[][..], Source::bytes);
        let end = n_bytes.and_then(|n| info.start.checked_add(n));
        let Some(bytes) = end.and_then(|end| bytes.get(info.start..end)) else {
            return Err(malformed("does not lie in its file".into()));
        };
        match (&info.strides, info.dims.as_slice()) {
            (Strides::Rows, _) => Ok(Cow::Borrowed(bytes)),
            (Strides::Columns, &[n_rows, _]) => Ok(Cow::Owned(upright(bytes, n_rows, size)?)),
            (strides, _) => Err(malformed(format!(
                "has elements in an order of its own ({strides:?}): save it with .contiguous()"
            ))),
        }
    }

    /// Whether the module's matrix is packed in four bits.
    fn is_packed(&self, module: &str) -> bool {
        self.infos.contains_key(&format!("{module}.qweight"))
    }

    /// A matrix that is packed in four bits.
    fn packed(
        &mut self,
        config: &Config,
        rows: Rows,
        gguf: String,
        module: &str,
    ) -> Result<Tensor> {
        let mut take = |suffix: &str| {
            let name = format!("{module}.{suffix}");
            self.infos.remove(&name).map(|place| (name, place))
        };
        let found = ["qweight", "qzeros", "scales", "g_idx"].map(&mut take);
        if gguf == "token_embd.weight" {
            return Err(Error::config(
                format!("tensor {module}"),
                "is packed: embeddings must be floats",
            ));
        }
        let part = |found: &Option<(String, (usize, Info))>, suffix: &str| {
            let Some((name, (file, info))) = found else {
                let name = format!("{module}.{suffix}");
                return Err(Error::MissingTensor { name, path: self.folder.clone() });
            };
            let bytes = self.in_rows(name, *file, info)?;
            Ok(Part { name: name.clone(), dtype: info.dtype, dims: info.dims.clone(), bytes })
        };
        let [codes, zeros, scales, groups] = &found;
        let parts = Parts {
            codes: part(codes, "qweight")?,
            zeros: part(zeros, "qzeros")?,
            scales: part(scales, "scales")?,
            groups: groups.as_ref().map(|_| part(groups, "g_idx")).transpose()?,
        };
        let repacked = repack(config.packing.unwrap_or_default(), &parts)?;
        drop(parts);
        let order = row_order(config, rows, &format!("{module}.weight"), &repacked.dims)?;
        let Repacked { dims, encoding, bytes, columns } = repacked;
        self.n_packed += 1;
        self.n_out_of_order += usize::from(columns.is_some());
        self.n_widened += usize::from(encoding == Encoding::F32);
        let tensor = self.computed((gguf, order), dims, encoding, bytes)?;
        Ok(match columns {
            Some(columns) => tensor.with_columns(columns),
            None => tensor,
        })
    }

    /// An error if the configuration speaks of packed matrices and there was none.
    fn check_packed(&self, config: &Config) -> Result<()> {
        if config.packing.is_some() && self.n_packed == 0 {
            let reason = "says that matrices are packed, but none has a qweight";
            return Err(config.document.invalid("quantization_config", reason));
        }
        Ok(())
    }

    /// What the files are, for people.
    fn container(&self, config: &Config) -> String {
        let is_torch = |path: &PathBuf| path.extension().is_some_and(|e| e != "safetensors");
        let kind = if self.paths.iter().any(is_torch) { "PyTorch" } else { "safetensors" };
        let files = match self.paths.len() {
            1 => "in one file".to_owned(),
            n => format!("in {n} files"),
        };
        let packed = match (self.n_packed, config.packing.unwrap_or_default().method) {
            (0, _) => "",
            (_, Method::Gptq { .. }) => ", packed in four bits by GPTQ",
            (_, Method::Awq) => ", packed in four bits by AWQ",
        };
        format!("Hugging Face folder, {kind} {files}{packed}")
    }

    /// What was done to packed matrices, for people.
    fn notes(&self) -> Vec<String> {
        let note = |n: usize, what: &str| (n > 0).then(|| format!("{n} packed matrices {what}"));
        let out_of_order = "were quantized out of order (act-order): activations are gathered";
        let widened = "have groups that are no multiples of 32 columns: they became f32";
        [note(self.n_out_of_order, out_of_order), note(self.n_widened, widened)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// A tensor whose bytes this loader made.
    fn computed(
        &mut self,
        (name, order): (String, RowOrder),
        dims: Vec<usize>,
        encoding: Encoding,
        bytes: Vec<u8>,
    ) -> Result<Tensor> {
        let place = (self.sources.len(), 0);
        let tensor = Tensor::new(name.clone(), dims, encoding, order, place);
        self.sources.push(Source::Owned(bytes));
        tensor.map_err(|why| Error::config(format!("tensor {name}"), why))
    }

    /// An [`Error::MissingTensor`] that lists what the files have instead.
    fn missing(&self, names: &[Name], gguf: &str, hf: &str) -> Error {
        let known = |name: &str| {
            let module = PARTS.iter().find_map(|part| name.strip_suffix(part));
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
    let order = rows.order(config.n_heads, config.n_kv_heads);
    let n_heads = match order {
        RowOrder::Natural => return Ok(order),
        RowOrder::InterleaveHalves { heads } => Some(heads),
        RowOrder::SplitQkv { heads } => heads.checked_mul(3),
    };
    let n_rows = n_heads.and_then(|n| n.checked_mul(config.head_dim));
    let mut expected = vec![n_rows.unwrap_or(usize::MAX)];
    if hf.ends_with(".weight") {
        expected.push(config.hidden_size);
    }
    if dims != expected || !order.fits(expected.first().copied().unwrap_or(0)) {
        return Err(Error::Shape { tensor: hf.to_owned(), expected, found: dims.to_vec() });
    }
    Ok(order)
}
