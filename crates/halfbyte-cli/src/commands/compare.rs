//! `halfbyte compare`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use halfbyte::generate::{Comparison, Perplexity};
use halfbyte::tokenizer::Specials;
use halfbyte::{Cancel, GenerationConfig, Hooks, Model};
use serde_json::json;

use super::windows::{self, Windows};
use crate::model::{Contents, How, Numbers, Source};
use crate::{Ending, interrupt, output};

/// What the options leave open.
const MORE: &str = "Both read the same windows of the text, as 'halfbyte perplexity' cuts it. The \
    divergence is that\nof B's probabilities from A's. Adapters (--lora) and numbers (--rms-eps, \
    --n-gqa, --rope-base)\ncount for both.";

#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// The base, such as the unquantized model: a GGUF file, a file of one of 2023's formats, a
    /// Hugging Face folder, or `embedded`.
    a: PathBuf,
    /// What is compared with it.
    b: PathBuf,
    /// The text file.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    #[command(flatten)]
    windows: Windows,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    how: How,
}

/// Tokens that each model writes to show its speed, and tokens that stand before them.
const WRITTEN: usize = 48;
const BEFORE: usize = 16;

/// What there is to say of a model by itself.
struct Side {
    path: String,
    model: Model,
    /// Encodings by their share of the bytes, the largest first.
    encodings: String,
    tensor_bytes: u64,
    bits_per_weight: f64,
}

impl Side {
    fn open(path: &Path, args: &Args) -> anyhow::Result<Self> {
        let embedded = path.as_os_str() == "embedded" && !path.exists();
        let path = (!embedded).then(|| path.to_owned());
        let checkpoint = Source { model: path, numbers: args.numbers.clone() }.checkpoint()?;
        let model = args.how.load(&checkpoint)?;
        let contents = Contents::of(&checkpoint);
        Ok(Self {
            path: model.path().display().to_string(),
            model,
            encodings: encodings(&contents),
            tensor_bytes: contents.bytes,
            bits_per_weight: contents.bits_per_weight(),
        })
    }

    /// Tokens per second when writing one after the other.
    fn writing(&self, tokens: &[u32], cancel: &Cancel) -> halfbyte::Result<f64> {
        let before = &tokens[..tokens.len().min(BEFORE)];
        let room = self.model.context_length().saturating_sub(before.len());
        let config = GenerationConfig {
            max_new_tokens: WRITTEN.min(room),
            ignore_eos: true,
            ..GenerationConfig::greedy()
        };
        if config.max_new_tokens < 2 {
            return Ok(0.0);
        }
        let mut session = self.model.session();
        session.set_hooks(Hooks::cancelled_by(cancel));
        let done = session.generate_tokens(before, &config)?.complete()?;
        Ok(output::rate(done.usage.new_tokens.saturating_sub(1), done.timings.decode))
    }
}

/// The encodings of what is no small part of a file.
fn encodings(contents: &Contents) -> String {
    // Norms and biases are f32 in every file, and less than a hundredth.
    let shares = contents.by_share().into_iter().filter(|&(_, n)| n * 100 >= contents.bytes);
    shares.map(|(name, _)| name).collect::<Vec<_>>().join(" + ")
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let text = super::read_file(&args.text)?;
    let cancel = interrupt::cancel()?;
    let (a, b) = (Side::open(&args.a, &args)?, Side::open(&args.b, &args)?);
    let tokens = a.model.tokenizer()?.encode_prompt(&text, Specials::AsText)?;
    anyhow::ensure!(
        b.model.tokenizer()?.encode_prompt(&text, Specials::AsText)? == tokens,
        "{} and {} cut the text into different tokens, so that they cannot be compared",
        a.path,
        b.path
    );
    let context = a.model.context_length().min(b.model.context_length());
    let protocol = args.windows.protocol(context)?;
    let bar = output::bar("comparing", false);
    let hooks = Hooks { progress: Some(output::hook(bar.clone())), ..Hooks::cancelled_by(cancel) };
    let found = b.model.compare(&a.model, &tokens, protocol, &hooks);
    bar.finish_and_clear();
    let found = found?;
    let writing = [a.writing(&tokens, cancel)?, b.writing(&tokens, cancel)?];
    if args.json {
        let sides = [
            side_json(&a, &found.divergence.base, &found, found.base_time, writing[0]),
            side_json(&b, &found.divergence.model, &found, found.model_time, writing[1]),
        ];
        output::json(&json!({
            "a": sides[0],
            "b": sides[1],
            "divergence": windows::divergence(&found.divergence),
            "windows": windows::facts(protocol, &a.model, &tokens),
        }))?;
        return Ok(Ending::Done);
    }
    table(&a, &b, &found, writing)?;
    let cut = windows::describe(protocol, &a.model, &tokens);
    output::line(format_args!("\n{} tokens ({cut})", found.divergence.base.n_scored))?;
    for line in windows::divergence_lines(&found.divergence).into_iter().skip(1) {
        output::line(line)?;
    }
    Ok(Ending::Done)
}

fn side_json(
    side: &Side,
    perplexity: &Perplexity,
    found: &Comparison,
    time: Duration,
    writing: f64,
) -> serde_json::Value {
    json!({
        "model": side.path,
        "encodings": side.encodings,
        "tensor_bytes": side.tensor_bytes,
        "bits_per_weight": side.bits_per_weight,
        "perplexity": windows::perplexity(perplexity),
        "reading_tokens_per_second": output::rate(found.tokens_read, time),
        "writing_tokens_per_second": writing,
    })
}

/// Prints what each of the two is, in columns.
fn table(a: &Side, b: &Side, found: &Comparison, writing: [f64; 2]) -> anyhow::Result<()> {
    let value = |p: &Perplexity| format!("{:.4} ± {:.4}", p.value, p.value * p.std_error);
    let both = |f: &dyn Fn(&Side) -> String| [f(a), f(b)];
    let reading = [found.base_time, found.model_time]
        .map(|time| format!("{:.1}", output::rate(found.tokens_read, time)));
    let rows = [
        ("encodings", both(&|side| side.encodings.clone())),
        ("size", both(&|side| output::size(side.tensor_bytes))),
        ("bits per weight", both(&|side| format!("{:.2}", side.bits_per_weight))),
        ("perplexity", [value(&found.divergence.base), value(&found.divergence.model)]),
        ("tokens/s reading", reading),
        ("tokens/s writing", writing.map(|rate| format!("{rate:.1}"))),
    ];
    output::line(format_args!("A  {}\nB  {}\n", a.path, b.path))?;
    output::line(format_args!("{:<18}{:>22}{:>22}", "", "A", "B"))?;
    for (name, [left, right]) in rows {
        output::line(format_args!("{name:<18}{left:>22}{right:>22}"))?;
    }
    Ok(())
}
