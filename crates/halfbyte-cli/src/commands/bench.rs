//! `halfbyte bench`.

use std::time::{Duration, Instant};

use halfbyte::model::{Batch, KvCache, Step, Want};
use halfbyte::{Cancel, Model};
use serde_json::json;

use crate::model::Loading;
use crate::{Ending, interrupt, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt_tokens: usize,
    /// Tokens decoded one by one after it.
    #[arg(long, value_name = "N", default_value_t = 64)]
    new_tokens: usize,
    /// Rounds; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    anyhow::ensure!(args.repeat > 0 && args.new_tokens > 0, "nothing to measure");
    let cancel = interrupt::cancel()?;
    let start = Instant::now();
    let model = args.loading.load()?;
    let load = start.elapsed();
    let context = model.context_length();
    let prompt_tokens = args.prompt_tokens.clamp(1, context.saturating_sub(args.new_tokens).max(1));
    let new_tokens = args.new_tokens.min(context - prompt_tokens);
    anyhow::ensure!(new_tokens > 0, "the context of {context} leaves no room for new tokens");
    let (mut prompt, mut decode, mut cache_bytes) = (Vec::new(), Vec::new(), 0);
    let bar = output::bar("measuring", false);
    for round in 0..args.repeat {
        let mut cache = model.decoder().new_cache(model.cache_type());
        prompt.push(timed(|| feed(&model, cancel, &mut cache, prompt_tokens, PROMPT_CHUNK))?);
        decode.push(timed(|| feed(&model, cancel, &mut cache, new_tokens, 1))?);
        cache_bytes = cache.n_bytes();
        output::advance(&bar, round as u64 + 1, args.repeat as u64);
    }
    let prompt_rate = output::rate(prompt_tokens, median(prompt));
    let decode_rate = output::rate(new_tokens, median(decode));
    let gb_s = decode_rate * model.decoder().bytes_per_token() as f64 / 1e9;
    let (isa, threads) = (model.decoder().isa().name(), model.decoder().threads());
    let (packed, rss) = (model.decoder().packed_bytes(), peak_rss());
    if args.json {
        output::json(&json!({
            "model": model.path().display().to_string(),
            "threads": threads,
            "isa": isa,
            "prompt": { "tokens": prompt_tokens, "tok_s": prompt_rate },
            "decode": { "tokens": new_tokens, "tok_s": decode_rate, "gb_s": gb_s },
            "load_s": load.as_secs_f64(),
            "packed_bytes": packed,
            "cache_bytes": cache_bytes,
            "peak_rss_bytes": rss,
        }))?;
        return Ok(Ending::Done);
    }
    output::line(format_args!("{} ({isa}, {threads} threads)", model.path().display()))?;
    output::line(format_args!("load     {:>10.3} s", load.as_secs_f64()))?;
    output::line(format_args!("prompt   {prompt_rate:>10.2} tok/s ({prompt_tokens} tokens)"))?;
    output::line(format_args!(
        "decode   {decode_rate:>10.2} tok/s ({new_tokens} tokens), {gb_s:.1} GB/s of weights"
    ))?;
    output::line(format_args!("weights  {:>10} packed", output::size(packed as u64)))?;
    output::line(format_args!("cache    {:>10}", output::size(cache_bytes as u64)))?;
    if let Some(rss) = rss {
        output::line(format_args!("peak     {:>10} resident", output::size(rss)))?;
    }
    Ok(Ending::Done)
}

/// Tokens of a prompt that go through the model in one pass.
const PROMPT_CHUNK: usize = 512;

/// Feeds `n` tokens in passes of `chunk`. Which tokens does not matter for the time.
fn feed(
    model: &Model,
    cancel: &Cancel,
    cache: &mut KvCache,
    n: usize,
    chunk: usize,
) -> halfbyte::Result<()> {
    let vocab = u32::try_from(model.config().vocab_size).unwrap_or(u32::MAX);
    let tokens: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect();
    for tokens in tokens.chunks(chunk) {
        let step = Step { cache, tokens, want: Want::LastLogits };
        model.decoder().forward(&mut Batch { steps: vec![step], cancel: Some(cancel) })?;
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> halfbyte::Result<()>) -> halfbyte::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The most memory that was ever resident, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
