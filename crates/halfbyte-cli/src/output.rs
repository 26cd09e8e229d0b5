//! Standard output for results, standard error for everything else.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use halfbyte::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Writes `text` to standard output at once.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Writes a line to standard output.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Writes a value as one line of JSON.
pub(crate) fn json(value: &serde_json::Value) -> io::Result<()> {
    line(value)
}

/// Writes a line to standard error; where nobody listens it is lost, as is usual there.
pub(crate) fn note(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes an error and its causes to standard error.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("error: {}", chain(error)));
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors, such as the library's own, end with their cause already.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether the reader of our standard output has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A progress bar on standard error, shown only to a terminal.
pub(crate) fn bar(what: &'static str, bytes: bool) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what);
    let template = if bytes {
        "{msg} {wide_bar} {bytes}/{total_bytes} {eta}"
    } else {
        "{msg} {wide_bar} {pos}/{len} {eta}"
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Shows `done` of `total` on `bar`.
pub(crate) fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
    if done >= total {
        bar.finish_and_clear();
    }
}

/// A progress hook that drives `bar`.
pub(crate) fn hook(bar: ProgressBar) -> Progress {
    Progress::new(move |done, total| advance(&bar, done, total))
}

/// Tokens per second; zero for no time at all.
pub(crate) fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// Bytes for people: binary units, one decimal.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
