//! `halfbyte completions`.

use clap_complete::Shell;

use crate::{Ending, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: Args, command: &mut clap::Command) -> anyhow::Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "halfbyte", &mut script);
    output::print(String::from_utf8_lossy(&script))?;
    Ok(Ending::Done)
}
