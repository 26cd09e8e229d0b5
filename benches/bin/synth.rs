//! `cargo xtask synth`: writes a model of a real shape with seeded random weights.

#![expect(clippy::print_stderr, reason = "a command: progress goes to the terminal")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use halfbyte::QuantizeType;
use halfbyte_benches::synth::old::{self, Old};
use halfbyte_benches::synth::{self, Shape};

/// Writes a GGUF model of a real shape with seeded random weights, or a file as of spring 2023.
#[derive(Parser)]
#[command(
    name = "cargo xtask synth",
    after_help = format!("Shapes: {}; files of 2023: groovy, snoozy", Shape::names())
)]
struct Args {
    /// The shape to write.
    name: String,
    /// How matrices are stored, as in `halfbyte quantize --type`.
    #[arg(long = "type", default_value = "q4_0")]
    kind: String,
    /// The file to write.
    #[arg(short, long)]
    output: PathBuf,
    /// The same seed gives the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For files of 2023: a folder with tokenizer.json (groovy) or tokenizer.model (snoozy).
    #[arg(long)]
    vocab: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let old = Old::find(&args.name);
    if let Some(old) = old {
        return write(&args, |progress| {
            let tokens = old::tokens(old, args.vocab.as_deref())?;
            old::write(&args.output, old, &tokens, args.seed, progress)
        });
    }
    anyhow::ensure!(args.vocab.is_none(), "--vocab is for groovy and snoozy");
    let shape = Shape::find(&args.name)
        .with_context(|| format!("no shape {} (shapes: {})", args.name, Shape::names()))?;
    let kind = QuantizeType::from_name(&args.kind)
        .with_context(|| format!("no type {} (types: {})", args.kind, QuantizeType::names()))?;
    write(&args, |progress| synth::write(&args.output, shape, kind, args.seed, progress))
}

/// Writes the file with a bar for whoever waits.
fn write(
    args: &Args,
    make: impl FnOnce(&mut dyn FnMut(u64, u64)) -> halfbyte::Result<()>,
) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::new(0).with_style(indicatif::ProgressStyle::with_template(
        "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )?);
    let start = Instant::now();
    make(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let bytes = std::fs::metadata(&args.output)?.len();
    eprintln!(
        "{}: {bytes} bytes, {:.2} GB, in {:.1} s",
        args.output.display(),
        bytes as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
