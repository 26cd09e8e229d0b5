//! What the integration tests share: where data lies, and how failing rows are reported.

#[expect(clippy::missing_panics_doc, reason = "tests may panic, and say so by doing it")]
pub mod adapters;
#[expect(clippy::missing_panics_doc, reason = "tests may panic, and say so by doing it")]
pub mod fixtures;
pub mod fuzzing;
pub mod golden_file;
#[expect(clippy::missing_panics_doc, reason = "tests may panic, and say so by doing it")]
#[path = "hostile/mod.rs"]
pub mod hostile;
#[expect(clippy::missing_panics_doc, clippy::panic, reason = "tests may panic")]
pub mod legacy_files;
pub mod puller;
#[expect(clippy::missing_panics_doc, reason = "tests may panic, and say so by doing it")]
pub mod torch_file;
pub mod vocabularies;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use halfbyte::Error;

/// The shared data folder, if there is one: `HALFBYTE_SHARED`, or `../shared` beside the repository.
pub fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    std::env::var_os("HALFBYTE_SHARED")
        .map(PathBuf::from)
        .or_else(|| beside.exists().then_some(beside))
}

/// The test data that the repository holds (see its README).
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The variant of an error, as tables name it.
pub fn kind(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "Io",
        Error::Malformed { .. } => "Malformed",
        Error::UnsupportedFormat { .. } => "UnsupportedFormat",
        Error::UnsupportedEncoding { .. } => "UnsupportedEncoding",
        Error::UnsupportedArchitecture { .. } => "UnsupportedArchitecture",
        Error::MissingTensor { .. } => "MissingTensor",
        Error::Shape { .. } => "Shape",
        Error::Config { .. } => "Config",
        Error::Tokenizer(_) => "Tokenizer",
        Error::Template(_) => "Template",
        _ => "another kind",
    }
}

/// Says that a test could not run for want of [`shared`] data.
#[expect(clippy::print_stderr, reason = "a test that does nothing must say so")]
pub fn skip(what: &str) {
    eprintln!("skipped: {what} (no ../shared)");
}

/// Measures the time that this thread ran: other work on the machine does not count, where the
/// system tells (Linux, to some milliseconds).
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    ran: Option<Duration>,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), ran: ran() }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let passed = self.start.elapsed();
        let own = ran().zip(self.ran).map(|(now, then)| now.saturating_sub(then));
        own.map_or(passed, |own| own.min(passed))
    }
}

/// How long the scheduler has let this thread run.
fn ran() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The rows of a table-driven test: all of them run, and all that fail are reported together.
#[derive(Debug, Default)]
pub struct Rows {
    n_checks: usize,
    failures: Vec<String>,
}

impl Rows {
    /// Records a failure if `holds` is false; `fact` says what was found and what was expected.
    pub fn check(&mut self, row: &str, holds: bool, fact: impl Display) {
        self.n_checks += 1;
        if !holds {
            self.failures.push(format!("{row}: {fact}"));
        }
    }

    /// Records an error of one row, keeping the others going.
    pub fn run(&mut self, row: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if let Err(error) = work(self) {
            self.check(row, false, format!("{error:#}"));
        }
    }

    /// # Errors
    ///
    /// All failures in one message; also if nothing was checked at all.
    pub fn finish(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.n_checks > 0, "no row was checked");
        let n_failures = self.failures.len();
        anyhow::ensure!(
            n_failures == 0,
            "{n_failures} of {} checks failed:\n{}",
            self.n_checks,
            self.failures.join("\n")
        );
        Ok(())
    }
}
