//! What the server counts, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of the histograms' buckets, in seconds.
const BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    queued: AtomicUsize,
    running: AtomicUsize,
    paused: AtomicUsize,
    pauses: AtomicU64,
    prefixes: AtomicUsize,
    prefix_bytes: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    new_tokens: AtomicU64,
    pass_tokens: AtomicU64,
    passes: Histogram,
    first_tokens: Histogram,
    answers: Histogram,
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BUCKETS.iter().position(|&bound| seconds <= bound).unwrap_or(BUCKETS.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    fn seconds(&self) -> f64 {
        self.micros.load(Relaxed) as f64 / 1e6
    }
}

impl Metrics {
    /// Counts `n` more prompts that wait, if then at most `limit` do.
    pub(crate) fn queue(&self, n: usize, limit: usize) -> bool {
        let more = |queued: usize| Some(queued + n).filter(|&sum| sum <= limit);
        self.queued.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Prompts that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    pub(crate) fn unqueue(&self, n: usize) {
        self.queued.fetch_sub(n, Relaxed);
    }

    /// Whole seconds until a place in the queue should be free, with `parallel` answers at a time.
    pub(crate) fn wait_seconds(&self, parallel: usize) -> u64 {
        let mean = self.answers.seconds() / self.answers.count().max(1) as f64;
        let wait = mean / parallel.max(1) as f64;
        (wait.ceil() as u64).clamp(1, 60)
    }

    /// Sequences that are computed, and answers that gave up their room for now.
    pub(crate) fn set_load(&self, running: usize, paused: usize) {
        self.running.store(running, Relaxed);
        self.paused.store(paused, Relaxed);
    }

    /// Texts that are kept, and the bytes of their keys and values.
    pub(crate) fn set_prefixes(&self, n: usize, bytes: usize) {
        self.prefixes.store(n, Relaxed);
        self.prefix_bytes.store(bytes, Relaxed);
    }

    /// Counts an answer that gives up its room.
    pub(crate) fn pause(&self) {
        self.pauses.fetch_add(1, Relaxed);
    }

    pub(crate) fn pass(&self, time: Duration, n_tokens: usize) {
        self.passes.add(time);
        self.pass_tokens.fetch_add(n_tokens as u64, Relaxed);
    }

    pub(crate) fn token(&self) {
        self.new_tokens.fetch_add(1, Relaxed);
    }

    pub(crate) fn first_token(&self, time: Duration) {
        self.first_tokens.add(time);
    }

    pub(crate) fn answered(&self, time: Duration) {
        self.answers.add(time);
    }

    /// Counts a prompt, of whose tokens so many were read before.
    pub(crate) fn prompt(&self, n_tokens: usize, n_cached: usize) {
        self.prompt_tokens.fetch_add(n_tokens as u64, Relaxed);
        self.cached_tokens.fetch_add(n_cached as u64, Relaxed);
    }

    pub(crate) fn request(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_insert(0) += 1;
    }

    /// All numbers as text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP halfbyte_{name} {help}\n# TYPE halfbyte_{name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(out, "halfbyte_{name}{labels} {value}");
            }
        };
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = requests.iter().map(|((route, status), n)| {
            (format!("{{route=\"{route}\",status=\"{status}\"}}"), n.to_string())
        });
        family("requests_total", "counter", "Requests, by status.", &requests.collect::<Vec<_>>());
        let size = |n: &AtomicUsize| vec![(String::new(), n.load(Relaxed).to_string())];
        let count = |n: &AtomicU64| vec![(String::new(), n.load(Relaxed).to_string())];
        let gauge = "gauge";
        family("queued", gauge, "Prompts that wait.", &size(&self.queued));
        family("running", gauge, "Sequences that are computed.", &size(&self.running));
        family("paused", gauge, "Answers that gave up their room for now.", &size(&self.paused));
        family(
            "prefixes",
            gauge,
            "Texts that are kept for those who begin alike.",
            &size(&self.prefixes),
        );
        family("prefix_bytes", gauge, "Bytes of their keys and values.", &size(&self.prefix_bytes));
        let counter = "counter";
        family("prompt_tokens_total", counter, "Tokens of prompts.", &count(&self.prompt_tokens));
        family(
            "cached_tokens_total",
            counter,
            "Those that need not be read.",
            &count(&self.cached_tokens),
        );
        family(
            "pauses_total",
            counter,
            "Times that an answer made room for others.",
            &count(&self.pauses),
        );
        family("new_tokens_total", counter, "Tokens that were drawn.", &count(&self.new_tokens));
        family("pass_tokens_total", counter, "Tokens in all passes.", &count(&self.pass_tokens));
        for (name, help, histogram) in [
            ("pass_seconds", "Time of a pass.", &self.passes),
            ("first_token_seconds", "Time to a request's first token.", &self.first_tokens),
            ("answer_seconds", "Time to the end of an answer.", &self.answers),
        ] {
            write_histogram(&mut out, name, help, histogram);
        }
        out
    }
}

fn write_histogram(out: &mut String, name: &str, help: &str, histogram: &Histogram) {
    let _ = writeln!(out, "# HELP halfbyte_{name} {help}\n# TYPE halfbyte_{name} histogram");
    let mut sum = 0;
    let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&histogram.counts) {
        sum += count.load(Relaxed);
        let _ = writeln!(out, "halfbyte_{name}_bucket{{le=\"{bound}\"}} {sum}");
    }
    let _ = writeln!(out, "halfbyte_{name}_sum {}", histogram.seconds());
    let _ = writeln!(out, "halfbyte_{name}_count {sum}");
}
