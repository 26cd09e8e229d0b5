//! Functions on model files, and the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use halfbyte::io::Checkpoint;
use halfbyte::model::{ModelConfig, packed_size};
use halfbyte::tokenizer::Tokenizer;
use halfbyte::{Adapter, QuantizeType};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::call::{Call, check_process};
use crate::error::{config, raise};

/// (source bytes, bytes, weights, tensors, fallbacks) of a quantized file.
type Quantized = (u64, u64, u64, usize, Vec<String>);

/// Writes a checkpoint as a GGUF file with its matrices in another encoding, LoRA adapters, given as
/// paths with scales, added first.
#[pyfunction]
pub(crate) fn quantize(
    py: Python<'_>,
    source: PathBuf,
    destination: PathBuf,
    kind: &str,
    adapters: Vec<(PathBuf, f32)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Quantized> {
    // Encoding shares the process's threads, which stay behind when it forks.
    static PROCESS: OnceLock<u32> = OnceLock::new();
    check_process(*PROCESS.get_or_init(std::process::id))?;
    let kind = QuantizeType::from_name(kind).ok_or_else(|| {
        config("type", format!("{kind:?} is not one of {}", QuantizeType::names()))
    })?;
    let call = Call::new(progress);
    let report = call.run(py, || {
        let checkpoint = Checkpoint::open(source)?;
        let open = |(path, scale): &(PathBuf, f32)| {
            Ok((Adapter::open(path, &ModelConfig::from_checkpoint(&checkpoint)?)?, *scale))
        };
        let adapters = adapters.iter().map(open).collect::<halfbyte::Result<Vec<_>>>()?;
        let heard = call.progress();
        let mut report = |done, total| {
            if let Some(progress) = &heard {
                progress.report(done, total);
            }
        };
        let merged = (&checkpoint, adapters.as_slice());
        halfbyte::quantize_merged(merged, &destination, kind, call.cancel(), &mut report)
    })?;
    Ok((report.source_bytes, report.bytes, report.weights, report.tensors, report.fallbacks))
}

/// What a model file holds, without loading it; the embedded model for None.
#[pyfunction]
#[pyo3(signature = (path) -> "dict[str, Any]")]
pub(crate) fn inspect(py: Python<'_>, path: Option<PathBuf>) -> PyResult<Bound<'_, PyDict>> {
    let Inspected { checkpoint, config, packed_bytes, tokenizer_error } =
        Call::new(None).run(py, || inspected(path))?;
    let facts = PyDict::new(py);
    let metadata = checkpoint.metadata();
    facts.set_item("name", metadata.str("general.name").map_err(raise)?)?;
    facts.set_item("path", checkpoint.path())?;
    config_facts(&facts, &config)?;
    facts.set_item("packed_bytes", packed_bytes)?;
    facts.set_item("chat_template", metadata.str("tokenizer.chat_template").map_err(raise)?)?;
    facts.set_item("tokenizer_error", tokenizer_error)?;
    let tensors = PyList::empty(py);
    for tensor in checkpoint.tensor_names().filter_map(|name| checkpoint.tensor(name)) {
        let (name, encoding) = (tensor.name(), tensor.encoding().name());
        tensors.append((name, encoding, tensor.dims(), tensor.n_bytes()))?;
    }
    facts.set_item("tensors", tensors)?;
    Ok(facts)
}

/// What takes its time to find out about a model file.
struct Inspected {
    checkpoint: Checkpoint,
    config: ModelConfig,
    packed_bytes: u64,
    tokenizer_error: Option<String>,
}

fn inspected(path: Option<PathBuf>) -> halfbyte::Result<Inspected> {
    let checkpoint = match path {
        Some(path) => Checkpoint::open(path)?,
        None => Checkpoint::from_static_bytes(halfbyte_model::NAME, halfbyte_model::BYTES)?,
    };
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint);
    Ok(Inspected {
        config: ModelConfig::from_checkpoint(&checkpoint)?,
        packed_bytes: packed_size(&checkpoint)?,
        tokenizer_error: tokenizer.err().map(|error| error.to_string()),
        checkpoint,
    })
}

/// Adds the numbers of a model's configuration.
pub(crate) fn config_facts(facts: &Bound<'_, PyDict>, config: &ModelConfig) -> PyResult<()> {
    facts.set_item("architecture", config.architecture.name)?;
    for (key, value) in [
        ("n_layers", config.n_layers),
        ("hidden_size", config.hidden_size),
        ("n_heads", config.n_heads),
        ("n_kv_heads", config.n_kv_heads),
        ("head_dim", config.head_dim),
        ("feed_forward", config.feed_forward),
        ("vocab_size", config.vocab_size),
        ("trained_context_length", config.context_length),
    ] {
        facts.set_item(key, value)?;
    }
    Ok(())
}

/// Runs the `halfbyte` command and returns its exit status.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, args: Vec<OsString>) -> PyResult<u8> {
    Call::new(None).run_here(py, || halfbyte_cli::run(args))
}
