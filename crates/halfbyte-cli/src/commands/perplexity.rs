//! `halfbyte perplexity`.

use std::path::{Path, PathBuf};

use halfbyte::generate::LogProbFile;
use halfbyte::tokenizer::Specials;
use halfbyte::{Hooks, Model};
use indicatif::ProgressBar;

use super::windows::{self, Windows};
use crate::model::Loading;
use crate::{Ending, interrupt, output};

/// What the options leave open.
const MORE: &str = "Where the model's prompts begin with a start token (BOS), the text does, too, \
    and BOS stands in the\nplace of the first token of every later window. The first token of the \
    text is not scored.\n--kl-base and --kl compare two encodings of one model, one after the \
    other; 'halfbyte compare'\nloads both at once and needs no file.";

#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// The text file; --kl needs none.
    #[arg(required_unless_present = "kl")]
    file: Option<PathBuf>,
    #[command(flatten)]
    windows: Windows,
    /// Write the log-probabilities of all tokens, for --kl: two bytes for each token of the text and
    /// each of the vocabulary.
    #[arg(long, value_name = "FILE")]
    kl_base: Option<PathBuf>,
    /// Say how far the model is from the one that wrote FILE with --kl-base, on its text.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["file", "kl_base", "protocol", "window", "stride"]
    )]
    kl: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let cancel = interrupt::cancel()?;
    let bar = output::bar("scoring", false);
    let hooks = Hooks { progress: Some(output::hook(bar.clone())), ..Hooks::cancelled_by(cancel) };
    match (&args.kl, &args.file) {
        (Some(base), _) => divergence(&args, base, &bar, &hooks),
        (None, Some(file)) => perplexity(&args, file, &bar, &hooks),
        (None, None) => anyhow::bail!("no text: name a file"),
    }
}

fn perplexity(
    args: &Args,
    file: &Path,
    bar: &ProgressBar,
    hooks: &Hooks,
) -> anyhow::Result<Ending> {
    let text = super::read_file(file)?;
    let model = args.loading.load()?;
    let protocol = args.windows.protocol(model.context_length())?;
    let tokens = model.tokenizer()?.encode_prompt(&text, Specials::AsText)?;
    bar.reset();
    let result = match &args.kl_base {
        Some(path) => model.write_log_probs(path, &tokens, protocol, hooks),
        None => model.perplexity_by(&tokens, protocol, hooks),
    };
    bar.finish_and_clear();
    let result = result?;
    if args.json {
        let more = windows::facts(protocol, &model, &tokens);
        return print_json(&model, [windows::perplexity(&result), more]);
    }
    output::line(format_args!(
        "perplexity {:.4} ± {:.4} over {} tokens ({})",
        result.value,
        result.value * result.std_error,
        result.n_scored,
        windows::describe(protocol, &model, &tokens)
    ))?;
    Ok(Ending::Done)
}

fn divergence(
    args: &Args,
    base: &Path,
    bar: &ProgressBar,
    hooks: &Hooks,
) -> anyhow::Result<Ending> {
    let base = LogProbFile::open(base)?;
    let model = args.loading.load()?;
    let (protocol, tokens) = (base.protocol(), base.tokens().to_vec());
    bar.reset();
    let found = model.divergence(base, hooks);
    bar.finish_and_clear();
    let found = found?;
    if args.json {
        let more = windows::facts(protocol, &model, &tokens);
        let base = serde_json::json!({ "base_perplexity": found.base.value });
        let parts = [windows::perplexity(&found.model), base, windows::divergence(&found), more];
        return print_json(&model, parts);
    }
    let cut = windows::describe(protocol, &model, &tokens);
    output::line(format_args!("{} tokens ({cut})", found.model.n_scored))?;
    for line in windows::divergence_lines(&found) {
        output::line(line)?;
    }
    Ok(Ending::Done)
}

/// Prints the fields of `parts` as one object.
fn print_json(
    model: &Model,
    parts: impl IntoIterator<Item = serde_json::Value>,
) -> anyhow::Result<Ending> {
    let mut fields = serde_json::Map::new();
    fields.insert("model".into(), model.path().display().to_string().into());
    for part in parts {
        if let serde_json::Value::Object(part) = part {
            fields.extend(part);
        }
    }
    output::json(&fields.into())?;
    Ok(Ending::Done)
}
