//! What a Hugging Face folder says about matrices that GPTQ or AWQ packed in four bits.

use std::path::Path;

use super::hf_json::Document;
use crate::error::Result;

/// How codes and zero points are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Eight columns of one row in a word; zero points are stored less one, unless `exact_zeros`.
    Gptq { exact_zeros: bool },
    /// Eight rows of one column in a word, in an order of its own.
    Awq,
}

/// What a folder's configuration says about packed matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    pub(super) method: Method,
    /// Columns of a group; `None` for all of them, or if nothing says it.
    pub(super) group_size: Option<usize>,
}

impl Default for Packing {
    /// The files of spring 2023 that say nothing.
    fn default() -> Self {
        Self { method: Method::Gptq { exact_zeros: false }, group_size: None }
    }
}

/// Fields of `quantization_config`, `quantize_config.json` (GPTQ) and `quant_config.json` (AWQ).
const FIELDS: &[&str] = &[
    "bits",
    "checkpoint_format",
    "group_size",
    "q_group_size",
    "quant_method",
    "version",
    "w_bit",
    "zero_point",
];

impl Packing {
    /// Reads what `config.json`, or the file beside it, says; `None` if nothing does.
    pub(super) fn read(folder: &Path, config: &Document) -> Result<Option<Self>> {
        if config.get("quantization_config").is_some() {
            return Self::from(config, "quantization_config.", None).map(Some);
        }
        for (name, method) in [("quantize_config.json", "gptq"), ("quant_config.json", "awq")] {
            let path = folder.join(name);
            if path.exists() {
                return Self::from(&Document::read(path, FIELDS)?, "", Some(method)).map(Some);
            }
        }
        Ok(None)
    }

    /// What the fields after `prefix` say; `usual` is the method of a file that does not say it.
    fn from(document: &Document, prefix: &str, usual: Option<&str>) -> Result<Self> {
        let field = |name: &str| format!("{prefix}{name}");
        let first = |names: [&str; 2]| {
            let names = names.map(field);
            names.into_iter().find(|name| document.get(name).is_some())
        };
        let text = |name: &str| document.text(&[&field(name)]);
        let is_awq = first(["w_bit", "q_group_size"]).is_some();
        let usual = usual.unwrap_or(if is_awq { "awq" } else { "gptq" });
        let method = text("quant_method")?.unwrap_or(usual);
        let bits = first(["bits", "w_bit"]).unwrap_or_else(|| field("bits"));
        if document.integer(&[&bits])?.unwrap_or(4) != 4 {
            return Err(document.wrong(&bits, "4: start from the original weights"));
        }
        let group_size = match first(["group_size", "q_group_size"]) {
            None => None,
            Some(name) => match document.get(&name).and_then(serde_json::Value::as_i64) {
                Some(-1) => None,
                Some(n) if n > 0 => usize::try_from(n).ok(),
                _ => return Err(document.wrong(&name, "-1 or the columns of a group")),
            },
        };
        let expect = |name: &str, known: &[&str]| {
            let found = text(name)?.map(str::to_lowercase);
            if found.as_deref().is_some_and(|found| !known.contains(&found)) {
                return Err(document.wrong(&field(name), &known.join(" or ")));
            }
            Ok(found)
        };
        let method = match method {
            "gptq" => {
                let format = expect("checkpoint_format", &["gptq", "gptq_v2"])?;
                Method::Gptq { exact_zeros: format.as_deref() == Some("gptq_v2") }
            }
            "awq" => {
                expect("version", &["gemm"])?;
                if document.truth(&field("zero_point"))? == Some(false) {
                    return Err(document.wrong(&field("zero_point"), "true"));
                }
                Method::Awq
            }
            _ => {
                let name = field("quant_method");
                return Err(document.wrong(&name, "gptq or awq: start from the original weights"));
            }
        };
        Ok(Self { method, group_size })
    }
}
