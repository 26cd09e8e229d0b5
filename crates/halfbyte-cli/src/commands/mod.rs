//! One file for each subcommand: its arguments and what it does.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod perplexity;
pub(crate) mod quantize;
pub(crate) mod serve;
pub(crate) mod tokenize;
mod windows;

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;

/// Texts larger than this are not what these commands are for.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// The text of an argument, of a file, or of standard input (`-`, or a pipe when there is neither).
fn text(argument: Option<&str>, file: Option<&Path>) -> anyhow::Result<String> {
    match (argument, file) {
        (Some(text), _) if text != "-" => Ok(text.to_owned()),
        (None, Some(path)) => read_file(path),
        _ => {
            let stdin = std::io::stdin();
            if argument.is_none() && stdin.is_terminal() {
                anyhow::bail!("no text: give it as an argument, with --file, or through a pipe");
            }
            let mut text = String::new();
            stdin
                .lock()
                .take(MAX_TEXT_BYTES)
                .read_to_string(&mut text)
                .context("standard input is not UTF-8 text")?;
            Ok(text)
        }
    }
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let size =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if size.len() > MAX_TEXT_BYTES {
        anyhow::bail!("{} is larger than 1 GiB", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
