//! `halfbyte bench`: speed, next to what this machine can do at most, measured in the same run.

use std::time::{Duration, Instant};

use halfbyte::model::{Batch, KvCache, Step, Want};
use halfbyte::{Cancel, Model, PROMPT_CHUNK};
use serde_json::json;

use crate::model::Loading;
use crate::{Ending, interrupt, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt_tokens: usize,
    /// Tokens decoded one by one.
    #[arg(long, value_name = "N", default_value_t = 64)]
    new_tokens: usize,
    /// Tokens that stand in the cache when decoding begins.
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: usize,
    /// Sequences decoded together.
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Rounds; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

/// Tokens of a prompt or a cache here; more than a model's context is fine where only time counts.
const MAX_TOKENS: usize = 1 << 17;
/// Sequences that can be decoded together here.
const MAX_BATCH: usize = 256;

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let counts = [args.repeat, args.new_tokens, args.prompt_tokens, args.depth];
    anyhow::ensure!(counts.iter().all(|&n| n > 0), "nothing to measure: each number is at least 1");
    let tokens = [args.prompt_tokens, args.new_tokens, args.depth];
    anyhow::ensure!(tokens.iter().all(|&n| n <= MAX_TOKENS), "at most {MAX_TOKENS} tokens");
    anyhow::ensure!((1..=MAX_BATCH).contains(&args.batch), "--batch is 1 to {MAX_BATCH}");
    let cancel = interrupt::cancel()?;
    let start = Instant::now();
    let model = args.loading.load()?;
    let load = start.elapsed();
    anyhow::ensure!(
        model.config().encoder.is_none(),
        "bench measures decoder-only models, and {} has an encoder",
        model.path().display()
    );
    let (prompt_tokens, depth) = (args.prompt_tokens, args.depth);
    let new_tokens = args.new_tokens;
    let (most, context) = (prompt_tokens.max(depth + new_tokens), model.context_length());
    if most > context {
        output::note(format_args!(
            "{most} tokens: the context has {context}, so this is speed only"
        ));
    }
    let mut measured = Measured::default();
    let bar = output::bar("measuring", false);
    for round in 0..args.repeat {
        measured.prompt(&model, cancel, prompt_tokens)?;
        measured.decode(&model, cancel, (depth, args.batch), new_tokens)?;
        output::advance(&bar, round as u64 + 1, args.repeat as u64);
    }
    let report = Report::new(&model, measured, prompt_tokens, new_tokens, args.batch);
    if args.json {
        output::json(&report.to_json(&model, load, depth))?;
    } else {
        report.print(&model, load, depth)?;
    }
    Ok(Ending::Done)
}

/// The times of all rounds.
#[derive(Default)]
struct Measured {
    prompt: Vec<Duration>,
    /// int8 operations per second, before and after each prompt.
    int8: Vec<f64>,
    decode: Vec<Duration>,
    /// A read of all weights after each decoding pass.
    reads: Vec<Duration>,
    /// Bytes of keys and values that each decoding pass reads.
    cache_bytes_read: Vec<f64>,
    cache_bytes: usize,
}

impl Measured {
    /// Times a prompt of `n` tokens.
    fn prompt(&mut self, model: &Model, cancel: &Cancel, n: usize) -> anyhow::Result<()> {
        self.int8.push(model.decoder().int8_ops_per_second());
        let mut cache = model.new_cache();
        let start = Instant::now();
        feed(model, cancel, &mut cache, n)?;
        self.prompt.push(start.elapsed());
        self.int8.push(model.decoder().int8_ops_per_second());
        self.cache_bytes = self.cache_bytes.max(cache.n_bytes());
        Ok(())
    }

    /// Times `n` passes over one token of each of `batch` sequences with `depth` tokens before,
    /// and after each pass a plain read of the weights.
    fn decode(
        &mut self,
        model: &Model,
        cancel: &Cancel,
        (depth, batch): (usize, usize),
        n: usize,
    ) -> anyhow::Result<()> {
        let mut first = model.new_cache();
        feed(model, cancel, &mut first, depth)?;
        let mut caches = vec![first; batch];
        for i in 0..n {
            let token = [token(model, i)];
            let steps = caches.iter_mut().map(|cache| Step {
                cache,
                tokens: &token,
                want: Want::LastLogits,
            });
            let mut pass = Batch { steps: steps.collect(), cancel: Some(cancel) };
            let start = Instant::now();
            model.decoder().forward(&mut pass)?;
            let time = start.elapsed();
            // The first pass copies the block that the caches share.
            if i > 0 || n == 1 {
                self.decode.push(time);
                self.reads.push(model.decoder().time_reading());
                self.cache_bytes_read.push(caches.iter().map(bytes_read).sum());
            }
        }
        self.cache_bytes = self.cache_bytes.max(caches.iter().map(KvCache::n_bytes).sum());
        Ok(())
    }
}

/// Bytes that attention reads of a cache with blocks of which the last is partly filled.
fn bytes_read(cache: &KvCache) -> f64 {
    let capacity = cache.capacity();
    cache.n_bytes() as f64 * cache.len() as f64 / capacity.max(1) as f64
}

/// What the times mean.
struct Report {
    prompt_tokens: usize,
    new_tokens: usize,
    batch: usize,
    prompt_tok_s: f64,
    decode_tok_s: f64,
    /// Operations per second in the matrices: prompt, decode.
    prompt_gops: f64,
    decode_gops: f64,
    /// Weights and keys and values read per second.
    decode_gb_s: f64,
    read_gb_s: f64,
    int8_gops: f64,
    /// Median over passes of the part of the read bandwidth that the pass reached.
    decode_fraction: f64,
    cache_bytes: usize,
}

impl Report {
    fn new(
        model: &Model,
        measured: Measured,
        prompt_tokens: usize,
        new_tokens: usize,
        batch: usize,
    ) -> Self {
        let decoder = model.decoder();
        let (per_token, per_head_row) = decoder.ops_per_token();
        let weights = decoder.bytes_per_token() as f64;
        let passes = prompt_tokens.div_ceil(PROMPT_CHUNK) as f64;
        let prompt = median(measured.prompt.iter().map(Duration::as_secs_f64));
        let decode = median(measured.decode.iter().map(Duration::as_secs_f64));
        let read = median(measured.reads.iter().map(Duration::as_secs_f64));
        let times = measured.decode.iter().zip(&measured.reads).zip(&measured.cache_bytes_read);
        let fractions = times.clone().map(|((pass, read), cache)| {
            (weights + cache) / weights * read.as_secs_f64() / pass.as_secs_f64()
        });
        let cache = median(measured.cache_bytes_read.iter().copied());
        let prompt_ops = per_token as f64 * prompt_tokens as f64 + per_head_row as f64 * passes;
        Self {
            prompt_tokens,
            new_tokens,
            batch,
            prompt_tok_s: prompt_tokens as f64 / prompt,
            decode_tok_s: batch as f64 / decode,
            prompt_gops: prompt_ops / prompt / 1e9,
            decode_gops: (per_token + per_head_row) as f64 * batch as f64 / decode / 1e9,
            decode_gb_s: (weights + cache) / decode / 1e9,
            read_gb_s: weights / read / 1e9,
            int8_gops: median(measured.int8.into_iter()) / 1e9,
            decode_fraction: median(fractions),
            cache_bytes: measured.cache_bytes,
        }
    }

    fn to_json(&self, model: &Model, load: Duration, depth: usize) -> serde_json::Value {
        let decoder = model.decoder();
        json!({
            "model": model.path().display().to_string(),
            "threads": decoder.threads(),
            "isa": decoder.isa().name(),
            "limits": { "read_gb_s": self.read_gb_s, "int8_gops": self.int8_gops },
            "prompt": {
                "tokens": self.prompt_tokens,
                "tok_s": self.prompt_tok_s,
                "gops": self.prompt_gops,
                "fraction": self.prompt_gops / self.int8_gops,
            },
            "decode": {
                "tokens": self.new_tokens,
                "depth": depth,
                "batch": self.batch,
                "tok_s": self.decode_tok_s,
                "gb_s": self.decode_gb_s,
                "fraction": self.decode_fraction,
                "gops": self.decode_gops,
                "int8_fraction": self.decode_gops / self.int8_gops,
            },
            "load_s": load.as_secs_f64(),
            "packed_bytes": decoder.packed_bytes(),
            "cache_bytes": self.cache_bytes,
            "peak_rss_bytes": peak_rss(),
        })
    }

    fn print(&self, model: &Model, load: Duration, depth: usize) -> anyhow::Result<()> {
        let decoder = model.decoder();
        let percent = |part: f64, whole: f64| 100.0 * part / whole;
        let (isa, threads) = (decoder.isa().name(), decoder.threads());
        output::line(format_args!("{} ({isa}, {threads} threads)", model.path().display()))?;
        output::line(format_args!(
            "limits   {:>10.1} GB/s read, {:.0} GOPS int8",
            self.read_gb_s, self.int8_gops
        ))?;
        output::line(format_args!("load     {:>10.3} s", load.as_secs_f64()))?;
        output::line(format_args!(
            "prompt   {:>10.2} tok/s ({} tokens): {:.0} GOPS, {:.1} % of the int8 limit",
            self.prompt_tok_s,
            self.prompt_tokens,
            self.prompt_gops,
            percent(self.prompt_gops, self.int8_gops)
        ))?;
        output::line(format_args!(
            "decode   {:>10.2} tok/s ({} tokens × {} after {depth}): {:.1} GB/s, {:.1} % of the read limit",
            self.decode_tok_s,
            self.new_tokens,
            self.batch,
            self.decode_gb_s,
            100.0 * self.decode_fraction
        ))?;
        if self.batch > 1 {
            output::line(format_args!(
                "         {:>10.0} GOPS, {:.1} % of the int8 limit",
                self.decode_gops,
                percent(self.decode_gops, self.int8_gops)
            ))?;
        }
        let packed = decoder.packed_bytes() as u64;
        output::line(format_args!("weights  {:>10} packed", output::size(packed)))?;
        output::line(format_args!("cache    {:>10}", output::size(self.cache_bytes as u64)))?;
        if let Some(rss) = peak_rss() {
            output::line(format_args!("peak     {:>10} resident", output::size(rss)))?;
        }
        Ok(())
    }
}

/// Feeds `n` tokens in passes of [`PROMPT_CHUNK`].
fn feed(model: &Model, cancel: &Cancel, cache: &mut KvCache, n: usize) -> halfbyte::Result<()> {
    let tokens: Vec<u32> = (0..n).map(|i| token(model, i)).collect();
    for tokens in tokens.chunks(PROMPT_CHUNK) {
        let step = Step { cache, tokens, want: Want::LastLogits };
        model.decoder().forward(&mut Batch { steps: vec![step], cancel: Some(cancel) })?;
    }
    Ok(())
}

/// The i-th token. Which tokens does not matter for the time.
fn token(model: &Model, i: usize) -> u32 {
    let vocab = u32::try_from(model.config().vocab_size).unwrap_or(u32::MAX);
    (i as u32).wrapping_mul(2_654_435_761) % vocab
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that was ever resident, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
