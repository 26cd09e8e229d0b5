//! `halfbyte inspect`.

use std::path::PathBuf;

use halfbyte::io::{Checkpoint, TensorView, Value};
use halfbyte::model::{ModelConfig, packed_size};
use halfbyte::tokenizer::Tokenizer;
use halfbyte::{ChatTemplate, Isa, IsaSupport};
use serde_json::{Map, json};

use crate::model::{Contents, Source};
use crate::{Ending, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file or folder; the same as --model.
    #[arg(conflicts_with = "model")]
    path: Option<PathBuf>,
    /// List the tensors.
    #[arg(long)]
    tensors: bool,
    /// List the metadata.
    #[arg(long)]
    metadata: bool,
    /// Show what this processor offers instead of a model.
    #[arg(long)]
    cpu: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    if args.cpu {
        return cpu(args.json);
    }
    let model = args.path.clone().or_else(|| args.source.model.clone());
    let source = Source { model, numbers: args.source.numbers.clone() };
    let checkpoint = source.checkpoint()?;
    let facts = facts(&checkpoint, &args)?;
    if args.json {
        output::json(&facts.into())?;
        return Ok(Ending::Done);
    }
    for (key, value) in &facts {
        match value {
            serde_json::Value::Object(rows) => {
                output::line(format_args!("{key}:"))?;
                for (name, value) in rows {
                    output::line(format_args!("  {name:<44} {}", plain(value)))?;
                }
            }
            serde_json::Value::Array(lines) => {
                for line in lines {
                    output::line(format_args!("{key:<24} {}", plain(line)))?;
                }
            }
            value => output::line(format_args!("{key:<24} {}", plain(value)))?,
        }
    }
    Ok(Ending::Done)
}

/// A string without quotes, a list with commas, anything else as JSON.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn facts(checkpoint: &Checkpoint, args: &Args) -> anyhow::Result<Map<String, serde_json::Value>> {
    let mut facts = Map::new();
    let mut put = |key: &str, value: serde_json::Value| drop(facts.insert(key.to_owned(), value));
    put("file", checkpoint.path().display().to_string().into());
    put("container", checkpoint.container().into());
    if let Some(name) = checkpoint.metadata().str("general.name")? {
        put("name", name.into());
    }
    let contents = Contents::of(checkpoint);
    let config = ModelConfig::from_checkpoint(checkpoint)?;
    put("quantization", contents.by_share().first().map_or("none", |(name, _)| name).into());
    put("architecture", config.architecture.name.into());
    put("parameters", contents.weights.into());
    if let Some(encoder) = &config.encoder {
        put("encoder layers", encoder.n_layers.into());
    }
    put("layers", config.n_layers.into());
    put("hidden size", config.hidden_size.into());
    put("heads", config.n_heads.into());
    put("key/value heads", config.n_kv_heads.into());
    put("head size", config.head_dim.into());
    put("rotary size", config.n_rot.into());
    put("feed-forward size", config.feed_forward.into());
    put("vocabulary", config.vocab_size.into());
    put("context length", config.context_length.into());
    put("norm epsilon", shortest(config.norm_eps));
    put("rotary base", shortest(config.rope_base));
    put("tensor bytes", contents.bytes.into());
    put("packed bytes", packed_size(checkpoint)?.into());
    put("bits per weight", json!((100.0 * contents.bits_per_weight()).round() / 100.0));
    let encodings: Map<_, _> = contents
        .encodings
        .into_iter()
        .map(|(name, (n, bytes))| {
            let text = format!("{n} tensors, {}", output::size(bytes));
            (name.to_owned(), text.into())
        })
        .collect();
    put("encodings", encodings.into());
    let tokenizer = Tokenizer::from_checkpoint(checkpoint);
    match &tokenizer {
        Ok(tokenizer) => {
            put("tokenizer", tokenizer.kind().into());
            put("tokens", tokenizer.vocab_size().into());
            put("bos token", json!(tokenizer.bos()));
            put("eos token", json!(tokenizer.eos()));
        }
        Err(error) => put("tokenizer", error.to_string().into()),
    }
    match ChatTemplate::of_checkpoint(checkpoint, tokenizer.as_ref().ok()) {
        Ok(template) => {
            let source = checkpoint.metadata().str("tokenizer.chat_template")?;
            let text = template.name().or(source).unwrap_or_default();
            put("chat template", text.into());
            put("chat template from", template.origin().name().into());
        }
        Err(_) => put("chat template", "none in the file; chat --template chooses one".into()),
    }
    if !checkpoint.notes().is_empty() {
        put("note", json!(checkpoint.notes()));
    }
    if args.tensors {
        let tensors = checkpoint.tensor_names().filter_map(|name| checkpoint.tensor(name));
        let shape = |tensor: TensorView<'_>| {
            let text = format!("{} {:?}", tensor.encoding().name(), tensor.dims());
            (tensor.name().to_owned(), text.into())
        };
        put("tensors", tensors.map(shape).collect::<Map<_, _>>().into());
    }
    if args.metadata {
        let rows = checkpoint.metadata().iter();
        let rows: Map<_, _> = rows.map(|(k, v)| (k.to_owned(), brief(v).into())).collect();
        put("metadata", rows.into());
    }
    Ok(facts)
}

/// The number as a person would write it: 1e-6, not the nearest f32's many digits.
fn shortest(number: f32) -> serde_json::Value {
    json!(number.to_string().parse::<f64>().unwrap_or_else(|_| number.into()))
}

/// A metadata value in at most a line.
fn brief(value: &Value) -> String {
    const MAX_CHARS: usize = 100;
    let text = match value {
        Value::String(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Strings(list) => format!("{} strings", list.len()),
        other => format!("{other:?}"),
    };
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn cpu(json: bool) -> anyhow::Result<Ending> {
    let (chosen, wanted) = (Isa::choose()?.name(), Isa::wanted());
    let threads = halfbyte::default_threads();
    if json {
        let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        let rows: Vec<_> = Isa::all()
            .into_iter()
            .map(
                |isa| json!({ "name": isa.name, "features": isa.features, "missing": isa.missing }),
            )
            .collect();
        output::json(&json!({
            "architecture": std::env::consts::ARCH,
            "instruction sets": rows,
            "available": available,
            "chosen": chosen,
            "chosen by HALFBYTE_ISA": wanted.is_some(),
            "threads": threads,
        }))?;
        return Ok(Ending::Done);
    }
    output::line(format_args!("{:<24} {}", "architecture", std::env::consts::ARCH))?;
    output::line("instruction sets:")?;
    for isa in Isa::all() {
        output::line(format_args!("  {:<22} {}", isa.name, support(&isa)))?;
    }
    let by = if wanted.is_some() { "by HALFBYTE_ISA" } else { "the best; HALFBYTE_ISA overrides" };
    output::line(format_args!("{:<24} {chosen} ({by})", "chosen"))?;
    output::line(format_args!("{:<24} {threads}", "threads"))?;
    Ok(Ending::Done)
}

/// Whether this processor has an instruction set, and by which features.
fn support(isa: &IsaSupport) -> String {
    let (features, missing) = (isa.features.join(", "), isa.missing.join(", "));
    match (missing.as_str(), features.as_str()) {
        ("", "") => "available".to_owned(),
        ("", _) => format!("available ({features})"),
        _ => format!("not here: lacks {missing} (needs {features})"),
    }
}
