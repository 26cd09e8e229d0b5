//! PEFT folders: `adapter_config.json`, and `adapter_model.safetensors` or `adapter_model.bin`.
//!
//! `fan_in_fan_out` needs no care: it says how the base layer stores W, while A is (r, in) and B
//! (out, r) in any case. What is more than W + scale · B·A is refused by name, never ignored.
//!
//! Source: `LoraConfig` and `lora/layer.py` of Hugging Face's PEFT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::adapter::{self, AdapterFile, Base, Side};
use super::checkpoint::Tensor;
use super::hf_json::Document;
use super::metadata::Metadata;
use super::mmap::Map;
use super::safetensors::{self, Info, Strides};
use super::source::Source;
use super::view::RowOrder;
use super::{gguf_value, hf_files, torch};
use crate::error::{Error, Result};
use crate::quant::Encoding;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";

/// Fields that make an adapter more than LoRA unless they are empty, and what it is then.
static REFUSED: &[(&str, &str)] = &[
    ("alora_invocation_tokens", "an adapter that some tokens switch on (aLoRA)"),
    ("arrow_config", "a mixture of adapters (Arrow)"),
    ("kasa_config", "a change of the base weights (KaSA)"),
    ("layer_replication", "a base model with repeated layers"),
    ("lora_bias", "biases of LoRA's own"),
    ("modules_to_save", "whole modules beside LoRA"),
    ("target_parameters", "LoRA on parameters that are no modules"),
    ("trainable_token_indices", "embeddings of some tokens"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("use_dora", "DoRA"),
    ("use_qalora", "QALoRA"),
];

/// Values of `init_lora_weights` that leave the base weights as they are; others change them.
static INITIALIZATIONS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// Fields that are read besides [`REFUSED`].
static FIELDS: &[&str] = &[
    "alpha_pattern",
    "bias",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];

/// The PEFT folder that `path` is, or is a file of.
pub(super) fn folder_of(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return path.join(CONFIG).is_file().then(|| path.into());
    }
    let name = path.file_name()?.to_str()?;
    if ![CONFIG, WEIGHTS, PICKLED].contains(&name) {
        return None;
    }
    let folder = hf_files::folder(path);
    folder.join(CONFIG).is_file().then(|| folder.into())
}

/// Opens the PEFT folder that `path` is, or is a file of.
pub(super) fn open(path: &Path, base: Base<'_>) -> Result<AdapterFile> {
    let folder = folder_of(path).unwrap_or_else(|| path.into());
    let config = Config::read(&folder)?;
    let (source, stored) = weights(&folder)?;
    let mut modules = BTreeMap::new();
    let mut tensors = Vec::with_capacity(stored.len());
    for tensor in stored {
        let module = Module::of(&folder, base, &tensor.name)?;
        let Stored { name, dims, encoding, start } = tensor;
        let tensor = Tensor::new(module.gguf.clone(), dims, encoding, module.order, (0, start));
        let tensor = tensor.map_err(|why| Error::Malformed {
            path: folder.clone(),
            what: format!("tensor {name} {why}"),
            offset: start as u64,
        })?;
        tensors.push(tensor);
        if let Some((matrix, Side::A)) = Side::split(&module.gguf) {
            modules.insert(matrix.to_owned(), module.hf);
        }
    }
    let scale = |name: &str, rank: usize| config.scale(modules.get(name).map_or("", |hf| hf), rank);
    AdapterFile::assemble(&folder, Metadata::default(), vec![source], tensors, scale)
}

/// Reads the `bytes` of a configuration.
pub(super) fn read_config(path: &Path, bytes: &[u8]) -> Result<()> {
    Config::parse(Document::parse(path.into(), bytes, &wanted())?).map(|_| ())
}

/// A tensor of the weights file.
struct Stored {
    name: String,
    dims: Vec<usize>,
    encoding: Encoding,
    /// In the file, in bytes.
    start: usize,
}

fn weights(folder: &Path) -> Result<(Source, Vec<Stored>)> {
    let (safetensors, pickled) = (folder.join(WEIGHTS), folder.join(PICKLED));
    let (path, read): (_, fn(&Path, &[u8]) -> _) = if safetensors.exists() {
        (safetensors, safetensors::read)
    } else if pickled.exists() {
        (pickled, torch::read)
    } else {
        return Err(Error::UnsupportedFormat {
            path: folder.into(),
            found: "a PEFT folder without weights".into(),
            supported: format!("{WEIGHTS} or {PICKLED}"),
        });
    };
    let map = Map::open(&path)?;
    let mut stored = Vec::new();
    for (name, Info { dtype, dims, start, strides }) in read(&path, map.bytes())? {
        let Some(encoding) = safetensors::encoding(dtype) else {
            return Err(gguf_value::in_tensor(format!("dtype {dtype}"), &name, &path));
        };
        if strides != Strides::Rows {
            let what = format!("tensor {name} does not lie row after row: save it contiguous");
            return Err(Error::Malformed { path, what, offset: start as u64 });
        }
        stored.push(Stored { name, dims, encoding, start });
    }
    Ok((Source::Map(map), stored))
}

/// A factor of a module.
struct Module {
    /// The module's path below the model, in Hugging Face's names.
    hf: String,
    /// The factor's name in GGUF's.
    gguf: String,
    order: RowOrder,
}

impl Module {
    /// What the tensor of that name is, such as
    /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    fn of(folder: &Path, base: Base<'_>, name: &str) -> Result<Self> {
        let refused =
            |why: String| Error::config(format!("tensor {name} in {}", folder.display()), why);
        let below = name.strip_prefix("base_model.model.").unwrap_or(name);
        let parted =
            [(".lora_A.", Side::A), (".lora_B.", Side::B)].into_iter().find_map(|(mark, side)| {
                let (module, end) = below.split_once(mark)?;
                // Before 2023-05 the adapter's own name stood in between.
                let adapter = end.strip_suffix("weight")?.strip_suffix('.');
                adapter.is_none_or(|a| !a.contains('.')).then_some((module, side))
            });
        let Some((module, side)) = parted else {
            return Err(refused(format!("{}, which is not supported", kind(name))));
        };
        let found = adapter::find_name(base, module, |row| row.hf_names().collect());
        let Some((row, number)) = found else {
            let why = format!("{} has no module {module}", base.architecture);
            return Err(refused(why));
        };
        let (gguf, order) = adapter::from_hf(base, (row, number), side);
        Ok(Self { hf: module.to_owned(), gguf, order })
    }
}

/// What a tensor is that is neither A nor B.
fn kind(name: &str) -> &'static str {
    match name {
        n if n.contains("lora_embedding_") => "changes an embedding",
        n if n.contains("lora_magnitude") => "belongs to DoRA",
        n if n.contains("lora_") && n.ends_with(".bias") => "is a bias of LoRA's own",
        _ => "is a whole weight beside LoRA (modules_to_save or bias)",
    }
}

/// What `adapter_config.json` says.
struct Config {
    document: Document,
    alpha: f64,
    /// The rank of every matrix, unless there is a `rank_pattern`.
    rank: Option<u64>,
    /// Ends of modules' paths with an alpha of their own.
    alphas: Vec<(String, f64)>,
    /// Whether the scale is α/√r instead of α/r.
    is_stabilized: bool,
}

/// Fields of the configuration that are read.
fn wanted() -> Vec<&'static str> {
    FIELDS.iter().copied().chain(REFUSED.iter().map(|(field, _)| *field)).collect()
}

impl Config {
    fn read(folder: &Path) -> Result<Self> {
        Self::parse(Document::read(folder.join(CONFIG), &wanted())?)
    }

    fn parse(document: Document) -> Result<Self> {
        let kind = document.text(&["peft_type"])?;
        if kind != Some("LORA") {
            return Err(document.wrong("peft_type", "LORA"));
        }
        if let Some((field, what)) = REFUSED.iter().find(|(field, _)| is_set(document.get(field))) {
            return Err(document.invalid(field, format!("asks for {what}, which is not supported")));
        }
        if document.text(&["bias"])?.is_some_and(|bias| bias != "none") {
            return Err(document.wrong("bias", "none: trained biases are not supported"));
        }
        if let Some(Value::String(how)) = document.get("init_lora_weights")
            && !INITIALIZATIONS.contains(&how.as_str())
        {
            let reason = format!("{how} changed the base weights, too: convert the adapter first");
            return Err(document.invalid("init_lora_weights", reason));
        }
        let alpha = document.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| document.wrong("lora_alpha", "a number"))?;
        let rank = document.integer(&["r"])?;
        if rank == Some(0) {
            return Err(document.wrong("r", "1 or more"));
        }
        Ok(Self {
            alpha,
            rank: rank.filter(|_| !is_set(document.get("rank_pattern"))),
            alphas: alphas(&document)?,
            is_stabilized: document.truth("use_rslora")?.unwrap_or(false),
            document,
        })
    }

    /// What B·A of `module` is multiplied by.
    fn scale(&self, module: &str, rank: usize) -> Result<f64> {
        if let Some(expected) = self.rank.filter(|&r| r != rank as u64) {
            let reason = format!("is {expected}, but {module} has the rank {rank}");
            return Err(self.document.invalid("r", reason));
        }
        let own = |(end, _): &&(String, f64)| {
            module.strip_suffix(end.as_str()).is_some_and(|m| m.is_empty() || m.ends_with('.'))
        };
        let alpha = self.alphas.iter().find(own).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        Ok(alpha / if self.is_stabilized { rank.sqrt() } else { rank })
    }
}

/// Whether a field holds more than nothing.
fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}

/// The alphas of `alpha_pattern`. Its keys are regular expressions for the end of a module's path;
/// plain paths are understood.
fn alphas(document: &Document) -> Result<Vec<(String, f64)>> {
    let name = "alpha_pattern";
    let Some(value) = document.get(name) else { return Ok(Vec::new()) };
    let Some(fields) = value.as_object() else { return Err(document.wrong(name, "an object")) };
    let mut alphas: Vec<(String, f64)> = Vec::with_capacity(fields.len());
    for (end, alpha) in fields {
        if end.is_empty() || end.contains(|c: char| !(c.is_alphanumeric() || "._-".contains(c))) {
            let reason = format!("{end:?} is a regular expression: only plain paths are supported");
            return Err(document.invalid(name, reason));
        }
        let Some(alpha) = alpha.as_f64() else {
            return Err(document.invalid(name, format!("{end} has no number")));
        };
        alphas.push((end.clone(), alpha));
    }
    // Where several match, the one that says most.
    alphas.sort_by_key(|(end, _)| std::cmp::Reverse(end.len()));
    Ok(alphas)
}
