//! `halfbyte quantize`.

use std::path::{Path, PathBuf};

use halfbyte::model::ModelConfig;
use halfbyte::{Adapter, QuantizeType};
use serde_json::json;

use crate::model::{Adapters, Numbers};
use crate::{Ending, interrupt, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// GGUF file, file of one of 2023's formats or Hugging Face folder.
    source: PathBuf,
    /// The GGUF file to write.
    destination: PathBuf,
    /// Encoding of the matrices, such as `q4_0`, `q8_0` or `q4_k_m`, or `keep`; a wrong one lists
    /// them all.
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_0", value_parser = kind)]
    kind: QuantizeType,
    #[command(flatten)]
    adapters: Adapters,
    /// Replace the destination if it exists.
    #[arg(long)]
    force: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    numbers: Numbers,
}

fn kind(name: &str) -> Result<QuantizeType, String> {
    QuantizeType::from_name(name)
        .ok_or_else(|| format!("expected one of {}", QuantizeType::names()))
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let kind = args.kind;
    if args.destination.exists() && !args.force {
        anyhow::bail!("{} exists: give --force to replace it", args.destination.display());
    }
    let cancel = interrupt::cancel()?;
    let checkpoint = args.numbers.open(&args.source)?;
    let open = |path: &Path| Adapter::open(path, &ModelConfig::from_checkpoint(&checkpoint)?);
    let adapters = args.adapters.open(open)?;
    let bar = output::bar("quantizing", true);
    let merged = (&checkpoint, adapters.as_slice());
    let report =
        halfbyte::quantize_merged(merged, &args.destination, kind, cancel, &mut |done, total| {
            output::advance(&bar, done, total);
        });
    bar.finish_and_clear();
    let report = report?;
    for fallback in &report.fallbacks {
        output::note(format_args!("note: {fallback}"));
    }
    if report.kept_of_2023 > 0 {
        output::note(format_args!(
            "note: {} tensors keep scales of 32 bits as the files of 2023 have them, or zero points \
             as GPTQ and AWQ have them: other programs refuse the new file; --type q4_0 or q8_0 \
             makes one for them",
            report.kept_of_2023
        ));
    }
    let bits = 8.0 * report.bytes as f64 / report.weights.max(1) as f64;
    if args.json {
        output::json(&json!({
            "type": kind.name(),
            "source_bytes": report.source_bytes,
            "bytes": report.bytes,
            "tensors": report.tensors,
            "bits_per_weight": bits,
            "fallbacks": report.fallbacks,
            "kept_of_2023": report.kept_of_2023,
        }))?;
    } else {
        output::line(format_args!(
            "{}: {} tensors, {} → {}, {bits:.2} bits per weight",
            args.destination.display(),
            report.tensors,
            output::size(report.source_bytes),
            output::size(report.bytes),
        ))?;
    }
    Ok(Ending::Done)
}
