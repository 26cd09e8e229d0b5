//! `halfbyte perplexity`.

use std::path::PathBuf;

use halfbyte::Hooks;
use halfbyte::tokenizer::Specials;
use serde_json::json;

use crate::model::Loading;
use crate::{Ending, interrupt, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text file.
    file: PathBuf,
    /// Tokens that the model sees at once [default: its context].
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Tokens by which the window moves [default: half of the window].
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let text = super::read_file(&args.file)?;
    let cancel = interrupt::cancel()?;
    let model = args.loading.load()?;
    let tokens = model.tokenizer()?.encode_prompt(&text, Specials::AsText)?;
    let window = args.window.unwrap_or_else(|| model.context_length());
    let stride = args.stride.unwrap_or_else(|| (window / 2).max(1));
    let bar = output::bar("scoring", false);
    let hooks = Hooks { progress: Some(output::hook(bar.clone())), ..Hooks::cancelled_by(cancel) };
    let result = model.perplexity(&tokens, window, stride, &hooks);
    bar.finish_and_clear();
    let result = result?;
    if args.json {
        output::json(&json!({
            "model": model.path().display().to_string(),
            "perplexity": result.value,
            "mean_nll": result.mean_nll,
            "mean_nll_std_error": result.std_error,
            "scored_tokens": result.n_scored,
            "window": window,
            "stride": stride,
        }))?;
    } else {
        output::line(format_args!(
            "perplexity {:.4} ± {:.4} over {} tokens (window {window}, stride {stride})",
            result.value,
            result.value * result.std_error,
            result.n_scored
        ))?;
    }
    Ok(Ending::Done)
}
