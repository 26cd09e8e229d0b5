//! `halfbyte generate`.

use std::path::PathBuf;

use halfbyte::model::ModelConfig;
use halfbyte::reference::{Reference, ReferenceT5};
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte::{Adapter, FinishReason, GenerationConfig, Hooks};
use serde_json::json;

use crate::model::Loading;
use crate::sampling::Sampling;
use crate::{Ending, interrupt, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text to go on from; '-' reads it from standard input.
    #[arg(conflicts_with = "file")]
    prompt: Option<String>,
    /// Read the prompt from a file.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Print one JSON object at the end instead of text as it comes.
    #[arg(long)]
    json: bool,
    /// Tell times on standard error.
    #[arg(short, long)]
    verbose: bool,
    /// Compute with the slow, plain reference instead: f32 weights, most probable tokens.
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    loading: Loading,
    #[command(flatten)]
    sampling: Sampling,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let prompt = super::text(args.prompt.as_deref(), args.file.as_deref())?;
    let config = args.sampling.config();
    config.validate()?;
    if args.reference {
        return reference(&args.loading, &prompt, &config, args.json);
    }
    let cancel = interrupt::cancel()?;
    let model = args.loading.load()?;
    let mut session = model.session();
    session.set_hooks(Hooks::cancelled_by(cancel));
    let mut generation = session.generate(&prompt, &config)?;
    let mut tokens = Vec::new();
    if !args.json {
        output::print(&prompt)?;
        output::print(parting(model.config()))?;
    }
    for piece in &mut generation {
        let piece = piece?;
        tokens.push(piece.token);
        if !args.json {
            output::print(&piece.text)?;
        }
    }
    let (usage, timings) = (generation.usage(), generation.timings());
    let reason = generation.finish_reason().cloned();
    if args.json {
        output::json(&json!({
            "model": model.path().display().to_string(),
            "text": generation.text(),
            "tokens": tokens,
            "finish_reason": reason.as_ref().map(FinishReason::name),
            "seed": generation.seed(),
            "prompt_tokens": usage.prompt_tokens,
            "new_tokens": usage.new_tokens,
            "prompt_s": timings.prompt.as_secs_f64(),
            "decode_s": timings.decode.as_secs_f64(),
        }))?;
    } else {
        output::print("\n")?;
    }
    if args.verbose {
        output::note(format_args!(
            "prompt {} tokens, {:.1} tok/s; {} new tokens, {:.1} tok/s; seed {}; ended by {}",
            usage.prompt_tokens,
            output::rate(usage.prompt_tokens, timings.prompt),
            usage.new_tokens,
            output::rate(usage.new_tokens, timings.decode),
            generation.seed(),
            reason.as_ref().map_or("error", FinishReason::name),
        ));
    }
    let interrupted = reason == Some(FinishReason::Cancelled);
    Ok(if interrupted { Ending::Interrupted } else { Ending::Done })
}

/// What stands between a prompt and an answer that is a text of its own.
fn parting(config: &ModelConfig) -> &'static str {
    if config.encoder.is_some() { "\n" } else { "" }
}

fn reference(
    loading: &Loading,
    prompt: &str,
    config: &GenerationConfig,
    json: bool,
) -> anyhow::Result<Ending> {
    let checkpoint = &loading.source.checkpoint()?;
    let model = ModelConfig::from_checkpoint(checkpoint)?;
    let adapters = loading.how.adapters.open(|path| Adapter::open(path, &model))?;
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    let tokens = tokenizer.encode_prompt(prompt, Specials::AsText)?;
    let context_length = model.context_length;
    if tokens.is_empty() || tokens.len() >= context_length {
        anyhow::bail!("the prompt must have between 1 and {} tokens", context_length - 1);
    }
    let n = config.max_new_tokens.min(context_length - tokens.len());
    let new = match model.encoder {
        Some(_) => ReferenceT5::load(checkpoint)?.generate_greedy(&tokens, n)?,
        None => Reference::load_with(checkpoint, &adapters)?.generate_greedy(&tokens, n)?,
    };
    let end = new.iter().position(|&id| tokenizer.is_end(id)).unwrap_or(new.len());
    let text = tokenizer.decode(&new[..end]);
    if json {
        output::json(&json!({ "text": text, "tokens": new[..end] }))?;
    } else {
        output::line(format_args!("{prompt}{}{text}", parting(&model)))?;
    }
    Ok(Ending::Done)
}
