//! The `halfbyte` command as a library function: parse, call the library, print.
//!
//! Text goes to standard output, everything else to standard error. Start at [`run`].

mod commands;
mod interrupt;
mod model;
mod output;
mod sampling;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

/// 4-bit GPT-J, LLaMA and GPT-NeoX models on the CPU.
#[derive(Debug, Parser)]
#[command(name = "halfbyte", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.\n\
    Environment: HALFBYTE_ISA chooses the instruction set (see 'halfbyte inspect --cpu').";

#[derive(Debug, Subcommand)]
enum Command {
    /// Write text that goes on from a prompt.
    Generate(commands::generate::Args),
    /// Talk to a model.
    Chat(commands::chat::Args),
    /// Answer requests over HTTP, in OpenAI's API, with a page to talk to the model.
    Serve(commands::serve::Args),
    /// Convert a model to a GGUF file in another encoding.
    Quantize(commands::quantize::Args),
    /// Measure how well a model predicts a text.
    Perplexity(commands::perplexity::Args),
    /// Set two encodings of a model side by side: size, perplexity, divergence, speed.
    Compare(commands::compare::Args),
    /// Show what a model file holds.
    Inspect(commands::inspect::Args),
    /// Show the tokens of a text, or the text of tokens.
    Tokenize(commands::tokenize::Args),
    /// Measure tokens per second, load time and memory.
    Bench(commands::bench::Args),
    /// Print a completion script for a shell.
    Completions(commands::completions::Args),
}

/// How a command ended, apart from failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Interrupted,
}

/// Runs the command line `args` (the program's name first) and returns the exit status.
///
/// Installs a Ctrl-C handler: the first Ctrl-C stops the work cleanly, the second ends the process.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors: clap prints them to standard output.
            drop(error.print());
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let ending = match cli.command {
        Command::Generate(args) => commands::generate::run(args),
        Command::Chat(args) => commands::chat::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Quantize(args) => commands::quantize::run(args),
        Command::Perplexity(args) => commands::perplexity::run(args),
        Command::Compare(args) => commands::compare::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Tokenize(args) => commands::tokenize::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Completions(args) => commands::completions::run(args, &mut Cli::command()),
    };
    match ending {
        Ok(Ending::Done) => 0,
        Ok(Ending::Interrupted) => 130,
        Err(error) => match error.downcast_ref() {
            Some(halfbyte::Error::Cancelled) => 130,
            // Whoever read our output has seen enough.
            _ if output::is_broken_pipe(&error) => 0,
            _ => {
                output::error(&error);
                1
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
